// SPDX-License-Identifier: Apache-2.0
//! Scripts for requests: finds the machine, mints its token, renders. Shared by the TFTP and HTTP servers.

use std::net::IpAddr;
use std::sync::Arc;

use api::Mac;
use api::token::{TokenKey, mint};

use crate::backend::watch::Backend;
use crate::backend::{Found, Miss};
use crate::config::{ScriptConfig, Urls};
use crate::grub;
use crate::journal::{self, Journal};
use crate::script::{self, Moment, ScriptError, Version};

/// Last element of the path of a script.
pub(crate) const SCRIPT: &str = "auto.ipxe";
/// The same for a machine that boots over IPv6, which must find everything there.
pub(crate) const SCRIPT6: &str = "auto6.ipxe";

/// What differs for machines that boot over IPv6.
#[derive(Debug)]
pub(crate) struct Scripts6 {
    pub(crate) config: ScriptConfig,
    pub(crate) urls: Urls,
    /// Whether machines that nobody knows boot too.
    pub(crate) strangers: bool,
}

/// Everything that a script is made from.
#[derive(Clone)]
pub(crate) struct Scripts {
    pub(crate) backend: Backend,
    pub(crate) config: Arc<ScriptConfig>,
    pub(crate) urls: Arc<Urls>,
    pub(crate) key: TokenKey,
    pub(crate) journal: Journal,
    /// Whether machines that nobody knows boot too.
    pub(crate) strangers: bool,
    /// Nothing where nothing boots over IPv6.
    pub(crate) v6: Option<Arc<Scripts6>>,
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
        let index = self.backend.read();
        match mac_in(path) {
            Some(mac) => index.by_mac(mac),
            None => client.map_or(Err(Miss::Unknown), |client| index.by_address(client)),
        }
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
        let (config, strangers) = match &self.v6 {
            _ if path.rsplit('/').next() != Some(SCRIPT6) => (&*self.config, self.strangers),
            Some(v6) => (&v6.config, v6.strangers),
            None => return Err(NoScript::Unknown),
        };
        let found = match self.machine(path, client) {
            Ok(found) => found,
            Err(Miss::Unknown) if strangers => {
                return Ok((None, script::unknown(config, journal::now())));
            }
            Err(_) => return Err(NoScript::Unknown),
        };
        let script = script::render(&found.machine, found.nic(), config, &self.moment(&found));
        script.map(|script| (Some(found), script)).map_err(|ScriptError::Scheme| NoScript::BadUrl)
    }

    /// GRUB's configuration for a request, and whose it is if that is known.
    pub(crate) fn grub(
        &self,
        path: &str,
        client: Option<IpAddr>,
    ) -> Result<(Option<Found>, String), NoScript> {
        let config = match (&self.v6, client) {
            (Some(v6), Some(IpAddr::V6(_))) => &v6.config,
            _ => &*self.config,
        };
        // Never by the address: another server's lease may be what is reserved for another machine, whose token this one would get.
        let Some(mac) = mac_in(path) else { return Ok((None, grub::by_mac())) };
        let found = self.backend.read().by_mac(mac).map_err(|_| NoScript::Unknown)?;
        let text = grub::render(&found.machine, found.nic(), config, &self.moment(&found));
        Ok((Some(found), text))
    }

    /// What goes into a script of a machine now; tells if it may not have one.
    fn moment(&self, found: &Found) -> Moment {
        let allowed = found.nic().boot.allowed;
        if !allowed {
            self.journal.refused(found);
        }
        Moment { token: if allowed { self.token(found) } else { None }, now: journal::now() }
    }

    /// The token of a machine in its boot. Without a Workflow there is nothing to prove; the agent is then treated as one that
    /// has none.
    pub(crate) fn token(&self, found: &Found) -> Option<String> {
        let mac = found.nic().mac;
        let workflow = self.backend.read().workflow(&found.machine, found.nic()).map(str::to_owned);
        workflow.map(|uid| mint(&self.key, mac, &uid, self.journal.boot(mac)))
    }

    /// What an iPXE finds beside itself. It is a step on the way to the script, so it does not count as one.
    pub(crate) fn autoexec(&self, path: &str, client: Option<IpAddr>) -> Result<String, NoScript> {
        let (urls, strangers, version) = match (&self.v6, client) {
            (Some(v6), Some(IpAddr::V6(_))) => (&v6.urls, v6.strangers, Version::V6),
            _ => (&*self.urls, self.strangers, Version::V4),
        };
        let patch = self.config.patch.as_deref();
        match self.machine(path, client) {
            Ok(found) if !found.nic().boot.allowed => {
                self.journal.refused(&found);
                Ok(script::leave(&found.machine.name))
            }
            Ok(found) => Ok(script::autoexec(&urls.script(found.nic().mac), version, patch)),
            // iPXE itself says which of its interfaces got the address.
            Err(Miss::Unknown) if strangers => Ok(match mac_in(path) {
                Some(mac) => script::autoexec(&urls.script(mac), version, patch),
                None => script::autoexec(&urls.script("${mac}"), version, patch),
            }),
            Err(_) => Err(NoScript::Unknown),
        }
    }
}

/// The MAC that is the element before the last of a path. Debian's shim puts two slashes between them.
pub(crate) fn mac_in(path: &str) -> Option<Mac> {
    let (folder, _) = path.rsplit_once('/')?;
    folder.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}
