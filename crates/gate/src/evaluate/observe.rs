//! From decisions to observations: asks a gate every row of a test, one after the other, and keeps what it said.

use std::time::Duration;

use tokio::time::Instant;

use super::measures::{DimensionObservation, Observation};
use crate::decision::{Decision, Source};
use crate::gate::Gate;
use crate::query::{Query, Wishes};
use crate::settings::Labelled;

/// Queries asked before the first that counts: the first ones pay for memory that the others find.
const WARM_UP: usize = 20;
/// For one decision. Generous: nobody waits for it, and a decision without a reading would count as a wrong one.
const DEADLINE: Duration = Duration::from_mins(1);

/// Asks the rows one after the other, so that the latencies are those of a gate with nothing else to do. `told` hears
/// after each row how many there were.
///
/// The first twenty are asked once more before, and not counted. Latency is from query to decision, everything
/// included.
pub async fn observe(gate: &Gate, rows: &[Labelled], mut told: impl FnMut(usize)) -> Vec<Observation> {
    for row in rows.iter().take(WARM_UP) {
        ask(gate, row).await;
    }
    let mut observations = Vec::with_capacity(rows.len());
    for row in rows {
        let (decision, took) = ask(gate, row).await;
        observations.push(Observation::of(row, &decision, took));
        told(observations.len());
    }
    observations
}

async fn ask(gate: &Gate, row: &Labelled) -> (Decision, Duration) {
    let query = Query { text: row.text.clone(), ..Query::default() };
    let started = Instant::now();
    let decision = gate.decide(&query, &Wishes::default(), started + DEADLINE).await;
    (decision, started.elapsed())
}

impl Observation {
    /// What the decision said of the row, after so long.
    pub fn of(row: &Labelled, decision: &Decision, took: Duration) -> Self {
        let mut ranked: Vec<(&str, f64)> = decision.candidates.iter().map(|it| (&*it.expert, it.probability)).collect();
        // As the decision ranks them but for those that were selected: a rule may select whom nobody thinks best.
        ranked.sort_by(|(a, p), (b, q)| q.total_cmp(p).then(a.cmp(b)));
        let dimensions = row.dimensions.iter().map(|(name, truth)| {
            let reading = decision.dimensions.iter().find(|reading| *reading.name == **name);
            let best = reading.and_then(|reading| reading.values.first());
            let observation = DimensionObservation {
                truth: truth.clone(),
                best: best.map(|best| (best.value.to_string(), best.probability)),
                known: reading.is_some_and(|reading| reading.source != Source::Unknown),
            };
            (name.clone(), observation)
        });
        Self {
            truth: row.expert.clone(),
            best: ranked.first().map(|(name, probability)| ((*name).to_owned(), *probability)),
            ahead: row.expert.as_ref().and_then(|own| ranked.iter().position(|(name, _)| name == own)),
            somebody: ranked.iter().map(|(_, probability)| probability).sum(),
            chosen: decision.selected().next().map(|candidate| candidate.expert.to_string()),
            tier: decision.tier.as_str(),
            took,
            calibrated: decision.calibrated,
            dimensions: dimensions.collect(),
        }
    }
}
