//! What the router wrote down of the feedback that a client sent: no client can tell whether that is what it was given.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    case::{Call, Case},
    observe::Line,
};

/// Gives each case of feedback what was written down of it. Returns what is wrong with the rest: there should be none,
/// because feedback that is not accepted is not written down.
pub(crate) fn noted(cases: &[Case], journal: Vec<Value>, said: &mut BTreeMap<String, Line>) -> Vec<String> {
    let mut rest = journal;
    for case in cases.iter().filter(|case| case.call == Call::Feedback && case.expect.expects("accepted")) {
        let (Some(id), Some(line)) = (case.request_id(cases), said.get_mut(&case.name)) else { continue };
        let (mut found, others): (Vec<_>, _) = rest.into_iter().partition(|written| written["request_id"] == id);
        rest = others;
        line.journal = if found.len() > 1 { Some(Value::Array(found)) } else { found.pop() };
    }
    rest.iter().map(|written| format!("nobody's feedback is in the journal: {}", written["request_id"])).collect()
}

/// Shows that lines come to their cases, and others are seen.
pub(crate) mod checks {
    use serde_json::json;

    use super::{BTreeMap, Case, Line, noted};

    pub(crate) fn each_line_has_its_case() {
        let case = |name: &str, id: &str| -> Case {
            let case = json!({
                "name": name,
                "call": "feedback",
                "context": {"request_id": id},
                "expect": {"accepted": true, "journal": {}},
            });
            serde_json::from_value(case).expect("it is a case")
        };
        let cases = [case("once", "r-1"), case("twice", "r-2"), case("never", "r-3")];
        let mut said: BTreeMap<_, _> = cases.iter().map(|case| (case.name.clone(), Line::default())).collect();
        let line = |id: &str| json!({"request_id": id});
        let rest = noted(&cases, [line("r-2"), line("r-1"), line("r-4"), line("r-2")].into(), &mut said);
        assert_eq!(rest, [r#"nobody's feedback is in the journal: "r-4""#]);
        assert_eq!(said["once"].journal, Some(line("r-1")));
        assert_eq!(said["twice"].journal, Some(json!([line("r-2"), line("r-2")])));
        assert_eq!(said["never"].journal, None);
    }
}
