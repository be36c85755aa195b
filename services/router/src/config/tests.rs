use super::*;

/// `mesh.yaml` beside the directory `models` and the file `expert.yaml`.
fn load(yaml: &str) -> Result<Config, Mistakes> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::create_dir(dir.path().join("models")).expect("a directory can be made");
    std::fs::write(dir.path().join("expert.yaml"), "").expect("a file can be written");
    let file = dir.path().join("mesh.yaml");
    std::fs::write(&file, format!("name: test\n{yaml}\n")).expect("a file can be written");
    Config::load(&file, &Overlay::default())
}

fn paths(mistakes: Mistakes) -> Vec<String> {
    mistakes.into_iter().map(|mistake| mistake.path).collect()
}

const ALONE: &str = "gate: {encoder: words, fallback: general, rules: [{name: r, when: 'true', require: [labs]}]}\n\
                     registry: {etcd: {endpoints: ['http://a:2379']}, table: table.json}";

#[test]
fn a_router_of_its_own_needs_no_experts_but_a_place_to_meet_them() {
    let config = load(ALONE).expect("nothing is wrong");
    assert!(config.check_alone("mesh.yaml").is_empty(), "names of experts that are not known yet are no mistakes");
    assert!(config.registry.table.as_deref().is_some_and(Path::is_absolute));
    assert_eq!(paths(config.check_experts("mesh.yaml", &[])), ["experts"], "and only that is missing of a whole mesh");

    let config = load("gate: {encoder: words, top_k: 0, rules: [{name: r, when: 'nonsense(', require: [labs]}]}");
    let config = config.expect("what is wrong with the gate shows later");
    assert_eq!(
        paths(config.check_alone("mesh.yaml")),
        ["registry.etcd", "gate.top_k", "gate.rules[0].when"],
        "everything at once"
    );
}

#[test]
fn a_whole_mesh_knows_its_experts() {
    let config = load(&format!("experts: [expert.yaml]\n{ALONE}")).expect("nothing is wrong");
    assert!(config.check_experts("mesh.yaml", &["general", "labs"]).is_empty());
    let mistakes = config.check_experts("mesh.yaml", &["labs", "test"]);
    assert_eq!(paths(mistakes), ["name", "gate.fallback"]);
}

#[test]
fn mistakes_of_the_registry_come_with_the_others() {
    let mistakes =
        load("experts: [none.yaml]\nlisten: here\nregistry: {etcd: {endpoints: [a]}}").expect_err("all wrong");
    assert_eq!(paths(mistakes), ["listen", "gate.encoder", "experts[0]", "registry.etcd.endpoints[0]"]);
}

#[test]
fn mistakes_of_the_traces_come_with_the_others() {
    let mistakes = load(&format!("{ALONE}\nlisten: here\ntraces: {{endpoint: here, ratio: 1.5}}"));
    assert_eq!(paths(mistakes.expect_err("all wrong")), ["listen", "traces.endpoint", "traces.ratio"]);
    let traces = load(&format!("{ALONE}\ntraces: {{endpoint: 'http://a:4317', callers: linked}}"));
    let traces = traces.expect("nothing is wrong").traces;
    assert_eq!((traces.endpoint.as_deref(), traces.ratio), (Some("http://a:4317"), 1.0));
    assert_eq!(load(ALONE).expect("nothing is wrong").traces, telemetry::Settings::default());
}

#[test]
fn mistakes_of_the_feedback_come_with_the_others() {
    let feedback = "feedback: {metrics: {Good: {kind: star}, ok: {kind: boolean}}, key_file: none/key, window: 0s}";
    let mistakes = load(&format!("{ALONE}\nlisten: here\n{feedback}")).expect_err("all wrong");
    let expected = ["listen", "feedback.metrics", "feedback.metrics.Good.kind", "feedback.key_file", "feedback.window"];
    assert_eq!(paths(mistakes), expected);
    let config = load(&format!("{ALONE}\nfeedback: {{metrics: {{ok: {{kind: boolean}}}}, key_file: key}}"));
    let settings = config.expect("nothing is wrong").feedback;
    assert!(settings.key_file.is_some_and(|path| path.is_absolute()) && settings.metrics.contains_key("ok"));
}

#[test]
fn messages_have_a_size_that_a_machine_can_hold() {
    let size =
        |bytes: &str| load(&format!("{ALONE}\nmax_message_bytes: {bytes}")).map(|config| config.max_message_bytes);
    assert_eq!(load(ALONE).expect("nothing is wrong").max_message_bytes, MAX_MESSAGE_BYTES);
    assert_eq!(size("65536").expect("that is the least"), 65_536);
    assert_eq!(size("1073741824").expect("that is the most"), 1_073_741_824);
    for wrong in ["65535", "1073741825"] {
        assert_eq!(paths(size(wrong).expect_err("that is too little or too much")), ["max_message_bytes"]);
    }
}

#[test]
fn pages_of_browsers_call_only_where_their_origins_are_named() {
    assert_eq!(load(ALONE).expect("nothing is wrong").web, None);
    let origins = |list: &str| load(&format!("{ALONE}\nweb: {{origins: {list}}}"));
    let right = origins("['http://localhost:8080', 'https://desk.example.org']").expect("two origins");
    assert_eq!(right.web.expect("it is there").origins.len(), 2);
    let wrong =
        origins("['http://localhost:8080/', 'https://desk.example.org', '*', desk]").expect_err("three mistakes");
    assert_eq!(paths(wrong), ["web.origins[0]", "web.origins[2]", "web.origins[3]"]);
    assert_eq!(paths(origins("[]").expect_err("nobody could call")), ["web.origins"]);
}

#[test]
fn connections_grow_half_an_hour_old_unless_set_otherwise() {
    let age = |age: &str| load(&format!("{ALONE}\nmax_connection_age: {age}")).map(|config| config.max_connection_age);
    assert_eq!(load(ALONE).expect("nothing is wrong").max_connection_age, Duration::from_mins(30));
    assert_eq!(age("0s").expect("that is never"), Duration::ZERO);
    assert_eq!(age("1s").expect("that is the least"), Duration::from_secs(1));
    assert_eq!(age("30d").expect("that is the most"), Duration::from_hours(30 * 24));
    for wrong in ["999ms", "30d 1s", "500000000000y"] {
        assert_eq!(paths(age(wrong).expect_err("too little or too much")), ["max_connection_age"], "{wrong}");
    }
}

#[test]
fn mistakes_of_the_certificates_come_with_the_others() {
    let mistakes = load(&format!("{ALONE}\nlisten: here\ntls: {{certificate: none.crt, ca: none.crt}}"));
    assert_eq!(paths(mistakes.expect_err("all wrong")), ["listen", "tls.key", "tls.certificate", "tls.ca"]);
    let mistakes = load(&format!("{ALONE}\ntls: {{expert_name: a.test, plaintext_experts: true}}"));
    assert_eq!(paths(mistakes.expect_err("both need a ca")), ["tls.expert_name", "tls.plaintext_experts"]);
    assert!(!load(ALONE).expect("nothing is wrong").tls.is_served());
}
