// SPDX-License-Identifier: Apache-2.0

//! `hardware.csv`: the machines that a cluster may take.
//!
//! Owns the file's columns, what each cell may hold, and the objects that a row becomes. EKS Anywhere's files are taken as they
//! are; columns of ours are optional. Everything that is wrong is told at once, with line and column. Pure, but for [`apply()`],
//! which sends the objects.

mod apply;
mod columns;
mod csv;
mod objects;
mod row;
mod server;

use std::{collections::BTreeMap, fmt::Display};

pub use apply::{Applied, ApplyError, Outcome, apply};
pub use objects::{NotAServer, Objects, RpcBmc};
pub use server::{BmcAccess, BmcAccount, BmcDriver, Nic, Server};

use crate::finding::{Findings, Place};
use columns::{Column, Header};
use row::Readable;

/// Largest file that is read, in bytes; a thousand machines take a quarter of a megabyte.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How the machines' BMCs are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BmcMode {
    /// With the account of each row.
    #[default]
    Accounts,
    /// Through one web hook, which needs no accounts.
    WebHook,
}

/// The machines of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The file, as the user named it.
    pub file: String,
    /// The machines with the line of each, in the order of the file; only those whose rows are right.
    pub servers: Vec<(u64, Server)>,
    /// Number of rows, right or not.
    pub rows: usize,
}

/// Reads a file. What is wrong goes into `findings`; the rows that are right are returned all the same.
#[must_use]
pub fn read(file: &str, text: &str, mode: BmcMode, findings: &mut Findings) -> Inventory {
    let mut inventory = Inventory { file: file.to_owned(), ..Inventory::default() };
    let mut header: Option<Header> = None;
    let mut seen = Seen::default();
    for record in csv::records(text) {
        let record = match record {
            Ok(record) => record,
            Err(broken) => {
                let fix = "close every quote, and write a quote inside quotes twice";
                findings.error("csv-syntax", Place::new(file, broken.line, ""), broken.what, fix);
                continue;
            }
        };
        let Some(header) = &header else {
            header = Some(Header::read(file, record.line, &record.cells, findings));
            continue;
        };
        if record.cells.iter().all(String::is_empty) {
            continue;
        }
        inventory.rows += 1;
        let (have, want) = (record.cells.len(), header.width());
        if have != want && want > 0 {
            let what = format!("the row has {have} cells, the header has {want}");
            let fix = "give every row as many commas as the header; a cell with a comma needs quotes";
            findings.error("csv-width", Place::new(file, record.line, ""), what, fix);
            continue;
        }
        let readable = row::read((file, record.line), header, &record.cells, mode, findings);
        seen.note(file, record.line, &readable, findings);
        inventory.servers.extend(readable.server.map(|server| (record.line, server)));
    }
    match header {
        None => {
            let fix = "name the columns in the first row, then write one row for each machine";
            findings.error("csv-empty-file", Place::new(file, 0, ""), "there is nothing in it", fix);
        }
        Some(header) if inventory.rows == 0 && header.width() > 0 => {
            let place = Place::new(file, header.line, "");
            findings.error(
                "csv-no-rows",
                place,
                "there are no machines in it",
                "write one row for each machine",
            );
        }
        Some(_) => seen.addresses_of_bmcs(file, findings),
    }
    inventory
}

/// What the rows so far have, with the line of each.
#[derive(Debug, Default)]
struct Seen {
    hostnames: BTreeMap<String, u64>,
    macs: BTreeMap<api::Mac, u64>,
    addresses: BTreeMap<std::net::IpAddr, u64>,
    bmcs: BTreeMap<(std::net::IpAddr, Option<u16>), u64>,
}

impl Seen {
    fn note(&mut self, file: &str, line: u64, row: &Readable, findings: &mut Findings) {
        let mut say = |column: Column, code: &'static str, value: &dyn Display, first: u64| {
            let what = format!("{value} is already on line {first}");
            let fix = "every machine needs its own; correct one of the two rows, or remove it";
            findings.error(code, Place::new(file, line, column.name()), what, fix);
        };
        if let Some(name) = &row.hostname
            && let Some(first) = insert(&mut self.hostnames, name.clone(), line)
        {
            say(Column::Hostname, "csv-duplicate-hostname", name, first);
        }
        let extra = row.extra.iter().map(|nic| (Column::ExtraNics, nic.mac));
        for (column, mac) in row.mac.map(|mac| (Column::Mac, mac)).into_iter().chain(extra) {
            if let Some(first) = insert(&mut self.macs, mac, line) {
                say(column, "csv-duplicate-mac", &mac, first);
            }
        }
        let extra = row.extra.iter().filter_map(|nic| Some((Column::ExtraNics, nic.address?.addr())));
        for (column, address) in
            row.address.map(|address| (Column::IpAddress, address)).into_iter().chain(extra)
        {
            if let Some(first) = insert(&mut self.addresses, address.into(), line) {
                say(column, "csv-duplicate-ip", &address, first);
            }
        }
        if let Some(bmc) = row.bmc
            && let Some(first) = insert(&mut self.bmcs, bmc, line)
        {
            say(Column::BmcIp, "csv-duplicate-bmc", &bmc.0, first);
        }
    }

    /// A BMC at the address of a machine: known only when all rows were read.
    fn addresses_of_bmcs(&self, file: &str, findings: &mut Findings) {
        for ((address, _), line) in &self.bmcs {
            if let Some(machine) = self.addresses.get(address) {
                let what = format!("{address} is the address of the machine on line {machine}");
                let fix = "write the address of the BMC, which is another than that of the machine";
                findings.error(
                    "csv-bmc-is-machine",
                    Place::new(file, *line, Column::BmcIp.name()),
                    what,
                    fix,
                );
            }
        }
    }
}

/// Notes a value; gives the line that had it before.
fn insert<K: Ord>(seen: &mut BTreeMap<K, u64>, key: K, line: u64) -> Option<u64> {
    match seen.entry(key) {
        std::collections::btree_map::Entry::Occupied(first) => Some(*first.get()),
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(line);
            None
        }
    }
}

#[cfg(test)]
mod tests;
