//! Unloading a model gives its memory back. In a binary of its own, so that nothing else moves its memory.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions beside it too")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use consilium_engine::{Call, EngineOptions, Error, Store, StoreOptions};
use tokio::time::Instant;

/// The allocator keeps much of what is freed, and how much is chance: on two cores the process holds between 70 and
/// 180 MB after an unload. In a process whose allocator gives back at once, what remains is what somebody still holds.
#[test]
fn a_model_that_comes_and_goes_leaves_no_memory_behind() {
    let settings =
        [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "1")];
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", "comes_and_goes", "--ignored", "--nocapture"];
    let output = Command::new(this).args(arguments).envs(settings).output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test]
#[ignore = "run by the test above, with an allocator that gives back at once"]
async fn comes_and_goes() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (library, model) = (root.join(".tools/lib/libonnxruntime.so"), root.join("models/build/minilm-l6"));
    assert!(library.exists() && model.exists(), "run make setup first");
    let store = Store::open(StoreOptions {
        onnxruntime: Some(library),
        cores: Some(2.try_into().unwrap()),
        ..StoreOptions::default()
    })
    .unwrap();
    let call = || Call { deadline: Instant::now() + Duration::from_mins(1) };

    let mut after = Vec::new();
    for _ in 0..4 {
        let engine = store.load(&model, EngineOptions::default()).await.unwrap();
        engine.text("Which dose is safe?", call()).await.unwrap();
        // Somebody who still holds it holds no memory of it.
        let (held, loaded) = (engine.clone(), resident());
        store.unload(engine).await;
        let unloaded = resident();
        println!("loaded: {} MB, unloaded: {} MB", loaded >> 10, unloaded >> 10);
        assert!(unloaded + (80 << 10) < loaded, "its weights alone are 90 MB");
        assert!(matches!(held.text("late", call()).await, Err(Error::Closed)));
        after.push(unloaded);
    }
    // Measured: 45 MB every time.
    assert!(after[3] < after[0] + (8 << 10), "{after:?} kB");
}

/// Kilobytes of memory that this process really holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
