//! `consilium models fetch` against a web server that is not always good.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::Response,
    serve::Listener,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    server::TlsStream,
};

use crate::files::Files;

/// What a path is answered with.
#[derive(Clone)]
enum Answer {
    Bytes(Bytes),
    /// So many times half of it and the end of the connection; then all.
    Broken(Bytes, usize),
    /// So many times; then the bytes.
    Failing(Bytes, usize),
    /// Without a length and without an end.
    Endless,
    /// Half of it, and then nothing more.
    Stuck(Bytes),
    /// It is elsewhere.
    Moved(String),
}

#[derive(Default)]
struct Site {
    answers: HashMap<String, Answer>,
    /// `user:password`
    credentials: Option<&'static str>,
    asked: AtomicUsize,
}

/// Serves until dropped.
struct Web {
    origin: String,
    site: Arc<Site>,
    runtime: Option<Runtime>,
}

impl Web {
    fn start(site: Site) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self::serve(runtime, listener, origin, site)
    }

    /// Under TLS, as `localhost`. Returns the certificate as well, in PEM.
    fn start_secured(site: Site) -> (Self, String) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let listener = Secured { listener, tls: TlsAcceptor::from(Arc::new(config)) };
        (Self::serve(runtime, listener, origin, site), own.cert.pem())
    }

    fn serve<L>(runtime: Runtime, listener: L, origin: String, site: Site) -> Self
    where
        L: Listener<Addr = std::net::SocketAddr>,
    {
        let site = Arc::new(site);
        let pages = Router::new().fallback(answer).with_state(Arc::clone(&site));
        runtime.spawn(async move { axum::serve(listener, pages).await });
        Self { origin, site, runtime: Some(runtime) }
    }

    fn asked(&self) -> usize {
        self.site.asked.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Secured {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            // Who does not believe this server goes away.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let before = site.asked.fetch_add(1, Ordering::SeqCst);
    let said = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let wanted = site.credentials.map(|credentials| format!("Basic {}", BASE64_STANDARD.encode(credentials)));
    if said != wanted {
        return status(StatusCode::UNAUTHORIZED);
    }
    match site.answers.get(request.uri().path()).cloned() {
        None => status(StatusCode::NOT_FOUND),
        // Counted from the manifest, which is asked for first and once.
        Some(Answer::Broken(bytes, times)) if before <= times => {
            let half = bytes.slice(..bytes.len() / 2);
            let pieces = stream::iter([Ok(half), Err(io::Error::other("the line is cut"))]);
            let length = (header::CONTENT_LENGTH, bytes.len());
            Response::builder().header(length.0, length.1).body(Body::from_stream(pieces)).unwrap()
        }
        Some(Answer::Failing(_, times)) if before <= times => status(StatusCode::SERVICE_UNAVAILABLE),
        Some(Answer::Bytes(bytes) | Answer::Broken(bytes, _) | Answer::Failing(bytes, _)) => {
            Response::new(Body::from(bytes))
        }
        Some(Answer::Stuck(bytes)) => {
            let half = stream::iter([Ok::<_, io::Error>(bytes.slice(..bytes.len() / 2))]);
            let body = Body::from_stream(half.chain(stream::pending()));
            Response::builder().header(header::CONTENT_LENGTH, bytes.len()).body(body).unwrap()
        }
        Some(Answer::Moved(to)) => {
            let moved = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, to);
            moved.body(Body::empty()).unwrap()
        }
        Some(Answer::Endless) => {
            let pieces = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b' '; 4096])));
            Response::new(Body::from_stream(pieces))
        }
    }
}

fn status(status: StatusCode) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// A model on a web server: the small fixture, to be changed and broken.
struct Model {
    manifest: Value,
    files: HashMap<String, Answer>,
}

impl Model {
    fn new() -> Self {
        let files = Files::new();
        let read = |file: &str| Bytes::from(fs::read(files.path(&format!("models/tiny-text/{file}"))).unwrap());
        let answers = ["model.onnx", "tokenizer.json"].map(|file| (file.to_owned(), Answer::Bytes(read(file))));
        Self { manifest: serde_json::from_slice(&read("manifest.json")).unwrap(), files: answers.into() }
    }

    fn bytes(&self, file: &str) -> Bytes {
        match &self.files[file] {
            Answer::Bytes(bytes) => bytes.clone(),
            _ => panic!("{file} was changed already"),
        }
    }

    fn with(mut self, file: &str, answer: Answer) -> Self {
        self.files.insert(file.to_owned(), answer);
        self
    }

    /// The hash of its manifest, and what is served below `/tiny`.
    fn served(self) -> (String, HashMap<String, Answer>) {
        let manifest = Bytes::from(self.manifest.to_string());
        let hash = sha256(&manifest);
        let files = self.files.into_iter().chain([("manifest.json".to_owned(), Answer::Bytes(manifest))]);
        (hash, files.map(|(file, answer)| (format!("/tiny/{file}"), answer)).collect())
    }

    fn start(self) -> (String, Web) {
        let (hash, answers) = self.served();
        (hash, Web::start(Site { answers, ..Site::default() }))
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn command(into: &Path, wanted: &[&str], flags: &[&str]) -> Command {
    let mut fetch = Command::new(env!("CARGO_BIN_EXE_consilium"));
    fetch.args(["models", "fetch", "--into"]).arg(into).args(wanted).args(flags);
    for variable in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"] {
        fetch.env_remove(variable);
    }
    fetch
}

fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Fetches `tiny`, which is not right: what is said, and that nothing is there.
fn refused(web: &Web, hash: &str) -> String {
    let into = TempDir::new().unwrap();
    let wanted = format!("tiny={}/tiny@sha256:{hash}", web.origin);
    let (code, out, err) = said(command(into.path(), &[&wanted], &[]).output().unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("error: the model tiny is not fetched\n"), "{err}");
    assert!(!into.path().join("tiny").exists());
    let left: Vec<_> = fs::read_dir(into.path().join(".fetch")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "a part of a model takes as much room as a model");
    err
}

#[test]
fn models_are_fetched_verified_and_left_alone_the_next_time() {
    let (hash, web) = Model::new().start();
    let dir = TempDir::new().unwrap();
    let into = dir.path().join("new/models");
    let wanted = ["one", "two"].map(|name| format!("{name}={}/tiny/@sha256:{}", web.origin, hash.to_uppercase()));
    let wanted = wanted.each_ref().map(String::as_str);
    let (code, out, err) = said(command(&into, &wanted, &["--json"]).output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    let models = serde_json::from_str::<Value>(&out).unwrap()["models"].take();
    for (at, name) in ["one", "two"].into_iter().enumerate() {
        assert_eq!((&models[at]["verified"], &models[at]["digest"]), (&json!(true), &json!(hash)), "{out}");
        assert_eq!(models[at]["directory"], into.join(name).display().to_string());
        assert!(err.contains(&format!("{name} manifest.json: from {}/tiny\n", web.origin)), "{err}");
        assert!(err.contains(&format!("{name} model.onnx: ")), "{err}");
    }
    assert!(!err.contains("another fetch"), "{err}");
    assert_eq!(web.asked(), 6);
    let found = Command::new(env!("CARGO_BIN_EXE_consilium")).args(["models", "--json"]).arg(&into).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&found.stdout).unwrap()["models"], models);

    fs::write(into.join("two/tokenizer.json"), "{}").unwrap();
    fs::write(into.join("two/of-before"), "").unwrap();
    // What a fetch leaves behind that was killed.
    fs::create_dir_all(into.join(".fetch/model/sub")).unwrap();
    fs::create_dir_all(into.join(".fetch/replaced")).unwrap();
    let (code, out, err) = said(command(&into, &wanted, &[]).output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!((out.matches("verified").count(), err.matches("already there").count()), (2, 1), "{out}{err}");
    assert_eq!(web.asked(), 3, "the one that differs is fetched whole, the other not at all");
    assert!(!into.join("two/of-before").exists(), "nothing of what was there before is left");
    let left: Vec<_> = fs::read_dir(into.join(".fetch")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn what_is_not_what_was_wanted_is_refused_with_what_was_found() {
    let (hash, web) = Model::new().start();
    let err = refused(&web, &"0".repeat(64));
    assert!(
        err.contains(&format!("{}/tiny/manifest.json: expected sha256 {}, found {hash}", web.origin, "0".repeat(64))),
        "{err}"
    );
    assert_eq!(web.asked(), 1);

    let model = Model::new();
    let mut other = model.bytes("model.onnx").to_vec();
    *other.last_mut().unwrap() ^= 1;
    let found = sha256(&other);
    let (hash, web) = model.with("model.onnx", Answer::Bytes(other.into())).start();
    let err = refused(&web, &hash);
    assert!(err.contains("/tiny/model.onnx: expected sha256 ") && err.contains(&format!("found {found}")), "{err}");
    assert_eq!(web.asked(), 2, "it would not be better the next time");
}

#[test]
fn a_file_of_another_length_is_not_read_to_its_end() {
    let (hash, web) = Model::new().with("tokenizer.json", Answer::Endless).start();
    let err = refused(&web, &hash);
    assert!(err.contains("/tiny/tokenizer.json: expected 2594 bytes, found more"), "{err}");
    let (hash, web) = Model::new().with("tokenizer.json", Answer::Bytes(vec![b' '; 2595].into())).start();
    let err = refused(&web, &hash);
    assert!(err.contains("/tiny/tokenizer.json: expected 2594 bytes, found 2595"), "{err}");
    let answers = HashMap::from([("/tiny/manifest.json".to_owned(), Answer::Endless)]);
    let web = Web::start(Site { answers, ..Site::default() });
    assert!(refused(&web, &hash).contains("expected at most 1048576 bytes, found more"));
}

#[test]
fn a_manifest_cannot_reach_out_of_its_directory() {
    let mut model = Model::new();
    model.manifest["files"][1]["path"] = json!("../tokenizer.json");
    let (hash, web) = model.start();
    let err = refused(&web, &hash);
    assert!(err.contains("/tiny/manifest.json: files[1].path: expected a relative path without `..`"), "{err}");
    assert_eq!(web.asked(), 1, "nothing of it is fetched");

    let mut model = Model::new();
    let tokenizer = model.bytes("tokenizer.json");
    model.manifest["files"]
        .as_array_mut()
        .unwrap()
        .push(json!({"path": "manifest.json", "size": tokenizer.len(), "sha256": sha256(&tokenizer)}));
    let (hash, web) = model.start();
    // Served as what it is, the manifest is not what it says of itself.
    assert!(refused(&web, &hash).contains("/tiny/manifest.json: expected "));
}

#[test]
fn what_may_get_better_is_tried_again_and_what_will_not_is_not() {
    for broken in [Answer::Broken as fn(Bytes, usize) -> Answer, Answer::Failing] {
        let model = Model::new();
        let bytes = model.bytes("model.onnx");
        let (hash, web) = model.with("model.onnx", broken(bytes, 2)).start();
        let into = TempDir::new().unwrap();
        let wanted = format!("tiny={}/tiny@sha256:{hash}", web.origin);
        let (code, _, err) = said(command(into.path(), &[&wanted], &[]).output().unwrap());
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(err.matches("; once more\n").count(), 2, "{err}");
        assert_eq!(web.asked(), 1 + 3 + 1);
    }
    let model = Model::new();
    let bytes = model.bytes("model.onnx");
    let (hash, web) = model.with("model.onnx", Answer::Failing(bytes, 9)).start();
    let err = refused(&web, &hash);
    assert!(err.contains("/tiny/model.onnx: the server answers 503 Service Unavailable (3 tries)"), "{err}");
    assert_eq!(web.asked(), 1 + 3);

    let mut model = Model::new();
    model.files.remove("model.onnx");
    let (hash, web) = model.start();
    assert!(refused(&web, &hash).contains("/tiny/model.onnx: the server answers 404 Not Found\n"));
    assert_eq!(web.asked(), 2);
}

#[test]
fn a_server_that_is_not_there_is_named_without_its_secrets() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let into = TempDir::new().unwrap();
    let wanted = format!("tiny=http://{free}/tiny?signature=s3cret@sha256:{}", "0".repeat(64));
    let (code, _, err) = said(command(into.path(), &[&wanted], &[]).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("http://{free}/tiny/manifest.json: ")) && err.contains("(3 tries)"), "{err}");
    let plain = format!("plain=http://me:s3cret@{free}/tiny@sha256:{}", "0".repeat(64));
    let wrong = ["a=https://me:s3cret@x/a", "tiny=http://x/?s3cret@sha256:0", &plain, &wanted, &wanted];
    let (code, out, refused) = said(command(into.path(), &wrong, &[]).output().unwrap());
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(refused.contains("plain: with http:// everybody on the way could read"), "{refused}");
    assert!(refused.contains("a: expected") && refused.contains("tiny: named twice"), "{refused}");
    assert!(!format!("{err}{refused}").contains("s3cret"), "{err}{refused}");
}

#[test]
fn servers_may_want_a_password_and_are_known_by_the_authorities_of_the_system() {
    let (hash, answers) = Model::new().served();
    let (web, certificate) = Web::start_secured(Site { answers, credentials: Some("me:p@ss"), ..Site::default() });
    let into = TempDir::new().unwrap();
    let file = into.path().join("ca.pem");
    fs::write(&file, certificate).unwrap();
    let port = web.origin.rsplit_once(':').unwrap().1;
    let wanted = |password: &str| format!("tiny=https://me:{password}@localhost:{port}/tiny@sha256:{hash}");
    let run = |password: &str, authorities: &Path| {
        let mut fetch = command(into.path(), &[&wanted(password)], &[]);
        said(fetch.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR").output().unwrap())
    };
    let (code, _, err) = run("wrong", &file);
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("https://localhost:{port}/tiny/manifest.json: the server answers 401")), "{err}");

    let other = into.path().join("other.pem");
    fs::write(&other, rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()).unwrap();
    let (code, _, err) = run("p%40ss", &other);
    assert_eq!(code, Some(1));
    assert!(err.to_lowercase().contains("certificate"), "{err}");

    let (code, out, err) = run("p%40ss", &file);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("verified"), "{out}");
}

#[test]
fn a_file_by_tls_comes_by_tls_wherever_it_is() {
    let (hash, answers) = Model::new().served();
    let plain = Web::start(Site { answers: answers.clone(), ..Site::default() });
    let moved = |origin: &str| {
        let moved = |path: &String| (path.clone(), Answer::Moved(format!("{origin}{path}?signature=s3cret")));
        Site { answers: answers.keys().map(moved).collect(), ..Site::default() }
    };
    let (down, certificate) = Web::start_secured(moved(&plain.origin));
    let (target, other) = Web::start_secured(Site { answers: answers.clone(), ..Site::default() });
    let up = Web::start(moved(&target.origin));
    let into = TempDir::new().unwrap();
    let file = into.path().join("ca.pem");
    fs::write(&file, certificate + &other).unwrap();
    let run = |web: &Web| {
        let wanted = format!("tiny={}/tiny@sha256:{hash}", web.origin);
        let mut fetch = command(into.path(), &[&wanted], &[]);
        said(fetch.env("SSL_CERT_FILE", &file).env_remove("SSL_CERT_DIR").output().unwrap())
    };
    let (code, _, err) = run(&down);
    assert_eq!((code, plain.asked()), (Some(1), 0), "{err}");
    assert!(err.contains("the server sends us on to a URL without TLS") && !err.contains("s3cret"), "{err}");
    let (code, out, err) = run(&up);
    assert_eq!((code, target.asked()), (Some(0), 3), "{out}{err}");
}

#[test]
fn a_file_that_does_not_come_is_given_up() {
    let model = Model::new();
    let bytes = model.bytes("model.onnx");
    let (hash, web) = model.with("model.onnx", Answer::Stuck(bytes)).start();
    let into = TempDir::new().unwrap();
    let wanted = format!("tiny={}/tiny@sha256:{hash}", web.origin);
    let (code, _, err) = said(command(into.path(), &[&wanted], &["--timeout", "1s"]).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(err.contains("/tiny/model.onnx: not there within 1s: ended after ") && err.contains("--timeout"), "{err}");
    assert_eq!(web.asked(), 2);
}

#[test]
fn one_fetch_waits_for_another() {
    let (hash, web) = Model::new().start();
    let into = TempDir::new().unwrap();
    fs::create_dir(into.path().join(".fetch")).unwrap();
    let lock = fs::File::create(into.path().join(".fetch/lock")).unwrap();
    lock.lock().unwrap();
    let wanted = format!("tiny={}/tiny@sha256:{hash}", web.origin);
    let mut fetch = command(into.path(), &[&wanted], &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(fetch.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "waiting: another fetch is under way");
    assert_eq!(web.asked(), 0);
    drop(lock);
    assert!(said.last().is_some());
    assert_eq!((fetch.wait().unwrap().code(), web.asked()), (Some(0), 3));
}

#[test]
fn a_place_that_cannot_be_written_is_the_callers_mistake() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let wanted = format!("tiny=http://127.0.0.1:1/tiny@sha256:{}", "0".repeat(64));
    let (code, _, err) = said(command(&file, &[&wanted], &[]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(err.contains("models cannot be put into"), "{err}");
}
