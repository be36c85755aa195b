//! The searches of the trace explorer, each against a Jaeger that has the traces of a mesh that has seen everything: asked
//! with the parameters that the panel has, over what Grafana itself asks.

use std::{collections::BTreeSet, fs, path::Path};

use consilium_tests::processes::Watched;
use serde_json::{Map, Value};

use crate::{
    ROOT,
    scene::{Scene, say},
};

const DASHBOARD: &str = "deploy/grafana/dashboards/traces.json";
/// Slow enough for a search, with models as small as these.
const SLOW: &str = "1ms";
/// Beside the real ones: they fail, are too late and are asked again, which no real one can be made to be.
const SCRIPTED: [&str; 4] = ["breaker", "mirror", "sleeper", "stumbler"];

/// What Grafana sends of a panel's query.
const SENT: [&str; 6] = ["service", "operation", "tags", "minDuration", "maxDuration", "limit"];

type Parameters = Vec<(&'static str, String)>;

pub(crate) async fn find(scene: &Scene) {
    let (watched, _) = scene.loaded().await;
    let text = fs::read_to_string(Path::new(ROOT).join(DASHBOARD)).expect("the dashboard can be read");
    let dashboard: Value = serde_json::from_str(&text).expect("a dashboard is JSON");
    let experts: Vec<_> = experts(watched).into_iter().collect();
    let variables = [("$expert", experts.clone()), ("$code", options(&dashboard, "code"))];
    say("| panel | search | traces |\n| --- | --- | ---: |");
    let (mut panels, mut empty, mut shown) = (0, Vec::new(), None);
    for (panel, target) in searches(&dashboard) {
        let mut found = 0;
        for parameters in forms(target, &variables) {
            let sent: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let ids = watched.jaeger.search(&sent).await;
            found += ids.len();
            let told: Vec<_> = sent.iter().map(|(name, value)| format!("{name}={value}")).collect();
            say(&format!("| {panel} | {} | {} |", told.join(" "), ids.len()));
            shown = ids.into_iter().next().or(shown);
        }
        panels += 1;
        if found == 0 {
            empty.push(panel);
        }
    }
    assert!(panels > 5, "the dashboard searches {panels} times");
    assert!(empty.is_empty(), "nothing is found by {empty:?}");
    let id = shown.expect("something was found");
    let spans = watched.jaeger.shown(&id).await;
    say(&format!("the trace {id}, shown by its id, has {spans} spans"));
    assert!(spans > 1, "a trace that was found is shown");
    let calls = watched.jaeger.calls().await;
    say(&format!("who calls whom: {calls:?}"));
    let to = |expert: &String| calls.iter().any(|(from, to)| from == "router" && to == expert);
    assert!(experts.iter().any(to), "the router calls experts: {calls:?}");
}

fn experts(watched: &Watched) -> BTreeSet<String> {
    let real = watched.practice.experts.iter().chain([&watched.tensors]).map(|expert| expert.expert.clone());
    real.chain(SCRIPTED.map(str::to_owned)).collect()
}

/// The searches in Jaeger, folded rows and all: the title of the panel, and what it asks.
fn searches(dashboard: &Value) -> Vec<(&str, &Value)> {
    let panels = array(dashboard, "panels").iter();
    let panels = panels.flat_map(|panel| [panel].into_iter().chain(array(panel, "panels")));
    let asked = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap_or_default();
        array(panel, "targets").iter().map(move |target| (title, target))
    });
    asked.filter(|(_, it)| it["datasource"]["type"] == "jaeger" && it["queryType"] == "search").collect()
}

/// What a variable can be set to.
fn options(dashboard: &Value, variable: &str) -> Vec<String> {
    let mut variables = array(&dashboard["templating"], "list").iter();
    let variable = variables.find(|it| it["name"] == variable).expect("the dashboard has the variable");
    let options = array(variable, "options").iter().filter_map(|option| option["value"].as_str());
    options.map(str::to_owned).collect()
}

/// What is sent for a query: once, or once for each value of the variable in it.
fn forms(target: &Value, variables: &[(&str, Vec<String>)]) -> Vec<Parameters> {
    let whole = target.to_string();
    let used = variables.iter().find(|(name, _)| whole.contains(name));
    let Some((name, values)) = used else { return vec![parameters(target, ("", ""))] };
    values.iter().map(|value| parameters(target, (name, value))).collect()
}

fn parameters(target: &Value, (variable, value): (&str, &str)) -> Parameters {
    let parameter = |name: &'static str| {
        let mut text = match &target[name] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        for (variable, value) in [("$service", "router"), ("$min", SLOW), (variable, value)] {
            if !variable.is_empty() {
                text = text.replace(variable, value);
            }
        }
        assert!(!text.contains('$'), "{name} has a variable that nobody knows: {text}");
        if name == "tags" {
            text = tags(&text);
        }
        (!text.is_empty()).then_some((name, text))
    };
    SENT.into_iter().filter_map(parameter).collect()
}

/// `name=value …` as the JSON that Grafana makes of it.
fn tags(text: &str) -> String {
    let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
    let tags: Map<String, Value> = pairs.map(|(name, value)| (name.to_owned(), value.into())).collect();
    if tags.is_empty() { String::new() } else { Value::Object(tags).to_string() }
}

fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}
