//! A server of a test's own, and requests to it as they go over the wire.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The file that the built-in model is made from.
pub const MODEL_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny/bise-tiny.Q4_K_M.gguf");

/// `bise serve` on a free port, with the built-in model unless flags name another. Ends with the test.
pub struct Server {
    pub process: Child,
    pub address: String,
    /// What it has written to stderr.
    log: Arc<Mutex<String>>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

/// `bise serve` with these flags on a free port, whatever the environment says.
pub fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bise"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["LLAMA_", "BISE_", "OLLAMA_", "LISTEN_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--port", "0"]);
    if !flags.iter().any(|flag| matches!(*flag, "-m" | "--model")) {
        command.args(["--model", "builtin"]);
    }
    command.args(flags).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts it with these flags, and waits until it is ready.
    pub fn start(flags: &[&str]) -> Server {
        Server::spawn(command(flags))
    }

    /// [`Server::start`] with the small model by the name `mistral`, for two texts in one context that has an end: without the window, no
    /// text goes on for ever.
    pub fn mistral(flags: &[&str]) -> Server {
        let context = ["-c", "2048", "--parallel", "2", "--kv-unified", "--sliding-window", "0"];
        Server::start(&[&["--model", MODEL_FILE, "--alias", "mistral"], &context[..], flags].concat())
    }

    /// [`Server::start`] for answers that are the same every time.
    pub fn greedy(flags: &[&str]) -> Server {
        Server::start(&[&["--temp", "0"], flags].concat())
    }

    /// Starts a [`command`], and waits until it is ready.
    pub fn spawn(mut command: Command) -> Server {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stderr.take().expect("its messages are read")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("the server did not start:\n{}", log.lock().unwrap());
            };
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.to_owned();
            }
            *log.lock().unwrap() += &format!("{line}\n");
        };
        let rest = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *rest.lock().unwrap() += &format!("{line}\n"));
        });
        let server = Server { process, address, log };
        eventually("the model is loaded", || server.get("/health").status == 200);
        server
    }

    /// What it has written to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A connection of one's own.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the server can be reached");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit can be set");
        stream
    }

    /// Sends a request and reads the whole response. Without a content type among the headers, the body is said to be JSON.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut stream = self.connect();
        let headers = [&[("connection", "close")], headers].concat();
        let request = request(&self.address, method, path, &headers, body);
        stream.write_all(request.as_bytes()).expect("the request is sent");
        read(&mut BufReader::new(stream))
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.send("POST", path, &[], &body.to_string())
    }

    /// The status and the JSON at a path.
    pub fn get_json(&self, path: &str) -> (u16, Value) {
        let response = self.get(path);
        (response.status, response.json())
    }

    /// Posts JSON; the status and the JSON that comes back.
    pub fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.post(path, body);
        (response.status, response.json())
    }

    /// Posts JSON over a connection of its own, and leaves the response to be read, or not.
    pub fn begin(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        let request = request(&self.address, "POST", path, &[], &body.to_string());
        stream.write_all(request.as_bytes()).expect("the request is sent");
        stream
    }

    /// Announces a body of so many bytes, and sends none of it. Returns the status of the response.
    pub fn status_of_a_long_body(&self, n_bytes: usize) -> u16 {
        let mut stream = self.connect();
        let head = "POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
        write!(stream, "{head}\r\nContent-Length: {n_bytes}\r\n\r\n").unwrap();
        read_status(&mut BufReader::new(stream))
    }

    /// Sends it a signal by name (`TERM`).
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end. Returns the exit code and how long that took.
    pub fn wait(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        loop {
            match self.process.try_wait().unwrap() {
                Some(status) => return (status.code(), start.elapsed()),
                None => assert!(start.elapsed() < PATIENCE, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells it to end, and waits for that. Returns the exit code and how long it took.
    #[cfg(unix)]
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Response {
    /// The first header with this name, in small letters, without its parameters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(other, _)| other == name).map(|(_, value)| value.split(';').next().unwrap_or(value))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The events of a stream; the last may be `[DONE]`.
    pub fn events(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }
}

/// Waits until something is true.
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A request as it is sent. Without a content type among the headers, the body is said to be JSON.
pub fn request(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    for (name, otherwise) in [("host", host), ("content-type", "application/json")] {
        if !headers.iter().any(|(given, _)| *given == name) {
            head += &format!("{name}: {otherwise}\r\n");
        }
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    format!("{head}\r\n{body}")
}

fn read_status(stream: &mut impl BufRead) -> u16 {
    let mut line = String::new();
    stream.read_line(&mut line).expect("the response comes");
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}

/// Reads one response; more may follow on the same connection, if it says how long it is.
pub fn read(stream: &mut impl BufRead) -> Response {
    let status = read_status(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("the headers come");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let header =
        |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).expect("a chunk comes");
            let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
            let start = body.len();
            body.resize(start + size + 2, 0);
            stream.read_exact(&mut body[start..]).expect("the chunk comes");
            body.truncate(start + size);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length")
        && header("connection") != Some("close")
    {
        body.resize(length.parse().expect("a length"), 0);
        stream.read_exact(&mut body).expect("the body comes");
    } else {
        stream.read_to_end(&mut body).expect("the body comes");
    }
    Response { status, headers, body: String::from_utf8(body).expect("the body is UTF-8") }
}
