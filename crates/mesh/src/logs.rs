//! Structured logs on standard error: text where a person looks at a terminal, JSON lines where a machine reads. A JSON
//! line has the ids of the trace that it belongs to, where there is one.
//! Content never gets into them; that is the business of whoever logs, and of the redacted `Debug` of messages.

use std::{
    io::IsTerminal,
    sync::{Arc, OnceLock},
};

use opentelemetry::trace::TraceContextExt as _;
use tracing::{Dispatch, Subscriber, dispatcher::WeakDispatch};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    EnvFilter, Layer, fmt, fmt::MakeWriter, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::layer::panics;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log level {level:?} is none; expected error, warn, info, debug, trace or target=level, comma separated")]
    Level { level: String, source: tracing_subscriber::filter::ParseError },
    #[error("logs were set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One who listens to what a subscriber hears.
pub(crate) type Listener<S> = Box<dyn Layer<S> + Send + Sync>;

/// Sets up the process's logs and takes over its panic hook, whose default would print a panic's message. `level` is
/// what `--log` or `CONSILIUM_LOG` say; an empty one means `info`. A process with traces calls
/// [`telemetry::start`](crate::telemetry::start) instead.
///
/// # Errors
/// [`Error::Level`] when the level cannot be read, [`Error::Twice`] the second time.
pub fn init(level: &str, format: Format) -> Result<(), Error> {
    install(tracing_subscriber::registry().with(lines(level, format)?))
}

/// Makes it hear everything from now on.
pub(crate) fn install(subscriber: impl Subscriber + Send + Sync) -> Result<(), Error> {
    subscriber.try_init().map_err(|error| Error::Twice(Box::new(error)))?;
    panics::install();
    Ok(())
}

/// Who writes lines.
pub(crate) fn lines<S>(level: &str, format: Format) -> Result<Listener<S>, Error>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let filter = filter(level)?;
    let text = match format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    Ok(if text {
        fmt::layer().with_writer(std::io::stderr).with_target(false).compact().with_filter(filter).boxed()
    } else {
        json(std::io::stderr).with_filter(filter).boxed()
    })
}

/// Who writes lines of JSON.
pub(crate) fn json<S>(to: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> Listener<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let within = Within::default();
    let dispatch = Arc::clone(&within.0);
    let mut lines =
        json_subscriber::fmt::layer().with_writer(to).flatten_event(true).with_current_span(true).with_span_list(false);
    lines.inner_layer_mut().add_multiple_dynamic_fields(move |_, _, line| {
        let Some(dispatch) = dispatch.get().and_then(WeakDispatch::upgrade) else { return };
        let span = dispatch.current_span();
        let Some(context) = span.id().and_then(|id| get_otel_context(id, &dispatch)) else { return };
        let span = context.span();
        let ids = span.span_context();
        if ids.is_valid() {
            let _ = line.write_field("trace_id", ids.trace_id().to_string());
            let _ = line.write_field("span_id", ids.span_id().to_string());
        }
    });
    within.and_then(lines).boxed()
}

/// Knows whom it is a part of. Within an event `tracing` itself does not always say.
#[derive(Default)]
struct Within(Arc<OnceLock<WeakDispatch>>);

impl<S: Subscriber> Layer<S> for Within {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.0.set(dispatch.downgrade());
    }
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let wanted = if level.is_empty() { "info" } else { level };
    EnvFilter::builder().parse(wanted).map_err(|source| Error::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_or_named() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        filter("warn,consilium_mesh=debug").unwrap();
        let error = filter("consilium=loud").unwrap_err();
        assert!(error.to_string().contains("consilium=loud"), "{error}");
    }
}
