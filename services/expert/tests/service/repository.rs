//! Experts over a repository: loading, unloading and replacing models while they are served.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use consilium_mesh::registry::Record;
use consilium_proto::inference::{
    ModelInferResponse, ModelRepositoryParameter, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use tokio::task::JoinSet;
use tonic::Status;

use super::{
    inference::{Client, add_sub, fixtures, index, infer, oip, raw, read, refused, told},
    *,
};

impl House {
    /// Puts a version of a model of the fixtures into the repository `repo`.
    fn put(&self, model: &str, version: u32, from: &str) {
        let dir = self.folder.path().join(format!("repo/{model}/{version}"));
        fs::create_dir_all(&dir).unwrap();
        fs::copy(fixtures().join(from).join("model.onnx"), dir.join("model.onnx")).unwrap();
    }

    fn record(&self, expert: &Handle) -> Record {
        self.registry.watch().borrow().experts[expert.expert()].instances[expert.instance()].record.clone()
    }

    fn models_of(&self, expert: &Handle) -> Vec<(String, String)> {
        let record = self.record(expert);
        assert!(record.models.iter().all(|model| model.digest.len() == 64));
        record.models.iter().map(|model| (model.name.clone(), model.version.clone())).collect()
    }
}

fn named(models: &[(&str, &str)]) -> Vec<(String, String)> {
    models.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

async fn load(client: &mut Client, model: &str) -> Result<(), Status> {
    let request = RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() };
    client.repository_model_load(request).await.map(drop)
}

async fn unload(client: &mut Client, model: &str) -> Result<(), Status> {
    let request = RepositoryModelUnloadRequest { model_name: model.to_owned(), ..Default::default() };
    client.repository_model_unload(request).await.map(drop)
}

/// Version and first number of the sum: 3 of version 1, 103 of version 2.
fn sum(reply: &ModelInferResponse) -> (String, f32) {
    let first = reply.raw_output_contents[0].first_chunk::<4>().unwrap();
    (reply.model_version.clone(), f32::from_le_bytes(*first))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_replaced_without_a_lost_request() {
    let house = House::new();
    house.put("add-sub", 1, "add-sub/1");
    let expert = house.start("lab", "{kind: tensors, repository: repo, control: explicit}").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (mut client, stop) = (oip(&expert), Arc::clone(&stop));
        callers.spawn(async move {
            let mut seen = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                seen.push(client.model_infer(add_sub("lab", 1.0, 2.0)).await.map(|reply| sum(reply.get_ref())));
            }
            seen
        });
    }
    let mut client = oip(&expert);
    // Back and forth: version 3 is what version 1 was.
    for (version, from) in [(2, "add-sub/2"), (3, "add-sub/1"), (4, "add-sub/2"), (5, "add-sub/1"), (6, "add-sub/2")] {
        house.put("add-sub", version, from);
        load(&mut client, "lab.add-sub").await.unwrap();
        let expected = if from == "add-sub/1" { 3.0 } else { 103.0 };
        let reply = infer(&mut client, add_sub("lab", 1.0, 2.0)).await;
        assert_eq!(sum(&reply), (version.to_string(), expected));
        assert_eq!(house.models_of(&expert), named(&[("add-sub", &version.to_string())]));
    }
    stop.store(true, Ordering::SeqCst);
    let seen: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let mut versions = BTreeSet::new();
    for outcome in &seen {
        let (version, first) = outcome.as_ref().expect("no request is lost");
        let odd = version.parse::<u32>().unwrap() % 2 == 1;
        assert!((*first - if odd { 3.0 } else { 103.0 }).abs() < 1e-6, "version {version} said {first}");
        versions.insert(version.clone());
    }
    assert!(versions.len() > 1, "{} calls met only {versions:?}", seen.len());
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_come_and_go_and_the_index_and_the_record_follow() {
    let house = House::new();
    house.put("add-sub", 1, "add-sub/1");
    house.put("scalar", 1, "scalar/1");
    let task = "{kind: tensors, repository: repo, model: add-sub, load: [add-sub], control: explicit}";
    let expert = house.start("lab", task).await;
    let mut client = oip(&expert);
    let line = |name: &str, version: &str, state: &str, reason: &str| [name, version, state, reason].map(str::to_owned);
    let scalar = || raw("lab.scalar", &[("a", "FP32", &[], &[0; 4]), ("b", "FP32", &[], &[0; 4])]);
    assert_eq!(house.models_of(&expert), named(&[("add-sub", "1")]));
    {
        let mesh = house.registry.watch();
        let mesh = mesh.borrow();
        assert!(mesh.experts["lab"].cards["1"].models.is_empty(), "the models are the instance's own");
        let record = &mesh.experts["lab"].instances[expert.instance()].record;
        assert!(record.executors > 0 && record.batch_units > 0 && record.cost.unit == CostUnit::Rows);
    }
    let ready = [line("lab", "1", "READY", ""), line("lab.add-sub", "1", "READY", "")];
    assert_eq!(index(&mut client, true).await, ready);
    assert_eq!(index(&mut client, false).await[2], line("lab.scalar", "1", "UNAVAILABLE", "not loaded"));
    let expected = (Code::Unavailable, "MODEL_UNAVAILABLE".to_owned(), String::new());
    assert_eq!(read(&refused(&mut client, scalar()).await), expected);

    load(&mut client, "lab.scalar").await.unwrap();
    infer(&mut client, scalar()).await;
    assert_eq!(house.models_of(&expert), named(&[("add-sub", "1"), ("scalar", "1")]));

    // What did not change is left alone, with what it has counted.
    load(&mut client, "lab.scalar").await.unwrap();
    assert_eq!(told(&mut client, "lab.scalar").await[0].inference_count, 1);

    // Under the expert's own name it is the default model that goes.
    unload(&mut client, "lab").await.unwrap();
    unload(&mut client, "lab").await.unwrap();
    assert_eq!(read(&refused(&mut client, add_sub("lab", 1.0, 2.0)).await), expected);
    let gone = [line("lab", "1", "UNAVAILABLE", "unloaded"), line("lab.add-sub", "1", "UNAVAILABLE", "unloaded")];
    assert_eq!(index(&mut client, false).await[..2], gone);
    assert_eq!(house.models_of(&expert), named(&[("scalar", "1")]));
    load(&mut client, "lab").await.unwrap();
    assert_eq!(sum(&infer(&mut client, add_sub("lab", 1.0, 2.0)).await), ("1".to_owned(), 3.0));

    // A version that is none leaves the old one in service.
    let broken = house.folder.path().join("repo/add-sub/2");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("model.onnx"), "no model").unwrap();
    let status = load(&mut client, "lab").await.expect_err("it is no model");
    assert_eq!(read(&status).0, Code::FailedPrecondition);
    assert_eq!(read(&status).1, "MODEL_NOT_LOADABLE");
    assert!(!status.message().is_empty() && !status.message().contains(house.folder.path().to_str().unwrap()));
    assert_eq!(sum(&infer(&mut client, add_sub("lab", 1.0, 2.0)).await), ("1".to_owned(), 3.0));
    let lines = index(&mut client, false).await;
    assert_eq!(lines[2], line("lab.add-sub", "1", "READY", ""));
    assert_eq!(lines[3][..3], line("lab.add-sub", "2", "UNAVAILABLE", "")[..3]);
    assert_eq!(lines[3][3], status.message());

    // What is put there later can be loaded, and is listed before.
    house.put("no-batch", 4, "no-batch/1");
    assert_eq!(index(&mut client, false).await[4], line("lab.no-batch", "4", "UNAVAILABLE", "not loaded"));
    load(&mut client, "lab.no-batch").await.unwrap();
    assert_eq!(house.models_of(&expert), named(&[("add-sub", "1"), ("no-batch", "4"), ("scalar", "1")]));
    let report = expert.stop().await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_are_not_there_cannot_be_loaded() {
    let house = House::new();
    house.put("add-sub", 1, "add-sub/1");
    let expert = house.start("lab", "{kind: tensors, repository: repo, control: explicit}").await;
    let mut client = oip(&expert);
    for model in ["lab.none", "lab..", "lab.../lab", "add-sub", ""] {
        for status in [load(&mut client, model).await, unload(&mut client, model).await] {
            let expected = (Code::NotFound, "UNKNOWN_MODEL".to_owned(), "model_name".to_owned());
            assert_eq!(read(&status.expect_err(model)), expected, "{model}");
        }
    }
    let elsewhere = RepositoryModelLoadRequest {
        repository_name: "other".to_owned(),
        model_name: "lab".to_owned(),
        ..Default::default()
    };
    let with = |key: &str| RepositoryModelLoadRequest {
        model_name: "lab".to_owned(),
        parameters: [(key.to_owned(), ModelRepositoryParameter::default())].into(),
        ..Default::default()
    };
    for request in [elsewhere, with("config"), with("file:1/model.onnx")] {
        let status = client.repository_model_load(request).await.expect_err("not served");
        assert_eq!((status.code(), read(&status).1.as_str()), (Code::Unimplemented, "UNSUPPORTED"));
    }
    client.repository_model_load(with("anything_else")).await.unwrap();
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_off_unless_the_file_says_otherwise() {
    let house = House::new();
    house.put("add-sub", 1, "add-sub/1");
    for (name, task, model) in [
        ("texts", "{kind: embed, model: tiny-text}", "texts"),
        ("texts", "{kind: embed, model: tiny-text}", "texts.tiny-text"),
        ("packaged", "{kind: tensors, model: tiny-add}", "packaged"),
        ("repository", "{kind: tensors, repository: repo}", "repository.add-sub"),
    ] {
        let expert = house.start(name, task).await;
        let mut client = oip(&expert);
        for status in [load(&mut client, model).await, unload(&mut client, model).await] {
            let status = status.expect_err(model);
            assert_eq!((status.code(), read(&status).1.as_str()), (Code::FailedPrecondition, "MODEL_CONTROL_OFF"));
        }
        expert.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_models_that_cannot_be_loaded_are_told_and_the_expert_does_not_start() {
    let house = House::new();
    house.put("add-sub", 1, "add-sub/1");
    for name in ["bad", "worse"] {
        let dir = house.folder.path().join(format!("repo/{name}/1"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("model.onnx"), "no model").unwrap();
    }
    let error = house.service("lab", "{kind: tensors, repository: repo}").await.start().await.expect_err("bad models");
    let Error::Models { failed } = &error else { panic!("{error}") };
    assert_eq!(failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["bad", "worse"]);
    assert!(error.to_string().contains("bad: ") && error.to_string().contains("worse: "), "{error}");
    assert!(house.registry.watch().borrow().experts.is_empty());
    house.start("lab", "{kind: tensors, repository: repo, load: [add-sub], model: add-sub}").await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_goes_to_the_default_model_if_there_is_one() {
    let house = House::new();
    house.put("add-sub", 1, "add-sub/1");
    let ask = || {
        let part = |name: &str| v1::Part {
            content: Some(v1::part::Content::Tensor(v1::Tensor {
                name: name.to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, 16],
                data: vec![0; 64].into(),
            })),
        };
        let query = v1::Query { parts: vec![part("a"), part("b")], ..Default::default() };
        v1::InferRequest { query: Some(query), ..Default::default() }
    };
    let only = house.start("lab", "{kind: tensors, repository: repo}").await;
    assert!(
        matches!(answer(&only, ask()).await.body, Some(v1::answer::Body::Tensors(tensors)) if tensors.tensors.len() == 2)
    );
    assert_eq!(house.record(&only).default_model, "add-sub");
    only.stop().await;

    house.put("scalar", 1, "scalar/1");
    let several = house.start("lab", "{kind: tensors, repository: repo}").await;
    assert_eq!(house.record(&several).default_model, "");
    let status = client(&several).infer(ask()).await.expect_err("which one?");
    assert_eq!((status.code(), read(&status).1.as_str()), (Code::FailedPrecondition, "NO_DEFAULT_MODEL"));
    assert!(status.message().contains("<expert>.<model>"), "{status}");
    let status = refused(&mut oip(&several), add_sub("lab", 1.0, 2.0)).await;
    assert_eq!((status.code(), read(&status).1.as_str()), (Code::NotFound, "UNKNOWN_MODEL"));
    infer(&mut oip(&several), add_sub("lab.add-sub", 1.0, 2.0)).await;
    several.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_may_be_empty_and_be_filled_later() {
    let house = House::new();
    fs::create_dir(house.folder.path().join("repo")).unwrap();
    let expert = house.start("lab", "{kind: tensors, repository: repo, load: [], control: explicit}").await;
    let mut client = oip(&expert);
    assert!(index(&mut client, false).await.is_empty());
    let record = house.registry.watch().borrow().experts["lab"].instances[expert.instance()].record.clone();
    assert_eq!((record.executors, record.batch_units, record.cost.points.len()), (0, 0, 0));
    house.put("add-sub", 1, "add-sub/1");
    load(&mut client, "lab.add-sub").await.unwrap();
    assert_eq!(sum(&infer(&mut client, add_sub("lab.add-sub", 1.0, 2.0)).await), ("1".to_owned(), 3.0));
    let record = house.registry.watch().borrow().experts["lab"].instances[expert.instance()].record.clone();
    assert!(record.executors > 0 && record.batch_units > 0, "what it costs is known now");
    expert.stop().await;
}
