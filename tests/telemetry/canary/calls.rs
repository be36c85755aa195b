//! Words put into every field of every method, rightly and wrongly.

use bytes::Bytes;
use consilium_proto::{
    inference::{
        InferParameter, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
        ModelRepositoryParameter, ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
        RepositoryModelUnloadRequest, ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
        infer_parameter::ParameterChoice, model_infer_request::InferRequestedOutputTensor,
        model_repository_parameter::ParameterChoice as OfRepository,
    },
    v1::{
        self,
        send_feedback_request::{Metric, metric::Value},
    },
};
use prost::Message;
use tonic::Code;

use super::{
    marks::{
        Kind::{self, Content, Feedback, Name, Request},
        Marks,
    },
    wire::Call,
};
use crate::asking::{CHEST, WARFARIN, clinicians, dispatch, infer, query, text_tensor, to};

const ROUTER: &str = "consilium.v1.RouterService";
const EXPERT: &str = "consilium.v1.ExpertService";
const CATALOG: &str = "consilium.v1.CatalogService";
const OIP: &str = "inference.GRPCInferenceService";

/// A call, and what is special about it.
pub(super) struct Row {
    pub(super) what: String,
    pub(super) call: Call,
}

/// Rows that are refused as what is not served, by whoever knows the method.
const NOT_SERVED: [&str; 3] = ["a name or version that there is not", "shared memory", "grpc-encoding"];
/// Rows that nobody knows the method of.
const NOWHERE: [&str; 3] = ["a method that there is not", "a service that there is not", "a path that is none"];
/// Rows that get no status: streams that go on until they are left, and what servers of HTTP refuse themselves.
const WITHOUT_STATUS: [&str; 4] = ["health, watched", "the catalogue, watched", "x-huge", "content-type"];
/// Rows with nothing wrong in them.
const SOUND: [&str; 3] = ["the catalogue", "a server", "a comment"];

impl Row {
    /// Whether such a call ends so. What a mesh says of calls that went nowhere shows nothing of those that were to get
    /// somewhere: a method whose name is wrong must not pass.
    pub(super) fn may_end(&self, code: Option<Code>, message: &str) -> bool {
        let is_of = |rows: &[&str]| rows.contains(&self.what.as_str());
        match code {
            None => is_of(&WITHOUT_STATUS),
            Some(Code::Unknown) => false,
            // Servers say nothing of methods that they do not know.
            Some(Code::Unimplemented) if message.is_empty() => is_of(&NOWHERE),
            Some(Code::Unimplemented) => is_of(&NOT_SERVED),
            // Those with headers of their own ask an expert that there is.
            Some(Code::NotFound) => self.call.headers.is_empty() && !is_of(&SOUND),
            Some(Code::Ok) => !is_of(&NOWHERE),
            Some(_) => !is_of(&SOUND),
        }
    }
}

fn row(what: impl Into<String>, method: &str, message: &impl Message) -> Row {
    let call = Call { method: method.to_owned(), message: message.encode_to_vec().into(), ..Call::default() };
    Row { what: what.into(), call }
}

/// What a router is asked, in every way of asking.
pub(super) fn router(marks: &mut Marks) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, request) in questions(marks) {
        let v1::DispatchRequest { query, context, options } = request.clone();
        let stream = v1::StreamDispatchRequest { query, context, options };
        let v1::StreamDispatchRequest { query, context, options } = stream.clone();
        let explain = v1::ExplainRequest { query, context, options };
        let dispatch = row(what, &format!("{ROUTER}/Dispatch"), &request);
        let web = Call { web: true, ..dispatch.call.clone() };
        rows.push(Row { what: format!("{what}, from a page"), call: web });
        rows.push(dispatch);
        rows.push(row(what, &format!("{ROUTER}/StreamDispatch"), &stream));
        rows.push(row(what, &format!("{ROUTER}/Explain"), &explain));
    }
    rows.extend(headers(marks, &format!("{ROUTER}/Dispatch"), &dispatch(clinicians(WARFARIN))));
    rows.extend(bytes(marks, &format!("{ROUTER}/Dispatch")));
    rows.push(row("the catalogue", &format!("{CATALOG}/ListExperts"), &v1::ListExpertsRequest {}));
    rows.push(row("the catalogue, watched", &format!("{CATALOG}/WatchExperts"), &v1::WatchExpertsRequest {}));
    rows.extend(inference(marks, &["tensors", "diagnostic-reasoning", "clinic"]));
    rows.extend(others(marks));
    rows
}

/// What an expert is asked, by whoever does without the router.
pub(super) fn expert(marks: &mut Marks, expert: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, request) in questions(marks) {
        let v1::DispatchRequest { query, context, .. } = request;
        let expert = expert.to_owned();
        let embedding = None;
        let infer = v1::InferRequest { expert, query, context, embedding };
        let v1::InferRequest { expert, query, context, embedding } = infer.clone();
        rows.push(row(what, &format!("{EXPERT}/Infer"), &infer));
        let stream = v1::StreamInferRequest { expert, query, context, embedding };
        rows.push(row(what, &format!("{EXPERT}/StreamInfer"), &stream));
    }
    for (what, name) in [("itself", expert.to_owned()), ("another expert", marks.word(Name, "expert"))] {
        let infer = v1::InferRequest { expert: name.clone(), query: Some(query(WARFARIN)), ..Default::default() };
        rows.push(row(what, &format!("{EXPERT}/Infer"), &infer));
        rows.push(row(what, &format!("{EXPERT}/Describe"), &v1::DescribeRequest { expert: name }));
    }
    let vector = v1::Embedding { model_digest: marks.word(Content, "embedding.model_digest"), vector: vec![0.5; 3] };
    let query = Some(query(&marks.word(Content, "query.text beside a vector of another model")));
    let infer = v1::InferRequest { expert: expert.to_owned(), query, context: None, embedding: Some(vector) };
    rows.push(row("a vector of another model", &format!("{EXPERT}/Infer"), &infer));
    let sound = Some(clinicians(WARFARIN));
    let sound = v1::InferRequest { expert: expert.to_owned(), query: sound, ..Default::default() };
    rows.extend(headers(marks, &format!("{EXPERT}/Infer"), &sound));
    rows.extend(bytes(marks, &format!("{EXPERT}/Infer")));
    rows.extend(inference(marks, &[expert]));
    rows.extend(others(marks));
    rows
}

/// What is said about an answer. `token` belongs to one.
pub(super) fn feedback(marks: &mut Marks, token: &str) -> Vec<Row> {
    let said = |what: &str, token: &str, name: &str, value| {
        let metrics = vec![Metric { name: name.to_owned(), value: Some(value) }];
        let request = v1::SendFeedbackRequest { token: token.to_owned(), metrics };
        row(what, &format!("{ROUTER}/SendFeedback"), &request)
    };
    let text = |marks: &mut Marks, kind, field: &str| Value::Text(marks.word(kind, field));
    let long = marks.word(Content, "a comment that is too long").repeat(200);
    vec![
        said("a comment", token, "comment", text(marks, Feedback, "comment")),
        said("another kind of value", token, "helpful", text(marks, Content, "feedback helpful")),
        said("a comment that is too long", token, "comment", Value::Text(long)),
        said("a metric that there is not", token, &marks.word(Name, "feedback metric"), Value::Number(1.0)),
        said("a number out of its range", token, "rating", Value::Number(99.0)),
        said("no token of ours", &marks.word(Content, "token"), "helpful", Value::Boolean(true)),
        said(
            "a token that was changed",
            &format!("{token}{}", marks.word(Content, "token's end")),
            "helpful",
            Value::Boolean(true),
        ),
    ]
}

/// Every way to ask, and every way for a question to end.
fn questions(marks: &mut Marks) -> Vec<(&'static str, v1::DispatchRequest)> {
    let mut text = |about: &str| format!("{about} {}", marks.word(Content, "query.text"));
    let mut all = vec![
        ("a question", dispatch(clinicians(&text(WARFARIN)))),
        ("a case", dispatch(clinicians(&text(CHEST)))),
        ("out of scope", dispatch(query(&text("What is the best recipe for sourdough bread?")))),
        ("answered by a mirror", to("mirror", query(&text("mirror mirror")))),
        ("too late", to("sleeper", query(&text("sleeper sleeper")))),
        ("failed", to("breaker", query(&text("breaker breaker")))),
        ("told as a story", to("storyteller", query(&text("storyteller storyteller")))),
        ("asked again elsewhere", to("stumbler", query(&text("stumbler stumbler")))),
        ("served by nobody", to("absent", query(&text("absent absent")))),
        ("of nothing but spaces", dispatch(query("   "))),
    ];
    all.push(("everything that a query may have", everything(marks, false)));
    all.push(("parts of every kind", everything(marks, true)));
    let named = |values: Vec<String>, name: String| {
        let values = [(name, v1::Values { values })].into();
        dispatch(v1::Query { attributes: values, ..query(WARFARIN) })
    };
    let values = vec![marks.word(Content, "value of a declared attribute")];
    all.push(("an attribute's undeclared value", named(values, "audience".into())));
    let values = vec![marks.word(Content, "value of an undeclared attribute")];
    all.push(("an undeclared attribute", named(values, marks.word(Name, "attribute"))));
    all.push(("an expert that there is not", to(&marks.word(Name, "options.experts"), query(WARFARIN))));
    let versions = |expert: String, version: String| {
        let options = v1::DispatchOptions { versions: [(expert, version)].into(), ..Default::default() };
        v1::DispatchRequest { options: Some(options), ..dispatch(clinicians(WARFARIN)) }
    };
    let version = marks.word(Name, "options.versions");
    all.push(("a version that there is not", versions("drug-interactions".into(), version)));
    let of_nobody = marks.word(Name, "options.versions' expert");
    all.push(("a version of nobody", versions(of_nobody, "1".into())));
    for (what, field) in [("an id that is none", "request_id"), ("a tenant that is none", "tenant")] {
        let word = format!("{} with spaces\u{7}", marks.word(Request, field));
        let context = match field {
            "tenant" => v1::CallContext { tenant: word, ..Default::default() },
            _ => v1::CallContext { request_id: word, ..Default::default() },
        };
        all.push((what, v1::DispatchRequest { context: Some(context), ..dispatch(clinicians(WARFARIN)) }));
    }
    let options = v1::DispatchOptions { top_k: Some(0), min_confidence: Some(7.0), ..Default::default() };
    let wrong = query(&marks.word(Content, "query.text beside wrong options"));
    all.push(("wrong options", v1::DispatchRequest { options: Some(options), ..dispatch(wrong) }));
    let long = marks.word(Content, "a long query.text").repeat(20_000);
    all.push(("a long text", dispatch(query(&long))));
    all
}

/// A query with every field, by a caller who says everything of themselves.
fn everything(marks: &mut Marks, parts: bool) -> v1::DispatchRequest {
    let mut asked = clinicians(&format!("{WARFARIN} {}", marks.word(Content, "query.text")));
    asked.labels = [
        ("ward".to_owned(), marks.word(Content, "value of a label")),
        (marks.word(Content, "name of a label"), "north".to_owned()),
        ("document".to_owned(), marks.word(Content, "value of a label that a rule reads")),
    ]
    .into();
    let turn = |role: v1::turn::Role, text| v1::Turn { role: role.into(), text };
    asked.context = vec![
        turn(v1::turn::Role::User, marks.word(Content, "what was said before")),
        turn(v1::turn::Role::Assistant, marks.word(Content, "what was answered before")),
    ];
    if parts {
        asked.parts = self::parts(marks);
    }
    let context = v1::CallContext {
        request_id: marks.word(Request, "request_id"),
        tenant: marks.word(Request, "tenant"),
        tier: marks.word(Content, "tier"),
        subject: marks.word(Content, "subject"),
        purpose: marks.word(Content, "purpose"),
        priority: v1::Priority::Critical.into(),
    };
    v1::DispatchRequest { context: Some(context), ..dispatch(asked) }
}

fn parts(marks: &mut Marks) -> Vec<v1::Part> {
    use v1::{blob, part::Content as Part};
    let mut word = |field: &str| marks.word(Content, field);
    let text = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(word("value in a record"))) };
    let record = prost_types::Struct { fields: [(word("name in a record"), text)].into() };
    let tensor = v1::Tensor {
        name: word("name of a tensor"),
        datatype: word("datatype of a tensor"),
        shape: vec![-1],
        data: word("data of a tensor").into_bytes().into(),
    };
    let blob = |content, mime_type, sha256| v1::Blob { mime_type, sha256, content: Some(content) };
    let data = blob(blob::Content::Data(word("data of a blob").into_bytes().into()), word("mime_type"), word("sha256"));
    let uri = blob(blob::Content::Uri(format!("file:///{}", word("uri"))), "text/plain".into(), String::new());
    let contents = [
        Part::Text(word("text of a part")),
        Part::Record(record),
        Part::Tensor(tensor),
        Part::Blob(data),
        Part::Blob(uri),
    ];
    contents.map(|content| v1::Part { content: Some(content) }).into()
}

/// One sound question, with headers that are not, or that nobody has to know.
fn headers(marks: &mut Marks, method: &str, sound: &impl Message) -> Vec<Row> {
    let message = Bytes::from(sound.encode_to_vec());
    let service = method.split('/').next().unwrap_or_default();
    let mut rows = Vec::new();
    let mut with = |what: &str, method: String, headers: Vec<(&'static str, String)>| {
        rows.push(Row { what: what.into(), call: Call { method, headers, message: message.clone(), web: false } });
    };
    let encoding = marks.word(Name, "grpc-encoding");
    let mut word = |field: &str| marks.word(Content, field);
    for (name, value) in [
        ("x-patient", word("a header")),
        ("authorization", format!("Bearer {}", word("authorization"))),
        ("cookie", format!("session={}", word("cookie"))),
        ("user-agent", word("user-agent")),
        ("x-request-id", word("x-request-id")),
        ("x-forwarded-for", word("x-forwarded-for")),
        ("baggage", format!("patient={}", word("baggage"))),
        ("traceparent", word("traceparent")),
        ("traceparent", format!("00-{}-{}-01", word("the trace in traceparent"), word("the span in traceparent"))),
        ("tracestate", word("tracestate without traceparent")),
        ("grpc-timeout", word("grpc-timeout")),
        // gRPC itself names it back.
        ("grpc-encoding", encoding),
        ("grpc-accept-encoding", word("grpc-accept-encoding")),
        ("content-type", format!("application/{}", word("content-type"))),
        ("content-type", format!("application/grpc+{}", word("content-type of gRPC"))),
        ("grpc-trace-bin", word("grpc-trace-bin")),
        ("consilium-router-id", word("consilium-router-id")),
        ("x-huge", word("a huge header").repeat(2000)),
    ] {
        with(name, method.to_owned(), vec![(name, value)]);
    }
    let state = vec![
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ("tracestate", format!("vendor={}", word("tracestate of a trace"))),
    ];
    with("the state of a trace", method.to_owned(), state);
    let now = vec![("grpc-timeout", "1n".to_owned()), ("x-patient", word("a header of a call without time"))];
    with("no time at all", method.to_owned(), now);
    with("a method that there is not", format!("{service}/{}", word("a method")), Vec::new());
    with("a service that there is not", format!("{}.Service/Method", word("a service")), Vec::new());
    with("a path that is none", word("a path"), Vec::new());
    rows
}

/// Bytes that are no message.
fn bytes(marks: &mut Marks, method: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut send = |what: &str, message: Vec<u8>| {
        let call = Call { method: method.to_owned(), message: message.into(), ..Call::default() };
        rows.push(Row { what: what.into(), call });
    };
    let whole = dispatch(query(&marks.word(Content, "a message that is cut off"))).encode_to_vec();
    send("a message that is cut off", whole[..whole.len() - 1].to_vec());
    let mut broken = dispatch(query(&format!("{}!", marks.word(Content, "text that is not UTF-8")))).encode_to_vec();
    if let Some(last) = broken.last_mut() {
        *last = 0xff;
    }
    send("text that is not UTF-8", broken);
    send("no protobuf", marks.word(Content, "no protobuf").into_bytes());
    let mut unknown = vec![0xfa, 0x3f, 0x20];
    unknown.extend(marks.word(Content, "a field that there is not").into_bytes());
    unknown.resize(35, b'x');
    send("a field that there is not", unknown);
    send("more than a message may have", marks.word(Content, "a huge message").repeat(500_000).into_bytes());
    rows
}

/// Every method of the Open Inference Protocol.
fn inference(marks: &mut Marks, models: &[&str]) -> Vec<Row> {
    let mut rows = vec![
        row("a server", &format!("{OIP}/ServerLive"), &ServerLiveRequest {}),
        row("a server", &format!("{OIP}/ServerReady"), &ServerReadyRequest {}),
        row("a server", &format!("{OIP}/ServerMetadata"), &ServerMetadataRequest {}),
    ];
    let mut names: Vec<(String, String)> =
        models.iter().map(|name| ((*name).to_owned(), marks.word(Name, "model_version"))).collect();
    names.push((marks.word(Name, "model_name"), "1".to_owned()));
    names.push((
        format!("{}.{}", marks.word(Name, "expert in model_name"), marks.word(Name, "model in model_name")),
        String::new(),
    ));
    for (name, version) in names {
        let mut push = |method: &str, message: Vec<u8>| {
            let call = Call { method: format!("{OIP}/{method}"), message: message.into(), ..Call::default() };
            rows.push(Row { what: "a name or version that there is not".into(), call });
        };
        let (of, at) = (|| name.clone(), || version.clone());
        push("ModelReady", ModelReadyRequest { name: of(), version: at() }.encode_to_vec());
        push("ModelMetadata", ModelMetadataRequest { name: of(), version: at() }.encode_to_vec());
        push("ModelConfig", ModelConfigRequest { name: of(), version: at() }.encode_to_vec());
        push("ModelStatistics", ModelStatisticsRequest { name: of(), version: at() }.encode_to_vec());
        let asked = ModelInferRequest { model_name: of(), model_version: at(), ..text_tensor("", WARFARIN) };
        push("ModelInfer", asked.encode_to_vec());
        push("ModelStreamInfer", asked.encode_to_vec());
        let (repository_name, model_name) = (marks.word(Name, "repository_name"), of());
        let config = ModelRepositoryParameter {
            parameter_choice: Some(OfRepository::StringParam(marks.word(Content, "config of a model to load"))),
        };
        let file = OfRepository::BytesParam(marks.word(Content, "file of a model to load").into_bytes().into());
        let file = ModelRepositoryParameter { parameter_choice: Some(file) };
        let parameters =
            [("config".to_owned(), config), (format!("file:{}", marks.word(Name, "name of a file to load")), file)]
                .into();
        push(
            "RepositoryIndex",
            RepositoryIndexRequest { repository_name: repository_name.clone(), ready: false }.encode_to_vec(),
        );
        let load =
            RepositoryModelLoadRequest { repository_name: repository_name.clone(), model_name: of(), parameters };
        push("RepositoryModelLoad", load.encode_to_vec());
        let unload = RepositoryModelUnloadRequest { repository_name, model_name, ..Default::default() };
        // What is asked of here is asked again later.
        if !models.contains(&name.as_str()) {
            push("RepositoryModelUnload", unload.encode_to_vec());
        }
    }
    for model in models {
        for (what, request) in tensors(marks, model) {
            rows.push(row(what, &format!("{OIP}/ModelInfer"), &request));
            rows.push(row(what, &format!("{OIP}/ModelStreamInfer"), &request));
        }
    }
    rows
}

fn tensors(marks: &mut Marks, model: &str) -> Vec<(&'static str, ModelInferRequest)> {
    let text = |marks: &mut Marks, field: &str| {
        let text = format!("{CHEST} {}", marks.word(Content, field));
        ModelInferRequest { id: marks.word(Request, "id"), ..text_tensor(model, &text) }
    };
    let parameter = |value| InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value)) };
    let mut all = vec![("a text", text(marks, "a text as a tensor"))];
    let mut with = text(marks, "a text with parameters");
    with.parameters = [
        ("attributes.audience".to_owned(), parameter(marks.word(Content, "a parameter's declared attribute"))),
        (
            format!("attributes.{}", marks.word(Name, "attribute in a parameter")),
            parameter(marks.word(Content, "a parameter's attribute")),
        ),
        (marks.word(Name, "a parameter"), parameter(marks.word(Content, "value of a parameter"))),
    ]
    .into();
    all.push(("parameters", with));
    let mut shared = text(marks, "a text beside shared memory");
    shared.inputs[0].parameters =
        [("shared_memory_region".to_owned(), parameter(marks.word(Content, "shared_memory_region")))].into();
    all.push(("shared memory", shared));
    let mut named = text(marks, "a text under another name");
    named.inputs[0].name = marks.word(Name, "name of an input");
    all.push(("an input that there is not", named));
    let mut typed = text(marks, "a text of another datatype");
    typed.inputs[0].datatype = marks.word(Content, "datatype");
    all.push(("a datatype that there is not", typed));
    let mut asked = text(marks, "a text, asked for another output");
    asked.outputs =
        vec![InferRequestedOutputTensor { name: marks.word(Name, "name of an output"), ..Default::default() }];
    all.push(("an output that there is not", asked));
    let data = marks.word(Content, "bytes without a length").into_bytes();
    all.push(("bytes without a length", infer(model, [("text", "BYTES", vec![1], data)])));
    let data = marks.word(Content, "data of the wrong size").into_bytes();
    all.push(("data of the wrong size", infer(&format!("{model}.add-sub"), [("a", "FP32", vec![1, 16], data)])));
    all
}

/// Health and reflection, which every server has.
fn others(marks: &mut Marks) -> Vec<Row> {
    // Field 1 of a health check is the service; field 3 of a reflection's request is a file's name, 4 a symbol.
    let field = |number: u8, word: String| {
        let mut bytes = vec![number << 3 | 2, u8::try_from(word.len()).expect("words are short")];
        bytes.extend(word.into_bytes());
        bytes
    };
    let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let rows = [
        ("health", "grpc.health.v1.Health/Check", field(1, marks.word(Name, "service in a health check"))),
        ("health, watched", "grpc.health.v1.Health/Watch", field(1, marks.word(Name, "service in a health watch"))),
        ("reflection of a file", reflection, field(3, marks.word(Name, "file in reflection"))),
        ("reflection of a symbol", reflection, field(4, marks.word(Name, "symbol in reflection"))),
    ];
    let of = |(what, method, message): (&str, &str, Vec<u8>)| {
        let call = Call { method: method.to_owned(), message: message.into(), ..Call::default() };
        Row { what: what.to_owned(), call }
    };
    rows.map(of).into()
}

/// All kinds that a word in a reply to the caller may be of, and why.
pub(super) const ECHOED: [(Kind, &str); 1] =
    [(Name, "whoever asks for something that there is not is told the name that they said, so that they can mend it")];
