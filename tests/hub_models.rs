//! Models of the Hugging Face Hub and of Ollama's registry: caches, stores and names.

#![cfg(feature = "hub")]

mod hub_support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bise::hub::modelfile::Modelfile;
use bise::hub::ollama::name::ModelName;
use bise::hub::{Hub, HubError, LocalModel, Place, Progress, Reference, Sha256};
use hub_support::{COMMIT, HuggingFace, Reply, Server, bytes, hub};

fn unwatched(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn pull(hub: &Hub, name: &str) -> Result<LocalModel, HubError> {
    hub.pull(&Reference::parse(name)?, &mut unwatched)
}

fn find(hub: &Hub, name: &str) -> Option<LocalModel> {
    hub.find(&Reference::parse(name).unwrap()).unwrap()
}

fn serve(model: &HuggingFace) -> Server {
    let model = model.clone();
    Server::start(move |request| model.reply(request))
}

/// A model in a store of Ollama's, and its weights.
fn ollama_store(root: &Path, name: &str, tag: &str, weights: &[u8]) {
    let blobs = root.join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let layer = |kind: &str, bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(blobs.join(format!("sha256-{digest}")), bytes).unwrap();
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{}}}"#, bytes.len())
    };
    let image = |kind: &str, bytes: &[u8]| layer(&format!("application/vnd.ollama.image.{kind}"), bytes);
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{},"layers":[{}]}}"#,
        layer("application/vnd.docker.container.image.v1+json", br#"{"model_format":"gguf"}"#),
        [
            image("model", weights),
            image("template", b"[INST] {{ .Prompt }} [/INST]"),
            image("system", b"Be brief."),
            image("params", br#"{"stop":["[INST]","[/INST]"],"temperature":0.5}"#),
            image("license", b"Apache License"),
        ]
        .join(",")
    );
    let folder = root.join("manifests/registry.ollama.ai/library").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(tag), text).unwrap();
}

/// Serves a store as a registry does.
fn registry(root: PathBuf) -> Server {
    Server::start(move |request| {
        let path = request.path.strip_prefix("/v2/library/m/").unwrap_or_default();
        let file = match path.split_once('/') {
            Some(("manifests", tag)) => root.join("manifests/registry.ollama.ai/library/m").join(tag),
            Some(("blobs", digest)) => root.join("blobs").join(digest.replace(':', "-")),
            _ => return Reply::status(404),
        };
        match fs::read(file) {
            Ok(bytes) => Reply::file(request, &bytes, "x"),
            Err(_) => Reply::status(404),
        }
    })
}

#[cfg(unix)]
#[test]
fn the_cache_is_that_of_huggingface_hub() {
    let (q4, q8) = (bytes(1000, 1), bytes(2000, 2));
    let model = HuggingFace::new("user/repo", &[("m-Q8_0.gguf", &q8), ("sub/m-Q4_K_M.gguf", &q4)]);
    let server = serve(&model);
    let folder = tempfile::tempdir().unwrap();
    let hub =
        hub(folder.path(), &[("HF_ENDPOINT", &server.url("")), ("HF_HOME", folder.path().to_str().unwrap())]);
    let pulled = pull(&hub, "hf.co/user/repo").unwrap();
    let cache = folder.path().join("hub/models--user--repo");
    assert_eq!(pulled.path, cache.join("snapshots").join(COMMIT).join("sub/m-Q4_K_M.gguf"));
    assert_eq!(fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(&pulled.path).unwrap();
    assert_eq!(link, PathBuf::from(format!("../../../blobs/{}", Sha256::of(&q4))));
    assert_eq!(fs::read(&pulled.path).unwrap(), q4);
    assert!(folder.path().join(format!("hub/.locks/models--user--repo/{}.lock", Sha256::of(&q4))).is_file());
    assert_eq!(
        (pulled.bytes, pulled.digest, pulled.place),
        (1000, Some(Sha256::of(&q4)), Place::HuggingFace)
    );
    // What is there is not fetched again.
    server.forget();
    pull(&hub, "hf.co/user/repo:q4_k_m").unwrap();
    assert_eq!(server.requests().len(), 1, "only the list: {:?}", server.requests());
    assert!(find(&hub, "hf.co/user/repo:Q8_0").is_none());
    pull(&hub, "hf.co/user/repo:Q8_0").unwrap();
    let names: Vec<String> = hub.list().into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["hf.co/user/repo:Q8_0", "hf.co/user/repo:Q4_K_M"]);
    // Another repository's file stays.
    hub.remove(&Reference::parse("hf.co/user/repo:Q8_0").unwrap()).unwrap();
    assert!(find(&hub, "hf.co/user/repo:Q8_0").is_none() && find(&hub, "hf.co/user/repo").is_some());
    assert_eq!(fs::read_dir(cache.join("blobs")).unwrap().count(), 1);
}

#[test]
fn every_part_of_a_split_model_is_fetched() {
    let parts: Vec<Vec<u8>> = (0..3).map(|i| bytes(100 + i, i as u32)).collect();
    let files = [
        ("m-Q4_K_M-00001-of-00003.gguf", parts[0].as_slice()),
        ("m-Q4_K_M-00002-of-00003.gguf", &parts[1]),
        ("m-Q4_K_M-00003-of-00003.gguf", &parts[2]),
        ("m-Q8_0.gguf", b"no"),
    ];
    let server = serve(&HuggingFace::new("user/repo", &files));
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), &[("HF_ENDPOINT", &server.url(""))]);
    let pulled = pull(&hub, "hf.co/user/repo").unwrap();
    let found: Vec<Vec<u8>> = pulled.files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert_eq!((pulled.bytes, found), (303, parts));
    assert!(pulled.path.ends_with("m-Q4_K_M-00001-of-00003.gguf"));
    fs::remove_file(&pulled.files[1]).unwrap();
    assert!(find(&hub, "hf.co/user/repo:Q4_K_M").is_none(), "a model without a part is not there");
}

#[test]
fn wrong_bytes_and_wrong_sizes_are_refused() {
    let (right, wrong, short) = (bytes(5000, 1), bytes(5000, 2), bytes(4000, 1));
    let model = HuggingFace::new("user/repo", &[("m-Q4_K_M.gguf", &right)]);
    for (served, want) in [(wrong, "found SHA-256"), (short, "found a file of 4000 bytes, expected 5000")] {
        let model = model.clone();
        let server = Server::start(move |request| match request.path.starts_with("/api/") {
            true => model.reply(request),
            false => Reply::file(request, &served, "x"),
        });
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(folder.path(), &[("HF_ENDPOINT", &server.url(""))]);
        let error = pull(&hub, "hf.co/user/repo").unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(find(&hub, "hf.co/user/repo").is_none());
        let blobs = folder.path().join(".cache/huggingface/hub/models--user--repo/blobs");
        assert_eq!(fs::read_dir(blobs).unwrap().count(), 0, "nothing wrong is left");
    }
}

#[test]
fn a_file_that_is_not_the_known_one_is_refused() {
    let model = HuggingFace::new(
        "TheBloke/Mistral-7B-Instruct-v0.2-GGUF",
        &[("mistral-7b-instruct-v0.2.Q4_K_M.gguf", b"GGUF, but another")],
    );
    let server = serve(&model);
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path(), &[("HF_ENDPOINT", &server.url(""))]);
    let error = pull(&hub, "mistral:v0.2").unwrap_err().to_string();
    assert!(error.contains("3e0039fd") && error.contains("bise pull hf.co/TheBloke/"), "{error}");
    // Whoever asks for it by its address gets it as it is.
    assert!(pull(&hub, "hf.co/TheBloke/Mistral-7B-Instruct-v0.2-GGUF").is_ok());
}

#[test]
fn a_name_of_the_table_is_found_in_the_cache_without_the_network() {
    let model = HuggingFace::new(
        "bartowski/Codestral-22B-v0.1-GGUF",
        &[("Codestral-22B-v0.1-Q4_K_M.gguf", b"GGUF"), ("Codestral-22B-v0.1-Q8_0.gguf", b"no")],
    );
    let server = serve(&model);
    let folder = tempfile::tempdir().unwrap();
    let pulled = pull(&hub(folder.path(), &[("HF_ENDPOINT", &server.url(""))]), "codestral").unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), b"GGUF");
    assert!(pulled.extras.licenses[0].starts_with("MNPL"));
    let offline = hub(folder.path(), &[("HF_HUB_OFFLINE", "1")]);
    let found = offline.get(&Reference::parse("codestral:22b").unwrap(), &mut unwatched).unwrap();
    assert_eq!(found.path, pulled.path);
    assert_eq!(offline.list()[0].name, "codestral:latest");
    let error = offline.get(&Reference::parse("mixtral").unwrap(), &mut unwatched).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    for (status, code, token, want) in [
        (401, "GatedRepo", None, "is gated: accept its conditions at http"),
        (403, "GatedRepo", Some("hf_x"), "has no access"),
        (401, "RepoNotFound", None, "no such repository, or it is private"),
        (401, "", Some("hf_x"), "token was not accepted"),
        (404, "RevisionNotFound", None, "no such revision"),
        (404, "RepoNotFound", None, "no such model or file"),
    ] {
        let server = Server::start(move |_| Reply::status(status).with("X-Error-Code", code));
        let folder = tempfile::tempdir().unwrap();
        let url = server.url("");
        let mut variables = vec![("HF_ENDPOINT", url.as_str())];
        variables.extend(token.map(|token| ("HF_TOKEN", token)));
        let error = pull(&hub(folder.path(), &variables), "hf.co/user/repo").unwrap_err().to_string();
        assert!(error.contains(want) && !error.contains("hf_x"), "{status} {code}: {error}");
    }
}

#[test]
fn a_hostile_list_writes_nothing_outside() {
    for evil in ["../../../evil.gguf", "/tmp/evil.gguf", "a/../../evil.gguf", r"..\\evil.gguf"] {
        let listing = HuggingFace::new("user/repo", &[("x-Q4_K_M.gguf", b"x")])
            .listing()
            .replace("x-Q4_K_M.gguf", evil);
        let server = Server::start(move |request| match request.path.starts_with("/api/") {
            true => Reply::text(listing.clone()),
            false => Reply::file(request, b"x", "x"),
        });
        let folder = tempfile::tempdir().unwrap();
        let error =
            pull(&hub(folder.path(), &[("HF_ENDPOINT", &server.url(""))]), "hf.co/user/repo").unwrap_err();
        assert!(error.to_string().contains("inside the repository"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_the_network_cannot_bring_may_be_here() {
    let server = serve(&HuggingFace::new("user/repo", &[("m-Q4_K_M.gguf", b"GGUF")]));
    let folder = tempfile::tempdir().unwrap();
    let reference = Reference::parse("hf.co/user/repo").unwrap();
    let online = hub(folder.path(), &[("HF_ENDPOINT", &server.url(""))]);
    online.get_newest(&reference, &mut unwatched).unwrap();
    let down = Server::start(|_| Reply::status(503));
    let mut notes = Vec::new();
    let found =
        hub(folder.path(), &[("HF_ENDPOINT", &down.url(""))]).get_newest(&reference, &mut |progress| {
            if let Progress::Note { text } = progress {
                notes.push(text.to_string());
            }
            ControlFlow::Continue(())
        });
    assert!(found.is_ok() && notes[0].contains("answered 503") && notes[0].contains("is used"), "{notes:?}");
}

#[test]
fn a_model_that_ollama_has_is_used_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("ollama");
    ollama_store(&store, "mistral", "latest", b"GGUF of Ollama");
    let offline = hub(folder.path(), &[("OLLAMA_MODELS", store.to_str().unwrap()), ("HF_HUB_OFFLINE", "1")]);
    let found = offline.get(&Reference::parse("mistral").unwrap(), &mut unwatched).unwrap();
    assert_eq!(fs::read(&found.path).unwrap(), b"GGUF of Ollama");
    assert!(found.path.starts_with(&store) && found.place == Place::Ollama);
    assert_eq!(found.extras.system.as_deref(), Some("Be brief."));
    assert_eq!(found.extras.params["temperature"], 0.5);
    assert_eq!((found.extras.jinja(), found.extras.licenses.len()), (None, 1));
    assert_eq!(offline.list()[0].name, "mistral:latest");
    let error = offline.remove(&Reference::parse("mistral").unwrap()).unwrap_err().to_string();
    assert!(error.contains("ollama rm"), "{error}");
    // As older versions named blobs.
    let digest = Sha256::of(b"GGUF of Ollama");
    let blobs = store.join("blobs");
    fs::rename(blobs.join(format!("sha256-{digest}")), blobs.join(format!("sha256:{digest}"))).unwrap();
    assert!(find(&offline, "mistral").is_some());
    // Without its weights, it is not there.
    fs::remove_file(blobs.join(format!("sha256:{digest}"))).unwrap();
    assert!(find(&offline, "mistral").is_none());
}

#[test]
fn a_registry_is_asked_for_names_that_nothing_else_has() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    ollama_store(&remote, "m", "t", b"GGUF of the registry");
    let server = registry(remote.clone());
    let hub = hub(folder.path(), &[]);
    let name = format!("{}/library/m:t", server.url(""));
    let pulled = pull(&hub, &name).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), b"GGUF of the registry");
    assert_eq!((pulled.place, pulled.extras.system.as_deref()), (Place::Own, Some("Be brief.")));
    assert_eq!(
        pulled.digest,
        Some(Sha256::of(&fs::read(remote.join("manifests/registry.ollama.ai/library/m/t")).unwrap()))
    );
    let accept = &server.requests()[0].headers["accept"];
    assert_eq!(accept, "application/vnd.docker.distribution.manifest.v2+json");
    server.forget();
    pull(&hub, &name).unwrap();
    assert_eq!(server.requests().len(), 1, "blobs that are here are not fetched again");
    let error = pull(&hub, &format!("{}/library/m:none", server.url(""))).unwrap_err().to_string();
    assert!(error.contains("no such model"), "{error}");
    // Wrong bytes under a digest.
    let digest = Sha256::of(b"GGUF of the registry");
    hub.remove(&Reference::parse(&name).unwrap()).unwrap();
    fs::write(remote.join(format!("blobs/sha256-{digest}")), b"GGUF of the rogistry").unwrap();
    let error = pull(&hub, &name).unwrap_err();
    assert!(matches!(error, HubError::Checksum { .. }), "{error}");
    assert!(find(&hub, &name).is_none());
}

#[test]
fn a_digest_of_a_registry_is_no_path() {
    let manifest = r#"{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../../../evil","size":1}],
        "config":{"mediaType":"x","digest":"sha256:../../evil","size":1}}"#;
    let server = Server::start(move |_| Reply::text(manifest));
    let folder = tempfile::tempdir().unwrap();
    let error =
        pull(&hub(folder.path(), &[]), &format!("{}/library/m", server.url(""))).unwrap_err().to_string();
    assert!(error.contains("64 hexadecimal digits"), "{error}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_model_has_many_names_and_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.gguf");
    fs::write(&file, b"GGUF").unwrap();
    let hub = hub(folder.path(), &[]);
    let model = find(&hub, file.to_str().unwrap()).unwrap();
    let modelfile =
        Modelfile::parse("FROM m\nSYSTEM You are a pirate.\nPARAMETER top_k 7\nMESSAGE user Hi").unwrap();
    let name = |text: &str| ModelName::parse(text).unwrap();
    hub.store(&model, &modelfile.extras, &name("pirate"), &mut unwatched).unwrap();
    let pirate = find(&hub, "pirate").unwrap();
    assert_eq!(pirate.extras, modelfile.extras);
    hub.store(&pirate, &pirate.extras, &name("me/corsair:v1"), &mut unwatched).unwrap();
    assert_eq!(find(&hub, "me/corsair:v1").unwrap().path, pirate.path);
    let blobs = folder.path().join(".local/share/bise/models/blobs");
    let weights = blobs.join(format!("sha256-{}", Sha256::of(b"GGUF")));
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&weights).unwrap()),
        2,
        "it is not copied"
    );
    hub.remove(&Reference::parse("pirate").unwrap()).unwrap();
    assert!(weights.is_file(), "the other name still needs it");
    hub.remove(&Reference::parse("me/corsair:v1").unwrap()).unwrap();
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
    assert!(file.is_file(), "the user's own file stays");
    assert!(matches!(hub.remove(&Reference::parse("pirate").unwrap()), Err(HubError::NotFound { .. })));
}
