// SPDX-License-Identifier: Apache-2.0
//! One emulated machine (BIOS, IPMI) from powered off to a login, with the daemons as separate programs over TLS against
//! `tink api`, each with its own account.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::process::ExitCode;

use tests::target::Kind;
use tests::{install, runner};

const NAME: &str = "programs_of_their_own_install_a_bios_machine_through_our_api_server";

fn main() -> ExitCode {
    runner::main(NAME, || {
        runner::in_namespace("e2e-embedded-", async |namespace, dir| {
            install::one_machine(namespace, dir, Kind::Embedded, 0).await
        })
    })
}
