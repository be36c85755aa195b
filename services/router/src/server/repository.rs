//! The models of the whole mesh, as the Open Inference Protocol lists and counts them: what is there is known from cards
//! and records, what was done is asked of everybody who did it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use consilium_mesh::{
    health::Readiness as ServerReadiness,
    inference::{Readiness, Statistics, index_entry},
    registry::{Expert, Instance, State, Track},
};
use consilium_proto::inference::{self as oip, repository_index_response::ModelIndex};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout};
use tonic::{Status, transport::Channel};

use super::gate_model::VERSION;
use crate::{
    call::Times,
    catalog::Catalog,
    error::Error,
    model::{Named, TENSORS},
    plan::RESERVE,
    wire::{About, Ask},
};

/// How long an instance may take to tell what it has done.
const PATIENCE: Duration = Duration::from_secs(1);
/// Instances that are asked at the same time.
const AT_ONCE: usize = 64;

/// The gate's own line.
pub(super) fn gate(name: &str, readiness: &ServerReadiness) -> ModelIndex {
    let state = if readiness.is_ready() {
        Readiness::Ready
    } else if readiness.is_draining() {
        Readiness::Unavailable("the router is going out of service".to_owned())
    } else {
        Readiness::Loading
    };
    index_entry(name, VERSION, &state)
}

/// Every expert and every model of every expert, in each of its versions.
pub(super) fn index(catalog: &Catalog) -> Vec<ModelIndex> {
    let mut models = Vec::new();
    for expert in catalog.snapshot().experts.values() {
        let is_sound = |instance: &Instance| {
            let record = &instance.record;
            record.state == State::Serving && record.track == Track::Live && catalog.health(instance).is_sound()
        };
        let found = found(expert, is_sound);
        let anybody = expert.instances.values().any(|instance| is_sound(instance));
        let reason = if anybody { "no live instance has it loaded" } else { "no live instance" };
        let line = |((name, version), ready): (&(String, String), &bool)| {
            let state = if *ready { Readiness::Ready } else { Readiness::Unavailable(reason.to_owned()) };
            index_entry(name, version, &state)
        };
        models.extend(found.iter().map(line));
    }
    models
}

/// Name and version of what `expert` has or had, and whether somebody sound has it now.
fn found(expert: &Expert, is_sound: impl Fn(&Instance) -> bool) -> BTreeMap<(String, String), bool> {
    let mut found: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut note = |name: String, version: &str, ready: bool| {
        *found.entry((name, version.to_owned())).or_default() |= ready;
    };
    let mut models = BTreeSet::new();
    for card in expert.cards.values() {
        models.extend(card.models.iter().map(|model| (model.name.as_str(), model.version.as_str(), false)));
        if card.task != TENSORS {
            let mut instances = expert.instances.values().filter(|instance| instance.record.version == card.version);
            note(expert.name.clone(), integer(&card.version), instances.any(|instance| is_sound(instance)));
        }
    }
    for instance in expert.instances.values() {
        let loaded = instance.record.models.iter();
        models.extend(loaded.map(|model| (model.name.as_str(), model.version.as_str(), is_sound(instance))));
    }
    // Which of several models answers under the expert's name, only its instances know.
    let names: BTreeSet<_> = models.iter().map(|(name, ..)| name).collect();
    let is_its_own = names.len() == 1 && expert.cards.values().any(|card| card.task == TENSORS);
    for (name, version, ready) in &models {
        note(format!("{}.{name}", expert.name), version, *ready);
        if is_its_own {
            note(expert.name.clone(), version, *ready);
        }
    }
    found
}

/// An expert's version as the protocol has versions.
fn integer(version: &str) -> &str {
    if version.parse::<i64>().is_ok_and(|number| number >= 0) { version } else { "1" }
}

/// What all instances of one expert have done with a model.
pub(super) async fn statistics(
    catalog: &Catalog,
    request: oip::ModelStatisticsRequest,
    times: Times,
) -> Result<Vec<oip::ModelStatistics>, Status> {
    let expert = Named::find(&request.name, catalog)?.expert.to_owned();
    let mut told = Vec::new();
    let mut failure = Status::from(Error::NoLiveInstance { experts: vec![expert.clone()] });
    for answer in ask_all(everybody(catalog, &expert), &request, times).await {
        match answer {
            Ok(reply) => told.push(reply.model_stats),
            Err(status) => failure = status,
        }
    }
    if told.is_empty() { Err(failure) } else { Ok(Statistics::sum(told.into_iter().flatten())) }
}

/// What all instances of all experts have done. Who does not tell in time is left out.
pub(super) async fn all_statistics(catalog: &Catalog, times: Times) -> Vec<oip::ModelStatistics> {
    let experts = catalog.snapshot().experts.keys();
    let channels = experts.flat_map(|expert| everybody(catalog, expert)).collect();
    let answers = ask_all(channels, &oip::ModelStatisticsRequest::default(), times).await;
    Statistics::sum(answers.into_iter().flatten().flat_map(|reply| reply.model_stats))
}

fn everybody(catalog: &Catalog, expert: &str) -> Vec<Channel> {
    let pool = catalog.pool(expert);
    pool.map(|pool| pool.everybody().collect()).unwrap_or_default()
}

async fn ask_all(
    channels: Vec<Channel>,
    request: &oip::ModelStatisticsRequest,
    times: Times,
) -> Vec<Result<oip::ModelStatisticsResponse, Status>> {
    let remaining = times.deadline.saturating_duration_since(Instant::now());
    let patience = PATIENCE.min(remaining.saturating_sub(RESERVE));
    let question = About(request.clone());
    let asked: Vec<_> = channels
        .into_iter()
        .map(|channel| async {
            let late = |_| Status::deadline_exceeded("an instance did not tell in time what it has done");
            timeout(patience, question.ask(channel, patience)).await.map_err(late)?
        })
        .collect();
    stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use consilium_mesh::registry::{
        Card, ModelRef, Record,
        testing::{card, record},
    };

    use super::*;

    fn models(known: &[(&str, &str)]) -> Vec<ModelRef> {
        let model = |(name, version): &(&str, &str)| ModelRef {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            digest: String::new(),
        };
        known.iter().map(model).collect()
    }

    fn lines(expert: &Expert) -> Vec<String> {
        let found = found(expert, |instance| instance.record.instance != "broken");
        found.iter().map(|((name, version), ready)| format!("{name} {version} {ready}")).collect()
    }

    fn expert(cards: Vec<Card>, records: Vec<Record>) -> Expert {
        let instance = |record: Record| {
            let id = record.instance.clone();
            (id, Arc::new(Instance { address: record.address.clone(), record, expired: false }))
        };
        Expert {
            name: "labs".to_owned(),
            cards: cards.into_iter().map(|card| (card.version.clone(), Arc::new(card))).collect(),
            instances: records.into_iter().map(instance).collect(),
        }
    }

    #[test]
    fn a_text_expert_is_listed_by_its_versions_and_its_model_by_its_own() {
        let of = |version: &str| Card { version: version.into(), models: models(&[("words", "3")]), ..card("labs") };
        let record = |id: &str, version: &str| Record {
            version: version.into(),
            models: models(&[("words", "3")]),
            ..record("labs", id)
        };
        let labs = expert(vec![of("1.5"), of("2")], vec![record("sound", "2"), record("broken", "1.5")]);
        assert_eq!(lines(&labs), ["labs 1 false", "labs 2 true", "labs.words 3 true"]);
    }

    #[test]
    fn models_that_were_loaded_later_and_those_that_nobody_has_are_listed_too() {
        let tensors = |known| Card { task: TENSORS.to_owned(), models: models(known), ..card("labs") };
        let record = |id: &str, loaded| Record { models: models(loaded), ..record("labs", id) };
        let both = tensors(&[("net", "1"), ("old", "1")]);
        let labs = expert(vec![both], vec![record("a", &[("net", "2")]), record("broken", &[("new", "1")])]);
        let expected = ["labs.net 1 false", "labs.net 2 true", "labs.new 1 false", "labs.old 1 false"];
        assert_eq!(lines(&labs), expected, "which of the models is the expert's own is not known here");

        let alone = expert(vec![tensors(&[("net", "7")])], vec![record("a", &[("net", "7")])]);
        assert_eq!(lines(&alone), ["labs 7 true", "labs.net 7 true"]);
    }
}
