// SPDX-License-Identifier: Apache-2.0
//! What is counted. Names are Tinkerbell's where it has them.

use daemon::metrics::{Counter, Family, Gauge};
use tftp::{Dropped, Outcome};

/// Counters by `N` labels.
type By<const N: usize> = Family<[(&'static str, String); N], Counter>;

/// The daemon's counters.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    dhcp: By<2>,
    silence: By<1>,
    jobs: By<2>,
    requests: By<2>,
    syslog: By<1>,
    tftp: By<1>,
    tftp_dropped: By<1>,
    tftp_bytes: Counter,
    tftp_resent: Counter,
    repeated: Counter,
    captured: By<1>,
    problems: Counter,
    machines: Gauge,
}

impl Metrics {
    pub(crate) fn register(all: &daemon::metrics::Metrics) -> Self {
        Self {
            dhcp: all.register("dhcp", "DHCP messages by direction and type", Family::default()),
            silence: all.register("boots_dhcp_silence", "DHCP messages not answered", Family::default()),
            jobs: all.register("jobs", "Files and scripts served, by protocol and kind", Family::default()),
            requests: all.register("http_server_requests", "HTTP requests", Family::default()),
            syslog: all.register(
                "boots_syslog_messages",
                "Log messages by what became of them: kept, unknown (no machine), rate, dropped, failed",
                Family::default(),
            ),
            tftp: all.register("boots_tftp_transfers", "TFTP transfers by how they ended", Family::default()),
            tftp_dropped: all.register(
                "boots_tftp_dropped",
                "TFTP requests dropped by the limit that was reached",
                Family::default(),
            ),
            tftp_bytes: all.register(
                "boots_tftp_bytes",
                "Bytes that TFTP clients acknowledged",
                Counter::default(),
            ),
            tftp_resent: all.register(
                "boots_tftp_blocks_resent",
                "TFTP blocks sent again",
                Counter::default(),
            ),
            repeated: all.register(
                "boots_repeated",
                "What a machine did again within a second and was not told again, in no log and no Event",
                Counter::default(),
            ),
            captured: all.register(
                "boots_captured_packets",
                "Packets of boots by what became of them: kept, full (the machine's file), dropped, failed",
                Family::default(),
            ),
            problems: all.register(
                "boots_hardware_problems",
                "Fields of Hardware that could not be used",
                Counter::default(),
            ),
            machines: all.register("boots_machines", "Hardware objects known", Gauge::default()),
        }
    }

    /// Something that is not told again.
    pub(crate) fn repeated(&self) {
        self.repeated.inc();
    }

    /// A DHCP message came (`recv`) or left (`send`).
    pub(crate) fn dhcp(&self, op: &'static str, kind: &'static str) {
        self.dhcp.get_or_create(&[("op", op.to_owned()), ("type", kind.to_owned())]).inc();
    }

    pub(crate) fn silence(&self, reason: &'static str) {
        self.silence.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// Something was served over `from` (`tftp`, `http`): a `program`, `script` or `file`.
    pub(crate) fn job(&self, from: &'static str, op: &'static str) {
        self.jobs.get_or_create(&[("from", from.to_owned()), ("op", op.to_owned())]).inc();
    }

    pub(crate) fn request(&self, method: &http::Method, status: http::StatusCode) {
        // A method is anything a client likes; only the known ones become labels.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        let labels = [("method", method.to_owned()), ("status_code", status.as_str().to_owned())];
        self.requests.get_or_create(&labels).inc();
    }

    /// Log messages came, and this became of them.
    pub(crate) fn syslog(&self, result: &'static str, messages: usize) {
        self.syslog.get_or_create(&[("result", result.to_owned())]).inc_by(messages as u64);
    }

    /// A TFTP transfer ended.
    pub(crate) fn tftp(&self, report: &tftp::Report) {
        let outcome = match report.outcome {
            Outcome::Complete => "complete",
            Outcome::Unconfirmed => "unconfirmed",
            Outcome::Aborted { .. } => "aborted",
            Outcome::Lost => "lost",
            Outcome::Failed(_) => "failed",
            Outcome::Replaced => "replaced",
        };
        self.tftp.get_or_create(&[("outcome", outcome.to_owned())]).inc();
        self.tftp_bytes.inc_by(report.acknowledged);
        self.tftp_resent.inc_by(report.resent);
    }

    /// A TFTP request was dropped.
    pub(crate) fn tftp_dropped(&self, reason: Dropped) {
        let limit = match reason {
            Dropped::ClientLimit => "client",
            Dropped::ServerLimit => "server",
            Dropped::Rate => "rate",
        };
        self.tftp_dropped.get_or_create(&[("limit", limit.to_owned())]).inc();
    }

    /// Packets of boots were to be kept, and this became of them.
    pub(crate) fn captured(&self, result: &'static str, packets: usize) {
        self.captured.get_or_create(&[("result", result.to_owned())]).inc_by(packets as u64);
    }

    pub(crate) fn problems(&self, count: usize) {
        self.problems.inc_by(count as u64);
    }

    pub(crate) fn machines(&self, count: usize) {
        self.machines.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
