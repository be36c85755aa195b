//! Which waiting entries run together. Pure: entries in, a plan out, `now` is an argument. The queue acts on it.

use std::sync::Arc;

use tokio::time::Instant;

/// Padding may make a batch this much larger than what was asked for. On a CPU the cost is nearly linear in padded
/// tokens: seven texts of 8 tokens padded to one of 128 took six times as long as the two groups one after the other.
const MAX_PADDING: f64 = 1.25;

/// Lengths up to this share the first bucket.
const FIRST_BUCKET: usize = 8;

/// What the batcher must know of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Rows it brings along the batch axis.
    pub(crate) rows: usize,
    /// Length of each row, in tokens; 1 for a model that knows no tokens.
    pub(crate) length: usize,
    /// Memory that its tensors hold while it waits, strings as ONNX Runtime holds them; 0 for a text.
    pub(crate) bytes: usize,
    /// Entries with equal keys may run together; without one it runs alone.
    pub(crate) group: Option<Arc<[i64]>>,
}

impl Extent {
    /// What it costs by itself, before padding.
    pub(crate) fn units(&self) -> usize {
        self.rows.saturating_mul(self.length)
    }
}

/// How large a batch of several entries may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Padded units.
    pub(crate) units: usize,
    /// Bytes of tensors.
    pub(crate) bytes: usize,
}

/// What to do with the entries, by their keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<K> {
    /// Run these together, the most urgent first. Empty only when all others expired.
    pub(crate) run: Vec<K>,
    /// Nobody can use these any more.
    pub(crate) expired: Vec<K>,
}

/// What a batch looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) requests: usize,
    pub(crate) rows: usize,
    /// 0..1: the share of its units that nobody asked for.
    pub(crate) padded_ratio: f64,
}

impl Shape {
    pub(crate) fn of<'a>(extents: impl Iterator<Item = &'a Extent>) -> Self {
        let (requests, sum) = extents.fold((0, Sum::default()), |(number, sum), extent| (number + 1, sum.with(extent)));
        let padded = sum.rows.saturating_mul(sum.longest);
        // Tensors may have no rows, or more units than can be counted.
        let real = if padded == 0 { 1.0 } else { sum.real as f64 / padded as f64 };
        Self { requests, rows: sum.rows, padded_ratio: (1.0 - real).max(0.0) }
    }
}

/// Forms one batch within `most`.
///
/// `entries` come most urgent first: by deadline, then by arrival. The first that has not expired is the seed, and runs
/// even when it exceeds the budget by itself. The others join in order of urgency if they are of its group and its length
/// bucket and neither the budget nor the padding bound breaks; one that does not fit is passed over, so that a long
/// text does not hold up the short ones behind it.
pub(crate) fn plan<'a, K: Copy + 'a>(
    entries: impl Iterator<Item = (K, Instant, &'a Extent)>,
    most: Most,
    now: Instant,
) -> Plan<K> {
    let mut plan = Plan { run: Vec::new(), expired: Vec::new() };
    let mut batch: Option<(&Extent, Sum)> = None;
    for (key, deadline, extent) in entries {
        if deadline <= now {
            plan.expired.push(key);
            continue;
        }
        let Some((seed, sum)) = &mut batch else {
            plan.run.push(key);
            batch = Some((extent, Sum::default().with(extent)));
            continue;
        };
        // Whatever joins now adds at least one row of the longest length.
        if seed.group.is_none() || sum.longest.saturating_mul(sum.rows + 1) > most.units {
            break;
        }
        let joined = sum.with(extent);
        if seed.group == extent.group && bucket(seed.length) == bucket(extent.length) && joined.fits(most) {
            *sum = joined;
            plan.run.push(key);
        }
    }
    plan
}

/// The lengths 1–8, 9–16, 17–32, … by the last of each.
pub(crate) fn bucket(length: usize) -> usize {
    length.checked_next_power_of_two().unwrap_or(usize::MAX).max(FIRST_BUCKET)
}

/// The buckets that sequences of at most `longest` fall into; the last is `longest` itself.
pub(crate) fn buckets(longest: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(FIRST_BUCKET), |bucket| bucket.checked_mul(2))
        .take_while(move |bucket| *bucket < longest)
        .chain([longest])
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    rows: usize,
    longest: usize,
    real: usize,
    bytes: usize,
}

impl Sum {
    fn with(self, extent: &Extent) -> Self {
        Self {
            rows: self.rows.saturating_add(extent.rows),
            longest: self.longest.max(extent.length),
            real: self.real.saturating_add(extent.units()),
            bytes: self.bytes.saturating_add(extent.bytes),
        }
    }

    fn fits(self, most: Most) -> bool {
        let padded = self.rows.saturating_mul(self.longest);
        padded <= most.units && self.bytes <= most.bytes && padded as f64 <= self.real as f64 * MAX_PADDING
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn text(length: usize) -> Extent {
        Extent { rows: 1, length, bytes: 0, group: Some([].into()) }
    }

    const UNBOUNDED: Most = Most { units: usize::MAX, bytes: usize::MAX };

    /// Plans over entries that are already in order of urgency; keys are their positions.
    fn plan_of(lengths: &[usize], max_units: usize) -> Vec<usize> {
        let now = Instant::now();
        let extents: Vec<_> = lengths.iter().map(|&length| text(length)).collect();
        let entries = extents.iter().enumerate().map(|(at, extent)| (at, now + Duration::from_secs(1), extent));
        plan(entries, Most { units: max_units, ..UNBOUNDED }, now).run
    }

    #[test]
    fn the_seed_takes_the_others_of_its_bucket() {
        assert_eq!(plan_of(&[7, 120, 8, 9, 7], 1024), [0, 2, 4]);
        assert_eq!(plan_of(&[120, 7, 8, 100, 118], 1024), [0, 3, 4]);
    }

    #[test]
    fn padding_is_bounded_within_a_bucket() {
        // 17 and 32 share a bucket, and 2 × 32 padded for 49 real is 1.31.
        assert_eq!(plan_of(&[17, 32, 18], 1024), [0, 2]);
    }

    #[test]
    fn the_budget_is_in_padded_units_and_the_seed_always_runs() {
        assert_eq!(plan_of(&[8, 8, 8, 8], 24), [0, 1, 2]);
        assert_eq!(plan_of(&[300, 300], 256), [0]);
    }

    #[test]
    fn entries_without_a_group_run_alone() {
        let now = Instant::now();
        let alone = Extent { group: None, ..text(1) };
        let entries = [(0, now + Duration::from_secs(1), &alone), (1, now + Duration::from_secs(1), &alone)];
        assert_eq!(plan(entries.into_iter(), UNBOUNDED, now).run, [0]);
    }

    #[test]
    fn a_batch_of_large_tensors_stops_growing() {
        let now = Instant::now();
        let extents = [60, 50, 30, 200, 10].map(|bytes| Extent { bytes, ..text(1) });
        let plan_of = |bytes| {
            let entries = extents.iter().enumerate().map(|(at, extent)| (at, now + Duration::from_secs(1), extent));
            plan(entries, Most { bytes, ..UNBOUNDED }, now).run
        };
        assert_eq!(plan_of(100), [0, 2, 4]);
        assert_eq!(plan_of(10), [0], "the seed always runs");
        assert_eq!(plan_of(350), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn buckets_end_with_the_longest() {
        assert_eq!(buckets(100).collect::<Vec<_>>(), [8, 16, 32, 64, 100]);
        assert_eq!(buckets(64).collect::<Vec<_>>(), [8, 16, 32, 64]);
        assert_eq!(buckets(4).collect::<Vec<_>>(), [4]);
        assert_eq!([1, 8, 9, 16, 17].map(bucket), [8, 8, 16, 16, 32]);
    }

    #[test]
    fn a_batch_knows_how_much_of_it_is_padding() {
        let shape = |extents: &[Extent]| Shape::of(extents.iter());
        assert_eq!(
            shape(&[text(6), text(8), text(8)]),
            Shape { requests: 3, rows: 3, padded_ratio: 1.0 - 22.0 / 24.0 }
        );
        let rows = Extent { rows: 5, ..text(1) };
        assert_eq!(shape(&[rows]), Shape { requests: 1, rows: 5, padded_ratio: 0.0 });
        assert_eq!(shape(&[Extent { rows: 0, ..text(1) }]), Shape { requests: 1, rows: 0, padded_ratio: 0.0 });
        assert!((0.0..=1.0).contains(&shape(&[Extent { rows: usize::MAX, ..text(9) }, text(1)]).padded_ratio));
    }

    fn entries() -> impl Strategy<Value = Vec<(u64, Extent)>> {
        let fields = (1usize..4, 1usize..300, 0usize..1000, prop::option::of(0i64..3));
        let extent = fields.prop_map(|(rows, length, bytes, group)| Extent {
            rows,
            length,
            bytes,
            group: group.map(|key| [key].into()),
        });
        prop::collection::vec((0u64..100, extent), 0..40)
    }

    proptest! {
        #[test]
        fn a_plan_keeps_every_bound(
            mut entries in entries(),
            units in 1usize..2048,
            bytes in 0usize..4096,
            now in 0u64..100,
        ) {
            let epoch = Instant::now();
            let at = |millis| epoch + Duration::from_millis(millis);
            entries.sort_by_key(|(deadline, _)| *deadline);
            let keyed = entries.iter().enumerate().map(|(key, (deadline, extent))| (key, at(*deadline), extent));
            let plan = plan(keyed, Most { units, bytes }, at(now));

            // No entry is in it twice, and none both runs and expires.
            let named: BTreeSet<_> = plan.run.iter().chain(&plan.expired).collect();
            prop_assert_eq!(named.len(), plan.run.len() + plan.expired.len());
            // Nothing that can still be used is dropped, nothing expired runs.
            prop_assert!(plan.expired.iter().all(|key| entries[*key].0 <= now));
            prop_assert!(plan.run.iter().all(|key| entries[*key].0 > now));
            // Something runs whenever something can, and the seed is the most urgent.
            let first_alive = entries.iter().position(|(deadline, _)| *deadline > now);
            prop_assert_eq!(plan.run.first().copied(), first_alive);
            // The others keep to group, bucket, budget and padding.
            if let [seed, _, ..] = plan.run[..] {
                let seed = &entries[seed].1;
                let batch: Vec<_> = plan.run.iter().map(|key| &entries[*key].1).collect();
                let longest = batch.iter().map(|extent| extent.length).max().unwrap();
                let padded = longest * batch.iter().map(|extent| extent.rows).sum::<usize>();
                let real: usize = batch.iter().map(|extent| extent.units()).sum();
                prop_assert!(seed.group.is_some() && batch.iter().all(|extent| extent.group == seed.group));
                prop_assert!(batch.iter().all(|extent| bucket(extent.length) == bucket(seed.length)));
                prop_assert!(padded <= units, "{} over {}", padded, units);
                prop_assert!(batch.iter().map(|extent| extent.bytes).sum::<usize>() <= bytes);
                prop_assert!(padded as f64 <= 1.25 * real as f64, "{} padded for {}", padded, real);
            }
        }
    }
}
