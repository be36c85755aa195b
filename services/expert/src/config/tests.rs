use std::{fs, time::Duration};

use super::{
    check::{DEFAULT_HEDGE, DEFAULT_IDEMPOTENT, MAX_EXAMPLE_BYTES},
    *,
};
use crate::card;

const GOOD: &str = r#"
name: drug-interactions
version: "1"
summary: Checks medicines against each other.
examples: examples.txt
serves: {audience: [clinician, patient]}
accepts: [text]
task: {kind: retrieve, model: minilm-l6, knowledge: knowledge.jsonl, top: 5}
slo: {latency: 150ms, objective: 0.99}
hedge: true
price: {currency: EUR, per_call: 0.001}
"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("examples.txt"), "# what they ask\n  ibuprofen with warfarin \n\nis grapefruit a risk\n")
        .unwrap();
    let passage = r#"{"id": "a", "title": "t", "text": "x", "as_of": "2020-01-31"}"#;
    fs::write(dir.path().join("knowledge.jsonl"), passage).unwrap();
    dir
}

fn read(dir: &Path, yaml: &str) -> Result<Config, Mistakes> {
    let source = Source { file: "expert.yaml".to_owned(), text: yaml.to_owned() };
    Config::read(&source, dir, &Overlay::default())
}

/// Where something is wrong, in the order in which it is told.
fn wrong(dir: &Path, yaml: &str) -> Vec<String> {
    let mistakes = read(dir, yaml).expect_err("the configuration is wrong");
    assert!(mistakes.iter().all(|mistake| !mistake.problem.is_empty()));
    mistakes.into_iter().map(|mistake| mistake.path).collect()
}

#[test]
fn a_file_becomes_a_configuration_with_complete_paths() {
    let dir = folder();
    fs::write(dir.path().join("expert.yaml"), GOOD).unwrap();
    let config = Config::load(&dir.path().join("expert.yaml")).unwrap();
    assert_eq!(config.examples, ["ibuprofen with warfarin", "is grapefruit a risk"]);
    let knowledge = dir.path().join("knowledge.jsonl");
    assert_eq!(config.task, TaskConfig::Retrieve { model: "minilm-l6".to_owned(), knowledge, top: 5 });
    assert_eq!((config.task.kind(), config.task.packaged()), (TaskKind::Retrieve, Some("minilm-l6")));
    assert_eq!(config.slo, Slo { latency: Duration::from_millis(150), objective: 0.99, first_token: None });
    assert_eq!((config.idempotent, config.hedge), (true, true));
    assert_eq!(config.price.unwrap().currency, "EUR");
}

#[test]
fn the_card_says_what_the_file_says() {
    let dir = folder();
    let card = card(&read(dir.path(), GOOD).unwrap(), Vec::new());
    assert_eq!((card.expert.as_str(), card.task.as_str()), ("drug-interactions", "retrieve"));
    assert_eq!(card.accepts, ["text"]);
    assert_eq!(card.serves["audience"], ["clinician", "patient"]);
    card.check().unwrap();
}

#[test]
fn only_what_matters_must_be_said() {
    let yaml = "{name: a, version: '2', summary: Says what a text means., slo: {latency: 1s, objective: 0.9}, \
                task: {kind: embed, model: minilm-l6}}";
    let config = read(Path::new("nowhere"), yaml).unwrap();
    assert_eq!(config.task, TaskConfig::Embed { model: "minilm-l6".to_owned() });
    assert!(config.examples.is_empty() && config.serves.is_empty() && config.price.is_none());
    assert_eq!((config.idempotent, config.hedge), (DEFAULT_IDEMPOTENT, DEFAULT_HEDGE));
}

#[test]
fn all_mistakes_are_told_together() {
    let dir = folder();
    fs::write(dir.path().join("knowledge.jsonl"), "{}\nno\n").unwrap();
    let yaml = r"
name: Drug Interactions
summary: short
examples: missing.txt
serves: {audience: []}
accepts: [blob]
task: {kind: retrieve, knowledge: knowledge.jsonl, top: 0}
slo: {latency: 0s, objective: 1.5}
price: {currency: euro, per_call: -1}
";
    let places = [
        "name",
        "version",
        "summary",
        "examples",
        "serves.audience",
        "task.model",
        "task.top",
        "id",
        "title",
        "text",
        "as_of",
        "", // the knowledge's two lines
        "slo.latency",
        "slo.objective",
        "price.currency",
        "price.per_call",
    ];
    assert_eq!(wrong(dir.path(), yaml), places);
    let told = read(dir.path(), yaml).expect_err("wrong").to_string();
    assert!(told.contains("missing.txt cannot be read"), "{told}");
    assert!(told.contains("knowledge.jsonl:2: "), "{told}");
}

#[test]
fn each_mistake_is_found() {
    let dir = folder();
    fs::write(dir.path().join("comments.txt"), "# nothing\n").unwrap();
    fs::write(dir.path().join("long.txt"), format!("short\n{}\n", "x".repeat(MAX_EXAMPLE_BYTES + 1))).unwrap();
    let many = vec!["x".repeat(MAX_EXAMPLE_BYTES); 300].join("\n");
    fs::write(dir.path().join("many.txt"), many).unwrap();
    let knowledge = ", knowledge: knowledge.jsonl, top: 5";
    let table = [
        ("name: drug-interactions", "name: -drug", "name"),
        ("name: drug-interactions", "name: drügs", "name"),
        ("version: \"1\"", "version: a/b", "version"),
        ("examples: examples.txt", "examples: comments.txt", "examples"),
        ("examples: examples.txt", "examples: long.txt", ""),
        ("examples: examples.txt", "examples: many.txt", ""),
        ("[clinician, patient]", "[clinician, clinician]", "serves.audience"),
        ("accepts: [text]", "accepts: [text, tensor]", "accepts"),
        ("kind: retrieve", "kind: dream", "task.kind"),
        ("model: minilm-l6", "model: ../secrets", "task.model"),
        (", knowledge: knowledge.jsonl", "", "task.knowledge"),
        ("knowledge: knowledge.jsonl", "knowledge: none.jsonl", "task.knowledge"),
        ("top: 5", "top: 21", "task.top"),
        (knowledge, "", "task.knowledge"),
        ("objective: 0.99", "objective: 1.0", "slo.objective"),
        ("objective: 0.99", "objective: 0.99, first_token: 0s", "slo.first_token"),
        ("150ms", "soon", "slo.latency"),
        ("top: 5", "top: 5, control: none", "task.control"),
        ("top: 5", "top: 5, batch_rows: 8", "task.batch_rows"),
        ("top: 5", "top: 5, repository: models", "task.repository"),
        ("hedge: true", "hegde: true", "hegde"),
    ];
    for (good, bad, place) in table {
        assert!(GOOD.contains(good), "{good}");
        assert_eq!(wrong(dir.path(), &GOOD.replace(good, bad)), [place], "{bad}");
    }
    let classify = GOOD.replace("kind: retrieve", "kind: classify");
    assert_eq!(wrong(dir.path(), &classify), ["task.knowledge", "task.top"]);
    let tensors = GOOD.replace("kind: retrieve", "kind: tensors").replace(knowledge, "");
    assert_eq!(wrong(dir.path(), &tensors), ["accepts"]);
    read(dir.path(), &tensors.replace("[text]", "[tensor]")).unwrap();
}

/// A folder with the repository `models`, in which there are versions 1 and 2 of `a`, and 3 of `b`.
fn repository() -> tempfile::TempDir {
    let dir = folder();
    for version in ["a/1", "a/2", "b/3"] {
        let version = dir.path().join("models").join(version);
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("model.onnx"), "").unwrap();
    }
    dir
}

fn tensors(task: &str) -> String {
    format!(
        "{{name: a, version: '2', summary: Adds what it is given., slo: {{latency: 1s, objective: 0.9}}, \
         task: {{kind: tensors, {task}}}}}"
    )
}

#[test]
fn a_repository_becomes_a_task_in_which_nothing_is_left_open() {
    let dir = repository();
    let read = |task: &str| read(dir.path(), &tensors(task)).unwrap().task;
    let of = |default: Option<&str>, load, control| {
        let repository =
            Repository { dir: dir.path().join("models"), default: default.map(str::to_owned), load, control };
        TaskConfig::Tensors { models: TensorModels::Repository(repository), batch_rows: None }
    };
    let these = |names: &[&str]| Load::These(names.iter().map(|name| (*name).to_owned()).collect());
    let table = [
        ("repository: models", of(None, Load::All, Control::None)),
        ("repository: models, control: none", of(None, Load::All, Control::None)),
        ("repository: models, model: b, control: explicit", of(Some("b"), Load::All, Control::Explicit)),
        ("repository: models, model: b, load: [b]", of(Some("b"), these(&["b"]), Control::None)),
        ("repository: models, model: b, load: [], control: explicit", of(Some("b"), these(&[]), Control::Explicit)),
    ];
    for (task, expected) in table {
        assert_eq!(read(task), expected, "{task}");
        assert_eq!((expected.kind(), expected.packaged()), (TaskKind::Tensors, None));
    }
    fs::remove_dir_all(dir.path().join("models/a")).unwrap();
    assert_eq!(read("repository: models"), of(Some("b"), Load::All, Control::None), "the only one is the default");
    fs::remove_dir_all(dir.path().join("models/b")).unwrap();
    let filled_later = read("repository: models, load: [], control: explicit");
    assert_eq!(filled_later, of(None, these(&[]), Control::Explicit));

    let packaged = read("model: m, batch_rows: 7");
    let batch_rows = NonZeroUsize::new(7);
    assert_eq!(packaged, TaskConfig::Tensors { models: TensorModels::Packaged("m".to_owned()), batch_rows });
    assert_eq!(packaged.engine(EngineOptions::default()).batch_rows, 7);
    assert_eq!(read("model: m").engine(EngineOptions::default()), EngineOptions::default());
}

#[test]
fn each_mistake_in_a_repository_is_found() {
    let dir = repository();
    fs::create_dir_all(dir.path().join("nothing/a/1")).unwrap();
    let misnamed = dir.path().join("misnamed/no name/1");
    fs::create_dir_all(&misnamed).unwrap();
    fs::write(misnamed.join("model.onnx"), "").unwrap();
    let table: [(&str, &[&str]); 14] = [
        ("load: [a]", &["task.load", "task.model"]),
        ("model: m, control: explicit", &["task.control"]),
        ("model: m, top: 3", &["task.top"]),
        ("model: m, batch_rows: 0", &["task.batch_rows"]),
        ("model: m, batch_rows: 4097", &["task.batch_rows"]),
        ("repository: nowhere", &["task.repository"]),
        ("repository: nothing", &["task.repository"]),
        ("repository: misnamed, load: [], control: explicit", &["task.repository"]),
        ("repository: models, model: c", &["task.model"]),
        ("repository: models, load: [c, a]", &["task.load[0]"]),
        ("repository: models, load: [a, a]", &["task.load"]),
        ("repository: models, load: []", &["task.load"]),
        ("repository: models, load: [a], model: b", &["task.load"]),
        (
            "repository: models, model: c, load: [c, d], control: maybe, batch_rows: 0",
            &["task.control", "task.model", "task.load[0]", "task.load[1]", "task.batch_rows"],
        ),
    ];
    for (task, places) in table {
        assert_eq!(wrong(dir.path(), &tensors(task)), places, "{task}");
    }
    let told = read(dir.path(), &tensors("repository: models, model: c")).expect_err("wrong").to_string();
    assert!(told.contains("a model of the repository: a, b"), "{told}");
}

#[test]
fn flags_and_environment_count_like_the_file() {
    let dir = folder();
    let source = Source { file: "expert.yaml".to_owned(), text: GOOD.to_owned() };
    let overlay = Overlay { set: vec!["task.top=7".to_owned()], ..Overlay::default() };
    let config = Config::read(&source, dir.path(), &overlay).unwrap();
    assert!(matches!(config.task, TaskConfig::Retrieve { top: 7, .. }));
}
