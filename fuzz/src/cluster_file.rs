// SPDX-License-Identifier: Apache-2.0
//! Cluster files: whatever is in one, every check comes to an end and tells what is wrong with its place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrator::{
    check::{self, Subject},
    cluster,
    finding::Findings,
    inventory::{self, BmcMode, Inventory},
};
use std::sync::LazyLock;

static MACHINES: LazyLock<Inventory> = LazyLock::new(|| {
    let text = include_str!("../corpus/hardware-csv/good");
    inventory::read("hardware.csv", text, BmcMode::Accounts, &mut Findings::default())
});

fuzz_target!(|input: &[u8]| {
    let Some(text) = fuzz::text(input) else { return };
    let mut findings = Findings::default();
    let file = cluster::read("cluster.yaml", text, &mut findings);
    match &file {
        Some(file) => check::offline(Subject { file, inventory: Some(&MACHINES) }, &mut findings),
        None => assert!(findings.has_errors()),
    }
    for finding in findings.as_slice() {
        assert!(!finding.place.file.is_empty() && !finding.what.is_empty() && !finding.fix.is_empty());
    }
});
