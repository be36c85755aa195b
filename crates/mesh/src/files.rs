//! Files that somebody changes while a process runs: how one tells that they were changed, and that whoever changes them
//! has finished. What is in them is their reader's business.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What tells that a file was written without reading it. The inode is there for files that are replaced by a rename
/// or behind a symbolic link that is turned, as Kubernetes does with config maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// `None` where the disk does not say.
    pub modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// How files are at one moment; `None` for one that cannot be looked at.
type State = BTreeMap<PathBuf, Option<Stamp>>;

/// Files that are looked at now and then. Nothing is read, and nothing of the system is asked to tell: notifications are
/// lost over network disks and where a link is turned, a look is not.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// How they were when they were taken up last.
    taken: State,
    /// How they were at the last look, where that was otherwise.
    seen: Option<State>,
}

impl Stamp {
    /// # Errors
    /// When there is no such file, or it cannot be looked at.
    pub async fn of(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        // Files may lie on a disk that takes its time.
        let metadata =
            tokio::task::spawn_blocking(move || std::fs::metadata(path)).await.map_err(io::Error::other)??;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self { modified: metadata.modified().ok(), length: metadata.len(), inode })
    }
}

impl Watch {
    /// Of these files, as they are now.
    pub async fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { taken: state(paths).await, seen: None }
    }

    /// Looks at these files. True when they are others than at the last time that this was true, and the same as at the
    /// look before: whoever writes them need not do it in one step, and the first half of a file may be a file. What
    /// happens to them after this look is seen at the next one, so they are to be read now.
    pub async fn look(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> bool {
        self.compare(state(paths).await)
    }

    fn compare(&mut self, now: State) -> bool {
        if now == self.taken {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return false;
        }
        self.taken = now;
        self.seen = None;
        true
    }
}

async fn state(paths: impl IntoIterator<Item = PathBuf>) -> State {
    let mut state = State::new();
    for path in paths {
        let stamp = Stamp::of(&path).await.ok();
        state.insert(path, stamp);
    }
    state
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Looks until nothing is new, and says how often something was.
    async fn taken_up(watch: &mut Watch, path: &Path) -> usize {
        let mut times = 0;
        for _ in 0..4 {
            times += usize::from(watch.look([path.to_owned()]).await);
        }
        times
    }

    #[tokio::test]
    async fn a_file_that_changed_is_taken_up_once_and_only_when_it_has_come_to_rest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.yaml");
        let mut watch = Watch::new([file.clone()]).await;
        assert_eq!(taken_up(&mut watch, &file).await, 0, "that there is none is no news");
        fs::write(&file, "a").unwrap();
        assert!(!watch.look([file.clone()]).await, "somebody may be writing it");
        fs::write(&file, "ab").unwrap();
        assert!(!watch.look([file.clone()]).await, "indeed");
        assert_eq!(taken_up(&mut watch, &file).await, 1);
        fs::remove_file(&file).unwrap();
        assert_eq!(taken_up(&mut watch, &file).await, 1, "one that is gone is news");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_that_is_turned_is_a_change_as_with_config_maps() {
        let dir = tempfile::tempdir().unwrap();
        let (data, next) = (dir.path().join("..data"), dir.path().join("..data_tmp"));
        for version in ["one", "two"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("mesh.yaml"), "same length").unwrap();
        }
        std::os::unix::fs::symlink("one", &data).unwrap();
        let file = dir.path().join("mesh.yaml");
        std::os::unix::fs::symlink("..data/mesh.yaml", &file).unwrap();
        let mut watch = Watch::new([file.clone()]).await;
        assert_eq!(taken_up(&mut watch, &file).await, 0);
        std::os::unix::fs::symlink("two", &next).unwrap();
        fs::rename(&next, &data).unwrap();
        assert_eq!(taken_up(&mut watch, &file).await, 1);
    }

    #[tokio::test]
    async fn other_files_than_before_are_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        let mut watch = Watch::new([one.clone()]).await;
        for expected in [false, true, false] {
            assert_eq!(watch.look([one.clone(), two.clone()]).await, expected);
        }
    }
}
