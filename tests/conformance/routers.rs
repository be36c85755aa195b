//! Two routers, and how one client's calls spread over them. A gRPC client makes one connection and keeps it, so that a
//! balancer of connections, which is what a Kubernetes Service is, gives a client one router for good: the trap. The three
//! remedies of `docs/balancing.md` follow, each with our Python and our Go client. What is counted are the calls that each
//! router itself says it has answered.

mod asking;
mod surroundings;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use consilium_tests::processes::{Clinic, Options, Router, target, until};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use self::{
    asking::{Asking, Told, clients},
    surroundings::{Names, Nginx},
};
use crate::cases::Client;

/// Calls that a router must have answered to count as one that serves this client.
const SOME: usize = 20;
/// Calls of one router that are enough to show that the other gets none, or that nothing fails for long.
const MANY: usize = 100;

/// The trials, and the mesh that they share.
pub(crate) struct Routers {
    /// Started by the first trial that runs.
    clinic: OnceLock<Clinic>,
    runtime: Arc<Runtime>,
}

/// What one trial does with one client.
type Scenario = for<'a> fn(&'a Clinic, &'a Client) -> std::pin::Pin<Box<dyn Future<Output = Row> + 'a>>;

impl Routers {
    pub(crate) fn new(runtime: &Arc<Runtime>) -> Arc<Self> {
        Arc::new(Self { clinic: OnceLock::new(), runtime: Arc::clone(runtime) })
    }

    pub(crate) fn trials(self: &Arc<Self>) -> Vec<Trial> {
        let scenarios: [(&str, Option<&str>, Scenario); 5] = [
            ("routers_behind_an_l4_balancer", Some("nginx"), |clinic, client| Box::pin(trap(clinic, client))),
            ("routers_by_round_robin", None, |clinic, client| Box::pin(round_robin(clinic, client))),
            ("routers_by_round_robin_and_one_dies", None, |clinic, client| Box::pin(one_dies(clinic, client))),
            ("routers_by_connection_age", Some("nginx"), |clinic, client| Box::pin(age(clinic, client))),
            ("routers_behind_an_l7_proxy", Some("nginx"), |clinic, client| Box::pin(proxy(clinic, client))),
        ];
        let trial = |(name, tool, scenario): (&'static str, Option<&str>, Scenario)| {
            let routers = Arc::clone(self);
            let trial = Trial::test(name, move || {
                routers.play(name, scenario);
                Ok(())
            });
            trial.with_ignored_flag(tool.is_some_and(crate::cannot_be_had))
        };
        scenarios.map(trial).into()
    }

    fn play(&self, name: &str, scenario: Scenario) {
        let start = || self.runtime.block_on(Clinic::start(&logs(), Options::default()));
        let clinic = self.clinic.get_or_init(start);
        for client in clients() {
            let row = self.runtime.block_on(scenario(clinic, client));
            let Row { calls: [one, two], told } = row;
            let said = format!(
                "{name}: {}: router 1 {one} calls, router 2 {two} calls, failed {}\n",
                client.name, told.failed
            );
            let _ = std::io::stdout().write_all(said.as_bytes());
            assert_eq!(told.failed, 0, "of {} calls: {:?}", told.asked, told.errors);
            assert!(told.asked >= one + two, "each router counts no more than was asked");
        }
    }
}

/// What came of one client.
struct Row {
    /// That each router answered.
    calls: [usize; 2],
    told: Told,
}

/// The trap. One client's calls all go to the router that its connection was given; a second client, while the first asks
/// on, is given the other one: the balancer balances, but connections.
async fn trap(clinic: &Clinic, client: &Client) -> Row {
    let pair = Pair::start(clinic, &[]).await;
    let balancer = Nginx::of_connections(pair.addresses()).await;
    let first = Asking::start(client, &balancer.target(), &logs());
    pair.until("one router answers", |calls| calls.iter().any(|calls| *calls >= MANY)).await;
    let alone = pair.calls().await;
    assert!(alone.contains(&0), "a client behind a balancer of connections has one router: {alone:?}");
    let second = Asking::start(client, &balancer.target(), &logs());
    pair.until("both routers answer", |calls| calls.iter().all(|calls| *calls >= SOME)).await;
    let (told, other) = (first.end().await, second.end().await);
    assert_eq!(other.failed, 0, "{:?}", other.errors);
    Row { calls: alone, told }
}

/// Remedy 1: the client knows all routers, by a name with an address for each, and takes turns.
async fn round_robin(clinic: &Clinic, client: &Client) -> Row {
    let pair = Pair::start(clinic, &[]).await;
    let names = Names::start(pair.addresses()).await;
    let asking = Asking::start(client, &names.target(), &logs());
    pair.until("both routers answer", |calls| calls.iter().all(|calls| *calls >= SOME)).await;
    pair.row(asking).await
}

/// Of remedy 1: a router that is killed costs nobody a call, and the other one has them all from then on.
async fn one_dies(clinic: &Clinic, client: &Client) -> Row {
    let mut pair = Pair::start(clinic, &[]).await;
    let names = Names::start(pair.addresses()).await;
    let asking = Asking::start(client, &names.target(), &logs());
    pair.until("both routers answer", |calls| calls.iter().all(|calls| *calls >= SOME)).await;
    let [one, two] = pair.calls().await;
    pair.routers[1].process.kill().await;
    let wanted = one + MANY;
    until("the other router answers", async || (calls(&pair.routers[0]).await >= wanted).then_some(())).await;
    let told = asking.end().await;
    Row { calls: [calls(&pair.routers[0]).await, two], told }
}

/// Remedy 2: routers ask their clients to connect anew now and then, and the balancer of connections gets another say.
async fn age(clinic: &Clinic, client: &Client) -> Row {
    let pair = Pair::start(clinic, &["max_connection_age=1s"]).await;
    let balancer = Nginx::of_connections(pair.addresses()).await;
    let asking = Asking::start(client, &balancer.target(), &logs());
    pair.until("both routers answer", |calls| calls.iter().all(|calls| *calls >= MANY)).await;
    pair.row(asking).await
}

/// Remedy 3: a proxy that knows calls. The client has one connection, and both routers serve it.
async fn proxy(clinic: &Clinic, client: &Client) -> Row {
    let pair = Pair::start(clinic, &[]).await;
    let proxy = Nginx::of_calls(pair.addresses()).await;
    let asking = Asking::start(client, &proxy.target(), &logs());
    pair.until("both routers answer", |calls| calls.iter().all(|calls| *calls >= SOME)).await;
    let row = pair.row(asking).await;
    assert_eq!(proxy.connections(), 1, "all of it on one connection");
    row
}

/// Two routers of one mesh, on the same port of two addresses, as two pods have it.
struct Pair {
    routers: [Router; 2],
}

impl Pair {
    async fn start(clinic: &Clinic, settings: &[&str]) -> Self {
        let one = clinic.another_router_at("router-1", "127.0.0.1:0", settings).await;
        // All of 127.0.0.0/8 is this machine's, and on this address nobody takes ports.
        let address = format!("127.0.0.2:{}", one.address().port());
        let two = clinic.another_router_at("router-2", &address, settings).await;
        let pair = Self { routers: [one, two] };
        assert_eq!(pair.calls().await, [0, 0], "nobody has asked them anything");
        pair
    }

    fn addresses(&self) -> [std::net::SocketAddr; 2] {
        [self.routers[0].address(), self.routers[1].address()]
    }

    async fn calls(&self) -> [usize; 2] {
        let (one, two) = tokio::join!(calls(&self.routers[0]), calls(&self.routers[1]));
        [one, two]
    }

    async fn until(&self, what: &str, wanted: impl Fn([usize; 2]) -> bool) {
        until(what, async || wanted(self.calls().await).then_some(())).await;
    }

    /// Ends the client, and counts.
    async fn row(&self, asking: Asking) -> Row {
        let told = asking.end().await;
        Row { calls: self.calls().await, told }
    }
}

/// The calls of `Dispatch` that a router has answered with OK.
async fn calls(router: &Router) -> usize {
    const COUNT: &str = "rpc_server_call_duration_seconds_count{";
    let page = router.page("/metrics").await.expect("a router has metrics");
    let counted = |line: &&str| {
        line.starts_with(COUNT) && line.contains("RouterService/Dispatch\"") && line.contains("status_code=\"OK\"")
    };
    page.lines().filter(counted).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// Where clients, tools and their files are looked for.
fn root() -> &'static Path {
    Path::new(crate::ROOT)
}

fn logs() -> PathBuf {
    target().join("conformance/routers")
}
