//! `consilium-expert` as it is run: arguments, variables and signals in; lines, ports and an exit code out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test stands on failing is the test failing")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use consilium_mesh::dial;
use consilium_proto::{client::expert_service_client::ExpertServiceClient, v1};
use tempfile::TempDir;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};

const EXPERT: &str = "{name: embed, version: '1', summary: An expert of the tests., \
    task: {kind: embed, model: tiny-text}, slo: {latency: 500ms, objective: 0.99}}";

/// A directory with an `expert.yaml`.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.write("expert.yaml", EXPERT);
        files
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) -> String {
        fs::write(self.path(file), text).unwrap();
        self.path(file).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consilium-expert"));
        command.arg(self.path("expert.yaml")).args(arguments);
        command
    }

    /// To its end: exit code, standard output and standard error.
    fn said(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        said(&mut self.command(arguments))
    }
}

fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn fixtures() -> String {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/build/fixtures");
    assert!(models.join("tiny-text/manifest.json").is_file(), "run `make setup`");
    models.display().to_string()
}

/// A running expert, killed when dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Running {
    /// Returns once it says where it listens, which is before its model is loaded.
    fn start(files: &Files, arguments: &[&str]) -> Running {
        let log = files.path("log");
        let mut child = files
            .command(&["--models", &fixtures()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = line
            .strip_prefix("consilium-expert embed listening on ")
            .and_then(|line| line.trim().split_once(", admin on "));
        let (address, admin) = said.unwrap_or_else(|| panic!("{line:?} {}", fs::read_to_string(&log).unwrap()));
        Running { address: address.parse().unwrap(), admin: admin.parse().unwrap(), child, log }
    }

    async fn health(&self) -> Streaming<HealthCheckResponse> {
        let request = HealthCheckRequest { service: "embed".to_owned() };
        HealthClient::new(channel(self.admin)).watch(request).await.unwrap().into_inner()
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Exit code and everything that it logged.
    fn ended(&mut self) -> (Option<i32>, String) {
        (self.child.wait().unwrap().code(), fs::read_to_string(&self.log).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone after a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn channel(address: SocketAddr) -> Channel {
    dial::channel(&dial::Target::plain(address.to_string())).unwrap()
}

async fn until(health: &mut Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    while health.message().await.unwrap().unwrap().status() != wanted {}
}

#[test]
fn help_tells_the_flags_and_the_exit_codes() {
    let (code, out, err) = said(Command::new(env!("CARGO_BIN_EXE_consilium-expert")).arg("--help"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for expected in ["EXPERT_YAML", "--config", "--announce", "--etcd", "CONSILIUM_ONNXRUNTIME", "Exit codes: 0 "] {
        assert!(out.contains(expected), "{expected} is not in {out}");
    }
    assert_eq!(said(&mut Command::new(env!("CARGO_BIN_EXE_consilium-expert"))).0, Some(2), "what to serve is not said");
}

#[test]
fn mistakes_of_both_files_come_out_together() {
    let files = Files::new();
    files.write("expert.yaml", &EXPERT.replace("kind: embed", "kind: emded").replace("0.99", "1.5"));
    let config =
        files.write("instance.yaml", "{listen: '0.0.0.0:0', models: nowhere, registry: {etcd: {endpoints: [x]}}}");
    let (code, out, err) = files.said(&["--config", &config, "--set", "settle=soon"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.starts_with("error: the configuration is wrong\n"), "{err}");
    // A value of the wrong kind hides what the others mean.
    for expected in ["expert.yaml: task.kind: ", "expert.yaml: slo.objective: ", "--set settle=soon: settle: "] {
        assert!(err.contains(expected), "{expected:?} is not in {err}");
    }
    let (code, _, err) = files.said(&["--config", &config]);
    assert_eq!(code, Some(2));
    for path in ["task.kind", "slo.objective", "mesh", "announce", "models", "registry.etcd.endpoints[0]"] {
        assert!(err.contains(&format!(".yaml: {path}: ")), "{path:?} is not in {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn without_a_file_the_command_line_is_the_configuration() {
    let files = Files::new();
    let (code, _, err) = files.said(&[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("command line: models: missing"), "{err}");
    let (code, _, err) = files.said(&["--models", &fixtures(), "--onnxruntime", "no/such/library.so"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no/such/library.so is no file"), "{err}");
    let (code, _, err) = files.said(&["--models", &fixtures(), "--log", "embed=loud"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("embed=loud"), "{err}");
}

#[test]
fn the_settings_in_effect_can_be_printed_and_read_back() {
    let files = Files::new();
    fs::create_dir(files.path("models")).unwrap();
    let config = files.write("instance.yaml", "{models: models, zone: file, server_name: file, mesh: clinic}");
    let mut command = files.command(&["--config", &config, "--print-config", "--mesh", "market", "--instance", "7"]);
    command.args(["--etcd", "http://a:2379,http://[::1]:2379"]);
    let (code, printed, err) = said(command.env("CONSILIUM_ZONE", "variable").env("CONSILIUM_MESH", "variable"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in
        ["mesh: market", "instance: '7'", "zone: variable", "server_name: file", "settle: 2s", "- http://[::1]:2379"]
    {
        assert!(printed.contains(&format!("{line}\n")), "{line:?} is not in {printed}");
    }
    let config = files.write("printed.yaml", &printed);
    assert_eq!(files.said(&["--config", &config, "--print-config"]).1, printed);
}

#[test]
fn a_port_that_is_taken_is_a_failure_that_is_logged() {
    let files = Files::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, err) = files.said(&["--models", &fixtures(), "--admin", &address]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let line: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["error"].as_str().unwrap().contains(&format!("{address} cannot be listened on")), "{line}");
}

#[test]
fn a_model_that_cannot_be_loaded_is_a_failure_that_is_logged() {
    let files = Files::new();
    files.write("expert.yaml", &EXPERT.replace("tiny-text", "bad-hash"));
    let mut expert = Running::start(&files, &[]);
    let (code, log) = expert.ended();
    assert_eq!(code, Some(1));
    assert!(log.lines().last().unwrap().contains("the model cannot be loaded"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_without_a_registry_until_it_is_told_to_go() {
    let files = Files::new();
    let mut expert = Running::start(&files, &["--instance", "embed-0", "--set", "settle=0s"]);
    let mut health = expert.health().await;
    until(&mut health, ServingStatus::Serving).await;

    let mut client = ExpertServiceClient::new(channel(expert.address));
    let described = client.describe(v1::DescribeRequest::default()).await.unwrap().into_inner();
    assert_eq!((described.instance.as_str(), described.card.unwrap().expert.as_str()), ("embed-0", "embed"));
    let query = Some(v1::Query { text: "cat".to_owned(), ..Default::default() });
    let answer = client.infer(v1::InferRequest { query, ..Default::default() }).await.unwrap().into_inner().answer;
    assert!(matches!(answer.unwrap().body, Some(v1::answer::Body::Embedding(_))));

    let mut page = String::new();
    let mut probe = TcpStream::connect(expert.admin).unwrap();
    probe.write_all(b"GET /readyz HTTP/1.1\r\nhost: expert\r\nconnection: close\r\n\r\n").unwrap();
    probe.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");

    expert.signal("TERM");
    let (code, log) = expert.ended();
    assert_eq!(code, Some(0), "{log}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"WARN""#)).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("announces itself to nobody"), "{log}");
    assert!(log.contains("out of service"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let files = Files::new();
    let mut expert = Running::start(&files, &["--set", "settle=1h", "--set", "grace=2h"]);
    let mut health = expert.health().await;
    until(&mut health, ServingStatus::Serving).await;
    expert.signal("TERM");
    // It goes in good order, and would take an hour.
    until(&mut health, ServingStatus::NotServing).await;
    expert.signal("INT");
    let (code, log) = expert.ended();
    assert_eq!(code, Some(130), "{log}");
    assert!(log.contains("ending at once"), "{log}");
}
