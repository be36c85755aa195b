//! `consilium gate apply`, `show` and `reset`: how the gates of all of a mesh's routers are set, by one key in etcd. They
//! change the registry itself, which is for those who may write there: a router only reads it.

use std::{path::Path, sync::Arc, time::Duration};

use consilium_gate::Options;
use consilium_mesh::{
    config::{self, Mistakes, Overlay, Source},
    metrics::Metrics,
    registry::{self, EtcdSettings, Registry},
};
use consilium_router::Config;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    args::{Apply, OWN_VARIABLES, Place, Reset, Show},
    command::{Exit, log},
    error::{Error, Trouble},
    labelled,
    page::Page,
    progress::Progress,
    registry::{first, unreachable},
    text::Text,
};

/// For etcd to be heard of, and then for each of its answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mesh's etcd, open.
struct Meeting {
    mesh: String,
    registry: Arc<dyn Registry>,
    etcd: EtcdSettings,
}

/// A file of settings: a mesh's own, or one with the section alone.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Section {
    gate: Options,
}

pub(crate) async fn apply(args: &Apply, page: &mut Page<'_>) -> Result<Exit, Error> {
    log(&args.place.log)?;
    let settings = settings(&args.file)?;
    let meeting = Meeting::open(&args.place).await?;
    meeting.answered(meeting.registry.put_gate(Some(settings))).await?;
    let said = "each router tries it, takes it if it is right, and logs why if it is not";
    page.line(Text::new().plain("applied  ").strong(&meeting.mesh).quiet(format!("  {said}")))?;
    Ok(Exit::Done)
}

/// Prints YAML, which `apply` takes again.
pub(crate) async fn show(args: &Show, page: &mut Page<'_>) -> Result<Exit, Error> {
    log(&args.place.log)?;
    let meeting = Meeting::open(&args.place).await?;
    let Some(settings) = meeting.answered(meeting.registry.get_gate()).await? else {
        let said = format!("nothing is set: each router of {} goes by its own file", meeting.mesh);
        page.line(Text::new().quiet(format!("# {said}")))?;
        return Ok(Exit::Done);
    };
    settings.lines().try_for_each(|line| page.line(line))?;
    Ok(Exit::Done)
}

pub(crate) async fn reset(args: &Reset, page: &mut Page<'_>) -> Result<Exit, Error> {
    log(&args.place.log)?;
    let meeting = Meeting::open(&args.place).await?;
    meeting.answered(meeting.registry.put_gate(None)).await?;
    let said = "each router goes by its own file again";
    page.line(Text::new().plain("reset  ").strong(&meeting.mesh).quiet(format!("  {said}")))?;
    Ok(Exit::Done)
}

/// The section `gate` of a file, or a file that is one, as YAML and free of what every router would refuse. Names of
/// experts are not looked at: experts come and go.
fn settings(file: &Path) -> Result<String, Error> {
    let wrong = |mistakes: Mistakes| Error::mistakes("the settings of the gate", &mistakes);
    let source = Source::read(file).map_err(wrong)?;
    let tree: Value = config::parse(&source, &Overlay::default()).map_err(wrong)?;
    let section = tree.get("gate").cloned().unwrap_or(tree);
    let whole = Source { file: source.file, text: json!({ "gate": section }).to_string() };
    let Section { gate } = config::parse(&whole, &Overlay::default()).map_err(wrong)?;
    let mistakes = gate.check_alone();
    if !mistakes.is_empty() {
        return Err(wrong(labelled::of(file, mistakes)));
    }
    // As it was written, and not with what that implies: what it leaves out is each router's default.
    config::print(&section).map_err(|error| Error::Failed(Trouble::of("the settings cannot be written", &error)))
}

impl Meeting {
    async fn open(place: &Place) -> Result<Self, Error> {
        let set = place.set.iter().cloned().chain(place.etcd.setting()).collect();
        let overlay = Overlay { environment: config::environment(&OWN_VARIABLES), set, ..Overlay::default() };
        let (mesh, settings) = Config::meeting_place(&place.mesh, &overlay)?;
        let Some(etcd) = settings.etcd.clone() else { return Err(in_memory(&mesh)) };
        // Without the table that routers keep: it says what was known once, and this is about what is.
        let registry = registry::Settings { table: None, ..settings }
            .open(&mesh, &Metrics::new())
            .map_err(|error| Error::Usage(Trouble::of("the registry cannot be used", &error)))?;
        let waiting = Progress::spinner_only().step("waiting for etcd");
        first(&*registry, &etcd, PATIENCE).await?;
        drop(waiting);
        Ok(Self { mesh, registry, etcd })
    }

    /// What came of an errand to etcd.
    async fn answered<T>(&self, errand: impl Future<Output = Result<T, registry::Error>>) -> Result<T, Error> {
        match timeout(PATIENCE, errand).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(registry::Error::Unavailable(source))) => {
                let causes = Trouble::of("", &*source).details;
                Err(Error::Failed(Trouble { details: causes, ..unreachable(&self.etcd) }))
            }
            Ok(Err(error @ registry::Error::Invalid { .. })) => {
                Err(Error::Usage(Trouble::of("the settings cannot be applied", &error)))
            }
            Ok(Err(error)) => Err(Error::Failed(Trouble::of("the settings stay as they are", &error))),
            Err(_) => Err(Error::Failed(unreachable(&self.etcd))),
        }
    }
}

fn in_memory(mesh: &str) -> Error {
    Error::Usage(Trouble::new(format!("the mesh {mesh} has no etcd that its routers would hear from")).with_hint(
        "a mesh in one process goes by its file, also while it runs; --etcd or `registry.etcd` name the etcd of another \
         one",
    ))
}

#[cfg(test)]
mod tests {
    use consilium_mesh::registry::MemoryRegistry;

    use super::*;

    fn of(text: &str) -> Result<String, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let place = format!("{}: ", file.path().display());
        settings(file.path()).map_err(|error| error.trouble().details.iter().map(|it| it.replace(&place, "")).collect())
    }

    #[test]
    fn a_file_has_the_section_or_is_one() {
        let expected = "min_confidence: 0.7\ntop_k: 2\n";
        assert_eq!(of("# ours\ntop_k: 2\nmin_confidence: 0.7\n").unwrap(), expected);
        assert_eq!(of("name: clinic\ngate: {top_k: 2, min_confidence: 0.7}\nexperts: []\n").unwrap(), expected);
    }

    #[test]
    fn what_no_router_would_take_is_not_applied() {
        let wrong = of("gate: {top_j: 2, min_confidence: much}").unwrap_err();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong.iter().all(|it| it.starts_with("gate.")), "{wrong:?}");
        assert!(of("top_k: 0").unwrap_err()[0].starts_with("gate.top_k: "));
        assert!(
            of("rules: [{name: r, when: 'nonsense(', require: [a]}]").unwrap_err()[0].contains("gate.rules[0].when")
        );
        // Who that is may be known by the time it is read.
        assert!(of("fallback: somebody-new").is_ok());
    }

    #[tokio::test]
    async fn settings_are_put_read_and_taken_away() {
        let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new("clinic"));
        let meeting = Meeting { mesh: "clinic".to_owned(), registry, etcd: EtcdSettings::new(["http://a:1"]) };
        meeting.answered(meeting.registry.put_gate(Some("top_k: 2\n".to_owned()))).await.unwrap();
        let set = meeting.answered(meeting.registry.get_gate()).await.unwrap();
        assert_eq!(set.as_deref(), Some("top_k: 2\n"));
        meeting.answered(meeting.registry.put_gate(None)).await.unwrap();
        assert_eq!(meeting.answered(meeting.registry.get_gate()).await.unwrap(), None);
        let error = meeting.answered(meeting.registry.put_gate(Some(" ".to_owned()))).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_etcd_that_does_not_answer_is_named() {
        let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new("clinic"));
        let meeting = Meeting { mesh: "clinic".to_owned(), registry, etcd: EtcdSettings::new(["http://a:1"]) };
        let error = meeting.answered(std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!(error.trouble().headline, "etcd at http://a:1 cannot be reached");
    }
}
