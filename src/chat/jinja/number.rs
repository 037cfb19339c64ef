//! Integers of any length, and exact comparison of numbers.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use super::fault::Fault;

/// Digits of an integer, at most, as in Python.
const MAX_DIGITS: usize = 4300;

/// An integer of more than 127 bits. It can be printed, compared and negated; arithmetic refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Big {
    negative: bool,
    /// In base 10, the first of them not 0.
    digits: Rc<str>,
}

/// The error of whatever cannot be calculated.
pub(super) fn too_big() -> Fault {
    Fault::failed("a number of more than 127 bits")
}

/// An integer of any length.
pub(super) enum Integer {
    Short(i128),
    Long(Big),
}

impl Integer {
    /// By its digits in base 10 and perhaps a minus sign.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if let Ok(n) = text.parse() {
            return Ok(Self::Short(n));
        }
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let digits = digits.trim_start_matches('0');
        if digits.len() > MAX_DIGITS {
            return Err(Fault::failed(format!("an integer of more than {MAX_DIGITS} digits")));
        }
        Ok(Self::Long(Big { negative, digits: digits.into() }))
    }

    /// The integer part of a float.
    pub fn part_of(n: f64) -> Result<Self, Fault> {
        if !n.is_finite() {
            return Err(Fault::failed(format!("cannot convert {n} to an integer")));
        }
        Self::parse(&format!("{:.0}", n.trunc() + 0.0))
    }
}

/// A number of any type.
#[derive(Clone, Copy)]
pub(super) enum Number<'a> {
    Short(i128),
    Long(&'a Big),
    Float(f64),
}

impl Number<'_> {
    fn to_big(self) -> Option<Big> {
        match self {
            Self::Short(n) => Some(n.into()),
            Self::Long(n) => Some(n.clone()),
            Self::Float(_) => None,
        }
    }
}

/// How two numbers compare, exactly, whatever their types; `None` beside a NaN.
pub(super) fn compare(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Short(a), Number::Short(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Float(a), b) => compare_float(a, &b.to_big()?),
        (a, Number::Float(b)) => compare_float(b, &a.to_big()?).map(Ordering::reverse),
        (a, b) => Some(a.to_big()?.cmp(&b.to_big()?)),
    }
}

fn compare_float(a: f64, b: &Big) -> Option<Ordering> {
    if a.is_nan() {
        return None;
    }
    if a.is_infinite() {
        return Some(if a > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let part = a.trunc() + 0.0;
    let whole = Big { negative: part < 0.0, digits: format!("{:.0}", part.abs()).into() };
    // What is behind the point decides between equals.
    Some(whole.cmp(b).then(a.partial_cmp(&part)?))
}

impl Big {
    /// The nearest float, if there is one.
    pub fn to_float(&self) -> Option<f64> {
        self.to_string().parse().ok().filter(|n: &f64| n.is_finite())
    }

    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits of its absolute value.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    pub fn abs(&self) -> Big {
        Big { negative: false, digits: Rc::clone(&self.digits) }
    }

    pub fn negated(&self) -> Result<Integer, Fault> {
        // -2¹²⁷ is short.
        Integer::parse(&Big { negative: !self.negative, digits: Rc::clone(&self.digits) }.to_string())
    }
}

impl From<i128> for Big {
    fn from(n: i128) -> Big {
        Big { negative: n < 0, digits: n.unsigned_abs().to_string().into() }
    }
}

impl fmt::Display for Big {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negative { "-" } else { "" })?;
        f.write_str(&self.digits)
    }
}

impl Ord for Big {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = self.digits.len().cmp(&other.digits.len()).then(self.digits.cmp(&other.digits));
        match (self.negative, other.negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (negative, _) => other.negative.cmp(&negative),
        }
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
