//! `Debug` for messages that carry text, answers or identities: the size, never the content. A log line, a panic
//! message or a span attribute made from one of them can therefore not leak a patient's record.

use std::fmt;

use prost::Message;

use crate::{inference, v1};

macro_rules! redacted {
    ($package:ident: $($message:ident),* $(,)?) => {$(
        impl fmt::Debug for $package::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}([redacted, {} bytes])", stringify!($message), self.encoded_len())
            }
        }
    )*};
}

redacted!(
    v1: Query,
    Values,
    Part,
    Tensor,
    Blob,
    Turn,
    CallContext,
    Answer,
    Classification,
    Passages,
    Passage,
    Embedding,
    Text,
    Tensors,
    Source,
    Section,
    TextDelta,
    StreamInferResponse,
    SendFeedbackRequest,
);

redacted!(
    inference: InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
    ModelRepositoryParameter,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
);
