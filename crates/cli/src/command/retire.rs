//! `consilium experts retire`: takes an expert that nobody serves any more out of the mesh. It changes the registry itself,
//! which is for those who may write there: a router only reads it.

use std::{sync::Arc, time::Duration};

use consilium_mesh::{
    config::{self, Overlay},
    metrics::Metrics,
    registry::{self, EtcdSettings, Registry, Snapshot},
};
use consilium_router::Config;
use tokio::time::timeout;

use super::Exit;
use crate::{
    args::{self, OWN_VARIABLES},
    error::{Error, Trouble},
    page::Page,
    progress::Progress,
    registry::{first, unreachable},
    text::Text,
};

/// For etcd to be heard of, and then for each of its answers.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: &args::Retire, page: &mut Page<'_>) -> Result<Exit, Error> {
    super::log(&args.log)?;
    let set = args.set.iter().cloned().chain(args.etcd.setting()).collect();
    let overlay = Overlay { environment: config::environment(&OWN_VARIABLES), set, ..Overlay::default() };
    let (name, settings) = Config::meeting_place(&args.mesh, &overlay)?;
    let Some(etcd) = &settings.etcd else { return Err(in_memory(&name)) };
    // Without the table that routers keep: it says what was known once, and this is about what is.
    let registry = registry::Settings { table: None, ..settings.clone() }
        .open(&name, &Metrics::new())
        .map_err(|error| Error::Usage(Trouble::of("the registry cannot be used", &error)))?;

    let waiting = Progress::spinner_only().step("waiting for etcd");
    let mesh = first(&*registry, etcd, PATIENCE).await?;
    drop(waiting);
    let versions = versions(&mesh, &name, args)?;
    let mut trouble = Trouble::default();
    for version in versions {
        match retire(&registry, &args.expert, &version, etcd).await {
            Ok(()) => page.line(Text::new().plain("retired  ").strong(&args.expert).plain(format!(" {version}")))?,
            Err(Trouble { headline, details, hint }) => {
                trouble.details.extend(std::iter::once(headline).chain(details));
                trouble.hint = hint.or(trouble.hint);
            }
        }
    }
    if trouble.details.is_empty() {
        return Ok(Exit::Done);
    }
    trouble.headline = format!("{} is not retired", args.expert);
    Err(Error::Failed(trouble))
}

/// The version that was asked for, else all of them.
fn versions(mesh: &Snapshot, name: &str, args: &args::Retire) -> Result<Vec<String>, Error> {
    let unknown = |headline: String, known: Vec<&str>| {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::Usage(Trouble::new(headline).with_hint(format!("known: {known}"))))
    };
    let Some(expert) = mesh.experts.get(&args.expert).filter(|expert| !expert.cards.is_empty()) else {
        let known = mesh.experts.keys().map(String::as_str).collect();
        return unknown(format!("the mesh {name} knows no expert {}", args.expert), known);
    };
    match &args.version {
        None => Ok(expert.cards.keys().cloned().collect()),
        Some(version) if expert.cards.contains_key(version) => Ok(vec![version.clone()]),
        Some(version) => {
            let known = expert.cards.keys().map(String::as_str).collect();
            unknown(format!("the mesh {name} knows no version {version} of {}", args.expert), known)
        }
    }
}

async fn retire(registry: &Arc<dyn Registry>, expert: &str, version: &str, etcd: &EtcdSettings) -> Result<(), Trouble> {
    match timeout(PATIENCE, registry.retire(expert, version)).await {
        // Unknown by now: somebody else was faster.
        Ok(Ok(()) | Err(registry::Error::Unknown { .. })) => Ok(()),
        Ok(Err(registry::Error::InUse { version, instance, .. })) => {
            Err(Trouble::new(format!("version {version} is still served by the instance {instance}"))
                .with_hint("stop its instances first; `consilium experts` lists them"))
        }
        Ok(Err(registry::Error::Unavailable(source))) => {
            let causes = Trouble::of("", &*source).details;
            Err(Trouble { details: causes, ..unreachable(etcd) })
        }
        Ok(Err(error @ (registry::Error::Invalid { .. } | registry::Error::Gone { .. }))) => {
            Err(Trouble::of(format!("version {version}"), &error))
        }
        Err(_) => Err(unreachable(etcd)),
    }
}

fn in_memory(mesh: &str) -> Error {
    Error::Usage(Trouble::new(format!("the mesh {mesh} has no etcd to retire an expert from")).with_hint(
        "a mesh in one process retires an expert by removing its file; --etcd or `registry.etcd` name the etcd of \
             another one",
    ))
}

#[cfg(test)]
mod tests {
    use consilium_mesh::registry::{
        Card, MemoryRegistry, Record, Registration,
        testing::{card, record},
    };

    use super::*;

    fn args(expert: &str, version: Option<&str>) -> args::Retire {
        args::Retire {
            expert: expert.to_owned(),
            version: version.map(str::to_owned),
            mesh: "mesh.yaml".into(),
            etcd: args::Etcd { endpoints: Vec::new() },
            set: Vec::new(),
            log: args::Log { level: "warn".to_owned() },
        }
    }

    async fn register(registry: &Arc<dyn Registry>, version: &str) -> Box<dyn Registration> {
        let card = Card { version: version.into(), ..card("labs") };
        let record = Record { version: version.into(), ..record("labs", &format!("labs-{version}")) };
        registry.register(card, record).await.unwrap()
    }

    #[tokio::test]
    async fn every_version_is_retired_but_the_one_that_is_served() {
        let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new("clinic"));
        let etcd = EtcdSettings::new(["http://a:1"]);
        drop(register(&registry, "1").await);
        let serving = register(&registry, "2").await;
        let mesh = Arc::clone(&registry.watch().borrow());
        assert_eq!(versions(&mesh, "clinic", &args("labs", None)).unwrap(), ["1", "2"]);
        assert_eq!(versions(&mesh, "clinic", &args("labs", Some("2"))).unwrap(), ["2"]);

        retire(&registry, "labs", "1", &etcd).await.unwrap();
        retire(&registry, "labs", "1", &etcd).await.unwrap();
        let trouble = retire(&registry, "labs", "2", &etcd).await.unwrap_err();
        assert_eq!(trouble.headline, "version 2 is still served by the instance labs-2");
        let known = registry.watch().borrow().experts["labs"].cards.keys().cloned().collect::<Vec<_>>();
        assert_eq!(known, ["2"]);
        drop(serving);
        retire(&registry, "labs", "2", &etcd).await.unwrap();
        assert!(registry.watch().borrow().experts.is_empty());
    }

    #[tokio::test]
    async fn who_is_not_known_is_said_with_who_is() {
        let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new("clinic"));
        let nobody = versions(&registry.watch().borrow(), "clinic", &args("labs", None)).unwrap_err();
        assert_eq!((nobody.exit_code(), nobody.trouble().hint.as_deref()), (2, Some("known: none")));
        drop(register(&registry, "1").await);
        let mesh = Arc::clone(&registry.watch().borrow());
        let trouble = versions(&mesh, "clinic", &args("lab", None)).unwrap_err().trouble();
        assert_eq!(trouble.headline, "the mesh clinic knows no expert lab");
        assert_eq!(trouble.hint.as_deref(), Some("known: labs"));
        let trouble = versions(&mesh, "clinic", &args("labs", Some("2"))).unwrap_err().trouble();
        assert_eq!(trouble.headline, "the mesh clinic knows no version 2 of labs");
    }
}
