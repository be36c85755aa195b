//! Prost over gRPC, with the blame put where it belongs: bytes that a server cannot decode are the client's mistake
//! (`INVALID_ARGUMENT`, with the field), bytes that a client cannot decode are the server's (`INTERNAL`).
//! tonic-prost says `INTERNAL` for both.

use std::marker::PhantomData;

use prost::{DecodeError, Message};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, StatusExt};

/// What generated servers use.
#[derive(Debug)]
pub struct ServerCodec<E, D>(PhantomData<(E, D)>);

/// What generated clients use.
#[derive(Debug)]
pub struct ClientCodec<E, D>(PhantomData<(E, D)>);

/// Decodes a message, or says who is to blame through `blame`.
#[derive(Debug)]
pub struct BlamingDecoder<D> {
    blame: fn(&DecodeError) -> Status,
    message: PhantomData<D>,
}

impl<D: Message + Default> Decoder for BlamingDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::decode(src).map(Some).map_err(|error| (self.blame)(&error))
    }
}

macro_rules! codec {
    ($name:ident, $blame:expr) => {
        impl<E, D> Default for $name<E, D> {
            fn default() -> Self {
                Self(PhantomData)
            }
        }

        impl<E, D> Codec for $name<E, D>
        where
            E: Message + Send + 'static,
            D: Message + Default + Send + 'static,
        {
            type Encode = E;
            type Decode = D;
            type Encoder = ProstEncoder<E>;
            type Decoder = BlamingDecoder<D>;

            fn encoder(&mut self) -> Self::Encoder {
                ProstEncoder::new(BufferSettings::default())
            }

            fn decoder(&mut self) -> Self::Decoder {
                BlamingDecoder { blame: $blame, message: PhantomData }
            }
        }
    };
}

codec!(ServerCodec, undecodable_request);
codec!(ClientCodec, undecodable_reply);

fn undecodable_request(error: &DecodeError) -> Status {
    let (field, problem) = describe(error);
    let details = ErrorDetails::with_bad_request_violation(field.clone(), problem.clone());
    let message = if field.is_empty() { problem } else { format!("{field}: {problem}") };
    Status::with_error_details(tonic::Code::InvalidArgument, message, details)
}

fn undecodable_reply(error: &DecodeError) -> Status {
    let (field, problem) = describe(error);
    Status::internal(format!("undecodable reply: {field}: {problem}"))
}

/// The path of the field (`query.text`) and what is wrong with it.
///
/// prost keeps the path private and prints it, innermost first, as `Query.text: DispatchRequest.query: <problem>`; the unit test below
/// notices when that changes.
fn describe(error: &DecodeError) -> (String, String) {
    let printed = error.to_string();
    let printed = printed.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&printed);
    let mut path = Vec::new();
    let mut rest = printed;
    while let Some((head, tail)) = rest.split_once(": ") {
        let Some((message, field)) = head.split_once('.') else {
            break;
        };
        if !message.starts_with(char::is_uppercase) || field.contains(' ') {
            break;
        }
        path.push(field);
        rest = tail;
    }
    path.reverse();
    (path.join("."), rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::DispatchRequest;

    fn decode(bytes: &[u8]) -> DecodeError {
        DispatchRequest::decode(bytes).expect_err("bytes are malformed")
    }

    #[test]
    fn invalid_utf8_names_its_field() {
        let (field, problem) = describe(&decode(&[0x0a, 3, 0x0a, 1, 0xff]));
        assert_eq!(field, "query.text");
        assert!(problem.contains("UTF-8"), "{problem}");
    }

    #[test]
    fn truncated_bytes_have_a_problem_and_no_invented_field() {
        let (_, problem) = describe(&decode(&[0x0a, 200]));
        assert!(!problem.is_empty());
        let status = undecodable_request(&decode(&[0xff, 0xff]));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
