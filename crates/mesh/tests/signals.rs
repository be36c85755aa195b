//! Signals as the operating system sends them. A process of its own: a signal is for all of it.

use std::process::Command;

use consilium_mesh::drain::Signals;
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

fn signal(name: &str) -> bool {
    let sent = Command::new("kill").args([name, &std::process::id().to_string()]).status();
    sent.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn the_first_signal_asks_and_the_second_one_ends() {
    let stop = CancellationToken::new();
    let (exit, exited) = oneshot::channel();
    let signals = Signals::install().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(signals.obey(stop.clone(), |code| exit.send(code).unwrap()));
    assert!(signal("-TERM"));
    stop.cancelled().await;
    assert!(signal("-INT"));
    assert_eq!(exited.await.unwrap(), 130);
}
