//! The clients: how each is started, against whom, and what tells that it was content.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use consilium_tests::processes::{Lab, target, tool};
use tokio::runtime::Runtime;

use super::ROOT;

/// One trial. It panics when something is wrong.
pub(crate) type Run = Box<dyn Fn(&Lab, &Runtime) + Send>;

/// Two of the examples of the expert that reads texts.
const TEXTS: [&str; 2] = ["crushing pain in the chest", "a runny nose and a mild cough"];

pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("triton_on_an_expert", Box::new(|lab, _| triton("triton", lab, Side::Expert))),
        ("triton_on_the_router", Box::new(|lab, _| triton("triton", lab, Side::Router))),
        ("triton_2_51_on_an_expert", Box::new(|lab, _| triton("triton-2.51", lab, Side::Expert))),
        ("triton_2_51_on_the_router", Box::new(|lab, _| triton("triton-2.51", lab, Side::Router))),
        ("kserve_on_an_expert", Box::new(|lab, _| kserve(lab, Side::Expert))),
        ("kserve_on_the_router", Box::new(|lab, _| kserve(lab, Side::Router))),
        ("grpcurl_on_an_expert", Box::new(|lab, _| grpcurl(lab.tensors[0].address()))),
        ("grpcurl_on_the_router", Box::new(|lab, _| grpcurl(lab.router.address()))),
        ("perf_analyzer_on_an_expert", Box::new(|lab, _| perf_analyzer(lab.tensors[0].address()))),
        ("perf_analyzer_on_the_router", Box::new(|lab, _| perf_analyzer(lab.router.address()))),
        ("onnx_models", Box::new(|lab, _| onnx_models(lab))),
    ]
}

/// Whether the client of a trial is one of those that not every machine can have: perf_analyzer is built for x86-64 only,
/// grpcurl wants Go.
pub(crate) fn cannot_be_had(trial: &str) -> bool {
    let components = [("grpcurl", "grpcurl"), ("perf_analyzer", "perf-analyzer")];
    components.iter().any(|(client, component)| trial.starts_with(client) && super::cannot_be_had(component))
}

/// Which of the two a client speaks to.
#[derive(Clone, Copy)]
enum Side {
    Expert,
    Router,
}

impl Side {
    fn address(self, lab: &Lab) -> SocketAddr {
        match self {
            Side::Expert => lab.tensors[0].address(),
            Side::Router => lab.router.address(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Expert => "expert",
            Side::Router => "router",
        }
    }
}

fn triton(client: &str, lab: &Lab, side: Side) {
    let mut command = script(client, "triton.py");
    command.args(["--address", &side.address(lab).to_string(), "--prefix", Lab::TENSORS, "--kind", side.name()]);
    match side {
        Side::Expert => command.arg("--repository").arg(lab.repository("a")),
        // The gate is the mesh's own model.
        Side::Router => command.args(["--text", Lab::MESH]).args(TEXTS.map(|text| ["--ask", text]).as_flattened()),
    };
    command.arg("--json").arg(told(&format!("{client}-{}", side.name())));
    succeed(command);
}

fn kserve(lab: &Lab, side: Side) {
    let mut command = script("kserve", "kserve_client.py");
    command.args(["--address", &side.address(lab).to_string(), "--prefix", Lab::TENSORS]);
    if let Side::Router = side {
        command.args(["--text", Lab::TRIAGE]).args(TEXTS.map(|text| ["--ask", text]).as_flattened());
    }
    command.arg("--json").arg(told(&format!("kserve-{}", side.name())));
    succeed(command);
}

fn onnx_models(lab: &Lab) {
    let mut command = script("triton", "onnx_models.py");
    command.args(["--address", &lab.empty.address().to_string(), "--prefix", Lab::EMPTY]);
    command.arg("--repository").arg(lab.repository("empty")).arg("--json").arg(told("onnx-models"));
    succeed(command);
}

/// Knows nothing but the address: services, methods and messages come by reflection.
fn grpcurl(address: SocketAddr) {
    let call = |arguments: &[&str]| {
        let mut command = Command::new(tool("grpcurl"));
        command.args(arguments);
        output(command)
    };
    let address = address.to_string();
    let services = call(&["-plaintext", &address, "list"]);
    assert!(services.lines().any(|line| line == "inference.GRPCInferenceService"), "{services}");
    let described = call(&["-plaintext", &address, "describe", "inference.GRPCInferenceService.ModelInfer"]);
    assert!(described.contains(".inference.ModelInferRequest"), "{described}");
    let sixteen = |value: &str| [value; 16].join(",");
    let input = |name: &str, value: &str| {
        let contents = format!(r#"{{"fp32_contents":[{}]}}"#, sixteen(value));
        format!(r#"{{"name":"{name}","datatype":"FP32","shape":[1,16],"contents":{contents}}}"#)
    };
    let request = format!(r#"{{"model_name":"tensors.add-sub","inputs":[{},{}]}}"#, input("a", "1"), input("b", "2"));
    let reply = call(&["-plaintext", "-d", &request, &address, "inference.GRPCInferenceService/ModelInfer"]);
    // 1 - 2, little-endian, sixteen times, in base64.
    assert!(reply.contains("AACAvwAAgL8AAIC/"), "{reply}");
}

/// Runs to its report, in every way that it has of sending.
fn perf_analyzer(address: SocketAddr) {
    for (model, more) in [
        ("tensors.add-sub", &["-b", "4", "--concurrency-range", "1:4:3"][..]),
        ("tensors.add-sub", &["--streaming", "--async", "--concurrency-range", "4"]),
        ("tensors.add-sub", &["--request-rate-range", "50", "--request-distribution", "poisson"]),
        ("tensors.no-batch", &["--concurrency-range", "2"]),
    ] {
        let mut command = Command::new(tool("perf_analyzer"));
        command.args(["-m", model, "-i", "grpc", "-u", &address.to_string(), "--percentile", "99"]).args(more);
        // It repeats a window until three in a row are alike, which on a busy machine they are not.
        command.args(["-p", "1000", "-s", "1000", "-r", "3"]);
        let report = output(command);
        assert!(report.contains("Inferences/Second vs. Client p99"), "{report}");
    }
}

/// One of the Python programs beside this file, in the environment of the client that it drives.
fn script(client: &str, name: &str) -> Command {
    let python = Path::new(ROOT).join(".tools/oip").join(client).join("bin/python");
    assert!(python.exists(), "{} is missing: run `make setup` first", python.display());
    let mut command = Command::new(python);
    command.arg(Path::new(ROOT).join("tests/conformance").join(name));
    command
}

/// Where a program writes its rows.
fn told(name: &str) -> PathBuf {
    target().join("conformance").join(format!("{name}.json"))
}

fn succeed(mut command: Command) {
    let status = command.stdin(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?} ended with {status}");
}

/// What it prints, which is passed on.
pub(crate) fn output(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}\n{out}\n{err}", output.status);
    let _ = std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes());
    out.into_owned()
}
