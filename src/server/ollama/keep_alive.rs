//! `keep_alive`: how long a model stays loaded after a request.

use std::time::Duration;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What a request says about how long its model is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// So long after the request; zero unloads the model right after it.
    For(Duration),
    /// Until the server ends: any negative number.
    Forever,
}

impl KeepAlive {
    /// Whether the model is to be unloaded at once.
    pub(crate) fn is_zero(self) -> bool {
        self == KeepAlive::For(Duration::ZERO)
    }

    /// Reads a duration as Go's `time.ParseDuration` does (`5m`, `1h30m`, `1.5s`, `-1m`); a plain number counts seconds.
    ///
    /// # Errors
    /// A message that says what was found and expected.
    pub(crate) fn parse(text: &str) -> Result<KeepAlive, String> {
        match text.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => Ok(KeepAlive::seconds(seconds)),
            _ => parse_go_duration(text)
                .ok_or_else(|| format!("found {text:?}, expected seconds or a duration such as \"5m\"")),
        }
    }

    fn seconds(seconds: f64) -> KeepAlive {
        if seconds < 0.0 {
            return KeepAlive::Forever;
        }
        // More than a duration can hold is for ever.
        Duration::try_from_secs_f64(seconds).map_or(KeepAlive::Forever, KeepAlive::For)
    }
}

/// Go's duration: a sign, then numbers with units.
fn parse_go_duration(text: &str) -> Option<KeepAlive> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanoseconds += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    if negative && nanoseconds > 0.0 {
        return Some(KeepAlive::Forever);
    }
    Some(KeepAlive::seconds(nanoseconds / 1e9))
}

impl From<KeepAlive> for Option<Duration> {
    /// How long; `None` is for ever.
    fn from(keep: KeepAlive) -> Option<Duration> {
        match keep {
            KeepAlive::For(time) => Some(time),
            KeepAlive::Forever => None,
        }
    }
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeepAlive, D::Error> {
        let unexpected =
            |found| D::Error::invalid_type(found, &"seconds as a number, or a duration such as \"5m\"");
        match Value::deserialize(deserializer)? {
            // What is too large for a float is for ever.
            Value::Number(seconds) => Ok(KeepAlive::seconds(seconds.as_f64().unwrap_or(f64::INFINITY))),
            Value::String(text) => KeepAlive::parse(&text).map_err(D::Error::custom),
            Value::Null => Err(unexpected(Unexpected::Unit)),
            Value::Bool(b) => Err(unexpected(Unexpected::Bool(b))),
            Value::Array(_) => Err(unexpected(Unexpected::Seq)),
            Value::Object(_) => Err(unexpected(Unexpected::Map)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> KeepAlive {
        KeepAlive::For(Duration::from_secs(seconds))
    }

    #[test]
    fn numbers_are_seconds_and_texts_go_durations() {
        for (json, want) in [
            ("0", seconds(0)),
            ("300", seconds(300)),
            ("0.5", KeepAlive::For(Duration::from_millis(500))),
            ("-1", KeepAlive::Forever),
            ("-0.5", KeepAlive::Forever),
            ("1e300", KeepAlive::Forever),
            (r#""5m""#, seconds(300)),
            (r#""1h30m""#, seconds(5400)),
            (r#""1.5s""#, KeepAlive::For(Duration::from_millis(1500))),
            (r#""250ms""#, KeepAlive::For(Duration::from_millis(250))),
            (r#""10us""#, KeepAlive::For(Duration::from_micros(10))),
            (r#""10µs""#, KeepAlive::For(Duration::from_micros(10))),
            (r#""7ns""#, KeepAlive::For(Duration::from_nanos(7))),
            (r#""0""#, seconds(0)),
            (r#""0s""#, seconds(0)),
            (r#""-0s""#, seconds(0)),
            (r#""-1m""#, KeepAlive::Forever),
            (r#""-1""#, KeepAlive::Forever),
            (r#""+2m""#, seconds(120)),
            (r#""99999999999999999999h""#, KeepAlive::Forever),
        ] {
            assert_eq!(serde_json::from_str::<KeepAlive>(json).unwrap(), want, "{json}");
        }
        assert!(seconds(0).is_zero() && !seconds(1).is_zero() && !KeepAlive::Forever.is_zero());
    }

    #[test]
    fn what_is_no_duration_is_named() {
        for json in [
            r#""""#,
            r#""-""#,
            r#""m""#,
            r#""5""m"#,
            r#""5x""#,
            r#""5m3""#,
            r#""1..5s""#,
            r#"".s""#,
            r#""inf""#,
            r#""5 m""#,
            "true",
            "[]",
            "{}",
        ] {
            assert!(serde_json::from_str::<KeepAlive>(json).is_err(), "{json}");
        }
        let error = serde_json::from_str::<KeepAlive>(r#""soon""#).unwrap_err().to_string();
        assert!(error.starts_with(r#"found "soon", expected seconds or a duration such as "5m""#), "{error}");
    }
}
