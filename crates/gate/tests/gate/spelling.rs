//! Typing errors: a query is decided as if it had been typed right, and everybody else gets it as it was.

use std::sync::Arc;

use async_trait::async_trait;
use consilium_gate::{
    Decision, EncodeError, Encoded, Encoder, Gate, Labelled, Options, Rule, Settings, Tier, Tiers, Wishes,
};
use tokio::time::Instant;

use crate::support::{BagOfWords, ask, background, chosen, hospital, later, rule, strings};

const CLEAN: &str = "is there any statin without insulin";
const TYPED: &str = "is there any statni without insulni";

/// An encoder that can say which words there are: one more than the experts' texts have.
struct Literate(BagOfWords);

#[async_trait]
impl Encoder for Literate {
    fn digest(&self) -> &str {
        self.0.digest()
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Encoded, EncodeError> {
        self.0.encode(text, deadline).await
    }

    fn static_vector(&self, text: &str) -> Option<Vec<f32>> {
        self.0.static_vector(text)
    }

    fn knows(&self, word: &str) -> bool {
        word == "stain"
    }
}

async fn fitted(options: Options, encoder: impl Encoder + 'static) -> Gate {
    let gate = Gate::with_background(options, Arc::new(encoder), background()).unwrap();
    gate.fit(hospital()).await.unwrap();
    gate
}

async fn decided(gate: &Gate, text: &str) -> Decision {
    gate.decide(&ask(text), &Wishes::default(), later()).await
}

#[tokio::test]
async fn a_query_with_typing_errors_is_decided_as_if_there_were_none() {
    let gate = fitted(Options::default(), Literate(BagOfWords::default())).await;
    let (clean, typed) = (decided(&gate, CLEAN).await, decided(&gate, TYPED).await);
    assert_eq!((typed.tier, chosen(&typed)), (Tier::Encoder, vec!["pharmacy"]));
    assert_eq!(clean.candidates, typed.candidates);
    // Remembered under what was typed.
    let again = decided(&gate, TYPED).await;
    assert_eq!((again.tier, &again.candidates), (Tier::Cache, &typed.candidates));
    // Its vector is of words that nobody typed.
    assert!(clean.vector.is_some() && typed.vector.is_none() && again.vector.is_none());

    let known = "is there any stain without insulin";
    let other = decided(&gate, known).await;
    assert!(other.candidates != clean.candidates && other.vector.is_some(), "a word of the encoder's is no error");
}

#[tokio::test]
async fn the_static_tier_reads_what_was_meant() {
    let options = Options { tiers: Tiers { static_loss: 0.05, ..Tiers::default() }, ..Options::default() };
    let gate = fitted(options, Literate(BagOfWords::with_table())).await;
    let (clean, typed) = (decided(&gate, CLEAN).await, decided(&gate, TYPED).await);
    assert_eq!((clean.tier, typed.tier), (Tier::Static, Tier::Static));
    assert_eq!(clean.candidates, typed.candidates);
}

#[tokio::test]
async fn it_can_be_switched_off_and_needs_an_encoder_that_knows_words() {
    let on = fitted(Options::default(), Literate(BagOfWords::default())).await;
    let off = fitted(Options { spelling: false, ..Options::default() }, Literate(BagOfWords::default())).await;
    assert_ne!(on.revision(), off.revision());
    for gate in [off, fitted(Options::default(), BagOfWords::default()).await] {
        let (clean, typed) = (decided(&gate, CLEAN).await, decided(&gate, TYPED).await);
        assert_ne!(clean.candidates, typed.candidates);
        assert!(typed.vector.is_some());
    }
}

#[tokio::test]
async fn rules_read_what_was_typed() {
    let rules = vec![
        Rule { require: strings(&["billing"]), ..rule("meant", "query.text.contains('statin')") },
        Rule { require: strings(&["imaging"]), ..rule("typed", "query.text.contains('statni')") },
    ];
    let gate = fitted(Options { rules, ..Options::default() }, Literate(BagOfWords::default())).await;
    let decision = decided(&gate, TYPED).await;
    assert_eq!((chosen(&decision), &*decision.rules_matched), (vec!["imaging"], &*strings(&["typed"])));
}

#[tokio::test]
async fn what_is_calibrated_on_is_read_as_a_query_is() {
    let revision = async |text: &str| {
        let row = |expert: Option<&str>| Labelled {
            text: text.to_owned(),
            expert: expert.map(str::to_owned),
            ..Labelled::default()
        };
        let settings = Settings {
            background: background(),
            without_shipped: true,
            validation: vec![row(Some("pharmacy")), row(None)],
            ..Settings::new(Options::default())
        };
        let gate = Gate::with_settings(settings, Arc::new(Literate(BagOfWords::default()))).unwrap();
        gate.fit(hospital()).await.unwrap();
        (gate.revision(), decided(&gate, text).await.candidates)
    };
    assert_eq!(revision(TYPED).await, revision(CLEAN).await);
}
