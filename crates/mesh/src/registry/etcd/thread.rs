//! The thread on which a process speaks to etcd. Owns everything that runs there and ends with it.

use std::{fmt, future::Future, io, thread, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// What the tasks may take to end in good order: a table that is still to be written.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Thread {
    tasks: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    stop: CancellationToken,
    joined: Option<thread::JoinHandle<()>>,
}

impl Thread {
    /// # Errors
    /// When the operating system refuses.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tasks, mut wanted) = mpsc::unbounded_channel::<BoxFuture<'static, ()>>();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => break,
                    Some(task) = wanted.recv() => {
                        running.spawn(task);
                    }
                    Some(ended) = running.join_next() => {
                        if let Err(error) = ended {
                            tracing::error!(%error, "a task of the registry died");
                        }
                    }
                }
            }
            let _ = timeout(LAST_WAIT, async { while running.join_next().await.is_some() {} }).await;
        };
        let thread = thread::Builder::new().name("registry".to_owned()).spawn(move || {
            runtime.block_on(running);
            // Not for longer, should a disk hang.
            runtime.shutdown_timeout(LAST_WAIT);
        })?;
        Ok(Self { tasks, stop, joined: Some(thread) })
    }

    /// Runs a task there. It is told when the thread ends, and cut off soon after.
    pub(super) fn run<F>(&self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Never refused: the thread lives as long as this.
        let _ = self.tasks.send(Box::pin(task(self.stop.clone())));
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.joined.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the registry's thread panicked");
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").finish_non_exhaustive()
    }
}
