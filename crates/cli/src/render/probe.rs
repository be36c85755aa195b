//! How a mesh's gate did on its probes: the tiers, what went wrong and why, and what shows of the experts by themselves.

use std::io;

use consilium_gate::evaluate::{Collision, Duplicate, Failure, Structure, Tally, Unreachable};

use super::{count, eval::points, table::Table};
use crate::{
    command::gate::probe::Report,
    page::Page,
    text::{Text, Tone},
};

/// What speaks for whoever was chosen: enough to see why.
const REASONS_SHOWN: usize = 3;

pub(crate) fn report(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    for failure in &report.probed.failures {
        failed(page, failure)?;
    }
    if let Some(structure) = &report.structure {
        found(page, structure)?;
    }
    let tallies = report.probed.tiers.iter().chain(report.structure.iter().flat_map(|it| &it.tiers));
    let mut table = Table::new(&["", "TIER", ">RIGHT", ">OF", ">SHARE", ">BAR"]);
    for tally in tallies.clone() {
        table.row(row(tally));
    }
    table.write(page)?;
    let below = tallies.filter(|tally| !tally.passes()).count();
    let verdict = if report.passes {
        Text::new().with("ok", Tone::Good).plain(format!("  {}", report.mesh))
    } else {
        let tiers = count(below, "tier is below its bar", "tiers are below their bars");
        Text::new().with("below", Tone::Bad).plain(format!("  {}: {tiers}", report.mesh))
    };
    page.line(verdict.quiet(format!("  gate revision {}", report.gate_revision)))
}

fn row(tally: &Tally) -> [Text; 6] {
    let mark = match (tally.bar, tally.passes()) {
        (None, _) => Text::new(),
        (Some(_), true) => Text::new().with("✓", Tone::Good),
        (Some(_), false) => Text::new().with("✗", Tone::Bad),
    };
    let share = if tally.total == 0 { String::new() } else { points(tally.right as f64 / tally.total as f64) };
    let bar = tally.bar.map(points).unwrap_or_default();
    [
        mark,
        tally.tier.as_str().into(),
        tally.right.to_string().into(),
        tally.total.to_string().into(),
        share.into(),
        Text::new().quiet(bar),
    ]
}

fn failed(page: &mut Page<'_>, failure: &Failure) -> io::Result<()> {
    let nobody = || "nobody".to_owned();
    let place = Text::new().quiet(format!("line {}, {}: ", failure.line, failure.tier));
    page.paragraph(place.strong(&failure.text))?;
    let mut below = page.indented(2);
    let chosen = if failure.chosen.is_empty() { nobody() } else { failure.chosen.join(" and ") };
    let expected = failure.expected.clone().unwrap_or_else(nobody);
    let said = Text::new().with("✗ ", Tone::Bad).accent(&chosen);
    let said = if failure.chosen.first() == failure.expected.as_ref() {
        said
    } else {
        said.plain(format!(", expected {expected}"))
    };
    let probability = failure.probability.map(|it| format!(" with {}", points(it))).unwrap_or_default();
    let how = format!("{probability}  {} by {}", failure.reason, failure.gate_tier);
    below.paragraph(said.quiet(how))?;
    for reason in failure.why.iter().take(REASONS_SHOWN) {
        below.indented(2).paragraph(Text::new().quiet(reason))?;
    }
    if let Some(note) = &failure.note {
        below.indented(2).paragraph(Text::new().quiet("note: ").plain(note))?;
    }
    page.blank()
}

fn found(page: &mut Page<'_>, structure: &Structure) -> io::Result<()> {
    for Unreachable { expert, by_card, by_examples, examples } in &structure.unreachable {
        let card = if *by_card { "its card leads to it" } else { "its card leads elsewhere" };
        let reached =
            format!("{by_examples} of its {}", count(*examples, "example leads to it", "examples lead to it"));
        let line =
            Text::new().with("✗ ", Tone::Bad).accent(expert).plain(format!(" is hard to reach: {card}, {reached}"));
        page.paragraph(line)?;
    }
    for Duplicate { text, experts } in &structure.duplicates {
        let line = Text::new()
            .with("✗ ", Tone::Bad)
            .strong(text)
            .plain(format!(" is an example of {}", experts.join(" and ")));
        page.paragraph(line)?;
    }
    for Collision { expert, taken_for, rows, examples } in &structure.collisions {
        let rows = count(*rows, "example of", "examples of");
        let line = Text::new().with("! ", Tone::Warn).plain(format!("{rows} {expert} would go to {taken_for}: "));
        let quoted: Vec<String> = examples.iter().map(|text| format!("\u{201c}{text}\u{201d}")).collect();
        page.paragraph(line.quiet(quoted.join(" ")))?;
    }
    for (expert, examples) in &structure.thin {
        let line = format!("{expert} has {}", count(*examples, "example", "examples"));
        page.paragraph(Text::new().with("! ", Tone::Warn).plain(line))?;
    }
    let any = structure.tiers.iter().any(|tally| tally.right < tally.total);
    if any { page.blank() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use consilium_gate::evaluate::Probed;

    use super::*;
    use crate::page::{Look, written};

    fn tally(tier: &str, right: usize, bar: Option<f64>) -> Tally {
        Tally { tier: tier.to_owned(), right, total: 4, bar }
    }

    fn sample() -> Report {
        let failure = Failure {
            line: 7,
            tier: "near".to_owned(),
            text: "when may I come?".to_owned(),
            expected: None,
            chosen: vec!["billing".to_owned()],
            outcome: "DISPATCHED",
            reason: "CONFIDENT",
            gate_tier: "encoder",
            probability: None,
            why: vec!["billing 0.81".to_owned(), "close to \"what may I pay\" (0.70)".to_owned()],
            note: Some("ours opens late".to_owned()),
        };
        Report {
            mesh: "desk".to_owned(),
            probes: "probes.jsonl".into(),
            passes: false,
            probed: Probed {
                tiers: vec![tally("reach", 4, Some(1.0)), tally("near", 3, Some(0.9))],
                failures: vec![failure],
            },
            structure: None,
            gate_revision: "c0ffee".to_owned(),
        }
    }

    #[test]
    fn what_went_wrong_comes_first_and_the_tiers_last() {
        let text = written(Look::PLAIN, |page| report(page, &sample()));
        let expected = "\
line 7, near: when may I come?
  ✗ billing, expected nobody  CONFIDENT by encoder
    billing 0.81
    close to \"what may I pay\" (0.70)
    note: ours opens late

   TIER   RIGHT  OF    SHARE      BAR
✓  reach      4   4  100.0 %  100.0 %
✗  near       3   4   75.0 %   90.0 %
below  desk: 1 tier is below its bar  gate revision c0ffee
";
        assert_eq!(text, expected);
    }

    #[test]
    fn findings_about_experts_are_sentences() {
        let structure = Structure {
            tiers: vec![tally("reachable", 3, Some(1.0)), tally("thin", 3, None)],
            unreachable: vec![Unreachable {
                expert: "visits".to_owned(),
                by_card: false,
                by_examples: 0,
                examples: 12,
            }],
            collisions: vec![Collision {
                expert: "visits".to_owned(),
                taken_for: "billing".to_owned(),
                rows: 2,
                examples: vec!["one".to_owned()],
            }],
            duplicates: vec![Duplicate { text: "one".to_owned(), experts: vec!["a".to_owned(), "b".to_owned()] }],
            thin: BTreeMap::from([("parking".to_owned(), 1)]),
        };
        let text = written(Look::PLAIN, |page| found(page, &structure));
        let expected = "\
✗ visits is hard to reach: its card leads elsewhere, 0 of its 12 examples lead to it
✗ one is an example of a and b
! 2 examples of visits would go to billing: \u{201c}one\u{201d}
! parking has 1 example

";
        assert_eq!(text, expected);
    }
}
