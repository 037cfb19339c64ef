//! JSON Schema, in as few words as the descriptions of many fields need.

use serde_json::{Map, Value, json};

/// Fields of an object, by name.
pub type Fields = Map<String, Value>;

/// Fields from pairs of a name and a schema.
pub fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Fields {
    pairs.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// Any text.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// One of these texts.
pub fn one_of(texts: &[&str]) -> Value {
    json!({"type": "string", "enum": texts})
}

/// True or false.
pub fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// A number that a 32-bit float can hold.
pub fn number() -> Value {
    json!({"type": "number", "format": "float"})
}

/// A number above 0 that a 32-bit float can hold.
pub fn positive() -> Value {
    json!({"type": "number", "format": "float", "exclusiveMinimum": 0})
}

/// A whole number within bounds.
pub fn whole(min: i64, max: i64) -> Value {
    json!({"type": "integer", "minimum": min, "maximum": max})
}

/// How many of something.
pub fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// A list.
pub fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// One of several schemas.
pub fn any_of<const N: usize>(schemas: [Value; N]) -> Value {
    json!({"anyOf": schemas.to_vec()})
}

/// An object of any kind.
pub fn any_object() -> Value {
    json!({"type": "object"})
}

/// A schema of the components.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A schema, or null.
pub fn or_null(schema: Value) -> Value {
    match schema {
        Value::Object(mut fields) if fields.contains_key("type") && !fields.contains_key("enum") => {
            let mut types = match fields.remove("type") {
                Some(Value::Array(types)) => types,
                Some(one) => vec![one],
                None => Vec::new(),
            };
            if !types.iter().any(|kind| kind == "null") {
                types.push("null".into());
            }
            fields.insert("type".to_owned(), types.into());
            Value::Object(fields)
        }
        // Any value at all: null is one.
        Value::Object(fields)
            if !["$ref", "anyOf", "enum", "const"].iter().any(|key| fields.contains_key(*key)) =>
        {
            Value::Object(fields)
        }
        other => any_of([other, json!({"type": "null"})]),
    }
}

/// What a field is for.
pub fn about(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

/// What stands where nothing is said.
pub fn default(mut schema: Value, value: impl Into<Value>) -> Value {
    schema["default"] = value.into();
    schema
}

/// An object of a request. Fields that are not required may be null, which is as if they were left out; unknown ones are ignored.
pub fn request(required: &[&str], fields: Fields) -> Value {
    let properties: Fields = fields
        .into_iter()
        .map(|(name, schema)| {
            let schema = if required.contains(&&*name) { schema } else { or_null(schema) };
            (name, schema)
        })
        .collect();
    object(required, properties)
}

/// An object of a response. More fields may come with newer versions.
pub fn object(required: &[&str], properties: Fields) -> Value {
    let mut object = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

/// An object of a response that always has all of these.
pub fn whole_object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let required: Vec<String> = pairs.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut object = object(&[], fields(pairs));
    object["required"] = required.into();
    object
}

/// The fields of several parts together.
pub fn together<const N: usize>(parts: [Fields; N]) -> Fields {
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_may_be_null() {
        assert_eq!(or_null(text()), json!({"type": ["string", "null"]}));
        assert_eq!(or_null(or_null(text())), json!({"type": ["string", "null"]}));
        assert_eq!(or_null(json!({"description": "anything"})), json!({"description": "anything"}));
        let nothing = json!({"type": "null"});
        assert_eq!(or_null(reference("X")), json!({"anyOf": [reference("X"), nothing]}));
        assert_eq!(or_null(one_of(&["a"])), json!({"anyOf": [one_of(&["a"]), nothing]}));
        let object = request(&["a"], fields([("a", text()), ("b", text())]));
        assert_eq!(object["properties"]["a"], text());
        assert_eq!(object["properties"]["b"], or_null(text()));
        assert_eq!(object["required"], json!(["a"]));
    }
}
