//! Servers on this machine that speak as much of HTTP as hubs do, and misbehave on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bise::hub::{Hub, Settings, Sha256};

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl Request {
    /// First and last byte of `Range`.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }

    pub fn token(&self) -> Option<&str> {
        self.headers.get("authorization")?.strip_prefix("Bearer ")
    }
}

/// What it is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// A pause before each 64 KiB.
    pub pause: Duration,
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).with("Location", to)
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_string(), value.into()));
        self
    }

    pub fn cut_after(mut self, n_bytes: usize) -> Self {
        self.cut_after = Some(n_bytes);
        self
    }

    /// A file, or the range of it that is asked for.
    pub fn file(request: &Request, bytes: &[u8], etag: &str) -> Self {
        let reply = match request.range() {
            Some((first, _)) if first >= bytes.len() => {
                return Self::status(416).with("Content-Range", format!("bytes */{}", bytes.len()));
            }
            Some((first, last)) => {
                let last = last.min(bytes.len() - 1);
                Self { status: 206, body: bytes[first..=last].to_vec(), ..Self::default() }
                    .with("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
            }
            None => Self::text(bytes),
        };
        reply.with("ETag", format!("\"{etag}\"")).with("Accept-Ranges", "bytes")
    }
}

/// A server that runs until the test ends.
pub struct Server {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    n_body_bytes: usize,
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let (handler, shared) = (Arc::new(handler), log.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (handler.clone(), shared.clone());
                thread::spawn(move || answer(stream, &*handler, &log));
            }
        });
        Self { address, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().requests.clone()
    }

    /// Bytes of bodies that were sent.
    pub fn sent(&self) -> usize {
        self.log.lock().unwrap().n_body_bytes
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        *self.log.lock().unwrap() = Log::default();
    }
}

fn answer(
    stream: TcpStream,
    handler: &(dyn Fn(&Request) -> Reply + Send + Sync),
    log: &Mutex<Log>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let request = read_request(&mut reader)?;
    log.lock().unwrap().requests.push(request.clone());
    let mut stream = stream;
    if request.method == "CONNECT" {
        return tunnel(stream, reader, &request.path);
    }
    let reply = handler(&request);
    let mut head = format!(
        "HTTP/1.1 {} Any\r\nConnection: close\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"\r\n")).ok()?;
    let end = reply.cut_after.map_or(reply.body.len(), |n| n.min(reply.body.len()));
    for chunk in reply.body[..end].chunks(64 << 10) {
        if !reply.pause.is_zero() {
            thread::sleep(reply.pause);
        }
        stream.write_all(chunk).ok()?;
        log.lock().unwrap().n_body_bytes += chunk.len();
    }
    Some(())
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_string()),
            None => {
                // A body that nobody reads would break the connection.
                let length = headers.get("content-length").and_then(|n: &String| n.parse().ok()).unwrap_or(0);
                std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
                return Some(Request { method, path, headers });
            }
        };
    }
}

/// What a proxy does.
fn tunnel(mut client: TcpStream, mut from_client: impl Read + Send + 'static, to: &str) -> Option<()> {
    let mut server = TcpStream::connect(to).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let mut up = server.try_clone().ok()?;
    thread::spawn(move || std::io::copy(&mut from_client, &mut up));
    std::io::copy(&mut server, &mut client).ok()?;
    let _ = client.shutdown(std::net::Shutdown::Both);
    Some(())
}

/// The commit that every repository here is at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The Hugging Face Hub with one repository.
#[derive(Clone)]
pub struct HuggingFace {
    pub repository: &'static str,
    pub files: Vec<(&'static str, Vec<u8>)>,
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl HuggingFace {
    pub fn new(repository: &'static str, files: &[(&'static str, &[u8])]) -> Self {
        Self { repository, files: files.iter().map(|(path, bytes)| (*path, bytes.to_vec())).collect() }
    }

    /// As the hub would answer.
    pub fn reply(&self, request: &Request) -> Reply {
        let repository = self.repository;
        if request.path == format!("/api/models/{repository}/revision/main?blobs=true") {
            return Reply::text(self.listing());
        }
        let resolve = format!("/{repository}/resolve/{COMMIT}/");
        match request
            .path
            .strip_prefix(&resolve)
            .and_then(|path| self.files.iter().find(|file| file.0 == path))
        {
            Some((_, bytes)) => Reply::file(request, bytes, &Sha256::of(bytes).to_string()),
            None => Reply::status(404).with("X-Error-Code", "EntryNotFound"),
        }
    }

    pub fn listing(&self) -> String {
        let files: Vec<String> = self
            .files
            .iter()
            .map(|(path, bytes)| {
                let (sha, size) = (Sha256::of(bytes), bytes.len());
                format!(
                    r#"{{"rfilename":"{path}","size":{size},"blobId":"{}","lfs":{{"sha256":"{sha}","size":{size},"pointerSize":134}}}}"#,
                    "ab".repeat(20)
                )
            })
            .collect();
        format!(r#"{{"id":"{}","sha":"{COMMIT}","siblings":[{}]}}"#, self.repository, files.join(","))
    }
}

/// A hub that goes by nothing but these variables, and keeps everything in `folder`.
#[allow(dead_code, reason = "not every file of tests needs all of it")]
pub fn hub(folder: &Path, variables: &[(&str, &str)]) -> Hub {
    let mut settings = Settings::from_variables(|name| match name {
        "HOME" => Some(folder.into()),
        _ => variables.iter().find(|(given, _)| *given == name).map(|(_, value)| value.into()),
    });
    settings.ollama.retain(|path| path.starts_with(folder));
    Hub::new(settings)
}

/// Bytes that are all different from their neighbours'.
#[allow(dead_code, reason = "not every file of tests needs all of it")]
pub fn bytes(n: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..n).map(|_| next()).collect()
}
