//! Where traces go and which, as configured: the section `traces` of `mesh.yaml` and of an expert's settings. Raw as
//! written; [`Settings::check`] says whether it can be used.

use serde::{Deserialize, Serialize};

use crate::{config::Mistakes, dial::is_address};

/// What is expected of an endpoint.
pub(crate) const COLLECTOR: &str = "http://host:port or https://host:port of a collector that takes OTLP over gRPC, for example \
                         http://127.0.0.1:4317";

/// Where traces go and which. Headers, time-out and compression of the exports are no settings: the exporter reads
/// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT` (milliseconds) and `OTEL_EXPORTER_OTLP_COMPRESSION`
/// (`gzip`) itself, and the same with `OTLP_TRACES` for `OTLP`. It believes the certificates of public authorities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A collector that takes OTLP over gRPC, as `http://host:port`. Without one no trace leaves the process. Where nothing
    /// of ours says it, [`config::Standard`](crate::config::Standard) may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The share of traces to keep of those that begin here, 0 to 1. Whoever calls with a decision of their own is
    /// followed.
    #[serde(default = "all")]
    pub ratio: f64,
    #[serde(default)]
    pub callers: Callers,
}

/// What becomes of a trace that a caller brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Callers {
    /// It goes on here, and its decision about being kept holds.
    #[default]
    Followed,
    /// A trace of our own begins, whose share is kept whatever the caller decided; the caller's ids are in it as a link,
    /// and nowhere else. For routers that strangers call: experts that did this would cut every router's trace in two.
    Linked,
}

fn all() -> f64 {
    1.0
}

impl Default for Settings {
    fn default() -> Self {
        Self { endpoint: None, ratio: all(), callers: Callers::default() }
    }
}

impl Settings {
    /// Everything that is wrong, as found in `file` under the key `traces`.
    pub fn check(&self, file: &str) -> Mistakes {
        let mut mistakes = Mistakes::default();
        if let Some(endpoint) = self.endpoint.as_deref().filter(|endpoint| !is_collector(endpoint)) {
            mistakes.add((file, "traces.endpoint"), format!("{endpoint:?}"), COLLECTOR);
        }
        if !(0.0..=1.0).contains(&self.ratio) {
            mistakes.add((file, "traces.ratio"), self.ratio.to_string(), "a share, 0.0 to 1.0");
        }
        mistakes
    }
}

/// Whether this can be an endpoint.
pub(crate) fn is_collector(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && is_address(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Settings {
        serde_yaml_ng::from_str(yaml).unwrap()
    }

    fn wrong(yaml: &str) -> Vec<String> {
        read(yaml).check("mesh.yaml").into_iter().map(|mistake| mistake.path).collect()
    }

    #[test]
    fn nothing_said_is_no_traces_and_all_of_them_once_somebody_takes_them() {
        assert_eq!(read("{}"), Settings::default());
        assert_eq!((read("{}").endpoint, read("{}").ratio, read("{}").callers), (None, 1.0, Callers::Followed));
        assert_eq!(read("{callers: linked}").callers, Callers::Linked);
        assert!(serde_yaml_ng::from_str::<Settings>("{endpont: 'http://a:1'}").is_err());
        assert!(serde_yaml_ng::from_str::<Settings>("{callers: believed}").is_err());
    }

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        for good in ["http://127.0.0.1:4317", "https://collector.test:443", "http://[::1]:4317"] {
            assert_eq!(wrong(&format!("{{endpoint: '{good}'}}")), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "collector:4317", "http://collector", "http://a:1/v1/traces", "grpc://a:1", "http://u@a:1"] {
            assert_eq!(wrong(&format!("{{endpoint: '{bad}'}}")), ["traces.endpoint"], "{bad:?}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        for share in ["-0.1", "1.01", ".nan", ".inf"] {
            assert_eq!(wrong(&format!("{{endpoint: x, ratio: {share}}}")), ["traces.endpoint", "traces.ratio"]);
        }
        for share in ["0", "1", "0.01"] {
            assert!(wrong(&format!("{{ratio: {share}}}")).is_empty(), "{share}");
        }
    }
}
