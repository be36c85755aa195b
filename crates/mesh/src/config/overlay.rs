//! What is laid over a file: the environment, then flags. Later beats earlier. What no one of them says, standard variables
//! may.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Mistake, Mistakes, Standard,
    path::{Path, Segment},
    yaml,
};

const PREFIX: &str = "CONSILIUM_";

/// Values from outside the file.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// As [`environment`] gives it. `CONSILIUM_GATE__TOP_K=3` is `gate.top_k: 3`.
    pub environment: BTreeMap<String, String>,
    /// The arguments of `--set`: `gate.top_k=3`.
    pub set: Vec<String>,
    /// As [`standard`](super::standard()) gives it, for what nothing else says.
    pub standard: Standard,
}

/// The variables of this process that are configuration.
///
/// `reserved` are full names that mean something else, such as `CONSILIUM_LOG`. Variables that Kubernetes makes for a
/// Service called `consilium…` (`CONSILIUM_PORT_7600_TCP=tcp://…`) are left out as well: a pod must not fail to start
/// because of a Service beside it.
pub fn environment(reserved: &[&str]) -> BTreeMap<String, String> {
    select(variables(), reserved)
}

/// The only place where the environment is read.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()))
}

fn select(variables: impl Iterator<Item = (String, String)>, reserved: &[&str]) -> BTreeMap<String, String> {
    variables
        .filter(|(name, value)| {
            name.starts_with(PREFIX) && !reserved.contains(&name.as_str()) && !is_service_link(name, value)
        })
        .collect()
}

fn is_service_link(name: &str, value: &str) -> bool {
    let of_service = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let of_port = (name.ends_with("_PORT") || name.contains("_PORT_"))
        && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let part_of_port = ["_TCP_", "_UDP_", "_SCTP_"].iter().any(|protocol| {
        name.split_once(protocol)
            .is_some_and(|(front, back)| front.contains("_PORT_") && matches!(back, "ADDR" | "PORT" | "PROTO"))
    });
    of_service || of_port || part_of_port
}

/// Which overlay put a value where.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<(Path, String)>);

impl Origins {
    fn record(&mut self, put: Result<(), Path>, path: Path, origin: String, mistakes: &mut Mistakes) {
        match put {
            Ok(()) => self.0.push((path, origin)),
            Err(at) => mistakes.push(Mistake {
                file: origin,
                path: at.to_string(),
                problem: "this is a single value or a list without such an entry".to_owned(),
                expected: "the path of a value".to_owned(),
            }),
        }
    }

    /// The overlay that the value at `path` came from, or lies in; `None` for the file.
    pub(super) fn of(&self, path: &Path) -> Option<&str> {
        self.0.iter().rev().find(|(overlaid, _)| path.starts_with(overlaid)).map(|(_, origin)| origin.as_str())
    }
}

impl Overlay {
    /// Writes every value into the tree.
    pub(super) fn apply(&self, tree: &mut Value, mistakes: &mut Mistakes) -> Origins {
        let mut origins = Origins::default();
        for (name, value) in &self.environment {
            let origin = format!("environment {name}");
            let path = Path::dotted(&name.trim_start_matches(PREFIX).to_lowercase().replace("__", "."));
            origins.record(put(tree, &path, yaml::scalar(value)), path, origin, mistakes);
        }
        for argument in &self.set {
            let origin = format!("--set {argument}");
            match argument.split_once('=') {
                Some((path, value)) if !path.is_empty() => {
                    let path = Path::dotted(path);
                    origins.record(put(tree, &path, yaml::scalar(value)), path, origin, mistakes);
                }
                _ => mistakes.push(Mistake {
                    file: origin,
                    path: String::new(),
                    problem: "no value".to_owned(),
                    expected: "path=value, such as gate.top_k=3".to_owned(),
                }),
            }
        }
        self.standard.apply(tree, mistakes);
        origins
    }
}

/// Puts a value at `path`, making maps on the way. Fails with the place that can have nothing below it.
pub(super) fn put(tree: &mut Value, path: &Path, value: Value) -> Result<(), Path> {
    let mut at = Path::default();
    let mut here = tree;
    for segment in &path.0 {
        if here.is_null() {
            *here = Value::Object(Map::new());
        }
        here = match (here, segment) {
            (Value::Object(map), Segment::Key(key)) => map.entry(key.clone()).or_insert(Value::Null),
            (Value::Object(map), Segment::Index(index)) => map.entry(index.to_string()).or_insert(Value::Null),
            (Value::Array(items), Segment::Index(index)) if *index < items.len() => &mut items[*index],
            _ => return Err(at),
        };
        at.0.push(segment.clone());
    }
    *here = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select_from(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        select(variables, &["CONSILIUM_LOG"]).into_keys().collect()
    }

    #[test]
    fn only_variables_that_are_configuration_are_taken() {
        let taken = select_from(&[
            ("CONSILIUM_GATE__TOP_K", "3"),
            ("CONSILIUM_ADMIN_PORT", "7601"),
            ("CONSILIUM_LOG", "debug"),
            ("HOME", "/"),
            ("CONSILIUM_SERVICE_HOST", "10.0.0.1"),
            ("CONSILIUM_ROUTER_SERVICE_PORT_GRPC", "7600"),
            ("CONSILIUM_PORT", "tcp://10.0.0.1:7600"),
            ("CONSILIUM_PORT_7600_TCP", "tcp://10.0.0.1:7600"),
            ("CONSILIUM_PORT_7600_TCP_PROTO", "tcp"),
        ]);
        assert_eq!(taken, ["CONSILIUM_ADMIN_PORT", "CONSILIUM_GATE__TOP_K"]);
    }

    #[test]
    fn flags_beat_the_environment_and_both_make_what_is_missing() {
        let mut tree = serde_json::json!({"name": "x", "rules": [{"when": "a"}]});
        let overlay = Overlay {
            environment: BTreeMap::from([
                ("CONSILIUM_GATE__TOP_K".to_owned(), "3".to_owned()),
                ("CONSILIUM_GATE__FALLBACK".to_owned(), "general".to_owned()),
            ]),
            set: vec!["gate.top_k=4".to_owned(), "rules.0.when=b".to_owned(), "tags=[x, y]".to_owned()],
            ..Overlay::default()
        };
        let mut mistakes = Mistakes::default();
        let origins = overlay.apply(&mut tree, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes}");
        let expected = serde_json::json!({
            "name": "x", "rules": [{"when": "b"}], "tags": ["x", "y"], "gate": {"top_k": 4, "fallback": "general"},
        });
        assert_eq!(tree, expected);
        assert_eq!(origins.of(&Path::dotted("gate.top_k")), Some("--set gate.top_k=4"));
        assert_eq!(origins.of(&Path::dotted("gate.fallback")), Some("environment CONSILIUM_GATE__FALLBACK"));
        assert_eq!(origins.of(&Path::dotted("name")), None);
    }

    #[test]
    fn a_path_through_a_value_and_a_flag_without_one_are_mistakes() {
        let mut tree = serde_json::json!({"name": "x", "rules": []});
        let overlay = Overlay {
            set: ["name.first=a", "rules.7.when=b", "name", "=x"].map(str::to_owned).to_vec(),
            ..Overlay::default()
        };
        let mut mistakes = Mistakes::default();
        overlay.apply(&mut tree, &mut mistakes);
        assert_eq!(mistakes.iter().count(), 4, "{mistakes}");
        assert_eq!(tree, serde_json::json!({"name": "x", "rules": []}));
    }
}
