//! Model directories without a manifest: what is read from the graph, what is refused, and how models come and go.

use std::fs;
use std::path::Path;

use consilium_engine::{DataType, Engine, EngineOptions, Error, Kind, Store, Tensor, TensorEntry, inspect_bare};
use tokio::task::JoinSet;

use crate::support::{bare, call, fixture, load_bare, store};

const GOOD: &str = "repository";
const REFUSED: &str = "repository-refused";

async fn load(store: &Store, name: &str) -> Engine {
    load_bare(store, GOOD, name, "1").await.unwrap()
}

/// `value` + `value`.
async fn add(engine: &Engine, value: f32) -> Result<Vec<f32>, Error> {
    let [a, b] = ["a", "b"].map(|name| Tensor::fp32(name, vec![1, 16], &[value; 16]));
    let answer = engine.tensors(vec![a, b], call()).await?;
    Ok(answer.tensors[0].to_fp32().unwrap().split_off(15))
}

fn problems(result: Result<Engine, Error>) -> Vec<String> {
    match result {
        Err(Error::Manifest { problems, .. }) => problems,
        other => panic!("should be refused: {other:?}"),
    }
}

/// A directory with the files of another, and some more.
fn copy(of: &Path, more: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(of).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    for (name, content) in more {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

#[tokio::test]
async fn the_graph_is_the_manifest() {
    let store = store();
    let engine = load(&store, "optional-input").await;
    let manifest = engine.manifest();
    let entry = |name: &str, shape: &[i64], optional| TensorEntry {
        name: name.to_owned(),
        datatype: DataType::Fp32,
        shape: shape.to_vec(),
        optional,
        any_rank: false,
    };
    assert_eq!(
        (manifest.name.as_str(), manifest.version.as_str(), manifest.kind),
        ("optional-input", "1", Kind::Tensors)
    );
    assert_eq!(manifest.inputs, [entry("x", &[-1, 4], false), entry("scale", &[], true)]);
    assert_eq!(manifest.outputs, [entry("y", &[-1, 4], false)]);
    assert_eq!((manifest.files.len(), manifest.files[0].path.as_str()), (1, "model.onnx"));
    assert!(manifest.batches() && engine.joins());
    let unknown = load(&store, "unknown-rank").await;
    assert!(unknown.manifest().outputs[0].any_rank && !unknown.manifest().inputs[0].any_rank);
    let scalar = load(&store, "scalar").await;
    assert!(scalar.manifest().inputs.iter().all(|input| input.shape.is_empty() && !input.any_rank));
}

#[tokio::test]
async fn every_datatype_of_the_protocol_is_told() {
    let store = store();
    let datatypes = [
        DataType::Bool,
        DataType::Uint8,
        DataType::Uint16,
        DataType::Uint32,
        DataType::Uint64,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Fp16,
        DataType::Bf16,
        DataType::Fp32,
        DataType::Fp64,
        DataType::Bytes,
    ];
    for datatype in datatypes {
        let engine = load(&store, &format!("identity-{}", datatype.as_str().to_lowercase())).await;
        let manifest = engine.manifest();
        assert_eq!((manifest.inputs[0].datatype, manifest.outputs[0].datatype), (datatype, datatype));
        assert!(engine.joins(), "{datatype}");
    }
}

#[tokio::test]
async fn what_no_tensor_of_the_protocol_fits_is_refused_with_its_name_and_type() {
    let store = store();
    let expected = "expected a tensor of a datatype of the Open Inference Protocol";
    for (name, reasons) in [
        ("sequence-input", &["inputs[x]: sequence(tensor(float))"][..]),
        ("map-output", &["outputs[y]: sequence(map(int64,tensor(float)))"]),
        ("optional-sequence", &["inputs[x]: optional(sequence(tensor(float)))"]),
        ("float8", &["inputs[x]: tensor(float8e4m3fn)", "outputs[y]: tensor(float8e4m3fn)"]),
    ] {
        let reasons: Vec<String> = reasons.iter().map(|reason| format!("{reason}; {expected}")).collect();
        assert_eq!(problems(load_bare(&store, REFUSED, name, "1").await), reasons, "{name}");
        let inspected = inspect_bare(&bare(REFUSED, name, "1"));
        assert_eq!((inspected.problems, inspected.digest), (reasons, None));
    }
}

#[tokio::test]
async fn the_digest_is_of_the_files_and_a_name_makes_another_model() {
    let store = store();
    let first = load(&store, "add-sub").await;
    assert_eq!(inspect_bare(&bare(GOOD, "add-sub", "1")).digest.as_deref(), Some(first.digest()));
    let dir = copy(&bare(GOOD, "add-sub", "1"), &[("notes.txt", b"nobody names this file")]);
    let again = store.load_bare(dir.path(), "add-sub", "1", EngineOptions::default()).await.unwrap();
    assert!(std::ptr::eq(first.manifest(), again.manifest()));
    let renamed = store.load_bare(dir.path(), "add-sub", "2", EngineOptions::default()).await.unwrap();
    assert_eq!((renamed.digest(), renamed.manifest().version.as_str()), (first.digest(), "2"));
    let second = load_bare(&store, GOOD, "add-sub", "2").await.unwrap();
    assert_ne!(second.digest(), first.digest());
    assert_ne!(add(&first, 1.0).await.unwrap(), add(&second, 1.0).await.unwrap());
}

#[tokio::test]
async fn with_a_manifest_it_is_checked_as_any_other() {
    let store = store();
    let engine = store.load_bare(&fixture("tiny-add"), "other", "7", EngineOptions::default()).await.unwrap();
    assert_eq!((engine.manifest().name.as_str(), engine.manifest().version.as_str()), ("tiny-add", "1"));
    let wrong = store.load_bare(&fixture("bad-hash"), "other", "7", EngineOptions::default()).await;
    assert!(problems(wrong)[0].contains("sha256 mismatch"));
}

#[tokio::test]
async fn external_data_is_found_in_the_directory_and_nowhere_else() {
    let store = store();
    let dir = tempfile::tempdir().unwrap();
    // Both names have eleven bytes.
    let model = fs::read(fixture("external-escape").join("model.onnx")).unwrap();
    let at = model.windows(11).position(|window| window == b"../evil.bin").unwrap();
    fs::write(dir.path().join("model.onnx"), &model).unwrap();
    let load = || store.load_bare(dir.path(), "external", "1", EngineOptions::default());
    assert_eq!(
        problems(load().await),
        ["model.onnx: keeps data in `../evil.bin`: outside the model directory"],
        "{:?} is beside the directory",
        fixture("evil.bin")
    );

    let model = [&model[..at], b"weights.bin", &model[at + 11..]].concat();
    fs::write(dir.path().join("model.onnx"), &model).unwrap();
    assert!(problems(load().await)[0].starts_with("model.onnx: keeps data in `weights.bin`: "));
    let weights: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(dir.path().join("weights.bin"), &weights).unwrap();
    let engine = load().await.unwrap();
    assert_eq!(engine.manifest().files.len(), 2);
    let x = Tensor::fp32("x", vec![1, 4], &[10.0; 4]);
    let y = engine.tensors(vec![x], call()).await.unwrap().tensors[0].to_fp32().unwrap();
    assert_eq!(y, [11.0, 12.0, 13.0, 14.0]);
    // Other weights are another model.
    fs::write(dir.path().join("weights.bin"), vec![0; 16]).unwrap();
    assert_ne!(load().await.unwrap().digest(), engine.digest());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_may_not_lead_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(bare(GOOD, "scalar", "1").join("model.onnx"), dir.path().join("model.onnx")).unwrap();
    let refused = store().load_bare(dir.path(), "scalar", "1", EngineOptions::default()).await;
    assert!(problems(refused)[0].contains("leads out of the model directory"));
}

#[tokio::test]
async fn the_last_unload_frees_the_model_and_a_load_brings_it_back() {
    let store = store();
    let (one, two) = (load(&store, "add-sub").await, load(&store, "add-sub").await);
    store.unload(one).await;
    assert_eq!(add(&two, 2.0).await.unwrap(), [4.0], "somebody else has loaded it");
    let kept = two.clone();
    store.unload(two).await;
    assert!(matches!(add(&kept, 2.0).await, Err(Error::Closed)));
    let again = load(&store, "add-sub").await;
    assert_eq!(add(&again, 2.0).await.unwrap(), [4.0]);
    // What is not there any more is not unloaded twice.
    store.unload(kept).await;
    assert_eq!(add(&again, 2.0).await.unwrap(), [4.0]);
}

#[tokio::test]
async fn an_unload_finishes_what_was_accepted() {
    let store = store();
    let engine = load(&store, "add-sub").await;
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let engine = engine.clone();
        tasks.spawn(async move { add(&engine, 1.0).await });
    }
    // One turn of this single thread polls every task up to where it waits for its answer.
    tokio::task::yield_now().await;
    store.unload(engine).await;
    for answer in tasks.join_all().await {
        assert_eq!(answer.unwrap(), [2.0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_race_with_unloads_get_an_engine_that_works() {
    let store = store();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                let engine = load(&store, "add-sub").await;
                assert_eq!(add(&engine, 3.0).await.unwrap(), [6.0]);
                store.unload(engine).await;
            }
        });
    }
    tasks.join_all().await;
}
