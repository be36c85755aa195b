//! The examples of a running expert: read again when their file changes, and announced as a new card of the same version,
//! so that routers learn them without a restart. What is wrong with them changes nothing.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use consilium_mesh::{
    config::{Mistake, Mistakes},
    files::Watch,
    registry::Card,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Config, announce::Announced, metrics::Tally, server::Ready};

/// How often the file is looked at. What is the same at two looks in a row is taken up.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What keeps an expert's card as its examples are.
#[derive(Debug)]
pub(crate) struct Examples {
    pub(crate) config: Config,
    pub(crate) file: PathBuf,
    pub(crate) ready: Arc<OnceLock<Ready>>,
    pub(crate) announced: Arc<Announced>,
    pub(crate) tally: Arc<Tally>,
}

impl Examples {
    /// Until `stop`.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        let following = async {
            // As it was never looked at: what was written since it was read at the start is taken up as well.
            let mut watch = Watch::default();
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if watch.look([self.file.clone()]).await {
                    self.reload().await;
                }
            }
        };
        stop.run_until_cancelled(following).await;
    }

    async fn reload(&mut self) {
        let config = self.config.clone();
        // The file may lie on a disk that takes its time.
        let read = tokio::task::spawn_blocking(move || config.with_examples_of_now());
        let read = read.await.unwrap_or_else(|_| Err(unread(&self.file)));
        let announced = match read {
            Ok(config) if config.examples == self.config.examples => return,
            Ok(config) => self.announce(config).await,
            Err(mistakes) => Err(mistakes),
        };
        self.tally.examples_reloaded(announced.is_ok());
        match announced {
            Ok(()) => {
                let (expert, examples) = (&self.config.name, self.config.examples.len());
                tracing::info!(expert, examples, "the examples have changed: the card is announced anew");
            }
            Err(mistakes) => {
                for mistake in &mistakes {
                    tracing::error!(expert = self.config.name, %mistake, "the card stays as it is: its examples are wrong");
                }
            }
        }
    }

    async fn announce(&mut self, config: Config) -> Result<(), Mistakes> {
        let Some(ready) = self.ready.get() else { return Ok(()) };
        let card = Card { examples: config.examples.clone(), ..Card::clone(&ready.card.load()) };
        let refused = |error: consilium_mesh::registry::Error| mistake(&self.file, error.to_string());
        self.announced.card(card.clone()).await.map_err(refused)?;
        ready.card.store(Arc::new(card));
        self.config = config;
        Ok(())
    }
}

fn unread(file: &std::path::Path) -> Mistakes {
    mistake(file, "could not be read to the end".to_owned())
}

fn mistake(file: &std::path::Path, problem: String) -> Mistakes {
    let file = file.display().to_string();
    Mistake { file, path: String::new(), problem, expected: "queries that this expert should get, one a line".into() }
        .into()
}
