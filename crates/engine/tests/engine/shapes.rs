//! Raw tensors of every shape that a client may send, and which of them run together.

use consilium_engine::{DataType, Engine, EngineOptions, Error, Store, Tensor};
use tokio::task::JoinSet;

use crate::support::{bare, call, load_bare, store};

async fn load(store: &Store, name: &str) -> Engine {
    load_bare(store, "repository", name, "1").await.unwrap()
}

async fn ask(engine: &Engine, inputs: Vec<Tensor>) -> Vec<Tensor> {
    engine.tensors(inputs, call()).await.unwrap().tensors
}

async fn refused(engine: &Engine, inputs: Vec<Tensor>) -> String {
    match engine.tensors(inputs, call()).await {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("should be refused: {other:?}"),
    }
}

#[tokio::test]
async fn tensors_without_elements_come_back_without_elements() {
    let store = store();
    for datatype in [DataType::Fp32, DataType::Bool, DataType::Bf16, DataType::Int64, DataType::Bytes] {
        let engine = load(&store, &format!("identity-{}", datatype.as_str().to_lowercase())).await;
        for shape in [[0, 3], [3, 0], [0, 0]] {
            let nothing = Tensor { name: "x".into(), datatype, shape: shape.into(), data: bytes::Bytes::new() };
            let expected = Tensor { name: "y".into(), ..nothing.clone() };
            assert_eq!(ask(&engine, vec![nothing]).await, [expected], "{datatype} {shape:?}");
        }
        let huge = Tensor { name: "x".into(), datatype, shape: vec![0, i64::MAX], data: bytes::Bytes::new() };
        assert_eq!(refused(&engine, vec![huge]).await, "inputs[x].shape");
        assert_eq!(engine.load().running_units, 0);
    }
}

#[tokio::test]
async fn strings_come_back_in_their_shape() {
    let engine = load(&store(), "identity-bytes").await;
    let text = Tensor::strings("x", vec![2, 2], &["", "wörter", "12", "\n"]);
    assert_eq!(ask(&engine, vec![text.clone()]).await, [Tensor { name: "y".into(), ..text }]);
    for bad in [&b"nul \0"[..], b"\xff"] {
        assert_eq!(refused(&engine, vec![Tensor::strings("x", vec![1, 1], &[bad])]).await, "inputs[x].data");
    }
}

#[tokio::test]
async fn scalars_have_no_dimension() {
    let engine = load(&store(), "scalar").await;
    let sum = ask(&engine, vec![Tensor::fp32("a", vec![], &[1.5]), Tensor::fp32("b", vec![], &[2.0])]).await;
    assert_eq!(sum, [Tensor::fp32("y", vec![], &[3.5])]);
    let row = vec![Tensor::fp32("a", vec![1], &[1.5]), Tensor::fp32("b", vec![], &[2.0])];
    assert_eq!(refused(&engine, row).await, "inputs[a].shape");
    assert!(!engine.joins());
}

#[tokio::test]
async fn an_output_of_unknown_rank_has_the_rank_that_it_has() {
    let engine = load(&store(), "unknown-rank").await;
    for shape in [&[6][..], &[1, 2, 3], &[3, 2, 1, 1]] {
        let to = Tensor::int64("shape", vec![i64::try_from(shape.len()).unwrap()], shape);
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let y = ask(&engine, vec![Tensor::fp32("x", vec![2, 3], &values), to]).await;
        assert_eq!(y, [Tensor::fp32("y", shape.to_vec(), &values)]);
    }
    assert!(!engine.joins());
}

#[tokio::test]
async fn an_optional_input_may_be_left_out_or_given() {
    let engine = load(&store(), "optional-input").await;
    let x = || Tensor::fp32("x", vec![1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let default = ask(&engine, vec![x()]).await[0].to_fp32().unwrap();
    let given = ask(&engine, vec![x(), Tensor::fp32("scale", vec![], &[10.0])]).await[0].to_fp32().unwrap();
    assert_eq!(given, [10.0, 20.0, 30.0, 40.0]);
    assert_ne!(default, given);
    assert_eq!(refused(&engine, vec![Tensor::fp32("scale", vec![], &[10.0])]).await, "inputs[x]");
}

#[tokio::test]
async fn fixed_sizes_are_checked_and_a_model_without_rows_counts_as_one() {
    let engine = load(&store(), "no-batch").await;
    let sum = ask(&engine, vec![Tensor::fp32("x", vec![2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])]).await;
    assert_eq!(sum, [Tensor::fp32("y", vec![3], &[11.0, 22.0, 33.0])]);
    assert_eq!(refused(&engine, vec![Tensor::fp32("x", vec![3, 2], &[0.0; 6])]).await, "inputs[x].shape");
    assert_eq!(engine.statistics().batches[0].size, 1);
}

/// Requests of 1 to 4 rows at once; `row` gives the values of a row by its number.
async fn together(engine: &Engine, row: fn(f32) -> [f32; 4]) -> (Vec<Vec<Tensor>>, usize) {
    let mut tasks = JoinSet::new();
    for (at, rows) in [1u8, 2, 3, 4, 1, 2, 3, 4].into_iter().enumerate() {
        let engine = engine.clone();
        tasks.spawn(async move {
            let values: Vec<f32> = (0..rows).flat_map(|number| row(f32::from(number) + at as f32)).collect();
            (at, engine.tensors(vec![Tensor::fp32("x", vec![i64::from(rows), 4], &values)], call()).await.unwrap())
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    let largest = answers.iter().map(|(_, answer)| answer.timings.batch).max().unwrap_or(0);
    (answers.into_iter().map(|(_, answer)| answer.tensors).collect(), largest)
}

#[tokio::test]
async fn rows_that_know_of_each_other_never_share_a_run() {
    let engine = load(&store(), "mean-centred").await;
    assert!(engine.manifest().batches() && !engine.joins());
    let (answers, largest) = together(&engine, |number| [number, -number, 2.0 * number, 0.0]).await;
    assert_eq!(largest, 1);
    for outputs in answers {
        // The mean of a request's own rows is gone, and that of nobody else's.
        let values = outputs[0].to_fp32().unwrap();
        let sum: f32 = values.iter().step_by(4).sum();
        assert!(sum.abs() < 1e-4, "{values:?}");
    }
}

#[tokio::test]
async fn a_first_dimension_that_is_no_batch_is_seen() {
    let engine = load(&store(), "nonzero").await;
    assert!(engine.manifest().batches() && !engine.joins());
    let (answers, largest) = together(&engine, |number| [number, 0.0, 1.0, 0.0]).await;
    assert_eq!(largest, 1);
    for outputs in answers {
        let (shape, data) = (&outputs[0].shape, &outputs[0].data);
        assert_eq!((shape.len(), shape[1], data.len()), (2, 2, usize::try_from(shape[0]).unwrap() * 16));
    }
}

#[tokio::test]
async fn requests_of_a_model_that_joins_meet_and_are_counted() {
    let store = store();
    let engine = load(&store, "optional-input").await;
    assert!(engine.joins());
    let (answers, largest) = together(&engine, |number| [number, 1.0, 2.0, 3.0]).await;
    assert!(largest > 1, "eight requests at once never met in a batch");
    for (at, outputs) in answers.iter().enumerate() {
        let values = outputs[0].to_fp32().unwrap();
        assert!((values[2] - 2.0 * values[1]).abs() < 1e-6 && (values[0] - values[1] * at as f32).abs() < 1e-5);
    }
    let statistics = engine.statistics();
    let rows: u64 = statistics.batches.iter().map(|batch| batch.size as u64 * batch.count).sum();
    assert_eq!(rows, 20, "{statistics:?}");
    assert!(statistics.batches.iter().all(|batch| !batch.took.is_zero()));
    assert!(statistics.batches.is_sorted_by_key(|batch| batch.size));
}

#[tokio::test]
async fn one_row_a_batch_asks_for_no_joining() {
    let store = store();
    let options = EngineOptions { batch_rows: 1, ..EngineOptions::default() };
    let dir = bare("repository", "add-sub", "1");
    let engine = store.load_bare(&dir, "add-sub", "1", options).await.unwrap();
    assert!(!engine.joins());
}

#[tokio::test]
async fn a_million_elements_come_back_as_they_were() {
    let engine = load(&store(), "identity-fp32").await;
    let values: Vec<f32> = (0..1_000_000u32).map(|at| at as f32).collect();
    let x = Tensor::fp32("x", vec![1000, 1000], &values);
    let answer = engine.tensors(vec![x.clone()], call()).await.unwrap();
    assert_eq!(answer.tensors[0].data, x.data);
    println!("1,000,000 FP32 through ONNX Runtime: {:?}", answer.timings.inference);
}
