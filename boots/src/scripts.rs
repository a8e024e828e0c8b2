// SPDX-License-Identifier: Apache-2.0
//! Scripts for requests: finds the machine, mints its token, renders. Shared by the TFTP and HTTP servers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use api::Mac;
use api::token::{TokenKey, mint};

use crate::backend::watch::Backend;
use crate::backend::{Found, Miss};
use crate::config::{ScriptConfig, Urls};
use crate::journal::{self, Journal};
use crate::script::{Moment, ScriptError, autoexec, render};

/// Everything that a script is made from.
#[derive(Clone)]
pub(crate) struct Scripts {
    pub(crate) backend: Backend,
    pub(crate) config: Arc<ScriptConfig>,
    pub(crate) urls: Arc<Urls>,
    pub(crate) key: TokenKey,
    pub(crate) journal: Journal,
}

/// Why a request gets no script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoScript {
    /// No machine, or more than one, is meant.
    Unknown,
    /// The machine may not boot.
    NotAllowed,
    /// Its own script URL cannot be chained to.
    BadUrl,
}

impl Scripts {
    /// The machine that a request is about: the MAC in its path (the element before the last), else the client's
    /// address.
    pub(crate) fn machine(&self, path: &str, client: Option<Ipv4Addr>) -> Result<Found, Miss> {
        let index = self.backend.read();
        match mac_in(path) {
            Some(mac) => index.by_mac(mac),
            None => client.map_or(Err(Miss::Unknown), |client| index.by_address(client)),
        }
    }

    /// The script for a request, and whose it is.
    pub(crate) fn get(&self, path: &str, client: Option<Ipv4Addr>) -> Result<(Found, String), NoScript> {
        let found = self.machine(path, client).map_err(|_| NoScript::Unknown)?;
        let mac = found.nic().mac;
        let workflow = self.backend.read().workflow(&found.machine, found.nic()).map(str::to_owned);
        // Without a Workflow there is nothing to prove; the agent is then treated as one that has no token.
        let token = workflow.map(|uid| mint(&self.key, mac, &uid, self.journal.boot(mac)));
        let moment = Moment { token, now: journal::now() };
        match render(&found.machine, found.nic(), &self.config, &moment) {
            Ok(script) => Ok((found, script)),
            Err(ScriptError::NotAllowed) => {
                self.journal.refused(&found);
                Err(NoScript::NotAllowed)
            }
            Err(ScriptError::Scheme) => Err(NoScript::BadUrl),
        }
    }

    /// What an iPXE finds beside itself. It is a step on the way to the script, so it does not count as one.
    pub(crate) fn autoexec(&self, path: &str, client: Option<Ipv4Addr>) -> Result<String, NoScript> {
        let found = self.machine(path, client).map_err(|_| NoScript::Unknown)?;
        if !found.nic().boot.allowed {
            self.journal.refused(&found);
            return Err(NoScript::NotAllowed);
        }
        Ok(autoexec(&self.urls.script(found.nic().mac)))
    }
}

/// The MAC that is the element before the last of a path.
pub(crate) fn mac_in(path: &str) -> Option<Mac> {
    path.rsplit('/').nth(1)?.parse().ok()
}
