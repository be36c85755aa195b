//! docs/metrics.md is what the crates say of their metrics.

use std::{fs, path::Path};

use consilium_metrics::{Described, Unit};

const FROM: &str = "<!-- generated from the METRICS of each crate -->\n";
const TO: &str = "<!-- until here -->\n";

/// Who measures what, in the order of a request's walk.
const PARTS: [(&str, &str, &[&Described]); 4] = [
    ("Every process", "Its servers, its view of the registry, itself.", consilium_mesh::metrics::METRICS),
    ("Router", "Decisions, legs, attempts, instances, objectives, feedback.", consilium_router::METRICS),
    ("Expert", "What it answered, and from what.", consilium_expert::METRICS),
    (
        "Engine",
        "Queue, batches and runs of each model, in experts and in the router, whose gate has an encoder.",
        consilium_engine::METRICS,
    ),
];

#[test]
fn the_page_of_metrics_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests live in the workspace")
        .join("docs/metrics.md");
    let page = fs::read_to_string(&path).expect("the page exists");
    let (head, rest) = page.split_once(FROM).expect("where the tables begin");
    let (_, tail) = rest.split_once(TO).expect("where they end");
    let fresh = format!("{head}{FROM}{}{TO}{tail}", tables());
    if page != fresh {
        fs::write(&path, fresh).expect("it can be written");
        panic!("docs/metrics.md was stale and has been written anew: look at it and commit it");
    }
}

fn tables() -> String {
    let table = |(who, what, metrics): &(&str, &str, &[&Described])| {
        let rows: String = metrics.iter().map(|metric| row(metric)).collect();
        let head = "| metric | type | unit | labels | what it says |\n| --- | --- | --- | --- | --- |";
        format!("\n### {who}\n\n{what}\n\n{head}\n{rows}")
    };
    PARTS.iter().map(table).collect()
}

fn row(metric: &Described) -> String {
    let unit = if metric.unit() == Unit::None { String::new() } else { metric.unit().to_string() };
    let labels: Vec<String> = metric.labels().iter().map(|label| format!("`{label}`")).collect();
    let (name, kind, help) = (metric.full_name(), metric.kind(), metric.help());
    format!("| `{name}` | {kind} | {unit} | {} | {help} |\n", labels.join(" "))
}
