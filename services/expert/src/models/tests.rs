use std::cell::Cell;

use super::*;

fn lines(entry: &Entry, on_disk: Option<u64>) -> Vec<(String, Readiness)> {
    let version = on_disk.map(|number| Version { number, dir: PathBuf::new() });
    entry.lines("m", version.as_ref()).into_iter().map(|line| (line.version, line.state)).collect()
}

fn changing(state: Readiness) -> Entry {
    Entry { serving: None, change: Some(Change { version: "2".to_owned(), state }) }
}

#[test]
fn every_state_has_its_line_and_its_reason() {
    let not_loaded = Readiness::Unavailable("not loaded".to_owned());
    assert_eq!(lines(&Entry::default(), Some(7)), [("7".to_owned(), not_loaded.clone())]);
    assert_eq!(lines(&Entry::default(), None), [(String::new(), not_loaded)]);
    for (state, why_not) in [
        (Readiness::Loading, "it is being loaded"),
        (Readiness::Unloading, "it is being unloaded"),
        (Readiness::Unavailable("is no ONNX".to_owned()), "is no ONNX"),
    ] {
        let entry = changing(state.clone());
        // What lies on disk by now is not what is spoken of.
        assert_eq!(lines(&entry, Some(3)), [("2".to_owned(), state)]);
        assert_eq!(entry.why_not(), why_not);
    }
}

#[test]
fn who_does_not_answer_says_why() {
    let models = Models { default: Some("a".to_owned()), ..Models::default() };
    assert_eq!(models.get(None, "").unwrap_err(), Unserved::Unknown);
    models.put("a", &changing(Readiness::Loading));
    for model in [None, Some("a")] {
        assert!(matches!(models.get(model, "").unwrap_err(), Unserved::Unavailable(_)));
    }
    assert_eq!(models.get(Some("b"), "").unwrap_err(), Unserved::Unknown);
    assert_eq!(Models::default().get(None, "").unwrap_err(), Unserved::NoDefault);
    assert!(models.refs().is_empty() && models.typical().is_none());
}

#[tokio::test]
async fn who_comes_too_late_for_a_model_is_served_by_its_successor() {
    // Each is replaced while somebody is on the way to it, but for the last.
    let current = Cell::new(1);
    let versions = [1, 2, 3].map(Arc::new);
    let find = || versions.get(current.get() - 1).cloned().ok_or(Unserved::Unknown);
    let run = |version: Arc<usize>| {
        let outcome = if *version < 3 { Err(EngineError::Closed) } else { Ok("answered") };
        current.set((*version + 1).min(3));
        async { outcome }
    };
    let (version, outcome) = on_current(find, run).await.unwrap();
    assert_eq!((*version, outcome), (3, "answered"));

    // Closed for good, unloaded meanwhile, or failed: no second try.
    let runs = Cell::new(0);
    let closed = |_| {
        runs.set(runs.get() + 1);
        async { Err::<(), _>(EngineError::Closed) }
    };
    let failure = on_current(|| Ok(Arc::clone(&versions[0])), closed).await.unwrap_err();
    assert!(matches!(failure, Failure::Engine(EngineError::Closed)));
    let gone = || if runs.get() == 1 { Ok(Arc::clone(&versions[0])) } else { Err(Unserved::Unknown) };
    assert!(matches!(on_current(gone, closed).await.unwrap_err(), Failure::Unserved(Unserved::Unknown)));
    assert_eq!(runs.get(), 2);
    let late = |_| {
        runs.set(runs.get() + 1);
        async { Err::<(), _>(EngineError::DeadlineExceeded) }
    };
    on_current(|| Ok(Arc::clone(&versions[0])), late).await.unwrap_err();
    assert_eq!(runs.get(), 3);
}
