//! What a schema may hold, and how it is handed on.

use serde_json::{Map, Value};

use crate::constraint::ConstraintError;

/// Schemas nested deeper are refused.
const MAX_DEPTH: usize = 100;

/// Keywords whose value is a schema, a list of them, or both.
const SCHEMAS: &[&str] =
    &["items", "additionalItems", "additionalProperties", "prefixItems", "anyOf", "oneOf", "allOf"];
/// Keywords whose value maps names to schemas.
const MAPS: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that are obeyed as they are.
const KEPT: &[&str] = &[
    "const",
    "enum",
    "type",
    "minItems",
    "maxItems",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];
/// Keywords that say nothing about what is valid.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "id",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];
/// Values of `format` that are obeyed.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown"];
/// Values of `format` that name a type of a program rather than a form of text.
const TYPES: &[&str] = &[
    "int32",
    "int64",
    "uint32",
    "uint64",
    "float",
    "double",
    "binary",
    "byte",
    "password",
    "path",
    "file-path",
    "directory-path",
];

pub fn unsatisfiable() -> ConstraintError {
    wrong("#", "no value is valid")
}

/// The schema without what says nothing about validity, and with references that are plain paths; if `lenient`, without keywords that would
/// not be obeyed.
///
/// # Errors
/// A keyword that would not be obeyed, a reference that leads nowhere, a value of the wrong type.
pub fn schema(schema: &Value, lenient: bool) -> Result<Value, ConstraintError> {
    let mut preparation = Preparation { root: schema, lenient, copies: Vec::new() };
    let mut prepared = preparation.schema(schema, "#", 0)?;
    let mut done = 0;
    while let Some(target) = preparation.copies.get(done).cloned() {
        let value = preparation.find(&target).expect("a reference that was followed");
        let copy = preparation.schema(value, &target, 0)?;
        prepared[COPIES][done.to_string()] = copy;
        done += 1;
    }
    Ok(prepared)
}

/// Holds what plain paths do not lead to.
const COPIES: &str = "$copies";

struct Preparation<'a> {
    root: &'a Value,
    lenient: bool,
    /// References that need a copy of what they refer to, by the number of the copy.
    copies: Vec<String>,
}

impl<'a> Preparation<'a> {
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Result<Value, ConstraintError> {
        if depth > MAX_DEPTH {
            return Err(wrong(at, &format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        let fields = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(fields) => fields,
            other => {
                return Err(wrong(
                    at,
                    &format!("{} is no schema: expected an object or a boolean", short(other)),
                ));
            }
        };
        let is_tuple = fields.get("items").is_some_and(Value::is_array);
        let mut prepared = Map::new();
        for (key, value) in fields {
            // Before draft 2020-12, a list of schemas stood under "items".
            let new_key = match key.as_str() {
                "items" if is_tuple => "prefixItems",
                "additionalItems" if is_tuple => "items",
                "additionalItems" => continue,
                key => key,
            };
            let value = match key.as_str() {
                // In draft 4, whether the bound itself is excluded.
                "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => {
                    let bound = fields.get(if key == "exclusiveMinimum" { "minimum" } else { "maximum" });
                    match bound {
                        Some(bound) if *value == Value::Bool(true) => bound.clone(),
                        _ => continue,
                    }
                }
                key if SCHEMAS.contains(&key) => match value {
                    Value::Array(schemas) => {
                        let mut list = Vec::with_capacity(schemas.len());
                        for (i, schema) in schemas.iter().enumerate() {
                            list.push(self.schema(schema, &format!("{at}/{key}/{i}"), depth + 1)?);
                        }
                        Value::Array(list)
                    }
                    schema => self.schema(schema, &format!("{at}/{key}"), depth + 1)?,
                },
                key if MAPS.contains(&key) => {
                    let Value::Object(schemas) = value else {
                        return Err(wrong(at, &format!("{key:?} is {}: expected an object", short(value))));
                    };
                    let mut map = Map::new();
                    for (name, schema) in schemas {
                        let schema =
                            self.schema(schema, &format!("{at}/{key}/{}", escape(name)), depth + 1)?;
                        map.insert(name.clone(), schema);
                    }
                    Value::Object(map)
                }
                "$ref" => match self.reference(value, at) {
                    Err(ConstraintError::Keyword { .. }) if self.lenient => continue,
                    reference => reference?,
                },
                "format" => {
                    let format = value.as_str().unwrap_or_default();
                    let is_kept = FORMATS.contains(&format);
                    if TYPES.contains(&format) || self.lenient && !is_kept {
                        continue;
                    }
                    if !is_kept {
                        return Err(not_kept(&format!("\"format\": {}", short(value)), at));
                    }
                    value.clone()
                }
                // Their default demands nothing.
                "uniqueItems" | "nullable" if *value == Value::Bool(false) => continue,
                "minContains" | "minItems" | "minLength" | "minProperties" if *value == 0 => continue,
                key if KEPT.contains(&key) => value.clone(),
                key if ANNOTATIONS.contains(&key) || key.starts_with("x-") => continue,
                _ if self.lenient => continue,
                key => return Err(not_kept(&format!("{key:?}"), at)),
            };
            prepared.insert(new_key.to_owned(), value);
        }
        Ok(Value::Object(prepared))
    }

    /// A reference as a path from the root, whose parts stand for themselves.
    fn reference(&mut self, value: &Value, at: &str) -> Result<Value, ConstraintError> {
        let Value::String(reference) = value else {
            return Err(wrong(at, &format!("\"$ref\" is {}: expected a string", short(value))));
        };
        if !reference.starts_with('#') {
            return Err(not_kept(&format!("\"$ref\": {}", short(value)), at));
        }
        if self.find(reference).is_none() {
            return Err(wrong(at, &format!("nothing is at {reference:?}")));
        }
        // A path into what is no place of a schema would not be prepared along with the rest.
        let is_plain = reference == "#"
            || reference.strip_prefix("#/").is_some_and(|path| {
                let parts: Vec<&str> = path.split('/').collect();
                matches!(parts[..], ["$defs" | "definitions", name] if !name.contains(['~', '%']))
            });
        if is_plain {
            return Ok(value.clone());
        }
        let n = self.copies.iter().position(|copy| copy == reference).unwrap_or_else(|| {
            self.copies.push(reference.clone());
            self.copies.len() - 1
        });
        Ok(Value::String(format!("#/{COPIES}/{n}")))
    }

    /// What a reference within the document refers to.
    fn find(&self, reference: &str) -> Option<&'a Value> {
        let path = percent_decoded(reference.strip_prefix('#')?)?;
        if path.is_empty() || path == "/" {
            return Some(self.root);
        }
        if path.starts_with('/') {
            return self.root.pointer(&path);
        }
        find_anchor(self.root, &path, 0)
    }
}

fn find_anchor<'a>(value: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    if depth > 2 * MAX_DEPTH {
        return None;
    }
    match value {
        Value::Object(fields) if fields.get("$anchor").and_then(Value::as_str) == Some(name) => Some(value),
        Value::Object(fields) => fields.values().find_map(|value| find_anchor(value, name, depth + 1)),
        Value::Array(items) => items.iter().find_map(|value| find_anchor(value, name, depth + 1)),
        _ => None,
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn wrong(at: &str, message: &str) -> ConstraintError {
    ConstraintError::Schema { at: at.to_owned(), message: message.to_owned() }
}

fn not_kept(keyword: &str, at: &str) -> ConstraintError {
    ConstraintError::Keyword { keyword: keyword.to_owned(), at: at.to_owned() }
}

/// A value for a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
