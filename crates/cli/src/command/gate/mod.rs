//! `consilium gate`: what a gate is worth, whether it does what its mesh expects, and how it is set.

pub(crate) mod eval;
mod policy;
pub(crate) mod probe;

use std::path::Path;

use consilium_engine::{Engine, EngineOptions, Store, StoreOptions};
use consilium_expert::TaskKind;

use super::Exit;
use crate::{
    args::GateCommand,
    environment,
    error::{Error, Trouble},
    page::Page,
};

pub(crate) async fn run(command: GateCommand, page: &mut Page<'_>) -> Result<Exit, Error> {
    match command {
        GateCommand::Eval(args) => eval::run(&args, page).await,
        GateCommand::Probe(args) => probe::run(&args, page).await,
        GateCommand::Apply(args) => policy::apply(&args, page).await,
        GateCommand::Show(args) => policy::show(&args, page).await,
        GateCommand::Reset(args) => policy::reset(&args, page).await,
    }
}

/// The sentence encoder in `dir`, to be unloaded with [`Store::close`].
///
/// Every text runs alone, on one core, and as many at a time as there are cores. An int8 model's vector of a text depends
/// a little on the texts that share its run, and a gate that decides one query at a time should learn from what it will
/// see.
async fn encoder(dir: &Path, onnxruntime: Option<&Path>) -> Result<(Store, Engine), Error> {
    let onnxruntime = Some(environment::onnxruntime(onnxruntime, dir)?);
    let store = Store::open(StoreOptions { onnxruntime, ..StoreOptions::default() })
        .map_err(|error| Error::Usage(Trouble::of("ONNX Runtime cannot be used", &error)))?;
    let options = EngineOptions { batch_tokens: 1, executors: Some(store.cores()), ..EngineOptions::default() };
    let unusable = |error: &consilium_engine::Error| {
        let trouble = Trouble::of("the encoder cannot be used", error);
        Error::Usage(
            trouble.with_hint("`make setup` builds the models of the example meshes; --models says where they are"),
        )
    };
    let engine = store.load(dir, options).await.map_err(|error| unusable(&error))?;
    if let Err(problem) = TaskKind::Embed.fits(engine.manifest()) {
        store.close().await;
        return Err(Error::Usage(Trouble::new(format!("the encoder {problem}"))));
    }
    Ok((store, engine))
}

/// Why a gate could not be made or fitted: `what` its settings are called.
fn unfit(file: &Path, what: &str, error: consilium_gate::Error) -> Error {
    match error {
        consilium_gate::Error::Options(mistakes) | consilium_gate::Error::Trial(mistakes) => {
            Error::mistakes(what, &crate::labelled::of(file, mistakes))
        }
        error => Error::Failed(Trouble::of("the gate cannot learn", &error)),
    }
}
