//! `consilium-router` as it is run: arguments, variables and signals in; lines, ports and an exit code out.
#![expect(clippy::unwrap_used, reason = "what a test stands on failing is the test failing")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use consilium_mesh::dial;
use consilium_proto::{client::router_service_client::RouterServiceClient, v1};
use tempfile::TempDir;
use tonic::Code;

/// Nobody listens there.
const NO_ETCD: &str = "http://127.0.0.1:9";

/// A directory with a `mesh.yaml`.
struct Files(TempDir);

impl Files {
    fn new(settings: &str) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/build/fixtures");
        assert!(models.join("tiny-text/manifest.json").is_file(), "run `make setup`");
        let yaml = format!("name: test\nmodels: '{}'\n{settings}\n", models.display());
        fs::write(files.mesh(), yaml).unwrap();
        files
    }

    fn mesh(&self) -> PathBuf {
        self.0.path().join("mesh.yaml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consilium-router"));
        command.arg(self.mesh()).args(arguments);
        command
    }
}

/// To its end: exit code, standard output and standard error.
fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A running router, killed when dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    /// Returns once it says where it listens.
    fn start(files: &Files, arguments: &[&str]) -> Running {
        let mut child = files
            .command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let rest = line.trim_end().strip_prefix("consilium-router listening on ").unwrap();
        let (address, admin) = rest.split_once(", admin on ").unwrap();
        Running { child, address: address.parse().unwrap(), admin: admin.parse().unwrap() }
    }

    /// Status line and body of an admin page.
    fn page(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// What it still waits for once it has loaded its encoder.
    fn waits_for(&self) -> String {
        loop {
            let (status, missing) = self.page("/readyz");
            assert!(status.contains("503"), "{status}");
            if !missing.contains("encoder") {
                return missing;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_says_what_may_be_said() {
    let (code, out, err) = said(&mut Files::new("").command(&["--help"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for flag in ["MESH_YAML", "--listen", "--admin", "--etcd", "--table", "--set", "--print-config", "Exit codes"] {
        assert!(out.contains(flag), "{out}");
    }
}

#[test]
fn a_wrong_configuration_is_told_in_full_and_opens_nothing() {
    let files = Files::new("grace: 1s\ngate: {encodr: tiny-text}");
    let (code, out, err) = said(&mut files.command(&["--set", "settle=soon", "--etcd", "a"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for mistake in ["gate.encodr", "settle"] {
        assert!(err.contains(mistake), "{err}");
    }
    let files = Files::new("grace: 1s\nadmin: there");
    let (code, _, err) = said(&mut files.command(&["--etcd", "a"]));
    assert_eq!(code, Some(2));
    for mistake in ["admin", "grace", "gate.encoder", "registry.etcd.endpoints[0]"] {
        assert!(err.contains(mistake), "{err}");
    }
    let (code, _, err) = said(&mut Files::new("gate: {encoder: tiny-text, top_k: 0}").command(&[]));
    assert_eq!(code, Some(2));
    assert!(err.contains("registry.etcd") && err.contains("gate.top_k"), "{err}");
    let files = Files::new("gate: {encoder: tiny-text}");
    let (code, _, err) = said(&mut files.command(&["--etcd", "http://127.0.0.1:1", "--log", "consilium=loud"]));
    assert_eq!((code, err.contains("consilium=loud")), (Some(2), true));
}

#[test]
fn the_settings_in_effect_are_the_files_then_the_variables_then_the_flags() {
    let files =
        Files::new("settle: 1s\ngate: {encoder: tiny-text, top_k: 1}\nregistry: {etcd: {endpoints: [], lease: 9s}}");
    let mut command = files.command(&["--print-config", "--etcd", "http://a:1,http://b:1", "--set", "settle=4s"]);
    command.env("CONSILIUM_SETTLE", "3s").env("CONSILIUM_GATE__TOP_K", "2").env("CONSILIUM_ROUTER", "http://a:1");
    let (code, out, err) = said(&mut command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in ["name: test", "settle: 4s", "top_k: 2", "lease: 9s", "- http://a:1", "- http://b:1"] {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }
}

#[test]
fn what_cannot_be_opened_or_used_is_an_exit_code() {
    let files = Files::new("gate: {encoder: tiny-text}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--etcd", NO_ETCD, "--listen", &address, "--admin", "127.0.0.1:0"];
    let (code, out, err) = said(&mut files.command(&arguments));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&address), "{err}");

    for (encoder, problem) in [("tiny-add", "takes tensors"), ("none", "none")] {
        let files = Files::new(&format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\ngate: {{encoder: {encoder}}}"));
        let (code, _, err) = said(&mut files.command(&["--etcd", NO_ETCD]));
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(problem), "{err}");
    }
}

// Of many threads, so that the client takes the server's good-bye while the test waits for the process.
#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_and_without_a_table_it_listens_says_what_is_missing_and_leaves_in_order() {
    let files = Files::new("settle: 0s\ngate: {encoder: tiny-text, fallback: somebody}");
    let running = Running::start(&files, &["--etcd", NO_ETCD]);
    assert_eq!(running.page("/livez").1, "ok\n");
    assert_eq!(running.waits_for(), "router: gate\nrouter: registry\nrouter: settings\n");

    let channel = dial::channel(&dial::Target::plain(running.address.to_string())).unwrap();
    let query = v1::Query { text: "is an apple red".into(), ..Default::default() };
    let request = v1::DispatchRequest { query: Some(query), ..Default::default() };
    let reply = RouterServiceClient::new(channel).dispatch(request).await;
    assert_eq!(
        reply.unwrap_err().code(),
        Code::Unavailable,
        "it knows nobody yet, and does not say that nobody would do"
    );

    running.signal("-TERM");
    assert_eq!(running.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let running =
        Running::start(&Files::new("settle: 1h\ngrace: 2h\ngate: {encoder: tiny-text}"), &["--etcd", NO_ETCD]);
    running.waits_for();
    running.signal("-INT");
    while !running.page("/readyz").1.contains("draining") {}
    running.signal("-TERM");
    assert_eq!(running.ended().code(), Some(143));
}
