// SPDX-License-Identifier: Apache-2.0
//! The daemon as a program: of its own, and as a subcommand of `tink`.

use std::process::ExitCode;

use api::{annotations::SYSTEM_NAMESPACE, ownership};
use daemon::{Daemon, gate::Gate};

/// The daemon as the skeleton knows it.
pub const DAEMON: Daemon =
    Daemon { name: "hegel", version: env!("CARGO_PKG_VERSION"), settings: crate::SETTINGS, state: &[] };

/// It acts only where the machines are owned.
const OWNER: Gate = Gate { namespace: SYSTEM_NAMESPACE, name: ownership::NAME, may_pass: ownership::may_act };

/// Runs it from its arguments, without the program's name, to its exit code.
#[must_use]
pub fn main(args: Vec<String>) -> ExitCode {
    daemon::main(&DAEMON, args, crate::Config::from_settings, OWNER.guard(crate::run))
}
