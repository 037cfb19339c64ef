//! A server that is running, for the commands that ask it something.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::ollama_host::OllamaHost;

/// Where the server listens.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where the server listens: a host, a host and a port, or a URL [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,

    /// Where it listens as Ollama has it, by default on its port 11434; --host comes first
    #[arg(long, value_name = "HOST:PORT", env = "OLLAMA_HOST")]
    ollama_host: Option<OllamaHost>,

    /// The key that the server asks for
    #[arg(long, value_name = "KEY", env = "LLAMA_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

impl ServerArgs {
    /// Asks for `path`, with `body` if there is one.
    ///
    /// # Errors
    /// Nobody answers, or the server refuses.
    pub fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        let base = match (&self.host, &self.ollama_host) {
            (Some(host), _) => base(host),
            (None, Some(ollama)) => ollama.url(),
            (None, None) => base("127.0.0.1"),
        };
        let url = format!("{base}{path}");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        // A server may have several.
        let key = self.api_key.iter().flat_map(|keys| keys.split(',').next());
        let key = key.map(|key| ("Authorization", format!("Bearer {key}"))).next();
        let answer = match body {
            Some(body) => {
                let request = agent.post(&url).header("Content-Type", "application/json");
                key.into_iter()
                    .fold(request, |request, (name, value)| request.header(name, value))
                    .send(body.to_string())
            }
            None => key
                .into_iter()
                .fold(agent.get(&url), |request, (name, value)| request.header(name, value))
                .call(),
        };
        let mut answer =
            answer.with_context(|| format!("{url}: no server answers there (--host, OLLAMA_HOST)"))?;
        let text = answer.body_mut().read_to_string().with_context(|| url.clone())?;
        let status = answer.status().as_u16();
        // One object, or, where it was streamed, one a line: the last has the news.
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let value: Value =
            serde_json::from_str(&text).or_else(|_| serde_json::from_str(last)).with_context(|| {
                format!("{url}: found no JSON, expected the answer of a server (status {status})")
            })?;
        match value["error"].as_str() {
            Some(error) => bail!("{error}"),
            None if status != 200 => bail!("{url}: the server answered {status}"),
            None => Ok(value),
        }
    }
}

/// The URL of an address as users write it.
fn base(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let rest = rest.trim_end_matches('/');
    // What a server listens on is not what one asks for.
    let rest = rest.replacen("0.0.0.0", "127.0.0.1", 1).replacen("[::]", "[::1]", 1);
    let has_port = rest.rsplit(']').next().is_some_and(|end| end.contains(':'));
    match (has_port, scheme) {
        (true, _) | (_, "https") => format!("{scheme}://{rest}"),
        _ => format!("{scheme}://{rest}:8080"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls() {
        for (host, url) in [
            ("127.0.0.1", "http://127.0.0.1:8080"),
            ("0.0.0.0:11434", "http://127.0.0.1:11434"),
            ("http://box:1/", "http://box:1"),
            ("https://box", "https://box"),
            ("[::1]", "http://[::1]:8080"),
            ("[::]:5", "http://[::1]:5"),
        ] {
            assert_eq!(base(host), url);
        }
    }
}
