//! `consilium experts`: who is in the mesh, once or for as long as one likes to watch.

use super::{Exit, retire};
use crate::{
    args,
    client::Client,
    error::{Error, Trouble},
    page::Page,
    render,
};

pub(crate) async fn run(args: &args::Experts, page: &mut Page<'_>) -> Result<Exit, Error> {
    if let Some(args::ExpertsCommand::Retire(args)) = &args.instead {
        return retire::run(args, page).await;
    }
    let client = Client::of(&args.router)?;
    if args.watch {
        return watch(&client, args.json, page).await;
    }
    let catalog = client.experts(None).await?;
    if args.json {
        page.json(&catalog)?;
    } else {
        render::experts::catalog(page, &catalog)?;
    }
    Ok(Exit::Done)
}

/// Until Ctrl-C, or until the router goes out of service.
async fn watch(client: &Client, json: bool, page: &mut Page<'_>) -> Result<Exit, Error> {
    let mut catalogs = client.watch().await?;
    while let Some(catalog) = catalogs.next().await? {
        if json {
            page.json_line(&catalog)?;
            continue;
        }
        page.clear()?;
        render::experts::catalog(page, &catalog)?;
        if !page.look().terminal {
            page.blank()?;
        }
        page.flush()?;
    }
    Err(Error::Failed(Trouble::new("the router went out of service")))
}
