//! What `check` found.

use std::io;

use super::count;
use crate::{
    command::check::Report,
    page::Page,
    text::{Text, Tone},
};

pub(crate) fn report(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    if report.mistakes.is_empty() {
        let facts = [
            count(report.experts.len(), "expert", "experts"),
            count(report.models.len(), "model", "models"),
            count(report.rules, "rule", "rules"),
        ];
        let ok = Text::new().with("ok", Tone::Good).plain(format!("  {}", report.mesh));
        return page.line(ok.quiet(format!(": {}", facts.join(", "))));
    }
    // Never broken into lines: people search them for paths.
    for mistake in &report.mistakes {
        let place = if mistake.path.is_empty() { String::new() } else { format!("{}: ", mistake.path) };
        let place = Text::new().quiet(format!("{}: ", mistake.file)).strong(place);
        page.line(place.plain(&mistake.problem))?;
        if !mistake.expected.is_empty() {
            page.indented(2).line(Text::new().quiet("expected ").plain(&mistake.expected))?;
        }
    }
    page.line(Text::new().with(count(report.mistakes.len(), "mistake", "mistakes"), Tone::Bad))
}
