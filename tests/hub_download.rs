//! Downloads from servers that misbehave.

#![cfg(feature = "hub")]

mod hub_support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bise::hub::{HubError, Progress, Reference};
use hub_support::{HuggingFace, Reply, Server, bytes, hub};

const MEGABYTE: usize = 1 << 20;

fn unwatched(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Downloads `/m.gguf` of a server to `folder`.
fn fetch(server: &Server, folder: &Path) -> Result<Vec<u8>, HubError> {
    let to = folder.join("m.gguf");
    hub(folder, &[]).pull_url_to(&server.url("/m.gguf"), &to, &mut unwatched)?;
    Ok(fs::read(to).unwrap())
}

#[test]
fn a_file_comes_in_ranges_that_do_not_overlap() {
    let file = bytes(6 * MEGABYTE + 17, 1);
    let served = file.clone();
    let server = Server::start(move |request| Reply::file(request, &served, "v1"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(&server, folder.path()).unwrap(), file);
    assert_eq!(names(folder.path()), ["m.gguf", "m.gguf.lock"]);
    // One byte to ask, and then every byte once.
    let mut ranges: Vec<_> = server.requests().iter().map(|request| request.range().unwrap()).collect();
    assert_eq!(ranges.remove(0), (0, 0));
    ranges.sort();
    assert_eq!(ranges.len(), 7);
    assert_eq!((ranges[0].0, ranges[6].1), (0, file.len() - 1));
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{ranges:?}");
    // It is there now.
    server.forget();
    assert_eq!(fetch(&server, folder.path()).unwrap(), file);
    assert!(server.requests().is_empty());
}

#[test]
fn an_empty_file_is_a_file() {
    let server = Server::start(|request| Reply::file(request, &[], "v1"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(&server, folder.path()).unwrap(), b"");
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_broke() {
    let file = bytes(3 * MEGABYTE, 2);
    let served = file.clone();
    let server = Server::start(move |request| Reply::file(request, &served, "v1").cut_after(400_000));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(&server, folder.path()).unwrap(), file);
    assert!(server.sent() < file.len() + 10, "no byte is sent twice: {}", server.sent());
}

#[test]
fn a_server_without_ranges_gives_the_whole_file() {
    let file = bytes(MEGABYTE, 3);
    let served = file.clone();
    let n = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let reply = Reply::text(served.clone());
        // The first time, the connection breaks.
        if n.fetch_add(1, Ordering::SeqCst) == 0 { reply.cut_after(1000) } else { reply }
    });
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(&server, folder.path()).unwrap(), file);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_server_that_never_gives_more_is_given_up_and_what_came_is_kept() {
    let file = bytes(4 * MEGABYTE, 4);
    let served = file.clone();
    let broken = Arc::new(AtomicUsize::new(1));
    let is_broken = broken.clone();
    let server = Server::start(move |request| match request.range().unwrap().0 {
        first if first >= 2 * MEGABYTE && is_broken.load(Ordering::SeqCst) == 1 => {
            // The others' bytes are here by then.
            std::thread::sleep(std::time::Duration::from_millis(500));
            Reply::status(403)
        }
        _ => Reply::file(request, &served, "v1"),
    });
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server, folder.path()).unwrap_err();
    assert!(matches!(error, HubError::Status { status: 403, .. }), "{error}");
    assert_eq!(names(folder.path()), ["m.gguf.bise-part", "m.gguf.bise-part.json", "m.gguf.lock"]);
    let list = fs::read_to_string(folder.path().join("m.gguf.bise-part.json")).unwrap();
    broken.store(0, Ordering::SeqCst);
    server.forget();
    assert_eq!(fetch(&server, folder.path()).unwrap(), file);
    assert!(server.sent() <= file.len() - MEGABYTE + 1, "{} bytes after {list}", server.sent());
}

#[test]
fn a_file_that_changes_on_the_way_begins_anew() {
    let (old, new) = (bytes(3 * MEGABYTE, 5), bytes(3 * MEGABYTE, 6));
    let (first, second) = (old.clone(), new.clone());
    let n = AtomicUsize::new(0);
    let server = Server::start(move |request| match n.fetch_add(1, Ordering::SeqCst) {
        0..3 => Reply::file(request, &first, "v1"),
        _ => Reply::file(request, &second, "v2"),
    });
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(&server, folder.path()).unwrap(), new);
}

#[test]
fn a_file_that_always_changes_is_an_error() {
    let file = bytes(2 * MEGABYTE, 7);
    let n = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        Reply::file(request, &file, &n.fetch_add(1, Ordering::SeqCst).to_string())
    });
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server, folder.path()).unwrap_err();
    assert!(matches!(error, HubError::Changed { .. }), "{error}");
    assert!(!folder.path().join("m.gguf").exists());
}

#[test]
fn a_part_of_another_version_is_not_used() {
    let (old, new) = (bytes(2 * MEGABYTE, 8), bytes(2 * MEGABYTE, 9));
    let broken = Server::start(move |request| match request.range().unwrap().0 {
        first if first >= MEGABYTE => Reply::status(403),
        _ => Reply::file(request, &old, "v1"),
    });
    let folder = tempfile::tempdir().unwrap();
    assert!(fetch(&broken, folder.path()).is_err());
    let served = new.clone();
    let server = Server::start(move |request| Reply::file(request, &served, "v2"));
    assert_eq!(fetch(&server, folder.path()).unwrap(), new);
}

#[test]
fn a_range_that_is_not_the_one_asked_for_is_refused() {
    let file = bytes(2 * MEGABYTE, 10);
    let server = Server::start(move |request| {
        let mut request = request.clone();
        if request.range().unwrap().1 > 0 {
            request.headers.insert("range".into(), "bytes=7-1000".into());
        }
        Reply::file(&request, &file, "v1")
    });
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server, folder.path()).unwrap_err().to_string();
    assert!(error.contains("expected bytes from"), "{error}");
}

#[test]
fn too_many_requests_wait_as_long_as_asked_or_say_so() {
    let n = AtomicUsize::new(0);
    let server = Server::start(move |request| match n.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(429).with("Retry-After", "1"),
        _ => Reply::file(request, b"GGUF", "v1"),
    });
    let folder = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    assert_eq!(fetch(&server, folder.path()).unwrap(), b"GGUF");
    assert!(start.elapsed().as_millis() >= 1000);
    let server = Server::start(|_| Reply::status(429).with("Retry-After", "3600"));
    let error = fetch(&server, &folder.path().join("other")).unwrap_err().to_string();
    assert!(error.contains("try again in 3600 s"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn nobody_there_is_an_error_that_names_the_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let mut tries = 0;
    let url = format!("http://127.0.0.1:{port}/m.gguf?Signature=secret");
    let result = hub(folder.path(), &[]).pull_url_to(&url, &folder.path().join("m.gguf"), &mut |progress| {
        tries += usize::from(matches!(progress, Progress::Retrying { .. }));
        if tries > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(HubError::Cancelled)), "{result:?}");
    let reference = Reference::parse(&url.replace("m.gguf", "api")).unwrap_err();
    assert!(matches!(reference, HubError::InvalidName { .. }));
    let offline = hub(folder.path(), &[("HF_HUB_OFFLINE", "1")]);
    let error = offline.pull_url_to(&url, &folder.path().join("m.gguf"), &mut unwatched).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn redirects_are_followed_but_the_token_stays() {
    let file = bytes(2 * MEGABYTE, 11);
    let model = HuggingFace::new("user/repo", &[("m-Q4_K_M.gguf", &file)]);
    let cdn = {
        let file = file.clone();
        Server::start(move |request| Reply::file(request, &file, "cdn"))
    };
    let away = cdn.url("/blob?Signature=abc");
    let server = Server::start(move |request| match request.path.starts_with("/api/") {
        true => model.reply(request),
        false => Reply::redirect(away.clone()),
    });
    let folder = tempfile::tempdir().unwrap();
    let endpoint = server.url("");
    let hub = hub(folder.path(), &[("HF_ENDPOINT", &endpoint), ("HF_TOKEN", "hf_secret")]);
    let pulled = hub.pull(&Reference::parse("hf.co/user/repo").unwrap(), &mut unwatched).unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), file);
    assert!(server.requests().iter().all(|request| request.token() == Some("hf_secret")));
    assert!(cdn.requests().len() >= 2 && cdn.requests().iter().all(|request| request.token().is_none()));
    // It is not asked for the way each time.
    assert!(server.requests().len() <= 3, "{:?}", server.requests());
}

#[test]
fn a_signature_that_runs_out_is_fetched_again() {
    let file = bytes(4 * MEGABYTE, 12);
    let n_signed = Arc::new(AtomicUsize::new(0));
    let cdn = {
        let (file, n_signed) = (file.clone(), n_signed.clone());
        let n = AtomicUsize::new(0);
        Server::start(move |request| {
            let newest = format!("/blob?s={}", n_signed.load(Ordering::SeqCst));
            // Each is good for two requests.
            match n.fetch_add(1, Ordering::SeqCst) % 3 {
                0 | 1 => Reply::file(request, &file, "cdn"),
                _ if request.path == newest => Reply::status(403),
                _ => Reply::status(403),
            }
        })
    };
    let away = cdn.url("/blob?s=");
    let server = Server::start(move |_| {
        Reply::redirect(format!("{away}{}", n_signed.fetch_add(1, Ordering::SeqCst) + 1))
    });
    let folder = tempfile::tempdir().unwrap();
    // A third of the requests fail, and those that were sent the long way fail for good.
    let to = folder.path().join("m.gguf");
    let mut result = Err(HubError::Cancelled);
    for _ in 0..10 {
        result = hub(folder.path(), &[]).pull_url_to(&server.url("/m.gguf"), &to, &mut unwatched);
        if result.is_ok() {
            break;
        }
    }
    result.unwrap();
    assert_eq!(fs::read(to).unwrap(), file);
    assert!(server.requests().len() > 1, "the way was asked for again");
}

#[test]
fn redirects_end() {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let server = Server::start(|_| Reply::redirect(format!("{}x", ADDRESS.get().unwrap())));
    ADDRESS.set(server.url("/")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server, folder.path()).unwrap_err().to_string();
    assert!(error.contains("more than 10 redirects"), "{error}");
    let server = Server::start(|_| Reply::redirect("file:///etc/passwd"));
    let error = fetch(&server, folder.path()).unwrap_err().to_string();
    assert!(error.contains("no URL of the web"), "{error}");
}

#[test]
fn a_proxy_is_used_unless_the_host_is_excepted() {
    let server = Server::start(|request| Reply::file(request, b"GGUF", "v1"));
    let proxy = Server::start(|_| Reply::status(500));
    let folder = tempfile::tempdir().unwrap();
    let through = |name: &str, none: &str| {
        let to = folder.path().join(name);
        let hub = hub(folder.path(), &[("HTTP_PROXY", &proxy.url("")), ("NO_PROXY", none)]);
        hub.pull_url_to(&server.url("/m.gguf"), &to, &mut unwatched).unwrap();
        proxy.requests().len()
    };
    assert_eq!(through("a", "127.0.0.1"), 0);
    assert!(through("b", "example.com") > 0);
    assert!(proxy.requests().iter().all(|request| request.method == "CONNECT"));
}
