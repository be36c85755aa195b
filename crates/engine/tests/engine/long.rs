//! Texts that are longer than a model's longest sequence: read in windows, whole or with what was left out said.

use consilium_engine::testing::{self, Control, MAX_TOKENS, Timing};
use consilium_engine::{Engine, EngineOptions, Error, Load, TextOutput};
use tokio::task::JoinSet;

use crate::support::{call, model, soon, store};

/// The most windows of a text.
const MOST: usize = 8;

fn scripted() -> (Engine, Control) {
    testing::engine(Timing::default(), &EngineOptions::default()).unwrap()
}

/// As many words as tokens, each of another id than its neighbours.
fn words(tokens: usize) -> String {
    let words: Vec<String> = (0..tokens).map(|at| format!("w{}", 10 + at % 90)).collect();
    words.join(" ")
}

/// Sum of the ids of a text of so many words, and their number.
fn sum(tokens: usize) -> f32 {
    (0..tokens).map(|at| (10 + at % 90) as f32).sum()
}

async fn whole(engine: &Engine, text: &str) -> TextOutput {
    engine.whole_text(text, call()).await.unwrap()
}

fn embedding(output: &TextOutput) -> &[f32] {
    &output.outputs[0].values
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn what_fits_runs_once_and_what_does_not_in_windows_of_one_size() {
    let (engine, control) = scripted();
    for tokens in [1, MAX_TOKENS] {
        let answer = whole(&engine, &words(tokens)).await;
        assert_eq!((answer.tokens, answer.truncated), (tokens, false));
        assert_eq!(embedding(&answer), [sum(tokens), tokens as f32]);
    }
    assert_eq!(control.runs(), [(1, 1), (1, MAX_TOKENS)]);

    let tokens = MAX_TOKENS + 1;
    let answer = whole(&engine, &words(tokens)).await;
    assert_eq!((answer.tokens, answer.truncated), (tokens, false));
    // Each window counts by its tokens: 64 of 129 and 65 of 129.
    let (half, first) = (MAX_TOKENS / 2, sum(MAX_TOKENS / 2));
    let (share, rest) = (half as f32 / tokens as f32, sum(tokens) - first);
    let expected = [first * share + rest * (1.0 - share), half as f32 * share + (half + 1) as f32 * (1.0 - share)];
    for (value, expected) in embedding(&answer).iter().zip(expected) {
        assert!((value - expected).abs() < 1e-3 * expected, "{value} is not {expected}");
    }
    let mut runs = control.runs().split_off(2);
    runs.sort_unstable();
    assert!(runs == [(1, half), (1, half + 1)] || runs == [(2, half + 1)], "{runs:?}");
}

#[tokio::test]
async fn what_is_left_out_is_said_and_the_cost_is_bounded() {
    let (engine, control) = scripted();
    let most = MOST * MAX_TOKENS;
    for (text, tokens, truncated) in [
        (words(most), most, false),
        (words(most + 1), most, true),
        (words(1_000_000), most, true),
        // A word without an end is one token in each of its pieces.
        ("ü".repeat(5_000_000), MOST, true),
    ] {
        let before = control.runs().iter().map(|(rows, _)| rows).sum::<usize>();
        let answer = whole(&engine, &text).await;
        assert_eq!((answer.tokens, answer.truncated), (tokens, truncated), "{} bytes", text.len());
        assert_eq!(control.runs().iter().map(|(rows, _)| rows).sum::<usize>() - before, MOST);
    }
    assert_eq!(engine.load(), Load::default());
    assert!(matches!(engine.whole_text("  ", call()).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn one_failing_window_fails_its_text() {
    let (engine, _) = scripted();
    let text = format!("{} poison", words(3 * MAX_TOKENS));
    assert!(matches!(engine.whole_text(&text, call()).await, Err(Error::Failed { .. })));
    assert_eq!(whole(&engine, "w10").await.tokens, 1);
}

#[tokio::test]
async fn a_caller_who_goes_takes_all_windows_along() {
    let (engine, control) = scripted();
    control.hold();
    let mut abandoned = JoinSet::new();
    let (other, text) = (engine.clone(), words(4 * MAX_TOKENS));
    abandoned.spawn(async move { other.whole_text(&text, call()).await });
    soon(control.began(1)).await;
    abandoned.shutdown().await;
    assert_eq!(engine.load().waiting_entries, 0);
    // Still held: only the stop can end the run.
    soon(control.stopped(1)).await;
    control.release();
    assert_eq!(whole(&engine, "w10").await.tokens, 1);
}

#[tokio::test]
async fn the_end_of_a_long_text_counts_for_the_real_encoder() {
    let store = store();
    let engine = store.load(&model("minilm-l6"), EngineOptions::default()).await.unwrap();
    let filler = "The meeting was moved to another room and everybody brought a chair along. ".repeat(30);
    let [drugs, passport] = ["Can I take ibuprofen together with warfarin?", "How do I renew my passport?"];
    let (one, other) = (format!("{filler}{drugs}"), format!("{filler}{passport}"));

    let cut = [engine.text(&one, call()).await.unwrap(), engine.text(&other, call()).await.unwrap()];
    assert!(cut.iter().all(|answer| answer.truncated));
    assert_eq!(embedding(&cut[0]), embedding(&cut[1]), "the plain way does not see the end");
    let read = [whole(&engine, &one).await, whole(&engine, &other).await];
    assert!(read.iter().all(|answer| !answer.truncated && answer.tokens > 256));
    let about = whole(&engine, drugs).await;
    let [near, far] = read.each_ref().map(|answer| cosine(embedding(answer), embedding(&about)));
    assert!(near > far + 0.02, "{near} against {far}");
}

#[tokio::test]
async fn the_real_encoders_limit_is_where_windows_begin() {
    let store = store();
    let engine = store.load(&model("minilm-l6"), EngineOptions::default()).await.unwrap();
    // Six tokens.
    let sentences = "can i take this dose today ".repeat(42);
    let at_limit = format!("{sentences}with water");
    let (plain, read) = (engine.text(&at_limit, call()).await.unwrap(), whole(&engine, &at_limit).await);
    assert_eq!((plain.tokens, plain.truncated, read.tokens, read.truncated), (256, false, 256, false));
    assert_eq!(embedding(&plain), embedding(&read));
    let over = whole(&engine, &format!("{at_limit} please")).await;
    // Two windows of 127 and 128, each between two special tokens.
    assert_eq!((over.tokens, over.truncated), (255 + 4, false));
    let alike = cosine(embedding(&over), embedding(&plain));
    assert!(alike > 0.9, "{alike}");
}
