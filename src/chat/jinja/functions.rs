//! The functions that every template has, those of Jinja2 and those of Hugging Face.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Args;
use super::fault::Fault;
use super::interpreter::Interpreter;
use super::print::to_text;
use super::value::{Function, Key, ListKind, Object, Outcome, Value};

/// The longest `range`, as in the sandbox of Jinja2.
const MAX_RANGE: i128 = 100_000;

/// The longest format that `strftime_now` takes.
const MAX_TIME_FORMAT_BYTES: usize = 1000;

pub(super) fn call(it: &Interpreter, function: Function, args: Args) -> Outcome {
    let meter = &it.meter;
    match function {
        Function::Range => {
            let (first, second) = (args.int(0, "start")?, args.int(1, "stop")?);
            let (start, stop) = match (first, second) {
                (Some(stop), None) => (0, stop),
                (Some(start), Some(stop)) => (start, stop),
                _ => return Err(Fault::failed("range expected at least 1 argument")),
            };
            let step = args.int(2, "step")?.unwrap_or(1);
            if step == 0 {
                return Err(Fault::failed("range() arg 3 must not be zero"));
            }
            let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
            let n = if span > 0 { (span - 1) / step.saturating_abs() + 1 } else { 0 };
            if n > MAX_RANGE {
                return Err(Fault::failed(format!("a range of {n} numbers: expected at most {MAX_RANGE}")));
            }
            meter.pay(n as usize / 4)?;
            let numbers = (0..n).map(|at| Value::Int(start + at * step)).collect();
            Value::sequence(meter, ListKind::Range([start, stop, step]), numbers)
        }
        Function::Dict => {
            let mut map = indexmap::IndexMap::new();
            match args.positional.first() {
                Some(Value::Dict(dict)) => {
                    meter.pay(dict.map.len())?;
                    map = dict.map.clone();
                }
                Some(pairs) => {
                    for pair in pairs.items(meter)?.iter() {
                        let pair = pair.items(meter)?;
                        let [key, value] = &pair[..] else {
                            return Err(Fault::failed("dict expects pairs of keys and values"));
                        };
                        map.insert(Key::new(key, meter)?, value.clone());
                    }
                }
                None => {}
            }
            for (name, value) in args.named {
                map.insert(Key::new(&Value::text(meter, &name)?, meter)?, value);
            }
            Value::dict(meter, map)
        }
        Function::Namespace => {
            let mut attributes: Vec<(Arc<str>, Value)> = Vec::new();
            match args.positional.first() {
                Some(Value::Dict(dict)) => {
                    for (key, value) in &dict.map {
                        attributes.push((Arc::from(&*to_text(&key.0, meter)?), value.clone()));
                    }
                }
                Some(_) => return Err(Fault::failed("namespace expects names and values")),
                None => {}
            }
            attributes.extend(args.named);
            it.namespace(attributes)
        }
        Function::Joiner => {
            let separator = match args.get(0, "sep") {
                Some(separator) => separator.clone(),
                None => Value::text(meter, ", ")?,
            };
            Value::object(meter, Object::Joiner(separator, Cell::new(false)))
        }
        Function::Cycler if args.positional.is_empty() => {
            Err(Fault::failed("at least one item has to be provided"))
        }
        Function::Cycler => Value::object(meter, Object::Cycler(args.positional, Cell::new(0))),
        Function::Lipsum => {
            Err(Fault::failed("lipsum is not supported: a prompt has no use for filler text"))
        }
        Function::RaiseException => {
            let message = match args.get(0, "message") {
                Some(message) => to_text(message, meter)?.to_string(),
                None => String::new(),
            };
            Err(Fault::Refused(message))
        }
        Function::StrftimeNow => {
            let format = args.require_text(0, "format")?;
            if format.len() > MAX_TIME_FORMAT_BYTES {
                return Err(Fault::failed(format!("strftime_now: a format of {} bytes", format.len())));
            }
            let text = super::time::strftime(&format, &jiff::Zoned::now());
            // What the clock says is the template's; a format that was given is not.
            let given = !format.given().is_empty();
            Ok(Value::Text(super::text::Text::new(&Rc::clone(meter), &text, given)?))
        }
    }
}
