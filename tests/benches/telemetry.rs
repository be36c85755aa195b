//! What it costs a mesh to be looked at: throughput through a router and an expert with every request traced, with one in a
//! hundred, and with none; with metrics that are scraped every second, and without. Meshes of real processes that differ in
//! nothing else, side by side and in turns, so that what else the machine does falls on all; ratios are the figures.
//!
//! Two kinds of requests. One reads a text with a small encoder, twice: that is what a mesh is for. The other adds and
//! subtracts thirty-two numbers, which costs next to nothing: all that is left is the way there and back, so it shows the
//! worst that looking can cost.
//!
//! Spans go to a collector inside this program that counts and forgets them: what a real one costs would be paid by the same
//! cores here, and elsewhere in earnest. Traces that are cheap because they are thrown away would say nothing: the
//! measurement fails where more than one span in a hundred was lost. Figures go to standard output as Markdown.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on says so by a panic")]
#![expect(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use consilium_proto::{
    client::router_service_client::RouterServiceClient,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    raw, v1,
};
use consilium_tests::processes::{Collector, Etcd, Lab, Manner, Outpost, machine, target};
use prost::Message;
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, interval},
};

const COMMAND: &str = "make bench BENCH=telemetry";
/// Of each mesh, in turns. With the first, which warms up, and for both kinds of requests, three minutes for four meshes.
const ROUNDS: usize = 21;
/// Of one turn. Short, so that what is compared is near in time.
const TURN: Duration = Duration::from_secs(1);
/// Of the spans of a mesh that traces every request.
const LOST_AT_MOST: f64 = 0.01;
const AT_ONCE: usize = 8;
const TEXT: &str = "crushing pain in the chest";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Text,
    Tensors,
}

/// A mesh, and how it is told to speak of itself.
struct Way {
    name: &'static str,
    kind: Kind,
    outpost: Outpost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What others are compared with.
    Plain,
    All,
    Few,
    /// Nobody reads its metrics, and it keeps none.
    Blind,
}

/// What became of the spans of a mesh.
#[derive(Debug, Default)]
struct Spans {
    exported: f64,
    failed: f64,
    dropped: f64,
}

fn main() {
    // Cargo's own arguments mean nothing here.
    Runtime::new().expect("a runtime starts").block_on(measure());
}

async fn measure() {
    let logs = target().join("bench-telemetry");
    let _ = fs::remove_dir_all(&logs);
    let etcd = Etcd::start(1, &logs).await;
    let sink = Collector::that_swallows().await;
    let plain = || Manner::default();
    let traced = |ratio: &str| plain().traced(&sink.url()).set(&format!("traces.ratio={ratio}"));
    let mut blind = plain();
    blind.arguments.push("--no-metrics".to_owned());
    let mut ways = Vec::new();
    for (name, kind, mesh, manner) in [
        ("no traces, metrics scraped every second", Kind::Plain, "plain", plain()),
        ("every request traced", Kind::All, "all", traced("1.0")),
        ("one request in a hundred traced", Kind::Few, "few", traced("0.01")),
        ("no traces and no metrics", Kind::Blind, "blind", blind),
    ] {
        ways.push(Way { name, kind, outpost: Outpost::start(&etcd, mesh, &logs, &manner).await });
    }
    println!("| {AT_ONCE} at a time | requests a second, median | ratio, median | its quarters | aim |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (what, work) in [("a text is read twice", Work::Text), ("numbers are added", Work::Tensors)] {
        side_by_side(what, work, &ways).await;
    }
    println!(
        "\nA ratio is the median of {ROUNDS}, each of two turns of the same round: throughput of such a mesh to that of"
    );
    println!(
        "one without traces whose metrics are scraped; in the last row, the latter to one without metrics. Rates depend"
    );
    println!("on the machine, ratios hardly do, and the aims are for them.\n");
    println!("| spans | exported | failed | dropped | lost |\n| --- | ---: | ---: | ---: | ---: |");
    let mut lost = 0.0;
    for way in ways.iter().filter(|way| matches!(way.kind, Kind::All | Kind::Few)) {
        let spans = way.spans().await;
        let Spans { exported, failed, dropped } = spans;
        println!("| {} | {exported} | {failed} | {dropped} | {:.2} % |", way.name, spans.lost() * 100.0);
        if way.kind == Kind::All {
            lost = spans.lost();
        }
    }
    let (exports, bytes) = sink.received();
    println!("\nThe collector took {bytes} bytes in {exports} exports.\n");
    println!("{}", machine::provenance(COMMAND));
    assert!(
        lost <= LOST_AT_MOST,
        "{:.2} % of the spans were lost: the ratios are of a mesh that hardly traces",
        lost * 100.0
    );
}

/// In each round every mesh has a turn, and is compared with the first mesh's turn of the same round.
async fn side_by_side(what: &str, work: Work, ways: &[Way]) {
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for at in 0..ways.len() {
            // Nobody always comes after the same one.
            let at = (at + round) % ways.len();
            let rate = ways[at].turn(work).await;
            // The first round warms up.
            if round > 0 {
                rates[at].push(rate);
            }
        }
    }
    for (way, own) in ways.iter().zip(&rates) {
        let ratio = |(own, first): (&f64, &f64)| if way.kind == Kind::Blind { first / own } else { own / first };
        let ratios = own.iter().zip(&rates[0]).map(ratio);
        let ratios = sorted(ratios.collect());
        let quarter = |quarter: usize| ratios[ratios.len() * quarter / 4];
        let (rate, ratio) = (median(own.clone()), median(ratios.clone()));
        let (name, aim) = (way.name, way.kind.aim());
        println!("| {what}: {name} | {rate:.0} | {ratio:.3} | {:.3} to {:.3} | {aim} |", quarter(1), quarter(3));
    }
}

impl Kind {
    /// The least ratio that it should come to.
    fn aim(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::All => "≥ 0.90",
            Self::Few | Self::Blind => "≥ 0.98",
        }
    }
}

impl Spans {
    /// The share that did not arrive.
    fn lost(&self) -> f64 {
        (self.failed + self.dropped) / (self.exported + self.failed + self.dropped)
    }

    /// Adds what a process tells of its own.
    fn add(&mut self, page: &str) {
        for line in page.lines() {
            let Some(rest) = line.strip_prefix("consilium_trace_spans_total{result=\"") else { continue };
            let (result, value) = rest.split_once("\"} ").expect("a series has a value");
            let value: f64 = value.split(' ').next().unwrap_or_default().parse().expect("a value is a number");
            match result {
                "exported" => self.exported += value,
                "failed" => self.failed += value,
                _ => self.dropped += value,
            }
        }
    }
}

impl Way {
    /// What became of the spans of all its processes.
    async fn spans(&self) -> Spans {
        let mut spans = Spans::default();
        spans.add(&self.outpost.router.page("/metrics").await.expect("the router shows its metrics"));
        for expert in &self.outpost.experts {
            spans.add(&expert.page("/metrics").await.expect("an expert shows its metrics"));
        }
        assert!(spans.exported > 0.0, "{}: no span was exported", self.name);
        spans
    }

    /// Requests a second.
    async fn turn(&self, work: Work) -> f64 {
        let (answered, since) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let mut asking = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (channel, answered) = (self.outpost.router.channel.clone(), Arc::clone(&answered));
            asking.spawn(async move {
                let mut questions = RouterServiceClient::new(channel.clone());
                let (mut tensors, request) = (raw::Client::new(channel), add_sub());
                while since.elapsed() < TURN {
                    match work {
                        Work::Text => drop(questions.dispatch(question()).await.expect("it is answered")),
                        Work::Tensors => drop(tensors.model_infer(request.clone()).await.expect("it is answered")),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let scraping = async {
            let mut due = interval(Duration::from_secs(1));
            loop {
                due.tick().await;
                if self.kind != Kind::Blind {
                    self.outpost.router.page("/metrics").await.expect("the router shows its metrics");
                    for expert in &self.outpost.experts {
                        expert.page("/metrics").await.expect("an expert shows its metrics");
                    }
                }
            }
        };
        tokio::select! {
            biased;
            _ = asking.join_all() => {}
            () = scraping => {}
        }
        answered.load(Ordering::Relaxed) as f64 / since.elapsed().as_secs_f64()
    }
}

fn question() -> v1::DispatchRequest {
    let query = v1::Query { text: TEXT.to_owned(), ..Default::default() };
    let options = v1::DispatchOptions { experts: vec![Lab::TRIAGE.to_owned()], ..Default::default() };
    v1::DispatchRequest { query: Some(query), options: Some(options), ..Default::default() }
}

fn add_sub() -> Bytes {
    let input = |name: &str| InferInputTensor {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, 16],
        ..Default::default()
    };
    let request = ModelInferRequest {
        model_name: format!("{}.add-sub", Lab::TENSORS),
        inputs: vec![input("a"), input("b")],
        raw_input_contents: vec![vec![0; 64].into(), vec![0; 64].into()],
        ..Default::default()
    };
    request.encode_to_vec().into()
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: Vec<f64>) -> f64 {
    let values = sorted(values);
    values[values.len() / 2]
}
