// SPDX-License-Identifier: Apache-2.0
//! The network-boot daemon as a program of its own.

const DAEMON: daemon::Daemon =
    daemon::Daemon { name: "boots", version: env!("CARGO_PKG_VERSION"), settings: boots::SETTINGS };

/// It acts only where the machines are owned.
const OWNER: daemon::gate::Gate = daemon::gate::Gate {
    namespace: api::annotations::SYSTEM_NAMESPACE,
    name: api::ownership::NAME,
    may_pass: api::ownership::may_act,
};

fn main() -> std::process::ExitCode {
    daemon::main_checked(&DAEMON, boots::Config::from_settings, boots::check, OWNER.guard(boots::run))
}
