//! Requests: redirects, proxies, timeouts, and what a refusal means.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::error::HubError;
use super::settings::{Settings, Token};
use super::url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection that delivers nothing for so long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 10;

/// Sends requests the way the settings say.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    /// One for each proxy, and one without.
    agents: Mutex<HashMap<Option<String>, Agent>>,
}

/// A GET request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub url: &'a str,
    /// First and last byte.
    pub range: Option<(u64, u64)>,
    pub accept: Option<&'a str>,
    pub token: Option<&'a Token>,
}

/// An answer that is neither a redirect nor an error.
pub struct Answer {
    /// The URL that answered, after redirects.
    pub url: String,
    pub status: u16,
    pub headers: Headers,
    /// What the first server said about the file before it sent the request elsewhere.
    pub linked: Linked,
    pub body: Box<dyn Read + Send>,
}

/// The headers that the Hugging Face Hub adds to a redirect.
#[derive(Clone, Debug, Default)]
pub struct Linked {
    /// `X-Linked-Etag`, without quotes: the SHA-256 of a large file.
    pub etag: Option<String>,
    /// `X-Linked-Size`.
    pub size: Option<u64>,
}

/// The headers of an answer.
#[derive(Clone, Debug)]
pub struct Headers(ureq::http::HeaderMap);

impl Headers {
    /// The value of a header, if it is there and text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    /// `ETag`, or when the file was last changed.
    pub fn validator(&self) -> Option<String> {
        self.get("etag").or_else(|| self.get("last-modified")).map(str::to_string)
    }

    /// `Content-Range` as first byte, last byte and size.
    pub fn content_range(&self) -> Option<(u64, u64, Option<u64>)> {
        let (range, size) = self.get("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let size = if size == "*" { None } else { Some(size.trim().parse().ok()?) };
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?, size))
    }
}

impl Client {
    /// A client; it connects to nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, agents: Mutex::default() }
    }

    /// What it goes by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends a request and follows redirects. The token goes to the origin of the URL and to nobody else.
    ///
    /// # Errors
    /// No server, one that refuses, or no permission to use the network.
    pub fn get(&self, request: &Request<'_>) -> Result<Answer, HubError> {
        if self.settings.offline {
            return Err(HubError::Offline { what: url::shown(request.url) });
        }
        let origin = url::origin(request.url);
        let mut url = request.url.to_string();
        let mut linked = Linked::default();
        for _ in 0..=MAX_REDIRECTS {
            let token = request.token.filter(|_| url::origin(&url) == origin);
            let response = self.send(&url, request, token)?;
            let (parts, body) = response.into_parts();
            let (status, headers) = (parts.status.as_u16(), Headers(parts.headers));
            if linked.etag.is_none() && linked.size.is_none() {
                let etag = headers.get("x-linked-etag").map(|etag| etag.trim_matches('"').to_string());
                linked = Linked { etag, size: headers.get("x-linked-size").and_then(|n| n.parse().ok()) };
            }
            match (status, headers.get("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    url = url::join(&url, location)
                        .filter(|url| url.starts_with("http://") || url.starts_with("https://"))
                        .ok_or_else(|| HubError::Protocol {
                            url: url::shown(&url),
                            why: "it redirects to something that is no URL of the web".into(),
                        })?;
                }
                (200 | 206, _) => {
                    return Ok(Answer { url, status, headers, linked, body: Box::new(body.into_reader()) });
                }
                _ => return Err(self.refusal(&url, status, &headers, token.is_some())),
            }
        }
        Err(HubError::Protocol {
            url: url::shown(request.url),
            why: format!("found more than {MAX_REDIRECTS} redirects, one after the other"),
        })
    }

    /// Gets a text of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Client::get`]; a longer text, or one that is not UTF-8.
    pub fn text(&self, request: &Request<'_>, limit: u64) -> Result<String, HubError> {
        let answer = self.get(request)?;
        let mut text = String::new();
        let read = answer.body.take(limit + 1).read_to_string(&mut text);
        read.map_err(|error| broken(request.url, &error))?;
        if text.len() as u64 > limit {
            let why = format!("found more than {limit} bytes, expected a description of a model");
            return Err(HubError::Protocol { url: url::shown(request.url), why });
        }
        Ok(text)
    }

    fn send(
        &self,
        url: &str,
        request: &Request<'_>,
        token: Option<&Token>,
    ) -> Result<ureq::http::Response<ureq::Body>, HubError> {
        let scheme = url.split(':').next().unwrap_or_default();
        let host = url::host(url).unwrap_or_default();
        let agent = self.agent(self.settings.proxies.for_host(scheme, &host))?;
        // Compressed bytes have other offsets.
        let mut builder = agent.get(url).header("Accept-Encoding", "identity");
        if let Some((first, last)) = request.range {
            builder = builder.header("Range", format!("bytes={first}-{last}"));
        }
        if let Some(accept) = request.accept {
            builder = builder.header("Accept", accept);
        }
        if let Some(token) = token {
            builder = builder.header("Authorization", format!("Bearer {}", token.secret()));
        }
        builder.call().map_err(|error| unreachable(url, &error))
    }

    /// The agent for a proxy, made when it is first needed.
    fn agent(&self, proxy: Option<&str>) -> Result<Agent, HubError> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let key = proxy.map(str::to_string);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let connection = match proxy {
            Some(proxy) => Some(Proxy::new(proxy).map_err(|error| HubError::Network {
                url: url::shown(proxy),
                why: format!("this is not the URL of a proxy: {error}"),
                temporary: false,
            })?),
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT))
            .user_agent(concat!("bise/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(self.root_certificates()?).build())
            .proxy(connection);
        let agent = Agent::new_with_config(config.build());
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn root_certificates(&self) -> Result<RootCerts, HubError> {
        let Some(path) = &self.settings.certificates else { return Ok(RootCerts::WebPki) };
        let pem = std::fs::read(path).map_err(|error| HubError::io(path, error))?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            let why = "found no certificate, expected those to trust (SSL_CERT_FILE)".into();
            return Err(HubError::Corrupt { path: path.clone(), why });
        }
        Ok(RootCerts::new_with_certs(&certificates))
    }

    /// What a status that is no success means, and what to do about it.
    fn refusal(&self, url: &str, status: u16, headers: &Headers, with_token: bool) -> HubError {
        let endpoint = &self.settings.endpoint;
        let is_hub = url::origin(url) == url::origin(endpoint);
        let code = headers.get("x-error-code").unwrap_or_default();
        let retry_after = headers.get("retry-after").and_then(|text| text.trim().parse().ok());
        let retry_after: Option<Duration> = retry_after.map(Duration::from_secs);
        let advice = match (status, code) {
            (401 | 403, "GatedRepo") if with_token => format!(
                ": the repository is gated, and this token's account has no access: ask for it at {}",
                page(url)
            ),
            (401 | 403, "GatedRepo") => format!(
                ": the repository is gated: accept its conditions at {}, make a token at {endpoint}/settings/tokens, and \
                 give it as HF_TOKEN or --hf-token",
                page(url)
            ),
            (401, _) if is_hub && with_token => {
                ": the token was not accepted (HF_TOKEN, --hf-token, `hf auth login`), or there is no such repository".into()
            }
            (401, _) if is_hub => {
                ": there is no such repository, or it is private: check the name, or give a token as HF_TOKEN or --hf-token"
                    .into()
            }
            (403, _) if is_hub => ": this token's account has no access to the repository".into(),
            (401 | 403, _) => ": access is denied".into(),
            (404, "RevisionNotFound") => ": the repository has no such revision".into(),
            (404, "EntryNotFound") => ": the repository has no such file".into(),
            (404, _) => ": there is no such model or file".into(),
            (416, _) => ": the file is shorter than it was".into(),
            (429, _) => match retry_after {
                Some(wait) => format!(": too many requests; try again in {} s", wait.as_secs()),
                None => ": too many requests; try again later".into(),
            },
            (500..=599, _) => ": it has a fault of its own; try again later".into(),
            _ => String::new(),
        };
        HubError::Status { url: url::shown(url), status, advice, retry_after }
    }
}

/// The page of a repository, where its conditions are accepted.
fn page(url: &str) -> String {
    let url = url::shown(url).replacen("/api/models/", "/", 1);
    let parts: Vec<&str> = url.splitn(6, '/').collect();
    parts[..parts.len().min(5)].join("/")
}

fn unreachable(url: &str, error: &ureq::Error) -> HubError {
    use ureq::Error as E;
    let network = |why: String, temporary| HubError::Network { url: url::shown(url), why, temporary };
    let untrusted = |error: &dyn std::fmt::Display| {
        let why = format!(
            "the server's certificate was not accepted: {error} (SSL_CERT_FILE names others to trust)"
        );
        network(why, false)
    };
    match error {
        E::HostNotFound => {
            network("the host was not found: is there a network? (proxies: HTTPS_PROXY)".into(), true)
        }
        E::ConnectionFailed => network("no connection: nobody answers there".into(), true),
        E::Timeout(_) => network("the server did not answer in time".into(), true),
        // That is how an error of TLS arrives.
        E::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => untrusted(error),
        E::Io(error) => network(format!("no connection: {error}"), true),
        E::Rustls(error) => untrusted(error),
        E::BadUri(why) => network(format!("this is not a URL: {why}"), false),
        // A proxy that refuses, a server that speaks something else.
        E::Protocol(error) => network(format!("the answer is not HTTP: {error}"), true),
        error => network(error.to_string(), false),
    }
}

/// A connection that broke while a body was read.
pub fn broken(url: &str, error: &std::io::Error) -> HubError {
    HubError::Network { url: url::shown(url), why: format!("the connection broke: {error}"), temporary: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_gated_repository_is_named() {
        for url in [
            "https://huggingface.co/mistralai/Mistral-7B/resolve/main/a/b.gguf?x",
            "https://huggingface.co/api/models/mistralai/Mistral-7B/revision/main",
        ] {
            assert_eq!(page(url), "https://huggingface.co/mistralai/Mistral-7B");
        }
    }
}
