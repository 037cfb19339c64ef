//! Where `bise serve` listens: Unix sockets, several addresses, and sockets that systemd hands over.

#![cfg(all(unix, feature = "server", feature = "cli", feature = "builtin-model"))]

mod serve_support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use serve_support::{Response, Server, command, eventually, read, request};

/// Asks over a Unix socket.
fn ask(path: &Path, method: &str, at: &str, body: &Value) -> Response {
    let mut stream = UnixStream::connect(path).expect("the server can be reached");
    let text = request("localhost", method, at, &[("connection", "close")], &body.to_string());
    stream.write_all(text.as_bytes()).unwrap();
    read(&mut BufReader::new(stream))
}

fn is_healthy(address: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream
        .write_all(request("localhost", "GET", "/health", &[("connection", "close")], "").as_bytes())
        .unwrap();
    read(&mut BufReader::new(stream)).status == 200
}

/// Starts a server that cannot listen: its exit code, and what it says.
fn refused(flags: &[&str]) -> (Option<i32>, String) {
    let output = command(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_unix_socket_is_there_as_long_as_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bise.sock");
    let hosts = format!("{},127.0.0.1", path.display());
    let mut server = Server::greedy(&["--host", &hosts]);
    assert!(server.log().contains(&format!("listening on unix:{}", path.display())), "{}", server.log());
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    let body = json!({"prompt": "Once upon a time", "n_predict": 4});
    let answer = ask(&path, "POST", "/completion", &body);
    assert_eq!((answer.status, answer.json()["content"].as_str()), (200, Some(", a kind boy")));
    // A stream, too.
    let streamed = json!({"prompt": "Once upon a time", "n_predict": 4, "stream": true});
    let streamed = ask(&path, "POST", "/completion", &streamed);
    assert!(streamed.events().len() > 3, "{}", streamed.body);
    // Somebody else cannot have it meanwhile, and does no harm.
    let (code, message) = refused(&["--host", path.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(message.contains("bise.sock: Address already in use"), "{message}");
    assert_eq!(ask(&path, "GET", "/health", &json!(null)).status, 200);
    assert_eq!(server.terminate().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn who_may_use_a_unix_socket_is_the_umasks_business() {
    let folder = tempfile::tempdir().unwrap();
    for (umask, mode) in [("022", 0o755), ("077", 0o700), ("007", 0o770)] {
        let path = folder.path().join(format!("{umask}.sock"));
        let mut shell = Command::new("sh");
        let serve = format!(
            "umask {umask}; exec \"$0\" serve --model builtin --port 0 --host {},127.0.0.1",
            path.display()
        );
        shell.args(["-c", &serve, env!("CARGO_BIN_EXE_bise")]).stderr(Stdio::piped());
        let _server = Server::spawn(shell);
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{umask}");
    }
}

#[test]
fn a_socket_whose_server_has_died_is_taken_over_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bise.sock");
    let hosts = format!("{},127.0.0.1", path.display());
    let mut killed = Server::start(&["--host", &hosts]);
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    assert!(path.exists());
    let mut server = Server::start(&["--host", &hosts]);
    assert_eq!(ask(&path, "GET", "/health", &json!(null)).status, 200);
    // Another has taken the name: its socket stays.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(server.terminate().0, Some(0));
    assert!(path.exists());
    drop(other);

    let file = folder.path().join("notes.sock");
    fs::write(&file, "what matters").unwrap();
    let (code, message) = refused(&["--host", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(message.contains("notes.sock: found something that is no socket"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "what matters");
    let (code, message) = refused(&["--host", "/nowhere/at/all/bise.sock"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("/nowhere/at/all/bise.sock: No such file"), "{message}");
}

#[test]
fn several_addresses_share_a_port() {
    let server = Server::start(&["--host", "127.0.0.1,127.0.0.2"]);
    let port = server.address.rsplit(':').next().unwrap();
    assert!(is_healthy(&format!("127.0.0.1:{port}")) && is_healthy(&format!("127.0.0.2:{port}")));
    eventually("both are told", || server.log().contains(&format!("listening on http://127.0.0.2:{port}")));
    // By name, whatever families this machine has.
    let server = Server::start(&["--host", "localhost"]);
    assert!(is_healthy(&server.address));
    // A port that is taken is named.
    let (code, message) = refused(&["--port", port]);
    assert_eq!(code, Some(1));
    assert!(message.contains(&format!("127.0.0.1:{port}: Address already in use")), "{message}");
    let (code, message) = refused(&["--host", "no.such.host.invalid"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("no.such.host.invalid"), "{message}");
    let (code, message) = refused(&["--host", ","]);
    assert_eq!(code, Some(1));
    assert!(message.contains("--host names none"), "{message}");
}

#[test]
fn all_addresses_of_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let server = Server::start(&["--host", "0.0.0.0,::"]);
    let port = server.address.rsplit(':').next().unwrap();
    assert!(is_healthy(&format!("127.0.0.1:{port}")) && is_healthy(&format!("[::1]:{port}")));
    assert!(server.log().contains("asks for no key"), "{}", server.log());
    // One address for both.
    let server = Server::start(&["--host", "::"]);
    let port = server.address.rsplit(':').next().unwrap();
    assert!(is_healthy(&format!("127.0.0.1:{port}")) && is_healthy(&format!("[::1]:{port}")));
}

/// Starts a server with a socket as systemd does: as file 3, and `LISTEN_FDS` says so.
fn with_socket(socket: OwnedFd, flags: &str) -> Command {
    let mut shell = Command::new("sh");
    let serve = format!(
        "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" serve --model builtin {flags}"
    );
    shell.args(["-c", &serve, env!("CARGO_BIN_EXE_bise")]);
    shell.stdin(Stdio::from(socket)).stderr(Stdio::piped());
    shell
}

#[test]
fn sockets_of_systemd_are_used_in_place_of_addresses_and_stay() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Nobody is kept waiting before the server is there.
    let mut early = TcpStream::connect(&address).unwrap();
    early
        .write_all(request("localhost", "GET", "/health", &[("connection", "close")], "").as_bytes())
        .unwrap();
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    let mut server = Server::spawn(with_socket(socket, "--host 127.0.0.9 --port 1"));
    assert_eq!(server.address, address);
    let early = read(&mut BufReader::new(early));
    assert!([200, 503].contains(&early.status), "{early:?}");
    assert!(is_healthy(&address));
    assert_eq!(server.terminate().0, Some(0));
    // It is the next server's.
    let waiting = TcpStream::connect(&address).unwrap();
    let server = Server::spawn(with_socket(OwnedFd::from(listener), "--port 1"));
    assert!(is_healthy(&server.address));
    drop(waiting);
}

#[test]
fn a_unix_socket_of_systemd_stays_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut process = with_socket(OwnedFd::from(listener), "--port 1").spawn().unwrap();
    eventually("it answers", || ask(&path, "GET", "/health", &json!(null)).status == 200);
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(path.exists());
}

#[test]
fn a_socket_for_everybody_is_known_as_such() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::spawn(with_socket(OwnedFd::from(listener), ""));
    assert!(server.log().contains("asks for no key"), "{}", server.log());
    // The names of machines that others know it by are fine.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let asked = request("llm.example.org", "GET", "/health", &[("connection", "close")], "");
    stream.write_all(asked.as_bytes()).unwrap();
    assert_eq!(read(&mut BufReader::new(stream)).status, 200);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let folder = tempfile::tempdir().unwrap();
    for name in ["bise.service", "bise.socket"] {
        let unit = fs::read_to_string(units.join(name)).unwrap();
        // Where the program will be once it is installed.
        let here = unit.replace("/usr/bin/bise", env!("CARGO_BIN_EXE_bise"));
        fs::write(folder.path().join(name), here).unwrap();
    }
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .args(["bise.service", "bise.socket"].map(|name| folder.path().join(name)))
        .output();
    let Ok(verify) = verify else {
        eprintln!("skipped: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("bise.")).collect();
    assert!(verify.status.success() && about_ours.is_empty(), "{said}");
    // The flags are flags.
    let service = fs::read_to_string(units.join("bise.service")).unwrap();
    let start = service.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/bise ")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bise"))
        .args(start.split_whitespace())
        .args(["--model", "/no/such/model.gguf", "--host", "127.0.0.1", "--port", "0"])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && message.contains("/no/such/model.gguf"), "{message}");
}
