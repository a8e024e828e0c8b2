// SPDX-License-Identifier: Apache-2.0
//! `hardware.csv`: every machine that is read is the same machine again when it comes back from its objects, whatever stands
//! around it; and a file without machines is never without a finding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrator::{
    finding::Findings,
    inventory::{self, BmcMode, Server},
};

fuzz_target!(|input: &[u8]| {
    let Some(text) = fuzz::text(input) else { return };
    let mut findings = Findings::default();
    let inventory = inventory::read("hardware.csv", text, BmcMode::Accounts, &mut findings);
    assert!(inventory.servers.len() <= inventory.rows);
    assert!(!inventory.servers.is_empty() || findings.has_errors());
    let lines = text.lines().count() as u64 + 1;
    for finding in findings.as_slice() {
        assert!(finding.place.line <= lines && !finding.what.is_empty() && !finding.fix.is_empty());
    }
    for (line, server) in &inventory.servers {
        assert!(*line > 0 && *line <= lines);
        let objects = server.objects(None);
        let back = Server::from_objects(&objects.hardware, objects.machine.as_ref(), objects.secrets.first());
        assert_eq!(back.as_ref(), Ok(server));
    }
});
