//! The operator's rules: compiled once, evaluated for every query before anything expensive runs. Those that read an
//! inferred dimension follow once the query has been read.
//!
//! The `cel` crate parses and evaluates; it neither checks types nor bounds cost (three nested `all` ran for 14 s). So
//! `check` admits only a part of the language in which every operator is at most linear in the query and runs once, and
//! `matches` is ours, with patterns compiled at load.

mod check;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::extractors::This;
use cel::{Context, Env, Program, Value};
use regex::Regex;

use crate::options::{Dimension, Mistake, Options, Rule};
use crate::query::{Caller, Query};

/// Longest condition, in bytes. With it the number of operators of a rule is bounded too.
pub(crate) const MAX_CONDITION: usize = 2048;

/// All rules of a mesh, ready to run.
pub(crate) struct RuleSet {
    /// Highest priority first.
    rules: Vec<Compiled>,
    /// Holds `matches`; a query's variables go into a scope below it.
    context: Context<'static, 'static>,
    /// Shared with the sets before and after this one: a counter must not fall because a card changed.
    errors: Arc<AtomicU64>,
}

struct Compiled {
    name: String,
    program: Program,
    effect: Effect,
    experts: Vec<String>,
    /// Says in a decision what the rule did to an expert.
    note: Arc<str>,
    priority: i32,
    /// The dimensions whose values in effect the condition reads.
    reads: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Require,
    Prefer,
    Forbid,
}

/// The values in effect, by dimension; an empty list where it is known that none is. A dimension that is absent is not
/// known yet.
pub(crate) type Known = BTreeMap<String, Vec<Arc<str>>>;

/// What the rules say about one query.
#[derive(Debug)]
pub(crate) struct Verdict<'a> {
    set: &'a RuleSet,
    /// By index, which is by falling priority.
    matched: Vec<usize>,
    /// Rules that read what is not known yet.
    pending: Vec<usize>,
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
                Ok(condition) => rules.push((path, Compiled::new(rule, condition))),
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
        Ok(Self { rules, context, errors: Arc::default() })
    }

    /// The same rules, counting their errors here.
    pub(crate) fn counting_in(self, errors: Arc<AtomicU64>) -> Self {
        Self { errors, ..self }
    }

    /// Whether any rule reads a dimension's value in effect; where none does, nobody needs to collect them.
    pub(crate) fn reads_dimensions(&self) -> bool {
        self.rules.iter().any(|rule| !rule.reads.is_empty())
    }

    /// Evaluates every rule that reads nothing but what is known; the others are pending.
    pub(crate) fn start(&self, query: &Query, known: &Known) -> Verdict<'_> {
        let mut verdict = Verdict { set: self, matched: Vec::new(), pending: (0..self.rules.len()).collect() };
        verdict.evaluate(query, known, |rule| rule.reads.iter().all(|dimension| known.contains_key(dimension)));
        verdict
    }
}

impl Compiled {
    fn new(rule: &Rule, condition: check::Condition) -> Self {
        let (effect, experts, verb) = if !rule.forbid.is_empty() {
            (Effect::Forbid, &rule.forbid, "forbids")
        } else if !rule.require.is_empty() {
            (Effect::Require, &rule.require, "requires")
        } else {
            (Effect::Prefer, &rule.prefer, "prefers")
        };
        Self {
            name: rule.name.clone(),
            program: condition.program,
            effect,
            experts: experts.clone(),
            note: format!("rule {} {verb} it", rule.name).into(),
            priority: rule.priority,
            reads: condition.reads,
        }
    }
}

impl<'a> Verdict<'a> {
    /// Evaluates the pending rules. What is still not known then could not be read: to a rule it is an error.
    pub(crate) fn finish(&mut self, query: &Query, known: &Known) {
        self.evaluate(query, known, |_| true);
        self.matched.sort_unstable();
    }

    /// A condition that cannot be evaluated for this query (mostly: an absent key) forbids when it guards a `forbid`,
    /// since a guard that fails must fail closed; elsewhere it is no match, and counted.
    fn evaluate(&mut self, query: &Query, known: &Known, ready: impl Fn(&Compiled) -> bool) {
        let set = self.set;
        let (now, later): (Vec<usize>, Vec<usize>) = self.pending.drain(..).partition(|&at| ready(&set.rules[at]));
        self.pending = later;
        if now.is_empty() {
            return;
        }
        let mut scope = set.context.new_inner_scope();
        bind(&mut scope, query, known);
        for at in now {
            let rule = &set.rules[at];
            let holds = if let Ok(Value::Bool(holds)) = rule.program.execute(&scope) {
                holds
            } else {
                set.errors.fetch_add(1, Ordering::Relaxed);
                rule.effect == Effect::Forbid
            };
            if holds {
                self.matched.push(at);
            }
        }
    }

    /// Names of the rules that matched, highest priority first.
    pub(crate) fn names(&self) -> Vec<String> {
        self.matched.iter().map(|&at| self.set.rules[at].name.clone()).collect()
    }

    /// The experts that must answer, each with the note of its rule: of the highest priority at which a `require` rule
    /// matched.
    pub(crate) fn required(&self) -> impl Iterator<Item = (&'a str, &'a Arc<str>)> {
        let top = self.with(Effect::Require).next().map(|rule| rule.priority);
        self.with(Effect::Require).filter(move |rule| Some(rule.priority) == top).flat_map(named)
    }

    /// Each expert that a rule prefers, once for every such rule.
    pub(crate) fn preferred(&self) -> impl Iterator<Item = (&'a str, &'a Arc<str>)> {
        self.with(Effect::Prefer).flat_map(named)
    }

    pub(crate) fn forbidden(&self) -> impl Iterator<Item = (&'a str, &'a Arc<str>)> {
        self.with(Effect::Forbid).flat_map(named)
    }

    /// Whether some expert is required and no pending rule can change that any more.
    pub(crate) fn requires_for_certain(&self) -> bool {
        let Some(top) = self.with(Effect::Require).next().map(|rule| rule.priority) else { return false };
        self.pending.iter().map(|&at| &self.set.rules[at]).all(|rule| match rule.effect {
            Effect::Forbid => false,
            Effect::Require => rule.priority < top,
            Effect::Prefer => true,
        })
    }

    fn with(&self, effect: Effect) -> impl Iterator<Item = &'a Compiled> {
        let set = self.set;
        self.matched.iter().map(|&at| &set.rules[at]).filter(move |rule| rule.effect == effect)
    }
}

fn named(rule: &Compiled) -> impl Iterator<Item = (&str, &Arc<str>)> {
    rule.experts.iter().map(move |expert| (expert.as_str(), &rule.note))
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

fn bind(scope: &mut Context<'_, 'static>, query: &Query, known: &Known) {
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
    let values = |values: &[Arc<str>]| values.iter().map(|value| Value::from(value.to_string())).collect::<Vec<_>>();
    let dimensions: HashMap<String, Value> =
        known.iter().map(|(name, known)| (name.clone(), Value::from(values(known)))).collect();
    scope.add_variable_from_value("labels", labels);
    scope.add_variable_from_value("dimensions", dimensions);
    scope.add_variable_from_value(
        "caller",
        strings(&[("tenant", tenant), ("tier", tier), ("purpose", purpose), ("priority", priority)]),
    );
}

/// Runs a checked condition on a query that has everything it names, so that the interpreter confirms what `check`
/// concluded. Absent keys and indices past the end depend on the query and are no mistakes.
fn dry_run(rule: &Compiled, context: &Context<'static, 'static>, options: &Options) -> Result<(), String> {
    let values = |dimension: &Dimension| dimension.names().map(str::to_owned).collect::<Vec<_>>();
    let attributes = options.dimensions.iter().map(|(name, dimension)| (name.clone(), values(dimension)));
    let sample = Query { text: "sample".to_owned(), attributes: attributes.collect(), ..Query::default() };
    let known = options
        .dimensions
        .iter()
        .map(|(name, dimension)| (name.clone(), dimension.names().map(Arc::from).collect()))
        .collect();
    let mut scope = context.new_inner_scope();
    bind(&mut scope, &sample, &known);
    match rule.program.execute(&scope) {
        Ok(Value::Bool(_)) | Err(cel::ExecutionError::NoSuchKey(_) | cel::ExecutionError::IndexOutOfBounds(_)) => {
            Ok(())
        }
        Ok(other) => Err(format!("evaluates to {}, not to a bool", other.type_of())),
        Err(error) => Err(error.to_string()),
    }
}
