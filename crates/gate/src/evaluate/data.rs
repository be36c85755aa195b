//! A labelled data set as a gate learns it: rows become profiles, background and settings. Pure.

use std::collections::BTreeMap;

use crate::options::{Dimension, DimensionClass, Mistake, Options};
use crate::query::Profile;
use crate::settings::{Labelled, Settings};

/// Three sets of rows: learned from, calibrated on, asked.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Rows for nobody are background, beside the shipped one.
    pub train: Vec<Labelled>,
    /// May be empty: then the gate calibrates on folds of what it learns from.
    pub validation: Vec<Labelled>,
    pub test: Vec<Labelled>,
}

impl Data {
    /// Keeps of `train` the first `count` rows of each expert, and every row for nobody.
    pub fn keep_first(&mut self, count: usize) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        self.train.retain(|row| {
            row.expert.as_ref().is_none_or(|expert| {
                let seen = seen.entry(expert.clone()).or_default();
                *seen += 1;
                *seen <= count
            })
        });
    }

    /// One profile for each expert of `train`, by name: its rows are its examples, and nothing else is known of it.
    pub fn profiles(&self) -> Vec<Profile> {
        let mut examples: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in &self.train {
            if let Some(expert) = &row.expert {
                examples.entry(expert).or_default().push(row.text.clone());
            }
        }
        examples
            .into_iter()
            .map(|(expert, examples)| Profile { expert: expert.to_owned(), examples, ..Profile::default() })
            .collect()
    }

    /// The experts that rows of `validation` and `test` name and no row of `train` does, with the number of such rows.
    /// They cannot be got right.
    pub fn strangers(&self) -> BTreeMap<String, usize> {
        let known: std::collections::BTreeSet<&str> =
            self.train.iter().filter_map(|row| row.expert.as_deref()).collect();
        let mut strangers = BTreeMap::new();
        for expert in self.validation.iter().chain(&self.test).filter_map(|row| row.expert.as_deref()) {
            if !known.contains(expert) {
                *strangers.entry(expert.to_owned()).or_default() += 1;
            }
        }
        strangers
    }

    /// What a gate is configured with for these rows. Dimensions that rows of `train` are labelled with are declared
    /// where `options` does not, and their rows are examples of the values. The cache of texts is off: that a text comes
    /// twice in a test says nothing of how often one does elsewhere.
    ///
    /// # Errors
    /// `train` names nobody, or a value that the options' own dimension does not declare.
    pub fn settings(&self, mut options: Options) -> Result<Settings, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        if self.train.iter().all(|row| row.expert.is_none()) {
            mistakes.push(Mistake::new("train", "names no expert", "at least one row with an expert"));
        }
        let declared: Vec<String> = options.dimensions.keys().cloned().collect();
        for row in &self.train {
            for (name, value) in &row.dimensions {
                let dimension = options.dimensions.entry(name.clone()).or_insert_with(undeclared);
                if !dimension.declares(value) && !declared.contains(name) {
                    dimension.values.push(DimensionClass { value: value.clone(), ..DimensionClass::default() });
                }
                if !dimension.add_example(Some(value), &row.text) {
                    let names: Vec<&str> = dimension.names().collect();
                    let path = format!("gate.dimensions.{name}.values");
                    let mistake = Mistake::new(
                        path,
                        format!("{value:?} is missing"),
                        format!("train has it, beside {}", names.join(", ")),
                    );
                    if !mistakes.contains(&mistake) {
                        mistakes.push(mistake);
                    }
                }
            }
        }
        options.tiers.cache = 0;
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let nobody = |rows: &[Labelled]| {
            rows.iter().filter(|row| row.expert.is_none()).map(|row| row.text.clone()).collect::<Vec<_>>()
        };
        Ok(Settings { background: nobody(&self.train), validation: self.validation.clone(), ..Settings::new(options) })
    }
}

fn undeclared() -> Dimension {
    Dimension::given(Vec::<String>::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str, expert: Option<&str>) -> Labelled {
        Labelled { text: text.to_owned(), expert: expert.map(str::to_owned), dimensions: BTreeMap::new() }
    }

    fn kind(text: &str, value: &str) -> Labelled {
        Labelled { dimensions: BTreeMap::from([("kind".to_owned(), value.to_owned())]), ..row(text, Some("a")) }
    }

    #[test]
    fn rows_become_profiles_and_background() {
        let data = Data {
            train: vec![row("b1", Some("b")), row("a1", Some("a")), row("n1", None), row("b2", Some("b"))],
            validation: vec![row("v", Some("a")), row("v", Some("x"))],
            test: vec![row("t", Some("x")), row("t", None)],
        };
        let profiles = data.profiles();
        let names: Vec<(&str, usize)> = profiles.iter().map(|it| (it.expert.as_str(), it.examples.len())).collect();
        assert_eq!(names, [("a", 1), ("b", 2)]);
        assert_eq!(data.strangers(), BTreeMap::from([("x".to_owned(), 2)]));
        let settings = data.settings(Options::default()).unwrap();
        assert_eq!((settings.background, settings.validation.len()), (vec!["n1".to_owned()], 2));
        assert_eq!((settings.options.tiers.cache, settings.without_shipped), (0, false));
    }

    #[test]
    fn the_first_of_each_expert_are_kept_and_all_for_nobody() {
        let mut data = Data {
            train: ["a", "b", "a", "a", "b"]
                .iter()
                .map(|name| row(name, Some(name)))
                .chain([row("n", None), row("m", None)])
                .collect(),
            ..Data::default()
        };
        data.keep_first(2);
        let kept: Vec<&str> = data.train.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(kept, ["a", "b", "a", "b", "n", "m"]);
    }

    #[test]
    fn dimensions_come_from_the_rows_unless_the_options_declare_them() {
        let data = Data { train: vec![kind("a1", "how"), kind("a2", "why"), kind("a3", "how")], ..Data::default() };
        let learned = data.settings(Options::default()).unwrap().options.dimensions["kind"].clone();
        assert_eq!(learned.names().collect::<Vec<_>>(), ["how", "why"]);
        assert_eq!(learned.values[0].examples, ["a1", "a3"]);

        let mut options = Options::default();
        let declared = Dimension { min_confidence: 0.9, ..Dimension::given(["how", "when", "why"]) };
        options.dimensions.insert("kind".to_owned(), declared);
        let kept = data.settings(options.clone()).unwrap().options.dimensions["kind"].clone();
        assert_eq!((kept.min_confidence, kept.values.len(), kept.values[2].examples.len()), (0.9, 3, 1));

        options.dimensions.insert("kind".to_owned(), Dimension::given(["how"]));
        let mistakes = data.settings(options).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].to_string().contains("\"why\" is missing"), "{}", mistakes[0]);
    }

    #[test]
    fn somebody_has_to_be_there_to_be_chosen() {
        let data = Data { train: vec![row("n", None)], ..Data::default() };
        assert!(data.settings(Options::default()).unwrap_err()[0].problem.contains("no expert"));
    }
}
