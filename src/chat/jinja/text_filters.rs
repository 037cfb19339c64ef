//! The filters of Jinja2 that make texts.

use std::rc::Rc;

use super::arguments::Args;
use super::fault::Fault;
use super::interpreter::Interpreter;
use super::lexer::is_space;
use super::meter::Meter;
use super::print::{Json, to_text};
use super::text::{Text, Writer};
use super::value::{Outcome, Value};
use super::{format, pretty, strings};

/// Applies a filter.
pub(super) fn apply(it: &Interpreter, name: &str, value: &Value, args: &Args) -> Outcome {
    let meter = &it.meter;
    let made = match name {
        "tojson" => return tojson(meter, value, args),
        "pprint" => return pretty::pprint(meter, value),
        "wordcount" => {
            let text = to_text(value, meter)?;
            meter.pay_scan(text.len())?;
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let n = text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count();
            return Ok(Value::Int(n as i128));
        }
        "upper" | "lower" | "capitalize" => strings::change_case(meter, &to_text(value, meter)?, name),
        "title" => title(meter, &to_text(value, meter)?),
        "trim" => {
            let text = to_text(value, meter)?;
            meter.pay_scan(text.len())?;
            let range = strings::strip(meter, &text, args.text(0, "chars")?.as_ref(), true, true)?;
            text.part(meter, range)
        }
        "replace" => {
            let (old, new) = (args.printed(0, "old", meter)?, args.printed(1, "new", meter)?);
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Fault::failed("replace: expected what to replace, and by what"));
            };
            let count = args.int(2, "count")?.unwrap_or(-1);
            strings::replace(meter, &to_text(value, meter)?, &old, &new, count)
        }
        "center" => {
            let width = args.get(0, "width").cloned().unwrap_or(Value::Int(80));
            let text = to_text(value, meter)?;
            return strings::call(meter, &text, "center", &Args::of(vec![width]))?
                .ok_or_else(|| Fault::failed("center"));
        }
        "format" => {
            let values = if args.named.is_empty() {
                Value::tuple(meter, args.positional.clone())?
            } else {
                let mut map = indexmap::IndexMap::new();
                for (name, value) in &args.named {
                    map.insert(super::value::Key::new(&Value::text(meter, name)?, meter)?, value.clone());
                }
                Value::dict(meter, map)?
            };
            return format::percent(meter, &to_text(value, meter)?, &values);
        }
        "indent" | "truncate" | "wordwrap" => match (name, value) {
            ("indent", Value::Text(text)) => indent(meter, text, args),
            ("truncate", Value::Text(text)) => truncate(meter, text, args),
            ("wordwrap", Value::Text(text)) => wrap(meter, text, args),
            // What is short enough is left alone, whatever it is.
            ("truncate", _) if value.len(meter)?.is_some_and(|n| n <= 255) => return Ok(value.clone()),
            _ => Err(Fault::failed(format!("{name}: expected a text, found '{}'", value.type_name()))),
        },
        "escape" | "e" | "forceescape" => escape(meter, &to_text(value, meter)?),
        "striptags" => strip_tags(meter, &to_text(value, meter)?),
        "filesizeformat" => file_size(meter, value, args.flag(0, "binary")),
        "urlencode" => url_encode(meter, value),
        "xmlattr" => xml_attributes(meter, value, args.get(0, "autospace").is_none_or(Value::is_true)),
        _ => Err(Fault::failed(format!("the filter '{name}' is not supported"))),
    };
    made.map(Value::Text)
}

fn tojson(meter: &Rc<Meter>, value: &Value, args: &Args) -> Outcome {
    let indent = match args.get(1, "indent") {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text.clone()),
        Some(n) => {
            let n = n.as_int().ok_or_else(|| Fault::failed("tojson: the indent is a number or a text"))?;
            let mut spaces = Writer::new(meter)?;
            spaces.push_many(' ', usize::try_from(n.max(0)).map_err(|_| Fault::Endless)?, false)?;
            Some(spaces.finish())
        }
    };
    let separators = match args.get(2, "separators") {
        None | Some(Value::None) => None,
        Some(Value::List(list)) => match &list.items[..] {
            [Value::Text(between), Value::Text(after_key)] => Some((between.clone(), after_key.clone())),
            _ => return Err(Fault::failed("tojson: the separators are two texts")),
        },
        Some(_) => return Err(Fault::failed("tojson: the separators are two texts")),
    };
    let json = Json {
        ascii: args.flag(0, "ensure_ascii"),
        sort_keys: args.flag(3, "sort_keys"),
        indent,
        separators,
    };
    let mut out = Writer::new(meter)?;
    json.write(&mut out, value, 0)?;
    Ok(Value::Text(out.finish()))
}

/// Jinja's own: words begin after white space and opening brackets too.
fn title(meter: &Rc<Meter>, text: &Text) -> Result<Text, Fault> {
    let mut out = Writer::new(meter)?;
    let mut words = Writer::new(meter)?;
    meter.pay_scan(text.len())?;
    // The rest of each word as `lower` makes it, which looks at neighbours.
    let lower = strings::change_case(meter, text, "lower")?;
    if lower.chars().count() != text.chars().count() {
        words.push_text(text)?;
    }
    let mut starts = true;
    let mut small = lower.marked_chars().peekable();
    let aligned = words.is_empty();
    for (_, c, given) in text.marked_chars() {
        let low = small.next().map(|(_, c, _)| c);
        let delimits = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        if starts && !delimits {
            c.to_uppercase().try_for_each(|c| out.push(c, given))?;
        } else if let Some(low) = low.filter(|_| aligned) {
            out.push(low, given)?;
        } else {
            c.to_lowercase().try_for_each(|c| out.push(c, given))?;
        }
        starts = delimits;
    }
    Ok(out.finish())
}

fn indent(meter: &Rc<Meter>, text: &Text, args: &Args) -> Result<Text, Fault> {
    let by = match args.get(0, "width") {
        Some(Value::Text(text)) => text.clone(),
        width => {
            let n = width.map_or(Some(4), Value::as_int);
            let n = n.ok_or_else(|| Fault::failed("indent: the width is a number or a text"))?;
            let mut spaces = Writer::new(meter)?;
            spaces.push_many(' ', usize::try_from(n.max(0)).map_err(|_| Fault::Endless)?, false)?;
            spaces.finish()
        }
    };
    let (first, blank) = (args.flag(1, "first"), args.flag(2, "blank"));
    let mut out = Writer::new(meter)?;
    // As if the text ended with one more line break.
    let mut lines = strings::lines(meter, text, false)?;
    if text.is_empty() || text.ends_with('\n') {
        lines.push(text.len()..text.len());
    }
    for (at, line) in lines.into_iter().enumerate() {
        if at > 0 {
            out.push_str("\n", false)?;
        }
        if (at > 0 && (blank || !line.is_empty())) || (at == 0 && first) {
            out.push_text(&by)?;
        }
        out.push_part(text, line)?;
    }
    Ok(out.finish())
}

fn truncate(meter: &Rc<Meter>, text: &Text, args: &Args) -> Result<Text, Fault> {
    let length = args.int(0, "length")?.unwrap_or(255);
    let end = args.text(2, "end")?;
    let end = match end {
        Some(end) => end,
        None => Text::written(meter, "...")?,
    };
    let leeway = args.int(3, "leeway")?.unwrap_or(5);
    let n_end = end.n_chars(meter)? as i128;
    if length < n_end || leeway < 0 {
        return Err(Fault::failed(format!("expected length >= {n_end}, got {length}")));
    }
    if text.n_chars(meter)? as i128 <= length.saturating_add(leeway) {
        return Ok(text.clone());
    }
    let mut cut = strings::byte_at(text, (length - n_end) as usize);
    if !args.flag(1, "killwords") {
        cut = text[..cut].rfind(' ').unwrap_or(cut);
    }
    let mut out = Writer::new(meter)?;
    out.push_part(text, 0..cut)?;
    out.push_text(&end)?;
    Ok(out.finish())
}

/// Python's `textwrap.wrap`, line by line.
fn wrap(meter: &Rc<Meter>, text: &Text, args: &Args) -> Result<Text, Fault> {
    let width = usize::try_from(args.int(0, "width")?.unwrap_or(79)).unwrap_or(0);
    if width == 0 {
        return Err(Fault::failed("invalid width (must be > 0)"));
    }
    let option = |at, name| args.get(at, name).is_none_or(Value::is_true);
    let (break_words, break_hyphens) = (option(1, "break_long_words"), option(3, "break_on_hyphens"));
    let between = match args.text(2, "wrapstring")? {
        Some(between) => between,
        None => Text::written(meter, "\n")?,
    };
    let mut out = Writer::new(meter)?;
    for (at, line) in strings::lines(meter, text, false)?.into_iter().enumerate() {
        if at > 0 {
            out.push_text(&between)?;
        }
        meter.pay(line.len() / 4)?;
        let _held = meter.hold(line.len() * 3 * size_of::<(usize, char)>())?;
        // White space and words in turn, words cut after hyphens between letters.
        let mut chunks: std::collections::VecDeque<std::ops::Range<usize>> = Default::default();
        let mut start = line.start;
        let chars: Vec<(usize, char)> = text[line.clone()].char_indices().collect();
        for (i, &(at, c)) in chars.iter().enumerate() {
            let here = line.start + at;
            let next = chars.get(i + 1).map(|&(_, c)| c);
            let end = here + c.len_utf8();
            let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() || c == '_');
            let before = i.checked_sub(1).map(|i| chars[i].1);
            let hyphen = break_hyphens
                && c == '-'
                && letter(before)
                && letter(next)
                && letter(i.checked_sub(2).map(|i| chars[i].1))
                && letter(chars.get(i + 2).map(|&(_, c)| c));
            if next.is_none_or(|next| is_space(next) != is_space(c)) || hyphen {
                chunks.push_back(start..end);
                start = end;
            }
        }
        let width_of = |chunk: &std::ops::Range<usize>| text[chunk.clone()].chars().count();
        let is_blank = |chunk: &std::ops::Range<usize>| text[chunk.clone()].chars().all(is_space);
        let mut first = true;
        while !chunks.is_empty() {
            meter.pay(1)?;
            let mut row: Vec<std::ops::Range<usize>> = Vec::new();
            let mut used = 0;
            if !first && chunks.front().is_some_and(is_blank) {
                chunks.pop_front();
            }
            while let Some(chunk) = chunks.front() {
                let n = width_of(chunk);
                if used + n > width {
                    break;
                }
                used += n;
                row.extend(chunks.pop_front());
            }
            if let Some(chunk) = chunks.front().cloned()
                && width_of(&chunk) > width
            {
                if break_words {
                    let cut = chunk.start
                        + strings::byte_at(&text[chunk.clone()], (width - used).max(1).min(width));
                    if width > used {
                        row.push(chunk.start..cut);
                        chunks[0] = cut..chunk.end;
                    }
                } else if row.is_empty() {
                    row.extend(chunks.pop_front());
                }
            }
            if row.last().is_some_and(is_blank) {
                row.pop();
            }
            if row.is_empty() {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push_text(&between)?;
            }
            for chunk in row {
                out.push_part(text, chunk)?;
            }
        }
    }
    Ok(out.finish())
}

fn escape(meter: &Rc<Meter>, text: &Text) -> Result<Text, Fault> {
    let mut out = Writer::new(meter)?;
    meter.pay_scan(text.len())?;
    for (_, c, given) in text.marked_chars() {
        match c {
            '&' => out.push_str("&amp;", given)?,
            '<' => out.push_str("&lt;", given)?,
            '>' => out.push_str("&gt;", given)?,
            '\'' => out.push_str("&#39;", given)?,
            '"' => out.push_str("&#34;", given)?,
            c => out.push(c, given)?,
        }
    }
    Ok(out.finish())
}

fn strip_tags(meter: &Rc<Meter>, text: &Text) -> Result<Text, Fault> {
    let without = |text: &Text, open: &str, close: &str| -> Result<Text, Fault> {
        let mut out = Writer::new(meter)?;
        let mut at = 0;
        while let Some(start) = text[at..].find(open) {
            meter.pay(1)?;
            let Some(end) = text[at + start..].find(close) else { break };
            out.push_part(text, at..at + start)?;
            at += start + end + close.len();
        }
        out.push_part(text, at..text.len())?;
        Ok(out.finish())
    };
    meter.pay(text.len() / 8)?;
    let text = without(&without(text, "<!--", "-->")?, "<", ">")?;
    let mut out = Writer::new(meter)?;
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        meter.pay(1)?;
        if !out.is_empty() {
            out.push_str(" ", false)?;
        }
        let mut at = word.as_ptr() as usize - text.as_ptr() as usize;
        let end = at + word.len();
        while at < end {
            let entity = ENTITIES.iter().find(|(entity, _)| text[at..end].starts_with(entity));
            let c = text[at..].chars().next().unwrap_or(' ');
            match entity {
                Some((entity, c)) => {
                    out.push(*c, text.is_given(at))?;
                    at += entity.len();
                }
                None => {
                    out.push_part(&text, at..at + c.len_utf8())?;
                    at += c.len_utf8();
                }
            }
        }
    }
    Ok(out.finish())
}

/// The entities that `escape` writes, and a few that people do.
const ENTITIES: [(&str, char); 8] = [
    ("&amp;", '&'),
    ("&lt;", '<'),
    ("&gt;", '>'),
    ("&#39;", '\''),
    ("&#34;", '"'),
    ("&quot;", '"'),
    ("&apos;", '\''),
    ("&nbsp;", '\u{a0}'),
];

fn file_size(meter: &Rc<Meter>, value: &Value, binary: bool) -> Result<Text, Fault> {
    let n = match value {
        Value::Text(text) => text.parse().ok(),
        _ => value.as_float(),
    };
    let n: f64 = n.ok_or_else(|| Fault::failed("filesizeformat: expected a number"))?;
    let base = if binary { 1024.0 } else { 1000.0 };
    let prefixes = if binary {
        ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
    } else {
        ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    };
    let text = if n == 1.0 {
        "1 Byte".to_owned()
    } else if n < base {
        format!("{} Bytes", n as i128)
    } else {
        let unit = |at: usize| f64::powi(base, at as i32 + 2);
        let at = (0..prefixes.len()).find(|&at| n < unit(at)).unwrap_or(prefixes.len() - 1);
        format!("{:.1} {}", base * n / unit(at), prefixes[at])
    };
    Text::written(meter, &text)
}

fn url_encode(meter: &Rc<Meter>, value: &Value) -> Result<Text, Fault> {
    let mut out = Writer::new(meter)?;
    match value {
        Value::Dict(dict) => {
            for (at, (key, value)) in dict.map.iter().enumerate() {
                if at > 0 {
                    out.push_str("&", false)?;
                }
                quote_url(&mut out, &to_text(&key.0, meter)?, true)?;
                out.push_str("=", false)?;
                quote_url(&mut out, &to_text(value, meter)?, true)?;
            }
        }
        Value::List(_) => {
            for (at, pair) in value.items(meter)?.iter().enumerate() {
                let pair = pair.items(meter)?;
                let [key, value] = &pair[..] else { return Err(Fault::failed("urlencode: expected pairs")) };
                if at > 0 {
                    out.push_str("&", false)?;
                }
                quote_url(&mut out, &to_text(key, meter)?, true)?;
                out.push_str("=", false)?;
                quote_url(&mut out, &to_text(value, meter)?, true)?;
            }
        }
        _ => quote_url(&mut out, &to_text(value, meter)?, false)?,
    }
    Ok(out.finish())
}

fn quote_url(out: &mut Writer, text: &Text, in_query: bool) -> Result<(), Fault> {
    out.meter().pay_scan(text.len())?;
    for (_, c, given) in text.marked_chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '~') || (c == '/' && !in_query) {
            out.push(c, given)?;
        } else if c == ' ' && in_query {
            out.push('+', given)?;
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("%{byte:02X}"), given)?;
            }
        }
    }
    Ok(())
}

fn xml_attributes(meter: &Rc<Meter>, value: &Value, space: bool) -> Result<Text, Fault> {
    let Value::Dict(dict) = value else { return Err(Fault::failed("xmlattr: expected a mapping")) };
    let mut out = Writer::new(meter)?;
    for (key, value) in dict.map.iter().filter(|(_, v)| !matches!(v, Value::None | Value::Undefined(_))) {
        let key = to_text(&key.0, meter)?;
        if key.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=')) {
            return Err(Fault::failed("xmlattr: invalid character in attribute name"));
        }
        if space || !out.is_empty() {
            out.push_str(" ", false)?;
        }
        out.push_text(&escape(meter, &key)?)?;
        out.push_str("=\"", false)?;
        out.push_text(&escape(meter, &to_text(value, meter)?)?)?;
        out.push_str("\"", false)?;
    }
    Ok(out.finish())
}
