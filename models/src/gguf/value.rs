//! Metadata values of GGUF, and their conversion to Rust types.

use std::borrow::Cow;
use std::fmt;

use super::str_array::StrArray;
use crate::printable::printable;

/// The type of a metadata value, by its id in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named as in the GGUF specification
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type with this id, if there is one.
    #[must_use]
    pub fn from_id(id: u32) -> Option<ValueType> {
        use ValueType::{Array, Bool, F32, F64, I8, I16, I32, I64, Str, U8, U16, U32, U64};
        [U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64].get(id as usize).copied()
    }

    /// The name of the type in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "str",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// The fewest bytes a value takes in a file. An empty string is only its length, an empty array a type and a length.
    #[must_use]
    pub(super) fn min_bytes(self) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::Str => 8,
            ValueType::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // named as in the GGUF specification
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    /// Bytes, because some files have token strings that are not UTF-8.
    Str(Box<[u8]>),
    Array(Array),
}

/// An array of values of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // named as in the GGUF specification
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Str(StrArray),
    /// Nested arrays, each with an element type of its own.
    Array(Vec<Array>),
}

impl Value {
    /// The value's type.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F32(_) => ValueType::F32,
            Value::F64(_) => ValueType::F64,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
        }
    }

    /// Parses the `TYPE:VALUE` of llama.cpp's `--override-kv KEY=TYPE:VALUE`, where the type is `int`, `float`, `bool` or
    /// `str`.
    ///
    /// Integers become `i64` and floats `f64`; the getters accept any width that fits.
    ///
    /// # Errors
    /// A message that says what is wrong with `text`.
    pub fn parse_override(text: &str) -> Result<Value, String> {
        let Some((kind, value)) = text.split_once(':') else {
            return Err(format!("found '{text}', expected TYPE:VALUE, as in int:4096"));
        };
        let bad = |what| format!("found '{value}', expected {what} after '{kind}:'");
        match kind {
            "int" => value.parse().map(Value::I64).map_err(|_| bad("a whole number")),
            "float" => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::F64(number)),
                _ => Err(bad("a finite number")),
            },
            "bool" => value.parse().map(Value::Bool).map_err(|_| bad("true or false")),
            "str" => Ok(Value::from(value)),
            _ => Err(format!("found type '{kind}', expected int, float, bool or str")),
        }
    }

    /// A description for error messages: the type, and the value if it is short.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Value::Str(text) => format!("str \"{}\"", printable(text)),
            Value::Array(array) => array.describe(),
            Value::U8(v) => format!("u8 {v}"),
            Value::I8(v) => format!("i8 {v}"),
            Value::U16(v) => format!("u16 {v}"),
            Value::I16(v) => format!("i16 {v}"),
            Value::U32(v) => format!("u32 {v}"),
            Value::I32(v) => format!("i32 {v}"),
            Value::U64(v) => format!("u64 {v}"),
            Value::I64(v) => format!("i64 {v}"),
            Value::F32(v) => format!("f32 {}", short((*v).into(), v)),
            Value::F64(v) => format!("f64 {}", short(*v, v)),
            Value::Bool(v) => format!("bool {v}"),
        }
    }

    /// Any integer, widened.
    fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

impl Array {
    /// The type of the elements.
    #[must_use]
    pub fn element_type(&self) -> ValueType {
        match self {
            Array::U8(_) => ValueType::U8,
            Array::I8(_) => ValueType::I8,
            Array::U16(_) => ValueType::U16,
            Array::I16(_) => ValueType::I16,
            Array::U32(_) => ValueType::U32,
            Array::I32(_) => ValueType::I32,
            Array::U64(_) => ValueType::U64,
            Array::I64(_) => ValueType::I64,
            Array::F32(_) => ValueType::F32,
            Array::F64(_) => ValueType::F64,
            Array::Bool(_) => ValueType::Bool,
            Array::Str(_) => ValueType::Str,
            Array::Array(_) => ValueType::Array,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
            Array::Array(v) => v.len(),
        }
    }

    /// Returns `true` if there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A description for error messages: length and element type.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("array of {} {}", self.len(), self.element_type())
    }

    /// All elements as `T`.
    fn integers<T: TryFrom<i128>>(&self) -> Result<Vec<T>, Misfit> {
        fn all<S: Copy + Into<i128>, T: TryFrom<i128>>(values: &[S]) -> Result<Vec<T>, Misfit> {
            let mut out = room_for(values.len())?;
            for &v in values {
                out.push(T::try_from(v.into()).map_err(|_| Misfit::Kind)?);
            }
            Ok(out)
        }
        match self {
            Array::U8(v) => all(v),
            Array::I8(v) => all(v),
            Array::U16(v) => all(v),
            Array::I16(v) => all(v),
            Array::U32(v) => all(v),
            Array::I32(v) => all(v),
            Array::U64(v) => all(v),
            Array::I64(v) => all(v),
            _ => Err(Misfit::Kind),
        }
    }
}

fn room_for<T>(n: usize) -> Result<Vec<T>, Misfit> {
    let mut values = Vec::new();
    match values.try_reserve_exact(n) {
        Ok(()) => Ok(values),
        Err(_) => Err(Misfit::OutOfMemory { n_bytes: n.saturating_mul(size_of::<T>()) as u64 }),
    }
}

/// Formats a float, in scientific notation if it would otherwise have very many digits.
fn short(v: f64, shown: &(impl fmt::Display + fmt::LowerExp)) -> String {
    match v == 0.0 || !v.is_finite() || (1e-6..1e15).contains(&v.abs()) {
        true => shown.to_string(),
        false => format!("{shown:e}"),
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Str(text.as_bytes().into())
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<$from> for Value {
            fn from(v: $from) -> Value {
                Value::$variant(v)
            }
        })*
    };
}

value_from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f32 => F32, f64 => F64, bool => Bool, Array => Array);

/// Why a value cannot be converted to a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// It has another type or is out of range.
    Kind,
    /// The memory for it could not be allocated.
    OutOfMemory {
        /// How much was requested.
        n_bytes: u64,
    },
}

/// A type that a metadata value converts to; see [`Metadata::get_as`](super::Metadata::get_as).
pub trait FromValue<'a>: Sized {
    /// A description of the type for error messages.
    const EXPECTED: &'static str;

    /// Converts the value.
    ///
    /// # Errors
    /// If it is of another kind or does not fit, or there is no memory for a converted array.
    fn from_value(value: &'a Value) -> Result<Self, Misfit>;
}

macro_rules! from_integer {
    ($($to:ty, $expected:literal, $expected_array:literal;)*) => {
        $(impl FromValue<'_> for $to {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value) -> Result<$to, Misfit> {
                value.as_integer().and_then(|v| <$to>::try_from(v).ok()).ok_or(Misfit::Kind)
            }
        }

        impl FromValue<'_> for Vec<$to> {
            const EXPECTED: &'static str = $expected_array;

            fn from_value(value: &Value) -> Result<Vec<$to>, Misfit> {
                match value {
                    Value::Array(array) => array.integers(),
                    _ => Err(Misfit::Kind),
                }
            }
        })*
    };
}

from_integer! {
    u32, "an integer that fits u32", "an array of integers that fit u32";
    u64, "an integer that fits u64", "an array of integers that fit u64";
    usize, "an integer that fits usize", "an array of integers that fit usize";
    i32, "an integer that fits i32", "an array of integers that fit i32";
    i64, "an integer that fits i64", "an array of integers that fit i64";
}

/// Rounds to `f32`. Values beyond its range are refused.
fn narrow(v: f64) -> Result<f32, Misfit> {
    let narrow = v as f32;
    match narrow.is_finite() || !v.is_finite() {
        true => Ok(narrow),
        false => Err(Misfit::Kind),
    }
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float that fits f32";

    fn from_value(value: &Value) -> Result<f32, Misfit> {
        match *value {
            Value::F32(v) => Ok(v),
            Value::F64(v) => narrow(v),
            _ => Err(Misfit::Kind),
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a bool";

    fn from_value(value: &Value) -> Result<bool, Misfit> {
        match *value {
            Value::Bool(v) => Ok(v),
            _ => Err(Misfit::Kind),
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a str in UTF-8";

    fn from_value(value: &'a Value) -> Result<&'a str, Misfit> {
        match value {
            Value::Str(bytes) => std::str::from_utf8(bytes).map_err(|_| Misfit::Kind),
            _ => Err(Misfit::Kind),
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    const EXPECTED: &'static str = "a str";

    fn from_value(value: &'a Value) -> Result<&'a [u8], Misfit> {
        match value {
            Value::Str(bytes) => Ok(bytes),
            _ => Err(Misfit::Kind),
        }
    }
}

impl<'a> FromValue<'a> for &'a StrArray {
    const EXPECTED: &'static str = "an array of str";

    fn from_value(value: &'a Value) -> Result<&'a StrArray, Misfit> {
        match value {
            Value::Array(Array::Str(texts)) => Ok(texts),
            _ => Err(Misfit::Kind),
        }
    }
}

impl<'a> FromValue<'a> for Cow<'a, [f32]> {
    const EXPECTED: &'static str = "an array of floats that fit f32";

    fn from_value(value: &'a Value) -> Result<Cow<'a, [f32]>, Misfit> {
        match value {
            Value::Array(Array::F32(numbers)) => Ok(Cow::Borrowed(numbers)),
            Value::Array(Array::F64(numbers)) => {
                let mut narrowed = room_for(numbers.len())?;
                for &v in numbers {
                    narrowed.push(narrow(v)?);
                }
                Ok(Cow::Owned(narrowed))
            }
            _ => Err(Misfit::Kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_as_llama_cpp_reads_them() {
        assert_eq!(Value::parse_override("int:-4096"), Ok(Value::I64(-4096)));
        assert_eq!(Value::parse_override("float:1e6"), Ok(Value::F64(1e6)));
        assert_eq!(Value::parse_override("bool:false"), Ok(Value::Bool(false)));
        assert_eq!(Value::parse_override("str:a:b"), Ok(Value::from("a:b")));
        assert_eq!(Value::parse_override("str:"), Ok(Value::from("")));
        for bad in ["", "4096", "int:", "int:1.5", "float:nan", "float:x", "bool:1", "u32:1"] {
            let message = Value::parse_override(bad).unwrap_err();
            assert!(message.contains("expected"), "{bad}: {message}");
        }
    }

    #[test]
    fn integers_of_any_width_are_taken_where_they_fit() {
        assert_eq!(u32::from_value(&Value::I8(7)), Ok(7));
        assert_eq!(u32::from_value(&Value::U64(1 << 32)), Err(Misfit::Kind));
        assert_eq!(u32::from_value(&Value::I64(-1)), Err(Misfit::Kind));
        assert_eq!(u64::from_value(&Value::U64(u64::MAX)), Ok(u64::MAX));
        assert_eq!(i64::from_value(&Value::U64(u64::MAX)), Err(Misfit::Kind));
        assert_eq!(u32::from_value(&Value::F32(7.0)), Err(Misfit::Kind));
        assert_eq!(Vec::<u32>::from_value(&Value::Array(Array::I32(vec![1, 2]))), Ok(vec![1, 2]));
        assert_eq!(Vec::<u32>::from_value(&Value::Array(Array::I32(vec![1, -2]))), Err(Misfit::Kind));
    }

    #[test]
    fn doubles_are_narrowed_unless_that_makes_them_infinite() {
        assert_eq!(f32::from_value(&Value::F64(0.1)), Ok(0.1));
        assert_eq!(f32::from_value(&Value::F64(1e300)), Err(Misfit::Kind));
        let array = Value::Array(Array::F64(vec![0.5, 1e300]));
        assert!(<Cow<'_, [f32]>>::from_value(&array).is_err());
    }

    #[test]
    fn strings_that_are_not_utf_8_are_bytes_but_not_text() {
        let value = Value::Str(Box::from(*b"\xff"));
        assert_eq!(<&str>::from_value(&value), Err(Misfit::Kind));
        assert_eq!(<&[u8]>::from_value(&value), Ok(&b"\xff"[..]));
        let array: StrArray = [&b"a"[..], b"", b"\xff\xfe"].into_iter().collect();
        assert_eq!(array.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"\xff\xfe"]);
        assert_eq!(array.get(3), None);
    }
}
