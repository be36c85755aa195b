//! Compiles the protos with protox: no `protoc` is needed for our own files.

use std::{env, error::Error, fs, path::PathBuf};

use prost_types::FileDescriptorSet;
use tonic_build::manual::{Method, Service};

const PROTOS: [&str; 6] = [
    "consilium/v1/types.proto",
    "consilium/v1/router.proto",
    "consilium/v1/catalog.proto",
    "consilium/v1/expert.proto",
    "inference/model_config.proto",
    "inference/grpc_service.proto",
];

/// Messages that carry what people asked, what experts answered or who somebody is. They get a `Debug` that says how
/// large they are and nothing else (`src/redacted.rs`); a test fills every message and looks for what leaks.
const REDACTED: [&str; 19] = [
    "Query",
    "Values",
    "Part",
    "Tensor",
    "Blob",
    "Turn",
    "CallContext",
    "Answer",
    "Classification",
    "Passages",
    "Passage",
    "Embedding",
    "Text",
    "Tensors",
    "Source",
    "Section",
    "TextDelta",
    "StreamInferResponse",
    "SendFeedbackRequest",
];

/// The same for tensors and their parameters, which may be texts, and for models that are sent to be loaded.
const REDACTED_INFERENCE: [&str; 8] = [
    "InferParameter",
    "InferTensorContents",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelStreamInferResponse",
    "ModelRepositoryParameter",
    "RepositoryModelLoadRequest",
    "RepositoryModelUnloadRequest",
];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=consilium");
    println!("cargo:rerun-if-changed=inference");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let set = protox::compile(PROTOS, ["."])?;
    fs::write(out.join("descriptor.bin"), protox::prost::Message::encode_to_vec(&set))?;

    // Server and client differ in what undecodable bytes mean, so each has a codec of its own.
    let mut messages =
        tonic_prost_build::configure().bytes(".").build_client(false).codec_path("crate::codec::ServerCodec");
    let redacted = REDACTED.iter().map(|name| format!(".consilium.v1.{name}"));
    for name in redacted.chain(REDACTED_INFERENCE.iter().map(|name| format!(".inference.{name}"))) {
        messages = messages.skip_debug([name]);
    }
    messages.compile_fds(set.clone())?;

    let raw = out.join("raw");
    fs::create_dir_all(&raw)?;
    for (file, server) in [("server", true), ("client", false)] {
        let place = raw.join(file);
        fs::create_dir_all(&place)?;
        let builder = tonic_build::manual::Builder::new().out_dir(place).build_server(server).build_client(!server);
        builder.compile(&[passing_through(&set, server)?]);
    }

    let clients = out.join("client");
    fs::create_dir_all(&clients)?;
    tonic_prost_build::configure()
        .out_dir(&clients)
        .build_server(false)
        .extern_path(".consilium.v1", "crate::v1")
        .extern_path(".inference", "crate::inference")
        .codec_path("crate::codec::ClientCodec")
        .compile_fds(set)?;
    Ok(())
}

/// The Open Inference Protocol as somebody between client and server sees it: tensors are bytes that are passed on.
fn passing_through(set: &FileDescriptorSet, server: bool) -> Result<Service, Box<dyn Error>> {
    let mut files = set.file.iter().filter(|file| file.package() == "inference").flat_map(|file| &file.service);
    let service = files.next().ok_or("no service in the package `inference`")?;
    let codec = if server { "crate::codec::ServerCodec" } else { "crate::codec::ClientCodec" };
    let mut passing = Service::builder().name(service.name()).package("inference");
    for method in &service.method {
        let of = |name: &str| format!("crate::inference::{}", name.trim_start_matches(".inference."));
        let carries_tensors = ["ModelInfer", "ModelStreamInfer"].contains(&method.name());
        let (input, output, codec) = if carries_tensors {
            ("bytes::Bytes".to_owned(), "bytes::Bytes".to_owned(), "crate::codec::BytesCodec")
        } else {
            (of(method.input_type()), of(method.output_type()), codec)
        };
        let mut passed = Method::builder()
            .name(snake_case(method.name()))
            .route_name(method.name())
            .input_type(input)
            .output_type(output)
            .codec_path(codec);
        if method.client_streaming() {
            passed = passed.client_streaming();
        }
        if method.server_streaming() {
            passed = passed.server_streaming();
        }
        passing = passing.method(passed.build());
    }
    Ok(passing.build())
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}
