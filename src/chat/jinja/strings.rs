//! What Python's `str` can do. Every result knows which of its characters are given.

use std::ops::Range;
use std::rc::Rc;

use super::arguments::Args;
use super::fault::Fault;
use super::lexer::is_space;
use super::meter::Meter;
use super::print::is_printable;
use super::text::{Text, Writer};
use super::value::Value;

type Made<T> = Result<T, Fault>;

/// Calls a method; `None` if texts have none of this name. (`format` and `join` are with the interpreter.)
pub(super) fn call(meter: &Rc<Meter>, text: &Text, name: &str, args: &Args) -> Made<Option<Value>> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    meter.pay_scan(text.len())?;
    for argument in args.positional.iter().filter_map(Value::as_text) {
        meter.pay_scan(argument.len())?;
    }
    let bool = |b| Ok(Some(Value::Bool(b)));
    let int = |n: usize| Ok(Some(Value::Int(n as i128)));
    let text_value = |text: Made<Text>| Ok(Some(Value::Text(text?)));
    let all = |test: fn(char) -> bool| Ok(Some(Value::Bool(!text.is_empty() && text.chars().all(test))));
    match name {
        "upper" | "lower" | "casefold" | "swapcase" | "capitalize" | "title" => {
            text_value(change_case(meter, text, name))
        }
        "strip" | "lstrip" | "rstrip" => {
            let chars = args.text(0, "chars")?;
            let range = strip(meter, text, chars.as_ref(), name != "rstrip", name != "lstrip")?;
            text_value(text.part(meter, range))
        }
        "removeprefix" | "removesuffix" => {
            let affix = args.require_text(0, "affix")?;
            let range = match name {
                "removeprefix" if text.starts_with(&*affix) => affix.len()..text.len(),
                "removesuffix" if text.ends_with(&*affix) => 0..text.len() - affix.len(),
                _ => 0..text.len(),
            };
            text_value(text.part(meter, range))
        }
        "startswith" | "endswith" => {
            let affixes: Vec<&Value> = match args.require(0, "prefix")? {
                Value::List(list) => list.items.iter().collect(),
                one => vec![one],
            };
            let range = char_range(text, args)?;
            let part = range.map(|range| &text[range]);
            let mut any = false;
            for affix in affixes {
                let Value::Text(affix) = affix else {
                    return Err(Fault::failed(format!("{name}: expected a text or a tuple of texts")));
                };
                meter.pay_copy(affix.len())?;
                any |= part.is_some_and(|part| {
                    if name == "startswith" { part.starts_with(&**affix) } else { part.ends_with(&**affix) }
                });
            }
            bool(any)
        }
        "find" | "rfind" | "index" | "rindex" => {
            let needle = args.require_text(0, "sub")?;
            let found = char_range(text, args)?.and_then(|range| {
                let part = &text[range.clone()];
                let at = if name.starts_with('r') { part.rfind(&*needle) } else { part.find(&*needle) };
                at.map(|at| text[..range.start + at].chars().count())
            });
            match found {
                Some(at) => int(at),
                None if name.ends_with("find") => Ok(Some(Value::Int(-1))),
                None => Err(Fault::failed("substring not found")),
            }
        }
        "count" => {
            let needle = args.require_text(0, "sub")?;
            int(char_range(text, args)?.map_or(0, |range| text[range].matches(&*needle).count()))
        }
        "replace" => {
            let (old, new) = (args.require_text(0, "old")?, args.require_text(1, "new")?);
            text_value(replace(meter, text, &old, &new, args.int(2, "count")?.unwrap_or(-1)))
        }
        "split" | "rsplit" => {
            let separator = args.text(0, "sep")?;
            let max = args.int(1, "maxsplit")?.unwrap_or(-1);
            let ranges = split(meter, text, separator.as_deref(), max, name == "rsplit")?;
            Ok(Some(parts(meter, text, &ranges)?))
        }
        "splitlines" => {
            let ranges = lines(meter, text, args.flag(0, "keepends"))?;
            Ok(Some(parts(meter, text, &ranges)?))
        }
        "partition" | "rpartition" => {
            let separator = args.require_text(0, "sep")?;
            if separator.is_empty() {
                return Err(Fault::failed("empty separator"));
            }
            let found = if name == "partition" { text.find(&*separator) } else { text.rfind(&*separator) };
            let end = text.len();
            let ranges = match found {
                Some(at) => [0..at, at..at + separator.len(), at + separator.len()..end],
                None if name == "partition" => [0..end, end..end, end..end],
                None => [0..0, 0..0, 0..end],
            };
            let parts: Made<Vec<Value>> =
                ranges.into_iter().map(|range| Ok(Value::Text(text.part(meter, range)?))).collect();
            Ok(Some(Value::tuple(meter, parts?)?))
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let width = args.int(0, "width")?.ok_or_else(|| Fault::failed("missing argument 'width'"))?;
            let fill = match args.text(1, "fillchar")? {
                Some(fill) => {
                    match fill.marked_chars().take(2).map(|(_, c, given)| (c, given)).collect::<Vec<_>>()[..]
                    {
                        [fill] => fill,
                        _ => {
                            return Err(Fault::failed(
                                "The fill character must be exactly one character long",
                            ));
                        }
                    }
                }
                None => (if name == "zfill" { '0' } else { ' ' }, false),
            };
            text_value(justify(meter, text, name, width, fill))
        }
        "expandtabs" => {
            let size = usize::try_from(args.int(0, "tabsize")?.unwrap_or(8)).unwrap_or(0);
            text_value(expand_tabs(meter, text, size))
        }
        "isspace" => all(is_space),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isnumeric" => all(char::is_numeric),
        "isdigit" => all(|c| c.is_ascii_digit() || (!c.is_ascii() && is_digit(c))),
        "isdecimal" => all(|c| c.is_ascii_digit() || (!c.is_ascii() && is_digit(c) && !is_superscript(c))),
        "isascii" => bool(text.is_ascii()),
        "isprintable" => {
            meter.pay(text.len() / 2)?;
            bool(text.chars().all(is_printable))
        }
        "isidentifier" => {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            bool(text.chars().all(word) && text.chars().next().is_some_and(|c| word(c) && !c.is_numeric()))
        }
        "isupper" | "islower" => {
            let upper = name == "isupper";
            let wrong = |c: char| if upper { c.is_lowercase() } else { c.is_uppercase() };
            let right = |c: char| if upper { c.is_uppercase() } else { c.is_lowercase() };
            bool(!text.chars().any(wrong) && text.chars().any(right))
        }
        "istitle" => {
            let (mut after_cased, mut any, mut fits) = (false, false, true);
            for c in text.chars() {
                fits &= if c.is_uppercase() { !after_cased } else { !c.is_lowercase() || after_cased };
                after_cased = c.is_uppercase() || c.is_lowercase();
                any |= after_cased;
            }
            bool(any && fits)
        }
        _ => Ok(None),
    }
}

/// The methods of texts.
pub(super) const NAMES: [&str; 45] = [
    "upper",
    "lower",
    "casefold",
    "swapcase",
    "capitalize",
    "title",
    "strip",
    "lstrip",
    "rstrip",
    "removeprefix",
    "removesuffix",
    "startswith",
    "endswith",
    "find",
    "rfind",
    "index",
    "rindex",
    "count",
    "replace",
    "split",
    "rsplit",
    "splitlines",
    "partition",
    "rpartition",
    "center",
    "ljust",
    "rjust",
    "zfill",
    "expandtabs",
    "isspace",
    "isalpha",
    "isalnum",
    "isnumeric",
    "isdigit",
    "isdecimal",
    "isascii",
    "isprintable",
    "isidentifier",
    "isupper",
    "islower",
    "istitle",
    "format",
    "format_map",
    "join",
    "encode",
];

/// Unicode's decimal digits and superscripts, as far as Rust tells them from other numbers.
fn is_digit(c: char) -> bool {
    is_superscript(c)
        || (c.is_numeric() && !c.is_alphabetic() && !('¼'..='¾').contains(&c) && c.to_digit(36).is_none())
}

fn is_superscript(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}' | '\u{2080}'..='\u{2089}')
}

fn parts(meter: &Rc<Meter>, text: &Text, ranges: &[Range<usize>]) -> Made<Value> {
    let parts: Made<Vec<Value>> =
        ranges.iter().map(|range| Ok(Value::Text(text.part(meter, range.clone())?))).collect();
    Value::list(meter, parts?)
}

/// The bytes between the characters that arguments 1 and 2 name, as of `find(sub, start, end)`; `None` if the start
/// lies behind the end.
fn char_range(text: &Text, args: &Args) -> Made<Option<Range<usize>>> {
    let (start, end) = (args.int(1, "start")?, args.int(2, "end")?);
    if start.is_none() && end.is_none() {
        return Ok(Some(0..text.len()));
    }
    let n = text.chars().count() as i128;
    let place = |at: i128| if at < 0 { (n + at).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(n)).min(n));
    if start > end {
        return Ok(None);
    }
    Ok(Some(byte_at(text, start as usize)..byte_at(text, end as usize)))
}

/// The byte at which a character starts; the end for those behind the last.
pub(super) fn byte_at(text: &str, n_chars: usize) -> usize {
    if text.is_ascii() {
        return n_chars.min(text.len());
    }
    text.char_indices().nth(n_chars).map_or(text.len(), |(at, _)| at)
}

/// Where a text starts and ends without white space, or without the characters of `chars`.
pub(super) fn strip(
    meter: &Rc<Meter>,
    text: &Text,
    chars: Option<&Text>,
    left: bool,
    right: bool,
) -> Made<Range<usize>> {
    if let Some(chars) = chars {
        meter.pay(text.len().min(1 << 20) / 32 * (1 + chars.len() / 8))?;
    }
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let start = if left { text.len() - text.trim_start_matches(goes).len() } else { 0 };
    let end = if right { start + text[start..].trim_end_matches(goes).len() } else { text.len() };
    Ok(start..end)
}

pub(super) fn replace(meter: &Rc<Meter>, text: &Text, old: &Text, new: &Text, count: i128) -> Made<Text> {
    meter.pay_scan(text.len() + old.len())?;
    let max = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = Writer::new(meter)?;
    let mut at = 0;
    // An empty text is found before every character and at the end.
    for (found, _) in text.match_indices(&**old).take(max) {
        meter.pay(1)?;
        out.push_part(text, at..found)?;
        out.push_text(new)?;
        at = found + old.len();
    }
    out.push_part(text, at..text.len())?;
    Ok(out.finish())
}

fn split(
    meter: &Rc<Meter>,
    text: &Text,
    separator: Option<&str>,
    max: i128,
    from_right: bool,
) -> Made<Vec<Range<usize>>> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut held = meter.hold(0)?;
    let mut piece = || meter.pay(1).and_then(|()| held.grow(3 * size_of::<Range<usize>>()));
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let Some(separator) = separator else {
        // Words between white space; what is left after `max` of them keeps the white space at its far end.
        let mut rest = 0..text.len();
        loop {
            piece()?;
            let part = &text[rest.clone()];
            let inner =
                if from_right { part.trim_end_matches(is_space) } else { part.trim_start_matches(is_space) };
            if inner.is_empty() {
                break;
            }
            if from_right {
                rest.end = rest.start + inner.len()
            } else {
                rest.start = rest.end - inner.len()
            }
            let cut = if from_right { inner.rfind(is_space) } else { inner.find(is_space) };
            let Some(cut) = cut.filter(|_| ranges.len() < max) else {
                let word = if ranges.len() < max { inner.trim_matches(is_space).len() } else { inner.len() };
                ranges.push(if from_right {
                    rest.end - word..rest.end
                } else {
                    rest.start..rest.start + word
                });
                break;
            };
            if from_right {
                let width = inner[cut..].chars().next().map_or(1, char::len_utf8);
                ranges.push(rest.start + cut + width..rest.end);
                rest.end = rest.start + cut;
            } else {
                ranges.push(rest.start..rest.start + cut);
                rest.start += cut;
            }
        }
        if from_right {
            ranges.reverse();
        }
        return Ok(ranges);
    };
    if separator.is_empty() {
        return Err(Fault::failed("empty separator"));
    }
    let mut found: Vec<usize> = Vec::new();
    if from_right {
        for (at, _) in text.rmatch_indices(separator).take(max) {
            piece()?;
            found.push(at);
        }
        found.reverse();
    } else {
        for (at, _) in text.match_indices(separator).take(max) {
            piece()?;
            found.push(at);
        }
    }
    let mut start = 0;
    for at in found {
        ranges.push(start..at);
        start = at + separator.len();
    }
    ranges.push(start..text.len());
    Ok(ranges)
}

/// The lines of a text, at every line break that Python knows.
pub(super) fn lines(meter: &Rc<Meter>, text: &Text, keep_ends: bool) -> Made<Vec<Range<usize>>> {
    meter.pay_scan(text.len())?;
    let breaks = |c: char| {
        matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut held = meter.hold(0)?;
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < text.len() {
        meter.pay(1)?;
        held.grow(2 * size_of::<Range<usize>>())?;
        let rest = &text[start..];
        let end = rest.find(breaks).map_or(text.len(), |at| start + at);
        let width = if text[end..].starts_with("\r\n") {
            2
        } else {
            text[end..].chars().next().map_or(0, char::len_utf8)
        };
        ranges.push(start..if keep_ends { end + width } else { end });
        start = end + width;
    }
    Ok(ranges)
}

fn justify(meter: &Rc<Meter>, text: &Text, name: &str, width: i128, fill: (char, bool)) -> Made<Text> {
    let missing = (width - text.n_chars(meter)? as i128).max(0);
    let missing = usize::try_from(missing).map_err(|_| Fault::Endless)?;
    let mut out = Writer::new(meter)?;
    let before = match name {
        "ljust" => 0,
        // Python puts the odd one before a text that is to get an odd width.
        "center" => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
        _ => missing,
    };
    let signed = name == "zfill" && text.starts_with(['+', '-']);
    if signed {
        out.push_part(text, 0..1)?;
    }
    out.push_many(fill.0, before, fill.1)?;
    out.push_part(text, usize::from(signed)..text.len())?;
    out.push_many(fill.0, missing - before, fill.1)?;
    Ok(out.finish())
}

fn expand_tabs(meter: &Rc<Meter>, text: &Text, size: usize) -> Made<Text> {
    let mut out = Writer::new(meter)?;
    let mut column = 0;
    for (_, c, given) in text.marked_chars() {
        if c == '\t' {
            let n = if size == 0 { 0 } else { size - column % size };
            out.push_many(' ', n, given)?;
            column += n;
        } else {
            column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            out.push(c, given)?;
        }
    }
    Ok(out.finish())
}

/// `upper`, `lower`, `casefold`, `swapcase`, `capitalize` and `title`.
pub(super) fn change_case(meter: &Rc<Meter>, text: &Text, name: &str) -> Made<Text> {
    meter.pay(text.len() / 8)?;
    let mut out = Writer::new(meter)?;
    let mut after_cased = false;
    for (at, c, given) in text.marked_chars() {
        let is_cased = c.is_uppercase() || c.is_lowercase() || title_case(c) != c;
        let case = match name {
            "upper" => Case::Upper,
            "casefold" => Case::Fold,
            "capitalize" if at == 0 => Case::Title,
            "title" if !after_cased => Case::Title,
            "swapcase" if c.is_lowercase() => Case::Upper,
            _ => Case::Lower,
        };
        after_cased = is_cased;
        match case {
            Case::Upper => c.to_uppercase().try_for_each(|c| out.push(c, given))?,
            Case::Lower if c == '\u{3a3}' => out.push(lower_sigma(text, at), given)?,
            Case::Lower => c.to_lowercase().try_for_each(|c| out.push(c, given))?,
            Case::Fold if c == '\u{131}' => out.push(c, given)?,
            Case::Fold => {
                c.to_uppercase().flat_map(char::to_lowercase).try_for_each(|c| out.push(c, given))?
            }
            Case::Title if title_case(c) != c || ('\u{10d0}'..='\u{10ff}').contains(&c) => {
                out.push(title_case(c), given)?;
            }
            Case::Title => {
                let mut upper = c.to_uppercase();
                if let Some(first) = upper.next() {
                    out.push(first, given)?;
                }
                upper.flat_map(char::to_lowercase).try_for_each(|c| out.push(c, given))?;
            }
        }
    }
    Ok(out.finish())
}

#[derive(Clone, Copy)]
enum Case {
    Upper,
    Lower,
    Fold,
    Title,
}

/// The characters that have a third form.
fn title_case(c: char) -> char {
    match c {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            char::from_u32(u32::from(c) + 8).unwrap_or(c)
        }
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9).unwrap_or(c),
        _ => c,
    }
}

/// The small sigma: another one at the end of a word.
fn lower_sigma(text: &str, at: usize) -> char {
    let is_letter = |c: char| c.is_alphabetic();
    let before = text[..at].chars().next_back().is_some_and(is_letter);
    let after = text[at + '\u{3a3}'.len_utf8()..].chars().next().is_some_and(is_letter);
    if before && !after { '\u{3c2}' } else { '\u{3c3}' }
}
