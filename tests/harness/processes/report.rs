//! What the scenarios measured, as a table for people and as JSON for whoever compares.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::{Effect, Event, Tally, machine};

/// One kind of event, and what it did.
#[derive(Debug, Clone)]
pub struct Row {
    event: String,
    times: usize,
    tally: Tally,
    effects: Vec<Effect>,
    measured: Vec<(String, String)>,
}

impl Row {
    /// What `tally` says of the `events`.
    pub fn new(event: &str, tally: Tally, events: &[Event]) -> Self {
        let effects = events.iter().map(|event| tally.effect(event)).collect();
        Self { event: event.to_owned(), times: events.len(), tally, effects, measured: Vec::new() }
    }

    /// Something else that was measured; of several values the middle and the worst are told.
    #[must_use]
    pub fn measured(self, what: &str, values: &[Duration]) -> Self {
        self.noted(what, &spread(values))
    }

    /// Something else worth telling.
    #[must_use]
    pub fn noted(mut self, what: &str, value: &str) -> Self {
        self.measured.push((what.to_owned(), value.to_owned()));
        self
    }

    fn markdown(&self) -> String {
        let attempts: Vec<_> =
            self.tally.failed_attempts().iter().map(|(code, count)| format!("{count} {code}")).collect();
        let attempts = if attempts.is_empty() { "0".to_owned() } else { attempts.join(", ") };
        let measured: Vec<_> = self.measured.iter().map(|(what, value)| format!("{what}: {value}")).collect();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.event,
            self.times,
            self.tally.sent,
            self.tally.sent - self.tally.answered.len(),
            attempts,
            spread(&self.times_of(|effect| effect.first_failure)),
            spread(&self.times_of(|effect| effect.recovered)),
            millis(self.tally.latency(0.99)),
            measured.join("; "),
        )
    }

    fn json(&self) -> Value {
        let seconds = |times: Vec<Duration>| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        let measured: serde_json::Map<_, _> =
            self.measured.iter().map(|(what, value)| (what.clone(), value.clone().into())).collect();
        json!({
            "event": self.event,
            "times": self.times,
            "requests": self.tally.sent,
            "requests_per_second": self.tally.rate,
            "answered": self.tally.answered.len(),
            "failed": self.tally.failed,
            "wrong": self.tally.wrong,
            "lost": self.tally.lost,
            "failed_attempts": self.tally.failed_attempts(),
            "first_failed_attempt_s": seconds(self.times_of(|effect| effect.first_failure)),
            "recovered_s": seconds(self.times_of(|effect| effect.recovered)),
            "latency_s": {
                "p50": self.tally.latency(0.5).as_secs_f64(),
                "p99": self.tally.latency(0.99).as_secs_f64(),
                "max": self.tally.latency(1.0).as_secs_f64(),
            },
            "measured": measured,
        })
    }

    fn times_of(&self, part: impl Fn(&Effect) -> Option<Duration>) -> Vec<Duration> {
        self.effects.iter().filter_map(part).collect()
    }
}

/// The rows so far.
#[derive(Debug, Clone, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn markdown(&self, command: &str) -> String {
        let mut page = String::from(
            "| event | times | requests | not answered | failed attempts | first failed attempt after | last failed \
             attempt or pick after | p99 of answers | measured |\n\
             | --- | ---: | ---: | ---: | --- | --- | --- | --- | --- |\n",
        );
        for row in &self.rows {
            let _ = writeln!(page, "{}", row.markdown());
        }
        let _ = writeln!(page, "\nTimes are the middle and, where there are several, the worst.");
        let _ = writeln!(page, "{}", machine::provenance(command));
        page
    }

    /// Writes `faults.md` and `faults.json` into `dir`; returns the first.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, dir: &Path, command: &str) -> std::io::Result<PathBuf> {
        let page = dir.join("faults.md");
        std::fs::write(&page, self.markdown(command))?;
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let json = json!({"rows": rows, "provenance": machine::provenance(command)});
        std::fs::write(dir.join("faults.json"), format!("{json:#}\n"))?;
        Ok(page)
    }
}

/// The middle and the worst; `–` when there is none.
fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(_), Some(only)) if times.len() == 1 => millis(*only),
        (Some(middle), Some(worst)) => format!("{} / {}", millis(*middle), millis(*worst)),
        _ => "–".to_owned(),
    }
}

fn millis(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_times_the_middle_and_the_worst_are_told() {
        let times = [700, 12, 1530].map(Duration::from_millis);
        assert_eq!(spread(&times), "700 ms / 1.53 s");
        assert_eq!(spread(&times[..1]), "700 ms");
        assert_eq!(spread(&[]), "–");
    }
}
