//! The Open Inference Protocol's edge, as every server of a mesh has it: requests as tensors and back, what a model is
//! like, what it has done, and the protocol's stream. Which models there are is the server's own business.

mod contents;
mod model;
mod request;
mod statistics;
mod stream;
mod text;

pub use model::{Model, Port, Readiness, SERVER_NAME, index_entry, server_metadata};
pub use request::{ATTRIBUTES, Invalid, Reply, Request};
pub use statistics::{Call, Statistics};
pub use stream::{Asked, MOST_AT_ONCE, Streaming, replies, stream_error, stream_reply};
pub use text::{MAX_TEXTS, TextReply, answers, text_model, texts};
