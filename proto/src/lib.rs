//! The contract as Rust types. What lives here is generated, or is needed to make the generated code safe to use:
//! the codecs, the redacted `Debug`, the descriptor set. No logic of the mesh.

mod codec;
pub mod raw;
mod redacted;

/// Messages and server traits of `consilium.v1`.
#[expect(clippy::large_enum_variant, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("consilium.v1");
}

/// Messages and server trait of `inference.GRPCInferenceService`, the Open Inference Protocol in Triton's dialect.
#[expect(clippy::doc_markdown, reason = "generated code")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// Clients of both.
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/client/consilium.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/client/inference.rs"));
}

/// Every file of the contract with what it imports, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
