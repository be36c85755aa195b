//! What a decision of the gate costs, in process and on one core, and how often it is right: by the encoder, with the static
//! tier before it, and where nothing has to be read because a rule decides or the text is known; what it costs to learn; and
//! beside all that, another router by meaning where it is installed. Everything included from query to decision. Figures go
//! to standard output as Markdown.
//!
//! CLINC150 is measured where it lies beside the project; otherwise texts that are made up, of the same number.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on says so by a panic")]
#![expect(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

mod peer;
mod queries;
mod router;
mod table;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use consilium_engine::{EngineOptions, Store, StoreOptions};
use consilium_gate::{
    Encoder, Gate, Options, Profile, Query, StaticTier, Tiers, Wishes,
    evaluate::{self, Data, Observation},
};
use consilium_tests::{Words, processes::machine};
use tokio::{runtime::Builder, time::Instant};

use self::{
    queries::{Queries, made_up, queries},
    table::Right,
};

const COMMAND: &str = "make bench BENCH=gate";
const MODEL: &str = "models/build/minilm-l6-int8";
/// What the process says to itself when it has a core of its own.
const PINNED: &str = "--pinned";
/// Examples of each expert that a new mesh begins with.
const FEW: usize = 10;
/// Decisions on texts that are known.
const ASKED: usize = 2_000;
const EXPERTS: usize = 150;
/// Of a mesh larger than any we know.
const MANY: usize = 2_000;

fn main() {
    if !std::env::args().any(|argument| argument == PINNED) && pinned() {
        return;
    }
    Builder::new_current_thread().enable_all().build().expect("a runtime starts").block_on(measure());
}

/// The same program again on the first core alone; false where there is no `taskset` to do that.
fn pinned() -> bool {
    let program = std::env::current_exe().expect("a program knows where it is");
    match Command::new("taskset").args(["-c", "0"]).arg(program).arg(PINNED).status() {
        Ok(status) => {
            assert!(status.success(), "the measurement failed: {status}");
            true
        }
        Err(_) => false,
    }
}

async fn measure() {
    table::head(&["what", "top-1", "end-to-end", "p50", "p95", "p99", "p50 / first row"]);
    let Queries { name, mut data, at } = queries();
    let store = store();
    let options = EngineOptions { batch_tokens: 1, ..EngineOptions::default() };
    let engine = store.load(&root().join(MODEL), options).await.expect("the encoder is built: `make setup`");
    let encoder: Arc<dyn Encoder> = Arc::new(engine);
    let first = on_an_encoder(name, &data, &encoder).await;
    data.keep_first(FEW);
    of_few(name, &data, encoder, first).await;
    store.close().await;
    peer::beside(at.as_deref(), &root().join(MODEL), FEW, first);
    for experts in [EXPERTS, MANY] {
        without_reading(experts, first).await;
    }

    println!();
    table::head(&["in a router, nothing read, means", "gate", "plan", "both"]);
    for experts in [EXPERTS, MANY] {
        router::measure(experts).await;
    }
    println!("\n{}", machine::provenance(COMMAND));
}

/// Learns the set, then asks it by the encoder, and with the static tier before it. Returns the encoder's median.
async fn on_an_encoder(name: &str, data: &Data, encoder: &Arc<dyn Encoder>) -> Duration {
    let mut settings = data.settings(Options::default()).expect("the set can be learned");
    settings.options.tiers.static_tier = StaticTier::Off;
    let gate = Gate::with_settings(settings.clone(), Arc::clone(encoder)).expect("the options are right");
    gate.fit(data.profiles()).await.expect("the set is encoded and learned");
    // Everything is encoded by now, so that this is the learning alone.
    let began = Instant::now();
    gate.fit(data.profiles()).await.expect("the set is learned again");
    let fit = began.elapsed();

    let asked = evaluate::observe(&gate, &data.test, |_| {}).await;
    let what = format!("decision by the encoder, {name}");
    let first = table::decisions(&what, Right::of(&asked), table::took(&asked), None);
    settings.options.tiers.static_tier = StaticTier::Auto;
    gate.configure(settings).await.expect("the tier is learned");
    let asked = evaluate::observe(&gate, &data.test, |_| {}).await;
    let what = format!("decision, static tier before the encoder, {name}");
    table::decisions(&what, Right::of(&asked), table::took(&asked), Some(first));
    let (fast, slow): (Vec<Observation>, Vec<Observation>) = asked.into_iter().partition(|it| it.tier == "static");
    let share = 100.0 * fast.len() as f64 / (fast.len() + slow.len()) as f64;
    table::decisions(&format!("of these {share:.0} %, by the static tier"), None, table::took(&fast), Some(first));
    table::decisions("of these the others, by the encoder", None, table::took(&slow), Some(first));
    let what = format!("learning {} queries for {} experts, encoded before", data.train.len(), data.profiles().len());
    table::single(&what, fit);
    first
}

/// The same with few examples of each expert.
async fn of_few(name: &str, data: &Data, encoder: Arc<dyn Encoder>, first: Duration) {
    let settings = data.settings(Options::default()).expect("the set can be learned");
    let gate = Gate::with_settings(settings, encoder).expect("the options are right");
    gate.fit(data.profiles()).await.expect("the set is encoded and learned");
    let asked = evaluate::observe(&gate, &data.test, |_| {}).await;
    let what = format!("decision, both tiers, {FEW} examples of each expert, {name}");
    table::decisions(&what, Right::of(&asked), table::took(&asked), Some(first));
}

/// Decisions on texts that were read before: rules, dimensions, bars and the choice among so many experts.
async fn without_reading(experts: usize, first: Duration) {
    let profiles: Vec<Profile> = (0..experts)
        .map(|expert| Profile {
            expert: format!("expert-{expert}"),
            // No examples: what they cost is paid when a text is read, and learning thousands of classes takes minutes.
            summary: made_up(expert, 0),
            ..Profile::default()
        })
        .collect();
    let options = Options { tiers: Tiers { cache: 64, ..Tiers::default() }, ..Options::default() };
    let gate = Gate::new(options, Arc::new(Words)).expect("the options are right");
    gate.fit(profiles).await.expect("made-up texts can be learned");
    let asked: Vec<Query> = (0..32).map(|at| Query { text: made_up(at, 7), ..Query::default() }).collect();
    for query in &asked {
        decide(&gate, query).await;
    }
    let mut observations = Vec::new();
    for at in 0..ASKED {
        let (observation, tier) = decide(&gate, &asked[at % asked.len()]).await;
        assert_eq!(tier, "cache", "what was asked before is known");
        observations.push(observation);
    }
    let what = format!("decision among {experts} experts, text known");
    table::decisions(&what, None, table::took(&observations), Some(first));
}

async fn decide(gate: &Gate, query: &Query) -> (Observation, &'static str) {
    let began = Instant::now();
    let decision = gate.decide(query, &Wishes::default(), began + Duration::from_mins(1)).await;
    (Observation { took: began.elapsed(), ..Observation::default() }, decision.tier.as_str())
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn store() -> Store {
    let library = consilium_engine::locate(None, &root()).expect("ONNX Runtime is there: `make setup`");
    Store::open(StoreOptions { onnxruntime: Some(library), ..StoreOptions::default() }).expect("it can be loaded")
}
