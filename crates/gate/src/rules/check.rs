//! Which conditions are admitted: a type checker over the part of CEL that costs at most one pass over the query for
//! each operator. Comprehensions, arithmetic, conversions and unknown names end here, at load.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::{Env, IdedExpr, Program};
use regex::{Regex, RegexBuilder};

use super::MAX_CONDITION;
use crate::options::{Dimension, listed};

/// What is wrong, and what would be right.
type Problem = (String, String);

/// Largest compiled pattern, in bytes, and the same for the cache of its lazy automaton. `a{1000}{1000}` would take
/// gigabytes; any pattern a person writes fits many times.
const MAX_PATTERN: usize = 1 << 20;

const FUNCTIONS: &str = "size, contains, startsWith, endsWith, matches, has, in, the comparisons, &&, ||, ! and ?:";

/// An admitted condition.
pub(super) struct Condition {
    pub(super) program: Program,
    /// The dimensions whose values in effect it reads.
    pub(super) reads: Vec<String>,
}

/// Compiles a condition and adds the patterns it uses to `patterns`, or says everything that is wrong with it.
pub(super) fn condition(
    source: &str,
    env: &Env,
    dimensions: &BTreeMap<String, Dimension>,
    patterns: &mut HashMap<String, Regex>,
) -> Result<Condition, Vec<Problem>> {
    if source.len() > MAX_CONDITION {
        return Err(vec![(
            format!("is {} bytes long", source.len()),
            format!("a condition of at most {MAX_CONDITION} bytes"),
        )]);
    }
    let program = env.compile(source).map_err(|errors| {
        let text = errors.to_string().lines().next().unwrap_or_default().to_owned();
        vec![(text, "a condition in CEL, for example: 'patient' in attributes.audience".to_owned())]
    })?;
    let mut checker = Checker { dimensions, patterns, reads: BTreeSet::new(), problems: Vec::new() };
    let result = checker.kind(program.expression());
    if result.is_some_and(|kind| kind != Kind::Bool) {
        checker.problem("is not a condition".to_owned(), "an expression that is true or false");
    }
    let Checker { reads, problems, .. } = checker;
    if problems.is_empty() { Ok(Condition { program, reads: reads.into_iter().collect() }) } else { Err(problems) }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    List(Box<Kind>),
    /// The variable `attributes`: lists of texts by dimension.
    Attributes,
    /// The variable `dimensions`: lists of texts by dimension, one for every declared dimension.
    Dimensions,
    /// The variable `labels`: texts by key.
    Labels,
    /// A variable with fixed fields, all of them texts.
    Fields {
        name: &'static str,
        fields: &'static [&'static str],
    },
}

const QUERY: Kind = Kind::Fields { name: "query", fields: &["text"] };
const CALLER: Kind = Kind::Fields { name: "caller", fields: &["tenant", "tier", "purpose", "priority"] };

struct Checker<'a> {
    dimensions: &'a BTreeMap<String, Dimension>,
    patterns: &'a mut HashMap<String, Regex>,
    reads: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    /// The kind of an expression; `None` when a problem below it was noted already, so that one mistake is told once.
    fn kind(&mut self, expression: &IdedExpr) -> Option<Kind> {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => match name.as_str() {
                "query" => Some(QUERY),
                "caller" => Some(CALLER),
                "attributes" => Some(Kind::Attributes),
                "dimensions" => Some(Kind::Dimensions),
                "labels" => Some(Kind::Labels),
                _ => self.problem(
                    format!("there is no variable {name:?}"),
                    "query.text, attributes, dimensions, labels or caller",
                ),
            },
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let kinds: Vec<_> = list.elements.iter().map(|element| self.kind(element)).collect();
                let kinds: Vec<Kind> = kinds.into_iter().collect::<Option<_>>()?;
                match kinds.split_first() {
                    Some((first, rest)) if rest.iter().all(|kind| kind == first) => {
                        Some(Kind::List(Box::new(first.clone())))
                    }
                    Some(_) => self.problem("a list mixes types".to_owned(), "a list of one type"),
                    None => self.problem("a list is empty".to_owned(), "at least one element, or size(…) == 0"),
                }
            }
            Expr::Comprehension(_) => self.problem(
                "all, exists, exists_one, map and filter are not admitted, since their cost has no bound".to_owned(),
                "a membership test such as 'patient' in attributes.audience",
            ),
            Expr::Map(_) | Expr::Struct(_) => {
                self.problem("map and message literals are not admitted".to_owned(), FUNCTIONS)
            }
            Expr::Unspecified => self.problem("is empty".to_owned(), "a condition in CEL"),
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Option<Kind> {
        match literal {
            LiteralValue::Boolean(_) => Some(Kind::Bool),
            LiteralValue::Int(_) => Some(Kind::Int),
            LiteralValue::UInt(_) => Some(Kind::Uint),
            LiteralValue::Double(_) => Some(Kind::Double),
            LiteralValue::String(_) => Some(Kind::Text),
            LiteralValue::Bytes(_) | LiteralValue::Null => {
                self.problem("bytes and null are not admitted".to_owned(), "texts, numbers and truth values")
            }
        }
    }

    /// `operand.field`, or `has(operand.field)`.
    fn select(&mut self, select: &SelectExpr) -> Option<Kind> {
        let operand = self.kind(&select.operand)?;
        let kind = match operand {
            Kind::Labels => Kind::Text,
            Kind::Attributes => self.dimension(&select.field)?,
            Kind::Dimensions if select.test => {
                return self.problem(
                    "has is always true of dimensions, whose values are an empty list where unknown".to_owned(),
                    format!("size(dimensions.{}) > 0", select.field),
                );
            }
            Kind::Dimensions => self.in_effect(&select.field)?,
            Kind::Fields { fields, .. } if fields.contains(&select.field.as_str()) => Kind::Text,
            Kind::Fields { name, fields } => {
                return self.problem(
                    format!("{name} has no field {:?}", select.field),
                    format!("one of {}", listed(fields.iter().copied())),
                );
            }
            other => {
                return self.problem(
                    format!("{other} has no field {:?}", select.field),
                    "a field of query, attributes, dimensions, labels or caller",
                );
            }
        };
        Some(if select.test { Kind::Bool } else { kind })
    }

    fn dimension(&mut self, name: &str) -> Option<Kind> {
        if self.dimensions.contains_key(name) {
            return Some(Kind::List(Box::new(Kind::Text)));
        }
        let declared = listed(self.dimensions.keys().map(String::as_str));
        self.problem(format!("no dimension is called {name:?}"), format!("a declared dimension: {declared}"))
    }

    /// `dimensions.name`: the rule has to wait until that value is known.
    fn in_effect(&mut self, name: &str) -> Option<Kind> {
        let kind = self.dimension(name)?;
        self.reads.insert(name.to_owned());
        Some(kind)
    }

    fn call(&mut self, call: &CallExpr) -> Option<Kind> {
        let arguments: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let kinds: Vec<_> = arguments.iter().map(|argument| self.kind(argument)).collect();
        let name = call.func_name.as_str();
        if !matches!(
            name,
            operators::CONDITIONAL
                | operators::LOGICAL_AND
                | operators::LOGICAL_OR
                | operators::LOGICAL_NOT
                | operators::EQUALS
                | operators::NOT_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::IN
                | operators::INDEX
                | "size"
                | "contains"
                | "startsWith"
                | "endsWith"
                | "matches"
        ) {
            let shown = name.trim_matches(|c| matches!(c, '_' | '@'));
            return self.problem(format!("{shown} is not admitted"), FUNCTIONS);
        }
        let kinds: Vec<Kind> = kinds.into_iter().collect::<Option<_>>()?;
        let result = match (name, kinds.as_slice()) {
            (operators::LOGICAL_NOT, [Kind::Bool])
            | (operators::LOGICAL_AND | operators::LOGICAL_OR, [Kind::Bool, Kind::Bool])
            | ("contains" | "startsWith" | "endsWith", [Kind::Text, Kind::Text])
            | (operators::IN, [Kind::Text, Kind::Attributes | Kind::Labels]) => Some(Kind::Bool),
            (operators::CONDITIONAL, [Kind::Bool, yes, no]) if yes == no => Some(yes.clone()),
            (operators::EQUALS | operators::NOT_EQUALS, [a, b]) if a == b && a.is_value() => Some(Kind::Bool),
            (operators::GREATER | operators::GREATER_EQUALS | operators::LESS | operators::LESS_EQUALS, [a, b])
                if a == b && a.is_ordered() =>
            {
                Some(Kind::Bool)
            }
            (operators::IN, [element, Kind::List(of)]) if *element == **of => Some(Kind::Bool),
            (operators::INDEX, [Kind::List(of), Kind::Int]) => Some((**of).clone()),
            (operators::INDEX, [Kind::Labels, Kind::Text]) => Some(Kind::Text),
            (operators::INDEX, [Kind::Attributes, Kind::Text]) => match arguments.get(1).and_then(|key| text(key)) {
                Some(key) => return self.dimension(key),
                None => Some(Kind::List(Box::new(Kind::Text))),
            },
            (operators::INDEX, [Kind::Dimensions, Kind::Text]) => match arguments.get(1).and_then(|key| text(key)) {
                Some(key) => return self.in_effect(key),
                // What a rule waits for has to be known before a query comes.
                None => return self.problem("the dimension is not written out".to_owned(), "dimensions.<name>"),
            },
            ("size", [Kind::Text | Kind::List(_) | Kind::Attributes | Kind::Labels]) => Some(Kind::Int),
            ("matches", [Kind::Text, Kind::Text]) => return self.pattern(arguments.get(1).and_then(|p| text(p))),
            _ => None,
        };
        result.or_else(|| {
            let applied = kinds.iter().map(ToString::to_string).collect::<Vec<_>>();
            let shown = name.trim_matches(|c| matches!(c, '_' | '@'));
            self.problem(
                format!("{shown} cannot be applied to {}", listed(applied.iter().map(String::as_str))),
                "operands of fitting types",
            )
        })
    }

    /// Compiles the pattern of `matches` once. A pattern taken from the query would be compiled for each query and
    /// could be chosen by the client, so only a literal will do.
    fn pattern(&mut self, literal: Option<&str>) -> Option<Kind> {
        let Some(pattern) = literal else {
            return self.problem("the pattern of matches is not written out".to_owned(), "a text in quotes");
        };
        if !self.patterns.contains_key(pattern) {
            match RegexBuilder::new(pattern).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build() {
                Ok(regex) => {
                    self.patterns.insert(pattern.to_owned(), regex);
                }
                Err(regex::Error::CompiledTooBig(_)) => {
                    return self
                        .problem("the pattern of matches is too big once compiled".to_owned(), "a smaller pattern");
                }
                Err(_) => {
                    return self.problem(
                        "the pattern of matches is no regular expression".to_owned(),
                        "the syntax of the regex crate, for example (?i)\\bwarfarin\\b",
                    );
                }
            }
        }
        Some(Kind::Bool)
    }

    fn problem(&mut self, problem: String, expected: impl Into<String>) -> Option<Kind> {
        self.problems.push((problem, expected.into()));
        None
    }
}

impl Kind {
    fn is_value(&self) -> bool {
        match self {
            Self::List(of) => of.is_value(),
            other => other.is_ordered() || *other == Self::Bool,
        }
    }

    fn is_ordered(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double | Self::Text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("a truth value"),
            Self::Int | Self::Uint => f.write_str("a whole number"),
            Self::Double => f.write_str("a number"),
            Self::Text => f.write_str("a text"),
            Self::List(_) => f.write_str("a list"),
            Self::Attributes => f.write_str("attributes"),
            Self::Dimensions => f.write_str("dimensions"),
            Self::Labels => f.write_str("labels"),
            Self::Fields { name, .. } => f.write_str(name),
        }
    }
}

fn text(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(literal)) => Some(literal.inner()),
        _ => None,
    }
}
