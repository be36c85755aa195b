//! The `feedback` section of `mesh.yaml`, and all that can be wrong with it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::config::{self, Mistakes};
use serde::{Deserialize, Serialize};

use super::{
    declared::{Declared, Kind, METRIC_NAME, is_metric_name},
    keys::{self, Problem},
    private::{directory, open_to_others},
};

/// A form has fewer; each of them is a time series for each expert.
pub(super) const MAX_METRICS: usize = 32;
const DEFAULT_WINDOW: Duration = Duration::from_hours(30 * 24);
/// As far from zero as a number may be, where nothing less is said: sums of such numbers stay far from infinite.
const MAX_NUMBER: f64 = 1e12;
const DEFAULT_TEXT_BYTES: usize = 2000;
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Raw as written, with complete paths once [`Settings::check`] has found nothing wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What callers may say, by name. None: there is no feedback.
    pub metrics: BTreeMap<String, Metric>,
    /// The keys that sign tokens. None: a random one, for as long as the process lives.
    pub key_file: Option<PathBuf>,
    /// Where accepted feedback is kept. None: it is counted only.
    pub journal: Option<PathBuf>,
    /// How long after an answer feedback is taken.
    #[serde(with = "config::duration")]
    pub window: Duration,
}

/// One thing to say about an answer, as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metric {
    /// `boolean`, `number` or `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { metrics: BTreeMap::new(), key_file: None, journal: None, window: DEFAULT_WINDOW }
    }
}

impl Settings {
    /// Completes paths, which start at `base`, and says everything that is wrong with the section `feedback` of `file`.
    pub(crate) fn check(&mut self, file: &str, base: &Path) -> Mistakes {
        let mut found = Found { file, mistakes: Mistakes::default() };
        if self.metrics.is_empty() && (self.key_file.is_some() || self.journal.is_some()) {
            let expected = "at least one: without any, nobody is asked for feedback";
            found.add("feedback.metrics", "empty".into(), expected);
        }
        if self.metrics.len() > MAX_METRICS {
            found.add("feedback.metrics", self.metrics.len().to_string(), &format!("at most {MAX_METRICS}"));
        }
        for (name, metric) in &self.metrics {
            if !is_metric_name(name) {
                found.add("feedback.metrics", format!("the name {name:?}"), METRIC_NAME);
            }
            metric.check(&format!("feedback.metrics.{name}"), &mut found);
        }
        if let Some(path) = &mut self.key_file {
            *path = base.join(&*path);
            found.key_file(path);
        }
        if let Some(path) = &mut self.journal {
            *path = base.join(&*path);
            found.journal(path, self.key_file.as_deref());
        }
        if self.window.is_zero() {
            found.add("feedback.window", "zero".into(), "a duration above zero, for example 30d");
        }
        found.mistakes
    }

    /// The metrics in the form that feedback is held against.
    pub(super) fn declared(&self) -> Declared {
        let known = |(name, metric): (&String, &Metric)| Some((name.clone(), metric.kind()?));
        Declared(self.metrics.iter().filter_map(known).collect())
    }
}

impl Metric {
    fn kind(&self) -> Option<Kind> {
        match self.kind.as_deref()? {
            "boolean" => Some(Kind::Boolean),
            "number" => {
                Some(Kind::Number { min: self.min.unwrap_or(-MAX_NUMBER), max: self.max.unwrap_or(MAX_NUMBER) })
            }
            "text" => Some(Kind::Text { max_bytes: self.max_bytes.unwrap_or(DEFAULT_TEXT_BYTES) }),
            _ => None,
        }
    }

    fn check(&self, path: &str, found: &mut Found<'_>) {
        let Some(kind) = self.kind() else {
            let problem = self.kind.as_ref().map_or_else(|| "missing".to_owned(), |kind| format!("{kind:?}"));
            return found.add(&format!("{path}.kind"), problem, "boolean, number or text");
        };
        let (number, text) = (matches!(kind, Kind::Number { .. }), matches!(kind, Kind::Text { .. }));
        for (key, is_given, means) in [
            ("min", self.min.is_some(), number),
            ("max", self.max.is_some(), number),
            ("max_bytes", self.max_bytes.is_some(), text),
        ] {
            if is_given && !means {
                let problem = format!("a {} has none", kind.as_str());
                found.add(&format!("{path}.{key}"), problem, "no such key here");
            }
        }
        match kind {
            Kind::Number { min, max } => {
                let far: Vec<_> =
                    [("min", min), ("max", max)].into_iter().filter(|(_, bound)| !is_near(*bound)).collect();
                for (key, bound) in &far {
                    let expected = format!("a number from {} to {MAX_NUMBER}", -MAX_NUMBER);
                    found.add(&format!("{path}.{key}"), format!("{bound:?}"), &expected);
                }
                if far.is_empty() && min > max {
                    found.add(&format!("{path}.min"), format!("{min} is more than max, {max}"), "at most max");
                }
            }
            Kind::Text { max_bytes } if !(1..=MAX_TEXT_BYTES).contains(&max_bytes) => {
                let expected = format!("1 to {MAX_TEXT_BYTES} bytes");
                found.add(&format!("{path}.max_bytes"), max_bytes.to_string(), &expected);
            }
            Kind::Boolean | Kind::Text { .. } => {}
        }
    }
}

/// Whether numbers can be held against it and added up. No number is not.
fn is_near(bound: f64) -> bool {
    (-MAX_NUMBER..=MAX_NUMBER).contains(&bound)
}

/// The mistakes so far.
struct Found<'a> {
    file: &'a str,
    mistakes: Mistakes,
}

impl Found<'_> {
    fn add(&mut self, path: &str, problem: String, expected: &str) {
        self.mistakes.add((self.file, path), problem, expected);
    }

    fn key_file(&mut self, path: &Path) {
        match keys::read(path) {
            Ok(Some(_)) => {}
            Ok(None) => self.lies_in_a_directory("feedback.key_file", path),
            Err(problem) => {
                self.add("feedback.key_file", format!("{}: {problem}", path.display()), keys::EXPECTED);
            }
        }
    }

    fn journal(&mut self, path: &Path, key_file: Option<&Path>) {
        if key_file == Some(path) {
            self.add("feedback.journal", format!("{} is the key file", path.display()), "a file of its own");
        } else if path.exists() && !path.is_file() {
            self.add("feedback.journal", format!("{} is no file", path.display()), "a file that lines can be added to");
        } else if let Some(mode) = path.metadata().ok().as_ref().and_then(open_to_others) {
            let problem = format!("{}: {}", path.display(), Problem::Open(mode));
            self.add("feedback.journal", problem, "a file that only the router's user and group may read");
        } else {
            self.lies_in_a_directory("feedback.journal", path);
        }
    }

    fn lies_in_a_directory(&mut self, key: &str, path: &Path) {
        let dir = directory(path);
        if !dir.is_dir() {
            self.add(key, format!("{} is no directory", dir.display()), "a file in a directory that exists");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use consilium_mesh::config::{Overlay, Source, parse};

    use super::*;

    /// The section by itself.
    fn check(yaml: &str, base: &Path) -> (Settings, Vec<(String, String)>) {
        let source = Source { file: "mesh.yaml".into(), text: yaml.into() };
        let mut settings: Settings = parse(&source, &Overlay::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
        let mistakes = settings.check("mesh.yaml", base);
        (settings, mistakes.into_iter().map(|mistake| (mistake.path, mistake.problem)).collect())
    }

    fn paths(yaml: &str) -> Vec<String> {
        check(yaml, Path::new("/")).1.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn nothing_said_is_no_feedback_and_metrics_alone_are_enough() {
        let (settings, mistakes) = check("{}", Path::new("/"));
        assert!(mistakes.is_empty() && settings.declared().0.is_empty());
        let yaml = "metrics: {helpful: {kind: boolean}, rating: {kind: number, min: 1, max: 5}, comment: {kind: text}}";
        let (settings, mistakes) = check(yaml, Path::new("/"));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let expected = [
            ("comment", Kind::Text { max_bytes: 2000 }),
            ("helpful", Kind::Boolean),
            ("rating", Kind::Number { min: 1.0, max: 5.0 }),
        ];
        assert!(settings.declared().0.iter().map(|(name, kind)| (name.as_str(), *kind)).eq(expected));
        assert_eq!(settings.window, Duration::from_hours(720));
        let (settings, mistakes) = check("metrics: {a: {kind: number}, b: {kind: number, min: 0}}", Path::new("/"));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let bounds = [Kind::Number { min: -1e12, max: 1e12 }, Kind::Number { min: 0.0, max: 1e12 }];
        assert!(settings.declared().0.into_values().eq(bounds), "sums of what is taken stay finite");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let yaml = "
metrics:
  Rating: {kind: number, min: 5, max: 1}
  a: {}
  b: {kind: stars}
  c: {kind: boolean, min: 1, max: 2, max_bytes: 3}
  d: {kind: text, max_bytes: 0}
  e: {kind: text, max_bytes: 65537}
key_file: none/feedback.key
journal: none/feedback.jsonl
window: 0s";
        assert_eq!(
            paths(yaml),
            [
                "feedback.metrics",
                "feedback.metrics.Rating.min",
                "feedback.metrics.a.kind",
                "feedback.metrics.b.kind",
                "feedback.metrics.c.min",
                "feedback.metrics.c.max",
                "feedback.metrics.c.max_bytes",
                "feedback.metrics.d.max_bytes",
                "feedback.metrics.e.max_bytes",
                "feedback.key_file",
                "feedback.journal",
                "feedback.window",
            ]
        );
        let far = "metrics: {a: {kind: number, min: -1.7e308}, b: {kind: number, max: 1.1e12, min: 2e12}}";
        assert_eq!(
            paths(far),
            ["feedback.metrics.a.min", "feedback.metrics.b.min", "feedback.metrics.b.max"],
            "two of them are more than all numbers"
        );
        for none in [".nan", ".inf", "-.inf"] {
            let source =
                Source { file: "mesh.yaml".into(), text: format!("metrics: {{a: {{kind: number, max: {none}}}}}") };
            parse::<Settings>(&source, &Overlay::default()).expect_err("that is no number");
        }
        assert_eq!(paths("{journal: feedback.jsonl}"), ["feedback.metrics"], "it would stay empty");
        let many: Vec<_> = (0..33).map(|n| format!("m{n}: {{kind: boolean}}")).collect();
        assert_eq!(paths(&format!("metrics: {{{}}}", many.join(", "))), ["feedback.metrics"]);
    }

    #[test]
    fn paths_start_where_mesh_yaml_lies() {
        let dir = tempfile::tempdir().unwrap();
        let yaml = "{metrics: {a: {kind: boolean}}, key_file: feedback.key, journal: feedback.jsonl}";
        let (settings, mistakes) = check(yaml, dir.path());
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(settings.key_file, Some(dir.path().join("feedback.key")));
        assert_eq!(settings.journal, Some(dir.path().join("feedback.jsonl")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "looking leaves nothing behind");
    }

    #[test]
    fn a_key_file_that_cannot_be_used_is_found_before_anything_runs() {
        const KEY: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE=";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("feedback.key");
        let yaml = "{metrics: {a: {kind: boolean}}, key_file: feedback.key}";
        let with = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            check(yaml, dir.path()).1
        };
        assert_eq!(with(KEY, 0o600), []);
        assert_eq!(with(KEY, 0o440), [], "a group may be let in: secrets of Kubernetes are read by one");
        for (text, mode, problem) in [
            (KEY, 0o644, "others may read"),
            ("", 0o600, "no key"),
            ("# only a remark\n\n", 0o600, "no key"),
            ("c2hvcnQ=", 0o600, "line 1: 5 bytes"),
            (&format!("{KEY}\nwhat is this"), 0o600, "line 2: not base64"),
        ] {
            let [(path, said)] = &with(text, mode)[..] else { panic!("one mistake for {problem:?}") };
            assert_eq!(path, "feedback.key_file");
            assert!(said.contains(problem), "{said}");
            assert!(!said.contains(KEY) && !said.contains("what is this") && !said.contains("c2hv"), "{said}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(check(yaml, dir.path()).1.len(), 1, "a directory has no keys");
        let journal = "{metrics: {a: {kind: boolean}}, journal: feedback.key}";
        assert_eq!(check(journal, dir.path()).1.len(), 1, "and no lines");
        let text = dir.path().join("feedback.jsonl");
        fs::write(&text, "").unwrap();
        for (mode, mistakes) in [(0o644, 1), (0o602, 1), (0o640, 0), (0o600, 0)] {
            fs::set_permissions(&text, fs::Permissions::from_mode(mode)).unwrap();
            let found = check("{metrics: {a: {kind: boolean}}, journal: feedback.jsonl}", dir.path()).1;
            assert_eq!(found.len(), mistakes, "what people wrote is not for everybody: {mode:o}: {found:?}");
        }
        let both = "{metrics: {a: {kind: boolean}}, key_file: one, journal: one}";
        assert_eq!(check(both, dir.path()).1[0].0, "feedback.journal");
    }
}
