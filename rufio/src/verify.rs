// SPDX-License-Identifier: Apache-2.0

//! Comparing what was asked with what a BMC shows afterwards. Pure.

use crate::bmc::{BootReading, BootRequest, MediaReading};

/// What the BMC did not take over of the flags, in words for the Task's message; the device has been checked already.
/// Flags never fail a Task: machines with one firmware ignore `efiBoot`, and some BMCs drop `persistent`.
#[must_use]
pub fn boot_flags(wanted: &BootRequest, read: &BootReading) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(persistent) = read.persistent.filter(|persistent| *persistent != wanted.persistent) {
        let word = |persistent| if persistent { "every boot" } else { "the next boot" };
        notes.push(format!("the BMC shows it for {}, not {}", word(persistent), word(wanted.persistent)));
    }
    if let Some(efi) = read.efi.filter(|efi| *efi != wanted.efi) {
        let word = |efi| if efi { "UEFI" } else { "BIOS" };
        notes.push(format!("the BMC shows {} boot, not {}", word(efi), word(wanted.efi)));
    }
    notes
}

/// Whether the slot holds what was asked for; else what it shows.
///
/// # Errors
/// The sentence's end after "the BMC still".
pub fn media(wanted: Option<&str>, read: &MediaReading) -> Result<(), String> {
    match (wanted, read.inserted, read.image.as_deref()) {
        (None, false, _) => Ok(()),
        (None, true, _) => Err("shows something inserted".to_owned()),
        (Some(_), false, _) => Err("shows an empty slot".to_owned()),
        (Some(_), true, None) => Ok(()),
        // Some BMCs show the file name only.
        (Some(url), true, Some(image)) if url == image || url.ends_with(&format!("/{image}")) => Ok(()),
        // Not which one: URLs of images may hold credentials.
        (Some(_), true, Some(_)) => Err("shows another image".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use api::bmc::v1alpha1::BootDevice;

    use super::{boot_flags, media};
    use crate::bmc::{BootReading, BootRequest, MediaReading};

    #[test]
    fn flags_are_told_unless_unknown() {
        let wanted = BootRequest { device: BootDevice::Pxe, persistent: true, efi: true };
        let read = |persistent, efi| BootReading {
            device: Some(BootDevice::Pxe),
            shown: "Pxe".into(),
            persistent,
            efi,
        };
        assert!(boot_flags(&wanted, &read(Some(true), Some(true))).is_empty());
        assert!(boot_flags(&wanted, &read(None, None)).is_empty());
        let notes = boot_flags(&wanted, &read(Some(false), Some(false))).join("; ");
        assert_eq!(
            notes,
            "the BMC shows it for the next boot, not every boot; the BMC shows BIOS boot, not UEFI"
        );
    }

    #[test]
    fn media_is_compared_by_content() {
        let read = |inserted, image: Option<&str>| MediaReading { inserted, image: image.map(str::to_owned) };
        assert!(media(Some("http://h/a.iso"), &read(true, Some("http://h/a.iso"))).is_ok());
        assert!(media(Some("http://h/a.iso"), &read(true, Some("a.iso"))).is_ok());
        assert!(media(Some("http://h/a.iso"), &read(true, Some("b.iso"))).is_err());
        assert!(media(Some("http://h/a.iso"), &read(false, Some("http://h/a.iso"))).is_err());
        assert!(media(None, &read(false, Some("left over"))).is_ok());
        assert!(media(None, &read(true, None)).is_err());
    }
}
