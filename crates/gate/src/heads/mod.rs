//! The heads: each turns a query's vector into one kind of evidence. They are fitted from vectors and class numbers
//! and know nothing of experts, texts or decisions; `blend` gives their numbers a meaning.

pub(crate) mod linear;
pub(crate) mod prototype;
