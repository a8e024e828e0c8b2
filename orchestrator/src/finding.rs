// SPDX-License-Identifier: Apache-2.0

//! What is wrong, where, and what would put it right.
//!
//! Owns [`Finding`], the one form in which files, checks and the planner tell a mistake, and [`Findings`], which collects all of
//! them: nothing stops at the first. A finding never holds a secret.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work so.
    Error,
    /// It can work, but hardly as it is meant.
    Warning,
}

/// A place in a file, or the thing outside of files that a check looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// File as the user named it; empty for what is in no file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Line, from 1; 0 = the file as a whole.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: u64,
    /// Column of a table, or path of a field: `spec.users[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of mistake it is, for programs: words with dashes, the same in every version.
    pub code: &'static str,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong, with the value.
    pub what: String,
    /// What would put it right.
    pub fix: String,
}

/// All that was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

fn is_zero(line: &u64) -> bool {
    *line == 0
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl Place {
    /// A place in a file.
    #[must_use]
    pub fn new(file: &str, line: u64, field: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, field: field.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        let between = if self.file.is_empty() || self.field.is_empty() { "" } else { ": " };
        write!(f, "{between}{}", self.field)
    }
}

/// `error: hardware.csv:3: mac: "x" is not a MAC; write six bytes as 52:54:00:12:34:56`, in one line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.severity, self.place, self.what, self.fix)
    }
}

impl Findings {
    /// Adds what cannot work.
    pub fn error(
        &mut self,
        code: &'static str,
        place: Place,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Finding { severity: Severity::Error, code, place, what: what.into(), fix: fix.into() });
    }

    /// Adds what can work, but hardly as it is meant.
    pub fn warning(
        &mut self,
        code: &'static str,
        place: Place,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Finding { severity: Severity::Warning, code, place, what: what.into(), fix: fix.into() });
    }

    /// Adds a finding, unless one is known at the very same field: what follows from a mistake is no mistake of its own.
    pub fn push(&mut self, finding: Finding) {
        let place = &finding.place;
        let known =
            !place.field.is_empty() && place.line > 0 && self.0.iter().any(|other| other.place == *place);
        if !known {
            self.0.push(finding);
        }
    }

    /// Adds those of another check.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Finding>) {
        others.into_iter().for_each(|finding| self.push(finding));
    }

    /// Whether anything cannot work.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All, by file and line; what is in no file comes last.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by(|a, b| (a.place.file.is_empty(), &a.place).cmp(&(b.place.file.is_empty(), &b.place)));
        self.0
    }

    /// All, as they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_wrong_is_told_once_and_everything_is_in_the_order_of_the_files() {
        let mut findings = Findings::default();
        findings.error("a", Place::new("", 0, "10.0.0.1"), "does not answer", "switch it on");
        findings.error("b", Place::new("f", 7, "x"), "is no number", "write one");
        findings.error("c", Place::new("f", 7, "x"), "is too small", "write more");
        findings.warning("d", Place::new("f", 2, ""), "is odd", "look at it");
        findings.warning("e", Place::new("f", 2, ""), "is odd too", "look at it");
        assert!(findings.has_errors());
        let texts: Vec<_> = findings.sorted().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "warning: f:2: is odd; look at it",
                "warning: f:2: is odd too; look at it",
                "error: f:7: x: is no number; write one",
                "error: 10.0.0.1: does not answer; switch it on",
            ]
        );
    }

    #[test]
    fn programs_get_the_same_as_people() {
        let mut findings = Findings::default();
        findings.error("csv-mac", Place::new("h.csv", 3, "mac"), "\"x\" is not a MAC", "write one");
        assert_eq!(
            serde_json::to_value(findings.as_slice()).unwrap(),
            serde_json::json!([{
                "severity": "error", "code": "csv-mac", "file": "h.csv", "line": 3, "field": "mac",
                "what": "\"x\" is not a MAC", "fix": "write one",
            }])
        );
    }
}
