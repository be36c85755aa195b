//! A process with telemetry, and a collector that takes its traces.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use consilium_mesh::{
    logs::Format,
    metrics::Metrics,
    telemetry::{self, Service, Settings, Telemetry},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What came, so far.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) spans: Vec<Span>,
    pub(crate) resources: Vec<BTreeMap<String, String>>,
}

struct Collector(Arc<watch::Sender<Came>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send_modify(|came| {
            for of_resource in request.into_inner().resource_spans {
                came.resources.push(words(&of_resource.resource.unwrap_or_default().attributes));
                came.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        });
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A process with telemetry: one runtime for all tests, because the exports run on that on which it was started.
pub(crate) struct Process {
    pub(crate) runtime: Runtime,
    pub(crate) came: watch::Receiver<Came>,
    pub(crate) metrics: Metrics,
    _telemetry: Telemetry,
    _collector: JoinSet<()>,
}

pub(crate) static PROCESS: LazyLock<Process> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let (sender, came) = watch::channel(Came::default());
    let metrics = Metrics::new();
    let (collector, telemetry) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        let mut collector = JoinSet::new();
        collector.spawn(async move {
            let service = TraceServiceServer::new(Collector(Arc::new(sender)));
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        let service = Service {
            name: "labs".into(),
            namespace: "clinic".into(),
            version: "7".into(),
            instance: Some("labs-1".into()),
        };
        let settings = Settings { endpoint, ..Settings::default() };
        (collector, telemetry::start("error", Format::Json, &settings, service, &metrics).unwrap())
    });
    Process { runtime, came, metrics, _telemetry: telemetry, _collector: collector }
});

/// The first span of that trace, once it has come.
pub(crate) async fn span_of(trace: &str) -> Span {
    let mut came = PROCESS.came.clone();
    let is_it = |span: &&Span| hex(&span.trace_id) == trace;
    let came = came.wait_for(|came| came.spans.iter().any(|span| is_it(&span))).await.unwrap();
    came.spans.iter().find(is_it).cloned().unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let word = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(word) => Some((attribute.key.clone(), word.clone())),
        _ => None,
    };
    attributes.iter().filter_map(word).collect()
}

/// A trace of its own for each test.
pub(crate) fn trace(test: u8) -> (String, String) {
    let trace = format!("{test:032x}");
    (trace.clone(), format!("00-{trace}-b7ad6b7169203331-01"))
}

pub(crate) fn asking<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}
