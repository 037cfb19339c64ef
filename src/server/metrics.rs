//! Counts and times, for Prometheus.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::scheduler::{JobStats, SchedulerStats};

/// Bounds of the buckets of times, in seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// What has happened since the server was started.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    queue_wait: Histogram,
    first_token: Histogram,
    gap: Histogram,
    n_requests: AtomicU64,
    totals: Mutex<Totals>,
}

/// Sums over jobs that are over.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    n_prompt: u64,
    n_cached: u64,
    n_generated: u64,
    n_drafted: u64,
    n_accepted: u64,
    n_drafts: u64,
    n_embedded: u64,
    prefill: Duration,
    decode: Duration,
    n_tokens_max: u64,
    /// Counts since `/metrics` was last read, which rates are of.
    recent: Recent,
    /// Counts of schedulers that have ended, with the model they ran.
    n_passes: u64,
    n_texts_in_passes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    n_read: u64,
    prefill: Duration,
    /// Tokens but the first of each answer, which comes with the prompt.
    n_steps: u64,
    decode: Duration,
}

impl Metrics {
    /// Nothing has happened.
    pub fn new() -> Metrics {
        let histogram = || Histogram::new(SECONDS);
        Metrics {
            started: SystemTime::now(),
            queue_wait: histogram(),
            first_token: histogram(),
            gap: histogram(),
            n_requests: AtomicU64::new(0),
            totals: Mutex::default(),
        }
    }

    /// Seconds since 1970 at which the server was started.
    pub fn started(&self) -> u64 {
        self.started.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// A request was taken.
    pub fn request(&self) {
        self.n_requests.fetch_add(1, Relaxed);
    }

    /// A job has left the queue.
    pub fn left_queue(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// The first token of an answer was chosen, so long after the request was taken.
    pub fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    /// Another token was chosen, so long after the one before.
    pub fn gap(&self, gap: Duration) {
        self.gap.observe(gap.as_secs_f64());
    }

    /// Texts were embedded.
    pub fn embedded(&self, n_tokens: usize) {
        self.totals().n_embedded += n_tokens as u64;
    }

    /// A job is over.
    pub fn finished(&self, stats: &JobStats) {
        let n_read = (stats.n_prompt - stats.n_cached) as u64;
        let mut totals = self.totals();
        totals.n_prompt += n_read;
        totals.n_cached += stats.n_cached as u64;
        totals.n_generated += stats.n_generated as u64;
        totals.n_drafted += stats.n_drafted as u64;
        totals.n_accepted += stats.n_accepted as u64;
        totals.n_drafts += u64::from(stats.n_drafted > 0);
        totals.prefill += stats.prefill;
        totals.decode += stats.decode;
        totals.n_tokens_max = totals.n_tokens_max.max((stats.n_prompt + stats.n_generated) as u64);
        totals.recent.n_read += n_read;
        totals.recent.prefill += stats.prefill;
        totals.recent.n_steps += stats.n_generated.saturating_sub(1) as u64;
        totals.recent.decode += stats.decode;
    }

    /// A scheduler goes, and its counts with it.
    pub fn retire(&self, stats: &SchedulerStats) {
        let mut totals = self.totals();
        totals.n_passes += stats.n_passes as u64;
        totals.n_texts_in_passes += stats.n_texts_in_passes as u64;
    }

    /// Everything in Prometheus' text format. Rates begin anew.
    pub fn to_prometheus(&self, now: &SchedulerStats) -> String {
        let totals = {
            let mut totals = self.totals();
            let read = *totals;
            totals.recent = Recent::default();
            read
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Snapshot {
            totals,
            now: now.clone(),
            n_requests: self.n_requests.load(Relaxed),
        }));
        registry.register(
            "bise:queue_wait_seconds",
            "Time that requests waited for a slot",
            self.queue_wait.clone(),
        );
        registry.register(
            "bise:time_to_first_token_seconds",
            "Time from a request to the first token of its answer",
            self.first_token.clone(),
        );
        registry.register("bise:token_gap_seconds", "Time between two tokens of an answer", self.gap.clone());
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("strings take everything");
        // llama-server's counter of the longest text has a name without the ending of counters.
        text.replace("llamacpp:n_tokens_max_total", "llamacpp:n_tokens_max")
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is no histogram, at one moment.
#[derive(Debug)]
struct Snapshot {
    totals: Totals,
    now: SchedulerStats,
    n_requests: u64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Snapshot { totals, now, n_requests } = self;
        let recent = totals.recent;
        let n_passes = totals.n_passes + now.n_passes as u64;
        let n_texts = totals.n_texts_in_passes + now.n_texts_in_passes as u64;
        let rate = |n: u64, time: Duration| if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() };
        let mut counter = |name: &str, help: &str, value: f64| {
            ConstCounter::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)
        };
        let counters = [
            ("llamacpp:prompt_tokens", "Prompt tokens that were read", totals.n_prompt as f64),
            (
                "llamacpp:prompt_tokens_cached",
                "Prompt tokens that were found in the cache",
                totals.n_cached as f64,
            ),
            ("llamacpp:prompt_seconds", "Time spent on reading prompts", totals.prefill.as_secs_f64()),
            ("llamacpp:tokens_predicted", "Tokens that were generated", totals.n_generated as f64),
            (
                "llamacpp:tokens_predicted_seconds",
                "Time spent on generating them",
                totals.decode.as_secs_f64(),
            ),
            ("llamacpp:n_decode", "Passes of the model", n_passes as f64),
            ("llamacpp:n_tokens_max", "The longest text so far, in tokens", totals.n_tokens_max as f64),
            ("llamacpp:spec_decode_num_draft_tokens", "Tokens that were drafted", totals.n_drafted as f64),
            (
                "llamacpp:spec_decode_num_accepted_tokens",
                "Drafted tokens that were right",
                totals.n_accepted as f64,
            ),
            ("llamacpp:spec_decode_num_drafts", "Answers with drafts", totals.n_drafts as f64),
            ("bise:requests", "Requests that were taken", *n_requests as f64),
            ("bise:embedded_tokens", "Tokens of texts that were embedded", totals.n_embedded as f64),
        ];
        for (name, help, value) in counters {
            counter(name, help, value)?;
        }
        let mut gauge = |name: &str, help: &str, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        let busy = if n_passes == 0 { 0.0 } else { n_texts as f64 / n_passes as f64 };
        let gauges = [
            (
                "llamacpp:prompt_tokens_seconds",
                "Prompt tokens a second, since this was last read",
                rate(recent.n_read, recent.prefill),
            ),
            (
                "llamacpp:predicted_tokens_seconds",
                "Generated tokens a second and request, since this was last read",
                rate(recent.n_steps, recent.decode),
            ),
            ("llamacpp:requests_processing", "Requests under way", now.n_running as f64),
            ("llamacpp:requests_deferred", "Requests that wait for a slot", now.n_waiting as f64),
            ("llamacpp:n_busy_slots_per_decode", "Texts in a pass, on average", busy),
            ("bise:kv_pages", "Pages of keys and values in use", now.n_pages as f64),
            ("bise:kv_pages_cached", "Pages that hold prompts for later requests", now.n_cached_pages as f64),
            ("bise:kv_pages_max", "Pages that there may be", now.max_pages as f64),
        ];
        for (name, help, value) in gauges {
            gauge(name, help, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let lines: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect();
        assert_eq!(lines.len(), 1, "{name} in {text}");
        lines[0].parse().unwrap()
    }

    #[test]
    fn counts_add_up_and_rates_begin_anew() {
        let metrics = Metrics::new();
        let stats = JobStats {
            n_prompt: 10,
            n_cached: 4,
            n_generated: 5,
            prefill: Duration::from_secs(2),
            decode: Duration::from_secs(1),
            ..JobStats::default()
        };
        metrics.finished(&stats);
        metrics.finished(&stats);
        metrics.first_token(Duration::from_millis(20));
        let now = SchedulerStats { n_passes: 4, n_texts_in_passes: 6, ..SchedulerStats::default() };
        let text = metrics.to_prometheus(&now);
        for (name, expected) in [
            ("llamacpp:prompt_tokens_total", 12.0),
            ("llamacpp:prompt_tokens_cached_total", 8.0),
            ("llamacpp:tokens_predicted_total", 10.0),
            ("llamacpp:n_tokens_max", 15.0),
            ("llamacpp:prompt_tokens_seconds", 3.0),
            ("llamacpp:predicted_tokens_seconds", 4.0),
            ("llamacpp:n_busy_slots_per_decode", 1.5),
            ("bise:time_to_first_token_seconds_count", 1.0),
        ] {
            assert_eq!(value(&text, name), expected, "{name}");
        }
        assert!(text.contains("# TYPE llamacpp:n_tokens_max counter\n"), "{text}");
        metrics.retire(&now);
        let text = metrics.to_prometheus(&SchedulerStats::default());
        assert_eq!(value(&text, "llamacpp:predicted_tokens_seconds"), 0.0);
        assert_eq!(
            (value(&text, "llamacpp:n_decode_total"), value(&text, "llamacpp:n_tokens_max")),
            (4.0, 15.0)
        );
    }
}
