//! The answer to one `ModelInferRequest`, unary or of a stream.

use std::{pin::pin, time::Duration};

use consilium_engine::{Call, Tensor};
use consilium_mesh::inference::{self, Reply, Request, TextReply, answers, text_model, texts};
use consilium_proto::inference::{ModelInferRequest, ModelInferResponse};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Inference, names::Named};
use crate::{
    answering::Answering,
    models::Served,
    server::Ready,
    status::Refused,
    task::{Answer, Delta, Query, Timings},
    wire,
};

/// Texts of one request that are worked on at the same time: enough to fill batches, too few to fill the queue for others.
const AT_ONCE: usize = 16;

/// A request and when it came.
struct Asked {
    request: Request,
    since: Instant,
    deadline: Instant,
    /// How long reading it took.
    read: Duration,
}

impl Inference {
    pub(super) async fn infer(
        &self,
        message: ModelInferRequest,
        deadline: Instant,
    ) -> Result<ModelInferResponse, Status> {
        let since = Instant::now();
        let ready = self.ready()?;
        let request = Request::decode(message)?;
        let asked = Asked { request, since, deadline, read: since.elapsed() };
        let answered = async {
            match self.named(&asked.request.model).map_err(Refused::from)? {
                Named::Texts => self.answer(ready, &asked).await,
                Named::Raw(model) => {
                    let answering = Answering::of_call(&self.tally, deadline);
                    let ran = run(ready, model, &asked).await;
                    answering.ended(ran.as_ref().err().map_or(Code::Ok, Status::code));
                    ran
                }
            }
        };
        // Nobody bounds a stream from outside.
        timeout_at(deadline, answered).await.unwrap_or_else(|_| Err(Refused::Late.into()))
    }

    /// All texts of a request, or the first failure of any.
    async fn answer(&self, ready: &Ready, asked: &Asked) -> Result<ModelInferResponse, Status> {
        self.check_text_version(&asked.request.version).map_err(Refused::from)?;
        let answered = self.answers(ready, asked).await;
        if answered.is_err() {
            ready.texts.failed(asked.since.elapsed());
        }
        answered
    }

    async fn answers(&self, ready: &Ready, asked: &Asked) -> Result<ModelInferResponse, Status> {
        let Asked { request, since, deadline, read } = asked;
        let version = self.text_version();
        request.check_outputs(text_model(&request.model, version).outputs.iter().map(|port| port.name.as_str()))?;
        let queries = texts(request)?.into_iter().enumerate().map(|(index, text)| {
            wire::text(text).map_err(|problem| inference::Invalid { field: field(index), problem, unsupported: false })
        });
        let queries = queries.collect::<Result<Vec<Query>, _>>()?;
        let number = queries.len();
        let answering = queries.into_iter().enumerate().map(|(index, query)| async move {
            let answering = Answering::begin(&self.tally, &ready.card.load().task, *deadline);
            let refused = move |failure| Refused::Input { field: Some(field(index)), failure };
            done(answering.run(&ready.task, query, refused)).await
        });
        let answered: Vec<(Answer, Timings)> = stream::iter(answering).buffered(AT_ONCE).try_collect().await?;
        let (answered, timings): (Vec<Answer>, Vec<Timings>) = answered.into_iter().unzip();

        let began = Instant::now();
        let ids = request_ids(&request.id, number);
        let replies: Vec<TextReply> = answered
            .into_iter()
            .zip(ids)
            .map(|(answer, request_id)| TextReply {
                answer: wire::answer(answer),
                expert: self.identity.expert.clone(),
                request_id,
            })
            .collect();
        let reply = reply(request, version, answers(&replies))?;
        // They ran side by side: the slowest is what the request waited for.
        let slowest = |of: fn(&Timings) -> Duration| timings.iter().map(of).max().unwrap_or_default();
        ready.texts.answered(inference::Call {
            inferences: number as u64,
            total: since.elapsed(),
            queue: slowest(|timings| timings.queue),
            input: *read + slowest(|timings| timings.tokenize),
            infer: slowest(|timings| timings.inference),
            output: began.elapsed(),
        });
        Ok(reply)
    }
}

async fn run(ready: &Ready, model: Option<&str>, asked: &Asked) -> Result<ModelInferResponse, Status> {
    let served = ready.models.get(model, &asked.request.version).map_err(Refused::from)?;
    let ran = ran(ready, model, &served, asked).await;
    if ran.is_err() {
        served.statistics.failed(asked.since.elapsed());
    }
    ran
}

async fn ran(ready: &Ready, model: Option<&str>, served: &Served, asked: &Asked) -> Result<ModelInferResponse, Status> {
    let Asked { request, since, deadline, read } = asked;
    // Before the model has worked in vain.
    request.check_outputs(served.engine.manifest().outputs.iter().map(|output| output.name.as_str()))?;
    let ran = ready.models.run(model, &request.version, &request.inputs, Call { deadline: *deadline }).await;
    // Its successor, where it was replaced meanwhile.
    let (served, output) = ran.map_err(|failure| Refused::Input { field: None, failure })?;

    let began = Instant::now();
    let reply = reply(request, &served.version, output.tensors)?;
    served.statistics.answered(inference::Call {
        inferences: rows(&served, &request.inputs),
        total: since.elapsed(),
        queue: output.timings.queue,
        input: *read + output.timings.tokenize,
        infer: output.timings.inference,
        output: began.elapsed(),
    });
    Ok(reply)
}

fn reply(request: &Request, version: &str, outputs: Vec<Tensor>) -> Result<ModelInferResponse, inference::Invalid> {
    let outputs = request.wanted(outputs)?;
    let (model, id) = (request.model.clone(), request.id.clone());
    Ok(Reply { model, version: version.to_owned(), id, outputs }.encode())
}

/// A task's answer at its end. Dropping the future abandons the work.
async fn done(deltas: impl Stream<Item = Result<Delta, Status>>) -> Result<(Answer, Timings), Status> {
    let mut deltas = pin!(deltas);
    while let Some(delta) = deltas.next().await {
        match delta? {
            Delta::Text(_) => {} // The whole text is in the answer.
            Delta::Done(answer, timings) => return Ok((answer, timings)),
        }
    }
    Err(Refused::NoAnswer.into())
}

/// The client's own id, or a new one; several answers of one request are numbered.
fn request_ids(id: &str, number: usize) -> Vec<String> {
    let id = if id.is_empty() { Uuid::now_v7().to_string() } else { id.to_owned() };
    if number == 1 { vec![id] } else { (0..number).map(|index| format!("{id}/{index}")).collect() }
}

/// What counts as inferences: rows, where rows of requests run together.
fn rows(served: &Served, inputs: &[Tensor]) -> u64 {
    let rows = inputs.first().and_then(|input| input.shape.first()).and_then(|&rows| u64::try_from(rows).ok());
    if served.max_batch() == 0 { 1 } else { rows.unwrap_or(1) }
}

fn field(index: usize) -> String {
    format!("inputs[text][{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_client_s_id_or_one_of_their_own() {
        assert_eq!(request_ids("a", 1), ["a"]);
        assert_eq!(request_ids("a", 2), ["a/0", "a/1"]);
        let [one, two] = [request_ids("", 1).remove(0), request_ids("", 1).remove(0)];
        assert!(one != two && Uuid::parse_str(&one).is_ok());
    }
}
