//! The router as a server of the Open Inference Protocol: who is asked for which name, what goes through untouched, and
//! what the gate makes of texts.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "what a test stands on failing is the test failing")]

mod instance;
mod mesh;

use std::collections::BTreeSet;

use bytes::Bytes;
use consilium_mesh::{
    errors::{self, Refusal},
    registry::{Card, Record},
};
use consilium_proto::{
    inference::{
        self as oip, InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    raw,
};
use futures::{StreamExt, stream};
use mesh::{Mesh, labs};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, codec::CompressionEncoding};

fn to(model: &str) -> ModelInferRequest {
    ModelInferRequest { model_name: model.into(), id: "one".into(), ..Default::default() }
}

fn bytes(request: &ModelInferRequest) -> Bytes {
    request.encode_to_vec().into()
}

fn fields(status: &Status) -> Vec<String> {
    errors::violations(status).into_iter().map(|violation| violation.field).collect()
}

fn told(status: &Status) -> (Code, String, Vec<String>) {
    (status.code(), errors::reason(status).unwrap_or_default(), fields(status))
}

/// What a failure of such a code, reason and fields is told as.
fn telling(code: Code, reason: &str, fields: &[&str]) -> (Code, String, Vec<String>) {
    (code, reason.to_owned(), fields.iter().map(|&field| field.to_owned()).collect())
}

#[tokio::test]
async fn requests_and_replies_go_through_as_the_bytes_that_they_are() {
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    // Fields that nobody knows, the name twice, and the fields in no order.
    let mut request = bytes(&to("labs.other")).to_vec();
    request.extend([0xa2, 0x1f, 3, 1, 2, 3]);
    request
        .extend(ModelInferRequest { raw_input_contents: vec![vec![7; 1000].into()], ..to("labs.net") }.encode_to_vec());
    instance.script(|_, _| Ok(Bytes::from_static(b"\xff\xff is no message")));
    let reply = mesh.infer(request.clone()).await.unwrap();
    assert_eq!(reply, Bytes::from_static(b"\xff\xff is no message"));
    assert_eq!(instance.got(), [Bytes::from(request)]);

    for broken in [&b"\x0a\xff"[..], b"\x0a\x02\xff\xff", b"\xff"] {
        let status = mesh.infer(Bytes::from_static(broken)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(instance.got().len(), 1, "what has no name goes nowhere");
}

#[tokio::test]
async fn an_instance_that_refuses_is_passed_over_and_at_most_once() {
    let mesh = Mesh::start("").await;
    let (one, two) = (mesh.labs(&["net"]).await, mesh.labs(&["net"]).await);
    one.script(|_, _| Err(Status::unavailable("draining")));
    for _ in 0..10 {
        assert_eq!(mesh.infer(bytes(&to("labs.net"))).await.unwrap(), format!("reply of {}", two.id));
    }
    assert_eq!(two.got().len(), 10);
    assert_eq!(mesh.count(r#"consilium_slo_good_total{expert="labs"} "#), 10, "a leg with a retry is one leg");
    let refused = r#"consilium_router_attempts_total{expert="labs",rpc_response_status_code="UNAVAILABLE"} "#;
    assert_eq!(mesh.count(refused), one.got().len() as u64);

    let before = one.got().len() + two.got().len();
    two.script(|_, _| Err(Status::unavailable("draining")));
    let third = mesh.labs(&["net"]).await;
    third.script(|_, _| Err(Status::unavailable("draining")));
    assert_eq!(mesh.infer(bytes(&to("labs.net"))).await.unwrap_err().code(), Code::Unavailable);
    let after = one.got().len() + two.got().len() + third.got().len();
    assert_eq!(after - before, 2, "one try and one more");
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_not() {
    let mesh = Mesh::start("").await;
    let card = Card { idempotent: false, ..labs() };
    let (one, two) = (mesh.join(card.clone(), &["net"]).await, mesh.join(card, &["net"]).await);
    for instance in [&one, &two] {
        instance.script(|_, _| Err(Status::internal("it may have run")));
    }
    assert_eq!(mesh.infer(bytes(&to("labs.net"))).await.unwrap_err().code(), Code::Internal);
    assert_eq!(one.got().len() + two.got().len(), 1);
}

#[tokio::test]
async fn an_instances_failure_comes_with_everything_that_it_said_and_whose_it_is() {
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    instance.script(|_, _| {
        let refusal = Refusal::new(Code::InvalidArgument, "INVALID_QUERY", "a wrong shape");
        Err(refusal.with_violation("inputs[x].shape", "[2] is expected").with_metadata("limit", "2").into_status())
    });
    let status = mesh.infer(bytes(&to("labs.net"))).await.unwrap_err();
    assert_eq!(told(&status), telling(Code::InvalidArgument, "INVALID_QUERY", &["inputs[x].shape"]));
    let facts = errors::metadata(&status);
    assert_eq!((facts["expert"].as_str(), facts["limit"].as_str()), ("labs", "2"));
    assert_eq!(mesh.count(r#"consilium_slo_total{expert="labs"} "#), 0, "the request was at fault");

    instance.script(|_, _| Err(Refusal::new(Code::Unimplemented, "UNSUPPORTED", "no shared memory").into_status()));
    let status = mesh.infer(bytes(&to("labs.net"))).await.unwrap_err();
    assert_eq!(told(&status), telling(Code::Unimplemented, "UNSUPPORTED", &[]));
    assert_eq!(mesh.count(r#"consilium_slo_total{expert="labs"} "#), 0);
}

#[tokio::test]
async fn a_model_is_asked_of_those_that_have_it() {
    let mesh = Mesh::start("").await;
    let (few, many) = (mesh.labs(&["net"]).await, mesh.labs(&["net", "deep"]).await);
    for _ in 0..20 {
        assert_eq!(mesh.infer(bytes(&to("labs.deep"))).await.unwrap(), format!("reply of {}", many.id));
    }
    assert!(few.got().is_empty());
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(mesh.infer(bytes(&to("labs"))).await.unwrap());
    }

    // What an instance has unloaded this moment, another one may have still. That one is busier, as far as is known: it would
    // be the second choice every time.
    few.script(|_, _| Err(Status::unavailable("for a while")));
    while few.got().iter().all(|request| raw::Envelope::of(request).unwrap().model_name != "labs.net") {
        mesh.infer(bytes(&to("labs.net"))).await.unwrap();
    }
    few.script(|shared, _| Ok(Bytes::from(format!("reply of {}", shared.id))));
    many.script(|_, _| Err(Refusal::new(Code::NotFound, "UNKNOWN_MODEL", "unloaded").into_status()));
    let before = many.got().len();
    for _ in 0..10 {
        assert_eq!(mesh.infer(bytes(&to("labs.net"))).await.unwrap(), format!("reply of {}", few.id));
    }
    assert!(many.got().len() - before < 5, "it is not asked for that every time");
}

#[tokio::test]
async fn names_that_nobody_answers_to_say_why() {
    let mesh = Mesh::start("").await;
    let why = async |name: &str| told(&mesh.infer(bytes(&to(name))).await.unwrap_err());
    let unknown = telling(Code::NotFound, "UNKNOWN_MODEL", &["model_name"]);
    assert_eq!(why("labs.net").await, unknown, "nobody has come yet");
    let instance = mesh.labs(&["net"]).await;
    for name in ["", "nobody", "labs.other", "clinic.net", "labs."] {
        assert_eq!(why(name).await, unknown, "{name:?}");
    }
    assert_eq!(why(&".".repeat(1 << 20)).await, unknown);
    assert_eq!(why("labs.deep").await, telling(Code::Unavailable, "MODEL_UNAVAILABLE", &[]));
    assert_eq!(instance.got(), Vec::<Bytes>::new());

    let (id, registration) = (instance.id.clone(), &instance.registration);
    registration.deregister().await.unwrap();
    mesh.until(|catalog| catalog.experts.iter().flat_map(|expert| &expert.instances).all(|known| known.id != id)).await;
    for name in ["labs", "labs.net"] {
        let nobody = mesh.infer(bytes(&to(name))).await.unwrap_err();
        assert_eq!(told(&nobody), telling(Code::Unavailable, "NO_LIVE_INSTANCE", &[]));
        assert!(errors::retry_after(&nobody).is_some());
    }
}

#[tokio::test]
async fn models_of_a_repository_that_nobody_has_loaded_are_the_instances_business() {
    let mesh = Mesh::start("").await;
    let card = Card { task: "tensors".into(), models: Vec::new(), ..labs() };
    let (one, two) = (mesh.join(card.clone(), &["net"]).await, mesh.join(card, &[]).await);
    for instance in [&one, &two] {
        instance.script(|_, _| {
            let refusal = Refusal::new(Code::Unavailable, "MODEL_UNAVAILABLE", "it was unloaded");
            Err(refusal.with_retry_after(std::time::Duration::ZERO).into_status())
        });
    }
    let status = mesh.infer(bytes(&to("labs.idle"))).await.unwrap_err();
    assert_eq!(told(&status), telling(Code::Unavailable, "MODEL_UNAVAILABLE", &[]));
    assert!(status.message().contains("it was unloaded"));
    assert_eq!(one.got().len() + two.got().len(), 1, "nobody is likely to have it");
    for instance in [&one, &two] {
        instance.script(|shared, _| Ok(Bytes::from(format!("reply of {}", shared.id))));
    }
    mesh.infer(bytes(&to("labs.idle"))).await.unwrap();
    assert_eq!(mesh.count(r#"consilium_slo_total{expert="labs"} "#), 1, "that it is not loaded broke no promise");
}

#[tokio::test]
async fn an_experts_version_goes_to_its_instances() {
    let mesh = Mesh::start("").await;
    let old = mesh.labs(&[]).await;
    let new = mesh.join(Card { version: "2".into(), ..labs() }, &[]).await;
    let versioned = |version: &str| bytes(&ModelInferRequest { model_version: version.into(), ..to("labs") });
    for (version, goes_to) in [("1", &old), ("2", &new), ("", &new)] {
        assert_eq!(mesh.infer(versioned(version)).await.unwrap(), format!("reply of {}", goes_to.id), "{version:?}");
    }
    let status = mesh.infer(versioned("7")).await.unwrap_err();
    assert_eq!(told(&status), telling(Code::NotFound, "UNKNOWN_MODEL", &["model_version"]));
    assert_eq!(old.got().len() + new.got().len(), 3, "the router knows by itself");
}

#[tokio::test]
async fn a_record_that_lists_another_model_is_heard() {
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    assert!(mesh.infer(bytes(&to("labs.deep"))).await.is_err());
    let record = Record { models: instance::models(&["deep"]), ..instance.record.clone() };
    instance.registration.update(record).await.unwrap();
    // Nobody is told of it but by asking.
    while mesh.infer(bytes(&to("labs.deep"))).await.is_err() {}
    assert_eq!(told(&mesh.infer(bytes(&to("labs.net"))).await.unwrap_err()).1, "MODEL_UNAVAILABLE");
}

#[tokio::test]
async fn compressed_requests_are_read_and_those_that_blow_up_are_not() {
    let mesh = Mesh::start("max_message_bytes: 65536").await;
    let instance = mesh.labs(&["net"]).await;
    let of = |bytes: usize| {
        self::bytes(&ModelInferRequest { raw_input_contents: vec![vec![0; bytes].into()], ..to("labs.net") })
    };
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let mut client = mesh.raw.clone().send_compressed(encoding);
        client.model_infer(Request::new(of(60_000))).await.unwrap();
        let status = client.model_infer(Request::new(of(10_000_000))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
    assert_eq!(instance.got(), [of(60_000), of(60_000)]);
    assert_eq!(mesh.infer(of(70_000)).await.unwrap_err().code(), Code::OutOfRange);
}

fn texts(texts: &[&str]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: vec![i64::try_from(texts.len()).unwrap()],
        contents: Some(oip::InferTensorContents {
            bytes_contents: texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ModelInferRequest { inputs: vec![input], ..to("clinic") }
}

fn with(mut request: ModelInferRequest, name: &str, value: &str) -> ModelInferRequest {
    let value = ParameterChoice::StringParam(value.into());
    request.parameters.insert(name.into(), InferParameter { parameter_choice: Some(value) });
    request
}

/// The elements of a BYTES output.
fn strings(reply: &ModelInferResponse, output: &str) -> Vec<String> {
    let at = reply.outputs.iter().position(|known| known.name == output).unwrap();
    let mut data = &reply.raw_output_contents[at][..];
    let mut found = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (string, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        found.push(String::from_utf8(string.to_vec()).unwrap());
        data = rest;
    }
    found
}

async fn ask(mesh: &Mesh, request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
    Ok(ModelInferResponse::decode(mesh.infer(bytes(request)).await?).unwrap())
}

#[tokio::test]
async fn texts_under_the_meshs_name_are_dispatched_one_by_one() {
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    let reply = ask(&mesh, &texts(&["is my potassium high", "my sodium is low"])).await.unwrap();
    assert_eq!((reply.model_name.as_str(), reply.model_version.as_str(), reply.id.as_str()), ("clinic", "1", "one"));
    assert_eq!(strings(&reply, "expert"), ["labs", "labs"]);
    assert_eq!(strings(&reply, "request_id"), ["one/0", "one/1"]);
    let answers = strings(&reply, "answer");
    assert!(answers[0].contains("is my potassium high") && answers[1].contains("my sodium is low"), "{answers:?}");
    let names: Vec<_> = reply.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["answer", "expert", "confidence", "request_id"]);
    let halves = [0.5_f32, 0.5].map(f32::to_le_bytes).concat();
    assert_eq!(reply.raw_output_contents[2], halves);
    assert_eq!(mesh.count(r#"consilium_slo_good_total{expert="labs"} "#), 2);

    let mut one = with(texts(&["is my potassium high"]), "attributes.audience", "patient");
    one.parameters
        .insert("priority".into(), InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(1)) });
    one.outputs = ["request_id", "answer"]
        .map(|name| InferRequestedOutputTensor { name: name.into(), ..Default::default() })
        .into();
    let reply = ask(&mesh, &one).await.unwrap();
    assert_eq!(strings(&reply, "request_id"), ["one"], "a single text is the request itself");
    assert!(strings(&reply, "answer")[0].contains("audience=patient"));
    assert_eq!(reply.outputs.len(), 2);

    let nameless =
        ModelInferRequest { id: String::new(), model_version: "1".into(), ..texts(&["my sodium is low"; 2]) };
    let ids: BTreeSet<_> = strings(&ask(&mesh, &nameless).await.unwrap(), "request_id").into_iter().collect();
    assert_eq!(ids.len(), 2, "each has an id of its own: {ids:?}");
    assert!(ids.iter().all(|id| id.len() == 36));
    assert_eq!(instance.got().len(), 5);

    let request = oip::ModelStatisticsRequest { name: "clinic".into(), ..Default::default() };
    let statistics = mesh.typed.clone().model_statistics(request).await.unwrap().into_inner().model_stats;
    assert_eq!((statistics[0].inference_count, statistics[0].execution_count), (5, 3));
}

#[tokio::test]
async fn what_the_gate_cannot_answer_says_which_text_and_why() {
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    let why = async |request: &ModelInferRequest| told(&ask(&mesh, request).await.unwrap_err());
    let good = "is my potassium high";
    let refused = texts(&[good, "write a poem about the autumn sea", good, "who won the football cup"]);
    assert_eq!(why(&refused).await, telling(Code::NotFound, "REFUSED", &["inputs[text][1]", "inputs[text][3]"]));
    let long = texts(&[good, "my potassium is high and too long"]);
    assert_eq!(why(&long).await, telling(Code::InvalidArgument, "INVALID_QUERY", &["inputs[text][1]"]));

    let before = instance.got().len();
    let field = "parameters[attributes.audience]";
    let wrong = with(texts(&[good]), "attributes.audience", "everybody");
    assert_eq!(why(&wrong).await, telling(Code::InvalidArgument, "INVALID_REQUEST", &[field]));
    let wrong = with(texts(&[good]), "attributes.weather", "fine");
    assert_eq!(
        why(&wrong).await,
        telling(Code::InvalidArgument, "INVALID_REQUEST", &["parameters[attributes.weather]"])
    );
    assert_eq!(why(&texts(&[" "])).await, telling(Code::InvalidArgument, "INVALID_REQUEST", &["inputs[text][0]"]));
    let wrong = ModelInferRequest { id: "a b".into(), ..texts(&[good]) };
    assert_eq!(why(&wrong).await, telling(Code::InvalidArgument, "INVALID_REQUEST", &["id"]));
    let wrong = ModelInferRequest { model_version: "2".into(), ..texts(&[good]) };
    assert_eq!(why(&wrong).await, telling(Code::NotFound, "UNKNOWN_MODEL", &["model_version"]));
    let output = InferRequestedOutputTensor { name: "logits".into(), ..Default::default() };
    let (code, _, fields) = why(&ModelInferRequest { outputs: vec![output], ..texts(&[good]) }).await;
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["outputs[logits]".to_owned()]));
    let (code, _, fields) = why(&to("clinic")).await;
    assert_eq!((code, fields.is_empty()), (Code::InvalidArgument, false));
    assert_eq!(instance.got().len(), before, "none of these was worth anybody's work");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_texts_are_worked_on_side_by_side_but_not_all_at_once() {
    let mesh = Mesh::start("default_deadline: 30s").await;
    let instance = mesh.labs(&[]).await;
    let many: Vec<_> = (0..40).map(|at| format!("is my potassium high {at}")).collect();
    let request = texts(&many.iter().map(String::as_str).collect::<Vec<_>>());
    instance.answers().forget_permits(usize::MAX);
    let release = async {
        while instance.got().len() < 16 {
            tokio::task::yield_now().await;
        }
        instance.answers().add_permits(many.len());
    };
    let (reply, ()) = tokio::join!(ask(&mesh, &request), release);
    let answers = strings(&reply.unwrap(), "answer");
    assert!(answers.iter().zip(&many).all(|(answer, text)| answer.contains(&format!("\"{text}\""))), "in their order");
    assert_eq!(instance.most_at_once(), 16);
}

async fn streamed(mesh: &Mesh, request: Request<impl futures::Stream<Item = Bytes> + Send + 'static>) -> Streamed {
    let mut replies = mesh.raw.clone().model_stream_infer(request).await.unwrap().into_inner();
    let mut got = Vec::new();
    loop {
        match replies.message().await {
            Ok(Some(reply)) => got.push(ModelStreamInferResponse::decode(reply).unwrap()),
            Ok(None) => return (got, None),
            Err(status) => return (got, Some(status.code())),
        }
    }
}

/// Replies, and what the stream ended with if not well.
type Streamed = (Vec<ModelStreamInferResponse>, Option<Code>);

/// Fails for the id `bad`, and answers others with their id.
fn by_id(_: &instance::Shared, request: &Bytes) -> Result<Bytes, Status> {
    let raw::Envelope { model_name, id, .. } = raw::Envelope::of(request)?;
    if id == "bad" {
        return Err(Status::invalid_argument("a bad request"));
    }
    Ok(ModelInferResponse { model_name, id, ..Default::default() }.encode_to_vec().into())
}

#[tokio::test]
async fn a_stream_answers_in_order_each_request_by_itself() {
    let mesh = Mesh::start("").await;
    let instances = [mesh.labs(&["net"]).await, mesh.labs(&["net"]).await];
    for instance in &instances {
        instance.script(by_id);
    }
    let requests = || {
        let named = |id: &str, model: &str| bytes(&ModelInferRequest { id: id.into(), ..to(model) });
        let mut requests: Vec<_> = (0..40).map(|at| named(&at.to_string(), "labs.net")).collect();
        requests[7] = named("bad", "labs.net");
        requests[9] = named("lost", "labs.none");
        requests[11] = bytes(&ModelInferRequest { id: "text".into(), ..texts(&["is my potassium high"]) });
        stream::iter(requests)
    };
    let (replies, end) = streamed(&mesh, Request::new(requests())).await;
    assert_eq!((replies.len(), end), (40, None), "an error does not end the stream");
    for (at, reply) in replies.iter().enumerate() {
        let response = reply.infer_response.as_ref().unwrap();
        let is_final = response.parameters.get("triton_final_response").and_then(|it| it.parameter_choice.clone());
        let id = match at {
            7 => "bad".to_owned(),
            9 => "lost".to_owned(),
            11 => "text".to_owned(),
            at => at.to_string(),
        };
        assert_eq!((response.id.as_str(), reply.error_message.is_empty()), (id.as_str(), ![7, 9].contains(&at)));
        assert_eq!(is_final == Some(ParameterChoice::BoolParam(true)), reply.error_message.is_empty(), "{at}");
    }
    assert!(replies[7].error_message.contains("a bad request") && replies[9].error_message.contains("labs.none"));
    assert_eq!(strings(replies[11].infer_response.as_ref().unwrap(), "expert"), ["labs"]);
    assert!(instances.iter().all(|instance| !instance.got().is_empty()), "the load is shared");

    let mut request = Request::new(requests());
    request.metadata_mut().insert("triton_grpc_error", "true".parse().unwrap());
    let (replies, end) = streamed(&mesh, request).await;
    assert_eq!((replies.len(), end), (7, Some(Code::InvalidArgument)), "unless the client wants it so");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_does_not_keep_a_router_from_leaving() {
    let mesh = Mesh::start("").await;
    let instance = mesh.labs(&["net"]).await;
    instance.script(by_id);
    let (send, requests) = mpsc::unbounded_channel();
    send.send(bytes(&to("labs.net"))).unwrap();
    let requests = Request::new(UnboundedReceiverStream::new(requests));
    let mut replies = mesh.raw.clone().model_stream_infer(requests).await.unwrap().into_inner();
    assert!(replies.message().await.unwrap().is_some());
    let (report, end) = tokio::join!(mesh.stopped(), replies.next());
    assert!(end.is_none(), "it ends well");
    assert!(report.is_clean(), "{report:?}");
    drop(send);
}

#[tokio::test]
async fn questions_about_models_go_to_whoever_has_them_and_count_for_nothing() {
    let mesh = Mesh::start("").await;
    let (few, many) = (mesh.labs(&["net"]).await, mesh.labs(&["net", "deep"]).await);
    let mut client = mesh.typed.clone();
    let request = |name: &str| oip::ModelMetadataRequest { name: name.into(), ..Default::default() };
    for _ in 0..10 {
        let metadata = client.model_metadata(request("labs.deep")).await.unwrap().into_inner();
        assert_eq!((metadata.name.as_str(), metadata.platform), ("labs.deep", many.id.clone()));
    }
    let gate = client.model_metadata(request("clinic")).await.unwrap().into_inner();
    assert_eq!((gate.platform.as_str(), gate.inputs[0].name.as_str()), ("consilium", "text"));
    assert_eq!(told(&client.model_metadata(request("no")).await.unwrap_err()).1, "UNKNOWN_MODEL");

    let request = |name: &str| oip::ModelConfigRequest { name: name.into(), ..Default::default() };
    let config = client.model_config(request("labs")).await.unwrap().into_inner().config.unwrap();
    assert_eq!(config.max_batch_size, 7);
    let config = client.model_config(request("clinic")).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.name.as_str(), config.backend.as_str()), ("clinic", "consilium"));

    few.registration.deregister().await.unwrap();
    mesh.until(|catalog| catalog.experts[0].instances.len() == 1).await;
    for (name, version, ready) in [
        ("labs", "", true),
        ("labs.deep", "", true),
        ("labs.deep", "9", false),
        ("labs.none", "", false),
        ("nobody", "", false),
        ("clinic", "", true),
        ("clinic", "1", true),
        ("clinic", "2", false),
    ] {
        let request = oip::ModelReadyRequest { name: name.into(), version: version.into() };
        assert_eq!(client.model_ready(request).await.unwrap().into_inner().ready, ready, "{name} {version}");
    }
    many.registration.drain().await.unwrap();
    let ready = oip::ModelReadyRequest { name: "labs".into(), ..Default::default() };
    while client.model_ready(ready.clone()).await.unwrap().into_inner().ready {}
    assert_eq!(mesh.count(r#"consilium_slo_total{expert="labs"} "#), 0);
    assert!(few.got().is_empty() && many.got().is_empty());
}

#[tokio::test]
async fn the_index_has_everything_and_the_statistics_are_everybodys() {
    let mesh = Mesh::start("").await;
    let instances = [mesh.labs(&["net"]).await, mesh.labs(&["net"]).await];
    let mut client = mesh.typed.clone();
    let mut index = async |ready: bool| {
        let request = oip::RepositoryIndexRequest { ready, ..Default::default() };
        let models = client.repository_index(request).await.unwrap().into_inner().models;
        models.into_iter().map(|it| format!("{} {} {}", it.name, it.version, it.state)).collect::<Vec<_>>()
    };
    let expected = ["clinic 1 READY", "labs 1 READY", "labs.deep 1 UNAVAILABLE", "labs.net 1 READY"];
    assert_eq!(index(false).await, expected);
    assert_eq!(index(true).await, [expected[0], expected[1], expected[3]]);

    let mut counts = async |name: &str| {
        let request = oip::ModelStatisticsRequest { name: name.into(), ..Default::default() };
        let statistics = client.model_statistics(request).await.map_err(|status| told(&status).1)?.into_inner();
        let count = |it: oip::ModelStatistics| (it.name, it.inference_count);
        Ok::<_, String>(statistics.model_stats.into_iter().map(count).collect::<Vec<_>>())
    };
    assert_eq!(counts("labs").await, Ok(vec![("labs".into(), 4)]), "two each");
    assert_eq!(counts("").await, Ok(vec![("clinic".into(), 0), ("labs.net".into(), 4)]));
    assert_eq!(counts("nobody").await, Err("UNKNOWN_MODEL".into()));
    instances[0].fall_silent();
    assert_eq!(counts("labs").await, Ok(vec![("labs".into(), 2)]), "one that does not tell is not waited for");
}

#[tokio::test]
async fn a_router_says_what_it_is_and_what_it_does_not_do() {
    let mesh = Mesh::start("").await;
    let mut client = mesh.typed.clone();
    assert!(client.server_live(oip::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(oip::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let metadata = client.server_metadata(oip::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(metadata.name, "consilium");
    let load = client.repository_model_load(oip::RepositoryModelLoadRequest::default()).await.unwrap_err();
    let unload = client.repository_model_unload(oip::RepositoryModelUnloadRequest::default()).await.unwrap_err();
    let request = oip::RepositoryIndexRequest { repository_name: "mine".into(), ..Default::default() };
    let index = client.repository_index(request).await.unwrap_err();
    for status in [load, unload, index] {
        let (code, reason, _) = told(&status);
        assert_eq!((code, reason.as_str()), (Code::Unimplemented, "UNSUPPORTED"));
    }
}
