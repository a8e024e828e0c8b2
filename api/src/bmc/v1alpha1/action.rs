// SPDX-License-Identifier: Apache-2.0

//! What can be asked of a BMC.
//!
//! Owns the wire form of an action and its meaning: [`Operation`] is what a well-formed [`Action`] asks for. Jobs, Tasks
//! and the boot options of Workflows are made of actions; rufio carries them out.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One thing to do with a BMC: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("maxProperties" = 1))]
pub struct Action {
    /// Sets the boot device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_device: Option<BootDeviceConfig>,
    /// Older form of `bootDevice`, for one boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_time_boot_device_action: Option<OneTimeBootDevice>,
    /// Changes or reads the power state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_action: Option<PowerAction>,
    /// Inserts or ejects virtual media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_media_action: Option<VirtualMedia>,
}

/// The boot device to set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootDeviceConfig {
    /// Name of the device: `pxe`, `disk`, `bios`, `cdrom` or `safe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whether the machine boots by UEFI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efi_boot: Option<bool>,
    /// Whether it holds for all boots, not only the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

/// Older form of the boot device, for one boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OneTimeBootDevice {
    /// Name of the device; only the first counts.
    pub device: Vec<String>,
    /// Whether the machine boots by UEFI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efi_boot: Option<bool>,
}

/// Virtual media to insert or eject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMedia {
    /// Kind of media, for example `CD`.
    pub kind: String,
    /// URL of the image; none ejects.
    #[serde(rename = "mediaURL", skip_serializing_if = "Option::is_none")]
    pub media_url: Option<String>,
}

/// A change of power, or `status` to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PowerAction {
    /// Power on.
    On,
    /// Power off at once.
    Off,
    /// Ask the operating system to shut down.
    Soft,
    /// Read the state, change nothing.
    Status,
    /// Off, then on.
    Cycle,
    /// Reset without power loss.
    Reset,
}

impl PowerAction {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Soft => "soft",
            Self::Status => "status",
            Self::Cycle => "cycle",
            Self::Reset => "reset",
        }
    }
}

impl fmt::Display for PowerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a machine is to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootDevice {
    /// The network.
    Pxe,
    /// The first disk.
    Disk,
    /// The firmware's setup.
    Bios,
    /// Optical media, real or virtual.
    Cdrom,
    /// The firmware's safe mode.
    Safe,
}

impl BootDevice {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pxe => "pxe",
            Self::Disk => "disk",
            Self::Bios => "bios",
            Self::Cdrom => "cdrom",
            Self::Safe => "safe",
        }
    }

    fn parse(name: &str) -> Result<Self, ActionError> {
        [Self::Pxe, Self::Disk, Self::Bios, Self::Cdrom, Self::Safe]
            .into_iter()
            .find(|device| device.as_str() == name)
            .ok_or_else(|| ActionError::UnknownBootDevice { name: name.to_owned() })
    }
}

impl fmt::Display for BootDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a well-formed [`Action`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Change or read the power state.
    Power(PowerAction),
    /// Set the boot device.
    Boot {
        /// What to boot from.
        device: BootDevice,
        /// For all boots, not only the next.
        persistent: bool,
        /// By UEFI.
        efi: bool,
    },
    /// Insert virtual media.
    InsertMedia {
        /// Kind of media.
        kind: String,
        /// URL of the image.
        url: String,
    },
    /// Eject virtual media.
    EjectMedia {
        /// Kind of media.
        kind: String,
    },
}

/// Why an [`Action`] asks for nothing that can be done. None is worth a retry: the object has to change.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ActionError {
    /// No field is set.
    #[error(
        "the action is empty: set one of powerAction, bootDevice, oneTimeBootDeviceAction, virtualMediaAction"
    )]
    Empty,
    /// More than one field is set.
    #[error("the action has {count} parts; it must have exactly one")]
    Several {
        /// How many are set.
        count: usize,
    },
    /// The boot device has no name.
    #[error("the boot device is missing: use pxe, disk, bios, cdrom or safe")]
    NoBootDevice,
    /// The boot device has a name that nothing has.
    #[error("unknown boot device {name:?}: use pxe, disk, bios, cdrom or safe")]
    UnknownBootDevice {
        /// The name.
        name: String,
    },
}

impl Action {
    /// An action that changes or reads the power state.
    #[must_use]
    pub fn power(action: PowerAction) -> Self {
        Self { power_action: Some(action), ..Self::default() }
    }

    /// An action that sets the device of the next boot.
    #[must_use]
    pub fn boot_once(device: BootDevice, efi: bool) -> Self {
        let device = Some(device.as_str().to_owned());
        let boot = BootDeviceConfig { device, efi_boot: Some(efi), persistent: Some(false) };
        Self { boot_device: Some(boot), ..Self::default() }
    }
}

impl TryFrom<&Action> for Operation {
    type Error = ActionError;

    fn try_from(action: &Action) -> Result<Self, ActionError> {
        let count = usize::from(action.power_action.is_some())
            + usize::from(action.boot_device.is_some())
            + usize::from(action.one_time_boot_device_action.is_some())
            + usize::from(action.virtual_media_action.is_some());
        if count > 1 {
            return Err(ActionError::Several { count });
        }
        if let Some(power) = action.power_action {
            return Ok(Self::Power(power));
        }
        if let Some(boot) = &action.boot_device {
            let name = boot.device.as_deref().ok_or(ActionError::NoBootDevice)?;
            return Ok(Self::Boot {
                device: BootDevice::parse(name)?,
                persistent: boot.persistent == Some(true),
                efi: boot.efi_boot == Some(true),
            });
        }
        if let Some(once) = &action.one_time_boot_device_action {
            let name = once.device.first().ok_or(ActionError::NoBootDevice)?;
            return Ok(Self::Boot {
                device: BootDevice::parse(name)?,
                persistent: false,
                efi: once.efi_boot == Some(true),
            });
        }
        let media = action.virtual_media_action.as_ref().ok_or(ActionError::Empty)?;
        let kind = media.kind.clone();
        Ok(match media.media_url.as_deref() {
            Some(url) if !url.is_empty() => Self::InsertMedia { kind, url: url.to_owned() },
            _ => Self::EjectMedia { kind },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(yaml: &str) -> Result<Operation, ActionError> {
        Operation::try_from(&serde_saphyr::from_str::<Action>(yaml).unwrap())
    }

    #[test]
    fn every_form_of_an_action_has_its_operation() {
        assert_eq!(operation("powerAction: soft"), Ok(Operation::Power(PowerAction::Soft)));
        assert_eq!(
            operation("bootDevice: {device: disk, persistent: true, efiBoot: true}"),
            Ok(Operation::Boot { device: BootDevice::Disk, persistent: true, efi: true })
        );
        assert_eq!(
            operation("oneTimeBootDeviceAction: {device: [pxe, disk], efiBoot: false}"),
            Ok(Operation::Boot { device: BootDevice::Pxe, persistent: false, efi: false })
        );
        assert_eq!(
            operation("virtualMediaAction: {mediaURL: 'http://h/i.iso', kind: CD}"),
            Ok(Operation::InsertMedia { kind: "CD".to_owned(), url: "http://h/i.iso".to_owned() })
        );
        assert_eq!(
            operation("virtualMediaAction: {mediaURL: '', kind: CD}"),
            Ok(Operation::EjectMedia { kind: "CD".to_owned() })
        );
    }

    #[test]
    fn an_action_that_asks_for_nothing_or_for_two_things_is_refused() {
        assert_eq!(operation("{}"), Err(ActionError::Empty));
        assert_eq!(
            operation("{powerAction: on, bootDevice: {device: pxe}}"),
            Err(ActionError::Several { count: 2 })
        );
        assert_eq!(operation("bootDevice: {}"), Err(ActionError::NoBootDevice));
        assert_eq!(operation("oneTimeBootDeviceAction: {device: []}"), Err(ActionError::NoBootDevice));
        assert_eq!(
            operation("bootDevice: {device: floppy}"),
            Err(ActionError::UnknownBootDevice { name: "floppy".to_owned() })
        );
    }
}
