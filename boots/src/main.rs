// SPDX-License-Identifier: Apache-2.0
//! The network-boot daemon as a program of its own.

const DAEMON: daemon::Daemon =
    daemon::Daemon { name: "boots", version: env!("CARGO_PKG_VERSION"), settings: boots::SETTINGS };

fn main() -> std::process::ExitCode {
    daemon::main_checked(&DAEMON, boots::Config::from_settings, boots::check, boots::run)
}
