//! Compiles the protos with protox: no `protoc` is needed for our own files.

use std::{env, error::Error, fs, path::PathBuf};

use prost_types::FileDescriptorSet;

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
    fs::write(out.join("streaming.rs"), streaming_methods(&set))?;

    // Server and client differ in what undecodable bytes mean, so each has a codec of its own.
    let mut messages =
        tonic_prost_build::configure().bytes(".").build_client(false).codec_path("crate::codec::ServerCodec");
    let redacted = REDACTED.iter().map(|name| format!(".consilium.v1.{name}"));
    for name in redacted.chain(REDACTED_INFERENCE.iter().map(|name| format!(".inference.{name}"))) {
        messages = messages.skip_debug([name]);
    }
    messages.compile_fds(set.clone())?;

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

/// The paths of all methods whose reply or request is a stream, as a Rust slice.
fn streaming_methods(set: &FileDescriptorSet) -> String {
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                if method.server_streaming() || method.client_streaming() {
                    paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    format!("&{paths:?}")
}
