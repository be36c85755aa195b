//! What rules admit at load and how they behave on a query.

use std::collections::BTreeMap;

use super::*;
use crate::options::{Dimension, Rule};

fn options(rules: Vec<Rule>) -> Options {
    let dimensions = ["audience", "urgency"].map(|name| (name.to_owned(), Dimension::given(["clinician", "patient"])));
    Options { rules, dimensions: BTreeMap::from(dimensions), ..Options::default() }
}

fn forbid(when: &str) -> Rule {
    Rule { name: "r".into(), when: when.into(), forbid: vec!["a".into()], ..Rule::default() }
}

fn known(pairs: &[(&str, &[&str])]) -> Known {
    pairs
        .iter()
        .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| Arc::from(*value)).collect()))
        .collect()
}

/// Everything at once, as if nothing had to be read.
fn verdict<'a>(rules: &'a RuleSet, query: &Query) -> Verdict<'a> {
    let known = known(&[("audience", &["patient"]), ("urgency", &[])]);
    let mut verdict = rules.start(query, &known);
    verdict.finish(query, &known);
    verdict
}

fn experts<'a>(named: impl Iterator<Item = (&'a str, &'a Arc<str>)>) -> Vec<&'a str> {
    named.map(|(expert, _)| expert).collect()
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
        ("'patient' in dimensions.audience", true),
        ("dimensions['audience'][0] == 'patient' && size(dimensions.urgency) == 0", true),
        ("'patient' in dimensions.urgency", false),
    ] {
        let rules = RuleSet::compile(&options(vec![forbid(when)])).unwrap_or_else(|m| panic!("{when}: {m:?}"));
        assert_eq!(verdict(&rules, &query()).forbidden().next().is_some(), expected, "{when}");
        assert_eq!(rules.errors.load(Ordering::Relaxed), 0, "{when}");
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
        ("'x' in dimensions.ward", "no dimension is called \"ward\""),
        ("has(dimensions.audience)", "has is always true"),
        ("'x' in dimensions[labels.key]", "not written out"),
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
    let verdict = verdict(&rules, &Query::default());
    assert_eq!(verdict.names(), ["forbid"]);
    assert_eq!(
        verdict.forbidden().map(|(expert, note)| (expert, &**note)).collect::<Vec<_>>(),
        [("b", "rule forbid forbids it")]
    );
    assert!(verdict.required().next().is_none() && verdict.preferred().next().is_none());
    assert_eq!(rules.errors.load(Ordering::Relaxed), 3);
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
    let verdict = verdict(&rules, &query());
    assert_eq!(verdict.names(), ["high", "also-high", "low"]);
    assert_eq!(experts(verdict.required()), ["b", "c"]);
}

#[test]
fn a_rule_waits_for_the_dimensions_that_it_reads() {
    let rule =
        |name: &str, when: &str, priority| Rule { name: name.into(), when: when.into(), priority, ..Rule::default() };
    let late =
        |priority| Rule { require: vec!["late".into()], ..rule("late", "'patient' in dimensions.audience", priority) };
    let early = Rule { require: vec!["early".into()], ..rule("early", "'patient' in attributes.audience", 5) };
    let nothing = known(&[("urgency", &[])]);
    for (late, is_certain, required) in [(late(9), false, "late"), (late(5), false, "early"), (late(1), true, "early")]
    {
        let rules = RuleSet::compile(&options(vec![early.clone(), late])).unwrap();
        let query = query();
        let mut verdict = rules.start(&query, &nothing);
        assert_eq!(verdict.names(), ["early"]);
        assert_eq!(verdict.requires_for_certain(), is_certain);
        verdict.finish(&query, &known(&[("urgency", &[]), ("audience", &["patient"])]));
        assert_eq!(verdict.names().len(), 2);
        assert_eq!(experts(verdict.required())[0], required);
    }
}

#[test]
fn only_a_guard_or_a_higher_requirement_holds_up_what_is_required() {
    let pending = |effect: fn(Rule) -> Rule| {
        let early = Rule { name: "early".into(), when: "true".into(), require: vec!["a".into()], ..Rule::default() };
        let late = Rule { name: "late".into(), when: "size(dimensions.audience) > 0".into(), ..Rule::default() };
        let rules = RuleSet::compile(&options(vec![early, effect(late)])).unwrap();
        rules.start(&query(), &Known::new()).requires_for_certain()
    };
    assert!(pending(|rule| Rule { prefer: vec!["b".into()], ..rule }));
    assert!(!pending(|rule| Rule { forbid: vec!["b".into()], ..rule }));
    assert!(!pending(|rule| Rule { require: vec!["b".into()], ..rule }), "of one priority both are asked");
    assert!(pending(|rule| Rule { require: vec!["b".into()], priority: -1, ..rule }));
}

#[test]
fn a_guard_whose_dimension_could_not_be_read_forbids() {
    let guard = |name: &str, when: &str| Rule { name: name.into(), ..forbid(when) };
    let rules = RuleSet::compile(&options(vec![
        guard("reads", "'patient' in dimensions.audience"),
        guard("no", "'patient' in dimensions.urgency"),
    ]))
    .unwrap();
    assert!(rules.reads_dimensions());
    let mut verdict = rules.start(&query(), &known(&[("urgency", &[])]));
    verdict.finish(&query(), &known(&[("urgency", &[])]));
    assert_eq!(verdict.names(), ["reads"]);
}
