//! One expert as a process of its own: from arguments to an exit code. What the arguments are is in `args`, how an
//! instance is configured in `settings`; what an expert is and how it lives knows nothing of this module.

mod args;
mod settings;

use std::{sync::Arc, time::Duration};

use consilium_engine::{Store, StoreOptions};
use consilium_mesh::{
    admin::Admin,
    config::Mistakes,
    logs,
    process::{Error, Ports, Stop, print_config},
    registry::Registry,
    telemetry,
    tls::Tls,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::args::Args;
use self::settings::Settings;
use crate::{Config, Options, Service};

/// For the engines to end once the last call has ended or was cut off: at most one run of the model.
const ENGINES_END: Duration = Duration::from_secs(5);

/// Runs the expert that `args` describe until a signal asks it to go, and takes it out of service in good order. A second
/// signal ends the process at once.
///
/// # Errors
/// Before anything is opened: everything that is wrong with the configuration. After that: whatever kept it from serving.
pub async fn run(args: Args) -> Result<(), Error> {
    let (expert, settings) = read(&args)?;
    if args.flags.print_config {
        return print_config(&settings);
    }
    let mut options = settings.options(expert);
    options.metrics = args.flags.metrics();
    let service = telemetry::Service {
        name: options.config.name.clone(),
        namespace: settings.mesh.clone().unwrap_or_default(),
        version: options.config.version.clone(),
        instance: Some(options.instance().to_owned()),
    };
    let telemetry = telemetry::start(&args.flags.log, logs::Format::Auto, &settings.traces, service, &options.metrics);
    let telemetry = telemetry.map_err(Error::Telemetry)?;
    let ran = Box::pin(secured(options, &settings, &args)).await;
    telemetry.stop().await;
    ran
}

/// With the certificates that the settings name, for as long as it runs also those that come after them.
async fn secured(mut options: Options, settings: &Settings, args: &Args) -> Result<(), Error> {
    let tls = Tls::open(&settings.tls, &options.metrics);
    let tls = tls.map_err(|error| Error::wrong("the certificates cannot be used", error))?;
    options.serve.tls = tls.server();
    tokio::select! {
        ran = answer(options, settings, args) => ran,
        never = tls.follow() => match never {},
    }
}

async fn answer(options: Options, settings: &Settings, args: &Args) -> Result<(), Error> {
    let unusable = |error| Error::wrong("ONNX Runtime cannot be used", error);
    let onnxruntime = consilium_engine::locate(args.flags.onnxruntime.as_deref(), &args.expert).map_err(unusable)?;
    let stop = Stop::on_signals()?;
    let ports = Ports::open(settings.listen, settings.admin).await?;
    let metrics = options.metrics.clone();
    let registry = settings.registry.open(settings.mesh.as_deref().unwrap_or_default(), &metrics);
    let registry = registry.map_err(Error::Registry)?;
    let expert = &options.config.name;
    ports.announce(&format!("consilium-expert {expert}"));
    match &settings.registry.etcd {
        None => {
            tracing::warn!(expert, "no registry is configured: this instance announces itself to nobody");
        }
        Some(etcd) if !etcd.is_local() && settings.announce.is_none() && ports.address.ip().is_loopback() => {
            tracing::warn!(address = %ports.address, "announced on loopback: only routers of this machine can call it");
        }
        Some(_) => {}
    }

    let store = StoreOptions { onnxruntime: Some(onnxruntime), metrics, ..StoreOptions::default() };
    let store = Store::open(store).map_err(unusable)?;
    // On the heap, because everything that an expert is made of is in this future.
    let ran = Box::pin(serve(options, ports, &store, registry, stop.asked.clone())).await;
    if timeout(ENGINES_END, store.close()).await.is_err() {
        tracing::warn!("the engines were still busy at the end");
    }
    ran
}

/// Everything wrong with both files comes out together.
fn read(args: &Args) -> Result<(Config, Settings), Error> {
    let mut mistakes = Mistakes::default();
    let expert = mistakes.take(Config::load(&args.expert));
    let settings = mistakes.take(Settings::load(args.config.as_deref(), &args.overlay()));
    match (expert, settings) {
        (Some(expert), Some(settings)) => Ok((expert, settings)),
        _ => Err(Error::Config(mistakes)),
    }
}

async fn serve(
    options: Options,
    ports: Ports,
    store: &Store,
    registry: Arc<dyn Registry>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let metrics = options.metrics.clone();
    let service = Service::new(options, ports.service, store.clone(), registry);
    // It stays until the very end: whoever probes can see how the instance leaves.
    let admin =
        Admin::start(ports.admin, vec![service.readiness(), service.announcement()], metrics).map_err(Error::Admin)?;
    let ran = crate::run(service, stop).await;
    admin.stop();
    ran.map_err(|error| Error::failed("the expert cannot serve", error))
}
