// SPDX-License-Identifier: Apache-2.0

//! What daemons say about a machine in Events, in one vocabulary.
//!
//! Owns the reasons and the phases of those Events. The daemons write them; timeline, `why` and the demo read them. There
//! is one Event per machine, phase and boot, named by `daemon::events::event_name`: a repeat raises its count.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The BMC switched it off.
    PoweredOff,
    /// The BMC was told what to boot from.
    BootDeviceSet,
    /// The BMC switched it on.
    PoweredOn,
    /// The BMC did not do what it was asked for.
    PowerFailed,
    /// It was offered an address.
    DhcpOffered,
    /// It took the address.
    DhcpAcknowledged,
    /// It found the address that it was given in use by another host.
    AddressConflict,
    /// It fetched a boot program.
    BootProgramSent,
    /// It fetched its iPXE script.
    ScriptSent,
    /// It fetched the kernel.
    KernelSent,
    /// It fetched the initial RAM disk.
    InitramfsSent,
    /// It asked for network boot and may not have it.
    NetbootRefused,
    /// Its BMC began to read its ISO image.
    IsoRead,
    /// Its kernel wrote to the log server.
    KernelLogged,
    /// Its agent called.
    AgentConnected,
    /// Its agent wrote to the log server.
    AgentLogged,
    /// An action was started.
    ActionStarted,
    /// An action succeeded.
    ActionSucceeded,
    /// An action failed.
    ActionFailed,
    /// Its Workflow is done.
    WorkflowSucceeded,
    /// Its Workflow failed.
    WorkflowFailed,
    /// The Template of its Workflow could not be rendered.
    TemplateFailed,
    /// It asked for its metadata.
    MetadataFetched,
}

/// A text is the reason of no Event of ours.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown Event reason {0:?}")]
pub struct ParseReasonError(String);

impl Reason {
    /// All reasons, in the order in which an undisturbed machine meets them.
    pub const ALL: [Self; 23] = [
        Self::TemplateFailed,
        Self::PoweredOff,
        Self::BootDeviceSet,
        Self::PoweredOn,
        Self::PowerFailed,
        Self::DhcpOffered,
        Self::DhcpAcknowledged,
        Self::AddressConflict,
        Self::NetbootRefused,
        Self::BootProgramSent,
        Self::ScriptSent,
        Self::KernelSent,
        Self::InitramfsSent,
        Self::IsoRead,
        Self::KernelLogged,
        Self::AgentLogged,
        Self::AgentConnected,
        Self::ActionStarted,
        Self::ActionSucceeded,
        Self::ActionFailed,
        Self::WorkflowSucceeded,
        Self::WorkflowFailed,
        Self::MetadataFetched,
    ];

    /// The reason as an Event has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.names().0
    }

    /// The phase in the name of the Event. Events about actions add the action: [`Reason::action_phase`].
    #[must_use]
    pub const fn phase(self) -> &'static str {
        self.names().1
    }

    /// The phase of an Event about one action.
    #[must_use]
    pub fn action_phase(self, action_id: &str) -> String {
        format!("{}.{action_id}", self.phase())
    }

    /// Whether the Event is of type Warning.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::PowerFailed
                | Self::AddressConflict
                | Self::NetbootRefused
                | Self::ActionFailed
                | Self::WorkflowFailed
                | Self::TemplateFailed
        )
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::PoweredOff => ("PoweredOff", "powered-off"),
            Self::BootDeviceSet => ("BootDeviceSet", "boot-device-set"),
            Self::PoweredOn => ("PoweredOn", "powered-on"),
            Self::PowerFailed => ("PowerFailed", "power-failed"),
            Self::DhcpOffered => ("DhcpOffered", "dhcp-offered"),
            Self::DhcpAcknowledged => ("DhcpAcknowledged", "dhcp-acknowledged"),
            Self::AddressConflict => ("AddressConflict", "address-conflict"),
            Self::BootProgramSent => ("BootProgramSent", "boot-program-sent"),
            Self::ScriptSent => ("ScriptSent", "script-sent"),
            Self::KernelSent => ("KernelSent", "kernel-sent"),
            Self::InitramfsSent => ("InitramfsSent", "initramfs-sent"),
            Self::NetbootRefused => ("NetbootRefused", "netboot-refused"),
            Self::IsoRead => ("IsoRead", "iso-read"),
            Self::KernelLogged => ("KernelLogged", "kernel-logged"),
            Self::AgentLogged => ("AgentLogged", "agent-logged"),
            Self::AgentConnected => ("AgentConnected", "agent-connected"),
            Self::ActionStarted => ("ActionStarted", "action-started"),
            Self::ActionSucceeded => ("ActionSucceeded", "action-succeeded"),
            Self::ActionFailed => ("ActionFailed", "action-failed"),
            Self::WorkflowSucceeded => ("WorkflowSucceeded", "workflow-succeeded"),
            Self::WorkflowFailed => ("WorkflowFailed", "workflow-failed"),
            Self::TemplateFailed => ("TemplateFailed", "template-failed"),
            Self::MetadataFetched => ("MetadataFetched", "metadata-fetched"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ParseReasonError;

    fn from_str(text: &str) -> Result<Self, ParseReasonError> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| ParseReasonError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_and_has_a_phase_of_its_own() {
        let mut phases: Vec<_> = Reason::ALL.iter().map(|reason| reason.phase()).collect();
        phases.sort_unstable();
        phases.dedup();
        assert_eq!(phases.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert!("Pulled".parse::<Reason>().is_err());
    }
}
