//! The gate as a model of the Open Inference Protocol, under the mesh's own name: texts in, answers of the mesh out. Each
//! text is a dispatch of its own.

use std::{collections::HashMap, sync::Arc};

use consilium_mesh::inference::{self, ATTRIBUTES, Call, Statistics, TextReply};
use consilium_proto::{inference as oip, v1};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tonic::Status;

use super::{decode, sink::failed};
use crate::{
    call::Reply,
    combine::Merged,
    error::{Error, Violation},
    gate::Decision,
    pipeline::{EventSink, Pipeline},
    plan::Plan,
};

/// There is one gate, and it has no versions that clients could ask for.
pub(super) const VERSION: &str = "1";
/// Texts of one request that are worked on at the same time.
const AT_ONCE: usize = 16;

/// The gate's model. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct GateModel {
    /// The mesh's.
    pub(crate) name: Arc<str>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) statistics: Arc<Statistics>,
}

impl GateModel {
    /// What clients are told of it.
    pub(super) fn described(&self, version: &str) -> Result<inference::Model, Error> {
        self.check_version(version)?;
        Ok(self.model())
    }

    fn model(&self) -> inference::Model {
        inference::text_model(&self.name, VERSION)
    }

    pub(super) fn statistics(&self) -> oip::ModelStatistics {
        self.statistics.message(&self.name, VERSION, &[])
    }

    /// Answers all texts, or says why one of them has no answer.
    pub(super) async fn infer(
        &self,
        message: oip::ModelInferRequest,
        deadline: Option<Instant>,
    ) -> Result<oip::ModelInferResponse, Status> {
        let since = Instant::now();
        let answered = self.answer(message, deadline, since).await;
        match &answered {
            Ok((_, call)) => self.statistics.answered(Call { total: since.elapsed(), ..*call }),
            Err(_) => self.statistics.failed(since.elapsed()),
        }
        answered.map(|(reply, _)| reply)
    }

    async fn answer(
        &self,
        message: oip::ModelInferRequest,
        deadline: Option<Instant>,
        since: Instant,
    ) -> Result<(oip::ModelInferResponse, Call), Status> {
        let request = inference::Request::decode(message)?;
        self.check_version(&request.version)?;
        let texts = inference::texts(&request)?;
        // What nobody can be given is refused before anybody works for it.
        request.check_outputs(self.model().outputs.iter().map(|output| output.name.as_str()))?;
        let asked = Instant::now();
        let replies = self.dispatch_all(&request, texts, deadline).await?;
        let answered = Instant::now();
        let outputs = request.wanted(inference::answers(&replies))?;
        let reply = inference::Reply { model: request.model, version: VERSION.to_owned(), id: request.id, outputs };
        let call = Call {
            inferences: replies.len() as u64,
            input: asked - since,
            infer: answered - asked,
            output: answered.elapsed(),
            ..Call::default()
        };
        Ok((reply.encode(), call))
    }

    async fn dispatch_all(
        &self,
        request: &inference::Request,
        texts: Vec<String>,
        deadline: Option<Instant>,
    ) -> Result<Vec<TextReply>, Status> {
        let attributes = attributes(request);
        let alone = texts.len() == 1;
        let id = |at: usize| match request.id.as_str() {
            "" => String::new(),
            id if alone => id.to_owned(),
            id => format!("{id}/{at}"),
        };
        let dispatched: Vec<_> = texts
            .into_iter()
            .enumerate()
            .map(|(at, text)| {
                let query = v1::Query { text, attributes: attributes.clone(), ..v1::Query::default() };
                let context = v1::CallContext { request_id: id(at), ..v1::CallContext::default() };
                self.dispatch(at, (query, context), deadline)
            })
            .collect();
        let replies: Vec<_> = stream::iter(dispatched).buffered(AT_ONCE).try_collect().await?;
        let refused = replies.iter().enumerate().filter(|(_, reply)| reply.is_none());
        let fields: Vec<_> = refused.map(|(at, _)| text(at)).collect();
        if fields.is_empty() {
            Ok(replies.into_iter().flatten().collect())
        } else {
            Err(Error::Refused { fields }.into())
        }
    }

    /// The answer to one text; `None` when the gate refused it.
    async fn dispatch(
        &self,
        at: usize,
        (query, context): (v1::Query, v1::CallContext),
        deadline: Option<Instant>,
    ) -> Result<Option<TextReply>, Status> {
        let request = decode::request(Some(query), Some(context), None, deadline)?;
        let request_id = request.id.clone();
        let mut outcome = Outcome(None);
        let dispatched = self.pipeline.dispatch(request, &mut outcome).await;
        dispatched.map_err(|error| failed(&request_id, in_words_of_the_protocol(error, at)))?;
        let reply = |Merged { answer, expert, .. }: Merged| TextReply {
            answer: answer.into_message(),
            expert: expert.to_string(),
            request_id,
        };
        Ok(outcome.0.map(reply))
    }

    fn check_version(&self, version: &str) -> Result<(), Error> {
        if ["", VERSION].contains(&version) {
            return Ok(());
        }
        Err(Error::UnknownVersion { name: self.name.to_string(), versions: vec![VERSION.to_owned()] })
    }
}

/// Keeps what comes out in the end.
struct Outcome(Option<Merged>);

impl EventSink for Outcome {
    const WANTS_TEXT: bool = false;

    async fn decided(&mut self, _: &Decision, _: &Plan) -> Result<(), Error> {
        Ok(())
    }

    async fn text(&mut self, _: usize, _: String) -> Result<(), Error> {
        Ok(())
    }

    async fn replied(&mut self, _: &Reply) -> Result<(), Error> {
        Ok(())
    }

    async fn done(&mut self, merged: Option<Merged>) -> Result<(), Error> {
        self.0 = merged;
        Ok(())
    }
}

fn attributes(request: &inference::Request) -> HashMap<String, v1::Values> {
    let attribute = |(name, value): (&String, &String)| {
        let dimension = name.strip_prefix(ATTRIBUTES)?;
        Some((dimension.to_owned(), v1::Values { values: vec![value.clone()] }))
    };
    request.parameters.iter().filter_map(attribute).collect()
}

/// The field of a text.
fn text(at: usize) -> String {
    format!("inputs[text][{at}]")
}

/// The error of the text `at`, with the fields that the client sent and not those that they became.
fn in_words_of_the_protocol(error: Error, at: usize) -> Error {
    let renamed = |violations: Vec<Violation>| {
        violations.into_iter().map(|violation| Violation { field: field(&violation.field, at), ..violation }).collect()
    };
    match error {
        Error::Invalid { violations } => Error::Invalid { violations: renamed(violations) },
        Error::Failed { expert, mut failure } => {
            failure.violations = renamed(failure.violations);
            Error::Failed { expert, failure }
        }
        other => other,
    }
}

fn field(of_the_query: &str, at: usize) -> String {
    match of_the_query {
        "query.text" => text(at),
        "query.attributes" => "parameters".to_owned(),
        "context.request_id" => "id".to_owned(),
        other => match other.strip_prefix("query.attributes.") {
            // A parameter is one value, so its position says nothing.
            Some(dimension) => {
                format!("parameters[{ATTRIBUTES}{}]", dimension.strip_suffix("[0]").unwrap_or(dimension))
            }
            None => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::error::Failure;

    #[test]
    fn clients_find_the_fields_that_they_sent() {
        for (ours, theirs) in [
            ("query.text", "inputs[text][3]"),
            ("query.attributes.audience[0]", "parameters[attributes.audience]"),
            ("query.attributes.weather", "parameters[attributes.weather]"),
            ("query.attributes", "parameters"),
            ("context.request_id", "id"),
            ("options.top_k", "options.top_k"),
        ] {
            let violations = || vec![Violation::new(ours, "wrong")];
            let failure = Failure { violations: violations(), ..Failure::new(Code::InvalidArgument, "R", "m") };
            let failed = Error::Failed { expert: "labs".to_owned(), failure: Box::new(failure) };
            for error in [Error::Invalid { violations: violations() }, failed] {
                let status = Status::from(in_words_of_the_protocol(error, 3));
                let found = consilium_mesh::errors::violations(&status);
                assert_eq!(found.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [theirs]);
            }
        }
    }
}
