// SPDX-License-Identifier: Apache-2.0
//! Scripts for requests: finds the machine, mints its token, renders. Shared by the TFTP and HTTP servers.

use std::net::IpAddr;
use std::sync::Arc;

use api::Mac;
use api::token::{TokenKey, mint};

use crate::backend::watch::Backend;
use crate::backend::{Found, Index, Miss};
use crate::boot::{Answer, Asking, Decision, Protocol};
use crate::config::{ScriptConfig, Urls};
use crate::journal::{self, Journal};
use crate::script::{self, Moment, ScriptError, Version};
use crate::{boot, grub};

/// Last element of the path of a script.
pub(crate) const SCRIPT: &str = "auto.ipxe";
/// The same for a machine that boots over IPv6, which must find everything there.
pub(crate) const SCRIPT6: &str = "auto6.ipxe";

/// What scripts over one IP version are made from.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) config: ScriptConfig,
    pub(crate) urls: Urls,
    /// Whether machines that nobody knows boot too.
    pub(crate) strangers: bool,
    /// Whether machines have their addresses from here. From another server one may have what is reserved for another.
    pub(crate) gives_addresses: bool,
}

/// Everything that a script is made from.
#[derive(Clone)]
pub(crate) struct Scripts {
    pub(crate) backend: Backend,
    pub(crate) key: TokenKey,
    pub(crate) journal: Journal,
    pub(crate) v4: Arc<Side>,
    /// Nothing where nothing boots over IPv6.
    pub(crate) v6: Option<Arc<Side>>,
}

/// Why a request gets no script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoScript {
    /// No machine, or more than one, is meant.
    Unknown,
    /// The machine's own script URL cannot be chained to.
    BadUrl,
}

impl Scripts {
    /// The machine that a request is about: the MAC in its path (the element before the last), else the client's
    /// address.
    pub(crate) fn machine(&self, path: &str, client: Option<IpAddr>) -> Result<Found, Miss> {
        machine(&self.backend.read(), path, client)
    }

    /// The same, with the Workflow that it boots for.
    pub(crate) fn asking(&self, path: &str, client: Option<IpAddr>) -> Result<Asking, Miss> {
        let index = self.backend.read();
        machine(&index, path, client).map(|found| Asking::of(&index, found))
    }

    /// The machine that a request without a name is from: the one that is reserved this address, else the one that fetched its
    /// script from there. Good for telling its progress, not for handing out what is a machine's own.
    pub(crate) fn sender(&self, client: IpAddr) -> Option<Found> {
        let index = self.backend.read();
        let reserved = index.by_address(client);
        reserved.or_else(|miss| self.journal.at(client).map_or(Err(miss), |mac| index.by_mac(mac))).ok()
    }

    /// The script for a request, and whose it is if that is known. A machine that may not boot gets one that hands back to its
    /// firmware.
    pub(crate) fn get(
        &self,
        path: &str,
        client: Option<IpAddr>,
    ) -> Result<(Option<Found>, String), NoScript> {
        let Side { config, strangers, .. } = match &self.v6 {
            _ if path.rsplit('/').next() != Some(SCRIPT6) => &*self.v4,
            Some(v6) => v6,
            None => return Err(NoScript::Unknown),
        };
        let asking = match self.asking(path, client) {
            Ok(asking) => asking,
            Err(_) if *strangers => return Ok((None, script::unknown(config, journal::now()))),
            Err(_) => return Err(NoScript::Unknown),
        };
        let (found, decision) = (&asking.found, asking.decide(Protocol::Ipxe));
        let moment = self.moment(found, decision);
        let script = script::render(&found.machine, found.nic(), decision.answer, config, &moment);
        script.map(|script| (Some(asking.found), script)).map_err(|ScriptError::Scheme| NoScript::BadUrl)
    }

    /// GRUB's configuration for a request, and whose it is if that is known.
    pub(crate) fn grub(
        &self,
        path: &str,
        client: Option<IpAddr>,
    ) -> Result<(Option<Found>, String), NoScript> {
        let config = &self.side(client).0.config;
        // Never by the address: another server's lease may be what is reserved for another machine, whose token this one would get.
        if mac_in(path).is_none() {
            return Ok((None, grub::by_mac()));
        }
        let asking = self.asking(path, None).map_err(|_| NoScript::Unknown)?;
        let (found, decision) = (&asking.found, asking.decide(Protocol::Grub));
        let moment = self.moment(found, decision);
        let text = grub::render(&found.machine, found.nic(), decision.answer, config, &moment);
        Ok((Some(asking.found), text))
    }

    /// What goes into a script of a machine now; tells if it may not have one.
    fn moment(&self, found: &Found, decision: Decision<'_>) -> Moment {
        if decision.answer == Answer::NotAllowed {
            self.journal.refused(found);
        }
        Moment { token: self.token(found, decision), now: journal::now() }
    }

    /// The token of a machine in its boot. Without a Workflow there is nothing to prove; the agent is then treated as one that
    /// has none.
    pub(crate) fn token(&self, found: &Found, decision: Decision<'_>) -> Option<String> {
        let mac = found.nic().mac;
        decision.workflow.map(|uid| mint(&self.key, mac, uid, self.journal.boot(mac)))
    }

    /// What an iPXE finds beside itself. It is a step on the way to the script, so it does not count as one.
    pub(crate) fn autoexec(&self, path: &str, client: Option<IpAddr>) -> Result<String, NoScript> {
        let (Side { config, urls, strangers, gives_addresses }, version) = self.side(client);
        let leave_by = |found: &Found| found.machine.leave_by.unwrap_or(config.leave_by);
        let mac = mac_in(path);
        let nameless = mac.is_none() && !gives_addresses;
        match if nameless { Err(Miss::Unknown) } else { self.machine(path, client) } {
            Ok(found) if boot::refuses(found.nic(), Protocol::Ipxe) => {
                self.journal.refused(&found);
                Ok(script::leave(&found.machine.name, leave_by(&found)))
            }
            Ok(found) => {
                Ok(script::autoexec(&urls.script(found.nic().mac), version, config, leave_by(&found)))
            }
            Err(_) if nameless || *strangers => {
                // iPXE itself says which of its interfaces got the address.
                let mac = mac.map_or_else(|| "${mac}".to_owned(), |mac| mac.to_string());
                Ok(script::autoexec(&urls.script(mac), version, config, config.leave_by))
            }
            Err(_) => Err(NoScript::Unknown),
        }
    }

    /// What is for a client at this address.
    fn side(&self, client: Option<IpAddr>) -> (&Side, Version) {
        match (&self.v6, client) {
            (Some(v6), Some(IpAddr::V6(_))) => (v6, Version::V6),
            _ => (&self.v4, Version::V4),
        }
    }
}

fn machine(index: &Index, path: &str, client: Option<IpAddr>) -> Result<Found, Miss> {
    match mac_in(path) {
        Some(mac) => index.by_mac(mac),
        None => client.map_or(Err(Miss::Unknown), |client| index.by_address(client)),
    }
}

/// The MAC that is the element before the last of a path. Debian's shim puts two slashes between them.
pub(crate) fn mac_in(path: &str) -> Option<Mac> {
    let (folder, _) = path.rsplit_once('/')?;
    folder.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use api::v1alpha1::Hardware;
    use serde_json::json;

    use super::*;
    use crate::config::tests::config;
    use crate::journal::tests::journal;
    use crate::machine::tests::hardware;

    const MAC: &str = "52:54:00:00:00:11";
    const RESERVED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 31, 0, 11));

    /// Scripts for these machines, inside a runtime.
    pub(crate) fn scripts(flags: &[&str], machines: &[Hardware]) -> Scripts {
        let backend = Backend::default();
        backend.change(|index| machines.iter().for_each(|machine| drop(index.apply_hardware(machine))));
        let key = TokenKey::try_from(&[7; api::token::KEY_LENGTH][..]).unwrap();
        crate::scripts(&config(flags), backend, key, journal())
    }

    fn named(name: &str, mut machine: Hardware) -> Hardware {
        machine.metadata.name = Some(name.to_owned());
        machine
    }

    #[tokio::test]
    async fn an_address_of_another_server_names_no_machine_to_chain_to() {
        let end = |flags: &[&str], path: &str| {
            let text = scripts(flags, &[hardware(&json!({}))]).autoexec(path, Some(RESERVED)).unwrap();
            text.rsplit_once("/ipxe/script/").unwrap().1.to_owned()
        };
        let (itself, reserved) = ("${mac}/auto.ipxe\n", format!("{MAC}/auto.ipxe\n"));
        for flags in [["--dhcp-mode=proxy"], ["--dhcp-mode=auto-proxy"], ["--dhcp-enabled=false"]] {
            assert_eq!(end(&flags, "autoexec.ipxe"), itself, "{flags:?}");
            assert_eq!(end(&flags, &format!("{MAC}/autoexec.ipxe")), reserved, "{flags:?}");
        }
        assert_eq!(end(&[], "autoexec.ipxe"), reserved, "the address is from here");
        let refused = hardware(&json!({ "netboot": { "allowPXE": false } }));
        let scripts = scripts(&["--dhcp-mode=proxy"], &[refused]);
        let text = scripts.autoexec("autoexec.ipxe", Some(RESERVED)).unwrap();
        assert!(text.ends_with(itself), "it may be another machine: {text}");
        let text = scripts.autoexec(&format!("{MAC}/autoexec.ipxe"), None).unwrap();
        assert!(text.contains("allowPXE") && text.ends_with("\nexit 1\n"), "{text}");
    }

    #[tokio::test]
    async fn in_auto_proxy_mode_whoever_is_not_found_gets_the_static_script() {
        let twins = [named("m1", hardware(&json!({}))), named("m2", hardware(&json!({})))];
        let script = |flags: &[&str], mac: &str| {
            let got = scripts(flags, &twins).get(&format!("{mac}/{SCRIPT}"), None);
            got.map(|(found, script)| (found.is_none(), script.contains(" worker_id=${mac} ")))
        };
        let stranger = "52:54:00:00:00:99";
        for flags in [&["--dhcp-mode=auto-proxy"][..], &["--dhcp-mode=auto-proxy", "--dhcp-enabled=false"]] {
            assert_eq!(script(flags, stranger), Ok((true, true)), "{flags:?}");
            assert_eq!(script(flags, MAC), Ok((true, true)), "two machines claim it: {flags:?}");
        }
        assert_eq!(script(&["--dhcp-mode=proxy"], MAC), Err(NoScript::Unknown));
    }
}
