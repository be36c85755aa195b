//! What a large mesh costs a router that has nothing to do, and how soon a new instance is routed to.
//!
//! A thousand instances are registered that are one process: this one, which answers their health checks on as many
//! addresses of loopback. The router and etcd are processes of their own. Figures go to standard output as Markdown.

#![expect(clippy::expect_used, clippy::panic, reason = "a measurement that cannot go on says so by a panic")]
#![expect(clippy::print_stdout, reason = "a table on standard output is what this program is for")]

use std::{fs, time::Duration};

use consilium_mesh::{
    health::Readiness,
    registry::{
        Card, Cost, Record,
        testing::{card, record},
    },
    serve,
};
use consilium_proto::v1::{self, instance};
use consilium_tests::{
    models,
    processes::{Etcd, Process, Router, built, machine, target},
};
use etcd_client::{Client, PutOptions};
use serde_json::json;
use tokio::{
    net::TcpListener,
    process::Command,
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const COMMAND: &str = "make bench";
const MESH: &str = "large";
const EXPERTS: usize = 50;
const INSTANCES: usize = 1000;
/// Watched in idleness.
const IDLE: Duration = Duration::from_secs(30);
/// Further instances, one after the other.
const PUTS: usize = 200;
/// Nothing here is renewed.
const LEASE: Duration = Duration::from_mins(10);
/// As our experts announce it.
const KEEPALIVE_MS: u64 = 1000;
/// Linux counts a process's time in hundredths of a second, whatever the machine.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    // Cargo's own arguments mean nothing here.
    Runtime::new().expect("a runtime starts").block_on(measure());
}

async fn measure() {
    let logs = target().join("bench-registry");
    let _ = fs::remove_dir_all(&logs);
    let etcd = Etcd::start(1, &logs).await;
    let mut client = etcd.client().await;
    let (port, _serving) = serve_health().await;
    let lease = client.lease_grant(LEASE.as_secs().cast_signed(), None).await.expect("etcd grants a lease").id();
    for expert in 0..EXPERTS {
        put_card(&mut client, expert).await;
    }

    let mesh = mesh_yaml(&logs);
    let mut command = Command::new(built("consilium-router"));
    command.arg(mesh).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--etcd", &etcd.urls()[0]]);
    command.arg("--table").arg(logs.join("table"));
    let router = Router::new(Process::listening("router", command, &logs).await).await;
    let empty = Usage::of(router.process.id());

    for instance in 0..INSTANCES {
        put(&mut client, (instance, port), lease).await;
    }
    let all = router.until("a thousand instances are serving", |table| serving(table).count() == INSTANCES).await;

    let before = Usage::of(router.process.id());
    // How long it idles is the subject.
    sleep(IDLE).await;
    let after = Usage::of(router.process.id());

    let (mut times, mut healthy) = (Vec::with_capacity(PUTS), Vec::with_capacity(PUTS));
    for instance in INSTANCES..INSTANCES + PUTS {
        let id = id_of(instance);
        let since = Instant::now();
        put(&mut client, (instance, port), lease).await;
        router.until("a new instance is routable", |table| routable(table).any(|known| known.id == id)).await;
        times.push(since.elapsed());
        router.until("a new instance is healthy", |table| serving(table).any(|known| known.id == id)).await;
        healthy.push(since.elapsed());
    }
    times.sort_unstable();
    healthy.sort_unstable();

    println!("| what | value |\n| --- | ---: |");
    println!("| memory of a router without instances, {EXPERTS} cards | {} |", mebibytes(empty.resident));
    println!("| memory with {INSTANCES} instances | {} |", mebibytes(after.resident));
    println!("| processor time of {} idle s | {:.2} s |", IDLE.as_secs(), after.seconds - before.seconds);
    println!("| from the last of {INSTANCES} puts in a row to all of them serving | {} |", millis(all));
    println!("| from `put` to routable, p50 of {PUTS} | {} |", millis(quantile(&times, 0.5)));
    println!("| from `put` to routable, p99 of {PUTS} | {} |", millis(quantile(&times, 0.99)));
    println!(
        "| from `put` to its health being shown as serving, p50 of {PUTS} | {} |",
        millis(quantile(&healthy, 0.5))
    );
    println!("\n{}", machine::provenance(COMMAND));
}

/// One server for all instances of all experts, on every address of this machine.
async fn serve_health() -> (u16, JoinSet<Result<(), serve::Error>>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port is free");
    let port = listener.local_addr().expect("a bound port has an address").port();
    let readiness = (0..EXPERTS).map(|expert| {
        let readiness = Readiness::new(name_of(expert));
        readiness.latch("fake").set();
        readiness
    });
    let server = serve::Server::new(listener, serve::Options::default()).with_health(readiness);
    let mut serving = JoinSet::new();
    serving.spawn(server.serve(CancellationToken::new(), Duration::ZERO));
    (port, serving)
}

fn mesh_yaml(dir: &std::path::Path) -> std::path::PathBuf {
    let expert = dir.join("expert.yaml");
    fs::write(&expert, "").expect("a file can be written");
    let path = dir.join("mesh.yaml");
    let mesh = json!({"name": MESH, "models": models(), "experts": [expert], "gate": {"encoder": "minilm-l6"}});
    fs::write(&path, mesh.to_string()).expect("a file can be written");
    path
}

async fn put_card(client: &mut Client, expert: usize) {
    let name = name_of(expert);
    let card = Card {
        summary: format!("Answers questions on subject {expert} of many."),
        examples: (0..5).map(|example| format!("question {example} about subject {expert}")).collect(),
        ..card(&name)
    };
    let value = serde_json::to_string(&card).expect("a card is JSON");
    client.put(format!("consilium/{MESH}/cards/{name}/1"), value, None).await.expect("etcd takes a card");
}

/// Registers an instance, as its own process would.
async fn put(client: &mut Client, (instance, port): (usize, u16), lease: i64) {
    let expert = name_of(instance % EXPERTS);
    let record = Record {
        // Each has an address of its own, so each has a connection of its own.
        address: format!("127.0.{}.{}:{port}", 1 + instance / 250, 1 + instance % 250),
        cost: Cost { points: vec![(8, 3.1), (32, 5.2), (128, 14.0), (256, 29.5)], ..Cost::default() },
        keepalive_ms: Some(KEEPALIVE_MS),
        ..record(&expert, &id_of(instance))
    };
    let key = format!("consilium/{MESH}/experts/{expert}/{}", record.instance);
    let value = record.encode().expect("a record is JSON");
    client.put(key, value, Some(PutOptions::new().with_lease(lease))).await.expect("etcd takes a record");
}

fn name_of(expert: usize) -> String {
    format!("subject-{expert}")
}

fn id_of(instance: usize) -> String {
    format!("instance-{instance}")
}

/// Those that a call may be given to: one that was registered just now is, before its health was heard of.
fn routable(table: &v1::Catalog) -> impl Iterator<Item = &v1::Instance> {
    let all = table.experts.iter().flat_map(|expert| &expert.instances);
    all.filter(|known| matches!(known.state(), instance::State::Connecting | instance::State::Serving))
}

fn serving(table: &v1::Catalog) -> impl Iterator<Item = &v1::Instance> {
    let all = table.experts.iter().flat_map(|expert| &expert.instances);
    all.filter(|known| known.state() == instance::State::Serving)
}

/// What a process has used so far.
struct Usage {
    /// Bytes in memory.
    resident: u64,
    /// Of processor time, its own and the kernel's on its behalf.
    seconds: f64,
}

impl Usage {
    /// Reads `/proc`.
    fn of(process: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let status = read("status");
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        // The second field, the program's name, ends with the last bracket and may hold anything.
        let stat = read("stat");
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        Self {
            resident: resident.map(|kib: u64| kib * 1024).expect("Linux tells the size of a process"),
            seconds: (fields[11] + fields[12]) as f64 / TICKS_PER_SECOND,
        }
    }
}

fn quantile(sorted: &[Duration], quantile: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
