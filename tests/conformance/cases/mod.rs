//! One list of cases, `cases.yaml`, through every client: our libraries in four languages (Python's by both of its clients),
//! Triton's client, and our own command line, all against the mesh that is shipped, as separate processes on etcd. Ends in a
//! table of cases and clients.
//!
//! A case is read (`case`), put to a client (`drivers`, `cli`), what comes becomes facts (`observe`), and those are held against
//! what is expected (`expect`); of feedback, also what the router wrote down of it (`journal`). Beyond what the cases expect, the libraries have to agree with each other (`agree`).

mod agree;
mod case;
mod cli;
mod documented;
mod drivers;
mod expect;
mod journal;
mod observe;
mod table;

use std::{
    collections::BTreeMap,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use consilium_tests::processes::{Practice, target};
use libtest_mimic::Trial;
use tokio::{runtime::Runtime, time::Instant};

pub(crate) use self::drivers::{CLIENTS, Client};
use self::{
    case::Case,
    observe::Line,
    table::{Cell, Column, Table},
};

/// The trial that holds the libraries against each other; after those of the clients.
const AGREE: &str = "cases_agree";

/// The cases, the mesh that they run against, and what came of them so far.
pub(crate) struct Cases {
    list: Vec<Case>,
    /// Started by the first client that runs, once: where that fails, it would fail for the others too.
    practice: OnceLock<Option<Practice>>,
    runtime: Arc<Runtime>,
    results: Mutex<Results>,
}

#[derive(Default)]
struct Results {
    columns: BTreeMap<&'static str, Column>,
    /// What the libraries said, by client and case.
    said: BTreeMap<&'static str, BTreeMap<String, Line>>,
}

impl Cases {
    pub(crate) fn new(runtime: &Arc<Runtime>) -> Arc<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases.yaml");
        Arc::new(Self {
            list: case::load(&file),
            practice: OnceLock::new(),
            runtime: Arc::clone(runtime),
            results: Mutex::default(),
        })
    }

    /// The comparisons first, which have to be able to fail; then a trial for each client.
    pub(crate) fn trials(self: &Arc<Self>) -> Vec<Trial> {
        let mut trials: Vec<_> = CHECKS
            .into_iter()
            .map(|(name, check)| {
                Trial::test(name, move || {
                    check();
                    Ok(())
                })
            })
            .collect();
        for client in &CLIENTS {
            let cases = Arc::clone(self);
            let missing = client.cannot_be_had();
            if missing {
                let said = format!("the cases are NOT run through {}: this machine cannot have it\n", client.name);
                let _ = std::io::stderr().write_all(said.as_bytes());
            }
            let trial = Trial::test(format!("{}_cases", client.name), move || cases.run(client).map_err(Into::into));
            trials.push(trial.with_ignored_flag(missing));
        }
        for (name, shows) in documented::ALL {
            let cases = Arc::clone(self);
            let show = move || cases.practice().map(shows).map_err(Into::into);
            trials.push(Trial::test(name, show).with_ignored_flag(documented::cannot_be_had(name)));
        }
        let cases = Arc::clone(self);
        let libraries = CLIENTS.iter().filter(|client| client.is_library && !client.cannot_be_had()).count();
        trials.push(Trial::test(AGREE, move || cases.agree().map_err(Into::into)).with_ignored_flag(libraries < 2));
        trials
    }

    /// Prints the table and writes it down, if any client ran.
    pub(crate) fn report(&self) {
        let results = self.results();
        if results.columns.is_empty() {
            return;
        }
        let table = Table { cases: &self.list, columns: &results.columns };
        let _ = std::io::stdout().write_all(table.text().as_bytes());
        table.write(&logs()).expect("the table can be written");
    }

    fn practice(&self) -> Result<&Practice, &'static str> {
        let start = || catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(Practice::start(&logs())))).ok();
        self.practice.get_or_init(start).as_ref().ok_or("the mesh did not start")
    }

    fn run(&self, client: &'static Client) -> Result<(), String> {
        let practice = self.practice()?;
        let since = Instant::now();
        let mut column = Column::default();
        let mut said = BTreeMap::new();
        let written = practice.journal().len();
        let can = |case: &&Case| !case.except.contains_key(client.name);
        // Cases that need what another one came by are for a second process, which has to make do with a token.
        for (round, follows) in [false, true].into_iter().enumerate() {
            let cases: Vec<_> = self.list.iter().filter(can).filter(|it| it.token_of.is_some() == follows).collect();
            let token = |case: &Case| {
                let before = case.token_of.as_ref()?;
                Some(said.get(before).and_then(Line::token).unwrap_or_default())
            };
            let expanded: Vec<_> = cases.iter().map(|case| case.expanded(token(case).as_deref())).collect();
            if !expanded.is_empty() {
                said.extend(client.run(practice.router.address(), &expanded, (&logs(), round)));
            }
        }
        column.seconds = since.elapsed().as_secs_f64();
        let journal = practice.journal().split_off(written);
        let unasked = journal::noted(&self.list, journal, &mut said);
        for case in &self.list {
            let cell = match (case.except.get(client.name), said.get(&case.name)) {
                (Some(why), _) => Cell::NotExpressible(why.clone()),
                (None, Some(line)) => judged(case, line, client),
                (None, None) => Cell::Wrong(vec!["it was not answered".to_owned()]),
            };
            column.cells.insert(case.name.clone(), cell);
        }
        let wrong = column.cells.iter().filter_map(|(case, cell)| match cell {
            Cell::Wrong(wrong) => Some(format!("{case}: {}", wrong.join("; "))),
            Cell::Right(_) | Cell::NotExpressible(_) | Cell::NotRun => None,
        });
        let wrong: Vec<_> = wrong.chain(unasked).collect();
        let mut results = self.results();
        results.columns.insert(client.name, column);
        if client.is_library {
            results.said.insert(client.name, said);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// Holds what the libraries said against each other, each against the first.
    fn agree(&self) -> Result<(), String> {
        let results = self.results();
        let mut said = results.said.iter();
        let Some((first, reference)) = said.next() else { return Err("no library has run".to_owned()) };
        let mut wrong = Vec::new();
        let mut compared = 0;
        for (other, lines) in said {
            for (case, line) in lines {
                let Some(before) = reference.get(case) else { continue };
                compared += 1;
                let differences = agree::differences(before, line);
                if !differences.is_empty() {
                    wrong.push(format!("{case}, {first} and {other}: {}", differences.join("; ")));
                }
            }
        }
        if compared == 0 {
            wrong.push(format!("only {first} has run: there is nothing to compare"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has to fail, fails: trials that need no mesh.
const CHECKS: [(&str, fn()); 16] = [
    ("reading_cases_expands_them", case::checks::a_case_becomes_what_drivers_read),
    ("reading_cases_finds_mistakes", case::checks::mistakes_in_cases_are_found),
    ("comparing_cases_sees_differences", expect::checks::differences_are_seen),
    ("comparing_cases_misses_what_is_missing", expect::checks::what_is_missing_is_wrong),
    ("comparing_cases_refuses_to_compare_nothing", expect::checks::a_comparison_of_nothing_is_wrong),
    ("comparing_cases_tells_errors_from_replies", expect::checks::errors_and_replies_are_told_apart),
    ("comparing_cases_sees_one_too_many", expect::checks::sets_and_lists_have_nothing_too_much),
    ("comparing_cases_knows_numbers", expect::checks::numbers_are_their_values),
    ("running_cases_sees_exit_codes_that_do_not_fit", cli::checks::exit_codes_have_to_fit),
    ("running_cases_finds_what_was_written_down", journal::checks::each_line_has_its_case),
    ("counting_cases_tells_apart_what_was_told_in_part", table::checks::what_is_told_in_part_is_told_apart),
    ("observing_cases_sees_streams_out_of_order", observe::checks::streams_out_of_order_are_seen),
    ("observing_cases_sees_lines_that_say_nothing", observe::checks::a_line_that_says_nothing_is_wrong),
    ("agreeing_on_cases_leaves_out_what_may_differ", agree::checks::what_may_differ_is_no_difference),
    ("agreeing_on_cases_leaves_out_who_streamed", agree::checks::which_instance_streamed_is_no_difference),
    ("agreeing_on_cases_leaves_out_nothing_else", agree::checks::any_other_difference_is_one),
];

fn judged(case: &Case, line: &Line, client: &Client) -> Cell {
    match observe::facts(case, line) {
        Ok(facts) => case.expect.compare(&facts, !client.tells_all).into(),
        Err(wrong) => Cell::Wrong(wrong),
    }
}

/// Where clients' files and the table are.
fn logs() -> PathBuf {
    target().join("conformance")
}
