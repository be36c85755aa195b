//! A model with a table of token vectors: what it takes to load one, and what it says of a text.

use std::fs;
use std::path::Path;
use std::thread;

use bytes::Bytes;
use consilium_engine::{EngineOptions, Error, inspect};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::{fixture, load_fixture, store};

const COLUMNS: usize = 4;

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The model `tiny-text` with a table in which the words of two topics have a direction each and others say nothing.
fn with_table(change: impl FnOnce(&mut Value, &mut [f32])) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(fixture("tiny-text")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let vocabulary = read_json(&dir.path().join("tokenizer.json"))["model"]["vocab"].clone();
    let mut manifest = read_json(&dir.path().join("manifest.json"));
    let vectors = manifest["tokenizer"]["vocab_size"].as_u64().unwrap() as usize;
    let (mut rows, mut scales) = (vec![0i8; vectors * COLUMNS], vec![0.0f32; vectors]);
    for (column, topic) in [(0, ["cat", "dog", "horse"]), (3, ["rain", "snow", "wind"])] {
        for word in topic {
            let id = vocabulary[word].as_u64().unwrap() as usize;
            (rows[id * COLUMNS + column], scales[id]) = (127, 0.5);
        }
    }
    manifest["tokens"] = json!({"file": "tokens.safetensors", "rows": vectors, "columns": COLUMNS});
    change(&mut manifest, &mut scales);
    let rows: Vec<u8> = rows.into_iter().map(i8::cast_unsigned).collect();
    let scales: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let table = [
        ("rows", TensorView::new(Dtype::I8, vec![vectors, COLUMNS], &rows).unwrap()),
        ("scales", TensorView::new(Dtype::F32, vec![vectors], &scales).unwrap()),
    ];
    let table = safetensors::serialize(table, None).unwrap();
    let sha256 = format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(&table)));
    let entry = json!({"path": "tokens.safetensors", "size": table.len(), "sha256": sha256});
    manifest["files"].as_array_mut().unwrap().push(entry);
    fs::write(dir.path().join("tokens.safetensors"), table).unwrap();
    fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    dir
}

#[tokio::test]
async fn a_text_has_the_direction_of_its_words() {
    let (store, dir) = (store(), with_table(|_, _| {}));
    let engine = store.load(dir.path(), EngineOptions::default()).await.unwrap();
    assert_eq!(engine.manifest().tokens.as_ref().unwrap().columns, COLUMNS);
    assert_eq!(inspect(dir.path()).problems, [""; 0]);
    let vector = |text: &str| engine.static_vector(text);
    assert_eq!(vector("the cat and the dog"), Some(vec![1.0, 0.0, 0.0, 0.0]));
    let both = vector("cat dog horse rain snow wind wind").unwrap();
    assert!((both[0] - 0.6).abs() < 1e-6 && (both[3] - 0.8).abs() < 1e-6, "{both:?}");
    for nothing in ["", " ", "the and", "unheard-of", &"cat ".repeat(1025)] {
        assert_eq!(vector(nothing), None, "{} bytes", nothing.len());
    }
    // More words than the model takes at once.
    assert_eq!(vector(&format!("{}rain", "the ".repeat(1000))), Some(vec![0.0, 0.0, 0.0, 1.0]));

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(vector("a cat"), Some(vec![1.0, 0.0, 0.0, 0.0])));
        }
    });
}

#[tokio::test]
async fn a_model_without_a_table_has_no_such_vector() {
    let (store, dir) = (store(), with_table(|_, _| {}));
    let plain = load_fixture(&store, "tiny-text").await.unwrap();
    assert_eq!(plain.static_vector("a cat"), None);
    let tensors = load_fixture(&store, "tiny-add").await.unwrap();
    assert_eq!(tensors.static_vector("a cat"), None);
    // The table is a file of the package as any other: with it, it is another model.
    let engine = store.load(dir.path(), EngineOptions::default()).await.unwrap();
    assert_ne!(engine.digest(), plain.digest());
}

#[tokio::test]
async fn a_table_that_is_not_as_the_manifest_says_is_refused() {
    let store = store();
    for (dir, problem) in [
        (with_table(|_, scales| scales[5] = f32::NAN), "tokens.safetensors: scale 5 is not finite or below 0"),
        (with_table(|manifest, _| manifest["tokens"]["columns"] = json!(8)), "tokens.safetensors: `rows` is I8 of ["),
        (
            with_table(|manifest, _| manifest["tokens"]["rows"] = json!(7)),
            "tokens.rows: 7, but tokenizer.vocab_size is ",
        ),
        (with_table(|manifest, _| manifest["tokens"]["file"] = json!("model.onnx")), "model.onnx: "),
    ] {
        match store.load(dir.path(), EngineOptions::default()).await {
            Err(Error::Manifest { problems, .. }) => {
                assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problems:?}");
                assert_eq!(inspect(dir.path()).problems, problems);
            }
            other => panic!("should be refused: {other:?}"),
        }
    }
}
