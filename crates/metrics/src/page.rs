//! What a process shows at `/metrics`.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{collector::Collector, encoding::text, registry::Registry};

use crate::{
    described::Described,
    family::{Amounts, Counts, Gauges, Labels},
};

/// A process's metrics. Clones share the same page.
#[derive(Clone, Default)]
pub struct Page(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    registry: Registry,
    parts: HashMap<TypeId, Box<dyn Any + Send>>,
}

/// What a crate measures, once a page: whoever comes second in the same process counts into what the first one made.
pub trait Part: Clone + Default + Send + 'static {
    fn register(&self, sheet: &mut Sheet<'_>);
}

/// Where metrics are put on a page.
pub struct Sheet<'a>(&'a mut Registry);

impl Page {
    pub fn new() -> Self {
        Self::default()
    }

    /// The page's part of this kind.
    pub fn part<P: Part>(&self) -> P {
        let mut inner = self.lock();
        if let Some(known) = inner.parts.get(&TypeId::of::<P>()).and_then(|part| part.downcast_ref::<P>()) {
            return known.clone();
        }
        let part = P::default();
        part.register(&mut Sheet(&mut inner.registry));
        inner.parts.insert(TypeId::of::<P>(), Box::new(part.clone()));
        part
    }

    /// Adds what is no part, for example a collector of something that lives less long than the page.
    pub fn register(&self, add: impl FnOnce(&mut Sheet<'_>)) {
        add(&mut Sheet(&mut self.lock().registry));
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a `String` cannot fail, and a collector that fails leaves what was written before it.
        let _ = text::encode(&mut page, &self.lock().registry);
        page
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sheet<'_> {
    pub fn counts<L: Labels>(&mut self, described: &Described, counts: &Counts<L>) {
        self.put(described, counts.0.clone());
    }

    pub fn gauges<L: Labels>(&mut self, described: &Described, gauges: &Gauges<L>) {
        self.put(described, gauges.0.clone());
    }

    pub fn amounts<L: Labels>(&mut self, described: &Described, amounts: &Amounts<L>) {
        self.put(described, amounts.0.clone());
    }

    /// A metric without labels, or of another make.
    pub fn put(&mut self, described: &Described, metric: impl prometheus_client::registry::Metric) {
        match described.unit().registered() {
            None => self.0.register(described.name(), described.help(), metric),
            Some(unit) => self.0.register_with_unit(described.name(), described.help(), unit.clone(), metric),
        }
    }

    /// What is read when the page is printed. Its metrics are begun by [`Described::encode`].
    pub fn collect(&mut self, collector: impl Collector) {
        self.0.register_collector(Box::new(collector));
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sheet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sheet").finish_non_exhaustive()
    }
}
