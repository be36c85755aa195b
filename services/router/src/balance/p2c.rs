//! The power of two choices: of two candidates drawn at random the one with the lower load is picked, which keeps the
//! largest load near ln ln n without anybody looking at everybody (Mitzenmacher, 2001). Pure: the draw is an argument.

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
            Some(if a <= b { first } else { second })
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
        fn never_the_worst_of_two_or_more(loads in prop::collection::vec(0.0..1e6_f64, 2..32), a: usize, b: usize) {
            let mut draws = [a, b].into_iter();
            let picked = pick(&loads, |n| draws.next().unwrap_or(0) % n).expect("there are candidates");
            let worse_or_equal = loads.iter().filter(|load| **load >= loads[picked]).count();
            prop_assert!(worse_or_equal >= 2, "the pick beats or equals another candidate");
        }
    }
}
