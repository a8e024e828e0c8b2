// SPDX-License-Identifier: Apache-2.0
//! What TFTP serves: boot programs, assets, the iPXE script of the machine that asks, and the configuration of GRUB.
//!
//! Called by `libs/tftp`. A leading slash and backslashes are forgiven: firmware has them. Boot programs and assets go to anybody;
//! scripts and configurations only to machines that are known, and scripts only to those that may boot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tftp::{Content, Dropped, Outcome, Provider, Refusal, Report, Request, Seen, Way};

use crate::assets::{Asset, Assets};
use crate::backend::Found;
use crate::boot::{Protocol, refuses};
use crate::capture::Packet;
use crate::files::Programs;
use crate::grub::GRUB_CFG;
use crate::journal::{self, Via};
use crate::limit::Limits;
use crate::scripts::{NoScript, SCRIPT, SCRIPT6, Scripts, mac_in};

/// The script that an iPXE without one of its own looks for beside itself.
pub(crate) const AUTOEXEC: &str = "autoexec.ipxe";

/// The provider.
pub(crate) struct Files {
    pub(crate) programs: Programs,
    pub(crate) assets: Assets,
    pub(crate) scripts: Scripts,
    /// How many requests are answered, be it with an error. Anybody can write another's address into them.
    pub(crate) limits: Limits,
}

impl Provider for Files {
    async fn open(&self, peer: SocketAddr, request: &Request) -> Result<Content, Refusal> {
        let path = normal(&request.name);
        let content = self.find(&path, peer).await;
        if let Err(refusal) = &content {
            tracing::info!(%peer, name = request.name, refusal = refusal.message, "TFTP file refused");
        }
        content
    }

    fn allows(&self, peer: SocketAddr) -> bool {
        self.limits.allow(peer.ip(), journal::now())
    }

    fn finished(&self, report: &Report) {
        let Report { peer, name, outcome, size, resent, elapsed, .. } = report;
        tracing::debug!(%peer, name, ?outcome, size, resent, ?elapsed, "TFTP transfer ended");
        self.scripts.journal.metrics().tftp(report);
        self.capture_end(report);
        if !matches!(outcome, Outcome::Complete | Outcome::Unconfirmed) {
            return;
        }
        let path = normal(name);
        let Ok(found) = self.scripts.machine(&path, address(*peer)) else { return };
        let script = match path.rsplit('/').next() {
            Some(SCRIPT | SCRIPT6) => true,
            // The first one only says to ask by the MAC.
            Some(GRUB_CFG) => mac_in(&path).is_some(),
            _ => false,
        };
        if let Some((program, _)) = self.programs.get(&path) {
            self.scripts.journal.program(&found, Via::Tftp, program, *size);
        } else if script {
            self.scripts.journal.script(&found, Via::Tftp, address(*peer));
        }
    }

    fn dropped(&self, _peer: SocketAddr, reason: Dropped) {
        self.scripts.journal.metrics().tftp_dropped(reason);
    }

    fn seen(&self, seen: &Seen<'_>) {
        let Seen { way, peer, local, name, bytes, length } = *seen;
        let Ok(found) = self.scripts.machine(&normal(name), address(peer)) else { return };
        let journal = &self.scripts.journal;
        match way {
            Way::In => journal.boot_packet(&found, || Packet::received((peer, local), bytes)),
            Way::Out => {
                journal.packet(&found, || Packet::sent((local, peer), bytes).of_length(length as u64))
            }
        }
    }
}

impl Files {
    /// Keeps the packet that ended a transfer, with what there is to say of all others.
    fn capture_end(&self, report: &Report) {
        let Some(last) = &report.last else { return };
        let Ok(found) = self.scripts.machine(&normal(&report.name), address(report.peer)) else { return };
        self.scripts.journal.packet(&found, || {
            let Report { acknowledged, size, block_size, window, resent, elapsed, .. } = report;
            Packet::received((report.peer, report.local), last).note(format!(
                "{acknowledged} of {size} bytes in blocks of {block_size}, {window} in a window, {resent} sent again, {:.3} s",
                elapsed.as_secs_f64()
            ))
        });
    }

    /// What is behind a path. An operator's own file comes before what would be made for its name.
    async fn find(&self, path: &str, peer: SocketAddr) -> Result<Content, Refusal> {
        let client = address(peer);
        let refused = |found: Found| refuses(found.nic(), Protocol::Program);
        if let Some((_, bytes)) = self.programs.get(path) {
            return match self.scripts.machine(path, client).is_ok_and(refused) {
                true => Err(Refusal::not_found()),
                false => Ok(Content::Bytes(bytes)),
            };
        }
        match self.assets.find(path, client).await {
            Some(Asset::Text(text)) => return Ok(Content::Bytes(text)),
            Some(Asset::File(file, metadata)) => return Ok(Content::File(Arc::new(file), metadata.len())),
            None => {}
        }
        let script = match path.rsplit('/').next() {
            Some(SCRIPT | SCRIPT6) => Some(self.scripts.get(path, client).map(|(_, script)| script)),
            Some(AUTOEXEC) => Some(self.scripts.autoexec(path, client)),
            Some(GRUB_CFG) => Some(self.scripts.grub(path, client).map(|(_, text)| text)),
            _ => None,
        };
        let script: Result<String, NoScript> = script.ok_or_else(Refusal::not_found)?;
        script.map(|script| Content::Bytes(Bytes::from(script))).map_err(|_| Refusal::not_found())
    }
}

/// The address that a machine may be known by.
fn address(peer: SocketAddr) -> Option<IpAddr> {
    Some(peer.ip().to_canonical())
}

fn normal(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::config::tests::config;

    const NAT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn granted(limits: &Limits, address: IpAddr, requests: usize, now: u64) -> usize {
        (0..requests).filter(|_| limits.allow(address, now)).count()
    }

    #[test]
    fn machines_behind_one_address_never_reach_the_limit() {
        let limits = Limits::new(config(&[]).tftp_rate);
        // A thousand that are switched on at once ask for the size of their program, for it, and for the script beside it; then
        // each asks for one file a second.
        assert_eq!(granted(&limits, NAT, 3000, 1000), 3000);
        for second in 1001..1600 {
            assert_eq!(granted(&limits, NAT, 1000, second), 1000, "{second}");
        }
        // What the boot loader of a Raspberry Pi looks for.
        for second in 1000..1600 {
            assert_eq!(granted(&limits, OTHER, 40, second), 40, "{second}");
        }
    }

    #[test]
    fn a_flood_from_one_address_is_cut_off_and_costs_no_other() {
        let limits = Limits::new(config(&[]).tftp_rate);
        assert_eq!(granted(&limits, NAT, 100_000, 1000), 4096);
        assert_eq!(granted(&limits, NAT, 100_000, 1001), 1024);
        assert_eq!(granted(&limits, OTHER, 40, 1001), 40);
        let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert_eq!(granted(&limits, mapped, 1, 1001), 0, "that is the same address");
        assert_eq!(granted(&limits, IpAddr::V6(Ipv6Addr::LOCALHOST), 1, 1001), 1);
    }

    #[test]
    fn the_rate_is_an_operators() {
        let limits = Limits::new(config(&["--tftp-rate=2"]).tftp_rate);
        assert_eq!(granted(&limits, NAT, 100, 1000), 8);
        assert_eq!(granted(&limits, NAT, 100, 1001), 2);
        let none = Limits::new(config(&["--tftp-rate=0"]).tftp_rate);
        assert_eq!(granted(&none, NAT, 100_000, 1000), 100_000);
    }
}
