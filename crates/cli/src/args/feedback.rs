//! What may be said of an answer on the command line: metrics, and what kind of value each has.

use std::time::Duration;

use clap::Args;
use consilium_proto::v1::send_feedback_request::{Metric, metric};

use super::{Router, duration, pair};

#[derive(Debug, Args)]
pub(crate) struct Feedback {
    /// What came with the answer: feedback_token in what `consilium ask --json` prints
    pub(crate) token: String,
    /// A metric that the mesh declares: true or false, a number, or else a text, for example helpful=true or rating=4
    #[arg(required_unless_present = "texts", value_name = "NAME=VALUE", value_parser = parse_metric)]
    metrics: Vec<(String, Value)>,
    /// A metric whose value is a text whatever it looks like, for example comment=42; may be repeated
    #[arg(long = "text", value_name = "NAME=VALUE", value_parser = named)]
    texts: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) router: Router,
    /// How long to wait, for example 500ms or 2s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is said of an answer.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Boolean(bool),
    Number(f64),
    Text(String),
}

impl Feedback {
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let metric = |(name, value): &(String, Value)| {
            let value = match value {
                Value::Boolean(it) => metric::Value::Boolean(*it),
                Value::Number(it) => metric::Value::Number(*it),
                Value::Text(it) => metric::Value::Text(it.clone()),
            };
            Metric { name: name.clone(), value: Some(value) }
        };
        let text = |(name, text): &(String, String)| Metric {
            name: name.clone(),
            value: Some(metric::Value::Text(text.clone())),
        };
        self.metrics.iter().map(metric).chain(self.texts.iter().map(text)).collect()
    }
}

/// What a value looks like is what it is. What a metric ought to be, the mesh declares and its router checks.
fn parse_metric(text: &str) -> Result<(String, Value), String> {
    let (name, value) = named(text)?;
    let number = value.parse().ok().filter(|number: &f64| number.is_finite());
    let value = match (value.as_str(), number) {
        ("true", _) => Value::Boolean(true),
        ("false", _) => Value::Boolean(false),
        (_, Some(number)) => Value::Number(number),
        (_, None) => Value::Text(value),
    };
    Ok((name, value))
}

fn named(text: &str) -> Result<(String, String), String> {
    pair(text).map_err(|_| "expected NAME=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    /// What is sent: the message's own value has no `Debug`, because there may be people's words in it.
    fn metrics(arguments: &[&str]) -> Result<Vec<(String, Value)>, i32> {
        let value = |value| match value {
            metric::Value::Boolean(it) => Value::Boolean(it),
            metric::Value::Number(it) => Value::Number(it),
            metric::Value::Text(it) => Value::Text(it),
        };
        let line = ["consilium", "feedback", "token"].iter().chain(arguments);
        match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::Feedback(said)) => {
                Ok(said.metrics().into_iter().map(|it| (it.name, value(it.value.unwrap()))).collect())
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.exit_code()),
        }
    }

    #[test]
    fn a_metric_is_what_it_looks_like() {
        for (argument, expected) in [
            ("helpful=true", Value::Boolean(true)),
            ("rating=4", Value::Number(4.0)),
            ("rating=-0.5", Value::Number(-0.5)),
            ("comment=a=b, or not", Value::Text("a=b, or not".into())),
            ("comment=nan", Value::Text("nan".into())),
            ("comment=", Value::Text(String::new())),
        ] {
            let name = argument.split('=').next().unwrap().to_owned();
            assert_eq!(metrics(&[argument, "--json"]), Ok(vec![(name, expected)]));
        }
        for wrong in [&[][..], &["helpful"], &["=true"], &["--text", "comment"]] {
            assert_eq!(metrics(wrong), Err(2));
        }
    }

    #[test]
    fn a_text_is_one_whatever_it_looks_like() {
        for text in ["42", "true", "\"quoted\"", "-1", ""] {
            let said = metrics(&["--text", &format!("comment={text}"), "helpful=true"]).unwrap();
            let expected = [("helpful", Value::Boolean(true)), ("comment", Value::Text(text.into()))];
            assert_eq!(said, expected.map(|(name, value)| (name.to_owned(), value)));
        }
        assert_eq!(metrics(&["--text", "comment=42"]).unwrap().len(), 1, "no other metric is needed");
    }
}
