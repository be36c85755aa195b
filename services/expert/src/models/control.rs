//! Loading and unloading models while others are served. All changes are made by one task, one after the other: whoever
//! asks for one may go away without leaving it half done.

use std::sync::{Arc, Weak};

use consilium_engine::Error as EngineError;
use consilium_mesh::inference::Readiness;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Change, Entry, Loader, Models, look, served::Served};
use crate::announce::Announced;

/// Orders that may wait; more of them wait with their senders.
const WAITING: usize = 16;

/// What gives orders.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    orders: mpsc::Sender<Order>,
}

/// What carries them out.
#[derive(Debug)]
pub(crate) struct Controller {
    models: Arc<Models>,
    loader: Loader,
    orders: mpsc::Receiver<Order>,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// There is no such model in the repository.
    Unknown,
    NotLoadable {
        reasons: String,
    },
    /// The expert goes out of service.
    Stopping,
}

#[derive(Debug)]
struct Order {
    model: String,
    what: What,
    done: oneshot::Sender<Result<(), NotDone>>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Load,
    Unload,
}

/// Both ends, over `models`.
pub(crate) fn control(models: Arc<Models>, loader: Loader) -> (Control, Controller) {
    let (sender, orders) = mpsc::channel(WAITING);
    (Control { orders: sender }, Controller { models, loader, orders })
}

impl Control {
    /// Serves the highest version of `model` that is in the repository. What was served before answers until the new one
    /// is warm. Dropping the future does not end the work.
    pub(crate) async fn load(&self, model: &str) -> Result<(), NotDone> {
        self.order(model, What::Load).await
    }

    /// Takes `model` out of service, once it has answered those that wait for it. Once more is no error.
    pub(crate) async fn unload(&self, model: &str) -> Result<(), NotDone> {
        self.order(model, What::Unload).await
    }

    async fn order(&self, model: &str, what: What) -> Result<(), NotDone> {
        let (done, outcome) = oneshot::channel();
        let order = Order { model: model.to_owned(), what, done };
        self.orders.send(order).await.map_err(|_| NotDone::Stopping)?;
        outcome.await.unwrap_or(Err(NotDone::Stopping))
    }
}

impl Controller {
    /// Works until `stop`. `announced` hears of every change, as long as anybody else holds it: a registration that is
    /// dropped must vanish at once.
    pub(crate) async fn run(mut self, announced: Weak<Announced>, stop: CancellationToken) {
        let working = async {
            while let Some(Order { model, what, done }) = self.orders.recv().await {
                let outcome = match what {
                    What::Load => self.load(&model, &announced).await,
                    What::Unload => self.unload(&model, &announced).await,
                };
                // Whoever gave the order may not have waited.
                let _ = done.send(outcome);
            }
        };
        stop.run_until_cancelled(working).await;
    }

    async fn load(&self, model: &str, announced: &Weak<Announced>) -> Result<(), NotDone> {
        let found = self.highest(model).await?;
        let version = found.number.to_string();
        let old = self.models.entry(model).unwrap_or_default();
        let changed = |state| Entry { change: Some(Change { version: version.clone(), state }), ..old.clone() };
        self.models.put(model, &changed(Readiness::Loading));
        let new = match self.loader.load(model, &found).await {
            Ok(new) => new,
            Err(error) => {
                let reasons = reasons(&error);
                tracing::warn!(model, version, reasons, "model not loaded");
                self.models.put(model, &changed(Readiness::Unavailable(reasons.clone())));
                return Err(NotDone::NotLoadable { reasons });
            }
        };
        if let Some(same) = old.serving.as_ref().filter(|old| is_same(old, &new)) {
            // What is served goes on with its statistics. The load that has just been made is undone.
            self.models.put(model, &Entry { serving: Some(Arc::clone(same)), change: None });
            self.loader.store.unload(new.engine).await;
            return Ok(());
        }
        self.models.put(model, &Entry::of(new));
        self.announce(announced, None).await;
        if let Some(old) = old.serving {
            self.loader.store.unload(old.engine.clone()).await;
        }
        Ok(())
    }

    async fn unload(&self, model: &str, announced: &Weak<Announced>) -> Result<(), NotDone> {
        let Some(entry) = self.models.entry(model) else {
            // There, but never loaded: nothing to do.
            return self.highest(model).await.map(drop);
        };
        let Some(served) = entry.serving else { return Ok(()) };
        // Routers first, so that they look for it elsewhere.
        self.announce(announced, Some(model)).await;
        let changed = |state| Entry { serving: None, change: Some(Change { version: served.version.clone(), state }) };
        self.models.put(model, &changed(Readiness::Unloading));
        self.loader.store.unload(served.engine.clone()).await;
        self.models.put(model, &changed(Readiness::Unavailable("unloaded".to_owned())));
        tracing::info!(model, version = served.version, "model unloaded");
        Ok(())
    }

    async fn highest(&self, model: &str) -> Result<super::Version, NotDone> {
        let Some(dir) = &self.models.repository else { return Err(NotDone::Unknown) };
        match look(dir).await {
            Ok(mut found) => found.models.remove(model).ok_or(NotDone::Unknown),
            Err(error) => {
                tracing::warn!(%error, "the repository cannot be read");
                Err(NotDone::NotLoadable { reasons: format!("the repository cannot be read: {error}") })
            }
        }
    }

    /// Tells the registry what is served, `without` what is about to go.
    async fn announce(&self, announced: &Weak<Announced>, without: Option<&str>) {
        let Some(announced) = announced.upgrade() else { return };
        let mut models = self.models.refs();
        models.retain(|model| Some(model.name.as_str()) != without);
        let typical = self.models.typical();
        announced.models(models, typical.map(|served| served.engine.cost().clone())).await;
    }
}

/// Bytes decide: the same version may have been written anew.
fn is_same(old: &Served, new: &Served) -> bool {
    old.version == new.version && old.engine.digest() == new.engine.digest()
}

/// What is wrong with a model, without where it lies.
fn reasons(error: &EngineError) -> String {
    match error {
        EngineError::Manifest { problems, .. } => problems.join("; "),
        EngineError::Model { problem, source: Some(source), .. } => format!("{problem}: {source}"),
        EngineError::Model { problem, source: None, .. } => problem.clone(),
        other => other.to_string(),
    }
}
