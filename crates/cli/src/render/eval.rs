//! An evaluation of a gate, for reading: the figures, each with what it is a share of, and where it went wrong.

use std::{io, time::Duration};

use super::{brief, count, table::Table};
use crate::{
    command::gate::eval::{Document, Rows},
    page::Page,
    text::{Text, Tone},
    view::milliseconds,
};

/// Of the labels on the left.
const LABEL: usize = 22;
/// Of the figures beside them.
const FIGURE: usize = 9;
/// The worst ones are enough for a screen; `--json` has more.
const CONFUSIONS_SHOWN: usize = 10;
/// Characters of a query that show what it is about.
const QUERY_SHOWN: usize = 88;

/// What was asked: the file, and the folder that says which set it is.
pub(crate) fn subject(document: &Document) -> String {
    let parts: Vec<String> =
        document.test.iter().rev().take(2).map(|part| part.to_string_lossy().into_owned()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

pub(crate) fn document(page: &mut Page<'_>, document: &Document) -> io::Result<()> {
    let Rows { train, validation, test, test_nobody } = document.rows;
    let asked = count(test, "query", "queries");
    let experts = count(document.experts, "expert", "experts");
    page.paragraph(
        Text::new()
            .strong(subject(document))
            .plain(format!(": {asked} for {experts}, {test_nobody} of them for nobody")),
    )?;
    let calibrated =
        if validation > 0 { format!("calibrated on {validation}") } else { "calibrated on folds".to_owned() };
    page.paragraph(Text::new().quiet(format!("learned from {train}, {calibrated}, with {}", document.model)))?;
    for (name, rows) in &document.strangers {
        let unknown = format!("{name} is in no row of the training file and in {}", count(*rows, "other", "others"));
        page.paragraph(Text::new().with(unknown, Tone::Warn))?;
    }
    page.blank()?;
    figures(page, document)?;
    dimensions(page, document)?;
    page.blank()?;
    timings(page, document)?;
    confusions(page, document)
}

fn figures(page: &mut Page<'_>, document: &Document) -> io::Result<()> {
    let it = &document.measures;
    figure(page, "top-1", it.top1, "the most probable expert is the right one")?;
    figure(page, "top-3", it.top3, "the right one is among the three most probable")?;
    figure(page, "end to end", it.end_to_end, "the right expert is asked, or nobody where nobody should be")?;
    figure(page, "answered", it.coverage, "somebody is asked")?;
    figure(page, "wrong of answered", it.error_among_answered, "and it is not the right one")?;
    if it.refused.is_some() {
        figure(page, "in scope, answered", it.kept, "of the queries that are for somebody")?;
        figure(page, "foreign, refused", it.refused, "of the queries that are for nobody")?;
        figure(page, "foreign, AUROC", it.oos_auroc, "how well the two are told apart by the chance of anybody")?;
        figure(page, "foreign, recall", it.oos_recall_at_95_kept, "refused by the bar that keeps 95 % of the others")?;
    }
    let said = if it.calibrated {
        "stated confidence against what came true"
    } else {
        "the same; the gate does not call itself calibrated"
    };
    figure(page, "calibration error", it.ece, said)
}

fn dimensions(page: &mut Page<'_>, document: &Document) -> io::Result<()> {
    for (name, it) in &document.measures.dimensions {
        page.blank()?;
        page.line(Text::new().strong(name).quiet(format!(", labelled in {}", count(it.rows, "query", "queries"))))?;
        figure(page, "top-1", it.top1, "the most probable value is the right one")?;
        figure(page, "told", it.coverage, "the value clears the dimension's bar")?;
        figure(page, "calibration error", it.ece, "stated confidence against what came true")?;
    }
    Ok(())
}

fn timings(page: &mut Page<'_>, document: &Document) -> io::Result<()> {
    let it = &document.measures;
    let tiers: Vec<String> = it.tiers.iter().map(|(tier, share)| format!("{tier} {}", points(*share))).collect();
    page.beside("decided by", LABEL, tiers.join(", "))?;
    let latency = &it.latency_ms;
    if let (Some(p50), Some(p95), Some(p99)) = (latency.p50, latency.p95, latency.p99) {
        let [p50, p95, p99] = [p50, p95, p99].map(took);
        page.beside("a decision took", LABEL, format!("{p50} (median), {p95} (95 %), {p99} (99 %)"))?;
    }
    let learned = format!("encoded in {}, fitted in {}", brief(document.encode_ms), brief(document.fit_ms));
    page.beside("learning", LABEL, learned)?;
    let machine = &document.machine;
    let cores = count(machine.cores, "core", "cores");
    page.beside("machine", LABEL, format!("{}, {cores}, {} build", machine.cpu, machine.profile))?;
    page.beside("gate", LABEL, Text::new().quiet(format!("revision {}", document.gate_revision)))
}

fn confusions(page: &mut Page<'_>, document: &Document) -> io::Result<()> {
    if document.confusions.is_empty() {
        return Ok(());
    }
    page.blank()?;
    let mut table = Table::new(&["SHOULD BE", "WAS", ">QUERIES"]);
    let name = |name: &Option<String>| {
        let nobody = || Text::new().quiet("nobody");
        name.as_ref().map_or_else(nobody, |name| Text::from(name.as_str()))
    };
    for it in document.confusions.iter().take(CONFUSIONS_SHOWN) {
        table.row([name(&it.expected), name(&it.chosen), it.rows.to_string().into()]);
        for query in &it.queries {
            table.detail(Text::new().quiet(shortened(query)));
        }
    }
    table.write(page)
}

fn figure(page: &mut Page<'_>, label: &str, share: Option<f64>, of: &str) -> io::Result<()> {
    let Some(share) = share else { return Ok(()) };
    let figure = format!("{:>width$}  ", points(share), width = FIGURE - 2);
    page.beside(label, LABEL, Text::new().strong(figure).quiet(of))
}

/// A line at the most.
fn shortened(query: &str) -> String {
    match query.char_indices().nth(QUERY_SHOWN) {
        Some((end, _)) => format!("{}…", &query[..end]),
        None => query.to_owned(),
    }
}

/// Per cent with the digit that comparisons are about.
pub(super) fn points(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// With the microseconds, where there are no milliseconds.
fn took(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1e3 { format!("{micros:.0} µs") } else { brief(milliseconds(duration)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use consilium_gate::evaluate::{Measures, Observation};

    use super::*;
    use crate::{
        command::gate::eval::Machine,
        page::{Look, written},
    };

    fn sample() -> Document {
        let observed = |truth: Option<&str>, chosen: Option<&str>| Observation {
            truth: truth.map(str::to_owned),
            best: Some(("billing".to_owned(), 0.8)),
            ahead: truth.map(|name| usize::from(name != "billing")),
            somebody: if truth.is_some() { 0.9 } else { 0.2 },
            chosen: chosen.map(str::to_owned),
            tier: "encoder",
            took: Duration::from_micros(2_900),
            calibrated: true,
            ..Observation::default()
        };
        let rows = [
            observed(Some("billing"), Some("billing")),
            observed(Some("visits"), Some("billing")),
            observed(None, None),
            Observation {
                tier: "static",
                took: Duration::from_micros(42),
                ..observed(Some("billing"), Some("billing"))
            },
        ];
        Document {
            test: "sets/desk/test.jsonl".into(),
            measures: Measures::of(&rows),
            rows: Rows { train: 40, validation: 0, test: 4, test_nobody: 1 },
            experts: 2,
            strangers: BTreeMap::from([("parking".to_owned(), 3)]),
            confusions: consilium_gate::evaluate::confusions(&rows, &["a?", "when may I come?", "b?", "c?"]),
            model: "small".to_owned(),
            model_digest: "ab".to_owned(),
            gate_revision: "c0ffee".to_owned(),
            encode_ms: 1_200.0,
            fit_ms: 310.0,
            machine: Machine { cpu: "a processor".to_owned(), cores: 2, profile: "release" },
        }
    }

    #[test]
    fn an_evaluation_is_laid_out_for_reading() {
        let text = written(Look::PLAIN, |page| document(page, &sample()));
        let expected = "\
desk/test.jsonl: 4 queries for 2 experts, 1 of them for nobody
learned from 40, calibrated on folds, with small
parking is in no row of the training file and in 3 others

top-1                  66.7 %  the most probable expert is the right one
top-3                 100.0 %  the right one is among the three most probable
end to end             75.0 %  the right expert is asked, or nobody where nobody should be
answered               75.0 %  somebody is asked
wrong of answered      33.3 %  and it is not the right one
in scope, answered    100.0 %  of the queries that are for somebody
foreign, refused      100.0 %  of the queries that are for nobody
foreign, AUROC        100.0 %  how well the two are told apart by the chance of anybody
foreign, recall       100.0 %  refused by the bar that keeps 95 % of the others
calibration error      30.0 %  stated confidence against what came true

decided by            encoder 75.0 %, static 25.0 %
a decision took       2.9 ms (median), 2.9 ms (95 %), 2.9 ms (99 %)
learning              encoded in 1.20 s, fitted in 310 ms
machine               a processor, 2 cores, release build
gate                  revision c0ffee

SHOULD BE  WAS      QUERIES
visits     billing        1
  when may I come?
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_cannot_be_measured_is_left_out_and_short_times_are_in_microseconds() {
        let bare =
            Document { measures: Measures::of(&[]), strangers: BTreeMap::new(), confusions: Vec::new(), ..sample() };
        let text = written(Look::PLAIN, |page| document(page, &bare));
        assert!(!text.contains('%') && !text.contains("a decision took") && !text.contains("SHOULD"), "{text}");
        assert_eq!(took(Duration::from_micros(42)), "42 µs");
    }
}
