//! Other people's clients, against a mesh of real processes: Triton's, KServe's, grpcurl, perf_analyzer, and the ONNX
//! project's own test models. Each is a program of its own, written in its own language; here they are started, and what
//! they say is passed on. Beside them the table of bad input.
//!
//! All of them share one mesh, and run one after the other.

#![expect(clippy::expect_used, reason = "a client that cannot go on says so by a panic")]

mod bad_input;
mod clients;
mod killed;
mod wire;

use std::{fs, process::ExitCode, sync::Arc};

use consilium_tests::processes::{Lab, target};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let mut trials = clients::all();
    trials.push(("bad_input", Box::new(|lab, runtime| runtime.block_on(bad_input::table(lab)))));
    trials.push(("an_instance_is_killed", Box::new(|lab, runtime| runtime.block_on(killed::an_instance(lab)))));
    let logs = target().join("conformance");
    if arguments.list || trials.iter().all(|(name, _)| is_left_out(&arguments, name)) {
        return libtest_mimic::run(
            &arguments,
            trials.into_iter().map(|(name, _)| Trial::test(name, || Ok(()))).collect(),
        )
        .exit_code();
    }
    let _ = fs::remove_dir_all(&logs);
    let lab = Arc::new(runtime.block_on(Lab::start(&logs)));
    let trial = |(name, run): (&'static str, clients::Run)| {
        let (lab, runtime) = (Arc::clone(&lab), Arc::clone(&runtime));
        let trial = Trial::test(name, move || {
            run(&lab, &runtime);
            Ok(())
        });
        trial.with_ignored_flag(clients::cannot_be_had(name))
    };
    libtest_mimic::run(&arguments, trials.into_iter().map(trial).collect()).exit_code()
}

fn is_left_out(arguments: &Arguments, name: &str) -> bool {
    arguments.filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str()))
}
