// SPDX-License-Identifier: Apache-2.0

//! What rufio counts.

use daemon::metrics::{Counter, Family, Metrics as Registry};

use crate::bmc::{Driver, Fault, FaultKind};
use crate::pool::Answer;

/// A counter by two labels.
type ByTwo = Family<[(&'static str, &'static str); 2], Counter>;

/// The daemon's counters.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: ByTwo,
    ended: ByTwo,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.register(
                "rufio_bmc_requests",
                "Requests to BMCs by protocol and outcome",
                Family::default(),
            ),
            ended: registry.register(
                "rufio_ended",
                "Jobs and Tasks that ended, by outcome",
                Family::default(),
            ),
        }
    }

    pub(crate) fn request(&self, result: &Result<Answer, Fault>) {
        let (driver, outcome) = match result {
            Ok(answer) => (driver_label(answer.driver), "ok"),
            Err(fault) => ("none", fault_label(fault.kind)),
        };
        self.requests.get_or_create(&[("driver", driver), ("outcome", outcome)]).inc();
    }

    pub(crate) fn ended(&self, kind: &'static str, completed: bool) {
        let outcome = if completed { "completed" } else { "failed" };
        self.ended.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
    }
}

fn driver_label(driver: Driver) -> &'static str {
    match driver {
        Driver::Redfish => "redfish",
        Driver::Ipmi => "ipmi",
    }
}

fn fault_label(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Unreachable => "unreachable",
        FaultKind::Busy => "busy",
        FaultKind::Refused => "refused",
        FaultKind::Unsupported => "unsupported",
        FaultKind::Config => "config",
        FaultKind::Tls => "tls",
        FaultKind::Auth => "auth",
    }
}
