//! A question on the command line, and what may be said with it: of the query, of the caller, and of how to route it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use consilium_proto::v1;

use super::{Router, duration, pair};
use crate::client::Call;

/// A question and what may be said with it.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// What to ask
    pub(crate) text: String,
    #[command(flatten)]
    pub(crate) router: Router,
    /// A value of a dimension that the mesh declares, for example audience=patient; may be repeated
    #[arg(long = "attribute", value_name = "DIMENSION=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// A fact for the mesh's rules, for example desk=discharge; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Only consider this expert; may be repeated
    #[arg(long = "expert", value_name = "NAME")]
    experts: Vec<String>,
    /// If this expert is asked, then this version of it; may be repeated
    #[arg(long = "pin", value_name = "EXPERT=VERSION", value_parser = pair)]
    pins: Vec<(String, String)>,
    /// Ask at most so many experts
    #[arg(long, value_name = "N")]
    top_k: Option<u32>,
    /// The least probability, 0 to 1, at which an expert is asked
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_confidence: Option<f64>,
    /// What becomes of several experts' answers
    #[arg(long, value_enum)]
    combine: Option<Combine>,
    /// Who gives way last when the mesh is under pressure
    #[arg(long, value_enum)]
    priority: Option<Priority>,
    #[command(flatten)]
    caller: Caller,
    /// How long the answer is of use, for example 500ms or 2s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deadline: Option<Duration>,
}

/// Who asks.
#[derive(Debug, Args)]
struct Caller {
    /// What this request is called in logs and errors; the router makes a name when none is given
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Whose request it is
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// What the tenant has a right to
    #[arg(long, value_name = "NAME")]
    tier: Option<String>,
    /// On whose behalf
    #[arg(long, value_name = "IDENTITY")]
    subject: Option<String>,
    /// What the answer is for, for example treatment or research
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Combine {
    /// Keep the answer of the most probable expert
    Best,
    /// Keep all of them, one after the other
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Priority {
    Critical,
    Interactive,
    Batch,
    Background,
}

impl Question {
    /// The question as it is asked.
    pub(crate) fn call(&self) -> Call {
        Call { query: self.query(), context: self.context(), options: self.options(), deadline: self.deadline }
    }

    fn query(&self) -> v1::Query {
        let mut query = v1::Query { text: self.text.clone(), ..v1::Query::default() };
        for (name, value) in &self.attributes {
            query.attributes.entry(name.clone()).or_default().values.push(value.clone());
        }
        query.labels.extend(self.labels.iter().cloned());
        query
    }

    fn context(&self) -> v1::CallContext {
        let Caller { request_id, tenant, tier, subject, purpose } = &self.caller;
        let said = |fact: &Option<String>| fact.clone().unwrap_or_default();
        v1::CallContext {
            request_id: said(request_id),
            tenant: said(tenant),
            tier: said(tier),
            subject: said(subject),
            purpose: said(purpose),
            ..v1::CallContext::default()
        }
    }

    fn options(&self) -> v1::DispatchOptions {
        v1::DispatchOptions {
            top_k: self.top_k,
            min_confidence: self.min_confidence,
            experts: self.experts.clone(),
            versions: self.pins.iter().cloned().collect(),
            combine: self.combine.map(|combine| match combine {
                Combine::Best => v1::Combine::Best.into(),
                Combine::All => v1::Combine::All.into(),
            }),
            priority: self.priority.map(|priority| match priority {
                Priority::Critical => v1::Priority::Critical.into(),
                Priority::Interactive => v1::Priority::Interactive.into(),
                Priority::Batch => v1::Priority::Batch.into(),
                Priority::Background => v1::Priority::Background.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn question(arguments: &[&str]) -> Question {
        match Cli::try_parse_from(["consilium", "ask", "may I?"].iter().chain(arguments)).unwrap().command {
            Command::Ask(ask) => ask.question,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_becomes_a_query_and_options() {
        let line = "--attribute audience=patient --attribute audience=clinician --attribute place=a=b \
                    --label desk=discharge --expert general --pin general=2 --top-k 2 --min-confidence -0.4 \
                    --combine all --priority batch --deadline 500ms --router http://localhost:7/";
        let question = question(&line.split_whitespace().collect::<Vec<_>>());
        let Call { query, options, deadline, .. } = question.call();
        assert_eq!(query.text, "may I?");
        assert_eq!(query.attributes["audience"].values, ["patient", "clinician"]);
        assert_eq!(query.attributes["place"].values, ["a=b"]);
        assert_eq!(query.labels["desk"], "discharge");
        // What the mesh does not take, the mesh refuses: it names every field at once.
        assert_eq!((options.top_k, options.min_confidence), (Some(2), Some(-0.4)));
        assert_eq!((options.combine(), options.priority()), (v1::Combine::All, v1::Priority::Batch));
        assert_eq!(options.versions["general"], "2");
        assert_eq!(options.experts, ["general"]);
        assert_eq!(deadline, Some(Duration::from_millis(500)));
        assert_eq!(question.router.address.host_and_port, "localhost:7");
    }

    #[test]
    fn a_caller_says_who_it_is() {
        let line = "--request-id r-7 --tenant north --tier gold --subject s-1 --purpose research";
        let context = question(&line.split(' ').collect::<Vec<_>>()).call().context;
        let said = [&context.request_id, &context.tenant, &context.tier, &context.subject, &context.purpose];
        assert_eq!(said, ["r-7", "north", "gold", "s-1", "research"]);
    }

    #[test]
    fn what_is_not_given_is_left_to_the_mesh() {
        let question = question(&["--router", "127.0.0.1:7600"]);
        let Call { context, options, deadline, .. } = question.call();
        assert_eq!((context, options, deadline), (v1::CallContext::default(), v1::DispatchOptions::default(), None));
        assert_eq!(question.router.address.host_and_port, "127.0.0.1:7600");
    }
}
