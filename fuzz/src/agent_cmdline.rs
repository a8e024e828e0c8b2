// SPDX-License-Identifier: Apache-2.0
//! The agent's kernel command line (the first line) and flags (one on each further line).

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tink_worker::config::{Config, Invocation};

fuzz_target!(|input: &[u8]| {
    // As the process does with /proc/cmdline and its arguments.
    let text = String::from_utf8_lossy(input);
    let (cmdline, flags) = fuzz::head(&text);
    let flags: Vec<String> = flags.lines().map(str::to_owned).collect();
    match Config::load(&flags, &BTreeMap::new(), cmdline) {
        Ok(Invocation::Run(config)) => {
            assert!(!config.agent_id.is_empty() && !config.server.is_empty());
        }
        Ok(Invocation::Print(text)) => assert!(!text.is_empty()),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
