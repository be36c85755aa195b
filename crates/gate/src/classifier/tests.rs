//! The classifier as a whole, on made-up classes: each is a direction with some spread, and a few words of its own.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::encoder::Encoded;
use crate::signals::{Signals, lexical};
use crate::vector::unit;

const WIDTH: usize = 24;
const WORDS: [&str; 8] = [
    "tablet dose pharmacy",
    "invoice refund card",
    "flight hotel luggage",
    "garden roses soil",
    "court appeal judge",
    "engine brakes tyres",
    "violin concert opera",
    "glacier volcano reef",
];

/// Numbers between -1 and 1 that only depend on the seed.
fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / f32::from(u16::MAX) / 128.0 - 1.0
    })
}

/// A text near direction `theme`, spread out by `spread`; themes from 8 on have no words in common with the classes.
fn text(theme: usize, seed: u64, spread: f32) -> Signals {
    let mut values: Vec<f32> = noise(seed * 64 + theme as u64 + 1).take(WIDTH).map(|value| value * spread).collect();
    values[theme % WIDTH] += 1.0;
    let words = WORDS.get(theme).map_or_else(
        || format!("foreign{theme} thing{seed}"),
        |words| {
            let words: Vec<&str> = words.split(' ').collect();
            format!("please {} number{seed}", words[seed as usize % words.len()])
        },
    );
    Signals::new(unit(values).unwrap(), Arc::new(lexical(&words)))
}

fn class(theme: usize, examples: u64, spread: f32) -> Class {
    let card = Signals { lexical: Arc::new(lexical(WORDS[theme])), ..text(theme, 9999, 0.1) };
    Class { card, examples: (0..examples).map(|seed| text(theme, seed, spread)).collect() }
}

fn corpus(classes: usize, examples: u64) -> Corpus {
    Corpus {
        classes: (0..classes).map(|theme| class(theme, examples, 0.4)).collect(),
        background: (0..120).map(|seed| text(8 + seed as usize % 14, seed, 0.4)).collect(),
        held_out: Vec::new(),
    }
}

fn best(reading: &Reading) -> usize {
    (0..reading.known.len()).max_by(|&a, &b| reading.known[a].total_cmp(&reading.known[b])).unwrap()
}

fn share(texts: impl Iterator<Item = bool>) -> f64 {
    let texts: Vec<bool> = texts.collect();
    texts.iter().filter(|right| **right).count() as f64 / texts.len() as f64
}

#[test]
fn classes_are_told_apart_and_foreign_text_is_nobodys() {
    let classifier = Classifier::fit(&corpus(5, 30));
    assert!(classifier.calibrated());
    for theme in 0..5 {
        let right = share((100..140).map(|seed| {
            let reading = classifier.read(&text(theme, seed, 0.4));
            best(&reading) == theme && reading.nobody < 0.5
        }));
        assert!(right > 0.9, "{theme}: {right}");
    }
    let refused = share((200..280).map(|seed| classifier.read(&text(8 + seed as usize % 14, seed, 0.4)).nobody > 0.5));
    assert!(refused > 0.9, "{refused}");
}

#[test]
fn a_glance_tells_most_of_them_apart() {
    let classifier = Classifier::glance(&corpus(5, 30));
    assert!(classifier.calibrated());
    let right = share((100..200).map(|seed| {
        let reading = classifier.read(&text(seed as usize % 5, seed, 0.4));
        assert!(reading.closest.iter().all(Option::is_none));
        best(&reading) == seed as usize % 5 && reading.nobody < 0.5
    }));
    assert!(right > 0.85, "{right}");
}

#[test]
fn the_same_corpus_gives_the_same_classifier() {
    let (one, other) = (Classifier::fit(&corpus(4, 12)), Classifier::fit(&corpus(4, 12)));
    for seed in 0..20 {
        let signals = text(seed as usize % 10, 500 + seed, 0.5);
        let (a, b) = (one.read(&signals), other.read(&signals));
        assert_eq!((a.known, a.nobody.to_bits(), a.closest), (b.known, b.nobody.to_bits(), b.closest));
    }
}

#[test]
fn a_class_with_a_card_alone_is_found() {
    let mut corpus = corpus(4, 20);
    corpus.classes.push(class(4, 0, 0.0));
    let classifier = Classifier::fit(&corpus);
    let found = share((0..40).map(|seed| best(&classifier.read(&text(4, seed, 0.3))) == 4));
    assert!(found > 0.9, "{found}");
    let others = share((0..40).map(|seed| best(&classifier.read(&text(seed as usize % 4, 300 + seed, 0.4))) != 4));
    assert!(others > 0.9, "{others}");
    assert_eq!(classifier.read(&text(4, 1, 0.3)).closest[4], None);
}

#[test]
fn a_mesh_of_cards_alone_works() {
    let mut corpus = corpus(6, 0);
    for background in [corpus.background.clone(), Vec::new()] {
        corpus.background = background;
        let classifier = Classifier::fit(&corpus);
        assert!(!classifier.calibrated());
        let right =
            share((0..60).map(|seed| best(&classifier.read(&text(seed as usize % 6, seed, 0.2))) == seed as usize % 6));
        assert!(right > 0.9, "{right}");
    }
}

#[test]
fn few_examples_hold_their_own_beside_many() {
    let mut corpus = corpus(3, 200);
    corpus.classes.push(class(3, 4, 0.4));
    let classifier = Classifier::fit(&corpus);
    let found = share((300..340).map(|seed| best(&classifier.read(&text(3, seed, 0.4))) == 3));
    assert!(found > 0.85, "{found}");
}

#[test]
fn the_closest_example_is_named() {
    let corpus = corpus(3, 15);
    let classifier = Classifier::fit(&corpus);
    let reading = classifier.read(&corpus.classes[1].examples[7]);
    let (at, cosine) = reading.closest[1].unwrap();
    assert_eq!(at, 7);
    assert!((cosine - 1.0).abs() < 0.02, "{cosine}");
}

#[test]
fn little_to_go_by_is_never_called_calibrated() {
    assert!(!Classifier::fit(&corpus(3, 6)).calibrated());
    let mut no_background = corpus(5, 40);
    no_background.background.clear();
    assert!(!Classifier::fit(&no_background).calibrated());
    assert!(!Classifier::fit(&Corpus::default()).calibrated());
}

#[test]
fn odd_corpora_fit_and_read() {
    let empty = Signals::default();
    let bare = Class { card: empty.clone(), examples: vec![empty.clone(); 3] };
    let one = Corpus { classes: vec![class(0, 1, 0.3)], ..Corpus::default() };
    let lone = Corpus { classes: vec![class(0, 30, 0.3)], ..corpus(1, 30) };
    let same = Corpus { classes: vec![class(0, 10, 0.0), class(0, 10, 0.0)], ..Corpus::default() };
    let mixed =
        Corpus { classes: vec![class(0, 5, 0.3), bare.clone()], background: vec![empty.clone()], ..Corpus::default() };
    let nothing = Corpus { classes: vec![bare.clone(), bare], background: vec![empty.clone(); 3], ..Corpus::default() };
    for corpus in [one, lone, same, mixed, nothing] {
        let classifier = Classifier::fit(&corpus);
        for signals in [&empty, &text(0, 3, 0.3), &text(20, 3, 0.3)] {
            let reading = classifier.read(signals);
            assert!((reading.known.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", reading.known);
            assert!((0.0..=1.0).contains(&reading.nobody));
        }
    }
    let none = Classifier::fit(&Corpus::default()).read(&text(0, 1, 0.3));
    assert!(none.known.is_empty() && none.nobody >= 1.0);
}

/// What the encoder says beside a vector that is the same for all texts.
#[test]
fn features_beside_the_vector_are_learned_from() {
    let blurred = |theme: usize, seed: u64| {
        let features = text(theme, seed, 0.4).vector.to_vec();
        Signals::encoded(Encoded { features, ..vec![1.0, 2.0].into() }).unwrap()
    };
    let class =
        |theme| Class { card: blurred(theme, 9999), examples: (0..30).map(|seed| blurred(theme, seed)).collect() };
    let background = (0..120).map(|seed| blurred(8 + seed as usize % 14, seed)).collect();
    let corpus = Corpus { classes: (0..4).map(class).collect(), background, held_out: Vec::new() };
    let classifier = Classifier::fit(&corpus);
    let right =
        share((0..40).map(|seed| best(&classifier.read(&blurred(seed as usize % 4, 400 + seed))) == seed as usize % 4));
    assert!(right > 0.9, "{right}");
}

#[test]
fn without_vectors_the_words_decide() {
    let mut corpus = corpus(4, 20);
    let bare = |signals: &mut Signals| *signals = Signals::new(Arc::default(), Arc::clone(&signals.lexical));
    for class in &mut corpus.classes {
        bare(&mut class.card);
        class.examples.iter_mut().for_each(bare);
    }
    corpus.background.iter_mut().for_each(bare);
    let classifier = Classifier::fit(&corpus);
    let right = share((0..40).map(|seed| {
        let mut signals = text(seed as usize % 4, 400 + seed, 0.4);
        bare(&mut signals);
        best(&classifier.read(&signals)) == seed as usize % 4
    }));
    assert!(right > 0.9, "{right}");
}

#[test]
fn of_many_classes_those_ruled_out_keep_a_little() {
    let classes = (0..40).map(|at| {
        let card = text(at % 24, at as u64, 0.2);
        Class { examples: (0..3).map(|seed| text(at % 24, 100 * at as u64 + seed, 0.2)).collect(), card }
    });
    let classifier = Classifier::fit(&Corpus { classes: classes.collect(), ..Corpus::default() });
    let reading = classifier.read(&text(2, 7777, 0.2));
    assert_eq!(reading.known.len(), 40);
    assert!(reading.known.iter().all(|p| *p > 0.0) && (reading.known.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(reading.closest.iter().filter(|closest| closest.is_some()).count() <= 16);
}

#[test]
fn held_out_predictions_stand_in_the_order_of_the_texts() {
    let mut corpus = corpus(3, 10);
    let classifier = Classifier::fit(&corpus);
    let truths: Vec<Option<usize>> = classifier.held_out().iter().map(|prediction| prediction.truth).collect();
    let expected: Vec<Option<usize>> =
        (0..3).flat_map(|class| [Some(class); 10]).chain(std::iter::repeat_n(None, 120)).collect();
    assert_eq!(truths, expected);
    corpus.held_out = vec![(text(2, 900, 0.4), Some(2)), (text(11, 901, 0.4), None), (text(0, 902, 0.4), Some(0))];
    let truths: Vec<Option<usize>> =
        Classifier::fit(&corpus).held_out().iter().map(|prediction| prediction.truth).collect();
    assert_eq!(truths, [Some(2), None, Some(0)]);
}

/// Two classes whose texts overlap so that a share of them cannot be told apart by anybody: confidence has to say so.
#[test]
fn confidence_is_the_share_that_is_right() {
    let spread = 1.6;
    let corpus = Corpus {
        classes: (0..2).map(|theme| class_without_words(theme, 300, spread)).collect(),
        background: (0..200).map(|seed| without_words(text(8 + seed as usize % 14, seed, 0.8))).collect(),
        held_out: Vec::new(),
    };
    let classifier = Classifier::fit(&corpus);
    let (mut claimed, mut right, mut sure, mut sure_and_right) = (0.0, 0.0, 0.0, 0.0);
    let texts = 1500;
    for seed in 0..texts {
        let theme = seed as usize % 2;
        let reading = classifier.read(&without_words(text(theme, 10_000 + seed, spread)));
        let p = reading.known[best(&reading)];
        let is_right = f64::from(u8::from(best(&reading) == theme));
        claimed += p;
        right += is_right;
        if p > 0.9 {
            sure += p;
            sure_and_right += is_right;
        }
    }
    let texts = texts as f64;
    assert!(right / texts < 0.97, "the classes do not overlap: {}", right / texts);
    assert!((claimed - right).abs() / texts < 0.04, "claimed {} right {}", claimed / texts, right / texts);
    assert!(sure > 0.0 && (sure_and_right / sure - 1.0).abs() < 0.05, "{sure_and_right} of {sure}");
}

fn without_words(signals: Signals) -> Signals {
    Signals { lexical: Arc::default(), ..signals }
}

fn class_without_words(theme: usize, examples: u64, spread: f32) -> Class {
    let Class { card, examples } = class(theme, examples, spread);
    Class { card: without_words(card), examples: examples.into_iter().map(without_words).collect() }
}

#[test]
fn labelled_queries_correct_what_the_examples_promise() {
    // Live texts are far more spread out than the examples, and a third of them is for nobody.
    let mut corpus = corpus(4, 40);
    let live = |seed: u64| {
        let nobody = seed.is_multiple_of(3);
        let theme = if nobody { 8 + seed as usize % 14 } else { seed as usize % 4 };
        (text(theme, 5000 + seed, 1.2), (!nobody).then_some(theme))
    };
    let error = |classifier: &Classifier| {
        let gaps = (1000..1600).map(live).map(|(signals, truth)| {
            let reading = classifier.read(&signals);
            let best = best(&reading);
            (1.0 - reading.nobody) * reading.known[best] - f64::from(u8::from(truth == Some(best)))
        });
        (gaps.sum::<f64>() / 600.0).abs()
    };
    let before = error(&Classifier::fit(&corpus));
    corpus.held_out = (0..300).map(live).collect();
    let after = Classifier::fit(&corpus);
    assert!(after.calibrated());
    assert!(error(&after) < 0.05 && error(&after) < before + 0.01, "{} after {before}", error(&after));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_text_reads_as_probabilities(words in any::<String>(), direction in prop::collection::vec(-1.0..1.0f32, WIDTH)) {
        static CLASSIFIER: std::sync::OnceLock<Classifier> = std::sync::OnceLock::new();
        let classifier = CLASSIFIER.get_or_init(|| Classifier::fit(&corpus(5, 10)));
        let vector = unit(direction).unwrap_or_default();
        let reading = classifier.read(&Signals::new(vector, Arc::new(lexical(&words))));
        prop_assert!(reading.known.iter().all(|p| (0.0..=1.0).contains(p)));
        prop_assert!((reading.known.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!((0.0..=1.0).contains(&reading.nobody));
    }
}

#[test]
fn what_is_extended_knows_the_new_beside_the_old_and_forgets_who_is_gone() {
    // Of classes 0 to 4 the third is new; then the first leaves.
    let all = corpus(5, 30);
    let mut most = all.clone();
    most.classes.remove(2);
    let before = Classifier::fit(&most);
    let extended = before.extended(&all, &[Some(0), Some(1), None, Some(2), Some(3)]);
    assert!(!extended.calibrated());
    let found = |classifier: &Classifier, theme: usize, class: usize| {
        share((100..140).map(|seed| best(&classifier.read(&text(theme, seed, 0.4))) == class))
    };
    for theme in 0..5 {
        let right = found(&extended, theme, theme);
        assert!(right > 0.9, "{theme}: {right}");
    }
    let refused = share((200..280).map(|seed| extended.read(&text(8 + seed as usize % 14, seed, 0.4)).nobody > 0.5));
    assert!(refused > 0.9, "{refused}");
    let truths =
        |classifier: &Classifier, class| classifier.held_out().iter().filter(|said| said.truth == Some(class)).count();
    assert_eq!([0, 1, 2, 3, 4].map(|class| truths(&extended, class)), [30, 30, 0, 30, 30]);

    let mut fewer = all;
    fewer.classes.remove(0);
    let shrunk = extended.extended(&fewer, &[Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(shrunk.read(&text(1, 1, 0.4)).known.len(), 4);
    for theme in 1..5 {
        assert!(found(&shrunk, theme, theme - 1) > 0.9);
    }
}

#[test]
fn extended_by_nothing_it_reads_as_before() {
    let corpus = corpus(4, 12);
    let one = Classifier::fit(&corpus);
    let other = one.extended(&corpus, &[0, 1, 2, 3].map(Some));
    for seed in 0..20 {
        let signals = text(seed as usize % 10, 500 + seed, 0.5);
        let (a, b) = (one.read(&signals), other.read(&signals));
        assert_eq!((a.known, a.nobody.to_bits(), a.closest), (b.known, b.nobody.to_bits(), b.closest));
    }
}
