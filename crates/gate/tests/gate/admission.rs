//! Experts come and go within a moment; the whole fit follows and changes nothing that it would not have said alone.

use std::sync::Arc;

use async_trait::async_trait;
use consilium_gate::{
    Decision, EncodeError, Encoded, Encoder, Error, Gate, Options, Profile, Settings, StaticTier, Tier, Tiers, Wishes,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{BagOfWords, ask, background, chosen, hospital, later};

const BILLING: &str = "is there any refund without receipt";
const OTHERS: [(&str, &str); 3] = [
    ("pharmacy", "is there any statin without insulin"),
    ("imaging", "what about the mri and the lesion"),
    ("scheduling", "who decides on booking or parking"),
];

/// Hangs on texts that say so until it is let go.
struct Slow {
    words: BagOfWords,
    go: Semaphore,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self { words: BagOfWords::default(), go: Semaphore::new(0) })
    }
}

#[async_trait]
impl Encoder for Slow {
    fn digest(&self) -> &str {
        self.words.digest()
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Encoded, EncodeError> {
        if text.contains("slowly") {
            let _permit = self.go.acquire().await;
        }
        self.words.encode(text, deadline).await
    }
}

fn without(expert: &str) -> Vec<Profile> {
    hospital().into_iter().filter(|profile| profile.expert != expert).collect()
}

fn small(options: Options) -> Settings {
    Settings { background: background(), without_shipped: true, ..Settings::new(options) }
}

async fn fitted(profiles: Vec<Profile>, encoder: Arc<dyn Encoder>) -> Gate {
    let options = Options { tiers: Tiers { static_loss: 0.05, cache: 0, ..Tiers::default() }, ..Options::default() };
    let gate = Gate::with_settings(small(options), encoder).unwrap();
    gate.fit(profiles).await.unwrap();
    gate
}

async fn decide(gate: &Gate, text: &str) -> Decision {
    gate.decide(&ask(text), &Wishes::default(), later()).await
}

#[tokio::test]
async fn a_new_expert_is_routed_to_at_once_and_the_others_keep_their_queries() {
    let gate = fitted(without("billing"), Arc::new(BagOfWords::with_table())).await;
    let before = gate.revision();
    assert_ne!(chosen(&decide(&gate, BILLING).await), ["billing"]);
    assert!(gate.admit(hospital()).await.unwrap());
    assert_ne!(gate.revision(), before);
    for (expert, text) in OTHERS.into_iter().chain([("billing", BILLING)]) {
        let decision = decide(&gate, text).await;
        assert_eq!(chosen(&decision), [expert]);
        assert!(!decision.calibrated, "nobody has seen yet how it does");
        assert_eq!(decision.tier, Tier::Encoder, "the static tier has yet to earn its trust");
    }
    let foreign = decide(&gate, "who won the football world cup in 1998").await;
    assert_eq!(chosen(&foreign), [""; 0]);
}

#[tokio::test]
async fn the_whole_fit_says_what_it_would_have_said_without_the_admission() {
    let gate = fitted(without("billing"), Arc::new(BagOfWords::with_table())).await;
    gate.admit(hospital()).await.unwrap();
    let admitted = gate.revision();
    gate.fit(hospital()).await.unwrap();
    let direct = fitted(hospital(), Arc::new(BagOfWords::with_table())).await;
    assert_eq!(gate.revision(), direct.revision());
    assert_ne!(gate.revision(), admitted);
    for (_, text) in OTHERS.into_iter().chain([("billing", BILLING)]) {
        let (one, other) = (decide(&gate, text).await, decide(&direct, text).await);
        assert_eq!((one.candidates, one.calibrated, one.tier), (other.candidates, other.calibrated, other.tier));
    }
}

#[tokio::test]
async fn the_same_way_leads_to_the_same_revision_and_another_way_to_another() {
    let mut gates = Vec::new();
    for base in ["billing", "billing", "imaging"] {
        let gate = fitted(without(base), Arc::new(BagOfWords::default())).await;
        assert!(gate.admit(hospital()).await.unwrap());
        gates.push(gate);
    }
    assert_eq!(gates[0].revision(), gates[1].revision());
    assert_ne!(gates[0].revision(), gates[2].revision());
    assert_eq!(decide(&gates[0], BILLING).await.candidates, decide(&gates[1], BILLING).await.candidates);
}

#[tokio::test]
async fn a_card_alone_admits_and_who_leaves_is_gone() {
    let gate = fitted(without("billing"), Arc::new(BagOfWords::default())).await;
    let mut profiles = hospital();
    let billing = profiles.iter_mut().find(|profile| profile.expert == "billing").unwrap();
    billing.examples.clear();
    billing.summary = "Explains an invoice, a refund, a receipt, a charge or a payment.".into();
    assert!(gate.admit(profiles).await.unwrap());
    assert_eq!(chosen(&decide(&gate, "the charge on my invoice and a refund of the payment").await), ["billing"]);

    assert!(gate.admit(without("pharmacy")).await.unwrap());
    assert_eq!(gate.experts(), 3);
    let decision = decide(&gate, OTHERS[0].1).await;
    assert!(decision.candidates.iter().all(|candidate| &*candidate.expert != "pharmacy"));
    assert_eq!(chosen(&decide(&gate, OTHERS[1].1).await), [OTHERS[1].0]);
}

#[tokio::test]
async fn examples_that_change_are_learned_anew() {
    let gate = fitted(hospital(), Arc::new(BagOfWords::default())).await;
    let mut profiles = hospital();
    let at = |expert: &str| hospital().iter().position(|profile| profile.expert == expert).unwrap();
    let moved = std::mem::take(&mut profiles[at("billing")].examples);
    let kept = std::mem::replace(&mut profiles[at("scheduling")].examples, moved);
    profiles[at("billing")].examples = kept;
    assert!(gate.admit(profiles).await.unwrap());
    assert_eq!(chosen(&decide(&gate, BILLING).await), ["scheduling"]);
    assert_eq!(chosen(&decide(&gate, OTHERS[2].1).await), ["billing"]);
    assert_eq!(chosen(&decide(&gate, OTHERS[0].1).await), [OTHERS[0].0]);
}

#[tokio::test]
async fn a_new_version_with_the_same_words_changes_no_probability() {
    let gate = fitted(hospital(), Arc::new(BagOfWords::with_table())).await;
    let before = decide(&gate, BILLING).await;
    let mut profiles = hospital();
    for profile in &mut profiles {
        profile.version = "2".into();
    }
    assert!(gate.admit(profiles).await.unwrap());
    let after = decide(&gate, BILLING).await;
    assert_eq!((before.tier, before.calibrated), (after.tier, after.calibrated));
    assert_eq!((&*before.candidates[0].version, &*after.candidates[0].version), ("1", "2"));
    assert_eq!(before.candidates[0].probability.to_bits(), after.candidates[0].probability.to_bits());
}

#[tokio::test]
async fn of_many_examples_the_first_are_enough_to_begin_with() {
    let encoder = Arc::new(BagOfWords::default());
    let gate = fitted(without("billing"), encoder.clone()).await;
    let calls = encoder.calls();
    assert!(gate.admit(hospital()).await.unwrap());
    assert_eq!(encoder.calls(), calls + 41, "forty of 66 and the card");
    gate.fit(hospital()).await.unwrap();
    assert_eq!(encoder.calls(), calls + 67, "nothing twice");
}

#[tokio::test]
async fn too_much_that_is_new_is_left_to_a_whole_fit() {
    let gate = Gate::with_settings(small(Options::default()), Arc::new(BagOfWords::default())).unwrap();
    assert!(!gate.admit(hospital()).await.unwrap(), "nobody is known");
    gate.fit(hospital()[..1].to_vec()).await.unwrap();
    let revision = gate.revision();
    assert!(!gate.admit(hospital()).await.unwrap(), "three of four are new");
    assert_eq!((gate.revision(), gate.experts()), (revision, 1));
}

#[tokio::test]
async fn an_admission_that_fails_changes_nothing() {
    let encoder = Arc::new(BagOfWords::default());
    let gate = fitted(without("billing"), encoder.clone()).await;
    let revision = gate.revision();
    encoder.break_now();
    assert!(matches!(gate.admit(hospital()).await, Err(Error::Encode(_))));
    let mut twins = without("billing");
    twins.push(twins[0].clone());
    assert!(matches!(gate.admit(twins).await, Err(Error::DuplicateExpert(_))));
    encoder.mend();
    assert_eq!(gate.revision(), revision);
    assert_eq!(chosen(&decide(&gate, OTHERS[0].1).await), [OTHERS[0].0]);
}

#[tokio::test]
async fn who_is_admitted_during_a_whole_fit_waits_for_none_of_it_and_stays_after_it() {
    let encoder = Slow::new();
    let gate = Arc::new(fitted(without("billing"), encoder.clone()).await);
    let off = Tiers { static_tier: StaticTier::Off, ..Tiers::default() };
    let mut settings = small(Options { tiers: off, fallback: Some("pharmacy".into()), ..Options::default() });
    settings.background.push("the snail crosses the road slowly".into());
    let (configured, ()) = tokio::join!(gate.configure(settings.clone()), async {
        assert!(gate.admit(hospital()).await.unwrap());
        assert_eq!(chosen(&decide(&gate, BILLING).await), ["billing"]);
        assert_eq!(gate.options().fallback, None, "the settings are not in force yet");
        encoder.go.add_permits(1);
    });
    configured.unwrap();
    assert_eq!(gate.options().fallback.as_deref(), Some("pharmacy"));
    for (expert, text) in OTHERS.into_iter().chain([("billing", BILLING)]) {
        assert_eq!(chosen(&decide(&gate, text).await), [expert]);
    }
    gate.fit(hospital()).await.unwrap();
    let direct = Gate::with_settings(settings, Arc::new(BagOfWords::default())).unwrap();
    direct.fit(hospital()).await.unwrap();
    assert_eq!(gate.revision(), direct.revision());
}
