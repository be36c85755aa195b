//! What is asked: CLINC150 where it lies beside the project, otherwise queries that are made up.

use std::{fs, path::PathBuf};

use consilium_gate::{
    Labelled,
    evaluate::{self, Data},
};

use crate::root;

const CLINC: &str = "../shared/data/clinc150";
/// Of the made-up set: as many as CLINC150 has.
const EXPERTS: usize = 150;
const EXAMPLES: usize = 100;

/// Labelled queries to learn from, to calibrate on and to ask.
pub(crate) struct Queries {
    pub(crate) name: &'static str,
    pub(crate) data: Data,
    /// Where they were read; `None` for those that are made up.
    pub(crate) at: Option<PathBuf>,
}

/// CLINC150, or as many made-up queries.
pub(crate) fn queries() -> Queries {
    let at = root().join(CLINC);
    let rows = |file: &str| {
        let text = fs::read_to_string(at.join(file)).ok()?;
        Some(evaluate::parse(&text).expect("the set is well-formed"))
    };
    if let (Some(train), Some(validation), Some(test)) = (rows("train.jsonl"), rows("val.jsonl"), rows("test.jsonl")) {
        return Queries { name: "CLINC150", data: Data { train, validation, test }, at: Some(at) };
    }
    let set = |from: usize, to: usize| {
        let of = |expert: usize| {
            let row = move |at| Labelled {
                text: made_up(expert, at),
                expert: Some(format!("expert-{expert}")),
                ..Labelled::default()
            };
            (from..to).map(row)
        };
        (0..EXPERTS).flat_map(of).collect::<Vec<_>>()
    };
    let data = Data { train: set(0, EXAMPLES), validation: set(EXAMPLES, EXAMPLES + 20), test: set(200, 213) };
    Queries { name: "made-up queries", data, at: None }
}

/// A query in words that this expert has for itself, between those that all have.
pub(crate) fn made_up(expert: usize, at: usize) -> String {
    let own = |salt: usize| syllables(expert * 31 + (at * 7 + salt) % 5);
    let common = syllables(1_000_000 + at % 97);
    format!("how do i {} the {} of {} with {common}", own(0), own(1), own(2))
}

/// A word for a number.
fn syllables(mut number: usize) -> String {
    const PARTS: [&str; 16] =
        ["ba", "ko", "ri", "tu", "me", "sa", "lo", "ni", "pe", "du", "fa", "go", "hi", "ju", "va", "ze"];
    let mut word = String::new();
    for _ in 0..4 {
        word.push_str(PARTS[number % PARTS.len()]);
        number /= PARTS.len();
    }
    word
}
