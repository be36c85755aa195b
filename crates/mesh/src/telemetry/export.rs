//! Spans on their way out of the process. Whoever ends a span never waits: it goes into a queue, or is dropped where that
//! is full. OpenTelemetry's own processor has the queue and the thread; what stands around it here is the count, which is
//! exact because the inner queue never drops.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};

use crate::metrics::TraceMetrics;

/// Spans that wait, about 1 kB each: half a second of a thousand requests a second.
const CAPACITY: usize = 8192;
/// Sooner than OpenTelemetry's five seconds: people look for the request that they have just made.
const EVERY: Duration = Duration::from_secs(1);

/// Takes spans that have ended.
#[derive(Debug)]
pub(crate) struct Exports {
    queue: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    counts: TraceMetrics,
    failing: Failing,
}

/// Whether the last export failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failing(Arc<AtomicBool>);

impl Failing {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns how it was before.
    fn swap(&self, failing: bool) -> bool {
        self.0.swap(failing, Ordering::Relaxed)
    }
}

impl Exports {
    pub(crate) fn new(exporter: impl SpanExporter + 'static, counts: TraceMetrics) -> Self {
        let (waiting, failing) = (Arc::<AtomicUsize>::default(), Failing::default());
        let exporter =
            Counted { exporter, waiting: Arc::clone(&waiting), counts: counts.clone(), failing: failing.clone() };
        let config = BatchConfigBuilder::default().with_max_queue_size(CAPACITY).with_scheduled_delay(EVERY).build();
        Self { queue: BatchSpanProcessor::new(exporter, config), waiting, counts, failing }
    }

    pub(super) fn failing(&self) -> Failing {
        self.failing.clone()
    }
}

impl SpanProcessor for Exports {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Spans count as waiting until they are exported, so that there are never more of them in the inner queue.
        if self.waiting.fetch_add(1, Ordering::Relaxed) < CAPACITY {
            self.queue.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts what became of spans, and says when that changes: not for every batch.
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    counts: TraceMetrics,
    failing: Failing,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => {
                self.counts.exported(spans);
                if self.failing.swap(false) {
                    tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                self.counts.failed(spans);
                if !self.failing.swap(true) {
                    tracing::warn!(%error, "spans cannot be exported and are lost");
                }
            }
        }
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E> fmt::Debug for Counted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Mutex, mpsc};

    use consilium_metrics::Page;
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::{error::OTelSdkError, trace::SdkTracerProvider};

    use super::*;

    /// Tells of each batch that it gets, and takes as long for it as the test wants: until `free` is dropped.
    #[derive(Debug)]
    pub(crate) struct Stuck {
        began: mpsc::Sender<usize>,
        free: Mutex<mpsc::Receiver<()>>,
    }

    pub(crate) fn stuck() -> (Stuck, mpsc::Receiver<usize>, mpsc::Sender<()>) {
        let (began, batches) = mpsc::channel();
        let (free, waiting) = mpsc::channel();
        (Stuck { began, free: Mutex::new(waiting) }, batches, free)
    }

    impl SpanExporter for Stuck {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.began.send(batch.len());
            let _ = self.free.lock().unwrap().recv();
            Ok(())
        }
    }

    #[derive(Debug)]
    pub(crate) struct Refusing;

    impl SpanExporter for Refusing {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("no".to_owned()))
        }
    }

    fn exporting(exporter: impl SpanExporter + 'static, page: &Page) -> SdkTracerProvider {
        SdkTracerProvider::builder().with_span_processor(Exports::new(exporter, page.part())).build()
    }

    fn end(spans: usize, provider: &SdkTracerProvider) {
        let tracer = provider.tracer("test");
        for _ in 0..spans {
            tracer.start("span").end();
        }
    }

    fn count(page: &Page, result: &str) -> Option<usize> {
        let key = format!("consilium_trace_spans_total{{result=\"{result}\"}} ");
        page.encode().lines().find_map(|line| line.strip_prefix(&key)?.parse().ok())
    }

    #[test]
    fn whoever_ends_a_span_waits_for_nobody_and_what_has_no_room_is_counted() {
        let page = Page::new();
        let (exporter, batches, free) = stuck();
        let provider = exporting(exporter, &page);
        assert_eq!(count(&page, "dropped"), Some(0));
        end(CAPACITY / 2, &provider);
        batches.recv().unwrap();
        // Nothing leaves from here on. That this returns at all is what is tested.
        end(CAPACITY / 2 + 100, &provider);
        assert_eq!(count(&page, "dropped"), Some(100));
        assert_eq!(count(&page, "exported"), Some(0));

        drop(free);
        provider.shutdown().unwrap();
        assert_eq!(count(&page, "exported"), Some(CAPACITY));
        assert_eq!((count(&page, "dropped"), count(&page, "failed")), (Some(100), Some(0)));
    }

    #[test]
    fn what_the_collector_does_not_take_has_failed_and_makes_room() {
        let page = Page::new();
        let provider = exporting(Refusing, &page);
        for round in 1..=3 {
            end(CAPACITY, &provider);
            // What it says is about the last batch only, and there may be none left.
            let _ = provider.force_flush();
            assert_eq!(count(&page, "failed"), Some(round * CAPACITY));
        }
        assert_eq!((count(&page, "dropped"), count(&page, "exported")), (Some(0), Some(0)));
    }
}
