//! Where the tests find ONNX Runtime and the models, and a deadline that they never meet.

use std::path::PathBuf;
use std::time::Duration;

use consilium_engine::{Call, Engine, EngineOptions, Error, Store, StoreOptions};
use tokio::time::{Instant, timeout};

/// Long enough for the slowest machine, short enough to end a test that hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A path of the repository; panics with what to do when it is not there.
fn path(relative: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(relative);
    assert!(path.exists(), "{} is missing: run make setup first", path.display());
    path
}

pub(crate) fn model(name: &str) -> PathBuf {
    path("models/build").join(name)
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    path("models/build/fixtures").join(name)
}

/// A store on two cores.
pub(crate) fn store() -> Store {
    let onnxruntime = Some(path(".tools/lib/libonnxruntime.so"));
    Store::open(StoreOptions { onnxruntime, cores: Some(2.try_into().unwrap()), ..StoreOptions::default() }).unwrap()
}

pub(crate) async fn load_fixture(store: &Store, name: &str) -> Result<Engine, Error> {
    store.load(&fixture(name), EngineOptions::default()).await
}

/// A model of a repository fixture, by name and version.
pub(crate) async fn load_bare(store: &Store, repository: &str, name: &str, version: &str) -> Result<Engine, Error> {
    store.load_bare(&bare(repository, name, version), name, version, EngineOptions::default()).await
}

/// Where it lies.
pub(crate) fn bare(repository: &str, name: &str, version: &str) -> PathBuf {
    fixture(repository).join(name).join(version)
}

pub(crate) fn call() -> Call {
    Call { deadline: Instant::now() + PATIENCE }
}

/// What is waited for here always comes; if not, the test fails instead of hanging.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.expect("it never happened")
}
