//! The operator's rules: compiled once, evaluated for every query before anything expensive runs.
//!
//! The `cel` crate parses and evaluates; it neither checks types nor bounds cost (three nested `all` ran for 14 s). So
//! `check` admits only a part of the language in which every operator is at most linear in the query and runs once, and
//! `matches` is ours, with patterns compiled at load.

mod check;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::extractors::This;
use cel::{Context, Env, Program, Value};
use regex::Regex;

use crate::options::{Mistake, Options};
use crate::query::{Caller, Query};

/// Longest condition, in bytes. With it the number of operators of a rule is bounded too.
pub(crate) const MAX_CONDITION: usize = 2048;

/// All rules of a mesh, ready to run.
pub(crate) struct RuleSet {
    rules: Vec<Compiled>,
    /// Holds `matches`; a query's variables go into a scope below it.
    context: Context<'static, 'static>,
    errors: AtomicU64,
}

struct Compiled {
    name: String,
    program: Program,
    effect: Effect,
    priority: i32,
}

enum Effect {
    Require(Vec<String>),
    Prefer(Vec<String>),
    Forbid(Vec<String>),
}

/// What the rules say about one query. Each entry is (rule, expert).
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Names, highest priority first.
    pub(crate) matched: Vec<String>,
    /// Of the highest priority at which a `require` rule matched.
    pub(crate) required: Vec<(String, String)>,
    pub(crate) preferred: Vec<(String, String)>,
    pub(crate) forbidden: Vec<(String, String)>,
}

impl RuleSet {
    /// All mistakes of all conditions, or the rules in the order they are evaluated.
    pub(crate) fn compile(options: &Options) -> Result<Self, Vec<Mistake>> {
        // Optional syntax (`a.?b`) would bring a second way to say what `has` says.
        let env = Arc::new(Env::stdlib().with_optional_support(false));
        let mut mistakes = Vec::new();
        let mut patterns = HashMap::new();
        let mut rules = Vec::new();
        for (index, rule) in options.rules.iter().enumerate() {
            let path = format!("gate.rules[{index}].when");
            match check::condition(&rule.when, &env, &options.dimensions, &mut patterns) {
                Ok(program) => rules.push((
                    path,
                    Compiled {
                        name: rule.name.clone(),
                        program,
                        effect: if !rule.forbid.is_empty() {
                            Effect::Forbid(rule.forbid.clone())
                        } else if !rule.require.is_empty() {
                            Effect::Require(rule.require.clone())
                        } else {
                            Effect::Prefer(rule.prefer.clone())
                        },
                        priority: rule.priority,
                    },
                )),
                Err(problems) => mistakes
                    .extend(problems.into_iter().map(|(problem, expected)| Mistake::new(&*path, problem, expected))),
            }
        }
        let context = match context(env, patterns) {
            Ok(context) => context,
            Err(problem) => {
                mistakes.push(Mistake::new("gate.rules", problem, "a build of the cel crate without its own matches"));
                return Err(mistakes);
            }
        };
        for (path, rule) in &rules {
            if let Err(problem) = dry_run(rule, &context, options) {
                mistakes.push(Mistake::new(&**path, problem, "a condition that can be evaluated"));
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut rules: Vec<Compiled> = rules.into_iter().map(|(_, rule)| rule).collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority)); // stable: the order of the file within a priority
        Ok(Self { rules, context, errors: AtomicU64::new(0) })
    }

    /// Evaluates every rule. A condition that cannot be evaluated for this query (mostly: an absent key) forbids when
    /// it guards a `forbid`, since a guard that fails must fail closed; elsewhere it is no match, and counted.
    pub(crate) fn evaluate(&self, query: &Query) -> Verdict {
        let mut verdict = Verdict::default();
        if self.rules.is_empty() {
            return verdict;
        }
        let mut scope = self.context.new_inner_scope();
        bind(&mut scope, query);
        let mut required_at = None;
        for rule in &self.rules {
            let holds = if let Ok(Value::Bool(holds)) = rule.program.execute(&scope) {
                holds
            } else {
                self.errors.fetch_add(1, Ordering::Relaxed);
                matches!(rule.effect, Effect::Forbid(_))
            };
            if !holds {
                continue;
            }
            verdict.matched.push(rule.name.clone());
            let because = |experts: &[String]| -> Vec<(String, String)> {
                experts.iter().map(|expert| (rule.name.clone(), expert.clone())).collect()
            };
            match &rule.effect {
                Effect::Forbid(experts) => verdict.forbidden.extend(because(experts)),
                Effect::Prefer(experts) => verdict.preferred.extend(because(experts)),
                Effect::Require(experts) => {
                    if *required_at.get_or_insert(rule.priority) == rule.priority {
                        verdict.required.extend(because(experts));
                    }
                }
            }
        }
        verdict
    }

    /// How many conditions could not be evaluated so far.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

impl Verdict {
    /// The first rule in `list` that names the expert.
    pub(crate) fn rule_for<'a>(list: &'a [(String, String)], expert: &str) -> Option<&'a str> {
        list.iter().find(|(_, named)| named == expert).map(|(rule, _)| rule.as_str())
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|rule| &rule.name)).finish()
    }
}

/// A context with our `matches` and no variables. A pattern that is not in the table cannot occur: `check` collected
/// every literal. Should it occur all the same, it is an evaluation error like any other.
fn context(env: Arc<Env>, patterns: HashMap<String, Regex>) -> Result<Context<'static, 'static>, String> {
    let mut context = Context::with_env(env);
    let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| -> Result<bool, cel::ExecutionError> {
        match patterns.get(pattern.as_str()) {
            Some(regex) => Ok(regex.is_match(&text)),
            None => Err(cel::ExecutionError::FunctionError {
                function: "matches".to_owned(),
                message: "the pattern was not compiled at load".to_owned(),
            }),
        }
    };
    context.add_function("matches", matches).map_err(|error| error.to_string())?;
    Ok(context)
}

fn bind(scope: &mut Context<'_, 'static>, query: &Query) {
    let Caller { tenant, tier, purpose, priority, subject: _ } = &query.caller;
    let strings = |pairs: &[(&str, &String)]| -> HashMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from((*value).clone()))).collect()
    };
    let lists: HashMap<String, Value> =
        query.attributes.iter().map(|(key, values)| (key.clone(), Value::from(values.clone()))).collect();
    let labels: HashMap<String, Value> =
        query.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
    scope.add_variable_from_value("query", strings(&[("text", &query.text)]));
    scope.add_variable_from_value("attributes", lists);
    scope.add_variable_from_value("labels", labels);
    scope.add_variable_from_value(
        "caller",
        strings(&[("tenant", tenant), ("tier", tier), ("purpose", purpose), ("priority", priority)]),
    );
}

/// Runs a checked condition on a query that has everything it names, so that the interpreter confirms what `check`
/// concluded. Absent keys and indices past the end depend on the query and are no mistakes.
fn dry_run(rule: &Compiled, context: &Context<'static, 'static>, options: &Options) -> Result<(), String> {
    let sample = Query {
        text: "sample".to_owned(),
        attributes: options
            .dimensions
            .iter()
            .map(|(name, dimension)| (name.clone(), dimension.values.clone()))
            .collect(),
        ..Query::default()
    };
    let mut scope = context.new_inner_scope();
    bind(&mut scope, &sample);
    match rule.program.execute(&scope) {
        Ok(Value::Bool(_)) | Err(cel::ExecutionError::NoSuchKey(_) | cel::ExecutionError::IndexOutOfBounds(_)) => {
            Ok(())
        }
        Ok(other) => Err(format!("evaluates to {}, not to a bool", other.type_of())),
        Err(error) => Err(error.to_string()),
    }
}
