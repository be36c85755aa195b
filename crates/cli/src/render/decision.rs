//! What the gate decided, in brief above an answer or as the whole table of `explain`.

use std::io;

use super::{answer::labelled, brief, count, percent, table::Table};
use crate::{
    page::Page,
    text::{Text, Tone},
    view::{Candidate, Decision, Dimension, Explanation, Leg, Plan},
};

const CLOSEST_SHOWN: usize = 3;

/// Who is asked and why; or that nobody is, why, and who came closest.
pub(crate) fn chosen(page: &mut Page<'_>, decision: &Decision) -> io::Result<()> {
    let selected: Vec<&Candidate> = decision.selected().collect();
    if selected.is_empty() {
        return nobody(page, decision);
    }
    for candidate in selected {
        let name = Text::new().accent(&candidate.expert).quiet(format!(" {}", candidate.version));
        let name = name.strong(format!("  {}", percent(candidate.probability)));
        page.line(if decision.outcome == "fallback" { name.with("  fallback", Tone::Warn) } else { name })?;
        let why =
            if candidate.reasons.is_empty() { meaning(&decision.reason).into() } else { candidate.reasons.join("; ") };
        labelled(&mut page.indented(2), "why", why)?;
    }
    missing(page, decision)
}

/// The whole decision and the plan.
pub(crate) fn explanation(page: &mut Page<'_>, explanation: &Explanation) -> io::Result<()> {
    let decision = &explanation.decision;
    let would = match decision.outcome.as_str() {
        "dispatched" => Text::new().with("would be dispatched", Tone::Good),
        "fallback" => Text::new().with("would go to the fallback", Tone::Warn),
        "refused" => Text::new().with("would be refused", Tone::Warn),
        other => Text::new().with(other, Tone::Bad),
    };
    page.paragraph(would.plain(": ").plain(meaning(&decision.reason)).quiet(format!(" ({})", decision.reason)))?;
    page.blank()?;
    candidates(page, decision)?;
    page.blank()?;
    let dimensions: Vec<String> = decision.dimensions.iter().map(dimension).collect();
    several(page, "given", &dimensions)?;
    several(page, "rules", &decision.rules_matched)?;
    missing(page, decision)?;
    plan(page, &explanation.plan)?;
    let elapsed = decision.elapsed_ms.map(|ms| format!(" in {}", brief(ms))).unwrap_or_default();
    let by = format!("decided by {}{elapsed}, revision {}", decision.gate_tier, decision.gate_revision);
    labelled(page, "gate", Text::new().quiet(by))
}

fn nobody(page: &mut Page<'_>, decision: &Decision) -> io::Result<()> {
    let said = if decision.is_refusal() { "nobody here answers that" } else { "nobody can answer that now" };
    page.line(Text::new().with(said, Tone::Warn))?;
    let mut below = page.indented(2);
    labelled(&mut below, "why", meaning(&decision.reason))?;
    let closest = decision.candidates.iter().filter(|it| it.probability > 0.0).take(CLOSEST_SHOWN);
    let closest: Vec<String> = closest.map(|it| format!("{} {}", it.expert, percent(it.probability))).collect();
    if !closest.is_empty() {
        labelled(&mut below, "closest", closest.join(", "))?;
    }
    missing(page, decision)
}

fn missing(page: &mut Page<'_>, decision: &Decision) -> io::Result<()> {
    if decision.unavailable_experts.is_empty() {
        return Ok(());
    }
    let names = decision.unavailable_experts.join(", ");
    labelled(&mut page.indented(2), "missing", Text::new().with(format!("no live instance of {names}"), Tone::Bad))
}

fn candidates(page: &mut Page<'_>, decision: &Decision) -> io::Result<()> {
    let mut table = Table::new(&["", "EXPERT", ">PROBABILITY", "WHY"]);
    for candidate in &decision.candidates {
        let (mark, tone) = if candidate.selected { ("→", Tone::Accent) } else { ("", Tone::Plain) };
        table.row([
            Text::new().with(mark, tone),
            Text::new().with(&candidate.expert, tone).quiet(format!(" {}", candidate.version)),
            percent(candidate.probability).into(),
            candidate.reasons.join("; ").into(),
        ]);
    }
    // Rules decide without weighing, so that nothing would be left over by them.
    if decision.gate_tier != "rules" && !decision.candidates.is_empty() {
        let somebody: f64 = decision.candidates.iter().map(|candidate| candidate.probability).sum();
        let left = percent((1.0 - somebody).max(0.0));
        table.row([Text::new(), Text::new().quiet("nobody"), Text::new().quiet(left), Text::new()]);
    }
    table.write(page)
}

fn plan(page: &mut Page<'_>, plan: &Plan) -> io::Result<()> {
    let stage = |(index, legs): (usize, &[Leg])| {
        let legs: Vec<String> = legs.iter().map(leg).collect();
        let order = if index == 0 { "" } else { "then " };
        format!("{order}{}", legs.join(" and "))
    };
    let stages: Vec<String> = plan.stages.iter().map(|it| it.legs.as_slice()).enumerate().map(stage).collect();
    several(page, "plan", &stages)
}

fn leg(leg: &Leg) -> String {
    let budget = leg.budget_ms.map(|ms| format!(" within {}", brief(ms))).unwrap_or_default();
    let live = count(leg.live_instances as usize, "live instance", "live instances");
    format!("{} {}{budget} on {live}", leg.expert, leg.version)
}

fn dimension(dimension: &Dimension) -> String {
    let value = |value: &crate::view::Value| match dimension.source.as_str() {
        "given" => value.value.clone(),
        _ => format!("{} {}", value.value, percent(value.probability)),
    };
    let values: Vec<String> = dimension.values.iter().map(value).collect();
    let source = if dimension.source == "given" { String::new() } else { format!(" ({})", dimension.source) };
    format!("{} = {}{source}", dimension.name, values.join(", "))
}

fn several(page: &mut Page<'_>, label: &str, lines: &[String]) -> io::Result<()> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(lines).try_for_each(|(label, line)| labelled(page, label, line.as_str()))
}

/// The gate's reasons in words; one that this program does not know stands for itself.
fn meaning(reason: &str) -> &str {
    match reason {
        "CONFIDENT" => "the gate is sure enough",
        "REQUIRED" => "a rule requires it",
        "OUT_OF_SCOPE" => "the question is none of the experts' business",
        "LOW_CONFIDENCE" => "no expert is probable enough",
        "EXCLUDED" => "whoever could answer may not: by the caller's list, a dimension or a rule",
        "REQUIRED_UNKNOWN" => "a rule requires an expert that is not in the mesh",
        "NO_EXPERTS" => "the gate knows no experts yet",
        "ENCODER_UNAVAILABLE" => "the gate's encoder failed",
        "DEADLINE_EXCEEDED" => "the deadline passed before the gate had decided",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use consilium_proto::v1;

    use super::*;
    use crate::{
        page::{Look, written},
        view::samples,
    };

    fn shown(reply: v1::ExplainResponse) -> String {
        let reply = Explanation::from(reply);
        written(Look { width: 80, ..Look::PLAIN }, |page| explanation(page, &reply))
    }

    #[test]
    fn the_whole_decision_with_its_plan() {
        let expected = "\
would be dispatched: the gate is sure enough (CONFIDENT)

   EXPERT               PROBABILITY  WHY
→  drug-interactions 1          97%  near its examples; clear of the next one
   general 1                     2%  below the bar
   nobody                        1%

given    audience = patient
rules    discharge-desk
plan     drug-interactions 1 within 1.99 s on 2 live instances
gate     decided by encoder in 3.1 ms, revision c0ffee
";
        assert_eq!(shown(samples::explained()), expected);
    }

    #[test]
    fn an_expert_that_is_gone_is_named_and_later_stages_follow() {
        let mut reply = samples::explained();
        let decision = reply.decision.as_mut().unwrap();
        decision.outcome = v1::decision::Outcome::Fallback.into();
        decision.unavailable_experts = vec!["drug-interactions".into()];
        let plan = reply.plan.as_mut().unwrap();
        plan.stages.push(plan.stages[0].clone());
        let text = shown(reply);
        assert!(text.starts_with("would go to the fallback: "), "{text}");
        assert!(text.contains("missing  no live instance of drug-interactions"), "{text}");
        assert!(text.contains("\n         then drug-interactions 1 within"), "{text}");
    }

    #[test]
    fn every_reason_of_the_gate_has_words() {
        use consilium_gate::Reason;
        let reasons = [
            Reason::Confident,
            Reason::Required,
            Reason::OutOfScope,
            Reason::LowConfidence,
            Reason::Excluded,
            Reason::RequiredUnknown,
            Reason::NoExperts,
            Reason::EncoderUnavailable,
            Reason::DeadlineExceeded,
        ];
        for reason in reasons {
            assert_ne!(meaning(reason.as_str()), reason.as_str());
        }
        assert_eq!(meaning("SOMETHING_NEW"), "SOMETHING_NEW");
    }
}
