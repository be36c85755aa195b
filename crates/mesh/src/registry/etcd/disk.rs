//! The table on disk: what a router knew last, so that one that starts while etcd is away can serve. Written whole and
//! swapped in, so that whoever reads it finds one state or the other.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::table::Table;
use crate::registry::{Card, Expert, Instance, Record, Snapshot, card::sha256};

const SCHEMA: u32 = 1;

const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The file's first line. What follows is checked against it: half a table is worse than none.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema: u32,
    mesh: String,
    /// SHA-256 of the second line, lower-case hexadecimal.
    digest: String,
}

/// The file's second line.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    cards: Vec<Card>,
    instances: Vec<SavedInstance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedInstance {
    expert: String,
    /// As in the registry: `{"Addr":…,"Record":{…}}`.
    value: String,
    #[serde(default)]
    expired: bool,
}

/// Why there is nothing to start from.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it is of the mesh {0}")]
    OtherMesh(String),
}

/// What a process begins with, and a word about why: the table of last time, or an empty one; `None` where the file is
/// another mesh's, which is not to be written over.
pub(super) async fn start(path: PathBuf, mesh: String) -> Option<Table> {
    let shown = path.display().to_string();
    let loaded = spawn_blocking(move || load(&path, &mesh)).await;
    match loaded.map_err(|error| Error::Read(io::Error::other(error))).flatten() {
        Ok(Some(snapshot)) => {
            tracing::info!(path = shown, experts = snapshot.experts.len(), "starting with the table of last time");
            Some(Table::new(snapshot))
        }
        Ok(None) => Some(Table::default()),
        Err(error @ Error::OtherMesh(_)) => {
            tracing::error!(path = shown, %error, "the table cannot be used, and none will be kept");
            None
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(path = shown, error, "the table of last time cannot be used");
            Some(Table::default())
        }
    }
}

/// Reads the table of `mesh`; `None` when there is no file yet.
fn load(path: &Path, mesh: &str) -> Result<Option<Snapshot>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Read(error)),
    };
    decode(&bytes, mesh).map(Some)
}

/// Keeps the table of `mesh` at `path` as `snapshots` change, until `stop`; what has changed by then is still written.
/// Threads that may wait write it: a disk that hangs must keep nobody from a lease or a watch.
pub(super) async fn keep(
    path: PathBuf,
    mesh: String,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
) {
    let mut last = false;
    while !last {
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                // Changes come in bursts; the disk gets what they come to.
                last = stop.run_until_cancelled(sleep(SAVE_AFTER)).await.is_none();
            }
            () = stop.cancelled() => {
                last = true;
                if !snapshots.has_changed().unwrap_or(false) {
                    return;
                }
            }
        }
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let (to, of) = (path.clone(), mesh.clone());
        let saved = spawn_blocking(move || save(&to, &of, &snapshot)).await.map_err(io::Error::other).flatten();
        if let Err(error) = saved {
            let path = path.display();
            tracing::warn!(%path, %error, "the table cannot be written: a start without etcd would find an older one");
            snapshots.mark_changed();
            let _ = stop.run_until_cancelled(sleep(SAVE_AGAIN_AFTER)).await;
        }
    }
}

/// Writes the table beside `path` and moves it there.
fn save(path: &Path, mesh: &str, snapshot: &Snapshot) -> io::Result<()> {
    let bytes = encode(mesh, snapshot)?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Two routers that were given the same file must not write into each other's half-written one; in containers they are
    // all process 1.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:08x}.new", rand::random::<u32>()));
    let beside = PathBuf::from(beside);
    let written = fs::File::create(&beside).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn encode(mesh: &str, snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let mut saved = Saved { gate: snapshot.gate.as_deref().map(str::to_owned), ..Saved::default() };
    for expert in snapshot.experts.values() {
        saved.cards.extend(expert.cards.values().map(|card| Card::clone(card)));
        for instance in expert.instances.values() {
            let value = instance.record.encode().map_err(io::Error::other)?;
            let (expert, expired) = (expert.name.clone(), instance.expired);
            saved.instances.push(SavedInstance { expert, value, expired });
        }
    }
    let table = serde_json::to_string(&saved)?;
    let header = Header { schema: SCHEMA, mesh: mesh.to_owned(), digest: sha256(table.as_bytes()) };
    Ok(format!("{}\n{table}\n", serde_json::to_string(&header)?).into_bytes())
}

fn decode(bytes: &[u8], mesh: &str) -> Result<Snapshot, Error> {
    let damaged = |error: serde_json::Error| Error::Damaged(error.to_string());
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Damaged("it is not text".to_owned()))?;
    let (header, table) = text.split_once('\n').unwrap_or((text, ""));
    let table = table.trim_end();
    let header: Header = serde_json::from_str(header).map_err(damaged)?;
    if header.schema != SCHEMA {
        return Err(Error::Damaged(format!("schema {} instead of {SCHEMA}", header.schema)));
    }
    if header.mesh != mesh {
        return Err(Error::OtherMesh(header.mesh));
    }
    if sha256(table.as_bytes()) != header.digest {
        return Err(Error::Damaged("its digest does not fit".to_owned()));
    }
    let saved: Saved = serde_json::from_str(table).map_err(damaged)?;
    let mut snapshot = Snapshot { revision: 1, gate: saved.gate.map(Arc::from), ..Snapshot::default() };
    let expert = |snapshot: &mut Snapshot, name: &str, change: &mut dyn FnMut(&mut Expert)| {
        let known = snapshot.experts.entry(name.to_owned()).or_default();
        let known = Arc::make_mut(known);
        name.clone_into(&mut known.name);
        change(known);
    };
    for card in saved.cards {
        let card = Arc::new(card);
        expert(&mut snapshot, &card.expert, &mut |expert| {
            expert.cards.insert(card.version.clone(), Arc::clone(&card));
        });
    }
    for instance in saved.instances {
        let record =
            Record::decode(&instance.expert, &instance.value).map_err(|error| Error::Damaged(error.to_string()))?;
        let instance = Arc::new(Instance { expired: instance.expired, ..Instance::announced(record) });
        expert(&mut snapshot, &instance.record.expert, &mut |expert| {
            expert.instances.insert(instance.record.instance.clone(), Arc::clone(&instance));
        });
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{
        etcd::{keys::Key, table::tests::table_of},
        testing::{card, record},
    };

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/table.json");
        assert!(load(&path, "clinic").unwrap().is_none(), "the first start");
        let mut table = table_of(&[record("labs", "a"), record("labs", "b"), record("pharmacy", "c")], &[card("labs")]);
        table.put(&Key::Gate, b"top_k: 2");
        save(&path, "clinic", table.snapshot()).unwrap();
        save(&path, "clinic", table.snapshot()).unwrap();
        let loaded = load(&path, "clinic").unwrap().unwrap();
        assert_eq!(loaded.experts, table.snapshot().experts);
        assert_eq!(loaded.gate.as_deref(), Some("top_k: 2"));
        assert_eq!(loaded.revision, 1, "it is known");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_damaged_table_and_one_of_another_mesh_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.json");
        let table = table_of(&[record("labs", "a")], &[]);
        save(&path, "clinic", table.snapshot()).unwrap();
        assert!(matches!(load(&path, "bank"), Err(Error::OtherMesh(mesh)) if mesh == "clinic"));
        let whole = fs::read_to_string(&path).unwrap();
        for broken in [whole.replace("127.0.0.1:", "127.0.0.2:"), whole[..whole.len() / 2].to_owned(), String::new()] {
            fs::write(&path, broken).unwrap();
            assert!(matches!(load(&path, "clinic"), Err(Error::Damaged(_))));
        }
    }
}
