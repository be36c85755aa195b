//! `consilium models`: what model directories hold, and whether it is what they say; and models from elsewhere.

use std::{collections::BTreeSet, path::PathBuf};

use super::Exit;
use crate::{
    args,
    error::{Error, Trouble},
    fetch::{self, Wanted},
    model::{self, Model},
    page::Page,
    progress::Progress,
    render,
};

pub(crate) async fn run(args: &args::Models, page: &mut Page<'_>) -> Result<Exit, Error> {
    if let Some(args::ModelsCommand::Fetch(args)) = &args.instead {
        return fetch(args, page).await;
    }
    let directories = directories(&args.directories)?;
    let waiting = Progress::spinner_only().step("verifying");
    let models: Vec<Model> = directories.iter().map(|dir| model::inspect(dir)).collect();
    drop(waiting);
    show(page, &models, args.json)?;
    Ok(if models.iter().all(|model| model.verified) { Exit::Done } else { Exit::Failed })
}

/// Ends with the same table: what was fetched is what `consilium models` says of it.
async fn fetch(args: &args::Fetch, page: &mut Page<'_>) -> Result<Exit, Error> {
    let wanted = wanted(&args.models)?;
    let models = fetch::fetch(&wanted, &args.into, args.timeout, &Progress::shown()).await?;
    show(page, &models, args.json)?;
    Ok(Exit::Done)
}

fn show(page: &mut Page<'_>, models: &[Model], json: bool) -> Result<(), Error> {
    if json {
        page.json(&serde_json::json!({ "models": models }))?;
    } else {
        render::models::models(page, models)?;
    }
    Ok(())
}

fn wanted(models: &[String]) -> Result<Vec<Wanted>, Error> {
    let mut wanted = Vec::new();
    let mut trouble = Trouble::new("it is not clear what to fetch");
    let mut names = BTreeSet::new();
    for text in models {
        match Wanted::parse(text) {
            Ok(one) if !names.insert(one.name.clone()) => {
                trouble = trouble.with_detail(format!("{}: named twice", one.name));
            }
            Ok(one) => wanted.push(one),
            Err(problem) => trouble = trouble.with_detail(problem),
        }
    }
    if trouble.details.is_empty() { Ok(wanted) } else { Err(Error::Usage(trouble)) }
}

fn directories(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut trouble = Trouble::new("no models there");
    for path in paths {
        match model::directories(path) {
            Ok(directories) if directories.is_empty() => {
                trouble = trouble.with_detail(format!("{}: no manifest.json in it or right below it", path.display()));
            }
            Ok(directories) => found.extend(directories),
            Err(error) => trouble = trouble.with_detail(format!("{}: {error}", path.display())),
        }
    }
    if trouble.details.is_empty() { Ok(found) } else { Err(Error::Usage(trouble)) }
}
