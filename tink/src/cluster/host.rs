// SPDX-License-Identifier: Apache-2.0

//! This machine as the first provisioner of a cluster: are its ports free, and is there room for its state.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use orchestrator::finding::{Findings, Place};

use crate::{
    output,
    up::{
        Protocol,
        ports::{self, Busy, Listener},
    },
};

/// What the stack must be able to listen on while it provisions.
pub(super) const PORTS: [(&str, Protocol, u16); 7] = [
    ("DHCP", Protocol::Udp, 67),
    ("DHCP of boot servers", Protocol::Udp, 4011),
    ("TFTP", Protocol::Udp, 69),
    ("log messages", Protocol::Udp, 514),
    ("network boot over HTTP", Protocol::Tcp, 7171),
    ("metadata", Protocol::Tcp, 7172),
    ("agents", Protocol::Tcp, 42113),
];
/// The state of a thousand machines, many times over.
const ROOM: u64 = 1 << 30;

/// Ports and room. A stack of ours that runs already is no hindrance.
pub(super) fn check(state_dir: &Path, findings: &mut Findings) {
    let listener = |(what, protocol, port): (&'static str, Protocol, u16)| Listener {
        what,
        protocol,
        address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    };
    for busy in ports::busy(&PORTS.map(listener)) {
        port(&busy, findings);
    }
    if let Some(free) = free(state_dir)
        && free < ROOM
    {
        let place = Place::new("", 0, state_dir.display().to_string());
        let what = format!("has {} free, and {} are needed", output::bytes(free), output::bytes(ROOM));
        findings.error("disk-space", place, what, "make room, or choose another --state-dir");
    }
}

fn port(busy: &Busy, findings: &mut Findings) {
    let ours = !busy.holders.is_empty() && busy.holders.iter().all(|holder| holder.name == "tink");
    if ours {
        return;
    }
    let place = Place::new("", 0, format!("port {}", busy.address.port()));
    match busy.error.kind() {
        io::ErrorKind::PermissionDenied => {
            findings.warning(
                "port-not-checked",
                place,
                busy.to_string(),
                "run the check as the user that creates the cluster",
            );
        }
        _ => findings.error("port-held", place, busy.to_string(), "free it: machines look for it there"),
    }
}

/// Bytes that are free where a directory is or will be.
fn free(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|part| part.exists())?;
    let space = rustix::fs::statvfs(there).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use orchestrator::finding::Severity;

    use super::*;

    #[test]
    fn a_port_that_somebody_holds_is_told_with_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted =
            Listener { what: "the test", protocol: Protocol::Tcp, address: held.local_addr().unwrap() };
        let mut findings = Findings::default();
        ports::busy(&[wanted]).iter().for_each(|busy| port(busy, &mut findings));
        let [finding] = findings.as_slice() else { panic!("{findings:?}") };
        assert_eq!((finding.severity, finding.code), (Severity::Error, "port-held"));
        assert!(finding.what.contains(&std::process::id().to_string()), "{finding}");
    }

    #[test]
    fn room_is_looked_for_where_the_directory_will_be() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(free(&dir.path().join("not/yet")).is_some(), free(dir.path()).is_some());
        assert!(free(dir.path()).unwrap() > 0);
    }
}
