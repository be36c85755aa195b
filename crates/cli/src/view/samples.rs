//! Replies as a router would give them, for tests of views and of what is rendered from them.

use std::{collections::HashMap, time::Duration};

use consilium_proto::v1;

pub(crate) fn passage() -> v1::Passage {
    v1::Passage {
        id: "di-001".into(),
        title: "Warfarin with ibuprofen".into(),
        text: "Both thin the blood. Avoid the combination. Paracetamol is preferred.".into(),
        score: 0.713,
        best: Some(v1::Span { start: 21, end: 43 }),
        source: Some(v1::Source {
            title: "Clinic formulary".into(),
            uri: "https://example.org/formulary".into(),
            as_of: "2024-05-01".into(),
            licence: String::new(),
        }),
    }
}

pub(crate) fn passages() -> v1::Answer {
    let second = v1::Passage {
        id: "di-002".into(),
        title: "Warfarin with food".into(),
        text: "Keep greens steady.".into(),
        score: 0.41,
        best: None,
        source: None,
    };
    v1::Answer {
        body: Some(v1::answer::Body::Passages(v1::Passages { passages: vec![passage(), second] })),
        sources: passage().source.into_iter().collect(),
        knowledge_revision: "ab12".into(),
        ..v1::Answer::default()
    }
}

pub(crate) fn classification() -> v1::Answer {
    let label = |(name, probability): (&str, f64)| v1::classification::Label { name: name.into(), probability };
    let head = |name: &str, labels: &[(&str, f64)]| v1::classification::Head {
        name: name.into(),
        labels: labels.iter().copied().map(label).collect(),
    };
    let heads = vec![
        head(
            "specialty",
            &[
                ("cardiology", 0.92),
                ("pulmonology", 0.05),
                ("neurology", 0.02),
                ("surgery", 0.006),
                ("dermatology", 0.004),
            ],
        ),
        head("urgency", &[("emergency", 0.88), ("urgent", 0.1), ("routine", 0.02)]),
    ];
    v1::Answer {
        body: Some(v1::answer::Body::Classification(v1::Classification { heads })),
        confidence: Some(0.92),
        calibrated: true,
        ..v1::Answer::default()
    }
}

pub(crate) fn decision(outcome: v1::decision::Outcome, reason: &str) -> v1::Decision {
    let candidate = |expert: &str, probability: f64, selected: bool, reasons: &[&str]| v1::decision::Candidate {
        expert: expert.into(),
        version: "1".into(),
        probability,
        selected,
        reasons: reasons.iter().map(|&reason| reason.into()).collect(),
    };
    let chosen = outcome == v1::decision::Outcome::Dispatched;
    v1::Decision {
        outcome: outcome.into(),
        reason: reason.into(),
        candidates: vec![
            candidate("drug-interactions", 0.97, chosen, &["near its examples", "clear of the next one"]),
            candidate("general", 0.02, false, &["below the bar"]),
        ],
        dimensions: vec![v1::decision::Dimension {
            name: "audience".into(),
            values: vec![v1::decision::Value { value: "patient".into(), probability: 1.0 }],
            source: "given".into(),
        }],
        rules_matched: vec!["discharge-desk".into()],
        gate_revision: "c0ffee".into(),
        gate_tier: "encoder".into(),
        elapsed: duration(3_100),
        unavailable_experts: Vec::new(),
        calibrated: true,
        truncated: false,
        min_confidence: Some(0.5),
    }
}

pub(crate) fn dispatched() -> v1::DispatchResponse {
    let reply = v1::Reply {
        expert: "drug-interactions".into(),
        version: "1".into(),
        instance: "di-1".into(),
        result: Some(v1::reply::Result::Answer(passages())),
        attempts: vec![v1::Attempt {
            instance: "di-1".into(),
            code: 0,
            start_offset: duration(3_200),
            duration: duration(8_100),
            hedge: false,
        }],
        timings: Some(v1::Timings {
            tokenize: duration(120),
            queue: duration(40),
            inference: duration(6_400),
            total: duration(7_000),
        }),
    };
    v1::DispatchResponse {
        request_id: "0190".into(),
        decision: Some(decision(v1::decision::Outcome::Dispatched, "CONFIDENT")),
        replies: vec![reply],
        answer: Some(passages()),
        partial: false,
        feedback_token: String::new(),
    }
}

pub(crate) fn refused() -> v1::DispatchResponse {
    v1::DispatchResponse {
        request_id: "0191".into(),
        decision: Some(decision(v1::decision::Outcome::Refused, "OUT_OF_SCOPE")),
        ..v1::DispatchResponse::default()
    }
}

pub(crate) fn explained() -> v1::ExplainResponse {
    let leg = v1::plan::Leg {
        expert: "drug-interactions".into(),
        version: "1".into(),
        budget: duration(1_990_000),
        live_instances: 2,
    };
    v1::ExplainResponse {
        request_id: "0192".into(),
        decision: Some(decision(v1::decision::Outcome::Dispatched, "CONFIDENT")),
        plan: Some(v1::Plan { stages: vec![v1::plan::Stage { legs: vec![leg] }] }),
    }
}

pub(crate) fn catalog() -> v1::Catalog {
    let slo = || v1::Slo { latency: duration(150_000), objective: 0.99, first_token: None };
    let card = v1::Card {
        expert: "drug-interactions".into(),
        version: "1".into(),
        summary: "Checks medicines against each other.".into(),
        serves: HashMap::from([(
            "audience".to_owned(),
            v1::Values { values: vec!["clinician".into(), "patient".into()] },
        )]),
        accepts: vec!["text".into()],
        task: "retrieve".into(),
        slo: Some(slo()),
        idempotent: true,
        ..v1::Card::default()
    };
    let instance = v1::Instance {
        id: "di-1".into(),
        version: "1".into(),
        address: "127.0.0.1:40001".into(),
        state: v1::instance::State::Serving.into(),
        track: v1::instance::Track::Live.into(),
        in_flight: 3,
        ..v1::Instance::default()
    };
    let vanished = v1::Expert {
        name: "general".into(),
        cards: vec![v1::Card { summary: "Answers the rest.".into(), task: "retrieve".into(), ..card.clone() }],
        instances: Vec::new(),
        slo: None,
    };
    let expert = v1::Expert {
        name: "drug-interactions".into(),
        cards: vec![card],
        instances: vec![instance],
        slo: Some(v1::SloState { slo: Some(slo()), good: 11, total: 12 }),
    };
    v1::Catalog { mesh: "clinic".into(), revision: 7, experts: vec![expert, vanished] }
}

fn duration(micros: u64) -> Option<prost_types::Duration> {
    Duration::from_micros(micros).try_into().ok()
}
