// SPDX-License-Identifier: Apache-2.0
//! What can be set about DHCP, and what follows from it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use daemon::config::Settings;

use crate::dhcp::pool::{MAX_ADDRESSES, Pool};
use crate::limit::Rate;

/// The file of leases in the state directory.
pub(super) const LEASES: &str = "boots-leases";
/// Longest wait before an offer. A client's first wait is four seconds (RFC 2131 section 4.1).
const MAX_PROBE: Duration = Duration::from_secs(3);

/// A boot takes six answers: two exchanges of firmware, iPXE and operating system; the rest of the burst is for repeats. A
/// client that waits as RFC 2131 section 4.1 says asks once in four seconds.
const BURST: u16 = 16;
/// Most messages per second that can be told apart from no limit.
const MAX_RATE: u16 = u16::MAX / BURST;

/// The DHCP listener and what it says about this server.
#[derive(Debug, Clone)]
pub struct DhcpConfig {
    /// Where to listen.
    pub listen: SocketAddrV4,
    /// The only interface, if it is limited to one.
    pub interface: Option<String>,
    /// Who is answered what.
    pub mode: DhcpMode,
    /// Server identifier and next server.
    pub server: ServerAddress,
    /// Port for PXE clients that ask their boot server, if it is open.
    pub pxe_port: Option<u16>,
    /// Log server.
    pub syslog: Option<Ipv4Addr>,
    /// Whether boot data is sent at all.
    pub netboot: bool,
    /// How many messages of one client are answered; nothing is no limit.
    pub rate: Option<Rate>,
    /// Addresses for clients without a reservation.
    pub pools: Vec<Pool>,
    /// How long an address of a pool is asked for before it is offered; nothing does not ask.
    pub pool_probe: Option<Duration>,
    /// Where leases from pools are kept.
    pub lease_file: PathBuf,
}

/// Who is answered what over DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpMode {
    /// Addresses and boot data for machines that are known.
    Reservation,
    /// Boot data for machines that are known; addresses come from another server.
    Proxy,
    /// Boot data for every network-boot client; addresses come from another server.
    AutoProxy,
}

/// The address that clients are to take for their server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAddress {
    /// This one, whatever interface they are on.
    Fixed(Ipv4Addr),
    /// The one of their interface; this one where they are behind a relay or the interface has none.
    Public(Ipv4Addr),
}

impl ServerAddress {
    /// The address that is known from the configuration.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Fixed(address) | Self::Public(address) => address,
        }
    }
}

impl DhcpMode {
    /// Reads the setting.
    pub(super) fn from_settings(settings: &mut Settings) -> Self {
        match settings.text("dhcp-mode").as_str() {
            "proxy" => Self::Proxy,
            "auto-proxy" => Self::AutoProxy,
            _ => Self::Reservation,
        }
    }
}

impl DhcpConfig {
    /// Reads the settings, nothing when DHCP is off; mistakes are recorded in them.
    pub(super) fn from_settings(settings: &mut Settings, public: Ipv4Addr) -> Option<Self> {
        let mode = DhcpMode::from_settings(settings);
        let pools: Vec<Pool> = settings.list("dhcp-pools");
        if mode != DhcpMode::Reservation && !pools.is_empty() {
            settings.mistake(
                "dhcp-pools",
                "is for the mode reservation: in the others another server gives addresses",
            );
        }
        let overlap = |(i, pool): (usize, &Pool)| pools.iter().skip(i + 1).any(|other| pool.overlaps(other));
        if pools.iter().enumerate().any(overlap) {
            settings.mistake("dhcp-pools", "must not overlap");
        }
        if pools.iter().map(|pool| u64::from(pool.size())).sum::<u64>() > u64::from(MAX_ADDRESSES) {
            settings.mistake("dhcp-pools", "must not have more than 65536 addresses together");
        }
        let probe = settings.duration("dhcp-pool-probe");
        if probe > MAX_PROBE {
            settings.mistake("dhcp-pool-probe", "must be at most 3s: firmware asks again after four");
        }
        let address = settings.get_or("dhcp-bind-addr", Ipv4Addr::UNSPECIFIED);
        let port = settings.get_or("dhcp-bind-port", dhcp::SERVER_PORT);
        let usual = if port == dhcp::SERVER_PORT { dhcp::PXE_PORT } else { 0 };
        let fixed = settings.get("dhcp-ip-for-packet").map(ServerAddress::Fixed);
        let (lease_file, state_dir) = (settings.path("dhcp-lease-file"), settings.path("state-dir"));
        let config = Self {
            listen: SocketAddrV4::new(address, port),
            interface: settings.get("dhcp-bind-interface"),
            mode,
            server: fixed.unwrap_or(ServerAddress::Public(public)),
            pxe_port: Some(settings.get_or("dhcp-pxe-port", usual)).filter(|port| *port != 0),
            syslog: Some(settings.get_or("dhcp-syslog-ip", public)).filter(|ip| !ip.is_unspecified()),
            netboot: settings.bool("dhcp-enable-netboot-options"),
            rate: rate(settings),
            pools,
            pool_probe: Some(probe).filter(|probe| !probe.is_zero()),
            lease_file: lease_file.unwrap_or_else(|| daemon::state_dir(state_dir).join(LEASES)),
        };
        settings.bool("dhcp-enabled").then_some(config)
    }
}

/// How many messages of one client are answered, over either version; nothing is no limit.
pub(super) fn rate(settings: &mut Settings) -> Option<Rate> {
    let per_second = settings.get_or("dhcp-rate", 2_u16);
    if per_second > MAX_RATE {
        settings.mistake("dhcp-rate", "must be at most 4095; 0 is no limit");
    }
    let burst = per_second.saturating_mul(BURST);
    (per_second > 0).then_some(Rate { burst, per_second })
}

#[cfg(test)]
mod tests {
    use daemon::config::{Inputs, Settings};

    use crate::config::tests::config;
    use crate::config::{Config, SETTINGS};
    use crate::limit::Rate;

    #[test]
    fn the_pxe_port_goes_with_the_dhcp_port() {
        let port = |flags: &[&str]| config(flags).dhcp.unwrap().pxe_port;
        assert_eq!(port(&[]), Some(4011));
        assert_eq!(port(&["--dhcp-bind-port=6767"]), None);
        assert_eq!(port(&["--dhcp-pxe-port=0"]), None);
        assert_eq!(port(&["--dhcp-bind-port=6767", "--dhcp-pxe-port=4411"]), Some(4411));
    }

    #[test]
    fn the_rate_of_one_client_can_be_set_and_switched_off() {
        let rate = |flags: &[&str]| config(flags).dhcp.unwrap().rate;
        assert_eq!(rate(&[]), Some(Rate { burst: 32, per_second: 2 }));
        assert_eq!(rate(&["--dhcp-rate=10"]), Some(Rate { burst: 160, per_second: 10 }));
        assert_eq!(rate(&["--dhcp-rate=0"]), None);
        let both =
            config(&["--dhcp-rate=0", "--dhcpv6-enabled", "--public-ipv6=fd00::1", "--bind-address=::"]);
        assert_eq!(both.dhcp6.unwrap().rate, None);
        let inputs = Inputs::gather(["--public-ipv4=172.31.0.1", "--dhcp-rate=4096"].map(str::to_owned), []);
        let mut settings = Settings::load("boots", SETTINGS, inputs);
        Config::from_settings(&mut settings);
        assert!(settings.finish().unwrap_err().to_string().contains("at most 4095"));
    }

    #[test]
    fn pools_do_not_overlap() {
        let pools = |all: &[&str]| {
            let args = all.iter().map(|pool| format!("--dhcp-pools={pool}"));
            let args = args.chain(["--public-ipv4=172.31.0.1".to_owned()]);
            let mut settings = Settings::load("boots", SETTINGS, Inputs::gather(args, []));
            let config = Config::from_settings(&mut settings);
            settings.finish().map(|_| config.dhcp.unwrap().pools.len()).map_err(|errors| errors.to_string())
        };
        assert_eq!(pools(&["10.0.0.10-10.0.0.19/24 dns=1.1.1.1,9.9.9.9", "10.0.1.10-10.0.1.19/24"]), Ok(2));
        let error = pools(&["10.0.0.10-10.0.0.19/24", "10.0.0.19-10.0.0.20/24"]).unwrap_err();
        assert!(error.contains("must not overlap"), "{error}");
        let error = pools(&["10.0.0.10"]).unwrap_err();
        assert!(error.contains("router=172.31.0.1"), "{error}");
    }
}
