//! A router: a process, and its table as its own `WatchExperts` tells it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use consilium_mesh::dial::{self, Target};
use consilium_proto::{
    client::{catalog_service_client::CatalogServiceClient, router_service_client::RouterServiceClient},
    v1::{self, instance::State},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::transport::Channel;

use super::{EXPERT, GLANCE, PATIENCE, Process, process::Listening, until};

/// A running router.
#[derive(Debug)]
pub struct Router {
    pub process: Process,
    pub channel: Channel,
    listening: Listening,
    table: watch::Receiver<Arc<v1::Catalog>>,
    _watching: JoinSet<()>,
}

impl Router {
    /// What was started. Returns when it is ready.
    pub async fn new(started: (Process, Listening)) -> Self {
        let plain = |address: SocketAddr| dial::channel(&Target::plain(address.to_string()));
        Self::through(started, |address| plain(address).expect("an address is one")).await
    }

    /// The same, reached by a channel of this kind.
    pub async fn through(
        (process, listening): (Process, Listening),
        channel: impl FnOnce(SocketAddr) -> Channel,
    ) -> Self {
        let channel = channel(listening.address);
        let (changes, table) = watch::channel(Arc::default());
        let mut watching = JoinSet::new();
        watching.spawn(watch_table(CatalogServiceClient::new(channel.clone()), changes));
        let router = Self { process, channel, listening, table, _watching: watching };
        until("the router is ready", async || is_ready(router.listening.admin).await.then_some(())).await;
        router
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub fn admin(&self) -> SocketAddr {
        self.listening.admin
    }

    /// A page of its admin port.
    pub async fn page(&self, path: &str) -> Option<String> {
        admin(self.listening.admin, path).await
    }

    /// Returns once the table is as wanted, and how long that took.
    ///
    /// # Panics
    /// When it is not after [`PATIENCE`].
    pub async fn until(&self, what: &str, wanted: impl Fn(&v1::Catalog) -> bool) -> Duration {
        let since = Instant::now();
        let mut table = self.table.clone();
        let came = timeout(PATIENCE, table.wait_for(|table| wanted(table))).await.is_ok();
        assert!(came, "{} does not see that {what}; its table: {:?}", self.process.name(), self.states());
        since.elapsed()
    }

    /// Returns once the gate's decision on `text` is as wanted, and how long that took.
    pub async fn decides(&self, text: &str, wanted: impl Fn(&v1::Decision) -> bool) -> Duration {
        let query = v1::Query { text: text.to_owned(), ..Default::default() };
        let request = v1::ExplainRequest { query: Some(query), ..Default::default() };
        let decides = async || {
            let explained = RouterServiceClient::new(self.channel.clone()).explain(request.clone()).await;
            explained.ok()?.into_inner().decision.filter(&wanted).map(drop)
        };
        until("the gate decides as wanted", decides).await.1
    }

    /// Returns once `instance` is serving in the life `epoch`.
    pub async fn until_serving(&self, instance: &str, epoch: &str) -> Duration {
        let wanted = |table: &v1::Catalog| {
            state_in(table, instance).is_some_and(|(state, known)| state == State::Serving && known == epoch)
        };
        self.until(&format!("{instance} is serving in its new life"), wanted).await
    }

    /// What the router says of `instance` now; `None` when it does not list it.
    pub fn state(&self, instance: &str) -> Option<State> {
        state_in(&self.table.borrow(), instance).map(|(state, _)| state)
    }

    /// The whole table: instance, state and epoch.
    pub fn states(&self) -> Vec<(String, State, String)> {
        listed(&self.table.borrow()).map(|known| (known.id.clone(), known.state(), known.epoch.clone())).collect()
    }
}

/// State and epoch of `instance` in a table.
pub(super) fn state_in<'a>(table: &'a v1::Catalog, instance: &str) -> Option<(State, &'a str)> {
    listed(table).find(|known| known.id == instance).map(|known| (known.state(), known.epoch.as_str()))
}

/// The instances of the expert that the scenarios are about.
pub(super) fn listed(table: &v1::Catalog) -> impl Iterator<Item = &v1::Instance> {
    table.experts.iter().filter(|expert| expert.name == EXPERT).flat_map(|expert| &expert.instances)
}

/// Whether the process behind an admin port says that it is ready.
pub(super) async fn is_ready(address: SocketAddr) -> bool {
    admin(address, "/readyz").await.is_some()
}

/// A page of an admin port; `None` when there is none, or it is not OK.
pub(super) async fn admin(address: SocketAddr, path: &str) -> Option<String> {
    let ask = async {
        let mut connection = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(Duration::from_secs(2), ask).await.ok()?.ok()?;
    let (head, page) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| page.to_owned())
}

/// Watches for as long as the router lives, also across its pauses.
async fn watch_table(mut client: CatalogServiceClient<Channel>, changes: watch::Sender<Arc<v1::Catalog>>) {
    loop {
        if let Ok(stream) = client.watch_experts(v1::WatchExpertsRequest {}).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(change)) = stream.message().await {
                changes.send_replace(Arc::new(change.catalog.unwrap_or_default()));
            }
        }
        tokio::time::sleep(GLANCE).await;
    }
}
