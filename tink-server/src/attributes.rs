// SPDX-License-Identifier: Apache-2.0
//! The inventory that an agent reports, as the JSON of the annotation that keeps it.
//!
//! The names are upstream's, empty members are left out. Called by the gRPC endpoint, once per Workflow.

use proto::workflow::AgentAttributes;
use serde_json::{Map, Value as Json, json};

/// Largest annotation value that is written, in bytes; a larger inventory is not kept.
const MAX: usize = 64 * 1024;

/// The annotation's value; nothing for an empty or too large inventory.
pub fn annotation(attributes: &AgentAttributes) -> Option<String> {
    let json = pruned(document(attributes))?;
    let text = json.to_string();
    (text.len() <= MAX).then_some(text)
}

fn document(all: &AgentAttributes) -> Json {
    let processors = |cpu: &proto::workflow::Cpu| -> Vec<Json> {
        let each = cpu.processors.iter();
        each.map(|p| {
            json!({"id": p.id, "cores": p.cores, "threads": p.threads, "vendor": p.vendor, "model": p.model,
                "capabilities": p.capabilities})
        })
        .collect()
    };
    json!({
        "cpu": all.cpu.as_ref().map(|cpu| json!({
            "totalCores": cpu.total_cores, "totalThreads": cpu.total_threads, "processors": processors(cpu),
        })),
        "memory": all.memory.as_ref().map(|m| json!({"total": m.total, "usable": m.usable})),
        "blockDevices": all.block.iter().map(|b| json!({
            "name": b.name, "controllerType": b.controller_type, "driveType": b.drive_type, "size": b.size,
            "physicalBlockSize": b.physical_block_size, "vendor": b.vendor, "model": b.model, "wwn": b.wwn,
            "serialNumber": b.serial_number,
        })).collect::<Vec<_>>(),
        "networkInterfaces": all.network.iter().map(|n| json!({
            "name": n.name, "mac": n.mac, "speed": n.speed, "enabledCapabilities": n.enabled_capabilities,
        })).collect::<Vec<_>>(),
        "pciDevices": all.pci.iter().map(|d| json!({
            "vendor": d.vendor, "product": d.product, "class": d.class, "driver": d.driver,
        })).collect::<Vec<_>>(),
        "gpuDevices": all.gpu.iter().map(|d| json!({
            "vendor": d.vendor, "product": d.product, "class": d.class, "driver": d.driver,
        })).collect::<Vec<_>>(),
        "chassis": all.chassis.as_ref().map(|c| json!({"serial": c.serial, "vendor": c.vendor})),
        "bios": all.bios.as_ref().map(|b| json!({
            "vendor": b.vendor, "version": b.version, "releaseDate": b.release_date,
        })),
        "baseboard": all.baseboard.as_ref().map(|b| json!({
            "vendor": b.vendor, "product": b.product, "version": b.version, "serialNumber": b.serial_number,
        })),
        "product": all.product.as_ref().map(|p| json!({
            "name": p.name, "vendor": p.vendor, "serialNumber": p.serial_number,
        })),
    })
}

/// The value without nulls, empty strings, zeros and empty containers, as Go's `omitempty` leaves it.
fn pruned(value: Json) -> Option<Json> {
    match value {
        Json::Null => None,
        Json::String(text) if text.is_empty() => None,
        Json::Number(number) if number.as_u64() == Some(0) => None,
        Json::Array(items) => {
            let items: Vec<Json> = items.into_iter().filter_map(pruned).collect();
            (!items.is_empty()).then_some(Json::Array(items))
        }
        Json::Object(members) => {
            let members: Map<String, Json> =
                members.into_iter().filter_map(|(key, value)| Some((key, pruned(value)?))).collect();
            (!members.is_empty()).then_some(Json::Object(members))
        }
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::workflow::{Block, Cpu, Processor};

    #[test]
    fn names_are_upstreams_and_empty_members_are_left_out() {
        let attributes = AgentAttributes {
            cpu: Some(Cpu {
                total_cores: Some(2),
                processors: vec![Processor { model: Some("x".into()), ..Processor::default() }],
                ..Cpu::default()
            }),
            block: vec![Block {
                name: Some("sda".into()),
                serial_number: Some("1".into()),
                ..Block::default()
            }],
            ..AgentAttributes::default()
        };
        let json: Json = serde_json::from_str(&annotation(&attributes).unwrap()).unwrap();
        assert_eq!(
            json,
            json!({"cpu": {"totalCores": 2, "processors": [{"model": "x"}]},
                   "blockDevices": [{"name": "sda", "serialNumber": "1"}]})
        );
        assert_eq!(annotation(&AgentAttributes::default()), None);
    }

    #[test]
    fn an_inventory_that_is_too_large_is_not_kept() {
        let block = Block { name: Some("x".repeat(1000)), ..Block::default() };
        let attributes = AgentAttributes { block: vec![block; 100], ..AgentAttributes::default() };
        assert_eq!(annotation(&attributes), None);
    }
}
