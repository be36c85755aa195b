//! Nothing that a caller wrote is in what a mesh writes: words that nobody else uses go into every field of every method of
//! every server, rightly and wrongly, and then everything is searched that a mesh writes. With logs at `debug`, and with
//! every request traced.

mod calls;
mod marks;
mod wire;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use consilium_mesh::dial::{self, Target};
use consilium_proto::{client::expert_service_client::ExpertServiceClient, inference::ModelStreamInferResponse, v1};
use consilium_tests::processes::{Watched, tool};
use futures::{StreamExt, stream};
use prost::Message;
use tokio::process::Command;
use tonic::Code;

use self::{
    calls::Row,
    marks::{Kind, Marks},
    wire::{Heard, Wire},
};
use crate::{
    asking::{Context, WARFARIN, client, clinicians, dispatch, query},
    scene::{Scene, say},
};

const AT_ONCE: usize = 4;
/// What is in logs and spans if anything is.
const CALL: &str = "RouterService/Dispatch";
const ATTEMPT: &str = "ExpertService/Infer";
/// Of each service, for the search through Jaeger: all of them.
const TRACES: usize = 100_000;

pub(crate) async fn search(scene: &Scene) {
    marks::finds_what_is_there();
    let watched = scene.watched().await;
    let mut marks = Marks::default();
    let mut said = Said::default();
    let wire = Wire::new();
    said.send(&wire, watched.practice.router.address(), calls::router(&mut marks)).await;
    for expert in watched.practice.experts.iter().chain([&watched.tensors]) {
        said.send(&wire, expert.address(), calls::expert(&mut marks, &expert.expert)).await;
    }
    let token = token(watched, &mut marks).await;
    said.send(&wire, watched.practice.router.address(), calls::feedback(&mut marks, &token)).await;
    for (_, admin) in watched.processes() {
        let path = format!(
            "/metrics/{}?name={}",
            marks.word(Kind::Content, "a path of the admin port"),
            marks.word(Kind::Content, "a query of the admin port")
        );
        said.heard(wire.page(admin, &path).await, "the admin port");
    }
    flush(watched).await;

    let mut found = Found::default();
    let echoed = calls::ECHOED.map(|(kind, _)| kind);
    // The mesh's own refusals, of the router and of experts.
    let replies = Place::new("replies to callers", &["consilium.dev", "application/grpc"]);
    let replies = replies.may_have(&echoed);
    found.search(&marks, &replies, said.replies.iter().map(String::as_bytes));
    found.search(&marks, &Place::new("logs", &[CALL, ATTEMPT]), files(&watched.logs).iter().map(Vec::as_slice));
    let exported = watched.collector.kept();
    let spans = Place::new("spans as they were exported", &[CALL, ATTEMPT, "tokenize"]);
    found.search(&marks, &spans, exported.iter().map(Bytes::as_ref));
    let mut told = Vec::new();
    for service in watched.jaeger.services().await {
        told.push(watched.jaeger.told(&service, TRACES).await.into_bytes());
    }
    let spans = Place::new("spans as Jaeger tells them", &[CALL, ATTEMPT, "tokenize"]);
    found.search(&marks, &spans, told.iter().map(Vec::as_slice));
    let pages: Vec<_> = watched.pages().await.into_iter().map(|(_, page)| page.into_bytes()).collect();
    let place = Place::new("pages of metrics", &[CALL, r#"expert="drug-interactions""#]);
    found.search(&marks, &place, pages.iter().map(Vec::as_slice));
    let place = Place::new("etcd", &["drug-interactions-1", "tensors-1"]);
    found.search(&marks, &place, [etcd(watched).await.as_slice()].into_iter());
    let journal = watched.practice.dir().join("feedback.jsonl");
    let kept = fs::read(&journal).expect("the router keeps a journal");
    let place = Place::new("the journal of feedback", &["comment"]).may_have(&[Kind::Request, Kind::Feedback]);
    found.search(&marks, &place, [kept.as_slice()].into_iter());
    assert_eq!(
        marks.found(Kind::Feedback, &String::from_utf8_lossy(&kept)).len(),
        1,
        "a comment is written down, once"
    );
    let table = watched.practice.dir().join("router.table");
    let kept = fs::read(&table).expect("the router keeps its table");
    found.search(&marks, &Place::new("the router's table", &["drug-interactions"]), [kept.as_slice()].into_iter());
    let written = [watched.practice.dir(), watched.dir()].into_iter().flat_map(walk);
    let written: Vec<_> = written.filter(|path| *path != journal && *path != table).collect();
    let written: Vec<_> = written.iter().map(|path| fs::read(path).unwrap_or_default()).collect();
    let place = Place::new("other files of the processes", &["add-sub"]);
    found.search(&marks, &place, written.iter().map(Vec::as_slice));

    let codes: Vec<_> = said.codes.iter().map(|(code, count)| format!("{code:?} {count}")).collect();
    say(&format!("{} calls with {} words: {}", said.calls, marks.len(), codes.join(", ")));
    say(&format!(
        "| searched | pieces | bytes | of ours | hits |\n| --- | ---: | ---: | ---: | ---: |\n{}",
        found.table.join("\n")
    ));
    for (kind, why) in calls::ECHOED {
        say(&format!("Not counted in replies: {kind:?}: {why}."));
    }
    assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n"));
    // A search through something else finds nothing either.
    assert!(found.missing.is_empty(), "this was not searched: {}", found.missing.join("\n"));
    assert!(said.odd.is_empty(), "these calls ended as no such call ends:\n{}", said.odd.join("\n"));
    assert!(said.codes.len() > 5, "too few ways to fail: {codes:?}");
    assert!(said.mirrored, "the words reached an expert");
}

/// What was sent, and what came back beside answers.
#[derive(Default)]
struct Said {
    calls: usize,
    codes: BTreeMap<String, usize>,
    replies: Vec<String>,
    /// Calls that ended otherwise than such a call does: they did not get where they were sent.
    odd: Vec<String>,
    /// Whether an answer had a word in it, as a mirror's has.
    mirrored: bool,
}

impl Said {
    async fn send(&mut self, wire: &Wire, address: SocketAddr, rows: Vec<Row>) {
        let call = async |row: Row| (wire.call(address, &row.call).await, row);
        let mut sent = stream::iter(rows).map(call).buffer_unordered(AT_ONCE);
        while let Some((heard, row)) = sent.next().await {
            let what = format!("{}, {}", row.call.method, row.what);
            let ended = heard.ended();
            if !row.may_end(ended, heard.status.message()) {
                self.odd.push(format!("{what}: {ended:?}: {}", heard.status.message()));
            }
            self.heard(heard, &what);
        }
    }

    fn heard(&mut self, heard: Heard, what: &str) {
        self.calls += 1;
        let ended = heard.ended().map_or_else(|| "no status".to_owned(), |code| format!("{code:?}"));
        *self.codes.entry(ended).or_default() += 1;
        let details = String::from_utf8_lossy(heard.status.details()).into_owned();
        let mut told = vec![heard.metadata, heard.status.message().to_owned(), details];
        for message in heard.messages {
            told.extend(failures(&message, what));
            let mirror = heard.status.code() == Code::Ok && what.ends_with("answered by a mirror");
            self.mirrored |=
                mirror && !Marks::default().found(Kind::Content, &String::from_utf8_lossy(&message)).is_empty();
        }
        self.replies.push(told.join("\n"));
    }
}

/// What a reply that is OK says of what failed on the way.
fn failures(message: &Bytes, what: &str) -> Vec<String> {
    use v1::{reply::Result, stream_dispatch_response::Event};
    let mut replies = Vec::new();
    if what.contains("/Dispatch") {
        replies = v1::DispatchResponse::decode(message.clone()).unwrap_or_default().replies;
    } else if what.contains("/StreamDispatch") {
        let event = v1::StreamDispatchResponse::decode(message.clone()).unwrap_or_default().event;
        replies.extend(event.and_then(|event| if let Event::Reply(reply) = event { Some(reply) } else { None }));
    } else if what.contains("/ModelStreamInfer") {
        return vec![ModelStreamInferResponse::decode(message.clone()).unwrap_or_default().error_message];
    }
    let failed = replies.into_iter().filter_map(|reply| match reply.result {
        Some(Result::Failure(failure)) => {
            Some(format!("{} {} {:?}", failure.reason, failure.message, failure.metadata))
        }
        _ => None,
    });
    failed.collect()
}

/// Of an answer to a caller who says who they are.
async fn token(watched: &Watched, marks: &mut Marks) -> String {
    let context = v1::CallContext {
        request_id: marks.word(Kind::Request, "request_id of an answer that is spoken of"),
        tenant: marks.word(Kind::Request, "tenant of an answer that is spoken of"),
        ..Default::default()
    };
    let asked =
        clinicians(&format!("{WARFARIN} {}", marks.word(Kind::Content, "query.text of an answer that is spoken of")));
    let request = v1::DispatchRequest { context: Some(context), ..dispatch(asked) };
    client(&watched.practice).dispatch(request).await.expect("it answers").into_inner().feedback_token
}

/// Spans leave a process in their order: when a later one of each process has come, so have all.
async fn flush(watched: &Watched) {
    let context = Context::new();
    client(&watched.practice).dispatch(context.with(dispatch(clinicians(WARFARIN)))).await.expect("it answers");
    let has_router = |trace: &consilium_tests::processes::Trace| trace.0.iter().any(|span| span.service() == "router");
    watched.jaeger.until(&context.trace, "the router's spans", has_router).await;
    for expert in watched.practice.experts.iter().chain([&watched.tensors]) {
        let context = Context::new();
        let channel = dial::channel(&Target::plain(expert.address().to_string())).expect("an address is one");
        let request =
            v1::InferRequest { expert: expert.expert.clone(), query: Some(query(WARFARIN)), ..Default::default() };
        // Whether it answers is no matter: a span of it is.
        let _ = ExpertServiceClient::new(channel).infer(context.with(request)).await;
        watched.jaeger.until(&context.trace, &expert.instance, |trace| !trace.0.is_empty()).await;
    }
}

/// Something that is searched.
struct Place<'a> {
    name: &'static str,
    /// What is there if it is what it should be.
    holds: &'a [&'a str],
    /// Words that may be there.
    allowed: &'a [Kind],
}

impl<'a> Place<'a> {
    fn new(name: &'static str, holds: &'a [&'a str]) -> Self {
        Self { name, holds, allowed: &[] }
    }

    fn may_have(self, allowed: &'a [Kind]) -> Self {
        Self { allowed, ..self }
    }
}

#[derive(Default)]
struct Found {
    table: Vec<String>,
    wrong: Vec<String>,
    missing: Vec<String>,
}

impl Found {
    /// Looks for words of every kind that may not be here, and for what must be.
    fn search<'a>(&mut self, marks: &Marks, place: &Place<'_>, pieces: impl Iterator<Item = &'a [u8]>) {
        let (mut count, mut bytes, mut hits) = (0, 0, 0);
        let mut held = vec![0; place.holds.len()];
        for piece in pieces {
            (count, bytes) = (count + 1, bytes + piece.len());
            let text = String::from_utf8_lossy(piece);
            for (held, own) in held.iter_mut().zip(place.holds) {
                *held += text.matches(own).count();
            }
            for kind in Kind::ALL.into_iter().filter(|kind| !place.allowed.contains(kind)) {
                for (field, times) in marks.found(kind, &text) {
                    hits += times;
                    let around = around(&text, kind);
                    self.wrong.push(format!("{kind:?}, {field}: {times} times in {}: {around}", place.name));
                }
            }
        }
        self.table.push(format!("| {} | {count} | {bytes} | {} | {hits} |", place.name, held.iter().sum::<usize>()));
        let missing = place.holds.iter().zip(&held).filter(|(_, held)| **held == 0);
        self.missing.extend(missing.map(|(own, _)| format!("{} has no {own}", place.name)));
    }
}

/// Where the first word stands.
fn around(text: &str, kind: Kind) -> String {
    let line = text.lines().find(|line| !Marks::default().found(kind, line).is_empty()).unwrap_or_default();
    line.chars().take(400).collect()
}

async fn etcd(watched: &Watched) -> Vec<u8> {
    let mut command = Command::new(tool("etcdctl"));
    command.env("ETCDCTL_API", "3").args(["--endpoints", &watched.practice.etcd.urls()[0], "get", "--prefix", ""]);
    let output = command.output().await.expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Of the shared mesh: other trials' have directories of their own.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    let logs = walk(dir).into_iter().filter(|path| path.parent() == Some(dir));
    logs.map(|path| fs::read(path).expect("a log can be read")).collect()
}

/// The files below a directory. Links lead to what is shared, which nobody writes.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let entries = entries.filter(|path| !path.is_symlink());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
