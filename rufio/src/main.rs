// SPDX-License-Identifier: Apache-2.0

//! The rufio daemon on its own.

const DAEMON: daemon::Daemon =
    daemon::Daemon { name: "rufio", version: env!("CARGO_PKG_VERSION"), settings: rufio::SETTINGS };

fn main() -> std::process::ExitCode {
    daemon::main(&DAEMON, rufio::Config::from_settings, rufio::run)
}
