//! What rules admit at load and how they behave on a query.

use std::collections::BTreeMap;

use super::*;
use crate::options::{Dimension, Rule};

fn options(rules: Vec<Rule>) -> Options {
    let audience = Dimension { values: vec!["clinician".into(), "patient".into()], summary: String::new() };
    Options { rules, dimensions: BTreeMap::from([("audience".to_owned(), audience)]), ..Options::default() }
}

fn forbid(when: &str) -> Rule {
    Rule { name: "r".into(), when: when.into(), forbid: vec!["a".into()], ..Rule::default() }
}

fn problems(when: &str) -> Vec<String> {
    match RuleSet::compile(&options(vec![forbid(when)])) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes
            .into_iter()
            .map(|mistake| {
                assert_eq!(mistake.path, "gate.rules[0].when");
                assert!(!mistake.expected.is_empty());
                mistake.problem
            })
            .collect(),
    }
}

fn query() -> Query {
    Query {
        text: "Is Warfarin safe with aspirin?".into(),
        attributes: BTreeMap::from([("audience".into(), vec!["patient".into()])]),
        labels: BTreeMap::from([("document".into(), "list".into())]),
        caller: Caller { tenant: "north".into(), tier: "gold".into(), ..Caller::default() },
    }
}

#[test]
fn conditions_read_text_attributes_labels_and_caller() {
    for (when, expected) in [
        ("query.text.contains('Warfarin')", true),
        ("query.text.startsWith('Is') && query.text.endsWith('?')", true),
        ("matches(query.text, '(?i)\\\\bwarfarin\\\\b')", true),
        ("query.text.matches('^warfarin')", false),
        ("'patient' in attributes.audience", true),
        ("attributes['audience'][0] == 'clinician'", false),
        ("'audience' in attributes && size(attributes.audience) == 1", true),
        ("has(labels.document) && labels.document == 'list'", true),
        ("has(labels.ward) && labels.ward == 'icu'", false),
        ("labels['document'] in ['list', 'letter']", true),
        ("caller.tenant == 'north' && caller.tier != 'free' && caller.purpose == ''", true),
        ("size(query.text) > 10 ? caller.tier == 'gold' : false", true),
        ("!(query.text < 'A')", true),
    ] {
        let rules = RuleSet::compile(&options(vec![forbid(when)])).unwrap_or_else(|m| panic!("{when}: {m:?}"));
        assert_eq!(!rules.evaluate(&query()).forbidden.is_empty(), expected, "{when}");
        assert_eq!(rules.errors(), 0, "{when}");
    }
}

#[test]
fn whatever_costs_without_bound_is_refused() {
    for when in [
        "attributes.audience.all(a, a == 'x')",
        "attributes.audience.exists(a, a == 'x')",
        "attributes.audience.exists_one(a, a == 'x')",
        "size(attributes.audience.map(a, a)) == 1",
        "size(attributes.audience.filter(a, a == 'x')) == 1",
        "[1, 2].all(x, [1, 2].all(y, [1, 2].all(z, x == y && y == z)))",
    ] {
        let problems = problems(when);
        assert!(problems.iter().any(|problem| problem.contains("no bound")), "{when}: {problems:?}");
    }
    for (when, name) in [
        ("query.text + query.text == ''", "+"),
        ("size(query.text) - 1 == 0", "-"),
        ("size(query.text) * 2 == 0", "*"),
        ("size(query.text) / 2 == 0", "/"),
        ("size(query.text) % 2 == 0", "%"),
        ("string(1) == '1'", "string"),
        ("int('1') == 1", "int"),
        ("type(1) == type(2)", "type"),
        ("dyn(query.text) == 1", "dyn"),
        ("query.text.lowerAscii() == 'a'", "lowerAscii"),
        ("max(1, 2) == 2", "max"),
        ("-size(query.text) == 0", "-"),
    ] {
        let problems = problems(when);
        assert!(problems.iter().any(|p| p.starts_with(&format!("{name} is not admitted"))), "{when}: {problems:?}");
    }
    for when in ["{'a': 1}['a'] == 1", "b'x' == b'x'", "labels.x == null", "Foo{a: 1} == Foo{a: 1}"] {
        assert!(problems(when).iter().any(|problem| problem.contains("not admitted")), "{when}: {:?}", problems(when));
    }
}

#[test]
fn unknown_names_are_refused() {
    for (when, part) in [
        ("request.text == ''", "no variable \"request\""),
        ("query.body == ''", "no field \"body\""),
        ("caller.subject == ''", "no field \"subject\""),
        ("'x' in attributes.ward", "no dimension is called \"ward\""),
        ("'x' in attributes['ward']", "no dimension is called \"ward\""),
        ("labels.document.length == 1", "no field \"length\""),
    ] {
        let problems = problems(when);
        assert!(problems.iter().any(|problem| problem.contains(part)), "{when}: {problems:?}");
    }
}

#[test]
fn types_are_checked_on_branches_that_a_dry_run_would_not_reach() {
    for when in [
        "query.text == 'x' && labels.age > 3",
        "false && query.text.contains(3)",
        "true || attributes.audience == 'patient'",
        "true ? true : query.text",
        "query.text",
        "size(query.text)",
        "!query.text",
        "query == query",
        "attributes == attributes",
        "1 in ['a']",
        "['a', 1][0] == 'a'",
        "size([]) == 0",
        "attributes.audience['x'] == 'a'",
        "caller < caller",
        "1 == 1.0",
    ] {
        assert!(!problems(when).is_empty(), "{when}");
    }
}

#[test]
fn patterns_are_compiled_at_load_within_bounds() {
    for (when, part) in [
        ("query.text.matches('a{1000}{1000}{10}')", "too big"),
        ("query.text.matches('(((((\\\\w{60}){60}){60}){60}){60})')", "too big"),
        ("query.text.matches('(unclosed')", "no regular expression"),
        ("query.text.matches('(a)\\\\1')", "no regular expression"),
        ("query.text.matches(labels.pattern)", "not written out"),
        ("query.text.matches(query.text)", "not written out"),
    ] {
        let problems = problems(when);
        assert!(problems.iter().any(|problem| problem.contains(part)), "{when}: {problems:?}");
    }
}

#[test]
fn long_deep_and_broken_conditions_are_refused() {
    let long = format!("query.text == '{}'", "x".repeat(MAX_CONDITION));
    assert!(problems(&long)[0].contains("bytes long"));
    let deep = format!("{}true{}", "(".repeat(400), ")".repeat(400));
    assert!(!problems(&deep).is_empty());
    assert!(!problems("query.text ==").is_empty());
    assert!(!problems("").is_empty());
    assert!(!problems("has(labels.?x)").is_empty());
}

#[test]
fn every_mistake_of_every_rule_is_told() {
    let all = options(vec![forbid("foo == bar"), forbid("true"), forbid("query.text.matches('(') || 1 + 1 == 2")]);
    let paths: Vec<String> = RuleSet::compile(&all).unwrap_err().into_iter().map(|mistake| mistake.path).collect();
    assert_eq!(paths, ["gate.rules[0].when", "gate.rules[0].when", "gate.rules[2].when", "gate.rules[2].when"]);
}

#[test]
fn an_error_forbids_in_a_forbid_and_is_no_match_elsewhere() {
    let when = "labels.ward == 'icu'".to_owned();
    let rule = |name: &str| Rule { name: name.into(), when: when.clone(), ..Rule::default() };
    let rules = RuleSet::compile(&options(vec![
        Rule { require: vec!["a".into()], ..rule("require") },
        Rule { prefer: vec!["a".into()], ..rule("prefer") },
        Rule { forbid: vec!["b".into()], ..rule("forbid") },
    ]))
    .unwrap();
    let verdict = rules.evaluate(&Query::default());
    assert_eq!(verdict.matched, ["forbid"]);
    assert_eq!(verdict.forbidden, [("forbid".to_owned(), "b".to_owned())]);
    assert!(verdict.required.is_empty() && verdict.preferred.is_empty());
    assert_eq!(rules.errors(), 3);
}

#[test]
fn the_highest_priority_decides_what_is_required() {
    let rule = |name: &str, priority, require: &[&str]| Rule {
        name: name.into(),
        when: "true".into(),
        require: require.iter().map(ToString::to_string).collect(),
        priority,
        ..Rule::default()
    };
    let rules = RuleSet::compile(&options(vec![
        rule("low", -1, &["a"]),
        rule("high", 5, &["b"]),
        rule("also-high", 5, &["c"]),
    ]))
    .unwrap();
    let verdict = rules.evaluate(&query());
    assert_eq!(verdict.matched, ["high", "also-high", "low"]);
    let experts: Vec<&str> = verdict.required.iter().map(|(_, expert)| expert.as_str()).collect();
    assert_eq!(experts, ["b", "c"]);
}
