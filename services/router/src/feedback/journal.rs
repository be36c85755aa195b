//! Accepted feedback as lines of JSON in a file. A line is on disk before anybody is told that it was taken.
//!
//! The file is opened for every line, so that it can be moved away at any time. What was torn off by a crash or a full disk
//! stays a line of its own.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::Serialize;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::{Accepted, declared::Value, settings::directory, token::Leg};

/// For its owner's eyes: there may be texts of people in it.
const MODE: u32 = 0o600;

/// Where lines go. Clones write one after the other.
#[derive(Clone)]
pub(super) struct Journal {
    path: Arc<Path>,
    /// One thread at a time waits for the disk, however many callers there are.
    turn: Arc<Mutex<()>>,
    tasks: TaskTracker,
}

/// What a line says.
#[derive(Serialize)]
struct Line<'a> {
    /// When the feedback came, RFC 3339.
    time: String,
    request_id: &'a str,
    tenant: &'a str,
    outcome: &'a str,
    gate_revision: &'a str,
    legs: &'a [Leg],
    metrics: &'a BTreeMap<String, Value>,
}

impl Journal {
    pub(super) fn new(path: PathBuf, tasks: TaskTracker) -> Self {
        Self { path: path.into(), turn: Arc::default(), tasks }
    }

    /// Writes a line, and then does `written`. A caller who goes away before the line's turn has written nothing; one who
    /// goes away later has written all of it.
    ///
    /// # Errors
    /// When it is not on disk. It may be there all the same, or a part of it.
    pub(super) async fn append(&self, line: Vec<u8>, written: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let path = Arc::clone(&self.path);
        let work = move || {
            let _turn = turn;
            append(&path, &line).map(|()| written())
        };
        self.tasks.spawn_blocking(work).await.map_err(io::Error::other).flatten()
    }
}

/// `accepted` as one line, with its end.
pub(super) fn line(accepted: &Accepted, now: SystemTime) -> io::Result<Vec<u8>> {
    let Accepted { claims, metrics } = accepted;
    let line = Line {
        time: humantime::format_rfc3339_millis(now).to_string(),
        request_id: &claims.request_id,
        tenant: &claims.tenant,
        outcome: &claims.outcome,
        gate_revision: &claims.gate_revision,
        legs: &claims.legs,
        metrics,
    };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    Ok(line)
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
    // Routers on one machine may share the file, and who waits here waits for one line of another one. Where the file
    // system knows no locks, each has to have its own.
    match file.lock() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        locked => locked?,
    }
    let length = file.metadata()?.len();
    if is_torn(&file, length)? {
        file.write_all(&[b"\n", line].concat())?;
    } else {
        file.write_all(line)?;
    }
    file.sync_data()?;
    if length == 0 {
        // A new file is not found after a crash unless its directory is on disk as well.
        fs::File::open(directory(path))?.sync_all()?;
    }
    Ok(())
}

/// Whether the last line has no end.
fn is_torn(file: &fs::File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn journal(path: &Path) -> Journal {
        Journal::new(path.to_owned(), TaskTracker::new())
    }

    #[tokio::test]
    async fn lines_stand_one_below_the_other_for_their_owner_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let (one, two) = (journal(&path), journal(&path));
        for (journal, line) in [(&one, "a\n"), (&two, "b\n"), (&one, "c\n")] {
            journal.append(line.into(), || {}).await.unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn many_at_once_lose_nothing_and_mix_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        // Two routers, and lines longer than a page.
        let journals = [journal(&path), journal(&path)];
        let lines: Vec<String> = (0..64).map(|n| format!("{n:0>5000}\n")).collect();
        let appends = lines.iter().enumerate().map(|(n, line)| journals[n % 2].append(line.clone().into(), || {}));
        futures::future::try_join_all(appends).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut written: Vec<_> = text.split_inclusive('\n').collect();
        written.sort_unstable();
        assert_eq!(written, lines);
    }

    #[tokio::test]
    async fn what_a_crash_tore_off_stays_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        for (before, after) in [("a\n{\"ti", "a\n{\"ti\nb\n"), ("a", "a\nb\n"), ("a\n", "a\nb\n"), ("", "b\n")] {
            fs::write(&path, before).unwrap();
            journal(&path).append("b\n".into(), || {}).await.unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after, "after {before:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("feedback.jsonl"), dir.path().join("feedback.jsonl.1"));
        let journal = journal(&path);
        journal.append("a\n".into(), || {}).await.unwrap();
        fs::rename(&path, &moved).unwrap();
        journal.append("b\n".into(), || {}).await.unwrap();
        assert_eq!((fs::read(&moved).unwrap(), fs::read(&path).unwrap()), (b"a\n".to_vec(), b"b\n".to_vec()));
    }

    #[tokio::test]
    async fn what_is_not_written_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let counted = Arc::new(AtomicUsize::new(0));
        let count = || {
            let counted = Arc::clone(&counted);
            move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        // A directory cannot be written to, not even by root.
        journal(dir.path()).append("a\n".into(), count()).await.unwrap_err();
        assert_eq!(counted.load(Ordering::Relaxed), 0);
        journal(&dir.path().join("file")).append("a\n".into(), count()).await.unwrap();
        assert_eq!(counted.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_line_whose_turn_has_come_is_written_whoever_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let journal = journal(&path);
        let turn = Arc::clone(&journal.turn).lock_owned().await;
        let mut waits = Box::pin(journal.append("never\n".into(), || {}));
        assert!(futures::poll!(&mut waits).is_pending());
        drop(waits);
        let mut begins = Box::pin(journal.append("a\n".into(), || {}));
        assert!(futures::poll!(&mut begins).is_pending());
        drop(turn);
        // Its turn comes, and its thread begins.
        let _ = futures::poll!(&mut begins);
        drop(begins);
        journal.tasks.close();
        journal.tasks.wait().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
    }
}
