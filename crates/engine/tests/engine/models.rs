//! The engine on ONNX Runtime with the fixtures, each of them made to show one thing, and with a real encoder.

use bytes::Bytes;
use consilium_engine::{DataType, Engine, EngineOptions, Error, Kind, Store, Tensor, Unit};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::support::{call, fixture, load_fixture, model, store};

/// Everything that the error says was wrong with the directory.
async fn problems(store: &Store, name: &str) -> String {
    match load_fixture(store, name).await {
        Err(Error::Manifest { problems, .. }) => problems.join("; "),
        other => panic!("{name} should be refused: {other:?}"),
    }
}

async fn embed(engine: &Engine, text: &str) -> Vec<f32> {
    engine.text(text, call()).await.unwrap().outputs.remove(0).values
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// All texts at once, so that they meet in the queue. The answers are in the order of the texts.
async fn embed_together(engine: &Engine, texts: &[&str]) -> (Vec<Vec<f32>>, usize) {
    let mut tasks = JoinSet::new();
    for (at, text) in texts.iter().map(|text| (*text).to_owned()).enumerate() {
        let engine = engine.clone();
        tasks.spawn(async move { (at, engine.text(&text, call()).await.unwrap()) });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    let largest = answers.iter().map(|(_, answer)| answer.timings.batch).max().unwrap_or(0);
    (answers.into_iter().map(|(_, mut answer)| answer.outputs.remove(0).values).collect(), largest)
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[tokio::test]
async fn broken_directories_are_refused_for_the_right_reason() {
    let store = store();
    assert!(problems(&store, "bad-hash").await.contains("sha256 mismatch"));
    let escape = problems(&store, "external-escape").await;
    assert!(escape.contains("`../evil.bin`, which is not in the manifest"), "{escape}");
    assert!(problems(&store, "not-onnx").await.starts_with("model.onnx: "));
    let missing = store.load(&fixture("tiny-add").join("nothing-here"), EngineOptions::default()).await;
    assert!(matches!(missing, Err(Error::Manifest { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_manifest_that_says_other_than_the_graph_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("tiny-add").join("model.onnx"), dir.path().join("model.onnx")).unwrap();
    let manifest = std::fs::read_to_string(fixture("tiny-add").join("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["inputs"][0]["datatype"] = "FP64".into();
    manifest["inputs"][1]["shape"] = serde_json::json!([-1, 5]);
    manifest["outputs"][0]["name"] = "difference".into();
    std::fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    match store().load(dir.path(), EngineOptions::default()).await {
        Err(Error::Manifest { problems, .. }) => {
            let fields: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
            assert_eq!(fields, ["inputs[0].datatype", "inputs[1].shape", "outputs[0].name"], "{problems:?}");
        }
        other => panic!("should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn external_data_that_the_manifest_lists_is_used() {
    let dir = tempfile::tempdir().unwrap();
    // The same model as `external-escape`, pointing to a file of its own: both names have eleven bytes.
    let model = std::fs::read(fixture("external-escape").join("model.onnx")).unwrap();
    let at = model.windows(11).position(|window| window == b"../evil.bin").unwrap();
    let model = [&model[..at], b"weights.bin", &model[at + 11..]].concat();
    let weights: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let entry = |path: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(path), bytes).unwrap();
        let sha256 = format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(bytes)));
        serde_json::json!({"path": path, "size": bytes.len(), "sha256": sha256})
    };
    let manifest = std::fs::read_to_string(fixture("external-escape").join("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["files"] = serde_json::json!([entry("model.onnx", &model), entry("weights.bin", &weights)]);
    std::fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();

    let engine = store().load(dir.path(), EngineOptions::default()).await.unwrap();
    let x = Tensor::fp32("x", vec![2, 4], &[0.0, 0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 10.0]);
    let y = engine.tensors(vec![x], call()).await.unwrap().tensors[0].to_fp32().unwrap();
    assert_eq!(y, [1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0]);
}

#[tokio::test]
async fn one_model_is_loaded_once_however_many_ask() {
    let store = store();
    let dir = fixture("tiny-text");
    let loads = (0..4).map(|_| {
        let (store, dir) = (store.clone(), dir.clone());
        async move { store.load(&dir, EngineOptions::default()).await.unwrap() }
    });
    let mut tasks = JoinSet::new();
    loads.for_each(|load| drop(tasks.spawn(load)));
    let engines = tasks.join_all().await;
    // One engine: what one of them did is seen by all.
    assert!(engines.iter().all(|engine| std::ptr::eq(engine.manifest(), engines[0].manifest())));
    assert_eq!(engines[0].digest().len(), 64);
}

#[tokio::test]
async fn a_text_model_answers_one_row_per_output() {
    let store = store();
    let engine = load_fixture(&store, "tiny-classify").await.unwrap();
    let answer = engine.text("anything", call()).await.unwrap();
    let names: Vec<_> = answer.outputs.iter().map(|output| (&*output.name, output.values.len())).collect();
    assert_eq!(names, [("colour", 3), ("size", 2)]);
    assert_eq!(engine.manifest().labels["colour"], ["red", "green", "blue"]);
    for output in &answer.outputs {
        assert!((output.values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[tokio::test]
async fn every_text_is_answered_even_the_strangest() {
    let store = store();
    let engine = load_fixture(&store, "tiny-text").await.unwrap();
    let long = "a".repeat(10_000_000);
    let spaces = " ".repeat(100_000);
    for text in ["", "x", "\0", "\u{202e}rtl\u{200d}", "e\u{301}\u{301}\u{301}", &spaces, &long] {
        let answer = engine.text(text, call()).await.unwrap();
        let norm = dot(&answer.outputs[0].values, &answer.outputs[0].values).sqrt();
        assert!(answer.outputs[0].values.iter().all(|value| value.is_finite()), "{} bytes", text.len());
        assert!((norm - 1.0).abs() < 1e-3 || norm < 1e-3, "{} bytes: {norm}", text.len());
        assert!(answer.truncated == (text.len() > 10_000), "{} bytes", text.len());
    }
}

#[tokio::test]
async fn raw_tensors_are_added_each_to_its_own() {
    let store = store();
    let engine = load_fixture(&store, "tiny-add").await.unwrap();
    assert_eq!((engine.manifest().kind, engine.cost().unit), (Kind::Tensors, Unit::Rows));
    assert!(engine.joins());
    let mut tasks = JoinSet::new();
    for rows in 1..=9u8 {
        let engine = engine.clone();
        tasks.spawn(async move {
            let shape = vec![i64::from(rows), 4];
            let values: Vec<f32> = (0..rows * 4).map(f32::from).collect();
            let inputs = vec![Tensor::fp32("b", shape.clone(), &values), Tensor::fp32("a", shape.clone(), &values)];
            let answer = engine.tensors(inputs, call()).await.unwrap();
            let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
            assert_eq!(answer.tensors, [Tensor::fp32("sum", shape, &doubled)]);
        });
    }
    tasks.join_all().await;
    let text = engine.text("no text model", call()).await;
    assert!(matches!(text, Err(Error::Invalid { field, .. }) if field == "text"));
}

#[tokio::test]
async fn a_model_without_a_batch_axis_runs_one_by_one() {
    let store = store();
    let engine = load_fixture(&store, "tiny-fixed").await.unwrap();
    assert!(!engine.joins());
    let mut tasks = JoinSet::new();
    for value in 0..4u8 {
        let engine = engine.clone();
        tasks.spawn(async move {
            let x = Tensor::fp32("x", vec![3], &[f32::from(value); 3]);
            engine.tensors(vec![x], call()).await.unwrap()
        });
    }
    let mut firsts: Vec<f32> = Vec::new();
    for answer in tasks.join_all().await {
        assert_eq!((answer.timings.batch, answer.tensors[0].shape.as_slice()), (1, &[3][..]));
        firsts.push(answer.tensors[0].to_fp32().unwrap()[0]);
    }
    firsts.sort_by(f32::total_cmp);
    firsts.dedup();
    assert_eq!(firsts.len(), 4, "four different inputs, four different answers");
    let wrong = engine.tensors(vec![Tensor::fp32("x", vec![4], &[0.0; 4])], call()).await;
    assert!(matches!(wrong, Err(Error::Invalid { field, .. }) if field == "inputs[x].shape"));
}

#[tokio::test]
async fn a_text_model_takes_token_ids_within_its_vocabulary() {
    let store = store();
    let engine = load_fixture(&store, "tiny-text").await.unwrap();
    let inputs = |id: i64| {
        vec![Tensor::int64("input_ids", vec![1, 2], &[2, id]), Tensor::int64("attention_mask", vec![1, 2], &[1, 1])]
    };
    let answer = engine.tensors(inputs(3), call()).await.unwrap();
    assert_eq!((answer.tensors[0].datatype, answer.tensors[0].shape.as_slice()), (DataType::Fp32, &[1, 8][..]));
    let wrong = engine.tensors(inputs(70), call()).await;
    assert!(matches!(wrong, Err(Error::Invalid { field, .. }) if field == "inputs[input_ids].data"));
}

#[tokio::test]
async fn closing_finishes_what_was_accepted_and_refuses_the_rest() {
    let store = store();
    let engine = load_fixture(&store, "tiny-text").await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let engine = engine.clone();
        tasks.spawn(async move { engine.text("a question", call()).await });
    }
    // One turn of this single thread polls every task up to where it waits for its answer.
    tokio::task::yield_now().await;
    store.close().await;
    for answer in tasks.join_all().await {
        answer.unwrap();
    }
    assert!(matches!(engine.text("late", call()).await, Err(Error::Closed)));
    assert!(matches!(load_fixture(&store, "tiny-add").await, Err(Error::Closed)));
    assert_eq!(engine.load().waiting_entries + engine.load().running_entries, 0);
}

#[tokio::test]
async fn the_real_encoder_understands_and_batches_without_a_difference() {
    let store = store();
    let engine = store.load(&model("minilm-l6"), EngineOptions::default()).await.unwrap();
    assert_eq!(engine.cost().unit, Unit::Tokens);
    let points = &engine.cost().points;
    assert!(points.iter().map(|(tokens, _)| *tokens).eq([8, 16, 32, 64, 128, 256]), "{points:?}");
    assert!(points.iter().all(|(_, millis)| *millis > 0.0), "{points:?}");

    let texts = [
        "Can I take ibuprofen together with warfarin?",
        "Is it safe to combine warfarin and ibuprofen?",
        "How do I renew my passport?",
        "fever",
        "The patient complains of chest pain that radiates into the left arm and of shortness of breath since this morning.",
        "",
        "Which vaccinations does a child need before its first birthday, and in which order are they given?",
        "rash",
    ];
    let mut single = Vec::new();
    for text in texts {
        single.push(embed(&engine, text).await);
    }
    assert!(single.iter().all(|row| row.len() == 384 && (dot(row, row) - 1.0).abs() < 1e-4));
    let (paraphrase, unrelated) = (dot(&single[0], &single[1]), dot(&single[0], &single[2]));
    assert!(paraphrase > unrelated + 0.3, "{paraphrase} against {unrelated}");

    let repeated: Vec<&str> = texts.iter().copied().cycle().take(64).collect();
    let (together, largest) = embed_together(&engine, &repeated).await;
    assert!(largest > 1, "64 texts at once never met in a batch");
    let expected: Vec<Vec<f32>> = single.iter().cloned().cycle().take(64).collect();
    let difference = largest_difference(&together, &expected);
    assert!(difference < 1e-5, "batched differs from single by {difference}");
}
