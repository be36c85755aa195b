//! A page as a scraper sees it.

use consilium_metrics::{Amounts, Counts, Described, Exemplar, Page, Part, Sheet, Unit, is_recorded};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _},
};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus_client::encoding::EncodeLabelSet;
use tracing::{Span, info_span, subscriber::with_default};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

const CALLS: Described = Described::counter("calls", &["method"], "Calls");
const TOOK: Described = Described::histogram("took", &["method"], "What they took").of(Unit::Seconds);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
}

const ASK: Labels = Labels { method: "ask" };

#[derive(Clone)]
struct Numbers {
    calls: Counts<Labels>,
    took: Amounts<Labels>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { calls: Counts::default(), took: Amounts::new(&[0.1, 1.0]) }
    }
}

impl Part for Numbers {
    fn register(&self, sheet: &mut Sheet<'_>) {
        sheet.counts(&CALLS, &self.calls);
        sheet.amounts(&TOOK, &self.took);
    }
}

fn line<'p>(page: &'p str, begins: &str) -> Option<&'p str> {
    page.lines().find(|line| line.starts_with(begins))
}

/// Runs `work` where spans are recorded, or where none is sampled.
fn traced(sampler: Sampler, work: impl FnOnce()) {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    with_default(tracing_subscriber::registry().with(layer), work);
}

#[test]
fn numbers_are_kept_once_a_page_under_their_full_names() {
    let page = Page::new();
    let (first, second) = (page.part::<Numbers>(), page.clone().part::<Numbers>());
    first.calls.add(&ASK, 1);
    second.calls.add(&ASK, 2);
    assert_eq!(second.calls.get(&ASK), 3, "both are the same");
    let text = page.encode();
    assert_eq!(text.matches("# TYPE calls counter").count(), 1, "{text}");
    assert_eq!(line(&text, &CALLS.full_name()), Some(r#"calls_total{method="ask"} 3"#));
    assert_eq!(TOOK.full_name(), "took_seconds");
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(!Page::new().encode().contains("calls"), "another page is another one");

    first.calls.forget(&ASK);
    assert_eq!(line(&page.encode(), "calls_total"), None);
}

#[test]
fn a_bucket_remembers_a_trace_that_is_recorded_and_no_other() {
    let page = Page::new();
    let numbers = page.part::<Numbers>();
    traced(Sampler::AlwaysOff, || {
        let span = info_span!("call");
        assert_eq!(Exemplar::of(&span), None);
        assert!(!is_recorded(&span));
        numbers.took.observe(&ASK, 0.5, &span);
    });
    // Where nothing is exported, a span has the context of its caller, who may well keep it.
    with_default(tracing_subscriber::registry().with(tracing_opentelemetry::layer()), || {
        let caller = SpanContext::new(
            TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap(),
            SpanId::from_hex("b7ad6b7169203331").unwrap(),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let span = info_span!("call");
        span.set_parent(Context::new().with_remote_span_context(caller)).unwrap();
        assert!(span.context().span().span_context().is_sampled());
        assert_eq!(Exemplar::of(&span), None);
        assert!(!is_recorded(&span));
        numbers.took.observe(&ASK, 0.5, &span);
    });
    numbers.took.observe(&ASK, 0.5, &Span::none());
    let bucket = r#"took_seconds_bucket{le="1.0",method="ask"}"#;
    assert_eq!(line(&page.encode(), bucket), Some(r#"took_seconds_bucket{le="1.0",method="ask"} 3"#));
    traced(Sampler::AlwaysOn, || {
        let span = info_span!("call");
        assert!(is_recorded(&span));
        numbers.took.observe(&ASK, 0.7, &span);
    });
    let text = page.encode();
    let (count, exemplar) = line(&text, bucket).and_then(|line| line.split_once(" # ")).expect("it has an exemplar");
    assert!(count.ends_with(" 4"), "{count}");
    let id = |key: &str| exemplar.split_once(&format!(r#"{key}=""#)).and_then(|(_, id)| id.split_once('"')).unwrap().0;
    assert_eq!((id("trace_id").len(), id("span_id").len()), (32, 16), "{exemplar}");
    assert!(exemplar.contains("} 0.7 "), "its value and its time: {exemplar}");
}
