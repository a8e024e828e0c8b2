// SPDX-License-Identifier: Apache-2.0
//! What a simulated server is made of.

use crate::chassis::Identity;

/// Longest name of a machine: it is part of the paths of sockets.
const MAX_NAME: usize = 32;

/// The firmware of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, with iPXE in the ROM of the network card.
    Bios,
    /// OVMF, with its own network stack and no ROM in the network card.
    Uefi,
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBus {
    /// `/dev/vda`.
    Virtio,
    /// `/dev/nvme0n1`.
    Nvme,
}

/// The disk of a server: a sparse raw file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// How it is attached.
    pub bus: DiskBus,
    /// Its size in bytes, a multiple of 512.
    pub bytes: u64,
}

/// A server as the rack's owner describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    name: String,
    mac: api::Mac,
    /// Its firmware.
    pub firmware: Firmware,
    /// Its processors.
    pub processors: u32,
    /// Its memory.
    pub memory_mib: u32,
    /// Its disk, unless it has none.
    pub disk: Option<Disk>,
    /// What UEFI firmware is set up to boot from the network with, beside HTTP.
    pub pxe: Pxe,
    /// Whether UEFI firmware enforces Secure Boot, with the keys that servers have from the factory.
    pub secure_boot: bool,
}

/// Versions of IP over which UEFI firmware does PXE; it tries IPv4 first, and HTTP after both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the versions")]
pub struct Pxe {
    pub ipv4: bool,
    pub ipv6: bool,
}

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("machine name {0:?}: at most {MAX_NAME} letters, digits and hyphens")]
pub struct SpecError(String);

impl MachineSpec {
    /// A server with one processor, 1536 MiB and a virtio disk of 8 GiB.
    ///
    /// # Errors
    /// When the name is not made of letters, digits and hyphens, or is too long.
    pub fn new(name: &str, mac: api::Mac, firmware: Firmware) -> Result<Self, SpecError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            return Err(SpecError(name.to_owned()));
        }
        let disk = Some(Disk { bus: DiskBus::Virtio, bytes: 8 << 30 });
        Ok(Self {
            name: name.to_owned(),
            mac,
            firmware,
            processors: 1,
            memory_mib: 1536,
            disk,
            pxe: Pxe { ipv4: true, ipv6: true },
            secure_boot: false,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of its network card.
    pub fn mac(&self) -> api::Mac {
        self.mac
    }

    /// What its BMC tells about it; the firmware shows the same to the operating system.
    pub fn identity(&self) -> Identity {
        let digits: String = self.mac.to_string().split(':').collect();
        Identity {
            name: self.name.clone(),
            uuid: format!("6c616200-0000-4000-8000-{digits}"),
            mac: self.mac.to_string(),
            manufacturer: "Tinkerbell Lab".to_owned(),
            model: match self.firmware {
                Firmware::Bios => "Simulated Server (BIOS)".to_owned(),
                Firmware::Uefi => "Simulated Server (UEFI)".to_owned(),
            },
            serial: format!("LAB-{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_an_identity_is_of_one_machine() {
        let mac: api::Mac = "52:54:00:00:00:11".parse().unwrap();
        for name in ["", "../m1", "m 1", "m,1", &"m".repeat(33)] {
            assert!(MachineSpec::new(name, mac, Firmware::Bios).is_err(), "{name}");
        }
        let identity = MachineSpec::new("m1", mac, Firmware::Bios).unwrap().identity();
        assert_eq!(identity.uuid, "6c616200-0000-4000-8000-525400000011");
        assert_eq!(identity.mac, "52:54:00:00:00:11");
    }
}
