//! OpenTelemetry's own variables that say where traces go. Platforms set them for every process, a mesh's among others: they
//! count only where nothing of ours says anything, and may be written in every usual form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Mistakes,
    overlay::{put, variables},
    path::Path,
};
use crate::telemetry::{COLLECTOR, is_collector};

const SETTING: &str = "traces.endpoint";

/// The first that says something is it.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// Where OTLP over gRPC is when nobody says.
const PORT: u16 = 4317;

/// What the standard variables say of traces. For programs that have them: those whose settings have `traces`.
#[derive(Debug, Clone, Default)]
pub struct Standard(BTreeMap<String, String>);

/// The standard variables of this process.
pub fn standard() -> Standard {
    Standard::of(variables())
}

impl Standard {
    fn of(variables: impl Iterator<Item = (String, String)>) -> Self {
        // Set to nothing is how deployments leave a variable out, and OpenTelemetry says so too.
        let known = |name: &str| name == DISABLED || ENDPOINTS.contains(&name);
        Self(variables.filter(|(name, value)| known(name) && !value.is_empty()).collect())
    }

    /// Says what the tree does not, once everything else has been laid over it. A variable is a mistake only where it
    /// would be used.
    pub(super) fn apply(&self, tree: &mut Value, mistakes: &mut Mistakes) {
        let said = tree.pointer("/traces/endpoint").is_some_and(|endpoint| !endpoint.is_null());
        if self.0.get(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            if let Some(endpoint) = tree.pointer_mut("/traces/endpoint") {
                *endpoint = Value::Null;
            }
            return;
        }
        let Some((name, value)) = ENDPOINTS.iter().find_map(|name| self.0.get_key_value(*name)).filter(|_| !said)
        else {
            return;
        };
        let endpoint = complete(value);
        if is_collector(&endpoint) {
            // Where there is no room for it, what stands there is wrong, and is said to be.
            let _ = put(tree, &Path::dotted(SETTING), Value::String(endpoint));
        } else {
            mistakes.add((&format!("environment {name}"), SETTING), format!("{value:?}"), COLLECTOR);
        }
    }
}

/// With a port and without a slash.
fn complete(url: &str) -> String {
    let url = url.strip_suffix('/').unwrap_or(url);
    let authority = url.split_once("://").and_then(|(_, rest)| rest.parse::<http::uri::Authority>().ok());
    match authority {
        Some(authority) if authority.port().is_none() => format!("{url}:{PORT}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Overlay;

    fn standard(variables: &[(&str, &str)]) -> Standard {
        Standard::of(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    /// What is in effect, with these variables below everything else.
    fn endpoint(variables: &[(&str, &str)], environment: &[(&str, &str)], set: &[&str], tree: Value) -> Value {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let set = set.iter().map(|&set| set.to_owned()).collect();
        let overlay = Overlay { environment, set, standard: standard(variables) };
        let (mut tree, mut mistakes) = (tree, Mistakes::default());
        overlay.apply(&mut tree, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes}");
        tree.pointer("/traces/endpoint").cloned().unwrap_or_default()
    }

    const GENERAL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1");

    #[test]
    fn everything_of_ours_beats_the_standard() {
        let own = [("CONSILIUM_TRACES__ENDPOINT", "http://variable:1")];
        let file = || json!({"traces": {"endpoint": "http://file:1", "ratio": 0.5}});
        assert_eq!(endpoint(&[GENERAL], &[], &[], json!({})), "http://general:1");
        assert_eq!(endpoint(&[GENERAL, TRACES], &[], &[], json!({"traces": {"ratio": 0.5}})), "http://traces:1");
        assert_eq!(endpoint(&[GENERAL, TRACES], &[], &[], file()), "http://file:1");
        assert_eq!(endpoint(&[GENERAL], &own, &[], file()), "http://variable:1");
        assert_eq!(endpoint(&[GENERAL], &own, &["traces.endpoint=http://flag:1"], file()), "http://flag:1");
        assert_eq!(endpoint(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""), GENERAL], &[], &[], json!({})), GENERAL.1);
        assert_eq!(endpoint(&[("HOME", "/")], &[], &[], json!({})), Value::Null);
    }

    #[test]
    fn who_disables_opentelemetry_gets_no_traces() {
        let flag = ["traces.endpoint=http://flag:1"];
        for (said, expected) in [("true", Value::Null), ("TRUE", Value::Null), ("false", json!("http://flag:1"))] {
            assert_eq!(endpoint(&[("OTEL_SDK_DISABLED", said), GENERAL], &[], &flag, json!({})), expected, "{said}");
        }
        assert_eq!(endpoint(&[("OTEL_SDK_DISABLED", "true"), GENERAL], &[], &[], json!({})), Value::Null);
    }

    #[test]
    fn it_may_be_written_as_it_usually_is() {
        for (said, expected) in [
            ("http://c:4317/", "http://c:4317"),
            ("http://c", "http://c:4317"),
            ("https://c.test/", "https://c.test:4317"),
            ("http://[::1]", "http://[::1]:4317"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", said)], &[], &[], json!({})), expected);
        }
    }

    #[test]
    fn what_is_malformed_is_named_where_it_would_be_used() {
        for said in
            ["c", "c:4317", "grpc://c:1", "http://c:1/v1/traces", "http://c:1//", "http://", "http://c:", "http://c:x"]
        {
            let standard = standard(&[("OTEL_EXPORTER_OTLP_ENDPOINT", said)]);
            let mut mistakes = Mistakes::default();
            standard.apply(&mut json!({"traces": {"endpoint": "http://file:1"}}), &mut mistakes);
            assert!(mistakes.is_empty(), "{mistakes}");
            standard.apply(&mut json!({}), &mut mistakes);
            let named = mistakes.into_iter().map(|mistake| (mistake.file, mistake.path)).collect::<Vec<_>>();
            let expected = ("environment OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), SETTING.to_owned());
            assert_eq!(named, [expected], "{said}");
        }
    }
}
