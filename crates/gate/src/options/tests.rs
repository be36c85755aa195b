//! What can be written, and that what was valid before still is.

use super::*;

fn read(yaml: &str) -> Options {
    serde_yaml_ng::from_str(yaml).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_configuration_from_before_tiers_and_bars_is_still_valid() {
    let options = read(
        r#"
encoder: minilm-l6
top_k: 1
min_confidence: 0.5
fallback: general
dimensions:
  audience:
    values: [clinician, patient]
    summary: Who asks.
rules:
  - {name: desk, when: '"desk" in labels', prefer: [general], priority: 3}
"#,
    );
    assert_eq!(options.check(&["general"]), []);
    let audience = &options.dimensions["audience"];
    assert_eq!(audience.names().collect::<Vec<_>>(), ["clinician", "patient"]);
    assert!(!audience.is_inferred() && audience.declares("patient") && !audience.declares("nurse"));
    assert_eq!((options.tiers.cache, options.tiers.static_tier), (4096, StaticTier::Auto));
}

#[test]
fn values_are_a_list_or_a_map_in_the_order_of_the_file() {
    let options = read(
        r"
dimensions:
  audience:
    values:
      patient: {summary: Somebody who is ill., examples: [is my pill safe]}
      clinician:
    min_confidence: 0.7
    examples: audience.jsonl
",
    );
    let audience = &options.dimensions["audience"];
    assert_eq!(audience.names().collect::<Vec<_>>(), ["patient", "clinician"]);
    assert_eq!(audience.values[0].summary, "Somebody who is ill.");
    assert_eq!(audience.values[0].examples, ["is my pill safe"]);
    assert!(audience.is_inferred());
    assert_eq!(audience.examples.as_deref(), Some("audience.jsonl"));
    assert_eq!(options.check(&[]), []);
}

#[test]
fn everything_else_has_its_place() {
    let options = read(
        r"
max_error: 0.02
floor: 0.2
multi_intent: true
bars: {drugs: {max_error: 0.01}}
background: background.txt
validation: validation.jsonl
probes: probes.jsonl
tiers: {cache: 10, static: off, static_loss: 0.001}
cascade: [{experts: [cheap, drugs], escalate_below: 0.7}]
",
    );
    assert_eq!(options.check(&["cheap", "drugs"]), []);
    assert_eq!(options.tiers, Tiers { cache: 10, static_tier: StaticTier::Off, static_loss: 0.001 });
    assert_eq!(options.bars["drugs"], Bar { min_confidence: None, max_error: Some(0.01) });
    assert_eq!(options.cascade[0].experts, ["cheap", "drugs"]);
    let paths: Vec<String> = options.check(&["cheap"]).into_iter().map(|mistake| mistake.path).collect();
    assert_eq!(paths, ["gate.bars.drugs", "gate.cascade[0].experts[1]"]);
}

#[test]
fn what_is_written_out_reads_back() {
    let mut options = read("dimensions: {a: {values: [x, y]}, b: {values: {x: {summary: s, examples: [e]}, y: {}}}}");
    options.bars.insert("drugs".to_owned(), Bar { min_confidence: Some(0.7), max_error: None });
    let written = serde_yaml_ng::to_string(&options).unwrap();
    let again = read(&written);
    assert_eq!(again.dimensions, options.dimensions);
    assert_eq!(again.bars, options.bars);
    assert_eq!(serde_yaml_ng::to_string(&again).unwrap(), written);
}

#[test]
fn an_example_is_added_to_a_declared_value_only() {
    let mut dimension = Dimension::given(["x"]);
    assert!(dimension.add_example(Some("x"), "one") && !dimension.add_example(Some("y"), "two"));
    assert_eq!(dimension.values[0].examples, ["one"]);
}
