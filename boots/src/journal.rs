// SPDX-License-Identifier: Apache-2.0
//! What was seen of each machine's boot: advances its boot session and says so in Events, logs and metrics, and hands its packets
//! on to be kept.
//!
//! One clone-able handle, shared by DHCP, TFTP and HTTP. The sessions are behind a lock that is held for one map access
//! and never across an await. It decides nothing about answers.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::Mac;
use api::events::Reason;
use daemon::events::Recorder;
use dhcp::{NetbootClient, UserClass};

use crate::backend::Found;
use crate::boot::{Protocol, refuses};
use crate::capture::{Captures, Packet};
use crate::metrics::Metrics;
use crate::session::{BootSession, Exchange, Sessions, Stage};

/// How something was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Tftp,
    Http,
}

/// Whether a DHCP answer is an offer, or the end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    Offered,
    Granted,
}

/// The address in it; without one, who gives addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    Address(IpAddr),
    BesideServer,
    BesideRouter,
}

/// The handle.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    sessions: Arc<Mutex<Sessions>>,
    recorder: Recorder,
    metrics: Metrics,
    captures: Option<Captures>,
}

impl Via {
    fn label(self) -> &'static str {
        match self {
            Self::Tftp => "tftp",
            Self::Http => "http",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
        }
    }
}

impl Journal {
    /// Without a place for packets none are kept.
    pub(crate) fn new(recorder: Recorder, metrics: Metrics, captures: Option<Captures>) -> Self {
        Self { sessions: Arc::default(), recorder, metrics, captures }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The boot that a network-boot client's message belongs to, a new one if it begins one.
    pub(crate) fn asked(&self, mac: Mac, message: Exchange, class: UserClass) -> BootSession {
        self.sessions().asked(mac, message, class, now()).clone()
    }

    /// The boot number for the token of a script.
    pub(crate) fn boot(&self, mac: Mac) -> u64 {
        self.sessions().reach(mac, Stage::Asking, now()).boot
    }

    /// The number of the machine's last boot, if one was seen. What an operating system says neither begins nor continues one.
    pub(crate) fn last_boot(&self, mac: Mac) -> Option<u64> {
        self.sessions().last(mac)
    }

    /// The machine whose last script went to this address, from wherever it has the address.
    pub(crate) fn at(&self, address: IpAddr) -> Option<Mac> {
        self.sessions().at(address)
    }

    /// Keeps a packet of a machine, which is made only when its boot goes on and has not had its packets. Waits for nothing.
    pub(crate) fn packet(&self, found: &Found, make: impl FnOnce() -> Packet) {
        let Some(captures) = &self.captures else { return };
        let Some(boot) = self.sessions().packet(found.nic().mac, now()) else { return };
        if !captures.put(found, boot, make()) {
            self.metrics.captured("dropped", 1);
        }
    }

    /// The same for what only a boot asks for: if none goes on, one begins with it.
    pub(crate) fn boot_packet(&self, found: &Found, make: impl FnOnce() -> Packet) {
        if self.captures.is_some() {
            self.boot(found.nic().mac);
            self.packet(found, make);
        }
    }

    /// Its kernel or agent wrote to the log server.
    pub(crate) fn logged(&self, found: &Found, reason: Reason, boot: Option<u64>, message: String) {
        let reference = &found.machine.reference();
        self.recorder.record(reference, reason.as_str(), reason.phase(), boot, message, reason.is_warning());
    }

    /// An answer went to a network-boot client.
    pub(crate) fn leased(
        &self,
        found: &Found,
        (answer, given): (Lease, Given),
        client: &NetbootClient,
        file: Option<&str>,
    ) {
        let (reason, stage) = match answer {
            Lease::Offered => (Reason::DhcpOffered, Stage::Asking),
            Lease::Granted => (Reason::DhcpAcknowledged, Stage::Leased),
        };
        let boot = self.sessions().reach(found.nic().mac, stage, now()).boot;
        self.event(found, reason, boot, || {
            let who = match client.user_class {
                UserClass::Firmware => format!("{} firmware of {}", client.kind.vendor_class(), client.arch),
                class => format!("{} on {}", class.name(), client.arch),
            };
            let what = file.map_or_else(|| "no boot file".to_owned(), |file| format!("boot file {file}"));
            let given = match given {
                Given::Address(address) => address.to_string(),
                Given::BesideServer => "boot data beside another DHCP server".to_owned(),
                Given::BesideRouter => "boot data beside the router's addresses".to_owned(),
            };
            format!("{given} to {who}, {what}")
        });
        if file.is_none() && reason == Reason::DhcpAcknowledged && refuses(found.nic(), Protocol::Dhcp) {
            self.refused(found);
        }
    }

    /// A boot program was sent to its end.
    pub(crate) fn program(&self, found: &Found, via: Via, program: &str, bytes: u64) {
        self.metrics.job(via.label(), "program");
        let boot = self.sessions().loaded(found.nic().mac, program, now()).boot;
        self.event(found, Reason::BootProgramSent, boot, || {
            format!("{program}, {bytes} bytes over {}", via.name())
        });
    }

    /// A script was sent to this address. One that only hands back to the firmware is told by [`Journal::refused`].
    pub(crate) fn script(&self, found: &Found, via: Via, to: Option<IpAddr>) {
        if refuses(found.nic(), Protocol::Ipxe) {
            return;
        }
        self.metrics.job(via.label(), "script");
        let boot = self.sessions().scripted(found.nic().mac, to, now()).boot;
        self.event(found, Reason::ScriptSent, boot, || format!("script over {}", via.name()));
    }

    /// Kernel or initramfs was sent to its end.
    pub(crate) fn kernel(&self, found: &Found, reason: Reason, name: &str, bytes: u64, took: Duration) {
        self.metrics.job("http", "file");
        let boot = self.sessions().reach(found.nic().mac, Stage::Kernel, now()).boot;
        self.event(found, reason, boot, || format!("{name}, {bytes} bytes in {:.1} s", took.as_secs_f64()));
    }

    /// Its BMC reads an ISO image, which it does in thousands of pieces: the first of a boot is told.
    pub(crate) fn iso(&self, found: &Found, size: u64, markers: usize) {
        self.metrics.job("http", "iso");
        let (boot, first) = self.sessions().image(found.nic().mac, now());
        if first {
            let places = if markers == 1 { "place" } else { "places" };
            self.event(found, Reason::IsoRead, boot, || {
                format!("ISO image of {size} bytes, with its kernel arguments in {markers} {places} so far")
            });
        }
    }

    /// The machine asked to boot from the network and may not.
    pub(crate) fn refused(&self, found: &Found) {
        let boot = self.boot(found.nic().mac);
        let text = "asked for network boot, but netboot.allowPXE of its Hardware is not true";
        self.event(found, Reason::NetbootRefused, boot, || text.to_owned());
    }

    /// The machine found the address that it was given in use by another host, and does not take it (DECLINE).
    pub(crate) fn declined(&self, found: &Found, address: Option<IpAddr>) {
        let machine = &found.machine;
        let address = address.map_or_else(|| "its address".to_owned(), |address| address.to_string());
        tracing::warn!(
            machine = machine.name,
            mac = %found.nic().mac,
            address,
            "a machine found the address that it was given in use by another host"
        );
        let (reason, phase) = (Reason::AddressConflict.as_str(), Reason::AddressConflict.phase());
        let message = format!("{address} is in use by another host on the network: the machine declined it");
        self.recorder.record(
            &machine.reference(),
            reason,
            phase,
            None,
            message,
            Reason::AddressConflict.is_warning(),
        );
    }

    /// Writes to the log and to the Events. A client that asks for the same thing again and again fills neither.
    fn event(&self, found: &Found, reason: Reason, boot: u64, message: impl FnOnce() -> String) {
        let machine = &found.machine;
        if !self.sessions().tells(found.nic().mac, reason, now()) {
            self.metrics.repeated();
            return;
        }
        let message = message();
        tracing::info!(
            machine = machine.name,
            mac = %found.nic().mac,
            boot,
            reason = reason.as_str(),
            detail = message,
            "network boot"
        );
        let warning = reason.is_warning();
        self.recorder.record(
            &machine.reference(),
            reason.as_str(),
            reason.phase(),
            Some(boot),
            message,
            warning,
        );
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // Every change is one assignment, so a panic elsewhere leaves them whole.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;

    use daemon::Health;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// A journal whose Events go nowhere, inside a runtime.
    pub(crate) fn journal() -> Journal {
        let api = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, Infallible>>()
        });
        let (health, client) = (Health::new(), kube::Client::new(api, "default"));
        let (recorder, _) = Recorder::spawn(client, "boots", health.metrics(), CancellationToken::new());
        Journal::new(recorder, Metrics::register(health.metrics()), None)
    }
}
