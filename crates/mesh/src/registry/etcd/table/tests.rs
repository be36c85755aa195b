use super::*;
use crate::registry::{
    Track,
    testing::{card, record},
};

pub(in crate::registry::etcd) fn table_of(records: &[Record], cards: &[Card]) -> Table {
    let mut table = Table::default();
    for record in records {
        put(&mut table, record);
    }
    for card in cards {
        put_card(&mut table, card);
    }
    table
}

fn put(table: &mut Table, record: &Record) {
    let place = Place::of(record.track);
    let key = Key::Instance { place, expert: &record.expert, instance: &record.instance };
    table.put(&key, record.encode().unwrap().as_bytes());
}

fn put_card(table: &mut Table, card: &Card) {
    let key = Key::Card { expert: &card.expert, version: &card.version };
    table.put(&key, &serde_json::to_vec(card).unwrap());
}

fn delete(table: &mut Table, record: &Record, now: Instant) {
    let place = Place::of(record.track);
    table.delete(&Key::Instance { place, expert: &record.expert, instance: &record.instance }, now);
}

fn instance(table: &Table, expert: &str, instance: &str) -> Option<Arc<Instance>> {
    table.snapshot().experts.get(expert)?.instances.get(instance).cloned()
}

/// What becomes of a single one that was missed.
fn forget(table: &mut Table, missed: &Arc<Instance>, now: Instant) -> &'static str {
    match table.forget(std::slice::from_ref(missed), now) {
        Forgotten { gone: 1, held: 0 } => "gone",
        Forgotten { gone: 0, held: 1 } => "held",
        Forgotten { gone: 0, held: 0 } => "listed",
        other => panic!("{other:?}"),
    }
}

fn draining(record: Record) -> Record {
    Record { state: State::Draining, ..record }
}

#[tokio::test]
async fn who_says_goodbye_is_removed_and_who_does_not_is_kept_and_marked() {
    let now = Instant::now();
    let (a, b) = (record("labs", "a"), record("labs", "b"));
    let mut table = table_of(&[a.clone(), b.clone()], &[card("labs")]);
    put(&mut table, &draining(a.clone()));
    delete(&mut table, &a, now);
    assert_eq!(instance(&table, "labs", "a"), None);
    delete(&mut table, &b, now);
    assert!(instance(&table, "labs", "b").unwrap().expired);
    assert_eq!(table.expired(), 1);
    put(&mut table, &b);
    assert!(!instance(&table, "labs", "b").unwrap().expired, "it came back");
}

#[tokio::test]
async fn one_that_expired_goes_when_somebody_found_nobody_there() {
    let now = Instant::now();
    let (a, b) = (record("labs", "a"), record("labs", "b"));
    let mut table = table_of(&[a.clone(), b], &[card("labs")]);
    let listed = instance(&table, "labs", "a").unwrap();
    assert_eq!(forget(&mut table, &listed, now), "listed", "its registration stands");
    delete(&mut table, &a, now);
    let restarted = Arc::new(Instance { record: record("labs", "a"), ..Instance::clone(&listed) });
    assert_eq!(forget(&mut table, &restarted, now), "listed", "another start of it");
    assert_eq!(forget(&mut table, &listed, now), "gone");
    assert_eq!(instance(&table, "labs", "a"), None);
    assert!(table.snapshot().experts["labs"].cards.contains_key("1"), "its card stays");
}

#[tokio::test]
async fn many_that_vanish_together_are_held_for_a_minute() {
    let start = Instant::now();
    let records: Vec<_> = (0..4).map(|at| record("labs", &format!("i{at}"))).collect();
    let mut table = table_of(&records, &[]);
    delete(&mut table, &records[0], start);
    delete(&mut table, &records[1], start + Duration::from_secs(30));
    let gone: Vec<_> = ["i0", "i1"].map(|id| instance(&table, "labs", id).unwrap()).to_vec();
    let soon = start + Duration::from_secs(59);
    assert_eq!(forget(&mut table, &gone[0], soon), "held");
    // The first one's minute is over, so the second one vanished alone.
    let later = start + Duration::from_secs(61);
    assert_eq!(forget(&mut table, &gone[1], later), "gone");
    assert_eq!(forget(&mut table, &gone[0], later), "gone");
}

#[tokio::test]
async fn those_already_forgotten_count_among_many() {
    let now = Instant::now();
    let records: Vec<_> = (0..8).map(|at| record("labs", &format!("i{at}"))).collect();
    let mut table = table_of(&records, &[]);
    delete(&mut table, &records[0], now);
    let first = instance(&table, "labs", "i0").unwrap();
    assert_eq!(forget(&mut table, &first, now), "gone", "one of eight");
    delete(&mut table, &records[1], now);
    let second = instance(&table, "labs", "i1").unwrap();
    assert_eq!(forget(&mut table, &second, now), "held", "two of eight within a minute");
}

#[tokio::test]
async fn a_list_is_compared_and_what_did_not_change_stays_the_same() {
    let now = Instant::now();
    let (a, b) = (record("labs", "a"), record("labs", "b"));
    let mut table = table_of(&[a.clone(), b], &[card("labs")]);
    let (kept, revision) = (instance(&table, "labs", "a").unwrap(), table.snapshot().revision);
    let list = |records: &[Record]| -> Vec<(String, Vec<u8>)> {
        records.iter().map(|record| (record.instance.clone(), record.encode().unwrap().into_bytes())).collect()
    };
    let labs = |list: &[(String, Vec<u8>)], table: &mut Table| {
        let card = serde_json::to_vec(&card("labs")).unwrap();
        let mut entries = vec![(Key::Card { expert: "labs", version: "1" }, card.as_slice())];
        let place = Place::Experts;
        entries.extend(
            list.iter().map(|(instance, value)| (Key::Instance { place, expert: "labs", instance }, value.as_slice())),
        );
        table.replace(entries, History::Continued, now);
    };
    let c = record("labs", "c");
    labs(&list(&[a.clone(), c.clone()]), &mut table);
    assert!(Arc::ptr_eq(&kept, &instance(&table, "labs", "a").unwrap()));
    assert!(instance(&table, "labs", "b").unwrap().expired);
    assert!(!instance(&table, "labs", "c").unwrap().expired);
    assert!(table.snapshot().revision > revision);
    let revision = table.snapshot().revision;
    labs(&list(&[a, c]), &mut table);
    assert_eq!(table.snapshot().revision, revision, "nothing new");
}

#[test]
fn an_empty_list_is_news_the_first_time() {
    let mut table = Table::default();
    assert_eq!(table.snapshot().revision, 0);
    table.replace([], History::Continued, Instant::now());
    assert_eq!(table.snapshot().revision, 1);
}

#[tokio::test]
async fn a_card_that_the_registry_lost_stays_while_somebody_serves_it() {
    let now = Instant::now();
    let a = record("labs", "a");
    let mut table = table_of(std::slice::from_ref(&a), &[card("labs"), card("idle")]);
    table.delete(&Key::Card { expert: "idle", version: "1" }, now);
    assert!(!table.snapshot().experts.contains_key("idle"), "retired");
    table.delete(&Key::Card { expert: "labs", version: "1" }, now);
    assert!(table.snapshot().experts["labs"].cards.contains_key("1"), "somebody serves it");
    put(&mut table, &draining(a.clone()));
    delete(&mut table, &a, now);
    assert!(!table.snapshot().experts.contains_key("labs"), "nobody does any longer");
}

#[tokio::test]
async fn moving_to_another_track_is_no_expiry() {
    let now = Instant::now();
    let live = record("labs", "a");
    let canary = Record { track: Track::Canary, ..live.clone() };
    let mut table = table_of(std::slice::from_ref(&live), &[]);
    put(&mut table, &canary);
    delete(&mut table, &live, now);
    let known = instance(&table, "labs", "a").unwrap();
    assert_eq!((known.record.track, known.expired), (Track::Canary, false));
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let a = record("labs", "a");
    let mut table = table_of(std::slice::from_ref(&a), &[card("labs")]);
    let before = Arc::clone(table.snapshot());
    let at = |instance| Key::Instance { place: Place::Experts, expert: "labs", instance };
    let other = record("labs", "b").encode().unwrap();
    let nowhere = Record { address: "nowhere".into(), ..a }.encode().unwrap();
    for value in [b"".as_slice(), b"\xff", b"{}", b"[1]", other.as_bytes(), nowhere.as_bytes()] {
        table.put(&at("a"), value);
    }
    let card_key = Key::Card { expert: "labs", version: "1" };
    let huge = Card { examples: vec!["x".repeat(crate::registry::MAX_CARD_BYTES)], ..card("labs") };
    for value in [b"{}".to_vec(), serde_json::to_vec(&card("other")).unwrap(), serde_json::to_vec(&huge).unwrap()] {
        table.put(&card_key, &value);
    }
    assert!(Arc::ptr_eq(&before, table.snapshot()));
}

#[tokio::test]
async fn a_successor_at_its_address_answers_for_nobody_else() {
    let now = Instant::now();
    let at = |address: &str, record: Record| Record { address: address.into(), ..record };
    let (dead, sibling) = (at("127.0.0.1:1", record("labs", "dead")), at("127.0.0.1:2", record("labs", "b")));
    let successor = at("127.0.0.1:1", record("pharmacy", "successor"));
    // It expires first, and is replaced later.
    let mut table = table_of(&[dead.clone(), sibling.clone()], &[]);
    delete(&mut table, &dead, now);
    assert!(instance(&table, "labs", "dead").is_some_and(|it| it.expired));
    put(&mut table, &successor);
    assert_eq!(instance(&table, "labs", "dead"), None);
    // It is replaced first, and expires later.
    let mut table = table_of(&[dead.clone(), sibling, successor], &[]);
    delete(&mut table, &dead, now);
    assert_eq!(instance(&table, "labs", "dead"), None);
    assert_eq!(table.expired(), 0);
}

#[test]
fn an_earlier_life_does_not_replace_a_later_one() {
    let (before, after) = (record("labs", "a"), record("labs", "a"));
    let mut table = table_of(std::slice::from_ref(&after), &[]);
    put(&mut table, &before);
    assert_eq!(instance(&table, "labs", "a").unwrap().record, after);
    delete(&mut table, &after, Instant::now());
    put(&mut table, &before);
    assert_eq!(instance(&table, "labs", "a").unwrap().record, before, "once that one is gone, it may come back");
}

#[test]
fn an_emptied_registry_retires_nobody() {
    let now = Instant::now();
    let cards = [card("labs"), card("pharmacy")];
    let bytes = serde_json::to_vec(&cards[0]).unwrap();
    let labs = || [(Key::Card { expert: "labs", version: "1" }, bytes.as_slice())];
    let mut table = table_of(&[], &cards);
    table.replace(labs(), History::Rewound, now);
    table.replace(labs(), History::Continued, now);
    assert!(table.snapshot().experts.contains_key("pharmacy"), "nobody said that it is retired");
    table.replace([], History::Continued, now);
    assert!(!table.snapshot().experts.contains_key("labs"), "this one was known to the emptied one, and is gone");
}

#[test]
fn the_gates_settings_come_and_go_with_their_key_and_stay_when_they_are_lost() {
    let now = Instant::now();
    let mut table = Table::default();
    let gate = |table: &Table| table.snapshot().gate.as_deref().map(str::to_owned);
    let listed = || [(Key::Gate, b"top_k: 2".as_slice())];
    table.replace(listed(), History::Continued, now);
    assert_eq!(gate(&table).as_deref(), Some("top_k: 2"));
    let before = Arc::clone(table.snapshot());
    table.put(&Key::Gate, b"top_k: 2");
    for wrong in [b"\xff".as_slice(), b" \n", &vec![b'x'; crate::registry::MAX_GATE_BYTES + 1]] {
        table.put(&Key::Gate, wrong);
    }
    assert!(Arc::ptr_eq(&before, table.snapshot()), "what says the same or cannot be used is no news");
    put_card(&mut table, &card("labs"));
    assert_eq!(gate(&table).as_deref(), Some("top_k: 2"), "others change, it does not");
    table.replace([], History::Rewound, now);
    table.replace([], History::Continued, now);
    assert_eq!(gate(&table).as_deref(), Some("top_k: 2"), "nobody has taken it back");
    table.replace(listed(), History::Continued, now);
    table.replace([], History::Continued, now);
    assert_eq!(gate(&table), None, "now somebody has");
    table.put(&Key::Gate, b"top_k: 3");
    table.delete(&Key::Gate, now);
    assert_eq!(gate(&table), None);
}
