// SPDX-License-Identifier: Apache-2.0
//! The workflow daemon as a program of its own.

use std::process::ExitCode;

use daemon::Daemon;

/// It acts only where the machines are owned.
const OWNER: daemon::gate::Gate = daemon::gate::Gate {
    namespace: api::annotations::SYSTEM_NAMESPACE,
    name: api::ownership::NAME,
    may_pass: api::ownership::may_act,
};

fn main() -> ExitCode {
    let daemon = Daemon {
        name: tink_server::NAME,
        version: env!("CARGO_PKG_VERSION"),
        settings: tink_server::SETTINGS,
    };
    daemon::main(&daemon, tink_server::Config::from_settings, OWNER.guard(tink_server::run))
}
