//! What a demonstration says at its end: how many were right, how fast, and what the whole mesh cost.

use std::io;

use super::{brief, models, round};
use crate::{command::demo::Summary, page::Page, text::Text};

pub(crate) fn summary(page: &mut Page<'_>, summary: &Summary) -> io::Result<()> {
    round::counted(page, &summary.score)?;
    page.line(round::latencies(&summary.score).plain(format!("; up in {}", brief(summary.start_up_ms))))?;
    match summary.resident_bytes {
        Some(bytes) => {
            let memory = format!("{} of memory for the whole mesh in one process", models::size(bytes));
            page.line(Text::new().plain(memory))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        page::{Look, written},
        round::Score,
    };

    #[test]
    fn the_summary_counts_and_measures() {
        let summed = Summary {
            score: Score { right: 15, wrong: 1, latency_p50_ms: 11.4, latency_max_ms: 25.0 },
            start_up_ms: 2_310.0,
            resident_bytes: Some(300 << 20),
        };
        let text = written(Look::PLAIN, |page| summary(page, &summed));
        let expected = "\
15 of 16 right
answers in 11 ms (median), 25 ms at most; up in 2.31 s
300 MiB of memory for the whole mesh in one process
";
        assert_eq!(text, expected);
    }
}
