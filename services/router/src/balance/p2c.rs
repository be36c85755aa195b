//! The power of two choices: of two candidates drawn at random the one with the lower load is picked, which keeps the
//! largest load near ln ln n without anybody looking at everybody (Mitzenmacher, 2001). Pure: the draw is an argument.

/// Loads this close are the same: which of them is a little lower is noise, and whoever is always a little higher would
/// never be picked while there is little to do.
const TIE: f64 = 1.25;

/// Picks an index below `loads.len()`; `draw` gives a number below its argument.
pub(crate) fn pick(loads: &[f64], mut draw: impl FnMut(usize) -> usize) -> Option<usize> {
    match loads.len() {
        0 => None,
        1 => Some(0),
        n => {
            let first = draw(n);
            // The second is drawn from the others, so that the two always differ.
            let second = (first + 1 + draw(n - 1)) % n;
            let (a, b) = (loads.get(first)?, loads.get(second)?);
            // The first was drawn at random, so ties are broken at random.
            Some(if *a <= b * TIE { first } else { second })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_and_one() {
        assert_eq!(pick(&[], |_| 0), None);
        assert_eq!(pick(&[7.0], |_| panic!("nothing to draw")), Some(0));
    }

    proptest! {
        #[test]
        fn never_much_worse_than_every_other(loads in prop::collection::vec(0.0..1e6_f64, 2..32), a: usize, b: usize) {
            let mut draws = [a, b].into_iter();
            let picked = pick(&loads, |n| draws.next().unwrap_or(0) % n).expect("there are candidates");
            let others = loads.iter().enumerate().filter(|(at, _)| *at != picked);
            let no_better = others.filter(|(_, load)| loads[picked] <= **load * TIE).count();
            prop_assert!(no_better >= 1, "the pick beats or ties with another candidate");
        }
    }

    #[test]
    fn ties_go_either_way_and_differences_do_not() {
        for (loads, first) in [([1.0, 1.2], [0, 1]), ([1.0, 2.0], [0, 0])] {
            let picked = [0, 1].map(|draw| pick(&loads, |n| draw % n));
            assert_eq!(picked, first.map(Some), "{loads:?}");
        }
    }
}
