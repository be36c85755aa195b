//! Accepted feedback as lines of JSON in a file. A line is on disk before anybody is told that it was taken.
//!
//! The file is opened for every line, so that it can be moved away at any time. What was torn off by a crash or a full disk
//! stays a line of its own. A disk that hangs costs those who wait for it a while, and nobody else anything.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::{
    sync::{Mutex, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    Accepted, Error,
    declared::Value,
    keys::Problem,
    private::{directory, open_to_others},
    token::Leg,
};

/// For its owner's eyes: there may be texts of people in it.
const MODE: u32 = 0o600;

/// Callers that may wait for the disk. They hold places that questions need, of which a server has a thousand.
const MAX_WAITING: usize = 64;
/// A disk takes milliseconds, a busy one a second. What takes longer has failed as far as a caller is concerned.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Times that the file may be moved away just when it is opened, for one line.
const MAX_RENAMES: usize = 8;

/// Where lines go, one after the other.
pub(super) struct Journal {
    path: Arc<Path>,
    waiting: Semaphore,
    /// One thread at a time waits for the disk, however many callers there are. It has the file whose directory is known
    /// to be on disk: a new file is not found after a crash unless its directory is there as well.
    turn: Arc<Mutex<Option<Identity>>>,
    tasks: TaskTracker,
}

/// A file, under whatever name: its device and its number there.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Identity(u64, u64);

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
    /// Makes the file where there is none: a disk that takes no lines is found out before anybody is asked for any.
    ///
    /// # Errors
    /// When the file cannot be written to, or others may read it.
    pub(super) async fn open(path: PathBuf, tasks: TaskTracker) -> Result<Self, Error> {
        let path: Arc<Path> = path.into();
        let opened = {
            let path = Arc::clone(&path);
            move || prepare(&path).map_err(|source| Error::Journal { path: path.to_path_buf(), source })
        };
        tasks.spawn_blocking(opened).await.map_err(|_| Error::Ended)??;
        Ok(Self { path, waiting: Semaphore::new(MAX_WAITING), turn: Arc::default(), tasks })
    }

    /// Writes a line, and then does `written`. A caller who goes away before the line's turn has written nothing; one who
    /// goes away later has written all of it.
    ///
    /// # Errors
    /// When it is not on disk, too many wait for that already, or it takes too long; then `written` is not done. The line,
    /// or a part of it, may be there all the same, now or later.
    pub(super) async fn append(&self, line: Vec<u8>, written: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let busy = |_| io::Error::new(io::ErrorKind::ResourceBusy, format!("{MAX_WAITING} wait for the disk already"));
        let _place = self.waiting.try_acquire().map_err(busy)?;
        let end = Instant::now() + MAX_WAIT;
        let mut turn = timeout_at(end, Arc::clone(&self.turn).lock_owned()).await.map_err(|_| late())?;
        // Done and counted, or given up: whoever comes first says which.
        let is_settled = Arc::new(AtomicBool::new(false));
        let work = {
            let (path, is_settled) = (Arc::clone(&self.path), Arc::clone(&is_settled));
            move || {
                append(&path, &line, &mut turn)?;
                if !is_settled.swap(true, Ordering::AcqRel) {
                    written();
                }
                Ok(())
            }
        };
        // A thread that a disk holds cannot be ended. The router's end waits for it only as long as a caller does.
        let write = spawn_blocking(work);
        let waiting = async move {
            match timeout_at(end, write).await {
                Ok(ended) => ended.map_err(io::Error::other).flatten(),
                Err(_) if is_settled.swap(true, Ordering::AcqRel) => Ok(()),
                Err(_) => Err(late()),
            }
        };
        self.tasks.spawn(waiting).await.map_err(io::Error::other).flatten()
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the disk took more than {} s", MAX_WAIT.as_secs()))
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

fn prepare(path: &Path) -> Result<(), Problem> {
    match open_to_others(&open(path)?.metadata()?) {
        Some(mode) => Err(Problem::Open(mode)),
        None => Ok(()),
    }
}

fn append(path: &Path, line: &[u8], on_disk: &mut Option<Identity>) -> io::Result<()> {
    let file = locked(path)?;
    let metadata = file.metadata()?;
    let (identity, length) = (Identity::of(&metadata), metadata.len());
    if length == 0 {
        // New, though it may have the number of one that was deleted.
        *on_disk = None;
    }
    if is_torn(&file, length)? {
        (&file).write_all(&[b"\n", line].concat())?;
    } else {
        (&file).write_all(line)?;
    }
    file.sync_data()?;
    if *on_disk != Some(identity) {
        fs::File::open(directory(path))?.sync_all()?;
        *on_disk = Some(identity);
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)
}

/// The file, for this thread alone: routers on one machine may share it, and who waits here waits for one line of another
/// one. Where the file system knows no locks, each has to have its own.
fn locked(path: &Path) -> io::Result<fs::File> {
    for _ in 0..MAX_RENAMES {
        let file = open(path)?;
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            locked => locked?,
        }
        // It may have been moved away while this thread waited. Whoever moved it takes it for complete.
        match fs::metadata(path) {
            Ok(there) if Identity::of(&there) == Identity::of(&file.metadata()?) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the file is moved away again and again"))
}

/// Whether the last line has no end.
fn is_torn(file: &fs::File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs as unix, sync::atomic::AtomicUsize};

    use super::*;

    async fn journal(path: &Path) -> Journal {
        Journal::open(path.to_owned(), TaskTracker::new()).await.unwrap()
    }

    /// As another program might hold it.
    fn held(path: &Path) -> fs::File {
        let file = open(path).unwrap();
        file.lock().unwrap();
        file
    }

    #[tokio::test]
    async fn lines_stand_one_below_the_other_for_their_owner_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let (one, two) = (journal(&path).await, journal(&path).await);
        for (journal, line) in [(&one, "a\n"), (&two, "b\n"), (&one, "c\n")] {
            journal.append(line.into(), || {}).await.unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    // The clock stands still while a thread works: this disk may take its time.
    #[tokio::test(start_paused = true)]
    async fn many_at_once_lose_nothing_and_mix_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        // Two routers, and lines longer than a page.
        let journals = [journal(&path).await, journal(&path).await];
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
        let journal = journal(&path).await;
        for (before, after) in [("a\n{\"ti", "a\n{\"ti\nb\n"), ("a", "a\nb\n"), ("a\n", "a\nb\n"), ("", "b\n")] {
            fs::write(&path, before).unwrap();
            journal.append("b\n".into(), || {}).await.unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after, "after {before:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("feedback.jsonl"), dir.path().join("feedback.jsonl.1"));
        let journal = journal(&path).await;
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
        let path = dir.path().join("feedback.jsonl");
        let journal = journal(&path).await;
        // A directory cannot be written to, not even by root.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        journal.append("a\n".into(), count()).await.unwrap_err();
        assert_eq!(counted.load(Ordering::Relaxed), 0);
        fs::remove_dir(&path).unwrap();
        journal.append("a\n".into(), count()).await.unwrap();
        assert_eq!(counted.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_line_whose_turn_has_come_is_written_whoever_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let journal = journal(&path).await;
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

    #[tokio::test]
    async fn what_cannot_be_written_to_or_is_open_to_others_is_found_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let open = |path: &Path| Journal::open(path.to_owned(), TaskTracker::new());
        // Whose directory is there, but not the one that it stands for. Root is stopped by no permission.
        unix::symlink("none/feedback.jsonl", &path).unwrap();
        assert!(matches!(open(&path).await, Err(Error::Journal { source: Problem::Io(_), .. })));
        fs::remove_file(&path).unwrap();
        open(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, unix::PermissionsExt::from_mode(0o604)).unwrap();
        assert!(matches!(open(&path).await, Err(Error::Journal { source: Problem::Open(0o604), .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_few_do_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(&dir.path().join("feedback.jsonl")).await;
        let turn = Arc::clone(&journal.turn).lock_owned().await;
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(journal.append("a\n".into(), || {}))).collect();
        for waits in &mut waiting {
            assert!(futures::poll!(waits).is_pending());
        }
        let refused = journal.append("b\n".into(), || {}).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        waiting.pop();
        drop(turn);
        let (taken, others) = tokio::join!(journal.append("b\n".into(), || {}), futures::future::join_all(waiting));
        assert!(taken.is_ok() && others.iter().all(Result::is_ok), "who went away made room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_only_so_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let journal = journal(&path).await;
        let other = held(&path);
        let counted = Arc::new(AtomicUsize::new(0));
        let append = |line: &str| {
            let counted = Arc::clone(&counted);
            let count = move || {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            Box::pin(journal.append(line.into(), count))
        };
        let (mut first, mut second) = (append("late\n"), append("never\n"));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        tokio::time::advance(MAX_WAIT).await;
        assert_eq!(first.await.unwrap_err().kind(), io::ErrorKind::TimedOut, "its thread waits");
        assert_eq!(second.await.unwrap_err().kind(), io::ErrorKind::TimedOut, "its turn did not come");
        drop(other);
        append("next\n").await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "late\nnext\n");
        assert_eq!(counted.load(Ordering::Relaxed), 1, "what was refused does not count, however late it is written");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_router_does_not_wait_for_a_disk_that_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        let journal = journal(&path).await;
        let other = held(&path);
        let mut gone = Box::pin(journal.append("a\n".into(), || {}));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        journal.tasks.close();
        tokio::time::advance(MAX_WAIT).await;
        journal.tasks.wait().await;
        assert_eq!(fs::read(&path).unwrap(), b"");
        drop(other);
    }

    #[tokio::test]
    async fn a_new_file_is_found_after_a_crash_whatever_failed_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feedback.jsonl");
        // It takes every byte, and fails when it is to be put on disk.
        unix::symlink("/dev/null", &path).unwrap();
        let mut on_disk = None;
        append(&path, b"a\n", &mut on_disk).unwrap_err();
        assert_eq!(on_disk, None);
        // By then something of it is there.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a\n").unwrap();
        append(&path, b"b\n", &mut on_disk).unwrap();
        let first = Identity::of(&fs::metadata(&path).unwrap());
        assert_eq!(on_disk, Some(first), "the directory was put on disk with it");
        // Another router began a new file.
        fs::rename(&path, dir.path().join("feedback.jsonl.1")).unwrap();
        fs::write(&path, "c\n").unwrap();
        append(&path, b"d\n", &mut on_disk).unwrap();
        assert!(on_disk.is_some_and(|identity| identity != first));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_file_that_was_moved_away_gets_no_line_of_those_who_waited_for_it() {
        for is_begun_anew in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (path, moved) = (dir.path().join("feedback.jsonl"), dir.path().join("feedback.jsonl.1"));
            let journal = journal(&path).await;
            let other = held(&path);
            let mut waits = Box::pin(journal.append("a\n".into(), || {}));
            let is_open_twice = || {
                let open = fs::read_dir("/proc/self/fd").unwrap();
                open.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|file| file == path)).count() == 2
            };
            while !is_open_twice() {
                assert!(futures::poll!(&mut waits).is_pending());
                tokio::task::yield_now().await;
            }
            fs::rename(&path, &moved).unwrap();
            if is_begun_anew {
                open(&path).unwrap();
            }
            drop(other);
            waits.await.unwrap();
            assert_eq!((fs::read(&moved).unwrap(), fs::read(&path).unwrap()), (Vec::new(), b"a\n".to_vec()));
        }
    }
}
