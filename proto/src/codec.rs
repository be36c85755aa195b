//! Prost over gRPC, with the blame put where it belongs: bytes that a server cannot decode are the client's mistake
//! (`INVALID_ARGUMENT`, with the field), bytes that a client cannot decode are the server's (`INTERNAL`).
//! tonic-prost says `INTERNAL` for both.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, StatusExt};

/// Fields at the top of one request, repetitions counted. Two bytes make an input of the Open Inference Protocol, which
/// takes 300 in memory: without a bound, a request of 8 MiB would take 1.3 GB.
const MOST_FIELDS: usize = 16 * 1024;

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
    most_fields: usize,
    message: PhantomData<D>,
}

impl<D: Message + Default> Decoder for BlamingDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        check_fields(src.chunk(), self.most_fields)?;
        D::decode(src).map(Some).map_err(|error| (self.blame)(&error))
    }
}

macro_rules! codec {
    ($name:ident, $blame:expr, $most_fields:expr) => {
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
                BlamingDecoder { blame: $blame, most_fields: $most_fields, message: PhantomData }
            }
        }
    };
}

/// Passes messages on as the bytes they are. What is in them is somebody else's business; so is the blame.
#[derive(Debug, Default, Clone, Copy)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = BytesCodec;
    type Decoder = BytesCodec;

    fn encoder(&mut self) -> BytesCodec {
        BytesCodec
    }

    fn decoder(&mut self) -> BytesCodec {
        BytesCodec
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

codec!(ServerCodec, undecodable_request, MOST_FIELDS);
codec!(ClientCodec, undecodable_reply, usize::MAX);

pub(crate) fn undecodable_request(error: &DecodeError) -> Status {
    let (field, problem) = describe(error);
    let details = ErrorDetails::with_bad_request_violation(field.clone(), problem.clone());
    let message = if field.is_empty() { problem } else { format!("{field}: {problem}") };
    Status::with_error_details(tonic::Code::InvalidArgument, message, details)
}

fn undecodable_reply(error: &DecodeError) -> Status {
    let (field, problem) = describe(error);
    Status::internal(format!("undecodable reply: {field}: {problem}"))
}

/// Bounds the fields of an encoded request, see [`MOST_FIELDS`].
pub(crate) fn check_request(request: &[u8]) -> Result<(), Status> {
    check_fields(request, MOST_FIELDS)
}

fn check_fields(message: &[u8], most: usize) -> Result<(), Status> {
    if has_more_fields(message, most) {
        return Err(Status::invalid_argument(format!("more than {most} fields")));
    }
    Ok(())
}

/// Whether an encoded message has more than `most` fields at its top. Bytes that are no message have not: who decodes them
/// says what is wrong.
fn has_more_fields(mut message: &[u8], most: usize) -> bool {
    for _ in 0..most {
        let Ok((tag, wire_type)) = decode_key(&mut message) else {
            return false;
        };
        if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            return false;
        }
    }
    !message.is_empty()
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
    fn fields_are_counted_and_only_at_the_top() {
        let most = MOST_FIELDS * size_of::<crate::inference::model_infer_request::InferInputTensor>();
        assert!(most <= 8 << 20, "{most} bytes of memory from {} on the wire", 2 * MOST_FIELDS);
        // Field 1 with the bytes of three more inside, twice; then a group with a field.
        let message = [0x0a, 6, 0x0a, 0, 0x0a, 0, 0x0a, 0, 0x10, 1, 0x1b, 0x10, 1, 0x1c];
        assert!(has_more_fields(&message, 2));
        assert!(!has_more_fields(&message, 3));
        assert!(!has_more_fields(&[], 0));
        assert!(has_more_fields(&[0x0a, 0], 0));
        for none in [&[0x0a, 200][..], &[0xff; 12], &[0x0b; 10_000]] {
            assert!(!has_more_fields(none, 10));
        }
    }

    #[test]
    fn truncated_bytes_have_a_problem_and_no_invented_field() {
        let (_, problem) = describe(&decode(&[0x0a, 200]));
        assert!(!problem.is_empty());
        let status = undecodable_request(&decode(&[0xff, 0xff]));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
