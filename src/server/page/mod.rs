//! The chat page: the files of `assets/`, as they are, inside the program.
//!
//! The page itself is at `/`, for those who ask for HTML; to other clients of that address the server says that it runs, in the words
//! that Ollama's clients look for. Everything else of the page lies below `/ui/`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use twox_hash::XxHash3_64;

use super::App;
use super::answer::ApiError;

/// Scripts and styles come from this server alone, and nothing is loaded from anywhere else: what an answer says cannot reach out.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What clients of Ollama look for.
const RUNNING: &str = "Ollama is running";

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("assets/", $name)) }
    };
}

static INDEX: Asset = asset!("index.html", HTML);

static ASSETS: [Asset; 19] = [
    asset!("api.js", SCRIPT),
    asset!("code.css", STYLE),
    asset!("icon.svg", "image/svg+xml"),
    asset!("main.js", SCRIPT),
    asset!("markdown.js", SCRIPT),
    asset!("settings.js", SCRIPT),
    asset!("store.js", SCRIPT),
    asset!("style.css", STYLE),
    asset!("theme.js", SCRIPT),
    asset!("tree.js", SCRIPT),
    asset!("vendor/LICENSES.txt", TEXT),
    asset!("vendor/highlight.min.js", SCRIPT),
    asset!("vendor/marked.esm.js", SCRIPT),
    asset!("vendor/purify.min.js", SCRIPT),
    asset!("view/composer.js", SCRIPT),
    asset!("view/elements.js", SCRIPT),
    asset!("view/log.js", SCRIPT),
    asset!("view/settings_dialog.js", SCRIPT),
    asset!("view/sidebar.js", SCRIPT),
];

/// `/` and, where the page is served, `/ui/…`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(root)).route("/ui/{*name}", get(file))
}

async fn root(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let prefix = app.options.prefix.trim_end_matches('/');
    match wants_page(&app, &headers) {
        // The page names its files relative to where it lies.
        true if !prefix.is_empty() => Redirect::permanent(&format!("{prefix}/")).into_response(),
        true => send(&INDEX, &headers),
        false => RUNNING.into_response(),
    }
}

/// `/` behind the server's prefix.
pub async fn root_of_prefix(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if wants_page(&app, &headers) { send(&INDEX, &headers) } else { RUNNING.into_response() }
}

fn wants_page(app: &App, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    app.options.page && accept.contains("text/html")
}

async fn file(State(app): State<Arc<App>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) if app.options.page => send(asset, &headers),
        _ => ApiError::not_found(format!("the page has no file {name:?}")).into_response(),
    }
}

/// Sends a file, or says that the browser has it.
fn send(asset: &Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", XxHash3_64::oneshot(asset.bytes));
    // A browser asks each time, so that it never runs half of an old page with half of a new one.
    let common = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::VARY, "Accept".to_owned()),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_served() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/page/assets");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        found.sort();
        let mut served: Vec<&str> = ASSETS.iter().chain([&INDEX]).map(|asset| asset.name).collect();
        served.sort();
        assert_eq!(found, served);
    }

    #[test]
    fn the_page_needs_nothing_inline() {
        let page = std::str::from_utf8(INDEX.bytes).unwrap();
        let handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(
            !page.contains("style=") && !page.contains("<style") && !page.split_whitespace().any(handler),
            "{POLICY}"
        );
        for script in page.split("<script").skip(1) {
            assert!(script.split('>').next().unwrap().contains("src=\"ui/"), "{script}");
        }
    }
}
