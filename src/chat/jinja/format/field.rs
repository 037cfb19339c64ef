//! One field of a format: how it is laid out, and how values and numbers are written into it.

use std::rc::Rc;

use crate::chat::jinja::fault::Fault;
use crate::chat::jinja::meter::Meter;
use crate::chat::jinja::print::{to_text, write_repr};
use crate::chat::jinja::text::{Text, Writer};
use crate::chat::jinja::value::Value;

/// The widest field and the most decimal places; the texts around are bounded by the meter.
pub(super) const MAX_WIDTH: usize = 1 << 20;
pub(super) const MAX_PRECISION: usize = 1000;

pub(super) fn bounded(n: i128, max: usize) -> Result<usize, Fault> {
    match usize::try_from(n) {
        Ok(n) if n <= max => Ok(n),
        _ => Err(Fault::failed(format!("a field of {n}: expected at most {max}"))),
    }
}

/// `str`, `repr` or `ascii`, by its letter.
pub(super) fn convert(meter: &Rc<Meter>, value: &Value, letter: char) -> Result<Text, Fault> {
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

pub(super) fn cut(meter: &Rc<Meter>, text: &Text, n_chars: Option<usize>) -> Result<Text, Fault> {
    meter.pay_copy(text.len())?;
    match n_chars.and_then(|n| text.char_indices().nth(n)) {
        Some((end, _)) => text.part(meter, 0..end),
        None => Ok(text.clone()),
    }
}

/// How a field is laid out.
pub(super) struct Spec {
    pub fill: (char, bool),
    /// `<`, `>`, `^`, or `=` for padding between sign and digits.
    pub align: char,
    pub sign: char,
    pub alternate: bool,
    pub width: usize,
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
    /// `z`: no negative zero.
    pub precise_zero: bool,
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

pub(super) fn pad(out: &mut Writer, text: &Text, spec: &Spec) -> Result<(), Fault> {
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

pub(super) fn pad_number(out: &mut Writer, negative: bool, digits: &str, spec: &Spec) -> Result<(), Fault> {
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

pub(super) fn in_radix(n: u128, kind: char) -> String {
    match kind {
        'o' => format!("{n:o}"),
        'x' => format!("{n:x}"),
        'X' => format!("{n:X}"),
        'b' => format!("{n:b}"),
        _ => n.to_string(),
    }
}

/// The digits of a number that is not negative, by a letter of `e E f F g G %` .
pub(super) fn float_digits(
    n: f64,
    kind: char,
    precision: Option<usize>,
    alternate: bool,
) -> Result<String, Fault> {
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
