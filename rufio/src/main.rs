// SPDX-License-Identifier: Apache-2.0

//! The rufio daemon on its own.

const DAEMON: daemon::Daemon =
    daemon::Daemon { name: "rufio", version: env!("CARGO_PKG_VERSION"), settings: rufio::SETTINGS };

/// It acts only where the machines are owned.
const OWNER: daemon::gate::Gate = daemon::gate::Gate {
    namespace: api::annotations::SYSTEM_NAMESPACE,
    name: api::ownership::NAME,
    may_pass: api::ownership::may_act,
};

fn main() -> std::process::ExitCode {
    daemon::main(&DAEMON, rufio::Config::from_settings, OWNER.guard(rufio::run))
}
