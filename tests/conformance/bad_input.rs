//! The table of bad input: what is sent to an expert and through the router, and what comes back. After every row the
//! server that was sent it answers a sound request within the expert's objective.

use std::{fmt::Write as _, io::Write as _, net::SocketAddr};

use bytes::Bytes;
use consilium_mesh::errors;
use consilium_proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use consilium_tests::processes::Lab;
use flate2::{Compression, write::GzEncoder};
use prost::Message;
use tonic::{Code, Status};

use crate::wire::{self, Call};

/// What is sent, and what has to come back.
struct Row {
    what: &'static str,
    send: Call,
    code: Code,
    /// How the first violation's field begins, or the message where no field is to blame.
    names: &'static str,
}

/// Sends every row to both, and prints what came back.
pub(crate) async fn table(lab: &Lab) {
    let (expert, router, triage) = (lab.tensors[0].address(), lab.router.address(), lab.triage.address());
    let mut printed = String::from("| sent | status | an expert says | the router says |\n| --- | --- | --- | --- |\n");
    let mut wrong = Vec::new();
    for row in rows() {
        let reads_texts = row.what.starts_with("token ids");
        let mut said = Vec::new();
        for address in [if reads_texts { triage } else { expert }, router] {
            let (code, says) = told(&row.send.clone().send(address).await);
            if code != row.code || !says.starts_with(row.names) {
                wrong.push(format!("{}: {code:?} {says:?}, expected {:?} {:?}", row.what, row.code, row.names));
            }
            if let Err(status) = sound(if address == triage { expert } else { address }).await {
                wrong.push(format!("{}: the next caller got {status}", row.what));
            }
            said.push(says);
        }
        let code = consilium_mesh::metrics::code_name(row.code);
        let routers = if said[0] == said[1] { "the same" } else { &said[1] };
        let _ = writeln!(printed, "| {} | `{code}` | {} | {routers} |", row.what, said[0]);
    }
    for address in [expert, router] {
        // More than there may be calls at once.
        let idle = wire::idle_streams(address, 1280).await;
        if let Err(status) = sound(address).await {
            wrong.push(format!("1,280 idle streams of requests: the next caller got {status}"));
        }
        drop(idle);
        for (what, told) in connections(address).await {
            let _ = writeln!(printed, "| {what} | | {told} | |");
            if let Err(status) = sound(address).await {
                wrong.push(format!("{what}: the next caller got {status}"));
            }
        }
    }
    let _ = writeln!(std::io::stdout(), "\n{printed}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a connection gets that keeps to no rules.
async fn connections(address: SocketAddr) -> [(&'static str, String); 3] {
    let http1 = wire::http1(address).await.map_or("kept open".to_owned(), |_| "the connection is closed".to_owned());
    assert_eq!(http1, "the connection is closed");
    let told = |(refused, closed): (usize, bool)| {
        assert!(refused > 0 || closed, "nothing was refused");
        format!("{}{refused} streams refused", if closed { "the connection is closed, " } else { "" })
    };
    [
        ("HTTP/1", http1),
        ("10,000 streams at once", told(wire::streams(address, 10_000, false).await)),
        ("10,000 streams, each reset at once", told(wire::streams(address, 10_000, true).await)),
    ]
}

/// A sound request, which must be answered within the objective.
async fn sound(address: SocketAddr) -> Result<(), Status> {
    let slo = format!("{}m", Lab::SLO.as_millis());
    let slo: &'static str = Box::leak(slo.into_boxed_str());
    let call = Call { headers: vec![("grpc-timeout", slo)], ..Call::of(&request().encode_to_vec()) };
    let reply = call.send(address).await?;
    let reply = ModelInferResponse::decode(reply.slice(5..)).expect("a reply is a message");
    assert_right(&reply);
    Ok(())
}

/// The status and what it says: the field that is to blame where there is one, else the message.
fn told(answer: &Result<Bytes, Status>) -> (Code, String) {
    match answer {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => {
            let says = errors::violations(status).into_iter().next();
            let says = says.map(|violation| match violation.field.as_str() {
                "" => violation.problem,
                field => format!("{field}: {}", violation.problem),
            });
            (status.code(), says.unwrap_or_else(|| status.message().to_owned()))
        }
    }
}

fn rows() -> Vec<Row> {
    let mut rows = shapes_and_names();
    rows.extend(contents());
    rows.extend(bytes());
    rows
}

fn shapes_and_names() -> Vec<Row> {
    use Code::{InvalidArgument, NotFound, Unimplemented};
    let shape = |shape: &[i64]| changed(|request| request.inputs[0].shape = shape.to_vec());
    vec![
        row("more dimensions than the model's", shape(&[1, 16, 1]), InvalidArgument, "inputs[a].shape"),
        row("fewer dimensions", shape(&[16]), InvalidArgument, "inputs[a].shape"),
        row("another size of a fixed dimension", shape(&[1, 15]), InvalidArgument, "inputs[a]"),
        row("a negative dimension", shape(&[-1, 16]), InvalidArgument, "inputs[a].shape"),
        row("the smallest dimension there is", shape(&[i64::MIN, 16]), InvalidArgument, "inputs[a].shape"),
        row("a huge dimension", shape(&[i64::MAX, 16]), InvalidArgument, "inputs[a]"),
        row("dimensions whose product overflows", shape(&[i64::MAX, i64::MAX]), InvalidArgument, "inputs[a].shape"),
        row("a million dimensions", shape(&vec![1; 1_000_000]), InvalidArgument, "inputs[a].shape"),
        row(
            "fewer bytes than the shape says",
            changed(|request| request.raw_input_contents[0] = vec![0; 63].into()),
            InvalidArgument,
            "inputs[a]",
        ),
        row(
            "another datatype",
            changed(|request| request.inputs[0].datatype = "INT32".into()),
            InvalidArgument,
            "inputs[a].datatype",
        ),
        row(
            "a datatype that is none",
            changed(|request| request.inputs[0].datatype = "FLOAT".into()),
            InvalidArgument,
            "inputs[a].datatype",
        ),
        row(
            "a missing input",
            changed(|request| {
                request.inputs.pop();
                request.raw_input_contents.pop();
            }),
            InvalidArgument,
            "inputs[b]",
        ),
        row(
            "an input that there is not",
            changed(|request| request.inputs[1].name = "c".into()),
            InvalidArgument,
            "inputs[1].name",
        ),
        row("an input twice", changed(|request| request.inputs[1].name = "a".into()), InvalidArgument, "inputs[a]"),
        row(
            "no input at all",
            changed(|request| {
                request.inputs.clear();
                request.raw_input_contents.clear();
            }),
            InvalidArgument,
            "inputs",
        ),
        row("an unknown expert", changed(|request| request.model_name = "nobody".into()), NotFound, "model_name"),
        row(
            "an unknown model",
            changed(|request| request.model_name = "tensors.nothing".into()),
            NotFound,
            "model_name",
        ),
        row("no model", changed(|request| request.model_name.clear()), NotFound, "model_name"),
        row("an unknown version", changed(|request| request.model_version = "99".into()), NotFound, "model_version"),
        row(
            "a version that is no number",
            changed(|request| request.model_version = "latest".into()),
            NotFound,
            "model_version",
        ),
        row(
            "an unknown output",
            changed(|request| {
                request.outputs.push(InferRequestedOutputTensor { name: "product".into(), ..Default::default() });
            }),
            InvalidArgument,
            "outputs[",
        ),
        row(
            "an input in shared memory",
            changed(|request| {
                let region = ParameterChoice::StringParam("region".into());
                let region = InferParameter { parameter_choice: Some(region) };
                request.inputs[0].parameters.insert("shared_memory_region".into(), region);
            }),
            Unimplemented,
            "inputs[a]",
        ),
    ]
}

fn contents() -> Vec<Row> {
    use Code::InvalidArgument;
    let text = |data: &[u8], elements: i64| {
        changed(|request| {
            request.model_name = "tensors.identity-bytes".into();
            request.inputs = vec![input("x", "BYTES", &[1, elements])];
            request.raw_input_contents = vec![Bytes::copy_from_slice(data)];
        })
    };
    let ids = |id: i64| {
        changed(|request| {
            request.model_name = "triage.clinic-diagnostic".into();
            request.inputs = vec![input("input_ids", "INT64", &[1, 1]), input("attention_mask", "INT64", &[1, 1])];
            request.raw_input_contents = [id, 1].map(|value| Bytes::copy_from_slice(&value.to_le_bytes())).into();
        })
    };
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0].repeat(4);
    let special: Bytes = special.iter().flat_map(|value| value.to_le_bytes()).collect();
    vec![
        row(
            "NaN and infinity, which are numbers",
            changed(|request| request.raw_input_contents[0] = special),
            Code::Ok,
            "",
        ),
        row(
            "a million elements",
            changed(|request| {
                request.model_name = "tensors.identity-fp32".into();
                request.inputs = vec![input("x", "FP32", &[1000, 1000])];
                request.raw_input_contents = vec![vec![0; 4_000_000].into()];
            }),
            Code::Ok,
            "",
        ),
        row(
            "raw and typed contents",
            changed(|request| {
                request.inputs[0].contents =
                    Some(InferTensorContents { fp32_contents: vec![0.0; 16], ..Default::default() });
            }),
            InvalidArgument,
            "inputs[a]",
        ),
        row(
            "fewer raw contents than inputs",
            changed(|request| {
                request.raw_input_contents.pop();
            }),
            InvalidArgument,
            "raw_input_contents",
        ),
        row(
            "typed contents of another datatype",
            changed(|request| {
                request.raw_input_contents.clear();
                for input in &mut request.inputs {
                    input.contents = Some(InferTensorContents { int_contents: vec![0; 16], ..Default::default() });
                }
            }),
            InvalidArgument,
            "inputs[a].contents",
        ),
        row("a string's length beyond the end", text(&[9, 0, 0, 0, b'x'], 1), InvalidArgument, "inputs[x].data"),
        row("half a string's length", text(&[1, 0], 1), InvalidArgument, "inputs[x].data"),
        row("fewer strings than the shape says", text(&[1, 0, 0, 0, b'x'], 2), InvalidArgument, "inputs[x].data"),
        row("a string that is not UTF-8", text(&[1, 0, 0, 0, 0xff], 1), InvalidArgument, "inputs[x].data"),
        row("token ids outside the vocabulary", ids(1 << 40), InvalidArgument, "inputs[input_ids].data"),
        row("token ids below zero", ids(-1), InvalidArgument, "inputs[input_ids].data"),
    ]
}

fn bytes() -> Vec<Row> {
    use Code::InvalidArgument;
    let good = request().encode_to_vec();
    let mut name = vec![0x0a, 2, 0xc3, 0x28];
    name.extend(&good);
    let timeout = |value: &'static str| Call { headers: vec![("grpc-timeout", value)], ..Call::of(&good) };
    let bytes = |what, bytes: &[u8], names| row(what, Call::of(bytes), InvalidArgument, names);
    let cut_off = Call { body: wire::frame(0, &good).slice(..20), ..Call::default() };
    vec![
        bytes("a message that is cut off", &good[..good.len() - 1], ""),
        bytes("a length beyond the end", &[0x0a, 200], ""),
        bytes("groups in groups in groups", &[0x0b; 10_000], ""),
        bytes("a name that is not UTF-8", &name, "model_name"),
        bytes("a varint without an end", &[0xff; 12], ""),
        row("a gRPC frame that is cut off", cut_off, Code::Internal, ""),
        row("9 MiB", Call::of(&vec![0; 9 << 20]), Code::OutOfRange, ""),
        row(
            "64 MiB of zeros in 64 KiB of gzip",
            Call::of_compressed("gzip", &gzip(64 << 20)),
            Code::ResourceExhausted,
            "",
        ),
        row("gzip that is none", Call::of_compressed("gzip", b"no gzip"), Code::Internal, ""),
        row("an encoding that nobody has", Call::of_compressed("snappy", &good), Code::Unimplemented, ""),
        row("grpc-timeout: banana", timeout("banana"), InvalidArgument, ""),
        row("grpc-timeout: -1S", timeout("-1S"), InvalidArgument, ""),
        row("grpc-timeout: 999999999999H", timeout("999999999999H"), InvalidArgument, ""),
    ]
}

fn row(what: &'static str, send: Call, code: Code, names: &'static str) -> Row {
    Row { what, send, code, names }
}

/// The sound request with a change.
fn changed(change: impl FnOnce(&mut ModelInferRequest)) -> Call {
    let mut request = request();
    change(&mut request);
    Call::of(&request.encode_to_vec())
}

/// What `request` asks is answered by the difference: the sum depends on the version that is served.
pub(crate) fn assert_right(reply: &ModelInferResponse) {
    assert_eq!(reply.raw_output_contents[1], (-1.0f32).to_le_bytes().repeat(16), "1 - 2");
}

/// 1 and 2, sixteen times.
pub(crate) fn request() -> ModelInferRequest {
    let sixteen = |value: f32| value.to_le_bytes().repeat(16).into();
    ModelInferRequest {
        model_name: "tensors.add-sub".into(),
        inputs: vec![input("a", "FP32", &[1, 16]), input("b", "FP32", &[1, 16])],
        raw_input_contents: vec![sixteen(1.0), sixteen(2.0)],
        ..Default::default()
    }
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.into(), datatype: datatype.into(), shape: shape.to_vec(), ..Default::default() }
}

fn gzip(zeros: usize) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&vec![0; zeros]).expect("a vector takes bytes");
    gzip.finish().expect("a vector takes bytes")
}
