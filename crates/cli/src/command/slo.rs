//! `consilium slo rules`: what Prometheus should watch of a mesh, from the mesh's own files.

use std::io;

use super::Exit;
use crate::{
    args::{Format, Rules, SloCommand},
    definition::Definition,
    error::Error,
    page::Page,
    slo::{self, Promise, Promises, Settings},
};

/// Says nothing of the file's path or the program's version: the same mesh makes the same file everywhere.
const HEADER: &str = "Made by `consilium slo rules` from the files of the mesh. Change those, and make this again.";

pub(crate) fn run(command: SloCommand, page: &mut Page<'_>) -> Result<Exit, Error> {
    let SloCommand::Rules(args) = command;
    let promises = promises(Definition::load(&args.mesh, Vec::new())?);
    let (format, settings) = (args.format, settings(args));
    let document = match format {
        Format::Prometheus => slo::prometheus(&promises, &settings),
        Format::Sloth => slo::sloth(&promises, &settings),
        Format::Operator => slo::operator(&promises, &settings),
    };
    page.line(format!("# {HEADER}").as_str())?;
    document.map_err(io::Error::other)?.lines().try_for_each(|line| page.line(line))?;
    Ok(Exit::Done)
}

fn promises(mesh: Definition) -> Promises {
    let mut experts: Vec<Promise> = mesh
        .experts
        .into_iter()
        .map(|expert| Promise { expert: expert.name, objective: expert.slo.objective, latency: expert.slo.latency })
        .collect();
    experts.sort_by(|one, other| one.expert.cmp(&other.expert));
    Promises { mesh: mesh.config.name, experts }
}

fn settings(args: Rules) -> Settings {
    Settings {
        runbook: args.runbook_url,
        dashboards: args.dashboard_url.trim_end_matches('/').to_owned(),
        least_bad: args.least_bad,
        scope: args.scope,
    }
}
