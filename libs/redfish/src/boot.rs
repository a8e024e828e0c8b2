// SPDX-License-Identifier: Apache-2.0

//! The boot override of a system (DSP2046, ComputerSystem: `Boot`).

use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::error::Error;
use crate::json;
use crate::task;

/// From where the system boots next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootTarget {
    /// Nothing overridden.
    None,
    /// The network.
    Pxe,
    /// A disk.
    Hdd,
    /// A CD, in practice virtual media.
    Cd,
    /// The firmware's setup screen.
    BiosSetup,
    /// A value that provisioning does not set.
    Other(String),
}

impl BootTarget {
    /// The value on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Pxe => "Pxe",
            Self::Hdd => "Hdd",
            Self::Cd => "Cd",
            Self::BiosSetup => "BiosSetup",
            Self::Other(text) => text,
        }
    }

    fn parse(text: &str) -> Self {
        let known = [Self::None, Self::Pxe, Self::Hdd, Self::Cd, Self::BiosSetup];
        known
            .into_iter()
            .find(|target| target.as_str().eq_ignore_ascii_case(text))
            .unwrap_or_else(|| Self::Other(json::shorten(text)))
    }
}

/// For how long an override holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootEnabled {
    /// The next boot only.
    Once,
    /// Every boot until changed.
    Continuous,
    /// Not at all.
    Disabled,
}

impl BootEnabled {
    /// The value on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "Once",
            Self::Continuous => "Continuous",
            Self::Disabled => "Disabled",
        }
    }
}

/// Which kind of firmware boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootMode {
    /// UEFI.
    Uefi,
    /// BIOS.
    Legacy,
}

impl BootMode {
    /// The value on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::Legacy => "Legacy",
        }
    }
}

/// A boot override, as read or to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOverride {
    /// The device.
    pub target: BootTarget,
    /// How long.
    pub enabled: BootEnabled,
    /// The firmware; `None` when the service does not say, or when it shall stay as it is.
    pub mode: Option<BootMode>,
}

impl Client {
    /// Reads the boot override.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the system has none; else as every request.
    pub async fn boot_override(&mut self) -> Result<BootOverride, Error> {
        let system = self.read_system().await?;
        system
            .body
            .get("Boot")
            .filter(|boot| boot.is_object())
            .map(read)
            .ok_or_else(|| unsupported("a boot override", None))
    }

    /// Writes the boot override. The service's answer is not proof; read it back.
    ///
    /// The body goes out in up to three forms, the next one when the service refuses the one before: all that was asked;
    /// without the mode (it cannot be changed on machines with one firmware); the whole `Boot` object (AMI and ASRockRack
    /// refuse a part of it).
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the target is not among the allowed ones; else as every request.
    pub async fn set_boot_override(&mut self, wanted: &BootOverride) -> Result<(), Error> {
        let system = self.read_system().await?;
        let boot = system.body.get("Boot").filter(|boot| boot.is_object()).cloned();
        let boot = boot.ok_or_else(|| unsupported("a boot override", None))?;
        let target = allowed_target(&boot, wanted)?;
        let mut refused = None;
        for body in bodies(&boot, wanted, &target) {
            let reply = self
                .transport
                .patch(&self.system, &json!({ "Boot": body }), system.etag().as_deref())
                .await?;
            // What a different body cannot help: credentials, a missing resource, a busy or conflicting state.
            let final_refusal = reply.status.is_client_error()
                && matches!(reply.status.as_u16(), 401 | 403 | 404 | 409 | 429);
            if !reply.status.is_client_error() || final_refusal {
                task::finish(&mut self.transport, reply, self.task_timeout).await?;
                return Ok(());
            }
            tracing::debug!(bmc = %self.transport.endpoint(), status = reply.status.as_u16(), "boot override refused, trying a smaller form");
            refused.get_or_insert(reply);
        }
        match refused {
            Some(reply) => Err(self.transport.refusal(&reply)),
            None => Ok(()),
        }
    }
}

fn unsupported(what: &str, allowed: Option<Vec<String>>) -> Error {
    Error::Unsupported { what: what.to_owned(), allowed: allowed.unwrap_or_default() }
}

/// The target in the spelling of the service.
fn allowed_target(boot: &Value, wanted: &BootOverride) -> Result<String, Error> {
    let target = wanted.target.as_str();
    match json::allowable(boot, "BootSourceOverrideTarget") {
        None => Ok(target.to_owned()),
        Some(allowed) => match json::spelling(&allowed, target) {
            Some(spelling) => Ok(spelling.to_owned()),
            // `None` is how an override is taken back, whether listed or not.
            None if wanted.target == BootTarget::None => Ok(target.to_owned()),
            None => Err(unsupported(&format!("boot device {target}"), Some(allowed))),
        },
    }
}

fn bodies(boot: &Value, wanted: &BootOverride, target: &str) -> Vec<Value> {
    let mut small = Map::new();
    small.insert("BootSourceOverrideEnabled".into(), json!(wanted.enabled.as_str()));
    small.insert("BootSourceOverrideTarget".into(), json!(target));
    let mut full = small.clone();
    if let Some(mode) = wanted.mode {
        full.insert("BootSourceOverrideMode".into(), json!(mode.as_str()));
    }
    let mut whole: Map<String, Value> = boot
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !key.contains('@') && !value.is_null() && !value.is_object())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    whole.extend(full.clone());
    let mut bodies: Vec<Value> = Vec::new();
    for body in [full, small, whole] {
        let body = Value::Object(body);
        if !bodies.contains(&body) {
            bodies.push(body);
        }
    }
    bodies
}

fn read(boot: &Value) -> BootOverride {
    let enabled = match json::text(boot, "BootSourceOverrideEnabled").map(str::to_ascii_lowercase).as_deref()
    {
        Some("once") => BootEnabled::Once,
        Some("continuous") => BootEnabled::Continuous,
        _ => BootEnabled::Disabled,
    };
    let mode = match json::text(boot, "BootSourceOverrideMode").map(str::to_ascii_lowercase).as_deref() {
        Some("uefi") => Some(BootMode::Uefi),
        Some("legacy") => Some(BootMode::Legacy),
        _ => None,
    };
    let target = json::text(boot, "BootSourceOverrideTarget").map_or(BootTarget::None, BootTarget::parse);
    BootOverride { target, enabled, mode }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{BootEnabled, BootMode, BootOverride, BootTarget, allowed_target, bodies, read};

    fn pxe_once(mode: Option<BootMode>) -> BootOverride {
        BootOverride { target: BootTarget::Pxe, enabled: BootEnabled::Once, mode }
    }

    #[test]
    fn forms_go_from_full_to_minimal_to_whole() {
        let boot = json!({"BootSourceOverrideTarget": "None", "BootOrder": ["a"], "UefiTarget": null,
            "BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe"], "BootOptions": {"@odata.id": "/x"}});
        let forms = bodies(&boot, &pxe_once(Some(BootMode::Uefi)), "Pxe");
        assert_eq!(
            forms,
            [
                json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"}),
                json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}),
                json!({"BootOrder": ["a"], "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe",
                    "BootSourceOverrideMode": "UEFI"}),
            ]
        );
        assert_eq!(bodies(&json!({}), &pxe_once(None), "Pxe").len(), 1);
    }

    #[test]
    fn targets_are_checked_against_the_list() {
        let boot = json!({"BootSourceOverrideTarget@Redfish.AllowableValues": ["PXE", "Hdd"]});
        assert_eq!(allowed_target(&boot, &pxe_once(None)).unwrap(), "PXE");
        let setup = BootOverride { target: BootTarget::BiosSetup, ..pxe_once(None) };
        assert!(allowed_target(&boot, &setup).unwrap_err().to_string().contains("PXE, Hdd"));
        let none = BootOverride { target: BootTarget::None, ..pxe_once(None) };
        assert_eq!(allowed_target(&boot, &none).unwrap(), "None");
    }

    #[test]
    fn overrides_are_read_leniently() {
        assert_eq!(
            read(
                &json!({"BootSourceOverrideEnabled": "once", "BootSourceOverrideTarget": "PXE", "BootSourceOverrideMode": "Uefi"})
            ),
            pxe_once(Some(BootMode::Uefi))
        );
        assert_eq!(
            read(&json!({"BootSourceOverrideTarget": null})),
            BootOverride { target: BootTarget::None, enabled: BootEnabled::Disabled, mode: None }
        );
    }
}
