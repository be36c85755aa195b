//! Fitting: from profiles to what a query is compared with. Runs off the request path, whenever the cards change; a
//! request sees either the old result or the new one, never a mixture.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::blend::{Background, Evidence, NEIGHBOURS};
use crate::encoder::Encoder;
use crate::error::Error;
use crate::heads::linear::Linear;
use crate::heads::prototype::Prototypes;
use crate::options::Options;
use crate::query::Profile;
use crate::vector::{dot, mean_of_largest, unit};

/// Texts in flight at once: enough to fill a batch of the engine, few enough to leave its queue to live queries.
const IN_FLIGHT: usize = 8;
/// For one text. Generous: fitting competes with live queries and nobody waits for it.
const ENCODE_TIMEOUT: Duration = Duration::from_mins(1);
/// Two experts are kin when, on their own examples, the head gives this share of the pair's probability to the other
/// one. Interchangeable experts reach a half; the less their examples have in common, the nearer it is to nothing.
const KIN: f64 = 0.35;

/// Everything a query is compared with.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) revision: String,
    /// By name, so that the order in which profiles arrive changes nothing.
    pub(crate) experts: Vec<Expert>,
    linear: Linear,
    background: Vec<Arc<[f32]>>,
}

#[derive(Debug)]
pub(crate) struct Expert {
    pub(crate) profile: Profile,
    /// Indices of the experts that cannot be told apart from this one by the examples, this one left out.
    pub(crate) kin: Vec<usize>,
    card: Arc<[f32]>,
    /// In the order of the profile's examples.
    examples: Vec<Arc<[f32]>>,
    prototypes: Prototypes,
}

/// What the heads say about one query.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// In the order of [`Fitted::experts`].
    pub(crate) evidence: Vec<Evidence>,
    /// For each expert its closest example, by index, and the cosine to it.
    pub(crate) closest: Vec<Option<(usize, f64)>>,
    pub(crate) background: Background,
}

/// Vectors by digest of encoder and text: a changed card costs the encoding of what is new in it.
pub(crate) type Cache = HashMap<[u8; 32], Arc<[f32]>>;

/// Makes the vectors and the heads. `cache` keeps what was encoded even when a later text fails.
pub(crate) async fn fit(
    options: &Options,
    encoder: &dyn Encoder,
    background: &Arc<[String]>,
    mut profiles: Vec<Profile>,
    cache: &mut Cache,
) -> Result<Fitted, Error> {
    profiles.sort_by(|a, b| a.expert.cmp(&b.expert));
    if let Some((twin, _)) = profiles.iter().zip(profiles.iter().skip(1)).find(|(a, b)| a.expert == b.expert) {
        return Err(Error::DuplicateExpert(twin.expert.clone()));
    }
    let revision = revision(options, encoder.digest(), background, &profiles);
    if profiles.is_empty() {
        return Ok(Fitted::empty(revision));
    }
    let cards: Vec<String> = profiles.iter().map(card_text).collect();
    let texts: BTreeSet<&str> = profiles
        .iter()
        .flat_map(|profile| &profile.examples)
        .chain(&cards)
        .chain(background.iter())
        .map(String::as_str)
        .collect();
    encode(encoder, &texts, cache).await?;

    let vector = |text: &str| cache.get(&key(encoder.digest(), text)).cloned().unwrap_or_default();
    let background_vectors: Vec<Arc<[f32]>> = background.iter().map(|text| vector(text)).collect();
    let sources: Vec<Source> = profiles
        .into_iter()
        .zip(&cards)
        .map(|(profile, card)| {
            let examples = profile.examples.iter().map(|text| vector(text)).collect();
            Source { card: vector(card), examples, profile }
        })
        .collect();
    // About 0.2 s of arithmetic for ten experts with 40 examples: too long for a thread that serves queries.
    tokio::task::spawn_blocking(move || Fitted::new(revision, sources, background_vectors))
        .await
        .map_err(|_| Error::Interrupted)
}

/// The revision of a gate that knows these profiles: what decides the same has the same revision.
pub(crate) fn revision(options: &Options, encoder: &str, background: &[String], profiles: &[Profile]) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    // `Options` holds no type that JSON cannot say, and its maps are ordered.
    part(&serde_json::to_string(options).unwrap_or_default());
    part(encoder);
    part(&background.len().to_string());
    for text in background {
        part(text);
    }
    for profile in profiles {
        for text in [&profile.expert, &profile.version, &profile.summary, &profile.digest] {
            part(text);
        }
        part(&profile.examples.len().to_string());
        for text in &profile.examples {
            part(text);
        }
        part(&serde_json::to_string(&profile.serves).unwrap_or_default());
    }
    let start = hash.finalize().iter().take(6).fold(0u64, |start, &byte| start << 8 | u64::from(byte));
    format!("{start:012x}")
}

/// The name says as much as the summary and is often all that an early card has.
fn card_text(profile: &Profile) -> String {
    let name = profile.expert.replace(['-', '_'], " ");
    if profile.summary.trim().is_empty() { name } else { format!("{name}: {}", profile.summary.trim()) }
}

fn key(encoder: &str, text: &str) -> [u8; 32] {
    Sha256::new().chain_update(encoder).chain_update([0]).chain_update(text).finalize().into()
}

/// Fills `cache` with the vectors of `texts` and drops those of no use any more.
async fn encode(encoder: &dyn Encoder, texts: &BTreeSet<&str>, cache: &mut Cache) -> Result<(), Error> {
    let digest = encoder.digest();
    // Owned, because a stream of futures that borrow from its items cannot be shown to be `Send` to whoever spawns a fit.
    let missing: Vec<String> =
        texts.iter().filter(|text| !cache.contains_key(&key(digest, text))).map(|text| (*text).to_owned()).collect();
    let mut encoded = stream::iter(missing)
        .map(|text| async move {
            let vector = encoder.encode(&text, Instant::now() + ENCODE_TIMEOUT).await;
            (text, vector)
        })
        .buffered(IN_FLIGHT);
    while let Some((text, values)) = encoded.next().await {
        let vector = values.and_then(unit).map_err(Error::Encode)?;
        cache.insert(key(digest, &text), vector);
    }
    let used: BTreeSet<[u8; 32]> = texts.iter().map(|text| key(digest, text)).collect();
    cache.retain(|key, _| used.contains(key));
    Ok(())
}

struct Source {
    profile: Profile,
    card: Arc<[f32]>,
    examples: Vec<Arc<[f32]>>,
}

impl Fitted {
    /// A gate without experts.
    pub(crate) fn empty(revision: String) -> Self {
        Self { revision, experts: Vec::new(), linear: Linear::fit(&[], 0), background: Vec::new() }
    }

    fn new(revision: String, sources: Vec<Source>, background: Vec<Arc<[f32]>>) -> Self {
        // The card is one more example of its expert: that is how an expert without examples is a class at all.
        let mut data: Vec<(&[f32], usize)> = Vec::new();
        for (class, source) in sources.iter().enumerate() {
            data.extend(source.vectors().map(|vector| (vector, class)));
        }
        let reject = sources.len();
        data.extend(background.iter().map(|vector| (&**vector, reject)));
        let linear = Linear::fit(&data, reject + 1);
        let kin = kin(&linear, &sources);
        let experts = sources
            .into_iter()
            .zip(kin)
            .map(|(source, kin)| Expert {
                prototypes: Prototypes::fit(&source.vectors().collect::<Vec<_>>()),
                profile: source.profile,
                kin,
                card: source.card,
                examples: source.examples,
            })
            .collect();
        Self { revision, experts, linear, background }
    }

    /// What the heads say about a unit vector.
    pub(crate) fn read(&self, vector: &[f32]) -> Reading {
        let linear = self.linear.probabilities(vector);
        let mut closest = Vec::with_capacity(self.experts.len());
        let mut evidence = Vec::with_capacity(self.experts.len());
        for (expert, probability) in self.experts.iter().zip(&linear) {
            let card = dot(&expert.card, vector);
            let similarities: Vec<f32> = expert.examples.iter().map(|example| dot(example, vector)).collect();
            closest.push(
                similarities
                    .iter()
                    .enumerate()
                    .max_by(|(_, a), (_, b)| a.total_cmp(b))
                    .map(|(at, similarity)| (at, f64::from(*similarity))),
            );
            evidence.push(Evidence {
                linear: *probability,
                prototype: expert.prototypes.similarity(vector),
                card: f64::from(card),
                neighbours: mean_of_largest(similarities.into_iter().chain([card]), NEIGHBOURS),
                preferred: 0,
            });
        }
        let background = Background {
            linear: linear.last().copied().unwrap_or_default(),
            neighbours: mean_of_largest(self.background.iter().map(|other| dot(other, vector)), NEIGHBOURS),
        };
        Reading { evidence, closest, background }
    }
}

impl Source {
    fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.examples.iter().chain([&self.card]).map(|vector| &**vector)
    }
}

/// For each expert those that the head confuses it with on their own examples, averaged over both directions.
fn kin(linear: &Linear, sources: &[Source]) -> Vec<Vec<usize>> {
    let count = sources.len();
    let mut shares = vec![vec![0.0; count]; count];
    for (own, source) in sources.iter().enumerate() {
        let all = source.examples.len() as f64 + 1.0;
        for vector in source.vectors() {
            let p = linear.probabilities(vector);
            for (other, share) in shares[own].iter_mut().enumerate() {
                *share += p[other] / (p[own] + p[other]).max(f64::MIN_POSITIVE) / all;
            }
        }
    }
    (0..count)
        .map(|own| {
            (0..count)
                .filter(|&other| other != own && f64::midpoint(shares[own][other], shares[other][own]) >= KIN)
                .collect()
        })
        .collect()
}
