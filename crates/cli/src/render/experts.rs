//! The catalogue: who is in the mesh, where, and how well.

use std::io;

use super::{count, objective, table::Table};
use crate::{
    page::Page,
    text::{Text, Tone},
    view::{Catalog, Expert, Instance},
};

pub(crate) fn catalog(page: &mut Page<'_>, catalog: &Catalog) -> io::Result<()> {
    let experts = count(catalog.experts.len(), "expert", "experts");
    let heading = Text::new().strong(&catalog.mesh).quiet(format!("  {experts} · revision {}", catalog.revision));
    page.line(heading)?;
    page.blank()?;
    if catalog.experts.is_empty() {
        return page.line(Text::new().quiet("nobody has joined yet"));
    }
    let mut table = Table::new(&["EXPERT", "VERSION", "TASK", "OBJECTIVE", ">GOOD/TOTAL", "INSTANCES"]);
    for expert in &catalog.experts {
        add(&mut table, expert);
    }
    table.write(page)
}

fn add(table: &mut Table, expert: &Expert) {
    let card = expert.card();
    let slo = card.map_or(expert.slo.slo, |card| card.slo);
    table.row([
        Text::new().accent(&expert.name),
        card.map_or("?", |card| &card.version).into(),
        card.map_or("?", |card| &card.task).into(),
        objective(&slo).unwrap_or_default().into(),
        score(expert),
        live(expert),
    ]);
    if let Some(card) = card {
        table.detail(Text::new().quiet(&card.summary));
    }
    for instance in &expert.instances {
        table.detail(line(instance));
    }
}

fn score(expert: &Expert) -> Text {
    let (good, total) = (expert.slo.good, expert.slo.total);
    if total == 0 {
        return Text::new().quiet("none yet");
    }
    let kept = good as f64 / total as f64 >= expert.slo.slo.objective;
    Text::new().with(format!("{good}/{total}"), if kept { Tone::Good } else { Tone::Bad })
}

fn live(expert: &Expert) -> Text {
    let serving = expert.instances.iter().filter(|instance| instance.state == "serving").count();
    match expert.instances.len() {
        0 => Text::new().with("none", Tone::Bad),
        all if all == serving => Text::new().with(format!("{serving} serving"), Tone::Good),
        all => Text::new().with(format!("{serving} of {all} serving"), Tone::Warn),
    }
}

fn line(instance: &Instance) -> Text {
    let tone = match instance.state.as_str() {
        "serving" => Tone::Good,
        "draining" => Tone::Warn,
        _ => Tone::Bad,
    };
    let text = Text::new().plain(format!("{}  ", instance.address)).with(&instance.state, tone);
    let text = text.plain(format!("  {} in flight", instance.in_flight)).quiet(format!("  {}", instance.id));
    let track = if instance.track == "live" { String::new() } else { format!("  {}", instance.track) };
    let zone = if instance.zone.is_empty() { String::new() } else { format!("  {}", instance.zone) };
    text.with(track, Tone::Warn).quiet(zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        page::{Look, written},
        view::samples,
    };

    #[test]
    fn experts_with_their_instances_and_one_that_has_none() {
        let view = Catalog::from(samples::catalog());
        let text = written(Look::PLAIN, |page| catalog(page, &view));
        let expected = "\
clinic  2 experts · revision 7

EXPERT             VERSION  TASK      OBJECTIVE          GOOD/TOTAL  INSTANCES
drug-interactions  1        retrieve  99% within 150 ms       11/12  1 serving
  Checks medicines against each other.
  127.0.0.1:40001  serving  3 in flight  di-1
general            1        retrieve  99% within 150 ms    none yet  none
  Answers the rest.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_mesh_says_so() {
        let text = written(Look::PLAIN, |page| catalog(page, &Catalog { mesh: "clinic".into(), ..Catalog::default() }));
        assert!(text.ends_with("nobody has joined yet\n"), "{text}");
    }
}
