//! Why an expert cannot start or go on. (Why a query has no answer is `task::Failure`.)

use std::{fmt, path::PathBuf};

use consilium_engine::Engine;

use crate::{Unserved, knowledge::Mistake, task::Failure};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the model cannot be loaded")]
    Model(#[source] consilium_engine::Error),
    /// Every model of the repository that cannot be loaded, and why.
    #[error("{}", Failed(failed))]
    Models { failed: Vec<(String, consilium_engine::Error)> },
    #[error("the task has no model")]
    Task(#[source] Unserved),
    #[error("the model {model} {problem}")]
    Unfit { model: String, problem: String },
    #[error("{} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Everything that is wrong with the file.
    #[error("{} is wrong: {}", path.display(), Listed(mistakes))]
    Knowledge { path: PathBuf, mistakes: Vec<Mistake> },
    #[error("the knowledge cannot be encoded")]
    Encoding(#[source] Failure),
    #[error("{listening} is no address to be called at: say which one to announce")]
    NoAddress { listening: std::net::SocketAddr },
    #[error("the server cannot serve")]
    Serve(#[source] consilium_mesh::serve::Error),
    #[error("the server ended")]
    Ended,
    #[error("the server died")]
    Died(#[source] tokio::task::JoinError),
    #[error("the registry does not take the expert")]
    Register(#[source] consilium_mesh::registry::Error),
}

impl Error {
    pub(crate) fn unfit(engine: &Engine, problem: &str) -> Error {
        Error::Unfit { model: engine.manifest().name.clone(), problem: problem.to_owned() }
    }
}

/// With its causes: each of several errors has its own.
struct Failed<'a>(&'a [(String, consilium_engine::Error)]);

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("models of the repository cannot be loaded")?;
        for (index, (name, error)) in self.0.iter().enumerate() {
            write!(f, "{} {name}: {error}", if index == 0 { ":" } else { ";" })?;
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

/// The first few of many: an error is one line of a log.
struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for (index, mistake) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{mistake}", if index == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
