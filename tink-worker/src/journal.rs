// SPDX-License-Identifier: Apache-2.0
//! Which actions have ended and how: written before the result is reported, so that an action whose report was lost is
//! reported again and never run again, also by an agent process that was started anew in the same boot.
//!
//! A file of one JSON record per line; the last word on an action counts. Only the agent loop uses it. It holds no
//! environment and no token.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::action::Key;
use crate::power::PowerPlan;

/// Records kept; older ones are of workflows long gone.
const KEPT: usize = 256;

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Ending {
    Success,
    Failed,
    Timeout,
}

/// Everything that is reported about an action that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) message: String,
    /// Milliseconds since 1970.
    pub(crate) started: u64,
    pub(crate) duration_ms: u64,
    /// What is to happen once the report was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<PowerPlan>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    boot: String,
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The journal of this boot.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    boot: String,
    records: Vec<Record>,
}

impl Journal {
    /// Reads what an earlier process of this boot has written. A torn or foreign line is skipped.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        Self::open_for_boot(directory, boot)
    }

    fn open_for_boot(directory: &Path, boot: String) -> io::Result<Self> {
        let path = directory.join("journal");
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut records: Vec<Record> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|record: &Record| record.boot == boot)
            .collect();
        records.drain(..records.len().saturating_sub(KEPT));
        let journal = Self { path, boot, records };
        journal.rewrite()?;
        Ok(journal)
    }

    /// How the action ended, if it has.
    pub(crate) fn outcome(&self, key: &Key) -> Option<&Outcome> {
        self.records.iter().rev().find(|record| record.key == *key).map(|record| &record.outcome)
    }

    /// The last action that ended, if the machine was to go down after it: it did not, or this boot would be another.
    pub(crate) fn unfinished(&self) -> Option<(&Key, &Outcome)> {
        let last = self.records.last()?;
        last.outcome.then.map(|_| (&last.key, &last.outcome))
    }

    /// Remembers how an action ended; on stable storage when this returns.
    pub(crate) fn record(&mut self, key: &Key, outcome: &Outcome) -> io::Result<()> {
        let record = Record { boot: self.boot.clone(), key: key.clone(), outcome: outcome.clone() };
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        self.records.push(record);
        if self.records.len() > KEPT {
            self.records.remove(0);
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(&line)?;
        file.sync_all()
    }

    fn rewrite(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        for record in &self.records {
            serde_json::to_writer(&mut file, record)?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::Change;

    fn key(action: &str) -> Key {
        Key { workflow: "ns/w".to_owned(), task: "t".to_owned(), action: action.to_owned() }
    }

    fn outcome(message: &str) -> Outcome {
        Outcome {
            ending: Ending::Success,
            message: message.to_owned(),
            started: 1,
            duration_ms: 2,
            then: Some(PowerPlan::now(Change::Reboot)),
        }
    }

    #[test]
    fn the_next_process_of_the_same_boot_knows_and_the_next_boot_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let open = |boot: &str| Journal::open_for_boot(directory.path(), boot.to_owned()).unwrap();
        let mut journal = open("1");
        journal.record(&key("a"), &outcome("done")).unwrap();
        journal.record(&key("b"), &outcome("first")).unwrap();
        journal.record(&key("b"), &outcome("second")).unwrap();
        let torn = fs::read(directory.path().join("journal")).unwrap();
        fs::write(directory.path().join("journal"), &torn[..torn.len() - 5]).unwrap();

        let journal = open("1");
        assert_eq!(journal.outcome(&key("a")), Some(&outcome("done")));
        assert_eq!(journal.outcome(&key("b")), Some(&outcome("first")));
        assert_eq!(journal.outcome(&key("c")), None);
        assert_eq!(open("2").outcome(&key("a")), None);
    }

    #[test]
    fn a_reboot_that_did_not_come_is_unfinished_in_its_boot_until_something_else_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let open = |boot: &str| Journal::open_for_boot(directory.path(), boot.to_owned()).unwrap();
        let mut journal = open("1");
        assert_eq!(journal.unfinished(), None);
        journal.record(&key("reboot"), &outcome("done")).unwrap();
        let mut journal = open("1");
        assert_eq!(journal.unfinished(), Some((&key("reboot"), &outcome("done"))));
        journal.record(&key("next"), &Outcome { then: None, ..outcome("done") }).unwrap();
        assert_eq!(open("1").unfinished(), None);
        journal.record(&key("reboot"), &outcome("done")).unwrap();
        assert_eq!(open("2").unfinished(), None);
    }

    #[test]
    fn the_journal_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        for number in 0..KEPT + 10 {
            journal.record(&key(&number.to_string()), &outcome("")).unwrap();
        }
        assert_eq!(journal.outcome(&key("0")), None);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.records.len(), KEPT);
        assert!(journal.outcome(&key(&(KEPT + 9).to_string())).is_some());
    }
}
