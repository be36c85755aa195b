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

/// `mesh.yaml` with this gate, beside files of these names and texts.
fn load_gate(gate: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Config, Mistakes>) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::create_dir(dir.path().join("models")).expect("a directory can be made");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("a file can be written");
    }
    let file = dir.path().join("mesh.yaml");
    std::fs::write(&file, format!("name: test\ngate: {gate}\n")).expect("a file can be written");
    let config = Config::load(&file, &Overlay::default());
    (dir, config)
}

#[test]
fn what_the_gates_files_say_is_a_part_of_its_settings() {
    let files = [
        ("nobody.txt", "# For nobody.\n\n sell me a car \n"),
        ("held.jsonl", "{\"text\": \"a?\", \"expert\": \"labs\"}\n{\"text\": \"b?\", \"expert\": null}\n"),
        (
            "who.jsonl",
            "{\"text\": \"Pt on apixaban\", \"dimensions\": {\"audience\": \"clinician\"}}\n\
             {\"text\": \"c?\", \"dimensions\": {\"other\": \"x\"}}\n\
             {\"text\": \"d?\", \"dimensions\": {\"audience\": null}}\n",
        ),
    ];
    let (dir, config) = load_gate(
        "{encoder: words, background: nobody.txt, validation: held.jsonl, \
         dimensions: {audience: {values: [clinician], examples: who.jsonl}}}",
        &files,
    );
    let config = config.expect("nothing is wrong");
    let settings = &config.gate_settings;
    assert_eq!(settings.background, ["sell me a car"]);
    let held: Vec<_> = settings.validation.iter().map(|row| (row.text.as_str(), row.expert.as_deref())).collect();
    assert_eq!(held, [("a?", Some("labs")), ("b?", None)]);
    let audience = &settings.options.dimensions["audience"];
    assert_eq!(audience.values[0].examples, ["Pt on apixaban"]);
    assert_eq!(audience.unknown, ["d?"]);
    assert!(config.gate.dimensions["audience"].values[0].examples.is_empty(), "the file's text is not printed");
    let mut watched = config.gate_files();
    watched.sort();
    let mut expected = ["mesh.yaml", "nobody.txt", "held.jsonl", "who.jsonl"].map(|name| dir.path().join(name));
    expected.sort();
    assert_eq!(watched, expected);
}

#[test]
fn what_is_wrong_in_the_gates_files_is_named_by_line_and_not_quoted() {
    let files = [
        ("held.jsonl", "{\"text\": \"a secret\"}\n{\"secret\": 1}\nsecret\n"),
        ("who.jsonl", "{\"text\": \"a secret\", \"dimensions\": {\"audience\": \"nurse\"}}\n"),
    ];
    let gate = "{encoder: words, background: none.txt, validation: held.jsonl, \
                dimensions: {audience: {values: [clinician], examples: who.jsonl}}}";
    let mistakes = load_gate(gate, &files).1.expect_err("all of them are wrong");
    let problems: Vec<String> = mistakes.iter().map(|mistake| mistake.problem.clone()).collect();
    let expected = ["gate.background", "gate.validation", "gate.validation", "gate.dimensions.audience.examples"];
    assert_eq!(paths(mistakes), expected);
    for (problem, part) in
        problems.iter().zip(["none.txt cannot be read", "held.jsonl:2:", "held.jsonl:3:", "who.jsonl:1:"])
    {
        assert!(problem.contains(part) && !problem.contains("secret"), "{problem}");
    }
    assert_eq!(
        load_gate("{encoder: words, validation: held.jsonl}", &[("held.jsonl", &"x\n".repeat(1000))])
            .1
            .expect_err("none is right")
            .iter()
            .count(),
        11,
        "a file of another kind does not fill the screen"
    );
}

#[test]
fn settings_from_elsewhere_stand_in_for_the_section_and_keep_its_encoder() {
    let (_dir, config) = load_gate("{encoder: words, top_k: 2, min_confidence: 0.3}", &[]);
    let config = config.expect("nothing is wrong");
    let other = |text: &str| Source { file: "elsewhere".into(), text: text.into() };
    let read = |text: &str| config.with_gate(Some(&other(text)));
    let gate = read("min_confidence: 0.9").expect("nothing is wrong").gate;
    assert_eq!((gate.encoder.as_str(), gate.top_k, gate.min_confidence.to_string().as_str()), ("words", 1, "0.9"));
    let mistakes = read("min_confidence: high\nno_such_key: 1").expect_err("both are wrong");
    assert!(mistakes.iter().all(|mistake| mistake.file == "elsewhere"), "{mistakes}");
    assert_eq!(paths(mistakes), ["gate.min_confidence", "gate.no_such_key"]);

    let overlay = Overlay { set: vec!["gate.top_k=5".into()], ..Overlay::default() };
    let config = Config::load(&config.origin.path, &overlay).expect("nothing is wrong");
    let overlaid = config.with_gate(Some(&other("top_k: 3"))).expect("nothing is wrong");
    assert_eq!(overlaid.gate.top_k, 5, "flags beat every file");
}

#[test]
fn names_of_experts_are_wrong_only_where_all_of_them_are_known() {
    let (_dir, config) = load_gate("{encoder: words, fallback: general, bars: {labs: {}}}", &[]);
    let gate = config.expect("nothing is wrong").gate;
    assert!(check_gate(&gate, "mesh.yaml", None).is_empty());
    assert_eq!(paths(check_gate(&gate, "mesh.yaml", Some(&["labs"]))), ["gate.fallback"]);
}
