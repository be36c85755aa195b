//! Invariants of the code itself, those of ARCHITECTURE.md that no type and no lint can hold.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so by a panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand, PackageId};

const MOST_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_owned()
}

/// Every Rust file of the workspace's own, with its path below the root.
fn sources() -> Vec<(String, String)> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a directory can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for dir in ["proto", "crates", "services", "tests"] {
        collect(&root().join(dir), &mut found);
    }
    assert!(found.len() > 50, "the search found only {} files", found.len());
    let read = |path: &PathBuf| {
        let below = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        (below, fs::read_to_string(path).expect("a source file is text"))
    };
    found.iter().map(read).collect()
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

#[test]
fn engine_and_gate_know_no_network_and_the_mesh_knows_no_model() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo describes the workspace");
    let resolve = metadata.resolve.as_ref().expect("dependencies are resolved");
    let normal: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal =
                |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            (&node.id, node.deps.iter().filter(|dep| normal(&dep.dep_kinds)).map(|dep| &dep.pkg).collect())
        })
        .collect();
    let reach = |name: &str| -> BTreeSet<String> {
        let start = &metadata.packages.iter().find(|package| package.name == name).expect("the crate exists").id;
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(normal.get(id).into_iter().flatten().copied());
            }
        }
        seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
    };
    for (name, forbidden) in [
        ("consilium-engine", ["tonic", "etcd-client", "consilium-proto", "consilium-mesh"].as_slice()),
        ("consilium-gate", &["tonic", "etcd-client", "consilium-proto", "consilium-mesh"]),
        ("consilium-mesh", &["ort", "tokenizers", "consilium-engine", "consilium-gate"]),
        ("consilium-proto", &["consilium-engine", "consilium-gate", "consilium-mesh"]),
    ] {
        let reached = reach(name);
        assert!(reached.len() > 3, "{name} reaches only {reached:?}: the check would prove nothing");
        let found: Vec<_> = forbidden.iter().filter(|dependency| reached.contains(**dependency)).collect();
        assert!(found.is_empty(), "{name} must not depend on {found:?}");
    }
}

#[test]
fn protobuf_types_stop_at_the_edges_of_the_services() {
    // `lib` and `service` only put the generated server around the type that `server` defines.
    let edges =
        ["/server.rs", "/server/", "/inference.rs", "/inference/", "/wire.rs", "/status.rs", "/lib.rs", "/service.rs"];
    let offenders: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| path.starts_with("services/") && path.contains("/src/"))
        .filter(|(path, _)| !is_test(path) && !edges.iter().any(|edge| path.contains(edge)))
        .filter(|(_, text)| text.contains("consilium_proto") || text.contains("v1::"))
        .map(|(path, _)| path)
        .collect();
    assert!(offenders.is_empty(), "protobuf types leak into {offenders:?}");
}

#[test]
fn every_file_says_what_lives_in_it() {
    let silent: Vec<_> = sources()
        .into_iter()
        // A `tests.rs` beside a module is that module's, which says it.
        .filter(|(path, text)| !path.ends_with("/tests.rs") && !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top of {silent:?}");
}

#[test]
fn no_file_has_grown_too_long_to_read() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, text.lines().take_while(|line| *line != "mod tests {").count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let words =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["unimplem", "ented!("].concat(), ["to", "do!("].concat()];
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| words.iter().any(|word| text.contains(word.as_str())))
        .map(|(path, _)| path)
        .collect();
    assert!(found.is_empty(), "left for later in {found:?}");
}

#[test]
fn metrics_and_spans_are_named_in_one_module_of_a_crate() {
    let named = |module: &str, makers: &[&str]| -> Vec<String> {
        let elsewhere = |path: &str| {
            let own = path.ends_with(&format!("/{module}.rs")) || path.contains(&format!("/{module}/"));
            path.contains("/src/") && !path.starts_with("crates/metrics/") && !own && !is_test(path)
        };
        let code = |text: &str| text.split("mod tests {").next().unwrap_or_default().to_owned();
        let found = sources()
            .into_iter()
            .filter(|(path, text)| elsewhere(path) && makers.iter().any(|maker| code(text).contains(maker)));
        found.map(|(path, _)| path).collect()
    };
    let metrics = named("metrics", &["Described::counter(", "Described::gauge(", "Described::histogram("]);
    assert!(metrics.is_empty(), "metrics are named outside of metrics.rs in {metrics:?}");
    let spans = named("spans", &["span!("]);
    assert!(spans.is_empty(), "spans are named outside of spans.rs in {spans:?}");
}

#[test]
fn every_reason_that_a_client_may_see_is_documented() {
    let page = fs::read_to_string(root().join("docs/errors.md")).expect("the page exists");
    let mut reasons = BTreeSet::new();
    for (path, text) in sources().iter().filter(|(path, _)| path.contains("/src/") && !is_test(path)) {
        let code = text.split("mod tests {").next().unwrap_or_default();
        for call in code.split("Refusal::new(").skip(1).chain(code.split("Failure::new(").skip(1)) {
            // Code, then reason: the first string literal of the call, unless the reason is handed through.
            let literal = call.split('"').nth(1).unwrap_or_default();
            if literal.len() > 3 && literal.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
                reasons.insert((literal.to_owned(), path.clone()));
            }
        }
    }
    assert!(reasons.len() > 10, "found only {reasons:?}");
    let missing: Vec<_> = reasons.iter().filter(|(reason, _)| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/errors.md does not explain {missing:?}");
}
