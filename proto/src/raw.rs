//! The Open Inference Protocol for somebody in the middle: requests and replies that carry tensors stay the bytes they
//! are. All that is read of them is the envelope.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, check_wire_type, decode_key, encode_key, encode_varint},
};
use tonic::Status;

use crate::{
    codec,
    inference::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse, infer_parameter},
};

#[expect(clippy::default_constructed_unit_structs, reason = "generated code")]
mod server {
    include!(concat!(env!("OUT_DIR"), "/raw/server/inference.GRPCInferenceService.rs"));
}

#[expect(clippy::default_constructed_unit_structs, reason = "generated code")]
mod client {
    include!(concat!(env!("OUT_DIR"), "/raw/client/inference.GRPCInferenceService.rs"));
}

pub use crate::codec::BytesCodec;
pub use client::g_r_p_c_inference_service_client::GRPCInferenceServiceClient as Client;
pub use server::g_r_p_c_inference_service_server::{
    GRPCInferenceService as Service, GRPCInferenceServiceServer as Server, SERVICE_NAME,
};

/// What a `ModelInferRequest` says before its tensors. The rest is passed over, not copied.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Envelope {
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// An integer as text, or empty.
    #[prost(string, tag = "2")]
    pub model_version: String,
    #[prost(string, tag = "3")]
    pub id: String,
}

impl Envelope {
    /// Reads the envelope of an encoded `ModelInferRequest`. Whoever reads all of it reads the same envelope.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the bytes are no message.
    pub fn of(request: &Bytes) -> Result<Self, Status> {
        codec::check_request(request)?;
        // A clone of the handle: reading moves it forward.
        Self::read(request.clone()).map_err(|error| codec::undecodable_request(&error))
    }

    fn read(mut request: Bytes) -> Result<Self, DecodeError> {
        /// The last field of `ModelInferRequest`.
        const RAW_INPUT_CONTENTS: u32 = 7;
        let mut envelope = Self::default();
        while request.has_remaining() {
            let (tag, wire_type) = decode_key(&mut request)?;
            // All of its fields are delimited by a length. prost reads the entry of a map without looking whether it is,
            // but passes over it as what it says to be: the two of us would then read two different requests.
            if tag <= RAW_INPUT_CONTENTS {
                check_wire_type(WireType::LengthDelimited, wire_type)?;
            }
            envelope.merge_field(tag, wire_type, &mut request, DecodeContext::default())?;
        }
        Ok(envelope)
    }
}

/// Opens an encoded `ModelInferRequest`, for whoever answers some of them and passes the others on.
///
/// # Errors
/// `INVALID_ARGUMENT` when the bytes are no message.
pub fn open(request: Bytes) -> Result<ModelInferRequest, Status> {
    codec::check_request(&request)?;
    ModelInferRequest::decode(request).map_err(|error| codec::undecodable_request(&error))
}

/// The parameter by which a reply on a stream says that it is the last one to its request.
pub const FINAL: &str = "triton_final_response";

/// An encoded `ModelStreamInferResponse` around an encoded `ModelInferResponse`, which is made to say that it is
/// [`FINAL`].
pub fn stream_reply(reply: &Bytes) -> Bytes {
    const INFER_RESPONSE: u32 = 2;
    // What is appended to an encoded message is merged into it: nothing has to be opened for one parameter more.
    let last = ModelInferResponse {
        parameters: [(
            FINAL.to_owned(),
            InferParameter { parameter_choice: Some(infer_parameter::ParameterChoice::BoolParam(true)) },
        )]
        .into(),
        ..ModelInferResponse::default()
    };
    let length = reply.len() + last.encoded_len();
    let mut message = BytesMut::with_capacity(length + 16);
    encode_key(INFER_RESPONSE, WireType::LengthDelimited, &mut message);
    encode_varint(length as u64, &mut message);
    message.put_slice(reply);
    message.put(last.encode_to_vec().as_slice());
    message.freeze()
}

/// An encoded `ModelStreamInferResponse` that tells of a failure, and of the request whose it is.
pub fn stream_error(id: &str, status: &Status) -> Bytes {
    let reply = ModelInferResponse { id: id.to_owned(), ..ModelInferResponse::default() };
    let message = ModelStreamInferResponse { error_message: error_message(status), infer_response: Some(reply) };
    message.encode_to_vec().into()
}

/// A stream's words for a failure, which are never none: without any, a reply would look like a good one.
pub fn error_message(status: &Status) -> String {
    let message = status.message();
    if message.is_empty() { status.code().description().to_owned() } else { message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_read_whatever_else_there_is() {
        let request = ModelInferRequest {
            model_name: "labs.densenet".to_owned(),
            model_version: "3".to_owned(),
            id: "one".to_owned(),
            parameters: [("priority".to_owned(), InferParameter::default())].into(),
            raw_input_contents: vec![vec![0xff; 1000].into()],
            ..Default::default()
        };
        let bytes = Bytes::from(request.encode_to_vec());
        let envelope = Envelope::of(&bytes).unwrap();
        let Envelope { model_name, model_version, id } = envelope;
        assert_eq!((model_name.as_str(), model_version.as_str(), id.as_str()), ("labs.densenet", "3", "one"));
        assert_eq!(Envelope::of(&bytes.slice(..bytes.len() - 1)).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_would_fill_the_memory_is_not_read() {
        // A parameter whose key says that it is a number, of 4 bytes length, or of 4; and in it, or after it, a name.
        let smuggled = Bytes::from_static(&[0x0a, 1, b'a', 0x20, 4, 0x0a, 2, b'b', b'c']);
        assert_eq!(ModelInferRequest::decode(smuggled.clone()).unwrap().model_name, "a");
        assert_eq!(Envelope::decode(smuggled.clone()).unwrap().model_name, "bc");
        assert_eq!(Envelope::of(&smuggled).unwrap_err().code(), tonic::Code::InvalidArgument);
        let unknown = Bytes::from_static(&[0x0a, 1, b'a', 0x40, 4, 0x0a, 1, b'b']);
        assert_eq!(Envelope::of(&unknown).unwrap().model_name, "b");
        assert_eq!(ModelInferRequest::decode(unknown).unwrap().model_name, "b");
        let crowd = Bytes::from([0x2a, 0].repeat(1 << 20));
        assert_eq!(Envelope::of(&crowd).unwrap_err().message(), "more than 16384 fields");
        assert!(open(crowd).is_err());
        let name = Bytes::from_static(&[0x0a, 1, 0xff]);
        assert!(Envelope::of(&name).unwrap_err().message().starts_with("model_name: "));
    }

    #[test]
    fn a_reply_is_wrapped_without_being_opened() {
        let reply = ModelInferResponse {
            model_name: "m".to_owned(),
            raw_output_contents: vec![vec![1, 2, 3].into()],
            ..Default::default()
        };
        let wrapped = stream_reply(&Bytes::from(reply.encode_to_vec()));
        let opened = ModelStreamInferResponse::decode(wrapped).unwrap();
        assert!(opened.error_message.is_empty());
        let mut opened_reply = opened.infer_response.unwrap();
        assert!(opened_reply.parameters.remove(FINAL).is_some());
        assert!(opened_reply == reply);
    }

    #[test]
    fn a_failure_always_has_words_and_an_owner() {
        for (status, words) in
            [(Status::not_found("no such model"), "no such model"), (Status::internal(""), "Internal error")]
        {
            let opened = ModelStreamInferResponse::decode(stream_error("one", &status)).unwrap();
            assert_eq!(opened.error_message, words);
            assert_eq!(opened.infer_response.unwrap().id, "one");
        }
    }
}
