//! `'{}'.format(x)`.

use std::iter::Peekable;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::field::{MAX_WIDTH, Spec, bounded, convert, cut, float_digits, in_radix, pad, pad_number};
use crate::chat::jinja::fault::Fault;
use crate::chat::jinja::interpreter::Interpreter;
use crate::chat::jinja::lexer::is_space;
use crate::chat::jinja::number::too_big;
use crate::chat::jinja::print::{float_repr, write_str};
use crate::chat::jinja::text::{Text, Writer};
use crate::chat::jinja::value::Value;

/// `format.format(*positional, **named)`.
pub(in crate::chat::jinja) fn braces(
    it: &Interpreter,
    format: &Text,
    positional: &[Value],
    named: &[(Arc<str>, Value)],
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
    named: &'a [(Arc<str>, Value)],
    n_auto: Option<usize>,
    n_manual: bool,
}

impl Fields<'_> {
    /// Writes a part of a format, whose fields may hold fields `depth` deep.
    fn write(
        &mut self,
        out: &mut Writer,
        format: &Text,
        part: Range<usize>,
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
        field: Range<usize>,
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
        return write_str(out, value);
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
        Value::Big(n) if matches!(spec.kind, None | Some('d' | 'n')) => {
            let digits = n.digits();
            let digits = spec.grouping.map_or_else(|| digits.to_owned(), |sign| group(digits, sign, 3));
            pad_number(out, n.is_negative(), &digits, &spec)
        }
        Value::Big(_) if matches!(spec.kind, Some('b' | 'o' | 'x' | 'X' | 'c')) => Err(too_big()),
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
        Value::Int(_) | Value::Bool(_) | Value::Big(_) | Value::Float(_) => {
            let n = value.as_float().ok_or_else(too_big)?;
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
fn number(chars: &mut Peekable<impl Iterator<Item = (char, bool)>>) -> i128 {
    let mut n = 0i128;
    while let Some((c, _)) = chars.next_if(|(c, _)| c.is_ascii_digit()) {
        n = n.saturating_mul(10).saturating_add(i128::from(c.to_digit(10).unwrap_or(0)));
    }
    n
}
