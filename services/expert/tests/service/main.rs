//! Experts as their callers meet them: real models, real gRPC on loopback, a registry in memory. The models are the
//! tiny fixtures that `make setup` builds: in `tiny-text`, words of one topic lie close together.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

mod inference;
mod repository;
mod telemetry;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use consilium_engine::{Store, StoreOptions};
use consilium_expert::{Config, Error, Handle, Options, Service, run};
use consilium_mesh::{
    dial, drain, errors,
    registry::{CostUnit, MemoryRegistry, Registry},
    serve,
};
use consilium_proto::{client::expert_service_client::ExpertServiceClient, v1};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const ANIMALS: &str = r#"{"id": "an", "title": "Animals", "text": "The rain and the snow. A horse and a cow and a sheep.", "as_of": "2024-05-01", "source": {"title": "Farm book", "uri": "https://example.org/farm"}}"#;
const FOOD: &str = r#"{"id": "fo", "title": "Food", "text": "Bread with butter and cheese.", "as_of": "2023-02-03", "source": {"title": "Cook book"}}"#;
const WEATHER: &str = r#"{"id": "we", "title": "Weather", "text": "Rain, snow, wind and fog.", "as_of": "2022-11-30"}"#;

/// A process with a store and a registry, and a folder for what its experts read.
struct House {
    store: Store,
    registry: Arc<MemoryRegistry>,
    folder: TempDir,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl House {
    fn new() -> House {
        let onnxruntime = Some(root().join(".tools/lib/libonnxruntime.so"));
        House {
            store: Store::open(StoreOptions { onnxruntime, ..StoreOptions::default() }).unwrap(),
            registry: Arc::new(MemoryRegistry::new("test")),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn knowledge(&self, lines: &[&str]) {
        fs::write(self.folder.path().join("knowledge.jsonl"), lines.join("\n")).unwrap();
    }

    fn options(&self, name: &str, task: &str) -> Options {
        let yaml = format!(
            "{{name: {name}, version: '1', summary: An expert of the tests., task: {task}, \
             slo: {{latency: 150ms, objective: 0.99}}}}"
        );
        let file = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&file, yaml).unwrap();
        let drain = drain::Options { settle: Duration::ZERO, ..drain::Options::default() };
        Options { drain, ..Options::new(Config::load(&file).unwrap(), root().join("models/build/fixtures")) }
    }

    async fn service(&self, name: &str, task: &str) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Service::new(self.options(name, task), listener, self.store.clone(), Arc::clone(&self.registry) as _)
    }

    async fn start(&self, name: &str, task: &str) -> Handle {
        self.service(name, task).await.start().await.unwrap()
    }

    async fn retriever(&self, lines: &[&str]) -> Handle {
        self.knowledge(lines);
        self.start("search", "{kind: retrieve, model: tiny-text, knowledge: knowledge.jsonl, top: 2}").await
    }
}

fn channel(expert: &Handle) -> Channel {
    dial::channel(&dial::Target::plain(expert.address().to_string())).unwrap()
}

fn client(expert: &Handle) -> ExpertServiceClient<Channel> {
    ExpertServiceClient::new(channel(expert))
}

fn text(text: &str) -> v1::InferRequest {
    let query = v1::Query { text: text.to_owned(), ..Default::default() };
    v1::InferRequest { query: Some(query), ..Default::default() }
}

async fn answer(expert: &Handle, request: v1::InferRequest) -> v1::Answer {
    client(expert).infer(request).await.unwrap().into_inner().answer.unwrap()
}

async fn vector(expert: &Handle, asked: &str) -> v1::Embedding {
    match answer(expert, text(asked)).await.body.unwrap() {
        v1::answer::Body::Embedding(embedding) => embedding,
        _ => panic!("not an embedding"),
    }
}

fn passages(answer: &v1::Answer) -> &[v1::Passage] {
    match answer.body.as_ref().unwrap() {
        v1::answer::Body::Passages(passages) => &passages.passages,
        _ => panic!("no passages"),
    }
}

fn ids(answer: &v1::Answer) -> Vec<&str> {
    passages(answer).iter().map(|passage| passage.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embed_gives_unit_vectors_that_name_their_model() {
    let house = House::new();
    let expert = house.start("embed", "{kind: embed, model: tiny-text}").await;
    let (cat, dog, soup) =
        (vector(&expert, "the cat").await, vector(&expert, "a dog").await, vector(&expert, "soup").await);
    let dot = |a: &v1::Embedding, b: &v1::Embedding| a.vector.iter().zip(&b.vector).map(|(a, b)| a * b).sum::<f32>();
    assert!((dot(&cat, &cat) - 1.0).abs() < 1e-5);
    assert!(dot(&cat, &dog) > dot(&cat, &soup), "words of one topic lie closer together");
    let described = client(&expert).describe(v1::DescribeRequest::default()).await.unwrap().into_inner();
    assert_eq!(cat.model_digest, described.card.unwrap().models[0].digest);
    expert.stop().await;
    house.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classify_sorts_the_labels_of_every_head() {
    let house = House::new();
    let expert = house.start("classify", "{kind: classify, model: tiny-classify}").await;
    let answer = answer(&expert, text("a huge crimson and scarlet red")).await;
    let Some(v1::answer::Body::Classification(classification)) = &answer.body else { panic!("no classification") };
    let tops: Vec<_> =
        classification.heads.iter().map(|head| (head.name.as_str(), head.labels[0].name.as_str())).collect();
    assert_eq!(tops, [("colour", "red"), ("size", "large")]);
    for head in &classification.heads {
        let probabilities: Vec<f64> = head.labels.iter().map(|label| label.probability).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-3);
    }
    assert_eq!(answer.confidence, Some(classification.heads[0].labels[0].probability));
    assert!(!answer.calibrated && !answer.truncated);
    let long = self::answer(&expert, text(&"red ".repeat(100))).await;
    assert!(long.truncated, "the model reads 32 tokens");
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensors_give_the_model_s_own_outputs() {
    let house = House::new();
    let expert = house.start("add", "{kind: tensors, model: tiny-add}").await;
    let part = |name: &str, values: [f32; 4]| v1::Part {
        content: Some(v1::part::Content::Tensor(v1::Tensor {
            name: name.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 4],
            data: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
        })),
    };
    let ask = |parts| v1::InferRequest { query: Some(v1::Query { parts, ..Default::default() }), ..Default::default() };
    let answer = answer(&expert, ask(vec![part("a", [1.0, 2.0, 3.0, 4.0]), part("b", [0.5; 4])])).await;
    let Some(v1::answer::Body::Tensors(tensors)) = answer.body else { panic!("no tensors") };
    let [sum] = tensors.tensors.as_slice() else { panic!("{} tensors", tensors.tensors.len()) };
    let expected: Vec<u8> = [1.5_f32, 2.5, 3.5, 4.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!((sum.name.as_str(), sum.datatype.as_str(), sum.shape.as_slice()), ("sum", "FP32", &[1, 4][..]));
    assert_eq!(sum.data.as_ref(), expected);

    let status = client(&expert).infer(ask(vec![part("a", [1.0; 4])])).await.expect_err("b is missing");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(errors::violations(&status)[0].field, "query.parts[b]");
    let record = house.registry.watch().borrow().experts["add"].instances[expert.instance()].record.clone();
    assert_eq!((record.cost.unit, record.cost.bytes_per_unit), (CostUnit::Rows, 0.0));
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retrieve_finds_passages_and_marks_their_best_sentence() {
    let house = House::new();
    let expert = house.retriever(&[FOOD, ANIMALS, WEATHER]).await;
    let answer = answer(&expert, text("what is a rabbit?")).await;
    assert_eq!(passages(&answer).len(), 2);
    let first = &passages(&answer)[0];
    assert_eq!((first.id.as_str(), first.title.as_str()), ("an", "Animals"));
    let best = first.best.unwrap();
    assert_eq!(&first.text[best.start as usize..best.end as usize], "A horse and a cow and a sheep.");
    let source = first.source.as_ref().unwrap();
    assert_eq!((source.title.as_str(), source.as_of.as_str()), ("Farm book", "2024-05-01"));
    assert_eq!(answer.sources[0], *source);
    assert_eq!(answer.confidence, Some(first.score.clamp(0.0, 1.0)));
    assert_eq!(Some(answer.knowledge_revision.as_str()), expert.knowledge_revision().as_deref());
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retrieve_believes_a_vector_of_its_own_model_only() {
    let house = House::new();
    let expert = house.retriever(&[FOOD, ANIMALS, WEATHER]).await;
    let encoder = house.start("embed", "{kind: embed, model: tiny-text}").await;
    let food = vector(&encoder, "cheese").await;
    let ask = |embedding: v1::Embedding| v1::InferRequest { embedding: Some(embedding), ..text("rabbit") };

    let given = client(&expert).infer(ask(food.clone())).await.unwrap().into_inner();
    assert_eq!(ids(given.answer.as_ref().unwrap())[0], "fo", "the vector is taken for the text's");
    let inference = given.timings.unwrap().inference.unwrap();
    assert_eq!((inference.seconds, inference.nanos), (0, 0), "nothing was encoded");

    let mut not_a_number = food.clone();
    not_a_number.vector[0] = f32::NAN;
    let foreign = [
        v1::Embedding { model_digest: "another".to_owned(), ..food.clone() },
        v1::Embedding { vector: food.vector[..4].to_vec(), ..food.clone() },
        v1::Embedding { vector: food.vector.iter().map(|value| value * 2.0).collect(), ..food.clone() },
        not_a_number,
    ];
    for embedding in foreign {
        assert_eq!(ids(&answer(&expert, ask(embedding)).await)[0], "an", "the text is encoded");
    }
    // Longer than is certainly read whole: only the encoder knows what was cut.
    let long = v1::InferRequest { embedding: Some(food), ..text(&"rabbit ".repeat(50)) };
    let answer = answer(&expert, long).await;
    assert!(answer.truncated);
    assert_eq!(ids(&answer)[0], "an");
    expert.stop().await;
    encoder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knowledge_is_replaced_without_a_restart() {
    let house = House::new();
    let expert = house.retriever(&[FOOD, WEATHER]).await;
    let before = expert.knowledge_revision().unwrap();
    assert_eq!(expert.reload().await.unwrap().as_ref(), Some(&before));
    assert_eq!(ids(&answer(&expert, text("cow")).await).len(), 2);

    house.knowledge(&[FOOD, ANIMALS, WEATHER]);
    let revision = expert.reload().await.unwrap().unwrap();
    assert_ne!(revision, before);
    let found = answer(&expert, text("cow")).await;
    assert_eq!((ids(&found)[0], found.knowledge_revision.as_str()), ("an", &*revision));
    let described = client(&expert).describe(v1::DescribeRequest::default()).await.unwrap().into_inner();
    assert_eq!(described.knowledge_revision, *revision);

    house.knowledge(&[FOOD, "{\"id\": \"x\"}", FOOD]);
    let error = expert.reload().await.expect_err("the file is wrong");
    let Error::Knowledge { mistakes, .. } = &error else { panic!("{error}") };
    let places: Vec<_> = mistakes.iter().map(|mistake| (mistake.line, mistake.field.as_str())).collect();
    assert_eq!(places, [(2, "title"), (2, "text"), (2, "as_of"), (3, "id")]);
    assert_eq!(ids(&answer(&expert, text("cow")).await)[0], "an", "the old state goes on answering");
    assert_eq!(expert.knowledge_revision().as_ref(), Some(&revision));

    fs::remove_file(house.folder.path().join("knowledge.jsonl")).unwrap();
    assert!(matches!(expert.reload().await, Err(Error::Unreadable { .. })));
    assert_eq!(ids(&answer(&expert, text("cow")).await)[0], "an");

    // An edit of what is cited, not of what is searched, counts too.
    house.knowledge(&[FOOD, &ANIMALS.replace("Farm book", "Barn book")]);
    assert_ne!(expert.reload().await.unwrap(), Some(revision));
    assert_eq!(answer(&expert, text("cow")).await.sources[0].title, "Barn book");
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_written_is_noticed() {
    let house = House::new();
    let expert = house.retriever(&[FOOD]).await;
    // The watcher looks every second. The test waits for what the watcher does, however long that takes.
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let mut revision = expert.knowledge_revision().unwrap();
    for (lines, best) in [([FOOD, ANIMALS], "an"), ([FOOD, WEATHER], "we")] {
        house.knowledge(&lines);
        while expert.knowledge_revision().unwrap() == revision {
            looks.tick().await;
        }
        revision = expert.knowledge_revision().unwrap();
        let found = answer(&expert, text("rain on a cow")).await;
        assert_eq!((ids(&found)[0], found.knowledge_revision.as_str()), (best, &*revision));
    }
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_queries_are_refused_with_the_field() {
    let house = House::new();
    let expert = house.start("embed", "{kind: embed, model: tiny-text}").await;
    let named = |expert: &str| v1::InferRequest { expert: expert.to_owned(), ..text("cat") };
    let table = [
        (text(""), Code::InvalidArgument, "INVALID_QUERY", Some("query.text")),
        (text(&"a".repeat((64 << 10) + 1)), Code::InvalidArgument, "INVALID_QUERY", Some("query.text")),
        (v1::InferRequest::default(), Code::InvalidArgument, "INVALID_QUERY", Some("query")),
        (named("another"), Code::NotFound, "UNKNOWN_EXPERT", None),
    ];
    for (request, code, reason, field) in table {
        let status = client(&expert).infer(request).await.expect_err("the query is bad");
        assert_eq!((status.code(), errors::reason(&status).as_deref()), (code, Some(reason)));
        let violated = errors::violations(&status).into_iter().next().map(|violation| violation.field);
        assert_eq!(violated.as_deref(), field);
    }
    answer(&expert, named("embed")).await;
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_same_answer() {
    let house = House::new();
    let expert = house.start("embed", "{kind: embed, model: tiny-text}").await;
    let v1::InferRequest { query, .. } = text("cat");
    let request = v1::StreamInferRequest { query, ..Default::default() };
    let mut events = client(&expert).stream_infer(request).await.unwrap().into_inner();
    let event = events.message().await.unwrap().unwrap().event.unwrap();
    let v1::stream_infer_response::Event::Done(done) = event else { panic!("text from an encoder") };
    let Some(v1::answer::Body::Embedding(embedding)) = done.answer.unwrap().body else { panic!("not an embedding") };
    assert_eq!(embedding, vector(&expert, "cat").await);
    assert!(events.message().await.unwrap().is_none());
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_too_late_is_not_answered() {
    let house = House::new();
    let mut options = house.options("embed", "{kind: embed, model: tiny-text}");
    // A nanosecond has passed before anybody can look.
    let max = Duration::from_nanos(1);
    options.serve.deadlines = serve::Deadlines { max, ..serve::Deadlines::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service::new(options, listener, house.store.clone(), Arc::clone(&house.registry) as _);
    let expert = service.start().await.unwrap();

    let status = client(&expert).infer(text("cat")).await.expect_err("no time is left");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let v1::InferRequest { query, .. } = text("cat");
    let request = v1::StreamInferRequest { query, ..Default::default() };
    let mut events = client(&expert).stream_infer(request).await.unwrap().into_inner();
    let status = events.message().await.expect_err("no time is left");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_registered_when_it_serves_and_gone_when_it_stopped() {
    let house = House::new();
    let service = house.service("embed", "{kind: embed, model: tiny-text}").await;
    let readiness = service.readiness();
    assert_eq!(readiness.missing(), ["model"]);
    let expert = service.start().await.unwrap();
    let mesh = house.registry.watch();
    {
        let snapshot = mesh.borrow();
        let known = &snapshot.experts["embed"];
        let instance = &known.instances[expert.instance()];
        assert_eq!(instance.address, expert.address().to_string());
        assert_eq!(instance.record.card_digest, known.cards["1"].digest());
        assert_eq!(instance.record.models, known.cards["1"].models);
        assert_eq!(instance.record.default_model, "", "it takes texts under its own name");
        assert_eq!(instance.record.keepalive(), Some(Duration::from_secs(1)), "pings are welcome");
        assert!(!instance.record.cost.points.is_empty() && instance.record.cost.bytes_per_unit > 0.0);
        assert!(expert.instance().starts_with("embed-") && instance.record.epoch.len() == 36);
    }
    for service in ["", "embed", "consilium.v1.ExpertService", "inference.GRPCInferenceService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel(&expert)).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service}");
    }
    let report = expert.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert!(!readiness.is_ready());
    assert!(mesh.borrow().experts["embed"].instances.is_empty());
    assert_eq!(mesh.borrow().experts["embed"].cards.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_leaves_nothing_behind() {
    let house = House::new();
    house.knowledge(&[FOOD]);
    let table = [
        ("{kind: embed, model: no-such-model}", "model"),
        ("{kind: embed, model: bad-hash}", "model"),
        ("{kind: embed, model: tiny-add}", "unfit"),
        ("{kind: embed, model: tiny-classify}", "unfit"),
        ("{kind: classify, model: tiny-text}", "unfit"),
        ("{kind: retrieve, model: tiny-add, knowledge: knowledge.jsonl}", "unfit"),
    ];
    for (task, why) in table {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (options, registry) = (house.options("broken", task), Arc::clone(&house.registry));
        let error = Service::new(options, listener, house.store.clone(), registry).start().await.expect_err(task);
        match why {
            "model" => assert!(matches!(error, Error::Model(_)), "{error}"),
            _ => assert!(matches!(error, Error::Unfit { .. }), "{error}"),
        }
        assert!(house.registry.watch().borrow().experts.is_empty());
        TcpListener::bind(address).await.expect("the port is free again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn experts_of_one_process_share_a_model_and_stop_one_by_one() {
    let house = House::new();
    let search = house.retriever(&[FOOD, ANIMALS]).await;
    let embed = house.start("embed", "{kind: embed, model: tiny-text}").await;
    assert_ne!(search.address(), embed.address());
    search.stop().await;
    vector(&embed, "cat").await;
    embed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_serves_until_it_is_told_to_stop() {
    let house = House::new();
    let service = house.service("embed", "{kind: embed, model: tiny-text}").await;
    let (readiness, stop) = (service.readiness(), CancellationToken::new());
    let told = async {
        readiness.ready().await;
        let mut mesh = house.registry.watch();
        let registered = mesh.wait_for(|mesh| mesh.experts.contains_key("embed")).await.unwrap();
        assert_eq!(registered.experts["embed"].instances.len(), 1);
        drop(registered);
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(run(service, stop.clone()), told);
    ran.unwrap();
    assert!(house.registry.watch().borrow().experts["embed"].instances.is_empty());
}
