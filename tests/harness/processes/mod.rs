//! A mesh of separate processes: real binaries, a real etcd of one member or three, a steady load from outside and a
//! ledger that knows what became of every request. For what no mesh in one process can show: killing.
//!
//! Waiting is for a condition, and the conditions are what a user could see too: the router's `WatchExperts`, the keys in
//! etcd, `/readyz`.

mod authority;
mod chooser;
mod clinic;
mod collector;
mod etcd;
mod expert;
mod files;
mod http;
mod jaeger;
mod lab;
mod ledger;
mod load;
pub mod machine;
mod outpost;
mod practice;
mod process;
mod prometheus;
mod proxy;
mod report;
mod router;
mod secured;
mod start;
mod watched;

pub use authority::{Authority, Certificate, Secret, caller};
pub use chooser::Chooser;
pub use clinic::{Clinic, EXPERT, MESH, Options};
pub use collector::Collector;
pub use etcd::{Announced, Etcd, tool};
pub use expert::Expert;
pub use files::{NEWCOMERS, QUESTIONS};
pub use jaeger::{Jaeger, Kind, Span, Trace};
pub use lab::Lab;
pub use ledger::{Attempt, Effect, Event, Id, Ledger, Outcome, Tally};
pub use load::Load;
pub use outpost::Outpost;
pub use practice::Practice;
pub use process::{Listening, Process, Signal, built, target};
pub use prometheus::{Exemplar, Prometheus, Rule, Sample, Watch};
pub use proxy::Proxy;
pub use report::{Report, Row};
pub use router::Router;
pub use secured::Secured;
pub use start::Manner;
pub use watched::{Watched, write_rules};

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

/// How long a test waits for something that must come before it calls it lost.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at what does not tell by itself that it has changed: a port, a key, a process.
const GLANCE: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something. Returns what it found and how long that took.
///
/// # Panics
/// When it has not come after [`PATIENCE`].
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let since = Instant::now();
    loop {
        if let Some(found) = look().await {
            return (found, since.elapsed());
        }
        assert!(since.elapsed() < PATIENCE, "it did not come: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// One of the programs that watch a mesh from outside. They take minutes to build, so not everybody has them.
///
/// # Panics
/// When it is not there: a test that looks through it cannot be left out.
pub fn observability_tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin").join(name);
    assert!(path.exists(), "{} is missing: run `make setup-observability` first", path.display());
    path
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound port has an address").port()
}
