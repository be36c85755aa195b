//! What a registry promises: `contract` holds the one in memory and the one on etcd to the same words, `etcd` tests what
//! only a registry elsewhere has to keep. The etcd is real, one process for all tests, each with a mesh of its own.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so by a panic")]

mod contract;
mod etcd;
mod secured;
mod support;
mod up;
