//! A client that asks the same question over and over, until it is told to stop: the conformance drivers of our libraries.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    path::Path,
    process::Stdio,
};

use consilium_tests::processes::{PATIENCE, QUESTIONS};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::cases::{CLIENTS, Client};

/// Two libraries are enough: one on gRPC's core in C, and one in a language that has gRPC all of its own.
const ASKING: [&str; 2] = ["python", "go"];

/// Those that are worth trying: one that `make setup` said cannot be had is not, one that is merely missing fails.
pub(crate) fn clients() -> impl Iterator<Item = &'static Client> {
    let named = |name| CLIENTS.iter().find(|client| client.name == name).expect("it is a client");
    ASKING.into_iter().map(named).filter(|client| !client.cannot_be_had())
}

/// What a driver says at its end.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) asked: usize,
    pub(crate) failed: usize,
    /// By code.
    pub(crate) errors: BTreeMap<String, usize>,
}

/// A running driver; killed when it is dropped.
pub(crate) struct Asking(Child);

impl Asking {
    /// One client object, and with it one channel, for all calls.
    pub(crate) fn start(client: &Client, target: &str, logs: &Path) -> Self {
        fs::create_dir_all(logs).expect("a directory for logs can be made");
        let cases = logs.join("question.json");
        // A generous deadline: a busy machine is not what these trials are about.
        let case = json!([{"name": "again", "call": "ask", "deadline_s": 10.0,
                           "request": {"query": {"text": QUESTIONS[0].0}}}]);
        fs::write(&cases, case.to_string()).expect("a file can be written");
        let log = OpenOptions::new().create(true).append(true).open(logs.join(format!("{}.log", client.name)));
        let mut command = Command::from(client.driver().expect("a library has a driver"));
        command.args(["--target", target]).arg("--cases").arg(cases).arg("--keep-asking");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        Self(command.stderr(log.expect("a log can be written")).spawn().expect("a driver starts"))
    }

    /// Tells it to stop, and returns what it has to say.
    pub(crate) async fn end(mut self) -> Told {
        drop(self.0.stdin.take());
        let output =
            timeout(PATIENCE, self.0.wait_with_output()).await.expect("a driver ends").expect("it was started");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "a driver ended with {}: {said}", output.status);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}
