//! `consilium verify`: the questions of a file, asked of a running mesh, and whether the right experts answered them.

use std::collections::BTreeSet;

use super::{Exit, judged};
use crate::{
    args,
    client::Client,
    error::Error,
    page::Page,
    patience::Patience,
    progress::Progress,
    question, render,
    round::{Asking, Round},
    view::Catalog,
};

pub(crate) async fn run(args: &args::Verify, page: &mut Page<'_>) -> Result<Exit, Error> {
    let questions = question::load(&args.questions, None).map_err(|wrong| Error::mistakes("the questions", &wrong))?;
    let client = Client::of(&args.router)?;
    let mut patience = Patience::new(args.wait);
    let waiting = Progress::spinner_only().step("waiting for the router");
    patience.persist(async |within| client.ready(within).await).await?;
    drop(waiting);
    // Right after a rollout, another expert would answer for one that is not there yet.
    let named: BTreeSet<&str> = questions.iter().filter_map(|question| question.expert.as_deref()).collect();
    let waiting = Progress::spinner_only().step("waiting for the experts");
    let call = async |within| client.experts(Some(within)).await;
    let mesh = patience.persist_until(|catalog| serves(catalog, &named), call).await?.mesh;
    drop(waiting);

    let asking = Asking { client: &client, deadline: Some(args.deadline) };
    let round = Round::ask(asking, questions, &mut patience, (!args.json).then_some(&mut *page)).await?;
    let score = round.score();
    if args.json {
        page.json(&round.document(&mesh, &score))?;
    } else {
        render::round::score(page, &score)?;
    }
    Ok(judged(&score))
}

/// Whether each of these experts has an instance that serves.
fn serves(catalog: &Catalog, experts: &BTreeSet<&str>) -> bool {
    experts.iter().all(|name| {
        let mut instances = catalog.experts.iter().filter(|expert| expert.name == *name).flat_map(|it| &it.instances);
        instances.any(|instance| instance.state == "serving")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    #[test]
    fn an_expert_serves_with_one_instance_that_does() {
        let mut catalog = Catalog::from(samples::catalog());
        let name = catalog.experts[0].name.clone();
        let named = BTreeSet::from([name.as_str()]);
        assert!(serves(&catalog, &named) && serves(&catalog, &BTreeSet::new()));
        assert!(!serves(&catalog, &BTreeSet::from([name.as_str(), "nobody"])));
        for instance in &mut catalog.experts[0].instances {
            instance.state = "connecting".to_owned();
        }
        assert!(!serves(&catalog, &named));
    }
}
