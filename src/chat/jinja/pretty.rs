//! Python's `pprint.pformat`: a value over several lines of at most 80 characters.

use std::rc::Rc;

use super::fault::Fault;
use super::lexer::is_space;
use super::meter::Meter;
use super::print::write_repr;
use super::sort::sort_by;
use super::strings;
use super::text::{Text, Writer};
use super::value::{ListKind, Outcome, Value};

const WIDTH: i64 = 80;

/// The filter `pprint`.
pub(super) fn pprint(meter: &Rc<Meter>, value: &Value) -> Outcome {
    let mut out = Writer::new(meter)?;
    write(&mut out, &sorted(meter, value)?, 0, 0, true)?;
    Ok(Value::Text(out.finish()))
}

/// The value with its dicts in the order of their keys.
fn sorted(meter: &Rc<Meter>, value: &Value) -> Outcome {
    match value {
        Value::List(list) if matches!(list.kind, ListKind::List | ListKind::Tuple) => {
            let items = list.items.iter().map(|item| sorted(meter, item)).collect::<Result<_, _>>()?;
            Value::sequence(meter, list.kind.clone(), items)
        }
        Value::Dict(dict) => {
            let mut entries: Vec<_> = dict.map.iter().collect();
            sort_by(&mut entries, meter, |(a, _), (b, _)| match a.0.order(&b.0, meter) {
                Err(Fault::Endless) => Err(Fault::Endless),
                // Keys of different types keep their order.
                order => Ok(order.unwrap_or(None)),
            })?;
            let mut map = indexmap::IndexMap::new();
            for (key, value) in entries {
                map.insert(key.clone(), sorted(meter, value)?);
            }
            Value::dict(meter, map)
        }
        _ => Ok(value.clone()),
    }
}

fn repr(meter: &Rc<Meter>, value: &Value) -> Result<Text, Fault> {
    let mut out = Writer::new(meter)?;
    write_repr(&mut out, value)?;
    Ok(out.finish())
}

/// Writes a value that starts at column `indent` and is followed by `allowance` more characters.
fn write(out: &mut Writer, value: &Value, indent: i64, allowance: i64, top: bool) -> Result<(), Fault> {
    let meter = Rc::clone(out.meter());
    let whole = repr(&meter, value)?;
    if whole.n_chars(&meter)? as i64 <= WIDTH - indent - allowance {
        return out.push_text(&whole);
    }
    match value {
        Value::List(list)
            if matches!(list.kind, ListKind::List | ListKind::Tuple) && !list.items.is_empty() =>
        {
            let (open, close) = match (&list.kind, list.items.len()) {
                (ListKind::List, _) => ("[", "]"),
                (_, 1) => ("(", ",)"),
                _ => ("(", ")"),
            };
            out.push_str(open, false)?;
            for (at, item) in list.items.iter().enumerate() {
                let last = at + 1 == list.items.len();
                let after = if last { allowance + close.len() as i64 } else { 1 };
                write(out, item, indent + 1, after, false)?;
                if !last {
                    new_line(out, ",\n", indent + 1)?;
                }
            }
            out.push_str(close, false)
        }
        Value::Dict(dict) if !dict.map.is_empty() => {
            out.push_str("{", false)?;
            for (at, (key, value)) in dict.map.iter().enumerate() {
                let last = at + 1 == dict.map.len();
                let key = repr(&meter, &key.0)?;
                out.push_text(&key)?;
                out.push_str(": ", false)?;
                let column = indent + 1 + key.n_chars(&meter)? as i64 + 2;
                write(out, value, column, if last { allowance + 1 } else { 1 }, false)?;
                if !last {
                    new_line(out, ",\n", indent + 1)?;
                }
            }
            out.push_str("}", false)
        }
        Value::Text(text) if !text.is_empty() => write_text(out, text, &whole, indent, allowance, top),
        _ => out.push_text(&whole),
    }
}

fn new_line(out: &mut Writer, before: &str, indent: i64) -> Result<(), Fault> {
    out.push_str(before, false)?;
    out.push_many(' ', usize::try_from(indent).unwrap_or(0), false)
}

/// A long text in pieces, cut at its lines and words.
fn write_text(
    out: &mut Writer,
    text: &Text,
    whole: &Text,
    mut indent: i64,
    mut allowance: i64,
    top: bool,
) -> Result<(), Fault> {
    let meter = Rc::clone(out.meter());
    if top {
        indent += 1;
        allowance += 1;
    }
    let width = WIDTH - indent;
    let quoted = |range: std::ops::Range<usize>| repr(&meter, &Value::Text(text.part(&meter, range)?));
    let mut chunks = Vec::new();
    let lines = strings::lines(&meter, text, true)?;
    let n_lines = lines.len();
    for (at, line) in lines.into_iter().enumerate() {
        let last_line = at + 1 == n_lines;
        let rep = quoted(line.clone())?;
        if rep.n_chars(&meter)? as i64 <= width - if last_line { allowance } else { 0 } {
            chunks.push(rep);
            continue;
        }
        let mut current = line.start..line.start;
        while current.end < line.end {
            meter.pay(1)?;
            let rest = &text[current.end..line.end];
            let word = rest.find(is_space).unwrap_or(rest.len());
            let word = word + rest[word..].find(|c| !is_space(c)).unwrap_or(rest.len() - word);
            let end = current.end + word;
            let room = width - if end == line.end && last_line { allowance } else { 0 };
            if quoted(current.start..end)?.n_chars(&meter)? as i64 > room {
                if !current.is_empty() {
                    chunks.push(quoted(current.clone())?);
                }
                current = current.end..end;
            } else {
                current.end = end;
            }
        }
        if !current.is_empty() {
            chunks.push(quoted(current)?);
        }
    }
    if chunks.len() == 1 {
        return out.push_text(whole);
    }
    if top {
        out.push_str("(", false)?;
    }
    for (at, chunk) in chunks.iter().enumerate() {
        if at > 0 {
            new_line(out, "\n", indent)?;
        }
        out.push_text(chunk)?;
    }
    if top { out.push_str(")", false) } else { Ok(()) }
}
