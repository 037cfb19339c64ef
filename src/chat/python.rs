//! What Hugging Face templates expect of Python: `tojson`, `strftime_now`, `raise_exception` and `{% generation %}`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::guard::pay;

/// Adds the functions and the filter to an environment.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_filter("tojson", tojson);
    env.add_function("strftime_now", |format: &str| match format.len() {
        0..=MAX_FORMAT_BYTES => Ok(strftime(format, now())),
        found => {
            let message = format!("strftime_now: a format of {found} bytes");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    });
    env.add_function("raise_exception", |state: &State<'_, '_>, message: &Value| -> Result<Value, Error> {
        pay(state, message)?;
        let message = message.to_string();
        Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
    });
}

/// The longest format that `strftime_now` takes.
const MAX_FORMAT_BYTES: usize = 1000;

/// The error of `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub String);

/// `json.dumps` of Python with `ensure_ascii=False`, as Hugging Face redefines the filter: unlike Jinja's own it
/// escapes nothing for HTML. Takes the keywords `ensure_ascii`, `indent`, `separators` and `sort_keys`.
fn tojson(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two strings")),
        // Python leaves the space after the comma out when the line ends there.
        None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let json = Json {
        state,
        n_paid: Cell::new(0),
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item,
        key,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    json.write(&mut out, value, 1)?;
    Ok(out)
}

/// How deep `tojson` follows lists and maps.
const MAX_DEPTH: usize = 100;

/// The layout of a JSON text.
struct Json<'a> {
    state: &'a State<'a, 'a>,
    /// Bytes written and charged for.
    n_paid: Cell<usize>,
    ascii: bool,
    sort: bool,
    indent: Option<usize>,
    item: String,
    key: String,
}

impl Json<'_> {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let error = |message: String| Err(Error::new(ErrorKind::InvalidOperation, message));
        if depth > MAX_DEPTH {
            return error(format!("tojson: more than {MAX_DEPTH} levels"));
        }
        let unpaid = out.len() - self.n_paid.replace(out.len());
        self.state.consume_fuel(1 + unpaid as u64 / 64)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            // minijinja writes `1` and `1.0` as Python's json does.
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.list(out, ['[', ']'], items, depth, |out, item| self.write(out, &item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort_by_key(ToString::to_string);
                }
                self.list(out, ['{', '}'], keys.into_iter(), depth, |out, key| {
                    self.string(out, &key.to_string());
                    out.push_str(&self.key);
                    self.write(out, &value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => return error(format!("tojson: a value of type {kind} is not JSON")),
        }
        Ok(())
    }

    fn list(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: impl Iterator<Item = Value>,
        depth: usize,
        mut one: impl FnMut(&mut String, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
            }
        };
        out.push(open);
        let mut empty = true;
        for item in items {
            if !std::mem::take(&mut empty) {
                out.push_str(&self.item);
            }
            line(out, depth);
            one(out, item)?;
        }
        if !empty {
            line(out, depth - 1);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").expect("a String takes everything");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Seconds since 1970, UTC.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Python's `strftime` in the C locale and UTC. Codes it does not know stay as they are.
fn strftime(format: &str, seconds: u64) -> String {
    let (days, of_day) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let month_name = MONTHS[month as usize - 1];
    // 1 January 1970 was a Thursday.
    let week_day = DAYS[((days + 4) % 7) as usize];
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let half = if hour < 12 { "AM" } else { "PM" };
    let day_of_year = days - days_from_new_year(year) + 1;

    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        // `%-d` is `%d` without the zero in front.
        let mut plain = rest.clone();
        let short = plain.next() == Some('-');
        if short {
            rest = plain;
        }
        let code = rest.next();
        let number = |value: u64, width: usize| format!("{value:0w$}", w = if short { 0 } else { width });
        out.push_str(&match code {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:>2}"),
            Some('H') => number(hour, 2),
            Some('I') => number(twelve, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(day_of_year, 3),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => week_day.to_owned(),
            Some('a') => week_day[..3].to_owned(),
            Some('p') => half.to_owned(),
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{}{other}", if short { "-" } else { "" }),
            None => "%".to_owned(),
        });
    }
    out
}

/// Year, month and day of a count of days since 1970, by walking the years: there are few.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_from_new_year(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_from_new_year(year);
    let mut month = 1;
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The days from 1970 to the first of January of `year`.
fn days_from_new_year(year: u64) -> u64 {
    let leap_days = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    (year - 1970) * 365 + leap_days(year) - leap_days(1970)
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Replaces the tags `{% generation %}` and `{% endgeneration %}`, by which training code finds what the assistant
/// said, with tags that minijinja knows and that do nothing.
pub(super) fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("endgeneration") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_matches(|c: char| matches!(c, '{' | '%' | '}' | '-' | '+') || c.is_whitespace());
        match word {
            "generation" => out.push_str(&tag.replacen(word, "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen(word, "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> String {
        let mut env = Environment::new();
        install(&mut env);
        env.render_str(source, ()).unwrap()
    }

    /// The right sides are what Python's `json.dumps(…, ensure_ascii=False)` prints.
    #[test]
    fn tojson_is_pythons() {
        let json = |value: &str, options: &str| render(&format!("{{{{ {value}|tojson{options} }}}}"));
        assert_eq!(
            json(r#"{"a": [1, 2.5, true, none], "b": {}}"#, ""),
            r#"{"a": [1, 2.5, true, null], "b": {}}"#
        );
        assert_eq!(json(r#""<é>&'\"\\\n\t""#, ""), r#""<é>&'\"\\\n\t""#);
        assert_eq!(json(r#""é🦀""#, "(ensure_ascii=true)"), r#""\u00e9\ud83e\udd80""#);
        assert_eq!(json(r#"{"b": 1, "a": [2]}"#, "(sort_keys=true)"), r#"{"a": [2], "b": 1}"#);
        assert_eq!(
            json(r#"{"a": [1, 2], "b": []}"#, "(indent=2)"),
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": []\n}"
        );
        assert_eq!(json("[1, 2]", "(separators=(',', ':'))"), "[1,2]");
    }

    /// Python: datetime.datetime.fromtimestamp(s, datetime.UTC).strftime(f)
    #[test]
    fn strftime_is_pythons() {
        let all = "%Y-%m-%d %H:%M:%S %B %b %A %a %I%p %y %j %% %-d %F %T";
        assert_eq!(
            strftime(all, 1_709_210_705),
            "2024-02-29 12:45:05 February Feb Thursday Thu 12PM 24 060 % 29 2024-02-29 12:45:05"
        );
        assert_eq!(strftime("%d %b %Y|%-d|%-m|%e", 1_756_684_799), "31 Aug 2025|31|8|31");
        assert_eq!(strftime("%Y-%m-%d %A %j", 0), "1970-01-01 Thursday 001");
        assert_eq!(strftime("%F %j %I", 4_107_542_399), "2100-02-28 059 11");
        assert_eq!(strftime("%F", 4_107_542_400), "2100-03-01");
        assert_eq!(strftime("%F", 951_868_799), "2000-02-29");
        assert_eq!(strftime("%Q%", 0), "%Q%");
    }

    #[test]
    fn strftime_now_is_today() {
        let before = strftime("%F", now());
        let got = render("{{ strftime_now('%Y-%m-%d') }}");
        assert!(got == before || got == strftime("%F", now()), "{got}");
    }

    #[test]
    fn generation_tags_do_nothing() {
        let source = "a{% generation %}b{%- if x -%}generation{% endif %}{%- endgeneration -%} c";
        let want = "a{% if true %}b{%- if x -%}generation{% endif %}{%- endif -%} c";
        assert_eq!(without_generation_tags(source), want);
        assert!(matches!(without_generation_tags("{% if true %}"), Cow::Borrowed(_)));
    }
}
