//! What the name of a model means in this mesh: an expert as a whole, or one of its models. Pure: what the catalogue
//! knows is all there is to know. The gate's own model is the server's business.

use std::time::Duration;

use consilium_mesh::registry::{Expert, is_name};

use crate::{
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

    /// The leg of a request with this `model_version`, which may take `remaining`. What a version means is for the instances
    /// to say, but where it is the expert's own, instances of that version have to be asked.
    pub(crate) fn leg(&self, version: &str, catalog: &Catalog, remaining: Duration) -> Result<Leg, Error> {
        let expert = catalog.snapshot().experts.get(self.expert);
        let card = expert.and_then(|expert| expert.cards.get(version)).filter(|card| card.task != TENSORS);
        let pinned = card.map(|card| card.version.as_str()).filter(|_| self.model.is_none());
        let target = |model| catalog.target_with(self.expert, pinned, model).filter(|target| target.live > 0);
        if let Some(target) = target(self.model) {
            return Ok(plan::single((self.expert, self.model), &target, remaining));
        }
        match (self.model, target(None)) {
            // An instance may have it all the same, and knows why it does not serve it.
            (Some(_), Some(target)) if expert.is_some_and(|expert| has_repository(expert)) => {
                Ok(plan::single((self.expert, None), &target, remaining))
            }
            (Some(model), Some(_)) => {
                Err(Error::ModelUnavailable { expert: self.expert.to_owned(), model: model.to_owned() })
            }
            (_, _) => Err(Error::NoLiveInstance { experts: vec![self.expert.to_owned()] }),
        }
    }
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
        let snapshot = Snapshot { revision: 1, experts: experts.into() };
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

    #[tokio::test]
    async fn a_model_is_asked_where_it_is_loaded() {
        let catalog = catalog([expert("labs", &["net", "gone"], &[("2", &["other"]), ("1", &["net"])])]);
        let net = || ("1".to_owned(), 1, Some("net".to_owned()));
        assert_eq!(leg(&catalog, Some("net"), "").unwrap(), net(), "not where the newest version is");
        assert_eq!(leg(&catalog, Some("net"), "2").unwrap(), net(), "the version is the model's");
        assert!(matches!(leg(&catalog, Some("gone"), ""), Err(Error::ModelUnavailable { .. })));
    }

    #[tokio::test]
    async fn an_experts_version_pins_it() {
        let awake = catalog([expert("labs", &[], &[("1", &[]), ("2", &[])])]);
        for (version, goes_to) in [("", "2"), ("1", "1"), ("2", "2"), ("7", "2")] {
            assert_eq!(leg(&awake, None, version).unwrap(), (goes_to.to_owned(), 1, None), "{version:?}");
        }
        let asleep = catalog([expert("labs", &["net"], &[])]);
        for model in [None, Some("net")] {
            assert!(matches!(leg(&asleep, model, "1"), Err(Error::NoLiveInstance { .. })));
        }
    }

    #[tokio::test]
    async fn what_is_in_a_repository_its_instances_know() {
        let (name, labs) = expert("labs", &[], &[("2", &["net"]), ("2", &[])]);
        let card = |version: &str| Card { task: TENSORS.into(), version: version.into(), ..card("labs") };
        let cards = ["1", "2"].map(|version| (version.to_owned(), Arc::new(card(version))));
        let labs = Expert { cards: cards.into(), ..Expert::clone(&labs) };
        let catalog = catalog([(name, Arc::new(labs)), expert("labs.net", &["deep"], &[])]);
        assert_eq!(leg(&catalog, Some("net"), "1").unwrap(), ("2".to_owned(), 1, Some("net".to_owned())));
        assert_eq!(found("labs.idle", &catalog), Some(("labs", Some("idle"))));
        assert_eq!(leg(&catalog, Some("idle"), "").unwrap(), ("2".to_owned(), 2, None), "anybody may say");
        assert_eq!(leg(&catalog, None, "1").unwrap(), ("2".to_owned(), 2, None), "the version is the model's here too");
        assert_eq!(found("labs.net.deep", &catalog), Some(("labs.net", Some("deep"))), "a known model comes first");
        assert_eq!(found("labs.net.idle", &catalog), Some(("labs", Some("net.idle"))));
    }
}
