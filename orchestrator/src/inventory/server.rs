// SPDX-License-Identifier: Apache-2.0

//! One machine of the inventory, as it cannot be wrong.
//!
//! Owns [`Server`]: what a row of `hardware.csv` says once it was read. Made by the row reader and from objects of the API.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use api::{
    Mac,
    anywhere::v1alpha1::{Arch, BootMode},
};
use daemon::Secret;
use ipnet::Ipv4Net;

/// One machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Host name; also the name of its Hardware.
    pub hostname: String,
    /// The interface that it is provisioned through.
    pub nic: Nic,
    /// Router of that interface's network.
    pub gateway: Ipv4Addr,
    /// Name servers, at least one.
    pub name_servers: Vec<IpAddr>,
    /// VLAN of the installed system.
    pub vlan: Option<u16>,
    /// Interfaces besides; they are not booted from.
    pub extra_nics: Vec<Nic>,
    /// Labels that selectors choose by.
    pub labels: BTreeMap<String, String>,
    /// Path of the disk that is written.
    pub disk: String,
    /// Architecture.
    pub arch: Arch,
    /// Firmware.
    pub boot_mode: BootMode,
    /// How it is switched on and off; without it a person does that.
    pub bmc: Option<BmcAccess>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its hardware address.
    pub mac: Mac,
    /// Its address with the length of the network's prefix; none for an interface that is left alone.
    pub address: Option<Ipv4Net>,
}

/// How a BMC is reached.
#[derive(Clone)]
pub struct BmcAccess {
    /// Its address.
    pub address: IpAddr,
    /// The account; none where a web hook stands for the BMC.
    pub account: Option<BmcAccount>,
    /// The protocol, when only one is to be tried.
    pub driver: Option<BmcDriver>,
    /// The port, when it is not the protocol's own.
    pub port: Option<u16>,
}

/// An account on a BMC.
#[derive(Clone)]
pub struct BmcAccount {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret<String>,
}

/// A protocol of BMCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BmcDriver {
    /// Redfish over HTTPS.
    Redfish,
    /// IPMI 2.0.
    Ipmi,
}

impl Server {
    /// The address of the machine.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.nic.address.map(|network| network.addr())
    }

    /// The network of the machine.
    #[must_use]
    pub fn network(&self) -> Option<Ipv4Net> {
        self.nic.address.map(|network| network.trunc())
    }

    /// All its interfaces, the one that it is provisioned through first.
    pub fn nics(&self) -> impl Iterator<Item = &Nic> {
        std::iter::once(&self.nic).chain(&self.extra_nics)
    }
}

impl PartialEq for BmcAccess {
    fn eq(&self, other: &Self) -> bool {
        let account =
            |of: &Self| of.account.as_ref().map(|a| (a.username.clone(), a.password.expose().clone()));
        (self.address, self.driver, self.port) == (other.address, other.driver, other.port)
            && account(self) == account(other)
    }
}

/// Without the account: a finding or a log line never has it.
impl fmt::Debug for BmcAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BmcAccess")
            .field("address", &self.address)
            .field("driver", &self.driver)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
