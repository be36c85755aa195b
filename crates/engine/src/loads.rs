//! Who has loaded what: every load is counted, and the last unload takes the thing out. Loading itself is the caller's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// Things by key, each loaded once however many ask.
pub(crate) struct Loads<T>(Mutex<HashMap<String, Place<T>>>);

struct Place<T> {
    /// Filled by the first load; others wait for it.
    cell: Arc<OnceCell<T>>,
    /// Loads that have begun and not been undone.
    loads: usize,
}

/// A load that has begun. Unless it is kept, dropping it undoes it.
pub(crate) struct Load<'l, T> {
    loads: &'l Loads<T>,
    key: String,
    /// To be filled, or waited for.
    pub(crate) cell: Arc<OnceCell<T>>,
    kept: bool,
}

impl<T> Default for Loads<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Loads<T> {
    /// Counts from here on, so that an unload that comes in between leaves the thing where it is.
    pub(crate) fn begin(&self, key: String) -> Load<'_, T> {
        let mut places = self.lock();
        let place = places.entry(key.clone()).or_insert_with(|| Place { cell: Arc::default(), loads: 0 });
        place.loads += 1;
        let cell = Arc::clone(&place.cell);
        Load { loads: self, key, cell, kept: false }
    }

    /// Undoes one load of the thing that it is; gives it if that was the last. `None` also for a thing that is not here.
    pub(crate) fn end(&self, is: impl Fn(&T) -> bool) -> Option<T> {
        let mut places = self.lock();
        let holds = |place: &Place<T>| place.cell.get().is_some_and(&is);
        let key = places.iter().find(|(_, place)| holds(place)).map(|(key, _)| key.clone())?;
        uncount(&mut places, &key)?.get().cloned()
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.lock().values().filter_map(|place| place.cell.get().cloned()).collect()
    }
}

impl<T> Loads<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Load<'_, T> {
    /// It has come to its end; an unload will undo it.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl<T> Drop for Load<'_, T> {
    fn drop(&mut self) {
        // A load counts from its beginning, so its place is still there, and the same.
        if !self.kept {
            let last = uncount(&mut self.loads.lock(), &self.key);
            drop(last);
        }
    }
}

/// One load less; the cell, taken out, if it was the last.
fn uncount<T>(places: &mut HashMap<String, Place<T>>, key: &str) -> Option<Arc<OnceCell<T>>> {
    let place = places.get_mut(key)?;
    place.loads -= 1;
    if place.loads > 0 {
        return None;
    }
    places.remove(key).map(|place| place.cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn load(loads: &Loads<&'static str>, key: &str, value: &'static str) -> &'static str {
        let load = loads.begin(key.to_owned());
        let found = *load.cell.get_or_init(async || value).await;
        load.keep();
        found
    }

    #[tokio::test]
    async fn the_last_unload_takes_it_out() {
        let loads = Loads::default();
        assert_eq!(load(&loads, "a", "first").await, "first");
        assert_eq!(load(&loads, "a", "second").await, "first");
        assert_eq!(load(&loads, "b", "other").await, "other");
        assert_eq!(loads.end(|value| *value == "first"), None);
        assert_eq!(loads.all().len(), 2);
        assert_eq!(loads.end(|value| *value == "first"), Some("first"));
        assert_eq!(loads.end(|value| *value == "first"), None, "once only");
        assert_eq!(loads.all(), ["other"]);
        assert_eq!(load(&loads, "a", "second").await, "second");
    }

    #[tokio::test]
    async fn a_load_that_has_begun_keeps_it_from_an_unload() {
        let loads = Loads::default();
        load(&loads, "a", "first").await;
        let racing = loads.begin("a".to_owned());
        assert_eq!(loads.end(|_| true), None);
        assert_eq!(racing.cell.get(), Some(&"first"));
        racing.keep();
        assert_eq!(loads.end(|_| true), Some("first"));
    }

    #[tokio::test]
    async fn a_load_that_fails_or_is_given_up_does_not_count() {
        let loads: Loads<&str> = Loads::default();
        drop(loads.begin("a".to_owned()));
        assert!(loads.lock().is_empty());
        load(&loads, "a", "first").await;
        drop(loads.begin("a".to_owned()));
        assert_eq!(loads.end(|_| true), Some("first"));
    }
}
