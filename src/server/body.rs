//! Bodies of requests: JSON, and messages that name the field in which something is wrong.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tower_http::timeout::TimeoutError;

use super::error::ApiError;
use super::numbers;

/// Bytes of a body, at most.
pub const MAX_BODY_BYTES: usize = 32 << 20;

/// A JSON object that was sent.
#[derive(Clone, Debug)]
pub struct Body {
    value: Value,
    /// What `?autoload=` says.
    autoload: Option<bool>,
}

impl Body {
    /// The fields that `T` has; the others are left alone.
    ///
    /// # Errors
    /// A field of another type than expected, by name.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read(&self.value)
    }

    /// The model that is asked for.
    ///
    /// # Errors
    /// It is no text.
    pub fn model(&self) -> Result<Option<&str>, ApiError> {
        match self.get("model") {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(other) => Err(ApiError::field("model", kind(other), "a text")),
        }
    }

    /// The object itself.
    pub fn fields(&self) -> &Map<String, Value> {
        self.value.as_object().expect("checked when it was read")
    }

    /// Refuses fields that the interface has and this server has not; each comes with what is expected in its place.
    ///
    /// # Errors
    /// The first of them that asks for something.
    pub fn refuse(&self, fields: &[(&str, &str)]) -> Result<(), ApiError> {
        match fields.iter().find_map(|(name, expected)| Some((name, self.asking(name)?, expected))) {
            Some((name, value, expected)) => Err(ApiError::field(name, kind(value), expected)),
            None => Ok(()),
        }
    }

    /// Logs fields that the interface has and that change nothing here.
    pub fn warn_without_effect(&self, names: &[&str]) {
        let given: Vec<&str> = names.iter().copied().filter(|name| self.asking(name).is_some()).collect();
        if !given.is_empty() {
            tracing::warn!("fields without effect: {}", given.join(", "));
        }
    }

    /// The value of a field that asks for something: null, false and empty lists do not.
    fn asking(&self, name: &str) -> Option<&Value> {
        let asks = |value: &&Value| match value {
            Value::Bool(wanted) => *wanted,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        self.get(name).filter(asks)
    }

    /// The value of a field, unless it is null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields().get(name).filter(|value| !value.is_null())
    }

    /// Whether the model is to be loaded if it is not, where the request says so.
    pub fn autoload(&self) -> Option<bool> {
        self.autoload
    }
}

impl From<Map<String, Value>> for Body {
    fn from(fields: Map<String, Value>) -> Body {
        Body { value: Value::Object(fields), autoload: None }
    }
}

/// A value as `T`.
///
/// # Errors
/// A part of another type than expected; the message has its path.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (mut path, message) = (error.path().to_string(), error.inner().to_string());
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        if let Some(field) = missing {
            path = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
        }
        let number = || numbers::describe(value, error.path());
        let message = match number().filter(|_| message == "invalid number") {
            Some(number) => format!("found {number}, expected a whole number in the field's range"),
            None if missing.is_some() => "found nothing, expected a value".to_owned(),
            None => plain(message, number),
        };
        let error = if path == "." { message } else { format!("{path}: {message}") };
        ApiError::invalid(error).with("param", path)
    })
}

/// What serde says, without the names of Rust's types.
fn plain(message: String, number: impl FnOnce() -> Option<String>) -> String {
    let prefixes = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    let Some(rest) = prefixes.iter().find_map(|prefix| message.strip_prefix(prefix)) else { return message };
    let Some((found, expected)) = rest.split_once(", expected ") else { return format!("found {rest}") };
    let number = number();
    let found = match found {
        // serde_json does not always say which number it was, and sometimes of which type of Rust's.
        _ if number.is_some() => number.as_deref().unwrap_or_default(),
        "sequence" => "a list",
        "map" => "an object",
        "null" | "unit value" => "nothing",
        other => other,
    };
    let expected = match expected {
        "a sequence" => "a list",
        "f32" | "f64" => "a number",
        "u8" => u8::EXPECTED,
        "u32" => u32::EXPECTED,
        "i32" => i32::EXPECTED,
        "i64" | "u64" | "usize" => i64::EXPECTED,
        "a map" => "an object",
        kind if kind.starts_with("struct ") || kind.starts_with("internally tagged enum ") => "an object",
        other => other,
    };
    format!("found {found}, expected {expected}")
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Body, ApiError> {
        let autoload = autoload(request.uri().query())?;
        match json(request).await? {
            value @ Value::Object(_) => Ok(Body { value, autoload }),
            other => {
                Err(ApiError::invalid(format!("the body: found {}, expected a JSON object", kind(&other))))
            }
        }
    }
}

/// `autoload` of a query, as llama-server's router has it.
///
/// # Errors
/// It is neither true nor false.
pub fn autoload(query: Option<&str>) -> Result<Option<bool>, ApiError> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.find(|(name, _)| *name == "autoload").map(|(_, value)| value) {
        None | Some("") => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(ApiError::field("autoload", format_args!("{other:?}"), "true or false")),
    }
}

/// The body as JSON.
///
/// # Errors
/// It is said to be something else, or is none; as [`bytes`].
pub async fn json(request: Request) -> Result<Value, ApiError> {
    check_type(request.headers())?;
    let bytes = bytes(request).await?;
    if bytes.len() < 1 << 16 { parse(&bytes) } else { super::answer::blocking(move || parse(&bytes)).await }
}

/// The whole body.
///
/// # Errors
/// It is too long, or does not come to its end.
pub async fn bytes(request: Request) -> Result<axum::body::Bytes, ApiError> {
    let too_large = || {
        let message = format!("the body is too large: expected at most {MAX_BODY_BYTES} bytes");
        ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(broken_off(&*error)),
    }
}

/// Why a body did not come to its end.
pub(super) fn broken_off(error: &(dyn std::error::Error + 'static)) -> ApiError {
    if is_timeout(error) {
        return ApiError::refused(StatusCode::REQUEST_TIMEOUT, "the body does not come (--timeout)");
    }
    ApiError::invalid(format!("the body does not come to its end: {error}"))
}

/// Whether the client was waited for too long.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TimeoutError>())
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let mut value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid(format!("the body is not valid JSON: {error}")))?;
    numbers::settle(&mut value);
    Ok(value)
}

/// Accepts JSON, and what says nothing or is `curl -d`'s default; pages elsewhere can send `text/plain` and forms with files unasked.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(sent) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let sent = sent.to_str().unwrap_or("(not text)");
    let essence = sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "application/x-www-form-urlencoded" | "" => Ok(()),
        json if json.starts_with("application/") && json.ends_with("+json") => Ok(()),
        _ => {
            let message = format!("Content-Type: found {sent}, expected application/json");
            Err(ApiError::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A whole number, which may be written as `8.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole<T>(pub T);

/// Types of whole numbers, with words for what they hold.
pub trait WholeNumber: TryFrom<i64> {
    /// What is expected.
    const EXPECTED: &'static str;
}

impl WholeNumber for u8 {
    const EXPECTED: &'static str = "a whole number from 0 to 255";
}

impl WholeNumber for i32 {
    const EXPECTED: &'static str = "a whole number from -2147483648 to 2147483647";
}

impl WholeNumber for u32 {
    const EXPECTED: &'static str = "a whole number from 0 to 4294967295";
}

impl WholeNumber for i64 {
    const EXPECTED: &'static str = "a whole number of 64 bits";
}

impl<'de, T: WholeNumber> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole<T>, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<T: WholeNumber> Visitor<'_> for Reader<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Whole<T>, E> {
                T::try_from(n).map(Whole).map_err(|_| E::invalid_value(Unexpected::Signed(n), &T::EXPECTED))
            }

            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Whole<T>, E> {
                match i64::try_from(n) {
                    Ok(n) => self.visit_i64(n),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(n), &T::EXPECTED)),
                }
            }

            fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Whole<T>, E> {
                // Beyond 2⁵³ a float no longer says which whole number is meant.
                if x.fract() == 0.0 && x.abs() < 9e15 {
                    self.visit_i64(x as i64)
                } else {
                    Err(E::invalid_value(Unexpected::Float(x), &T::EXPECTED))
                }
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

/// A number that 32 bits can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Real(pub f32);

impl Real {
    /// The number, unless it is too large.
    pub fn of(x: f64) -> Option<Real> {
        (x.abs() <= f32::MAX.into()).then_some(Real(x as f32))
    }
}

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Real, D::Error> {
        let x = f64::deserialize(deserializer)?;
        let expected = "a number from -3.4e38 to 3.4e38";
        Real::of(x).ok_or_else(|| D::Error::invalid_value(Unexpected::Float(x), &expected))
    }
}

/// A number of tokens of which −1 is no limit, as in `n_predict` and `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<usize>);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        match Whole::<i64>::deserialize(deserializer)?.0 {
            // -2 is until the context is full, where every answer ends.
            -1 | -2 => Ok(Limit(None)),
            n => usize::try_from(n).map(|n| Limit(Some(n))).map_err(|_| {
                D::Error::invalid_value(Unexpected::Signed(n), &"a number of tokens, or -1 for no limit")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        #[serde(default)]
        top_k: Option<Whole<i32>>,
        #[serde(default)]
        n_predict: Option<Limit>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        on: bool,
    }

    fn wrong(value: Value) -> String {
        read::<Sample>(&value).unwrap_err().message.into_owned()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            wrong(json!({"top_k": "many"})),
            "top_k: found string \"many\", expected a whole number from -2147483648 to 2147483647"
        );
        assert_eq!(
            wrong(json!({"top_k": u64::MAX})),
            format!(
                "top_k: found integer `{}`, expected a whole number from -2147483648 to 2147483647",
                u64::MAX
            )
        );
        assert_eq!(
            wrong(json!({"n_predict": -3})),
            "n_predict: found integer `-3`, expected a number of tokens, or -1 for no limit"
        );
        assert_eq!(wrong(json!({"inner": {"on": 1}})), "inner.on: found integer `1`, expected a boolean");
        assert!(wrong(json!({"top_k": 1.5})).starts_with("top_k: found floating point `1.5`"));
        let long = "123456789012345678901234567890";
        let long = serde_json::from_str(&format!(r#"{{"top_k": {long}, "inner": {long}}}"#)).unwrap();
        assert_eq!(
            wrong(long),
            "top_k: found integer `123456789012345678901234567890`, expected a whole number from -2147483648 to 2147483647"
        );
    }

    #[test]
    fn names_of_rust_are_not_told() {
        assert_eq!(wrong(json!({"inner": 7})), "inner: found integer `7`, expected an object");
        assert_eq!(wrong(json!({"inner": {}})), "inner.on: found nothing, expected a value");
        assert_eq!(wrong(json!({"inner": {"on": []}})), "inner.on: found a list, expected a boolean");
        let list = read::<Vec<u32>>(&json!({})).unwrap_err().message;
        assert_eq!(list, "found an object, expected a list");
        let number = read::<Vec<u32>>(&json!([1, -1])).unwrap_err().message;
        assert_eq!(number, "[1]: found integer `-1`, expected a whole number in the field's range");
        let number = read::<Vec<Whole<u32>>>(&json!([1, -1])).unwrap_err().message;
        assert_eq!(number, "[1]: found integer `-1`, expected a whole number from 0 to 4294967295");
        let real = read::<Vec<Real>>(&json!([1e39])).unwrap_err().message;
        assert_eq!(real, "[0]: found floating point `1e+39`, expected a number from -3.4e38 to 3.4e38");
    }

    #[test]
    fn whole_numbers_may_be_written_as_floats_and_null_is_nothing() {
        let sample: Sample = read(&json!({"top_k": 8.0, "n_predict": -1, "other": []})).unwrap();
        assert_eq!((sample.top_k, sample.n_predict), (Some(Whole(8)), Some(Limit(None))));
        let sample: Sample = read(&json!({"top_k": null, "inner": null})).unwrap();
        assert!(sample.top_k.is_none() && sample.inner.is_none());
        let sample: Sample = read(&json!({"inner": {"on": true, "off": 1}})).unwrap();
        assert!(sample.inner.unwrap().on);
    }

    #[test]
    fn fields_that_ask_for_nothing_are_not_refused() {
        let body = |value: Value| Body { value, autoload: None };
        let refused = [("functions", "tools"), ("search", "none")];
        for fine in [json!({}), json!({"functions": null, "search": false}), json!({"functions": []})] {
            assert!(body(fine).refuse(&refused).is_ok());
        }
        let error = body(json!({"search": {}})).refuse(&refused).unwrap_err();
        assert_eq!(error.message, "search: found an object, expected none");
        assert_eq!(error.fields["param"], "search");
    }
}
