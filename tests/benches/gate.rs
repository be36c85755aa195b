//! What a decision of the gate costs, in process and on one core: by the encoder, by the static tier, and where nothing
//! has to be read because the text is known; and what it costs to learn 150 experts. Everything included from query to
//! decision. Figures go to standard output as Markdown.
//!
//! CLINC150 is measured where it lies beside the project; otherwise texts that are made up, of the same number.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on says so by a panic")]
#![expect(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use consilium_engine::{Engine, EngineOptions, Store, StoreOptions};
use consilium_gate::{
    EncodeError, Encoded, Encoder, Gate, Labelled, Options, Profile, Query, StaticTier, Tiers, Wishes,
    evaluate::{self, Data, Observation, Quantiles},
};
use consilium_tests::processes::machine;
use tokio::{runtime::Builder, time::Instant};

const COMMAND: &str = "make bench BENCH=gate";
const MODEL: &str = "models/build/minilm-l6-int8";
const CLINC: &str = "../shared/data/clinc150";
/// What the process says to itself when it has a core of its own.
const PINNED: &str = "--pinned";
/// Queries asked of each gate.
const ASKED: usize = 2_000;
const EXPERTS: usize = 150;
const EXAMPLES: usize = 100;
/// Of a mesh larger than any we know.
const MANY: usize = 2_000;
const WIDTH: usize = 384;

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
    println!("| what | p50 | p95 | p99 | p50 / first row |\n| --- | ---: | ---: | ---: | ---: |");
    let (name, data) = data();
    let store = store();
    let options = EngineOptions { batch_tokens: 1, ..EngineOptions::default() };
    let engine = store.load(&root().join(MODEL), options).await.expect("the encoder is built: `make setup`");
    let first = on_an_encoder(&name, &data, engine).await;
    store.close().await;
    for experts in [EXPERTS, MANY] {
        without_reading(experts, first).await;
    }
    println!("\n{}", machine::provenance(COMMAND));
}

/// Learns the set, then asks it by the encoder, and with the static tier before it. Returns the encoder's median.
async fn on_an_encoder(name: &str, data: &Data, engine: Engine) -> Duration {
    let mut settings = data.settings(Options::default()).expect("the set can be learned");
    settings.options.tiers.static_tier = StaticTier::Off;
    let encoder: Arc<dyn Encoder> = Arc::new(engine);
    let gate = Gate::with_settings(settings.clone(), encoder).expect("the options are right");
    gate.fit(data.profiles()).await.expect("the set is encoded and learned");
    // Everything is encoded by now, so that this is the learning alone.
    let began = Instant::now();
    gate.fit(data.profiles()).await.expect("the set is learned again");
    let fit = began.elapsed();

    let asked = evaluate::observe(&gate, &data.test, |_| {}).await;
    let first = row(&format!("decision by the encoder, {name}"), &asked, None);
    settings.options.tiers.static_tier = StaticTier::Auto;
    gate.configure(settings).await.expect("the tier is learned");
    let asked = evaluate::observe(&gate, &data.test, |_| {}).await;
    let (fast, slow): (Vec<Observation>, Vec<Observation>) = asked.into_iter().partition(|it| it.tier == "static");
    let share = 100.0 * fast.len() as f64 / (fast.len() + slow.len()) as f64;
    row(&format!("decision by the static tier, {name}: {share:.0} % of the queries"), &fast, Some(first));
    row("decision by the encoder after the static tier passed", &slow, Some(first));
    println!(
        "| learning {} queries for {} experts, encoded before | {} | | | |",
        data.train.len(),
        data.profiles().len(),
        shown(fit)
    );
    first
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
    let gate = Gate::new(options, Arc::new(MadeUp)).expect("the options are right");
    gate.fit(profiles).await.expect("made-up texts can be learned");
    let asked: Vec<Labelled> = (0..32).map(|at| labelled(made_up(at, 7), None)).collect();
    for query in &asked {
        decide(&gate, query).await;
    }
    let mut observations = Vec::new();
    for at in 0..ASKED {
        let query = &asked[at % asked.len()];
        let (observation, tier) = decide(&gate, query).await;
        assert_eq!(tier, "cache", "what was asked before is known");
        observations.push(observation);
    }
    row(&format!("decision among {experts} experts, text known"), &observations, Some(first));
}

async fn decide(gate: &Gate, row: &Labelled) -> (Observation, &'static str) {
    let query = Query { text: row.text.clone(), ..Query::default() };
    let began = Instant::now();
    let decision = gate.decide(&query, &Wishes::default(), began + Duration::from_mins(1)).await;
    (Observation { took: began.elapsed(), ..Observation::default() }, decision.tier.as_str())
}

/// One line of the table; returns its median.
fn row(what: &str, observations: &[Observation], first: Option<Duration>) -> Duration {
    let Quantiles { p50, p95, p99 } = Quantiles::of(observations.iter().map(|it| it.took).collect());
    let (Some(p50), Some(p95), Some(p99)) = (p50, p95, p99) else {
        println!("| {what} | none | | | |");
        return Duration::ZERO;
    };
    let ratio = p50.as_secs_f64() / first.unwrap_or(p50).as_secs_f64();
    println!("| {what} | {} | {} | {} | {ratio:.4} |", shown(p50), shown(p95), shown(p99));
    p50
}

fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1e-3 => format!("{:.1} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn store() -> Store {
    let library = consilium_engine::locate(None, &root()).expect("ONNX Runtime is there: `make setup`");
    Store::open(StoreOptions { onnxruntime: Some(library), ..StoreOptions::default() }).expect("it can be loaded")
}

/// CLINC150 and its name, or as many made-up queries.
fn data() -> (String, Data) {
    let rows = |file: &str| {
        let text = fs::read_to_string(root().join(CLINC).join(file)).ok()?;
        Some(evaluate::parse(&text).expect("the set is well-formed"))
    };
    if let (Some(train), Some(validation), Some(mut test)) =
        (rows("train.jsonl"), rows("val.jsonl"), rows("test.jsonl"))
    {
        // Every so many: the file is sorted by expert.
        let step = (test.len() / ASKED).max(1);
        test = test.into_iter().step_by(step).collect();
        return ("CLINC150".to_owned(), Data { train, validation, test });
    }
    let set = |from: usize, to: usize| {
        let of =
            |expert: usize| (from..to).map(move |at| labelled(made_up(expert, at), Some(format!("expert-{expert}"))));
        (0..EXPERTS).flat_map(of).collect::<Vec<_>>()
    };
    let data = Data { train: set(0, EXAMPLES), validation: set(EXAMPLES, EXAMPLES + 20), test: set(200, 213) };
    ("made-up queries".to_owned(), data)
}

fn labelled(text: String, expert: Option<String>) -> Labelled {
    Labelled { text, expert, ..Labelled::default() }
}

/// A query in words that this expert has for itself, between those that all have.
fn made_up(expert: usize, at: usize) -> String {
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

/// An encoder that costs nothing: what is measured with it is what is around it.
struct MadeUp;

#[async_trait]
impl Encoder for MadeUp {
    fn digest(&self) -> &'static str {
        "made-up"
    }

    async fn encode(&self, text: &str, _deadline: Instant) -> Result<Encoded, EncodeError> {
        let mut vector = vec![0.01; WIDTH];
        for word in text.split(' ') {
            let hash = word.bytes().fold(5_381_usize, |hash, byte| hash.wrapping_mul(33) ^ usize::from(byte));
            vector[hash % WIDTH] += 1.0;
        }
        Ok(vector.into())
    }
}
