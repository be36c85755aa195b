//! The Open Inference Protocol: what clients ask and what they are told.

use bytes::Bytes;
use consilium_proto::{
    client::grpc_inference_service_client::GrpcInferenceServiceClient,
    inference::{
        InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse,
        ModelMetadataRequest, ModelReadyRequest, ModelStatistics, ModelStatisticsRequest, RepositoryIndexRequest,
        ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
};
use futures::stream;
use tonic::{Request, Status, codec::CompressionEncoding};

use super::*;

pub(super) type Client = GrpcInferenceServiceClient<Channel>;

pub(super) fn oip(expert: &Handle) -> Client {
    GrpcInferenceServiceClient::new(channel(expert))
}

pub(super) fn fixtures() -> PathBuf {
    let models = root().join("models/build/fixtures/repository");
    assert!(models.join("add-sub/1/model.onnx").is_file(), "run `make setup`");
    models
}

/// An expert called `lab` over the models of the fixtures' repository that are named.
async fn lab(house: &House, models: &[&str]) -> Handle {
    let (dir, load) = (fixtures().display().to_string(), models.join(", "));
    house.start("lab", &format!("{{kind: tensors, repository: '{dir}', model: {}, load: [{load}]}}", models[0])).await
}

/// A request with raw contents.
pub(super) fn raw(model: &str, inputs: &[(&str, &str, &[i64], &[u8])]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: inputs.iter().map(|(name, datatype, shape, _)| input(name, datatype, shape)).collect(),
        raw_input_contents: inputs.iter().map(|(.., data)| Bytes::copy_from_slice(data)).collect(),
        ..Default::default()
    }
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

fn requested(names: &[&str]) -> Vec<InferRequestedOutputTensor> {
    names.iter().map(|name| InferRequestedOutputTensor { name: (*name).to_owned(), ..Default::default() }).collect()
}

pub(super) fn fp32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn to_fp32(data: &[u8]) -> Vec<f32> {
    data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
}

fn strings<S: AsRef<[u8]>>(texts: &[S]) -> Vec<u8> {
    let prefixed = |text: &S| [&(text.as_ref().len() as u32).to_le_bytes(), text.as_ref()].concat();
    texts.iter().flat_map(prefixed).collect()
}

fn to_strings(mut data: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        data = rest;
    }
    texts
}

/// `add-sub` on rows of 16 equal numbers.
pub(super) fn add_sub(model: &str, a: f32, b: f32) -> ModelInferRequest {
    raw(model, &[("a", "FP32", &[1, 16], &fp32(&[a; 16])), ("b", "FP32", &[1, 16], &fp32(&[b; 16]))])
}

pub(super) fn texts(model: &str, id: &str, texts: &[&str]) -> ModelInferRequest {
    let request = raw(model, &[("text", "BYTES", &[i64::try_from(texts.len()).unwrap()], &strings(texts))]);
    ModelInferRequest { id: id.to_owned(), ..request }
}

/// The raw contents of the outputs, by name, in the order of the reply.
fn outputs(reply: &ModelInferResponse) -> Vec<(&str, &[u8])> {
    assert_eq!(reply.outputs.len(), reply.raw_output_contents.len());
    let names = reply.outputs.iter().map(|output| output.name.as_str());
    names.zip(reply.raw_output_contents.iter().map(AsRef::as_ref)).collect()
}

pub(super) async fn infer(client: &mut Client, request: ModelInferRequest) -> ModelInferResponse {
    client.model_infer(request).await.unwrap().into_inner()
}

pub(super) async fn refused(client: &mut Client, request: ModelInferRequest) -> Status {
    client.model_infer(request).await.unwrap_err()
}

/// What programs read of a status.
pub(super) fn read(status: &Status) -> (Code, String, String) {
    let field = errors::violations(status).into_iter().next().map(|violation| violation.field);
    (status.code(), errors::reason(status).unwrap_or_default(), field.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensors_of_every_datatype_come_back_as_they_went() {
    let house = House::new();
    let wide = |width: usize| (0..6 * width as u8).collect::<Vec<u8>>();
    let table = [
        ("BOOL", vec![1, 0, 0, 1, 1, 0]),
        ("UINT8", wide(1)),
        ("UINT16", wide(2)),
        ("UINT32", wide(4)),
        ("UINT64", wide(8)),
        ("INT8", wide(1)),
        ("INT16", wide(2)),
        ("INT32", wide(4)),
        ("INT64", wide(8)),
        ("FP16", wide(2)),
        ("BF16", wide(2)),
        ("FP32", fp32(&[0.0, -1.5, f32::MAX, f32::INFINITY, f32::NAN, 1e-40])),
        ("FP64", wide(8)),
        ("BYTES", strings(&["", "a", "ß", "\u{1F600}", " ", "long enough for two words"])),
    ];
    let models: Vec<String> =
        table.iter().map(|(datatype, _)| format!("identity-{}", datatype.to_lowercase())).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let expert = lab(&house, &models).await;
    let mut client = oip(&expert);
    for ((datatype, data), model) in table.iter().zip(models) {
        let request = raw(&format!("lab.{model}"), &[("x", datatype, &[2, 3], data)]);
        let reply = infer(&mut client, ModelInferRequest { id: "seven".to_owned(), ..request }).await;
        assert_eq!(outputs(&reply), [("y", data.as_slice())], "{datatype}");
        let output = &reply.outputs[0];
        assert_eq!((output.datatype.as_str(), output.shape.as_slice()), (*datatype, &[2, 3][..]));
        let told = (reply.model_name.as_str(), reply.model_version.as_str(), reply.id.as_str());
        assert_eq!(told, (format!("lab.{model}").as_str(), "1", "seven"));

        let empty = infer(&mut client, raw(&format!("lab.{model}"), &[("x", datatype, &[0, 3], &[])])).await;
        assert_eq!((outputs(&empty), empty.outputs[0].shape.as_slice()), (vec![("y", &[][..])], &[0, 3][..]));
    }
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_contents_are_read_and_answered_raw() {
    let house = House::new();
    let expert = lab(&house, &["identity-fp32", "identity-int8", "identity-bytes"]).await;
    let mut client = oip(&expert);
    let typed = |model: &str, datatype: &str, contents| ModelInferRequest {
        model_name: format!("lab.{model}"),
        inputs: vec![InferInputTensor { contents: Some(contents), ..input("x", datatype, &[1, 2]) }],
        ..Default::default()
    };
    let contents = InferTensorContents { fp32_contents: vec![0.5, -2.0], ..Default::default() };
    let reply = infer(&mut client, typed("identity-fp32", "FP32", contents.clone())).await;
    assert_eq!(outputs(&reply), [("y", fp32(&[0.5, -2.0]).as_slice())]);
    let int8 = InferTensorContents { int_contents: vec![-1, 7], ..Default::default() };
    let reply = infer(&mut client, typed("identity-int8", "INT8", int8)).await;
    assert_eq!(outputs(&reply), [("y", &[255, 7][..])]);
    let texts = ["a", ""].map(|text| Bytes::from_static(text.as_bytes())).to_vec();
    let bytes = InferTensorContents { bytes_contents: texts, ..Default::default() };
    let reply = infer(&mut client, typed("identity-bytes", "BYTES", bytes)).await;
    assert_eq!(outputs(&reply), [("y", strings(&["a", ""]).as_slice())]);

    let mut both = typed("identity-fp32", "FP32", contents);
    both.raw_input_contents = vec![fp32(&[0.5, -2.0]).into()];
    assert_eq!(refused(&mut client, both).await.code(), Code::InvalidArgument);
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_without_a_batch_dimension_and_with_optional_inputs_are_served() {
    let house = House::new();
    let expert = lab(&house, &["scalar", "no-batch", "optional-input", "unknown-rank"]).await;
    let mut client = oip(&expert);
    let scalars = raw("lab", &[("a", "FP32", &[], &fp32(&[1.0])), ("b", "FP32", &[], &fp32(&[2.5]))]);
    let reply = infer(&mut client, scalars).await;
    assert_eq!((outputs(&reply), reply.outputs[0].shape.len()), (vec![("y", fp32(&[3.5]).as_slice())], 0));

    let rows = raw("lab.no-batch", &[("x", "FP32", &[2, 3], &fp32(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]))]);
    assert_eq!(outputs(&infer(&mut client, rows).await), [("y", fp32(&[11.0, 22.0, 33.0]).as_slice())]);

    let x = fp32(&[1.0, 2.0, 3.0, 4.0]);
    let with_all = [("x", "FP32", &[1_i64, 4][..], x.as_slice()), ("scale", "FP32", &[], &fp32(&[10.0]))];
    let scaled = infer(&mut client, raw("lab.optional-input", &with_all)).await;
    assert_eq!(outputs(&scaled), [("y", fp32(&[10.0, 20.0, 30.0, 40.0]).as_slice())]);
    infer(&mut client, raw("lab.optional-input", &with_all[..1])).await;

    let cube: Vec<u8> = [2_i64, 1, 2].iter().flat_map(|size| size.to_le_bytes()).collect();
    let shaped = raw("lab.unknown-rank", &[("x", "FP32", &[1, 4], &x), ("shape", "INT64", &[3], &cube)]);
    assert_eq!(infer(&mut client, shaped).await.outputs[0].shape, [2, 1, 2]);
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_is_given_and_what_clients_send_along_is_passed_over() {
    let house = House::new();
    let expert = lab(&house, &["add-sub"]).await;
    let mut client = oip(&expert);
    let all = infer(&mut client, add_sub("lab", 1.0, 2.0)).await;
    assert_eq!(all.model_version, "2", "the highest version");
    let names: Vec<&str> = outputs(&all).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["sum", "difference"], "the model's own order");

    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let one = ModelInferRequest {
        model_version: "2".to_owned(),
        outputs: requested(&["difference"]),
        parameters: [
            ("priority".to_owned(), parameter(ParameterChoice::Uint64Param(1))),
            ("timeout".to_owned(), parameter(ParameterChoice::Int64Param(1))),
            ("triton_enable_empty_final_response".to_owned(), parameter(ParameterChoice::BoolParam(true))),
            ("sequence_id".to_owned(), parameter(ParameterChoice::StringParam("s".to_owned()))),
        ]
        .into(),
        ..add_sub("lab.add-sub", 1.0, 2.5)
    };
    let one = infer(&mut client, one).await;
    assert_eq!(outputs(&one), [("difference", fp32(&[-1.5; 16]).as_slice())]);

    for wrong in [&["quotient"][..], &["sum", "sum"]] {
        let request = ModelInferRequest { outputs: requested(wrong), ..add_sub("lab", 1.0, 2.0) };
        let (code, reason, field) = read(&refused(&mut client, request).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(field, format!("outputs[{}]", wrong[0]));
    }
    let mut compressed = oip(&expert).send_compressed(CompressionEncoding::Gzip);
    assert_eq!(outputs(&infer(&mut compressed, add_sub("lab", 1.0, 2.0)).await), outputs(&all));
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tensors_are_refused_with_the_field_in_the_protocol_s_words() {
    let house = House::new();
    let expert = lab(&house, &["add-sub"]).await;
    let mut client = oip(&expert);
    let (good, short) = (fp32(&[0.0; 16]), fp32(&[0.0; 15]));
    let a = ("a", "FP32", &[1_i64, 16][..], good.as_slice());
    let table = [
        (vec![a], "inputs[b]"),
        (vec![a, ("b", "FP64", &[1, 16], &good)], "inputs[b]"),
        (vec![a, ("b", "FP32", &[1, 16], &short)], "inputs[b]"),
        (vec![a, ("b", "FP32", &[16], &good)], "inputs[b].shape"),
        (vec![a, ("b", "FP32", &[1, 15], &short)], "inputs[b].shape"),
        (vec![a, ("b", "FP32", &[-1, 16], &good)], "inputs[b].shape"),
        (vec![a, ("b", "FP32", &[i64::MAX, 16], &good)], "inputs[b]"),
        (vec![a, ("b", "FP32", &[1, 16], &good), ("c", "FP32", &[1, 16], &good)], "inputs[2].name"),
        (vec![a, a], "inputs[a]"),
    ];
    for (inputs, expected) in table {
        let (code, reason, field) = read(&refused(&mut client, raw("lab", &inputs)).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{expected}");
        assert!(field.starts_with(expected), "{field} is not {expected}");
    }
    infer(&mut client, add_sub("lab", 1.0, 2.0)).await;
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_is_not_found_and_not_ready() {
    let house = House::new();
    let tensors = lab(&house, &["add-sub"]).await;
    let texts = house.start("embed", "{kind: embed, model: tiny-text}").await;
    let (tensors_client, texts_client) = (oip(&tensors), oip(&texts));
    let table = [
        (&tensors_client, "lab", "", None),
        (&tensors_client, "lab", "2", None),
        (&tensors_client, "lab", "1", Some("model_version")),
        (&tensors_client, "lab.add-sub", "2", None),
        (&tensors_client, "lab.add-sub", "02", Some("model_version")),
        (&tensors_client, "add-sub", "", Some("model_name")),
        (&tensors_client, "lab.add-su", "", Some("model_name")),
        (&tensors_client, "lab.", "", Some("model_name")),
        (&tensors_client, "laboratory", "", Some("model_name")),
        (&tensors_client, "", "", Some("model_name")),
        (&texts_client, "embed", "1", None),
        (&texts_client, "embed", "3", Some("model_version")),
        (&texts_client, "embed.tiny-text", "1", None),
        (&texts_client, "tiny-text", "", Some("model_name")),
    ];
    for (client, name, version, wrong) in table {
        let (mut client, name, version) = (client.clone(), name.to_owned(), version.to_owned());
        let metadata = ModelMetadataRequest { name: name.clone(), version: version.clone() };
        let metadata = client.model_metadata(metadata).await.map(|told| told.into_inner().name);
        let config = ModelConfigRequest { name: name.clone(), version: version.clone() };
        let config = client.model_config(config).await.map(|told| told.into_inner().config.unwrap().name);
        let ready = ModelReadyRequest { name: name.clone(), version: version.clone() };
        assert_eq!(client.model_ready(ready).await.unwrap().into_inner().ready, wrong.is_none(), "{name} {version}");
        match wrong {
            None => assert_eq!((metadata.unwrap(), config.unwrap()), (name.clone(), name)),
            Some(field) => {
                let asked = ModelInferRequest { model_version: version, ..raw(&name, &[]) };
                for status in [metadata.unwrap_err(), config.unwrap_err(), refused(&mut client, asked).await] {
                    let expected = (Code::NotFound, "UNKNOWN_MODEL".to_owned(), field.to_owned());
                    assert_eq!(read(&status), expected, "{name}");
                }
            }
        }
    }
    tensors.stop().await;
    texts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_its_models_say_what_they_are() {
    let house = House::new();
    let expert = lab(&house, &["add-sub", "scalar"]).await;
    let mut client = oip(&expert);
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server.name, "consilium");
    assert!(server.extensions.iter().any(|extension| extension == "statistics"));

    let asked = ModelMetadataRequest { name: "lab".to_owned(), version: String::new() };
    let metadata = client.model_metadata(asked).await.unwrap().into_inner();
    assert_eq!((metadata.versions, metadata.platform.as_str()), (vec!["2".to_owned()], "onnxruntime_onnx"));
    let shapes: Vec<_> = metadata.inputs.iter().map(|input| (input.name.as_str(), input.shape.as_slice())).collect();
    assert_eq!(shapes, [("a", &[-1, 16][..]), ("b", &[-1, 16])]);

    let asked = |name: &str| ModelConfigRequest { name: name.to_owned(), version: String::new() };
    let config = client.model_config(asked("lab.add-sub")).await.unwrap().into_inner().config.unwrap();
    assert!(config.max_batch_size > 1, "requests for it are joined");
    assert_eq!(config.input[0].dims, [16], "without the batch dimension");
    let config = client.model_config(asked("lab.scalar")).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.max_batch_size, config.input[0].dims.len()), (0, 0));
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_not_joined_where_the_file_says_so() {
    for (rows, expected) in [(1, 0), (5, 5)] {
        // Loads of one store share a model, with the options of the first.
        let house = House::new();
        let dir = fixtures().display().to_string();
        let task =
            format!("{{kind: tensors, repository: '{dir}', load: [add-sub], model: add-sub, batch_rows: {rows}}}");
        let expert = house.start("lab", &task).await;
        let asked = ModelConfigRequest { name: "lab".to_owned(), version: String::new() };
        let config = oip(&expert).model_config(asked).await.unwrap().into_inner().config.unwrap();
        assert_eq!(config.max_batch_size, expected);
        expert.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_answered_all_together_or_not_at_all() {
    let house = House::new();
    let expert = house.start("triage", "{kind: classify, model: tiny-classify}").await;
    let mut client = oip(&expert);
    let reply = infer(&mut client, texts("triage", "q", &["red", "green", "blue"])).await;
    let [answer, by, confidence, ids] = outputs(&reply)[..] else { panic!("{} outputs", reply.outputs.len()) };
    assert_eq!([answer.0, by.0, confidence.0, ids.0], ["answer", "expert", "confidence", "request_id"]);
    assert_eq!(to_strings(by.1), ["triage"; 3]);
    assert_eq!(to_strings(ids.1), ["q/0", "q/1", "q/2"]);
    let answers = to_strings(answer.1);
    for ((text, answer), confidence) in ["red", "green", "blue"].iter().zip(&answers).zip(to_fp32(confidence.1)) {
        let json: serde_json::Value = serde_json::from_str(answer).unwrap();
        let alone = self::answer(&expert, self::text(text)).await;
        let Some(v1::answer::Body::Classification(alone)) = alone.body else { panic!("no classification") };
        let labels = &json["classification"]["heads"][0]["labels"];
        assert_eq!(labels[0]["name"], alone.heads[0].labels[0].name.as_str());
        assert!((labels[0]["probability"].as_f64().unwrap() - f64::from(confidence)).abs() < 1e-6);
    }
    let one = infer(&mut client, texts("triage", "q", &["red"])).await;
    assert_eq!(to_strings(outputs(&one)[3].1), ["q"]);
    let wanted = ModelInferRequest { outputs: requested(&["confidence"]), ..texts("triage", "", &["red"]) };
    assert_eq!(outputs(&infer(&mut client, wanted).await), [("confidence", outputs(&one)[2].1)]);

    for (wrong, field) in
        [(&["red", " ", "blue"][..], "inputs[text][1]"), (&["red", &"a".repeat(70_000)], "inputs[text][1]")]
    {
        let expected = (Code::InvalidArgument, "INVALID_REQUEST".to_owned(), field.to_owned());
        assert_eq!(read(&refused(&mut client, texts("triage", "", wrong)).await), expected);
    }
    let unknown = ModelInferRequest { outputs: requested(&["verdict"]), ..texts("triage", "", &["red"]) };
    assert_eq!(refused(&mut client, unknown).await.code(), Code::InvalidArgument);
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_answers_in_order_and_outlives_an_error() {
    let house = House::new();
    let expert = lab(&house, &["add-sub"]).await;
    let mut client = oip(&expert);
    let requests = || {
        let named = |id: &str, request| ModelInferRequest { id: id.to_owned(), ..request };
        stream::iter([
            named("one", add_sub("lab", 1.0, 0.0)),
            named("two", raw("lab.none", &[])),
            named("three", add_sub("lab", 3.0, 0.0)),
        ])
    };
    let mut replies = client.model_stream_infer(requests()).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        let inner = reply.infer_response.unwrap_or_default();
        let last = inner.parameters.get("triton_final_response").and_then(|last| last.parameter_choice.clone());
        let good = reply.error_message.is_empty();
        assert!(last == good.then_some(ParameterChoice::BoolParam(true)));
        let first = inner.raw_output_contents.first().map(|sum| to_fp32(sum)[0]);
        told.push((inner.id, good, first));
    }
    // Version 2 adds a hundred.
    let expected = [("one", true, Some(101.0)), ("two", false, None), ("three", true, Some(103.0))];
    assert_eq!(told, expected.map(|(id, good, first)| (id.to_owned(), good, first)));

    let mut strict = Request::new(requests());
    strict.metadata_mut().insert("triton_grpc_error", "true".parse().unwrap());
    let mut replies = client.model_stream_infer(strict).await.unwrap().into_inner();
    assert!(replies.message().await.unwrap().unwrap().error_message.is_empty());
    assert_eq!(read(&replies.message().await.expect_err("the error ends it")).1, "UNKNOWN_MODEL");
    expert.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_ends_well_when_the_expert_leaves() {
    let house = House::new();
    let expert = lab(&house, &["add-sub"]).await;
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let requests = stream::unfold(requests, |mut requests| async { Some((requests.recv().await?, requests)) });
    let mut replies = oip(&expert).model_stream_infer(requests).await.unwrap().into_inner();
    sender.send(add_sub("lab", 1.0, 2.0)).unwrap();
    assert!(replies.message().await.unwrap().is_some());
    let report = expert.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert!(replies.message().await.unwrap().is_none());
    drop(sender);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_count_every_call() {
    let house = House::new();
    let tensors = lab(&house, &["add-sub", "scalar"]).await;
    let texts_expert = house.start("embed", "{kind: embed, model: tiny-text}").await;
    let mut client = oip(&tensors);
    for _ in 0..3 {
        infer(&mut client, add_sub("lab", 1.0, 2.0)).await;
    }
    refused(&mut client, raw("lab.add-sub", &[])).await;
    let counted = told(&mut client, "lab.add-sub").await.remove(0);
    let counts = counted.inference_stats.unwrap();
    assert_eq!((counted.name.as_str(), counted.version.as_str()), ("lab.add-sub", "2"));
    assert_eq!((counted.inference_count, counts.fail.unwrap().count), (3, 1));
    for (what, count) in [("success", counts.success), ("queue", counts.queue), ("infer", counts.compute_infer)] {
        assert_eq!(count.unwrap().count, 3, "{what}");
    }
    assert!(counts.success.unwrap().ns > 0 && counted.execution_count >= 1 && !counted.batch_stats.is_empty());
    let all: Vec<String> = told(&mut client, "").await.into_iter().map(|one| one.name).collect();
    assert_eq!(all, ["lab.add-sub", "lab.scalar"]);
    assert_eq!(told(&mut client, "lab").await[0].inference_count, 3, "the same model by its other name");

    let mut client = oip(&texts_expert);
    infer(&mut client, texts("embed", "", &["cat", "dog"])).await;
    let all = told(&mut client, "").await;
    assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["embed", "embed.tiny-text"]);
    assert_eq!((all[0].inference_count, all[0].execution_count), (2, 1));
    let unknown = ModelStatisticsRequest { name: "dog".to_owned(), version: String::new() };
    assert_eq!(client.model_statistics(unknown).await.expect_err("unknown").code(), Code::NotFound);
    tensors.stop().await;
    texts_expert.stop().await;
}

pub(super) async fn told(client: &mut Client, name: &str) -> Vec<ModelStatistics> {
    let request = ModelStatisticsRequest { name: name.to_owned(), version: String::new() };
    client.model_statistics(request).await.unwrap().into_inner().model_stats
}

/// Name, version, state and reason of every line.
pub(super) async fn index(client: &mut Client, ready: bool) -> Vec<[String; 4]> {
    let request = RepositoryIndexRequest { repository_name: String::new(), ready };
    let index = client.repository_index(request).await.unwrap().into_inner();
    index.models.into_iter().map(|line| [line.name, line.version, line.state, line.reason]).collect()
}
