//! What is wrong is said completely, with file, path and what was expected, and ends with exit code 2.

use std::{fs, net::TcpListener, process::Command};

use crate::{files::Files, said};

#[test]
fn a_mesh_without_mistakes_is_ok() {
    let files = Files::new();
    let (code, out, err) = said(&["check", &files.mesh()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, "ok  market: 2 experts, 1 model, 2 rules\n");
}

#[test]
fn mistakes_of_several_files_come_out_together() {
    let files = Files::new();
    files.replace("mesh.yaml", "settle: 0s", "setle: 0s");
    files.replace("experts/fruit/expert.yaml", "objective: 0.99", "objective: 1.5");
    files.replace("experts/travel/expert.yaml", "kind: embed", "kind: emded");
    let (code, out, _) = said(&["check", &files.mesh(), "--json"]);
    assert_eq!(code, Some(2));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let mistakes = report["mistakes"].as_array().unwrap();
    let found = |file: &str, path: &str| {
        mistakes.iter().any(|it| it["file"].as_str().unwrap().ends_with(file) && it["path"] == path)
    };
    assert!(found("mesh.yaml", "setle"), "{out}");
    assert!(found("fruit/expert.yaml", "slo.objective"), "{out}");
    assert!(found("travel/expert.yaml", "task.kind"), "{out}");
    assert!(mistakes.iter().all(|it| it["problem"] != ""), "{out}");
}

#[test]
fn mistakes_between_files_are_found() {
    let files = Files::new();
    files.replace("mesh.yaml", "name: market", "name: fruit");
    files.replace("mesh.yaml", "require: [fruit]", "require: [vegetables]");
    files.replace("mesh.yaml", "\"closed\" in labels", "closed in labels");
    files.replace("experts/fruit/expert.yaml", "audience: [buyer]", "audience: [thief], mood: [glad]");
    files.write("demo.jsonl", "");
    let (code, out, _) = said(&["check", &files.mesh()]);
    assert_eq!(code, Some(2));
    let out = out.replace("\n  ", " ");
    for expected in [
        "name: \"fruit\" is also the name of an expert",
        "gate.rules[0].require[0]: no expert is called \"vegetables\"",
        "gate.rules[1].when: ",
        "serves.audience: \"thief\" is none of its values",
        "serves.mood: is no dimension of the mesh",
    ] {
        assert!(unwrapped(&out).contains(&unwrapped(expected)), "{expected:?} is not in {out}");
    }
    assert!(out.ends_with("5 mistakes\n"), "{out}");
}

#[test]
fn an_expert_named_twice_is_refused() {
    let files = Files::new();
    files.replace("experts/travel/expert.yaml", "name: travel", "name: fruit");
    files.replace("mesh.yaml", "forbid: [fruit, travel]", "forbid: [fruit]");
    let (code, out, _) = said(&["check", &files.mesh()]);
    assert_eq!(code, Some(2));
    assert!(unwrapped(&out).contains(&unwrapped("name: \"fruit\" is the expert of")), "{out}");
}

#[test]
fn models_are_verified_and_questions_read() {
    let files = Files::new();
    files.write("models/tiny-text/tokenizer.json", "{}");
    files.replace("experts/travel/expert.yaml", "model: tiny-text", "model: large-text");
    files.write("demo.jsonl", r#"{"text": "a?", "expert": "nobody", "outcome": "dispatched"}"#);
    let (code, out, _) = said(&["check", &files.mesh()]);
    assert_eq!(code, Some(2));
    let out = unwrapped(&out);
    for expected in [
        "gate.encoder: ",
        "tokenizer.json: expected 2594 bytes, found 2",
        "large-text is no directory",
        "line 1: no expert",
    ] {
        assert!(out.contains(&unwrapped(expected)), "{expected:?} is not in {out}");
    }
}

#[test]
fn check_finds_models_that_cannot_do_what_they_are_for() {
    let files = Files::new();
    files.replace("experts/travel/expert.yaml", "kind: embed", "kind: classify");
    files.replace("mesh.yaml", "admin: 127.0.0.1:0", "admin: 127.0.0.1:7600");
    let (code, out, _) = said(&["check", &files.mesh(), "--set", "listen=127.0.0.1:7600"]);
    assert_eq!(code, Some(2), "{out}");
    let out = unwrapped(&out);
    assert!(out.contains(&unwrapped("127.0.0.1:7600 is where the router listens")), "{out}");

    let files = Files::new();
    files.replace("experts/travel/expert.yaml", "kind: embed", "kind: classify");
    let (code, out, _) = said(&["check", &files.mesh()]);
    assert_eq!(code, Some(2), "{out}");
    assert!(unwrapped(&out).contains(&unwrapped("tiny-text names no labels in its manifest")), "{out}");
}

#[test]
fn a_repository_is_looked_through() {
    let files = Files::new();
    let task = |task: &str| {
        let yaml = format!(
            "{{name: travel, version: '1', summary: Adds up how far it is to the market., slo: {{latency: 1s, \
             objective: 0.9}}, task: {{kind: tensors, repository: ../../repository{task}}}}}"
        );
        files.write("experts/travel/expert.yaml", yaml);
        said(&["check", &files.mesh()])
    };
    let (code, out, _) = task("");
    assert_eq!(code, Some(2), "{out}");
    assert!(unwrapped(&out).contains(&unwrapped("repository cannot be read")), "{out}");

    files.write("repository/way/1/model.onnx", "no ONNX");
    let (code, out, _) = task("");
    assert_eq!(code, Some(2), "{out}");
    assert!(unwrapped(&out).contains(&unwrapped("model.onnx: ")), "{out}");
    // What is not loaded at the start may be anything.
    assert_eq!(task(", load: [], control: explicit").0, Some(0));

    let way = files.path("repository/way/1/model.onnx");
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/build/fixtures/repository/add-sub/1/model.onnx");
    fs::copy(built, way).unwrap();
    let (code, out, err) = task("");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, "ok  market: 2 experts, 2 models, 2 rules\n");

    files.write("repository/no name/1/model.onnx", "");
    let (code, out, _) = task(", model: detour, load: [shortcut], batch_rows: 0");
    assert_eq!(code, Some(2), "{out}");
    let out = unwrapped(&out);
    for expected in
        ["no name cannot be a model's name", "task.model: \"detour\" is not", "task.load[0]: ", "batch_rows: is 0"]
    {
        assert!(out.contains(&unwrapped(expected)), "{expected:?} is not in {out}");
    }
}

#[test]
fn up_says_what_is_wrong_before_it_starts_anything() {
    let files = Files::new();
    files.replace("mesh.yaml", "settle: 0s", "setle: 0s");
    let (code, out, err) = said(&["up", &files.mesh(), "--set", "gate.top_k=many"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error: there are 2 mistakes in the configuration\n"), "{err}");
    assert!(err.contains("setle") && err.contains("--set gate.top_k=many"), "{err}");
    assert!(!err.contains("panicked"), "{err}");

    let (code, _, err) = said(&["up", "no/such/mesh.yaml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no/such/mesh.yaml: "), "{err}");
}

#[test]
fn up_refuses_models_that_are_not_what_they_say() {
    let files = Files::new();
    let model = files.path("models/tiny-text/model.onnx");
    let mut bytes = std::fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    files.write("models/tiny-text/model.onnx", bytes);
    let (code, out, err) = said(&["up", &files.mesh()]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("model.onnx: sha256 mismatch"), "{err}");
}

#[test]
fn up_names_every_port_that_is_taken() {
    let files = Files::new();
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [router, admin] = taken.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    let (code, out, err) = said(&["up", &files.mesh(), "--listen", &router, "--admin", &admin]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains(&format!("router: {router} is in use")), "{err}");
    assert!(err.contains(&format!("admin port: {admin} is in use")), "{err}");
    assert!(err.contains("hint: ") && !err.contains("panicked"), "{err}");
}

#[test]
fn a_missing_library_says_how_to_get_it() {
    let files = Files::new();
    let (code, _, err) = said(&["up", &files.mesh(), "--onnxruntime", "no/such/library.so"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no/such/library.so") && err.contains("make setup"), "{err}");
}

#[test]
fn a_mesh_without_experts_is_refused() {
    let files = Files::new();
    files.replace("mesh.yaml", "experts: [experts/*/expert.yaml]", "experts: []");
    for command in ["check", "up", "demo"] {
        let (code, out, err) = said(&[command, &files.mesh()]);
        assert_eq!(code, Some(2), "{command}: {out}{err}");
        assert!(unwrapped(&format!("{out}{err}")).contains("experts: missing"), "{command}: {out}{err}");
    }
}

#[test]
fn an_etcd_that_cannot_be_reached_is_named_and_not_waited_for() {
    let files = Files::new();
    // Bound and not listened on by anybody who would answer.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let etcd = format!("http://{}", dead.local_addr().unwrap());
    let mesh = files.mesh();
    let retire = ["experts", "retire", "fruit", "--mesh", &mesh, "--etcd", &etcd];
    for arguments in [&["up", &mesh, "--etcd", &etcd][..], &retire] {
        let (code, out, err) = said(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(&format!("error: etcd at {etcd} cannot be reached\n")), "{err}");
        assert!(err.contains("hint: ") && !err.contains("panicked"), "{err}");
    }
    let (code, _, err) = said(&["up", &mesh, "--etcd", "127.0.0.1:2379"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("registry.etcd.endpoints[0]") && err.contains("http://host:port"), "{err}");
}

#[test]
fn a_demo_meets_nobody_else() {
    let files = Files::new();
    files.replace("mesh.yaml", "settle: 0s", "registry: {etcd: {endpoints: ['http://127.0.0.1:1']}}");
    files.write("demo.jsonl", r#"{"text": "is an apple red", "labels": {"closed": "yes"}, "outcome": "refused"}"#);
    let (code, out, err) = said(&["demo", &files.mesh()]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn an_expert_of_a_mesh_in_one_process_is_not_retired() {
    let files = Files::new();
    let (code, out, err) = said(&["experts", "retire", "fruit", "--mesh", &files.mesh()]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("the mesh market has no etcd"), "{err}");
    assert!(unwrapped(&err).contains("retires an expert by removing its file"), "{err}");
    // A router's address in the environment is no argument that retiring could not go with.
    let mut retire = Command::new(env!("CARGO_BIN_EXE_consilium"));
    retire.args(["experts", "retire", "fruit", "--mesh", &files.mesh()]).env("CONSILIUM_ROUTER", "127.0.0.1:1");
    assert_eq!(retire.output().unwrap().stderr, err.into_bytes());
}

#[test]
fn the_settings_in_effect_can_be_printed_and_read_back() {
    let files = Files::new();
    let (code, out, err) = said(&["up", &files.mesh(), "--set", "gate.top_k=2", "--print-config"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("top_k: 2\n") && out.contains("default_deadline: 2s\n"), "{out}");
    let (_, out, _) = said(&["up", &files.mesh(), "--etcd", "http://a:1,http://b:1", "--print-config"]);
    assert!(out.contains("- http://a:1\n") && out.contains("- http://b:1\n"), "{out}");
    for (flags, expected) in
        [(&[][..], "endpoint: http://standard:4317\n"), (&["--otlp", "http://flag:1"], "endpoint: http://flag:1\n")]
    {
        let mut up = Command::new(env!("CARGO_BIN_EXE_consilium"));
        up.args(["up", &files.mesh(), "--print-config"])
            .args(flags)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard/");
        let out = String::from_utf8(up.output().unwrap().stdout).unwrap();
        assert!(out.contains(expected), "{out}");
    }
}

#[test]
fn models_lists_what_there_is_and_fails_when_something_is_wrong() {
    let files = Files::new();
    let models = files.path("models").display().to_string();
    let (code, out, _) = said(&["models", &models, "--json"]);
    assert_eq!(code, Some(0));
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed["models"][0]["name"], "tiny-text");
    assert_eq!(listed["models"][0]["verified"], true);

    files.write("models/tiny-text/tokenizer.json", "{}");
    assert_eq!(said(&["models", &models]).0, Some(1));
    let (code, _, err) = said(&["models", "no/such/folder"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no/such/folder: "), "{err}");
}

#[test]
fn nobody_to_ask_is_a_failure_with_a_hint() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, out, err) = said(&["ask", "may I?", "--router", &format!("http://{address}")]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("no router answers at {address}")), "{err}");
    assert!(err.contains("hint: is it running?"), "{err}");
    assert_eq!(said(&["ask"]).0, Some(2));

    for command in
        [&["ask", "may I?"][..], &["explain", "may I?"], &["experts"], &["feedback", "token", "helpful=true"]]
    {
        let (code, out, err) = said(&[command, &["--json", "--router", &address.to_string()]].concat());
        assert_eq!((code, out.as_str()), (Some(1), ""));
        let error = serde_json::from_str::<serde_json::Value>(&err).unwrap()["error"].take();
        assert_eq!(error["code"], "UNAVAILABLE");
        assert_eq!(error["message"], format!("no router answers at {address}"));
        assert!(error["reason"].is_null() && error["request_id"].is_null(), "{error}");
    }
}

/// Lines are broken where the page ends, which depends on how long the directory's name is.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
