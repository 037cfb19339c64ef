//! Options by name: values as text, or as numbers.

use std::str::FromStr;

use crate::failure::Failure;

/// A name as it is compared: in small letters, with `_` between words.
pub(crate) fn plain(name: &str) -> String {
    name.trim_start_matches('-').replace('-', "_").to_ascii_lowercase()
}

/// A value of an option.
pub(crate) fn parse<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T, Failure> {
    value.parse().map_err(|_| unfit(name, value, expected))
}

/// `true` or `false`, also as 1 or 0, on or off.
pub(crate) fn parse_bool(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(unfit(name, value, "true or false")),
    }
}

/// A number of things, or -1 for what `None` stands for.
pub(crate) fn parse_count(name: &str, value: &str) -> Result<Option<usize>, Failure> {
    if value == "-1" { Ok(None) } else { parse(name, value, "a whole number, or -1").map(Some) }
}

pub(crate) fn unfit(name: &str, value: &str, expected: &str) -> Failure {
    Failure::argument(format_args!("option {name}: found {value:?}, expected {expected}"))
}

pub(crate) fn unknown(name: &str, names: &[&str]) -> Failure {
    Failure::argument(format_args!("no option is called {name:?}: expected one of {}", names.join(", ")))
}

/// A number as text that [`parse`] reads: whole ones without a point, whatever the locale.
pub(crate) fn number(value: f64) -> String {
    // Up to 2^53 every whole number is a double.
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        (value as i64).to_string()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_options_are_read() {
        assert_eq!([40.0, -1.0, 4_294_967_295.0].map(number), ["40", "-1", "4294967295"]);
        assert_eq!([0.8, 1e-7, -0.5].map(number), ["0.8", "0.0000001", "-0.5"]);
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(1e300).parse(), Ok(1e300));
    }

    #[test]
    fn names_are_compared_without_dashes() {
        assert_eq!(plain("--cache-type-k"), "cache_type_k");
        assert_eq!(plain("n_ctx"), "n_ctx");
    }
}
