//! How a process is seen from outside beside its metrics: logs on standard error, traces by OTLP, and the trace context
//! that travels with calls.

mod context;
mod export;
mod settings;
pub mod span;

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, ResourceDetector as _, SdkProvidedResourceDetector, TelemetryResourceDetector},
    trace::{Sampler, SdkTracerProvider},
};
use tokio::{task::spawn_blocking, time::timeout};
use tonic::transport::ClientTlsConfig;
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    Layer as _, Registry,
    filter::filter_fn,
    layer::{Layered, SubscriberExt as _},
};
use uuid::Uuid;

use self::export::{Exports, Failing};
pub(crate) use self::{
    context::caller,
    settings::{COLLECTOR, is_collector},
};
pub use self::{
    context::inject,
    settings::{Callers, Settings},
};
use crate::{
    logs::{self, Format, Listener},
    metrics::{Metrics, TraceMetrics},
};

/// What OpenTelemetry calls the code of a call. The conventions are about to rename it to `rpc.status_code`: then it
/// changes here, in `CALL_LABELS`, and in what is generated from them.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";

/// Who makes the spans, for tools that show it.
const SCOPE: &str = "consilium";

/// For the last spans to leave a process that ends.
const LAST_EXPORT: Duration = Duration::from_secs(2);
/// The same where the export before failed: one more try of a collector that may be back, and not a stop that is late for
/// one that is not.
const LAST_TRY: Duration = Duration::from_millis(200);

/// What a process says of itself in its traces. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say it better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `router`, the expert's name, or `consilium` where they share a process.
    pub name: String,
    /// The mesh.
    pub namespace: String,
    pub version: String,
    /// No two processes have the same; made up where it is `None`.
    pub instance: Option<String>,
}

/// Why a process can be neither heard nor seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Logs(#[from] logs::Error),
    #[error("traces cannot be sent")]
    Exporter(#[source] Box<ExporterBuildError>),
}

/// Logs and traces, for as long as the process lasts.
#[derive(Debug)]
#[must_use = "the last spans leave with `stop`"]
pub struct Telemetry(Option<Exporting>);

#[derive(Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    failing: Failing,
}

/// Sets up the logs of the process, as [`logs::init`] does, and where an endpoint is set its traces. Within a Tokio
/// runtime, which carries the exports.
///
/// Without an endpoint no span is made beside the one of each call, which logs have too: a trace that a caller brings is
/// passed on to whom this process calls, and nothing else.
///
/// # Errors
/// [`Error::Logs`] as [`logs::init`] has them; [`Error::Exporter`] when an `OTEL_EXPORTER_OTLP_…` variable cannot be used.
pub fn start(
    level: &str,
    format: Format,
    settings: &Settings,
    service: Service,
    metrics: &Metrics,
) -> Result<Telemetry, Error> {
    let exports = metrics.part::<TraceMetrics>();
    let lines = logs::lines(level, format)?;
    let Some(endpoint) = &settings.endpoint else {
        logs::install(both(passing(), lines))?;
        return Ok(Telemetry(None));
    };
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if endpoint.starts_with("https:") {
        // The exporter's own settings for TLS believe nobody.
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter = exporter.build().map_err(|error| Error::Exporter(Box::new(error)))?;
    let exporting = Exporting::new(Exports::new(exporter, exports), settings.ratio, service);
    logs::install(both(recording(&exporting.provider), lines))?;
    Ok(Telemetry(Some(exporting)))
}

impl Telemetry {
    /// Sends the spans that ended so far, for two seconds at the most, and hardly tries where the last ones could not be
    /// sent. The logs stay.
    pub async fn stop(self) {
        let Self(Some(exporting)) = self else { return };
        let patience = exporting.patience();
        exporting.stop_within(patience).await;
    }
}

impl Exporting {
    fn new(exports: Exports, ratio: f64, service: Service) -> Self {
        let failing = exports.failing();
        Self { provider: provider(exports, ratio, service), failing }
    }

    fn patience(&self) -> Duration {
        if self.failing.is_so() { LAST_TRY } else { LAST_EXPORT }
    }

    async fn stop_within(self, patience: Duration) {
        let provider = self.provider;
        // The provider waits for its own thread, and that one for tasks of this runtime.
        let stopping = spawn_blocking(move || provider.shutdown_with_timeout(patience));
        if !matches!(timeout(patience, stopping).await, Ok(Ok(Ok(())))) {
            tracing::warn!("the last spans could not be exported in time");
        }
    }
}

type Traced = Layered<Listener<Registry>, Registry>;

/// One above the other. `and_then` or a `Vec` would make them one, whose parts then do not know how much the others want to
/// hear.
fn both(spans: Listener<Registry>, lines: Listener<Traced>) -> Layered<Listener<Traced>, Traced> {
    tracing_subscriber::registry().with(spans).with(lines)
}

fn provider(exports: Exports, ratio: f64, service: Service) -> SdkTracerProvider {
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    SdkTracerProvider::builder()
        .with_span_processor(exports)
        .with_sampler(sampler)
        .with_resource(service.into())
        .build()
}

/// Makes spans of ours into OpenTelemetry's. Not events: log lines are for whoever reads logs. The facts of a span are
/// what we set; where in the code and on which thread it was made is nobody's business.
fn recording(provider: &SdkTracerProvider) -> Listener<Registry> {
    bare(tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE)))
        .with_filter(filter_fn(|metadata| is_ours(metadata, Level::DEBUG)).with_max_level_hint(LevelFilter::DEBUG))
        .boxed()
}

/// Records nothing: a span is the caller's, whose context goes on to the next call. That costs a call less than five
/// microseconds, even in a build for development.
fn passing() -> Listener<Registry> {
    bare(tracing_opentelemetry::layer())
        .with_filter(filter_fn(|metadata| is_ours(metadata, Level::INFO)).with_max_level_hint(LevelFilter::INFO))
        .boxed()
}

fn bare<T>(layer: OpenTelemetryLayer<Registry, T>) -> OpenTelemetryLayer<Registry, T>
where
    T: opentelemetry::trace::Tracer + 'static,
    T::Span: Send + Sync,
{
    layer
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        // For those who make spans without `tracing`. Nobody does here.
        .with_context_activation(false)
}

fn is_ours(metadata: &Metadata<'_>, least: Level) -> bool {
    metadata.is_span() && *metadata.level() <= least && metadata.target().starts_with("consilium")
}

impl From<Service> for Resource {
    /// What the environment says comes last, and stays.
    fn from(service: Service) -> Self {
        let Service { name, namespace, version, instance } = service;
        let instance = instance.unwrap_or_else(|| Uuid::now_v7().to_string());
        let ours = [
            ("service.name", name),
            ("service.namespace", namespace),
            ("service.version", version),
            ("service.instance.id", instance),
        ];
        // The detector of names makes one up where the environment has none.
        let named = SdkProvidedResourceDetector.detect();
        let said = named.iter().filter(|(_, name)| !name.as_str().starts_with("unknown_service"));
        let said: Vec<KeyValue> = said.map(|(key, name)| KeyValue::new(key.clone(), name.clone())).collect();
        Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(ours.into_iter().filter(|(_, is)| !is.is_empty()).map(|(key, is)| KeyValue::new(key, is)))
            .with_detector(Box::new(EnvResourceDetector::new()))
            .with_attributes(said)
            .build()
    }
}

#[cfg(test)]
mod tests;
