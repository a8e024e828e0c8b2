// SPDX-License-Identifier: Apache-2.0

//! The IPMI driver: what rufio asks, in chassis commands and boot flags.

use std::time::Duration;

use api::bmc::v1alpha1::BootDevice;
use futures::FutureExt;
use futures::future::BoxFuture;
use ipmi::{BootFlags, ChassisControl, CipherSuite, Client, Credentials, Error, Options};

use super::{Bmc, BootReading, BootRequest, Driver, Fault, FaultKind, MediaReading, Power, Switch};
use crate::target::Target;

/// A way in which a BMC departs from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quirk {
    /// Boot flags are read back without their valid, persistent and UEFI bits; the device is right.
    BareBootFlags,
}

/// One row: which BMC (manufacturer and product of Get Device ID), what it does, how we know.
struct QuirkRow {
    manufacturer: u32,
    product: u16,
    quirk: Quirk,
    evidence: &'static str,
}

const QUIRKS: &[QuirkRow] = &[QuirkRow {
    manufacturer: 0x1291,
    product: 0x0f02,
    quirk: Quirk::BareBootFlags,
    evidence: "OpenIPMI 2.0.33 ipmi_sim: after ipmitool chassis bootdev pxe, parameter 5 reads 0004000000",
}];

struct Ipmi {
    client: Client,
    /// For messages: `IPMI at HOST:PORT`.
    name: String,
}

pub(super) async fn open(target: &Target, limit: Duration) -> Result<Box<dyn Bmc>, Fault> {
    let host = bare_host(&target.host);
    let port = target.ipmi.port.unwrap_or(ipmi::DEFAULT_PORT);
    let name = format!("IPMI at {host} port {port}");
    let credentials = Credentials::new(target.username.clone(), target.password.expose())
        .map_err(|error| Fault::new(FaultKind::Config, format!("{name}: {error}")))?;
    let mut options = Options::default();
    if let Some(number) = target.ipmi.cipher_suite {
        let suite = CipherSuite::from_id(number).ok_or_else(|| {
            let message = format!("IPMI cipher suite {number} is not supported; 3 and 17 are");
            Fault::new(FaultKind::Unsupported, message)
        })?;
        options.suites = vec![suite];
    }
    let opened = tokio::time::timeout(limit, Client::connect(host, port, &credentials, &options)).await;
    let client = match opened {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(fault(&name, &error)),
        Err(_elapsed) => {
            return Err(Fault::new(FaultKind::Unreachable, format!("{name} did not answer in time")));
        }
    };
    Ok(Box::new(Ipmi { client, name }))
}

impl Bmc for Ipmi {
    fn driver(&self) -> Driver {
        Driver::Ipmi
    }

    fn power(&mut self) -> BoxFuture<'_, Result<Power, Fault>> {
        async {
            let status = self.client.chassis_status().await.map_err(|error| fault(&self.name, &error))?;
            Ok(if status.power_on { Power::On } else { Power::Off })
        }
        .boxed()
    }

    fn switch(&mut self, switch: Switch) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let control = match switch {
                Switch::On => ChassisControl::PowerUp,
                Switch::Off => ChassisControl::PowerDown,
                Switch::Soft => ChassisControl::SoftShutdown,
                Switch::Cycle => ChassisControl::PowerCycle,
                Switch::Reset => ChassisControl::HardReset,
            };
            self.client.chassis_control(control).await.map_err(|error| fault(&self.name, &error))
        }
        .boxed()
    }

    fn boot(&mut self) -> BoxFuture<'_, Result<BootReading, Fault>> {
        async {
            let flags = self.client.boot_flags().await.map_err(|error| fault(&self.name, &error))?;
            if !flags.valid && self.has_quirk(Quirk::BareBootFlags).await? {
                let shown = format!("{:?}", flags.device);
                return Ok(BootReading { device: device(flags.device), shown, persistent: None, efi: None });
            }
            Ok(BootReading {
                device: if flags.valid { device(flags.device) } else { None },
                shown: if flags.valid { format!("{:?}", flags.device) } else { "no override".to_owned() },
                persistent: Some(flags.persistent),
                efi: Some(flags.efi),
            })
        }
        .boxed()
    }

    fn set_boot(&mut self, request: BootRequest) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let device = selector(request.device);
            let flags = BootFlags { valid: true, persistent: request.persistent, efi: request.efi, device };
            self.client.set_boot_flags(flags).await.map_err(|error| fault(&self.name, &error))
        }
        .boxed()
    }

    fn media<'a>(&'a mut self, _kind: &'a str) -> BoxFuture<'a, Result<MediaReading, Fault>> {
        async { Err(no_media()) }.boxed()
    }

    fn set_media<'a>(
        &'a mut self,
        _kind: &'a str,
        _url: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        async { Err(no_media()) }.boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.client.close().boxed()
    }
}

impl Ipmi {
    /// Whether the table says so of this BMC. Asked only where an answer looks wrong, as it costs a question.
    async fn has_quirk(&mut self, quirk: Quirk) -> Result<bool, Fault> {
        let id = self.client.device_id().await.map_err(|error| fault(&self.name, &error))?;
        let row = QUIRKS.iter().find(|row| {
            row.quirk == quirk && row.manufacturer == id.manufacturer && row.product == id.product
        });
        if let Some(row) = row {
            tracing::debug!(bmc = self.name, ?quirk, evidence = row.evidence, "BMC has a known quirk");
        }
        Ok(row.is_some())
    }
}

/// The host without a scheme and a port, which only Redfish has in it.
fn bare_host(host: &str) -> &str {
    let Some((_, rest)) = host.split_once("://") else { return host };
    let rest = rest.trim_end_matches('/');
    match rest.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => rest,
    }
}

fn no_media() -> Fault {
    Fault::new(FaultKind::Unsupported, "virtual media needs Redfish; IPMI has none")
}

fn fault(name: &str, error: &Error) -> Fault {
    let kind = match error {
        Error::Unreachable { .. } | Error::Resolve(_) | Error::Socket(_) | Error::Closed => {
            FaultKind::Unreachable
        }
        Error::Auth(_) => FaultKind::Auth,
        Error::Unsupported { .. } => FaultKind::Unsupported,
        Error::Busy(_) => FaultKind::Busy,
        Error::Completion { .. } if error.is_transient() => FaultKind::Busy,
        Error::Completion { code, .. } if code.0 == 0xc1 => FaultKind::Unsupported,
        Error::Completion { code, .. } if code.0 == 0xd4 => FaultKind::Auth,
        Error::Completion { .. } | Error::Malformed { .. } => FaultKind::Refused,
    };
    Fault::new(kind, format!("{name}: {}", daemon::chain(error)))
}

fn selector(device: BootDevice) -> ipmi::BootDevice {
    match device {
        BootDevice::Pxe => ipmi::BootDevice::Pxe,
        BootDevice::Disk => ipmi::BootDevice::Disk,
        BootDevice::Bios => ipmi::BootDevice::BiosSetup,
        BootDevice::Cdrom => ipmi::BootDevice::Cdrom,
        BootDevice::Safe => ipmi::BootDevice::SafeMode,
    }
}

fn device(selector: ipmi::BootDevice) -> Option<BootDevice> {
    match selector {
        ipmi::BootDevice::Pxe => Some(BootDevice::Pxe),
        ipmi::BootDevice::Disk => Some(BootDevice::Disk),
        ipmi::BootDevice::BiosSetup => Some(BootDevice::Bios),
        ipmi::BootDevice::Cdrom => Some(BootDevice::Cdrom),
        ipmi::BootDevice::SafeMode => Some(BootDevice::Safe),
        ipmi::BootDevice::None | ipmi::BootDevice::Diagnostic | ipmi::BootDevice::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::bare_host;

    #[test]
    fn the_host_is_freed_from_what_only_redfish_has() {
        for (host, bare) in [
            ("10.0.0.1", "10.0.0.1"),
            ("fe80::1", "fe80::1"),
            ("https://10.0.0.1:8443/", "10.0.0.1"),
            ("http://bmc.example", "bmc.example"),
            ("https://[fe80::1]:443", "[fe80::1]"),
        ] {
            assert_eq!(bare_host(host), bare);
        }
    }
}
