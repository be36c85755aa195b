//! What is seen of an engine from outside: its metrics on a page, and the spans that its requests leave.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use consilium_engine::testing::{self, Control, Timing};
use consilium_engine::{Call, Engine, EngineOptions, Error, METRICS, Tensor, TextOutput};
use consilium_metrics::{Kind, Page};
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// Long enough for the slowest machine, short enough to end a test that hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// A word that must not be found in anything that leaves the process.
const CANARY: &str = "canary";

type Answers = JoinSet<Result<TextOutput, Error>>;

fn scripted(page: &Page, options: &EngineOptions) -> (Engine, Control) {
    testing::engine_on(page, Timing::default(), options).unwrap()
}

fn call() -> Call {
    Call { deadline: Instant::now() + PATIENCE }
}

fn ask(engine: &Engine, answers: &mut Answers, text: &'static str, (call, span): (Call, Span)) {
    let engine = engine.clone();
    answers.spawn(async move { engine.text(text, call).await }.instrument(span));
}

async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.expect("it never happened")
}

async fn waiting(engine: &Engine, entries: usize) {
    soon(async {
        while engine.load().waiting_entries != entries {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Holds the engine in a run of its own, until `release`.
async fn occupy(engine: &Engine, control: &Control, answers: &mut Answers) {
    control.hold();
    ask(engine, answers, "w10", (call(), Span::none()));
    soon(control.began(1)).await;
}

/// A sample of the page, by everything in front of its value.
fn sample(page: &Page, series: &str) -> Option<u64> {
    page.encode().lines().find_map(|line| line.strip_prefix(series)?.split_whitespace().next()?.parse().ok())
}

fn requests(page: &Page, outcome: &str) -> u64 {
    let series = format!(r#"consilium_engine_requests_total{{model="scripted",outcome="{outcome}"}} "#);
    sample(page, &series).unwrap_or_default()
}

fn of_model(page: &Page, name: &str) -> Option<u64> {
    sample(page, &format!(r#"{name}{{model="scripted"}} "#))
}

#[tokio::test]
async fn every_request_is_counted_once_however_it_ends() {
    let page = Page::new();
    let (engine, control) = scripted(&page, &EngineOptions { queue_tokens: 1, ..EngineOptions::default() });
    let mut answers = Answers::new();
    occupy(&engine, &control, &mut answers).await;
    assert_eq!(requests(&page, "answered"), 0, "it has not ended");

    // Another waits for its turn, and gives up.
    let mut abandoned = Box::pin(engine.text("w11", call()));
    soon(async {
        while engine.load().waiting_entries == 0 {
            assert!(timeout(Duration::ZERO, &mut abandoned).await.is_err());
        }
    })
    .await;
    assert!(matches!(engine.text("w12", call()).await, Err(Error::QueueFull { .. })));
    drop(abandoned);
    assert!(matches!(engine.text("w13", Call { deadline: Instant::now() }).await, Err(Error::DeadlineExceeded)));
    assert!(matches!(
        engine.tensors(vec![Tensor::fp32("x", vec![1], &[1.0])], call()).await,
        Err(Error::Invalid { .. })
    ));
    control.release();
    assert!(answers.join_next().await.unwrap().unwrap().is_ok());
    assert!(matches!(engine.text("poison", call()).await, Err(Error::Failed { .. })));

    for outcome in ["answered", "queue_full", "abandoned", "deadline_exceeded", "invalid", "failed"] {
        assert_eq!(requests(&page, outcome), 1, "{outcome}");
    }
    // Of the two that ran, one came to its end.
    for (histogram, times) in [
        ("consilium_engine_queue_duration_seconds_count", 2),
        ("consilium_engine_inference_duration_seconds_count", 1),
        ("consilium_engine_batch_requests_count", 1),
        ("consilium_engine_padded_ratio_count", 1),
        ("consilium_engine_tokenize_duration_seconds_count", 3),
    ] {
        assert_eq!(of_model(&page, histogram), Some(times), "{histogram}");
    }
}

#[tokio::test]
async fn the_gauges_rise_and_fall_with_the_queues_of_all_engines_of_a_name() {
    let page = Page::new();
    let ((one, control), (other, _)) =
        (scripted(&page, &EngineOptions::default()), scripted(&page, &EngineOptions::default()));
    let gauges = || {
        ["queue_requests", "queue_units", "running_requests"]
            .map(|name| of_model(&page, &format!("consilium_engine_{name}")))
    };
    assert_eq!(gauges(), [Some(0); 3]);
    let mut answers = Answers::new();
    occupy(&one, &control, &mut answers).await;
    ask(&one, &mut answers, "w20 w21 w22", (call(), Span::none()));
    ask(&one, &mut answers, "w20 w21", (call(), Span::none()));
    waiting(&one, 2).await;
    assert_eq!(gauges(), [Some(2), Some(5), Some(1)]);
    drop(other);
    assert_eq!(gauges(), [Some(2), Some(5), Some(1)]);
    control.release();
    assert!(answers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(gauges(), [Some(0); 3]);
}

#[tokio::test]
async fn a_model_leaves_the_page_with_its_last_engine() {
    let page = Page::new();
    let (first, _) = scripted(&page, &EngineOptions::default());
    let (second, _) = scripted(&page, &EngineOptions::default());
    for engine in [&first, &second] {
        engine.text("w10", call()).await.unwrap();
    }
    drop(first);
    assert_eq!(requests(&page, "answered"), 2);
    drop(second);
    assert!(!page.encode().contains("scripted"), "{}", page.encode());
    // Whoever comes back begins anew.
    let (third, _) = scripted(&page, &EngineOptions::default());
    third.text("w10", call()).await.unwrap();
    assert_eq!(requests(&page, "answered"), 1);
}

#[tokio::test]
async fn what_is_described_is_what_is_on_the_page() {
    let page = Page::new();
    let (engine, _) = scripted(&page, &EngineOptions::default());
    engine.text("w10", call()).await.unwrap();
    let text = page.encode();
    for described in METRICS {
        let name = described.full_name();
        let suffix = if described.kind() == Kind::Histogram { "_count" } else { "" };
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{suffix}{{")));
        let labels = line.unwrap_or_else(|| panic!("{name} is not on the page:\n{text}")).split_once('}').unwrap().0;
        let keys: Vec<&str> = labels.split(',').map(|label| label.split_once('=').unwrap().0).collect();
        assert_eq!(keys, described.labels(), "{name}");
    }
}

/// Every span of this process that has ended.
fn spans() -> &'static InMemorySpanExporter {
    static SPANS: OnceLock<InMemorySpanExporter> = OnceLock::new();
    SPANS.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("engine"));
        // The executors record on threads of their own.
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
        exporter
    })
}

fn named<'s>(spans: &'s [SpanData], name: &str) -> &'s SpanData {
    let mut found = spans.iter().filter(|span| span.name == *name);
    let span = found.next().unwrap_or_else(|| panic!("no span {name}"));
    assert!(found.next().is_none(), "more than one span {name}");
    span
}

fn children<'s>(spans: &'s [SpanData], parent: &SpanData) -> Vec<&'s SpanData> {
    let id = parent.span_context.span_id();
    spans.iter().filter(|span| span.parent_span_id == id).collect()
}

fn links(span: &SpanData) -> HashSet<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|KeyValue { value, .. }| value.clone())
}

#[tokio::test]
async fn a_batch_belongs_to_the_most_urgent_request_and_is_linked_with_all_of_them() {
    let exporter = spans();
    let (page, mut answers) = (Page::new(), Answers::new());
    let (engine, control) = scripted(&page, &EngineOptions::default());
    // The run that all of this waits behind, and one that joins the batch, are of callers without spans.
    occupy(&engine, &control, &mut answers).await;
    let until = |seconds| Call { deadline: Instant::now() + Duration::from_secs(seconds) };
    ask(&engine, &mut answers, "canary w21 w22 w23 w24", (until(60), info_span!("patient")));
    ask(&engine, &mut answers, "canary w31 w32 w33 w34 w35", (until(50), info_span!("urgent")));
    ask(&engine, &mut answers, "canary w41 w42 w43 w44 w45", (until(40), Span::none()));
    waiting(&engine, 3).await;
    control.release();
    assert!(answers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(control.runs(), [(1, 1), (3, 6)]);

    let spans = exporter.get_finished_spans().unwrap();
    let (patient, urgent) = (named(&spans, "patient"), named(&spans, "urgent"));
    let names = |span| children(&spans, span).iter().map(|span| span.name.to_string()).collect::<HashSet<_>>();
    assert_eq!(names(patient), ["queue", "tokenize"].map(str::to_owned).into());
    assert_eq!(names(urgent), ["batch", "queue", "tokenize"].map(str::to_owned).into());
    let batch = children(&spans, urgent).into_iter().find(|span| span.name == "batch").unwrap();
    assert_eq!(links(batch), [patient, urgent].map(|span| span.span_context.span_id()).into());
    assert_eq!(batch.links.len(), 2);
    for request in [patient, urgent] {
        assert_eq!((request.links.len(), links(request)), (1, [batch.span_context.span_id()].into()));
        assert!(request.end_time >= batch.end_time, "it ends after what it waited for");
    }
    assert_eq!(attribute(batch, "consilium.model.name"), Some("scripted".into()));
    assert_eq!(attribute(batch, "consilium.model.version"), Some("1".into()));
    assert_eq!(attribute(batch, "consilium.batch.size"), Some(3.into()));
    assert_eq!(attribute(batch, "consilium.batch.rows"), Some(3.into()));
    assert_eq!(attribute(batch, "consilium.batch.padded_ratio"), Some((1.0 - 17.0 / 18.0).into()));
    assert_eq!(batch.status, Status::Unset);

    let of_nobody = |span: &&SpanData| span.parent_span_id == SpanId::INVALID;
    let lost: Vec<_> = spans
        .iter()
        .filter(of_nobody)
        .filter(|span| !["patient", "urgent", "poisoned", "kept"].contains(&&*span.name))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    let told = format!("{spans:?}");
    assert!(!told.contains(CANARY), "{told}");
    // The way from a number to a trace: the last that waited is the least urgent.
    for (name, span) in [("queue", patient), ("inference", batch)] {
        let bucket = format!("consilium_engine_{name}_duration_seconds_bucket");
        let trace = format!("trace_id=\"{}\"", span.span_context.trace_id());
        assert!(page.encode().lines().any(|line| line.starts_with(&bucket) && line.contains(&trace)), "{name}");
    }
}

#[tokio::test]
async fn a_batch_that_fails_says_so_and_not_why() {
    let exporter = spans();
    let (engine, _) = scripted(&Page::new(), &EngineOptions::default());
    let answer = engine.text("poison", call()).instrument(info_span!("poisoned")).await;
    assert!(matches!(answer, Err(Error::Failed { .. })));
    let spans = exporter.get_finished_spans().unwrap();
    let batch = children(&spans, named(&spans, "poisoned")).into_iter().find(|span| span.name == "batch").unwrap();
    assert_eq!(batch.status, Status::error(""));
}

/// A span of a trace that somebody decided not to keep.
fn unsampled() -> Span {
    let (trace, id) = (TraceId::from(7), SpanId::from(7));
    let caller = SpanContext::new(trace, id, TraceFlags::default(), true, TraceState::default());
    let span = info_span!("unsampled");
    span.set_parent(Context::new().with_remote_span_context(caller)).unwrap();
    span
}

#[tokio::test]
async fn a_batch_that_a_request_nobody_keeps_leads_belongs_to_the_next() {
    let exporter = spans();
    let (engine, control) = scripted(&Page::new(), &EngineOptions::default());
    let mut answers = Answers::new();
    occupy(&engine, &control, &mut answers).await;
    let until = |seconds| Call { deadline: Instant::now() + Duration::from_secs(seconds) };
    ask(&engine, &mut answers, "w21 w22", (until(50), info_span!("kept")));
    ask(&engine, &mut answers, "w31 w32", (until(40), unsampled()));
    waiting(&engine, 2).await;
    control.release();
    assert!(answers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(control.runs(), [(1, 1), (2, 2)], "they ran together");

    let spans = exporter.get_finished_spans().unwrap();
    let kept = named(&spans, "kept");
    let batch = children(&spans, kept).into_iter().find(|span| span.name == "batch").unwrap();
    assert_eq!((batch.links.len(), links(batch)), (1, [kept.span_context.span_id()].into()));
    assert_eq!((kept.links.len(), links(kept)), (1, [batch.span_context.span_id()].into()));
    assert_eq!(attribute(batch, "consilium.batch.size"), Some(2.into()));
}
