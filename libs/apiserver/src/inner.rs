// SPDX-License-Identifier: Apache-2.0

//! What all requests share: store, catalogue, bounds, and the snapshots that chunked lists go on from.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Options;
use crate::access::{Account, Writes};
use crate::registry::{self, Registry};
use crate::store::{Prefix, ReadError, Snapshot, Store};

/// Storage name of CRDs.
pub(crate) const CRDS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// Name of the administrator.
pub(crate) const ADMIN: &str = "admin";

/// Shared by the service, the TLS listener and the garbage collector.
pub(crate) struct Inner {
    pub store: Arc<Store>,
    pub registry: Registry,
    pub options: Options,
    pub snapshots: HeldSnapshots,
    pub shutdown: CancellationToken,
    /// Writes of others than the administrator.
    writing: watch::Sender<Writing>,
    /// Those of the options and the administrator.
    accounts: Vec<Arc<Account>>,
    /// Held while the catalogue is rebuilt, so that an older state never replaces a newer one.
    reload: Mutex<()>,
}

impl Inner {
    pub fn new(store: Arc<Store>, options: Options) -> Self {
        let accounts = [Account::admin(ADMIN)].into_iter().chain(options.accounts.iter().cloned());
        Self {
            accounts: accounts.map(Arc::new).collect(),
            store,
            registry: Registry::new(),
            options,
            snapshots: HeldSnapshots::default(),
            shutdown: CancellationToken::new(),
            writing: watch::Sender::default(),
            reload: Mutex::new(()),
        }
    }

    /// Lets accounts write, or no longer; for requests that come from now on.
    pub fn set_writes(&self, writes: Writes) {
        self.writing.send_modify(|writing| writing.suspended = writes == Writes::Suspended);
    }

    /// Waits until no write of an account goes on.
    pub async fn writes_ended(&self) {
        // The sender is ours, and so is still there.
        drop(self.writing.subscribe().wait_for(|writing| writing.going_on == 0).await);
    }

    /// Counts a write from before it is let in to its end, so that none that was let in is overlooked.
    pub fn begin_write(self: &Arc<Self>) -> Write {
        self.writing.send_if_modified(|writing| {
            writing.going_on += 1;
            false
        });
        Write(Arc::clone(self))
    }

    /// The account as it may act now.
    pub fn in_force(&self, account: Arc<Account>) -> Arc<Account> {
        match self.writing.borrow().suspended && !account.is_master() {
            true => Arc::new(account.read_only()),
            false => account,
        }
    }

    /// The account of a user; one without rules when the server was told of none.
    pub fn account(&self, user: &str) -> Arc<Account> {
        let known = self.accounts.iter().find(|account| account.name() == user);
        let unknown = || match user.strip_prefix("system:serviceaccount:").and_then(|of| of.split_once(':')) {
            Some((namespace, name)) => Account::service_account(namespace, name, Vec::new()),
            None => Account::new(user, Vec::new(), Vec::new()),
        };
        known.cloned().unwrap_or_else(|| Arc::new(unknown()))
    }

    /// Who may do everything: the holder of the admin's token, and this process.
    pub fn admin(&self) -> Arc<Account> {
        self.account(ADMIN)
    }

    /// Serves the CRDs that are stored now. A stored CRD that no longer parses is left out with a log record; the others are served.
    pub fn reload_crds(&self) {
        let _alone = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        match self.stored_crds() {
            Ok(mut custom) => {
                let before = self.registry.catalogue();
                custom.iter_mut().for_each(|resource| self.remember(&before, resource));
                self.registry.replace_custom(custom);
            }
            Err(error) => tracing::error!(%error, "cannot read the stored CRDs; serving the earlier ones"),
        }
    }

    /// Notes since when the schemas of a resource are what they are. When the server starts it knows the last change of the definition; while it runs, also
    /// whether that was one of the schemas, and that objects were written between the change and now as the definition before has it.
    fn remember(&self, before: &registry::Catalogue, resource: &mut registry::Resource) {
        let Some(known) = before.by_kind(&resource.group, &resource.kind) else { return };
        resource.since = match known.stores_like(resource) {
            true => known.since,
            false => Some(self.store.head().borrow().saturating_add(1)),
        };
    }

    fn stored_crds(&self) -> Result<Vec<registry::Resource>, ReadError> {
        let mut custom = Vec::new();
        self.store.snapshot()?.scan(&Prefix::new(CRDS, None), None, |stored| {
            let parsed = serde_json::from_slice::<Value>(&stored.bytes).map_err(|e| e.to_string());
            let parsed = parsed.and_then(|crd| {
                // Whose names were not accepted waits.
                let established = registry::is_established(&crd);
                let parsed = established.then(|| registry::parse_crd(&crd)).transpose();
                let parsed = parsed.map_err(|problems| format!("{problems:?}"))?;
                Ok(parsed.map(|resource| registry::Resource { since: Some(stored.version), ..resource }))
            });
            match parsed {
                Ok(resource) => custom.extend(resource),
                Err(error) => tracing::error!(crd = stored.key.name(), error, "stored CRD cannot be served"),
            }
            ControlFlow::Continue(())
        })?;
        Ok(custom)
    }
}

/// Whether accounts may write, and how many of their writes go on.
#[derive(Debug, Default)]
struct Writing {
    suspended: bool,
    going_on: usize,
}

/// A write that goes on until this is dropped.
pub(crate) struct Write(Arc<Inner>);

impl Drop for Write {
    fn drop(&mut self) {
        self.0.writing.send_if_modified(|writing| {
            writing.going_on = writing.going_on.saturating_sub(1);
            writing.going_on == 0
        });
    }
}

/// Snapshots kept for the next chunk of a list. Beyond the count the oldest go, and their lists get `410 Expired` with a token to go on inconsistently.
#[derive(Default)]
pub(crate) struct HeldSnapshots {
    held: Mutex<VecDeque<(Instant, Arc<Snapshot>)>>,
}

impl HeldSnapshots {
    const COUNT: usize = 16;
    /// Never longer than the change log remembers.
    const AGE: Duration = Duration::from_secs(300);

    pub fn keep(&self, snapshot: Arc<Snapshot>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, other)| other.version() != snapshot.version());
        held.push_back((Instant::now(), snapshot));
        while held.len() > Self::COUNT {
            held.pop_front();
        }
    }

    pub fn at(&self, version: u64) -> Option<Arc<Snapshot>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .find(|(_, snapshot)| snapshot.version() == version && snapshot.is_open())
            .map(|(_, snapshot)| Arc::clone(snapshot))
    }

    /// Lets go of what is too old; a held snapshot keeps the file from reusing pages.
    pub fn expire(&self, log_age: Duration) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(since, _)| since.elapsed() < Self::AGE.min(log_age));
    }

    pub fn clear(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
