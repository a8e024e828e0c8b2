// SPDX-License-Identifier: Apache-2.0

//! What known services get wrong, one row each with where it was seen. The flow asks for a quirk and never compares vendor names.

use serde_json::Value;

use crate::json;

/// A way in which a service departs from the standard or from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// `BootSourceOverrideEnabled` reads back as `Continuous` after `Once` was written.
    OnceReadsAsContinuous,
}

/// One row: which service, what it does, how we know.
#[derive(Clone, Copy, Debug)]
pub struct QuirkRow {
    /// Compared with the system's `Manufacturer` and the service root's `Vendor` and `Product`: must occur in one, any case.
    pub vendor: &'static str,
    /// What it does.
    pub quirk: Quirk,
    /// Where it was seen.
    pub evidence: &'static str,
}

const TABLE: &[QuirkRow] = &[QuirkRow {
    vendor: "sushy emulator",
    quirk: Quirk::OnceReadsAsContinuous,
    evidence: "sushy-tools 2.2.0: its system template has the constant Continuous; seen with GET after PATCH",
}];

/// The rows that apply to one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quirks(Vec<QuirkRow>);

impl Quirks {
    /// Picks the rows by what the service root and the system say about themselves.
    pub(crate) fn of(root: &Value, system: &Value) -> Self {
        let names =
            [json::text(system, "Manufacturer"), json::text(root, "Vendor"), json::text(root, "Product")];
        let names: Vec<String> = names.into_iter().flatten().map(str::to_lowercase).collect();
        Self(TABLE.iter().filter(|row| names.iter().any(|name| name.contains(row.vendor))).copied().collect())
    }

    pub(crate) fn rows(&self) -> &[QuirkRow] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Quirks, TABLE};

    #[test]
    fn rows_are_found_by_name_and_have_evidence() {
        assert!(TABLE.iter().all(|row| row.evidence.len() > 20 && row.vendor == row.vendor.to_lowercase()));
        let system = json!({"Manufacturer": "Sushy Emulator"});
        assert_eq!(Quirks::of(&json!({}), &system).rows().len(), 1);
        assert!(Quirks::of(&json!({"Vendor": "HPE"}), &json!({"Manufacturer": "HPE"})).rows().is_empty());
    }
}
