use std::sync::atomic::{AtomicUsize, Ordering};

use consilium_gate::{EncodeError, Encoded, Encoder};
use consilium_mesh::{
    health::Readiness,
    metrics::Metrics as Page,
    registry::{Error, Expert, Instance, Record, Registration, testing::card},
    serve,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::task::TaskTracker;

use super::*;
use crate::balance::Health;

/// A registry that a test speaks for.
#[derive(Debug)]
struct Told {
    snapshots: watch::Sender<Arc<Snapshot>>,
    forgotten: mpsc::UnboundedSender<String>,
}

#[tonic::async_trait]
impl Registry for Told {
    async fn register(&self, _: Card, record: Record) -> Result<Box<dyn Registration>, Error> {
        Err(Error::Gone { instance: record.instance })
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    fn forget(&self, instances: Vec<Arc<Instance>>) {
        for instance in instances {
            self.forgotten.send(instance.record.instance.clone()).expect("the test listens");
        }
    }

    async fn retire(&self, expert: &str, version: &str) -> Result<(), Error> {
        Err(Error::Unknown { expert: expert.to_owned(), version: version.to_owned() })
    }

    async fn put_gate(&self, _: Option<String>) -> Result<(), Error> {
        Ok(())
    }

    async fn get_gate(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }
}

/// Reads every text the same, once it has failed so often.
struct Flat(AtomicUsize);

#[tonic::async_trait]
impl Encoder for Flat {
    fn digest(&self) -> &'static str {
        "flat"
    }

    async fn encode(&self, _: &str, _: Instant) -> Result<Encoded, EncodeError> {
        let fails = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { Err(EncodeError::Failed("not yet".into())) } else { Ok(vec![1.0].into()) }
    }
}

/// A learner at work.
struct Learning {
    registry: Arc<Told>,
    forgotten: mpsc::UnboundedReceiver<String>,
    published: watch::Receiver<Arc<Catalog>>,
    readiness: Readiness,
    page: Page,
    _tasks: JoinSet<Result<(), consilium_gate::Error>>,
}

impl Learning {
    fn start() -> Self {
        Self::with(Flat(AtomicUsize::new(0)))
    }

    fn with(encoder: Flat) -> Self {
        let (send, forgotten) = mpsc::unbounded_channel();
        let registry = Arc::new(Told { snapshots: watch::Sender::default(), forgotten: send });
        let gate = Gate::with_background(consilium_gate::Options::default(), Arc::new(encoder), Vec::new());
        let (published, changes) = watch::channel(Arc::default());
        let readiness = Readiness::new("router");
        let page = Page::new();
        let metrics = Metrics::on(&page);
        let learner = Learner {
            mesh: "clinic".to_owned(),
            registry: Arc::clone(&registry) as Arc<dyn Registry>,
            lines: Lines {
                tls: None,
                news: watch::Sender::default(),
                metrics: metrics.clone(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            },
            catalog: Arc::default(),
            gate: Arc::new(gate.expect("the options are right")),
            metrics,
            published,
            heard: readiness.latch("registry"),
            ready: readiness.latch("gate"),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(learner.run(CancellationToken::new()));
        Self { registry, forgotten, published: changes, readiness, page, _tasks: tasks }
    }

    fn tell(&self, instances: impl IntoIterator<Item = Instance>) {
        self.registry.snapshots.send_modify(|snapshot| {
            let instances = instances.into_iter().map(|it| (it.record.instance.clone(), Arc::new(it))).collect();
            let labs = Expert { name: "labs".to_owned(), instances, ..Expert::default() };
            let experts = [("labs".to_owned(), Arc::new(labs))].into();
            *snapshot = Arc::new(Snapshot { revision: snapshot.revision + 1, experts, ..Snapshot::default() });
        });
    }

    async fn until(&mut self, instance: &Instance, health: Health) {
        let wanted = self
            .published
            .wait_for(|catalog| catalog.snapshot().experts.contains_key("labs") && catalog.health(instance) == health);
        wanted.await.expect("the learner lives");
    }
}

fn expired(id: &str, address: &str) -> Instance {
    let record = format!(
        r#"{{"Addr":"{address}","Record":{{"schema":1,"instance":"{id}","epoch":"e","version":"1","state":"serving"}}}}"#
    );
    let record = Record::decode("labs", &record).expect("it is a record");
    Instance { address: record.address.clone(), record, expired: true }
}

#[tokio::test(start_paused = true)]
async fn before_the_registry_was_heard_nothing_is_known_not_even_that_nobody_is_there() {
    let learning = Learning::start();
    learning.registry.snapshots.send_replace(Arc::default());
    // The clock is paused: this passes once everybody has nothing left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(learning.readiness.missing(), ["gate", "registry"]);
    learning.registry.snapshots.send_replace(Arc::new(Snapshot { revision: 1, ..Snapshot::default() }));
    learning.readiness.ready().await;
}

#[tokio::test(start_paused = true)]
async fn fits_are_counted_by_how_they_went_and_objectives_from_zero() {
    let learning = Learning::with(Flat(AtomicUsize::new(1)));
    let cards = [("1".to_owned(), Arc::new(card("labs")))].into();
    let labs = Expert { name: "labs".to_owned(), cards, ..Expert::default() };
    let experts = [("labs".to_owned(), Arc::new(labs))].into();
    learning.registry.snapshots.send_replace(Arc::new(Snapshot { revision: 1, experts, ..Snapshot::default() }));
    learning.readiness.ready().await;
    let page = learning.page.encode();
    for line in [
        r#"consilium_gate_fits_total{result="failed"} 1"#,
        r#"consilium_gate_fits_total{result="ok"} 1"#,
        r#"consilium_slo_total{expert="labs"} 0"#,
        r#"consilium_slo_good_total{expert="labs"} 0"#,
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[tokio::test]
async fn who_has_expired_and_cannot_be_reached_is_forgotten_again_and_again_and_nobody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let alive = expired("alive", &listener.local_addr().expect("a bound port has an address").to_string());
    let readiness = Readiness::new("labs");
    readiness.latch("model").set();
    let server = serve::Server::new(listener, serve::Options::default()).with_health([readiness]);
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(CancellationToken::new(), Duration::ZERO));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr();
    let closed = closed.expect("a bound port has an address").to_string();
    let (dead, listed) = (expired("dead", &closed), Instance { expired: false, ..expired("listed", &closed) });

    let mut learning = Learning::start();
    learning.tell([alive.clone(), dead.clone(), listed.clone()]);
    learning.until(&alive, Health::Serving).await;
    learning.until(&dead, Health::Unreachable).await;
    learning.until(&listed, Health::Unreachable).await;
    for _ in 0..3 {
        assert_eq!(learning.forgotten.recv().await.as_deref(), Some("dead"));
    }
}
