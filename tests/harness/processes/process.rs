//! One process of a mesh under test: started, spoken to by signals, ended with the test at the latest. What it says on
//! stderr goes into a file that is shown when the scenario fails.

use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::PATIENCE;

pub use rustix::process::Signal;

/// A running process; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Kept open: a process that writes into a closed pipe fails for a reason that no scenario is about.
    stdout: Option<Lines<BufReader<ChildStdout>>>,
}

/// Where a process of ours listens, as it said itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Process {
    /// Starts `command`. Whether it is of any use yet is for the caller to find out.
    pub fn spawn(name: &str, mut command: Command, logs: &Path) -> Self {
        fs::create_dir_all(logs).expect("a directory for logs can be made");
        let log = OpenOptions::new().create(true).append(true).open(logs.join(format!("{name}.log")));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log can be written"))
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Self { name: name.to_owned(), child, stdout }
    }

    /// Starts one of our own binaries, and waits for the one line that it says when its ports are bound.
    pub async fn listening(name: &str, command: Command, logs: &Path) -> (Self, Listening) {
        let mut process = Self::spawn(name, command, logs);
        let stdout = process.stdout.as_mut().expect("it is piped");
        let line = timeout(PATIENCE, stdout.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{name} says nothing")).expect("its stdout can be read");
        let line = line.unwrap_or_else(|| panic!("{name} ended before its ports were bound; its log says why"));
        let listening = Listening::read(&line).unwrap_or_else(|| panic!("{name} says {line:?}"));
        (process, listening)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id. 0 when it has ended and was waited for.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("{} has ended already", self.name));
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{} takes no signal: {error}", self.name));
    }

    /// Whether it runs, or is stopped: not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, once it has.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("{} does not end", self.name)).expect("a child can be waited for")
    }

    /// SIGKILL, and gone when this returns.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

impl Listening {
    /// `consilium-router listening on ADDR, admin on ADDR`
    fn read(line: &str) -> Option<Self> {
        let (address, admin) = line.split_once(" listening on ")?.1.split_once(", admin on ")?;
        Some(Self { address: address.parse().ok()?, admin: admin.trim().parse().ok()? })
    }
}

/// The directory that cargo builds into.
pub fn target() -> PathBuf {
    let executable = std::env::current_exe().expect("this program has a path");
    // target/<profile>/deps/faults-<hash>
    executable.ancestors().nth(3).expect("cargo put it three levels deep").to_owned()
}

/// One of our own binaries, built with the same profile as the test that asks.
pub fn built(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("this program has a path");
    let path = executable.ancestors().nth(2).expect("cargo put it two levels deep").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_process_tells_its_ports() {
        let read = Listening::read("consilium-expert drug-interactions listening on 127.0.0.1:7, admin on 127.0.0.1:8");
        let expected = Listening { address: ([127, 0, 0, 1], 7).into(), admin: ([127, 0, 0, 1], 8).into() };
        assert_eq!(read, Some(expected));
        assert_eq!(Listening::read("consilium-router listening on somewhere"), None);
    }
}
