// SPDX-License-Identifier: Apache-2.0
//! What is counted.

use daemon::metrics::{Counter, Family};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    NoSuchPath,
    UnknownMachine,
    AmbiguousMachine,
    BadAddress,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoSuchPath => "no-such-path",
            Self::UnknownMachine => "unknown-machine",
            Self::AmbiguousMachine => "ambiguous-machine",
            Self::BadAddress => "bad-address",
        }
    }
}

/// The daemon's counters.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    pub(crate) fn register(metrics: &daemon::metrics::Metrics) -> Self {
        Self {
            requests: metrics.register("hegel_requests", "Metadata requests by outcome", Family::default()),
        }
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        self.requests.get_or_create(&[("outcome", outcome.label())]).inc();
    }
}
