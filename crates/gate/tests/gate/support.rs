//! A small clinic and an encoder for it that needs no model: words hashed into a unit vector.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use consilium_gate::{Decision, Dimension, EncodeError, Encoded, Encoder, Profile, Query, Rule};
use tokio::time::Instant;

/// Wide enough that the words of the tests rarely share a place.
pub(crate) const WIDTH: usize = 256;
/// Bytes of a text that the encoder reads whole.
pub(crate) const LONGEST: usize = 1000;

/// Texts that share words are close. Deterministic; can be told to fail or to hang.
#[derive(Default)]
pub(crate) struct BagOfWords {
    calls: AtomicUsize,
    mood: AtomicU8,
    /// Whether there is a table for the static tier.
    table: AtomicBool,
}

impl BagOfWords {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn with_table() -> Self {
        Self { table: AtomicBool::new(true), ..Self::default() }
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

    async fn encode(&self, text: &str, _deadline: Instant) -> Result<Encoded, EncodeError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.mood.load(Ordering::SeqCst) {
            0 => {}
            1 => return Err(EncodeError::Failed("broken on purpose".into())),
            _ => std::future::pending().await,
        }
        // An empty text has a direction too. Longer texts than this are cut, as a model cuts them.
        Ok(Encoded { truncated: text.len() > LONGEST, ..bag(text, WIDTH, 0.1).into() })
    }

    fn static_vector(&self, text: &str) -> Option<Vec<f32>> {
        self.table.load(Ordering::SeqCst).then(|| bag(text, WIDTH / 2, 0.0))
    }
}

/// Words hashed into a vector.
fn bag(text: &str, width: usize, start: f32) -> Vec<f32> {
    let mut vector = vec![0.0; width];
    vector[0] = start;
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = word
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        vector[(hash % width as u64) as usize] += 1.0;
    }
    vector
}

pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

pub(crate) fn ask(text: &str) -> Query {
    Query { text: text.into(), ..Query::default() }
}

pub(crate) fn ask_as(audience: &str, text: &str) -> Query {
    Query { attributes: BTreeMap::from([("audience".to_owned(), strings(&[audience]))]), ..ask(text) }
}

pub(crate) fn rule(name: &str, when: &str) -> Rule {
    Rule { name: name.into(), when: when.into(), ..Rule::default() }
}

pub(crate) fn chosen(decision: &Decision) -> Vec<&str> {
    decision.selected().map(|candidate| &*candidate.expert).collect()
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

/// Words of four subjects that have nothing in common.
const SUBJECTS: [(&str, [&str; 12]); 4] = [
    (
        "pharmacy",
        [
            "tablet",
            "dose",
            "warfarin",
            "statin",
            "syrup",
            "capsule",
            "overdose",
            "insulin",
            "inhaler",
            "ointment",
            "aspirin",
            "antibiotic",
        ],
    ),
    (
        "imaging",
        [
            "scan",
            "mri",
            "ultrasound",
            "radiograph",
            "contrast",
            "tomography",
            "echo",
            "angiogram",
            "lesion",
            "slice",
            "biopsy",
            "mammogram",
        ],
    ),
    (
        "billing",
        [
            "invoice",
            "refund",
            "copay",
            "insurer",
            "claim",
            "deductible",
            "statement",
            "charge",
            "receipt",
            "payment",
            "coverage",
            "bill",
        ],
    ),
    (
        "scheduling",
        [
            "appointment",
            "reschedule",
            "clinic",
            "slot",
            "calendar",
            "cancel",
            "waitlist",
            "visit",
            "reminder",
            "arrival",
            "booking",
            "parking",
        ],
    ),
];
const FRAMES: [&str; 8] = [
    "hello i am worried because my own {} and {} gave me trouble",
    "guideline evidence regarding {} or {} indication in adults",
    "what about the {} and the {}",
    "please tell me which {} goes with a {}",
    "is there any {} without {}",
    "my {} was not the {} i expected",
    "how long until the {} after the {}",
    "who decides on {} or {}",
];

/// Every sixth of the shipped background texts: enough to calibrate on, and quick to learn.
pub(crate) fn background() -> Vec<String> {
    let lines = include_str!("../../data/background.txt").lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).step_by(6).map(str::to_owned).collect()
}

/// Four experts with clear vocabularies and enough examples to calibrate on: 66 each, every pair of words once.
pub(crate) fn hospital() -> Vec<Profile> {
    let mut frame = 0;
    SUBJECTS
        .iter()
        .map(|(expert, words)| {
            let mut examples = Vec::new();
            for (at, first) in words.iter().enumerate() {
                for second in &words[at + 1..] {
                    frame += 1;
                    examples.push(FRAMES[frame % FRAMES.len()].replacen("{}", first, 1).replacen("{}", second, 1));
                }
            }
            Profile { examples, ..profile(expert, "", &[]) }
        })
        .collect()
}

/// Who asks, with enough examples to be read in a query: 33 each, the words of all subjects among them.
pub(crate) fn audience() -> Dimension {
    let mut dimension = Dimension { min_confidence: 0.6, ..Dimension::given(["clinician", "patient"]) };
    for word in SUBJECTS.iter().flat_map(|(_, words)| words.iter().take(8)).chain(&["therapy"]) {
        assert!(
            dimension.add_example(Some("patient"), format!("hello i am worried because my own {word} gave me trouble"))
        );
        assert!(
            dimension
                .add_example(Some("clinician"), format!("guideline evidence regarding {word} indication in adults"))
        );
    }
    dimension
}
