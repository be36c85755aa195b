//! Pieces of PromQL: what is quoted how, and the one place where the metrics that rules read are named.

use std::fmt::Write as _;

pub(super) const GOOD: &str = "consilium_slo_good_total";
pub(super) const ALL: &str = "consilium_slo_total";
pub(super) const OBJECTIVE: &str = "consilium_slo_objective_ratio";
pub(super) const DECISIONS: &str = "consilium_router_decisions_total";
pub(super) const INSTANCES: &str = "consilium_router_instances";
pub(super) const GATE_EXPERTS: &str = "consilium_gate_experts";
pub(super) const GATE_FITS: &str = "consilium_gate_fits_total";
pub(super) const RULE_ERRORS: &str = "consilium_gate_rule_errors_total";
pub(super) const REGISTRY_UP: &str = "consilium_registry_up";
pub(super) const REGISTRY_AGE: &str = "consilium_registry_age_seconds";
pub(super) const REGISTRY_EXPIRED: &str = "consilium_registry_expired_instances";
pub(super) const SHED: &str = "consilium_rpc_server_shed_total";
pub(super) const CALLS: &str = "rpc_server_call_duration_seconds_count";
pub(super) const PANICS: &str = "consilium_rpc_server_panics_total";
pub(super) const SPANS: &str = "consilium_trace_spans_total";

/// Writes selectors that all look at the same part of what a Prometheus has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a>(pub(super) &'a [(String, String)]);

impl Scope<'_> {
    /// `metric{matcher,…}`, with the scope's own labels last. A matcher is written out: see [`is`].
    pub(super) fn select(self, metric: &str, matchers: &[String]) -> String {
        let own = self.0.iter().map(|(label, value)| is(label, value));
        braced(metric, matchers.iter().cloned().chain(own))
    }
}

/// A selector of recorded series, which belong to nobody else.
pub(super) fn recorded(name: &str, labels: &[(&str, &str)]) -> String {
    braced(name, labels.iter().map(|(label, value)| is(label, value)))
}

/// `label="value"`
pub(super) fn is(label: &str, value: &str) -> String {
    format!("{label}={}", quoted(value))
}

pub(super) fn number(value: f64) -> String {
    rounded(value).to_string()
}

/// A number with as many digits as somebody would write: `1 - 0.999` is 0.001, not 0.0010000000000000009.
pub(super) fn rounded(value: f64) -> f64 {
    const DIGITS: f64 = 1e12;
    (value * DIGITS).round() / DIGITS
}

fn braced(name: &str, matchers: impl Iterator<Item = String>) -> String {
    let matchers: Vec<String> = matchers.collect();
    if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", matchers.join(", ")) }
}

fn quoted(value: &str) -> String {
    let mut text = String::from('"');
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            char if char.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            }
            char => text.push(char),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_is_quoted() {
        let scope = [("namespace".to_owned(), r#"a"b\c"#.to_owned())];
        let all = Scope(&scope).select("up", &[]);
        assert_eq!(all, r#"up{namespace="a\"b\\c"}"#);
        let one = Scope(&scope).select("up", &[is("expert", "labs"), r#"state=~"a|b""#.to_owned()]);
        assert_eq!(one, r#"up{expert="labs", state=~"a|b", namespace="a\"b\\c"}"#);
        assert_eq!(Scope(&[]).select("up", &[]), "up");
        assert_eq!(is("line", "a\nb"), r#"line="a\u000ab""#);
    }

    #[test]
    fn budgets_are_written_as_people_write_them() {
        let written = [1.0 - 0.999, 1.0 - 0.99, 1.0 - 0.9995, 99.9, 0.999 * 100.0, 1.0].map(number);
        assert_eq!(written, ["0.001", "0.01", "0.0005", "99.9", "99.9", "1"]);
    }
}
