//! The power of two choices: of two candidates drawn at random the one with the lower load is picked, which keeps the
//! largest load near ln ln n without anybody looking at everybody (Mitzenmacher, 2001). Pure: the draw is an argument.

/// Loads this close are the same: which of them is a little lower is noise, and whoever is always a little higher would
/// never be picked while there is little to do.
const TIE: f64 = 1.2;

/// Draws two different indices below `n`, or the only one twice; `draw` gives a number below its argument.
pub(crate) fn two(n: usize, mut draw: impl FnMut(usize) -> usize) -> Option<(usize, usize)> {
    match n {
        0 => None,
        1 => Some((0, 0)),
        n => {
            let first = draw(n);
            // The second is drawn from the others, so that the two always differ.
            Some((first, (first + 1 + draw(n - 1)) % n))
        }
    }
}

/// Whether the first of two that were drawn is picked. As it was drawn at random, ties are broken at random.
pub(crate) fn first_wins(first: f64, second: f64) -> bool {
    first <= second * TIE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_and_one() {
        assert_eq!(two(0, |_| panic!("nothing to draw")), None);
        assert_eq!(two(1, |_| panic!("nothing to draw")), Some((0, 0)));
    }

    proptest! {
        #[test]
        fn two_that_differ(n in 2_usize..1000, a: usize, b: usize) {
            let mut draws = [a, b].into_iter();
            let (first, second) = two(n, |below| draws.next().unwrap_or(0) % below).expect("there are some");
            prop_assert!(first != second && first < n && second < n);
        }

        #[test]
        fn a_difference_decides_whoever_was_drawn_first(a in 0.0..1e6_f64, b in 0.0..1e6_f64) {
            prop_assume!(a > b * TIE);
            prop_assert!(!first_wins(a, b) && first_wins(b, a));
        }
    }

    #[test]
    fn a_tie_goes_to_whoever_was_drawn_first() {
        assert!(first_wins(1.1, 1.0) && first_wins(1.0, 1.1) && first_wins(0.0, 0.0));
    }
}
