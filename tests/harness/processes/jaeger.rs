//! A real Jaeger that takes spans by OTLP, keeps them in memory and tells them again, as OTLP.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Process, free_port, http, observability_tool, until};

/// A port that is free now may be somebody else's a moment later.
const STARTS: usize = 5;
/// More than any test makes.
const TRACES: usize = 200_000;

const HOUR: Duration = Duration::from_hours(1);

/// A running Jaeger. Its traces go with it.
#[derive(Debug)]
pub struct Jaeger {
    query: SocketAddr,
    otlp: SocketAddr,
    process: Process,
    _dir: TempDir,
}

/// A span as it was exported, with what its process says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// `None` at the top.
    pub parent: Option<String>,
    pub name: String,
    pub kind: Kind,
    /// `service.name`, `service.namespace`, `service.version`, `service.instance.id`, …
    pub resource: BTreeMap<String, Value>,
    pub attributes: BTreeMap<String, Value>,
    /// Trace and span.
    pub links: Vec<(String, String)>,
    /// Since the epoch.
    pub start: Duration,
    pub duration: Duration,
    /// Whether its status is an error, and what the status says in words.
    pub error: bool,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Other,
}

/// The spans of one trace.
#[derive(Debug, Clone, Default)]
pub struct Trace(pub Vec<Span>);

impl Jaeger {
    /// Starts it, and returns when it answers.
    pub async fn start(logs: &Path) -> Self {
        for _ in 0..STARTS {
            let dir = TempDir::new().expect("a temporary directory can be made");
            let port = || SocketAddr::from(([127, 0, 0, 1], free_port()));
            let (query, grpc, otlp) = (port(), port(), port());
            let config = dir.path().join("jaeger.yaml");
            fs::write(&config, settings(query, grpc, otlp).to_string()).expect("a temporary file can be written");
            let mut command = Command::new(observability_tool("jaeger"));
            command.arg(format!("--config=file:{}", config.display()));
            // It would trace itself, and look for somebody who takes that.
            command.env("OTEL_TRACES_SAMPLER", "always_off");
            let process = Process::spawn("jaeger", command, logs);
            let mut jaeger = Self { query, otlp, process, _dir: dir };
            if jaeger.is_ready_or_ends().await {
                return jaeger;
            }
        }
        panic!("Jaeger did not start {STARTS} times; its log in {} says why", logs.display());
    }

    async fn is_ready_or_ends(&mut self) -> bool {
        let (query, process) = (self.query, &mut self.process);
        let look = async || match http::get(query, "/api/v3/services").await {
            Some((200, _)) => Some(true),
            _ => (!process.is_alive()).then_some(false),
        };
        until("Jaeger answers", look).await.0
    }

    /// Where it takes spans, as a URL.
    pub fn otlp(&self) -> String {
        format!("http://{}", self.otlp)
    }

    /// A trace, as far as it has come; without spans when none has.
    pub async fn trace(&self, id: &str) -> Trace {
        let (status, answer) = http::json(self.query, &format!("/api/v3/traces/{id}")).await;
        if status == 404 { Trace::default() } else { Trace::read(&answer) }
    }

    /// A trace, once it is as wanted. Processes export every now and then, and not together.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Trace) -> bool) -> Trace {
        let mut last = Trace::default();
        let look = async || {
            last = self.trace(id).await;
            wanted(&last).then_some(())
        };
        let come = tokio::time::timeout(super::PATIENCE / 2, until(what, look)).await;
        assert!(come.is_ok(), "the trace {id} does not come to this: {what}. It is\n{last}");
        last
    }

    /// The names of those that sent spans.
    pub async fn services(&self) -> Vec<String> {
        let (_, answer) = http::json(self.query, "/api/v3/services").await;
        array(&answer["services"]).iter().map(text).collect()
    }

    /// The ids of the traces that a search finds, asked as Grafana asks it: over what its own page uses, with tags as JSON and
    /// times in microseconds. Of the last hour.
    pub async fn search(&self, parameters: &[(&str, &str)]) -> Vec<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        let micros = |time: Duration| time.as_micros().to_string();
        let (start, end) = (micros(now.saturating_sub(HOUR)), micros(now));
        let whole = [parameters, &[("start", &start), ("end", &end)]].concat();
        let (status, answer) = http::json(self.query, &http::path("/api/traces", &whole)).await;
        assert_eq!(status, 200, "{parameters:?}: {answer}");
        array(&answer["data"]).iter().map(|trace| text(&trace["traceID"])).collect()
    }

    /// The number of spans of a trace, asked as Grafana asks for one.
    pub async fn shown(&self, id: &str) -> usize {
        let (_, answer) = http::json(self.query, &format!("/api/traces/{id}")).await;
        array(&answer["data"]).iter().map(|trace| array(&trace["spans"]).len()).sum()
    }

    /// Who called whom in the last hour: caller and called, by the names of their services.
    pub async fn calls(&self) -> Vec<(String, String)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        let (end, lookback) = (now.as_millis().to_string(), HOUR.as_millis().to_string());
        let path = http::path("/api/dependencies", &[("endTs", &end), ("lookback", &lookback)]);
        let (_, answer) = http::json(self.query, &path).await;
        array(&answer["data"]).iter().map(|edge| (text(&edge["parent"]), text(&edge["child"]))).collect()
    }

    /// Everything that it tells of the newest `traces` traces of a service, as it tells it.
    pub async fn told(&self, service: &str, traces: usize) -> String {
        let count = traces.to_string();
        let query = [
            ("query.service_name", service),
            ("query.start_time_min", "2020-01-01T00:00:00Z"),
            ("query.start_time_max", "2100-01-01T00:00:00Z"),
            ("query.num_traces", &count),
        ];
        let path = http::path("/api/v3/traces", &query);
        let (_, body) = http::get(self.query, &path).await.expect("Jaeger answers");
        body
    }
}

/// JSON is YAML too.
fn settings(query: SocketAddr, grpc: SocketAddr, otlp: SocketAddr) -> Value {
    let largest = 64;
    json!({
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"logs": {"level": "error"}, "metrics": {"level": "none"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": TRACES}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": query},
                "grpc": {"endpoint": grpc},
            },
        },
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": otlp, "max_recv_msg_size_mib": largest}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    })
}

impl Trace {
    /// From `{"result": {"resourceSpans": …}}`, which is what `/api/v3` gives.
    fn read(answer: &Value) -> Self {
        let mut spans = Vec::new();
        for process in array(&answer["result"]["resourceSpans"]) {
            let resource = attributes(&process["resource"]["attributes"]);
            let scopes = array(&process["scopeSpans"]).iter();
            spans.extend(scopes.flat_map(|scope| array(&scope["spans"])).map(|span| Span::read(&resource, span)));
        }
        spans.sort_by_key(|span| span.start);
        Self(spans)
    }

    pub fn span(&self, id: &str) -> Option<&Span> {
        self.0.iter().find(|span| span.id == id)
    }

    /// The children of a span that are called `name`, in the order of their starts.
    pub fn below(&self, parent: &Span, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.parent.as_ref() == Some(&parent.id) && span.name == name).collect()
    }

    pub fn children(&self, parent: &Span) -> Vec<&Span> {
        self.0.iter().filter(|span| span.parent.as_ref() == Some(&parent.id)).collect()
    }

    /// Those whose parent is not of the trace.
    pub fn tops(&self) -> Vec<&Span> {
        let is_top = |span: &&Span| span.parent.as_deref().is_none_or(|parent| self.span(parent).is_none());
        self.0.iter().filter(is_top).collect()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, span: &Span, indent: &str) -> fmt::Result {
        let (first, rest) = if indent.is_empty() { ("", "") } else { ("└ ", "  ") };
        let name = format!("{}{first}{}", &indent[..indent.len().saturating_sub(rest.len())], span.name);
        let milliseconds = span.duration.as_secs_f64() * 1e3;
        let kind = match span.kind {
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
            Kind::Internal | Kind::Other => "",
        };
        writeln!(f, "{name:<64} {kind:<6} {:<22} {milliseconds:>9.2} ms", span.service())?;
        for child in self.children(span) {
            self.write(f, child, &format!("{indent}  "))?;
        }
        Ok(())
    }
}

/// As a tree, with kinds, services and durations.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tops().into_iter().try_for_each(|top| self.write(f, top, ""))
    }
}

impl Span {
    fn read(resource: &BTreeMap<String, Value>, span: &Value) -> Self {
        let nanos = |value: &Value| Duration::from_nanos(text(value).parse().unwrap_or_default());
        let (start, end) = (nanos(&span["startTimeUnixNano"]), nanos(&span["endTimeUnixNano"]));
        let link = |link: &Value| (text(&link["traceId"]), text(&link["spanId"]));
        Self {
            trace: text(&span["traceId"]),
            id: text(&span["spanId"]),
            parent: Some(text(&span["parentSpanId"])).filter(|parent| !parent.is_empty()),
            name: text(&span["name"]),
            kind: match span["kind"].as_u64() {
                Some(1) => Kind::Internal,
                Some(2) => Kind::Server,
                Some(3) => Kind::Client,
                _ => Kind::Other,
            },
            resource: resource.clone(),
            attributes: attributes(&span["attributes"]),
            links: array(&span["links"]).iter().map(link).collect(),
            start,
            duration: end.saturating_sub(start),
            error: span["status"]["code"].as_u64() == Some(2),
            message: text(&span["status"]["message"]),
        }
    }

    pub fn service(&self) -> &str {
        self.resource.get("service.name").and_then(Value::as_str).unwrap_or_default()
    }

    /// An attribute; null when it has none of that name.
    pub fn get(&self, attribute: &str) -> &Value {
        self.attributes.get(attribute).unwrap_or(&Value::Null)
    }

    pub fn is_linked_to(&self, other: &Self) -> bool {
        self.links.iter().any(|(trace, span)| (trace, span) == (&other.trace, &other.id))
    }

    /// The names of its attributes, for messages.
    pub fn told(&self) -> String {
        let mut told = String::new();
        for (name, value) in &self.attributes {
            let _ = writeln!(told, "  {name} = {value}");
        }
        told
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn attributes(value: &Value) -> BTreeMap<String, Value> {
    array(value).iter().map(|pair| (text(&pair["key"]), plain(&pair["value"]))).collect()
}

/// OTLP wraps each value in the name of its type, and writes integers as texts.
fn plain(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|wrapped| wrapped.iter().next()) else { return Value::Null };
    match kind.as_str() {
        "intValue" => inner.as_str().and_then(|text| text.parse::<i64>().ok()).map_or(inner.clone(), Value::from),
        "arrayValue" => array(&inner["values"]).iter().map(plain).collect(),
        _ => inner.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_from_what_jaeger_tells() {
        let answer = json!({"result": {"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]},
            "scopeSpans": [{"spans": [
                {"traceId": "t", "spanId": "b", "parentSpanId": "a", "name": "child", "kind": 1,
                 "startTimeUnixNano": "2000", "endTimeUnixNano": "5000", "links": [{"traceId": "t", "spanId": "a"}]},
                {"traceId": "t", "spanId": "a", "name": "top", "kind": 3, "status": {"code": 2, "message": "m"},
                 "startTimeUnixNano": "1000", "endTimeUnixNano": "9000", "attributes": [
                    {"key": "n", "value": {"intValue": "7"}},
                    {"key": "l", "value": {"arrayValue": {"values": [{"doubleValue": 0.5}]}}}]},
            ]}],
        }]}});
        let trace = Trace::read(&answer);
        let top = trace.tops()[0];
        assert_eq!((top.name.as_str(), top.kind, top.service(), top.error), ("top", Kind::Client, "x", true));
        assert_eq!((top.get("n"), top.get("l"), top.get("none")), (&json!(7), &json!([0.5]), &Value::Null));
        let child = trace.below(top, "child")[0];
        assert!(child.is_linked_to(top) && !top.is_linked_to(child));
        assert_eq!(child.duration, Duration::from_micros(3));
        assert_eq!(trace.to_string().lines().count(), 2);
    }
}
