//! What callers say about answers. With every answer goes a `token` out, and comes back with metrics, which are held
//! against what the mesh has `declared`, written into a `journal` and counted. No router keeps anything in between.

mod declared;
mod draft;
mod journal;
mod keys;
mod settings;
mod token;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio_util::task::TaskTracker;

use self::{declared::Declared, journal::Journal, keys::Keys, token::Claims, token::Seal};
pub(crate) use self::{
    declared::{Said, Value},
    draft::Draft,
};
pub use self::{
    keys::Problem,
    settings::{Metric, Settings},
};
use crate::{
    config::Config,
    error::{Error as RequestError, Violation},
    metrics::Metrics,
};

/// Why feedback cannot be taken at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the key file {} cannot be used", path.display())]
    KeyFile { path: PathBuf, source: Problem },
    #[error("a key for tokens cannot be made")]
    Key(#[source] Problem),
    #[error("the thread that reads the key file ended early")]
    Ended,
}

/// Takes feedback. There is none where the mesh declares no metrics.
pub(crate) struct Feedback {
    terms: Terms,
    journal: Option<Journal>,
    metrics: Metrics,
}

/// What feedback has to be like to be taken.
#[derive(Debug)]
struct Terms {
    seal: Seal,
    declared: Declared,
    window: Duration,
}

/// Feedback as it came in.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) token: String,
    pub(crate) metrics: Vec<Said>,
}

/// Feedback that is taken: on which answer, and what.
#[derive(Debug, Clone, PartialEq)]
struct Accepted {
    claims: Claims,
    metrics: BTreeMap<String, Value>,
}

impl Feedback {
    /// As `config` describes it; what it does on disk belongs to `tasks`.
    ///
    /// # Errors
    /// When there is no key to sign tokens with.
    pub(crate) async fn open(
        config: &Config,
        metrics: Metrics,
        tasks: &TaskTracker,
    ) -> Result<Option<Arc<Self>>, Error> {
        let settings = &config.feedback;
        if settings.metrics.is_empty() {
            return Ok(None);
        }
        let keys = if let Some(path) = settings.key_file.clone() {
            let read = move || keys::read_or_make(&path).map_err(|source| Error::KeyFile { path, source });
            tasks.spawn_blocking(read).await.map_err(|_| Error::Ended)??
        } else {
            if config.registry.etcd.is_some() {
                tracing::warn!(
                    "feedback has no key_file: no other router knows its tokens, nor this one after a restart"
                );
            }
            Keys::random().map_err(Error::Key)?
        };
        let terms =
            Terms { seal: Seal::new(keys, &config.name), declared: settings.declared(), window: settings.window };
        let journal = settings.journal.clone().map(|path| Journal::new(path, tasks.clone()));
        Ok(Some(Arc::new(Self { terms, journal, metrics })))
    }

    /// Takes a message that comes `now`: on disk first, then counted.
    ///
    /// # Errors
    /// Everything that is wrong with it; or that it could not be written, and then nothing is counted.
    pub(crate) async fn take(&self, message: Message, now: SystemTime) -> Result<(), RequestError> {
        let accepted = self.terms.accept(message, now)?;
        let Some(journal) = &self.journal else {
            accepted.count(&self.metrics);
            return Ok(());
        };
        let metrics = self.metrics.clone();
        let written = match journal::line(&accepted, now) {
            Ok(line) => journal.append(line, move || accepted.count(&metrics)).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| {
            tracing::error!(?journal, %error, "feedback cannot be stored");
            RequestError::FeedbackNotStored
        })
    }
}

impl Terms {
    fn accept(&self, message: Message, now: SystemTime) -> Result<Accepted, RequestError> {
        let Message { token, metrics } = message;
        let claims = self.seal.open(&token);
        let is_expired = claims.as_ref().is_some_and(|claims| claims.are_older_than(self.window, now));
        let problem = match &claims {
            None if token.is_empty() => Some("missing; expected the feedback_token of an answer".to_owned()),
            None => Some("not a token of this mesh; expected the feedback_token of an answer, unchanged".to_owned()),
            Some(_) if is_expired => {
                Some(format!("too old; feedback is taken for {}", humantime::format_duration(self.window)))
            }
            Some(_) => None,
        };
        let mut violations: Vec<_> = problem.map(|problem| Violation::new("token", problem)).into_iter().collect();
        let metrics = self.declared.check(metrics);
        match (claims, metrics) {
            (None, metrics) => {
                violations.extend(metrics.err().unwrap_or_default());
                Err(RequestError::InvalidToken { violations })
            }
            (Some(_), Err(wrong)) => {
                violations.extend(wrong);
                Err(RequestError::Invalid { violations })
            }
            (Some(_), Ok(_)) if is_expired => Err(RequestError::TokenExpired { violations }),
            (Some(claims), Ok(metrics)) => Ok(Accepted { claims, metrics }),
        }
    }
}

impl Accepted {
    /// For every expert whose answer it is about; for none by name, where it is about a refusal.
    fn count(&self, counters: &Metrics) {
        let mut experts: Vec<&str> =
            self.claims.legs.iter().filter(|leg| leg.answered).map(|leg| leg.expert.as_str()).collect();
        if experts.is_empty() {
            experts.push("");
        }
        for expert in experts {
            for (metric, value) in &self.metrics {
                match value {
                    Value::Boolean(true) => counters.feedback(expert, metric, "true"),
                    Value::Boolean(false) => counters.feedback(expert, metric, "false"),
                    Value::Number(number) => counters.feedback_number(expert, metric, *number),
                    // What it says is nothing to count by.
                    Value::Text(_) => counters.feedback(expert, metric, "text"),
                }
            }
        }
    }
}

impl fmt::Debug for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback").field("terms", &self.terms).field("journal", &self.journal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
