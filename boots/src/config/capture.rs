// SPDX-License-Identifier: Apache-2.0
//! What can be set about the packets that are kept of boots, and what follows from it.

use daemon::config::{Kind, Setting, Settings};

use crate::capture::{CaptureConfig, MACHINE};

/// The directory in the state directory.
pub(super) const PACKETS: &str = "boots-packets";

/// The settings.
pub(super) const SETTINGS: [Setting; 2] = [
    Setting::new("pcap-enabled", "pcap-enabled", Kind::Bool, "keep the packets of each machine's last boot")
        .with_default("true"),
    Setting::new(
        "pcap-keep-total",
        "pcap-keep-total",
        Kind::Integer,
        "MiB of packets that are kept in boots-packets of the state directory, at most 128 KiB of one machine; beyond it the machines \
         that were silent for longest lose theirs",
    )
    .with_default("256"),
];

/// Reads the settings, nothing when it is off; mistakes are recorded in them.
pub(super) fn from_settings(settings: &mut Settings) -> Option<CaptureConfig> {
    let total = settings.get_or("pcap-keep-total", 256_u64).saturating_mul(1 << 20);
    if total < MACHINE {
        settings.mistake("pcap-keep-total", "must be at least 1");
    }
    let dir = daemon::state_dir(settings.path("state-dir")).join(PACKETS);
    settings.bool("pcap-enabled").then_some(CaptureConfig { dir, total })
}
