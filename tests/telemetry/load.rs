//! Everything that can be asked of a mesh, and everything that can go wrong on the way, once or more often each: after
//! it there is nothing that a mesh counts and has not counted.

use std::{fs, path::Path, time::Duration};

use consilium_mesh::dial::{self, Target};
use consilium_proto::{
    client::{
        catalog_service_client::CatalogServiceClient, expert_service_client::ExpertServiceClient,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    inference::{ModelInferRequest, ServerLiveRequest, ServerMetadataRequest},
    v1::{
        self,
        instance::State,
        send_feedback_request::{Metric, metric::Value},
    },
};
use consilium_tests::processes::{Expert, Signal, Watched, until};
use futures::{StreamExt, stream};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    asking::{
        CHEST, Context, WARFARIN, add_sub, client, clinicians, dispatch, inference, query, streamed, text_tensor, to,
    },
    scene::say,
};

/// Of each question.
const ROUNDS: usize = 12;
const AT_ONCE: usize = 4;
/// More than a budget of retries has room for: ten a second, over ten seconds.
const STUMBLES: usize = 400;

const QUESTIONS: [&str; 9] = [
    WARFARIN,
    CHEST,
    "Is it safe to combine sertraline and tramadol?",
    "Who arranges home oxygen before discharge?",
    "How many hours of sleep does an adult need?",
    "What goes into the assessment section of a SOAP note?",
    // Nobody is sure of this one, and nobody knows anything of the next two.
    "How do I get my old records sent to the new doctor?",
    "What is the best recipe for sourdough bread?",
    "Who won the football world cup in 1998?",
];

/// What was sent, by what came of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ok: usize,
    pub(crate) failed: usize,
}

/// Sends it all, and returns when Prometheus has seen the last of it.
pub(crate) async fn everything(watched: &Watched) -> Counts {
    let mut counts = Counts::default();
    counts.add(&questions(watched).await);
    counts.add(&rules_and_options(watched).await);
    counts.add(&mistakes(watched).await);
    counts.add(&failures(watched).await);
    counts.add(&tensors(watched).await);
    counts.add(&directly(watched).await);
    feedback(watched).await;
    knowledge(watched).await;
    an_instance_hangs(watched).await;
    // Once more, so that what is a rate over the last minute has something in it.
    counts.add(&questions(watched).await);
    counts.add(&tensors(watched).await);
    feedback(watched).await;
    watched.prometheus.caught_up().await;
    say(&format!("the load: {} calls answered, {} failed as they should", counts.ok, counts.failed));
    counts
}

impl Counts {
    fn add(&mut self, results: &[Result<(), Status>]) {
        let ok = results.iter().filter(|result| result.is_ok()).count();
        (self.ok, self.failed) = (self.ok + ok, self.failed + results.len() - ok);
    }
}

async fn questions(watched: &Watched) -> Vec<Result<(), Status>> {
    let questions = std::iter::repeat_n(QUESTIONS, ROUNDS).flatten();
    let ask = async |text: &'static str| {
        // With a trace each, so that what is measured remembers some.
        let request = Context::new().with(dispatch(clinicians(text)));
        client(&watched.practice).dispatch(request).await.map(drop)
    };
    let results: Vec<_> = stream::iter(questions).map(ask).buffer_unordered(AT_ONCE).collect().await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    results
}

async fn rules_and_options(watched: &Watched) -> Vec<Result<(), Status>> {
    let client = || client(&watched.practice);
    let labelled = |name: &str, value: &str| {
        let labels = [(name.to_owned(), value.to_owned())].into();
        dispatch(v1::Query { labels, ..query("Who arranges home oxygen before discharge?") })
    };
    let both = v1::DispatchOptions { top_k: Some(2), combine: Some(v1::Combine::All.into()), ..Default::default() };
    let v1::DispatchRequest { query: asked, .. } = dispatch(clinicians(WARFARIN));
    let explain = v1::ExplainRequest { query: asked.clone(), ..Default::default() };
    let two = v1::DispatchRequest { query: asked, options: Some(both), ..Default::default() };
    let mut results = vec![
        client().dispatch(labelled("document", "medication-list")).await.map(drop),
        client().dispatch(labelled("desk", "discharge")).await.map(drop),
        client().dispatch(two).await.map(drop),
        client().explain(explain).await.map(drop),
        client().dispatch(to("mirror", query("mirror"))).await.map(drop),
        listed(watched).await,
    ];
    for request in [to("storyteller", query("storyteller")), dispatch(clinicians(WARFARIN))] {
        results.push(drained(watched, request).await);
    }
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    results
}

async fn listed(watched: &Watched) -> Result<(), Status> {
    let mut catalog = CatalogServiceClient::new(watched.practice.router.channel.clone());
    catalog.list_experts(v1::ListExpertsRequest {}).await.map(drop)
}

async fn drained(watched: &Watched, request: v1::DispatchRequest) -> Result<(), Status> {
    let mut stream = client(&watched.practice).stream_dispatch(streamed(request)).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// The caller's.
async fn mistakes(watched: &Watched) -> Vec<Result<(), Status>> {
    let client = || client(&watched.practice);
    let planet = [("planet".to_owned(), v1::Values { values: vec!["mars".into()] })].into();
    let wrong = [
        (client().dispatch(v1::DispatchRequest::default()).await, Code::InvalidArgument),
        (client().dispatch(dispatch(query(" "))).await, Code::InvalidArgument),
        (client().dispatch(dispatch(v1::Query { attributes: planet, ..query(CHEST) })).await, Code::InvalidArgument),
        (client().dispatch(to("nobody", query(CHEST))).await, Code::NotFound),
    ];
    let wrong = wrong.into_iter().map(|(result, code)| (result.map(drop), code));
    let token = v1::SendFeedbackRequest { token: "none".into(), metrics: Vec::new() };
    let model = ModelInferRequest { model_name: "nobody".into(), ..add_sub() };
    let short = ModelInferRequest { raw_input_contents: vec![vec![0; 3].into(); 2], ..add_sub() };
    let more = [
        (client().send_feedback(token).await.map(drop), Code::InvalidArgument),
        (inference(&watched.practice).model_infer(model).await.map(drop), Code::NotFound),
        (inference(&watched.practice).model_infer(short).await.map(drop), Code::InvalidArgument),
    ];
    let failed = |(result, code): (Result<(), Status>, Code)| {
        assert_eq!(result.as_ref().map_err(Status::code), Err(code), "{result:?}");
        result
    };
    wrong.chain(more).map(failed).collect()
}

/// The mesh's.
async fn failures(watched: &Watched) -> Vec<Result<(), Status>> {
    let client = || client(&watched.practice);
    let mut hurried = Request::new(to("sleeper", query("sleeper")));
    hurried.set_timeout(Duration::from_millis(300));
    let absent = client().dispatch(to("absent", query("absent"))).await;
    let outcome = absent.as_ref().ok().and_then(|reply| reply.get_ref().decision.as_ref().map(v1::Decision::outcome));
    assert!(absent.is_err() || outcome == Some(v1::decision::Outcome::Unavailable), "{absent:?}");
    let mut results = vec![
        client().dispatch(hurried).await.map(drop),
        client().dispatch(to("breaker", query("breaker"))).await.map(drop),
        drained(watched, to("breaker", query("breaker"))).await,
        absent.map(drop),
    ];
    assert!(results[..3].iter().all(Result::is_err), "{results:?}");
    // Each stumbles once and would be asked again, until the budget of retries is empty.
    let mut stumbling = JoinSet::new();
    for _ in 0..STUMBLES {
        let mut client = client();
        stumbling.spawn(async move { client.dispatch(to("stumbler", query("stumbler"))).await.map(drop) });
    }
    results.extend(stumbling.join_all().await);
    results
}

/// By the Open Inference Protocol: through the router and straight to experts, one by one and in a stream.
async fn tensors(watched: &Watched) -> Vec<Result<(), Status>> {
    let mut results = Vec::new();
    for channel in [watched.practice.router.channel.clone(), channel(&watched.tensors)] {
        let mut client = GrpcInferenceServiceClient::new(channel);
        for _ in 0..ROUNDS {
            results.push(client.model_infer(Context::new().with(add_sub())).await.map(drop));
        }
        let sent = stream::iter(vec![add_sub(); 3]);
        let mut replies = client.model_stream_infer(sent).await.expect("it streams").into_inner();
        while let Some(reply) = replies.message().await.expect("the stream goes on") {
            assert_eq!(reply.error_message, "");
        }
        results.push(client.server_live(ServerLiveRequest {}).await.map(drop));
        results.push(client.server_metadata(ServerMetadataRequest {}).await.map(drop));
    }
    for model in ["clinic", "diagnostic-reasoning"] {
        results.push(inference(&watched.practice).model_infer(text_tensor(model, CHEST)).await.map(drop));
    }
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    results
}

/// To each expert of the clinic without the router, and so without the router's vector; streamed, and described.
async fn directly(watched: &Watched) -> Vec<Result<(), Status>> {
    let mut results = Vec::new();
    for expert in &watched.practice.experts {
        let mut client = ExpertServiceClient::new(channel(expert));
        let (name, asked) = (expert.expert.clone(), Some(query(WARFARIN)));
        let infer = v1::InferRequest { expert: name.clone(), query: asked.clone(), ..Default::default() };
        let stream = v1::StreamInferRequest { expert: name.clone(), query: asked, ..Default::default() };
        results.push(client.infer(infer).await.map(drop));
        results.push(client.stream_infer(stream).await.map(drop));
        results.push(client.describe(v1::DescribeRequest { expert: name }).await.map(drop));
    }
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    results
}

async fn feedback(watched: &Watched) {
    let metric = |name: &str, value| Metric { name: name.into(), value: Some(value) };
    for helpful in [true, false] {
        let reply = client(&watched.practice).dispatch(dispatch(clinicians(WARFARIN))).await.expect("it answers");
        let metrics = vec![
            metric("helpful", Value::Boolean(helpful)),
            metric("rating", Value::Number(4.0)),
            metric("comment", Value::Text("clear".into())),
        ];
        let said = v1::SendFeedbackRequest { token: reply.into_inner().feedback_token, metrics };
        client(&watched.practice).send_feedback(said).await.expect("it is taken");
    }
}

/// What an expert knows changes under it, and once into something that cannot be read.
async fn knowledge(watched: &Watched) {
    let path = watched.practice.files().join("experts/general/knowledge.jsonl");
    let (before, reloads) =
        (fs::read_to_string(&path).expect("it was copied"), "consilium_expert_knowledge_reloads_total");
    let changed = before.lines().skip(1).collect::<Vec<_>>().join("\n");
    for (result, text) in [("ok", changed.as_str()), ("failed", "{no json"), ("ok", before.as_str())] {
        let seen = counted(watched, reloads, &[("expert", "general"), ("result", result)]).await;
        replace(&path, text);
        let again = async || {
            let now = counted(watched, reloads, &[("expert", "general"), ("result", result)]).await;
            (now > seen).then_some(())
        };
        until(&format!("the knowledge is read anew: {result}"), again).await;
    }
}

/// One of two instances stops answering: what it held is tried elsewhere, and it is no longer picked until it is back.
async fn an_instance_hangs(watched: &Watched) {
    let hung =
        watched.practice.experts.iter().rfind(|expert| expert.expert == "drug-interactions").expect("there are two");
    let state = |table: &v1::Catalog| {
        let mut instances = table.experts.iter().flat_map(|expert| &expert.instances);
        instances.find(|known| known.id == hung.instance).map(v1::Instance::state)
    };
    hung.process.signal(Signal::STOP);
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let mut client = client(&watched.practice);
        asking.spawn(async move { client.dispatch(dispatch(clinicians(WARFARIN))).await });
    }
    let answered = asking.join_all().await.iter().filter(|answer| answer.is_ok()).count();
    assert!(answered > 0, "the other instance answers");
    watched.practice.router.until("it hangs", |table| state(table) != Some(State::Serving)).await;
    hung.process.signal(Signal::CONT);
    watched.practice.router.until("it is back", |table| state(table) == Some(State::Serving)).await;
}

/// The sum of a counter over all processes, of the series that have these labels.
async fn counted(watched: &Watched, name: &str, labels: &[(&str, &str)]) -> f64 {
    let pages = watched.pages().await;
    let lines = pages.iter().flat_map(|(_, page)| page.lines());
    let is_one = |line: &&str| {
        let named = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        named && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    let value = |line: &str| line.rsplit_once("} ")?.1.split(' ').next()?.parse::<f64>().ok();
    lines.filter(is_one).filter_map(value).sum()
}

/// In one step, as an operator's tools do it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("a temporary file can be written");
    fs::rename(beside, path).expect("a temporary file can be renamed");
}

fn channel(expert: &Expert) -> Channel {
    dial::channel(&Target::plain(expert.address().to_string())).expect("an address is one")
}
