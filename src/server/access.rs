//! Who may ask: keys, and pages of other sites in a browser on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::App;
use super::error::ApiError;
use super::options::CorsOptions;

/// Paths that need no key: the page is only a program, and whether the server is up is no secret.
const PUBLIC: [&str; 9] = [
    "/",
    "/health",
    "/v1/health",
    "/models",
    "/v1/models",
    "/api/tags",
    "/api/version",
    "/favicon.ico",
    "/openapi.json",
];

/// Names of hosts that are this machine, or the network around it.
const LOCAL_DOMAINS: [&str; 3] = [".localhost", ".local", ".internal"];

/// Origins that are programs rather than pages.
const PROGRAMS: [&str; 6] =
    ["app://", "file://", "tauri://", "vscode-file://", "vscode-webview://", "chrome-extension://"];

/// Refuses requests without a key, and those that a foreign page makes a browser send.
pub async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    let refused = check_host(&app, headers, uri)
        .and_then(|()| check_origin(&app.options.cors, headers, uri))
        .and_then(|()| check_key(&app, request.method(), headers, uri));
    match refused {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Whether a path, the server's prefix left out, needs no key.
pub fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || path.starts_with("/ui/")
}

fn check_key(app: &App, method: &Method, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let keys = &app.options.api_keys;
    let path = uri.path().strip_prefix(app.options.prefix.as_str()).unwrap_or(uri.path());
    if keys.is_empty() || method == Method::OPTIONS || is_public(path) {
        return Ok(());
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let given = bearer.or_else(|| text(HeaderName::from_static("x-api-key")));
    let known = |given: &str| {
        keys.iter().fold(false, |known, key| known | bool::from(key.as_bytes().ct_eq(given.as_bytes())))
    };
    if given.is_some_and(known) { Ok(()) } else { Err(ApiError::unauthorized()) }
}

/// On loopback, the name in `Host` has to be one of this machine: a page elsewhere can give its own name this machine's address.
fn check_host(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    if !app.is_local {
        return Ok(());
    }
    let Some(host) = uri.authority().map(|authority| authority.as_str().to_owned()).or_else(|| host(headers))
    else {
        return Ok(());
    };
    if is_local(host_name(&host)) || app.host_name.as_deref() == Some(host_name(&host)) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "Host: found {host:?}, expected a name of this machine: the server listens on loopback alone (--host opens it)"
    )))
}

fn check_origin(cors: &CorsOptions, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return Ok(());
    };
    let own = uri.authority().map(|authority| authority.as_str().to_owned()).or_else(|| host(headers));
    let same = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == own.as_deref());
    let program = PROGRAMS.iter().any(|scheme| origin.starts_with(scheme));
    if same || program || is_local_origin(origin) || is_allowed(cors, origin) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "Origin: found {origin:?}, which may not use this server (--cors-origins lets it)"
    )))
}

fn host(headers: &HeaderMap) -> Option<String> {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned)
}

/// The name without the port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip == Ipv4Addr::UNSPECIFIED
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip == Ipv6Addr::UNSPECIFIED
        }
    };
    name.is_empty()
        || name == "localhost"
        || LOCAL_DOMAINS.iter().any(|domain| name.ends_with(domain))
        || name.parse::<IpAddr>().is_ok_and(private)
}

/// Whether an origin is a page that this machine serves.
fn is_local_origin(origin: &str) -> bool {
    let Some(authority) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
        return false;
    };
    let name = host_name(authority);
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_allowed(cors: &CorsOptions, origin: &str) -> bool {
    cors.origins.iter().any(|allowed| match allowed.as_str() {
        "*" => true,
        "localhost" => is_local_origin(origin),
        allowed => allowed.trim_end_matches('/') == origin,
    })
}

/// What browsers are told about pages of other sites.
pub fn cors(options: &CorsOptions) -> CorsLayer {
    let origins = options.clone();
    let predicate = move |origin: &HeaderValue, _: &Parts| {
        origin.to_str().is_ok_and(|origin| is_allowed(&origins, origin))
    };
    let methods: Vec<Method> = options.methods.iter().filter_map(|name| name.parse().ok()).collect();
    let headers = match options.headers.iter().any(|name| name == "*") {
        true => AllowHeaders::mirror_request(),
        false => {
            AllowHeaders::list(options.headers.iter().filter_map(|name| name.parse::<HeaderName>().ok()))
        }
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(predicate))
        .allow_methods(AllowMethods::list(methods))
        .allow_headers(headers)
        .allow_credentials(options.credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for local in [
            "localhost",
            "LOCALHOST.",
            "127.0.0.1",
            "::1",
            "192.168.1.7",
            "x.local",
            "a.localhost",
            "0.0.0.0",
        ] {
            assert!(is_local(local), "{local}");
        }
        for foreign in ["evil.com", "localhost.evil.com", "8.8.8.8", "notlocalhost", "2001:db8::1"] {
            assert!(!is_local(foreign), "{foreign}");
        }
        assert_eq!((host_name("[::1]:80"), host_name("a:80"), host_name("a")), ("::1", "a", "a"));
    }

    #[test]
    fn origins_are_compared_as_a_whole() {
        let cors = CorsOptions {
            origins: vec!["https://chat.example.org".to_owned(), "localhost".to_owned()],
            ..CorsOptions::default()
        };
        for allowed in
            ["https://chat.example.org", "http://localhost:3000", "http://[::1]", "http://127.0.0.1:9"]
        {
            assert!(is_allowed(&cors, allowed), "{allowed}");
        }
        for foreign in [
            "https://chat.example.org.evil.com",
            "http://chat.example.org",
            "http://localhost.evil.com",
            "null",
        ] {
            assert!(!is_allowed(&cors, foreign), "{foreign}");
        }
        assert!(!is_allowed(&CorsOptions::default(), "http://localhost"));
    }
}
