//! What the way through the router costs a request of raw tensors, and what the form of its contents does. Always two ways
//! side by side, in turns, so that what else the machine does falls on both; the ratio is the figure.
//!
//! Real processes: etcd, a router, experts. Figures go to standard output as Markdown.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on says so by a panic")]
#![expect(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

use std::{fs, net::SocketAddr, time::Duration};

use bytes::Bytes;
use consilium_mesh::dial::{self, Target};
use consilium_proto::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    raw,
};
use consilium_tests::processes::{Lab, machine, target};
use prost::Message;
use tokio::{runtime::Runtime, task::JoinSet, time::Instant};
use tonic::transport::Channel;

const COMMAND: &str = "make bench";
/// Of each of the two, in turns.
const ROUNDS: usize = 15;
const ELEMENTS: i64 = 1 << 20;

/// One way of asking.
struct Way {
    channel: Channel,
    request: Bytes,
}

fn main() {
    // Cargo's own arguments mean nothing here.
    Runtime::new().expect("a runtime starts").block_on(measure());
}

async fn measure() {
    let logs = target().join("bench-inference");
    let _ = fs::remove_dir_all(&logs);
    let lab = Lab::start(&logs).await;
    let (expert, router) = (channel(lab.tensors[0].address()), channel(lab.router.address()));
    let way = |channel: &Channel, request: &Bytes| Way { channel: channel.clone(), request: request.clone() };
    let (small, large, typed) = (small(), large(false), large(true));

    println!("| what | first, p50 | second, p50 | second / first |\n| --- | ---: | ---: | ---: |");
    for (what, calls, at_once) in [("128 bytes, one at a time", 100, 1), ("128 bytes, 16 at a time", 400, 16)] {
        let pair = (way(&expert, &small), way(&router, &small));
        side_by_side(&format!("straight to an expert, through the router: {what}"), &pair, (calls, at_once)).await;
    }
    let pair = (way(&expert, &large), way(&router, &large));
    side_by_side("straight to an expert, through the router: 4 MiB each way, one at a time", &pair, (8, 1)).await;
    let pair = (way(&expert, &large), way(&expert, &typed));
    side_by_side("raw contents, typed contents: 4 MiB to an expert, one at a time", &pair, (8, 1)).await;
    println!("\n{}", machine::provenance(COMMAND));
}

async fn side_by_side(what: &str, (first, second): &(Way, Way), (calls, at_once): (usize, usize)) {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (way, times) in [first, second].into_iter().zip(&mut times) {
            let took = way.ask(calls, at_once).await;
            // The first round warms up.
            if round > 0 {
                times.extend(took);
            }
        }
    }
    let [first, second] = times.map(median);
    let (millis, ratio) = (|time: Duration| time.as_secs_f64() * 1e3, second.as_secs_f64() / first.as_secs_f64());
    println!("| {what} | {:.2} ms | {:.2} ms | {ratio:.2} |", millis(first), millis(second));
}

impl Way {
    /// How long each of `calls` took, `at_once` of them at a time.
    async fn ask(&self, calls: usize, at_once: usize) -> Vec<Duration> {
        let mut running = JoinSet::new();
        for _ in 0..at_once {
            let limit = usize::MAX;
            let client = raw::Client::new(self.channel.clone());
            let mut client = client.max_decoding_message_size(limit).max_encoding_message_size(limit);
            let request = self.request.clone();
            running.spawn(async move {
                let mut times = Vec::with_capacity(calls / at_once);
                for _ in 0..calls / at_once {
                    let since = Instant::now();
                    client.model_infer(request.clone()).await.expect("it is answered");
                    times.push(since.elapsed());
                }
                times
            });
        }
        running.join_all().await.concat()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn channel(address: SocketAddr) -> Channel {
    dial::channel(&Target::plain(address.to_string())).expect("an address is one")
}

/// Two inputs of sixteen floats.
fn small() -> Bytes {
    let input = |name: &str| tensor(name, &[1, 16]);
    request("tensors.add-sub", vec![input("a"), input("b")], vec![vec![0; 64].into(), vec![0; 64].into()])
}

/// A mebi of floats, which come back.
fn large(typed: bool) -> Bytes {
    let mut input = tensor("x", &[1, ELEMENTS]);
    if !typed {
        return request("tensors.identity-fp32", vec![input], vec![vec![0; ELEMENTS as usize * 4].into()]);
    }
    input.contents = Some(InferTensorContents { fp32_contents: vec![0.0; ELEMENTS as usize], ..Default::default() });
    request("tensors.identity-fp32", vec![input], Vec::new())
}

fn tensor(name: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.into(), datatype: "FP32".into(), shape: shape.to_vec(), ..Default::default() }
}

fn request(model: &str, inputs: Vec<InferInputTensor>, raw_input_contents: Vec<Bytes>) -> Bytes {
    ModelInferRequest { model_name: model.into(), inputs, raw_input_contents, ..Default::default() }
        .encode_to_vec()
        .into()
}
