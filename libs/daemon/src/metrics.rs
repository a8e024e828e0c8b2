// SPDX-License-Identifier: Apache-2.0
//! The metrics of one daemon: registered once at start, read as OpenMetrics text under `/metrics`.
//!
//! Metric values are atomics: counting takes no lock. Label sets are arrays: `Family<[(&'static str, &'static str); 1], Counter>`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Metric, Registry};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A daemon's registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Adds a metric and returns it, so that `let x = metrics.register(..)` keeps the handle that counts. The name carries the
    /// daemon's prefix and no `_total`, which counters get by themselves.
    pub fn register<M: Metric + Clone>(&self, name: &'static str, help: &'static str, metric: M) -> M {
        self.lock().register(name, help, metric.clone());
        metric
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; a broken metric would end the text early, which scrapers report.
        encode(&mut text, &self.lock()).unwrap_or_default();
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        // The registry is only ever appended to, so that a panic elsewhere leaves it whole.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_appears_in_the_text_with_its_value() {
        let metrics = Metrics::default();
        let requests: Counter = metrics.register("hegel_requests", "Requests answered", Counter::default());
        requests.inc_by(3);
        let text = metrics.encode();
        assert!(text.contains("hegel_requests_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
