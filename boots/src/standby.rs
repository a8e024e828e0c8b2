// SPDX-License-Identifier: Apache-2.0
//! Of several boots on one API server one answers: the holder of a Lease, which also has the address that machines know.
//!
//! Owns the order of that: the Lease, then the address, then the sockets; and back. Where there is no election it answers at
//! once. One whose Lease was lost ends, so that whoever supervises it starts it again, to wait: machines are then told nothing
//! by what is left of a former term.
//!
//! ```text
//! candidate --Lease--> has the address --> answers --Lease lost, or shutdown--> sockets closed --> address given back
//! ```

use std::future::Future;
use std::net::IpAddr;

use api::access::BOOTS_LEASE;
use daemon::Health;
use daemon::config::{Kind, Setting, Settings};
use daemon::leader::{self, Election, LeaderError};
use tokio_util::sync::CancellationToken;

use crate::{Config, Error};

mod address;

pub use address::{AddressError, VirtualAddress};

pub(crate) const SETTINGS: [Setting; 5] = [
    Setting::new(
        "enable-leader-election",
        "boots-enable-leader-election",
        Kind::Bool,
        "of several replicas let one answer; off, there must be no other on its networks",
    )
    .with_default("false"),
    Setting::new(
        "leader-election-namespace",
        "boots-leader-election-namespace",
        Kind::Text,
        "namespace of the Lease",
    )
    .with_default(api::annotations::SYSTEM_NAMESPACE),
    Setting::new(
        "leader-election-id",
        "boots-leader-election-id",
        Kind::Text,
        "name of this replica in the Lease, which no other may have; one that is started again under its old name goes on at once",
    ),
    Setting::new(
        "virtual-ip",
        "boots-virtual-ip",
        Kind::Ip,
        "IPv4 address that this host has while it is the one that answers, for the other daemons on it too",
    ),
    Setting::new(
        "virtual-ip-interface",
        "boots-virtual-ip-interface",
        Kind::Text,
        "interface of virtual-ip; unset: the one in whose network it lies",
    ),
];

/// Whether there are others, and what the one that answers has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standby {
    /// How replicas agree on who answers; nothing where there is no other.
    pub election: Option<Election>,
    /// An address that goes with it.
    pub address: Option<VirtualAddress>,
}

impl Standby {
    pub(crate) fn from_settings(settings: &mut Settings) -> Self {
        let mut election = Election::from_settings(settings);
        let identity = settings.text("leader-election-id");
        if let Some(election) = &mut election {
            election.identity = Some(identity).filter(|identity| !identity.is_empty());
        } else if !identity.is_empty() {
            settings.mistake("leader-election-id", "is of no use without enable-leader-election");
        }
        let interface = settings.text("virtual-ip-interface");
        let address = match settings.get::<IpAddr>("virtual-ip") {
            Some(IpAddr::V4(ip)) => {
                let interface = Some(interface).filter(|interface| !interface.is_empty());
                Some(VirtualAddress { ip, interface })
            }
            Some(IpAddr::V6(_)) => {
                settings.mistake("virtual-ip", "must be an IPv4 address");
                None
            }
            None if !interface.is_empty() => {
                settings.mistake("virtual-ip-interface", "is of no use without virtual-ip");
                None
            }
            None => None,
        };
        Self { election, address }
    }
}

/// Answers, by `answer`, whenever this replica is the one, until `shutdown`.
///
/// # Errors
///
/// When the daemon cannot start, or has lost its Lease.
pub(crate) async fn run<F>(
    config: Config,
    client: kube::Client,
    health: Health,
    shutdown: CancellationToken,
    answer: impl Fn(Config, kube::Client, Health, CancellationToken) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let elected = health.latch("leader election", "a look at the Lease");
    let election = config.standby.election.clone();
    let stop = shutdown.clone();
    let work = |term: CancellationToken| {
        let taken = health.latch("virtual address", "this host to have it");
        let answering = answer(config.clone(), client.clone(), health.clone(), term);
        let (wanted, stop) = (config.standby.address.clone(), stop.clone());
        async move {
            let held = match &wanted {
                Some(wanted) => Some(wanted.take().await?),
                None => None,
            };
            // What is answered with makes its own latches at its first step, before this one is set.
            let (outcome, ()) = futures::join!(answering, async { taken.set() });
            if let Some(held) = held {
                held.give_back().await;
            }
            outcome?;
            if stop.is_cancelled() { Ok(()) } else { Err(Error::LeaseLost) }
        }
    };
    match leader::run(client.clone(), (BOOTS_LEASE, election.as_ref()), elected, shutdown, work).await {
        Ok(()) => Ok(()),
        Err(LeaderError::Work(error)) => Err(error),
        Err(LeaderError::Task(error)) => Err(Error::Task(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use daemon::config::Inputs;

    use super::*;

    fn read(args: &[&str]) -> Result<Standby, String> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut settings = Settings::load("boots", &SETTINGS, Inputs { args, ..Inputs::default() });
        let read = Standby::from_settings(&mut settings);
        settings.finish().map(|()| read).map_err(|errors| errors.to_string())
    }

    #[test]
    fn alone_by_default_and_otherwise_as_it_is_said() {
        assert_eq!(read(&[]).unwrap(), Standby::default());
        let args = [
            "--boots-enable-leader-election",
            "--boots-leader-election-id=m1",
            "--boots-virtual-ip=192.0.2.7",
            "--boots-virtual-ip-interface=eth1",
        ];
        let namespace = api::annotations::SYSTEM_NAMESPACE.to_owned();
        let wanted = Standby {
            election: Some(Election { namespace, identity: Some("m1".to_owned()) }),
            address: Some(VirtualAddress {
                ip: Ipv4Addr::new(192, 0, 2, 7),
                interface: Some("eth1".to_owned()),
            }),
        };
        assert_eq!(read(&args).unwrap(), wanted);
    }

    #[test]
    fn what_would_be_of_no_use_is_a_mistake() {
        for args in [
            &["--boots-leader-election-id=m1"][..],
            &["--boots-virtual-ip-interface=eth1"],
            &["--boots-virtual-ip=2001:db8::7"],
        ] {
            assert!(read(args).is_err(), "{args:?}");
        }
    }
}
