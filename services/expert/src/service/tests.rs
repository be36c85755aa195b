use std::sync::Mutex;

use async_trait::async_trait;
use consilium_mesh::{
    dial,
    registry::{Card, MemoryRegistry, ModelRef, Record, Registration, Slo, Snapshot, State},
};
use consilium_proto::{client::expert_service_client::ExpertServiceClient, v1};
use tokio::sync::watch;

use super::*;
use crate::{
    TaskConfig,
    task::{Scripted, Task},
};

/// A registry in memory that remembers what it was told, in order.
#[derive(Debug)]
struct Recorded {
    mesh: MemoryRegistry,
    told: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Debug)]
struct RecordedRegistration {
    inner: Box<dyn Registration>,
    told: Arc<Mutex<Vec<&'static str>>>,
}

type RegistryResult<T> = Result<T, consilium_mesh::registry::Error>;

#[async_trait]
impl Registry for Recorded {
    async fn register(&self, card: Card, record: Record) -> RegistryResult<Box<dyn Registration>> {
        self.told.lock().unwrap().push("register");
        let inner = self.mesh.register(card, record).await?;
        Ok(Box::new(RecordedRegistration { inner, told: Arc::clone(&self.told) }))
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.mesh.watch()
    }

    fn forget(&self, instances: Vec<Arc<consilium_mesh::registry::Instance>>) {
        self.mesh.forget(instances);
    }

    async fn retire(&self, expert: &str, version: &str) -> RegistryResult<()> {
        self.mesh.retire(expert, version).await
    }

    async fn put_gate(&self, settings: Option<String>) -> RegistryResult<()> {
        self.mesh.put_gate(settings).await
    }

    async fn get_gate(&self) -> RegistryResult<Option<String>> {
        self.mesh.get_gate().await
    }
}

#[async_trait]
impl Registration for RecordedRegistration {
    async fn update(&self, record: Record) -> RegistryResult<()> {
        self.inner.update(record).await
    }

    async fn update_card(&self, card: Card) -> RegistryResult<()> {
        self.inner.update_card(card).await
    }

    async fn drain(&self) -> RegistryResult<()> {
        self.told.lock().unwrap().push("drain");
        self.inner.drain().await
    }

    async fn deregister(&self) -> RegistryResult<()> {
        self.told.lock().unwrap().push("deregister");
        self.inner.deregister().await
    }
}

fn options() -> Options {
    let config = Config {
        name: "oracle".to_owned(),
        version: "1".to_owned(),
        summary: "Knows what was asked.".to_owned(),
        examples: Vec::new(),
        examples_file: None,
        serves: std::collections::BTreeMap::new(),
        task: TaskConfig::Embed { model: "none".to_owned() },
        slo: Slo { latency: Duration::from_millis(150), objective: 0.99, first_token: None },
        idempotent: true,
        hedge: false,
        price: None,
    };
    let drain = drain::Options { settle: Duration::ZERO, ..drain::Options::default() };
    Options { drain, ..Options::new(config, "models") }
}

/// An expert whose task does as the test says: everything that `start` makes, without a model.
async fn started(task: Arc<dyn Task>, registry: &Recorded) -> Handle {
    let options = options();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let identity = Arc::new(Identity::new(&options));
    let card = announce::card(&options.config, Vec::new());
    let ready = Arc::new(OnceLock::from(Ready::new(card.clone(), task, Arc::default(), None)));
    let server = serve::Server::new(listener, options.serve.clone());
    let address = server.local_addr().unwrap();
    let readiness = Readiness::new("oracle");
    readiness.latch("model").set();
    let tally = Tally::new(&options.metrics, &identity, &ready);
    let service = Server::new(Arc::clone(&identity), Arc::clone(&ready), tally);
    let running = Running::start(server, &options, readiness, service);
    let record = announce::record(&identity, &options.announcement, address.to_string(), None);
    let registration = registry.register(card, record.clone()).await.unwrap();
    let announced = Arc::new(Announced::new(registration, record));
    Handle { address, identity, ready, announced, options: options.drain, running }
}

#[tokio::test]
async fn leaving_says_so_first_and_loses_no_running_call() {
    let registry = Recorded { mesh: MemoryRegistry::new("m"), told: Arc::default() };
    let task = Scripted::new(&[]);
    let expert = started(Arc::clone(&task) as Arc<dyn Task>, &registry).await;
    let channel = dial::channel(&dial::Target::plain(expert.address().to_string())).unwrap();

    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let query = v1::Query { text: "what?".to_owned(), ..Default::default() };
        let request = v1::InferRequest { query: Some(query), ..Default::default() };
        ExpertServiceClient::new(channel).infer(request).await.map(|response| response.into_inner().instance)
    });
    task.begun.acquire().await.unwrap().forget();

    let (instance, readiness) = (expert.instance().to_owned(), expert.readiness().clone());
    let mut snapshots = registry.watch();
    let leaving = expert.stop();
    tokio::pin!(leaving);
    // The record goes while the call still runs.
    tokio::select! {
        report = &mut leaving => panic!("left before the call was over: {report:?}"),
        gone = snapshots.wait_for(|mesh| mesh.experts["oracle"].instances.is_empty()) => drop(gone.unwrap()),
    }
    assert!(readiness.is_draining());
    task.released.add_permits(1);
    let (report, answered) = tokio::join!(leaving, tasks.join_next());

    assert_eq!(answered.unwrap().unwrap().unwrap(), instance);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(*registry.told.lock().unwrap(), ["register", "drain", "deregister"]);
    assert_eq!(registry.watch().borrow().experts["oracle"].cards.len(), 1, "the card outlives the instance");
}

#[tokio::test]
async fn whoever_leaves_is_not_said_to_serve_other_models() {
    let registry = Recorded { mesh: MemoryRegistry::new("m"), told: Arc::default() };
    let expert = started(Scripted::new(&[]), &registry).await;
    let model = |name: &str| ModelRef { name: name.to_owned(), version: "1".to_owned(), digest: "d".to_owned() };
    let announced = || registry.watch().borrow().experts["oracle"].instances[expert.instance()].record.clone();
    expert.announced.models(vec![model("a")], None).await;
    assert_eq!(announced().models, [model("a")]);
    expert.announced.leaving().await.drain().await.unwrap();
    expert.announced.models(vec![model("b")], None).await;
    assert_eq!((announced().models, announced().state), (vec![model("a")], State::Draining));
}

#[tokio::test]
async fn a_dropped_handle_is_an_instance_that_vanished() {
    let registry = Recorded { mesh: MemoryRegistry::new("m"), told: Arc::default() };
    let expert = started(Scripted::new(&[]), &registry).await;
    let address = expert.address();
    drop(expert);
    assert!(registry.watch().borrow().experts["oracle"].instances.is_empty());
    assert_eq!(*registry.told.lock().unwrap(), ["register"]);
    // The aborted task lets go of the port when it is next run.
    while TcpListener::bind(address).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn cutting_off_comes_before_giving_up() {
    let seconds = Duration::from_secs;
    let drain = drain::Options { registry: seconds(2), settle: seconds(3), budget: seconds(20) };
    assert_eq!(grace(drain), seconds(13));
    assert_eq!(grace(drain::Options { budget: seconds(1), ..drain }), Duration::ZERO);
}
