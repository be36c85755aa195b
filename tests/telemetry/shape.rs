//! One request is one trace, from the client's span to the batch that ran it. What a trace must look like stands in
//! `docs/tracing.md`; here it is asked of Jaeger, span by span.

use std::{path::Path, process::Stdio};

use consilium_proto::client::expert_service_client::ExpertServiceClient;
use consilium_tests::processes::{Kind, Lab, Practice, Span, Trace, Watched};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    ROOT,
    asking::{
        CHEST, Context, WARFARIN, add_sub, anew, client, clinicians, dispatch, inference as oip, query, streamed,
        text_tensor, to,
    },
    scene::{Scene, say},
};

const DISPATCH: &str = "consilium.v1.RouterService/Dispatch";
const STREAM_DISPATCH: &str = "consilium.v1.RouterService/StreamDispatch";
const INFER: &str = "consilium.v1.ExpertService/Infer";
const STREAM_INFER: &str = "consilium.v1.ExpertService/StreamInfer";
const MODEL_INFER: &str = "inference.GRPCInferenceService/ModelInfer";
const STEPS: [&str; 5] = ["admission", "gate", "plan", "call", "combine"];
const CLASSIFIER: &str = "diagnostic-reasoning";
const RETRIEVER: &str = "drug-interactions";

/// From a program that knows OpenTelemetry and our client, and nothing of how a mesh is built.
pub(crate) async fn from_the_python_client(scene: &Scene) {
    let watched = scene.watched().await;
    let told = ask_from_python(watched, &anew(CHEST), &["audience=clinician"]).await;
    assert_eq!(told["experts"], json!([CLASSIFIER]), "{told}");
    let id = told["trace_id"].as_str().expect("it says its trace");
    let trace = watched
        .jaeger
        .until(id, "everybody's spans", |trace| {
            has(trace, &[("triage-desk", "ask"), ("router", DISPATCH), (CLASSIFIER, INFER), (CLASSIFIER, "batch")])
        })
        .await;
    say(&trace.to_string());

    let [ask] = trace.tops()[..] else { panic!("one span is at the top of\n{trace}") };
    assert_eq!((ask.name.as_str(), ask.kind, ask.service()), ("ask", Kind::Client, "triage-desk"));
    assert_eq!(Value::from(ask.id.clone()), told["span_id"]);
    let served = only(&trace, ask, DISPATCH);
    is_routers(served, DISPATCH);
    let call = steps(&trace, served, &told);
    let answer = leg(&trace, call, (CLASSIFIER, INFER));
    has_attributes(answer, &[("consilium.task", json!("classify"))]);
    batch(&trace, answer, "clinic-diagnostic");
    let services: Vec<_> = trace.0.iter().map(Span::service).collect();
    let other = |service: &&&str| !["triage-desk", "router", CLASSIFIER].contains(*service);
    assert_eq!(services.iter().find(other), None, "nobody else was concerned");
}

/// An expert on the model that the gate has read with needs no encoding of its own: it searches.
pub(crate) async fn retrieval(scene: &Scene) {
    let watched = scene.watched().await;
    let told = ask_from_python(watched, &anew(WARFARIN), &["audience=clinician"]).await;
    assert_eq!(told["experts"], json!([RETRIEVER]), "{told}");
    let id = told["trace_id"].as_str().expect("it says its trace");
    let trace = watched
        .jaeger
        .until(id, "everybody's spans", |trace| {
            has(trace, &[("triage-desk", "ask"), ("router", DISPATCH), (RETRIEVER, INFER)])
        })
        .await;
    say(&trace.to_string());
    let served = only(&trace, trace.tops()[0], DISPATCH);
    let answer = leg(&trace, steps(&trace, served, &told), (RETRIEVER, INFER));
    has_attributes(answer, &[("consilium.task", json!("retrieve"))]);
    only(&trace, answer, "search");
    assert_eq!(trace.children(answer).len(), 1, "{trace}");

    // Whoever brings no vector has the expert encode the text.
    let context = Context::new();
    let expert = watched.practice.experts.iter().find(|expert| expert.expert == RETRIEVER).expect("there are two");
    let channel = consilium_mesh::dial::channel(&consilium_mesh::dial::Target::plain(expert.address().to_string()));
    let request = consilium_proto::v1::InferRequest {
        expert: RETRIEVER.into(),
        query: Some(query(WARFARIN)),
        ..Default::default()
    };
    let mut direct = ExpertServiceClient::new(channel.expect("an address is one"));
    direct.infer(context.with(request)).await.expect("the expert answers");
    let trace = watched
        .jaeger
        .until(&context.trace, "the expert's spans", |trace| has(trace, &[(RETRIEVER, INFER), (RETRIEVER, "batch")]))
        .await;
    say(&trace.to_string());
    let [served] = trace.tops()[..] else { panic!("one span is at the top of\n{trace}") };
    assert_eq!(served.parent.as_ref(), Some(&context.span));
    let answer = only(&trace, served, "answer");
    only(&trace, answer, "search");
    batch(&trace, answer, "minilm-l6");
}

pub(crate) async fn stream(scene: &Scene) {
    let watched = scene.watched().await;
    let context = Context::new();
    let request = streamed(dispatch(clinicians(&anew(CHEST))));
    let stream = client(&watched.practice).stream_dispatch(context.with(request)).await.expect("it streams");
    let mut stream = stream.into_inner();
    while stream.message().await.expect("the stream goes on").is_some() {}
    let trace = watched.jaeger.until(&context.trace, "everybody's spans", |trace| {
        has(trace, &[("router", STREAM_DISPATCH), (CLASSIFIER, STREAM_INFER), (CLASSIFIER, "batch")])
    });
    let trace = trace.await;
    say(&trace.to_string());
    let [served] = trace.tops()[..] else { panic!("one span is at the top of\n{trace}") };
    assert_eq!(served.parent.as_ref(), Some(&context.span));
    is_routers(served, STREAM_DISPATCH);
    let call = steps(&trace, served, &json!({"outcome": "OUTCOME_DISPATCHED"}));
    let answer = leg(&trace, call, (CLASSIFIER, STREAM_INFER));
    batch(&trace, answer, "clinic-diagnostic");
    // A stream's span is over when the stream is.
    assert!(served.start + served.duration >= answer.start + answer.duration, "{trace}");
}

pub(crate) async fn inference(scene: &Scene) {
    let watched = scene.watched().await;
    for (request, expert, model, is_text) in [
        (add_sub(), Lab::TENSORS, "add-sub", false),
        (text_tensor(CLASSIFIER, CHEST), CLASSIFIER, "clinic-diagnostic", true),
    ] {
        let context = Context::new();
        let said = request.model_name.clone();
        oip(&watched.practice)
            .model_infer(context.with(request))
            .await
            .unwrap_or_else(|status| panic!("{said}: {status}"));
        let trace = watched.jaeger.until(&context.trace, "everybody's spans", |trace| {
            let at_expert = trace.0.iter().any(|span| span.service() == expert && span.kind == Kind::Server);
            has(trace, &[("router", MODEL_INFER), (expert, "batch")]) && at_expert
        });
        let trace = trace.await;
        say(&format!("{said}\n{trace}"));
        let [served] = trace.tops()[..] else { panic!("one span is at the top of\n{trace}") };
        assert_eq!(served.parent.as_ref(), Some(&context.span));
        is_routers(served, MODEL_INFER);
        let attempts: Vec<_> = trace.0.iter().filter(|span| span.kind == Kind::Client).collect();
        let [attempt] = attempts[..] else { panic!("one attempt was made\n{trace}") };
        let method = attempt.name.clone();
        assert!([INFER, MODEL_INFER].contains(&method.as_str()), "{method}");
        let leg = trace.span(attempt.parent.as_deref().unwrap_or_default()).expect("an attempt has a leg");
        is_leg(leg, expert);
        is_attempt(attempt, (expert, &method), (1, "first", "answered"));
        let at_expert = only(&trace, attempt, &method);
        is_experts(at_expert, (expert, &method));
        let parent = if is_text { only_if_any(&trace, at_expert, "answer") } else { at_expert };
        let ran =
            trace.0.iter().find(|span| span.name == "batch" && span.service() == expert).expect("it waits for one");
        has_attributes(ran, &[("consilium.model.name", json!(model))]);
        assert!(is_below(&trace, ran, parent), "{trace}");
    }
}

pub(crate) async fn retry(scene: &Scene) {
    const STUMBLER: &str = "stumbler";
    let watched = scene.watched().await;
    let context = Context::new();
    let request = to(STUMBLER, query("stumbler stumbler"));
    client(&watched.practice).dispatch(context.with(request)).await.expect("the second attempt answers");
    let trace =
        watched.jaeger.until(&context.trace, "the router's spans", |trace| has(trace, &[("router", DISPATCH)])).await;
    say(&trace.to_string());
    let leg = trace.0.iter().find(|span| span.name == "leg").expect("it waits for one");
    is_leg(leg, STUMBLER);
    let attempts = trace.below(leg, INFER);
    let [first, second] = attempts[..] else { panic!("two attempts\n{trace}") };
    is_attempt(first, (STUMBLER, INFER), (1, "first", "instance"));
    is_attempt(second, (STUMBLER, INFER), (2, "retry", "answered"));
    assert!(first.error && !second.error, "{}{}", first.told(), second.told());
    has_attributes(first, &[("rpc.response.status_code", json!("RESOURCE_EXHAUSTED"))]);
    let instance = |span: &Span| span.get("consilium.expert.instance").clone();
    assert_ne!(instance(first), instance(second), "a retry goes elsewhere");
    assert!(second.start >= first.start + first.duration, "one after the other");
}

/// Whoever says that a trace is not kept is followed: nobody sends anything of it.
pub(crate) async fn unsampled(scene: &Scene) {
    let watched = scene.watched().await;
    let (quiet, loud) = (Context::unsampled(), Context::new());
    for context in [&quiet, &loud] {
        let request = dispatch(clinicians(CHEST));
        client(&watched.practice).dispatch(context.with(request)).await.expect("it answers");
    }
    // Spans leave a process in their order.
    watched
        .jaeger
        .until(&loud.trace, "the later one's spans", |trace| has(trace, &[("router", DISPATCH), (CLASSIFIER, INFER)]))
        .await;
    let trace = watched.jaeger.trace(&quiet.trace).await;
    assert!(trace.0.is_empty(), "{trace}");
}

async fn ask_from_python(watched: &Watched, question: &str, attributes: &[&str]) -> Value {
    let root = Path::new(ROOT);
    let python = root.join(".tools/telemetry/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup-observability` first", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/telemetry/ask.py")).env("PYTHONPATH", root.join("clients/python/src"));
    command.args(["--router", &watched.practice.router.address().to_string(), "--otlp", &watched.jaeger.otlp()]);
    command.args(attributes.iter().flat_map(|attribute| ["--attribute", attribute])).arg(question);
    let output = command.stdin(Stdio::null()).output().await.expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// What a router's span of a call says.
fn is_routers(span: &Span, method: &str) {
    assert_eq!((span.name.as_str(), span.kind, span.service()), (method, Kind::Server, "router"));
    for (name, value) in [("service.namespace", Practice::MESH), ("service.version", env!("CARGO_PKG_VERSION"))] {
        assert_eq!(span.resource[name], json!(value), "{name}");
    }
    assert!(span.resource["service.instance.id"].as_str().is_some_and(|id| !id.is_empty()));
    has_attributes(
        span,
        &[
            ("rpc.system.name", json!("grpc")),
            ("rpc.method", json!(method)),
            ("rpc.response.status_code", json!("OK")),
            ("consilium.server", json!("router")),
            ("error.type", Value::Null),
        ],
    );
    assert!(!span.error);
}

fn is_experts(span: &Span, (expert, method): (&str, &str)) {
    assert_eq!((span.name.as_str(), span.kind, span.service()), (method, Kind::Server, expert));
    assert_eq!(span.resource["service.namespace"], json!(Practice::MESH));
    assert_eq!(span.resource["service.version"], json!("1"));
    let instance = span.resource["service.instance.id"].clone();
    has_attributes(
        span,
        &[
            ("rpc.system.name", json!("grpc")),
            ("rpc.method", json!(method)),
            ("rpc.response.status_code", json!("OK")),
            ("consilium.server", json!("expert")),
            ("consilium.expert.name", json!(expert)),
            ("consilium.expert.version", json!("1")),
            ("consilium.expert.instance", instance),
        ],
    );
}

/// The steps of a dispatched question, and the facts of its decision. Returns the step that calls.
fn steps<'a>(trace: &'a Trace, served: &Span, told: &Value) -> &'a Span {
    let children = trace.children(served);
    let names: Vec<_> = children.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, STEPS, "{trace}");
    assert!(children.iter().all(|span| span.kind == Kind::Internal && span.service() == "router"));
    assert_eq!(told["outcome"], json!("OUTCOME_DISPATCHED"));
    let gate = children[1];
    has_attributes(
        gate,
        &[
            ("consilium.gate.outcome", json!("DISPATCHED")),
            ("consilium.gate.reason", json!("CONFIDENT")),
            ("consilium.gate.tier", json!("encoder")),
        ],
    );
    let given = |known: &Vec<Value>| known.contains(&json!("audience=clinician"));
    assert!(gate.get("consilium.gate.dimensions").as_array().is_some_and(given), "{}", gate.told());
    let list = |name: &str| gate.get(name).as_array().cloned().unwrap_or_else(|| panic!("{name}\n{}", gate.told()));
    let (candidates, probabilities) = (list("consilium.gate.candidates"), list("consilium.gate.probabilities"));
    assert!(
        !candidates.is_empty() && candidates.len() <= 8 && candidates.len() == probabilities.len(),
        "{}",
        gate.told()
    );
    assert_eq!(list("consilium.gate.selected"), candidates[..1], "the most probable one was chosen");
    let falling: Vec<_> = probabilities.iter().map(|it| it.as_f64().expect("a number")).collect();
    assert!(falling.is_sorted_by(|a, b| a >= b) && falling[0] <= 1.0, "{falling:?}");
    assert!(gate.get("consilium.gate.revision").as_str().is_some_and(|revision| !revision.is_empty()));
    batch(trace, gate, "minilm-l6");
    children[3]
}

/// The one leg below the step that calls, down to the expert's answer, which it returns.
fn leg<'a>(trace: &'a Trace, call: &Span, (expert, method): (&str, &str)) -> &'a Span {
    let leg = only(trace, call, "leg");
    is_leg(leg, expert);
    let attempt = only(trace, leg, method);
    is_attempt(attempt, (expert, method), (1, "first", "answered"));
    let served = only(trace, attempt, method);
    is_experts(served, (expert, method));
    let instance = attempt.get("consilium.expert.instance");
    assert_eq!(instance, served.get("consilium.expert.instance"), "it was called and it answered");
    assert!(served.start >= attempt.start, "on one machine, clocks agree");
    let answer = only(trace, served, "answer");
    assert_eq!((answer.kind, answer.service()), (Kind::Internal, expert));
    answer
}

fn is_leg(leg: &Span, expert: &str) {
    assert_eq!((leg.name.as_str(), leg.kind, leg.service()), ("leg", Kind::Internal, "router"));
    has_attributes(
        leg,
        &[
            ("consilium.expert.name", json!(expert)),
            ("consilium.expert.version", json!("1")),
            ("consilium.leg.stage", json!(1)),
            ("rpc.response.status_code", json!("OK")),
        ],
    );
    for number in ["consilium.leg.budget_ms", "consilium.slo.latency_ms"] {
        assert!(leg.get(number).as_f64().is_some_and(|milliseconds| milliseconds > 0.0), "{number}\n{}", leg.told());
    }
    assert!(leg.get("consilium.slo.met").is_boolean(), "{}", leg.told());
}

fn is_attempt(span: &Span, (expert, method): (&str, &str), (number, kind, outcome): (i64, &str, &str)) {
    assert_eq!((span.name.as_str(), span.kind, span.service()), (method, Kind::Client, "router"));
    has_attributes(
        span,
        &[
            ("rpc.system.name", json!("grpc")),
            ("rpc.method", json!(method)),
            ("consilium.expert.name", json!(expert)),
            ("consilium.expert.version", json!("1")),
            ("consilium.attempt.number", json!(number)),
            ("consilium.attempt.kind", json!(kind)),
            ("consilium.attempt.outcome", json!(outcome)),
            ("server.address", json!("127.0.0.1")),
        ],
    );
    assert!(span.get("server.port").as_i64().is_some_and(|port| port > 0), "{}", span.told());
    assert!(span.get("consilium.expert.instance").is_string(), "{}", span.told());
}

/// A text's way through an engine: tokenize and queue below `owner`, and the batch that ran it, both linked to each other.
fn batch(trace: &Trace, owner: &Span, model: &str) {
    let (tokenize, queue) = (only(trace, owner, "tokenize"), only(trace, owner, "queue"));
    assert!(queue.start >= tokenize.start, "a text is cut into tokens before it waits");
    let of_owner = |span: &&Span| span.name == "batch" && is_below(trace, span, owner);
    let batches: Vec<_> = trace.0.iter().filter(of_owner).collect();
    let [ran] = batches[..] else { panic!("one batch ran\n{trace}") };
    assert_eq!(ran.service(), owner.service());
    has_attributes(
        ran,
        &[
            ("consilium.model.name", json!(model)),
            ("consilium.batch.size", json!(1)),
            ("consilium.batch.rows", json!(1)),
        ],
    );
    assert!(
        ran.get("consilium.batch.padded_ratio").as_f64().is_some_and(|ratio| (0.0..1.0).contains(&ratio)),
        "{}",
        ran.told()
    );
    let linked = [owner, queue].into_iter().find(|span| ran.is_linked_to(span));
    let linked = linked.unwrap_or_else(|| panic!("the batch is linked to {:?}\n{trace}", ran.links));
    assert!(linked.is_linked_to(ran), "and that to the batch: {:?}\n{trace}", linked.links);
}

fn is_below(trace: &Trace, span: &Span, above: &Span) -> bool {
    let parent = span.parent.as_deref().and_then(|parent| trace.span(parent));
    parent.is_some_and(|parent| parent.id == above.id || is_below(trace, parent, above))
}

/// The only child of that name.
fn only<'a>(trace: &'a Trace, parent: &Span, name: &str) -> &'a Span {
    let found = trace.below(parent, name);
    let [span] = found[..] else { panic!("{} {name} below {}\n{trace}", found.len(), parent.name) };
    span
}

/// The same, or the parent itself where there is none.
fn only_if_any<'a>(trace: &'a Trace, parent: &'a Span, name: &str) -> &'a Span {
    trace.below(parent, name).first().copied().unwrap_or(parent)
}

/// Whether these processes have sent these spans. Of a process that serves, the span of the call comes last, or that of
/// a batch.
fn has(trace: &Trace, wanted: &[(&str, &str)]) -> bool {
    wanted.iter().all(|(service, name)| trace.0.iter().any(|span| span.service() == *service && span.name == *name))
}

/// Null means that there is no such attribute.
fn has_attributes(span: &Span, wanted: &[(&str, Value)]) {
    for (name, value) in wanted {
        assert_eq!(span.get(name), value, "{name} of {}; it has\n{}", span.name, span.told());
    }
}
