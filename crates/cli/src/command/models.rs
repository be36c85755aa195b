//! `consilium models`: what model directories hold, and whether it is what they say.

use std::path::PathBuf;

use super::Exit;
use crate::{
    args,
    error::{Error, Trouble},
    model::{self, Model},
    page::Page,
    progress::Progress,
    render,
};

pub(crate) fn run(args: &args::Models, page: &mut Page<'_>) -> Result<Exit, Error> {
    let directories = directories(&args.directories)?;
    let waiting = Progress::spinner_only().step("verifying");
    let models: Vec<Model> = directories.iter().map(|dir| model::inspect(dir)).collect();
    drop(waiting);
    if args.json {
        page.json(&serde_json::json!({ "models": models }))?;
    } else {
        render::models::models(page, &models)?;
    }
    Ok(if models.iter().all(|model| model.verified) { Exit::Done } else { Exit::Failed })
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
