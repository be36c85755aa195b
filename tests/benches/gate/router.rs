//! What deciding costs a router when nothing has to be read: the steps `gate` and `plan` of requests to a whole router of
//! this process, as its own metrics tell them, so that the way there and back is not in it. Traces are off.

use std::{sync::Arc, time::Duration};

use consilium_mesh::{
    health::Readiness,
    registry::{
        Card, MemoryRegistry, Record, Registration, Registry,
        testing::{card, record},
    },
    serve,
};
use consilium_proto::v1::{decision, instance};
use consilium_tests::{Mesh, question};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{queries::made_up, table};

/// Requests of each kind.
const ASKED: usize = 2_000;
/// Different texts among them.
const TEXTS: usize = 32;
/// One rule, and bars that every text clears: a query that is refused has no plan.
const SETTINGS: &str = "gate: {min_confidence: 0, refuse_above: 1, rules: [{name: ward-round, \
                        when: 'query.text.startsWith(\"ward round\")', require: [expert-7]}]}";

/// A router among `experts`, asked by rules and by texts that it knows.
pub(crate) async fn measure(experts: usize) {
    let registry = Arc::new(MemoryRegistry::new("many"));
    let (_serving, _registered) = register(&registry, experts).await;
    let mesh = Mesh::over(registry, SETTINGS).await;
    mesh.until(|catalog| {
        let instances = catalog.experts.iter().flat_map(|expert| &expert.instances);
        instances.filter(|known| known.state() == instance::State::Serving).count() == experts
    })
    .await;

    let by_rules: Vec<String> = (0..TEXTS).map(|at| format!("ward round: {}", made_up(at, 7))).collect();
    let known: Vec<String> = (0..TEXTS).map(|at| made_up(at, 7)).collect();
    for (what, tier, texts) in [("by rules", "rules", by_rules), ("text known", "cache", known)] {
        // Also makes the texts known.
        for text in &texts {
            ask(&mesh, text).await;
        }
        let before = ["gate", "plan"].map(|step| Step::of(&mesh, step));
        for at in 0..ASKED {
            assert_eq!(ask(&mesh, &texts[at % TEXTS]).await, tier, "nothing had to be read");
        }
        let [gate, plan] = before.map(|before| before.mean_since(&mesh));
        table::means(&format!("{what}, {experts} experts"), [gate, plan, gate + plan]);
    }
    mesh.stopped().await;
}

/// What all experts' instances are served by, and their registrations.
type Instances = (JoinSet<Result<(), serve::Error>>, Vec<Box<dyn Registration>>);

/// An instance of each expert, all of them served on one port that tells their health.
async fn register(registry: &MemoryRegistry, experts: usize) -> Instances {
    let names: Vec<String> = (0..experts).map(|expert| format!("expert-{expert}")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a bound port has an address").to_string();
    let readiness = names.iter().map(|name| {
        let readiness = Readiness::new(name.as_str());
        readiness.latch("made up").set();
        readiness
    });
    let server = serve::Server::new(listener, serve::Options::default()).with_health(readiness);
    let mut serving = JoinSet::new();
    serving.spawn(server.serve(CancellationToken::new(), Duration::ZERO));
    let mut registered = Vec::new();
    for (at, name) in names.iter().enumerate() {
        // No examples: learning thousands of classes takes minutes, and what they cost is paid when a text is read.
        let card = Card { summary: made_up(at, 0), examples: Vec::new(), ..card(name) };
        let record = Record { address: address.clone(), ..record(name, &format!("{name}-instance")) };
        registered.push(registry.register(card, record).await.expect("the registry takes an instance"));
    }
    (serving, registered)
}

/// Asks for an explanation, which is a decision and a plan, and returns the tier that decided.
async fn ask(mesh: &Mesh, text: &str) -> String {
    let explained = mesh.explain(question(text)).await.expect("the router explains");
    let decision = explained.decision.expect("an explanation has a decision");
    assert_eq!(decision.outcome(), decision::Outcome::Dispatched, "there is something to plan");
    decision.gate_tier
}

/// A step of the router's requests so far.
struct Step {
    name: &'static str,
    seconds: f64,
    count: f64,
}

impl Step {
    fn of(mesh: &Mesh, name: &'static str) -> Self {
        let page = mesh.metrics.encode();
        let number = |kind: &str| {
            let sample = format!("consilium_router_step_duration_seconds_{kind}{{step=\"{name}\"}} ");
            let number = page.lines().find_map(|line| line.strip_prefix(&sample)?.split_whitespace().next());
            number.expect("steps are measured").parse().expect("a sample is a number")
        };
        Self { name, seconds: number("sum"), count: number("count") }
    }

    /// The mean of those since.
    fn mean_since(self, mesh: &Mesh) -> Duration {
        let now = Self::of(mesh, self.name);
        Duration::from_secs_f64((now.seconds - self.seconds) / (now.count - self.count))
    }
}
