//! What the name of a model means in this mesh: an expert as a whole, or one of its models. Pure: what the catalogue
//! knows is all there is to know. The gate's own model is the server's business.

use std::{collections::BTreeSet, time::Duration};

use consilium_mesh::registry::{Card, Expert, is_name};

use crate::{
    balance::{Wanted, is_live},
    catalog::Catalog,
    error::Error,
    plan::{self, Leg},
};

/// The task of experts whose own name stands for one of their models, not for texts.
pub(crate) const TENSORS: &str = "tensors";

/// The longest name that is looked up, bytes: one of a million dots would be a million look-ups.
const MAX_NAME_BYTES: usize = 512;

/// An expert, or one of its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) expert: &'a str,
    pub(crate) model: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// Whom `name` names: `<expert>`, or `<expert>.<model>`. Both may have dots inside, so every one of them may be the one
    /// between the two.
    pub(crate) fn find(name: &'a str, catalog: &Catalog) -> Result<Self, Error> {
        let experts = &catalog.snapshot().experts;
        if catalog.knows(name) {
            return Ok(Self { expert: name, model: None });
        }
        // Of `a.b` with a model `c`, and `a` with a model `b.c`, the longer expert is the more particular one.
        let dots = name.rmatch_indices('.').filter(|_| name.len() <= MAX_NAME_BYTES);
        let models = dots.filter_map(|(dot, _)| Some((name.get(..dot)?, name.get(dot + 1..)?)));
        let is = |has: fn(&Expert, &str) -> bool| {
            let mut models = models.clone();
            models.find(|(expert, model)| experts.get(*expert).is_some_and(|expert| has(expert, model)))
        };
        let found = is(has).or_else(|| is(|expert, _| has_repository(expert)));
        let (expert, model) = found.ok_or_else(|| unknown(name, catalog))?;
        Ok(Self { expert, model: Some(model) })
    }

    /// The leg of a request with this `model_version`, which may take `remaining`. The version is the model's, and for texts
    /// the expert's own.
    pub(crate) fn leg(&self, version: &str, catalog: &Catalog, remaining: Duration) -> Result<Leg, Error> {
        let fits = |card: &Card| version.is_empty() || !self.is_texts(card) || integer(&card.version) == version;
        let leg = |wanted| {
            let target = catalog.target_with(self.expert, fits, wanted).filter(|target| target.live > 0)?;
            Some(plan::single(self.expert, wanted, &target, remaining))
        };
        if let Some(leg) = leg(Wanted { model: self.model, model_version: version, ..Wanted::default() }) {
            return Ok(leg);
        }
        let nobody = || Error::NoLiveInstance { experts: vec![self.expert.to_owned()] };
        let expert = catalog.snapshot().experts.get(self.expert).ok_or_else(nobody)?;
        let versions = self.versions(expert);
        if !version.is_empty() && !versions.is_empty() && !versions.contains(version) {
            let versions = versions.into_iter().map(str::to_owned).collect();
            return Err(Error::UnknownVersion { name: self.name(), versions });
        }
        let anybody = leg(Wanted { is_unlisted: true, ..Wanted::default() }).ok_or_else(nobody)?;
        match self.model.or_else(|| default_model(expert)) {
            // An instance may have it all the same, and knows why it does not serve it.
            Some(_) if self.model.is_some() && has_repository(expert) => Ok(anybody),
            Some(model) => Err(Error::ModelUnavailable { expert: self.expert.to_owned(), model: model.to_owned() }),
            None => Err(nobody()),
        }
    }

    /// Whether the name stands for texts, where the expert is of this version.
    fn is_texts(&self, card: &Card) -> bool {
        self.model.is_none() && card.task != TENSORS
    }

    /// The versions in which it is there.
    fn versions<'e>(&self, expert: &'e Expert) -> BTreeSet<&'e str> {
        let texts = expert.cards.values().filter(|card| self.is_texts(card)).map(|card| integer(&card.version));
        let records = expert.instances.values().filter(|instance| is_live(instance)).map(|instance| &instance.record);
        let listed = records.flat_map(|record| {
            let name = self.model.unwrap_or(&record.default_model);
            record.models.iter().filter(move |model| model.name == name).map(|model| model.version.as_str())
        });
        texts.chain(listed).collect()
    }

    fn name(&self) -> String {
        self.model.map_or_else(|| self.expert.to_owned(), |model| format!("{}.{model}", self.expert))
    }
}

/// An expert's version as the protocol has versions.
pub(crate) fn integer(version: &str) -> &str {
    if version.parse::<i64>().is_ok_and(|number| number >= 0) { version } else { "1" }
}

/// The model that is asked for under the expert's own name, as the live instances say.
fn default_model(expert: &Expert) -> Option<&str> {
    let live = expert.instances.values().filter(|instance| is_live(instance));
    live.map(|instance| instance.record.default_model.as_str()).find(|model| !model.is_empty())
}

/// Whether some version or some instance of the expert has, or had, such a model.
fn has(expert: &Expert, model: &str) -> bool {
    let cards = expert.cards.values().map(|card| &card.models);
    let records = expert.instances.values().map(|instance| &instance.record.models);
    cards.chain(records).flatten().any(|known| known.name == model)
}

/// Whether the expert's models are no part of its versions: then cards name none of them, records name those that are
/// loaded, and what else there is only the instances know.
fn has_repository(expert: &Expert) -> bool {
    expert.cards.values().any(|card| card.task == TENSORS && card.models.is_empty())
}

fn unknown(name: &str, catalog: &Catalog) -> Error {
    if catalog.snapshot().revision == 0 {
        return Error::Starting;
    }
    // What cannot be a name is not repeated.
    Error::UnknownModel { name: is_name(name).then(|| name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use consilium_mesh::{
        dial,
        registry::{
            Card, Instance, ModelRef, Record, Snapshot,
            testing::{card, record},
        },
    };

    use super::*;
    use crate::balance::{Connect, Health, Line};

    /// Everybody serves.
    struct Sound;

    impl Connect for Sound {
        fn connect(&self, instance: &Instance) -> Result<Line, dial::Error> {
            Ok(Line::still(dial::channel(&dial::Target::plain(&*instance.address))?, Health::Serving))
        }
    }

    fn models(names: &[&str]) -> Vec<ModelRef> {
        let model = |name: &&str| ModelRef { name: (*name).into(), version: "1".into(), digest: String::new() };
        names.iter().map(model).collect()
    }

    /// An expert with these models in its card, and instances of (version, models loaded).
    fn expert(name: &str, carded: &[&str], instances: &[(&str, &[&str])]) -> (String, Arc<Expert>) {
        let card = |version: &str| Card { version: version.into(), models: models(carded), ..card(name) };
        let cards = ["1", "2"].map(|version| (version.to_owned(), Arc::new(card(version))));
        let instance = |(at, (version, loaded)): (usize, &(&str, &[&str]))| {
            let id = format!("i{at}");
            let record = Record { version: (*version).into(), models: models(loaded), ..record(name, &id) };
            (id, Arc::new(Instance { address: record.address.clone(), record, expired: false }))
        };
        let instances = instances.iter().enumerate().map(instance).collect();
        (name.to_owned(), Arc::new(Expert { name: name.to_owned(), cards: cards.into(), instances }))
    }

    fn catalog(experts: impl Into<BTreeMap<String, Arc<Expert>>>) -> Catalog {
        let snapshot = Snapshot { revision: 1, experts: experts.into(), ..Snapshot::default() };
        Catalog::default().next(Arc::new(snapshot), &Sound)
    }

    fn found<'a>(name: &'a str, catalog: &Catalog) -> Option<(&'a str, Option<&'a str>)> {
        Named::find(name, catalog).ok().map(|named| (named.expert, named.model))
    }

    #[tokio::test]
    async fn a_name_is_an_expert_or_one_of_its_models_wherever_the_dot_is() {
        let catalog = catalog([
            expert("labs", &["net"], &[("1", &["net", "net.v2"])]),
            expert("labs.net", &["deep"], &[]),
            expert("a", &["b.c"], &[]),
            expert("a.b", &["c"], &[]),
        ]);
        assert_eq!(found("labs", &catalog), Some(("labs", None)));
        assert_eq!(found("labs.net", &catalog), Some(("labs.net", None)), "an expert's own name comes first");
        assert_eq!(found("labs.net.v2", &catalog), Some(("labs", Some("net.v2"))), "loaded, though on no card");
        assert_eq!(found("labs.net.deep", &catalog), Some(("labs.net", Some("deep"))));
        assert_eq!(found("a.b.c", &catalog), Some(("a.b", Some("c"))));
        for name in ["", ".", "labs.", ".net", "nobody", "nobody.net", "labs.other", "labs\n.net"] {
            assert!(matches!(Named::find(name, &catalog), Err(Error::UnknownModel { .. })), "{name:?}");
        }
        assert!(matches!(Named::find("labs", &Catalog::default()), Err(Error::Starting)), "nothing was heard yet");
    }

    fn leg(catalog: &Catalog, model: Option<&str>, version: &str) -> Result<(String, usize, Option<String>), Error> {
        let leg = Named { expert: "labs", model }.leg(version, catalog, Duration::from_secs(1))?;
        Ok((leg.version.to_string(), leg.live, leg.model.as_deref().map(str::to_owned)))
    }

    fn versions(leg: Result<impl std::fmt::Debug, Error>) -> Vec<String> {
        match leg {
            Err(Error::UnknownVersion { versions, .. }) => versions,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_model_is_asked_where_it_is_loaded() {
        let catalog = catalog([expert("labs", &["net", "gone"], &[("2", &["other"]), ("1", &["net"])])]);
        let net = || ("1".to_owned(), 1, Some("net".to_owned()));
        assert_eq!(leg(&catalog, Some("net"), "").unwrap(), net(), "not where the newest version is");
        assert_eq!(leg(&catalog, Some("net"), "1").unwrap(), net(), "the version is the model's");
        assert_eq!(versions(leg(&catalog, Some("net"), "2")), ["1"]);
        for version in ["", "1"] {
            assert!(matches!(leg(&catalog, Some("gone"), version), Err(Error::ModelUnavailable { .. })));
        }
    }

    #[tokio::test]
    async fn a_models_version_goes_where_it_is_and_to_those_who_do_not_say() {
        let (name, labs) = expert("labs", &["net"], &[("1", &["net"]), ("1", &["net"]), ("1", &["net"])]);
        let mut labs = Expert::clone(&labs);
        for (instance, version) in labs.instances.values_mut().zip(["1", "2", ""]) {
            let mut changed = Instance::clone(instance);
            changed.record.models[0].version = version.to_owned();
            *instance = Arc::new(changed);
        }
        let live = |labs: &Expert, version| {
            let catalog = catalog([(name.clone(), Arc::new(labs.clone()))]);
            leg(&catalog, Some("net"), version).map(|(_, live, _)| live)
        };
        assert_eq!(["", "1", "2", "7"].map(|version| live(&labs, version).unwrap()), [3, 2, 2, 1]);
        labs.instances.retain(|_, instance| !instance.record.models[0].version.is_empty());
        assert_eq!(versions(live(&labs, "7")), ["1", "2"]);
    }

    #[tokio::test]
    async fn an_experts_version_pins_it() {
        let awake = catalog([expert("labs", &[], &[("1", &[]), ("2", &[])])]);
        for (version, goes_to) in [("", "2"), ("1", "1"), ("2", "2")] {
            assert_eq!(leg(&awake, None, version).unwrap(), (goes_to.to_owned(), 1, None), "{version:?}");
        }
        assert_eq!(versions(leg(&awake, None, "7")), ["1", "2"]);
        let asleep = catalog([expert("labs", &["net"], &[])]);
        for model in [None, Some("net")] {
            assert!(matches!(leg(&asleep, model, "1"), Err(Error::NoLiveInstance { .. })));
        }
    }

    #[tokio::test]
    async fn an_experts_version_is_asked_for_as_it_is_listed() {
        let (name, labs) = expert("labs", &[], &[("1.5", &[]), ("2", &[])]);
        let cards = ["1.5", "2"]
            .map(|version| (version.to_owned(), Arc::new(Card { version: version.into(), ..card("labs") })));
        let catalog = catalog([(name, Arc::new(Expert { cards: cards.into(), ..Expert::clone(&labs) }))]);
        for (version, goes_to) in [("1", "1.5"), ("2", "2")] {
            assert_eq!(leg(&catalog, None, version).unwrap(), (goes_to.to_owned(), 1, None), "{version:?}");
        }
        assert_eq!(versions(leg(&catalog, None, "1.5")), ["1", "2"]);
    }

    /// An expert of kind tensors, whose instances have these models loaded and answer with `net` under its own name.
    fn repository(instances: &[(&str, &[&str])]) -> (String, Arc<Expert>) {
        let (name, labs) = expert("labs", &[], instances);
        let mut labs = Expert::clone(&labs);
        let tensors = |card: &Arc<Card>| Arc::new(Card { task: TENSORS.into(), ..Card::clone(card) });
        labs.cards.values_mut().for_each(|card| *card = tensors(card));
        for instance in labs.instances.values_mut() {
            let mut changed = Instance::clone(instance);
            changed.record.default_model = "net".into();
            *instance = Arc::new(changed);
        }
        (name, Arc::new(labs))
    }

    #[tokio::test]
    async fn what_is_in_a_repository_its_instances_know() {
        let catalog = catalog([repository(&[("2", &["net"]), ("2", &[])]), expert("labs.net", &["deep"], &[])]);
        assert_eq!(leg(&catalog, Some("net"), "1").unwrap(), ("2".to_owned(), 1, Some("net".to_owned())));
        assert_eq!(found("labs.idle", &catalog), Some(("labs", Some("idle"))));
        assert_eq!(leg(&catalog, Some("idle"), "").unwrap(), ("2".to_owned(), 2, None), "anybody may say");
        assert_eq!(found("labs.net.deep", &catalog), Some(("labs.net", Some("deep"))), "a known model comes first");
        assert_eq!(found("labs.net.idle", &catalog), Some(("labs", Some("net.idle"))));
    }

    #[tokio::test]
    async fn an_experts_own_name_is_asked_where_its_default_model_is() {
        let catalog_of = |instances: &[(&str, &[&str])]| catalog([repository(instances)]);
        let some = catalog_of(&[("1", &["net"]), ("2", &["deep"]), ("2", &[])]);
        for version in ["", "1"] {
            assert_eq!(leg(&some, None, version).unwrap(), ("1".to_owned(), 1, None));
        }
        assert_eq!(versions(leg(&some, None, "2")), ["1"], "the version is the model's here too");
        assert_eq!(some.target("labs", None).map(|target| target.live), Some(1), "for queries as well");
        let none = catalog_of(&[("1", &["deep"]), ("2", &[])]);
        let unavailable = leg(&none, None, "");
        assert!(
            matches!(unavailable, Err(Error::ModelUnavailable { ref model, .. }) if model == "net"),
            "{unavailable:?}"
        );
        assert!(matches!(leg(&catalog_of(&[]), None, ""), Err(Error::NoLiveInstance { .. })));
    }
}
