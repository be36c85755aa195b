//! Knowledge made searchable: every passage and every sentence with its vector. Never changes once built; a reload
//! builds another one.

use std::{collections::HashMap, fmt, ops::Range, sync::Arc, time::Duration};

use consilium_engine::Error as EngineError;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::{
    parse::Passage,
    search::{Matrix, dot, top},
    sentences,
};
use crate::task::{self, Context, Encoder, Failure};

/// Passages, and sentences of each, that wait for the engine at the same time. At the start that is enough to keep
/// every executor busy. Beside live queries it is one passage, because a query waits for the batch that runs: a full
/// one of 1,024 tokens takes a MiniLM 0.8 s on two cores, one of 128 tokens 0.07 s, and the rate is the same.
const PASSAGES_AT_START: usize = 8;
const PASSAGES_AT_RELOAD: usize = 1;
const SENTENCES_IN_FLIGHT: usize = 4;

/// How long one text may wait for its vector. The queue serves the earliest deadline first, so that live queries
/// overtake a reload; under a long overload the reload gives up and the old knowledge stays.
const PATIENCE: Duration = Duration::from_mins(1);

/// One state of an expert's knowledge.
pub(crate) struct Index {
    revision: Arc<str>,
    entries: Vec<Entry>,
}

struct Entry {
    passage: Passage,
    vectors: Arc<Vectors>,
}

/// All that depends on title and text alone, so that a reload encodes only what changed.
struct Vectors {
    whole: Vec<f32>,
    sentences: Vec<Range<usize>>,
    sentence_rows: Matrix,
    truncated: bool,
}

impl Index {
    /// Encodes `passages`, except for those that `previous` has with the same title and text.
    pub(crate) async fn build(
        passages: Vec<Passage>,
        revision: Arc<str>,
        encoder: &Encoder,
        previous: Option<&Index>,
    ) -> Result<Index, Failure> {
        let known: HashMap<_, _> = previous.iter().flat_map(|index| &index.entries).map(Entry::by_content).collect();
        let entries = passages.into_iter().map(|passage| {
            let known = known.get(&(&*passage.title, &*passage.text)).map(|vectors| Arc::clone(vectors));
            let encoder = encoder.clone();
            async move {
                let vectors = match known {
                    Some(vectors) => vectors,
                    None => Arc::new(Vectors::of(&passage, &encoder).await?),
                };
                Ok::<_, Failure>(Entry { passage, vectors })
            }
        });
        let at_once = if previous.is_some() { PASSAGES_AT_RELOAD } else { PASSAGES_AT_START };
        let entries = stream::iter(entries).buffered(at_once).try_collect().await?;
        Ok(Index { revision, entries })
    }

    /// Changes whenever the file's content does.
    pub(crate) fn revision(&self) -> Arc<str> {
        Arc::clone(&self.revision)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Passages that are longer than the encoder reads: their ends are found by their sentences only.
    pub(crate) fn truncated(&self) -> usize {
        self.entries.iter().filter(|entry| entry.vectors.truncated).count()
    }

    /// The `count` passages most like `query`, best first. `query` is of unit length and the encoder's width.
    pub(crate) fn search(&self, query: &[f32], count: usize) -> Vec<task::Passage> {
        let scores: Vec<f32> = self.entries.iter().map(|entry| dot(&entry.vectors.whole, query)).collect();
        top(&scores, count)
            .into_iter()
            .filter_map(|index| Some((self.entries.get(index)?, *scores.get(index)?)))
            .map(|(entry, score)| entry.found(query, score))
            .collect()
    }
}

impl Entry {
    fn by_content(&self) -> ((&str, &str), &Arc<Vectors>) {
        ((&self.passage.title, &self.passage.text), &self.vectors)
    }

    fn found(&self, query: &[f32], score: f32) -> task::Passage {
        let best = self.vectors.sentence_rows.best(query);
        task::Passage {
            id: Arc::clone(&self.passage.id),
            title: Arc::clone(&self.passage.title),
            text: Arc::clone(&self.passage.text),
            // Rounding takes a cosine a little past the ends of its range.
            score: f64::from(score).clamp(-1.0, 1.0),
            best: best.and_then(|index| self.vectors.sentences.get(index).cloned()),
            source: self.passage.source.clone(),
        }
    }
}

impl Vectors {
    async fn of(passage: &Passage, encoder: &Encoder) -> Result<Vectors, Failure> {
        let sentences = sentences::split(&passage.text);
        let texts: Vec<String> =
            sentences.iter().filter_map(|range| passage.text.get(range.clone())).map(str::to_owned).collect();
        let whole = encode(encoder.clone(), format!("{}\n{}", passage.title, passage.text));
        let rows = stream::iter(texts.into_iter().map(|text| encode(encoder.clone(), text)))
            .buffered(SENTENCES_IN_FLIGHT)
            .try_fold(Matrix::new(encoder.width()), |mut rows, (row, _)| async move {
                rows.push(&row);
                Ok(rows)
            });
        let ((whole, truncated), sentence_rows) = futures::try_join!(whole, rows)?;
        Ok(Vectors { whole, sentences, sentence_rows, truncated })
    }
}

/// The text's vector and whether it was too long, waiting while the engine's queue is full of live queries.
async fn encode(encoder: Encoder, text: String) -> Result<(Vec<f32>, bool), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match encoder.encode(&text, Context { deadline }).await {
            Ok(encoded) => return Ok((encoded.vector.values, encoded.truncated)),
            Err(Failure::Engine(EngineError::QueueFull { retry_after })) if Instant::now() + retry_after < deadline => {
                tokio::time::sleep(retry_after).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({} passages, revision {})", self.entries.len(), self.revision)
    }
}
