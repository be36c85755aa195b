//! What is known of a query's dimensions: given beats inferred, and below its bar an inferred value is unknown. Pure.

use std::sync::Arc;

use crate::classifier::Reading;
use crate::decision::{DimensionReading, DimensionValue, SHOWN_VALUES, Source};
use crate::knowledge::Axis;
use crate::query::Query;
use crate::rules::Known;

impl Axis {
    /// The values that the caller gave, if any.
    pub(crate) fn given(&self, query: &Query) -> Option<DimensionReading> {
        let values = query.attributes.get(&*self.name).filter(|values| !values.is_empty())?;
        // What is declared is shared; what is not was let through by the edge and is the edge's to answer for.
        let declared = |value: &String| self.values.iter().find(|known| ***known == **value).cloned();
        let value = |value: &String| declared(value).unwrap_or_else(|| value.as_str().into());
        let values = values.iter().map(|given| DimensionValue { value: value(given), probability: 1.0 }).collect();
        Some(DimensionReading { name: Arc::clone(&self.name), values, source: Source::Given })
    }

    /// What a reading says: the best value where it clears the bar, else that the value is unknown.
    pub(crate) fn inferred(&self, reading: &Reading) -> DimensionReading {
        let probability = |at: usize| (1.0 - reading.nobody) * reading.known.get(at).copied().unwrap_or_default();
        let mut values: Vec<DimensionValue> = self
            .values
            .iter()
            .enumerate()
            .map(|(at, value)| DimensionValue { value: Arc::clone(value), probability: probability(at) })
            .collect();
        values.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        values.truncate(SHOWN_VALUES);
        let is_clear = values.first().is_some_and(|best| best.probability >= self.min_confidence);
        let source = if is_clear { Source::Inferred } else { Source::Unknown };
        DimensionReading { name: Arc::clone(&self.name), values, source }
    }

    /// Why experts that do not serve the values in effect may not answer, and which those are. Several given values are
    /// alternatives: one that is served is enough.
    pub(crate) fn unserved(&self, reading: &DimensionReading) -> Option<(Arc<str>, Vec<usize>)> {
        let values = reading.in_effect();
        let classes: Vec<usize> =
            values.iter().filter_map(|value| self.values.iter().position(|known| *known == value.value)).collect();
        let (first, rest) = classes.split_first()?;
        let serves_none = |expert: &usize| rest.iter().all(|&value| self.unserved[value].binary_search(expert).is_ok());
        let experts: Vec<usize> = self.unserved[*first].iter().copied().filter(serves_none).collect();
        if experts.is_empty() {
            return None;
        }
        let shown = values.iter().map(|value| &*value.value).collect::<Vec<_>>().join(" or ");
        let how = match (reading.source, values.first()) {
            (Source::Inferred, Some(value)) => format!(" (inferred, {:.2})", value.probability),
            _ => String::new(),
        };
        Some((format!("does not serve {}={shown}{how}", self.name).into(), experts))
    }
}

/// The values in effect, for rules: an empty list where none is. Before the query is `read`, what could still be read in
/// it is left out.
pub(crate) fn known(axes: &[Axis], readings: &[DimensionReading], read: bool) -> Known {
    let mut known = Known::new();
    for axis in axes {
        let values = match readings.iter().find(|reading| reading.name == axis.name) {
            Some(reading) => reading.in_effect().iter().map(|value| Arc::clone(&value.value)).collect(),
            None if read || axis.classifiers.is_none() => Vec::new(),
            None => continue,
        };
        known.insert(axis.name.to_string(), values);
    }
    known
}
