//! Evaluation on a real gate: what it says is what the gate decides, row by row, and probes are a trial that settings
//! have to pass.

use std::sync::Arc;

use consilium_gate::evaluate::{self, Data, Measures, Observation, Probes, Structure};
use consilium_gate::{Encoder, Error, Gate, Labelled, Options, Settings, Wishes};

use crate::support::{BagOfWords, ask, clinic, later};

fn row(text: &str, expert: Option<&str>) -> Labelled {
    Labelled { text: text.to_owned(), expert: expert.map(str::to_owned), ..Labelled::default() }
}

fn data() -> Data {
    let train = clinic().into_iter().flat_map(|profile| {
        let expert = profile.expert;
        profile.examples.into_iter().map(move |text| row(&text, Some(&expert)))
    });
    let test = vec![
        row("is warfarin safe with aspirin tablets", Some("drug-interactions")),
        row("how many hours of sleep does an adult need", Some("general")),
        row("which diagnosis for fever and weight loss", Some("diagnostics")),
        row("who painted the ceiling of that chapel", None),
        row("is warfarin safe with aspirin tablets", Some("cardiology")),
    ];
    Data { train: train.collect(), validation: Vec::new(), test }
}

async fn gate() -> Gate {
    let settings = data().settings(Options::default()).unwrap();
    let gate = Gate::with_settings(settings, Arc::new(BagOfWords::default())).unwrap();
    gate.fit(data().profiles()).await.unwrap();
    gate
}

#[tokio::test]
async fn an_evaluation_counts_what_the_gate_decides() {
    let (data, gate) = (data(), gate().await);
    let mut told = Vec::new();
    let observations = evaluate::observe(&gate, &data.test, |done| told.push(done)).await;
    assert_eq!(told, [1, 2, 3, 4, 5]);
    for (row, observation) in data.test.iter().zip(&observations) {
        let decision = gate.decide(&ask(&row.text), &Wishes::default(), later()).await;
        let again = Observation::of(row, &decision, observation.took);
        assert_eq!((&again.best, &again.chosen), (&observation.best, &observation.chosen));
        assert_eq!(again.tier, observation.tier, "no text is remembered from the row before");
        assert!((0.0..=1.0 + 1e-9).contains(&observation.somebody), "{observation:?}");
    }
    assert_eq!((observations[0].ahead, observations[4].ahead), (Some(0), None));
    let measures = Measures::of(&observations);
    assert_eq!(measures.top1, Some(0.75), "all but the expert that nobody has learned: {measures:?}");
    assert!(measures.oos_auroc > Some(0.5), "{measures:?}");
}

const PROBES: &str = r#"{"bars": {"reach": 1, "far": 1}}
{"tier": "reach", "text": "is warfarin safe with aspirin tablets", "expert": "drug-interactions"}
{"tier": "reach", "text": "how many hours of sleep do i need", "expert": "general"}
{"tier": "far", "text": "who painted the ceiling of that chapel", "expert": null}
"#;

#[tokio::test]
async fn probes_say_what_went_wrong_and_why() {
    let gate = gate().await;
    let never = Options { refuse_above: 1.0, min_confidence: 0.0, ..Options::default() };
    gate.configure(data().settings(never).unwrap()).await.unwrap();
    let probes = Probes::parse(PROBES).unwrap();
    assert!(probes.check(&["drug-interactions", "general"], &Options::default()).is_empty());
    let probed = probes.ask(&gate, |_| {}).await;
    assert_eq!(probed.tiers.iter().map(|it| (it.right, it.total)).collect::<Vec<_>>(), [(2, 2), (0, 1)]);
    let [failure] = &probed.failures[..] else { panic!("{:?}", probed.failures) };
    assert_eq!((failure.line, failure.expected.as_deref(), failure.outcome), (4, None, "DISPATCHED"));
    assert!(failure.why[0].starts_with(&failure.chosen[0]), "{:?}", failure.why);
    assert!(!probed.passes());
}

#[tokio::test]
async fn settings_that_fail_their_probes_change_nothing() {
    let gate = gate().await;
    let before = gate.revision();
    let probes = Probes::parse(PROBES).unwrap();
    let settings = |refuse_above| Settings {
        trial: Some(Arc::new(probes.clone())),
        ..data().settings(Options { refuse_above, min_confidence: 0.0, ..Options::default() }).unwrap()
    };
    let error = gate.configure(settings(1.0)).await.unwrap_err();
    let Error::Trial(mistakes) = error else { panic!("{error:?}") };
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].to_string(), "gate.probes.far: 0 of 1 right, wrong in line 4; expected a share of 1");
    assert_eq!(gate.revision(), before);
    gate.configure(settings(0.0)).await.unwrap_err();
    assert_eq!(gate.revision(), before, "refusing everything is no way out either");
}

#[tokio::test]
async fn probes_of_experts_that_have_not_come_yet_wait_for_them() {
    let gate = gate().await;
    let text = r#"{"bars": {"near": 1, "new": 1, "all": 1}}
{"tier": "near", "text": "is warfarin safe with aspirin tablets", "expert": "drug-interactions"}
{"tier": "new", "text": "can this wait until the cardiologist is back", "expert": "cardiology"}"#;
    let probes = Probes::parse(text).unwrap();
    assert!(!probes.ask(&gate, |_| {}).await.passes());
    let options = Options { top_k: 2, ..Options::default() };
    let settings = Settings { trial: Some(Arc::new(probes)), ..data().settings(options).unwrap() };
    gate.configure(settings).await.unwrap();
    assert_eq!(gate.options().top_k, 2);
}

#[tokio::test]
async fn settings_whose_probes_cannot_be_read_are_not_wrong() {
    let encoder = Arc::new(BagOfWords::default());
    let settings = |trial| Settings { trial, ..data().settings(Options::default()).unwrap() };
    let gate = Gate::with_settings(settings(None), encoder.clone()).unwrap();
    gate.fit(data().profiles()).await.unwrap();
    let (before, trial) = (gate.revision(), Some(Arc::new(Probes::parse(PROBES).unwrap()) as _));
    encoder.break_now();
    let error = gate.configure(settings(trial)).await.unwrap_err();
    assert!(matches!(error, Error::Encode(_)), "{error:?}");
    assert_eq!(gate.revision(), before);
}

#[tokio::test]
async fn whose_promise_cannot_be_shown_is_told() {
    let gate = gate().await;
    assert!(gate.out_of_reach().is_empty());
    let options = Options { max_error: Some(0.001), ..Options::default() };
    gate.configure(data().settings(options).unwrap()).await.unwrap();
    assert_eq!(gate.out_of_reach(), ["diagnostics", "drug-interactions", "general"]);
}

#[tokio::test]
async fn examples_of_two_experts_collide() {
    let mut profiles = clinic();
    // Half of what drug-interactions gets is said to be general's as well.
    let copied: Vec<String> = profiles[0].examples.iter().take(3).map(|text| text.to_uppercase()).collect();
    profiles[2].examples.extend(copied);
    let encoder: Arc<dyn Encoder> = Arc::new(BagOfWords::default());
    let settings = Settings::new(Options { refuse_above: 1.0, min_confidence: 0.0, ..Options::default() });
    let mut fitted = Vec::new();
    let found = Structure::of(&settings, &profiles, &encoder, |done| fitted.push(done)).await.unwrap();
    assert_eq!(fitted.last(), Some(&Structure::FITS));
    assert_eq!(found.duplicates.len(), 3);
    assert!(
        found.collisions.iter().any(|it| it.expert == "general" && it.taken_for == "drug-interactions"),
        "{found:?}"
    );
    assert_eq!(found.thin.len(), 3);
    assert!(!found.passes());
}
