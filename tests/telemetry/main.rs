//! What a mesh says of itself, looked at as an operator would: through a real Jaeger and a real Prometheus, from a mesh of
//! real processes. One request is one trace; every query of the dashboards and rules has an answer; an alert goes off and
//! heals; and nothing that a caller wrote is in any of it.
//!
//! Most of it shares one mesh, and all of it runs one after the other. Trees, lists and times are printed: they are figures
//! for readers, too. `make setup-observability` builds what is looked through; without it this fails.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so by a panic")]

mod asking;
mod burn;
mod canary;
mod collectors;
mod exemplars;
mod expressions;
mod keeping;
mod load;
mod pages;
mod scene;
mod searches;
mod shape;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

use self::scene::Scene;

/// Of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

type Play = for<'a> fn(&'a Scene) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let scene = Arc::new(Scene::new(!arguments.list));
    let trials: [(&'static str, Play); 14] = [
        ("one_request_is_one_trace", |scene| Box::pin(shape::from_the_python_client(scene))),
        ("a_router_lends_its_vector_and_the_trace_shows_it", |scene| Box::pin(shape::retrieval(scene))),
        ("streams_are_traced_like_calls", |scene| Box::pin(shape::stream(scene))),
        ("inference_is_traced_like_questions", |scene| Box::pin(shape::inference(scene))),
        ("a_retry_is_two_attempts_of_one_leg", |scene| Box::pin(shape::retry(scene))),
        ("whoever_decides_against_a_trace_is_followed", |scene| Box::pin(shape::unsampled(scene))),
        ("every_metric_is_as_it_is_described", |scene| Box::pin(pages::as_described(scene))),
        ("every_expression_has_data", |scene| Box::pin(expressions::all(scene))),
        ("every_search_finds_traces", |scene| Box::pin(searches::find(scene))),
        ("an_exemplar_resolves", |scene| Box::pin(exemplars::resolve(scene))),
        ("nothing_that_a_caller_wrote_is_anywhere", |scene| Box::pin(canary::search(scene))),
        ("without_a_collector_calls_are_answered", |scene| Box::pin(collectors::dead(scene))),
        ("the_collector_keeps_what_went_wrong", |scene| Box::pin(keeping::what_went_wrong(scene))),
        ("a_burn_pages_and_heals", |scene| Box::pin(burn::pages_and_heals(scene))),
    ];
    let trial = |(name, play): (&'static str, Play)| {
        let scene = Arc::clone(&scene);
        Trial::test(name, move || {
            scene.play(name, play);
            Ok(())
        })
    };
    libtest_mimic::run(&arguments, trials.map(trial).into()).exit_code()
}
