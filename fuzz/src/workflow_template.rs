// SPDX-License-Identifier: Apache-2.0
//! Templates: what renders and reads as a workflow keeps the rules that agents and status writers rely on.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::v1alpha1::Hardware;
use gotemplate::Value;
use libfuzzer_sys::fuzz_target;
use tink_server::{template, view};

static DATA: LazyLock<Value> = LazyLock::new(|| {
    let hardware: Hardware = serde_json::from_value(serde_json::json!({
        "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "m1"},
        "spec": {"disks": [{"device": "/dev/sda"}], "interfaces": [{"dhcp": {"mac": "52:54:00:00:00:11"}}]},
    }))
    .expect("the Hardware is valid");
    let map = BTreeMap::from([("device_1".to_owned(), "52:54:00:00:00:11".to_owned())]);
    view::data(&map, Some(&hardware))
});

fuzz_target!(|input: &[u8]| {
    let Some(text) = fuzz::text(input) else { return };
    let mut next = 0_u32;
    let mut id = || {
        next += 1;
        next.to_string()
    };
    match template::render(text, &DATA, &mut id) {
        Ok(workflow) => {
            assert!(!workflow.tasks.is_empty() && workflow.global_timeout >= 0);
            for task in &workflow.tasks {
                assert!(!task.name.is_empty() && !task.agent_id.is_empty());
                for action in &task.actions {
                    assert!(action.image.as_deref().is_some_and(|image| !image.is_empty()));
                    assert!(action.timeout.is_none_or(|seconds| seconds >= 0));
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
