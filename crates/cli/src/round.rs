//! A round of questions: each is asked in turn, and who answers is held against who should.

use std::time::Duration;

use consilium_proto::v1;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    client::{Call, Client},
    error::{Error, Trouble},
    page::Page,
    patience::Patience,
    question::Question,
    render,
    view::Dispatch,
};

/// Whom questions are asked of, and how long an answer may take; `None` leaves it to the mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) client: &'a Client,
    pub(crate) deadline: Option<Duration>,
}

/// What became of all the questions.
#[derive(Debug)]
pub(crate) struct Round(Vec<Answered>);

/// A question and what became of it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) question: Question,
    /// `Err` says in words why there is none.
    pub(crate) reply: Result<Dispatch, String>,
    /// What should have happened, where something else did.
    pub(crate) expected: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Score {
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    /// Over all questions that got a reply, as this program saw them; 0 where none did.
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_max_ms: f64,
}

impl Round {
    /// Asks them one after the other; each is shown on the page, where there is one, as soon as it is answered. Until an
    /// expert has answered the first time, a question for which nobody is there is asked again while `patience` lasts.
    ///
    /// # Errors
    /// Only those of the page: a question that fails is a question that is wrong.
    pub(crate) async fn ask(
        asking: Asking<'_>,
        questions: Vec<Question>,
        patience: &mut Patience,
        mut page: Option<&mut Page<'_>>,
    ) -> Result<Self, Error> {
        let Asking { client, deadline } = asking;
        let mut round = Vec::new();
        let mut anybody_answered = false;
        for (index, question) in questions.into_iter().enumerate() {
            let (context, options) = (v1::CallContext::default(), v1::DispatchOptions::default());
            let call = Call { query: question.query(), context, options, deadline };
            let reply = if anybody_answered {
                client.dispatch(call).await
            } else {
                patience.persist(async |_| client.dispatch(call.clone()).await).await
            };
            anybody_answered |= reply.as_ref().is_ok_and(|reply| reply.answer.is_some());
            let answered = Answered::new(question, reply.map_err(|error| in_words(&error)));
            if let Some(page) = &mut page {
                render::round::answered(page, index + 1, &answered)?;
            }
            round.push(answered);
        }
        Ok(Self(round))
    }

    pub(crate) fn score(&self) -> Score {
        let right = self.0.iter().filter(|one| one.expected.is_none()).count();
        let mut latencies: Vec<f64> =
            self.0.iter().filter_map(|one| one.reply.as_ref().ok()).map(|reply| reply.round_trip_ms).collect();
        latencies.sort_by(f64::total_cmp);
        Score {
            right,
            wrong: self.0.len() - right,
            latency_p50_ms: latencies.get(latencies.len() / 2).copied().unwrap_or_default(),
            latency_max_ms: latencies.last().copied().unwrap_or_default(),
        }
    }

    /// For `--json`; `summary` is the score and whatever else is to be said of the whole.
    pub(crate) fn document(&self, mesh: &str, summary: &impl Serialize) -> Value {
        let questions: Vec<Record<'_>> = self.0.iter().map(Record::new).collect();
        json!({ "mesh": mesh, "questions": questions, "summary": summary })
    }
}

/// One question in the JSON document.
#[derive(Serialize)]
struct Record<'a> {
    text: &'a str,
    expected_expert: Option<&'a str>,
    expected_outcome: &'static str,
    right: bool,
    reply: Option<&'a Dispatch>,
    problem: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn new(answered: &'a Answered) -> Self {
        Self {
            text: &answered.question.text,
            expected_expert: answered.question.expert.as_deref(),
            expected_outcome: answered.question.outcome.as_str(),
            right: answered.expected.is_none(),
            reply: answered.reply.as_ref().ok(),
            problem: answered.reply.as_ref().err().map(String::as_str),
        }
    }
}

impl Answered {
    pub(crate) fn new(question: Question, reply: Result<Dispatch, String>) -> Self {
        let right = reply.as_ref().is_ok_and(|reply| {
            let by = reply.answered().filter(|_| reply.answer.is_some()).map(|reply| reply.expert.as_str());
            reply.decision.outcome == question.outcome.as_str() && by == question.expert.as_deref()
        });
        let expected = (!right).then(|| match &question.expert {
            Some(expert) => format!("{expert} to answer, {}", question.outcome.as_str()),
            None => "a refusal".to_owned(),
        });
        Self { question, reply, expected }
    }
}

fn in_words(error: &Error) -> String {
    let Trouble { headline, details, .. } = error.trouble();
    std::iter::once(headline).chain(details).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{question::Outcome, view::samples};

    fn question(expert: Option<&str>, outcome: Outcome) -> Question {
        Question {
            text: "may I?".into(),
            expert: expert.map(str::to_owned),
            outcome,
            attributes: [].into(),
            labels: [].into(),
        }
    }

    #[test]
    fn right_is_the_right_expert_with_the_right_outcome_and_an_answer() {
        let reply = || Ok(Dispatch::new(samples::dispatched(), Duration::ZERO));
        let judged = |expert, outcome, reply| Answered::new(question(expert, outcome), reply).expected;
        assert_eq!(judged(Some("drug-interactions"), Outcome::Dispatched, reply()), None);
        let expected = judged(Some("general"), Outcome::Dispatched, reply());
        assert_eq!(expected.as_deref(), Some("general to answer, dispatched"));
        assert!(judged(Some("drug-interactions"), Outcome::Fallback, reply()).is_some());
        assert_eq!(judged(None, Outcome::Refused, reply()).as_deref(), Some("a refusal"));

        let unanswered = reply().map(|reply: Dispatch| Dispatch { answer: None, ..reply });
        assert!(judged(Some("drug-interactions"), Outcome::Dispatched, unanswered).is_some());
        assert!(judged(Some("drug-interactions"), Outcome::Dispatched, Err("gone".into())).is_some());
        let refused = Ok(Dispatch::new(samples::refused(), Duration::ZERO));
        assert_eq!(judged(None, Outcome::Refused, refused), None);
    }

    #[test]
    fn the_score_counts_and_measures_what_was_replied() {
        let took = |ms| Ok(Dispatch::new(samples::dispatched(), Duration::from_millis(ms)));
        let right = || question(Some("drug-interactions"), Outcome::Dispatched);
        let round = [
            Answered::new(right(), took(30)),
            Answered::new(right(), took(10)),
            Answered::new(right(), Err("gone".into())),
            Answered::new(question(None, Outcome::Refused), took(20)),
        ];
        let Score { right, wrong, latency_p50_ms, latency_max_ms } = Round(round.into()).score();
        assert_eq!((right, wrong), (2, 2));
        assert!((latency_p50_ms - 20.0).abs() < 1e-9 && (latency_max_ms - 30.0).abs() < 1e-9);
        assert_eq!(Round(Vec::new()).score().right, 0);
    }
}
