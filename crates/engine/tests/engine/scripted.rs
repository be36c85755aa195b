//! What callers see of queue, batching, cancellation and closing, on an engine that follows a script.

use std::num::NonZeroUsize;
use std::time::Duration;

use consilium_engine::testing::{self, Control, MAX_TOKENS, Timing};
use consilium_engine::{Call, DataType, Engine, EngineOptions, Error, Load, Tensor, TextOutput, Timings};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{call, soon};

fn scripted(options: &EngineOptions) -> (Engine, Control) {
    testing::engine(Timing::default(), options).unwrap()
}

fn row(output: &TextOutput) -> &[f32] {
    &output.outputs[0].values
}

/// Waits until that many requests wait in the queue.
async fn queued(engine: &Engine, entries: usize) {
    let gathered = async {
        while engine.load().waiting_entries != entries {
            tokio::task::yield_now().await;
        }
    };
    soon(gathered).await;
}

/// Holds the engine in a run of its own, so that what follows gathers in the queue. The run ends with `release`.
async fn occupy(engine: &Engine, control: &Control, tasks: &mut JoinSet<Result<TextOutput, Error>>) {
    let before = control.runs().len();
    control.hold();
    ask(engine, tasks, "w10".to_owned());
    soon(control.began(before + 1)).await;
}

fn ask(engine: &Engine, tasks: &mut JoinSet<Result<TextOutput, Error>>, text: String) {
    let engine = engine.clone();
    tasks.spawn(async move { engine.text(&text, call()).await });
}

#[tokio::test]
async fn a_text_is_answered_with_its_own_row_and_its_timings() {
    let (engine, _) = scripted(&EngineOptions::default());
    let answer = engine.text("w10 w20 w30", call()).await.unwrap();
    assert_eq!((row(&answer), answer.tokens, answer.truncated), (&[60.0, 3.0][..], 3, false));
    assert_eq!(&*answer.outputs[0].name, "row");
    assert_eq!(answer.timings.batch, 1);
    assert_eq!(engine.load(), Load::default());
    let statistics = engine.statistics().batches;
    assert_eq!((statistics.len(), statistics[0].size, statistics[0].count), (1, 1, 1));
}

#[tokio::test]
async fn texts_that_gathered_run_together_and_everyone_gets_their_own_row() {
    let (engine, control) = scripted(&EngineOptions::default());
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    for id in 20..30 {
        ask(&engine, &mut tasks, format!("w{id} w{id} w{id}"));
    }
    queued(&engine, 10).await;
    control.release();
    let mut sums: Vec<_> = tasks.join_all().await.into_iter().map(|answer| row(&answer.unwrap())[0]).collect();
    sums.sort_by(f32::total_cmp);
    let expected: Vec<f32> = [10.0].into_iter().chain((20..30u8).map(|id| f32::from(id) * 3.0)).collect();
    assert_eq!(sums, expected);
    assert_eq!(control.runs(), [(1, 1), (10, 3)]);
}

#[tokio::test]
async fn a_long_text_does_not_make_short_ones_pay_for_its_length() {
    let (engine, control) = scripted(&EngineOptions::default());
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    ask(&engine, &mut tasks, "w10 ".repeat(100));
    for _ in 0..4 {
        ask(&engine, &mut tasks, "w10 w11 w12".to_owned());
    }
    queued(&engine, 5).await;
    control.release();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    let mut runs = control.runs().split_off(1);
    runs.sort_unstable();
    assert_eq!(runs, [(1, 100), (4, 3)]);
}

#[tokio::test]
async fn the_batch_stays_within_its_token_budget() {
    let (engine, control) = scripted(&EngineOptions { batch_tokens: 12, ..EngineOptions::default() });
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    for _ in 0..5 {
        ask(&engine, &mut tasks, "w10 w11 w12 w13".to_owned());
    }
    queued(&engine, 5).await;
    control.release();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(control.runs(), [(1, 1), (3, 4), (2, 4)]);
}

#[tokio::test]
async fn text_beyond_the_longest_sequence_is_left_out_and_reported() {
    let (engine, control) = scripted(&EngineOptions::default());
    let answer = engine.text(&"w10 ".repeat(MAX_TOKENS + 1), call()).await.unwrap();
    assert_eq!((answer.tokens, answer.truncated), (MAX_TOKENS, true));
    // Ten megabytes without a space would be one token, but never reach the tokenizer whole.
    let answer = engine.text(&"ü".repeat(5_000_000), call()).await.unwrap();
    assert_eq!((answer.tokens, answer.truncated), (1, true));
    assert_eq!(control.runs().len(), 2);
}

#[tokio::test]
async fn an_abandoned_request_never_runs() {
    let (engine, control) = scripted(&EngineOptions::default());
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    let mut abandoned = JoinSet::new();
    ask(&engine, &mut abandoned, "w66 w66 w66".to_owned());
    queued(&engine, 1).await;
    abandoned.shutdown().await;
    assert_eq!(engine.load().waiting_entries, 0);
    ask(&engine, &mut tasks, "w10 w11".to_owned());
    control.release();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(control.runs(), [(1, 1), (1, 2)]);
}

#[tokio::test]
async fn a_batch_that_runs_for_nobody_is_stopped() {
    let (engine, control) = scripted(&EngineOptions::default());
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    tasks.shutdown().await;
    // Still held: only the stop can end the run.
    soon(control.stopped(1)).await;
    control.release();
    assert!(engine.text("w10", call()).await.is_ok(), "the executor went on");
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_run() {
    let (engine, control) = scripted(&EngineOptions::default());
    control.hold();
    let past = Call { deadline: Instant::now() };
    assert!(matches!(engine.text("w10", past).await, Err(Error::DeadlineExceeded)));
    let short = Call { deadline: Instant::now() + Duration::from_millis(30) };
    assert!(matches!(engine.text("w10", short).await, Err(Error::DeadlineExceeded)));
    // It ran for that caller alone, if it began at all.
    if !control.runs().is_empty() {
        soon(control.stopped(1)).await;
    }
    control.release();
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let timing = Timing { base: Duration::from_millis(1), per_token: Duration::from_micros(10) };
    let options = EngineOptions { queue_tokens: 8, batch_tokens: 128, ..EngineOptions::default() };
    let (engine, control) = testing::engine(timing, &options).unwrap();
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    ask(&engine, &mut tasks, "w10 ".repeat(8));
    queued(&engine, 1).await;
    let refused = engine.text("w10", call()).await;
    assert!(matches!(refused, Err(Error::QueueFull { retry_after }) if !retry_after.is_zero()), "{refused:?}");
    control.release();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn one_poisoned_request_does_not_fail_its_neighbours() {
    let (engine, control) = scripted(&EngineOptions::default());
    let mut tasks = JoinSet::new();
    for word in ["poison", "bomb"] {
        occupy(&engine, &control, &mut tasks).await;
        for text in ["w20", word, "w22"] {
            ask(&engine, &mut tasks, format!("{text} w10"));
        }
        queued(&engine, 3).await;
        control.release();
        let answers = std::mem::take(&mut tasks).join_all().await;
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(matches!(failed[..], [Error::Failed { .. }]), "{word}: {failed:?}");
        assert_eq!(answers.len(), 4, "{word}");
    }
    // Twice: one run that ends the wait, one with all three, and one for each of them.
    assert_eq!(control.runs().len(), 2 * 5);
    assert!(engine.text("w10", call()).await.is_ok(), "the executor went on");
}

#[tokio::test]
async fn executors_run_side_by_side() {
    let two = NonZeroUsize::new(2);
    let (engine, control) = scripted(&EngineOptions { executors: two, ..EngineOptions::default() });
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    ask(&engine, &mut tasks, "w20".to_owned());
    // Both are held at the same time.
    soon(control.began(2)).await;
    assert_eq!((engine.load().running_entries, engine.cost().executors), (2, 2));
    control.release();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn raw_tensors_run_with_others_of_the_same_shape() {
    let (engine, control) = scripted(&EngineOptions::default());
    let mut tasks = JoinSet::new();
    occupy(&engine, &control, &mut tasks).await;
    let mut runs = JoinSet::new();
    for id in 20..23 {
        let engine = engine.clone();
        let ids = Tensor::int64("input_ids", vec![2, 3], &[id, id, id, id, 0, 0]);
        runs.spawn(async move { (id, engine.tensors(vec![ids], call()).await.unwrap()) });
    }
    queued(&engine, 3).await;
    assert_eq!(engine.load().waiting_units, 18);
    control.release();
    for (id, answer) in runs.join_all().await {
        let id = id as f32;
        assert_eq!(answer.tensors[0].to_fp32().unwrap(), [id * 3.0, 3.0, id, 1.0]);
        assert_eq!((answer.tensors[0].shape.as_slice(), answer.timings.batch), (&[2, 2][..], 3));
    }
    assert_eq!(control.runs()[1..], [(6, 3)]);
    let wrong = Tensor { datatype: DataType::Fp64, ..Tensor::int64("input_ids", vec![1, 1], &[1]) };
    assert!(matches!(engine.tensors(vec![wrong], call()).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn nothing_of_a_query_shows_in_debug_or_errors() {
    let (engine, _) = scripted(&EngineOptions::default());
    let answer = engine.text("w77", call()).await.unwrap();
    // Durations are chance, and may well contain the digits.
    let shown = format!("{:?}", TextOutput { timings: Timings::default(), ..answer });
    assert!(!shown.contains("77"), "{shown}");
    let error = engine.text("poison w77 unmistakable", call()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("unmistakable"));
}
