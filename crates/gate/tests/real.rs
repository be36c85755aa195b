//! The gate on the real encoder and the real clinic: how often the class is right, how often the refusal is, whether every
//! line of the mesh's demonstration ends where it says, and whether its probes pass. Needs the models that `make setup`
//! builds.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy's exemption for tests does not reach the functions that they share"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use consilium_engine::{Engine, EngineOptions, Store, StoreOptions};
use consilium_gate::evaluate::Probes;
use consilium_gate::{EncodeError, Encoded, Encoder, Gate, Options, Profile, Query, Reason, Settings, Tiers, Wishes};
use serde::Deserialize;
use tokio::time::Instant;

const FOLDS: usize = 3;

/// Encodes each text once, so that several gates cost one.
struct Remembering {
    engine: Engine,
    seen: Mutex<HashMap<String, Encoded>>,
}

#[async_trait]
impl Encoder for Remembering {
    fn digest(&self) -> &str {
        Encoder::digest(&self.engine)
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Encoded, EncodeError> {
        if let Some(encoded) = self.seen.lock().unwrap().get(text) {
            return Ok(encoded.clone());
        }
        let encoded = self.engine.encode(text, deadline).await?;
        self.seen.lock().unwrap().insert(text.to_owned(), encoded.clone());
        Ok(encoded)
    }

    fn static_vector(&self, text: &str) -> Option<Vec<f32>> {
        Encoder::static_vector(&self.engine, text)
    }

    fn knows(&self, word: &str) -> bool {
        self.engine.knows(word)
    }
}

#[derive(Deserialize)]
struct Card {
    name: String,
    version: String,
    summary: String,
    #[serde(default)]
    serves: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Mesh {
    gate: Options,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    expert: Option<String>,
    outcome: String,
    #[serde(default)]
    attributes: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn clinic() -> PathBuf {
    root().join("meshes/clinic")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(path: &Path) -> Vec<String> {
    let text = read(path);
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn cards() -> Vec<Profile> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(clinic().join("experts")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
        .iter()
        .map(|folder| {
            let card: Card = serde_yaml_ng::from_str(&read(&folder.join("expert.yaml"))).unwrap();
            Profile {
                expert: card.name,
                version: card.version,
                summary: card.summary,
                examples: lines(&folder.join("examples.txt")),
                serves: card.serves,
                digest: String::new(),
            }
        })
        .collect()
}

#[derive(Deserialize)]
struct Example {
    text: String,
    dimensions: BTreeMap<String, Option<String>>,
}

/// The mesh's own settings, its files read.
fn settings() -> Settings {
    let Mesh { gate: mut options } = serde_yaml_ng::from_str(&read(&clinic().join("mesh.yaml"))).unwrap();
    for (name, dimension) in &mut options.dimensions {
        let Some(file) = dimension.examples.clone() else { continue };
        for line in lines(&clinic().join(file)) {
            let Example { text, dimensions } = serde_json::from_str(&line).unwrap();
            assert!(dimension.add_example(dimensions[name].as_deref(), text));
        }
    }
    let background = options.background.as_ref().map(|file| lines(&clinic().join(file))).unwrap_or_default();
    Settings { background, ..Settings::new(options) }
}

async fn open() -> (Store, Arc<Remembering>) {
    let library = root().join(".tools/lib/libonnxruntime.so");
    assert!(library.exists(), "no ONNX Runtime at {}: run `make setup` first", library.display());
    let store = Store::open(StoreOptions { onnxruntime: Some(library), ..StoreOptions::default() }).unwrap();
    let engine = store.load(&root().join("models/build/minilm-l6"), EngineOptions::default()).await.unwrap();
    (store, Arc::new(Remembering { engine, seen: Mutex::default() }))
}

fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn ask(text: &str) -> Query {
    Query { text: text.to_owned(), ..Query::default() }
}

/// (kept, held out) of one fold.
fn split(texts: &[String], fold: usize) -> (Vec<String>, Vec<String>) {
    let (held, kept): (Vec<_>, Vec<_>) = texts.iter().cloned().enumerate().partition(|(at, _)| at % FOLDS == fold);
    let texts = |pairs: Vec<(usize, String)>| pairs.into_iter().map(|(_, text)| text).collect();
    (texts(kept), texts(held))
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clinic_is_routed() {
    let (store, encoder) = open().await;
    folds(&encoder).await;
    mesh(&encoder).await;
    store.close().await;
}

/// Every example and every background text is asked of a gate that has not seen it.
async fn folds(encoder: &Arc<Remembering>) {
    let background = lines(&root().join("crates/gate/data/background.txt"));
    let (mut right, mut kept, mut in_scope, mut refused, mut foreign) = (0, 0, 0, 0, 0);
    for fold in 0..FOLDS {
        let (known, unseen) = split(&background, fold);
        let gate = Gate::with_background(Options::default(), encoder.clone(), known).unwrap();
        let mut profiles = cards();
        let mut held = Vec::new();
        for profile in &mut profiles {
            let (learned, asked) = split(&profile.examples, fold);
            held.extend(asked.into_iter().map(|text| (text, profile.expert.clone())));
            profile.examples = learned;
        }
        gate.fit(profiles).await.unwrap();
        for (text, expert) in held {
            let decision = gate.decide(&ask(&text), &Wishes::default(), later()).await;
            let best = decision.candidates.iter().max_by(|a, b| a.probability.total_cmp(&b.probability)).unwrap();
            in_scope += 1;
            right += usize::from(*best.expert == *expert);
            kept += usize::from(decision.reason != Reason::OutOfScope);
        }
        for text in unseen {
            let decision = gate.decide(&ask(&text), &Wishes::default(), later()).await;
            foreign += 1;
            refused += usize::from(decision.reason == Reason::OutOfScope);
        }
    }
    let (right, kept, refused) = (share(right, in_scope), share(kept, in_scope), share(refused, foreign));
    eprintln!("{in_scope} in scope: right {right:.3}, kept {kept:.3}; {foreign} foreign: refused {refused:.3}");
    assert!(right >= 0.88, "the right expert came first for {right:.3}");
    assert!(kept >= 0.95, "in-scope queries kept: {kept:.3}");
    assert!(refused >= 0.9, "foreign queries refused: {refused:.3}");
}

/// The mesh as it is shipped, with its own settings: its demonstration and its probes.
async fn mesh(encoder: &Arc<Remembering>) {
    let settings = settings();
    let profiles = cards();
    let names: Vec<&str> = profiles.iter().map(|profile| profile.expert.as_str()).collect();
    assert_eq!(settings.options.check(&names), []);
    let gate = Gate::with_settings(settings.clone(), encoder.clone()).unwrap();
    gate.fit(profiles.clone()).await.unwrap();

    let mut wrong = Vec::new();
    for line in lines(&clinic().join("demo.jsonl")) {
        let line: Line = serde_json::from_str(&line).unwrap();
        gate.check_attributes(&line.attributes).unwrap();
        let query = Query { attributes: line.attributes, labels: line.labels, ..ask(&line.text) };
        let decision = gate.decide(&query, &Wishes::default(), later()).await;
        let expert = decision.selected().next().map(|candidate| candidate.expert.to_string());
        if decision.outcome.as_str() != line.outcome.to_uppercase() || expert != line.expert {
            wrong.push((line.text, decision));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let probes = Arc::new(Probes::parse(&read(&clinic().join("probes.jsonl"))).unwrap());
    let uncached = Tiers { cache: 0, ..settings.options.tiers.clone() };
    let options = Options { tiers: uncached, ..settings.options.clone() };
    gate.configure(Settings { trial: Some(probes), options, ..settings }).await.unwrap();
}
