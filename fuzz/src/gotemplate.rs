// SPDX-License-Identifier: Apache-2.0
//! Go templates: any text parses or is refused with a line, and renders within its bound.

#![no_main]

use std::sync::LazyLock;

use gotemplate::{Error, OUTPUT_LIMIT, Template, Value, data};
use libfuzzer_sys::fuzz_target;

static DATA: LazyLock<Value> = LazyLock::new(|| {
    data::from_json(&serde_json::json!({
        "device_1": "52:54:00:00:00:11",
        "n": 3, "f": 1.5, "t": true, "nil": null, "list": ["a", "b", 7],
        "Hardware": {"Disks": ["/dev/sda"], "Metadata": null, "Interfaces": [{"DHCP": {"IP": {"Netmask": "255.255.255.0"}}}]},
    }))
});

fuzz_target!(|input: &[u8]| {
    let Some(source) = fuzz::text(input) else { return };
    let lines = source.split('\n').count();
    match Template::parse(source).and_then(|mut template| template.render(&DATA)) {
        Ok(text) => assert!(text.len() <= OUTPUT_LIMIT),
        Err(Error::TooLong) => {}
        Err(error) => {
            let line = error.line().expect("every other error has a line");
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {error}");
        }
    }
});
