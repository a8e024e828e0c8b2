// SPDX-License-Identifier: Apache-2.0
//! The workflow daemon as a program of its own.

use std::process::ExitCode;

use daemon::Daemon;

fn main() -> ExitCode {
    let daemon = Daemon {
        name: tink_server::NAME,
        version: env!("CARGO_PKG_VERSION"),
        settings: tink_server::SETTINGS,
    };
    daemon::main(&daemon, tink_server::Config::from_settings, tink_server::run)
}
