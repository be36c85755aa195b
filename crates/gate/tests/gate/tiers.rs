//! Which tier answers: the cache, the static tier where it is sure and nothing speaks against it, else the encoder.

use std::collections::BTreeMap;
use std::sync::Arc;

use consilium_gate::{Gate, Options, Outcome, Reason, Rule, StaticTier, Tier, Tiers, Wishes};

use crate::support::{
    BagOfWords, LONGEST, ask, ask_as, audience, background, chosen, clinic, hospital, later, rule, strings,
};

const CLEAR: &str = "is there any statin without insulin";

fn tiers(tiers: Tiers) -> Options {
    Options { tiers, ..Options::default() }
}

/// Loose enough for the few hundred texts that such a small mesh has to show it on.
fn auto() -> Tiers {
    Tiers { static_loss: 0.05, cache: 0, ..Tiers::default() }
}

async fn fitted(options: Options, encoder: BagOfWords) -> (Gate, Arc<BagOfWords>) {
    let encoder = Arc::new(encoder);
    let gate = Gate::with_background(options, encoder.clone(), background()).unwrap();
    gate.fit(hospital()).await.unwrap();
    (gate, encoder)
}

#[tokio::test]
async fn a_text_that_comes_again_is_not_read_again() {
    let (gate, encoder) = fitted(Options::default(), BagOfWords::default()).await;
    let first = gate.decide(&ask(CLEAR), &Wishes::default(), later()).await;
    let calls = encoder.calls();
    let again = gate.decide(&ask(CLEAR), &Wishes::default(), later()).await;
    assert_eq!((first.tier, again.tier, encoder.calls()), (Tier::Encoder, Tier::Cache, calls));
    assert_eq!((first.candidates, first.calibrated), (again.candidates, again.calibrated));
    assert!(again.vector.is_some(), "the encoder's vector is remembered too");
    gate.decide(&ask("is there any statin without  insulin"), &Wishes::default(), later()).await;
    assert_eq!(encoder.calls(), calls + 1, "exactly the same text only");

    // Readings are remembered, not decisions: what the next caller wishes still counts.
    let wishes = Wishes { experts: strings(&["billing"]), ..Wishes::default() };
    let other = gate.decide(&ask(CLEAR), &wishes, later()).await;
    assert_eq!((other.tier, other.reason), (Tier::Cache, Reason::Excluded));
}

#[tokio::test]
async fn nothing_is_remembered_across_fits_nor_where_it_is_switched_off() {
    let (gate, encoder) = fitted(Options::default(), BagOfWords::default()).await;
    gate.decide(&ask(CLEAR), &Wishes::default(), later()).await;
    gate.fit(hospital()[..3].to_vec()).await.unwrap();
    let calls = encoder.calls();
    assert_eq!(gate.decide(&ask(CLEAR), &Wishes::default(), later()).await.tier, Tier::Encoder);
    assert_eq!(encoder.calls(), calls + 1);

    let (gate, _) = fitted(tiers(Tiers { cache: 0, ..Tiers::default() }), BagOfWords::default()).await;
    for _ in 0..2 {
        assert_eq!(gate.decide(&ask(CLEAR), &Wishes::default(), later()).await.tier, Tier::Encoder);
    }
}

#[tokio::test]
async fn a_clear_query_needs_no_forward_pass() {
    let (gate, encoder) = fitted(tiers(auto()), BagOfWords::with_table()).await;
    let calls = encoder.calls();
    let decision = gate.decide(&ask(CLEAR), &Wishes::default(), later()).await;
    assert_eq!((decision.tier, decision.outcome), (Tier::Static, Outcome::Dispatched));
    assert_eq!((chosen(&decision), encoder.calls()), (vec!["pharmacy"], calls));
    assert!(decision.calibrated && decision.vector.is_none() && !decision.truncated);

    for unclear in ["claim", "the and the"] {
        assert_eq!(gate.decide(&ask(unclear), &Wishes::default(), later()).await.tier, Tier::Encoder, "{unclear}");
    }
}

#[tokio::test]
async fn the_static_tier_is_off_where_it_cannot_be_shown_to_be_safe() {
    let off = Tiers { static_tier: StaticTier::Off, ..auto() };
    for (options, encoder) in [(tiers(off), BagOfWords::with_table()), (tiers(auto()), BagOfWords::default())] {
        let (gate, _) = fitted(options, encoder).await;
        assert_eq!(gate.decide(&ask(CLEAR), &Wishes::default(), later()).await.tier, Tier::Encoder);
    }
    // Fifteen examples show nothing.
    let gate = Gate::new(tiers(auto()), Arc::new(BagOfWords::with_table())).unwrap();
    gate.fit(clinic()).await.unwrap();
    let example = ask("is aspirin safe with heparin");
    assert_eq!(gate.decide(&example, &Wishes::default(), later()).await.tier, Tier::Encoder);
}

#[tokio::test]
async fn what_a_caller_or_a_rule_makes_closer_goes_to_the_encoder() {
    let (gate, _) = fitted(tiers(auto()), BagOfWords::with_table()).await;
    let strict = Wishes { min_confidence: Some(0.999_999), ..Wishes::default() };
    assert_eq!(gate.decide(&ask(CLEAR), &strict, later()).await.tier, Tier::Encoder);

    // With the floor at nothing there is always a second one to choose.
    let (gate, _) = fitted(Options { floor: 0.0, ..tiers(auto()) }, BagOfWords::with_table()).await;
    let two = Wishes { top_k: Some(2), ..Wishes::default() };
    assert_eq!(gate.decide(&ask(CLEAR), &two, later()).await.tier, Tier::Encoder);
    assert_eq!(gate.decide(&ask(CLEAR), &Wishes::default(), later()).await.tier, Tier::Static);
}

#[tokio::test]
async fn what_one_query_may_take_from_the_cache_another_may_not() {
    let (gate, encoder) = fitted(tiers(Tiers { cache: 100, ..auto() }), BagOfWords::with_table()).await;
    let calls = encoder.calls();
    let tier = async |wishes: Wishes| gate.decide(&ask(CLEAR), &wishes, later()).await.tier;
    assert_eq!(tier(Wishes::default()).await, Tier::Static);
    assert_eq!(tier(Wishes::default()).await, Tier::Cache);
    let strict = Wishes { min_confidence: Some(0.999_999), ..Wishes::default() };
    assert_eq!((tier(strict.clone()).await, encoder.calls()), (Tier::Encoder, calls + 1));
    assert_eq!((tier(strict).await, encoder.calls()), (Tier::Cache, calls + 1));
}

#[tokio::test]
async fn a_dimension_that_has_to_be_read_must_be_clear_as_well() {
    let options = Options { dimensions: BTreeMap::from([("audience".to_owned(), audience())]), ..tiers(auto()) };
    let (gate, _) = fitted(options, BagOfWords::with_table()).await;
    let given = gate.decide(&ask_as("patient", CLEAR), &Wishes::default(), later()).await;
    assert_eq!(given.tier, Tier::Static, "what is given is not read");
    let open = gate.decide(&ask(CLEAR), &Wishes::default(), later()).await;
    assert_eq!(open.dimensions.len(), 1);
    assert!(open.tier == Tier::Encoder || open.dimensions[0].values.len() == 2);
}

#[tokio::test]
async fn a_long_text_is_read_by_the_encoder_and_said_to_be_cut() {
    let (gate, _) = fitted(tiers(Tiers { cache: 10, ..auto() }), BagOfWords::with_table()).await;
    let long = format!("{CLEAR} {}", "tablet insulin ".repeat(200));
    assert!(long.len() > LONGEST);
    for tier in [Tier::Encoder, Tier::Cache] {
        let decision = gate.decide(&ask(&long), &Wishes::default(), later()).await;
        assert_eq!((decision.tier, decision.truncated), (tier, true));
    }
}

#[tokio::test]
async fn a_query_of_two_subjects_goes_to_both_experts() {
    let options = Options { top_k: 2, multi_intent: true, ..Options::default() };
    let (gate, _) = fitted(options.clone(), BagOfWords::default()).await;
    let text = "is there any statin without insulin? please reschedule the appointment on the calendar";
    let both = gate.decide(&ask(text), &Wishes::default(), later()).await;
    let mut names = chosen(&both);
    names.sort_unstable();
    assert_eq!((both.outcome, names), (Outcome::Dispatched, vec!["pharmacy", "scheduling"]));
    for (expert, part) in [("pharmacy", "part 1 of 2: "), ("scheduling", "part 2 of 2: ")] {
        let candidate = both.selected().find(|candidate| &*candidate.expert == expert).unwrap();
        assert!(candidate.reasons[0].starts_with(part), "{:?}", candidate.reasons);
    }
    let shown = format!("{both:?}");
    assert!(!shown.contains("reschedule the appointment"), "a reason never quotes the query");

    let one = Wishes { top_k: Some(1), ..Wishes::default() };
    assert!(gate.decide(&ask(text), &one, later()).await.selected().count() <= 1);
    let rules = vec![Rule { forbid: strings(&["scheduling"]), ..rule("closed", "true") }];
    let (closed, _) = fitted(Options { rules, ..options }, BagOfWords::default()).await;
    assert!(!chosen(&closed.decide(&ask(text), &Wishes::default(), later()).await).contains(&"scheduling"));
}

#[tokio::test]
async fn a_stated_error_sets_the_bar() {
    let loose = Options { max_error: Some(0.5), min_confidence: 0.0, ..Options::default() };
    let strict = Options { max_error: Some(0.02), min_confidence: 0.0, ..Options::default() };
    let mut bars = Vec::new();
    for options in [loose, strict] {
        let (gate, _) = fitted(options, BagOfWords::default()).await;
        let decision = gate.decide(&ask(CLEAR), &Wishes::default(), later()).await;
        assert!(decision.calibrated);
        bars.push(decision.bar.unwrap());
    }
    assert!(bars[0] <= bars[1] && bars[1] < 1.0, "{bars:?}");
    let (gate, _) = fitted(Options::default(), BagOfWords::default()).await;
    assert_eq!(gate.decide(&ask(CLEAR), &Wishes::default(), later()).await.bar, Some(0.5));
}
