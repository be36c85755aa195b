//! Experts come, go and die, and so does etcd; callers do not notice. Each scenario starts a mesh of real processes,
//! puts a steady load on it, does something to it and reads in the ledger what became of every request.
//!
//! Scenarios run one after the other: they share the machine's cores, and they measure. At the end the table of what was
//! measured is printed, and written to `faults.md` and `faults.json` in the target directory.

#![expect(clippy::expect_used, clippy::panic, reason = "a scenario that cannot go on says so by a panic")]

mod etcd_history;
mod kill;
mod lease;
mod newcomers;
mod outage;
mod pause;
mod rolling;
mod rotation;
mod scene;
mod second_signal;
mod stock_clients;

use std::{
    io::Write,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use consilium_tests::processes::{Report, target};
use libtest_mimic::{Arguments, Trial};
use scene::Scenario;

const COMMAND: &str = "make faults";

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let report = Arc::new(Mutex::new(Report::default()));
    let scenarios: [(&'static str, Scenario); 16] = [
        ("an_instance_is_killed", |scene| Box::pin(kill::an_instance_is_killed(scene))),
        ("all_instances_are_replaced_one_by_one", |scene| Box::pin(rolling::all_instances_are_replaced(scene))),
        ("new_subjects_join", |scene| Box::pin(newcomers::new_subjects_join(scene))),
        ("an_instance_hangs", |scene| Box::pin(pause::an_instance_hangs(scene))),
        ("an_instance_hangs_until_its_lease_runs_out", |scene| Box::pin(pause::until_its_lease_runs_out(scene))),
        ("etcd_is_away", |scene| Box::pin(outage::etcd_is_away(scene))),
        ("etcd_forgets_its_history", |scene| Box::pin(etcd_history::compacted(scene))),
        ("etcd_changes_its_leader", |scene| Box::pin(etcd_history::another_leader(scene))),
        ("etcd_loses_its_leader", |scene| Box::pin(etcd_history::no_leader(scene))),
        ("etcd_is_restored_from_an_older_snapshot", |scene| Box::pin(etcd_history::restored(scene))),
        ("a_lease_is_revoked", |scene| Box::pin(lease::revoked(scene))),
        ("all_leases_run_out_at_once", |scene| Box::pin(lease::all_revoked(scene))),
        ("all_keys_are_deleted_at_once", |scene| Box::pin(lease::all_deleted(scene))),
        ("all_certificates_are_replaced", |scene| Box::pin(rotation::all_certificates_are_replaced(scene))),
        ("stock_go_clients_find_and_call_an_expert", |scene| Box::pin(stock_clients::stock_clients(scene))),
        ("a_second_signal_ends_at_once", |scene| Box::pin(second_signal::ends_at_once(scene))),
    ];
    let trial = |(name, scenario)| {
        let report = Arc::clone(&report);
        Trial::test(name, move || {
            let rows = scene::play(name, scenario);
            report.lock().unwrap_or_else(PoisonError::into_inner).add(rows);
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, scenarios.map(trial).into());
    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    if !report.is_empty() {
        let written = report.write(&target(), COMMAND).expect("the target directory can be written");
        // The table is what this program is for; a reader who has gone away is no failure of it.
        let _ = writeln!(std::io::stdout(), "{}\nwritten to {}", report.markdown(COMMAND), written.display());
    }
    conclusion.exit_code()
}
