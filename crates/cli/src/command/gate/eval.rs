//! `consilium gate eval`: a gate fitted to labelled queries and asked others, and how often it was right.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread::available_parallelism,
};

use consilium_gate::{
    Encoder, Gate, Options, StaticTier,
    evaluate::{self, Confusion, Data, Measures, Observation, Point},
};
use consilium_mesh::config::{self, Mistakes, Overlay, Source};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{encoder, unfit};
use crate::{
    args,
    command::Exit,
    error::{Error, Trouble},
    labelled,
    page::Page,
    plot::Picture,
    progress::Progress,
    remembering::Remembering,
    render,
    view::milliseconds,
};

const DEFAULT_MODEL: &str = "minilm-l6-int8";
const WHAT: &str = "what the gate is to learn";

/// The result, as `--json` prints it. The keys of [`Measures`] stand beside the others.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) test: PathBuf,
    #[serde(flatten)]
    pub(crate) measures: Measures,
    pub(crate) rows: Rows,
    pub(crate) experts: usize,
    /// Experts that only `val` or `test` name, with their rows there; nobody can get those right.
    pub(crate) strangers: BTreeMap<String, usize>,
    pub(crate) confusions: Vec<Confusion>,
    pub(crate) model: String,
    pub(crate) model_digest: String,
    pub(crate) gate_revision: String,
    /// For all that is learned from, several at a time; 0 for what was kept from another time.
    pub(crate) encode_ms: f64,
    /// Without the encoding.
    pub(crate) fit_ms: f64,
    pub(crate) machine: Machine,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rows {
    pub(crate) train: usize,
    pub(crate) validation: usize,
    pub(crate) test: usize,
    /// Of `test`: for nobody.
    pub(crate) test_nobody: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// That this process may use.
    pub(crate) cores: usize,
    /// `release` or `dev`
    pub(crate) profile: &'static str,
}

/// What is to be done, free of mistakes.
struct Task {
    data: Data,
    options: Options,
    model: String,
}

pub(crate) async fn run(args: &args::Eval, page: &mut Page<'_>) -> Result<Exit, Error> {
    let task = read(args)?;
    let progress = if args.json { Progress::spinner_only() } else { Progress::shown() };
    let step = progress.step(format!("model {}", task.model));
    let (store, engine) = encoder(&args.models.join(&task.model), args.onnxruntime.as_deref()).await?;
    step.done("");
    // On the heap: an evaluation is long, and its future would make every command as large.
    let measured = Box::pin(measure(args, task, engine, &progress)).await;
    store.close().await;
    let (document, observations) = measured?;
    if let Some(path) = &args.plot {
        draw(path, &document, &observations)?;
    }
    if args.json {
        page.json(&document)?;
    } else {
        page.blank()?;
        render::eval::document(page, &document)?;
    }
    Ok(Exit::Done)
}

async fn measure<E: Encoder + 'static>(
    args: &args::Eval,
    task: Task,
    engine: E,
    progress: &Progress,
) -> Result<(Document, Vec<Observation>), Error> {
    let Task { data, options, model } = task;
    let model_digest = engine.digest().to_owned();
    let settings = data.settings(options).map_err(|wrong| Error::mistakes(WHAT, &labelled::of(&args.train, wrong)))?;
    let profiles = data.profiles();
    let experts = profiles.len();

    let texts = data.train.len() + data.validation.len();
    let step = progress.long_step("the gate learns", &format!("{texts} queries for {experts} experts"));
    let gauge = step.gauge();
    // Beside the rows, cards and background are encoded.
    let told = move |done: usize| gauge.show(&format!("encoded {} of {texts}", done.min(texts)));
    let encoder = Arc::new(Remembering::new(engine, args.cache.as_deref(), Box::new(told)));
    let options_file = args.options.clone().unwrap_or_else(|| PathBuf::from("--set"));
    let began = Instant::now();
    let gate = Gate::with_settings(settings, Arc::clone(&encoder) as Arc<dyn Encoder>)
        .map_err(|error| unfit(&options_file, "the gate's options", error))?;
    let learned = gate.fit(profiles).await;
    // Also when the fit failed: what was encoded until then is worth keeping.
    let encoded = encoder.stop_learning().unwrap_or(began);
    if let Some(dir) = &args.cache {
        let headline = format!("{}: vectors cannot be kept there", dir.display());
        encoder.save(dir).map_err(|error| Error::Failed(Trouble::of(headline, &error)))?;
    }
    learned.map_err(|error| unfit(&options_file, "the gate's options", error))?;
    step.done("");

    let step = progress.long_step("the gate is asked", &format!("{} queries", data.test.len()));
    let gauge = step.gauge();
    let fitted = Instant::now();
    let observations =
        evaluate::observe(&gate, &data.test, |done| gauge.show(&format!("{done} of {}", data.test.len()))).await;
    step.done("");
    let texts: Vec<&str> = data.test.iter().map(|row| row.text.as_str()).collect();
    let document = Document {
        test: args.test.clone(),
        measures: Measures::of(&observations),
        rows: Rows {
            train: data.train.len(),
            validation: data.validation.len(),
            test: data.test.len(),
            test_nobody: data.test.iter().filter(|row| row.expert.is_none()).count(),
        },
        experts,
        strangers: data.strangers(),
        confusions: evaluate::confusions(&observations, &texts),
        model,
        model_digest,
        gate_revision: gate.revision(),
        encode_ms: milliseconds(encoded - began),
        fit_ms: milliseconds(fitted - encoded),
        machine: Machine::this(),
    };
    Ok((document, observations))
}

/// Every file, with all that is wrong in any of them.
fn read(args: &args::Eval) -> Result<Task, Error> {
    let mut mistakes = Mistakes::default();
    let options = mistakes.take(options(args));
    let train = mistakes.take(labelled::rows(&args.train));
    let validation = mistakes.take(args.val.as_deref().map(labelled::rows).transpose());
    let test = mistakes.take(labelled::rows(&args.test));
    let (Some(mut options), Some(train), Some(validation), Some(test)) = (options, train, validation, test) else {
        return Err(Error::mistakes(WHAT, &mistakes));
    };
    let mut data = Data { train, validation: validation.unwrap_or_default(), test };
    if let Some(first) = args.first {
        data.keep_first(first as usize);
    }
    // The sets stand in for the files of a mesh.
    (options.background, options.validation, options.probes) = (None, None, None);
    options.dimensions.values_mut().for_each(|dimension| dimension.examples = None);
    if args.encoder_only {
        options.tiers.static_tier = StaticTier::Off;
        options.tiers.cache = 0;
    }
    let named = Some(options.encoder.clone()).filter(|name| !name.is_empty());
    let model = args.model.clone().or(named).unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    options.encoder.clone_from(&model);
    Ok(Task { data, options, model })
}

/// A file whose section `gate` is all that matters here.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct File {
    gate: Option<Options>,
    #[serde(flatten)]
    _rest: BTreeMap<String, Value>,
}

fn options(args: &args::Eval) -> Result<Options, Mistakes> {
    let source = match &args.options {
        Some(path) => Source::read(path)?,
        None => Source { file: "--set".to_owned(), text: String::new() },
    };
    let overlay = Overlay { set: args.set.clone(), ..Overlay::default() };
    match (config::parse::<File>(&source, &overlay)?.gate, &args.options) {
        (Some(gate), _) => Ok(gate),
        (None, None) => Ok(Options::default()),
        (None, Some(_)) => {
            let mut mistakes = Mistakes::default();
            mistakes.add((&source.file, "gate"), "is missing", "a section `gate`, as in mesh.yaml");
            Err(mistakes)
        }
    }
}

fn draw(path: &Path, document: &Document, observations: &[Observation]) -> Result<(), Error> {
    let measures = &document.measures;
    let statements: Vec<evaluate::Statement> = observations.iter().map(Observation::statement).collect();
    let test = render::eval::subject(document);
    let picture = Picture {
        title: format!("{test}, {}", document.model),
        rows: document.rows.test,
        ece: measures.ece,
        bins: measures.reliability.clone(),
        curve: evaluate::risk_coverage(&statements),
        decided: measures.coverage.zip(measures.error_among_answered).map(|(coverage, risk)| Point { coverage, risk }),
    };
    fs::write(path, picture.svg())
        .map_err(|error| Error::Failed(Trouble::of(format!("{} cannot be written", path.display()), &error)))
}

impl Machine {
    fn this() -> Self {
        let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = described.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned()),
            cores: available_parallelism().map_or(0, usize::from),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        }
    }
}
