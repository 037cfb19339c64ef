//! The values of a template, with the behaviour of Python's.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use indexmap::{Equivalent, IndexMap};

use super::ast;
use super::fault::Fault;
use super::meter::{Charge, Meter};
use super::number::{self, Big, Integer, Number};
use super::scope::Scope;
use super::text::Text;

/// How deep lists and maps may nest. Python stops at about a thousand.
const MAX_DEPTH: u32 = 100;

/// What evaluating an expression gives.
pub(super) type Outcome = Result<Value, Fault>;

/// A value. Clones are cheap and share their contents.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// An undefined value, with its name.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i128),
    Big(Big),
    Float(f64),
    Text(Text),
    List(Rc<List>),
    Dict(Rc<Dict>),
    Object(Rc<Held>),
}

/// A sequence. As in the sandbox of Jinja2, templates cannot change it.
#[derive(Debug)]
pub(super) struct List {
    pub kind: ListKind,
    pub items: Vec<Value>,
    depth: u32,
    _charge: Charge,
}

/// What a sequence is in Python.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ListKind {
    List,
    Tuple,
    /// A named tuple of `groupby`.
    Group,
    /// `range(start, stop, step)`.
    Range([i128; 3]),
    /// `dict.keys()`, `.values()` or `.items()`, by the name of its type.
    View(&'static str),
    /// The result of `map`, `select` and others: it is true, has no length, and can be iterated once.
    Generator(Cell<bool>),
}

#[derive(Debug)]
pub(super) struct Dict {
    pub map: IndexMap<Key, Value>,
    depth: u32,
    _charge: Charge,
}

/// Values that are compared by identity.
#[derive(Debug)]
pub(super) enum Object {
    Namespace(RefCell<IndexMap<Arc<str>, Value>>, RefCell<Charge>),
    Macro(Arc<ast::Macro>, Rc<Scope<Value>>),
    Function(Function),
    Method(Value, Arc<str>),
    Loop(Loop),
    Joiner(Value, Cell<bool>),
    Cycler(Vec<Value>, Cell<usize>),
}

/// An object, paid for.
#[derive(Debug)]
pub(super) struct Held {
    object: Object,
    _charge: Charge,
}

impl std::ops::Deref for Held {
    type Target = Object;
    fn deref(&self) -> &Object {
        &self.object
    }
}

/// Functions that every template has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    Joiner,
    Cycler,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

/// The variable `loop`.
#[derive(Debug)]
pub(super) struct Loop {
    pub items: Items,
    pub index: Cell<usize>,
    pub depth: usize,
    pub changed: RefCell<Option<Vec<Value>>>,
    /// How to run the loop again inside of itself.
    pub recursion: Option<(Arc<ast::For>, Rc<Scope<Value>>)>,
}

/// The items of an iterable.
#[derive(Debug, Clone)]
pub(super) enum Items {
    List(Rc<List>),
    Owned(Rc<(Vec<Value>, Charge)>),
}

impl std::ops::Deref for Items {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        match self {
            Self::List(list) => &list.items,
            Self::Owned(owned) => &owned.0,
        }
    }
}

/// What values take in a list: the value itself, with room for growth of the vector.
const ITEM_BYTES: usize = 2 * size_of::<Value>();
/// And in a dict: an entry with its hash and its place in the table.
const ENTRY_BYTES: usize = 4 * size_of::<Value>();

impl From<Integer> for Value {
    fn from(n: Integer) -> Value {
        match n {
            Integer::Short(n) => Value::Int(n),
            Integer::Long(n) => Value::Big(n),
        }
    }
}

impl Value {
    pub fn list(meter: &Rc<Meter>, items: Vec<Value>) -> Outcome {
        Self::sequence(meter, ListKind::List, items)
    }

    pub fn tuple(meter: &Rc<Meter>, items: Vec<Value>) -> Outcome {
        Self::sequence(meter, ListKind::Tuple, items)
    }

    pub fn generator(meter: &Rc<Meter>, items: Vec<Value>) -> Outcome {
        Self::sequence(meter, ListKind::Generator(Cell::new(false)), items)
    }

    pub fn sequence(meter: &Rc<Meter>, kind: ListKind, items: Vec<Value>) -> Outcome {
        meter.pay(1 + items.len() / 4)?;
        let charge = meter.hold(96 + ITEM_BYTES * items.len())?;
        let depth = depth_around(items.iter())?;
        Ok(Self::List(Rc::new(List { kind, items, depth, _charge: charge })))
    }

    pub fn dict(meter: &Rc<Meter>, map: IndexMap<Key, Value>) -> Outcome {
        meter.pay(1 + map.len())?;
        let charge = meter.hold(128 + ENTRY_BYTES * map.len())?;
        let depth = depth_around(map.values())?.max(depth_around(map.keys().map(|key| &key.0))?);
        Ok(Self::Dict(Rc::new(Dict { map, depth, _charge: charge })))
    }

    pub fn text(meter: &Rc<Meter>, text: &str) -> Outcome {
        Ok(Self::Text(Text::written(meter, text)?))
    }

    pub fn object(meter: &Rc<Meter>, object: Object) -> Outcome {
        meter.pay(1)?;
        let charge = meter.hold(128)?;
        Ok(Self::Object(Rc::new(Held { object, _charge: charge })))
    }

    /// The undefined value for an item that a list or dict does not have.
    pub fn no_item() -> Self {
        static ITEM: LazyLock<Arc<str>> = LazyLock::new(|| "the item".into());
        Self::Undefined(Arc::clone(&ITEM))
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub fn as_text(&self) -> Option<&Text> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A number as an integer, if it is one of up to 127 bits; booleans are.
    pub fn as_int(&self) -> Option<i128> {
        match *self {
            Self::Bool(b) => Some(i128::from(b)),
            Self::Int(n) => Some(n),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Self::Float(n) => Some(n),
            Self::Big(ref n) => n.to_float(),
            _ => self.as_int().map(|n| n as f64),
        }
    }

    fn as_number(&self) -> Option<Number<'_>> {
        match self {
            Self::Float(n) => Some(Number::Float(*n)),
            Self::Big(n) => Some(Number::Long(n)),
            _ => self.as_int().map(Number::Short),
        }
    }

    /// How two numbers compare; `None` if one of them is no number, `Some(None)` beside a NaN.
    fn compare_numbers(&self, other: &Self) -> Option<Option<Ordering>> {
        Some(number::compare(self.as_number()?, other.as_number()?))
    }

    /// What Python calls the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Big(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Dict(_) => "dict",
            Self::List(list) => match list.kind {
                ListKind::List => "list",
                ListKind::Tuple | ListKind::Group => "tuple",
                ListKind::Range(_) => "range",
                ListKind::View(name) => name,
                ListKind::Generator(_) => "generator",
            },
            Self::Object(object) => match &***object {
                Object::Namespace(..) => "Namespace",
                Object::Macro(..) => "Macro",
                Object::Function(_) => "function",
                Object::Method(..) => "method",
                Object::Loop(_) => "LoopContext",
                Object::Joiner(..) => "Joiner",
                Object::Cycler(..) => "Cycler",
            },
        }
    }

    /// Whether it is true in a condition.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Big(_) => true,
            Self::Float(n) => *n != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => matches!(list.kind, ListKind::Generator(_)) || !list.items.is_empty(),
            Self::Dict(dict) => !dict.map.is_empty(),
            Self::Object(_) => true,
        }
    }

    /// The number of items or characters, if it has one.
    pub fn len(&self, meter: &Meter) -> Result<Option<usize>, Fault> {
        Ok(match self {
            Self::Undefined(_) => Some(0),
            Self::Text(text) => Some(text.n_chars(meter)?),
            Self::List(list) if matches!(list.kind, ListKind::Generator(_)) => None,
            Self::List(list) => Some(list.items.len()),
            Self::Dict(dict) => Some(dict.map.len()),
            Self::Object(object) => match &***object {
                Object::Loop(it) => Some(it.items.len()),
                _ => None,
            },
            _ => None,
        })
    }

    /// The items that a loop goes through: of a text its characters, of a dict its keys.
    pub fn items(&self, meter: &Rc<Meter>) -> Result<Items, Fault> {
        let owned = |items: Vec<Value>| {
            let charge = meter.hold(ITEM_BYTES * items.len())?;
            Ok(Items::Owned(Rc::new((items, charge))))
        };
        match self {
            Self::List(list) => {
                if let ListKind::Generator(used) = &list.kind
                    && used.replace(true)
                {
                    return owned(Vec::new());
                }
                Ok(Items::List(Rc::clone(list)))
            }
            Self::Undefined(_) => owned(Vec::new()),
            Self::Dict(dict) => {
                meter.pay(dict.map.len())?;
                owned(dict.map.keys().map(|key| key.0.clone()).collect())
            }
            Self::Text(text) => {
                let mut characters = Vec::new();
                for (at, c) in text.char_indices() {
                    meter.pay(1)?;
                    characters.push(Self::Text(text.part(meter, at..at + c.len_utf8())?));
                }
                owned(characters)
            }
            other => Err(Fault::failed(format!("'{}' object is not iterable", other.type_name()))),
        }
    }

    /// Python's `==`.
    pub fn equals(&self, other: &Self, meter: &Meter) -> Result<bool, Fault> {
        meter.pay(1)?;
        Ok(match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) => {
                meter.pay_copy(a.len().min(b.len()))?;
                **a == **b
            }
            (Self::List(a), Self::List(b)) => {
                let is_tuple = |list: &List| matches!(list.kind, ListKind::Tuple | ListKind::Group);
                let is_view = |list: &List| matches!(list.kind, ListKind::View("dict_keys" | "dict_items"));
                if Rc::ptr_eq(a, b) {
                    return Ok(true);
                }
                let comparable = match (&a.kind, &b.kind) {
                    (ListKind::List, ListKind::List) | (ListKind::Range(_), ListKind::Range(_)) => true,
                    _ => is_tuple(a) && is_tuple(b) || is_view(a) && is_view(b),
                };
                if !comparable || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Dict(a), Self::Dict(b)) => {
                if a.map.len() != b.map.len() {
                    return Ok(false);
                }
                for (key, value) in &a.map {
                    let Some(other) = b.map.get(key) else { return Ok(false) };
                    if !value.equals(other, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Object(a), Self::Object(b)) => Rc::ptr_eq(a, b),
            _ => self.compare_numbers(other) == Some(Some(Ordering::Equal)),
        })
    }

    /// Python's `<` and its kin; `None` beside a NaN.
    pub fn order(&self, other: &Self, meter: &Meter) -> Result<Option<Ordering>, Fault> {
        meter.pay(1)?;
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => {
                meter.pay_copy(a.len().min(b.len()))?;
                // Bytes of UTF-8 are in the order of their characters.
                Ok(Some(a.cmp(b)))
            }
            (Self::List(a), Self::List(b))
                if matches!(
                    (&a.kind, &b.kind),
                    (ListKind::List, ListKind::List)
                        | (ListKind::Tuple | ListKind::Group, ListKind::Tuple | ListKind::Group)
                ) =>
            {
                for (x, y) in a.items.iter().zip(&b.items) {
                    if !x.equals(y, meter)? {
                        return x.order(y, meter);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            _ => self.compare_numbers(other).ok_or_else(|| {
                let (a, b) = (self.type_name(), other.type_name());
                Fault::failed(format!("'{a}' and '{b}' cannot be put in order"))
            }),
        }
    }

    /// Python's `item in self`.
    pub fn contains(&self, item: &Self, meter: &Rc<Meter>) -> Result<bool, Fault> {
        match (self, item) {
            (Self::Text(text), Self::Text(part)) => {
                meter.pay_scan(text.len() + part.len())?;
                Ok(text.contains(&**part))
            }
            (Self::Text(_), item) => Err(Fault::failed(format!(
                "'in <string>' requires string as left operand, not {}",
                item.type_name()
            ))),
            (Self::Dict(dict), item) => Ok(dict.map.contains_key(&Key::new(item, meter)?)),
            _ => {
                for candidate in self.items(meter)?.iter() {
                    if candidate.equals(item, meter)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// The depth of a list or dict that holds `items`.
fn depth_around<'a>(items: impl Iterator<Item = &'a Value>) -> Result<u32, Fault> {
    let depth = |item: &Value| match item {
        Value::List(list) => list.depth,
        Value::Dict(dict) => dict.depth,
        _ => 0,
    };
    match items.map(depth).max().unwrap_or(0) + 1 {
        depth if depth > MAX_DEPTH => Err(Fault::failed(format!("more than {MAX_DEPTH} lists in lists"))),
        depth => Ok(depth),
    }
}

/// The key of a dict: a text, a number, a boolean, none, or a tuple of such.
#[derive(Debug, Clone)]
pub(super) struct Key(pub Value);

impl Key {
    /// # Errors
    /// For values that Python cannot hash.
    pub fn new(value: &Value, meter: &Meter) -> Result<Self, Fault> {
        meter.pay(1)?;
        match value {
            Value::Text(text) => meter.pay_copy(text.len())?,
            Value::List(list)
                if matches!(list.kind, ListKind::Tuple | ListKind::Group | ListKind::Range(_)) =>
            {
                list.items.iter().try_for_each(|item| Self::new(item, meter).map(drop))?;
            }
            Value::List(_) | Value::Dict(_) | Value::Object(_) => {
                return Err(Fault::failed(format!("unhashable type: '{}'", value.type_name())));
            }
            _ => {}
        }
        Ok(Self(value.clone()))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Value::Text(a), Value::Text(b)) => **a == **b,
            (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => true,
            (Value::List(a), Value::List(b)) => {
                a.items.len() == b.items.len()
                    && a.items.iter().zip(&b.items).all(|(a, b)| Self(a.clone()) == Self(b.clone()))
            }
            (a, b) => a.compare_numbers(b) == Some(Some(Ordering::Equal)),
        }
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            // As a `str`, so that attributes are found without making a key.
            Value::Text(text) => (**text).hash(state),
            Value::List(list) => list.items.iter().for_each(|item| Self(item.clone()).hash(state)),
            // Numbers that are equal hash alike, whatever their type.
            number => match number.as_float() {
                Some(n) => (n + 0.0).to_bits().hash(state),
                None => 0u8.hash(state),
            },
        }
    }
}

/// The name of an attribute, where a key is looked for.
#[derive(Hash)]
pub(super) struct Name<'a>(pub &'a str);

impl Equivalent<Key> for Name<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        key.0.as_text().is_some_and(|text| **text == *self.0)
    }
}

impl Dict {
    /// The value under a text.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(&Name(name))
    }
}
