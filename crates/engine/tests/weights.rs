//! Several executors of one model hold its weights together. In a binary of its own, so that nothing else moves its memory.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions beside it too")]

use std::path::PathBuf;
use std::time::Duration;

use consilium_engine::{Call, Engine, EngineOptions, Store, StoreOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;

#[tokio::test]
async fn four_executors_share_their_weights() {
    let before = resident();
    let one = load(1).await;
    let with_one = resident();
    let four = load(4).await;
    let (weight_of_one, weight_of_four) = (with_one - before, resident() - with_one);
    println!("one: {} MB, four: {} MB", weight_of_one >> 10, weight_of_four >> 10);
    // Measured: one 183 MB; four 350 MB, of which most is room for their batches. With weights of their own, 560 MB.
    assert!(2 * weight_of_four < 5 * weight_of_one, "one: {weight_of_one} kB, four: {weight_of_four} kB");

    // Side by side they answer as the one does.
    let call = Call { deadline: Instant::now() + Duration::from_mins(1) };
    let expected = one.text("Which dose is safe?", call).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let four = four.clone();
        tasks.spawn(async move { four.text("Which dose is safe?", call).await.unwrap() });
    }
    for answer in tasks.join_all().await {
        let pairs = answer.outputs[0].values.iter().zip(&expected.outputs[0].values);
        let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-5, "{difference}");
    }
}

/// The real encoder on four cores, in a store of its own.
async fn load(executors: usize) -> Engine {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (library, model) = (root.join(".tools/lib/libonnxruntime.so"), root.join("models/build/minilm-l6"));
    assert!(library.exists() && model.exists(), "run make setup first");
    let store = Store::open(StoreOptions {
        onnxruntime: Some(library),
        cores: Some(4.try_into().unwrap()),
        ..StoreOptions::default()
    })
    .unwrap();
    let executors = Some(executors.try_into().unwrap());
    store.load(&model, EngineOptions { executors, ..EngineOptions::default() }).await.unwrap()
}

/// Kilobytes of memory that this process really holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
