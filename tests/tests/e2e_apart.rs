// SPDX-License-Identifier: Apache-2.0
//! One emulated machine from powered off to a login, with the daemons as separate programs over TLS, each with its own account:
//! a BIOS machine with IPMI through `tink api`, and at the same time a UEFI machine with Redfish through a real kube-apiserver
//! with the RBAC that we generate. Most of the time both wait for emulated firmware, so that together they take little longer
//! than one: 240 s on two cores.
//!
//! No test harness: each scenario moves its process into a network namespace before it starts a thread.

use std::process::ExitCode;

use tests::target::Kind;
use tests::{install, runner};

fn main() -> ExitCode {
    runner::together(&[
        ("programs_of_their_own_install_a_bios_machine_through_our_api_server", || {
            runner::in_namespace("e2e-embedded-", async |namespace, dir| {
                install::one_machine(namespace, dir, Kind::Embedded, 0).await
            })
        }),
        ("programs_of_their_own_install_a_uefi_machine_through_a_real_kubernetes", || {
            runner::in_namespace("e2e-kubernetes-", async |namespace, dir| {
                install::one_machine(namespace, dir, Kind::Kubernetes, 1).await
            })
        }),
    ])
}
