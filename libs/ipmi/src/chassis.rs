// SPDX-License-Identifier: Apache-2.0
//! Chassis status (section 28.2), chassis control (28.3) and boot flags (28.12, table 28-14, parameter 5).
//!
//! Both directions of the codec: the client sends what the lab's BMC reads and the other way round.

use crate::packet::DecodeError;
use crate::wire::Reader;

/// Selector of the parameter "set in progress".
pub const PARAM_SET_IN_PROGRESS: u8 = 0;
/// Selector of the parameter "boot flag valid bit clearing".
pub const PARAM_VALID_BIT_CLEARING: u8 = 3;
/// Selector of the parameter "boot info acknowledge".
pub const PARAM_BOOT_INFO_ACK: u8 = 4;
/// Selector of the parameter "boot flags".
pub const PARAM_BOOT_FLAGS: u8 = 5;
/// Version of all boot option parameters.
pub const PARAM_VERSION: u8 = 0x01;
/// Value of "set in progress": nothing going on.
pub const SET_COMPLETE: u8 = 0;
/// Value of "set in progress": somebody is setting.
pub const SET_IN_PROGRESS: u8 = 1;
/// Value of "set in progress": take over what was set.
pub const SET_COMMIT: u8 = 2;
/// Bit of parameter 3: keep the boot flags valid although no chassis control follows within 60 seconds.
pub const KEEP_AFTER_TIMEOUT: u8 = 0x08;

/// Bit of boot flags byte 1: the flags hold for the next boot.
const VALID: u8 = 0x80;
/// Bit of boot flags byte 1: for all future boots.
const PERSISTENT: u8 = 0x40;
/// Bit of boot flags byte 1: UEFI boot, not BIOS.
const EFI: u8 = 0x20;
/// Bits of boot flags byte 2 that select the device.
const DEVICE_MASK: u8 = 0x3c;

/// What Chassis Control may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChassisControl {
    /// Power off at once.
    PowerDown,
    /// Power on.
    PowerUp,
    /// Off, pause, on.
    PowerCycle,
    /// Hard reset.
    HardReset,
    /// Pulse diagnostic interrupt.
    DiagnosticInterrupt,
    /// Ask the operating system to shut down (ACPI).
    SoftShutdown,
}

impl ChassisControl {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::PowerDown => 0,
            Self::PowerUp => 1,
            Self::PowerCycle => 2,
            Self::HardReset => 3,
            Self::DiagnosticInterrupt => 4,
            Self::SoftShutdown => 5,
        }
    }

    /// The control with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number & 0x0f {
            0 => Self::PowerDown,
            1 => Self::PowerUp,
            2 => Self::PowerCycle,
            3 => Self::HardReset,
            4 => Self::DiagnosticInterrupt,
            5 => Self::SoftShutdown,
            _ => return None,
        })
    }
}

/// The part of Get Chassis Status that somebody acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChassisStatus {
    /// The machine has power.
    pub power_on: bool,
    /// A power fault was seen in the main power system.
    pub power_fault: bool,
    /// Controller attempted to turn power on or off and the system did not follow.
    pub control_fault: bool,
}

impl ChassisStatus {
    /// Response data after the completion code. Restore policy "always off", no front panel byte.
    #[must_use]
    pub fn encode(self) -> [u8; 3] {
        let power =
            u8::from(self.power_on) | (u8::from(self.power_fault) << 3) | (u8::from(self.control_fault) << 4);
        [power, 0, 0]
    }

    /// Takes the response data after the completion code.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let [power, _last_event, _misc] = Reader::new(data).array().ok_or(DecodeError::Short)?;
        Ok(Self {
            power_on: power & 0x01 != 0,
            power_fault: power & 0x08 != 0,
            control_fault: power & 0x10 != 0,
        })
    }
}

/// Boot device selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BootDevice {
    /// No override.
    None,
    /// Network.
    Pxe,
    /// Default hard disk.
    Disk,
    /// Default hard disk, safe mode.
    SafeMode,
    /// Diagnostic partition.
    Diagnostic,
    /// CD or DVD.
    Cdrom,
    /// BIOS set-up.
    BiosSetup,
    /// A device that only its number says (remote media, floppy).
    Other(u8),
}

impl BootDevice {
    /// The number on the wire, not yet shifted.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0x0,
            Self::Pxe => 0x1,
            Self::Disk => 0x2,
            Self::SafeMode => 0x3,
            Self::Diagnostic => 0x4,
            Self::Cdrom => 0x5,
            Self::BiosSetup => 0x6,
            Self::Other(number) => number & 0x0f,
        }
    }

    /// The device with this number; every number of four bits is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number & 0x0f {
            0x0 => Self::None,
            0x1 => Self::Pxe,
            0x2 => Self::Disk,
            0x3 => Self::SafeMode,
            0x4 => Self::Diagnostic,
            0x5 => Self::Cdrom,
            0x6 => Self::BiosSetup,
            other => Self::Other(other),
        }
    }
}

/// Boot flags: which device the next boot, or every boot, takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFlags {
    /// The flags hold. Cleared by the BMC once a boot has used a one-time override.
    pub valid: bool,
    /// For all future boots, not only the next one.
    pub persistent: bool,
    /// UEFI boot, not BIOS.
    pub efi: bool,
    /// The device.
    pub device: BootDevice,
}

impl BootFlags {
    /// No override.
    pub const NONE: Self = Self { valid: false, persistent: false, efi: false, device: BootDevice::None };

    /// An override of the next boot only.
    #[must_use]
    pub const fn once(device: BootDevice, efi: bool) -> Self {
        Self { valid: true, persistent: false, efi, device }
    }

    /// The five bytes of the parameter.
    #[must_use]
    pub const fn encode(self) -> [u8; 5] {
        let mut flags = 0;
        if self.valid {
            flags |= VALID;
        }
        if self.persistent {
            flags |= PERSISTENT;
        }
        if self.efi {
            flags |= EFI;
        }
        [flags, self.device.number() << 2, 0, 0, 0]
    }

    /// Takes the parameter's bytes; what follows the second is not looked at.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let [flags, device] = Reader::new(data).array().ok_or(DecodeError::Short)?;
        Ok(Self {
            valid: flags & VALID != 0,
            persistent: flags & PERSISTENT != 0,
            efi: flags & EFI != 0,
            device: BootDevice::from_number((device & DEVICE_MASK) >> 2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_flags_have_the_bits_that_ipmitool_prints() {
        // `ipmitool chassis bootdev pxe options=persistent,efiboot` sends e0 04 00 00 00.
        let flags = BootFlags { valid: true, persistent: true, efi: true, device: BootDevice::Pxe };
        assert_eq!(flags.encode(), [0xe0, 0x04, 0, 0, 0]);
        for number in 0..16 {
            let flags = BootFlags::once(BootDevice::from_number(number), false);
            assert_eq!(BootFlags::decode(&flags.encode()), Ok(flags));
        }
        assert_eq!(BootFlags::decode(&[0x80]), Err(DecodeError::Short));
    }
}
