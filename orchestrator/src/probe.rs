// SPDX-License-Identifier: Apache-2.0

//! What only a look at the world can tell: BMCs, images, addresses that are in use, other DHCP servers.
//!
//! Owns the questions and how many are asked at once. Every question has a limit, nothing is retried beyond what its protocol
//! does, and nothing is changed: BMCs are asked for power state and boot override, files for their heads. All of it runs side by
//! side, so that a rack takes as long as its slowest BMC.

mod bmc;
mod segment;
mod web;

use std::time::Duration;

use crate::{check::Subject, finding::Findings};

/// Longest time that one BMC, one URL or one address is waited for.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Everything that can be seen from this machine.
pub async fn online(subject: Subject<'_>, findings: &mut Findings) {
    let (bmcs, files, addresses) =
        tokio::join!(bmc::all(subject.inventory), web::all(subject.file), segment::all(subject.file),);
    findings.extend(bmcs);
    findings.extend(files);
    findings.extend(addresses);
}
