//! A server of its own for one test, and requests to it as they go over the wire.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with the small model, ended with the test.
pub struct Server {
    child: Child,
    port: u16,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The first header with this name, in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(other, _)| other == name).map(|(_, value)| value.split(';').next().unwrap_or(value))
    }
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl Server {
    /// Starts a server with these flags, on a port of its own, and waits until it answers.
    pub fn start<'a>(args: impl IntoIterator<Item = &'a str>) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bise"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["LLAMA_", "BISE_", "OLLAMA_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
        command.arg("serve").arg("--model").arg(model).args(["--port", "0"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its messages are read")).lines();
        let mut log = String::new();
        let port = loop {
            let Some(Ok(line)) = lines.next() else { panic!("the server did not start:\n{log}") };
            if let Some(port) =
                line.strip_prefix("listening on http://").and_then(|url| url.rsplit(':').next())
            {
                break port.parse().expect("a port");
            }
            log += &line;
            log.push('\n');
        };
        // Nobody else reads what it has to say.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Server { child, port };
        eventually("the model is loaded", || server.send("GET", "/health", &[], "").status == 200);
        server
    }

    /// Sends a request and reads the whole response. Without a content type among the headers, the body is said to be JSON.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server can be reached");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit can be set");
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, otherwise) in
            [("host", format!("127.0.0.1:{}", self.port)), ("content-type", "application/json".to_owned())]
        {
            if !headers.iter().any(|(given, _)| *given == name) {
                head += &format!("{name}: {otherwise}\r\n");
            }
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("the request is sent");
        read(BufReader::new(stream))
    }

    /// Posts JSON; the status and the JSON that comes back.
    pub fn post(&self, path: &str, request: &Value) -> (u16, Value) {
        json(self.send("POST", path, &[], &request.to_string()))
    }

    /// The status and the JSON at a path.
    pub fn get(&self, path: &str) -> (u16, Value) {
        json(self.send("GET", path, &[], ""))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is true.
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn json(response: Response) -> (u16, Value) {
    let body = serde_json::from_str(&response.body);
    (response.status, body.unwrap_or_else(|error| panic!("{error}: {}", response.body)))
}

fn read(mut stream: impl BufRead) -> Response {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).expect("the response comes");
        line.trim_end().to_owned()
    };
    let status = line();
    let status =
        status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{status:?}"));
    let mut headers = Vec::new();
    loop {
        let header = line();
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut body = Vec::new();
    if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
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
    } else {
        stream.read_to_end(&mut body).expect("the body comes");
    }
    Response { status, headers, body: String::from_utf8(body).expect("the body is UTF-8") }
}
