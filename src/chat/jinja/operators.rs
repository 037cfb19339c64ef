//! Operators, with the rules of Python.

use std::cmp::Ordering;
use std::rc::Rc;

use super::ast::{Arithmetic, Comparison};
use super::fault::Fault;
use super::meter::Meter;
use super::number::too_big;
use super::text::{Text, Writer};
use super::value::{ListKind, Outcome, Value};
use super::{format, strings};

/// Whether `a comparison b`.
pub(super) fn compare(
    meter: &Rc<Meter>,
    a: &Value,
    comparison: Comparison,
    b: &Value,
) -> Result<bool, Fault> {
    let order = || a.order(b, meter);
    Ok(match comparison {
        Comparison::Eq => a.equals(b, meter)?,
        Comparison::Ne => !a.equals(b, meter)?,
        Comparison::Lt => order()? == Some(Ordering::Less),
        Comparison::Le => matches!(order()?, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Gt => order()? == Some(Ordering::Greater),
        Comparison::Ge => matches!(order()?, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::In => b.contains(a, meter)?,
        Comparison::NotIn => !b.contains(a, meter)?,
    })
}

/// `a operator b`.
pub(super) fn arithmetic(meter: &Rc<Meter>, a: &Value, operator: Arithmetic, b: &Value) -> Outcome {
    meter.pay(1)?;
    for value in [a, b] {
        // A text takes no values from what is not there.
        if operator == Arithmetic::Mod && matches!(a, Value::Text(_)) {
            break;
        }
        if let Value::Undefined(name) = value {
            return Err(Fault::undefined(name));
        }
    }
    match (operator, a, b) {
        (Arithmetic::Add, Value::Text(a), Value::Text(b)) => {
            let mut out = Writer::new(meter)?;
            out.push_text(a)?;
            out.push_text(b)?;
            Ok(Value::Text(out.finish()))
        }
        (Arithmetic::Add, Value::List(x), Value::List(y)) if joinable(&x.kind, &y.kind) => {
            meter.pay((x.items.len() + y.items.len()) / 4)?;
            Value::sequence(meter, plain(&x.kind), [&x.items[..], &y.items[..]].concat())
        }
        (Arithmetic::Mul, Value::Text(text), n) | (Arithmetic::Mul, n, Value::Text(text))
            if n.as_int().is_some() =>
        {
            repeat(meter, text, n.as_int().unwrap_or(0))
        }
        (Arithmetic::Mul, Value::List(list), n) | (Arithmetic::Mul, n, Value::List(list))
            if n.as_int().is_some() && joinable(&list.kind, &list.kind) =>
        {
            let n = usize::try_from(n.as_int().unwrap_or(0).max(0)).map_err(|_| Fault::Endless)?;
            let total = list.items.len().checked_mul(n).ok_or(Fault::Endless)?;
            // Before the list is made.
            meter.pay(total / 4)?;
            drop(meter.hold(2 * size_of::<Value>() * total)?);
            Value::sequence(
                meter,
                plain(&list.kind),
                (0..n).flat_map(|_| list.items.iter().cloned()).collect(),
            )
        }
        (Arithmetic::Mod, Value::Text(text), values) => format::percent(meter, text, values),
        _ => numbers(a, operator, b),
    }
}

fn joinable(a: &ListKind, b: &ListKind) -> bool {
    matches!(
        (a, b),
        (ListKind::List, ListKind::List)
            | (ListKind::Tuple | ListKind::Group, ListKind::Tuple | ListKind::Group)
    )
}

fn plain(kind: &ListKind) -> ListKind {
    if *kind == ListKind::List { ListKind::List } else { ListKind::Tuple }
}

fn repeat(meter: &Rc<Meter>, text: &Text, n: i128) -> Outcome {
    let mut out = Writer::new(meter)?;
    if !text.is_empty() {
        for _ in 0..n {
            meter.pay(1)?;
            out.push_text(text)?;
        }
    }
    Ok(Value::Text(out.finish()))
}

fn numbers(a: &Value, operator: Arithmetic, b: &Value) -> Outcome {
    use Arithmetic::{Add, Div, FloorDiv, Mod, Mul, Pow, Sub};
    let unsupported = || {
        let (a, b) = (a.type_name(), b.type_name());
        Fault::failed(format!("unsupported operand types: '{a}' and '{b}'"))
    };
    let zero = || Fault::failed("division by zero");
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        let whole = match operator {
            Add => x.checked_add(y),
            Sub => x.checked_sub(y),
            Mul => x.checked_mul(y),
            Div if y == 0 => return Err(zero()),
            Div => return Ok(Value::Float(x as f64 / y as f64)),
            FloorDiv | Mod if y == 0 => return Err(zero()),
            FloorDiv => {
                x.checked_div_euclid(y).map(|q| if y < 0 && x.rem_euclid(y) != 0 { q - 1 } else { q })
            }
            Mod => x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
            Pow if y < 0 => return Ok(Value::Float((x as f64).powf(y as f64))),
            Pow => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        };
        return whole.map(Value::Int).ok_or_else(too_big);
    }
    let is_number = |value: &Value| matches!(value, Value::Big(_)) || value.as_float().is_some();
    if !is_number(a) || !is_number(b) {
        return Err(unsupported());
    }
    let is_float = |value: &Value| matches!(value, Value::Float(_));
    let (Some(x), Some(y), true) = (a.as_float(), b.as_float(), is_float(a) || is_float(b)) else {
        return Err(too_big());
    };
    Ok(Value::Float(match operator {
        Add => x + y,
        Sub => x - y,
        Mul => x * y,
        Div | FloorDiv | Mod if y == 0.0 => return Err(zero()),
        Div => x / y,
        FloorDiv => (x / y).floor(),
        Mod => {
            let rest = x % y;
            if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
        }
        Pow => x.powf(y),
    }))
}

/// `value[start:stop:step]`.
pub(super) fn slice(meter: &Rc<Meter>, value: &Value, parts: [Option<&Value>; 3]) -> Outcome {
    let int = |part: Option<&Value>| match part {
        None | Some(Value::None) => Ok(None),
        Some(value) => value
            .as_int()
            .map(Some)
            .ok_or_else(|| Fault::failed(format!("slice indices are integers, found {}", value.type_name()))),
    };
    let (start, stop, step) = (int(parts[0])?, int(parts[1])?, int(parts[2])?.unwrap_or(1));
    if step == 0 {
        return Err(Fault::failed("slice step cannot be zero"));
    }
    let n = match value {
        Value::Text(text) => text.n_chars(meter)?,
        Value::List(list) if !matches!(list.kind, ListKind::Generator(_) | ListKind::View(_)) => {
            list.items.len()
        }
        Value::Undefined(name) => return Err(Fault::undefined(name)),
        _ => return Ok(Value::no_item()),
    } as i128;
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let place = |at: Option<i128>, default: i128| match at {
        None => default,
        Some(at) if at < 0 => (at.saturating_add(n)).clamp(low, high),
        Some(at) => at.clamp(low, high),
    };
    let (start, stop) =
        if step > 0 { (place(start, 0), place(stop, n)) } else { (place(start, n - 1), place(stop, -1)) };
    let count = if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
    let count = count.max(0) as usize;
    let places = (0..count as i128).map(move |i| (start + i * step) as usize);
    match value {
        Value::Text(text) if step == 1 => {
            meter.pay_copy(text.len())?;
            let from = strings::byte_at(text, start as usize);
            let to = if count == 0 { from } else { from + strings::byte_at(&text[from..], count) };
            Ok(Value::Text(text.part(meter, from..to)?))
        }
        Value::Text(text) => {
            meter.pay(text.len() / 8)?;
            let _held = meter.hold(text.len() * size_of::<usize>())?;
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let mut out = Writer::new(meter)?;
            for place in places {
                let at = starts[place];
                let end = starts.get(place + 1).copied().unwrap_or(text.len());
                out.push_part(text, at..end)?;
            }
            Ok(Value::Text(out.finish()))
        }
        Value::List(list) => {
            meter.pay(count / 4)?;
            drop(meter.hold(2 * size_of::<Value>() * count)?);
            let items = places.map(|place| list.items[place].clone()).collect();
            Value::sequence(meter, plain_slice(&list.kind), items)
        }
        _ => Ok(Value::no_item()),
    }
}

/// A part of a range prints as a list here; nothing else tells it from one.
fn plain_slice(kind: &ListKind) -> ListKind {
    match kind {
        ListKind::Tuple | ListKind::Group => ListKind::Tuple,
        _ => ListKind::List,
    }
}
