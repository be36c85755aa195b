//! `consilium gate probe`: a mesh's gate held to its file of expected routes, and its experts to what they say of
//! themselves. Nothing of the mesh is started but the gate's encoder.

use std::{path::PathBuf, sync::Arc};

use consilium_expert::Config as Expert;
use consilium_gate::{
    Encoder, Gate, Profile, Settings,
    evaluate::{Probed, Probes, Structure},
};
use serde::Serialize;

use super::{encoder, unfit};
use crate::{
    args,
    command::Exit,
    definition::Definition,
    error::{Error, Trouble},
    labelled,
    page::Page,
    progress::Progress,
    remembering::Remembering,
    render,
};

/// Beside `mesh.yaml`, where the gate's options name no other.
const PROBES: &str = "probes.jsonl";

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) mesh: String,
    pub(crate) probes: PathBuf,
    /// Every tier that has a bar clears it.
    pub(crate) passes: bool,
    #[serde(flatten)]
    pub(crate) probed: Probed,
    /// `None` where only some tiers were asked for.
    pub(crate) structure: Option<Structure>,
    pub(crate) gate_revision: String,
}

pub(crate) async fn run(args: &args::Probe, page: &mut Page<'_>) -> Result<Exit, Error> {
    let mesh = Definition::load(&args.mesh, args.set.clone())?;
    let (file, probes) = probes(args, &mesh)?;
    let progress = if args.json { Progress::spinner_only() } else { Progress::shown() };
    let model = mesh.config.gate.encoder.as_str();
    let step = progress.step(format!("model {model}"));
    let (store, engine) = encoder(&mesh.config.models.join(model), args.onnxruntime.as_deref()).await?;
    step.done("");
    // On the heap: fitting a gate is long, and its future would make every command as large.
    let report = Box::pin(examine((args, &mesh), (file, probes), engine, &progress)).await;
    store.close().await;
    let report = report?;
    if args.json {
        page.json(&report)?;
    } else {
        page.blank()?;
        render::probe::report(page, &report)?;
    }
    Ok(if report.passes { Exit::Done } else { Exit::Failed })
}

async fn examine<E: Encoder + 'static>(
    (args, mesh): (&args::Probe, &Definition),
    (file, probes): (PathBuf, Probes),
    engine: E,
    progress: &Progress,
) -> Result<Report, Error> {
    let settings = Settings { trial: None, ..mesh.config.gate_settings.clone() };
    let profiles: Vec<Profile> = mesh.experts.iter().map(profile).collect();
    let wrong = |error| unfit(&mesh.file, "the gate's options", error);

    let step = progress.long_step("the gate learns", &format!("{} experts", profiles.len()));
    let gauge = step.gauge();
    let told = move |done: usize| gauge.show(&format!("{done} texts"));
    let encoder: Arc<dyn Encoder> = Arc::new(Remembering::new(engine, None, Box::new(told)));
    let gate = Gate::with_settings(settings.clone(), Arc::clone(&encoder)).map_err(wrong)?;
    gate.fit(profiles.clone()).await.map_err(wrong)?;
    step.done("");

    let step = progress.step("the gate is asked");
    let gauge = step.gauge();
    let all = probes.probes.len();
    let probed = probes.ask(&gate, |done| gauge.show(&format!("{done} of {all} probes"))).await;
    step.done("");

    let structure = if args.tier.is_empty() {
        let step = progress.long_step("each expert's examples", "asked of gates that have not learned them");
        let gauge = step.gauge();
        let fitted = |done: usize| gauge.show(&format!("{done} of {} gates", Structure::FITS));
        let found = Structure::of(&settings, &profiles, &encoder, fitted).await.map_err(wrong)?;
        step.done("");
        Some(found)
    } else {
        None
    };
    Ok(Report {
        mesh: mesh.config.name.clone(),
        probes: file,
        passes: probed.passes() && structure.as_ref().is_none_or(Structure::passes),
        probed,
        structure,
        gate_revision: gate.revision(),
    })
}

/// As the router makes it from the expert's card.
fn profile(expert: &Expert) -> Profile {
    Profile {
        expert: expert.name.clone(),
        version: expert.version.clone(),
        summary: expert.summary.clone(),
        examples: expert.examples.clone(),
        serves: expert.serves.clone(),
        digest: String::new(),
    }
}

/// The file and what it says, every mistake named.
fn probes(args: &args::Probe, mesh: &Definition) -> Result<(PathBuf, Probes), Error> {
    let named = mesh.config.gate.probes.as_ref().map(PathBuf::from);
    let file = args.probes.clone().or(named).unwrap_or_else(|| mesh.file.with_file_name(PROBES));
    let wrong = |mistakes| Error::mistakes("the probes", &mistakes);
    let of_file = |mistakes| wrong(labelled::of(&file, mistakes));
    let mut probes = Probes::parse(&labelled::text(&file).map_err(wrong)?).map_err(of_file)?;
    let experts: Vec<&str> = mesh.experts.iter().map(|expert| expert.name.as_str()).collect();
    let mistakes = probes.check(&experts, &mesh.config.gate);
    if !mistakes.is_empty() {
        return Err(of_file(mistakes));
    }
    if args.tier.is_empty() {
        return Ok((file, probes));
    }
    let known = probes.tiers();
    if let Some(unknown) = args.tier.iter().find(|tier| !known.contains(&tier.as_str())) {
        let trouble = Trouble::new(format!("no probe is of the tier {unknown}"));
        return Err(Error::Usage(trouble.with_hint(format!("known: {}", known.join(", ")))));
    }
    probes.keep(&args.tier);
    Ok((file, probes))
}
