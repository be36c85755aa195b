//! The oracle for "nothing is lost": every request is written down before it is sent, and what became of it afterwards.
//! At the end each of them has exactly one outcome. Pure: time comes from outside.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::Code;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// By the right expert, with the right content.
    Answered,
    /// The router said why not.
    Failed(Code),
    /// Something was answered, but not this request's answer.
    Wrong(String),
    /// Nobody said anything: no status of the router's own came back.
    Lost(String),
}

/// One try of the router on one instance.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub instance: String,
    pub code: Code,
    pub began: Instant,
    pub ended: Instant,
}

/// Of the requests that went wrong, when a scenario fails.
const SHOWN: usize = 5;
/// Requests a second below which a load shows nothing.
const LEAST_RATE: f64 = 50.0;

/// A request's number in the ledger.
pub type Id = usize;

/// What is written down. Shared by everybody who sends.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    sent: Instant,
    outcomes: Vec<(Outcome, Duration)>,
    attempts: Vec<Attempt>,
}

impl Ledger {
    /// Writes down a request that is about to be sent.
    pub fn open(&self, now: Instant) -> Id {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { sent: now, outcomes: Vec::new(), attempts: Vec::new() });
        entries.len() - 1
    }

    /// Writes down what became of it.
    pub fn close(&self, id: Id, outcome: Outcome, attempts: Vec<Attempt>, now: Instant) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = &mut entries[id];
        entry.outcomes.push((outcome, now - entry.sent));
        entry.attempts.extend(attempts);
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> usize {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = |entry: &&Entry| entry.outcomes.iter().any(|(outcome, _)| *outcome == Outcome::Answered);
        entries.iter().filter(answered).count()
    }

    /// Whether `instance` has answered an attempt that began after `from`.
    pub fn answered_by(&self, instance: &str, from: Instant) -> bool {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest = entries.iter().rev().flat_map(|entry| &entry.attempts);
        latest.any(|attempt| attempt.instance == instance && attempt.began > from && attempt.code == Code::Ok)
    }

    /// Adds up. A request without an outcome is lost, one with two of them is wrong.
    pub fn tally(&self) -> Tally {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tally = Tally::default();
        let lasted = entries.last().zip(entries.first()).map(|(last, first)| last.sent - first.sent);
        tally.rate = entries.len().saturating_sub(1) as f64 / lasted.unwrap_or_default().as_secs_f64().max(0.001);
        for (id, entry) in entries.iter().enumerate() {
            tally.sent += 1;
            tally.attempts.extend(entry.attempts.iter().cloned());
            match entry.outcomes.as_slice() {
                [] => tally.lost.push(format!("{id}: no outcome")),
                [(Outcome::Answered, took)] => tally.answered.push(*took),
                [(Outcome::Failed(code), _)] => *tally.failed.entry(format!("{code:?}")).or_default() += 1,
                [(Outcome::Wrong(what), _)] => tally.wrong.push(format!("{id}: {what}")),
                [(Outcome::Lost(what), _)] => tally.lost.push(format!("{id}: {what}")),
                several => tally.wrong.push(format!("{id}: {} outcomes", several.len())),
            }
        }
        tally.answered.sort_unstable();
        tally
    }
}

/// The ledger, added up.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub sent: usize,
    /// Requests a second, from the first to the last.
    pub rate: f64,
    /// How long each answer took, fastest first.
    pub answered: Vec<Duration>,
    /// By the router's code.
    pub failed: BTreeMap<String, usize>,
    pub wrong: Vec<String>,
    pub lost: Vec<String>,
    pub attempts: Vec<Attempt>,
}

impl Tally {
    /// # Panics
    /// When a single request was not answered as it should have been, or there was no load to speak of.
    pub fn assert_all_answered(&self) {
        let all = self.sent > 0 && self.answered.len() == self.sent;
        let (wrong, lost) = (self.wrong.len(), self.lost.len());
        let some: Vec<_> = self.wrong.iter().chain(&self.lost).take(SHOWN).collect();
        assert!(all, "of {} requests failed {:?}, {wrong} wrong, {lost} lost: {some:#?}", self.sent, self.failed);
        assert!(self.rate >= LEAST_RATE, "only {:.1} requests a second were sent", self.rate);
    }

    /// How long an answer took, as the share `quantile` of all of them knows it.
    pub fn latency(&self, quantile: f64) -> Duration {
        let last = self.answered.len().saturating_sub(1);
        self.answered.get((last as f64 * quantile).round() as usize).copied().unwrap_or_default()
    }

    /// Attempts that failed, by code: what callers would have met without a second attempt.
    pub fn failed_attempts(&self) -> BTreeMap<String, usize> {
        let mut by_code = BTreeMap::new();
        for attempt in self.attempts.iter().filter(|attempt| attempt.code != Code::Ok) {
            *by_code.entry(format!("{:?}", attempt.code)).or_default() += 1;
        }
        by_code
    }

    /// When the last attempt on `instance` began that began between `from` and `to`.
    pub fn last_pick(&self, instance: &str, from: Instant, to: Instant) -> Option<Instant> {
        let picks = self.attempts.iter().filter(|attempt| attempt.instance == instance);
        picks.map(|attempt| attempt.began).filter(|began| (from..to).contains(began)).max()
    }

    /// What an event did.
    pub fn effect(&self, event: &Event) -> Effect {
        let window = event.at..event.until;
        let failed = self.attempts.iter().filter(|attempt| attempt.code != Code::Ok);
        let failures: Vec<_> = failed.map(|attempt| attempt.ended).filter(|ended| window.contains(ended)).collect();
        let pick = event.instance.as_ref().and_then(|instance| self.last_pick(instance, event.at, event.until));
        let last = failures.iter().max().copied().max(pick);
        Effect {
            failed_attempts: failures.len(),
            first_failure: failures.iter().min().map(|first| *first - event.at),
            recovered: last.map(|last| last - event.at),
        }
    }
}

/// Something that was done to the mesh.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Instant,
    /// Until the instance was back, or the next thing was done.
    pub until: Instant,
    /// Whom it was done to, where it was done to one.
    pub instance: Option<String>,
}

/// What an event did to the attempts between its beginning and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub failed_attempts: usize,
    /// Until the first attempt failed.
    pub first_failure: Option<Duration>,
    /// Until the last attempt failed, or the last was made on the instance, whichever came later.
    pub recovered: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn every_request_has_exactly_one_outcome() {
        let (ledger, now) = (Ledger::default(), Instant::now());
        let ids: Vec<_> = (0..4).map(|_| ledger.open(now)).collect();
        ledger.close(ids[0], Outcome::Answered, Vec::new(), at(now, 7));
        ledger.close(ids[1], Outcome::Failed(Code::Unavailable), Vec::new(), now);
        ledger.close(ids[2], Outcome::Answered, Vec::new(), now);
        ledger.close(ids[2], Outcome::Answered, Vec::new(), now);
        let tally = ledger.tally();
        assert_eq!((tally.sent, tally.latency(0.5)), (4, Duration::from_millis(7)));
        assert_eq!((tally.failed["Unavailable"], tally.wrong.len(), tally.lost.len()), (1, 1, 1));
    }

    #[test]
    #[should_panic(expected = "of 1 requests")]
    fn a_request_without_an_outcome_fails_the_scenario() {
        let ledger = Ledger::default();
        ledger.open(Instant::now());
        ledger.tally().assert_all_answered();
    }

    #[test]
    fn an_event_is_over_with_its_last_failure_or_pick() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        let attempt = |instance: &str, code, began, ended| Attempt {
            instance: instance.to_owned(),
            code,
            began: at(start, began),
            ended: at(start, ended),
        };
        let attempts = vec![
            attempt("a", Code::Unavailable, 0, 5), // before it
            attempt("a", Code::Unavailable, 5, 12),
            attempt("b", Code::Internal, 9, 20),
            attempt("a", Code::Ok, 30, 90),
            attempt("a", Code::Unavailable, 99, 101), // after it
        ];
        let id = ledger.open(start);
        ledger.close(id, Outcome::Answered, attempts, at(start, 101));
        let event = Event { at: at(start, 10), until: at(start, 100), instance: Some("a".into()) };
        let millis = |millis| Some(Duration::from_millis(millis));
        // The attempt that began at 99 was made on the instance, whatever became of it later.
        let expected = Effect { failed_attempts: 2, first_failure: millis(2), recovered: millis(89) };
        assert_eq!(ledger.tally().effect(&event), expected);
        let elsewhere = Event { instance: None, ..event };
        assert_eq!(ledger.tally().effect(&elsewhere).recovered, millis(10));
        assert_eq!(ledger.tally().failed_attempts()["Unavailable"], 3);
    }
}
