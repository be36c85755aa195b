//! What a metric is called and means. The same constants register it, document it and check it.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
    registry,
};

/// One metric of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What its values count. All but [`Unit::None`] become the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    None,
    Seconds,
    Bytes,
}

impl Described {
    /// Something that only grows. `name` is without the `_total` that the format appends.
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit: Unit::None, labels, help }
    }

    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, unit: Unit::None, labels, help }
    }

    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, unit: Unit::None, labels, help }
    }

    /// `name` is without the unit too.
    #[must_use]
    pub const fn of(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The keys of its labels, in their order.
    pub const fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    pub const fn help(&self) -> &'static str {
        self.help
    }

    /// As it is registered, without unit and suffix.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// What queries call it: with its unit, and `_total` where it is a counter. A histogram has `_bucket`, `_sum` and
    /// `_count` behind that.
    pub fn full_name(&self) -> String {
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        match self.unit {
            Unit::None => format!("{}{total}", self.name),
            unit => format!("{}_{unit}{total}", self.name),
        }
    }

    /// For a collector: begins the metric, which then gets its samples.
    ///
    /// # Errors
    /// What the page's writer says.
    pub fn encode<'a>(&'a self, encoder: &'a mut DescriptorEncoder<'_>) -> Result<MetricEncoder<'a>, fmt::Error> {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        encoder.encode_descriptor(self.name, self.help, self.unit.registered(), kind)
    }
}

impl Unit {
    pub(crate) fn registered(self) -> Option<&'static registry::Unit> {
        match self {
            Self::None => None,
            Self::Seconds => Some(&registry::Unit::Seconds),
            Self::Bytes => Some(&registry::Unit::Bytes),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.registered().map_or("", registry::Unit::as_str))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}
