//! Another router of queries by meaning, on the same core, with the same encoder, examples and queries: semantic-router,
//! asked by `aurelio.py`, which `scripts/setup semantic-router` installs it for.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use consilium_gate::evaluate::Quantiles;
use serde::Deserialize;

use crate::{
    root,
    table::{self, Right},
};

const PYTHON: &str = ".tools/semantic-router/bin/python";
const SCRIPT: &str = "tests/benches/aurelio.py";

/// What the script prints.
#[derive(Deserialize)]
struct Told {
    version: String,
    top1: f64,
    end_to_end: f64,
    latency_ms: Latency,
}

#[derive(Deserialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Lets it learn all examples, then the first `few` of each expert, and asks it the test each time. `data` is where the set
/// lies.
pub(crate) fn beside(data: Option<&Path>, model: &Path, few: usize, first: Duration) {
    let python = root().join(PYTHON);
    let (Some(data), true) = (data, python.exists()) else {
        eprintln!("semantic-router is left out: it needs `scripts/setup semantic-router`, and CLINC150.");
        return;
    };
    for (examples, arguments) in
        [("all".to_owned(), vec![]), (few.to_string(), vec!["--per-class".to_owned(), few.to_string()])]
    {
        eprintln!("semantic-router learns and answers: a minute or two");
        let mut command = Command::new(&python);
        command.arg(root().join(SCRIPT)).args([model, data]).args(arguments).stderr(Stdio::inherit());
        let output = command.output().expect("a program that exists can be started");
        assert!(output.status.success(), "semantic-router failed: {}", output.status);
        let Told { version, top1, end_to_end, latency_ms: Latency { p50, p95, p99 } } =
            serde_json::from_slice(&output.stdout).expect("the script prints JSON");
        let [p50, p95, p99] = [p50, p95, p99].map(|millis| Some(Duration::from_secs_f64(millis / 1e3)));
        let what = format!("semantic-router {version} with the same encoder, {examples} examples of each expert");
        table::decisions(&what, Some(Right { top1, end_to_end }), Quantiles { p50, p95, p99 }, Some(first));
    }
}
