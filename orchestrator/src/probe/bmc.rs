// SPDX-License-Identifier: Apache-2.0

//! Each BMC of the inventory: does it answer, does it take the account, can it be read.

use futures::{StreamExt as _, stream};
use ipmi::AuthFailure;
use redfish::Trust;

use super::LIMIT;
use crate::{
    finding::{Finding, Findings, Place},
    inventory::{BmcAccess, BmcAccount, BmcDriver, Inventory},
};

/// BMCs that are asked at the same time; each has a session of its own.
const AT_ONCE: usize = 64;

/// Why a BMC cannot be used, by what a person has to do about it.
#[derive(Debug)]
enum Trouble {
    /// It does not answer.
    Silent(String),
    /// It does not speak this protocol.
    Foreign(String),
    /// It refuses the account; never asked again, as BMCs lock accounts.
    Account(String),
    /// It answers, but not with what is needed.
    Unusable(String),
}

/// Asks all BMCs that have an account.
pub(super) async fn all(inventory: Option<&Inventory>) -> Vec<Finding> {
    let Some(inventory) = inventory else { return Vec::new() };
    let asked = inventory.servers.iter().filter_map(|(line, server)| {
        let bmc = server.bmc.as_ref()?;
        Some(((*line, server.hostname.as_str()), bmc, bmc.account.as_ref()?))
    });
    let answers = stream::iter(asked).map(|(row, bmc, account)| async move {
        let trouble = tokio::time::timeout(LIMIT, ask(bmc, account)).await;
        let silent = || Err(Trouble::Silent(format!("did not answer within {} s", LIMIT.as_secs())));
        (row, bmc, trouble.unwrap_or_else(|_elapsed| silent()))
    });
    let mut findings = Findings::default();
    let mut answers = answers.buffer_unordered(AT_ONCE);
    while let Some((row, bmc, answer)) = answers.next().await {
        if let Err(trouble) = answer {
            tell(&inventory.file, row, bmc, &trouble, &mut findings);
        }
    }
    findings.sorted()
}

fn tell(file: &str, (line, name): (u64, &str), bmc: &BmcAccess, trouble: &Trouble, findings: &mut Findings) {
    let address = bmc.address;
    let (code, column, what, fix) = match trouble {
        Trouble::Silent(why) => {
            let fix =
                "look at its cable and address, and switch Redfish (TCP 443) or IPMI over LAN (UDP 623) on";
            ("bmc-silent", "bmc_ip", why, fix)
        }
        Trouble::Foreign(why) => {
            let fix = "switch Redfish or IPMI over LAN on in its settings, or name the protocol and port in bmc_driver and bmc_port";
            ("bmc-protocol", "bmc_ip", why, fix)
        }
        Trouble::Account(why) => {
            let fix = "correct user and password, or give the account administrator rights on the BMC";
            ("bmc-account", "bmc_username", why, fix)
        }
        Trouble::Unusable(why) => ("bmc-unusable", "bmc_ip", why, "update its firmware, or reset the BMC"),
    };
    findings.error(code, Place::new(file, line, column), format!("the BMC {address} of {name}: {what}"), fix);
}

/// The protocol that the row names, else Redfish and then IPMI.
async fn ask(bmc: &BmcAccess, account: &BmcAccount) -> Result<(), Trouble> {
    match bmc.driver {
        Some(BmcDriver::Redfish) => over_redfish(bmc, account).await,
        Some(BmcDriver::Ipmi) => over_ipmi(bmc, account).await,
        None => match over_redfish(bmc, account).await {
            Err(Trouble::Silent(first) | Trouble::Foreign(first)) => match over_ipmi(bmc, account).await {
                Err(Trouble::Silent(second)) => Err(Trouble::Silent(format!("{first}; {second}"))),
                answer => answer,
            },
            answer => answer,
        },
    }
}

async fn over_redfish(bmc: &BmcAccess, account: &BmcAccount) -> Result<(), Trouble> {
    let host = match bmc.address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    };
    let endpoint =
        redfish::Endpoint::parse(&host, bmc.port).map_err(|error| Trouble::Foreign(error.to_string()))?;
    let credentials = redfish::Credentials {
        username: account.username.clone(),
        password: account.password.expose().clone().into(),
    };
    let options = redfish::Options {
        // As the Machine says that the row becomes.
        trust: Trust::Anything,
        request_timeout: LIMIT,
        ..redfish::Options::default()
    };
    let mut client = redfish::Client::connect(endpoint, credentials, &options).await?;
    let read = read_redfish(&mut client).await;
    client.close().await;
    read
}

async fn read_redfish(client: &mut redfish::Client) -> Result<(), Trouble> {
    client.power_state().await?;
    client.boot_override().await?;
    let resets = client.reset_types().await?.unwrap_or_default();
    let lacks = |name: &str| !resets.is_empty() && !resets.iter().any(|one| one == name);
    for needed in ["On", "ForceOff"] {
        if lacks(needed) {
            return Err(Trouble::Unusable(format!(
                "cannot do the reset {needed}, only {}",
                resets.join(", ")
            )));
        }
    }
    Ok(())
}

impl From<redfish::Error> for Trouble {
    fn from(error: redfish::Error) -> Self {
        let text = error.to_string();
        match error {
            redfish::Error::Unreachable { .. } | redfish::Error::Timeout { .. } => Self::Silent(text),
            redfish::Error::NotRedfish { .. } | redfish::Error::Tls { .. } => Self::Foreign(text),
            redfish::Error::Auth { .. } => Self::Account(text),
            _ => Self::Unusable(text),
        }
    }
}

async fn over_ipmi(bmc: &BmcAccess, account: &BmcAccount) -> Result<(), Trouble> {
    let credentials = ipmi::Credentials::new(account.username.clone(), account.password.expose());
    let credentials = credentials.map_err(|error| Trouble::Account(format!("IPMI: {error}")))?;
    let peer = (bmc.address, bmc.port.unwrap_or(ipmi::DEFAULT_PORT)).into();
    let mut client = ipmi::Client::connect_to(peer, &credentials, &ipmi::Options::default()).await?;
    let read = async {
        client.chassis_status().await?;
        client.boot_flags().await?;
        Ok(())
    }
    .await;
    client.close().await;
    read
}

impl From<ipmi::Error> for Trouble {
    fn from(error: ipmi::Error) -> Self {
        let text = format!("IPMI: {}", daemon::chain(&error));
        match error {
            ipmi::Error::Auth(AuthFailure::BmcKey) => Self::Unusable(text),
            ipmi::Error::Auth(_) => Self::Account(text),
            ipmi::Error::Unreachable { .. } | ipmi::Error::Socket(_) | ipmi::Error::Resolve(_) => {
                Self::Silent(text)
            }
            ipmi::Error::Unsupported { .. } => Self::Foreign(text),
            _ => Self::Unusable(text),
        }
    }
}
