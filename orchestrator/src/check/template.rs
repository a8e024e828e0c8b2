// SPDX-License-Identifier: Apache-2.0

//! Templates of the user's own: that they can be rendered, and that a workflow can be made of them.

use std::collections::BTreeSet;

use api::anywhere::v1alpha1::{TemplateAction, TinkerbellTemplateConfig};

use super::Check;
use crate::{cluster::Sourced, templates};

/// Ports of the metadata service, ours and one that older files have.
const METADATA_PORTS: [&str; 2] = [":7172", ":50061"];

pub(super) fn check(check: &mut Check<'_>) {
    let file = check.file();
    for template in &file.templates {
        structure(check, template);
        expressions(check, template);
    }
    disk_selectors(check);
}

fn structure(check: &mut Check<'_>, template: &Sourced<TinkerbellTemplateConfig>) {
    const FIELD: &str = "spec.template";
    let spec = &template.value.spec.template;
    if spec.global_timeout < 0 {
        let field = format!("{FIELD}.global_timeout");
        check.wrong_in(template, ("template-timeout", &field), "is negative", "write seconds; 0 is no limit");
    }
    if spec.tasks.is_empty() {
        let field = format!("{FIELD}.tasks");
        check.wrong_in(
            template,
            ("template-tasks", &field),
            "is empty",
            "write at least one task with its actions",
        );
    }
    for (number, task) in spec.tasks.iter().enumerate() {
        let field = format!("{FIELD}.tasks[{number}]");
        if !task.worker.contains("device_1") {
            let what = format!("{:?} is not the machine that is installed", task.worker);
            check.wrong_in(
                template,
                ("template-worker", &format!("{field}.worker")),
                what,
                "write \"{{.device_1}}\"",
            );
        }
        if task.actions.is_empty() {
            let field = format!("{field}.actions");
            check.wrong_in(template, ("template-actions", &field), "is empty", "write at least one action");
        }
        let mut names = BTreeSet::new();
        for (number, action) in task.actions.iter().enumerate() {
            let field = format!("{field}.actions[{number}]");
            if !names.insert(action.name.as_str()) {
                let what = format!("{:?} is there twice", action.name);
                check.wrong_in(
                    template,
                    ("template-names", &format!("{field}.name")),
                    what,
                    "rename one of the two",
                );
            }
            self::action(check, template, &field, action);
        }
    }
}

fn action(
    check: &mut Check<'_>,
    template: &Sourced<TinkerbellTemplateConfig>,
    field: &str,
    action: &TemplateAction,
) {
    for (name, value) in [("name", &action.name), ("image", &action.image)] {
        if value.is_empty() {
            let field = format!("{field}.{name}");
            check.wrong_in(
                template,
                ("template-action", &field),
                "is empty",
                "every action has a name and an image",
            );
        }
    }
    if action.timeout < 0 {
        let field = format!("{field}.timeout");
        check.wrong_in(template, ("template-timeout", &field), "is negative", "write seconds; 0 is no limit");
    }
    let Some(contents) = action.environment.get("CONTENTS") else { return };
    let own = check.file().datacenter.as_ref().map(|datacenter| datacenter.value.spec.tinkerbell_ip.as_str());
    if let Some(own) = own.filter(|own| !own.is_empty())
        && METADATA_PORTS.iter().any(|port| contents.contains(port))
        && !contents.contains(own)
    {
        let place = template.place(&format!("{field}.environment.CONTENTS"));
        let what = format!("names a metadata service, but not that of the final cluster, {own}");
        let fix = "write both addresses: a template of your own is not rewritten when the cluster moves";
        check.findings.warning("template-metadata", place, what, fix);
    }
}

/// Whether it parses as a Go template; where not, the field is looked for.
fn expressions(check: &mut Check<'_>, template: &Sourced<TinkerbellTemplateConfig>) {
    let spec = &template.value.spec.template;
    let Err(whole) = gotemplate::Template::parse(&templates::to_yaml(spec)) else { return };
    let fix = "correct the expression; functions are those of Go templates, sprig's, and formatPartition";
    let mut found = false;
    for (task_number, task) in spec.tasks.iter().enumerate() {
        let field = format!("spec.template.tasks[{task_number}]");
        let mut texts = vec![(format!("{field}.worker"), &task.worker)];
        for (number, action) in task.actions.iter().enumerate() {
            let field = format!("{field}.actions[{number}]");
            texts.push((format!("{field}.image"), &action.image));
            texts.extend(
                action.environment.iter().map(|(key, value)| (format!("{field}.environment.{key}"), value)),
            );
        }
        for (field, text) in texts {
            if let Err(error) = gotemplate::Template::parse(text) {
                found = true;
                check.wrong_in(template, ("template-expression", &field), error.to_string(), fix);
            }
        }
    }
    if !found {
        check.wrong_in(template, ("template-expression", "spec.template"), whole.to_string(), fix);
    }
}

/// The disk that is written is so far always the one that `hardware.csv` names.
fn disk_selectors(check: &mut Check<'_>) {
    let file = check.file();
    for config in file.machine_configs.iter().filter(|config| config.value.spec.disk_selector.is_some()) {
        let fix = "name the disk in the column disk of hardware.csv; /dev/disk/by-id/... does not change with the order of disks";
        let place = config.place("spec.diskSelector");
        check.findings.error(
            "disk-selector",
            place,
            "is not acted on yet, and the wrong disk could be written",
            fix,
        );
    }
}
