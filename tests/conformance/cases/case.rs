//! `cases.yaml`, read: what is asked in each case, with what, and what has to come. Expands a case into what the clients'
//! drivers read. How clients are started and what they said is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{drivers, expect::Expected};

/// How long a call may take that says nothing of time. Generous: a busy machine is not what most cases are about.
const DEADLINE: Duration = Duration::from_secs(8);

/// One case, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) call: Call,
    #[serde(default)]
    text: Text,
    /// One or more values by dimension.
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// As in protobuf's JSON.
    #[serde(default)]
    parts: Vec<Value>,
    #[serde(default)]
    turns: Vec<Turn>,
    #[serde(default)]
    pub(crate) context: Context,
    #[serde(default)]
    pub(crate) options: Options,
    /// As in `300ms`.
    #[serde(default)]
    deadline: Option<String>,
    /// For feedback: what is said of the answer.
    #[serde(default)]
    pub(crate) metrics: BTreeMap<String, Value>,
    /// For feedback that does not ask first.
    #[serde(default)]
    pub(crate) token: Option<String>,
    /// For feedback on the answer of another case: its name. Such a case runs in a second process of the client.
    #[serde(default)]
    pub(crate) token_of: Option<String>,
    /// Clients that cannot say this, and why.
    #[serde(default)]
    pub(crate) except: BTreeMap<String, String>,
    pub(crate) expect: Expected,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    #[default]
    Ask,
    Explain,
    Stream,
    Feedback,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    /// A text over and over, cut at so many bytes.
    Long {
        repeat: String,
        bytes: usize,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: String,
    text: String,
}

/// `CallContext`, without its priority: that of the options says the same.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Context {
    pub(crate) request_id: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) tier: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) purpose: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    pub(crate) top_k: Option<u32>,
    pub(crate) min_confidence: Option<f64>,
    pub(crate) experts: Vec<String>,
    pub(crate) versions: BTreeMap<String, String>,
    /// `best` or `all`
    pub(crate) combine: Option<String>,
    /// `critical`, `interactive`, `batch` or `background`
    pub(crate) priority: Option<String>,
}

/// Reads the cases.
///
/// # Panics
/// When they are wrong, with all that is wrong.
pub(crate) fn load(file: &Path) -> Vec<Case> {
    let text = fs::read_to_string(file).expect("the cases can be read");
    let cases: Vec<Case> = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mistakes = mistakes(&cases);
    assert!(mistakes.is_empty(), "{}:\n{}", file.display(), mistakes.join("\n"));
    cases
}

/// What no reader can see from one case alone, or from its types.
pub(crate) fn mistakes(cases: &[Case]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut names = BTreeSet::new();
    for case in cases {
        let mut wrong = |what: String| mistakes.push(format!("{}: {what}", case.name));
        case.expect.mistakes().into_iter().for_each(&mut wrong);
        for client in case.except.keys().filter(|client| drivers::CLIENTS.iter().all(|known| known.name != **client)) {
            wrong(format!("there is no client called {client}"));
        }
        if let Some(before) = &case.token_of
            && !names.contains(before)
        {
            wrong(format!("no case before it is called {before}"));
        }
        if case.call != Call::Feedback && (case.token.is_some() || case.token_of.is_some()) {
            wrong("a token is for feedback".to_owned());
        }
        if case.expect.expects("accepted") && !(case.expect.expects("journal") && case.request_id(cases).is_some()) {
            wrong("what is accepted is written down: it needs a request id, and expects a journal".to_owned());
        }
        if case.except.len() == drivers::CLIENTS.len() {
            wrong("nobody runs it".to_owned());
        }
        if !names.insert(case.name.clone()) {
            wrong("there are two of this name".to_owned());
        }
    }
    mistakes
}

impl Case {
    pub(crate) fn text(&self) -> String {
        self.text.whole()
    }

    /// That of the answer that is spoken of, where that is another case's among `cases`.
    pub(crate) fn request_id<'a>(&'a self, cases: &'a [Case]) -> Option<&'a str> {
        let before = |name: &String| cases.iter().find(|case| case.name == *name);
        let asked = self.token_of.as_ref().map_or(Some(self), before)?;
        asked.context.request_id.as_deref()
    }

    pub(crate) fn deadline(&self) -> Duration {
        let read = |text: &String| {
            let millis = text.strip_suffix("ms").and_then(|number| number.parse().ok());
            Duration::from_millis(millis.unwrap_or_else(|| panic!("{}: a deadline is written as 300ms", self.name)))
        };
        self.deadline.as_ref().map_or(DEADLINE, read)
    }

    /// The case as drivers read it, where `token` is the one that this case needs of another.
    pub(crate) fn expanded(&self, token: Option<&str>) -> Value {
        let call = match self.call {
            Call::Ask => "ask",
            Call::Explain => "explain",
            Call::Stream => "stream",
            Call::Feedback => "feedback",
        };
        let mut case = Map::new();
        case.insert("name".to_owned(), json!(self.name));
        case.insert("call".to_owned(), json!(call));
        case.insert("deadline_s".to_owned(), json!(self.deadline().as_secs_f64()));
        let mut request = Map::new();
        request.insert("query".to_owned(), self.query());
        for (name, part) in [("context", self.context.message()), ("options", self.options.message())] {
            if !part.is_empty() {
                request.insert(name.to_owned(), Value::Object(part));
            }
        }
        case.insert("request".to_owned(), Value::Object(request));
        if self.call == Call::Feedback {
            case.insert("metrics".to_owned(), json!(self.metrics));
            if let Some(token) = token.or(self.token.as_deref()) {
                case.insert("token".to_owned(), json!(token));
            }
        }
        Value::Object(case)
    }

    fn query(&self) -> Value {
        let mut query = Map::new();
        query.insert("text".to_owned(), json!(self.text()));
        if !self.attributes.is_empty() {
            let values = |values: &OneOrMore| json!({ "values": values.all() });
            let attributes: Map<_, _> = self.attributes.iter().map(|(name, it)| (name.clone(), values(it))).collect();
            query.insert("attributes".to_owned(), Value::Object(attributes));
        }
        if !self.labels.is_empty() {
            query.insert("labels".to_owned(), json!(self.labels));
        }
        if !self.parts.is_empty() {
            query.insert("parts".to_owned(), json!(self.parts));
        }
        if !self.turns.is_empty() {
            let turn = |turn: &Turn| json!({"role": word("ROLE", &turn.role), "text": turn.text});
            query.insert("context".to_owned(), self.turns.iter().map(turn).collect());
        }
        Value::Object(query)
    }
}

impl Text {
    fn whole(&self) -> String {
        match self {
            Text::Plain(text) => text.clone(),
            Text::Long { repeat, bytes } => repeat
                .chars()
                .cycle()
                .scan(0, |length, next| {
                    *length += next.len_utf8();
                    (*length <= *bytes).then_some(next)
                })
                .collect(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::Plain(String::new())
    }
}

impl OneOrMore {
    pub(crate) fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(all) => all,
        }
    }
}

impl Context {
    fn message(&self) -> Map<String, Value> {
        let facts = [
            ("requestId", &self.request_id),
            ("tenant", &self.tenant),
            ("tier", &self.tier),
            ("subject", &self.subject),
            ("purpose", &self.purpose),
        ];
        facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), json!(fact.as_ref()?)))).collect()
    }
}

impl Options {
    fn message(&self) -> Map<String, Value> {
        let mut message = Map::new();
        let mut said = |name: &str, value: Option<Value>| {
            message.extend(value.map(|value| (name.to_owned(), value)));
        };
        said("topK", self.top_k.map(Value::from));
        said("minConfidence", self.min_confidence.map(Value::from));
        said("experts", (!self.experts.is_empty()).then(|| json!(self.experts)));
        said("versions", (!self.versions.is_empty()).then(|| json!(self.versions)));
        said("combine", self.combine.as_ref().map(|it| word("COMBINE", it)));
        said("priority", self.priority.as_ref().map(|it| word("PRIORITY", it)));
        message
    }
}

/// A value of an enum, as protobuf's JSON writes it.
fn word(kind: &str, value: &str) -> Value {
    json!(format!("{kind}_{}", value.to_ascii_uppercase()))
}

/// Shows that cases become what drivers read, and that mistakes in them are found.
pub(crate) mod checks {
    use serde_json::{Value, json};

    use super::{Case, mistakes};

    fn case(value: Value) -> Case {
        serde_json::from_value(value).expect("it is a case")
    }

    pub(crate) fn a_case_becomes_what_drivers_read() {
        let written = case(json!({
            "name": "n",
            "call": "feedback",
            "text": {"repeat": "aé", "bytes": 5},
            "attributes": {"audience": "patient", "place": ["a", "b"]},
            "turns": [{"role": "user", "text": "t"}],
            "context": {"request_id": "r"},
            "options": {"top_k": 0, "versions": {"labs": "1"}, "combine": "all", "priority": "batch"},
            "deadline": "300ms",
            "metrics": {"helpful": true},
            "token": "mine",
            "expect": {"accepted": true},
        }));
        let expected = json!({
            "name": "n",
            "call": "feedback",
            "deadline_s": 0.3,
            "request": {
                "query": {
                    // Cut between two characters.
                    "text": "aéa",
                    "attributes": {"audience": {"values": ["patient"]}, "place": {"values": ["a", "b"]}},
                    "context": [{"role": "ROLE_USER", "text": "t"}],
                },
                "context": {"requestId": "r"},
                // What is said stays said, at its default too.
                "options": {
                    "topK": 0,
                    "versions": {"labs": "1"},
                    "combine": "COMBINE_ALL",
                    "priority": "PRIORITY_BATCH",
                },
            },
            "metrics": {"helpful": true},
            "token": "mine",
        });
        assert_eq!(written.expanded(None), expected);
        assert_eq!(written.expanded(Some("theirs"))["token"], "theirs");
        let least = case(json!({"name": "n", "text": "t", "expect": {"token": true}})).expanded(None);
        let expected = json!({"name": "n", "call": "ask", "deadline_s": 8.0, "request": {"query": {"text": "t"}}});
        assert_eq!(least, expected);
    }

    pub(crate) fn mistakes_in_cases_are_found() {
        let with = |more: Value| {
            let mut written = json!({"name": "n", "expect": {"token": true}});
            let fields = written.as_object_mut().zip(more.as_object().cloned()).expect("they are objects");
            fields.0.extend(fields.1);
            case(written)
        };
        let found = |cases: &[Case]| mistakes(cases);
        assert_eq!(found(&[with(json!({}))]), [""; 0]);
        assert_eq!(found(&[with(json!({})), with(json!({}))]), ["n: there are two of this name"]);
        assert_eq!(found(&[with(json!({"except": {"perl": "why"}}))]), ["n: there is no client called perl"]);
        let follows = with(json!({"call": "feedback", "token_of": "m"}));
        assert_eq!(found(&[follows]), ["n: no case before it is called m"]);
        let accepted =
            |more: Value| found(&[with(json!({"call": "feedback", "expect": more, "context": {"request_id": "r"}}))]);
        assert_eq!(accepted(json!({"accepted": true})).len(), 1);
        assert_eq!(accepted(json!({"accepted": true, "journal": {}})), [""; 0]);
        let nameless = with(json!({"call": "feedback", "expect": {"accepted": true, "journal": {}}}));
        assert_eq!(found(&[nameless]).len(), 1);
        assert_eq!(found(&[with(json!({"token": "t"}))]), ["n: a token is for feedback"]);
        assert_eq!(found(&[with(json!({"expect": {"tokens": 1}}))]), ["n: nobody tells a fact called tokens"]);
        let unknown = serde_json::from_value::<Case>(json!({"name": "n", "expcet": {}, "expect": {}}));
        assert!(unknown.is_err(), "a key that there is not was taken");
    }
}
