//! Fitting: from profiles, options and texts to what a query is compared with. Runs off the request path, whenever
//! cards or settings change; a request sees either the old result or the new one, never a mixture.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sha2::{Digest, Sha256};

use crate::bars::{self, Judge};
use crate::classifier::{Class, Classifier, Corpus, HeldOut};
use crate::encoder::Encoder;
use crate::error::Error;
use crate::knowledge::{Axis, Classifiers, Expert, Fast, Knowledge, Learned};
use crate::options::{Bar, Dimension, Options, StaticTier};
use crate::query::Profile;
use crate::rules::RuleSet;
use crate::settings::Labelled;
use crate::signals::Spelling;
use crate::vectors::{Texts, Tier, Vectors};

/// Part of the revision: raised when the same texts come to other probabilities than before.
const ALGORITHM: &str = "3";

/// What a gate learns from. Immutable, so that a fit under way is not disturbed by the next one's settings.
pub(crate) struct Lessons {
    pub(crate) options: Options,
    pub(crate) background: Vec<String>,
    pub(crate) validation: Vec<Labelled>,
    /// By name, none twice.
    pub(crate) profiles: Vec<Profile>,
    /// [Learned](Lessons::with_spelling) from the rest.
    pub(crate) spelling: Spelling,
}

impl Lessons {
    /// Puts the profiles in order; `Err` where two are of one expert.
    pub(crate) fn check(mut self) -> Result<Self, Error> {
        self.profiles.sort_by(|a, b| a.expert.cmp(&b.expert));
        match self.profiles.iter().zip(self.profiles.iter().skip(1)).find(|(a, b)| a.expert == b.expert) {
            Some((twin, _)) => Err(Error::DuplicateExpert(twin.expert.clone())),
            None => Ok(self),
        }
    }

    /// Learns the words of the texts, where typing errors are to be put right, and does so in the validation's queries: they
    /// stand for live ones. Tens of milliseconds where there are tens of thousands of texts.
    pub(crate) fn with_spelling(mut self, encoder: &dyn Encoder) -> Self {
        if !self.options.spelling || self.profiles.is_empty() {
            return self;
        }
        let own = self.own_texts();
        let spelling = Spelling::learn(own.iter().map(String::as_str), self.background.iter().map(String::as_str));
        for row in &mut self.validation {
            if let Cow::Owned(repaired) = spelling.repair(&row.text, |word| encoder.knows(word)) {
                row.text = repaired;
            }
        }
        Self { spelling, ..self }
    }

    /// Every text whose vectors are needed. None while there are no experts: nothing would be compared with them.
    pub(crate) fn texts(&self) -> Vec<String> {
        if self.profiles.is_empty() {
            return Vec::new();
        }
        let mut texts = self.own_texts();
        texts.extend(self.background.iter().cloned());
        texts.extend(self.validation.iter().map(|row| row.text.clone()));
        texts
    }

    /// What cards and dimensions say: examples and descriptions.
    fn own_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> =
            self.profiles.iter().flat_map(|profile| profile.examples.iter().cloned()).collect();
        texts.extend(self.profiles.iter().map(card));
        for dimension in self.options.dimensions.values().filter(|dimension| dimension.is_inferred()) {
            texts.extend(dimension.values.iter().flat_map(|class| class.examples.iter().cloned()));
            texts.extend(dimension.unknown.iter().cloned());
            texts.extend(dimension.values.iter().map(|class| described(&class.value, &class.summary)));
        }
        texts
    }

    /// Names what decides alike: the same revision if and only if everything that decisions depend on is the same.
    pub(crate) fn revision(&self, encoder: &str) -> Arc<str> {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        part(ALGORITHM);
        part(encoder);
        // None of these types holds anything that JSON cannot say, and their maps are ordered.
        part(&serde_json::to_string(&self.options).unwrap_or_default());
        part(&serde_json::to_string(&self.background).unwrap_or_default());
        part(&serde_json::to_string(&self.validation).unwrap_or_default());
        for profile in &self.profiles {
            for text in [&profile.expert, &profile.version, &profile.summary, &profile.digest] {
                part(text);
            }
            part(&serde_json::to_string(&profile.examples).unwrap_or_default());
            part(&serde_json::to_string(&profile.serves).unwrap_or_default());
        }
        let start = hash.finalize().iter().take(6).fold(0u64, |start, &byte| start << 8 | u64::from(byte));
        format!("{start:012x}").into()
    }

    /// The knowledge of a gate that knows these experts. Seconds of arithmetic: not for a thread that serves queries.
    pub(crate) fn learn(self, vectors: &Vectors, encoder: &str, errors: Arc<AtomicU64>) -> Result<Knowledge, Error> {
        let revision = self.revision(encoder);
        let rules = RuleSet::compile(&self.options).map_err(Error::Options)?.counting_in(errors);
        let learned = if self.profiles.is_empty() {
            Learned { axes: self.axes(|_, _| None), ..Learned::default() }
        } else {
            let (experts, classifiers) = self.judged(vectors);
            let axes = self.axes(|name, dimension| Some(Arc::new(self.classifiers(name, dimension, vectors))));
            Learned { experts, classifiers: Some(Arc::new(classifiers)), axes, ..Learned::default() }
        };
        let learned = Learned { spelling: self.spelling, ..learned };
        Ok(Knowledge::new(learned, self.options, rules, revision))
    }

    /// The texts of the experts' classifiers.
    pub(crate) fn source(&self) -> Source<'_> {
        let names: BTreeMap<&str, usize> =
            self.profiles.iter().enumerate().map(|(at, profile)| (profile.expert.as_str(), at)).collect();
        // A row of an expert that is not known (yet) says neither that it is right nor that nobody is.
        let held_out = self.validation.iter().filter_map(|row| match &row.expert {
            Some(expert) => names.get(expert.as_str()).map(|&class| (row.text.as_str(), Some(class))),
            None => Some((row.text.as_str(), None)),
        });
        Source {
            classes: self.profiles.iter().map(|profile| (card(profile), profile.examples.as_slice())).collect(),
            background: self.background.iter().collect(),
            held_out: held_out.collect(),
        }
    }

    fn judged(&self, vectors: &Vectors) -> (Vec<Expert>, Classifiers) {
        let source = self.source();
        let encoder = Classifier::fit(&source.corpus(&vectors.of(Tier::Encoder)));
        let experts = self.experts(encoder.held_out());
        let bars: Vec<f64> = experts.iter().map(|expert| expert.bar).collect();
        let judge = Judge { bars: &bars, refuse_above: self.options.refuse_above };
        let fast = self.fast(&source, vectors, &encoder, &judge);
        (experts, Classifiers { encoder, fast })
    }

    /// The experts with what these predictions say of them.
    pub(crate) fn experts(&self, predictions: &[HeldOut]) -> Vec<Expert> {
        let bars = self.bars(predictions);
        // A stated error is one of each expert by itself: what two of them come to together was never held against it.
        let states = |profile: &Profile| {
            self.options.max_error.is_some()
                || self.options.bars.get(&profile.expert).is_some_and(|bar| bar.max_error.is_some())
        };
        let mut kin = bars::kin(predictions, self.profiles.len());
        for (kin, _) in kin.iter_mut().zip(&self.profiles).filter(|(_, profile)| states(profile)) {
            kin.clear();
        }
        let experts = self.profiles.iter().zip(bars).zip(kin).map(|((profile, (bar, floor)), kin)| Expert {
            name: profile.expert.as_str().into(),
            version: profile.version.as_str().into(),
            card: card(profile),
            examples: profile.examples.clone(),
            bar,
            floor,
            kin,
        });
        experts.collect()
    }

    /// The bars of each expert: to come first, and to come after another.
    fn bars(&self, predictions: &[HeldOut]) -> Vec<(f64, f64)> {
        let Options { min_confidence, max_error, bars, floor, refuse_above, .. } = &self.options;
        let shared = max_error.map_or(0.0, |error| bars::for_error(predictions.iter(), error, *refuse_above));
        let of = |(class, profile): (usize, &Profile)| {
            let own = bars.get(&profile.expert).cloned().unwrap_or_default();
            let stated = own.max_error.map_or(shared, |error| {
                bars::for_error(predictions.iter().filter(|said| said.best == class), error, *refuse_above)
            });
            let first = own.min_confidence.unwrap_or(*min_confidence).max(stated);
            // Who sets a bar for this one expert does not mean it for the first place only.
            let after = if own == Bar::default() { *floor } else { first.max(*floor) };
            (first, after)
        };
        self.profiles.iter().enumerate().map(of).collect()
    }

    /// All declared dimensions. What reads them in a query is asked for where anything may be inferred.
    pub(crate) fn axes(&self, classifiers: impl Fn(&str, &Dimension) -> Option<Arc<Classifiers>>) -> Vec<Axis> {
        self.options
            .dimensions
            .iter()
            .map(|(name, dimension)| Axis {
                name: name.as_str().into(),
                values: dimension.names().map(Into::into).collect(),
                min_confidence: dimension.min_confidence,
                unserved: dimension.names().map(|value| self.unserved(name, value)).collect(),
                classifiers: if dimension.is_inferred() { classifiers(name, dimension) } else { None },
            })
            .collect()
    }

    /// The experts that declare which values of the dimension they serve, and leave this one out.
    fn unserved(&self, dimension: &str, value: &str) -> Vec<usize> {
        let unserved = |profile: &Profile| {
            profile.serves.get(dimension).is_some_and(|served| !served.iter().any(|other| other == value))
        };
        (0..self.profiles.len()).filter(|&at| unserved(&self.profiles[at])).collect()
    }

    fn classifiers(&self, name: &str, dimension: &Dimension, vectors: &Vectors) -> Classifiers {
        // What belongs to no expert has no value either; any other row without a label says nothing.
        let held_out = self.validation.iter().filter_map(|row| match row.dimensions.get(name) {
            Some(value) => {
                dimension.names().position(|known| known == value).map(|class| (row.text.as_str(), Some(class)))
            }
            None => row.expert.is_none().then_some((row.text.as_str(), None)),
        });
        let source = Source {
            classes: dimension
                .values
                .iter()
                .map(|class| (described(&class.value, &class.summary), class.examples.as_slice()))
                .collect(),
            background: self.background.iter().chain(&dimension.unknown).collect(),
            held_out: held_out.collect(),
        };
        let encoder = Classifier::fit(&source.corpus(&vectors.of(Tier::Encoder)));
        let bars = vec![dimension.min_confidence; dimension.values.len()];
        let judge = Judge { bars: &bars, refuse_above: 1.0 };
        let fast = self.fast(&source, vectors, &encoder, &judge);
        Classifiers { encoder, fast }
    }

    /// The static tier's classifier of the same classes, if it may answer anything.
    fn fast(&self, source: &Source<'_>, vectors: &Vectors, encoder: &Classifier, judge: &Judge<'_>) -> Option<Fast> {
        let is_shown = encoder.calibrated() && vectors.have_static();
        if self.options.tiers.static_tier == StaticTier::Off || !is_shown {
            return None;
        }
        let classifier = Classifier::glance(&source.corpus(&vectors.of(Tier::Static)));
        if !classifier.calibrated() {
            return None;
        }
        let (full, cheap) = (encoder.held_out(), classifier.held_out());
        let loss = self.options.tiers.static_loss;
        let bar = bars::static_bar(full, cheap, judge, loss)?;
        Some(Fast { classifier, bar })
    }
}

/// The texts of one classifier; their order is what pairs the predictions of the tiers.
pub(crate) struct Source<'a> {
    /// Card and examples.
    classes: Vec<(String, &'a [String])>,
    background: Vec<&'a String>,
    held_out: Vec<(&'a str, Option<usize>)>,
}

impl Source<'_> {
    pub(crate) fn corpus(&self, texts: &Texts<'_>) -> Corpus {
        let class = |(card, examples): &(String, &[String])| Class {
            card: texts.get(card),
            examples: examples.iter().map(|text| texts.get(text)).collect(),
        };
        Corpus {
            classes: self.classes.iter().map(class).collect(),
            background: self.background.iter().map(|text| texts.get(text)).collect(),
            held_out: self.held_out.iter().map(|(text, truth)| (texts.get(text), *truth)).collect(),
        }
    }
}

/// What an expert says of itself.
pub(crate) fn card(profile: &Profile) -> String {
    described(&profile.expert, &profile.summary)
}

/// The name says as much as the summary and is often all that an early card has.
fn described(name: &str, summary: &str) -> String {
    let name = name.replace(['-', '_'], " ");
    if summary.trim().is_empty() { name } else { format!("{name}: {}", summary.trim()) }
}
