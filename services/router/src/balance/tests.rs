use std::collections::BTreeMap;

use consilium_mesh::{
    dial,
    registry::{
        Record,
        testing::{card, record},
    },
};
use proptest::prelude::*;

use super::*;

/// Lines without anybody who watches: each instance is as it is said to be here, and serving where nothing is said.
struct Still(BTreeMap<&'static str, Health>);

/// Everybody serves.
const SOUND: Still = Still(BTreeMap::new());

impl Connect for Still {
    fn connect(&self, instance: &Instance) -> Result<Line, dial::Error> {
        let health = self.0.get(&*instance.record.instance).copied().unwrap_or(Health::Serving);
        Ok(Line::still(dial::channel(&dial::Target::plain(&*instance.address))?, health))
    }
}

fn instance(id: &str, epoch: &str, state: State) -> (String, Arc<Instance>) {
    let (epoch, address) = (epoch.to_owned(), "127.0.0.1:1".to_owned());
    let record = Record { epoch, state, address, ..record("labs", id) };
    (id.to_owned(), Arc::new(Instance { address: record.address.clone(), record, expired: false }))
}

fn expert(instances: impl IntoIterator<Item = (String, Arc<Instance>)>) -> Expert {
    Expert {
        name: "labs".to_owned(),
        cards: BTreeMap::from([("1".to_owned(), Arc::new(card("labs")))]),
        instances: instances.into_iter().collect(),
    }
}

/// How many of 100 picks went to `id`, each answered at once.
fn share(pool: &Pool, id: &str) -> usize {
    let picks = (0..100).map(|_| pool.pick("1", &[]).expect("somebody serves"));
    picks.map(|pick| (pick.instance() == id, pick.succeeded()).0).filter(|picked| *picked).count()
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_a_slow_sample_and_a_new_process_starts_without_it() {
    let serving = |epoch| expert([instance("a", epoch, State::Serving), instance("b", "1", State::Serving)]);
    let pool = Pool::default().next(&serving("1"), &SOUND);
    let failed = loop {
        let pick = pool.pick("1", &["b".to_owned()]).expect("a serves");
        if pick.instance() == "a" {
            break pick;
        }
    };
    failed.failed(None);
    assert_eq!(share(&pool, "a"), 0);

    let unchanged = pool.next(&serving("1"), &SOUND);
    assert_eq!(share(&unchanged, "a"), 0, "a snapshot that leaves it alone leaves its history alone");

    for (tls, server_name) in [(true, ""), (false, "a.test")] {
        let (id, known) = instance("a", "1", State::Serving);
        let record = Record { tls, server_name: server_name.to_owned(), ..known.record.clone() };
        let changed = pool.next(&expert([(id.clone(), Arc::new(Instance { record, ..(*known).clone() }))]), &SOUND);
        let [before, now] = [&pool, &changed].map(|pool| &pool.endpoints[&id].history);
        assert!(!Arc::ptr_eq(before, now), "whoever is to be known otherwise is connected to anew");
    }

    let restarted = pool.next(&serving("2"), &SOUND);
    drop(restarted.pick("1", &["b".to_owned()]).expect("a serves again"));
    let pick = restarted.pick("1", &["b".to_owned()]).expect("a serves again");
    assert!(pick.endpoint.sampled() < 1.0, "a new epoch is a new process");
}

#[tokio::test(start_paused = true)]
async fn a_failed_instance_is_tried_again_however_fast_and_idle_the_others_are() {
    let both = expert([instance("a", "1", State::Serving), instance("b", "1", State::Serving)]);
    let pool = Pool::default().next(&both, &SOUND);
    pool.pick("1", &["b".to_owned()]).expect("a serves").failed(None);
    let mut picked = Vec::new();
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let pick = pool.pick("1", &[]).expect("both serve");
        picked.push(pick.instance().to_owned());
        tokio::time::advance(Duration::from_millis(1)).await;
        pick.succeeded();
    }
    assert!(picked[..10].iter().all(|id| id == "b"), "at first it is shunned");
    assert!(picked.contains(&"a".to_owned()), "a minute later it is not");
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_starts_anew() {
    let both = expert([instance("a", "1", State::Serving), instance("b", "1", State::Serving)]);
    let pool = Pool::default().next(&both, &SOUND);
    pool.pick("1", &["b".to_owned()]).expect("a serves").failed(None);
    pool.readmit();
    assert_eq!(share(&pool, "a"), 0, "it never was away");
    pool.endpoints["a"].history.monitor.returned();
    pool.readmit();
    assert!(share(&pool, "a") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_instance_relieves_a_busy_one_later() {
    let both = expert([instance("a", "1", State::Serving), instance("b", "1", State::Serving)]);
    let pool = Pool::default().next(&both, &SOUND);
    pool.pick("1", &["b".to_owned()]).expect("a serves").failed(None);
    let busy: Vec<_> = (0..3).map(|_| pool.pick("1", &["a".to_owned()]).expect("b serves")).collect();
    assert_eq!(pool.pick("1", &[]).expect("both serve").instance(), "b", "at first it is shunned");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(pool.pick("1", &[]).expect("both serve").instance(), "a", "once forgiven, it relieves the busy one");
    drop(busy);
}

#[tokio::test]
async fn only_serving_instances_of_the_version_are_picked_and_calls_in_flight_are_counted() {
    let pool = Pool::default()
        .next(&expert([instance("a", "1", State::Serving), instance("b", "1", State::Draining)]), &SOUND);
    assert_eq!((pool.live("1"), pool.live("2")), (1, 0));
    assert!(pool.pick("2", &[]).is_none());
    assert!(pool.pick("1", &["a".to_owned()]).is_none(), "b drains and a was tried");
    let pick = pool.pick("1", &[]).expect("a serves");
    assert_eq!(pool.in_flight("a"), 1);
    drop(pick);
    assert_eq!(pool.in_flight("a"), 0);
}

#[tokio::test]
async fn a_version_is_called_and_not_given_up_when_all_its_instances_seem_gone() {
    let both = expert([instance("a", "1", State::Serving), instance("b", "1", State::Serving)]);
    let one = Pool::default().next(&both, &Still(BTreeMap::from([("a", Health::Unreachable)])));
    assert_eq!((one.live("1"), one.count("1", Health::is_sound)), (1, 1));
    assert!((0..20).all(|_| one.pick("1", &[]).is_some_and(|pick| pick.instance() == "b")));
    assert!(one.pick("1", &["b".to_owned()]).is_some_and(|pick| pick.instance() == "a"), "nobody else is left");

    let gone = BTreeMap::from([("a", Health::Unreachable), ("b", Health::NotServing)]);
    let none = Pool::default().next(&both, &Still(gone));
    assert_eq!((none.live("1"), none.count("1", Health::is_sound)), (2, 0));
    assert!(none.pick("1", &[]).is_some());
}

#[tokio::test]
async fn an_instance_whose_registration_ran_out_keeps_its_history() {
    let (id, fresh) = instance("a", "1", State::Serving);
    let pool = Pool::default().next(&expert([(id.clone(), Arc::clone(&fresh))]), &SOUND);
    let pick = pool.pick("1", &[]).expect("a serves");
    let expired = Arc::new(Instance { expired: true, ..Instance::clone(&fresh) });
    let next = pool.next(&expert([(id, expired)]), &Still(BTreeMap::from([("a", Health::Unreachable)])));
    assert_eq!((next.in_flight("a"), next.health("a")), (1, Health::Serving), "the same process, the same line");
    drop(pick);
}

fn listing(id: &str, models: &[&str]) -> (String, Arc<Instance>) {
    let (id, instance) = instance(id, "1", State::Serving);
    let model = |name: &&str| ModelRef { name: (*name).to_owned(), version: "1".to_owned(), digest: String::new() };
    let mut instance = Instance::clone(&instance);
    instance.record.models = models.iter().map(model).collect();
    instance.record.default_model = "net".to_owned();
    (id, Arc::new(instance))
}

#[tokio::test(start_paused = true)]
async fn one_that_lacks_what_its_record_lists_is_passed_over_for_that_for_a_while() {
    let both = expert([listing("a", &["net", "deep"]), listing("b", &["net", "deep"])]);
    let pool = Pool::default().next(&both, &SOUND);
    let net = Wanted { model: Some("net"), ..Wanted::from("1") };
    let deep = Wanted { model: Some("deep"), ..Wanted::from("1") };
    let only = |pool: &Pool, wanted| (0..30).all(|_| pool.pick(wanted, &[]).is_some_and(|pick| pick.instance() == "b"));
    let a = || pool.pick(net, &["b".to_owned()]).expect("a lists it");
    assert!(a().lacks(net), "nobody knew");
    assert!(!a().lacks(net), "everybody knows");
    assert!(only(&pool, net) && only(&pool, Wanted::from("1")), "under both of its names");
    assert_eq!((pool.live(net), pool.live(deep)), (1, 2));
    assert!(!only(&pool, deep), "it has its other models");
    assert!(pool.pick(net, &["b".to_owned()]).is_some(), "it is asked where there is nobody else");

    let unchanged = pool.next(&both, &SOUND);
    assert_eq!(unchanged.live(net), 1, "the same record");
    let changed = pool
        .next(&expert([listing("a", &["net", "deep"]), ("b".to_owned(), Arc::clone(&both.instances["b"]))]), &SOUND);
    assert_eq!(changed.live(net), 2, "a record that has come since knows better");
    tokio::time::advance(LACKS_FOR).await;
    assert_eq!(pool.live(net), 2);
}

#[tokio::test]
async fn what_a_record_does_not_promise_is_not_held_against_anybody() {
    let pool = Pool::default().next(&expert([listing("a", &["net"])]), &SOUND);
    let unlisted = Wanted { is_unlisted: true, ..Wanted::from("1") };
    assert!(!pool.pick(unlisted, &[]).expect("anybody may have it").lacks(unlisted));
    let (id, mut of_no_version) = listing("b", &["net"]);
    Arc::make_mut(&mut of_no_version).record.models[0].version.clear();
    let second = Pool::default().next(&expert([(id, of_no_version)]), &SOUND);
    for version in ["7", "8"] {
        let wanted = Wanted { model: Some("net"), model_version: version, ..Wanted::from("1") };
        let pick = second.pick(wanted, &[]).expect("it may be this version");
        assert!(!pick.is_promised(wanted));
        assert!(!pick.lacks(wanted));
    }
    assert!([pool, second].iter().all(|pool| pool.endpoints.values().all(|endpoint| endpoint.lacking().is_empty())));
}

fn health() -> impl Strategy<Value = Health> {
    prop::sample::select(Health::ALL.to_vec())
}

proptest! {
    #[test]
    fn nobody_unsound_is_picked_while_somebody_sound_is_untried(
        healths in prop::collection::vec(health(), 1..8),
        tried in prop::collection::vec(any::<bool>(), 8),
    ) {
        const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        let _inside = runtime.enter();
        let known: BTreeMap<_, _> = IDS.into_iter().zip(healths).collect();
        let all = known.keys().map(|id| instance(id, "1", State::Serving));
        let pool = Pool::default().next(&expert(all), &Still(known.clone()));
        let tried: Vec<_> = IDS.iter().zip(tried).filter(|(_, tried)| *tried).map(|(id, _)| (*id).to_owned()).collect();
        let untried: Vec<_> = known.iter().filter(|(id, _)| !tried.iter().any(|tried| tried == *id)).collect();
        for _ in 0..8 {
            let pick = pool.pick("1", &tried);
            prop_assert_eq!(pick.is_some(), !untried.is_empty());
            let Some(pick) = pick else { break };
            prop_assert!(untried.iter().any(|(id, _)| **id == pick.instance()));
            prop_assert!(known[pick.instance()].is_sound() || !untried.iter().any(|(_, health)| health.is_sound()));
        }
    }
}

#[tokio::test]
async fn a_newer_version_takes_over_once_it_can_carry_the_load() {
    let catalog = |old: usize, new: usize, health: BTreeMap<&'static str, Health>| {
        let names = ["n0", "n1", "n2", "n3"];
        let instances = (0..old + new).map(|at| {
            let id = if at < new { names[at].to_owned() } else { format!("o{at}") };
            let version = if at < new { "2" } else { "1" }.to_owned();
            let record = Record { version, ..record("labs", &id) };
            (id, Arc::new(Instance { address: record.address.clone(), record, expired: false }))
        });
        let cards = ["1", "2"].map(|version| {
            (
                version.to_owned(),
                Arc::new(consilium_mesh::registry::Card { version: version.to_owned(), ..card("labs") }),
            )
        });
        let labs = Expert { cards: cards.into(), ..expert(instances) };
        let experts = BTreeMap::from([("labs".to_owned(), Arc::new(labs))]);
        let snapshot = Arc::new(consilium_mesh::registry::Snapshot { revision: 1, experts, ..Default::default() });
        crate::catalog::Catalog::default().next(snapshot, &Still(health))
    };
    let of = |health| BTreeMap::from([("n0", health)]);
    for (old, new, health, version, live) in [
        (0, 0, BTreeMap::new(), "2", 0),
        (1, 1, BTreeMap::new(), "2", 1),
        (10, 1, BTreeMap::new(), "1", 10),
        (4, 2, BTreeMap::new(), "2", 2),
        (4, 2, of(Health::NotServing), "1", 4),
        (1, 1, of(Health::Unknown), "1", 1),
        (0, 1, of(Health::Unknown), "2", 1),
        (0, 1, of(Health::Unreachable), "2", 1),
    ] {
        let catalog = catalog(old, new, health.clone());
        let target = catalog.target("labs", None).expect("it is known");
        let chosen = (target.card.version.as_str(), target.live);
        assert_eq!(chosen, (version, live), "{old} old and {new} new ones, {health:?}");
        let pinned = catalog.target("labs", Some("2")).expect("it is known");
        assert_eq!(pinned.card.version, "2");
    }
}
