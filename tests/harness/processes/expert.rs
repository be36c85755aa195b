//! One instance of an expert: a process, and what can be asked of it from outside.

use std::net::SocketAddr;

use consilium_mesh::dial::{self, Target};
use consilium_proto::{client::expert_service_client::ExpertServiceClient, v1};

use super::{
    Process, Signal,
    process::Listening,
    router::{admin, is_ready},
    until,
};

/// A running instance.
#[derive(Debug)]
pub struct Expert {
    pub expert: String,
    pub instance: String,
    pub process: Process,
    listening: Listening,
}

impl Expert {
    pub(super) fn new(expert: &str, instance: &str, (process, listening): (Process, Listening)) -> Self {
        Self { expert: expert.to_owned(), instance: instance.to_owned(), process, listening }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// What the instance itself says that it is called and in which life. Waits until it says it.
    pub async fn epoch(&self) -> String {
        let channel = dial::channel(&Target::plain(self.address().to_string())).expect("an address is one");
        let describe = async || {
            let request = v1::DescribeRequest { expert: self.expert.clone() };
            let described = ExpertServiceClient::new(channel.clone()).describe(request).await;
            described.ok().map(|described| described.into_inner().epoch)
        };
        until("the instance says its epoch", describe).await.0
    }

    /// Returns once it says that it is ready.
    pub async fn ready(&self) {
        until("the expert is ready", async || is_ready(self.listening.admin).await.then_some(())).await;
    }

    pub fn admin(&self) -> SocketAddr {
        self.listening.admin
    }

    /// A page of its admin port.
    pub async fn page(&self, path: &str) -> Option<String> {
        admin(self.listening.admin, path).await
    }

    /// SIGTERM, and gone when this returns.
    ///
    /// # Panics
    /// When it did not leave in good order.
    pub async fn leave(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.ended().await;
        assert!(status.success(), "{} left with {status}", self.process.name());
    }
}
