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

/// A row for each version, with its instances below. Calls are counted for the expert as a whole.
fn add(table: &mut Table, expert: &Expert) {
    let Some(newest) = expert.card() else {
        let all = expert.instances.iter().collect::<Vec<_>>();
        let name = Text::new().accent(&expert.name);
        table.row([name, "?".into(), "?".into(), Text::new(), score(expert), live(&all, Tone::Bad)]);
        for instance in all {
            table.detail(line(instance, true));
        }
        return;
    };
    let several = expert.cards.len() > 1;
    for (index, card) in expert.cards.iter().enumerate() {
        let first = index == 0;
        // One whose card was not heard of yet stands with the newest.
        let unknown = |version: &str| expert.cards.iter().all(|card| card.version != version);
        let serves = |it: &&Instance| it.version == card.version || (first && unknown(&it.version));
        let instances: Vec<&Instance> = expert.instances.iter().filter(serves).collect();
        table.row([
            if first { Text::new().accent(&expert.name) } else { Text::new() },
            card.version.as_str().into(),
            card.task.as_str().into(),
            objective(&card.slo).unwrap_or_default().into(),
            if first { score(expert) } else { Text::new() },
            // Of an old version that is as it should be.
            live(&instances, if expert.instances.is_empty() { Tone::Bad } else { Tone::Quiet }),
        ]);
        if first || card.summary != newest.summary {
            table.detail(Text::new().quiet(&card.summary));
        }
        for instance in instances {
            table.detail(line(instance, several || instance.version != card.version));
        }
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

fn live(instances: &[&Instance], nobody: Tone) -> Text {
    let serving = instances.iter().filter(|instance| instance.state == "serving").count();
    match instances.len() {
        0 => Text::new().with("none", nobody),
        all if all == serving => Text::new().with(format!("{serving} serving"), Tone::Good),
        all => Text::new().with(format!("{serving} of {all} serving"), Tone::Warn),
    }
}

fn line(instance: &Instance, version: bool) -> Text {
    let tone = match instance.state.as_str() {
        "serving" => Tone::Good,
        "connecting" | "draining" => Tone::Warn,
        _ => Tone::Bad,
    };
    let optional = |text: &str, shown: bool| if shown { format!("  {text}") } else { String::new() };
    Text::new()
        .plain(format!("{}  ", instance.address))
        .with(&instance.state, tone)
        .with(optional("registration ran out", instance.expired), Tone::Warn)
        .plain(optional(&format!("version {}", instance.version), version))
        .plain(format!("  {} in flight", instance.in_flight))
        .quiet(format!("  {}", instance.id))
        .with(optional(&instance.track, instance.track != "live"), Tone::Warn)
        .quiet(optional(&instance.zone, !instance.zone.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        page::{Look, written},
        view::{Card, samples},
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
    fn several_versions_each_have_a_row_and_their_instances() {
        let mut view = Catalog::from(samples::catalog());
        let expert = &mut view.experts[0];
        let old = Card { version: "0".into(), ..expert.cards[0].clone() };
        let retirable = Card { version: "00".into(), summary: "Checks less.".into(), ..old.clone() };
        expert.cards.extend([old, retirable]);
        let one = expert.instances[0].clone();
        let lost = Instance {
            id: "di-0".into(),
            version: "0".into(),
            state: "unreachable".into(),
            expired: true,
            ..one.clone()
        };
        let early = Instance { id: "di-2".into(), version: "2".into(), zone: "east".into(), ..one };
        expert.instances.extend([lost, early]);
        view.experts.truncate(1);
        let text = written(Look::PLAIN, |page| catalog(page, &view));
        let expected = "\
clinic  1 expert · revision 7

EXPERT             VERSION  TASK      OBJECTIVE          GOOD/TOTAL  INSTANCES
drug-interactions  1        retrieve  99% within 150 ms       11/12  2 serving
  Checks medicines against each other.
  127.0.0.1:40001  serving  version 1  3 in flight  di-1
  127.0.0.1:40001  serving  version 2  3 in flight  di-2  east
                   0        retrieve  99% within 150 ms              0 of 1 serving
  127.0.0.1:40001  unreachable  registration ran out  version 0  3 in flight  di-0
                   00       retrieve  99% within 150 ms              none
  Checks less.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_mesh_says_so() {
        let text = written(Look::PLAIN, |page| catalog(page, &Catalog { mesh: "clinic".into(), ..Catalog::default() }));
        assert!(text.ends_with("nobody has joined yet\n"), "{text}");
    }
}
