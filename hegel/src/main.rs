// SPDX-License-Identifier: Apache-2.0
//! The metadata daemon as a program of its own.

const DAEMON: daemon::Daemon =
    daemon::Daemon { name: "hegel", version: env!("CARGO_PKG_VERSION"), settings: hegel::SETTINGS };

fn main() -> std::process::ExitCode {
    daemon::main(&DAEMON, hegel::Config::from_settings, hegel::run)
}
