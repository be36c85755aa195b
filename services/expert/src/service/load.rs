//! The models that an expert starts with, and what warm-up and its own examples say of them.

use std::{sync::Arc, time::Duration};

use consilium_engine::{Call, Engine, Error as EngineError, Kind, Store};
use tokio::time::Instant;

use super::Options;
use crate::{
    Config, Control, Error, Needs,
    announce::Measured,
    models::{
        Loader, Models,
        control::{self, Controller},
    },
};

/// Texts that are enough for an average, and how long each may wait where others keep the model busy.
const SAMPLES: usize = 16;
const SAMPLE_PATIENCE: Duration = Duration::from_mins(1);

/// The models of an expert that starts, and what changes them later, where that is allowed.
pub(super) struct Loaded {
    pub(super) models: Arc<Models>,
    pub(super) control: Option<(control::Control, Controller)>,
    pub(super) measured: Measured,
}

pub(super) async fn load(options: &Options, store: Store) -> Result<Loaded, Error> {
    let task = &options.config.task;
    let loader = Loader { store, options: task.engine(options.engine.clone()) };
    match task.needs() {
        Needs::Packaged(model) => {
            let dir = options.models.join(model);
            let engine = loader.store.load(&dir, loader.options).await.map_err(Error::Model)?;
            let bytes_per_unit = bytes_per_token(&options.config, &engine).await.map_err(Error::Model)?;
            let measured = Measured { cost: Some(engine.cost().clone()), bytes_per_unit };
            Ok(Loaded { models: Arc::new(Models::packaged(engine)), control: None, measured })
        }
        Needs::Repository(repository) => {
            let models = Arc::new(Models::open(repository, &loader).await?);
            let cost = models.typical().map(|served| served.engine.cost().clone());
            let control = match repository.control {
                Control::Explicit => Some(control::control(Arc::clone(&models), loader)),
                Control::None => None,
            };
            Ok(Loaded { models, control, measured: Measured { cost, bytes_per_unit: 0.0 } })
        }
    }
}

/// How long the expert's own examples are in bytes for each token that the model makes of them: what a router without
/// the tokenizer guesses a query's cost by. 0 for models that read no text.
async fn bytes_per_token(config: &Config, engine: &Engine) -> Result<f64, EngineError> {
    if engine.manifest().kind != Kind::Text {
        return Ok(0.0);
    }
    let (mut bytes, mut tokens) = (0, 0);
    for text in config.examples.iter().chain([&config.summary]).take(SAMPLES) {
        let output = match engine.text(text, Call { deadline: Instant::now() + SAMPLE_PATIENCE }).await {
            Ok(output) => output,
            // A neighbour keeps the model busy. That is no reason not to start: what was measured so far will do.
            Err(EngineError::QueueFull { .. } | EngineError::DeadlineExceeded) => break,
            Err(error) => return Err(error),
        };
        // What was cut off has bytes and no tokens.
        if !output.truncated {
            bytes += text.len();
            tokens += output.tokens;
        }
    }
    Ok(if tokens == 0 { 0.0 } else { bytes as f64 / tokens as f64 })
}
