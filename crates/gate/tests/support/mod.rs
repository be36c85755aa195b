//! A small clinic and an encoder for it that needs no model: words hashed into a unit vector.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use consilium_gate::{EncodeError, Encoder, Profile};
use tokio::time::Instant;

/// Wide enough that the words of the tests rarely share a place.
pub(crate) const WIDTH: usize = 256;

/// Texts that share words are close. Deterministic; can be told to fail or to hang.
#[derive(Default)]
pub(crate) struct BagOfWords {
    calls: AtomicUsize,
    mood: AtomicU8,
}

impl BagOfWords {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn break_now(&self) {
        self.mood.store(1, Ordering::SeqCst);
    }

    pub(crate) fn hang_now(&self) {
        self.mood.store(2, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.mood.store(0, Ordering::SeqCst);
    }
}

#[async_trait]
impl Encoder for BagOfWords {
    fn digest(&self) -> &'static str {
        "bag-of-words"
    }

    async fn encode(&self, text: &str, _deadline: Instant) -> Result<Vec<f32>, EncodeError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.mood.load(Ordering::SeqCst) {
            0 => {}
            1 => return Err(EncodeError::Failed("broken on purpose".into())),
            _ => std::future::pending().await,
        }
        let mut vector = vec![0.0; WIDTH];
        vector[0] = 0.1; // an empty text has a direction too
        for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let hash = word
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            vector[(hash % WIDTH as u64) as usize] += 1.0;
        }
        Ok(vector)
    }
}

pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

pub(crate) fn profile(expert: &str, summary: &str, examples: &[&str]) -> Profile {
    Profile {
        expert: expert.into(),
        version: "1".into(),
        summary: summary.into(),
        examples: strings(examples),
        ..Profile::default()
    }
}

pub(crate) fn clinic() -> Vec<Profile> {
    let mut diagnostics = profile(
        "diagnostics",
        "Suggests a diagnosis from clinical findings.",
        &[
            "painless jaundice and weight loss",
            "fever and neck stiffness, which diagnosis",
            "chest pressure with sweating, differential diagnosis",
            "night sweats and swollen gland, which findings",
            "sudden loss of vision, possible diagnosis",
        ],
    );
    diagnostics.serves.insert("audience".into(), strings(&["clinician"]));
    vec![
        profile(
            "drug-interactions",
            "Checks medicines against each other.",
            &[
                "is aspirin safe with heparin",
                "warfarin and ibuprofen tablets together",
                "can my patient take tramadol with sertraline tablets",
                "does grapefruit interact with statin tablets",
                "is warfarin safe with antibiotics",
            ],
        ),
        diagnostics,
        profile(
            "general",
            "Answers general questions about health and sleep.",
            &[
                "how many hours of sleep do i need",
                "how do i wash my hands",
                "how much water should an adult drink",
                "walking per week keeps an adult fit",
                "how many steps does an adult need",
            ],
        ),
    ]
}
