//! How a gate comes to know: experts in whole fits and in quick ones, settings in whole fits and on trial. Who may change
//! what when is decided here; what is computed is in `fit` and `extend`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::background;
use crate::error::Error;
use crate::extend;
use crate::fit::{Lessons, card};
use crate::gate::Gate;
use crate::knowledge::Knowledge;
use crate::query::Profile;
use crate::settings::Settings;
use crate::signals::Spelling;
use crate::vectors::Vectors;

/// What learning needs beside the knowledge itself. A whole fit does not hold the memory while it computes, so a quick
/// one never waits for it.
pub(crate) struct Learning {
    /// Held by whole fits, from beginning to end. Its queue is fair: of several the one called last is installed last.
    turn: Mutex<()>,
    memory: Mutex<Memory>,
}

/// What the next fit starts from.
#[derive(Clone, Default)]
struct Memory {
    settings: Settings,
    /// Those that the knowledge was made from; of experts admitted lately, with the examples that were at hand.
    profiles: Vec<Profile>,
    vectors: Vectors,
    /// How often experts were admitted so far.
    admissions: u64,
}

impl Learning {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { turn: Mutex::default(), memory: Mutex::new(Memory { settings, ..Memory::default() }) }
    }
}

impl Gate {
    /// Learns the experts; decisions made meanwhile use what was known before, and so do all if this fails.
    /// Only texts that no earlier fit has seen are encoded. `profiles` replaces what was known; one an expert. Who was
    /// [admitted](Self::admit) since this was called stays, learned quickly once more on top of the result.
    pub async fn fit(&self, profiles: Vec<Profile>) -> Result<(), Error> {
        // As many as there were when it was called: whoever is admitted while it waits for its turn stays as well.
        let admissions = self.learning.memory.lock().await.admissions;
        let _turn = self.learning.turn.lock().await;
        let mut next = Memory { profiles, admissions, ..self.learning.memory.lock().await.clone() };
        let knowledge = self.learn(&mut next).await?;
        self.install(next, knowledge).await
    }

    /// Learns what is new about the experts at once, and the rest from what is known: for the seconds until
    /// [`fit`](Self::fit) is done, which may be under way or be called next. New experts are learned from their cards
    /// and the first examples; a decision does not call itself calibrated, and all queries go to the encoder.
    ///
    /// `Ok(false)`, with everything as it was, where more than half of the experts are new: that takes a whole fit.
    pub async fn admit(&self, profiles: Vec<Profile>) -> Result<bool, Error> {
        let mut memory = self.learning.memory.lock().await;
        let base = self.knowledge.load_full();
        let count = profiles.len();
        let (profiles, new) = extend::at_hand(&base, profiles, &memory.vectors);
        if 2 * new.len() > count || new.len() > extend::MOST_NEW || base.experts.is_empty() {
            return Ok(false);
        }
        let lessons = self.lessons(&memory.settings, profiles.clone()).await?;
        let texts: Vec<String> =
            new.into_iter().flat_map(|at| profiles[at].examples.iter().cloned().chain([card(&profiles[at])])).collect();
        memory.vectors.add(&self.encoder, &texts).await?;
        let knowledge = self.extend(lessons, base, &memory.vectors).await?;
        memory.profiles = profiles;
        memory.admissions += 1;
        self.knowledge.store(knowledge);
        Ok(true)
    }

    /// Replaces options, background and validation, whole or not at all: they are checked, the experts that are known
    /// are learned anew, and the result has to pass the settings' trial before it decides anything. On error everything
    /// stays as it was. Without experts there is nothing to try, and the settings are taken as they are.
    pub async fn configure(&self, settings: Settings) -> Result<(), Error> {
        check(&settings)?;
        let _turn = self.learning.turn.lock().await;
        let mut next = Memory { settings, ..self.learning.memory.lock().await.clone() };
        let knowledge = self.learn(&mut next).await?;
        if let Some(trial) = next.settings.trial.as_ref().filter(|_| !next.profiles.is_empty()) {
            let candidate = Self {
                encoder: Arc::clone(&self.encoder),
                knowledge: ArcSwap::new(Arc::clone(&knowledge)),
                rule_errors: Arc::clone(&self.rule_errors),
                learning: Learning::new(Settings::default()),
            };
            trial.pass(&candidate).await?;
        }
        self.install(next, knowledge).await
    }

    async fn lessons(&self, settings: &Settings, profiles: Vec<Profile>) -> Result<Lessons, Error> {
        let lessons = lessons(settings, profiles)?;
        let encoder = Arc::clone(&self.encoder);
        let spelt = tokio::task::spawn_blocking(move || lessons.with_spelling(&*encoder));
        spelt.await.map_err(|_| Error::Interrupted)
    }

    /// What a gate with this memory knows. It gets the vectors that takes, and no others; they are remembered in any case.
    async fn learn(&self, next: &mut Memory) -> Result<Arc<Knowledge>, Error> {
        let lessons = self.lessons(&next.settings, next.profiles.clone()).await?;
        let texts = lessons.texts();
        let encoded = next.vectors.add(&self.encoder, &texts).await;
        self.learning.memory.lock().await.vectors.take_in(next.vectors.clone());
        encoded?;
        next.vectors.retain(&texts);
        let (vectors, encoder) = (next.vectors.clone(), self.encoder.digest().to_owned());
        let errors = Arc::clone(&self.rule_errors);
        let learned = tokio::task::spawn_blocking(move || lessons.learn(&vectors, &encoder, errors));
        Ok(Arc::new(learned.await.map_err(|_| Error::Interrupted)??))
    }

    async fn extend(&self, lessons: Lessons, base: Arc<Knowledge>, vectors: &Vectors) -> Result<Arc<Knowledge>, Error> {
        let (vectors, encoder) = (vectors.clone(), self.encoder.digest().to_owned());
        let errors = Arc::clone(&self.rule_errors);
        let extended = tokio::task::spawn_blocking(move || lessons.extend(&base, &vectors, &encoder, errors));
        Ok(Arc::new(extended.await.map_err(|_| Error::Interrupted)??))
    }

    /// Puts the result of a whole fit in force. Experts admitted while it was computed are in none of it and must not
    /// drop out of the gate until the next one: what is put in force then is the result as extended by them.
    async fn install(&self, mut next: Memory, mut knowledge: Arc<Knowledge>) -> Result<(), Error> {
        let mut memory = self.learning.memory.lock().await;
        if memory.admissions != next.admissions {
            next.vectors.take_in(memory.vectors.clone());
            next.admissions = memory.admissions;
            next.profiles.clone_from(&memory.profiles);
            let lessons = self.lessons(&next.settings, next.profiles.clone()).await?;
            knowledge = self.extend(lessons, knowledge, &next.vectors).await?;
        }
        *memory = next;
        self.knowledge.store(knowledge);
        Ok(())
    }
}

pub(crate) fn check(settings: &Settings) -> Result<(), Error> {
    let mistakes = settings.options.check_alone();
    if mistakes.is_empty() { Ok(()) } else { Err(Error::Options(mistakes)) }
}

pub(crate) fn lessons(settings: &Settings, profiles: Vec<Profile>) -> Result<Lessons, Error> {
    let shipped = if settings.without_shipped { Vec::new() } else { background::shipped() };
    let lessons = Lessons {
        options: settings.options.clone(),
        background: shipped.into_iter().chain(settings.background.iter().cloned()).collect(),
        validation: settings.validation.clone(),
        profiles,
        spelling: Spelling::default(),
    };
    lessons.check()
}
