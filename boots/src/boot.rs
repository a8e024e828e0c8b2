// SPDX-License-Identifier: Apache-2.0
//! Whether a machine may boot, and what: the one decision, for every protocol in which it asks, tied to the Workflow that it
//! boots for.
//!
//! Pure. DHCP, scripts, assets and images ask here and say in their protocol's words what was decided. Nobody else can read
//! `netboot.allowPXE`, so that no protocol has a rule of its own. Options 66 and 67 of a Hardware are not decided on: they are an
//! operator's words to every client, booting or not.

use url::Url;

use crate::backend::{Found, Index};
use crate::machine::{Nic, Rpi};

/// `netboot.allowPXE` of an interface, which only the decision here reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Permission(bool);

impl From<bool> for Permission {
    fn from(allowed: bool) -> Self {
        Self(allowed)
    }
}

/// What a machine asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The name of its boot file, over DHCP of either version and in every mode.
    Dhcp,
    /// A boot program, over TFTP or HTTP.
    Program,
    /// The script of iPXE, and what leads there.
    Ipxe,
    /// The configuration of GRUB.
    Grub,
    /// The configuration of pxelinux.
    Pxelinux,
    /// A file for the boot loader of a Raspberry Pi.
    RaspberryPi,
    /// An image for virtual media, which its BMC asks for.
    Iso,
}

/// What it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The boot file of its architecture, or of its own.
    BootFile,
    /// The in-memory operating system.
    Hook,
    /// The script at a URL of its own.
    ScriptAt(&'a Url),
    /// A script of its own.
    Script(&'a str),
    /// The configuration of pxelinux that it has of its own.
    Configuration(&'a str),
    /// The files of a Raspberry Pi.
    Files(&'a Rpi),
    /// An image: its own, else the configured one.
    Image(Option<&'a Url>),
    /// What tells it that it may not boot from the network, and leads to its disk where the protocol has words for that.
    NotAllowed,
    /// The same, because it has a script that this protocol cannot run.
    OnlyForIpxe,
    /// Nothing of its own.
    Nothing,
}

impl Answer<'_> {
    /// Whether the machine is on its way to an agent with it.
    fn boots(self) -> bool {
        !matches!(self, Self::NotAllowed | Self::OnlyForIpxe | Self::Nothing)
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision<'a> {
    pub(crate) answer: Answer<'a>,
    /// UID of the Workflow that the machine boots for; nothing where it does not boot.
    pub(crate) workflow: Option<&'a str>,
}

/// A machine that asks, and the Workflow whose turn it is there: what one look at the index finds.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) found: Found,
    workflow: Option<String>,
}

impl Asking {
    pub(crate) fn of(index: &Index, found: Found) -> Self {
        let workflow = index.workflow(&found.machine, found.nic()).map(str::to_owned);
        Self { found, workflow }
    }

    /// What it gets.
    pub(crate) fn decide(&self, protocol: Protocol) -> Decision<'_> {
        decide(self.found.nic(), protocol, self.workflow.as_deref())
    }
}

/// What an interface gets that asks in a protocol, while it is the turn of `workflow`.
fn decide<'a>(nic: &'a Nic, protocol: Protocol, workflow: Option<&'a str>) -> Decision<'a> {
    let boot = &nic.boot;
    let answer = match (protocol, boot.allowed.0) {
        // Tinkerbell ignores allowPXE here, and a machine with virtual media need not have it: the image is mounted by a BMC that
        // somebody told to, which no firmware does by itself.
        (Protocol::Iso, _) => Answer::Image(boot.iso.as_ref()),
        // Tinkerbell's rule too: a program is the same for everybody and comes before anyone is known. It asks for its script next,
        // and that one leaves for the disk and says why.
        (Protocol::Program, _) => Answer::BootFile,
        (
            Protocol::Dhcp | Protocol::Ipxe | Protocol::Grub | Protocol::Pxelinux | Protocol::RaspberryPi,
            false,
        ) => Answer::NotAllowed,
        (Protocol::Dhcp, true) => Answer::BootFile,
        (Protocol::Ipxe, true) => match (&boot.script_url, &boot.script) {
            (Some(url), _) => Answer::ScriptAt(url),
            (None, Some(script)) => Answer::Script(script),
            (None, None) => Answer::Hook,
        },
        (Protocol::Grub, true) if boot.script_url.is_some() || boot.script.is_some() => Answer::OnlyForIpxe,
        (Protocol::Grub, true) => Answer::Hook,
        (Protocol::Pxelinux, true) => boot.pxelinux.as_deref().map_or(Answer::Nothing, Answer::Configuration),
        (Protocol::RaspberryPi, true) => boot.rpi.as_ref().map_or(Answer::Nothing, Answer::Files),
    };
    Decision { answer, workflow: workflow.filter(|_| answer.boots()) }
}

/// What an interface gets, where no Workflow matters.
pub(crate) fn answer(nic: &Nic, protocol: Protocol) -> Answer<'_> {
    decide(nic, protocol, None).answer
}

/// Whether it is told that it may not boot from the network.
pub(crate) fn refuses(nic: &Nic, protocol: Protocol) -> bool {
    answer(nic, protocol) == Answer::NotAllowed
}

#[cfg(test)]
mod tests {
    use api::v1alpha1::Workflow;
    use serde_json::{Value, json};

    use super::*;
    use crate::machine::tests::hardware;

    /// Workflows of a machine in words, by name and state, and the UID of the one whose turn it is.
    type Turn = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);

    const WORKFLOWS: [Turn; 8] = [
        ("none", &[], None),
        ("one without a state", &[("a", "")], Some("uid-a")),
        ("one that waits", &[("a", "PENDING")], Some("uid-a")),
        ("one that is prepared", &[("a", "PREPARING")], Some("uid-a")),
        ("one that runs", &[("a", "RUNNING")], Some("uid-a")),
        ("one that is done", &[("a", "SUCCESS")], None),
        ("one that failed", &[("a", "FAILED")], None),
        ("one that waits for another", &[("a", "PENDING"), ("b", "RUNNING")], Some("uid-b")),
    ];

    fn workflow(name: &str, state: &str) -> Workflow {
        serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1",
            "kind": "Workflow",
            "metadata": {
                "name": name, "namespace": "tinkerbell", "uid": format!("uid-{name}"),
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": { "hardwareRef": "m1" },
            "status": { "state": state },
        }))
        .unwrap()
    }

    fn asking(netboot: &Value, isoboot: &Value, workflows: &[(&str, &str)]) -> Asking {
        let mut index = Index::default();
        let machine = hardware(&json!({ "netboot": netboot, "isoboot": isoboot }));
        assert_eq!(index.apply_hardware(&machine), Vec::<String>::new());
        workflows.iter().for_each(|(name, state)| index.apply_workflow(&workflow(name, state)));
        let found = index.by_mac("52:54:00:00:00:11".parse().unwrap()).unwrap();
        Asking::of(&index, found)
    }

    #[test]
    fn every_protocol_has_its_answer_whether_allowed_or_not_and_the_workflow_whose_turn_it_is() {
        use Protocol::{Dhcp, Grub, Ipxe, Iso, Program, Pxelinux, RaspberryPi};
        let url: Url = "http://own/s".parse().unwrap();
        let rpi = Rpi { serial: "5dcc45e5".into(), firmware: "rpi4".into(), config: "a=1".into() };
        let (nothing, iso) = (json!({}), json!({ "sourceISO": "http://own/s" }));
        let script_at = json!({ "ipxe": { "url": "http://own/s", "contents": "shell" } });
        let script = json!({ "ipxe": { "contents": "shell" } });
        let pxelinux = json!({ "pxelinux": { "config": "DEFAULT x" } });
        let pi = json!({ "rpi": { "serialNum": "5dcc45e5", "firmwarePath": "rpi4", "configTxt": "a=1" } });
        for (protocol, netboot, isoboot, allowed, refused) in [
            (Dhcp, &nothing, &nothing, Answer::BootFile, Answer::NotAllowed),
            (Dhcp, &script_at, &iso, Answer::BootFile, Answer::NotAllowed),
            (Program, &nothing, &nothing, Answer::BootFile, Answer::BootFile),
            (Ipxe, &nothing, &nothing, Answer::Hook, Answer::NotAllowed),
            (Ipxe, &script_at, &nothing, Answer::ScriptAt(&url), Answer::NotAllowed),
            (Ipxe, &script, &nothing, Answer::Script("shell"), Answer::NotAllowed),
            (Grub, &nothing, &nothing, Answer::Hook, Answer::NotAllowed),
            (Grub, &script_at, &nothing, Answer::OnlyForIpxe, Answer::NotAllowed),
            (Grub, &script, &nothing, Answer::OnlyForIpxe, Answer::NotAllowed),
            (Pxelinux, &nothing, &nothing, Answer::Nothing, Answer::NotAllowed),
            (Pxelinux, &pxelinux, &nothing, Answer::Configuration("DEFAULT x"), Answer::NotAllowed),
            (RaspberryPi, &nothing, &nothing, Answer::Nothing, Answer::NotAllowed),
            (RaspberryPi, &pi, &nothing, Answer::Files(&rpi), Answer::NotAllowed),
            (Iso, &nothing, &nothing, Answer::Image(None), Answer::Image(None)),
            (Iso, &nothing, &iso, Answer::Image(Some(&url)), Answer::Image(Some(&url))),
        ] {
            for (permission, expected) in [(true, allowed), (false, refused)] {
                let mut netboot = netboot.clone();
                netboot["allowPXE"] = permission.into();
                for (state, workflows, turn) in WORKFLOWS {
                    let asking = asking(&netboot, isoboot, workflows);
                    let decision = asking.decide(protocol);
                    let case = format!("{protocol:?}, allowPXE {permission}, Workflow: {state}, {netboot}");
                    assert_eq!(decision.answer, expected, "{case}");
                    let refused =
                        [Answer::NotAllowed, Answer::OnlyForIpxe, Answer::Nothing].contains(&expected);
                    assert_eq!(decision.workflow, if refused { None } else { turn }, "{case}");
                }
            }
        }
    }
}
