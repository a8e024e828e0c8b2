// SPDX-License-Identifier: Apache-2.0

//! Whether there are machines enough: selectors against the rows of `hardware.csv`, with the counts of all roles added up.

use super::Check;
use crate::{
    cluster::ClusterFile,
    finding::Place,
    inventory::Inventory,
    plan::{self, Role, RoleKind, Shortage},
    provider::bare_metal,
};

/// The role of the control plane's machines; no worker group can have this name.
pub const CONTROL_PLANE: &str = "control-plane";

/// A role with the configuration of its machines.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The role, with who fits it.
    pub role: Role,
    /// Name of its machine configuration.
    pub config: String,
}

/// The roles of a cluster, with the machines of `inventory` that fit each. A role whose configuration is not there is left out.
#[must_use]
pub fn roles(file: &ClusterFile, inventory: &Inventory) -> Vec<Wanted> {
    let spec = &file.cluster.value.spec;
    let control_plane = spec.control_plane_configuration.as_ref();
    let first = control_plane.map(|one| {
        (CONTROL_PLANE.to_owned(), RoleKind::ControlPlane, one.count, one.machine_group_ref.as_ref())
    });
    let groups = spec.worker_node_group_configurations.iter().map(|group| {
        let least = group.autoscaling_configuration.as_ref().and_then(|scaling| scaling.min_count);
        let name = group.name.clone().unwrap_or_default();
        (name, RoleKind::Worker, group.count.max(least), group.machine_group_ref.as_ref())
    });
    let wanted =
        |(name, kind, count, reference): (String, _, Option<i64>, Option<&api::anywhere::v1alpha1::Ref>)| {
            let config = file.machine_config(reference?.name.as_deref()?)?;
            let servers = inventory.servers.iter().map(|(_, server)| server);
            let candidates = bare_metal::candidates(&config.value.spec, servers);
            let count = usize::try_from(count.unwrap_or(0)).unwrap_or(0).min(MAX_COUNT);
            Some(Wanted { role: Role { name, kind, count, candidates }, config: config.name().to_owned() })
        };
    first.into_iter().chain(groups).filter_map(wanted).collect()
}

/// Kubernetes' own bound on nodes; what is beyond is told as a lack of machines.
const MAX_COUNT: usize = 5000;

pub(super) fn check(check: &mut Check<'_>) {
    let (file, Some(inventory)) = (check.file(), check.subject.inventory) else { return };
    // Rows that are wrong may be just those that seem to be lacking.
    let complete = inventory.servers.len() == inventory.rows;
    let wanted = roles(file, inventory);
    let roles: Vec<_> = wanted.iter().map(|wanted| wanted.role.clone()).collect();
    let plan = plan::plan(file.cluster.name(), &roles, &std::collections::BTreeMap::new());
    for shortage in plan.shortages.iter().filter(|_| complete) {
        lacking(check, inventory, &wanted, shortage);
    }
    two_selectors(check, inventory, &wanted);
}

fn lacking(check: &mut Check<'_>, inventory: &Inventory, wanted: &[Wanted], shortage: &Shortage) {
    let file = check.file();
    let Some(role) = wanted.iter().find(|wanted| wanted.role.name == shortage.role) else { return };
    let Some(config) = file.machine_config(&role.config) else { return };
    let selector = bare_metal::describe(&config.value.spec);
    let Shortage { missing, fitting, shared_with, .. } = shortage;
    let sharing = wanted.iter().filter(|one| shared_with.contains(&one.role.name));
    let together: usize = sharing.map(|one| one.role.count).sum::<usize>() + role.role.count;
    let needs = if shared_with.is_empty() {
        format!("{} needs {together}", shortage.role)
    } else {
        format!("{} and {} need {together} together", shared_with.join(", "), shortage.role)
    };
    let what = format!("{selector} fits {fitting} machines of {}, and {needs}", inventory.file);
    let fix = format!("add {missing} more that it fits, or lower a count");
    let field = if config.value.spec.hardware_affinity.is_some() {
        "spec.hardwareAffinity"
    } else {
        "spec.hardwareSelector"
    };
    check.findings.error("hardware-lacking", config.place(field), what, fix);
}

/// A machine that several selectors fit may end in either role, which hardly anybody means.
fn two_selectors(check: &mut Check<'_>, inventory: &Inventory, wanted: &[Wanted]) {
    for (line, server) in &inventory.servers {
        let mut configs: Vec<_> = wanted
            .iter()
            .filter(|wanted| {
                wanted.role.candidates.iter().any(|candidate| candidate.machine == server.hostname)
            })
            .map(|wanted| wanted.config.as_str())
            .collect();
        configs.sort_unstable();
        configs.dedup();
        let selectors: std::collections::BTreeSet<_> = configs
            .iter()
            .filter_map(|name| check.file().machine_config(name))
            .map(|config| bare_metal::describe(&config.value.spec))
            .collect();
        if selectors.len() > 1 {
            let place = Place::new(&inventory.file, *line, "labels");
            let what = format!("{} fits the selectors of {}", server.hostname, configs.join(" and "));
            check.findings.warning("two-selectors", place, what, "give it the label of one of them only");
        }
    }
}
