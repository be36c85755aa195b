//! Panics without their text: a panic message may quote what somebody asked, so only the place in the source is kept.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Where a guarded panic happened, `file:line`; `unknown` if [`install`] was not called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked {
    pub(crate) place: String,
}

/// Runs `work` and catches its panic. What `work` borrowed must not be used again after one.
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|_| Panicked { place: PLACE.take().unwrap_or_else(|| "unknown".to_owned()) })
}

/// Replaces the process's panic hook, whose default prints the message: guarded panics leave their place for
/// [`guard`], all others are logged with it.
pub(crate) fn install() {
    panic::set_hook(Box::new(|info| {
        let place = place(info);
        if GUARDED.get() {
            PLACE.set(Some(place));
        } else {
            tracing::error!(place, "a thread or task panicked");
        }
    }));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(|| "unknown".to_owned(), |at| format!("{}:{}", at.file(), at.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_kept_and_the_message_is_not() {
        install();
        let caught = guard(|| panic!("the patient takes warfarin")).unwrap_err();
        assert!(caught.place.contains("panics.rs:"), "{caught:?}");
        assert!(!caught.place.contains("warfarin"));
        assert_eq!(guard(|| 1), Ok(1));
    }
}
