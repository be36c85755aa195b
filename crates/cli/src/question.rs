//! Questions in a file, one a line, and who should answer them: `demo.jsonl`, with which a mesh is shown, is one.

use std::{collections::BTreeMap, path::Path};

use consilium_mesh::config::{Mistake, Mistakes, Source};
use consilium_proto::v1;
use serde::Deserialize;

const EXPECTED: &str = r#"{"text": "…", "expert": "name" or null, "outcome": "dispatched", "fallback" or "refused"}"#;

/// One question with the right reaction to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    pub(crate) text: String,
    /// `None` where nobody should answer.
    pub(crate) expert: Option<String>,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Dispatched,
    Fallback,
    Refused,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Dispatched => "dispatched",
            Outcome::Fallback => "fallback",
            Outcome::Refused => "refused",
        }
    }
}

impl Question {
    pub(crate) fn query(&self) -> v1::Query {
        let values = |values: &Vec<String>| v1::Values { values: values.clone() };
        v1::Query {
            text: self.text.clone(),
            attributes: self.attributes.iter().map(|(name, given)| (name.clone(), values(given))).collect(),
            labels: self.labels.clone().into_iter().collect(),
            ..v1::Query::default()
        }
    }
}

/// Reads the questions of a mesh with these experts; `None` where it is not known who is in the mesh.
///
/// # Errors
/// Every line that is wrong.
pub(crate) fn load(path: &Path, experts: Option<&[&str]>) -> Result<Vec<Question>, Mistakes> {
    let source = Source::read(path)?;
    let mut mistakes = Mistakes::default();
    let mut questions = Vec::new();
    for (index, line) in source.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut wrong = |problem: String, expected: String| {
            mistakes.push(Mistake {
                file: source.file.clone(),
                path: format!("line {}", index + 1),
                problem,
                expected,
            });
        };
        match serde_json::from_str::<Question>(line) {
            Ok(question) => {
                match (question.expert.as_deref(), experts) {
                    (Some(name), Some(experts)) if !experts.contains(&name) => {
                        wrong(format!("no expert is called {name:?}"), format!("one of {}", experts.join(", ")));
                    }
                    (Some(_), _) if question.outcome == Outcome::Refused => {
                        wrong("an expert that answers a refused question".to_owned(), "expert: null".to_owned());
                    }
                    (None, _) if question.outcome != Outcome::Refused => {
                        wrong("nobody to answer it".to_owned(), "the expert that should".to_owned());
                    }
                    _ => {}
                }
                questions.push(question);
            }
            // The parser quotes nothing of what it reads but names of fields and of variants.
            Err(error) => wrong(error.to_string(), EXPECTED.to_owned()),
        }
    }
    if questions.is_empty() && mistakes.is_empty() {
        let problem = "no question in it".to_owned();
        mistakes.push(Mistake { file: source.file, path: String::new(), problem, expected: EXPECTED.to_owned() });
    }
    mistakes.into_result().map(|()| questions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Question>, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(file.path(), Some(&["general"]))
            .map_err(|mistakes| mistakes.iter().map(|it| format!("{}: {}", it.path, it.problem)).collect())
    }

    #[test]
    fn a_question_brings_what_it_is_asked_with() {
        let line =
            r#"{"text": "a?", "expert": "general", "outcome": "fallback", "attributes": {"audience": ["patient"]}}"#;
        let questions = read(&format!("{line}\n\n{line}\n")).unwrap();
        assert_eq!(questions.len(), 2);
        assert_eq!(questions[0].outcome, Outcome::Fallback);
        assert_eq!(questions[0].query().attributes["audience"].values, ["patient"]);
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = r#"{"text": "a?", "expert": "nobody", "outcome": "dispatched"}
{"text": "a?", "expert": "general", "outcome": "refused"}
{"text": "a?", "expert": null, "outcome": "dispatched"}
{"text": "a?", "expert": null, "outcome": "refused", "colour": "red"}
no json"#;
        let wrong = read(text).unwrap_err();
        let lines: Vec<&str> = wrong.iter().map(|it| it.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 3", "line 4", "line 5"]);
        assert!(wrong[3].contains("colour"), "{wrong:?}");
        assert_eq!(read("\n").unwrap_err(), [": no question in it"]);
    }

    #[test]
    fn whom_a_mesh_has_is_not_asked_where_nobody_knows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"text": "a?", "expert": "anybody", "outcome": "dispatched"}"#).unwrap();
        assert_eq!(load(file.path(), None).unwrap()[0].expert.as_deref(), Some("anybody"));
        std::fs::write(file.path(), r#"{"text": "a?", "expert": "anybody", "outcome": "refused"}"#).unwrap();
        assert_eq!(load(file.path(), None).unwrap_err().iter().count(), 1);
    }
}
