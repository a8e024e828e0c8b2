// SPDX-License-Identifier: Apache-2.0
//! `tink demo --report FILE`: the figures of a run as JSON.

use serde::Serialize;

use super::timeline::{State, Timeline};

/// The whole report. Field names are a contract.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// One entry for each machine.
    pub machines: Vec<Machine>,
    /// Size of the HookOS kernel.
    pub kernel_bytes: u64,
    /// Size of the HookOS initramfs.
    pub initramfs_bytes: u64,
}

/// One machine's figures.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// `bios` or `uefi`.
    pub firmware: &'static str,
    /// `ipmi` or `redfish`.
    pub bmc: &'static str,
    /// `running` only after the installed system fetched its metadata; else `installed`, `failed` or `installing`.
    pub state: &'static str,
    /// How long each phase took.
    pub phases: Vec<Phase>,
    /// Seconds from kernel start to the agent's first call; null if it never called.
    pub agent_first_call_seconds: Option<f64>,
    /// Bytes of the image as downloaded.
    pub image_bytes: u64,
    /// Bytes written to the disk.
    pub image_bytes_written: u64,
    /// Seconds that the image write took.
    pub image_seconds: f64,
}

/// One phase.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

impl Machine {
    /// The figures of a timeline.
    pub fn new(name: &str, firmware: &'static str, bmc: &'static str, timeline: &Timeline) -> Self {
        let phase = |phase: &super::timeline::Phase| Phase {
            name: phase.name.clone(),
            seconds: rounded(phase.took.as_secs_f64()),
        };
        Self {
            name: name.to_owned(),
            firmware,
            bmc,
            state: match timeline.state {
                State::Installing => "installing",
                State::Installed => "installed",
                State::Running => "running",
                State::Failed(_) => "failed",
            },
            phases: timeline.phases.iter().map(phase).collect(),
            agent_first_call_seconds: timeline.agent_first_call,
            image_bytes: timeline.image.bytes,
            image_bytes_written: timeline.image.written,
            image_seconds: rounded(timeline.image.took.as_secs_f64()),
        }
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
