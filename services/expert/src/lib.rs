//! An expert: a gRPC service that does one thing with a model and announces itself to a mesh.
//!
//! From a file to a running expert:
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//!
//! use consilium_engine::{Store, StoreOptions};
//! use consilium_expert::{Config, Options, Service};
//! use consilium_mesh::registry::MemoryRegistry;
//! use tokio::net::TcpListener;
//!
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load(Path::new("experts/triage/expert.yaml"))?; // or every mistake in it
//! let store = Store::open(StoreOptions { onnxruntime: Some("libonnxruntime.so".into()), ..StoreOptions::default() })?;
//! let registry = Arc::new(MemoryRegistry::new("clinic"));
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//!
//! let expert = Service::new(Options::new(config, "models/build"), listener, store, registry).start().await?;
//! println!("{} answers at {}", expert.expert(), expert.address());
//! expert.stop().await; // the ordered way out; dropping it instead is leaving without a word
//! # Ok(())
//! # }
//! ```
//!
//! Several experts of one process are several `Service`s over the same `Store`: a model that they share is loaded
//! once. `run` is the whole life of one of them, for a `main`. Admin ports take [`Service::readiness`].
//!
//! What lives where: `config` reads `expert.yaml`; `service` starts and stops; `server` speaks `consilium.v1` and
//! `inference` the Open Inference Protocol, which with `wire` and `status` are all that knows protobuf; `task` is what
//! experts do with a query, and `answering` one answer as it is made; `models` is what raw models they serve; `knowledge` is
//! what `retrieve` searches; `examples` keeps the card up to date; `metrics` and `spans` are what is seen of an expert from outside; `program` is an expert as a
//! process of its own.

mod announce;
mod answering;
mod config;
mod error;
mod examples;
mod inference;
mod knowledge;
mod metrics;
mod models;
pub mod program;
mod server;
mod service;
mod spans;
mod status;
pub mod task;
mod wire;

pub use announce::{Announcement, card};
pub use config::{Config, Control, Load, Needs, Reads, Repository, TaskConfig, TaskKind, TensorModels};
pub use error::Error;
pub use knowledge::{Knowledge, Mistake};
pub use metrics::METRICS;
pub use models::Unserved;
pub use service::{Handle, Options, Service, run};
