//! `-m FOLDER` and `-hf` of a repository without GGUF files: checkpoints are made into files once, and run.

#![cfg(all(feature = "cli", feature = "convert", feature = "hub"))]

mod cli_support;
mod convert_support;
mod hub_support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use bise::hub::{HubError, Progress, Reference};
use cli_support::{Folder, Ran};
use convert_support::Family;
use hub_support::{HuggingFace, Server};

const STORY: [&str; 8] = ["-p", "Once upon a time", "-n", "6", "--temp", "0", "-no-cnv", "--ignore-eos"];

/// A folder with the checkpoint `source`.
fn with_checkpoint(family: &str) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("source")).unwrap();
    Family::load(family).write(&folder.path("source"));
    folder
}

fn story(folder: &Folder, model: &[&str]) -> Ran {
    folder.bise(model.iter().chain(&STORY))
}

/// The files that were made of checkpoints.
fn made(folder: &Folder) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let root = folder.path(".local/share/bise/models/converted");
    for entry in fs::read_dir(root).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        found.extend(fs::read_dir(entry.path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    found
}

#[test]
fn a_folder_with_a_checkpoint_is_a_model() {
    let folder = with_checkpoint("mistral-v0.1");
    folder.bise(["convert", "source", "-o", "file.gguf", "--outtype", "q4_k_m"]).ok();
    let want = story(&folder, &["-m", "file.gguf"]).ok();
    let first = story(&folder, &["-m", "source"]).ok();
    assert_eq!(first.text(), want.text());
    assert!(
        first.stderr.contains("converting") && first.stderr.contains("source:Q4_K_M"),
        "{}",
        first.stderr
    );
    assert_eq!(fs::read(&made(&folder)[0]).unwrap(), fs::read(folder.path("file.gguf")).unwrap());
    let second = story(&folder, &["-m", "source/"]).ok();
    assert_eq!(second.text(), want.text());
    assert!(!second.stderr.contains("converting"), "{}", second.stderr);
    let source = folder.path("source");
    let source = source.to_str().unwrap();
    for command in [
        &["tokenize", "-m", source, "-p", "Once"][..],
        &["bench", "-m", source, "-p", "2", "-n", "0", "-r", "1"],
        &["inspect", source],
        &["run", source, "Once"],
    ] {
        let ran = folder.bise(command).ok();
        assert!(!ran.stderr.contains("converting"), "{command:?}: {}", ran.stderr);
    }
    assert_eq!(made(&folder).len(), 1);
}

#[test]
fn another_type_follows_a_colon() {
    let folder = with_checkpoint("native-v0.1");
    folder.bise(["convert", "source", "-o", "file.gguf", "--outtype", "q8_0"]).ok();
    let want = story(&folder, &["-m", "file.gguf"]).ok();
    let ran = story(&folder, &["-m", "source:q8_0"]).ok();
    assert_eq!(ran.text(), want.text());
    assert!(made(&folder)[0].ends_with("source-Q8_0.gguf"), "{:?}", made(&folder));
    let ran = story(&folder, &["-m", "source:Q9_K"]);
    assert!(
        ran.error().contains("the type Q9_K, expected AUTO or one of") && ran.stderr.contains("Q4_K_M"),
        "{}",
        ran.stderr
    );
    assert_eq!(made(&folder).len(), 1);
}

#[test]
fn a_checkpoint_of_integers_keeps_them_unless_a_type_is_asked_for() {
    let folder = with_checkpoint("gptq");
    folder.bise(["convert", "source", "-o", "file.gguf"]).ok();
    let want = story(&folder, &["-m", "file.gguf"]).ok();
    let ran = story(&folder, &["-m", "source"]).ok();
    assert_eq!(ran.text(), want.text());
    let file = made(&folder).remove(0);
    assert!(file.ends_with("source-AUTO.gguf"), "{}", file.display());
    assert_eq!(fs::read(&file).unwrap(), fs::read(folder.path("file.gguf")).unwrap());
    let ran = story(&folder, &["-m", "source:auto"]).ok();
    assert!(!ran.stderr.contains("converting"), "{}", ran.stderr);
    story(&folder, &["-m", "source:Q4_K_M"]).ok();
    assert_eq!(made(&folder).len(), 2);
}

#[test]
fn a_checkpoint_that_changed_is_converted_anew() {
    let folder = with_checkpoint("mistral-v0.1");
    story(&folder, &["-m", "source"]).ok();
    let before = made(&folder);
    let config = folder.path("source/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n")).unwrap();
    let ran = story(&folder, &["-m", "source"]).ok();
    assert!(ran.stderr.contains("converting"), "{}", ran.stderr);
    let after = made(&folder);
    assert_eq!((before.len(), after.len()), (1, 1), "the older file is gone");
    assert_ne!(before, after);
}

#[test]
fn what_a_killed_process_left_is_not_used() {
    let folder = with_checkpoint("mistral-v0.1");
    let want = story(&folder, &["-m", "source"]).ok();
    let file = made(&folder).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap();
    let left_over = file.with_file_name(format!(".{name}.abcdef.part"));
    fs::rename(&file, &left_over).unwrap();
    assert_eq!(folder.bise(["list"]).ok().text().matches("source").count(), 0);
    let ran = story(&folder, &["-m", "source"]).ok();
    assert_eq!(ran.text(), want.text());
    assert!(ran.stderr.contains("converting"), "{}", ran.stderr);
    assert!(!left_over.exists() && file.is_file());
}

/// The names in the cache of converted checkpoints.
fn cache(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path(".local/share/bise/models/converted")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_killed_process_left_of_an_older_checkpoint_is_removed() {
    let folder = with_checkpoint("mistral-v0.1");
    story(&folder, &["-m", "source"]).ok();
    let file = made(&folder).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap();
    fs::rename(&file, file.with_file_name(format!(".{name}.abcdef.part"))).unwrap();
    let config = folder.path("source/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n")).unwrap();
    story(&folder, &["-m", "source"]).ok();
    let newest = made(&folder).remove(0).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(cache(&folder), [newest], "no folder of the killed process, and no lock");
}

#[cfg(unix)]
#[test]
fn what_is_newer_or_being_made_is_not_removed() {
    let folder = with_checkpoint("mistral-v0.1");
    let source = fs::canonicalize(folder.path("source")).unwrap();
    let root = folder.path(".local/share/bise/models/converted");
    let record = |key: &str, made_of: &str| {
        fs::create_dir_all(root.join(key)).unwrap();
        let name = format!("{}:Q4_K_M", source.display());
        let record =
            serde_json::json!({"name": name, "file": "x.gguf", "made_of": made_of, "type": "Q4_K_M"});
        fs::write(root.join(key).join("source.json"), record.to_string()).unwrap();
    };
    let hour = std::time::Duration::from_secs(3600);
    let now = std::time::SystemTime::now();
    for (key, time) in [("newer", now + hour), ("older", now - hour)] {
        // Of another revision, which has another folder.
        record(key, "/elsewhere");
        fs::write(root.join(key).join("x.gguf"), "x").unwrap();
        fs::File::open(root.join(key)).unwrap().set_modified(time).unwrap();
    }
    record("making", source.to_str().unwrap());
    fs::write(root.join("making/.x.gguf.abcdef.part"), "x").unwrap();
    let lock = fs::File::create(root.join("making.lock")).unwrap();
    lock.lock().unwrap();
    fs::write(root.join("forgotten.lock"), "").unwrap();
    story(&folder, &["-m", "source"]).ok();
    let mut names = cache(&folder);
    names.retain(|name| !root.join(name).join("source-Q4_K_M.gguf").exists());
    assert_eq!(names, ["making", "making.lock", "newer"]);
    assert!(root.join("making/.x.gguf.abcdef.part").exists() && root.join("newer/x.gguf").exists());
}

#[test]
fn what_cannot_be_converted_leaves_nothing() {
    let folder = with_checkpoint("mistral-v0.1");
    fs::remove_file(folder.path("source/tokenizer.model")).unwrap();
    let ran = story(&folder, &["-m", "source"]);
    assert!(ran.error().contains("tokenizer: found none"), "{}", ran.stderr);
    assert_eq!(made(&folder), [] as [PathBuf; 0]);
    fs::create_dir(folder.path("empty")).unwrap();
    let ran = story(&folder, &["-m", "empty"]);
    assert!(ran.error().contains("neither config.json nor params.json"), "{}", ran.stderr);
    folder.write("empty/config.json", "{}");
    folder.write("empty/pytorch_model.bin", "x");
    let ran = story(&folder, &["-m", "empty"]);
    assert!(ran.error().contains("pytorch_model.bin"), "{}", ran.stderr);
}

#[test]
fn a_conversion_can_be_cancelled_and_leaves_nothing() {
    let folder = with_checkpoint("mistral-v0.1");
    let hub = hub_support::hub(&folder.path("."), &[]);
    let reference = Reference::File(folder.path("source"));
    let mut n_told = 0;
    let ended = hub.get(&reference, &mut |progress| {
        n_told += usize::from(matches!(progress, Progress::Converting { .. }));
        if n_told > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(ended, Err(HubError::ConversionCancelled)), "{ended:?}");
    assert_eq!(made(&folder), [] as [PathBuf; 0]);
    assert!(hub.find(&reference).unwrap().is_none());
    hub.get(&reference, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(hub.find(&reference).unwrap().is_some());
}

#[test]
fn two_processes_convert_once() {
    let folder = with_checkpoint("mixtral");
    let line = || {
        let mut command = folder.command(["-m", "source"].iter().chain(&STORY));
        command.spawn().unwrap()
    };
    let children = [line(), line(), line()];
    let outputs = children.map(|child| child.wait_with_output().unwrap());
    let stderr = |output: &std::process::Output| String::from_utf8(output.stderr.clone()).unwrap();
    assert!(outputs.iter().all(|output| output.status.success()), "{}", stderr(&outputs[0]));
    assert!(outputs.iter().all(|output| output.stdout == outputs[0].stdout));
    let converts = |output: &&std::process::Output| {
        stderr(output).lines().any(|line| line.contains("converting") && !line.contains("another process"))
    };
    assert_eq!(outputs.iter().filter(converts).count(), 1);
    assert_eq!(made(&folder).len(), 1);
}

/// A hub with a checkpoint and nothing else.
fn serve(family: &str) -> Server {
    let folder = with_checkpoint(family);
    let mut files: Vec<(&'static str, Vec<u8>)> = vec![("README.md", b"# x".to_vec())];
    for entry in fs::read_dir(folder.path("source")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.push((name.leak(), fs::read(&path).unwrap()));
    }
    let hub = HuggingFace { repository: "user/repo", files };
    Server::start(move |request| hub.reply(request))
}

fn on(server: &Server, folder: &Folder, args: &[&str]) -> Ran {
    let mut command: Command = folder.command(args);
    command.env("HF_ENDPOINT", server.url("")).env_remove("HF_HUB_OFFLINE");
    folder.finish(&mut command, b"")
}

#[test]
fn hf_of_a_repository_with_safetensors_alone_converts_them() {
    let (folder, server) = (Folder::new(), serve("mistral-v0.1"));
    let line = |start: &[&'static str]| -> Vec<&str> { start.iter().chain(&STORY).copied().collect() };
    let first = on(&server, &folder, &line(&["-hf", "user/repo"])).ok();
    for words in ["downloading model", "converting hf.co/user/repo:Q4_K_M"] {
        assert!(first.stderr.contains(words), "{words}: {}", first.stderr);
    }
    assert!(!server.requests().iter().any(|request| request.path.contains("README")));
    let local = with_checkpoint("mistral-v0.1");
    assert_eq!(first.text(), story(&local, &["-m", "source"]).ok().text());

    server.forget();
    let second = on(&server, &folder, &line(&["-hf", "user/repo:q4_k_m"])).ok();
    assert_eq!((second.text(), server.requests().len()), (first.text(), 1));
    assert!(!second.stderr.contains("converting"), "{}", second.stderr);
    let offline = on(&server, &folder, &line(&["--offline", "-hf", "user/repo"])).ok();
    assert_eq!((offline.text(), server.requests().len()), (first.text(), 1));
    // What is here is converted to another type without the network.
    let other = on(&server, &folder, &line(&["--offline", "-hf", "user/repo:Q8_0"])).ok();
    assert!(other.stderr.contains("converting hf.co/user/repo:Q8_0"), "{}", other.stderr);
    assert_eq!(server.requests().len(), 1);
    let error = on(&server, &folder, &line(&["--offline", "-hf", "user/other"]));
    assert!(error.error().contains("hf.co/user/other"), "{}", error.stderr);

    let list = folder.bise(["list"]).ok();
    for name in ["hf.co/user/repo:Q4_K_M ", "hf.co/user/repo:Q8_0 "] {
        assert!(list.text().contains(name), "{name}: {}", list.text());
    }
    assert!(folder.bise(["show", "hf.co/user/repo"]).ok().text().contains("llama"));
    folder.bise(["rm", "hf.co/user/repo:Q4_K_M"]).ok();
    assert!(!folder.bise(["list"]).ok().text().contains("Q4_K_M"));
    assert_eq!(made(&folder).len(), 1);
    let error = folder.bise(["rm", "hf.co/user/repo:Q4_K_M"]);
    assert!(error.error().contains("hf.co/user/repo:Q4_K_M"), "{}", error.stderr);
    // The checkpoint itself is not ours alone.
    server.forget();
    let again = on(&server, &folder, &line(&["-hf", "user/repo"])).ok();
    assert_eq!((again.text(), server.requests().len()), (first.text(), 1));
}

#[test]
fn a_folder_is_listed_and_removed_by_its_name_and_stays() {
    let folder = with_checkpoint("mistral-v0.1");
    story(&folder, &["-m", "source"]).ok();
    let source = fs::canonicalize(folder.path("source")).unwrap();
    let name = format!("{}:Q4_K_M", source.display());
    assert!(folder.bise(["list"]).ok().text().contains(&name));
    folder.bise(["rm", &name]).ok();
    assert_eq!(made(&folder), [] as [PathBuf; 0]);
    assert!(Path::new(&source).join("config.json").is_file());
    assert!(folder.bise(["rm", &name]).error().contains("there is no model"), "nothing is left to remove");
}

#[test]
fn a_gguf_file_is_preferred_to_a_checkpoint() {
    let folder = Folder::new();
    let gguf = fs::read(folder.model()).unwrap();
    let files = vec![
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", b"x".to_vec()),
        ("tiny-Q4_K_M.gguf", gguf),
    ];
    let hub = HuggingFace { repository: "user/repo", files };
    let server = Server::start(move |request| hub.reply(request));
    let line: Vec<&str> = ["-hf", "user/repo"].iter().chain(&STORY).copied().collect();
    let ran = on(&server, &folder, &line).ok();
    assert!(!ran.stderr.contains("converting"), "{}", ran.stderr);
    assert!(!server.requests().iter().any(|request| request.path.contains("safetensors")));
}
