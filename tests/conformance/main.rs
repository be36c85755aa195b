//! Other people's clients, against a mesh of real processes: Triton's, KServe's, grpcurl, perf_analyzer, and the ONNX
//! project's own test models. Each is a program of its own, written in its own language; here they are started, and what
//! they say is passed on. Beside them the table of bad input.
//!
//! All of those share one mesh, and run one after the other. The cases that our own clients have in common run against
//! another, the one that is shipped, and end in a table.

#![expect(clippy::expect_used, clippy::panic, reason = "a client that cannot go on says so by a panic")]

mod bad_input;
mod cases;
mod clients;
mod killed;
mod routers;
mod wire;

use std::{fs, path::Path, process::ExitCode, sync::Arc};

use consilium_tests::processes::{Lab, target};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

/// Of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let mut trials = clients::all();
    trials.push(("bad_input", Box::new(|lab, runtime| runtime.block_on(bad_input::table(lab)))));
    trials.push(("an_instance_is_killed", Box::new(|lab, runtime| runtime.block_on(killed::an_instance(lab)))));
    let cases = cases::Cases::new(&runtime);
    let routers = routers::Routers::new(&runtime);
    let logs = target().join("conformance");
    let runs = |(name, _): &(&'static str, clients::Run)| !is_left_out(&arguments, name);
    if !arguments.list {
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).expect("a directory for logs can be made");
    }
    // Where none of its trials runs, their mesh need not either.
    let lab = (!arguments.list && trials.iter().any(runs)).then(|| Arc::new(runtime.block_on(Lab::start(&logs))));
    let trial = |(name, run): (&'static str, clients::Run)| {
        let (lab, runtime) = (lab.clone(), Arc::clone(&runtime));
        let trial = Trial::test(name, move || {
            if let Some(lab) = &lab {
                run(lab, &runtime);
            }
            Ok(())
        });
        trial.with_ignored_flag(clients::cannot_be_had(name))
    };
    let trials = trials.into_iter().map(trial).chain(cases.trials()).chain(routers.trials()).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    cases.report();
    conclusion.exit_code()
}

fn is_left_out(arguments: &Arguments, name: &str) -> bool {
    arguments.filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str()))
}

/// Whether `make setup` found out, and said, that a component of it cannot be had on this machine. One that is merely not
/// there is a failure.
fn cannot_be_had(component: &str) -> bool {
    Path::new(ROOT).join(".tools/stamps").join(format!("{component}-missing")).exists()
}
