//! The program as people run it: arguments in, text and exit code out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test stands on failing is the test failing")]

mod broken;
mod fetching;
mod files;
mod gating;
mod running;
mod scripted;
mod secured;
mod verifying;

use std::process::{Command, Output};

/// `consilium` with these arguments, to its end.
fn consilium(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_consilium")).args(arguments).output().unwrap()
}

/// The exit code, standard output and standard error.
fn said(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = consilium(arguments);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}
