// SPDX-License-Identifier: Apache-2.0
//! The daemon against clients that are not ours: udhcpc, dhclient, perfdhcp, curl, logger, busybox syslogd, and QEMU machines with iPXE's ROM and OVMF.
//!
//! Each test makes a network namespace, which needs root, and programs: busybox, ip, curl, nsenter, dhclient, perfdhcp, dumpcap, tshark,
//! logger, QEMU with OVMF, and the artefacts of `./x build`. So they are ignored by default; run them with `--include-ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "clients/dhcp.rs"]
mod dhcp;
#[path = "clients/dhcp6.rs"]
mod dhcp6;
#[path = "clients/golden.rs"]
mod golden;
#[path = "clients/iso.rs"]
mod iso;
#[path = "clients/machines.rs"]
mod machines;
#[path = "clients/pcap.rs"]
mod pcap;
#[path = "clients/syslog.rs"]
mod syslog;
#[path = "clients/tftp.rs"]
mod tftp;
#[path = "clients/web.rs"]
mod web;
#[path = "clients/world.rs"]
mod world;
