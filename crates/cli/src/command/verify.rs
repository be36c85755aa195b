//! `consilium verify`: the questions of a file, asked of a running mesh, and whether the right experts answered them.

use super::{Exit, judged};
use crate::{
    args, client::Client, error::Error, page::Page, patience::Patience, progress::Progress, question, render,
    round::Round,
};

pub(crate) async fn run(args: &args::Verify, page: &mut Page<'_>) -> Result<Exit, Error> {
    let questions = question::load(&args.questions, None).map_err(|wrong| Error::mistakes("the questions", &wrong))?;
    let client = Client::of(&args.router)?;
    let mut patience = Patience::new(args.wait);
    let waiting = Progress::spinner_only().step("waiting for the router");
    patience.persist(async || client.ready().await).await?;
    let mesh = patience.persist(async || client.experts().await).await?.mesh;
    drop(waiting);

    let round = Round::ask(&client, questions, &mut patience, (!args.json).then_some(&mut *page)).await?;
    let score = round.score();
    if args.json {
        page.json(&round.document(&mesh, &score))?;
    } else {
        render::round::score(page, &score)?;
    }
    Ok(judged(&score))
}
