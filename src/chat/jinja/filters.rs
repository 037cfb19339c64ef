//! The filters of Jinja2 for values of every kind; those for texts are in [`super::text_filters`].

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Args;
use super::fault::Fault;
use super::interpreter::Interpreter;
use super::meter::Meter;
use super::number::{Big, Integer, too_big};
use super::print::to_text;
use super::sort::sort_by;
use super::value::{Key, ListKind, Object, Outcome, Value};
use super::{names, predicates, strings, text_filters};

/// The longest text that is read as a number.
const MAX_NUMBER_BYTES: usize = 4300;

/// Applies a filter.
pub(super) fn apply(it: &Interpreter, name: &str, value: &Value, args: &Args) -> Outcome {
    let meter = &it.meter;
    meter.pay(1)?;
    match name {
        "default" | "d" => {
            let replaced = value.is_undefined() || (args.flag(1, "boolean") && !value.is_true());
            match args.get(0, "default_value") {
                _ if !replaced => Ok(value.clone()),
                Some(default) => Ok(default.clone()),
                None => Value::text(meter, ""),
            }
        }
        "safe" | "string" => Ok(Value::Text(to_text(value, meter)?)),
        "length" | "count" => match value.len(meter)? {
            Some(n) => Ok(Value::Int(n as i128)),
            None => Err(Fault::failed(format!("object of type '{}' has no len()", value.type_name()))),
        },
        "list" => {
            let items = value.items(meter)?;
            meter.pay(items.len() / 4)?;
            Value::list(meter, items.to_vec())
        }
        "first" => Ok(value.items(meter)?.first().cloned().unwrap_or_else(Value::no_item)),
        "last" => match value {
            Value::List(list) if matches!(list.kind, ListKind::Generator(_)) => {
                Err(Fault::failed("'generator' object is not reversible"))
            }
            Value::Text(_) => {
                let last = it.item(value, &Value::Int(-1))?;
                Ok(last)
            }
            _ => Ok(value.items(meter)?.last().cloned().unwrap_or_else(Value::no_item)),
        },
        "random" => {
            let items = value.items(meter)?;
            if items.is_empty() {
                return Ok(Value::no_item());
            }
            // A fresh hasher has random keys, and nothing hangs on how evenly they fall.
            let random = std::hash::RandomState::new().hash_one(0) as usize;
            Ok(items[random % items.len()].clone())
        }
        "attr" => {
            let name: Arc<str> = Arc::from(&*args.require_text(0, "name")?);
            match it.attribute(value, &name)? {
                // Items are no attributes.
                Value::Object(method) if matches!(**method, Object::Method(..)) => Ok(Value::Object(method)),
                _ if matches!(value, Value::Dict(_)) => Ok(Value::Undefined(name)),
                found => Ok(found),
            }
        }
        "join" => {
            let separator = args.printed(0, "d", meter)?;
            let path = args.get(1, "attribute");
            let mut out = super::text::Writer::new(meter)?;
            for (at, item) in value.items(meter)?.iter().enumerate() {
                meter.pay(1)?;
                if at > 0
                    && let Some(separator) = &separator
                {
                    out.push_text(separator)?;
                }
                super::print::write_str(&mut out, &follow(it, item, path, None)?)?;
            }
            Ok(Value::Text(out.finish()))
        }
        "items" => match value {
            Value::Undefined(_) => Value::generator(meter, Vec::new()),
            Value::Dict(dict) => Value::generator(meter, it.pairs(dict)?),
            _ => Err(Fault::failed("Can only get item pairs from a mapping.")),
        },
        "reverse" => match value {
            Value::Text(text) => {
                let mut out = super::text::Writer::new(meter)?;
                meter.pay(text.len() / 8)?;
                for (at, c) in text.char_indices().rev() {
                    out.push_part(text, at..at + c.len_utf8())?;
                }
                Ok(Value::Text(out.finish()))
            }
            _ => {
                let items = value.items(meter)?;
                meter.pay(items.len() / 4)?;
                Value::generator(meter, items.iter().rev().cloned().collect())
            }
        },
        "abs" => match value {
            Value::Float(n) => Ok(Value::Float(n.abs())),
            Value::Big(n) => Ok(Value::Big(n.abs())),
            _ => match value.as_int() {
                Some(n) => Ok(n.checked_abs().map_or_else(|| Value::Big(Big::from(n).abs()), Value::Int)),
                None => Err(wrong(name, value)),
            },
        },
        "int" | "float" if value.as_text().is_some_and(|text| text.len() > MAX_NUMBER_BYTES) => {
            Err(Fault::failed(format!("{name}: a number of more than {MAX_NUMBER_BYTES} bytes")))
        }
        "int" | "float" if value.is_undefined() => {
            Err(Fault::failed(format!("{name}: the value is undefined")))
        }
        "int" => to_int(value, args),
        "float" => {
            let number = match value {
                Value::Text(text) => parse_float(text),
                _ => value.as_float(),
            };
            Ok(match (number, args.get(0, "default")) {
                (Some(n), _) => Value::Float(n),
                (None, Some(default)) => default.clone(),
                (None, None) => Value::Float(0.0),
            })
        }
        "round" => round(value, args),
        "sum" => {
            let path = args.get(0, "attribute").filter(|path| !matches!(path, Value::None));
            let mut sum = args.get(1, "start").cloned().unwrap_or(Value::Int(0));
            if matches!(sum, Value::Text(_)) {
                return Err(Fault::failed("sum() can't sum strings [use ''.join(seq) instead]"));
            }
            for item in value.items(meter)?.iter() {
                let item = follow(it, item, path, None)?;
                sum = super::operators::arithmetic(meter, &sum, super::ast::Arithmetic::Add, &item)?;
            }
            Ok(sum)
        }
        "min" | "max" => {
            let items = value.items(meter)?;
            let path = args.get(1, "attribute");
            let mut best: Option<(Value, &Value)> = None;
            for item in items.iter() {
                let key = sort_key(it, item, path, args.flag(0, "case_sensitive"))?;
                let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
                let better = match &best {
                    Some((best, _)) => key.order(best, meter)? == Some(wanted),
                    None => true,
                };
                if better {
                    best = Some((key, item));
                }
            }
            Ok(best.map_or_else(Value::no_item, |(_, item)| item.clone()))
        }
        "sort" => {
            let items = value.items(meter)?;
            let (reverse, case_sensitive) = (args.flag(0, "reverse"), args.flag(1, "case_sensitive"));
            let _held = meter.hold(items.len() * 2 * size_of::<(Value, Value)>())?;
            let mut keyed = Vec::with_capacity(items.len());
            for item in items.iter() {
                let key = match args.get(2, "attribute") {
                    Some(Value::Text(paths)) if paths.contains(',') => {
                        let mut keys = Vec::new();
                        for path in paths.split(',') {
                            let path = Value::text(meter, path)?;
                            keys.push(sort_key(it, item, Some(&path), case_sensitive)?);
                        }
                        Value::tuple(meter, keys)?
                    }
                    path => sort_key(it, item, path, case_sensitive)?,
                };
                keyed.push((key, item.clone()));
            }
            sort_by(&mut keyed, meter, |(a, _), (b, _)| {
                let order = a.order(b, meter)?;
                Ok(if reverse { order.map(Ordering::reverse) } else { order })
            })?;
            Value::list(meter, keyed.into_iter().map(|(_, item)| item).collect())
        }
        "dictsort" => {
            let Value::Dict(dict) = value else { return Err(wrong(name, value)) };
            let by = args.text(1, "by")?;
            let by_value = match by.as_deref() {
                None | Some("key") => 0,
                Some("value") => 1,
                Some(_) => return Err(Fault::failed("You can only sort by either \"key\" or \"value\"")),
            };
            let reverse = args.flag(2, "reverse");
            let _held = meter.hold(dict.map.len() * 2 * size_of::<(Value, Value)>())?;
            let mut keyed = Vec::with_capacity(dict.map.len());
            for pair in it.pairs(dict)? {
                let key = it.item(&pair, &Value::Int(by_value))?;
                keyed.push((sort_key(it, &key, None, args.flag(0, "case_sensitive"))?, pair));
            }
            sort_by(&mut keyed, meter, |(a, _), (b, _)| {
                let order = a.order(b, meter)?;
                Ok(if reverse { order.map(Ordering::reverse) } else { order })
            })?;
            Value::list(meter, keyed.into_iter().map(|(_, pair)| pair).collect())
        }
        "unique" => {
            let items = value.items(meter)?;
            let _held = meter.hold(items.len() * 4 * size_of::<Value>())?;
            let mut seen = indexmap::IndexSet::new();
            let mut chosen = Vec::new();
            for item in items.iter() {
                let key = sort_key(it, item, args.get(1, "attribute"), args.flag(0, "case_sensitive"))?;
                if seen.insert(Key::new(&key, meter)?) {
                    chosen.push(item.clone());
                }
            }
            Value::generator(meter, chosen)
        }
        "groupby" => group(it, value, args),
        "map" => {
            let items = value.items(meter)?;
            let path = args.named.iter().find(|(name, _)| **name == *"attribute").map(|(_, path)| path);
            let default = args.named.iter().find(|(name, _)| **name == *"default").map(|(_, value)| value);
            let mut mapped = Vec::with_capacity(items.len());
            let _held = meter.hold(items.len() * size_of::<Value>())?;
            if path.is_some() {
                for item in items.iter() {
                    mapped.push(follow(it, item, path, default)?);
                }
                return Value::generator(meter, mapped);
            }
            let Some((filter, rest)) = args.positional.split_first() else {
                return Err(Fault::failed("map requires a filter argument"));
            };
            let filter = to_text(filter, meter)?;
            if !names::is_filter(&filter) {
                return Err(Fault::failed(format!("No filter named '{:.40}'.", &*filter)));
            }
            let rest = Args { positional: rest.to_vec(), named: args.named.clone() };
            for item in items.iter() {
                mapped.push(it.deeper(|| apply(it, &filter, item, &rest))?);
            }
            Value::generator(meter, mapped)
        }
        "select" | "reject" | "selectattr" | "rejectattr" => choose(it, name, value, args),
        "batch" | "slice" => {
            let n = args.int(0, "linecount")?.or(args.int(0, "slices")?).unwrap_or(0);
            let fill = args.get(1, "fill_with").filter(|fill| !matches!(fill, Value::None));
            cut(meter, name, value, n, fill)
        }
        _ => text_filters::apply(it, name, value, args),
    }
}

fn wrong(name: &str, value: &Value) -> Fault {
    Fault::failed(format!("{name} does not take a value of type '{}'", value.type_name()))
}

/// `item.a.0.b`, for the attribute argument of filters.
fn follow(it: &Interpreter, item: &Value, path: Option<&Value>, default: Option<&Value>) -> Outcome {
    let mut value = item.clone();
    let step = |value: &Value, key: &Value| {
        let found = it.item(value, key)?;
        Ok(match default {
            Some(default) if found.is_undefined() => default.clone(),
            _ => found,
        })
    };
    match path {
        None | Some(Value::None) => Ok(value),
        Some(Value::Text(path)) => {
            for part in path.split('.') {
                let key = match part.parse::<i128>() {
                    Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(index),
                    _ => Value::text(&it.meter, part)?,
                };
                value = step(&value, &key)?;
            }
            Ok(value)
        }
        Some(key) => step(&value, key),
    }
}

/// What an item is sorted by: small letters, unless case counts.
fn sort_key(it: &Interpreter, item: &Value, path: Option<&Value>, case_sensitive: bool) -> Outcome {
    match follow(it, item, path, None)? {
        Value::Text(text) if !case_sensitive => {
            Ok(Value::Text(strings::change_case(&it.meter, &text, "lower")?))
        }
        key => Ok(key),
    }
}

fn group(it: &Interpreter, value: &Value, args: &Args) -> Outcome {
    let meter = &it.meter;
    let path = args.require(0, "attribute")?;
    let default = args.get(1, "default");
    let case_sensitive = args.flag(2, "case_sensitive");
    let items = value.items(meter)?;
    let _held = meter.hold(items.len() * 2 * size_of::<(Value, Value, Value)>())?;
    let mut keyed = Vec::with_capacity(items.len());
    for item in items.iter() {
        let real = follow(it, item, Some(path), default)?;
        keyed.push((sort_key(it, &real, None, case_sensitive)?, real, item.clone()));
    }
    sort_by(&mut keyed, meter, |a, b| a.0.order(&b.0, meter))?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (key, real, item) in keyed {
        match groups.last_mut() {
            Some((last, _, items)) if last.equals(&key, meter)? => items.push(item),
            _ => groups.push((key, real, vec![item])),
        }
    }
    let mut tuples = Vec::new();
    for (_, real, items) in groups {
        let items = Value::list(meter, items)?;
        tuples.push(Value::sequence(meter, ListKind::Group, vec![real, items])?);
    }
    Value::list(meter, tuples)
}

/// `select`, `reject`, `selectattr` and `rejectattr`.
fn choose(it: &Interpreter, name: &str, value: &Value, args: &Args) -> Outcome {
    let wanted = name.starts_with("select");
    let mut rest = &args.positional[..];
    let mut path = None;
    if name.ends_with("attr") {
        let Some((first, others)) = rest.split_first() else {
            return Err(Fault::failed(format!("{name} requires an attribute")));
        };
        (path, rest) = (Some(first), others);
    }
    let test = match rest.split_first() {
        Some((test, others)) => {
            rest = others;
            Some(to_text(test, &it.meter)?)
        }
        None => None,
    };
    let test_args = Args { positional: rest.to_vec(), named: args.named.clone() };
    let mut chosen = Vec::new();
    if !value.is_true() {
        return Value::generator(&it.meter, chosen);
    }
    for item in value.items(&it.meter)?.iter() {
        it.meter.pay(1)?;
        let subject = follow(it, item, path, None)?;
        let holds = match &test {
            Some(test) => predicates::test(&it.meter, test, &subject, &test_args)?,
            None => subject.is_true(),
        };
        if holds == wanted {
            chosen.push(item.clone());
        }
    }
    Value::generator(&it.meter, chosen)
}

/// `batch`: lists of `n` items; `slice`: `n` lists.
fn cut(meter: &Rc<Meter>, name: &str, value: &Value, n: i128, fill: Option<&Value>) -> Outcome {
    let items = value.items(meter)?;
    let n = usize::try_from(n).unwrap_or(0);
    let mut lists = Vec::new();
    if name == "batch" {
        // With no length there is one list: it never has as many items.
        let size = if n == 0 { items.len().max(1) } else { n };
        for part in items.chunks(size) {
            let mut part = part.to_vec();
            if let Some(fill) = fill
                && part.len() < n
            {
                meter.pay(n)?;
                drop(meter.hold(2 * size_of::<Value>() * n)?);
                part.resize(n, fill.clone());
            }
            lists.push(Value::list(meter, part)?);
        }
        return Value::generator(meter, lists);
    }
    if n == 0 {
        return Err(Fault::failed("integer division or modulo by zero"));
    }
    let (each, longer) = (items.len() / n, items.len() % n);
    let mut start = 0;
    for at in 0..n {
        meter.pay(1)?;
        let len = each + usize::from(at < longer);
        let mut part = items[start..start + len].to_vec();
        start += len;
        if at >= longer {
            part.extend(fill.cloned());
        }
        lists.push(Value::list(meter, part)?);
    }
    Value::generator(meter, lists)
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::lexer::is_space);
    let plain = if text.contains('_') { text.replace('_', "") } else { text.to_owned() };
    plain.parse().ok()
}

fn to_int(value: &Value, args: &Args) -> Outcome {
    let default = args.get(0, "default").cloned().unwrap_or(Value::Int(0));
    let base = args.int(1, "base")?.unwrap_or(10);
    let of_float =
        |n: f64| if n.is_nan() { Ok(default.clone()) } else { Integer::part_of(n).map(Value::from) };
    Ok(match value {
        Value::Big(n) => Value::Big(n.clone()),
        Value::Float(n) => of_float(*n)?,
        Value::Text(text) => {
            let text = text.trim_matches(super::lexer::is_space);
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", text.strip_prefix('+').unwrap_or(text)),
            };
            let lower = digits.to_ascii_lowercase();
            let (radix, prefix) = match base {
                16 => (16, "0x"),
                8 => (8, "0o"),
                2 => (2, "0b"),
                3..=36 => (base as u32, ""),
                _ => (10, ""),
            };
            let digits = lower.strip_prefix(prefix).unwrap_or(&lower);
            let is_plain = digits.starts_with(|c: char| c.is_digit(radix));
            let digits = digits.replace('_', "");
            match i128::from_str_radix(&format!("{sign}{digits}"), radix) {
                Ok(n) if is_plain => Value::Int(n),
                _ if is_plain && digits.chars().all(|c| c.is_digit(radix)) => match radix {
                    10 => Integer::parse(&format!("{sign}{digits}"))?.into(),
                    _ => return Err(too_big()),
                },
                _ => parse_float(text)
                    .filter(|n| n.is_finite())
                    .map_or_else(|| Ok(default.clone()), of_float)?,
            }
        }
        _ => value.as_int().map_or(default, Value::Int),
    })
}

fn round(value: &Value, args: &Args) -> Outcome {
    let precision = args.int(0, "precision")?.unwrap_or(0).clamp(-300, 300);
    let method = args.text(1, "method")?;
    if let Value::Big(n) = value {
        return match method.as_deref() {
            Some("common") | None if precision >= 0 => Ok(Value::Big(n.clone())),
            _ => Err(too_big()),
        };
    }
    let Some(n) = value.as_float() else { return Err(wrong("round", value)) };
    let scale = 10f64.powi(precision as i32);
    match method.as_deref() {
        Some("ceil") => Ok(Value::Float((n * scale).ceil() / scale)),
        Some("floor") => Ok(Value::Float((n * scale).floor() / scale)),
        Some("common") | None => match value.as_int() {
            Some(whole) if precision >= 0 => Ok(Value::Int(whole)),
            Some(whole) => {
                let unit = 10i128.saturating_pow((-precision).min(38) as u32);
                let (quotient, rest) = (whole.div_euclid(unit), whole.rem_euclid(unit));
                let up = rest * 2 > unit || (rest * 2 == unit && quotient % 2 != 0);
                Ok(Value::Int((quotient + i128::from(up)) * unit))
            }
            None if precision < 0 => Ok(Value::Float((n * scale).round_ties_even() / scale)),
            // The decimal digits decide, as in Python: 2.675 is a little less than it looks.
            None => Ok(Value::Float(format!("{n:.*}", precision as usize).parse().unwrap_or(n))),
        },
        Some(_) => Err(Fault::failed("method must be common, ceil or floor")),
    }
}
