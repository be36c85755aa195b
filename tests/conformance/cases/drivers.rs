//! The clients: how each is started on a list of cases, and how what it prints becomes lines. What a line means is
//! `observe`'s business.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{cli, observe::Line};
use crate::ROOT;

/// A client: a column of the table.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// Whether its protocol has a place for everything that a case may expect.
    pub(crate) tells_all: bool,
    /// Whether it is one of our libraries, whose replies are held against each other.
    pub(crate) is_library: bool,
    start: Start,
    /// The component of `make setup` that it needs, and that is missing where it cannot be had. Two clients of one package
    /// share it.
    setup: Option<&'static str>,
}

enum Start {
    /// A program that takes all cases at once, with what stands before its arguments. Both from the repository's root, but
    /// for programs of the search path.
    Once { program: &'static str, first: &'static [&'static str] },
    /// The same on a Java machine: the file that has the class path, classes of its own beside it, and the main class.
    OnceOnJava { class_path: &'static str, main: &'static str },
    /// Our own command line, a process a case.
    EachByCli,
}

pub(crate) const CLIENTS: [Client; 7] = [
    library("python", "python-client", python(&["clients/python/conformance.py"])),
    // The same package's other client: `AsyncClient`.
    library("asyncio", "python-client", python(&["clients/python/conformance.py", "--asyncio"])),
    library("go", "go-client", Start::Once { program: ".tools/clients/go/conformance", first: &[] }),
    library("node", "node-client", Start::Once { program: "node", first: &["clients/node/build/conformance.js"] }),
    library(
        "java",
        "java-client",
        Start::OnceOnJava { class_path: "clients/java/target/class-path", main: "dev.consilium.client.Conformance" },
    ),
    Client {
        name: "triton",
        tells_all: false,
        is_library: false,
        start: Start::Once { program: ".tools/oip/triton/bin/python", first: &["tests/conformance/triton_cases.py"] },
        setup: Some("triton-client"),
    },
    Client { name: "cli", tells_all: true, is_library: false, start: Start::EachByCli, setup: None },
];

const fn library(name: &'static str, setup: &'static str, start: Start) -> Client {
    Client { name, tells_all: true, is_library: true, start, setup: Some(setup) }
}

const fn python(first: &'static [&'static str]) -> Start {
    Start::Once { program: ".tools/clients/python/bin/python", first }
}

impl Client {
    /// Whether `make setup` found out that it cannot be had on this machine.
    pub(crate) fn cannot_be_had(&self) -> bool {
        self.setup.is_some_and(crate::cannot_be_had)
    }

    /// Whether there is anything to set up that `make build` does not make.
    pub(crate) fn has_setup(&self) -> bool {
        self.setup.is_some()
    }

    /// How long its set-up took, seconds, as `make setup` wrote it down.
    pub(crate) fn setup_seconds(&self) -> Option<f64> {
        let file = Path::new(ROOT).join(".tools/times").join(self.setup?);
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Its driver: the program that takes a file of cases, without those arguments. `None` for what is no program of its own.
    ///
    /// # Panics
    /// When it is not there.
    pub(crate) fn driver(&self) -> Option<Command> {
        if let Some(path) = self.start.missing() {
            panic!("{path} is missing: run `make setup` first");
        }
        self.start.command()
    }

    /// What came of each of the cases, by name. `round` tells its files apart from those of other runs.
    ///
    /// # Panics
    /// When the client broke, or did not answer every case in its order.
    pub(crate) fn run(
        &self,
        target: SocketAddr,
        cases: &[Value],
        (logs, round): (&Path, usize),
    ) -> BTreeMap<String, Line> {
        let lines = match self.driver() {
            Some(mut command) => {
                let file = logs.join(format!("{}-cases-{round}.json", self.name));
                fs::write(&file, Value::from(cases).to_string()).expect("the cases can be written");
                command.args(["--target", &target.to_string()]).arg("--cases").arg(file);
                let output = ended(&mut command);
                for (name, said) in [("lines", &output.stdout), ("said", &output.stderr)] {
                    let file = logs.join(format!("{}-{name}-{round}.log", self.name));
                    fs::write(file, said).expect("what it said can be kept");
                }
                lines(&String::from_utf8_lossy(&output.stdout))
            }
            None => cases.iter().map(|case| cli::run(target, case)).collect(),
        };
        let names = |lines: Vec<&str>| lines.join(", ");
        let asked: Vec<_> = cases.iter().map(|case| case["name"].as_str().unwrap_or_default()).collect();
        let answered: Vec<_> = lines.iter().map(|line| line.case.as_str()).collect();
        assert!(asked == answered, "{} was asked {} and answered {}", self.name, names(asked), names(answered));
        lines.into_iter().map(|line| (line.case.clone(), line)).collect()
    }
}

impl Start {
    /// What has to be there and is not.
    fn missing(&self) -> Option<&'static str> {
        let (needed, first): (_, &[_]) = match *self {
            Start::Once { program, first } => (program, first),
            Start::OnceOnJava { class_path, .. } => (class_path, &[]),
            Start::EachByCli => return None,
        };
        // What has no directory is a program of the search path, or a flag.
        let is_missing = |path: &&str| path.contains('/') && !Path::new(ROOT).join(path).exists();
        [needed].into_iter().chain(first.iter().copied()).find(is_missing)
    }

    /// `None` for what is no program of its own.
    fn command(&self) -> Option<Command> {
        let mut command = match *self {
            Start::Once { program, first } => {
                let path = Path::new(ROOT).join(program);
                let mut command = Command::new(if program.contains('/') { path } else { program.into() });
                command.args(first);
                command
            }
            Start::OnceOnJava { class_path, main } => {
                let libraries = Path::new(ROOT).join(class_path);
                let target = libraries.with_file_name("");
                let libraries = fs::read_to_string(&libraries).expect("the class path can be read");
                let classes = [target.join("test-classes"), target.join("classes"), libraries.trim().into()];
                let classes: Vec<_> = classes.iter().map(|path| path.to_string_lossy()).collect();
                let mut command = Command::new("java");
                command.args(["-cp", &classes.join(":"), main]);
                command
            }
            Start::EachByCli => return None,
        };
        command.current_dir(ROOT);
        Some(command)
    }
}

fn ended(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}\n{said}", output.status);
    output
}

fn lines(stdout: &str) -> Vec<Line> {
    let mut wrong = String::new();
    let read = |line: &str| match serde_json::from_str(line) {
        Ok(line) => Some(line),
        Err(error) => {
            let start: String = line.chars().take(120).collect();
            let _ = writeln!(wrong, "{error}: {start}");
            None
        }
    };
    let lines = stdout.lines().filter(|line| !line.trim().is_empty()).filter_map(read).collect();
    assert!(wrong.is_empty(), "these lines are none of a driver:\n{wrong}");
    lines
}
