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
