//! The router as a process of its own: from arguments to an exit code. What the arguments are is in `args`; how a router
//! routes knows nothing of this module.

mod args;

use std::{sync::Arc, time::Duration};

use consilium_engine::{Engine, EngineOptions, Store, StoreOptions};
use consilium_mesh::{
    admin::Admin,
    config::Mistakes,
    logs,
    metrics::Metrics,
    process::{Error, Ports, Stop, print_config},
    telemetry,
};
use tokio::time::timeout;

pub use self::args::Args;
use crate::{Config, Parts};

/// For the encoder to end once the last call has ended or was cut off: at most one run of the model.
const ENCODER_ENDS: Duration = Duration::from_secs(5);

/// Routes for the mesh that `args` describe until a signal asks it to go, and leaves in good order. A second signal ends
/// the process at once.
///
/// # Errors
/// Before anything is opened: everything that is wrong with the configuration. After that: whatever kept it from serving.
pub async fn run(args: Args) -> Result<(), Error> {
    let config = read(&args).map_err(Error::Config)?;
    if args.flags.print_config {
        return print_config(&config);
    }
    let metrics = args.flags.metrics();
    let service = telemetry::Service {
        name: "router".to_owned(),
        namespace: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: None,
    };
    let telemetry = telemetry::start(&args.flags.log, logs::Format::Auto, &config.traces, service, &metrics);
    let telemetry = telemetry.map_err(Error::Telemetry)?;
    // On the heap, because everything that a router is made of is in this future.
    let ran = Box::pin(route(config, &args, metrics)).await;
    telemetry.stop().await;
    ran
}

async fn route(config: Config, args: &Args, metrics: Metrics) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let ports = Ports::open(config.listen, config.admin).await?;
    ports.announce("consilium-router");

    let readiness = crate::readiness();
    let encoder = readiness.latch("encoder");
    // It stays until the very end: whoever probes can see how the router leaves.
    let admin = Admin::start(ports.admin, vec![readiness.clone()], metrics.clone()).map_err(Error::Admin)?;
    // Never waits for etcd: the router hears of the mesh while it loads its encoder.
    let registry = config.registry.open(&config.name, &metrics).map_err(Error::Registry)?;

    let Some(loaded) = stop.asked.run_until_cancelled(load(&config, args, &metrics)).await else { return Ok(()) };
    let (store, engine) = loaded?;
    encoder.set();
    let parts = Parts { listener: ports.service, registry, encoder: Arc::new(engine), metrics, readiness };
    let ran = crate::run(config, parts, stop.asked.clone()).await;
    if timeout(ENCODER_ENDS, store.close()).await.is_err() {
        tracing::warn!("the encoder was still busy at the end");
    }
    admin.stop();
    ran.map(drop).map_err(|error| Error::failed("the router ended", error))
}

/// Everything wrong with the file and what is laid over it comes out together.
fn read(args: &Args) -> Result<Config, Mistakes> {
    let config = Config::load(&args.mesh, &args.overlay())?;
    config.check_alone(&args.mesh.display().to_string()).into_result()?;
    Ok(config)
}

/// The gate's encoder, and the store that it lives in.
async fn load(config: &Config, args: &Args, metrics: &Metrics) -> Result<(Store, Engine), Error> {
    let wrong = |error| Error::wrong("the gate's encoder cannot be used", error);
    let onnxruntime = consilium_engine::locate(args.flags.onnxruntime.as_deref(), &args.mesh).map_err(wrong)?;
    let store = StoreOptions { onnxruntime: Some(onnxruntime), metrics: metrics.clone(), ..StoreOptions::default() };
    let store = Store::open(store).map_err(wrong)?;
    let model = &config.gate.encoder;
    let engine = store.load(&config.models.join(model), EngineOptions::default()).await.map_err(wrong)?;
    if let Err(problem) = engine.manifest().embedding() {
        return Err(Error::wrong("the gate's encoder cannot be used", format!("{model} {problem}")));
    }
    Ok((store, engine))
}
