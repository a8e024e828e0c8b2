// SPDX-License-Identifier: Apache-2.0
//! One emulated machine (UEFI, Redfish) from powered off to a login, with the daemons as separate programs over TLS against
//! a real kube-apiserver with the RBAC that we generate, each with its own account.
//!
//! No test harness: the process moves into a network namespace before it starts a thread.

use std::process::ExitCode;

use tests::target::Kind;
use tests::{install, runner};

const NAME: &str = "programs_of_their_own_install_a_uefi_machine_through_a_real_kubernetes";

fn main() -> ExitCode {
    runner::main(NAME, || {
        runner::in_namespace("e2e-kubernetes-", async |namespace, dir| {
            install::one_machine(namespace, dir, Kind::Kubernetes, 1).await
        })
    })
}
