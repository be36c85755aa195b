//! The spans of an expert, and what it says of itself on the spans of its calls. Names and versions, never what is asked.

use std::sync::Arc;

use consilium_mesh::telemetry::span::set;
use tonic::{Request, Status};
use tracing::{Span, debug_span};

use crate::server::Identity;

/// The answer to one query, by a task of this kind.
pub(crate) fn answer(task: &str) -> Span {
    debug_span!("answer", consilium.task = task)
}

/// Looking through the knowledge.
pub(crate) fn search() -> Span {
    debug_span!("search")
}

/// Says on the span of every call of a service which instance it reached.
pub(crate) fn reached(identity: &Identity) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + use<> {
    let names = [
        ("consilium.expert.name", &identity.expert),
        ("consilium.expert.version", &identity.version),
        ("consilium.expert.instance", &identity.instance),
    ];
    let names = names.map(|(key, name)| (key, Arc::<str>::from(name.as_str())));
    move |request| {
        let call = Span::current();
        for (key, name) in &names {
            set(&call, key, Arc::clone(name));
        }
        Ok(request)
    }
}
