//! CatalogService: who is in the mesh, and how well they do.

use std::{pin::Pin, sync::Arc};

use consilium_mesh::{
    message,
    registry::{self, State, Track},
};
use consilium_proto::v1::{self, catalog_service_server::CatalogService, instance};
use futures::Stream;
use tokio::sync::watch;
use tokio_stream::{StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use crate::{
    balance::Health,
    catalog::{Catalog, newest_first},
    metrics::Metrics,
};

/// The catalogue as clients see it.
#[derive(Debug, Clone)]
pub(crate) struct Catalogs {
    pub(crate) mesh: String,
    /// What the router acts on; changes once the gate has learnt what changed.
    pub(crate) changes: watch::Receiver<Arc<Catalog>>,
    pub(crate) metrics: Metrics,
}

impl Catalogs {
    fn message(&self, catalog: &Catalog) -> v1::Catalog {
        let snapshot = catalog.snapshot();
        let experts = snapshot.experts.values().map(|expert| {
            let pool = catalog.pool(&expert.name);
            let in_flight = |instance: &str| pool.map_or(0, |pool| pool.in_flight(instance));
            let slo = newest_first(expert).first().map(|card| {
                let (good, total) = self.metrics.legs(&expert.name);
                v1::SloState { slo: Some(message::slo(&card.slo)), good, total }
            });
            v1::Expert {
                name: expert.name.clone(),
                cards: newest_first(expert).into_iter().map(|card| message::card(card)).collect(),
                instances: expert
                    .instances
                    .values()
                    .map(|instance| v1::Instance {
                        in_flight: in_flight(&instance.record.instance),
                        ..self::instance(instance, catalog.health(instance))
                    })
                    .collect(),
                slo,
            }
        });
        v1::Catalog { mesh: self.mesh.clone(), revision: snapshot.revision, experts: experts.collect() }
    }
}

#[tonic::async_trait]
impl CatalogService for Catalogs {
    async fn list_experts(
        &self,
        _: Request<v1::ListExpertsRequest>,
    ) -> Result<Response<v1::ListExpertsResponse>, Status> {
        let catalog = Arc::clone(&self.changes.borrow());
        Ok(Response::new(v1::ListExpertsResponse { catalog: Some(self.message(&catalog)) }))
    }

    type WatchExpertsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchExpertsResponse, Status>> + Send>>;

    async fn watch_experts(
        &self,
        _: Request<v1::WatchExpertsRequest>,
    ) -> Result<Response<Self::WatchExpertsStream>, Status> {
        let this = self.clone();
        let catalogs = WatchStream::new(self.changes.clone());
        Ok(Response::new(Box::pin(
            catalogs.map(move |catalog| Ok(v1::WatchExpertsResponse { catalog: Some(this.message(&catalog)) })),
        )))
    }
}

fn instance(instance: &registry::Instance, health: Health) -> v1::Instance {
    let record = &instance.record;
    let state = match (health, record.state) {
        (Health::Unreachable, _) => instance::State::Unreachable,
        // It says the same by its health as by its record, and the one may come before the other.
        (Health::NotServing, _) | (_, State::Draining) => instance::State::Draining,
        (Health::Unknown, State::Serving) => instance::State::Connecting,
        (Health::Serving, State::Serving) => instance::State::Serving,
    };
    let track = match record.track {
        Track::Live => instance::Track::Live,
        Track::Canary => instance::Track::Canary,
        Track::Shadow => instance::Track::Shadow,
    };
    v1::Instance {
        id: record.instance.clone(),
        version: record.version.clone(),
        address: instance.address.clone(),
        state: state.into(),
        track: track.into(),
        zone: record.zone.clone(),
        epoch: record.epoch.clone(),
        in_flight: 0,
        software: record.software.clone(),
        expired: instance.expired,
    }
}
