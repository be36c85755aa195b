//! `consilium up`: a mesh in this process, until somebody says stop.

use consilium_mesh::{config, drain::Signals, metrics::Metrics};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Exit;
use crate::{
    args,
    definition::Definition,
    embedded::{self, Mesh},
    environment,
    error::{Error, Trouble},
    page::Page,
    progress::Progress,
    render,
};

pub(crate) async fn run(args: &args::Up, page: &mut Page<'_>) -> Result<Exit, Error> {
    let definition = Definition::load(&args.mesh, settings(args))?;
    if args.print_config {
        let yaml = config::print(&definition.config)
            .map_err(|error| Error::Failed(Trouble::of("the settings cannot be printed", &error)))?;
        yaml.lines().try_for_each(|line| page.line(line))?;
        return Ok(Exit::Done);
    }
    let (telemetry, metrics) = super::observe(&args.runtime, &definition.config)?;
    let ran = serve(definition, args, metrics, page).await;
    telemetry.stop().await;
    ran
}

async fn serve(definition: Definition, args: &args::Up, metrics: Metrics, page: &mut Page<'_>) -> Result<Exit, Error> {
    let onnxruntime = environment::onnxruntime(args.runtime.onnxruntime.as_deref(), &args.mesh)?;

    let stop = CancellationToken::new();
    let signals = Signals::install()
        .map_err(|error| Error::Failed(Trouble::of("the signals to stop by cannot be taken over", &error)))?;
    let mut watching = JoinSet::new();
    watching.spawn(signals.obey(stop.clone(), |code| std::process::exit(code)));

    let options = embedded::Options { onnxruntime, metrics, progress: Progress::shown(), stop: stop.clone() };
    let Some(mut mesh) = Mesh::start(definition, options).await? else { return Ok(Exit::Done) };
    // Whoever started it may not read what it says (`up | head -1`): a mesh serves all the same.
    if let Err(error) = render::ready::ready(page, &mesh).map_err(Error::from)
        && !error.is_broken_pipe()
    {
        mesh.stop().await;
        return Err(error);
    }
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        error = mesh.failed() => Some(error),
    };
    let leaving = Progress::shown().step("going out of service");
    let left = mesh.stop().await;
    leaving.done(&if left == 0 { String::new() } else { format!("{left} calls were cut off") });
    failed.map_or(Ok(Exit::Done), Err)
}

/// Flags are settings like any other: checked the same way, and later than `--set`.
fn settings(args: &args::Up) -> Vec<String> {
    let mut set = args.set.clone();
    if args.ephemeral {
        set.extend(["listen=127.0.0.1:0", "admin=127.0.0.1:0"].map(str::to_owned));
    }
    set.extend(args.listen.map(|address| format!("listen={address}")));
    set.extend(args.admin.map(|address| format!("admin={address}")));
    set.extend(args.etcd.setting());
    set.extend(args.runtime.setting());
    set
}
