//! `'%s' % x` and `'{}'.format(x)`.

use std::rc::Rc;

use super::Fault;
use super::interpreter::Interpreter;
use super::lexer::is_space;
use super::meter::Meter;
use super::print::{float_repr, to_text, write_repr};
use super::text::{Text, Writer};
use super::value::{ListKind, Value};

/// The widest field and the most decimal places; the texts around are bounded by the meter.
const MAX_WIDTH: usize = 1 << 20;
const MAX_PRECISION: usize = 1000;

/// `format % values`, where `values` is a tuple, a dict, or a single value.
pub(super) fn percent(meter: &Rc<Meter>, format: &Text, values: &Value) -> Result<Value, Fault> {
    meter.pay_scan(format.len())?;
    let mut out = Writer::new(meter)?;
    let tuple = match values {
        Value::List(list) if matches!(list.kind, ListKind::Tuple | ListKind::Group) => Some(&list.items[..]),
        _ => None,
    };
    let mut n_used = 0;
    let mut next = || -> Result<Value, Fault> {
        let value = match tuple {
            Some(items) => items.get(n_used).cloned(),
            None => (n_used == 0).then(|| values.clone()),
        };
        n_used += 1;
        value.ok_or_else(|| Fault::failed("not enough arguments for format string"))
    };
    let mut by_name = false;
    let mut at = 0;
    while let Some(found) = format[at..].find('%') {
        meter.pay(1)?;
        out.push_part(format, at..at + found)?;
        at += found + 1;
        let mut named = None;
        if format[at..].starts_with('(') {
            let Some(end) = format[at..].find(')') else {
                return Err(Fault::failed("incomplete format key"));
            };
            let Value::Dict(dict) = values else { return Err(Fault::failed("format requires a mapping")) };
            let name = &format[at + 1..at + end];
            named = Some(dict.get(name).cloned().ok_or_else(|| Fault::failed(format!("no key {name:?}")))?);
            by_name = true;
            at += end + 1;
        }
        let mut spec = Spec { fill: (' ', false), precise_zero: false, ..Spec::default() };
        let rest = &format[at..];
        let n_flags = rest.len() - rest.trim_start_matches(['#', '0', '-', ' ', '+']).len();
        let flags = &rest[..n_flags];
        at += n_flags;
        spec.alternate = flags.contains('#');
        spec.sign = if flags.contains('+') {
            '+'
        } else if flags.contains(' ') {
            ' '
        } else {
            '-'
        };
        let mut number = |at: &mut usize| -> Result<Option<i128>, Fault> {
            if format[*at..].starts_with('*') {
                *at += 1;
                return match next()?.as_int() {
                    Some(n) => Ok(Some(n)),
                    None => Err(Fault::failed("* wants int")),
                };
            }
            let rest = &format[*at..];
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            *at += digits;
            if digits == 0 { Ok(None) } else { Ok(Some(rest[..digits].parse().unwrap_or(i128::MAX))) }
        };
        let width = number(&mut at)?.unwrap_or(0);
        let mut left = flags.contains('-');
        left |= width < 0;
        spec.width = bounded(width.saturating_abs(), MAX_WIDTH)?;
        if format[at..].starts_with('.') {
            at += 1;
            spec.precision = Some(bounded(number(&mut at)?.unwrap_or(0).max(0), usize::MAX)?);
        }
        at += usize::from(format[at..].starts_with(['l', 'h', 'L']));
        let Some(kind) = format[at..].chars().next() else {
            return Err(Fault::failed("incomplete format"));
        };
        at += kind.len_utf8();
        if kind == '%' {
            out.push('%', false)?;
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => next()?,
        };
        spec.align = if left { '<' } else { '>' };
        match kind {
            's' | 'r' | 'a' => {
                let text = convert(meter, &value, kind)?;
                pad(&mut out, &cut(meter, &text, spec.precision)?, &spec)?;
            }
            'c' => {
                let text = match value.as_int() {
                    Some(code) => {
                        let c = u32::try_from(code).ok().and_then(char::from_u32);
                        let c = c.ok_or_else(|| Fault::failed("%c arg not in range(0x110000)"))?;
                        Text::written(meter, c.encode_utf8(&mut [0; 4]))?
                    }
                    None => to_text(&value, meter)?,
                };
                pad(&mut out, &text, &spec)?;
            }
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let wants_int = !matches!(kind, 'e' | 'E' | 'f' | 'F' | 'g' | 'G');
                let Some(n) = value.as_float() else {
                    let kind_found = value.type_name();
                    return Err(Fault::failed(format!(
                        "%{kind} format: a real number is required, not {kind_found}"
                    )));
                };
                if !left && flags.contains('0') {
                    spec.fill = ('0', false);
                    spec.align = '=';
                }
                let (negative, mut digits) = if wants_int {
                    let n = value.as_int().unwrap_or(n as i128);
                    let digits = in_radix(n.unsigned_abs(), kind);
                    let precision = bounded(spec.precision.unwrap_or(0) as i128, MAX_PRECISION)?;
                    (n < 0, format!("{digits:0>precision$}"))
                } else {
                    (n.is_sign_negative(), float_digits(n.abs(), kind, spec.precision, spec.alternate)?)
                };
                if spec.alternate && wants_int {
                    let prefix = match kind {
                        'o' => "0o",
                        'x' => "0x",
                        'X' => "0X",
                        _ => "",
                    };
                    digits.insert_str(0, prefix);
                }
                pad_number(&mut out, negative, &digits, &spec)?;
            }
            other => return Err(Fault::failed(format!("unsupported format character '{other}'"))),
        }
    }
    out.push_part(format, at..format.len())?;
    let n_given = tuple.map_or(
        usize::from(!matches!(values, Value::Dict(_) | Value::List(_) | Value::Undefined(_))),
        <[_]>::len,
    );
    if n_used < n_given && !by_name {
        return Err(Fault::failed("not all arguments converted during string formatting"));
    }
    Ok(Value::Text(out.finish()))
}

fn bounded(n: i128, max: usize) -> Result<usize, Fault> {
    match usize::try_from(n) {
        Ok(n) if n <= max => Ok(n),
        _ => Err(Fault::failed(format!("a field of {n}: expected at most {max}"))),
    }
}

/// `str`, `repr` or `ascii`, by its letter.
fn convert(meter: &Rc<Meter>, value: &Value, letter: char) -> Result<Text, Fault> {
    if letter == 's' {
        return to_text(value, meter);
    }
    let mut out = Writer::new(meter)?;
    write_repr(&mut out, value)?;
    let text = out.finish();
    if letter == 'r' || text.is_ascii() {
        return Ok(text);
    }
    let mut out = Writer::new(meter)?;
    meter.pay_scan(text.len())?;
    for (_, c, given) in text.marked_chars() {
        match u32::from(c) {
            0..=0x7f => out.push(c, given)?,
            code @ 0x80..=0xff => out.push_str(&format!("\\x{code:02x}"), given)?,
            code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}"), given)?,
            code => out.push_str(&format!("\\U{code:08x}"), given)?,
        }
    }
    Ok(out.finish())
}

fn cut(meter: &Rc<Meter>, text: &Text, n_chars: Option<usize>) -> Result<Text, Fault> {
    meter.pay_copy(text.len())?;
    match n_chars.and_then(|n| text.char_indices().nth(n)) {
        Some((end, _)) => text.part(meter, 0..end),
        None => Ok(text.clone()),
    }
}

/// How a field is laid out.
struct Spec {
    fill: (char, bool),
    /// `<`, `>`, `^`, or `=` for padding between sign and digits.
    align: char,
    sign: char,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
    /// `z`: no negative zero.
    precise_zero: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            fill: (' ', false),
            align: '<',
            sign: '-',
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
            precise_zero: false,
        }
    }
}

fn pad(out: &mut Writer, text: &Text, spec: &Spec) -> Result<(), Fault> {
    let missing = spec.width.saturating_sub(text.n_chars(out.meter())?);
    let before = match spec.align {
        '>' => missing,
        '^' => missing / 2,
        _ => 0,
    };
    out.push_many(spec.fill.0, before, spec.fill.1)?;
    out.push_text(text)?;
    out.push_many(spec.fill.0, missing - before, spec.fill.1)
}

fn pad_number(out: &mut Writer, negative: bool, digits: &str, spec: &Spec) -> Result<(), Fault> {
    let sign = match spec.sign {
        _ if negative => "-",
        '+' => "+",
        ' ' => " ",
        _ => "",
    };
    if spec.align == '=' {
        let missing = spec.width.saturating_sub(sign.len() + digits.len());
        out.push_str(sign, false)?;
        let prefix = ["0x", "0X", "0o", "0b"].into_iter().find(|p| digits.starts_with(p)).unwrap_or("");
        out.push_str(prefix, false)?;
        out.push_many(spec.fill.0, missing, spec.fill.1)?;
        return out.push_str(&digits[prefix.len()..], false);
    }
    let meter = Rc::clone(out.meter());
    pad(out, &Text::written(&meter, &format!("{sign}{digits}"))?, spec)
}

fn in_radix(n: u128, kind: char) -> String {
    match kind {
        'o' => format!("{n:o}"),
        'x' => format!("{n:x}"),
        'X' => format!("{n:X}"),
        'b' => format!("{n:b}"),
        _ => n.to_string(),
    }
}

/// The digits of a number that is not negative, by a letter of `e E f F g G %` .
fn float_digits(n: f64, kind: char, precision: Option<usize>, alternate: bool) -> Result<String, Fault> {
    let precision = bounded(precision.unwrap_or(6) as i128, MAX_PRECISION)?;
    let upper = kind.is_ascii_uppercase();
    if !n.is_finite() {
        let text = if n.is_nan() { "nan" } else { "inf" };
        return Ok(if upper { text.to_ascii_uppercase() } else { text.to_owned() });
    }
    let scientific = |precision: usize| {
        let text = format!("{n:.precision$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        (digits.to_owned(), exponent)
    };
    let with_exponent = |digits: &str, exponent: i32| {
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    };
    let text = match kind.to_ascii_lowercase() {
        'e' => {
            let (digits, exponent) = scientific(precision);
            with_exponent(&digits, exponent)
        }
        'g' => {
            let precision = precision.max(1);
            let (digits, exponent) = scientific(precision - 1);
            let trim = |text: String| {
                let has_point = text.contains('.') && !alternate;
                if has_point { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
            };
            if exponent < -4 || exponent >= precision as i32 {
                with_exponent(&trim(digits), exponent)
            } else {
                trim(format!("{n:.*}", (precision as i32 - 1 - exponent) as usize))
            }
        }
        '%' => format!("{:.precision$}%", n * 100.0),
        _ => format!("{n:.precision$}"),
    };
    Ok(if upper { text.to_ascii_uppercase() } else { text })
}

/// `format.format(*positional, **named)`.
pub(super) fn braces(
    it: &Interpreter,
    format: &Text,
    positional: &[Value],
    named: &[(std::sync::Arc<str>, Value)],
) -> Result<Value, Fault> {
    it.meter.pay_scan(format.len())?;
    let mut out = Writer::new(&it.meter)?;
    let mut fields = Fields { it, positional, named, n_auto: Some(0), n_manual: false };
    fields.write(&mut out, format, 0..format.len(), 2)?;
    Ok(Value::Text(out.finish()))
}

struct Fields<'a> {
    it: &'a Interpreter,
    positional: &'a [Value],
    named: &'a [(std::sync::Arc<str>, Value)],
    n_auto: Option<usize>,
    n_manual: bool,
}

impl Fields<'_> {
    /// Writes a part of a format, whose fields may hold fields `depth` deep.
    fn write(
        &mut self,
        out: &mut Writer,
        format: &Text,
        part: std::ops::Range<usize>,
        depth: usize,
    ) -> Result<(), Fault> {
        let single = |brace| Fault::failed(format!("Single '{brace}' encountered in format string"));
        let mut at = part.start;
        while let Some(found) = format[at..part.end].find(['{', '}']) {
            self.it.meter.pay(1)?;
            out.push_part(format, at..at + found)?;
            at += found;
            let brace = format[at..].chars().next().unwrap_or('{');
            if format[at + 1..part.end].starts_with(brace) {
                out.push_part(format, at..at + 1)?;
                at += 2;
                continue;
            }
            if brace == '}' {
                return Err(single('}'));
            }
            let start = at + 1;
            let mut open = 1;
            let end = format[start..part.end].find(|c| {
                open += match c {
                    '{' => 1,
                    '}' => -1,
                    _ => 0,
                };
                open == 0
            });
            let Some(end) = end else { return Err(single('{')) };
            self.field(out, format, start..start + end, depth)?;
            at = start + end + 1;
        }
        out.push_part(format, at..part.end)
    }

    fn field(
        &mut self,
        out: &mut Writer,
        format: &Text,
        field: std::ops::Range<usize>,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth == 0 {
            return Err(Fault::failed("Max string recursion exceeded"));
        }
        let meter = Rc::clone(&self.it.meter);
        let text = &format[field.clone()];
        let (name, conversion, spec_at) = split_field(text)?;
        let value = self.lookup(name)?;
        let mut spec = Writer::new(&meter)?;
        if let Some(spec_at) = spec_at {
            self.write(&mut spec, format, field.start + spec_at..field.end, depth - 1)?;
        }
        let spec = spec.finish();
        let value = match conversion {
            Some(letter @ ('s' | 'r' | 'a')) => Value::Text(convert(&meter, &value, letter)?),
            Some(letter) => return Err(Fault::failed(format!("Unknown conversion specifier {letter:?}"))),
            None => value,
        };
        write_field(out, &value, &spec)
    }

    fn lookup(&mut self, name: &str) -> Result<Value, Fault> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(end);
        let missing = || Fault::failed("Replacement index out of range for positional args tuple");
        let switch = || Fault::failed("cannot switch between automatic and manual field numbering");
        let mut value = if first.is_empty() {
            if self.n_manual {
                return Err(switch());
            }
            let n = self.n_auto.ok_or_else(switch)?;
            self.n_auto = Some(n + 1);
            self.positional.get(n).cloned().ok_or_else(missing)?
        } else if first.bytes().all(|b| b.is_ascii_digit()) {
            if self.n_auto.is_some_and(|n| n > 0) {
                return Err(switch());
            }
            (self.n_auto, self.n_manual) = (None, true);
            let n: usize = first.parse().map_err(|_| missing())?;
            self.positional.get(n).cloned().ok_or_else(missing)?
        } else {
            let named = self.named.iter().find(|(name, _)| **name == *first);
            named
                .map(|(_, value)| value.clone())
                .ok_or_else(|| Fault::failed(format!("no field {first:?}")))?
        };
        while !rest.is_empty() {
            self.it.meter.pay(1)?;
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = self.it.attribute(&value, &after[..end].into())?;
                rest = &after[end..];
            } else {
                let Some(end) = rest.find(']') else {
                    return Err(Fault::failed("expected '}' before end of string"));
                };
                let key = &rest[1..end];
                let key = match key.parse::<i128>() {
                    Ok(index) => Value::Int(index),
                    Err(_) => Value::text(&self.it.meter, key)?,
                };
                value = self.it.item(&value, &key)?;
                rest = &rest[end + 1..];
            }
        }
        Ok(value)
    }
}

/// The name, the letter after `!`, and where the specification after `:` starts.
fn split_field(field: &str) -> Result<(&str, Option<char>, Option<usize>), Fault> {
    let mut in_brackets = false;
    let end = field.find(|c| {
        in_brackets = (in_brackets || c == '[') && c != ']';
        !in_brackets && matches!(c, '!' | ':')
    });
    let Some(end) = end else { return Ok((field, None, None)) };
    if field[end..].starts_with(':') {
        return Ok((&field[..end], None, Some(end + 1)));
    }
    let mut chars = field[end + 1..].chars();
    match (chars.next(), chars.next()) {
        (Some(letter), None) => Ok((&field[..end], Some(letter), None)),
        (Some(letter), Some(':')) => Ok((&field[..end], Some(letter), Some(end + 2 + letter.len_utf8()))),
        _ => Err(Fault::failed("expected ':' after conversion specifier")),
    }
}

/// Appends `format(value, spec)`.
fn write_field(out: &mut Writer, value: &Value, spec: &Text) -> Result<(), Fault> {
    let meter = Rc::clone(out.meter());
    if spec.is_empty() {
        return super::print::write_str(out, value);
    }
    let spec = parse_spec(spec, value)?;
    let wrong = |kind: char| {
        let found = value.type_name();
        Err(Fault::failed(format!("Unknown format code '{kind}' for object of type '{found}'")))
    };
    match value {
        Value::Text(text) => {
            if let Some(kind) = spec.kind.filter(|&kind| kind != 's') {
                return wrong(kind);
            }
            if spec.align == '=' {
                return Err(Fault::failed("'=' alignment not allowed in string format specifier"));
            }
            pad(out, &cut(&meter, text, spec.precision)?, &spec)
        }
        // With a width alone a bool is a number, as in Python.
        Value::Int(_) | Value::Bool(_)
            if matches!(spec.kind, None | Some('d' | 'b' | 'o' | 'x' | 'X' | 'n' | 'c')) =>
        {
            let n = value.as_int().unwrap_or(0);
            if spec.kind == Some('c') {
                let c = u32::try_from(n).ok().and_then(char::from_u32);
                let c = c.ok_or_else(|| Fault::failed("%c arg not in range(0x110000)"))?;
                return pad(out, &Text::written(&meter, c.encode_utf8(&mut [0; 4]))?, &spec);
            }
            let kind = spec.kind.unwrap_or('d');
            let mut digits = in_radix(n.unsigned_abs(), kind);
            if let Some(sign) = spec.grouping {
                digits = group(&digits, sign, if matches!(kind, 'b' | 'o' | 'x' | 'X') { 4 } else { 3 });
            }
            if spec.alternate && matches!(kind, 'b' | 'o' | 'x' | 'X') {
                digits.insert_str(0, &format!("0{kind}"));
            }
            pad_number(out, n < 0, &digits, &spec)
        }
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
            let n = value.as_float().unwrap_or(0.0);
            let mut digits = match spec.kind {
                None if spec.precision.is_none() => float_repr(n.abs()),
                None => {
                    let digits = float_digits(n.abs(), 'g', spec.precision, spec.alternate)?;
                    let is_whole = digits.bytes().all(|b| b.is_ascii_digit());
                    if is_whole { digits + ".0" } else { digits }
                }
                Some('n') => float_digits(n.abs(), 'g', spec.precision, spec.alternate)?,
                Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => {
                    float_digits(n.abs(), kind, spec.precision, spec.alternate)?
                }
                Some(kind) => return wrong(kind),
            };
            if let Some(sign) = spec.grouping {
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                digits = group(&digits[..end], sign, 3) + &digits[end..];
            }
            let is_zero = digits.bytes().all(|b| matches!(b, b'0' | b'.'));
            pad_number(out, n.is_sign_negative() && !(spec.precise_zero && is_zero), &digits, &spec)
        }
        _ => Err(Fault::failed(format!(
            "unsupported format string passed to {}.__format__",
            value.type_name()
        ))),
    }
}

fn group(digits: &str, sign: char, size: usize) -> String {
    let mut out = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(size) {
            out.push(sign);
        }
        out.push(c);
    }
    out
}

fn parse_spec(text: &Text, value: &Value) -> Result<Spec, Fault> {
    let is_number = !matches!(value, Value::Text(_));
    let mut spec = Spec { align: if is_number { '>' } else { '<' }, ..Spec::default() };
    let is_align = |c: &char| matches!(c, '<' | '>' | '^' | '=');
    let mut ahead = text.marked_chars().map(|(_, c, given)| (c, given));
    let (first, second) = (ahead.next(), ahead.next());
    let mut chars = text.marked_chars().map(|(_, c, given)| (c, given)).peekable();
    let (mut aligned, mut filled) = (true, false);
    match (first, second) {
        (Some(fill), Some((align, _))) if is_align(&align) => {
            spec.fill = fill;
            spec.align = align;
            filled = true;
            chars.next();
            chars.next();
        }
        (Some((align, _)), _) if is_align(&align) => {
            spec.align = align;
            chars.next();
        }
        _ => aligned = false,
    }
    if let Some((sign, _)) = chars.next_if(|(c, _)| matches!(c, '+' | '-' | ' ')) {
        spec.sign = sign;
    }
    spec.precise_zero = chars.next_if(|(c, _)| *c == 'z').is_some();
    spec.alternate = chars.next_if(|(c, _)| *c == '#').is_some();
    if chars.next_if(|(c, _)| *c == '0').is_some() && !filled {
        spec.fill = ('0', false);
        if !aligned {
            spec.align = if is_number { '=' } else { '<' };
        }
    }
    spec.width = bounded(number(&mut chars), MAX_WIDTH)?;
    spec.grouping = chars.next_if(|(c, _)| matches!(c, ',' | '_')).map(|(c, _)| c);
    if chars.next_if(|(c, _)| *c == '.').is_some() {
        spec.precision = Some(bounded(number(&mut chars), usize::MAX)?);
    }
    spec.kind = chars.next().map(|(c, _)| c);
    if chars.next().is_some() || spec.kind.is_some_and(is_space) {
        return Err(Fault::failed(format!("Invalid format specifier {:.40?}", &**text)));
    }
    Ok(spec)
}

/// The decimal number that comes next, zero if there is none.
fn number(chars: &mut std::iter::Peekable<impl Iterator<Item = (char, bool)>>) -> i128 {
    let mut n = 0i128;
    while let Some((c, _)) = chars.next_if(|(c, _)| c.is_ascii_digit()) {
        n = n.saturating_mul(10).saturating_add(i128::from(c.to_digit(10).unwrap_or(0)));
    }
    n
}
