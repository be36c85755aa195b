//! `consilium demo`: a mesh of its own, its questions, and whether the right experts answered them.

use std::{fs, path::Path};

use consilium_mesh::metrics::Metrics;
use consilium_proto::v1;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Exit;
use crate::{
    args,
    client::{Call, Client},
    definition::{self, Definition},
    embedded::{self, Mesh},
    environment,
    error::{Error, Trouble},
    page::Page,
    progress::Progress,
    question::{self, Question},
    render,
    view::{Dispatch, milliseconds},
};

/// Ports that the system picks, a registry that nobody else sees, and so nobody outside who would need time to notice that
/// the mesh goes away.
const EPHEMERAL: [&str; 4] = ["listen=127.0.0.1:0", "admin=127.0.0.1:0", "registry={}", "settle=0s"];

/// A question and what became of it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) question: Question,
    /// `Err` says in words why there is none.
    pub(crate) reply: Result<Dispatch, String>,
    /// What should have happened, where something else did.
    pub(crate) expected: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    /// Over all questions that got a reply, as this program saw them; 0 where none did.
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_max_ms: f64,
    pub(crate) start_up_ms: f64,
    /// Of this process, in which everything runs; `None` where the system does not tell.
    pub(crate) resident_bytes: Option<u64>,
}

pub(crate) async fn run(args: &args::Demo, page: &mut Page<'_>) -> Result<Exit, Error> {
    let settings = EPHEMERAL.map(str::to_owned).into_iter().chain(args.runtime.setting());
    let mesh = Definition::load(&args.mesh, settings.collect())?;
    let experts: Vec<&str> = mesh.experts.iter().map(|expert| expert.name.as_str()).collect();
    let questions = question::load(&definition::questions(&args.mesh), &experts)?;
    let (telemetry, metrics) = super::observe(&args.runtime, &mesh.config)?;
    let ran = ask(mesh, questions, (args, metrics), page).await;
    telemetry.stop().await;
    ran
}

async fn ask(
    mesh: Definition,
    questions: Vec<Question>,
    (args, metrics): (&args::Demo, Metrics),
    page: &mut Page<'_>,
) -> Result<Exit, Error> {
    let options = embedded::Options {
        onnxruntime: environment::onnxruntime(args.runtime.onnxruntime.as_deref(), &args.mesh)?,
        metrics,
        progress: if args.json { Progress::silent() } else { Progress::shown() },
        // Nobody else knows of this mesh: a signal may end it at once.
        stop: CancellationToken::new(),
    };
    let Some(mesh) = Mesh::start(mesh, options).await? else { return Ok(Exit::Failed) };
    let shown = show(&mesh, questions, args.json, page).await;
    mesh.stop().await;
    shown
}

async fn show(mesh: &Mesh, questions: Vec<Question>, json: bool, page: &mut Page<'_>) -> Result<Exit, Error> {
    let client = Client::new(&mesh.router_addr().to_string())?;
    // The connection is made here, so that the first answer does not pay for it.
    client.experts().await?;
    if !json {
        page.blank()?;
    }
    let mut answered = Vec::new();
    for (index, question) in questions.into_iter().enumerate() {
        let (context, options) = (v1::CallContext::default(), v1::DispatchOptions::default());
        let call = Call { query: question.query(), context, options, deadline: None };
        let reply = client.dispatch(call).await.map_err(|error| in_words(&error));
        let one = Answered::new(question, reply);
        if !json {
            render::demo::answered(page, index + 1, &one)?;
        }
        answered.push(one);
    }
    let summary = Summary::new(mesh, &answered);
    if json {
        let questions: Vec<Record<'_>> = answered.iter().map(Record::new).collect();
        page.json(&serde_json::json!({ "mesh": mesh.name(), "questions": questions, "summary": summary }))?;
    } else {
        render::demo::summary(page, &summary)?;
    }
    Ok(if summary.wrong == 0 { Exit::Done } else { Exit::Failed })
}

/// One question in the JSON document.
#[derive(Serialize)]
struct Record<'a> {
    text: &'a str,
    expected_expert: Option<&'a str>,
    expected_outcome: &'static str,
    right: bool,
    reply: Option<&'a Dispatch>,
    problem: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn new(answered: &'a Answered) -> Self {
        Self {
            text: &answered.question.text,
            expected_expert: answered.question.expert.as_deref(),
            expected_outcome: answered.question.outcome.as_str(),
            right: answered.expected.is_none(),
            reply: answered.reply.as_ref().ok(),
            problem: answered.reply.as_ref().err().map(String::as_str),
        }
    }
}

impl Answered {
    pub(crate) fn new(question: Question, reply: Result<Dispatch, String>) -> Self {
        let right = reply.as_ref().is_ok_and(|reply| {
            let by = reply.answered().filter(|_| reply.answer.is_some()).map(|reply| reply.expert.as_str());
            reply.decision.outcome == question.outcome.as_str() && by == question.expert.as_deref()
        });
        let expected = (!right).then(|| match &question.expert {
            Some(expert) => format!("{expert} to answer, {}", question.outcome.as_str()),
            None => "a refusal".to_owned(),
        });
        Self { question, reply, expected }
    }
}

impl Summary {
    fn new(mesh: &Mesh, answered: &[Answered]) -> Self {
        let right = answered.iter().filter(|one| one.expected.is_none()).count();
        let mut latencies: Vec<f64> =
            answered.iter().filter_map(|one| one.reply.as_ref().ok()).map(|reply| reply.round_trip_ms).collect();
        latencies.sort_by(f64::total_cmp);
        Self {
            right,
            wrong: answered.len() - right,
            latency_p50_ms: latencies.get(latencies.len() / 2).copied().unwrap_or_default(),
            latency_max_ms: latencies.last().copied().unwrap_or_default(),
            start_up_ms: milliseconds(mesh.start_up()),
            resident_bytes: resident_bytes(Path::new("/proc/self/status")),
        }
    }
}

fn in_words(error: &Error) -> String {
    let Trouble { headline, details, .. } = error.trouble();
    std::iter::once(headline).chain(details).collect::<Vec<_>>().join("; ")
}

/// `VmRSS:    123456 kB`, as Linux says it.
fn resident_bytes(status: &Path) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{question::Outcome, view::samples};

    fn question(expert: Option<&str>, outcome: Outcome) -> Question {
        Question {
            text: "may I?".into(),
            expert: expert.map(str::to_owned),
            outcome,
            attributes: [].into(),
            labels: [].into(),
        }
    }

    #[test]
    fn right_is_the_right_expert_with_the_right_outcome_and_an_answer() {
        let reply = || Ok(Dispatch::new(samples::dispatched(), Duration::ZERO));
        let judged = |expert, outcome, reply| Answered::new(question(expert, outcome), reply).expected;
        assert_eq!(judged(Some("drug-interactions"), Outcome::Dispatched, reply()), None);
        let expected = judged(Some("general"), Outcome::Dispatched, reply());
        assert_eq!(expected.as_deref(), Some("general to answer, dispatched"));
        assert!(judged(Some("drug-interactions"), Outcome::Fallback, reply()).is_some());
        assert_eq!(judged(None, Outcome::Refused, reply()).as_deref(), Some("a refusal"));

        let unanswered = reply().map(|reply: Dispatch| Dispatch { answer: None, ..reply });
        assert!(judged(Some("drug-interactions"), Outcome::Dispatched, unanswered).is_some());
        assert!(judged(Some("drug-interactions"), Outcome::Dispatched, Err("gone".into())).is_some());
        let refused = Ok(Dispatch::new(samples::refused(), Duration::ZERO));
        assert_eq!(judged(None, Outcome::Refused, refused), None);
    }

    #[test]
    fn memory_is_read_as_linux_writes_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "Name:\tconsilium\nVmRSS:\t  2048 kB\n").unwrap();
        assert_eq!(resident_bytes(file.path()), Some(2 << 20));
        assert_eq!(resident_bytes(Path::new("no/such/file")), None);
    }
}
