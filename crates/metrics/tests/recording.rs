//! Whether a process keeps numbers at all, which is the same for all of its pages. In a test binary of its own therefore.

use consilium_metrics::{Amounts, Counts, set_recording};
use prometheus_client::encoding::EncodeLabelSet;
use tracing::Span;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
}

#[test]
fn what_is_not_recorded_is_not_counted() {
    const ASK: Labels = Labels { method: "ask" };
    let (calls, took) = (Counts::default(), Amounts::new(&[1.0]));
    let page = consilium_metrics::Page::new();
    page.register(|sheet| sheet.amounts(&consilium_metrics::Described::histogram("took", &["method"], "Time"), &took));
    set_recording(false);
    calls.add(&ASK, 1);
    took.observe(&ASK, 0.5, &Span::none());
    assert_eq!(calls.get(&ASK), 0);
    assert!(!page.encode().contains("took_count"));
    set_recording(true);
    calls.add(&ASK, 1);
    took.observe(&ASK, 0.5, &Span::none());
    assert_eq!(calls.get(&ASK), 1);
    assert!(page.encode().contains(r#"took_count{method="ask"} 1"#));
}
