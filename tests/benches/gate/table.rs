//! The figures as Markdown, line by line as they come.

use std::time::Duration;

use consilium_gate::evaluate::{Measures, Observation, Quantiles};

/// How often decisions were right; shares of 0 to 1.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    /// Of the queries that somebody should get: whoever was thought best.
    pub(crate) top1: f64,
    /// Of all: whoever was chosen, or that nobody was.
    pub(crate) end_to_end: f64,
}

impl Right {
    /// `None` where the queries do not tell.
    pub(crate) fn of(observations: &[Observation]) -> Option<Self> {
        let measures = Measures::of(observations);
        Some(Self { top1: measures.top1?, end_to_end: measures.end_to_end? })
    }
}

pub(crate) fn head(cells: &[&str]) {
    let (first, figures) = cells.split_first().expect("a table has columns");
    println!("| {first} | {} |\n| --- |{}", figures.join(" | "), " ---: |".repeat(figures.len()));
}

/// A line of one duration.
pub(crate) fn single(what: &str, took: Duration) {
    println!("| {what} | | | {} | | | |", shown(took));
}

/// A line of decisions; `first` is the median that others are held against. Returns its own.
pub(crate) fn decisions(what: &str, right: Option<Right>, took: Quantiles, first: Option<Duration>) -> Duration {
    let Quantiles { p50: Some(p50), p95: Some(p95), p99: Some(p99) } = took else {
        println!("| {what} | | | none | | | |");
        return Duration::ZERO;
    };
    let [top1, end_to_end] = match right {
        Some(Right { top1, end_to_end }) => [top1, end_to_end].map(|share| format!("{:.1} %", 100.0 * share)),
        None => [const { String::new() }; 2],
    };
    let ratio = p50.as_secs_f64() / first.unwrap_or(p50).as_secs_f64();
    let [median, p95, p99] = [p50, p95, p99].map(shown);
    println!("| {what} | {top1} | {end_to_end} | {median} | {p95} | {p99} | {ratio:.4} |");
    p50
}

/// A line of mean durations.
pub(crate) fn means<const N: usize>(what: &str, means: [Duration; N]) {
    println!("| {what} | {} |", means.map(shown).join(" | "));
}

pub(crate) fn took(observations: &[Observation]) -> Quantiles {
    Quantiles::of(observations.iter().map(|it| it.took).collect())
}

fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 1e-3 => format!("{:.1} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}
