// SPDX-License-Identifier: Apache-2.0
//! Files of machines in the state directory: whose they are, and where. Used by `logs` and `capture`.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::backend::Found;
use crate::files::is_name;

/// Longest name of a machine; with its ending it must be a file name (255 bytes).
pub(crate) const MAX_NAME: usize = 240;

/// Namespace and name of a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) machine: String,
}

impl Name {
    pub(crate) fn of(found: &Found) -> Self {
        Self { namespace: found.machine.namespace.clone(), machine: found.machine.name.clone() }
    }

    /// Its file below a directory: `<dir>/<namespace>/<machine><ending>`; nothing when a name is not a harmless path element.
    pub(crate) fn file(&self, dir: &Path, ending: &str) -> Option<PathBuf> {
        let Self { namespace, machine } = self;
        let harmless = is_name(namespace) && is_name(machine) && machine.len() <= MAX_NAME;
        harmless.then(|| dir.join(namespace).join(format!("{machine}{ending}")))
    }
}

/// Makes a directory for its owner only.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
