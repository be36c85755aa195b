//! What callers say about answers. With every answer goes a `token` out, and comes back with metrics, which are held
//! against what the mesh has `declared`, written into a `journal` and counted. No router keeps anything in between.

mod declared;
mod draft;
mod journal;
mod keys;
mod private;
mod settings;
mod token;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
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
    #[error("the journal {} cannot be used", path.display())]
    Journal { path: PathBuf, source: Problem },
    #[error("the thread that opens the files ended early")]
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

/// Why feedback is not taken, and on which request it was: empty where the token does not tell.
#[derive(Debug)]
pub(crate) struct NotTaken {
    pub(crate) request_id: String,
    pub(crate) error: RequestError,
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
    /// When there is no key to sign tokens with, or the journal cannot be written to.
    pub(crate) async fn open(
        config: &Config,
        metrics: Metrics,
        tasks: &TaskTracker,
    ) -> Result<Option<Arc<Self>>, Error> {
        let settings = &config.feedback;
        if settings.metrics.is_empty() {
            return Ok(None);
        }
        // A mesh that meets in a registry may have more routers than this one.
        let has_others = config.registry.etcd.is_some();
        let keys = if let Some(path) = settings.key_file.clone() {
            let read = {
                let path = path.clone();
                move || keys::read_or_make(&path).map_err(|source| Error::KeyFile { path, source })
            };
            let (keys, is_made) = tasks.spawn_blocking(read).await.map_err(|_| Error::Ended)??;
            if is_made {
                say_made(&path, has_others);
            }
            keys
        } else {
            if has_others {
                tracing::warn!(
                    "feedback has no key_file: no other router knows its tokens, nor this one after a restart"
                );
            }
            Keys::random().map_err(Error::Key)?
        };
        let terms =
            Terms { seal: Seal::new(keys, &config.name), declared: settings.declared(), window: settings.window };
        let journal = match settings.journal.clone() {
            Some(path) => Some(Journal::open(path, tasks.clone()).await?),
            None => None,
        };
        Ok(Some(Arc::new(Self { terms, journal, metrics })))
    }

    /// Takes a message that comes `now`: on disk first, then counted.
    ///
    /// # Errors
    /// Everything that is wrong with it; or that it could not be written, and then nothing is counted.
    pub(crate) async fn take(&self, message: Message, now: SystemTime) -> Result<(), NotTaken> {
        let accepted = self.terms.accept(message, now)?;
        let request_id = accepted.claims.request_id.clone();
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
            NotTaken { request_id, error: RequestError::FeedbackNotStored }
        })
    }
}

/// That the key file is new. Where there are other routers, they do not know what is signed with it until they have it.
fn say_made(path: &Path, has_others: bool) {
    if has_others {
        tracing::warn!(path = %path.display(), "made a key for feedback tokens: every router of the mesh needs this file");
    } else {
        tracing::info!(path = %path.display(), "made a key for feedback tokens");
    }
}

impl Terms {
    fn accept(&self, message: Message, now: SystemTime) -> Result<Accepted, NotTaken> {
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
        let (request_id, error) = match (claims, metrics) {
            (None, metrics) => {
                violations.extend(metrics.err().unwrap_or_default());
                (String::new(), RequestError::InvalidToken { violations })
            }
            (Some(claims), Err(wrong)) => {
                violations.extend(wrong);
                (claims.request_id, RequestError::Invalid { violations })
            }
            (Some(claims), Ok(_)) if is_expired => (claims.request_id, RequestError::TokenExpired { violations }),
            (Some(claims), Ok(metrics)) => return Ok(Accepted { claims, metrics }),
        };
        Err(NotTaken { request_id, error })
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
