//! What waits for an engine and what runs in it: a bounded queue, most urgent first. Which entries run together is
//! `batch`'s decision; running them is `executor`'s work.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::batch::{self, Extent, Most};
use crate::cost::CostTable;
use crate::error::Error;
use crate::session::Stop;
use crate::spans::Trail;
use consilium_tensor::Tensor;

/// Work that waits and work that runs, in the unit of the engine's [`CostTable`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Units that wait.
    pub waiting_units: usize,
    /// Requests that wait.
    pub waiting_entries: usize,
    /// Bytes of raw tensors that wait, counted as in [`crate::EngineOptions::queue_bytes`].
    pub waiting_bytes: usize,
    /// Units that run.
    pub running_units: usize,
    /// Requests that run.
    pub running_entries: usize,
}

/// What a request asks the model to run.
pub(crate) enum Input {
    Tokens(Vec<u32>),
    Tensors(Vec<Tensor>),
}

/// One request in the queue. Made when it asks to get in.
pub(crate) struct Entry {
    pub(crate) input: Input,
    pub(crate) extent: Extent,
    /// When it asked to get in.
    pub(crate) since: Instant,
    pub(crate) slot: Slot,
}

/// The place that a caller holds: under which number, until when, and where the answer goes.
pub(crate) struct Slot {
    id: u64,
    pub(crate) deadline: Instant,
    pub(crate) tokenizing: Tokenizing,
    pub(crate) trail: Trail,
    reply: oneshot::Sender<Result<Ran, Error>>,
}

/// What the tokenizer has to say of a text. All zero for tensors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokenizing {
    /// Text beyond the model's longest sequence was left out.
    pub(crate) truncated: bool,
    pub(crate) took: Duration,
}

/// What came out of a run for one request.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) tokenizing: Tokenizing,
    /// Units of the request by itself, without padding.
    pub(crate) units: usize,
    pub(crate) waited: Duration,
    pub(crate) took: Duration,
    pub(crate) batch: usize,
}

impl Entry {
    pub(crate) fn new(input: Input, extent: Extent, mut slot: Slot) -> Self {
        slot.trail.queues();
        Self { input, extent, since: Instant::now(), slot }
    }
}

impl Slot {
    /// Nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Hands the answer over. If the caller has just gone, there is nobody to tell.
    pub(crate) fn answer(self, answer: Result<Ran, Error>) {
        // The caller's span must be able to end with the caller.
        drop(self.trail);
        let _ = self.reply.send(answer);
    }
}

/// The caller's end of a slot. Dropping it abandons the request wherever it is: a waiting one leaves the queue at once,
/// and a running batch that has lost its last caller is stopped.
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    id: u64,
    deadline: Instant,
    reply: oneshot::Receiver<Result<Ran, Error>>,
}

impl Ticket {
    pub(crate) async fn answer(mut self) -> Result<Ran, Error> {
        match timeout_at(self.deadline, &mut self.reply).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // In this order: a slot that is not in the queue yet is turned away there because its reply is closed.
        self.reply.close();
        self.queue.abandon(self.id, self.deadline);
    }
}

/// The queue of one engine.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    next_id: AtomicU64,
    bounds: Bounds,
    cost: CostTable,
}

/// What a queue may hold, besides what its cost table says of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Units that may wait, in the unit of the cost table.
    pub(crate) units: usize,
    /// Bytes of raw tensors that may wait.
    pub(crate) bytes: usize,
    /// Bytes of raw tensors in a batch of several requests.
    pub(crate) batch_bytes: usize,
}

#[derive(Default)]
struct State {
    /// By deadline, then by arrival.
    waiting: BTreeMap<(Instant, u64), Entry>,
    running: HashMap<u64, Arc<Running>>,
    load: Load,
    closed: bool,
}

/// A batch on its way through a session.
struct Running {
    callers: AtomicUsize,
    stop: Arc<Stop>,
}

/// Entries that run together, the most urgent first, never empty.
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) stop: Arc<Stop>,
}

impl Queue {
    pub(crate) fn new(bounds: Bounds, cost: CostTable) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), next_id: AtomicU64::new(0), bounds, cost })
    }

    pub(crate) fn cost(&self) -> &CostTable {
        &self.cost
    }

    pub(crate) fn load(&self) -> Load {
        self.lock().load
    }

    /// A numbered place for one request that asks to get in; nothing is queued yet.
    pub(crate) fn open_slot(self: &Arc<Self>, deadline: Instant, trail: Trail) -> (Slot, Ticket) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = oneshot::channel();
        (
            Slot { id, deadline, tokenizing: Tokenizing::default(), trail, reply: send },
            Ticket { queue: Arc::clone(self), id, deadline, reply: receive },
        )
    }

    /// Whether so much more would be turned away now, so that nothing is spent on preparing it.
    pub(crate) fn check_room(&self, units: usize, bytes: usize) -> Result<(), Error> {
        self.room(&self.lock(), units, bytes)
    }

    /// Queues an entry, or answers it with the reason why not.
    pub(crate) fn push(&self, entry: Entry) {
        let (units, bytes) = (entry.extent.units(), entry.extent.bytes);
        let mut state = self.lock();
        if entry.slot.is_abandoned() {
            return;
        }
        if let Err(refusal) = self.room(&state, units, bytes) {
            drop(state);
            entry.slot.answer(Err(refusal));
            return;
        }
        state.load.waiting_units += units;
        state.load.waiting_bytes += bytes;
        state.load.waiting_entries += 1;
        state.waiting.insert((entry.slot.deadline, entry.slot.id), entry);
        drop(state);
        self.changed.notify_one();
    }

    /// Blocks until something waits. `false`: closed, and everything has been taken.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.waiting.is_empty()
    }

    /// Takes the next batch, formed from what waits at this very moment; answers what has expired.
    pub(crate) fn take(&self, now: Instant) -> Option<Batch> {
        let mut state = self.lock();
        let waiting = state.waiting.iter().map(|(key, entry)| (*key, entry.slot.deadline, &entry.extent));
        let most = Most { units: self.cost.batch_units, bytes: self.bounds.batch_bytes };
        let plan = batch::plan(waiting, most, now);
        let expired = state.remove(&plan.expired);
        let entries = state.remove(&plan.run);
        let stop = Arc::new(Stop::default());
        let running = Arc::new(Running { callers: AtomicUsize::new(entries.len()), stop: Arc::clone(&stop) });
        for entry in &entries {
            state.load.running_units += entry.extent.units();
            state.load.running_entries += 1;
            state.running.insert(entry.slot.id, Arc::clone(&running));
        }
        drop(state);
        for entry in expired {
            entry.slot.answer(Err(Error::DeadlineExceeded));
        }
        (!entries.is_empty()).then_some(Batch { entries, stop })
    }

    /// The batch has run; its entries are about to be answered.
    pub(crate) fn finish(&self, batch: &Batch) {
        let mut state = self.lock();
        for entry in &batch.entries {
            state.running.remove(&entry.slot.id);
            state.load.running_units -= entry.extent.units();
            state.load.running_entries -= 1;
        }
    }

    /// Takes nothing more. What waits will still be run.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn abandon(&self, id: u64, deadline: Instant) {
        let mut state = self.lock();
        let dropped = state.remove(&[(deadline, id)]);
        let running = state.running.remove(&id);
        drop(state);
        // An entry holds a request's bytes; they are freed outside the lock.
        drop(dropped);
        if let Some(running) = running.filter(|running| running.callers.fetch_sub(1, Ordering::AcqRel) == 1) {
            running.stop.raise();
        }
    }

    fn room(&self, state: &State, units: usize, bytes: usize) -> Result<(), Error> {
        let Load { waiting_units, waiting_bytes, running_units, .. } = state.load;
        if state.closed {
            return Err(Error::Closed);
        }
        // A request larger than the whole bound would never get in; into an empty queue it may.
        let over = |waiting: usize, more: usize, most: usize| waiting > 0 && waiting.saturating_add(more) > most;
        if over(waiting_units, units, self.bounds.units) || over(waiting_bytes, bytes, self.bounds.bytes) {
            let retry_after = self.cost.drain(waiting_units + running_units).max(Duration::from_millis(1));
            return Err(Error::QueueFull { retry_after });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, keys: &[(Instant, u64)]) -> Vec<Entry> {
        let entries: Vec<Entry> = keys.iter().filter_map(|key| self.waiting.remove(key)).collect();
        self.load.waiting_units -= entries.iter().map(|entry| entry.extent.units()).sum::<usize>();
        self.load.waiting_bytes -= entries.iter().map(|entry| entry.extent.bytes).sum::<usize>();
        self.load.waiting_entries -= entries.len();
        entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::cost::Unit;

    use super::*;

    fn queue(max_waiting: usize) -> Arc<Queue> {
        let cost = CostTable { unit: Unit::Tokens, points: vec![(8, 4.0)], executors: 1, batch_units: 16 };
        Queue::new(Bounds { units: max_waiting, bytes: 1000, batch_bytes: 500 }, cost)
    }

    fn push(queue: &Arc<Queue>, length: usize, deadline: Instant) -> Ticket {
        push_bytes(queue, length, 0, deadline)
    }

    fn push_bytes(queue: &Arc<Queue>, length: usize, bytes: usize, deadline: Instant) -> Ticket {
        let (slot, ticket) = queue.open_slot(deadline, Trail::of_caller());
        let extent = Extent { rows: 1, length, bytes, group: Some([].into()) };
        queue.push(Entry::new(Input::Tokens(vec![0; length]), extent, slot));
        ticket
    }

    fn soon(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first_and_ties_go_by_arrival() {
        let queue = queue(1024);
        let same = soon(5);
        let tickets =
            [push(&queue, 100, soon(9)), push(&queue, 101, same), push(&queue, 102, same), push(&queue, 103, soon(1))];
        let mut order = Vec::new();
        while let Some(batch) = queue.take(Instant::now()) {
            order.extend(batch.entries.iter().map(|entry| entry.extent.length));
            queue.finish(&batch);
        }
        assert_eq!(order, [103, 101, 102, 100]);
        assert_eq!(queue.load(), Load::default());
        drop(tickets);
    }

    #[tokio::test]
    async fn an_abandoned_entry_leaves_at_once_and_is_never_taken() {
        let queue = queue(1024);
        let (kept, dropped) = (push(&queue, 8, soon(9)), push(&queue, 8, soon(5)));
        drop(dropped);
        assert_eq!((queue.load().waiting_entries, queue.load().waiting_units), (1, 8));
        assert_eq!(queue.take(Instant::now()).unwrap().entries.len(), 1);
        assert!(queue.take(Instant::now()).is_none());
        drop(kept);
    }

    #[tokio::test]
    async fn a_request_abandoned_before_it_gets_in_does_not_get_in() {
        let queue = queue(1024);
        let (slot, ticket) = queue.open_slot(soon(9), Trail::of_caller());
        drop(ticket);
        let extent = Extent { rows: 1, length: 8, bytes: 0, group: None };
        queue.push(Entry::new(Input::Tokens(vec![]), extent, slot));
        assert_eq!(queue.load(), Load::default());
    }

    #[tokio::test]
    async fn a_batch_is_stopped_when_its_last_caller_has_gone_not_before() {
        let queue = queue(1024);
        let (one, two) = (push(&queue, 8, soon(9)), push(&queue, 8, soon(9)));
        let batch = queue.take(Instant::now()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        batch.stop.on_raise(move || tell.send(()).unwrap());
        drop(one);
        assert!(told.try_recv().is_err());
        drop(two);
        assert!(told.try_recv().is_ok());
        queue.finish(&batch);
        assert_eq!(queue.load(), Load::default());
    }

    #[tokio::test]
    async fn what_expired_is_answered_and_not_run() {
        let queue = queue(1024);
        let deadline = soon(1);
        let ticket = push(&queue, 8, deadline);
        assert!(queue.take(deadline).is_none());
        assert!(matches!(ticket.answer().await, Err(Error::DeadlineExceeded)));
        assert_eq!(queue.load(), Load::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_told_at_its_deadline_even_if_nothing_runs() {
        let queue = queue(1024);
        let ticket = push(&queue, 8, soon(1));
        assert!(matches!(ticket.answer().await, Err(Error::DeadlineExceeded)));
        assert_eq!(queue.load(), Load::default());
    }

    #[tokio::test]
    async fn a_full_queue_says_when_to_come_back() {
        let queue = queue(24);
        let held = [push(&queue, 8, soon(9)), push(&queue, 16, soon(9))];
        let refused = push(&queue, 8, soon(9)).answer().await;
        // 24 units in batches of 16, each 8 ms.
        assert!(matches!(refused, Err(Error::QueueFull { retry_after }) if retry_after == Duration::from_millis(12)));
        assert!(matches!(queue.check_room(1, 0), Err(Error::QueueFull { .. })));
        drop(held);
        assert!(queue.check_room(1000, 0).is_ok(), "an empty queue takes even what exceeds its bound");
    }

    #[tokio::test]
    async fn large_tensors_fill_a_queue_and_a_batch_before_their_units_do() {
        let queue = queue(1024);
        assert!(queue.check_room(1, usize::MAX).is_ok(), "an empty queue takes even what exceeds its bound");
        let held = [push_bytes(&queue, 1, 400, soon(8)), push_bytes(&queue, 1, 300, soon(9))];
        assert_eq!(queue.load().waiting_bytes, 700);
        let refused = push_bytes(&queue, 1, 301, soon(9)).answer().await;
        assert!(matches!(refused, Err(Error::QueueFull { .. })));
        assert!(queue.check_room(1, 300).is_ok() && queue.check_room(1, 301).is_err());
        // 700 bytes are more than a batch may be.
        let batch = queue.take(Instant::now()).unwrap();
        assert_eq!((batch.entries.len(), queue.load().waiting_bytes), (1, 300));
        queue.finish(&batch);
        drop(held);
        assert_eq!(queue.load(), Load::default());
    }

    #[tokio::test]
    async fn a_closed_queue_runs_what_it_has_and_takes_nothing_more() {
        let queue = queue(1024);
        let ticket = push(&queue, 8, soon(9));
        queue.close();
        assert!(matches!(push(&queue, 8, soon(9)).answer().await, Err(Error::Closed)));
        assert!(queue.wait());
        assert!(queue.take(Instant::now()).is_some());
        assert!(!queue.wait());
        drop(ticket);
    }

    proptest! {
        #[test]
        fn every_entry_is_taken_exactly_once(entries in prop::collection::vec((1usize..200, 1u64..20), 0..40)) {
            let queue = queue(usize::MAX);
            let epoch = Instant::now() + Duration::from_mins(1);
            let tickets: Vec<_> = entries
                .iter()
                .map(|(length, deadline)| push(&queue, *length, epoch + Duration::from_secs(*deadline)))
                .collect();
            let mut taken = Vec::new();
            while let Some(batch) = queue.take(Instant::now()) {
                taken.extend(batch.entries.iter().map(|entry| entry.slot.id));
                queue.finish(&batch);
            }
            taken.sort_unstable();
            prop_assert_eq!(taken, tickets.iter().map(|ticket| ticket.id).collect::<Vec<_>>());
            prop_assert_eq!(queue.load(), Load::default());
        }
    }
}
