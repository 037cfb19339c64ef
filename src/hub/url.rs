//! As much of URLs as downloads need.

/// The scheme, host and port of a URL, lower case: `https://huggingface.co:443`.
pub fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.to_ascii_lowercase();
    let after_brackets = host.rsplit(']').next()?;
    let port = match (scheme.as_str(), after_brackets.contains(':')) {
        (_, true) => "",
        ("https", false) => ":443",
        _ => ":80",
    };
    (!host.is_empty()).then(|| format!("{scheme}://{host}{port}"))
}

/// The host of a URL, without its port.
pub fn host(url: &str) -> Option<String> {
    let origin = origin(url)?;
    let authority = origin.split_once("://")?.1;
    authority.rsplit_once(':').map(|(host, _)| host.to_string())
}

/// Where a redirect from `base` to `location` leads.
pub fn join(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next()?;
    if location.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        return Some(location.to_string());
    }
    let (scheme, rest) = base.split_once("://")?;
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    let path = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..path];
    if location.starts_with('/') {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    let path = rest[path..].split(['?', '#']).next()?;
    let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
    Some(format!("{scheme}://{authority}{folder}{location}"))
}

/// A URL as messages show it: without a password, and without a query, which may hold a signature.
pub fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let authority = rest[..end].rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{authority}{}", &rest[end..])
        }
        None => url.to_string(),
    }
}

/// A path inside a URL: everything but `/` and what needs no escape is written as `%XX`.
pub fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(byte.into())
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_with_their_ports() {
        assert_eq!(origin("https://HuggingFace.co/a").unwrap(), "https://huggingface.co:443");
        assert_eq!(origin("https://huggingface.co:443/b?c").unwrap(), "https://huggingface.co:443");
        assert_eq!(origin("http://me:pw@[::1]:80").unwrap(), "http://[::1]:80");
        assert_eq!(origin("http://[::1]/x").unwrap(), "http://[::1]:80");
        assert_eq!(host("http://[::1]:7/x").unwrap(), "[::1]");
        // What stands before an @ is no host.
        assert_eq!(origin("https://huggingface.co@evil.example/").unwrap(), "https://evil.example:443");
        assert_eq!(origin("huggingface.co"), None);
    }

    #[test]
    fn redirects_may_be_relative() {
        let base = "https://a.b:8/c/d?e=/f";
        assert_eq!(join(base, "http://x/y#z").unwrap(), "http://x/y");
        assert_eq!(join(base, "//x/y").unwrap(), "https://x/y");
        assert_eq!(join(base, "/y?u=http://v").unwrap(), "https://a.b:8/y?u=http://v");
        assert_eq!(join(base, "y").unwrap(), "https://a.b:8/c/y");
        assert_eq!(join("https://a.b", "y").unwrap(), "https://a.b/y");
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("https://me:pw@cdn.example/a%20b?Signature=s#f"), "https://cdn.example/a%20b");
        assert_eq!(encode_path("Q4 K/é#?.gguf"), "Q4%20K/%C3%A9%23%3F.gguf");
    }
}
