//! A declared dimension and its classes as an operator writes them: a list of values, or a map from each value to what
//! says how to recognise it.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One axis of routing besides the subject: a partition of all queries, with "unknown" for what cannot be told.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Dimension {
    /// `[clinician, patient]`, or `{clinician: {summary: …, examples: […]}, …}`. Without any summary or example the
    /// dimension is never inferred, only given.
    #[serde(deserialize_with = "classes", serialize_with = "written")]
    pub values: Vec<DimensionClass>,
    /// For people.
    pub summary: String,
    /// Queries of which no value can be told, though they are the mesh's business: what "unknown" looks like here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// A file of labelled queries, one a line, whose values of this dimension are examples like those written out; `null`
    /// is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples: Option<String>,
    /// The probability from which on an inferred value counts, in 0..=1; below, the value is unknown.
    pub min_confidence: f64,
}

/// One value of a dimension and how to recognise it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DimensionClass {
    pub value: String,
    pub summary: String,
    pub examples: Vec<String>,
}

impl Default for Dimension {
    fn default() -> Self {
        Self { values: Vec::new(), summary: String::new(), unknown: Vec::new(), examples: None, min_confidence: 0.5 }
    }
}

impl Dimension {
    /// A dimension of these values that is only given, never inferred.
    pub fn given(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let class = |value: String| DimensionClass { value, ..DimensionClass::default() };
        Self { values: values.into_iter().map(|value| class(value.into())).collect(), ..Self::default() }
    }

    /// The declared values, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|class| class.value.as_str())
    }

    pub fn declares(&self, value: &str) -> bool {
        self.names().any(|declared| declared == value)
    }

    /// Whether there is anything to recognise a value by.
    pub fn is_inferred(&self) -> bool {
        self.values.iter().any(|class| !class.summary.trim().is_empty() || !class.examples.is_empty())
    }

    /// One more example of a value, or of none; nothing where the value is not declared.
    pub fn add_example(&mut self, value: Option<&str>, text: impl Into<String>) -> bool {
        let Some(value) = value else {
            self.unknown.push(text.into());
            return true;
        };
        let class = self.values.iter_mut().find(|class| class.value == value);
        class.map(|class| class.examples.push(text.into())).is_some()
    }
}

/// What stands behind a value in the map.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Description {
    #[serde(skip_serializing_if = "String::is_empty")]
    summary: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<String>,
}

fn classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DimensionClass>, D::Error> {
    struct Classes;

    impl<'de> Visitor<'de> for Classes {
        type Value = Vec<DimensionClass>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of values, or a map from each value to its summary and examples")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut classes = Vec::new();
            while let Some(value) = list.next_element()? {
                classes.push(DimensionClass { value, ..DimensionClass::default() });
            }
            Ok(classes)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut classes = Vec::new();
            // An empty entry (`patient:`) is a value without a description.
            while let Some((value, description)) = map.next_entry::<String, Option<Description>>()? {
                let Description { summary, examples } = description.unwrap_or_default();
                classes.push(DimensionClass { value, summary, examples });
            }
            Ok(classes)
        }
    }

    deserializer.deserialize_any(Classes)
}

fn written<S: Serializer>(classes: &[DimensionClass], serializer: S) -> Result<S::Ok, S::Error> {
    if classes.iter().all(|class| class.summary.is_empty() && class.examples.is_empty()) {
        let mut list = serializer.serialize_seq(Some(classes.len()))?;
        for class in classes {
            list.serialize_element(&class.value)?;
        }
        return list.end();
    }
    let mut map = serializer.serialize_map(Some(classes.len()))?;
    for DimensionClass { value, summary, examples } in classes {
        map.serialize_entry(value, &Description { summary: summary.clone(), examples: examples.clone() })?;
    }
    map.end()
}
