//! What it costs a mesh to be looked at: throughput through a router and an expert with every request traced, with one in a
//! hundred, and with none; with metrics that are scraped every second, and without. Meshes of real processes that differ in
//! nothing else, side by side and in turns, so that what else the machine does falls on all; ratios are the figures.
//!
//! Two kinds of requests. One reads a text with a small encoder, twice: that is what a mesh is for. The other adds and
//! subtracts thirty-two numbers, which costs next to nothing: all that is left is the way there and back, so it shows the
//! worst that looking can cost.
//!
//! Spans go to a collector inside this program that counts and forgets them: what a real one costs would be paid by the same
//! cores here, and elsewhere in earnest. Figures go to standard output as Markdown.

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
/// Of each mesh, in turns.
const ROUNDS: usize = 21;
/// Of one turn.
const TURN: Duration = Duration::from_millis(1500);
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
    outpost: Outpost,
    /// Whether somebody reads its metrics.
    scraped: bool,
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
    for (name, mesh, manner, scraped) in [
        ("no traces, metrics scraped every second", "plain", plain(), true),
        ("every request traced", "all", traced("1.0"), true),
        ("one request in a hundred traced", "few", traced("0.01"), true),
        ("no traces and no metrics", "blind", blind, false),
    ] {
        ways.push(Way { name, outpost: Outpost::start(&etcd, mesh, &logs, &manner).await, scraped });
    }
    println!("| {AT_ONCE} at a time | requests a second, median | of the first | quarters of the ratio |");
    println!("| --- | ---: | ---: | ---: |");
    for (what, work) in [("a text is read twice", Work::Text), ("numbers are added", Work::Tensors)] {
        side_by_side(what, work, &ways).await;
    }
    let (exports, bytes) = sink.received();
    println!(
        "\nThe last row's ratio is the other way round: with metrics, of without. The collector took {bytes} bytes in {exports} exports.\n"
    );
    println!("{}", machine::provenance(COMMAND));
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
        let ratios = own.iter().zip(&rates[0]).map(|(own, first)| if way.scraped { own / first } else { first / own });
        let ratios = sorted(ratios.collect());
        let quarter = |quarter: usize| ratios[ratios.len() * quarter / 4];
        let (rate, ratio) = (median(own.clone()), median(ratios.clone()));
        println!("| {what}: {} | {rate:.0} | {ratio:.3} | {:.3} to {:.3} |", way.name, quarter(1), quarter(3));
    }
}

impl Way {
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
                if self.scraped {
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
