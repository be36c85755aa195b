//! `consilium explain`: whom a question would go to, and why.

use super::Exit;
use crate::{args, client::Client, error::Error, page::Page, progress::Progress, render};

pub(crate) async fn run(args: &args::Explain, page: &mut Page<'_>) -> Result<Exit, Error> {
    let question = &args.question;
    let client = Client::of(&question.router)?;
    let call = question.call();
    let waiting = Progress::spinner_only().step("asking");
    let reply = client.explain(call).await;
    drop(waiting);
    let reply = reply?;
    if args.json {
        page.json(&reply)?;
    } else {
        render::decision::explanation(page, &reply)?;
    }
    Ok(Exit::Done)
}
