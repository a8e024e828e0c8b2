// SPDX-License-Identifier: Apache-2.0

//! What rufio asks of a BMC, whatever protocol it speaks.
//!
//! [`Bmc`] is an open session; [`Connector`] opens one. The pool is the only caller. Drivers carry out single requests and
//! report what they read; they decide nothing, retry nothing but datagrams and HTTP's own busy answers, and keep secrets
//! out of every text.

mod ipmi;
mod redfish;

use std::fmt;
use std::time::Duration;

use api::bmc::v1alpha1::BootDevice;
use futures::future::BoxFuture;

use crate::target::Target;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// Redfish over HTTPS.
    Redfish,
    /// IPMI 2.0 over UDP.
    Ipmi,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redfish => "Redfish",
            Self::Ipmi => "IPMI",
        })
    }
}

/// Power as the BMC reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// On.
    On,
    /// Off.
    Off,
    /// In between, or not told.
    Unknown,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        })
    }
}

/// One command to the power circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Power on.
    On,
    /// Power off at once.
    Off,
    /// Ask the operating system to shut down.
    Soft,
    /// Off and on again.
    Cycle,
    /// Reset without a power interruption.
    Reset,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "power on",
            Self::Off => "power off",
            Self::Soft => "soft power off",
            Self::Cycle => "power cycle",
            Self::Reset => "reset",
        })
    }
}

/// A boot device to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRequest {
    /// The device.
    pub device: BootDevice,
    /// For every boot, not only the next.
    pub persistent: bool,
    /// By UEFI.
    pub efi: bool,
}

/// The boot device as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReading {
    /// The device; `None` when none is set, or one that no request names.
    pub device: Option<BootDevice>,
    /// The BMC's own word for it.
    pub shown: String,
    /// Whether it holds for every boot; `None` when this BMC is known to lie about it.
    pub persistent: Option<bool>,
    /// Whether by UEFI; `None` when the BMC does not say.
    pub efi: Option<bool>,
}

/// Virtual media as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaReading {
    /// Whether something is inserted.
    pub inserted: bool,
    /// The image, when told.
    pub image: Option<String>,
}

/// What kind of failure it was, in the order of how much it tells when several protocols were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// No answer. Retried.
    Unreachable,
    /// An answer that says "not now". Retried.
    Busy,
    /// The BMC refuses the request, or its answer is unusable. Not retried.
    Refused,
    /// The BMC or the protocol cannot do it. Not retried.
    Unsupported,
    /// The object or the Secret is wrong. Not retried by Tasks, but read again.
    Config,
    /// TLS cannot be agreed on or the certificate is not trusted. Not retried.
    Tls,
    /// Wrong user name, password or privilege. Not retried: BMCs lock accounts.
    Auth,
}

/// A failure, as one sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// The sentence.
    pub message: String,
}

impl Fault {
    /// A failure of this kind.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Whether the same request may succeed a little later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, FaultKind::Unreachable | FaultKind::Busy)
    }
}

/// An open session with one BMC.
pub trait Bmc: Send {
    /// Which protocol it is.
    fn driver(&self) -> Driver;
    /// Reads the power state.
    fn power(&mut self) -> BoxFuture<'_, Result<Power, Fault>>;
    /// Sends a power command; returns once the BMC accepted it. [`FaultKind::Unsupported`] when it has no such command.
    fn switch(&mut self, switch: Switch) -> BoxFuture<'_, Result<(), Fault>>;
    /// Reads the boot device.
    fn boot(&mut self) -> BoxFuture<'_, Result<BootReading, Fault>>;
    /// Writes the boot device.
    fn set_boot(&mut self, request: BootRequest) -> BoxFuture<'_, Result<(), Fault>>;
    /// Reads the virtual media slot of this kind.
    fn media<'a>(&'a mut self, kind: &'a str) -> BoxFuture<'a, Result<MediaReading, Fault>>;
    /// Inserts the image at `url`, or ejects when there is none.
    fn set_media<'a>(&'a mut self, kind: &'a str, url: Option<&'a str>) -> BoxFuture<'a, Result<(), Fault>>;
    /// Ends the session on the BMC too; failures do not matter.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Opens sessions. Tests have their own.
pub trait Connector: Send + Sync + 'static {
    /// Opens a session with one protocol, in `limit` at most.
    fn open<'a>(
        &'a self,
        driver: Driver,
        target: &'a Target,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Bmc>, Fault>>;
}

/// The connector for real BMCs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

impl Connector for Network {
    fn open<'a>(
        &'a self,
        driver: Driver,
        target: &'a Target,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Bmc>, Fault>> {
        match driver {
            Driver::Redfish => Box::pin(redfish::open(target, limit)),
            Driver::Ipmi => Box::pin(ipmi::open(target, limit)),
        }
    }
}
