//! What a query is compared with: options, rules and everything learned from cards and examples, as one value that is
//! swapped whole. Holds and looks up; how it is made is in `fit`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::classifier::Classifier;
use crate::options::Options;
use crate::recall::Recall;
use crate::rules::RuleSet;
use crate::signals::Spelling;

pub(crate) struct Knowledge {
    pub(crate) revision: Arc<str>,
    pub(crate) options: Options,
    pub(crate) rules: RuleSet,
    /// By name, so that the order in which profiles arrive changes nothing.
    pub(crate) experts: Vec<Expert>,
    by_name: HashMap<Arc<str>, usize>,
    /// Classes are the experts, in their order. `None` without experts.
    pub(crate) classifiers: Option<Arc<Classifiers>>,
    /// Every declared dimension, by name.
    pub(crate) axes: Vec<Axis>,
    /// Knows nothing where queries are read as they are typed.
    pub(crate) spelling: Spelling,
    pub(crate) recall: Recall,
}

pub(crate) struct Expert {
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
    /// Name and summary, as they were learned.
    pub(crate) card: String,
    /// Those that were learned, for quoting; in the order that readings count them in.
    pub(crate) examples: Vec<String>,
    /// What it must clear to come first.
    pub(crate) bar: f64,
    /// What it must clear to come after another one.
    pub(crate) floor: f64,
    /// Indices of the experts that cannot be told apart from this one by the examples, this one left out.
    pub(crate) kin: Vec<usize>,
}

/// The classifiers of one question ("which expert?", "which audience?"), one for each tier.
pub(crate) struct Classifiers {
    pub(crate) encoder: Classifier,
    /// `None` where it can answer nothing anyway.
    pub(crate) fast: Option<Fast>,
}

/// The static tier's classifier, and from which P(class) on it may be believed. It never refuses: unusual wording looks
/// to n-grams like nobody's, and the encoder sees through that.
pub(crate) struct Fast {
    pub(crate) classifier: Classifier,
    pub(crate) bar: f64,
}

/// A declared dimension.
pub(crate) struct Axis {
    pub(crate) name: Arc<str>,
    /// In the order of the file, which is that of the classes.
    pub(crate) values: Vec<Arc<str>>,
    pub(crate) min_confidence: f64,
    /// For each value the experts that do not serve it, rising; no entry where all of them serve all.
    pub(crate) unserved: Vec<Vec<usize>>,
    /// `None` where values are only given.
    pub(crate) classifiers: Option<Arc<Classifiers>>,
}

impl Knowledge {
    pub(crate) fn new(learned: Learned, options: Options, rules: RuleSet, revision: Arc<str>) -> Self {
        let Learned { experts, classifiers, axes, spelling } = learned;
        let by_name = experts.iter().enumerate().map(|(at, expert)| (Arc::clone(&expert.name), at)).collect();
        let values = experts.len() + axes.iter().map(|axis| axis.values.len()).sum::<usize>();
        let recall = Recall::new(options.tiers.cache, values);
        Self { revision, options, rules, experts, by_name, classifiers, axes, spelling, recall }
    }

    pub(crate) fn expert(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// The part of the knowledge that is computed.
#[derive(Default)]
pub(crate) struct Learned {
    pub(crate) experts: Vec<Expert>,
    pub(crate) classifiers: Option<Arc<Classifiers>>,
    pub(crate) axes: Vec<Axis>,
    pub(crate) spelling: Spelling,
}
