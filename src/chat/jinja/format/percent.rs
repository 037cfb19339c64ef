//! `'%s' % x`.

use std::rc::Rc;

use super::field::{
    MAX_PRECISION, MAX_WIDTH, Spec, bounded, convert, cut, float_digits, in_radix, pad, pad_number,
};
use crate::chat::jinja::fault::Fault;
use crate::chat::jinja::meter::Meter;
use crate::chat::jinja::number::{Integer, too_big};
use crate::chat::jinja::print::to_text;
use crate::chat::jinja::text::{Text, Writer};
use crate::chat::jinja::value::{ListKind, Value};

/// `format % values`, where `values` is a tuple, a dict, or a single value.
pub(in crate::chat::jinja) fn percent(
    meter: &Rc<Meter>,
    format: &Text,
    values: &Value,
) -> Result<Value, Fault> {
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
                if matches!((kind, &value), ('o' | 'x' | 'X', Value::Float(_))) {
                    return Err(Fault::failed(format!("%{kind} format: an integer is required, not float")));
                }
                let (negative, mut digits) = if wants_int {
                    let whole =
                        if let Value::Float(n) = value { Value::from(Integer::part_of(n)?) } else { value };
                    let (negative, digits) = match &whole {
                        Value::Big(n) if matches!(kind, 'd' | 'i' | 'u') => {
                            (n.is_negative(), n.digits().to_owned())
                        }
                        Value::Big(_) => return Err(too_big()),
                        n => {
                            let n = n.as_int().unwrap_or(0);
                            (n < 0, in_radix(n.unsigned_abs(), kind))
                        }
                    };
                    let precision = bounded(spec.precision.unwrap_or(0) as i128, MAX_PRECISION)?;
                    (negative, format!("{digits:0>precision$}"))
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
