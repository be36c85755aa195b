//! How results look to a person. Each file lays out one kind of result on a page; none computes or fetches anything.

pub(crate) mod answer;
pub(crate) mod check;
pub(crate) mod decision;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod experts;
pub(crate) mod models;
pub(crate) mod probe;
pub(crate) mod ready;
pub(crate) mod round;
mod table;

use std::io;

use crate::{
    error::Trouble,
    page::Page,
    text::{Text, Tone},
};

/// What went wrong, on standard error.
pub(crate) fn trouble(page: &mut Page<'_>, trouble: &Trouble) -> io::Result<()> {
    page.line(Text::new().with("error: ", Tone::Bad).plain(&trouble.headline))?;
    for detail in &trouble.details {
        page.indented(2).line(detail.as_str())?;
    }
    match &trouble.hint {
        Some(hint) => page.paragraph(Text::new().with("hint: ", Tone::Accent).plain(hint)),
        None => Ok(()),
    }
}

/// Milliseconds as one would say them: `0.12 ms`, `8.1 ms`, `120 ms`, `1.99 s`.
pub(crate) fn brief(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1_000.0),
    }
}

/// A probability. Never rounded to what it is not: certain, or impossible.
pub(crate) fn percent(probability: f64) -> String {
    match probability {
        p if p > 0.0 && p < 0.005 => "<1%".to_owned(),
        p if (0.995..1.0).contains(&p) => ">99%".to_owned(),
        p => format!("{:.0}%", p * 100.0),
    }
}

/// `99% within 150 ms`
pub(crate) fn objective(slo: &crate::view::Slo) -> Option<String> {
    // `99.9%` must not become `100%`: an objective is what somebody wrote, so it is shown with its digits.
    let share = format!("{:.3}", slo.objective * 100.0);
    let share = share.trim_end_matches('0').trim_end_matches('.');
    slo.latency_ms.map(|latency| format!("{share}% within {}", brief(latency)))
}

pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        page::{Look, written},
        view::Slo,
    };

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        let said: Vec<String> = [0.123, 8.14, 119.6, 999.6, 1_990.0].into_iter().map(brief).collect();
        assert_eq!(said, ["0.12 ms", "8.1 ms", "120 ms", "1.00 s", "1.99 s"]);
        let said: Vec<String> = [0.0, 0.004, 0.5, 0.994, 0.996, 1.0].into_iter().map(percent).collect();
        assert_eq!(said, ["0%", "<1%", "50%", "99%", ">99%", "1"].map(|it| if it == "1" { "100%" } else { it }));
        let slo = Slo { latency_ms: Some(150.0), objective: 0.999, first_token_ms: None };
        assert_eq!(objective(&slo).unwrap(), "99.9% within 150 ms");
    }

    #[test]
    fn trouble_says_what_is_wrong_where_and_what_to_do() {
        let wrong =
            Trouble::new("there are 2 mistakes").with_detail("a: x").with_detail("b: y").with_hint("look again");
        let text = written(Look::PLAIN, |page| trouble(page, &wrong));
        assert_eq!(text, "error: there are 2 mistakes\n  a: x\n  b: y\nhint: look again\n");
    }
}
