//! Values as text: Python's `str` and `repr`, and its `json.dumps`.

use std::rc::Rc;

use super::fault::Fault;
use super::meter::Meter;
use super::sort::sort_by;
use super::text::{Text, Writer};
use super::value::{ListKind, Object, Value};

/// `str(value)`.
pub(super) fn to_text(value: &Value, meter: &Rc<Meter>) -> Result<Text, Fault> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = Writer::new(meter)?;
    write_str(&mut out, value)?;
    Ok(out.finish())
}

/// Appends `str(value)`.
pub(super) fn write_str(out: &mut Writer, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Text(text) => out.push_text(text),
        Value::Undefined(_) => Ok(()),
        other => write_repr(out, other),
    }
}

/// Appends `repr(value)`.
pub(super) fn write_repr(out: &mut Writer, value: &Value) -> Result<(), Fault> {
    out.meter().pay(1)?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined", false),
        Value::None => out.push_str("None", false),
        Value::Bool(b) => out.push_str(if *b { "True" } else { "False" }, false),
        Value::Int(n) => out.push_str(&n.to_string(), false),
        Value::Big(n) => out.push_str(&n.to_string(), false),
        Value::Float(n) => out.push_str(&float_repr(*n), false),
        Value::Text(text) => quote(out, text),
        Value::List(list) => {
            let (open, close) = match &list.kind {
                ListKind::List => ("[".to_owned(), "]"),
                ListKind::Tuple | ListKind::Group => ("(".to_owned(), ")"),
                ListKind::View(name) => (format!("{name}(["), "])"),
                ListKind::Range([start, stop, step]) => {
                    let step = if *step == 1 { String::new() } else { format!(", {step}") };
                    return out.push_str(&format!("range({start}, {stop}{step})"), false);
                }
                ListKind::Generator(_) => return out.push_str("<generator object>", false),
            };
            out.push_str(&open, false)?;
            for (at, item) in list.items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ", false)?;
                }
                write_repr(out, item)?;
            }
            let is_tuple = matches!(list.kind, ListKind::Tuple | ListKind::Group);
            if is_tuple && list.items.len() == 1 {
                out.push_str(",", false)?;
            }
            out.push_str(close, false)
        }
        Value::Dict(dict) => {
            out.push_str("{", false)?;
            for (at, (key, value)) in dict.map.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ", false)?;
                }
                write_repr(out, &key.0)?;
                out.push_str(": ", false)?;
                write_repr(out, value)?;
            }
            out.push_str("}", false)
        }
        Value::Object(object) => {
            let name = match &***object {
                Object::Macro(it, _) => format!("<Macro '{}'>", it.name),
                Object::Method(_, name) => format!("<built-in method {name}>"),
                Object::Loop(it) => format!("<LoopContext {}/{}>", it.index.get() + 1, it.items.len()),
                _ => format!("<{}>", value.type_name()),
            };
            out.push_str(&name, false)
        }
    }
}

/// A number as Python prints it: the shortest digits that read back as the same number.
pub(super) fn float_repr(n: f64) -> String {
    if n.is_nan() {
        return "nan".to_owned();
    }
    if n.is_infinite() {
        return (if n > 0.0 { "inf" } else { "-inf" }).to_owned();
    }
    let shortest = format!("{n:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if n != 0.0 && !(-4..16).contains(&exponent) {
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let plain = n.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// A text in quotes, as `repr` writes it.
fn quote(out: &mut Writer, text: &Text) -> Result<(), Fault> {
    out.meter().pay(1 + text.len() / if text.is_ascii() { 32 } else { 4 })?;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote, false)?;
    for (_, c, given) in text.marked_chars() {
        match c {
            '\\' => out.push_str("\\\\", given)?,
            '\n' => out.push_str("\\n", given)?,
            '\r' => out.push_str("\\r", given)?,
            '\t' => out.push_str("\\t", given)?,
            c if c == quote => {
                out.push('\\', given)?;
                out.push(c, given)?;
            }
            c if c.is_ascii_graphic() || c == ' ' || is_printable(c) => out.push(c, given)?,
            c => {
                let code = u32::from(c);
                let escaped = match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
                out.push_str(&escaped, given)?;
            }
        }
    }
    out.push(quote, false)
}

/// What `str.isprintable` says of a character. Rust's `escape_debug` follows the same categories.
pub(super) fn is_printable(c: char) -> bool {
    // A combining character is escaped where it comes first, so it is looked at behind another one.
    matches!(c, '"' | '\'' | '\\')
        || c.escape_debug().len() == 1
        || format!("a{c}").escape_debug().count() == 2
}

/// The layout of a JSON text.
pub(super) struct Json {
    pub ascii: bool,
    pub sort_keys: bool,
    pub indent: Option<Text>,
    /// The separators after an item and after a key.
    pub separators: Option<(Text, Text)>,
}

impl Json {
    /// Appends `json.dumps(value)`.
    pub fn write(&self, out: &mut Writer, value: &Value, depth: usize) -> Result<(), Fault> {
        out.meter().pay(1)?;
        match value {
            Value::None => out.push_str("null", false),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }, false),
            Value::Int(n) => out.push_str(&n.to_string(), false),
            Value::Big(n) => out.push_str(&n.to_string(), false),
            Value::Float(n) => out.push_str(&json_float(*n), false),
            Value::Text(text) => self.string(out, text),
            Value::List(list) if matches!(list.kind, ListKind::List | ListKind::Tuple | ListKind::Group) => {
                out.push_str("[", false)?;
                for (at, item) in list.items.iter().enumerate() {
                    self.before_item(out, at, depth + 1)?;
                    self.write(out, item, depth + 1)?;
                }
                self.close(out, "]", list.items.is_empty(), depth)
            }
            Value::Dict(dict) => {
                let mut entries: Vec<(&Value, &Value)> = dict.map.iter().map(|(k, v)| (&k.0, v)).collect();
                if self.sort_keys {
                    let meter = Rc::clone(out.meter());
                    sort_by(&mut entries, &meter, |(a, _), (b, _)| a.order(b, &meter))?;
                }
                out.push_str("{", false)?;
                for (at, (key, value)) in entries.iter().enumerate() {
                    self.before_item(out, at, depth + 1)?;
                    match key {
                        Value::Text(text) => self.string(out, text)?,
                        Value::None | Value::Bool(_) | Value::Int(_) | Value::Big(_) | Value::Float(_) => {
                            out.push_str("\"", false)?;
                            self.write(out, key, depth)?;
                            out.push_str("\"", false)?;
                        }
                        _ => return Err(Fault::failed("tojson: the keys of JSON are texts")),
                    }
                    match &self.separators {
                        Some((_, after_key)) => out.push_text(after_key)?,
                        None => out.push_str(": ", false)?,
                    }
                    self.write(out, value, depth + 1)?;
                }
                self.close(out, "}", dict.map.is_empty(), depth)
            }
            other => {
                let kind = other.type_name();
                Err(Fault::failed(format!("Object of type {kind} is not JSON serializable")))
            }
        }
    }

    fn before_item(&self, out: &mut Writer, at: usize, depth: usize) -> Result<(), Fault> {
        if at > 0 {
            match &self.separators {
                Some((between, _)) => out.push_text(between)?,
                None => out.push_str(if self.indent.is_some() { "," } else { ", " }, false)?,
            }
        }
        self.line(out, depth)
    }

    fn close(&self, out: &mut Writer, close: &str, empty: bool, depth: usize) -> Result<(), Fault> {
        if !empty {
            self.line(out, depth)?;
        }
        out.push_str(close, false)
    }

    fn line(&self, out: &mut Writer, depth: usize) -> Result<(), Fault> {
        if let Some(indent) = &self.indent {
            out.push_str("\n", false)?;
            for _ in 0..depth {
                out.push_text(indent)?;
            }
        }
        Ok(())
    }

    fn string(&self, out: &mut Writer, text: &Text) -> Result<(), Fault> {
        out.meter().pay_scan(text.len())?;
        out.push_str("\"", false)?;
        for (_, c, given) in text.marked_chars() {
            match c {
                '"' => out.push_str("\\\"", given)?,
                '\\' => out.push_str("\\\\", given)?,
                '\n' => out.push_str("\\n", given)?,
                '\r' => out.push_str("\\r", given)?,
                '\t' => out.push_str("\\t", given)?,
                '\u{8}' => out.push_str("\\b", given)?,
                '\u{c}' => out.push_str("\\f", given)?,
                c if c < ' ' || (self.ascii && (!c.is_ascii() || c == '\x7f')) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"), given)?;
                    }
                }
                c => out.push(c, given)?,
            }
        }
        out.push_str("\"", false)
    }
}

fn json_float(n: f64) -> String {
    match float_repr(n).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        plain => plain.to_owned(),
    }
}
