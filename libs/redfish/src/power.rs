// SPDX-License-Identifier: Apache-2.0

//! Power state and resets of a system (DSP2046, ComputerSystem: `PowerState`, `#ComputerSystem.Reset`).

use std::fmt;

use http::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Error;
use crate::json;
use crate::task;
use crate::transport::Payload;

/// What the service says about the power of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// `On`.
    On,
    /// `Off`.
    Off,
    /// `PoweringOn`, `PoweringOff` or `Paused`: neither yet.
    Changing,
    /// The property is missing or has a value unknown to us.
    Unknown,
}

/// A `ResetType` of `#ComputerSystem.Reset` that provisioning uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetType {
    /// Power on.
    On,
    /// Power on without regard to interlocks; some services know only this one.
    ForceOn,
    /// Power off at once.
    ForceOff,
    /// Ask the operating system to shut down, then power off.
    GracefulShutdown,
    /// Reset at once without a power interruption.
    ForceRestart,
    /// Power off and on again.
    PowerCycle,
}

impl ResetType {
    /// The value on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "On",
            Self::ForceOn => "ForceOn",
            Self::ForceOff => "ForceOff",
            Self::GracefulShutdown => "GracefulShutdown",
            Self::ForceRestart => "ForceRestart",
            Self::PowerCycle => "PowerCycle",
        }
    }
}

impl fmt::Display for ResetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Client {
    /// Reads the power state.
    ///
    /// # Errors
    /// As every request.
    pub async fn power_state(&mut self) -> Result<PowerState, Error> {
        let system = self.read_system().await?;
        Ok(power_state(&system.body))
    }

    /// The reset types that the service allows; `None` when it does not say.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the system has no reset action at all; else as every request.
    pub async fn reset_types(&mut self) -> Result<Option<Vec<String>>, Error> {
        let system = self.read_system().await?;
        Ok(self.reset_action(&system.body).await?.1)
    }

    /// Sends the first of `wanted` that the service allows and waits until the service has carried it out (not until the
    /// power state shows it). Returns which one was sent.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it allows none of them; else as every request.
    pub async fn reset(&mut self, wanted: &[ResetType]) -> Result<ResetType, Error> {
        let system = self.read_system().await?;
        let (target, allowed) = self.reset_action(&system.body).await?;
        let (chosen, spelling) = choose(wanted, allowed.as_deref())?;
        let target = self.transport.endpoint().resolve(&target)?;
        let body = json!({ "ResetType": spelling });
        let payload = Payload { body: Some(&body), if_match: None };
        let reply = self.transport.request(Method::POST, &target, payload).await?;
        task::finish(&mut self.transport, reply, self.task_timeout).await?;
        Ok(chosen)
    }

    async fn reset_action(&mut self, system: &Value) -> Result<(String, Option<Vec<String>>), Error> {
        let unsupported =
            || Error::Unsupported { what: "a power action on this system".into(), allowed: Vec::new() };
        let action = system.get("Actions").and_then(|actions| actions.get("#ComputerSystem.Reset"));
        let action = action.ok_or_else(unsupported)?;
        let target = json::text(action, "target").ok_or_else(unsupported)?.to_owned();
        if let Some(allowed) = json::allowable(action, "ResetType") {
            return Ok((target, Some(allowed)));
        }
        let Some(info) = json::link(action, "@Redfish.ActionInfo") else { return Ok((target, None)) };
        let info = self.transport.endpoint().resolve(info)?;
        // The list is advice; without it the service judges the request itself.
        let allowed = match self.transport.get(&info).await {
            Ok(reply) => allowed_by_info(&reply.body),
            Err(error) => {
                tracing::debug!(bmc = %self.transport.endpoint(), %error, "reset types cannot be read");
                None
            }
        };
        Ok((target, allowed))
    }
}

pub(crate) fn power_state(system: &Value) -> PowerState {
    match json::text(system, "PowerState").map(str::to_ascii_lowercase).as_deref() {
        Some("on") => PowerState::On,
        Some("off") => PowerState::Off,
        Some("poweringon" | "poweringoff" | "paused") => PowerState::Changing,
        _ => PowerState::Unknown,
    }
}

/// `Parameters[Name = ResetType].AllowableValues` of an ActionInfo (DSP2046, ActionInfo).
fn allowed_by_info(info: &Value) -> Option<Vec<String>> {
    let parameters = info.get("Parameters")?.as_array()?;
    let reset = parameters.iter().find(|parameter| json::text(parameter, "Name") == Some("ResetType"))?;
    let values = reset.get("AllowableValues")?.as_array()?;
    let values: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    (!values.is_empty()).then_some(values)
}

fn choose(wanted: &[ResetType], allowed: Option<&[String]>) -> Result<(ResetType, String), Error> {
    let mut options = wanted.iter();
    let found = match allowed {
        None => options.next().map(|kind| (*kind, kind.as_str().to_owned())),
        Some(allowed) => options
            .find_map(|kind| json::spelling(allowed, kind.as_str()).map(|text| (*kind, text.to_owned()))),
    };
    found.ok_or_else(|| Error::Unsupported {
        what: format!("reset type {}", wanted.first().map_or("of no name", |kind| kind.as_str())),
        allowed: allowed.unwrap_or_default().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PowerState, ResetType, allowed_by_info, choose, power_state};

    #[test]
    fn states_of_all_kinds() {
        for (text, state) in [
            ("On", PowerState::On),
            ("OFF", PowerState::Off),
            ("PoweringOn", PowerState::Changing),
            ("PoweringOff", PowerState::Changing),
            ("Reset", PowerState::Unknown),
        ] {
            assert_eq!(power_state(&json!({ "PowerState": text })), state, "{text}");
        }
        assert_eq!(power_state(&json!({ "PowerState": null })), PowerState::Unknown);
    }

    #[test]
    fn the_first_allowed_type_is_taken_in_the_spelling_of_the_bmc() {
        let allowed = ["forceOn".to_owned(), "ForceOff".to_owned()];
        let chosen = choose(&[ResetType::On, ResetType::ForceOn], Some(&allowed)).unwrap();
        assert_eq!(chosen, (ResetType::ForceOn, "forceOn".to_owned()));
        assert_eq!(choose(&[ResetType::On], None).unwrap().0, ResetType::On);
        let error = choose(&[ResetType::PowerCycle], Some(&allowed)).unwrap_err().to_string();
        assert!(error.contains("PowerCycle") && error.contains("forceOn, ForceOff"), "{error}");
    }

    #[test]
    fn action_info_names_the_types() {
        let info =
            json!({"Parameters": [{"Name": "Other"}, {"Name": "ResetType", "AllowableValues": ["On"]}]});
        assert_eq!(allowed_by_info(&info), Some(vec!["On".to_owned()]));
        assert_eq!(allowed_by_info(&json!({})), None);
    }
}
