//! What the documentation shows has to work: the lines with grpcurl in `docs/clients.md`, and the page for browsers, in a
//! real one.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use consilium_tests::processes::Practice;

use crate::{ROOT, clients};

/// One trial. It panics when something is not as it is shown.
type Shows = fn(&Practice);

pub(crate) const ALL: [(&str, Shows); 2] =
    [("grpcurl_lines_of_the_documentation", grpcurl_lines), ("page_in_a_browser", page)];

/// Whether what a trial needs cannot be had on this machine.
pub(crate) fn cannot_be_had(trial: &str) -> bool {
    trial.starts_with("page") && crate::cannot_be_had("web-client") || clients::cannot_be_had(trial)
}

/// Where `docs/clients.md` says that the router is.
const DOCUMENTED: &str = "localhost:7600";
/// What the output of such a line has in it, by the method that it calls: no line may come to nothing.
const SHOWS: [(&str, &str); 7] = [
    (" list", "consilium.v1.RouterService"),
    (" describe ", "rpc StreamDispatch"),
    ("/Dispatch", "OUTCOME_DISPATCHED"),
    ("/StreamDispatch", "\"done\""),
    ("/Explain", "OUTCOME_REFUSED"),
    ("/ListExperts", "drug-interactions"),
    ("Health/Check", "SERVING"),
];

/// Every line, as a shell runs it.
fn grpcurl_lines(practice: &Practice) {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/clients.md")).expect("the page exists");
    let lines: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(lines.iter().all(|line| line.starts_with("grpcurl ") && line.contains(DOCUMENTED)), "{lines:?}");
    for (part, shown) in SHOWS {
        let line = lines.iter().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part}"));
        let output = clients::output(shell(line, practice.router.address()));
        assert!(output.contains(shown), "{line}\nshows no {shown}");
    }
    assert_eq!(lines.len(), SHOWS.len(), "a line that nobody looks at: {lines:?}");
}

fn shell(line: &str, router: SocketAddr) -> Command {
    let tools = Path::new(ROOT).join(".tools/bin");
    let line = line.replace(DOCUMENTED, &router.to_string());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("PATH={}:$PATH; {line}", tools.display())]);
    command
}

/// The page, in Chromium, from another origin than the router's.
fn page(practice: &Practice) {
    let mut command = Command::new("npm");
    command.args(["--prefix", "clients/web", "--silent", "test"]).current_dir(ROOT);
    command.env("CONSILIUM_ROUTER", format!("http://{}", practice.router.address()));
    command.env("PAGE_PORT", practice.page_port.to_string());
    let output = clients::output(command);
    assert!(output.contains("# fail 0"), "the page's tests did not end as they should");
}
