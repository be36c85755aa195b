//! Models from elsewhere. A model is downloaded beside where it will be, verified as `consilium models` verifies, and only
//! then put in its place: under its name there is never a part of it.

mod download;
mod wanted;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_engine::Manifest;
use tokio::task::spawn_blocking;

use self::download::{Downloads, Expected, Size};
pub(crate) use self::wanted::Wanted;
use crate::{
    error::{Error, Trouble},
    model::{self, MANIFEST, Model},
    progress::Progress,
    render::models::size,
};

/// Where models are on their way, inside the directory that they are fetched into: on the same filesystem, so that a rename
/// is all that is left to do. No model has such a name, and no model directory is looked for there.
const WORKSHOP: &str = ".fetch";
/// As much as the engine reads of one.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Fetches the models one after the other into directories of their names in `into`, which is made where there is none.
/// Those that are there and right stay as they are. No file may take longer than `timeout`. Returns all of them, verified.
///
/// # Errors
/// The first model that cannot be had, and why; those before it are there.
pub(crate) async fn fetch(
    wanted: &[Wanted],
    into: &Path,
    timeout: Duration,
    progress: &Progress,
) -> Result<Vec<Model>, Error> {
    let downloads = Downloads::new(wanted, timeout)?;
    let workshop = Workshop::open(into.to_owned(), progress).await?;
    let mut models = Vec::new();
    for one in wanted {
        let home = into.join(&one.name);
        let looking = progress.step(one.name.clone());
        let there = inspect(home.clone()).await?;
        if is_right(&there, one) {
            looking.done("already there");
            models.push(there);
            continue;
        }
        drop(looking);
        let made = workshop.make(one, &downloads, progress).await;
        let made = made.map_err(|details| {
            // It may be large, and why it came to nothing is what has to be said.
            let _ = workshop.emptied("model");
            Error::Failed(Trouble { headline: format!("the model {} is not fetched", one.name), details, hint: None })
        })?;
        models.push(Model { directory: home, ..made });
    }
    Ok(models)
}

/// Whether this is the model that is wanted, to the last byte.
fn is_right(model: &Model, wanted: &Wanted) -> bool {
    model.verified && model.card.as_ref().is_some_and(|card| card.digest == wanted.sha256)
}

/// Every byte is read and hashed, which takes a while.
async fn inspect(dir: PathBuf) -> Result<Model, Error> {
    let inspected = spawn_blocking(move || model::inspect(&dir)).await;
    inspected.map_err(|error| Error::Failed(Trouble::of("the model cannot be verified", &error)))
}

/// A place for one model at a time, and for one process at a time.
struct Workshop {
    into: PathBuf,
    /// Locked as long as this is open.
    _lock: File,
}

impl Workshop {
    /// Waits for another process that fetches into the same directory: what it fetched need not be fetched again.
    async fn open(into: PathBuf, progress: &Progress) -> Result<Self, Error> {
        let unusable = |error: &io::Error| {
            Error::Usage(Trouble::of(format!("models cannot be put into {}", into.display()), error))
        };
        let workshop = into.join(WORKSHOP);
        fs::create_dir_all(&workshop).map_err(|error| unusable(&error))?;
        let lock = File::create(workshop.join("lock")).map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Ok(()) => return Ok(Self { _lock: lock, into }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(unusable(&error)),
        }
        let waiting = progress.long_step("waiting", "another fetch is under way");
        let locked = spawn_blocking(move || lock.lock().map(|()| lock)).await.map_err(io::Error::other).flatten();
        drop(waiting);
        Ok(Self { _lock: locked.map_err(|error| unusable(&error))?, into })
    }

    /// Downloads a model, verifies it and puts it in its place. `Err` lists what is wrong.
    async fn make(&self, wanted: &Wanted, downloads: &Downloads, progress: &Progress) -> Result<Model, Vec<String>> {
        let fresh = self.emptied("model").map_err(|problem| vec![problem])?;
        fs::create_dir(&fresh).map_err(|error| vec![of(&fresh, &error)])?;
        let manifest = fresh.join(MANIFEST);
        let expected = Expected { size: Size::AtMost(MAX_MANIFEST_BYTES), sha256: wanted.sha256.clone() };
        let step = progress.long_step(format!("{} {MANIFEST}", wanted.name), &format!("from {}", wanted.url));
        downloads.file(&wanted.url.file(MANIFEST), &manifest, expected, step.gauge()).await.map_err(|it| vec![it])?;
        step.done("");

        let bytes = fs::read(&manifest).map_err(|error| vec![of(&manifest, &error)])?;
        // It has the right hash and may be wrong all the same. Paths that lead out of the directory are refused here.
        let in_manifest = |problem: String| format!("{}: {problem}", wanted.url.file(MANIFEST));
        let files =
            Manifest::parse(&bytes).map_err(|wrong| wrong.into_iter().map(in_manifest).collect::<Vec<_>>())?.files;
        for file in files {
            let to = fresh.join(&file.path);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(|error| vec![of(parent, &error)])?;
            }
            let step = progress.long_step(format!("{} {}", wanted.name, file.path), &size(file.size));
            let expected = Expected { size: Size::Exactly(file.size), sha256: file.sha256 };
            let got = downloads.file(&wanted.url.file(&file.path), &to, expected, step.gauge()).await;
            got.map_err(|problem| vec![problem])?;
            step.done(&size(file.size));
        }
        let model = inspect(fresh.clone()).await.map_err(|error| error.trouble().details)?;
        if !is_right(&model, wanted) {
            let wrong = model.problems.iter().map(|problem| format!("{}: {problem}", wanted.url));
            let none = model.verified.then(|| format!("{}: one of its files is the manifest itself", wanted.url));
            return Err(wrong.chain(none).collect());
        }
        self.put(&fresh, &wanted.name).map_err(|problem| vec![problem])?;
        Ok(model)
    }

    /// What was there before steps aside first, because no directory is renamed onto one that holds something. Whoever
    /// is stopped in between finds the model missing and fetches it again.
    fn put(&self, fresh: &Path, name: &str) -> Result<(), String> {
        let home = self.into.join(name);
        let aside = self.emptied("replaced")?;
        match fs::rename(&home, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of(&home, &error)),
            _ => {}
        }
        fs::rename(fresh, &home).map_err(|error| of(&home, &error))?;
        self.emptied("replaced").map(drop)
    }

    /// A path in the workshop where nothing is, not even what a process that was killed has left there.
    fn emptied(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.into.join(WORKSHOP).join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| of(&path, &error))?;
        Ok(path)
    }
}

fn of(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
