//! What `up` says once the mesh answers.

use std::io;

use super::{answer::labelled, brief, table::Table};
use crate::{
    embedded::Mesh,
    page::Page,
    text::{Text, Tone},
    view::milliseconds,
};

/// What a router listens on when nobody says otherwise, and `ask` calls when nobody says otherwise.
const DEFAULT_ROUTER: &str = "127.0.0.1:7600";

/// In the place of a model's name, for an expert with any number of them.
const OF_ITS_OWN: &str = "its own repository";

pub(crate) fn ready(page: &mut Page<'_>, mesh: &Mesh) -> io::Result<()> {
    let router = mesh.router_addr().to_string();
    page.blank()?;
    let took = format!("  in {}", brief(milliseconds(mesh.start_up())));
    page.line(Text::new().with(format!("{} is up", mesh.name()), Tone::Good).quiet(took))?;
    page.blank()?;
    labelled(page, "router", Text::new().strong(format!("http://{router}")).quiet("  gRPC"))?;
    let admin = Text::new().plain(format!("http://{}", mesh.admin_addr())).quiet("  /livez /readyz /metrics");
    labelled(page, "admin", admin)?;
    page.blank()?;

    let mut table = Table::new(&["EXPERT", "TASK", "MODEL", "OBJECTIVE", "ADDRESS"]);
    for expert in mesh.experts() {
        let config = &expert.config;
        let share = crate::view::Slo {
            latency_ms: Some(milliseconds(config.slo.latency)),
            objective: config.slo.objective,
            first_token_ms: None,
        };
        table.row([
            Text::new().accent(&config.name).quiet(format!(" {}", config.version)),
            config.task.kind().as_str().into(),
            config.task.packaged().unwrap_or(OF_ITS_OWN).into(),
            super::objective(&share).unwrap_or_default().into(),
            expert.address().to_string().into(),
        ]);
    }
    table.write(page)?;
    page.blank()?;

    let examples = mesh.experts().iter().flat_map(|expert| &expert.config.examples);
    let question = quotable(examples.map(String::as_str));
    let elsewhere = if router == DEFAULT_ROUTER { String::new() } else { format!(" --router http://{router}") };
    // Whole lines, to be copied into a shell.
    let mut hint = |label: &str, text: String| page.line(Text::new().quiet(format!("{label:<9}")).plain(text));
    hint("ask", format!("consilium ask \"{question}\"{elsewhere}"))?;
    hint("why", format!("consilium explain \"{question}\"{elsewhere}"))?;
    hint("who", format!("consilium experts --watch{elsewhere}"))?;
    hint("end", "Ctrl-C".to_owned())?;
    page.flush()
}

/// The shortest question that a shell takes between double quotes as it is.
fn quotable<'a>(questions: impl Iterator<Item = &'a str>) -> &'a str {
    let safe = |question: &&str| question.ends_with('?') && !question.contains(['"', '$', '`', '\\', '!']);
    questions.filter(safe).min_by_key(|question| question.len()).unwrap_or("…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggested_question_survives_a_shell() {
        let questions = ["costs $5?", "say \"a\"?", "is this too long a question?", "it's fine?", "no"];
        assert_eq!(quotable(questions.into_iter()), "it's fine?");
        assert_eq!(quotable([].into_iter()), "…");
    }
}
