//! A round of questions: each with who answered, how sure, why, what and how fast; then how many were right.

use std::io;

use super::{answer, brief, percent};
use crate::{
    page::Page,
    round::{Answered, Score},
    text::{Text, Tone},
    view::{Body, Dispatch},
};

/// Left of everything but the question: ` 1  `.
const MARGIN: usize = 4;
/// A line or two of reasons is enough to see that there are some.
const REASONS_SHOWN: usize = 1;

pub(crate) fn answered(page: &mut Page<'_>, number: usize, answered: &Answered) -> io::Result<()> {
    let question = &answered.question;
    page.beside(&format!("{number:>2}"), MARGIN, Text::new().strong(&question.text))?;
    let mut below = page.indented(MARGIN);
    let given = question.attributes.iter().map(|(name, values)| format!("{name}={}", values.join(",")));
    let labels = question.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let given: Vec<String> = given.chain(labels).collect();
    if !given.is_empty() {
        below.line(Text::new().quiet(given.join(" ")))?;
    }
    match &answered.reply {
        Ok(reply) => reacted(&mut below, answered, reply)?,
        Err(problem) => below.paragraph(verdict(false).with(problem, Tone::Bad))?,
    }
    if let Some(expected) = &answered.expected {
        below.indented(2).paragraph(Text::new().with(format!("expected {expected}"), Tone::Bad))?;
    }
    page.blank()
}

pub(crate) fn score(page: &mut Page<'_>, score: &Score) -> io::Result<()> {
    counted(page, score)?;
    page.line(latencies(score))
}

/// How many were right.
pub(super) fn counted(page: &mut Page<'_>, score: &Score) -> io::Result<()> {
    let tone = if score.wrong == 0 { Tone::Good } else { Tone::Bad };
    page.line(Text::new().with(format!("{} of {} right", score.right, score.right + score.wrong), tone))
}

pub(super) fn latencies(score: &Score) -> Text {
    let (median, longest) = (brief(score.latency_p50_ms), brief(score.latency_max_ms));
    Text::new().plain(format!("answers in {median} (median), {longest} at most"))
}

fn reacted(page: &mut Page<'_>, answered: &Answered, reply: &Dispatch) -> io::Result<()> {
    let right = answered.expected.is_none();
    let time = brief(reply.round_trip_ms);
    let Some(chosen) = reply.decision.selected().next() else {
        let closest = reply.decision.candidates.first();
        let closest = closest.map(|it| format!("closest: {} {}", it.expert, percent(it.probability)));
        let said = verdict(right).with(&reply.decision.outcome, Tone::Warn).quiet(format!("  {time}"));
        page.line(said)?;
        return closest.map_or(Ok(()), |closest| page.indented(2).paragraph(Text::new().quiet(closest)));
    };
    let head = verdict(right).accent(&chosen.expert).plain(format!("  {}", percent(chosen.probability)));
    let head = if reply.decision.outcome == "fallback" { head.with("  fallback", Tone::Warn) } else { head };
    page.line(head.quiet(format!("  {time}")))?;

    let mut below = page.indented(2);
    for reason in chosen.reasons.iter().take(REASONS_SHOWN) {
        below.paragraph(Text::new().quiet(reason))?;
    }
    if let Some(said) = &reply.answer {
        below.paragraph(answer::gist(said))?;
        if let Some(Body::Passages(found)) = &said.body
            && let Some(best) = found.passages.first()
        {
            let from = best.source.as_ref().map(answer::source).unwrap_or_default();
            let title = Text::new().quiet(&best.title);
            below.paragraph(if from.is_empty() { title } else { title.quiet(" · ").then(from) })?;
        }
    }
    Ok(())
}

fn verdict(right: bool) -> Text {
    if right { Text::new().with("✓ ", Tone::Good) } else { Text::new().with("✗ ", Tone::Bad) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        page::{Look, written},
        question::{Outcome, Question},
        view::samples,
    };

    fn question() -> Question {
        Question {
            text: "Can my patient take ibuprofen with warfarin?".into(),
            expert: Some("drug-interactions".into()),
            outcome: Outcome::Dispatched,
            attributes: [("audience".to_owned(), vec!["clinician".to_owned()])].into(),
            labels: [].into(),
        }
    }

    #[test]
    fn an_answer_that_is_right_and_a_refusal_that_is_not() {
        let round_trip = Duration::from_micros(12_340);
        let right = Answered::new(question(), Ok(Dispatch::new(samples::dispatched(), round_trip)));
        let wrong = Answered::new(question(), Ok(Dispatch::new(samples::refused(), round_trip)));
        let text = written(Look { width: 80, ..Look::PLAIN }, |page| {
            answered(page, 1, &right)?;
            answered(page, 12, &wrong)
        });
        let expected = "\
\u{20}1  Can my patient take ibuprofen with warfarin?
    audience=clinician
    ✓ drug-interactions  97%  12 ms
      near its examples
      Avoid the combination.
      Warfarin with ibuprofen · Clinic formulary · as of 2024-05-01 ·
      https://example.org/formulary

12  Can my patient take ibuprofen with warfarin?
    audience=clinician
    ✗ refused  12 ms
      closest: drug-interactions 97%
      expected drug-interactions to answer, dispatched

";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_score_is_two_lines() {
        let scored = Score { right: 15, wrong: 1, latency_p50_ms: 11.4, latency_max_ms: 25.0 };
        let text = written(Look::PLAIN, |page| score(page, &scored));
        assert_eq!(text, "15 of 16 right\nanswers in 11 ms (median), 25 ms at most\n");
    }
}
