//! `consilium demo`: a mesh of its own, its questions, and whether the right experts answered them.

use std::{fs, path::Path};

use consilium_mesh::{dial, metrics::Metrics};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Exit, judged};
use crate::{
    args,
    client::Client,
    definition::{self, Definition},
    embedded::{self, Mesh},
    environment,
    error::Error,
    page::Page,
    patience::Patience,
    progress::Progress,
    question::{self, Question},
    render,
    round::{Asking, Round, Score},
    view::milliseconds,
};

/// Ports that the system picks, a registry that nobody else sees, and so nobody outside who would need time to notice that
/// the mesh goes away, or who would have to be sure whom it talks to.
const EPHEMERAL: [&str; 5] = ["listen=127.0.0.1:0", "admin=127.0.0.1:0", "registry={}", "settle=0s", "tls={}"];

#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    #[serde(flatten)]
    pub(crate) score: Score,
    pub(crate) start_up_ms: f64,
    /// Of this process, in which everything runs; `None` where the system does not tell.
    pub(crate) resident_bytes: Option<u64>,
}

pub(crate) async fn run(args: &args::Demo, page: &mut Page<'_>) -> Result<Exit, Error> {
    let settings = EPHEMERAL.map(str::to_owned).into_iter().chain(args.runtime.setting());
    let mesh = Definition::load(&args.mesh, settings.collect())?;
    let experts: Vec<&str> = mesh.experts.iter().map(|expert| expert.name.as_str()).collect();
    let questions = question::load(&definition::questions(&args.mesh), Some(&experts))?;
    let (telemetry, metrics) = super::observe(&args.runtime, &mesh.config)?;
    let ran = ask(mesh, questions, (args, metrics), page).await;
    telemetry.stop().await;
    ran
}

async fn ask(
    mesh: Definition,
    questions: Vec<Question>,
    (args, metrics): (&args::Demo, Metrics),
    page: &mut Page<'_>,
) -> Result<Exit, Error> {
    let options = embedded::Options {
        onnxruntime: environment::onnxruntime(args.runtime.onnxruntime.as_deref(), &args.mesh)?,
        metrics,
        progress: if args.json { Progress::silent() } else { Progress::shown() },
        // Nobody else knows of this mesh: a signal ends the whole command at once, see `crate::run`.
        stop: CancellationToken::new(),
    };
    let Some(mesh) = Mesh::start(mesh, options).await? else { return Ok(Exit::Failed) };
    let shown = show(&mesh, questions, args.json, page).await;
    mesh.stop().await;
    shown
}

async fn show(mesh: &Mesh, questions: Vec<Question>, json: bool, page: &mut Page<'_>) -> Result<Exit, Error> {
    let client = Client::new(&dial::Target::plain(mesh.router_addr().to_string()))?;
    // The connection is made here, so that the first answer does not pay for it.
    client.experts(None).await?;
    if !json {
        page.blank()?;
    }
    let asking = Asking { client: &client, deadline: None };
    let round = Round::ask(asking, questions, &mut Patience::none(), (!json).then_some(&mut *page)).await?;
    let summary = Summary {
        score: round.score(),
        start_up_ms: milliseconds(mesh.start_up()),
        resident_bytes: resident_bytes(Path::new("/proc/self/status")),
    };
    if json {
        page.json(&round.document(mesh.name(), &summary))?;
    } else {
        render::demo::summary(page, &summary)?;
    }
    Ok(judged(&summary.score))
}

/// `VmRSS:    123456 kB`, as Linux says it.
fn resident_bytes(status: &Path) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_linux_writes_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "Name:\tconsilium\nVmRSS:\t  2048 kB\n").unwrap();
        assert_eq!(resident_bytes(file.path()), Some(2 << 20));
        assert_eq!(resident_bytes(Path::new("no/such/file")), None);
    }
}
