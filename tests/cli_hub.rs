//! `bise pull`, `list`, `show`, `cp`, `rm`, `create` and `-hf`: whole runs of the program against servers on this machine.

#![cfg(all(feature = "cli", feature = "hub", feature = "builtin-model"))]

mod cli_support;
mod hub_support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use bise::hub::Sha256;
use cli_support::{Folder, Ran};
use hub_support::{HuggingFace, Reply, Server, bytes};

/// A hub whose one model is the built-in one.
fn serve_builtin() -> Server {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny/bise-tiny.Q4_K_M.gguf");
    let model = HuggingFace::new("user/repo", &[("tiny-Q4_K_M.gguf", &fs::read(path).unwrap())]);
    Server::start(move |request| model.reply(request))
}

fn command(folder: &Folder, server: &Server, args: &[&str]) -> Command {
    let mut command = folder.command(args);
    command.env("HF_ENDPOINT", server.url("")).env_remove("HF_HUB_OFFLINE");
    command
}

fn run(folder: &Folder, server: &Server, args: &[&str]) -> Ran {
    folder.finish(&mut command(folder, server, args), b"")
}

#[test]
fn hf_runs_a_model_and_fetches_it_once() {
    let (folder, server) = (Folder::new(), serve_builtin());
    let story = ["-p", "Once upon a time", "-n", "12", "--temp", "0", "-no-cnv"];
    let want = folder.bise(story).ok();
    let line = |start: &[&'static str]| -> Vec<&str> { start.iter().chain(&story).copied().collect() };
    let first = run(&folder, &server, &line(&["-hf", "user/repo"])).ok();
    assert_eq!(first.text(), want.text());
    assert!(first.stderr.contains("downloading tiny-Q4_K_M.gguf, 5."), "{}", first.stderr);
    server.forget();
    let again = run(&folder, &server, &line(&["-hf", "user/repo:Q4_K_M"])).ok();
    assert_eq!((again.text(), server.requests().len()), (want.text(), 1));
    let offline = run(&folder, &server, &line(&["--offline", "-hf", "user/repo"])).ok();
    assert_eq!((offline.text(), server.requests().len()), (want.text(), 1));
    let error = run(&folder, &server, &["--offline", "-hf", "user/other", "-p", "x"]);
    assert!(error.error().contains("hf.co/user/other"), "{}", error.stderr);
    let file = run(&folder, &server, &["-hf", "user/repo", "-hff", "none.gguf", "-p", "x"]);
    assert!(file.error().contains("it has tiny-Q4_K_M.gguf"), "{}", file.stderr);
    for command in ["tokenize", "bench", "inspect"] {
        let prompt: &[&str] = if command == "tokenize" { &["-p", "Once"] } else { &[] };
        let fast: &[&str] = if command == "bench" { &["-p", "2", "-n", "0", "-r", "1"] } else { prompt };
        run(&folder, &server, &[&[command, "-hf", "user/repo"][..], fast].concat()).ok();
    }
}

#[test]
fn a_url_is_a_model() {
    let folder = Folder::new();
    let model = fs::read(folder.model()).unwrap();
    let server = Server::start(move |request| Reply::file(request, &model, "v1"));
    let url = server.url("/files/tiny.gguf?token=secret");
    let prompt = ["-p", "Once upon a time", "-n", "5", "--temp", "0", "-no-cnv"];
    let want = folder.bise(prompt).ok();
    let online = |flags: &[&str]| run(&folder, &server, &[flags, &prompt].concat()).ok();
    let ran = online(&["-mu", &url]);
    assert_eq!(ran.text(), want.text());
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    server.forget();
    online(&["-mu", &url]);
    assert!(server.requests().is_empty());
    online(&["-mu", &url, "-m", "here.gguf"]);
    assert!(folder.path("here.gguf").is_file());
}

#[test]
fn models_are_pulled_listed_shown_copied_and_removed() {
    let (folder, server) = (Folder::new(), serve_builtin());
    let pulled = run(&folder, &server, &["pull", "hf.co/user/repo"]).ok();
    assert!(pulled.stdout.is_empty() && pulled.stderr.contains("snapshots"), "{}", pulled.stderr);
    let list = folder.bise(["list", "hf.co/user"]).ok();
    let rows: Vec<Vec<&str>> = list.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ID", "SIZE", "MODIFIED"]);
    let digest = Sha256::of(&fs::read(folder.model()).unwrap());
    assert_eq!(rows[1][..2], ["hf.co/user/repo:Q4_K_M", &digest.short()]);
    assert_eq!(rows.len(), 2);
    let shown = folder.bise(["show", "hf.co/user/repo"]).ok();
    for words in
        ["architecture", "llama", "parameters", "8.1M", "context length", "quantization", "completion"]
    {
        assert!(shown.text().contains(words), "{words}: {}", shown.text());
    }
    folder.bise(["cp", "hf.co/user/repo", "mine"]).ok();
    assert!(folder.bise(["ls", "mine"]).ok().text().contains("mine:latest"));
    folder.bise(["rm", "hf.co/user/repo", "mine"]).ok();
    let error = folder.bise(["show", "mine"]);
    assert!(error.error().contains("no model \"mine\" on this machine"), "{}", error.stderr);
    assert_eq!(folder.bise(["ls", "mine"]).ok().text().lines().count(), 1);
}

#[test]
fn a_modelfile_makes_a_model() {
    let folder = Folder::new();
    folder.model();
    folder.write(
        "Modelfile",
        "FROM ./model.gguf\nSYSTEM Be brief.\nPARAMETER temperature 0.25\nTEMPLATE {{ .Prompt }}\n",
    );
    let made = folder.bise(["create", "brief"]).ok();
    assert!(made.stderr.contains("Go's template language"), "{}", made.stderr);
    assert_eq!(folder.bise(["show", "brief", "--system"]).ok().text(), "Be brief.\n");
    assert_eq!(folder.bise(["show", "brief", "--parameters"]).ok().text(), "temperature 0.25\n");
    let modelfile = folder.bise(["show", "brief", "--modelfile"]).ok();
    assert!(modelfile.text().contains("SYSTEM Be brief.\n"), "{}", modelfile.text());
    folder.write("next", "FROM brief\nPARAMETER stop x\n");
    folder.bise(["create", "next", "-f", "next"]).ok();
    assert_eq!(folder.bise(["show", "next", "--parameters"]).ok().text(), "temperature 0.25\nstop \"x\"\n");
    folder.write("adapter", "FROM brief\nADAPTER lora.gguf\n");
    assert!(folder.bise(["create", "a", "-f", "adapter"]).error().contains("ADAPTER lora.gguf"));
    folder.write("wrong", "FROM brief\nPARAMETR x 1\n");
    assert!(
        folder
            .bise(["create", "a", "-f", "wrong"])
            .error()
            .contains("wrong: Modelfile, line 2: found \"PARAMETR\"")
    );
}

#[test]
fn names_that_are_paths_are_refused() {
    let folder = Folder::new();
    for name in
        ["../no-such", "a/../../x", "hf.co/../x", "a:../../x", "..", "hf.co/a/b/resolve/main/../../x.gguf"]
    {
        for command in ["pull", "show", "rm"] {
            let ran = folder.bise([command, name]);
            assert_eq!(ran.code, 1, "{command} {name}: {}", ran.stderr);
        }
    }
    let ran = folder.bise(["cp", "builtin", "../x"]);
    assert!(ran.error().contains("is not the name of a model"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 0, "nothing was written");
}

/// A hub whose file comes slowly.
fn slow(file: &[u8]) -> Server {
    let model = HuggingFace::new("user/repo", &[("m-Q4_K_M.gguf", file)]);
    Server::start(move |request| Reply { pause: Duration::from_millis(40), ..model.reply(request) })
}

#[test]
fn a_killed_download_goes_on() {
    let folder = Folder::new();
    let file = bytes(8 << 20, 1);
    let server = slow(&file);
    let mut child = command(&folder, &server, &["pull", "hf.co/user/repo"]).spawn().unwrap();
    let blob = folder.path(&format!(".cache/huggingface/hub/models--user--repo/blobs/{}", Sha256::of(&file)));
    let list = blob.with_extension("bise-part.json");
    let deadline = Instant::now() + Duration::from_secs(60);
    let has_some = || fs::read_to_string(&list).is_ok_and(|text| text.contains("\"done\":[["));
    while !has_some() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "a second of it is enough");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!blob.exists());
    server.forget();
    let ran = run(&folder, &server, &["pull", "hf.co/user/repo"]).ok();
    assert_eq!(fs::read(&blob).unwrap(), file);
    assert!(ran.stderr.contains("are here"), "{}", ran.stderr);
    assert!(server.sent() < file.len(), "{} of {} bytes were sent again", server.sent(), file.len());
}

#[test]
fn two_processes_fetch_a_file_once() {
    let folder = Folder::new();
    let file = bytes(4 << 20, 2);
    let server = slow(&file);
    let start = || command(&folder, &server, &["pull", "hf.co/user/repo"]).spawn().unwrap();
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    let waited =
        outputs.iter().any(|o| String::from_utf8_lossy(&o.stderr).contains("another process downloads"));
    assert!(waited, "{outputs:?}");
    assert!(server.sent() < file.len() + 10_000, "{} bytes", server.sent());
}

#[cfg(unix)]
#[test]
fn a_disk_without_room_keeps_what_came() {
    let folder = Folder::new();
    let file = bytes(4 << 20, 3);
    let model = HuggingFace::new("user/repo", &[("m-Q4_K_M.gguf", &file)]);
    let server = Server::start(move |request| {
        if request.range().is_some_and(|(first, _)| first >= 2 << 20) {
            // The others' bytes are here by then.
            std::thread::sleep(Duration::from_millis(500));
        }
        model.reply(request)
    });
    // No file may be longer than 2 MiB (in blocks of 512 bytes); the signal that says so is ignored.
    let mut limited = Command::new("sh");
    let line =
        format!("trap '' XFSZ; ulimit -f 4096; exec '{}' pull hf.co/user/repo", env!("CARGO_BIN_EXE_bise"));
    let plain = command(&folder, &server, &[]);
    limited.args(["-c", &line]).current_dir(folder.path(""));
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("what has arrived is kept"), "{stderr}");
    server.forget();
    run(&folder, &server, &["pull", "hf.co/user/repo"]).ok();
    assert!(server.sent() < file.len(), "{} bytes", server.sent());
}

#[test]
fn a_server_is_asked_what_it_holds_and_told_to_drop_it() {
    let folder = Folder::new();
    let ps = r#"{"models":[{"name":"tiny:latest","digest":"sha256:0123456789abcdef","size":5200000,"size_vram":0,
        "context_length":2048,"expires_at":"2999-01-01T00:00:00Z"}]}"#;
    let server = Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/ps") => Reply::text(ps),
        ("POST", "/api/generate") => {
            Reply::text("{\"model\":\"tiny\"}\n{\"done\":true,\"done_reason\":\"unload\"}\n")
        }
        _ => Reply { status: 404, ..Reply::text("{\"error\":\"model 'x' not found\"}") },
    });
    let host = server.address.to_string();
    let listed = folder.bise(["ps", "--host", &host]).ok();
    let rows: Vec<Vec<&str>> = listed.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]);
    assert_eq!(rows[1], ["tiny:latest", "0123456789ab", "5.2", "MB", "100%", "CPU", "2048", "Forever"]);
    let mut command = folder.command(["stop", "tiny"]);
    folder.finish(command.env("OLLAMA_HOST", server.url("/")), b"").ok();
    assert_eq!(server.requests().last().unwrap().method, "POST");
    let error = folder.bise(["ps", "--host", &server.url("/other")]);
    assert!(error.error().contains("model 'x' not found"), "{}", error.stderr);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = folder.bise(["ps", "--host", &format!("127.0.0.1:{port}")]);
    assert!(error.error().contains("no server answers there"), "{}", error.stderr);
}
