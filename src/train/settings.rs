//! What a run was asked to do, as far as its result depends on it.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::TrainError;

/// Names (of flags, most often) and values, as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: String,
    /// What the value follows from, as far as it can be said.
    parts: Vec<(String, String)>,
}

/// What a part or a setting has that is not there.
const NOTHING: &str = "nothing";

impl Settings {
    /// Adds one.
    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.set_of(name, value, Vec::new());
    }

    /// Adds one whose value says nothing to people, such as a hash. Where it differs, the first of its `parts` that does is named instead.
    pub fn set_of(&mut self, name: &'static str, value: impl ToString, parts: Vec<(String, String)>) {
        self.0.push(Setting { name, value: value.to_string(), parts });
    }

    /// Errs where `saved` has another value of one.
    pub(super) fn check(&self, saved: &Map<String, Value>, path: &Path) -> Result<(), TrainError> {
        for setting in &self.0 {
            let before = saved.get(setting.name).and_then(Value::as_str).unwrap_or(NOTHING);
            if before != setting.value {
                let parts = saved.get(&key_of_parts(setting.name)).and_then(Value::as_object);
                let whole = || (setting.name.to_owned(), setting.value.clone(), before.to_owned());
                let (what, found, expected) =
                    parts.and_then(|parts| setting.other_part(parts)).unwrap_or_else(whole);
                return Err(TrainError::OtherRun { path: path.to_owned(), what, found, expected });
            }
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = Map::new();
        for Setting { name, value, parts } in &self.0 {
            json.insert((*name).to_owned(), value.as_str().into());
            if !parts.is_empty() {
                let parts = parts.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
                json.insert(key_of_parts(name), parts.collect::<Map<_, _>>().into());
            }
        }
        json.into()
    }
}

impl Setting {
    /// The first part that differs: its name, its value, and the one that was saved.
    fn other_part(&self, saved: &Map<String, Value>) -> Option<(String, String, String)> {
        let before = |name: &str| saved.get(name).and_then(Value::as_str).unwrap_or(NOTHING).to_owned();
        let other = self.parts.iter().find(|(name, value)| before(name) != *value);
        let gone = || saved.keys().find(|key| self.parts.iter().all(|(name, _)| name != *key));
        match other {
            Some((name, value)) => Some((name.clone(), value.clone(), before(name))),
            None => gone().map(|name| (name.clone(), NOTHING.to_owned(), before(name))),
        }
    }
}

/// Where the parts of a setting are, beside its value.
fn key_of_parts(name: &str) -> String {
    format!("parts of {name}")
}
