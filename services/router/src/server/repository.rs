//! The models of the whole mesh, as the Open Inference Protocol lists and counts them: what is there is known from cards
//! and records, what was done is asked of everybody who did it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use consilium_mesh::{
    health::Readiness as ServerReadiness,
    inference::{Readiness, Statistics, index_entry},
    registry::{Expert, Instance},
};
use consilium_proto::inference::{self as oip, repository_index_response::ModelIndex};
use futures::{StreamExt, stream};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tonic::{Status, transport::Channel};

use super::gate_model::VERSION;
use crate::{
    balance::is_live,
    call::Times,
    catalog::Catalog,
    error::Error,
    model::{Named, TENSORS, integer},
    plan::RESERVE,
    wire::{About, Ask},
};

/// How long all of them together may take to tell what they have done.
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
        let is_sound = |instance: &Instance| is_live(instance) && catalog.health(instance).is_sound();
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
    // The models themselves, and which of them answer under the expert's own name.
    let (mut models, mut own) = (BTreeSet::new(), BTreeSet::new());
    for card in expert.cards.values() {
        models.extend(card.models.iter().map(|model| (model.name.as_str(), model.version.as_str(), false)));
        if card.task != TENSORS {
            let mut instances = expert.instances.values().filter(|instance| instance.record.version == card.version);
            note(expert.name.clone(), integer(&card.version), instances.any(|instance| is_sound(instance)));
        }
    }
    for instance in expert.instances.values() {
        let (record, ready) = (&instance.record, is_sound(instance));
        for model in &record.models {
            models.insert((&model.name, &model.version, ready));
            if model.name == record.default_model {
                note(expert.name.clone(), &model.version, ready);
            }
        }
        if !record.default_model.is_empty() {
            own.insert(record.default_model.as_str());
        }
    }
    for name in own {
        let version = models.iter().rev().find(|(model, ..)| *model == name).map_or("", |(_, version, _)| *version);
        note(expert.name.clone(), version, false);
    }
    for (name, version, ready) in models {
        note(format!("{}.{name}", expert.name), version, ready);
    }
    found
}

/// Who asks everybody what they have done. One caller at a time: it is a call to every instance there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surveys(Arc<Mutex<()>>);

impl Surveys {
    /// What all instances of one expert have done with a model.
    pub(super) async fn of_model(
        &self,
        catalog: &Catalog,
        request: oip::ModelStatisticsRequest,
        times: Times,
    ) -> Result<Vec<oip::ModelStatistics>, Status> {
        let expert = Named::find(&request.name, catalog)?.expert.to_owned();
        let mut told = Vec::new();
        let mut failure = Status::from(Error::NoLiveInstance { experts: vec![expert.clone()] });
        for answer in self.ask_all(everybody(catalog, &expert), &request, times).await? {
            match answer {
                Ok(reply) => told.push(reply.model_stats),
                Err(status) => failure = status,
            }
        }
        if told.is_empty() { Err(failure) } else { Ok(Statistics::sum(told.into_iter().flatten())) }
    }

    /// What all instances of all experts have done. Who does not tell in time is left out.
    pub(super) async fn of_all(&self, catalog: &Catalog, times: Times) -> Result<Vec<oip::ModelStatistics>, Error> {
        let experts = catalog.snapshot().experts.keys();
        let channels = experts.flat_map(|expert| everybody(catalog, expert)).collect();
        let answers = self.ask_all(channels, &oip::ModelStatisticsRequest::default(), times).await?;
        Ok(Statistics::sum(answers.into_iter().flatten().flat_map(|reply| reply.model_stats)))
    }

    /// Waiting for one's turn counts against the caller's deadline.
    async fn ask_all(
        &self,
        channels: Vec<Channel>,
        request: &oip::ModelStatisticsRequest,
        times: Times,
    ) -> Result<Vec<Result<oip::ModelStatisticsResponse, Status>>, Error> {
        let latest = times.deadline - RESERVE;
        let _turn = timeout_at(latest, self.0.lock()).await.map_err(|_| Error::DeadlineExceeded)?;
        let until = latest.min(Instant::now() + PATIENCE);
        let question = About(request.clone());
        let asked: Vec<_> = channels
            .into_iter()
            .map(|channel| async {
                let late = |_| Status::deadline_exceeded("an instance did not tell in time what it has done");
                let patience = until.saturating_duration_since(Instant::now());
                timeout_at(until, question.ask(channel, patience)).await.map_err(late)?
            })
            .collect();
        Ok(stream::iter(asked).buffer_unordered(AT_ONCE).collect().await)
    }
}

fn everybody(catalog: &Catalog, expert: &str) -> Vec<Channel> {
    let pool = catalog.pool(expert);
    pool.map(|pool| pool.everybody().collect()).unwrap_or_default()
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
        let records = vec![record("a", &[("net", "2")]), record("broken", &[("new", "1")])];
        let expected = ["labs.net 1 false", "labs.net 2 true", "labs.new 1 false", "labs.old 1 false"];
        assert_eq!(lines(&expert(vec![both], records)), expected, "none of them is the expert's own");
    }

    #[test]
    fn an_experts_own_name_is_there_where_its_default_model_is() {
        let record =
            |id: &str, loaded| Record { default_model: "net".to_owned(), models: models(loaded), ..record("labs", id) };
        let listed = |records| lines(&expert(vec![Card { task: TENSORS.to_owned(), ..card("labs") }], records));
        let (net, deep) = ([("deep", "1"), ("net", "7")], [("deep", "1")]);
        let somewhere = listed(vec![record("a", &net), record("b", &deep)]);
        assert_eq!(somewhere, ["labs 7 true", "labs.deep 1 true", "labs.net 7 true"]);
        assert_eq!(listed(vec![record("a", &deep)]), ["labs  false", "labs.deep 1 true"]);
        let out_of_reach = listed(vec![record("broken", &net), record("b", &deep)]);
        assert_eq!(out_of_reach, ["labs 7 false", "labs.deep 1 true", "labs.net 7 false"]);
    }

    fn times(patience: Duration) -> Times {
        Times { received: Instant::now(), deadline: Instant::now() + patience }
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_together_is_waited_for_once() {
        // Connections are taken and nobody speaks.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound port has an address").to_string();
        let silent = consilium_mesh::dial::channel(&consilium_mesh::dial::Target::plain(address));
        let channels = vec![silent.expect("it is an address"); 3 * AT_ONCE];
        let (since, request) = (Instant::now(), oip::ModelStatisticsRequest::default());
        let told = Surveys::default().ask_all(channels, &request, times(Duration::from_mins(1))).await;
        assert!(told.expect("it is its turn").iter().all(Result::is_err));
        assert_eq!(since.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_at_a_time_asks_and_the_others_wait_no_longer_than_they_have() {
        let surveys = Surveys::default();
        let another = surveys.0.lock().await;
        let late = surveys.of_all(&Catalog::default(), times(Duration::from_secs(2))).await;
        assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
        drop(another);
        surveys.of_all(&Catalog::default(), times(Duration::from_secs(2))).await.expect("nobody asks any more");
    }
}
