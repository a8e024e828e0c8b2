// SPDX-License-Identifier: Apache-2.0

//! Whether a cluster can come to be from its files: everything that is wrong, before anything is touched.
//!
//! Owns what can be said without a network. Each part below looks at one thing and tells all it finds; none stops another, and
//! none changes anything. Called by `tink cluster check` and before a cluster is created.

mod datacenter;
mod hardware;
mod machines;
mod network;
mod nodes;
mod roles;
mod services;
mod template;

use crate::{
    cluster::{ClusterFile, Sourced},
    finding::Findings,
    inventory::Inventory,
};

pub use hardware::{CONTROL_PLANE, Wanted, roles};

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The cluster file.
    pub file: &'a ClusterFile,
    /// The machines; none when no `hardware.csv` was given.
    pub inventory: Option<&'a Inventory>,
}

/// Everything that the files alone tell.
pub fn offline(subject: Subject<'_>, findings: &mut Findings) {
    const PARTS: [fn(&mut Check<'_>); 8] = [
        roles::check,
        nodes::check,
        network::check,
        services::check,
        datacenter::check,
        machines::check,
        template::check,
        hardware::check,
    ];
    let mut check = Check { subject, findings };
    for part in PARTS {
        part(&mut check);
    }
}

/// The subject with what was found of it.
struct Check<'a> {
    subject: Subject<'a>,
    findings: &'a mut Findings,
}

impl<'a> Check<'a> {
    fn file(&self) -> &'a ClusterFile {
        self.subject.file
    }

    /// A mistake in the Cluster.
    fn wrong(&mut self, code: &'static str, field: &str, what: impl Into<String>, fix: impl Into<String>) {
        let place = self.file().cluster.place(field);
        self.findings.error(code, place, what, fix);
    }

    /// Something doubtful in the Cluster.
    fn doubt(&mut self, code: &'static str, field: &str, what: impl Into<String>, fix: impl Into<String>) {
        let place = self.file().cluster.place(field);
        self.findings.warning(code, place, what, fix);
    }

    /// A mistake in another document.
    fn wrong_in<T>(
        &mut self,
        document: &Sourced<T>,
        (code, field): (&'static str, &str),
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.error(code, document.place(field), what, fix);
    }
}

#[cfg(test)]
mod tests;
