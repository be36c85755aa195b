//! What stands between clients and routers in a cluster: a balancer of connections or of calls (nginx is both), and names
//! (a DNS server that knows one).

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, process::Stdio};

use consilium_tests::processes::{PATIENCE, free_port, tool, until};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use super::root;

/// A port that is free now may be somebody else's a moment later.
const STARTS: usize = 5;

/// A running nginx. Stops when it is dropped.
pub(crate) struct Nginx {
    port: u16,
    dir: TempDir,
    _process: Child,
}

impl Nginx {
    /// Layer 4: chooses a router for each connection, in turn.
    pub(crate) async fn of_connections(routers: [SocketAddr; 2]) -> Self {
        let module = root().join(".tools/lib/nginx/ngx_stream_module.so");
        let module =
            fs::canonicalize(&module).unwrap_or_else(|_| panic!("{} is missing: run `make setup`", module.display()));
        Self::start(|port| {
            let servers = servers(routers);
            format!(
                "load_module {};\n\
                 stream {{ upstream routers {{ {servers} }} server {{ listen 127.0.0.1:{port}; proxy_pass routers; }} }}\n",
                module.display()
            )
        })
        .await
    }

    /// Layer 7: chooses a router for each call, in turn.
    pub(crate) async fn of_calls(routers: [SocketAddr; 2]) -> Self {
        Self::start(|port| {
            let servers = servers(routers);
            format!(
                "http {{\n\
                 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
                 uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
                 log_format connections '$connection'; access_log calls.log connections;\n\
                 upstream routers {{ {servers} keepalive 8; }}\n\
                 server {{ listen 127.0.0.1:{port} http2; keepalive_requests 1000000;\n\
                 location / {{ grpc_pass grpc://routers; }} }} }}\n"
            )
        })
        .await
    }

    /// One process, so that it ends with the test, and turns are taken by all connections together.
    async fn start(about: impl Fn(u16) -> String) -> Self {
        for _ in 0..STARTS {
            let (port, dir) = (free_port(), TempDir::new().expect("a temporary directory can be made"));
            // Modules are loaded before anything else is said.
            let about = about(port);
            let (load, rest) =
                about.split_once('\n').filter(|(first, _)| first.starts_with("load_module")).unwrap_or(("", &about));
            let first = "daemon off; master_process off; pid pid; error_log stderr; events { worker_connections 256; }";
            fs::write(dir.path().join("nginx.conf"), format!("{load}\n{first}\n{rest}"))
                .expect("a file can be written");
            let mut command = Command::new(tool("nginx"));
            command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "stderr"]).kill_on_drop(true);
            let mut process = command.stdin(Stdio::null()).spawn().expect("nginx starts");
            let (listens, _) = until("nginx listens or ends", async || {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Some(true);
                }
                process.try_wait().expect("a child can be waited for").map(|_| false)
            })
            .await;
            if listens {
                return Self { port, dir, _process: process };
            }
        }
        panic!("nginx does not start; what it said is above");
    }

    pub(crate) fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many connections brought calls. Of layer 7 only, where calls are known.
    pub(crate) fn connections(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("calls.log")).expect("calls were logged");
        log.lines().collect::<BTreeSet<_>>().len()
    }
}

fn servers(routers: [SocketAddr; 2]) -> String {
    routers.map(|router| format!("server {router};")).join(" ")
}

/// A DNS server that gives a name as many addresses as there are routers, as Kubernetes does for a headless Service.
pub(crate) struct Names {
    target: String,
    _process: Child,
}

impl Names {
    const NAME: &str = "consilium-router-headless";

    pub(crate) async fn start(routers: [SocketAddr; 2]) -> Self {
        let python = root().join(".tools/names/bin/python");
        assert!(python.exists(), "{} is missing: run `make setup` first", python.display());
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/names.py")).arg(Self::NAME);
        command.args(routers.map(|router| router.ip().to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("a DNS server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let line =
            timeout(PATIENCE, lines.next_line()).await.expect("it says where it listens").expect("it can be read");
        let address = line.expect("it says where it listens");
        Self { target: format!("dns://{address}/{}:{}", Self::NAME, routers[0].port()), _process: process }
    }

    /// Host and port of the DNS server, then the name and the port of the routers.
    pub(crate) fn target(&self) -> String {
        self.target.clone()
    }
}
