//! `consilium ask`: one question, one reply.

use super::Exit;
use crate::{
    args,
    client::{Call, Client},
    error::Error,
    page::Page,
    progress::Progress,
    render,
    view::{Answer, Decision, Event},
};

pub(crate) async fn run(args: &args::Ask, page: &mut Page<'_>) -> Result<Exit, Error> {
    let question = &args.question;
    let client = Client::of(&question.router)?;
    let call = question.call();
    if args.stream {
        return stream(&client, call, args.json, page).await;
    }
    let waiting = Progress::spinner_only().step("asking");
    let reply = client.dispatch(call).await;
    drop(waiting);
    let reply = reply?;
    if args.json {
        page.json(&reply)?;
    } else {
        render::answer::dispatch(page, &reply)?;
    }
    Ok(exit(&reply.decision, reply.answer.as_ref()))
}

async fn stream(client: &Client, call: Call, json: bool, page: &mut Page<'_>) -> Result<Exit, Error> {
    let mut events = client.stream(call).await?;
    let (mut decision, mut answer, mut open) = (None, None, false);
    while let Some(event) = events.next().await? {
        if json {
            page.json_line(&event)?;
        } else {
            open = render::answer::event(page, &event, open)?;
        }
        match event {
            Event::Decision(decided) => decision = Some(decided),
            Event::Done(done) => answer = done.answer,
            Event::Delta(_) | Event::Reply(_) => {}
        }
    }
    Ok(decision.map_or(Exit::Failed, |decision| exit(&decision, answer.as_ref())))
}

/// A refusal is a reply: asking what nobody knows is no failure. Having nobody to ask is one.
fn exit(decision: &Decision, answer: Option<&Answer>) -> Exit {
    if answer.is_some() || decision.is_refusal() { Exit::Done } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use consilium_proto::v1::decision::Outcome;

    use super::*;
    use crate::view::samples;

    #[test]
    fn a_refusal_is_a_reply_and_having_nobody_to_ask_is_none() {
        let decided = |outcome| Decision::from(samples::decision(outcome, "X"));
        let answer = Answer::from(samples::passages());
        assert_eq!(exit(&decided(Outcome::Dispatched), Some(&answer)), Exit::Done);
        assert_eq!(exit(&decided(Outcome::Refused), None), Exit::Done);
        assert_eq!(exit(&decided(Outcome::Unavailable), None), Exit::Failed);
        assert_eq!(exit(&decided(Outcome::Dispatched), None), Exit::Failed);
    }
}
