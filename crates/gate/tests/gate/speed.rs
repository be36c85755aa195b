//! What a decision costs without the heads, and what it costs to learn. Prints and asserts nothing: run it on a quiet machine with
//! `cargo test -p consilium-gate --test gate -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::Duration;

use consilium_gate::{Gate, Options, Profile, Rule, Wishes};
use tokio::time::Instant;

use crate::support::{BagOfWords, ask, ask_as, audience, later, profile, rule, strings};

const ROUNDS: usize = 2000;

/// A gate of so many experts, half of which serve clinicians only; their cards are all that is known of them.
async fn fitted(experts: usize) -> Gate {
    let rules = vec![
        Rule { require: strings(&["expert-7"]), ..rule("required", "has(labels.kind) && labels.kind == 'list'") },
        Rule { forbid: strings(&["expert-9"]), ..rule("closed", "caller.tier == 'free'") },
    ];
    let mut options = Options { rules, ..Options::default() };
    options.dimensions.insert("audience".into(), consilium_gate::Dimension::given(audience().names()));
    let background = strings(&["best recipe for bread", "train times to the coast", "who won the match"]);
    let gate = Gate::with_background(options, Arc::new(BagOfWords::default()), background).unwrap();
    let profiles = (0..experts).map(|at| {
        let mut profile = profile(&format!("expert-{at}"), &format!("knows subject{at} and topic{}", at / 3), &[]);
        if at % 2 == 1 {
            profile.serves.insert("audience".into(), strings(&["clinician"]));
        }
        profile
    });
    gate.fit(profiles.collect()).await.unwrap();
    gate
}

#[tokio::test]
#[ignore = "prints figures"]
async fn speed_of_a_decision_without_the_heads() {
    for experts in [150, 2000] {
        let started = Instant::now();
        let gate = fitted(experts).await;
        eprintln!("{experts} experts, fitted in {:.1?}", started.elapsed());
        let mut required = ask_as("patient", "subject7 and topic2");
        required.labels.insert("kind".into(), "list".into());
        let only = Wishes { experts: strings(&["expert-8"]), ..Wishes::default() };
        for (what, query, wishes) in [
            ("a rule decides", &required, &Wishes::default()),
            ("from the cache, half of them out", &ask_as("patient", "subject8 and topic2"), &Wishes::default()),
            ("from the cache, all but one out", &ask("subject8 and topic2"), &only),
        ] {
            let mut took: Vec<Duration> = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                let started = Instant::now();
                let decision = gate.decide(query, wishes, later()).await;
                std::hint::black_box(&decision);
                drop(decision);
                took.push(started.elapsed());
            }
            took.sort_unstable();
            eprintln!("  {what}: p50 {:.1?}, p99 {:.1?}", took[ROUNDS / 2], took[ROUNDS * 99 / 100]);
        }
    }
}

/// So many experts with so many examples each, of words of their own and words that all use.
fn crowd(experts: usize, examples: usize) -> Vec<Profile> {
    let of = |at: usize| {
        let text = |number: usize| {
            let theme = at * 4 + number % 4;
            format!("please tell me about item{theme} and case{} in ward {}", theme / 3, number % 23)
        };
        let examples = (0..examples).map(text).collect();
        Profile { examples, ..profile(&format!("expert-{at}"), &format!("knows item{} and case{at}", at * 4), &[]) }
    };
    (0..experts).map(of).collect()
}

#[tokio::test]
#[ignore = "prints figures"]
async fn speed_of_learning() {
    for (experts, examples) in [(150, 100), (2000, 0), (2000, 10)] {
        let gate = Gate::new(Options::default(), Arc::new(BagOfWords::default())).unwrap();
        let mut profiles = crowd(experts + 1, examples);
        let new = profiles.pop().unwrap();
        let started = Instant::now();
        gate.fit(profiles.clone()).await.unwrap();
        let whole = started.elapsed();
        profiles.push(new);
        let started = Instant::now();
        assert!(gate.admit(profiles).await.unwrap());
        let quick = started.elapsed();
        eprintln!("{experts} experts with {examples} examples: {whole:.1?}, and one more: {quick:.1?}");
        let query = ask(&format!("please tell me about item{} in ward 5", experts * 4));
        let decision = gate.decide(&query, &Wishes::default(), later()).await;
        eprintln!("  it gets its query: {}", decision.selected().any(|it| *it.expert == *format!("expert-{experts}")));
    }
}
