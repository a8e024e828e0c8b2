// SPDX-License-Identifier: Apache-2.0

//! The columns of `hardware.csv`, and which of them a file has where.
//!
//! Owns the table of columns and the reading of the header row.

use crate::finding::{Findings, Place};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Hostname,
    BmcIp,
    BmcUsername,
    BmcPassword,
    Mac,
    IpAddress,
    Netmask,
    Gateway,
    Nameservers,
    Labels,
    Disk,
    VlanId,
    Arch,
    BootMode,
    BmcDriver,
    BmcPort,
    ExtraNics,
}

/// One row of the table: column, name, other names, whether a file must have it.
type Row = (Column, &'static str, &'static [&'static str], bool);

/// The first twelve are EKS Anywhere's, with its names; the others are ours, and optional.
const COLUMNS: [Row; 17] = [
    (Column::Hostname, "hostname", &["host", "name"], true),
    (Column::BmcIp, "bmc_ip", &["bmc_address", "bmc_host", "ipmi_ip"], false),
    (Column::BmcUsername, "bmc_username", &["bmc_user"], false),
    (Column::BmcPassword, "bmc_password", &["bmc_pass"], false),
    (Column::Mac, "mac", &["mac_address"], true),
    (Column::IpAddress, "ip_address", &["ip"], true),
    (Column::Netmask, "netmask", &["subnet_mask", "prefix"], true),
    (Column::Gateway, "gateway", &["default_gateway"], true),
    (Column::Nameservers, "nameservers", &["name_servers", "dns", "dns_servers"], true),
    (Column::Labels, "labels", &[], true),
    (Column::Disk, "disk", &["disk_device"], true),
    (Column::VlanId, "vlan_id", &["vlan"], false),
    (Column::Arch, "arch", &["architecture"], false),
    (Column::BootMode, "boot_mode", &["firmware"], false),
    (Column::BmcDriver, "bmc_driver", &["bmc_type", "bmc_protocol"], false),
    (Column::BmcPort, "bmc_port", &[], false),
    (Column::ExtraNics, "extra_nics", &["nics"], false),
];

/// Columns of files for older releases, which nothing has used since.
const RETIRED: [&str; 3] = ["id", "vendor", "facility"];

impl Column {
    /// The name, as messages have it.
    pub fn name(self) -> &'static str {
        COLUMNS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    fn named(heading: &str) -> Option<Self> {
        let row = COLUMNS.iter().find(|row| row.1 == heading || row.2.contains(&heading));
        row.map(|row| row.0)
    }
}

/// Which column is where.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Line of the header.
    pub line: u64,
    columns: Vec<Option<Column>>,
}

impl Header {
    /// Reads the header row. What it lacks or has twice is a finding; rows are read with what is there.
    pub fn read(file: &str, line: u64, cells: &[String], findings: &mut Findings) -> Self {
        let mut header = Self { line, columns: Vec::new() };
        if let [only] = cells
            && only.contains(';')
        {
            let place = Place::new(file, line, "");
            let what = "the columns are separated by semicolons";
            findings.error("csv-separator", place, what, "save the file with commas between the columns");
            return header;
        }
        for heading in cells {
            let column = header.column(file, heading, findings);
            header.columns.push(column);
        }
        let missing: Vec<_> =
            COLUMNS.iter().filter(|row| row.3 && !header.has(row.0)).map(|row| row.1).collect();
        if !missing.is_empty() {
            findings.error(
                "csv-missing-column",
                Place::new(file, line, ""),
                format!("the header has no column {}", missing.join(", ")),
                "the first row that is no comment names the columns, in any order",
            );
        }
        header
    }

    fn column(&self, file: &str, heading: &str, findings: &mut Findings) -> Option<Column> {
        let normal = heading.trim().to_lowercase().replace([' ', '-'], "_");
        let place = Place::new(file, self.line, heading);
        let Some(column) = Column::named(&normal) else {
            unknown(&normal, place, findings);
            return None;
        };
        if self.has(column) {
            let what = format!("the column {} is there twice", column.name());
            findings.error("csv-repeated-column", place, what, "remove one of the two");
            return None;
        }
        Some(column)
    }

    /// Whether the file has this column.
    pub fn has(&self, column: Column) -> bool {
        self.columns.contains(&Some(column))
    }

    /// Number of columns, known or not.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The cell of a column; empty when the file or the row does not have it.
    pub fn cell<'a>(&self, column: Column, cells: &'a [String]) -> &'a str {
        let position = self.columns.iter().position(|one| *one == Some(column));
        position.and_then(|position| cells.get(position)).map_or("", String::as_str)
    }
}

fn unknown(heading: &str, place: Place, findings: &mut Findings) {
    if RETIRED.contains(&heading) || heading.is_empty() {
        return;
    }
    let names = COLUMNS.iter().flat_map(|row| row.2.iter().copied().chain([row.1]));
    match manifest::nearest(heading, names).and_then(Column::named) {
        Some(near) => findings.error(
            "csv-unknown-column",
            place,
            format!("there is no column {heading:?}"),
            format!("write {:?}, if that is meant", near.name()),
        ),
        None => findings.warning(
            "csv-unused-column",
            place,
            format!("the column {heading:?} is not used"),
            format!("known are {}", COLUMNS.map(|row| row.1).join(", ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> (Header, Vec<String>) {
        let cells: Vec<_> = header.split(',').map(str::to_owned).collect();
        let mut findings = Findings::default();
        let header = Header::read("h.csv", 1, &cells, &mut findings);
        (header, findings.sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn columns_may_be_in_any_order_and_have_their_usual_other_names() {
        let (header, findings) =
            read("Labels,MAC Address,ip,netmask,Gateway,dns,disk,host,vendor,BMC-IP,bmc_user,bmc_pass");
        assert!(findings.is_empty(), "{findings:?}");
        let cells: Vec<_> = (0..12).map(|i| i.to_string()).collect();
        assert_eq!(header.cell(Column::Hostname, &cells), "7");
        assert_eq!(header.cell(Column::BmcUsername, &cells), "10");
        assert_eq!(header.cell(Column::VlanId, &cells), "");
    }

    #[test]
    fn mistyped_repeated_missing_and_foreign_columns_are_told_apart() {
        let (_, findings) =
            read("hostname,mac,mac_address,ip_addres,netmask,gateway,nameservers,disk,rack position");
        assert_eq!(
            findings,
            [
                "error: h.csv:1: the header has no column ip_address, labels; the first row that is no comment names the \
                 columns, in any order",
                "error: h.csv:1: ip_addres: there is no column \"ip_addres\"; write \"ip_address\", if that is meant",
                "error: h.csv:1: mac_address: the column mac is there twice; remove one of the two",
                "warning: h.csv:1: rack position: the column \"rack_position\" is not used; known are hostname, bmc_ip, \
                 bmc_username, bmc_password, mac, ip_address, netmask, gateway, nameservers, labels, disk, vlan_id, arch, \
                 boot_mode, bmc_driver, bmc_port, extra_nics",
            ]
        );
        let (_, findings) = read("hostname;mac;ip_address");
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("semicolons"), "{findings:?}");
    }
}
