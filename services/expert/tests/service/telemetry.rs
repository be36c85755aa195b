//! What is seen of an expert from outside: its metrics on a page, and the spans of its calls.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use consilium_expert::METRICS;
use consilium_mesh::metrics::Metrics;
use consilium_metrics::Kind;
use opentelemetry::{
    SpanId,
    trace::{SpanContext, TracerProvider as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{
    inference::{add_sub, infer, oip, texts},
    *,
};

const RETRIEVE: &str = "{kind: retrieve, model: tiny-text, knowledge: knowledge.jsonl, top: 2}";
/// A word that must not be found in anything that leaves the process.
const CANARY: &str = "canary";

async fn start_on(page: &Metrics, house: &House, name: &str, task: &str) -> Handle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options { metrics: page.clone(), ..house.options(name, task) };
    Service::new(options, listener, house.store.clone(), Arc::clone(&house.registry) as _).start().await.unwrap()
}

/// A sample of the page, by everything in front of its value.
fn sample(page: &Metrics, series: &str) -> Option<f64> {
    page.encode().lines().find_map(|line| line.strip_prefix(series)?.split_whitespace().next()?.parse().ok())
}

fn count(page: &Metrics, series: &str) -> u64 {
    sample(page, &format!("{series} ")).unwrap_or_default() as u64
}

fn answers(page: &Metrics, code: &str) -> u64 {
    let name = "consilium_expert_answer_duration_seconds_count";
    count(page, &format!(r#"{name}{{expert="seen",rpc_response_status_code="{code}"}}"#))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expert_counts_what_it_answers_and_from_what() {
    let (house, page) = (House::new(), Metrics::new());
    house.knowledge(&[FOOD, ANIMALS]);
    let file = house.folder.path().join("knowledge.jsonl");
    let an_hour_ago = SystemTime::now() - Duration::from_hours(1);
    fs::File::options().write(true).open(&file).unwrap().set_modified(an_hour_ago).unwrap();
    fs::write(house.folder.path().join("examples.txt"), "how many legs has a cow\n").unwrap();
    let expert = start_on(&page, &house, "seen", &format!("{RETRIEVE}, examples: examples.txt")).await;
    let encoder = start_on(&page, &house, "encoder", "{kind: embed, model: tiny-text}").await;

    let model = r#"consilium_expert_model{expert="seen",version="1",model="tiny-text",model_version="#;
    assert!(page.encode().contains(model), "{}", page.encode());
    assert_eq!(count(&page, r#"consilium_expert_knowledge_passages{expert="seen"}"#), 2);
    assert!(sample(&page, r#"consilium_expert_knowledge_age_seconds{expert="seen"} "#).unwrap() >= 3600.0);

    answer(&expert, text("cow")).await;
    let embedding = vector(&encoder, "cheese").await;
    answer(&expert, v1::InferRequest { embedding: Some(embedding), ..text("cow") }).await;
    client(&expert).infer(text("")).await.expect_err("it asks nothing");
    infer(&mut oip(&expert), texts("seen", "", &["cow", "cheese"])).await;
    assert_eq!((answers(&page, "OK"), answers(&page, "INVALID_ARGUMENT")), (4, 1));
    let vectors =
        |source| count(&page, &format!(r#"consilium_expert_vectors_total{{expert="seen",source="{source}"}}"#));
    assert_eq!((vectors("model"), vectors("router")), (3, 1));

    let reloads = |result| {
        count(&page, &format!(r#"consilium_expert_knowledge_reloads_total{{expert="seen",result="{result}"}}"#))
    };
    expert.reload().await.unwrap();
    assert_eq!((reloads("ok"), reloads("failed")), (1, 0));
    house.knowledge(&["{}"]);
    expert.reload().await.expect_err("the file is wrong");
    // Whoever looks at the file every second may have been first.
    assert!(reloads("failed") >= 1);
    assert!(sample(&page, r#"consilium_expert_knowledge_age_seconds{expert="seen"} "#).unwrap() >= 3600.0);
    described(&page.encode());

    expert.stop().await;
    let left = page.encode();
    assert!(!left.contains(r#"expert="seen""#), "{left}");
    assert!(left.contains(r#"expert="encoder""#), "{left}");
    encoder.stop().await;
}

/// Every metric is there, with the labels that it is said to have.
fn described(page: &str) {
    for described in METRICS {
        let name = described.full_name();
        let suffix = if described.kind() == Kind::Histogram { "_count" } else { "" };
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{suffix}{{")));
        let labels = line.unwrap_or_else(|| panic!("{name} is not on the page:\n{page}")).split_once('}').unwrap().0;
        let keys: Vec<&str> = labels.split(',').map(|label| label.split_once('=').unwrap().0).collect();
        assert_eq!(keys, described.labels(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_of_an_expert_share_its_numbers_until_both_are_gone() {
    let (house, page) = (House::new(), Metrics::new());
    let one = start_on(&page, &house, "seen", "{kind: embed, model: tiny-text}").await;
    let other = start_on(&page, &house, "seen", "{kind: embed, model: tiny-text}").await;
    for expert in [&one, &other] {
        answer(expert, text("cat")).await;
    }
    assert_eq!(answers(&page, "OK"), 2);
    let models = |page: &Metrics| page.encode().matches("consilium_expert_model{").count();
    assert_eq!(models(&page), 1, "a series is on a page once");
    one.stop().await;
    assert_eq!((answers(&page, "OK"), models(&page)), (2, 1));
    other.stop().await;
    assert_eq!((answers(&page, "OK"), models(&page)), (0, 0));
}

/// Every span of this process that has ended.
fn exporter() -> &'static InMemorySpanExporter {
    static SPANS: OnceLock<InMemorySpanExporter> = OnceLock::new();
    SPANS.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("expert"));
        // The executors record on threads of their own.
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
        exporter
    })
}

/// The span of the one call that reached `instance`, and all of its trace. It ends a little later than its caller's.
async fn call_to(instance: &str) -> (SpanData, Vec<SpanData>) {
    let is_it = |span: &SpanData| {
        let mut attributes = span.attributes.iter();
        attributes.any(|set| set.key.as_str() == "consilium.expert.instance" && set.value.as_str() == instance)
    };
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    loop {
        let spans = exporter().get_finished_spans().unwrap();
        if let Some(call) = spans.iter().find(|span| is_it(span)) {
            let trace = call.span_context.trace_id();
            let of_trace = spans.iter().filter(|span| span.span_context.trace_id() == trace).cloned();
            return (call.clone(), of_trace.collect());
        }
        looks.tick().await;
    }
}

/// The span of the stream that this links to.
async fn stream_of(linked: &SpanContext) -> SpanData {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    loop {
        let spans = exporter().get_finished_spans().unwrap();
        if let Some(stream) = spans.into_iter().find(|span| span.span_context.span_id() == linked.span_id()) {
            return stream;
        }
        looks.tick().await;
    }
}

fn below(spans: &[SpanData], parent: &SpanData) -> Vec<String> {
    let id = parent.span_context.span_id();
    let mut names: Vec<_> =
        spans.iter().filter(|span| span.parent_span_id == id).map(|span| span.name.to_string()).collect();
    names.sort();
    names
}

fn named<'s>(spans: &'s [SpanData], name: &str) -> &'s SpanData {
    spans.iter().find(|span| span.name == *name).unwrap_or_else(|| panic!("no span {name}"))
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.as_str().into_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_of_an_answer_are_spans_below_its_call() {
    let house = House::new();
    exporter();
    house.knowledge(&[FOOD, ANIMALS]);
    let (unary, streamed) = (house.start("unary", RETRIEVE).await, house.start("streamed", RETRIEVE).await);
    answer(&unary, text("a canary and a cow")).await;
    let v1::InferRequest { query, .. } = text("a canary and a horse");
    let request = v1::StreamInferRequest { query, ..Default::default() };
    let mut events = client(&streamed).stream_infer(request).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}

    for expert in [&unary, &streamed] {
        let (call, spans) = call_to(expert.instance()).await;
        assert_eq!(attribute(&call, "consilium.expert.name"), expert.expert());
        assert_eq!(attribute(&call, "consilium.expert.version"), "1");
        assert_eq!(below(&spans, &call), ["answer"], "{}", expert.expert());
        let answer = named(&spans, "answer");
        assert_eq!(attribute(answer, "consilium.task"), "retrieve");
        assert_eq!(attribute(answer, "rpc.response.status_code"), "OK");
        assert_eq!(below(&spans, answer), ["batch", "queue", "search", "tokenize"], "{}", expert.expert());
        let told = format!("{spans:?}");
        assert!(!told.contains(CANARY), "{told}");
    }
    unary.stop().await;
    streamed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_inference_calls_leave_the_same_spans() {
    let house = House::new();
    exporter();
    let text = house.start("words", "{kind: embed, model: tiny-text}").await;
    let dir = inference::fixtures().display().to_string();
    let task = format!("{{kind: tensors, repository: '{dir}', model: add-sub, load: [add-sub]}}");
    let (raw, streamed) = (house.start("numbers", &task).await, house.start("flow", &task).await);

    infer(&mut oip(&text), texts("words", "", &["a canary", "a cow"])).await;
    let (call, spans) = call_to(text.instance()).await;
    assert_eq!(below(&spans, &call), ["answer", "answer"]);
    assert!(!format!("{spans:?}").contains(CANARY));

    infer(&mut oip(&raw), add_sub("numbers", 1.0, 2.0)).await;
    let requests = futures::stream::iter([add_sub("flow", 1.0, 2.0)]);
    let mut replies = oip(&streamed).model_stream_infer(requests).await.unwrap().into_inner();
    while replies.message().await.unwrap().is_some() {}
    let (call, spans) = call_to(raw.instance()).await;
    assert_eq!(below(&spans, &call), ["batch", "queue"]);
    let codes = call.attributes.iter().filter(|set| set.key.as_str() == "rpc.response.status_code");
    assert!(codes.count() <= 1, "{call:?}");

    // A request on a stream is a trace of its own, linked to that of the stream.
    let (request, spans) = call_to(streamed.instance()).await;
    assert_eq!((request.name.as_ref(), request.parent_span_id), ("request", SpanId::INVALID));
    assert_eq!(attribute(&request, "rpc.response.status_code"), "OK");
    assert_eq!(below(&spans, &request), ["batch", "queue"]);
    let [link, _batch] = &request.links.links[..] else { panic!("{request:?}") };
    let stream = stream_of(&link.span_context).await;
    assert_eq!(attribute(&stream, "consilium.expert.name"), "flow");
    assert!(stream.links.is_empty(), "it may have more requests than a span has links");
    for expert in [text, raw, streamed] {
        expert.stop().await;
    }
}
