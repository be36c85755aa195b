//! Dimensions that are read in the query: what counts, what follows from it, and that given beats inferred.

use std::collections::BTreeMap;
use std::sync::Arc;

use consilium_gate::{
    Decision, Dimension, DimensionClass, Gate, Options, Outcome, Query, Reason, Rule, Source, Tier, Wishes,
};

use crate::support::{BagOfWords, ask, ask_as, audience, background, chosen, hospital, later, rule, strings};

const AS_PATIENT: &str = "hello i am worried because my mri scan gave me trouble";
const AS_CLINICIAN: &str = "guideline evidence regarding mri scan indication in adults";
const AS_ANYBODY: &str = "mri scan";

fn options() -> Options {
    Options { dimensions: BTreeMap::from([("audience".to_owned(), audience())]), ..Options::default() }
}

/// A hospital whose imaging serves clinicians only.
async fn fitted(options: Options) -> (Gate, Arc<BagOfWords>) {
    let encoder = Arc::new(BagOfWords::default());
    let gate = Gate::with_background(options, encoder.clone(), background()).unwrap();
    let mut profiles = hospital();
    profiles[1].serves.insert("audience".into(), strings(&["clinician"]));
    gate.fit(profiles).await.unwrap();
    (gate, encoder)
}

async fn decide(options: Options, query: &Query) -> Decision {
    fitted(options).await.0.decide(query, &Wishes::default(), later()).await
}

#[tokio::test]
async fn a_value_is_read_in_the_query_and_puts_out_who_does_not_serve_it() {
    let (gate, _) = fitted(options()).await;
    let clinician = gate.decide(&ask(AS_CLINICIAN), &Wishes::default(), later()).await;
    assert_eq!(chosen(&clinician), ["imaging"]);
    let reading = &clinician.dimensions[0];
    assert_eq!((&*reading.name, reading.source), ("audience", Source::Inferred));
    assert_eq!(&*reading.values[0].value, "clinician");
    assert!(reading.values[0].probability >= 0.6 && reading.values[1].probability < 0.4, "{reading:?}");

    let patient = gate.decide(&ask(AS_PATIENT), &Wishes::default(), later()).await;
    assert_eq!((patient.outcome, patient.reason), (Outcome::Refused, Reason::Excluded));
    let imaging = patient.candidates.iter().find(|candidate| &*candidate.expert == "imaging").unwrap();
    let why = imaging.why().next().unwrap();
    assert!(why.starts_with("does not serve audience=patient (inferred, "), "{why}");
    assert!(imaging.probability > 0.5, "who is out keeps its probability");
}

#[tokio::test]
async fn given_beats_inferred() {
    let (gate, _) = fitted(options()).await;
    let decision = gate.decide(&ask_as("clinician", AS_PATIENT), &Wishes::default(), later()).await;
    assert_eq!(chosen(&decision), ["imaging"]);
    assert_eq!(decision.dimensions.len(), 1);
    assert_eq!((decision.dimensions[0].source, decision.dimensions[0].values.len()), (Source::Given, 1));
}

#[tokio::test]
async fn below_its_bar_a_value_is_unknown_and_nothing_follows_from_it() {
    let mut options = options();
    options.dimensions.get_mut("audience").unwrap().min_confidence = 1.0;
    let decision = decide(options, &ask(AS_PATIENT)).await;
    assert_eq!(chosen(&decision), ["imaging"]);
    let reading = &decision.dimensions[0];
    assert_eq!(reading.source, Source::Unknown);
    assert_eq!(&*reading.values[0].value, "patient", "the best guess is shown all the same");
    assert!(reading.in_effect().is_empty());
}

#[tokio::test]
async fn without_descriptions_a_dimension_is_only_given() {
    let given = Dimension::given(["clinician", "patient"]);
    let dimensions = BTreeMap::from([("audience".to_owned(), given)]);
    let decision = decide(Options { dimensions, ..Options::default() }, &ask(AS_PATIENT)).await;
    assert_eq!(chosen(&decision), ["imaging"]);
    assert!(decision.dimensions.is_empty());
}

#[tokio::test]
async fn several_dimensions_are_read_in_one_decision_each_with_its_own_unknown() {
    let class = |value: &str, example: &str| DimensionClass {
        value: value.into(),
        examples: (0..20).map(|at| format!("{example} {at}")).collect(),
        ..DimensionClass::default()
    };
    let urgency = Dimension {
        values: vec![
            class("urgent", "immediately emergency bleeding"),
            class("routine", "sometime whenever convenient"),
        ],
        ..Dimension::default()
    };
    let mut options = options();
    options.dimensions.insert("urgency".into(), urgency);
    let (gate, _) = fitted(options).await;
    let decision = gate.decide(&ask(AS_CLINICIAN), &Wishes::default(), later()).await;
    let sources: Vec<(&str, Source)> = decision.dimensions.iter().map(|it| (&*it.name, it.source)).collect();
    assert_eq!(sources, [("audience", Source::Inferred), ("urgency", Source::Unknown)]);
    let urgent = gate.decide(&ask("emergency bleeding immediately"), &Wishes::default(), later()).await;
    assert_eq!(urgent.dimensions[1].in_effect().first().map(|value| &*value.value), Some("urgent"));
}

#[tokio::test]
async fn rules_read_what_was_inferred() {
    let rules = vec![
        Rule { require: strings(&["billing"]), ..rule("patients-first", "'patient' in dimensions.audience") },
        Rule { prefer: strings(&["pharmacy"]), ..rule("unknown-audience", "size(dimensions.audience) == 0") },
    ];
    let (gate, encoder) = fitted(Options { rules, ..options() }).await;
    let decision = gate.decide(&ask(AS_PATIENT), &Wishes::default(), later()).await;
    assert_eq!((decision.reason, chosen(&decision)), (Reason::Required, vec!["billing"]));
    assert_eq!((decision.tier, decision.rules_matched), (Tier::Encoder, strings(&["patients-first"])));

    let decision = gate.decide(&ask(AS_CLINICIAN), &Wishes::default(), later()).await;
    assert_eq!((chosen(&decision), decision.rules_matched.len()), (vec!["imaging"], 0));
    let decision = gate.decide(&ask(AS_ANYBODY), &Wishes::default(), later()).await;
    assert_eq!(decision.rules_matched, ["unknown-audience"]);

    let before = encoder.calls();
    let given = gate.decide(&ask_as("patient", "never read before"), &Wishes::default(), later()).await;
    assert_eq!((given.reason, given.tier), (Reason::Required, Tier::Rules), "what is given needs no reading");
    assert_eq!(encoder.calls(), before);
    assert_eq!(gate.rule_errors(), 0);
}

#[tokio::test]
async fn a_guard_that_waits_for_the_reading_holds_up_what_it_guards() {
    let rules = vec![
        Rule { require: strings(&["imaging"]), priority: 9, ..rule("scans", "query.text.contains('mri')") },
        Rule { forbid: strings(&["imaging"]), ..rule("not-for-patients", "'patient' in dimensions.audience") },
    ];
    let (gate, encoder) = fitted(Options { rules, ..options() }).await;
    let patient = gate.decide(&ask(AS_PATIENT), &Wishes::default(), later()).await;
    assert_eq!((patient.outcome, patient.reason), (Outcome::Refused, Reason::Excluded));
    let clinician = gate.decide(&ask(AS_CLINICIAN), &Wishes::default(), later()).await;
    assert_eq!((clinician.reason, chosen(&clinician)), (Reason::Required, vec!["imaging"]));

    // Unread, the guard cannot know, and a guard that fails fails closed.
    encoder.break_now();
    let unread = gate.decide(&ask("another mri"), &Wishes::default(), later()).await;
    assert!(chosen(&unread).is_empty());
    assert_eq!(unread.rules_matched, ["scans", "not-for-patients"]);
    assert_eq!(gate.rule_errors(), 1);
}
