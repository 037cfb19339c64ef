//! `OLLAMA_HOST`: where Ollama's server listens, and where its clients look for it.

use std::str::FromStr;

/// The port where neither the variable nor its scheme says one.
const PORT: u16 = 11434;

/// An address, taken apart as Ollama does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OllamaHost {
    /// Whether clients speak TLS.
    pub is_https: bool,
    /// A name or an IP address, without brackets; empty for every address of the machine.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What comes before every path, with its slash, or nothing.
    pub path: String,
}

impl FromStr for OllamaHost {
    type Err = String;

    fn from_str(text: &str) -> Result<OllamaHost, String> {
        let wrong = |what: &str| {
            Err(format!(
                "{what}, expected a host, a host and a port (127.0.0.1:11434), or these behind http://"
            ))
        };
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (is_https, otherwise) = match scheme {
            "" => (false, PORT),
            "http" => (false, 80),
            "https" => (true, 443),
            other => return wrong(&format!("found the scheme {other:?}")),
        };
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match address.rsplit_once(':') {
            // An IPv6 address without a port.
            Some((host, port)) if port.contains(']') || (host.contains(':') && !host.starts_with('[')) => {
                (address, None)
            }
            Some((host, port)) => (host, Some(port)),
            None if address.is_empty() => ("127.0.0.1", None),
            None => (address, None),
        };
        let port = match port.map(str::parse) {
            None => otherwise,
            Some(Ok(port)) => port,
            Some(Err(_)) => return wrong(&format!("found the port {:?}", port.unwrap_or_default())),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.contains(char::is_whitespace) {
            return wrong(&format!("found {host:?}"));
        }
        let path = path.trim_end_matches('/').to_owned();
        Ok(OllamaHost { is_https, host: host.to_owned(), port, path })
    }
}

impl OllamaHost {
    /// The URL that a client asks, without a slash at the end.
    pub fn url(&self) -> String {
        // What a server listens on is not what one asks for.
        let host = match self.host.as_str() {
            "" | "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            v6 if v6.contains(':') => format!("[{v6}]"),
            host => host.to_owned(),
        };
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{host}:{}{}", self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_as_ollama_does() {
        for (text, url) in [
            ("", "http://127.0.0.1:11434"),
            ("box", "http://box:11434"),
            ("1.2.3.4", "http://1.2.3.4:11434"),
            ("1.2.3.4:5", "http://1.2.3.4:5"),
            (" 0.0.0.0 ", "http://127.0.0.1:11434"),
            (":9", "http://127.0.0.1:9"),
            ("http://box", "http://box:80"),
            ("http://box:11434/", "http://box:11434"),
            ("https://box/ollama/", "https://box:443/ollama"),
            ("[::1]", "http://[::1]:11434"),
            ("::1", "http://[::1]:11434"),
            ("[::]:7", "http://[::1]:7"),
        ] {
            assert_eq!(text.parse::<OllamaHost>().unwrap().url(), url, "{text}");
        }
        assert_eq!(":9".parse::<OllamaHost>().unwrap().host, "");
        for (text, found) in
            [("box:many", "\"many\""), ("box:70000", "70000"), ("ftp://box", "\"ftp\""), ("a b", "a b")]
        {
            assert!(text.parse::<OllamaHost>().unwrap_err().contains(found), "{text}");
        }
    }
}
