//! `consilium up --etcd` and `consilium experts retire`, as a person uses them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_tests::{
    ExpertFiles, models,
    processes::{Announced, Process, Signal, built, until},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Mesh, logs};

/// A mesh of these experts, on the small model.
fn write(dir: &Path, mesh: &Mesh, experts: &[&Path]) -> PathBuf {
    let file = dir.join("mesh.yaml");
    let mesh = json!({
        "name": mesh.name,
        "models": models().join("fixtures"),
        "experts": experts,
        "settle": "0s",
        "gate": {"encoder": "tiny-text"},
    });
    // JSON is YAML too.
    fs::write(&file, mesh.to_string()).expect("a temporary file can be written");
    file
}

async fn announced(mesh: &Mesh, wanted: usize) -> Vec<Announced> {
    let look = async || {
        let found = mesh.etcd.announced(&mesh.name, ExpertFiles::LABS.name).await;
        (found.len() == wanted).then_some(found)
    };
    until("etcd lists the expert as often as wanted", look).await.0
}

#[tokio::test]
async fn a_mesh_in_one_process_is_known_to_others_leaves_in_order_and_is_retired() {
    let mesh = Mesh::new().await;
    let dir = TempDir::new().expect("a temporary directory can be made");
    let expert = ExpertFiles::LABS.write(dir.path());
    let file = write(dir.path(), &mesh, &[&expert]);
    let urls = mesh.etcd.urls().join(",");

    let mut command = Command::new(built("consilium"));
    command.arg("up").arg(&file).args(["--ephemeral", "--etcd", &urls]);
    let mut up = Process::spawn("up", command, &logs());
    let instance = announced(&mesh, 1).await.remove(0).record.instance;

    let retire = async || {
        let mut command = Command::new(built("consilium"));
        command.args(["experts", "retire", ExpertFiles::LABS.name, "--etcd", &urls, "--mesh"]).arg(&file);
        let output = command.output().await.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = retire().await;
    assert!(code == Some(1) && said.contains(&instance), "{code:?}: {said}");

    up.signal(Signal::TERM);
    assert_eq!(up.ended().await.code(), Some(0));
    announced(&mesh, 0).await;
    // The expert's own files are not needed for it.
    fs::remove_dir_all(expert.parent().expect("it lies in a directory")).expect("it can be removed");
    let (code, said) = retire().await;
    assert!(code == Some(0) && said.contains("retired"), "{code:?}: {said}");
    let (code, said) = retire().await;
    assert!(code == Some(2) && said.contains("knows no expert"), "{code:?}: {said}");
}

#[tokio::test]
async fn a_start_that_fails_takes_back_what_others_could_see() {
    let mesh = Mesh::new().await;
    let dir = TempDir::new().expect("a temporary directory can be made");
    let sound = ExpertFiles::LABS.write(dir.path());
    // Comes after the sound one, and finds out that its model takes no text when it starts.
    let unfit = dir.path().join("unfit.yaml");
    let expert = json!({
        "name": "unfit",
        "version": "1",
        "summary": "Has a model that takes no text.",
        "accepts": ["text"],
        "task": {"kind": "embed", "model": "tiny-add"},
        "slo": {"latency": "2s", "objective": 0.9},
    });
    fs::write(&unfit, expert.to_string()).expect("a temporary file can be written");
    let file = write(dir.path(), &mesh, &[&sound, &unfit]);
    let mut command = Command::new(built("consilium"));
    command.arg("up").arg(&file).args(["--ephemeral", "--etcd", &mesh.etcd.urls().join(",")]);
    let output = command.output().await.expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("tiny-add"), "{said}");
    // Not when the lease runs out: when the process has ended.
    let left = mesh.etcd.announced(&mesh.name, ExpertFiles::LABS.name).await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_said_to_be_not_there() {
    let mesh = Mesh::new().await;
    let dir = TempDir::new().expect("a temporary directory can be made");
    let file = write(dir.path(), &mesh, &[&ExpertFiles::LABS.write(dir.path())]);
    let mut command = Command::new(built("consilium"));
    command.args(["experts", "retire", "labs", "--etcd", "http://127.0.0.1:9", "--mesh"]).arg(&file);
    let output = command.output().await.expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("http://127.0.0.1:9 cannot be reached"), "{said}");
}
