//! What experts say of themselves, held against each other: is every one of them reachable, whose examples go to
//! somebody else, which texts are two experts' at once, who has hardly any. Needs no file of expectations.
//!
//! Examples are judged by gates that have not learned them: in turns, a fifth of each expert's is left out and asked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::probe::Tally;
use crate::decision::Outcome;
use crate::encoder::Encoder;
use crate::error::Error;
use crate::gate::Gate;
use crate::query::{Profile, Query, Wishes};
use crate::settings::Settings;

const FOLDS: usize = 5;
/// Fewer examples than this make an expert a guess.
const THIN: usize = 10;
/// Examples shown of a collision.
const SHOWN: usize = 3;
/// For one decision.
const DEADLINE: Duration = Duration::from_mins(1);

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Structure {
    /// `reachable`, `duplicates`, `collisions`, `thin`; the first two have to be perfect, the others are for people to
    /// judge.
    pub tiers: Vec<Tally>,
    /// Experts that their own card does not lead to, or no example of theirs that was left out.
    pub unreachable: Vec<Unreachable>,
    /// The most frequent first.
    pub collisions: Vec<Collision>,
    pub duplicates: Vec<Duplicate>,
    /// With the number of their examples.
    pub thin: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    pub expert: String,
    /// Name and summary lead to it.
    pub by_card: bool,
    /// Of its examples that were left out: these many lead to it.
    pub by_examples: usize,
    pub examples: usize,
}

/// Examples of one expert that went to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Collision {
    pub expert: String,
    pub taken_for: String,
    pub rows: usize,
    /// Up to three of them.
    pub examples: Vec<String>,
}

/// One text, but for case and spaces, among the examples of several experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    pub text: String,
    pub experts: Vec<String>,
}

/// Where an expert's left-out example went.
struct Went<'a> {
    expert: &'a str,
    example: &'a str,
    /// Whoever was asked first.
    to: Option<String>,
    /// Because it was clear for nobody: that is no mistaking.
    by_fallback: bool,
}

impl Structure {
    /// Fits a gate on everything and one for each fifth left out; `encoder` is best one that remembers, as each of them
    /// has it encode the same texts. `told` hears after each fit how many there were, of [`Structure::FITS`].
    ///
    /// # Errors
    /// When a gate cannot be made or fitted.
    pub async fn of(
        settings: &Settings,
        profiles: &[Profile],
        encoder: &Arc<dyn Encoder>,
        mut told: impl FnMut(usize),
    ) -> Result<Self, Error> {
        let whole = fitted(settings, profiles.to_vec(), encoder).await?;
        told(1);
        let mut by_card = BTreeSet::new();
        for profile in profiles {
            if first(&whole, &card(profile)).await.0.as_deref() == Some(profile.expert.as_str()) {
                by_card.insert(profile.expert.as_str());
            }
        }
        let mut went = Vec::new();
        for fold in 0..FOLDS {
            let gate = fitted(settings, without(profiles, fold), encoder).await?;
            for profile in profiles {
                for example in profile.examples.iter().skip(fold).step_by(FOLDS) {
                    let (to, by_fallback) = first(&gate, example).await;
                    went.push(Went { expert: &profile.expert, example, to, by_fallback });
                }
            }
            told(fold + 2);
        }
        Ok(Self::found(profiles, &by_card, &went))
    }

    /// Gates that are fitted.
    pub const FITS: usize = FOLDS + 1;

    /// Whether every tier that is judged clears its bar.
    pub fn passes(&self) -> bool {
        self.tiers.iter().all(Tally::passes)
    }

    fn found(profiles: &[Profile], by_card: &BTreeSet<&str>, went: &[Went<'_>]) -> Self {
        let unreachable = unreachable(profiles, by_card, went);
        let collisions = collisions(went);
        let (duplicates, texts) = duplicates(profiles);
        let thin: BTreeMap<String, usize> = profiles
            .iter()
            .filter(|profile| profile.examples.len() < THIN)
            .map(|profile| (profile.expert.clone(), profile.examples.len()))
            .collect();
        let tally = |tier: &str, total: usize, wrong: usize, bar| Tally {
            tier: tier.to_owned(),
            right: total - wrong,
            total,
            bar,
        };
        let tiers = vec![
            tally("reachable", profiles.len(), unreachable.len(), Some(1.0)),
            tally("duplicates", texts, duplicates.len(), Some(1.0)),
            tally("collisions", went.len(), collisions.iter().map(|it| it.rows).sum(), None),
            tally("thin", profiles.len(), thin.len(), None),
        ];
        Self { tiers, unreachable, collisions, duplicates, thin }
    }
}

/// A gate with these settings that knows these experts. Its cache of texts is left alone; nothing is tried on it.
async fn fitted(settings: &Settings, profiles: Vec<Profile>, encoder: &Arc<dyn Encoder>) -> Result<Gate, Error> {
    let settings = Settings { trial: None, ..settings.clone() };
    let gate = Gate::with_settings(settings, Arc::clone(encoder))?;
    gate.fit(profiles).await?;
    Ok(gate)
}

/// Whoever is asked first, and whether as the fallback.
async fn first(gate: &Gate, text: &str) -> (Option<String>, bool) {
    let query = Query { text: text.to_owned(), ..Query::default() };
    let decision = gate.decide(&query, &Wishes::default(), Instant::now() + DEADLINE).await;
    let first = decision.selected().next().map(|candidate| candidate.expert.to_string());
    (first, decision.outcome == Outcome::Fallback)
}

fn card(profile: &Profile) -> String {
    let name = profile.expert.replace(['-', '_'], " ");
    format!("{name} {}", profile.summary).trim().to_owned()
}

fn without(profiles: &[Profile], fold: usize) -> Vec<Profile> {
    let kept = |profile: &Profile| {
        let examples = profile.examples.iter().enumerate().filter(|(at, _)| at % FOLDS != fold);
        Profile { examples: examples.map(|(_, text)| text.clone()).collect(), ..profile.clone() }
    };
    profiles.iter().map(kept).collect()
}

/// An expert without examples is reached by its card alone.
fn unreachable(profiles: &[Profile], by_card: &BTreeSet<&str>, went: &[Went<'_>]) -> Vec<Unreachable> {
    profiles
        .iter()
        .map(|profile| {
            let own = went.iter().filter(|it| it.expert == profile.expert);
            Unreachable {
                expert: profile.expert.clone(),
                by_card: by_card.contains(profile.expert.as_str()),
                by_examples: own.filter(|it| it.to.as_deref() == Some(it.expert)).count(),
                examples: profile.examples.len(),
            }
        })
        .filter(|it| !it.by_card || (it.by_examples == 0 && it.examples > 0))
        .collect()
}

fn collisions(went: &[Went<'_>]) -> Vec<Collision> {
    let mut pairs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for it in went.iter().filter(|it| !it.by_fallback) {
        if let Some(other) = it.to.as_deref().filter(|other| *other != it.expert) {
            pairs.entry((it.expert, other)).or_default().push(it.example);
        }
    }
    let mut collisions: Vec<Collision> = pairs
        .into_iter()
        .map(|((expert, taken_for), examples)| Collision {
            expert: expert.to_owned(),
            taken_for: taken_for.to_owned(),
            rows: examples.len(),
            examples: examples.iter().take(SHOWN).map(|&text| text.to_owned()).collect(),
        })
        .collect();
    collisions.sort_by_key(|collision| Reverse(collision.rows));
    collisions
}

/// With the number of different texts.
fn duplicates(profiles: &[Profile]) -> (Vec<Duplicate>, usize) {
    let mut owners: BTreeMap<String, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for profile in profiles {
        for example in &profile.examples {
            let plain = example.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
            owners.entry(plain).or_insert((example, BTreeSet::new())).1.insert(&profile.expert);
        }
    }
    let texts = owners.len();
    let duplicates = owners.into_values().filter(|(_, experts)| experts.len() > 1).map(|(text, experts)| Duplicate {
        text: text.to_owned(),
        experts: experts.into_iter().map(str::to_owned).collect(),
    });
    (duplicates.collect(), texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(expert: &str, examples: &[&str]) -> Profile {
        let examples = examples.iter().map(|&text| text.to_owned()).collect();
        Profile { expert: expert.to_owned(), examples, ..Profile::default() }
    }

    fn went<'a>(expert: &'a str, example: &'a str, to: Option<&str>) -> Went<'a> {
        Went { expert, example, to: to.map(str::to_owned), by_fallback: false }
    }

    #[test]
    fn every_finding_has_its_tier() {
        let profiles = [
            profile("a", &["one", "two", "Three  things"]),
            profile("b", &["four", "three things"]),
            profile("c", &[]),
            profile("d", &["x"; THIN]),
        ];
        let went = [
            went("a", "one", Some("a")),
            went("a", "two", Some("b")),
            went("a", "Three  things", Some("b")),
            went("b", "four", None),
            went("b", "three things", Some("a")),
            went("d", "x", Some("d")),
            Went { by_fallback: true, ..went("d", "x", Some("a")) },
        ];
        let found = Structure::found(&profiles, &BTreeSet::from(["a", "b", "c"]), &went);
        let tiers: Vec<(&str, usize, usize)> =
            found.tiers.iter().map(|it| (it.tier.as_str(), it.right, it.total)).collect();
        assert_eq!(tiers, [("reachable", 2, 4), ("duplicates", 4, 5), ("collisions", 4, 7), ("thin", 1, 4)]);
        // b has examples and none of them leads to it; c has none, and its card does; the card of d does not.
        let unreachable: Vec<(&str, bool, usize)> =
            found.unreachable.iter().map(|it| (it.expert.as_str(), it.by_card, it.by_examples)).collect();
        assert_eq!(unreachable, [("b", true, 0), ("d", false, 1)]);
        assert_eq!((found.collisions[0].taken_for.as_str(), found.collisions[0].rows), ("b", 2));
        assert_eq!(found.collisions[0].examples, ["two", "Three  things"]);
        assert_eq!(found.duplicates[0].experts, ["a", "b"]);
        assert_eq!(found.thin.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(!found.passes());
    }

    #[test]
    fn what_is_only_for_people_to_judge_fails_nobody() {
        let profiles = [profile("a", &["one"]), profile("b", &["two"])];
        let went = [went("a", "one", Some("a")), went("b", "two", Some("b"))];
        let found = Structure::found(&profiles, &BTreeSet::from(["a", "b"]), &went);
        assert!(found.passes() && found.thin.len() == 2, "{found:?}");
    }

    #[test]
    fn each_example_is_left_out_once() {
        let profiles = [profile("a", &["0", "1", "2", "3", "4", "5", "6"])];
        let mut left_out = Vec::new();
        for fold in 0..FOLDS {
            let kept = without(&profiles, fold).remove(0).examples;
            left_out.extend(profiles[0].examples.iter().filter(|text| !kept.contains(text)).cloned());
        }
        left_out.sort();
        assert_eq!(left_out, profiles[0].examples);
    }
}
