//! `consilium feedback`: how good an answer was.

use super::Exit;
use crate::{args, client::Client, error::Error, page::Page, progress::Progress};

pub(crate) async fn run(args: &args::Feedback, page: &mut Page<'_>) -> Result<Exit, Error> {
    let client = Client::of(&args.router)?;
    let waiting = Progress::spinner_only().step("telling");
    let accepted = client.feedback(&args.token, args.metrics(), args.deadline).await;
    drop(waiting);
    let accepted = accepted?;
    if args.json {
        page.json(&accepted)?;
    } else {
        page.line("thank you, it is noted")?;
    }
    Ok(Exit::Done)
}
