//! A scripted engine for tests: real queue, real batching, real threads and a tokenizer, but no ONNX Runtime and no model.
//! Only with feature `testing`.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use consilium_metrics::Page;
use tokio::sync::watch;

use crate::cores::Cores;
use crate::cost::{CostTable, Unit};
use crate::engine::{Engine, EngineOptions, Parts};
use crate::error::Error;
use crate::manifest::Manifest;
use crate::queue::Bounds;
use crate::session::Session;
use crate::session::scripted::{BOMB, POISON, Script, ScriptedSession, Seen};
use crate::tokenize::Tokenizer;

/// Longest text of a scripted engine, in words.
pub const MAX_TOKENS: usize = 128;

/// How long the runs of a scripted engine take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// `a`: every run.
    pub base: Duration,
    /// `c`: every padded token of it.
    pub per_token: Duration,
}

/// What the test does to its scripted engine, and sees of it.
#[derive(Clone)]
pub struct Control {
    script: Arc<Script>,
    seen: watch::Receiver<Seen>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

impl Control {
    /// Runs that begin from now on do not end before [`Control::release`].
    pub fn hold(&self) {
        self.script.hold(true);
    }

    /// Lets everything run.
    pub fn release(&self) {
        self.script.hold(false);
    }

    /// `(rows, padded length)` of every run that has begun, in order.
    pub fn runs(&self) -> Vec<(usize, usize)> {
        self.seen.borrow().runs.clone()
    }

    /// Waits until that many runs have begun.
    pub async fn began(&self, runs: usize) {
        // The sender lives in `self.script`, so waiting cannot fail.
        let _ = self.seen.clone().wait_for(|seen| seen.runs.len() >= runs).await;
    }

    /// Waits until that many runs were stopped because all their callers had gone.
    pub async fn stopped(&self, runs: usize) {
        let _ = self.seen.clone().wait_for(|seen| seen.stopped >= runs).await;
    }
}

/// An engine that takes texts of the words `w10` to `w99`, one token each, whose ids are their numbers; other words
/// are id 1. For each text the output `row` is two floats: the sum of its ids and their number. The word `poison` fails
/// its run and `bomb` panics in it.
pub fn engine(timing: Timing, options: &EngineOptions) -> Result<(Engine, Control), Error> {
    engine_on(&Page::new(), timing, options)
}

/// The same, counting on a page.
pub fn engine_on(metrics: &Page, timing: Timing, options: &EngineOptions) -> Result<(Engine, Control), Error> {
    let (send, seen) = watch::channel(Seen::default());
    let script = Arc::new(Script {
        base: timing.base,
        per_unit: timing.per_token,
        seen: send,
        held: Mutex::new(false),
        changed: Condvar::new(),
    });
    let executors = options.executors.unwrap_or(NonZeroUsize::MIN);
    let session = || -> Box<dyn Session> { Box::new(ScriptedSession(Arc::clone(&script))) };
    let cost = |tokens: usize| (timing.base + timing.per_token.mul_f64(tokens as f64)).as_secs_f64() * 1e3;
    let refused = |problems| Error::Manifest { dir: "scripted".into(), problems };
    let manifest = Manifest::parse(manifest().as_bytes()).map_err(refused)?;
    let tokenizer = manifest
        .tokenizer
        .as_ref()
        .map(|entry| Tokenizer::from_bytes(word_tokenizer().as_bytes(), entry))
        .transpose()
        .map_err(|problem| refused(vec![problem]))?;
    let engine = Engine::start(Parts {
        manifest,
        digest: "0".repeat(64),
        tokenizer,
        tokens: None,
        sessions: (0..executors.get()).map(|_| session()).collect(),
        threads: 1,
        cores: Arc::new(Cores::new(executors)),
        cost: CostTable {
            unit: Unit::Tokens,
            points: [8, MAX_TOKENS, options.batch_tokens].map(|tokens| (tokens, cost(tokens))).to_vec(),
            executors: executors.get(),
            batch_units: options.batch_tokens,
        },
        bounds: Bounds { units: options.queue_tokens, bytes: options.queue_bytes, batch_bytes: options.batch_bytes },
        joins: true,
        metrics: metrics.clone(),
    })?;
    Ok((engine, Control { script, seen }))
}

fn manifest() -> String {
    let sha256 = "0".repeat(64);
    format!(
        r#"{{
            "schema": 1, "name": "scripted", "version": "1", "kind": "text", "model": "none",
            "files": [{{"path": "none", "size": 0, "sha256": "{sha256}"}}],
            "tokenizer": {{"file": "none", "max_tokens": {MAX_TOKENS}, "vocab_size": 100, "pad_id": 0}},
            "inputs": [{{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}}],
            "outputs": [{{"name": "row", "datatype": "FP32", "shape": [-1, 2]}}],
            "licence": "none", "source": "scripted"
        }}"#
    )
}

/// One token a word: `poison`, `bomb`, `w10` … `w99`, everything else `[UNK]`.
pub(crate) fn word_tokenizer() -> String {
    let words: Vec<String> = (10..100).map(|id| format!(r#""w{id}": {id}"#)).collect();
    let words = words.join(", ");
    format!(
        r#"{{
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null, "decoder": null,
            "model": {{
                "type": "WordLevel", "unk_token": "[UNK]",
                "vocab": {{"[PAD]": 0, "[UNK]": 1, "poison": {POISON}, "bomb": {BOMB}, {words}}}
            }}
        }}"#
    )
}
