//! The names and label keys of everything that this crate measures, and the registry that `/metrics` is printed from.
//! Other crates register theirs through [`Metrics::register`].

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::Code;

/// `…_seconds` is appended by the unit. OpenTelemetry's `rpc.server.call.duration`.
pub const RPC_SERVER_CALL_DURATION: &str = "rpc_server_call_duration";
pub const RPC_SERVER_IN_FLIGHT: &str = "consilium_rpc_server_in_flight";
pub const RPC_SERVER_SHED: &str = "consilium_rpc_server_shed";
pub const RPC_SERVER_PANICS: &str = "consilium_rpc_server_panics";
pub const REGISTRY_UP: &str = "consilium_registry_up";
pub const REGISTRY_LISTS: &str = "consilium_registry_lists";
pub const REGISTRY_EXPIRED: &str = "consilium_registry_expired_instances";
pub const REGISTRY_ANNOUNCEMENTS: &str = "consilium_registry_announcements";

/// OpenTelemetry's advisory boundaries, in seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// A process's metrics. Clones share the same registry.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    rpc: RpcMetrics,
}

impl Metrics {
    pub fn new() -> Self {
        let rpc = RpcMetrics::default();
        let mut registry = Registry::default();
        registry.register_with_unit(
            RPC_SERVER_CALL_DURATION,
            "Duration of calls that this server answered, until the end of the reply",
            Unit::Seconds,
            rpc.duration.clone(),
        );
        registry.register(RPC_SERVER_IN_FLIGHT, "Calls that are running", rpc.in_flight.clone());
        registry.register(RPC_SERVER_SHED, "Calls refused because too many were running", rpc.shed.clone());
        registry.register(RPC_SERVER_PANICS, "Calls that ended in a panic", rpc.panics.clone());
        Self { registry: Arc::new(Mutex::new(registry)), rpc }
    }

    /// Adds the metrics of another part. Metric families are cheap to clone: register one, keep the other.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a `String` cannot fail, and a collector that fails leaves what was written before it.
        let _ = text::encode(&mut page, &self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        page
    }

    pub(crate) fn rpc(&self) -> &RpcMetrics {
        &self.rpc
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What the serve layers count.
#[derive(Debug, Clone)]
pub(crate) struct RpcMetrics {
    pub(crate) duration: Family<CallLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Family<ServerLabels, Gauge>,
    pub(crate) shed: Family<ServerLabels, Counter>,
    pub(crate) panics: Family<ServerLabels, Counter>,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Family::default(),
            shed: Family::default(),
            panics: Family::default(),
        }
    }
}

/// What a process sees of a registry that is elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryMetrics {
    /// 1 while the registry can be followed, 0 while the last table is all there is.
    pub(crate) up: Gauge,
    pub(crate) lists: Counter,
    pub(crate) expired: Gauge,
    pub(crate) announcements: Counter,
}

impl RegistryMetrics {
    /// Those of a process that follows the registry.
    pub(crate) fn of_follower(&self, page: &Metrics) {
        page.register(|registry| {
            registry.register(REGISTRY_UP, "Whether the registry can be followed", self.up.clone());
            registry.register(REGISTRY_LISTS, "Times that the whole mesh was listed", self.lists.clone());
            registry.register(REGISTRY_EXPIRED, "Instances kept past their registration", self.expired.clone());
        });
    }

    /// Those of a process that announces instances.
    pub(crate) fn of_announcer(&self, page: &Metrics) {
        page.register(|registry| {
            let help = "Times that an instance was announced: once, and again whenever its registration was lost";
            registry.register(REGISTRY_ANNOUNCEMENTS, help, self.announcements.clone());
        });
    }
}

/// One server of a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ServerLabels {
    pub(crate) server: &'static str,
}

/// One kind of call. The number of combinations is bounded: methods come from descriptors, codes are 17.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) server: &'static str,
    pub(crate) rpc_system_name: &'static str,
    pub(crate) rpc_method: Arc<str>,
    pub(crate) rpc_response_status_code: &'static str,
    /// The code's name for what counts as a server's failure, empty otherwise.
    pub(crate) error_type: &'static str,
}

impl RpcMetrics {
    pub(crate) fn record(&self, server: &'static str, method: Arc<str>, code: Code, took: Duration) {
        let name = code_name(code);
        let labels = CallLabels {
            server,
            rpc_system_name: "grpc",
            rpc_method: method,
            rpc_response_status_code: name,
            error_type: if is_server_fault(code) { name } else { "" },
        };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
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
            metrics.rpc().record("router", "a.B/C".into(), code, took);
        };
        record(Code::Ok);
        record(Code::Internal);
        let page = metrics.encode();
        let ok = r#"rpc_server_call_duration_seconds_count{server="router",rpc_system_name="grpc",rpc_method="a.B/C",rpc_response_status_code="OK",error_type=""} 1"#;
        assert!(page.contains(ok), "{page}");
        assert!(page.contains(r#"error_type="INTERNAL""#), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }

    #[test]
    fn other_parts_add_their_own() {
        let metrics = Metrics::new();
        let calls = Counter::<u64>::default();
        metrics.clone().register(|registry| registry.register("consilium_x", "X", calls.clone()));
        calls.inc();
        assert!(metrics.encode().contains("consilium_x_total 1"));
    }
}
