//! What this crate measures, with names, label keys and meanings.

mod process;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a process shows at `/metrics`. Clones share it.
pub use consilium_metrics::Page as Metrics;
use consilium_metrics::{Amounts, CALL_SECONDS, Counts, Described, Gauges, Part, Sheet, Unit};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{counter::Counter, gauge::Gauge},
};
use tokio::time::Instant;
use tonic::Code;
use tracing::Span;

pub(crate) use self::process::ProcessMetrics;

const CALL_LABELS: &[&str] = &["server", "rpc_system_name", "rpc_method", "rpc_response_status_code", "error_type"];
const CALL_DURATION: Described = Described::histogram(
    "rpc_server_call_duration",
    CALL_LABELS,
    "Duration of calls that this server answered, until the end of the reply",
)
.of(Unit::Seconds);
const IN_FLIGHT: Described = Described::gauge("consilium_rpc_server_in_flight", &["server"], "Calls that are running");
const SHED: Described =
    Described::counter("consilium_rpc_server_shed", &["server"], "Calls refused because too many were running");
const PANICS: Described = Described::counter("consilium_rpc_server_panics", &["server"], "Calls that ended in a panic");
const HANDSHAKES: Described = Described::counter(
    "consilium_rpc_server_handshake_failures",
    &["server"],
    "TLS connections that came to nothing: of clients that do not believe the certificate, or show none that is believed",
);
const TLS_EXPIRY: Described = Described::gauge(
    "consilium_tls_certificate_expiry_timestamp",
    &["setting"],
    "Until when the certificates in the file of this setting are good, since 1970: of several authorities the last",
)
.of(Unit::Seconds);
const TLS_RELOAD_FAILURES: Described = Described::counter(
    "consilium_tls_reload_failures",
    &[],
    "Times that the files of tls could not be used when they were looked at; the certificates before them stay",
);
const REGISTRY_UP: Described = Described::gauge(
    "consilium_registry_up",
    &[],
    "Whether the registry can be followed: 1, or 0 while the last table is all there is",
);
const REGISTRY_AGE: Described = Described::gauge(
    "consilium_registry_age",
    &[],
    "Since the registry was last heard: a few seconds while it can be followed, and 0 where it is in this process",
)
.of(Unit::Seconds);
const REGISTRY_LISTS: Described =
    Described::counter("consilium_registry_lists", &[], "Times that the whole mesh was listed");
const REGISTRY_EXPIRED: Described =
    Described::gauge("consilium_registry_expired_instances", &[], "Instances kept past their registration");
const REGISTRY_ANNOUNCEMENTS: Described = Described::counter(
    "consilium_registry_announcements",
    &[],
    "Times that an instance was announced: once, and again whenever its registration was lost",
);

const TRACE_SPANS: Described = Described::counter(
    "consilium_trace_spans",
    &["result"],
    "Spans that ended: exported, failed (the collector did not take them) or dropped (too many were waiting)",
);
const BUILD_INFO: Described = Described::gauge("consilium_build_info", &["version"], "1, of the version that runs");

/// Everything that this crate measures.
pub const METRICS: &[&Described] = &{
    let [cpu, open_fds, max_fds, resident, virtual_memory, started, threads] = process::METRICS;
    [
        &CALL_DURATION,
        &IN_FLIGHT,
        &SHED,
        &PANICS,
        &HANDSHAKES,
        &TLS_EXPIRY,
        &TLS_RELOAD_FAILURES,
        &REGISTRY_UP,
        &REGISTRY_AGE,
        &REGISTRY_LISTS,
        &REGISTRY_EXPIRED,
        &REGISTRY_ANNOUNCEMENTS,
        &TRACE_SPANS,
        &BUILD_INFO,
        cpu,
        open_fds,
        max_fds,
        resident,
        virtual_memory,
        started,
        threads,
    ]
};

/// What the serve layers count.
#[derive(Debug, Clone)]
pub(crate) struct RpcMetrics {
    duration: Amounts<CallLabels>,
    pub(crate) in_flight: Gauges<ServerLabels>,
    pub(crate) shed: Counts<ServerLabels>,
    pub(crate) panics: Counts<ServerLabels>,
    handshakes: Counts<ServerLabels>,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            duration: Amounts::new(CALL_SECONDS),
            in_flight: Gauges::default(),
            shed: Counts::default(),
            panics: Counts::default(),
            handshakes: Counts::default(),
        }
    }
}

impl Part for RpcMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        sheet.amounts(&CALL_DURATION, &self.duration);
        sheet.gauges(&IN_FLIGHT, &self.in_flight);
        sheet.counts(&SHED, &self.shed);
        sheet.counts(&PANICS, &self.panics);
        sheet.counts(&HANDSHAKES, &self.handshakes);
    }
}

/// The certificates of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsMetrics {
    expiry: Gauges<SettingLabels>,
    reload_failures: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettingLabels {
    setting: &'static str,
}

impl Part for TlsMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        sheet.gauges(&TLS_EXPIRY, &self.expiry);
        sheet.put(&TLS_RELOAD_FAILURES, self.reload_failures.clone());
    }
}

impl TlsMetrics {
    /// `at` is in seconds since 1970.
    pub(crate) fn expires(&self, setting: &'static str, at: i64) {
        self.expiry.set(&SettingLabels { setting }, at);
    }

    pub(crate) fn reload_failed(&self) {
        self.reload_failures.inc();
    }
}

/// What a process sees of a registry that is elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryMetrics {
    /// 1 while the registry can be followed, 0 while the last table is all there is.
    pub(crate) up: Gauge,
    pub(crate) heard: Heard,
    pub(crate) lists: Counter,
    pub(crate) expired: Gauge,
    pub(crate) announcements: Counter,
}

impl RegistryMetrics {
    /// Those of a process that follows the registry.
    pub(crate) fn of_follower(&self, page: &Metrics) {
        page.register(|sheet| {
            sheet.put(&REGISTRY_UP, self.up.clone());
            sheet.collect(self.heard.clone());
            sheet.put(&REGISTRY_LISTS, self.lists.clone());
            sheet.put(&REGISTRY_EXPIRED, self.expired.clone());
        });
    }

    /// Those of a process that is its own registry.
    pub(crate) fn of_memory(page: &Metrics) {
        let numbers = Self::default();
        numbers.up.set(1);
        page.register(|sheet| {
            sheet.put(&REGISTRY_UP, numbers.up);
            sheet.put(&REGISTRY_AGE, Gauge::<i64>::default());
            sheet.put(&REGISTRY_LISTS, numbers.lists);
            sheet.put(&REGISTRY_EXPIRED, numbers.expired);
        });
    }

    /// Those of a process that announces instances.
    pub(crate) fn of_announcer(&self, page: &Metrics) {
        page.register(|sheet| sheet.put(&REGISTRY_ANNOUNCEMENTS, self.announcements.clone()));
    }
}

/// When the registry was last heard; at first, when somebody began to listen. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Heard(Arc<Mutex<Instant>>);

impl Default for Heard {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Heard {
    pub(crate) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Collector for Heard {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        REGISTRY_AGE.encode(&mut encoder)?.encode_gauge(&self.age().as_secs_f64())
    }
}

/// Which version of the programs this is.
#[derive(Debug, Clone, Default)]
pub(crate) struct BuildMetrics(Gauges<BuildLabels>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Part for BuildMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        self.0.set(&BuildLabels { version: env!("CARGO_PKG_VERSION") }, 1);
        sheet.gauges(&BUILD_INFO, &self.0);
    }
}

/// What became of spans.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceMetrics(Counts<ResultLabels>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

impl Part for TraceMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        // Nothing lost should be a zero, and not nothing.
        for result in ["exported", "failed", "dropped"] {
            self.0.add(&ResultLabels { result }, 0);
        }
        sheet.counts(&TRACE_SPANS, &self.0);
    }
}

impl TraceMetrics {
    pub(crate) fn exported(&self, spans: usize) {
        self.0.add(&ResultLabels { result: "exported" }, spans as u64);
    }

    pub(crate) fn failed(&self, spans: usize) {
        self.0.add(&ResultLabels { result: "failed" }, spans as u64);
    }

    pub(crate) fn dropped(&self, spans: usize) {
        self.0.add(&ResultLabels { result: "dropped" }, spans as u64);
    }
}

/// One server of a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ServerLabels {
    pub(crate) server: &'static str,
}

/// One kind of call. The number of combinations is bounded: methods come from descriptors, codes are 17.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    server: &'static str,
    rpc_system_name: &'static str,
    rpc_method: Arc<str>,
    rpc_response_status_code: &'static str,
    /// The code's name for what counts as a server's failure, empty otherwise.
    error_type: &'static str,
}

impl RpcMetrics {
    /// A server is there. What is rare begins at zero: of a series that begins with its first event, nobody sees that one.
    pub(crate) fn serves(&self, server: &'static str) {
        let labels = ServerLabels { server };
        self.shed.add(&labels, 0);
        self.panics.add(&labels, 0);
        self.handshakes.add(&labels, 0);
    }

    pub(crate) fn handshake_failed(&self, server: &'static str) {
        self.handshakes.add(&ServerLabels { server }, 1);
    }

    /// `span` is the call's.
    pub(crate) fn record(&self, server: &'static str, method: Arc<str>, (code, took): (Code, Duration), span: &Span) {
        let name = code_name(code);
        let labels = CallLabels {
            server,
            rpc_system_name: "grpc",
            rpc_method: method,
            rpc_response_status_code: name,
            error_type: if is_server_fault(code) { name } else { "" },
        };
        self.duration.observe(&labels, took.as_secs_f64(), span);
    }
}

/// The codes for which OpenTelemetry marks a server's span as failed.
pub fn is_server_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// `DEADLINE_EXCEEDED` and its like, as the gRPC specification writes them.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_shows_up_under_the_conventional_name() {
        let metrics = Metrics::new();
        let record = |code| {
            let took = Duration::from_millis(30);
            metrics.part::<RpcMetrics>().record("router", "a.B/C".into(), (code, took), &Span::none());
        };
        record(Code::Ok);
        record(Code::Internal);
        let page = metrics.encode();
        let ok = r#"rpc_server_call_duration_seconds_count{server="router",rpc_system_name="grpc",rpc_method="a.B/C",rpc_response_status_code="OK",error_type=""} 1"#;
        assert!(page.contains(ok), "{page}");
        assert!(page.contains(r#"error_type="INTERNAL""#), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }
}
