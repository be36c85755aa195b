//! The spans of an expert, and what it says of itself on the spans of its calls. Names and versions, never what is asked.

use std::sync::Arc;

use consilium_mesh::telemetry::span::{inner, set};
use consilium_metrics::is_recorded;
use tonic::{Request, Status};
use tracing::{Span, debug_span};

use crate::server::Identity;

/// One request on the `stream` of a call: a trace of its own, linked to the stream's, which may last for days. Where that is
/// not kept the requests are not either.
pub(crate) fn request(identity: &Identity, stream: &Span) -> Span {
    if !is_recorded(stream) {
        return stream.clone();
    }
    let request = debug_span!(
        parent: None,
        "request",
        consilium.expert.name = identity.expert.as_str(),
        consilium.expert.version = identity.version.as_str(),
        consilium.expert.instance = identity.instance.as_str(),
    );
    request.follows_from(stream);
    request
}

/// The answer to one query, by a task of this kind.
pub(crate) fn answer(task: &str) -> Span {
    inner(|| debug_span!("answer", consilium.task = task))
}

/// Looking through the knowledge.
pub(crate) fn search() -> Span {
    inner(|| debug_span!("search"))
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
