//! The OpenTelemetry collector that is shipped, `deploy/otel-collector.yaml` as it is: it takes a mesh's spans, waits until a
//! trace is over, and passes on what somebody will want to see.

use std::{net::SocketAddr, path::Path};

use tokio::process::Command;

use super::{Jaeger, Process, free_port, http, observability_tool, until};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/otel-collector.yaml");
/// A port that is free now may be somebody else's a moment later.
const STARTS: usize = 5;
/// Of its own metrics: traces that it has chosen or not.
const CHOICES: &str = "otelcol_processor_tail_sampling_global_count_traces_sampled";

/// A running collector.
#[derive(Debug)]
pub struct Chooser {
    otlp: SocketAddr,
    metrics: SocketAddr,
    process: Process,
}

impl Chooser {
    /// Starts it before `next`. It chooses a second after a trace has begun, and keeps `percent` of what is ordinary.
    pub async fn before(next: &Jaeger, percent: u8, logs: &Path) -> Self {
        for _ in 0..STARTS {
            let port = || SocketAddr::from(([127, 0, 0, 1], free_port()));
            let (otlp, health, metrics) = (port(), port(), port());
            let mut command = Command::new(observability_tool("jaeger"));
            command.arg(format!("--config=file:{CONFIG}"));
            let to = next.otlp();
            command.env("TRACES_TO", to.trim_start_matches("http://"));
            command.env("OTLP_LISTEN", otlp.to_string()).env("HEALTH_LISTEN", health.to_string());
            command.env("METRICS_HOST", metrics.ip().to_string()).env("METRICS_PORT", metrics.port().to_string());
            command.env("KEEP_PERCENT", percent.to_string()).env("DECIDE_AFTER", "1s");
            // It would trace itself, and look for somebody who takes that.
            command.env("OTEL_TRACES_SAMPLER", "always_off");
            let process = Process::spawn("otel-collector", command, logs);
            let mut chooser = Self { otlp, metrics, process };
            if chooser.is_ready_or_ends(health).await {
                return chooser;
            }
        }
        panic!("the collector did not start {STARTS} times; its log in {} says why", logs.display());
    }

    async fn is_ready_or_ends(&mut self, health: SocketAddr) -> bool {
        let process = &mut self.process;
        let look = async || match http::get(health, "/status").await {
            Some((200, _)) => Some(true),
            _ => (!process.is_alive()).then_some(false),
        };
        until("the collector is healthy", look).await.0
    }

    /// Where it takes spans, as a URL.
    pub fn otlp(&self) -> String {
        format!("http://{}", self.otlp)
    }

    /// How many traces it has chosen so far, and how many it has not.
    pub async fn chosen(&self) -> (u64, u64) {
        let (_, page) = http::get(self.metrics, "/metrics").await.expect("the collector shows its metrics");
        let count = |sampled: &str| {
            let lines = page.lines().filter(|line| line.starts_with(CHOICES) && line.contains(sampled));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        (count(r#"sampled="true""#), count(r#"sampled="false""#))
    }
}
