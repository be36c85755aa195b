//! The reply to a question: who was asked and why, what they said, where it comes from, and how long it took.

use std::io;

use super::{brief, decision, percent};
use crate::{
    page::Page,
    text::{Text, Tone},
    view::{Answer, Body, Classification, Dispatch, Event, Head, Passage, Reply, Source},
};

const LABEL: usize = 9;
const BAR: usize = 24;
const LABELS_SHOWN: usize = 4;
const NUMBERS_SHOWN: usize = 6;

/// A whole reply.
pub(crate) fn dispatch(page: &mut Page<'_>, dispatch: &Dispatch) -> io::Result<()> {
    decision::chosen(page, &dispatch.decision)?;
    if let Some(said) = &dispatch.answer {
        page.blank()?;
        answer(&mut page.indented(2), said)?;
    }
    for reply in &dispatch.replies {
        failure(page, reply)?;
    }
    page.blank()?;
    timings(page, dispatch)
}

/// One event of a stream, as it comes. Returns whether the line that it wrote is still open.
pub(crate) fn event(page: &mut Page<'_>, event: &Event, open: bool) -> io::Result<bool> {
    if let Event::Delta(delta) = event {
        page.continued(&delta.text)?;
        return Ok(true);
    }
    if open {
        page.blank()?;
    }
    match event {
        Event::Decision(decided) => decision::chosen(page, decided)?,
        Event::Reply(reply) => {
            let call = reply.call_ms().map(brief).unwrap_or_default();
            page.line(Text::new().quiet(format!("{} replied  {call}", reply.expert)))?;
            failure(page, reply)?;
        }
        Event::Done(done) => {
            if let Some(said) = &done.answer {
                page.blank()?;
                answer(&mut page.indented(2), said)?;
            }
        }
        Event::Delta(_) => {}
    }
    page.flush()?;
    Ok(false)
}

/// What is said, without who says it.
pub(crate) fn answer(page: &mut Page<'_>, answer: &Answer) -> io::Result<()> {
    // With sections, the body only repeats the first of them.
    if let (Some(said), true) = (&answer.body, answer.sections.is_empty()) {
        body(page, said)?;
    }
    for (index, section) in answer.sections.iter().enumerate() {
        if index > 0 {
            page.blank()?;
        }
        page.line(Text::new().accent(&section.expert).quiet(format!(" {}", section.version)))?;
        if let Some(Answer { body: Some(said), .. }) = &section.answer {
            body(&mut page.indented(2), said)?;
        }
    }
    // Passages have shown theirs, and so have sections.
    if answer.sections.is_empty() && !matches!(answer.body, Some(Body::Passages(_))) {
        answer.sources.iter().try_for_each(|from| page.paragraph(source(from)))?;
    }
    if answer.truncated {
        let note = "The question is longer than the model reads; its end was not considered.";
        page.paragraph(Text::new().with(note, Tone::Warn))?;
    }
    Ok(())
}

/// An answer in a line or two: the sentence that answers best, or the most probable label of each head.
pub(crate) fn gist(answer: &Answer) -> Text {
    match &answer.body {
        Some(Body::Passages(found)) => found.passages.first().map(|best| best.gist().into()).unwrap_or_default(),
        Some(Body::Classification(Classification { heads })) => {
            let label = |head: &Head| {
                let best = head.labels.first()?;
                let name = Text::new().quiet(format!("{} ", head.name)).strong(&best.name);
                Some(name.plain(format!(" {}", percent(best.probability))))
            };
            joined(heads.iter().filter_map(label))
        }
        Some(Body::Text(said)) => said.text.as_str().into(),
        Some(Body::Embedding(vector)) => format!("a vector of {} numbers", vector.vector.len()).into(),
        Some(Body::Tensors(tensors)) => format!("{} tensors", tensors.tensors.len()).into(),
        None => Text::new(),
    }
}

/// `Clinic formulary · as of 2024-05-01 · https://…`
pub(crate) fn source(source: &Source) -> Text {
    let as_of = if source.as_of.is_empty() { String::new() } else { format!("as of {}", source.as_of) };
    let parts = [&source.title, &as_of, &source.uri, &source.licence];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    Text::new().quiet(parts.map(String::as_str).collect::<Vec<_>>().join(" · "))
}

fn body(page: &mut Page<'_>, body: &Body) -> io::Result<()> {
    match body {
        Body::Passages(found) if found.passages.is_empty() => page.line(Text::new().quiet("nothing found")),
        Body::Passages(found) => found.passages.iter().enumerate().try_for_each(|(index, it)| passage(page, index, it)),
        Body::Classification(classes) => classes.heads.iter().try_for_each(|it| head(page, it)),
        Body::Text(said) => said.text.lines().try_for_each(|line| page.paragraph(line)),
        Body::Embedding(vector) => {
            let numbers = vector.vector.iter().take(NUMBERS_SHOWN).map(|number| format!("{number:.4}"));
            let shown = numbers.collect::<Vec<_>>().join(", ");
            let more = if vector.vector.len() > NUMBERS_SHOWN { ", …" } else { "" };
            page.paragraph(format!("a vector of {} numbers: {shown}{more}", vector.vector.len()))
        }
        Body::Tensors(tensors) => tensors.tensors.iter().try_for_each(|it| {
            page.line(Text::new().strong(&it.name).plain(format!("  {} {:?}", it.datatype, it.shape)))
        }),
    }
}

/// The best passage whole, with the sentence that answers best marked; of the others that sentence alone.
fn passage(page: &mut Page<'_>, index: usize, passage: &Passage) -> io::Result<()> {
    if index > 0 {
        page.blank()?;
    }
    page.paragraph(Text::new().quiet(format!("{} ", index + 1)).strong(&passage.title))?;
    let mut below = page.indented(2);
    if index == 0 {
        let (before, best, after) = passage.around_best();
        below.paragraph(Text::new().plain(before).with(best, Tone::Best).plain(after))?;
    } else {
        below.paragraph(passage.gist())?;
    }
    let score = Text::new().quiet(format!("{} · similarity {:.2}", passage.id, passage.score));
    let from = passage.source.as_ref().map(source).filter(|from| !from.is_empty());
    below.paragraph(from.map_or(score.clone(), |from| from.quiet(" · ").then(score)))
}

fn head(page: &mut Page<'_>, head: &Head) -> io::Result<()> {
    let shown: Vec<_> = head.labels.iter().take(LABELS_SHOWN).collect();
    let width = shown.iter().map(|label| Text::from(label.name.as_str()).width()).max().unwrap_or(0);
    page.line(Text::new().quiet(&head.name))?;
    let mut below = page.indented(2);
    for (index, label) in shown.iter().enumerate() {
        let padding = " ".repeat(width.saturating_sub(Text::from(label.name.as_str()).width()));
        let tone = if index == 0 { Tone::Accent } else { Tone::Plain };
        let name = Text::new().with(&label.name, tone).plain(padding);
        below.line(name.plain(format!("  {:>4}  ", percent(label.probability))).with(bar(label.probability), tone))?;
    }
    match head.labels.len().saturating_sub(shown.len()) {
        0 => Ok(()),
        more => below.line(Text::new().quiet(format!("and {more} more"))),
    }
}

/// In eighths of a column, so that small differences show.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let rest = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    format!("{}{rest}", "█".repeat(eighths / 8))
}

fn failure(page: &mut Page<'_>, reply: &Reply) -> io::Result<()> {
    let Some(failure) = &reply.failure else { return Ok(()) };
    let said = Text::new().with(format!("{} did not answer: ", reply.expert), Tone::Bad).plain(&failure.message);
    page.paragraph(said.quiet(format!(" ({})", failure.reason)))
}

fn timings(page: &mut Page<'_>, dispatch: &Dispatch) -> io::Result<()> {
    // Steps that were left out took nothing: an expert on the gate's encoder gets its vector and encodes no more.
    let named = |name: &str, ms: Option<f64>| ms.filter(|ms| *ms > 0.0).map(|ms| format!("{name} {}", brief(ms)));
    let mut parts: Vec<String> = named("gate", dispatch.decision.elapsed_ms).into_iter().collect();
    for reply in dispatch.replies.iter().filter(|reply| reply.answer.is_some()) {
        let Some(call) = named("call", reply.call_ms()) else {
            continue;
        };
        let within = reply.timings.map(|timings| {
            [
                named("tokenize", timings.tokenize_ms),
                named("queue", timings.queue_ms),
                named("inference", timings.inference_ms),
            ]
        });
        let within: Vec<String> = within.into_iter().flatten().flatten().collect();
        parts.push(if within.is_empty() { call } else { format!("{call} ({})", within.join(", ")) });
    }
    parts.push(format!("total {}", brief(dispatch.round_trip_ms)));
    page.paragraph(Text::new().quiet(parts.join(" · ")))
}

fn joined(parts: impl Iterator<Item = Text>) -> Text {
    parts.reduce(|all, part| all.quiet(" · ").then(part)).unwrap_or_default()
}

/// A label and what stands beside it, in the column that replies share.
pub(super) fn labelled(page: &mut Page<'_>, label: &str, text: impl Into<Text>) -> io::Result<()> {
    page.beside(label, LABEL, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use consilium_proto::v1;

    use super::*;
    use crate::{
        page::{Look, written},
        view::samples,
    };

    fn shown(reply: v1::DispatchResponse) -> String {
        let reply = Dispatch::new(reply, Duration::from_micros(12_340));
        written(Look { width: 80, ..Look::PLAIN }, |page| dispatch(page, &reply))
    }

    #[test]
    fn a_found_passage_with_its_source_and_the_sentence_that_answers() {
        let expected = "\
drug-interactions 1  97%
  why      near its examples; clear of the next one

  1 Warfarin with ibuprofen
    Both thin the blood. *Avoid the combination.* Paracetamol is preferred.
    Clinic formulary · as of 2024-05-01 · https://example.org/formulary · di-001
    · similarity 0.71

  2 Warfarin with food
    Keep greens steady.
    di-002 · similarity 0.41

gate 3.1 ms · call 8.1 ms (tokenize 0.12 ms, queue 0.04 ms, inference 6.4 ms) ·
total 12 ms
";
        assert_eq!(shown(samples::dispatched()), expected);
    }

    #[test]
    fn labels_with_bars() {
        let classes = Answer::from(samples::classification());
        let text = written(Look::PLAIN, |page| answer(page, &classes));
        let expected = "\
specialty
  cardiology    92%  ██████████████████████▏
  pulmonology    5%  █▎
  neurology      2%  ▌
  surgery        1%  ▏
  and 1 more
urgency
  emergency   88%  █████████████████████▏
  urgent      10%  ██▍
  routine      2%  ▌
";
        assert_eq!(text, expected);
        let line = written(Look::PLAIN, |page| page.line(gist(&classes)));
        assert_eq!(line, "specialty cardiology 92% · urgency emergency 88%\n");
    }

    #[test]
    fn a_refusal_says_why_and_who_came_closest() {
        let expected = "\
nobody here answers that
  why      the question is none of the experts' business
  closest  drug-interactions 97%, general 2%

gate 3.1 ms · total 12 ms
";
        assert_eq!(shown(samples::refused()), expected);
    }

    #[test]
    fn several_answers_stand_under_the_names_of_their_experts_and_failures_are_named() {
        let mut reply = samples::dispatched();
        reply.answer = Some(v1::Answer {
            sections: vec![v1::Section {
                expert: "triage".into(),
                version: "2".into(),
                answer: Some(samples::classification()),
            }],
            truncated: true,
            ..samples::passages()
        });
        reply.replies.push(v1::Reply {
            expert: "general".into(),
            result: Some(v1::reply::Result::Failure(v1::Failure {
                reason: "OVERLOADED".into(),
                message: "too many calls".into(),
                ..v1::Failure::default()
            })),
            ..v1::Reply::default()
        });
        let text = shown(reply);
        assert!(text.contains("  triage 2\n    specialty\n"), "{text}");
        assert!(!text.contains("Warfarin"), "the body would repeat a section: {text}");
        assert!(text.contains("longer than the model reads"), "{text}");
        assert!(text.contains("general did not answer: too many calls (OVERLOADED)"), "{text}");
    }

    #[test]
    fn pieces_of_text_stay_on_one_line_until_something_else_comes() {
        let delta = |text: &str| {
            let delta = v1::TextDelta { leg: 0, text: text.into() };
            let event = Some(v1::stream_dispatch_response::Event::Delta(delta));
            Event::new(v1::StreamDispatchResponse { event }).unwrap()
        };
        let text = written(Look::PLAIN, |page| {
            let open = event(page, &delta("one "), false)?;
            let open = event(page, &delta("two"), open)?;
            let reply = Reply::from(v1::Reply { expert: "general".into(), ..v1::Reply::default() });
            assert!(open && !event(page, &Event::Reply(Box::new(reply)), open)?);
            Ok(())
        });
        assert_eq!(text, "one two\ngeneral replied  \n");
    }
}
