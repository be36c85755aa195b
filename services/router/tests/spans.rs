//! The spans of a router that really serves: what there is of a request, what hangs from what, and what it says. Each test
//! calls with a trace of its own, so that they can share the process.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test stands on failing is the test failing"
)]

#[path = "inference/instance.rs"]
#[expect(dead_code, reason = "the tests of the Open Inference Protocol look closer")]
mod instance;
#[path = "inference/mesh.rs"]
#[expect(dead_code, reason = "the tests of the Open Inference Protocol look closer")]
mod mesh;

use std::{collections::BTreeMap, fmt::Debug, sync::LazyLock, time::Duration};

use consilium_mesh::registry::Card;
use consilium_proto::{client::router_service_client::RouterServiceClient, inference::ModelInferRequest, v1};
use opentelemetry::{
    SpanId, TraceId,
    trace::{SpanKind, Status as Ended, TracerProvider as _},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message;
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Request, Status};
use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use self::mesh::{Mesh, labs};

const DISPATCH: &str = "consilium.v1.RouterService/Dispatch";
const INFER: &str = "consilium.v1.ExpertService/Infer";
const MODEL_INFER: &str = "inference.GRPCInferenceService/ModelInfer";

/// The span that every test's client calls from.
const CALLER: SpanId = SpanId::from_bytes([7; 8]);

/// All spans of this process that have ended.
#[derive(Debug, Clone)]
struct Kept(watch::Sender<Vec<SpanData>>);

impl SpanExporter for Kept {
    async fn export(&self, ended: Vec<SpanData>) -> OTelSdkResult {
        self.0.send_modify(|known| known.extend(ended));
        Ok(())
    }
}

static KEPT: LazyLock<Kept> = LazyLock::new(|| {
    let kept = Kept(watch::Sender::default());
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("consilium"));
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_filter(ours);
    tracing_subscriber::registry().with(layer).init();
    kept
});

/// One test's trace.
struct Trace(TraceId);

/// A span as the tests look at it.
#[derive(Debug, Clone)]
struct Seen {
    name: String,
    kind: SpanKind,
    /// Its parent's name; `caller` for the client's.
    parent: String,
    parent_id: SpanId,
    facts: BTreeMap<String, String>,
    id: SpanId,
    is_error: bool,
    links: Vec<SpanId>,
}

impl Trace {
    /// Each test begins with it: whether there are spans is found out once, by whoever comes to it first.
    fn new(number: u128) -> Self {
        LazyLock::force(&KEPT);
        Self(TraceId::from(number))
    }

    /// A request from within the trace.
    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("traceparent", format!("00-{}-{CALLER}-01", self.0).parse().unwrap());
        request
    }

    /// The spans that have ended, once there are so many.
    async fn spans(&self, count: usize) -> Vec<Seen> {
        let of = |known: &Vec<SpanData>| -> Vec<SpanData> {
            known.iter().filter(|span| span.span_context.trace_id() == self.0).cloned().collect()
        };
        let mut known = KEPT.0.subscribe();
        let ended = known.wait_for(|known| of(known).len() >= count);
        let spans = tokio::time::timeout(Duration::from_mins(1), ended).await.map(|known| of(&known.unwrap()));
        let Ok(spans) = spans else { panic!("{count} spans were to end: {:#?}", seen(&of(&KEPT.0.borrow()))) };
        seen(&spans)
    }
}

fn seen(spans: &[SpanData]) -> Vec<Seen> {
    let names: BTreeMap<_, _> = spans.iter().map(|span| (span.span_context.span_id().to_bytes(), &span.name)).collect();
    let parent = |id: SpanId| match id {
        CALLER => "caller".to_owned(),
        id => names.get(&id.to_bytes()).map_or_else(|| "nobody".to_owned(), ToString::to_string),
    };
    let facts = |span: &SpanData| {
        let facts = span.attributes.iter().map(|fact| (fact.key.to_string(), fact.value.to_string()));
        facts.collect()
    };
    let seen = |span: &SpanData| Seen {
        name: span.name.to_string(),
        kind: span.span_kind.clone(),
        parent: parent(span.parent_span_id),
        parent_id: span.parent_span_id,
        facts: facts(span),
        id: span.span_context.span_id(),
        is_error: matches!(span.status, Ended::Error { .. }),
        links: span.links.iter().map(|link| link.span_context.span_id()).collect(),
    };
    spans.iter().map(seen).collect()
}

impl Seen {
    fn is(&self, name: &str, kind: &SpanKind) -> bool {
        self.name == name && self.kind == *kind
    }

    #[track_caller]
    fn says(&self, facts: &[(&str, &str)]) {
        for (key, value) in facts {
            assert_eq!(self.facts.get(*key).map(String::as_str), Some(*value), "{key} of {self:#?}");
        }
    }
}

#[track_caller]
fn one<'a>(spans: &'a [Seen], name: &str, kind: &SpanKind) -> &'a Seen {
    let mut such = spans.iter().filter(|span| span.is(name, kind));
    let span = such.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(such.next().is_none(), "one {name} in {spans:#?}");
    span
}

/// Kind, name and parent of each span, sorted.
fn shape(spans: &[Seen]) -> Vec<String> {
    let mut shape: Vec<_> =
        spans.iter().map(|span| format!("{:?} {} of {}", span.kind, span.name, span.parent)).collect();
    shape.sort();
    shape
}

fn question(text: &str) -> v1::DispatchRequest {
    let values = v1::Values { values: vec!["patient".into()] };
    let query = v1::Query { text: text.into(), attributes: [("audience".into(), values)].into(), ..Default::default() };
    v1::DispatchRequest { query: Some(query), ..Default::default() }
}

async fn dispatch(mesh: &Mesh, request: Request<v1::DispatchRequest>) -> Result<v1::DispatchResponse, Status> {
    Ok(RouterServiceClient::new(mesh.channel.clone()).dispatch(request).await?.into_inner())
}

#[tokio::test]
async fn a_dispatch_is_its_steps_its_leg_and_the_call_that_goes_on_at_the_expert() {
    let trace = Trace::new(1);
    let rule = r#"rules: [{name: sodium, when: 'query.text.contains("sodium")', prefer: [labs]}]"#;
    let mesh = Mesh::with_gate(rule, "").await;
    let instance = mesh.labs(&[]).await;
    dispatch(&mesh, trace.call(question("my sodium is low"))).await.unwrap();
    let spans = trace.spans(9).await;
    let mut expected = [
        format!("Client {INFER} of leg"),
        format!("Internal admission of {DISPATCH}"),
        format!("Internal call of {DISPATCH}"),
        format!("Internal combine of {DISPATCH}"),
        format!("Internal gate of {DISPATCH}"),
        "Internal leg of call".to_owned(),
        format!("Internal plan of {DISPATCH}"),
        format!("Server {INFER} of {INFER}"),
        format!("Server {DISPATCH} of caller"),
    ];
    expected.sort();
    assert_eq!(shape(&spans), expected);

    let gate = one(&spans, "gate", &SpanKind::Internal);
    gate.says(&[
        ("consilium.gate.outcome", "DISPATCHED"),
        ("consilium.gate.reason", "CONFIDENT"),
        ("consilium.gate.tier", "encoder"),
        ("consilium.gate.selected", r#"["labs"]"#),
        ("consilium.gate.candidates", r#"["labs"]"#),
        ("consilium.gate.rules", r#"["sodium"]"#),
        ("consilium.gate.dimensions", r#"["audience=patient"]"#),
    ]);
    let probabilities: Vec<f64> = serde_json::from_str(&gate.facts["consilium.gate.probabilities"]).unwrap();
    assert!(matches!(probabilities[..], [probability] if probability > 0.5 && probability <= 1.0), "{probabilities:?}");
    assert_eq!(gate.facts["consilium.gate.revision"].len(), 12);

    let leg = one(&spans, "leg", &SpanKind::Internal);
    leg.says(&[
        ("consilium.expert.name", "labs"),
        ("consilium.expert.version", "1"),
        ("consilium.leg.stage", "1"),
        ("consilium.slo.latency_ms", "1000"),
        ("consilium.slo.met", "true"),
        ("rpc.response.status_code", "OK"),
    ]);
    let budget: u64 = leg.facts["consilium.leg.budget_ms"].parse().unwrap();
    assert!((1..=2000).contains(&budget), "{budget}");

    let (host, port) = instance.record.address.split_once(':').unwrap();
    one(&spans, INFER, &SpanKind::Client).says(&[
        ("rpc.system.name", "grpc"),
        ("rpc.method", INFER),
        ("rpc.response.status_code", "OK"),
        ("server.address", host),
        ("server.port", port),
        ("consilium.expert.name", "labs"),
        ("consilium.expert.version", "1"),
        ("consilium.expert.instance", &instance.id),
        ("consilium.attempt.number", "1"),
        ("consilium.attempt.kind", "first"),
        ("consilium.attempt.outcome", "answered"),
    ]);
}

#[tokio::test]
async fn a_streamed_dispatch_hangs_together_although_a_task_of_its_own_does_it() {
    let trace = Trace::new(2);
    let mesh = Mesh::start("").await;
    let _instance = mesh.labs(&[]).await;
    let v1::DispatchRequest { query, .. } = question("my sodium is low");
    let request = trace.call(v1::StreamDispatchRequest { query, ..Default::default() });
    let mut events =
        RouterServiceClient::new(mesh.channel.clone()).stream_dispatch(request).await.unwrap().into_inner();
    // Instances of these tests refuse streams.
    while matches!(events.message().await, Ok(Some(_))) {}
    let spans = trace.spans(8).await;
    let method = "consilium.v1.ExpertService/StreamInfer";
    let stream = "consilium.v1.RouterService/StreamDispatch";
    for (name, kind, parent) in [
        (stream, SpanKind::Server, "caller"),
        ("gate", SpanKind::Internal, stream),
        ("call", SpanKind::Internal, stream),
        ("leg", SpanKind::Internal, "call"),
        (method, SpanKind::Client, "leg"),
        (method, SpanKind::Server, method),
    ] {
        assert_eq!(one(&spans, name, &kind).parent, parent, "{name}");
    }
    one(&spans, method, &SpanKind::Client).says(&[
        ("rpc.response.status_code", "UNIMPLEMENTED"),
        ("error.type", "UNIMPLEMENTED"),
        ("consilium.attempt.outcome", "instance"),
    ]);
}

#[tokio::test]
async fn a_retry_is_a_second_span_of_the_same_leg() {
    let trace = Trace::new(3);
    let mesh = Mesh::start("").await;
    let (one_, two) = (mesh.labs(&["net"]).await, mesh.labs(&["net"]).await);
    for instance in [&one_, &two] {
        instance.script(|_, _| Err(Status::unavailable("draining")));
    }
    let request = ModelInferRequest { model_name: "labs.net".into(), ..Default::default() };
    let status = mesh.raw.clone().model_infer(trace.call(request.encode_to_vec().into())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let spans = trace.spans(6).await;
    let mut attempts: Vec<_> = spans.iter().filter(|span| span.is(MODEL_INFER, &SpanKind::Client)).collect();
    attempts.sort_by_key(|span| span.facts["consilium.attempt.number"].clone());
    let [first, second] = attempts[..] else { panic!("two attempts: {spans:#?}") };
    let failed = [("rpc.response.status_code", "UNAVAILABLE"), ("consilium.attempt.outcome", "instance")];
    first.says(&failed);
    second.says(&failed);
    assert!(first.is_error && second.is_error);
    first.says(&[("consilium.attempt.number", "1"), ("consilium.attempt.kind", "first")]);
    second.says(&[("consilium.attempt.number", "2"), ("consilium.attempt.kind", "retry")]);
    assert_ne!(first.facts["consilium.expert.instance"], second.facts["consilium.expert.instance"]);
    assert_eq!((first.parent.as_str(), second.parent.as_str()), ("leg", "leg"));
    let leg = one(&spans, "leg", &SpanKind::Internal);
    leg.says(&[("rpc.response.status_code", "UNAVAILABLE"), ("consilium.slo.met", "false")]);
    assert_eq!(leg.parent, MODEL_INFER, "there is nothing to decide, and no step");
}

#[tokio::test]
async fn who_stands_in_runs_in_the_second_stage() {
    let trace = Trace::new(8);
    let mesh = Mesh::with_gate("fallback: general", "").await;
    let general = Card { expert: "general".into(), examples: Vec::new(), models: Vec::new(), ..labs() };
    let (labs, _general) = (mesh.labs(&[]).await, mesh.join(general, &[]).await);
    labs.answers().close();
    dispatch(&mesh, trace.call(question("my sodium is low"))).await.unwrap();
    let spans = trace.spans(12).await;
    let mut legs: Vec<_> = spans.iter().filter(|span| span.name == "leg").collect();
    legs.sort_by_key(|span| span.facts["consilium.leg.stage"].clone());
    let [first, second] = legs[..] else { panic!("two legs: {spans:#?}") };
    let failed = ("rpc.response.status_code", "INTERNAL");
    first.says(&[("consilium.leg.stage", "1"), ("consilium.expert.name", "labs"), failed]);
    second.says(&[("consilium.leg.stage", "2"), ("consilium.expert.name", "general")]);
    let to_labs = |span: &&Seen| span.kind == SpanKind::Client && span.parent_id == first.id;
    let tried: Vec<_> = spans.iter().filter(to_labs).collect();
    assert!(matches!(tried[..], [tried] if tried.facts["consilium.attempt.outcome"] == "instance"), "{spans:#?}");
}

#[tokio::test]
async fn each_request_on_a_stream_is_a_trace_of_its_own() {
    let trace = Trace::new(9);
    let mesh = Mesh::start("").await;
    let _instance = mesh.labs(&["net"]).await;
    let named = |name: &str| ModelInferRequest { model_name: name.into(), ..Default::default() }.encode_to_vec().into();
    let requests = futures::stream::iter([named("labs.net"), named("nobody")]);
    let mut replies = mesh.raw.clone().model_stream_infer(trace.call(requests)).await.unwrap().into_inner();
    while replies.message().await.unwrap().is_some() {}
    let stream = trace.spans(1).await;
    let [stream] = &stream[..] else { panic!("only the stream is of its caller's trace: {stream:#?}") };
    assert!(stream.links.is_empty(), "it may have more requests than a span has links");

    let of_stream = |span: &SpanData| span.links.iter().any(|link| link.span_context.span_id() == stream.id);
    let roots: Vec<SpanData> = KEPT.0.borrow().iter().filter(|span| of_stream(span)).cloned().collect();
    assert_eq!(roots.len(), 2);
    for (code, shape_below) in [("OK", 4), ("NOT_FOUND", 1)] {
        let is_it = |span: &&SpanData| seen(std::slice::from_ref(*span))[0].facts["rpc.response.status_code"] == code;
        let root = roots.iter().find(is_it).unwrap_or_else(|| panic!("{code}: {roots:#?}"));
        assert_eq!((&*root.name, root.parent_span_id), ("request", SpanId::INVALID));
        let spans = Trace(root.span_context.trace_id()).spans(shape_below).await;
        assert_eq!(spans.len(), shape_below);
        if code == "OK" {
            assert_eq!(one(&spans, "leg", &SpanKind::Internal).parent, "request");
            one(&spans, MODEL_INFER, &SpanKind::Server);
        }
    }
}

#[tokio::test]
async fn of_a_trace_that_its_caller_does_not_keep_nothing_is() {
    let trace = Trace::new(10);
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    let parent = format!("00-{}-{CALLER}-00", trace.0);
    let named = ModelInferRequest { model_name: "labs.net".into(), ..Default::default() }.encode_to_vec();
    let mut request = trace.call(futures::stream::iter([named.into()]));
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let mut replies = mesh.raw.clone().model_stream_infer(request).await.unwrap().into_inner();
    while replies.message().await.unwrap().is_some() {}
    let mut request = trace.call(question("my sodium is low"));
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    dispatch(&mesh, request).await.unwrap();

    // A call that ends after all of these, and is kept.
    let later = Trace::new(11);
    dispatch(&mesh, later.call(question("my sodium is low"))).await.unwrap();
    later.spans(9).await;
    let kept = KEPT.0.borrow();
    let lost: Vec<_> = kept.iter().filter(|span| span.span_context.trace_id() == trace.0).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    let (host, port) = instance.record.address.rsplit_once(':').unwrap();
    let called = seen(&kept).into_iter().filter(|span| {
        let said = |key: &str| span.facts.get(key).map(String::as_str);
        (said("server.address"), said("server.port")) == (Some(host), Some(port))
    });
    assert_eq!(called.count(), 1, "nor is any of it in another trace");
}

#[tokio::test]
async fn a_question_about_a_model_is_no_work() {
    let trace = Trace::new(4);
    let mesh = Mesh::start("").await;
    let _instance = mesh.labs(&["net"]).await;
    let request = consilium_proto::inference::ModelMetadataRequest { name: "labs.net".into(), ..Default::default() };
    mesh.typed.clone().model_metadata(trace.call(request)).await.unwrap();
    let spans = trace.spans(4).await;
    let leg = one(&spans, "leg", &SpanKind::Internal);
    leg.says(&[("rpc.response.status_code", "OK")]);
    assert_eq!(leg.facts.get("consilium.slo.met"), None);
    one(&spans, "inference.GRPCInferenceService/ModelMetadata", &SpanKind::Client);
    assert_eq!(mesh.count(r#"consilium_router_leg_duration_seconds_count{expert="labs",slo="uncounted"} "#), 0);
}

#[tokio::test]
async fn what_a_caller_leaves_behind_ends_as_cancelled() {
    let trace = Trace::new(5);
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&[]).await;
    instance.answers().forget_permits(usize::MAX);
    let mut calls = JoinSet::new();
    let mut client = RouterServiceClient::new(mesh.channel.clone());
    let request = trace.call(question("my sodium is low"));
    calls.spawn(async move { client.dispatch(request).await });
    while instance.got().is_empty() {
        tokio::task::yield_now().await;
    }
    calls.shutdown().await;
    let spans = trace.spans(8).await;
    let cancelled = ("rpc.response.status_code", "CANCELLED");
    one(&spans, INFER, &SpanKind::Client).says(&[cancelled, ("consilium.attempt.outcome", "nobody")]);
    let leg = one(&spans, "leg", &SpanKind::Internal);
    leg.says(&[cancelled]);
    assert_eq!(leg.facts.get("consilium.slo.met"), None, "the caller was in a hurry");
    assert_eq!(leg.parent, "call");
    let failed: Vec<_> = spans.iter().filter(|span| span.is_error).collect();
    assert!(failed.is_empty(), "that is nobody's error: {failed:#?}");
    let counted = r#"consilium_router_attempts_total{expert="labs",rpc_response_status_code="CANCELLED"} "#;
    assert_eq!(mesh.count(counted), 1);
}

#[tokio::test]
async fn a_bucket_remembers_the_span_that_it_counted_last() {
    let trace = Trace::new(6);
    let mesh = Mesh::start("").await;
    let _instance = mesh.labs(&[]).await;
    dispatch(&mesh, trace.call(question("my sodium is low"))).await.unwrap();
    let spans = trace.spans(9).await;
    let page = mesh.metrics.encode();
    for (histogram, span) in [
        ("consilium_gate_duration_seconds_bucket", one(&spans, "gate", &SpanKind::Internal)),
        ("consilium_router_leg_duration_seconds_bucket", one(&spans, "leg", &SpanKind::Internal)),
        ("rpc_client_call_duration_seconds_bucket", one(&spans, INFER, &SpanKind::Client)),
        ("consilium_router_step_duration_seconds_bucket", one(&spans, "plan", &SpanKind::Internal)),
    ] {
        let exemplar = format!(r#"# {{trace_id="{}",span_id="{}"}}"#, trace.0, span.id);
        assert!(
            page.lines().any(|line| line.starts_with(histogram) && line.contains(&exemplar)),
            "{histogram}: {page}"
        );
    }
}

/// Text, identities, labels and undeclared words, none of which may leave with a span.
#[tokio::test]
async fn neither_words_nor_names_of_callers_are_in_spans() {
    const CANARY: &str = "canary-5e1f";
    let trace = Trace::new(7);
    let mesh = Mesh::start("").await;
    let card = Card { idempotent: true, ..labs() };
    let instance = mesh.join(card, &[]).await;
    let canary = || CANARY.to_owned();
    let mut request = question(&format!("my sodium is low {CANARY}"));
    request.context = Some(v1::CallContext {
        request_id: canary(),
        tenant: canary(),
        tier: canary(),
        subject: canary(),
        purpose: canary(),
        ..Default::default()
    });
    let query = request.query.as_mut().unwrap();
    query.labels = [(canary(), canary())].into();
    dispatch(&mesh, trace.call(request.clone())).await.unwrap();

    // Refused by the expert, with its words about it.
    request.query.as_mut().unwrap().text = format!("my sodium is too long {CANARY}");
    let status = dispatch(&mesh, trace.call(request.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(instance.got().len(), 2, "both went to the expert");

    // Refused at the door.
    let values = v1::Values { values: vec![canary()] };
    request.query.as_mut().unwrap().attributes = [("audience".into(), values)].into();
    let status = dispatch(&mesh, trace.call(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let spans = trace.spans(9 + 9 + 2).await;
    assert!(!format!("{spans:?}").contains(CANARY), "{spans:#?}");
    let raw = format!("{:?}", *KEPT.0.borrow());
    assert!(!raw.contains(CANARY), "nor in events, names and status");
}
