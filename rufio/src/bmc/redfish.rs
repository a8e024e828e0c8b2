// SPDX-License-Identifier: Apache-2.0

//! The Redfish driver: what rufio asks, in Redfish's words.

use std::time::Duration;

use api::bmc::v1alpha1::BootDevice;
use futures::FutureExt;
use futures::future::BoxFuture;
use redfish::{
    BootEnabled, BootMode, BootOverride, BootTarget, Client, Endpoint, Error, MediaKind, Options, Quirk,
};
use redfish::{Credentials, PowerState, ResetType, Trust};

use super::{Bmc, BootReading, BootRequest, Driver, Fault, FaultKind, MediaReading, Power, Switch};
use crate::target::Target;

/// Longest TCP and TLS set-up; a dead host is told within seconds, whatever the limit for the whole session.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

struct Redfish {
    client: Client,
}

pub(super) async fn open(target: &Target, limit: Duration) -> Result<Box<dyn Bmc>, Fault> {
    let endpoint = Endpoint::parse(&target.host, target.redfish.port)
        .map_err(|error| Fault::new(FaultKind::Config, error.to_string()))?;
    let credentials =
        Credentials { username: target.username.clone(), password: target.password.expose().clone().into() };
    let options = Options {
        trust: if target.insecure_tls { Trust::Anything } else { Trust::SystemRoots },
        basic_auth: target.redfish.basic_auth,
        system_name: target.redfish.system_name.clone(),
        connect_timeout: CONNECT_LIMIT.min(limit),
        request_timeout: limit,
        ..Options::default()
    };
    let client = Client::connect(endpoint, credentials, &options).await?;
    for row in client.quirks() {
        tracing::debug!(bmc = %target.host, quirk = ?row.quirk, evidence = row.evidence, "BMC has a known quirk");
    }
    Ok(Box::new(Redfish { client }))
}

impl Bmc for Redfish {
    fn driver(&self) -> Driver {
        Driver::Redfish
    }

    fn power(&mut self) -> BoxFuture<'_, Result<Power, Fault>> {
        async {
            Ok(match self.client.power_state().await? {
                PowerState::On => Power::On,
                PowerState::Off => Power::Off,
                PowerState::Changing | PowerState::Unknown => Power::Unknown,
            })
        }
        .boxed()
    }

    fn switch(&mut self, switch: Switch) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let wanted: &[ResetType] = match switch {
                Switch::On => &[ResetType::On, ResetType::ForceOn],
                Switch::Off => &[ResetType::ForceOff],
                Switch::Soft => &[ResetType::GracefulShutdown],
                Switch::Cycle => &[ResetType::PowerCycle],
                Switch::Reset => &[ResetType::ForceRestart],
            };
            let sent = self.client.reset(wanted).await?;
            tracing::debug!(bmc = %self.client.endpoint(), reset = %sent, "reset sent");
            Ok(())
        }
        .boxed()
    }

    fn boot(&mut self) -> BoxFuture<'_, Result<BootReading, Fault>> {
        async {
            let read = self.client.boot_override().await?;
            let set = read.enabled != BootEnabled::Disabled;
            let lies = self.client.has_quirk(Quirk::OnceReadsAsContinuous);
            Ok(BootReading {
                device: if set { device(&read.target) } else { None },
                shown: if set { read.target.as_str().to_owned() } else { "no override".to_owned() },
                persistent: (!lies).then_some(read.enabled == BootEnabled::Continuous),
                efi: read.mode.map(|mode| mode == BootMode::Uefi),
            })
        }
        .boxed()
    }

    fn set_boot(&mut self, request: BootRequest) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let wanted = BootOverride {
                target: boot_target(request.device)?,
                enabled: if request.persistent { BootEnabled::Continuous } else { BootEnabled::Once },
                mode: Some(if request.efi { BootMode::Uefi } else { BootMode::Legacy }),
            };
            Ok(self.client.set_boot_override(&wanted).await?)
        }
        .boxed()
    }

    fn media<'a>(&'a mut self, kind: &'a str) -> BoxFuture<'a, Result<MediaReading, Fault>> {
        async move {
            let slot = self.client.media(media_kind(kind)?).await?;
            Ok(MediaReading { inserted: slot.inserted, image: slot.image })
        }
        .boxed()
    }

    fn set_media<'a>(&'a mut self, kind: &'a str, url: Option<&'a str>) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let kind = media_kind(kind)?;
            match url {
                Some(url) => self.client.insert_media(kind, url).await?,
                None => self.client.eject_media(kind).await?,
            }
            Ok(())
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.client.close().boxed()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Unreachable { .. } | Error::Timeout { .. } => FaultKind::Unreachable,
            Error::Tls { .. } => FaultKind::Tls,
            Error::Auth { .. } => FaultKind::Auth,
            Error::NotRedfish { .. } | Error::Unsupported { .. } => FaultKind::Unsupported,
            Error::System { .. } => FaultKind::Config,
            Error::Api { .. } if error.is_transient() => FaultKind::Busy,
            Error::Api { .. } | Error::Task { .. } | Error::Protocol(_) => FaultKind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

fn device(target: &BootTarget) -> Option<BootDevice> {
    match target {
        BootTarget::Pxe => Some(BootDevice::Pxe),
        BootTarget::Hdd => Some(BootDevice::Disk),
        BootTarget::Cd => Some(BootDevice::Cdrom),
        BootTarget::BiosSetup => Some(BootDevice::Bios),
        BootTarget::None | BootTarget::Other(_) => None,
    }
}

fn boot_target(device: BootDevice) -> Result<BootTarget, Fault> {
    match device {
        BootDevice::Pxe => Ok(BootTarget::Pxe),
        BootDevice::Disk => Ok(BootTarget::Hdd),
        BootDevice::Cdrom => Ok(BootTarget::Cd),
        BootDevice::Bios => Ok(BootTarget::BiosSetup),
        BootDevice::Safe => {
            Err(Fault::new(FaultKind::Unsupported, "Redfish has no boot device safe; IPMI has"))
        }
    }
}

fn media_kind(kind: &str) -> Result<MediaKind, Fault> {
    match kind.to_ascii_uppercase().as_str() {
        "CD" | "DVD" => Ok(MediaKind::Cd),
        "USBSTICK" => Ok(MediaKind::Usb),
        "FLOPPY" => Ok(MediaKind::Floppy),
        _ => Err(Fault::new(
            FaultKind::Config,
            format!("unknown kind of virtual media {kind:?}: use CD, DVD, USBStick or Floppy"),
        )),
    }
}
