//! New settings take over whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use consilium_gate::{Error, Gate, Labelled, Mistake, Options, Outcome, Query, Rule, Settings, Trial, Wishes};

use crate::support::{BagOfWords, ask, background, chosen, clinic, later, rule, strings};

const DRUGS: &str = "Is aspirin safe with heparin tablets?";

/// Asks one query and wants this expert for it.
struct Wants {
    expert: &'static str,
    asked: AtomicUsize,
}

impl Wants {
    fn expert(expert: &'static str) -> Arc<Self> {
        Arc::new(Self { expert, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Trial for Wants {
    async fn pass(&self, gate: &Gate) -> Result<(), Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let decision = gate.decide(&ask(DRUGS), &Wishes::default(), later()).await;
        if chosen(&decision) == [self.expert] {
            return Ok(());
        }
        Err(Error::Trial(vec![Mistake::new("probes[0]", "went elsewhere", self.expert)]))
    }
}

/// With few background texts, which are learned quickly.
fn small(options: Options) -> Settings {
    Settings { background: background(), without_shipped: true, ..Settings::new(options) }
}

async fn fitted() -> (Gate, Arc<BagOfWords>) {
    let encoder = Arc::new(BagOfWords::default());
    let gate = Gate::with_settings(small(Options::default()), encoder.clone()).unwrap();
    gate.fit(clinic()).await.unwrap();
    (gate, encoder)
}

fn forbidding(expert: &str) -> Options {
    Options {
        rules: vec![Rule { forbid: strings(&[expert]), ..rule("closed", "true") }],
        fallback: Some("general".into()),
        ..Options::default()
    }
}

async fn answers(gate: &Gate, query: &Query) -> Vec<String> {
    let decision = gate.decide(query, &Wishes::default(), later()).await;
    chosen(&decision).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn new_settings_decide_once_they_are_in_force() {
    let (gate, encoder) = fitted().await;
    let (revision, calls) = (gate.revision(), encoder.calls());
    gate.configure(small(forbidding("drug-interactions"))).await.unwrap();
    assert_eq!(encoder.calls(), calls, "no text is new");
    assert_ne!(gate.revision(), revision);
    assert_eq!(answers(&gate, &ask(DRUGS)).await, ["general"]);
    assert_eq!(gate.options().fallback.as_deref(), Some("general"));
    gate.configure(small(Options::default())).await.unwrap();
    assert_eq!((gate.revision(), answers(&gate, &ask(DRUGS)).await), (revision, strings(&["drug-interactions"])));
}

#[tokio::test]
async fn settings_outlive_the_next_fit() {
    let (gate, _) = fitted().await;
    gate.configure(small(forbidding("drug-interactions"))).await.unwrap();
    let revision = gate.revision();
    gate.fit(clinic()[..2].to_vec()).await.unwrap();
    gate.fit(clinic()).await.unwrap();
    assert_eq!((gate.revision(), answers(&gate, &ask(DRUGS)).await), (revision, strings(&["general"])));
}

#[tokio::test]
async fn mistaken_settings_change_nothing() {
    let (gate, _) = fitted().await;
    let revision = gate.revision();
    let wrong = Options { top_k: 0, min_confidence: 2.0, ..Options::default() };
    assert!(matches!(gate.configure(small(wrong)).await, Err(Error::Options(mistakes)) if mistakes.len() == 2));
    assert_eq!((gate.revision(), answers(&gate, &ask(DRUGS)).await), (revision, strings(&["drug-interactions"])));
}

#[tokio::test]
async fn settings_that_cannot_be_encoded_change_nothing() {
    let (gate, encoder) = fitted().await;
    let revision = gate.revision();
    encoder.break_now();
    let settings = Settings { background: strings(&["a text that no fit has seen"]), ..small(Options::default()) };
    assert!(matches!(gate.configure(settings.clone()).await, Err(Error::Encode(_))));
    assert_eq!(gate.revision(), revision);
    encoder.mend();
    gate.configure(settings).await.unwrap();
    assert_ne!(gate.revision(), revision);
}

#[tokio::test]
async fn settings_that_fail_their_trial_change_nothing() {
    let (gate, encoder) = fitted().await;
    let (revision, calls) = (gate.revision(), encoder.calls());
    let trial = Wants::expert("drug-interactions");
    let settings = |options| Settings { trial: Some(trial.clone()), ..small(options) };
    let failed = gate.configure(settings(forbidding("drug-interactions"))).await;
    assert!(matches!(&failed, Err(Error::Trial(mistakes)) if mistakes[0].path == "probes[0]"));
    assert_eq!(failed.unwrap_err().to_string(), "1 probe(s) below their bars, the first at probes[0]");
    assert_eq!(
        (gate.revision(), answers(&gate, &ask(DRUGS)).await),
        (revision.clone(), strings(&["drug-interactions"]))
    );

    gate.configure(settings(forbidding("diagnostics"))).await.unwrap();
    assert_ne!(gate.revision(), revision);
    assert_eq!(trial.asked.load(Ordering::SeqCst), 2);
    // The trial's queries and the one above; no text of the cards was encoded twice.
    assert!(encoder.calls() <= calls + 3, "{} more", encoder.calls() - calls);
}

#[tokio::test]
async fn without_experts_there_is_nothing_to_try() {
    let gate = Gate::with_settings(small(Options::default()), Arc::new(BagOfWords::default())).unwrap();
    let trial = Wants::expert("drug-interactions");
    let settings = Settings { trial: Some(trial.clone()), ..small(forbidding("diagnostics")) };
    gate.configure(settings).await.unwrap();
    assert_eq!(trial.asked.load(Ordering::SeqCst), 0);
    gate.fit(clinic()).await.unwrap();
    assert_eq!(answers(&gate, &ask(DRUGS)).await, ["drug-interactions"], "an expert that joins is not on trial");
}

#[tokio::test]
async fn background_and_validation_are_part_of_what_is_decided_by() {
    let (gate, _) = fitted().await;
    let mut revisions = vec![gate.revision()];
    let row = |expert: Option<&str>| Labelled {
        text: DRUGS.into(),
        expert: expert.map(str::to_owned),
        ..Labelled::default()
    };
    for settings in [
        Settings { background: strings(&["best recipe for sourdough bread"]), ..Settings::default() },
        Settings { without_shipped: true, background: strings(&["best recipe for bread"]), ..Settings::default() },
        Settings { validation: vec![row(Some("drug-interactions"))], ..small(Options::default()) },
        // Nobody here has that name yet; it must not be taken for a query for nobody.
        Settings { validation: vec![row(Some("radiology"))], ..small(Options::default()) },
    ] {
        gate.configure(settings).await.unwrap();
        let decision = gate.decide(&ask(DRUGS), &Wishes::default(), later()).await;
        assert_eq!((decision.outcome, chosen(&decision)), (Outcome::Dispatched, vec!["drug-interactions"]));
        revisions.push(gate.revision());
    }
    let count = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), count);
}

#[tokio::test]
async fn no_debug_shows_a_text() {
    let settings = Settings {
        background: strings(&["canary-a"]),
        validation: vec![Labelled { text: "canary-b".into(), ..Labelled::default() }],
        ..Settings::default()
    };
    let shown = format!("{settings:?} {:?}", settings.validation);
    assert!(!shown.contains("canary"), "{shown}");
}
