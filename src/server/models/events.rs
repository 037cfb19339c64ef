//! What becomes of models, for those who want to be told.

use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Events that a slow listener may be behind; then it misses some.
const MAX_BEHIND: usize = 256;

/// Tells of models that are loaded and unloaded. Nobody has to listen.
#[derive(Clone, Debug)]
pub struct Events(broadcast::Sender<Value>);

impl Events {
    /// Nobody listens yet.
    pub fn new() -> Events {
        Events(broadcast::Sender::new(MAX_BEHIND))
    }

    /// Everything from now on, as llama-server has it at `/models/sse`.
    pub fn listen(&self) -> broadcast::Receiver<Value> {
        self.0.subscribe()
    }

    /// A model has another status.
    pub fn status(&self, model: &str, status: &str) {
        self.send(model, "model_status", json!({ "status": status }));
    }

    /// A model could not be loaded.
    pub fn failed(&self, model: &str, why: &str) {
        let data = json!({"status": "unloaded", "failed": true, "exit_code": 1, "error": why});
        self.send(model, "model_status", data);
    }

    /// The list of models has changed.
    pub fn reloaded(&self) {
        self.send("*", "models_reload", Value::Null);
    }

    fn send(&self, model: &str, event: &str, data: Value) {
        let _ = self.0.send(json!({"model": model, "event": event, "data": data}));
    }
}
