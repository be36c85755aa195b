//! What the gate decides by rules, limits, bars, fallback and refusal, and how it is fitted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consilium_gate::{
    Bar, Caller, Decision, Dimension, Gate, Options, Outcome, Profile, Query, Reason, Rule, Tier, Wishes,
};
use proptest::prelude::*;

use crate::support::{BagOfWords, WIDTH, ask, ask_as, background, chosen, clinic, later, profile, rule, strings};

const DRUGS: &str = "Is aspirin safe with heparin tablets?";
const RECIPE: &str = "best recipe for sourdough bread";

fn options() -> Options {
    Options {
        fallback: Some("general".into()),
        dimensions: BTreeMap::from([("audience".to_owned(), Dimension::given(["clinician", "patient"]))]),
        ..Options::default()
    }
}

async fn fitted(options: Options) -> (Gate, Arc<BagOfWords>) {
    let encoder = Arc::new(BagOfWords::default());
    let gate = Gate::with_background(options, encoder.clone(), background()).unwrap();
    gate.fit(clinic()).await.unwrap();
    (gate, encoder)
}

async fn decide(options: Options, query: &Query, wishes: &Wishes) -> Decision {
    fitted(options).await.0.decide(query, wishes, later()).await
}

fn reasons<'a>(decision: &'a Decision, expert: &str) -> Vec<&'a str> {
    decision.candidates.iter().find(|candidate| &*candidate.expert == expert).unwrap().why().collect()
}

#[tokio::test]
async fn a_query_goes_to_the_expert_whose_examples_it_resembles() {
    let decision = decide(options(), &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Dispatched, Reason::Confident));
    assert_eq!(chosen(&decision), ["drug-interactions"]);
    assert_eq!(decision.tier, Tier::Encoder);
    assert_eq!(decision.candidates.len(), 3);
    assert_eq!(decision.vector.as_ref().unwrap().values.len(), WIDTH);
    let why = reasons(&decision, "drug-interactions");
    assert!(why[0].starts_with("close to \"is aspirin safe with heparin\" (0."), "{why:?}");
}

#[tokio::test]
async fn what_no_expert_knows_is_refused_even_with_a_fallback() {
    let decision = decide(options(), &ask(RECIPE), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Refused, Reason::OutOfScope));
    assert!(chosen(&decision).is_empty());
    assert!(decision.candidates.iter().map(|candidate| candidate.probability).sum::<f64>() < 0.5);
}

#[tokio::test]
async fn refuse_above_one_never_refuses() {
    let decision = decide(Options { refuse_above: 1.0, ..options() }, &ask(RECIPE), &Wishes::default()).await;
    assert_ne!(decision.outcome, Outcome::Refused);
}

#[tokio::test]
async fn an_unclear_query_in_scope_goes_to_the_fallback_and_says_why() {
    let unsure = Wishes { min_confidence: Some(1.0), ..Wishes::default() };
    let decision = decide(options(), &ask(DRUGS), &unsure).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::LowConfidence));
    assert_eq!(chosen(&decision), ["general"]);
    let why = reasons(&decision, "general")[0];
    assert!(why.starts_with("fallback: best was drug-interactions with ") && why.ends_with("below 1.00"), "{why}");

    let alone = decide(Options { fallback: None, ..options() }, &ask(DRUGS), &unsure).await;
    assert_eq!((alone.outcome, alone.reason), (Outcome::Refused, Reason::LowConfidence));
}

#[tokio::test]
async fn the_fallback_expert_wins_its_own_queries_like_any_other() {
    let decision = decide(options(), &ask("how many hours of sleep does an adult need"), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Dispatched, Reason::Confident));
    assert_eq!(chosen(&decision), ["general"]);
}

#[tokio::test]
async fn an_expert_that_does_not_serve_the_given_value_is_out() {
    let text = "painless jaundice and weight loss, which diagnosis";
    let clinician = decide(options(), &ask_as("clinician", text), &Wishes::default()).await;
    assert_eq!(chosen(&clinician), ["diagnostics"]);
    assert_eq!(&*clinician.dimensions[0].values[0].value, "clinician");
    assert_eq!(clinician.dimensions[0].source.as_str(), "given");

    let patient = decide(options(), &ask_as("patient", text), &Wishes::default()).await;
    assert_eq!((patient.outcome, patient.reason), (Outcome::Fallback, Reason::Excluded));
    assert_eq!(chosen(&patient), ["general"]);
    assert_eq!(reasons(&patient, "diagnostics")[0], "does not serve audience=patient");
    assert!(reasons(&patient, "general")[0].starts_with("fallback: best was diagnostics"));
}

#[tokio::test]
async fn one_served_value_of_several_is_enough() {
    let mut query = ask_as("patient", "painless jaundice and weight loss, which diagnosis");
    query.attributes.get_mut("audience").unwrap().push("clinician".into());
    assert_eq!(chosen(&decide(options(), &query, &Wishes::default()).await), ["diagnostics"]);
}

#[tokio::test]
async fn the_others_do_not_gain_when_the_right_expert_may_not_answer() {
    let wishes = Wishes { experts: strings(&["diagnostics", "general"]), ..Wishes::default() };
    let decision = decide(Options { fallback: None, ..options() }, &ask(DRUGS), &wishes).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Refused, Reason::Excluded));
    assert_eq!(reasons(&decision, "drug-interactions")[0], "not among the experts the caller allows");
}

#[tokio::test]
async fn everybody_out_is_a_refusal_without_encoding() {
    let wishes = Wishes { experts: strings(&["somebody-else"]), ..Wishes::default() };
    let (gate, encoder) = fitted(options()).await;
    let before = encoder.calls();
    let decision = gate.decide(&ask(DRUGS), &wishes, later()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Refused, Reason::Excluded));
    assert_eq!((encoder.calls(), decision.tier), (before, Tier::Rules));
}

#[tokio::test]
async fn a_required_expert_answers_without_encoding_whatever_the_text() {
    let rules = vec![Rule {
        require: strings(&["drug-interactions"]),
        ..rule("medication-list", "'document' in labels && labels.document == 'medication-list'")
    }];
    let (gate, encoder) = fitted(Options { rules, ..options() }).await;
    let before = encoder.calls();
    let mut query = ask(RECIPE);
    query.labels.insert("document".into(), "medication-list".into());
    let decision = gate.decide(&query, &Wishes::default(), later()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Dispatched, Reason::Required));
    assert_eq!(chosen(&decision), ["drug-interactions"]);
    assert_eq!(reasons(&decision, "drug-interactions"), ["rule medication-list requires it"]);
    assert_eq!(decision.rules_matched, ["medication-list"]);
    assert_eq!((encoder.calls(), decision.tier.as_str()), (before, "rules"));
    assert!(decision.vector.is_none());
}

#[tokio::test]
async fn forbid_beats_require_whatever_the_priorities() {
    let rules = vec![
        Rule { require: strings(&["drug-interactions"]), priority: 100, ..rule("must", "true") },
        Rule { forbid: strings(&["drug-interactions"]), priority: -100, ..rule("must-not", "true") },
    ];
    let decision = decide(Options { rules, ..options() }, &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::Excluded));
    assert_eq!(reasons(&decision, "drug-interactions")[0], "rule must-not forbids it");
    assert_eq!(decision.rules_matched, ["must", "must-not"]);
}

#[tokio::test]
async fn a_required_expert_that_is_unknown_is_named() {
    let rules = vec![Rule { require: strings(&["radiology"]), ..rule("scan", "true") }];
    let decision = decide(Options { rules, ..options() }, &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::RequiredUnknown));
    assert!(reasons(&decision, "general")[0].contains("radiology"));
}

#[tokio::test]
async fn the_fallback_expert_can_be_forbidden_too() {
    let rules = vec![Rule { forbid: strings(&["general"]), ..rule("no-general", "caller.tier == 'free'") }];
    let query = Query { caller: Caller { tier: "free".into(), ..Caller::default() }, ..ask(DRUGS) };
    let unsure = Wishes { min_confidence: Some(1.0), ..Wishes::default() };
    let decision = decide(Options { rules, ..options() }, &query, &unsure).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Refused, Reason::LowConfidence));
}

#[tokio::test]
async fn prefer_raises_the_odds_and_leaves_scope_alone() {
    let rules = vec![Rule { prefer: strings(&["general"]), ..rule("desk", "true") }];
    let plain = decide(options(), &ask(DRUGS), &Wishes::default()).await;
    let preferring = decide(Options { rules, ..options() }, &ask(DRUGS), &Wishes::default()).await;
    let of = |decision: &Decision, expert: &str| {
        decision.candidates.iter().find(|candidate| &*candidate.expert == expert).unwrap().probability
    };
    let odds = |decision: &Decision| of(decision, "general") / of(decision, "drug-interactions");
    assert!((odds(&preferring) / odds(&plain) - 3.0).abs() < 1e-6);
    let sum = |decision: &Decision| decision.candidates.iter().map(|candidate| candidate.probability).sum::<f64>();
    assert!((sum(&plain) - sum(&preferring)).abs() < 1e-9);
    assert_eq!(reasons(&preferring, "general")[0], "rule desk prefers it");
}

#[tokio::test]
async fn top_k_is_a_limit() {
    let options = Options { floor: 0.0, ..options() };
    let everyone = Wishes { top_k: Some(9), min_confidence: Some(0.0), experts: Vec::new() };
    assert_eq!(decide(options.clone(), &ask(DRUGS), &everyone).await.selected().count(), 3);
    let two = Wishes { top_k: Some(2), ..everyone.clone() };
    assert_eq!(decide(options.clone(), &ask(DRUGS), &two).await.selected().count(), 2);
    let none = Wishes { top_k: Some(0), ..everyone };
    assert_eq!(decide(options, &ask(DRUGS), &none).await.selected().count(), 1);
}

#[tokio::test]
async fn who_comes_after_the_best_needs_the_floor_and_not_the_bar() {
    let wishes = Wishes { top_k: Some(3), ..Wishes::default() };
    let low = decide(Options { floor: 0.0, ..options() }, &ask(DRUGS), &wishes).await;
    assert_eq!((low.outcome, low.selected().count()), (Outcome::Dispatched, 3));
    assert!(low.candidates[1].probability < 0.5);
    let between = f64::midpoint(low.candidates[1].probability, low.candidates[2].probability);
    assert_eq!(decide(Options { floor: between, ..options() }, &ask(DRUGS), &wishes).await.selected().count(), 2);

    let bars =
        BTreeMap::from([(low.candidates[1].expert.to_string(), Bar { min_confidence: Some(0.6), max_error: None })]);
    let strict = decide(Options { floor: 0.0, bars, ..options() }, &ask(DRUGS), &wishes).await;
    assert_eq!(strict.selected().count(), 2, "a bar of its own holds in every place");
    assert_eq!(strict.candidates[2].expert, low.candidates[1].expert);
}

#[tokio::test]
async fn an_expert_can_have_a_bar_of_its_own() {
    let strict = |expert: &str| Options {
        bars: BTreeMap::from([(expert.to_owned(), Bar { min_confidence: Some(0.999_999), max_error: None })]),
        ..options()
    };
    let decision = decide(strict("drug-interactions"), &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::LowConfidence));
    assert_eq!(decision.bar, Some(0.999_999));
    let decision = decide(strict("general"), &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.bar), (Outcome::Dispatched, Some(0.5)));
}

#[tokio::test]
async fn an_error_that_nobody_can_promise_leaves_everything_to_the_fallback() {
    // Fifteen examples cannot show that at most 2 % go wrong.
    let decision = decide(Options { max_error: Some(0.02), ..options() }, &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::LowConfidence));
    assert_eq!(decision.bar, Some(1.0));
    let own = Wishes { min_confidence: Some(0.3), ..Wishes::default() };
    let decision = decide(Options { max_error: Some(0.02), ..options() }, &ask(DRUGS), &own).await;
    assert_eq!((decision.outcome, decision.bar), (Outcome::Dispatched, Some(0.3)), "the caller knows what it does");
}

#[tokio::test]
async fn what_is_likelier_for_nobody_is_accepted_at_no_bar() {
    let options = Options { fallback: None, refuse_above: 1.0 - f64::EPSILON, min_confidence: 0.0, ..options() };
    let decision = decide(options.clone(), &ask(RECIPE), &Wishes::default()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Refused, Reason::LowConfidence));
    let decision = decide(Options { refuse_above: 1.0, ..options }, &ask(RECIPE), &Wishes::default()).await;
    assert_eq!(decision.outcome, Outcome::Dispatched, "1 leaves nobody out of account");
}

#[tokio::test]
async fn probabilities_are_calibrated_only_where_that_was_shown() {
    // Too few examples to show it; and a rule's choice has no calibrated probability either.
    assert!(!decide(options(), &ask(DRUGS), &Wishes::default()).await.calibrated);
    let rules = vec![Rule { require: strings(&["general"]), ..rule("always", "true") }];
    let decision = decide(Options { rules, ..options() }, &ask(DRUGS), &Wishes::default()).await;
    assert_eq!((decision.calibrated, decision.bar), (false, None));
}

#[tokio::test]
async fn experts_that_cannot_be_told_apart_do_not_starve_each_other() {
    let (gate, _) = fitted(options()).await;
    let mut profiles = clinic();
    let twin = Profile { expert: "drug-checker".into(), ..profiles[0].clone() };
    profiles.push(twin);
    gate.fit(profiles).await.unwrap();
    let bar = |top_k| Wishes { top_k: Some(top_k), min_confidence: Some(0.7), experts: Vec::new() };
    let both = gate.decide(&ask(DRUGS), &bar(2), later()).await;
    let mut names = chosen(&both);
    names.sort_unstable();
    assert_eq!((both.outcome, names), (Outcome::Dispatched, vec!["drug-checker", "drug-interactions"]));
    assert!(both.candidates.iter().all(|candidate| candidate.probability < 0.7));
    assert_eq!(gate.decide(&ask(DRUGS), &bar(1), later()).await.selected().count(), 1);
}

#[tokio::test]
async fn a_failing_encoder_means_fallback_else_unavailable() {
    for (fallback, outcome) in [(Some("general".to_owned()), Outcome::Fallback), (None, Outcome::Unavailable)] {
        let (gate, encoder) = fitted(Options { fallback, ..options() }).await;
        encoder.break_now();
        let decision = gate.decide(&ask(DRUGS), &Wishes::default(), later()).await;
        assert_eq!((decision.outcome, decision.reason), (outcome, Reason::EncoderUnavailable));
        assert!(decision.candidates.iter().all(|candidate| candidate.probability.abs() < f64::EPSILON));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_decision_even_if_the_encoder_hangs() {
    let (gate, encoder) = fitted(options()).await;
    let passed = gate.decide(&ask(DRUGS), &Wishes::default(), tokio::time::Instant::now()).await;
    assert_eq!((passed.outcome, passed.reason), (Outcome::Fallback, Reason::DeadlineExceeded));

    encoder.hang_now();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(40);
    let decision = gate.decide(&ask(DRUGS), &Wishes::default(), deadline).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::DeadlineExceeded));
    assert!(decision.elapsed >= Duration::from_millis(40));
}

#[tokio::test]
async fn a_gate_without_experts_is_unavailable() {
    let gate = Gate::new(options(), Arc::new(BagOfWords::default())).unwrap();
    let decision = gate.decide(&ask(DRUGS), &Wishes::default(), later()).await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Unavailable, Reason::NoExperts));
    assert!(decision.candidates.is_empty());
    assert_eq!(*decision.revision, *gate.revision());
}

#[tokio::test]
async fn a_new_expert_is_routable_from_its_card_alone() {
    let (gate, _) = fitted(options()).await;
    let mut profiles = clinic();
    profiles.push(profile("imaging", "Says which scan to order: mri, ct, ultrasound or plain radiograph.", &[]));
    gate.fit(profiles).await.unwrap();
    let decision = gate.decide(&ask("which scan to order, mri or ct?"), &Wishes::default(), later()).await;
    assert_eq!(chosen(&decision), ["imaging"]);
    assert_eq!(chosen(&gate.decide(&ask(DRUGS), &Wishes::default(), later()).await), ["drug-interactions"]);
}

#[tokio::test]
async fn a_failed_fit_keeps_what_was_known() {
    let (gate, encoder) = fitted(options()).await;
    let revision = gate.revision();
    encoder.break_now();
    let mut profiles = clinic();
    profiles[0].examples.push("a text that no fit has seen".into());
    assert!(matches!(gate.fit(profiles.clone()).await, Err(consilium_gate::Error::Encode(_))));
    assert_eq!(gate.revision(), revision);
    encoder.mend();
    let twice = [profiles.clone(), profiles.clone()].concat();
    assert!(matches!(gate.fit(twice).await, Err(consilium_gate::Error::DuplicateExpert(_))));
    assert_eq!(chosen(&gate.decide(&ask(DRUGS), &Wishes::default(), later()).await), ["drug-interactions"]);
    gate.fit(profiles).await.unwrap();
    assert_ne!(gate.revision(), revision);
}

#[tokio::test]
async fn only_texts_that_are_new_are_encoded() {
    let (gate, encoder) = fitted(options()).await;
    let before = encoder.calls();
    let mut profiles = clinic();
    gate.fit(profiles.clone()).await.unwrap();
    assert_eq!(encoder.calls(), before);
    profiles[1].examples.push("one more".into());
    gate.fit(profiles).await.unwrap();
    assert_eq!(encoder.calls(), before + 1);
}

#[tokio::test]
async fn of_fits_that_overlap_the_last_called_is_installed() {
    let (gate, _) = fitted(options()).await;
    let mut changed = clinic();
    changed.truncate(2);
    let (first, second) = tokio::join!(gate.fit(changed), gate.fit(clinic()));
    first.and(second).unwrap();
    assert_eq!(gate.decide(&ask(DRUGS), &Wishes::default(), later()).await.candidates.len(), 3);
}

#[tokio::test]
async fn attributes_are_checked_against_the_declared_dimensions() {
    let (gate, _) = fitted(options()).await;
    let check = |pairs: &[(&str, &[&str])]| {
        gate.check_attributes(&pairs.iter().map(|(name, values)| ((*name).to_owned(), strings(values))).collect())
    };
    assert_eq!(check(&[("audience", &["patient", "clinician"])]), Ok(()));
    let mistakes =
        check(&[("audience", &["patient", "robot-7"]), ("secret-key", &["x"]), ("audience2", &[])]).unwrap_err();
    assert_eq!(mistakes.len(), 3);
    let text = format!("{mistakes:?}");
    assert!(text.contains("query.attributes.audience[1]") && text.contains("clinician, patient"), "{text}");
    assert!(!text.contains("robot-7") && !text.contains("secret-key"), "{text}");
    assert_eq!(check(&[("audience", &[])]).unwrap_err().len(), 1);
    assert_eq!(check(&[("audiance", &["patient"])]).unwrap_err()[0].path, "query.attributes.audiance");
}

#[tokio::test]
async fn no_debug_shows_what_the_client_wrote() {
    let (gate, _) = fitted(options()).await;
    let mut query = ask_as("patient", "canary-7f3a is aspirin safe");
    query.labels.insert("canary-label".into(), "canary-value".into());
    query.caller.tenant = "canary-tenant".into();
    let decision = gate.decide(&query, &Wishes::default(), later()).await;
    let shown = format!("{query:?} {:?} {decision:?} {gate:?}", query.caller);
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn options_tell_all_their_mistakes_at_once() {
    let yaml = r#"
top_k: 0
min_confidence: 1.5
refuse_above: -1
fallback: nobody
floor: 2
max_error: 1
tiers: {static_loss: -0.1}
bars: {drugs: {min_confidence: 7, max_error: 7}, stranger: {}}
cascade: [{experts: [drugs], escalate_below: 3}, {experts: [drugs, other]}]
dimensions:
  audience: {values: [a, a], min_confidence: -1}
  topic: {values: {b: {examples: [" "]}}}
  "Bad-Name": {values: []}
rules:
  - {name: "", when: "true", require: [drugs]}
  - {name: x, when: "nonsense(", require: [drugs], forbid: [drugs]}
  - {name: x, when: "true", prefer: [unknown]}
  - {name: y, when: "true"}
"#;
    let options: Options = serde_yaml_ng::from_str(yaml).unwrap();
    let mistakes = options.check(&["drugs"]);
    let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    for path in [
        "gate.top_k",
        "gate.min_confidence",
        "gate.refuse_above",
        "gate.floor",
        "gate.max_error",
        "gate.tiers.static_loss",
        "gate.bars.drugs.min_confidence",
        "gate.bars.drugs.max_error",
        "gate.bars.stranger",
        "gate.cascade[0].experts",
        "gate.cascade[0].escalate_below",
        "gate.cascade[1].experts[0]",
        "gate.cascade[1].experts[1]",
        "gate.dimensions.audience.min_confidence",
        "gate.dimensions.topic.values.b.examples[0]",
        "gate.fallback",
        "gate.dimensions.audience.values[1]",
        "gate.dimensions.Bad-Name",
        "gate.dimensions.Bad-Name.values",
        "gate.rules[0].name",
        "gate.rules[1]",
        "gate.rules[1].when",
        "gate.rules[2].name",
        "gate.rules[2].prefer[0]",
        "gate.rules[3]",
    ] {
        assert!(paths.contains(&path), "{path} is missing in {paths:?}");
    }
    assert_eq!(paths.len(), 25, "{paths:?}");
    assert!(matches!(
        Gate::new(options, Arc::new(BagOfWords::default())),
        Err(consilium_gate::Error::Options(mistakes)) if mistakes.len() == 21
    ));
    assert!(Options::default().check(&[]).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn decisions_are_probabilities_determinate_and_blind_to_order(
        texts in prop::collection::vec("[a-z]{1,6}( [a-z]{1,6}){0,6}|Is aspirin safe with [a-z]{3,8}\\?|", 1..4),
        order in Just((0..3usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (gate, encoder) = fitted(options()).await;
            let other = Gate::with_background(options(), encoder, background()).unwrap();
            let profiles = clinic();
            other.fit(order.iter().map(|&at| profiles[at].clone()).collect()).await.unwrap();
            assert_eq!(gate.revision(), other.revision());
            for text in texts {
                let one = gate.decide(&ask(&text), &Wishes::default(), later()).await;
                let two = other.decide(&ask(&text), &Wishes::default(), later()).await;
                assert_eq!(&one.candidates, &two.candidates);
                assert_eq!((one.outcome, one.reason), (two.outcome, two.reason));
                assert!(one.candidates.iter().all(|candidate| (0.0..=1.0).contains(&candidate.probability)));
                assert!(one.candidates.iter().map(|candidate| candidate.probability).sum::<f64>() <= 1.0 + 1e-9);
                assert_eq!(one.selected().count() > 0, matches!(one.outcome, Outcome::Dispatched | Outcome::Fallback));
            }
        });
    }
}
