//! What a `retrieve` expert knows: a file of passages, kept searchable, replaced while queries run.
//!
//! - `parse`: the file's bytes → passages or mistakes
//! - `sentences`: a text → its sentences
//! - `index`: passages → vectors, searchable
//! - `search`: the arithmetic under it

mod index;
mod parse;
mod search;
mod sentences;

use std::{
    fmt::{self, Write},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use consilium_mesh::files::Stamp;
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub(crate) use index::Index;
pub use parse::Mistake;

use crate::{Error, metrics::Tally, task::Encoder};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Bytes of the file's digest that make a revision: enough to tell a file's states apart, short enough to read out.
const REVISION_BYTES: usize = 6;

/// An expert's knowledge: always one whole state, replaced at once.
pub struct Knowledge {
    path: PathBuf,
    encoder: Encoder,
    current: ArcSwap<Index>,
    /// What the file looked like when it was last read. Held while reloading, so that reloads follow one another.
    seen: Mutex<Option<Stamp>>,
    /// When the file was written that `current` came from; `None` where the disk does not say.
    written: StdMutex<Option<SystemTime>>,
    tally: Arc<Tally>,
}

impl Knowledge {
    /// Reads and encodes the file. `Err` says all that is wrong with it.
    pub(crate) async fn open(path: &Path, encoder: Encoder, tally: Arc<Tally>) -> Result<Knowledge, Error> {
        let stamp = Stamp::of(path).await.ok();
        let bytes = read(path).await?;
        let index = index(path, &bytes, &encoder, None).await?;
        report(path, &index);
        tally.has_knowledge();
        Ok(Knowledge {
            path: path.to_owned(),
            encoder,
            current: ArcSwap::from_pointee(index),
            seen: Mutex::new(stamp),
            written: StdMutex::new(stamp.and_then(|stamp| stamp.modified)),
            tally,
        })
    }

    pub(crate) fn current(&self) -> Arc<Index> {
        self.current.load_full()
    }

    /// Which state answers now: a short digest of the file's content.
    pub fn revision(&self) -> Arc<str> {
        self.current.load().revision()
    }

    /// How long ago the file was written that answers now. A clock that was set back makes nothing younger than new.
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.map(|written| now.duration_since(written).unwrap_or_default())
    }

    /// Reads the file again, whether or not it looks changed, and tells which revision answers from now on. On `Err`
    /// the old one goes on answering.
    pub async fn reload(&self) -> Result<Arc<str>, Error> {
        let mut seen = self.seen.lock().await;
        let now = Stamp::of(&self.path).await.ok();
        self.read(&mut seen, now).await
    }

    /// Looks at the file every second and reloads it when it was written, until `stop`. A file that is refused is
    /// logged once, and looked at again when it is written again; one that is only half written is such a file.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // A reload in progress is dropped on stop: it changes nothing before its last step.
            if let Some(Err(error)) = stop.run_until_cancelled(self.look()).await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "knowledge not reloaded; the old state goes on answering");
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let mut seen = self.seen.lock().await;
        let now = Stamp::of(&self.path).await.ok();
        if now == *seen {
            return Ok(());
        }
        self.read(&mut seen, now).await.map(drop)
    }

    /// `now` is how the file looked before it is read: what is written after that looks changed at the next look. It
    /// counts as seen only when its content has decided what becomes of it; a disk or an engine that fails in passing
    /// is tried again.
    async fn read(&self, seen: &mut Option<Stamp>, now: Option<Stamp>) -> Result<Arc<str>, Error> {
        let outcome = self.replace().await;
        if matches!(outcome, Ok(_) | Err(Error::Knowledge { .. })) {
            *seen = now;
        }
        if outcome.is_ok() {
            let written = now.and_then(|stamp| stamp.modified);
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = written;
        }
        self.tally.reloaded(outcome.is_ok());
        outcome
    }

    async fn replace(&self) -> Result<Arc<str>, Error> {
        let bytes = read(&self.path).await?;
        let old = self.current();
        if revision(&bytes) == old.revision() {
            return Ok(old.revision());
        }
        let new = index(&self.path, &bytes, &self.encoder, Some(&old)).await?;
        report(&self.path, &new);
        let revision = new.revision();
        self.current.store(Arc::new(new));
        Ok(revision)
    }
}

/// All that is wrong with the file, without a model: for configuration checks.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    parse::parse(&bytes).map(drop).map_err(|mistakes| Error::Knowledge { path: path.to_owned(), mistakes })
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let owned = path.to_owned();
    let bytes = blocking(move || std::fs::read(owned)).await;
    bytes.map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

/// Files may lie on a disk that takes its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn index(path: &Path, bytes: &[u8], encoder: &Encoder, previous: Option<&Index>) -> Result<Index, Error> {
    let passages = parse::parse(bytes).map_err(|mistakes| Error::Knowledge { path: path.to_owned(), mistakes })?;
    Index::build(passages, revision(bytes), encoder, previous).await.map_err(Error::Encoding)
}

fn revision(bytes: &[u8]) -> Arc<str> {
    let mut digits = String::new();
    for byte in Sha256::digest(bytes).iter().take(REVISION_BYTES) {
        // Writing to a `String` cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.into()
}

fn report(path: &Path, index: &Index) {
    let (file, passages, truncated) = (path.display(), index.len(), index.truncated());
    tracing::info!(%file, passages, revision = %index.revision(), "knowledge loaded");
    if truncated > 0 {
        tracing::warn!(%file, truncated, "passages longer than the encoder reads: their ends do not count in a search");
    }
}

impl fmt::Debug for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knowledge").field("path", &self.path).field("current", &self.current()).finish_non_exhaustive()
    }
}
