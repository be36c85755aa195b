use consilium_mesh::{dial, health::Readiness, metrics::Metrics as Page, serve};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;

/// A server of the mesh, stopped when dropped.
struct Served {
    address: String,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), serve::Error>>,
}

impl Served {
    async fn on(address: &str, readiness: Option<&Readiness>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("a bound port has an address").to_string();
        let server = serve::Server::new(listener, serve::Options::default());
        let server = match readiness {
            Some(readiness) => server.with_health([readiness.clone()]),
            None => server,
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(stop.clone(), Duration::ZERO));
        Self { address, stop, tasks }
    }

    async fn stop(mut self) -> String {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.address
    }
}

/// A monitor of the expert `labs`, and what it takes to wait for what it hears.
struct Watched {
    monitor: Monitor,
    news: watch::Receiver<News>,
    tasks: TaskTracker,
    stop: CancellationToken,
    page: Page,
}

impl Watched {
    fn at(address: &str) -> Self {
        let (send, news) = watch::channel(0);
        let (tasks, stop, page) = (TaskTracker::new(), CancellationToken::new(), Page::new());
        let lines =
            Lines { tls: None, news: send, metrics: Metrics::on(&page), tasks: tasks.clone(), stop: stop.clone() };
        let channel = dial::channel(&dial::Target::plain(address)).expect("the address is one");
        let subject = Subject { channel, expert: "labs".to_owned(), instance: "a".to_owned() };
        Self { monitor: Monitor::start(subject, &lines), news, tasks, stop, page }
    }

    /// Times that it stopped being picked for this cause.
    fn ejected(&self, cause: &str) -> Option<u64> {
        let sample = format!(r#"consilium_router_ejections_total{{expert="labs",cause="{cause}"}} "#);
        let page = self.page.encode();
        page.lines().find_map(|line| line.strip_prefix(&sample)).map(|count| count.parse().expect("a count"))
    }

    async fn until(&mut self, health: Health) {
        while self.monitor.health() != health {
            self.news.changed().await.expect("the monitor lives");
        }
    }
}

#[tokio::test]
async fn an_instance_is_followed_through_its_life_and_the_next_one() {
    let readiness = Readiness::new("labs");
    let model = readiness.latch("model");
    let served = Served::on("127.0.0.1:0", Some(&readiness)).await;
    let mut watched = Watched::at(&served.address);
    assert_eq!(watched.monitor.health(), Health::Unknown);
    watched.until(Health::NotServing).await;
    model.set();
    watched.until(Health::Serving).await;
    readiness.drain();
    watched.until(Health::NotServing).await;
    let address = served.stop().await;
    watched.until(Health::Unreachable).await;
    assert_eq!(*watched.news.borrow(), 4, "every change is told");
    assert_eq!(watched.ejected("not_serving"), Some(2), "one that was to be picked was not any more");
    assert_eq!(watched.ejected("unreachable"), None, "it was not picked anyway");

    let readiness = Readiness::new("labs");
    readiness.latch("model").set();
    let _served = Served::on(&address, Some(&readiness)).await;
    watched.until(Health::Serving).await;
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_serving() {
    let readiness = Readiness::new("pharmacy");
    readiness.latch("model").set();
    let served = Served::on("127.0.0.1:0", Some(&readiness)).await;
    Watched::at(&served.address).until(Health::NotServing).await;
}

#[tokio::test]
async fn a_server_that_does_not_tell_its_health_is_taken_for_a_healthy_one() {
    let served = Served::on("127.0.0.1:0", None).await;
    Watched::at(&served.address).until(Health::Serving).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_takes_the_connection_and_says_nothing_is_unreachable() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("a bound port has an address").to_string();
    let mut watched = Watched::at(&address);
    watched.until(Health::Unreachable).await;
    assert_eq!(watched.ejected("unreachable"), Some(1));
}

#[tokio::test]
async fn nobody_is_watched_without_a_monitor_or_after_the_stop() {
    let readiness = Readiness::new("labs");
    let served = Served::on("127.0.0.1:0", Some(&readiness)).await;
    for dropped in [true, false] {
        let mut watched = Watched::at(&served.address);
        watched.until(Health::NotServing).await;
        let Watched { monitor, tasks, stop, .. } = watched;
        assert_eq!(tasks.len(), 1);
        let kept = (!dropped).then_some(monitor);
        if !dropped {
            stop.cancel();
        }
        tasks.close();
        tasks.wait().await;
        drop(kept);
    }
}

#[tokio::test]
async fn why_a_connection_came_to_nothing_is_said_down_to_its_cause() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = nobody.local_addr().expect("a bound port has an address").to_string();
    drop(nobody);
    let channel = dial::channel(&dial::Target::plain(&address)).expect("the address is one");
    let failed = HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect_err("nobody is there");
    assert!(why(&failed).to_lowercase().contains("connection refused"), "{}", why(&failed));
    let said = why(&Status::internal("what somebody asked"));
    assert!(!said.is_empty() && !said.contains("asked"), "{said}");
}

#[test]
fn what_a_server_says_is_told_from_what_happens_to_the_connection() {
    let said_by_server = |code| Status::new(code, "");
    let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    assert_eq!(refused(&said_by_server(Code::Unimplemented)), Health::Serving);
    assert_eq!(refused(&said_by_server(Code::NotFound)), Health::NotServing);
    assert_eq!(refused(&said_by_server(Code::Unavailable)), Health::Unreachable);
    assert_eq!(refused(&broken), Health::Unreachable);

    assert_eq!(ended(None), Health::NotServing);
    assert_eq!(ended(Some(&said_by_server(Code::Unavailable))), Health::NotServing);
    assert_eq!(ended(Some(&broken)), Health::Unreachable);

    for (status, health) in [
        (ServingStatus::Serving, Health::Serving),
        (ServingStatus::NotServing, Health::NotServing),
        (ServingStatus::ServiceUnknown, Health::NotServing),
        (ServingStatus::Unknown, Health::NotServing),
    ] {
        assert_eq!(said(HealthCheckResponse { status: status.into() }), health);
    }
    assert!(Health::ALL.into_iter().all(|health| decode(health as u8) == health));
}
