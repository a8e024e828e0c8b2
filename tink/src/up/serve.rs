// SPDX-License-Identifier: Apache-2.0

//! The API server of this machine: the store with our definitions, the accounts of the daemons, and for each of them and for
//! the administrator a kubeconfig in the state directory.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::access::{Component, Place};
use api::annotations::{DEFAULT_NAMESPACE, SYSTEM_NAMESPACE};
use api::anywhere::v1alpha1::NAMESPACE;
use apiserver::access::{Account, Grant, Scope};
use apiserver::{Server, Tls, pki};
use tokio::net::TcpListener;

use super::config::ApiConfig;
use super::{UpError, bind};

/// The store; whether the machines were moved is in it.
pub(crate) const STORE: &str = "api.redb";
/// Keys and tokens.
const IDENTITY: &str = "pki";
/// The administrator's way in.
const KUBECONFIG: &str = "kubeconfig";

/// The names of what is kept in the state directory, the store last.
pub(crate) fn state() -> impl Iterator<Item = String> {
    let accounts = Component::ALL.into_iter().map(kubeconfig_of);
    [IDENTITY, KUBECONFIG].map(str::to_owned).into_iter().chain(accounts).chain([STORE.to_owned()])
}

/// A daemon's way in, where the skeleton looks for it.
fn kubeconfig_of(component: Component) -> String {
    format!("{}.kubeconfig", component.name())
}

/// A server that is about to serve.
pub(super) struct Served {
    pub(super) server: Arc<Server>,
    pub(super) listener: TcpListener,
    pub(super) tls: Tls,
    pub(super) url: String,
    /// The administrator's.
    pub(super) kubeconfig: PathBuf,
}

impl Served {
    /// Opens the store, installs the definitions, binds the port and writes the kubeconfigs.
    ///
    /// # Errors
    ///
    /// See [`UpError`].
    pub(super) async fn open(state_dir: &Path, config: &ApiConfig) -> Result<Self, UpError> {
        make_private(state_dir)?;
        let mut options = apiserver::Options::new(state_dir.join(STORE));
        options.namespaces = vec![DEFAULT_NAMESPACE.to_owned(), SYSTEM_NAMESPACE.to_owned()];
        options.accounts = Component::ALL.into_iter().map(account).collect();
        let server = Arc::new(Server::open(options).await?);
        server.install_crds_once(api::crds_digest(), api::crds).await?;

        let identity = pki::Identity::load_or_create(&state_dir.join(IDENTITY), &config.names)?;
        let listener = bind("the API server", config.bind).await?;
        let url = format!("https://{}", reachable(config.bind));
        let kubeconfig = state_dir.join(KUBECONFIG);
        pki::write_private(&kubeconfig, &identity.kubeconfig(&url, DEFAULT_NAMESPACE))?;
        let mut tls = Tls::new(&identity)?;
        for component in Component::ALL {
            let (name, user) = (component.name(), component.user());
            let token = identity.token_of(name)?;
            let text = identity.kubeconfig_of(name, &token, &url, DEFAULT_NAMESPACE);
            pki::write_private(&state_dir.join(kubeconfig_of(component)), &text)?;
            tls = tls.admit(&token, &user);
        }
        Ok(Self { server, listener, tls, url, kubeconfig })
    }
}

/// The account of a daemon with its rows of the table. Secrets of BMCs may be in any namespace that somebody made for machines.
fn account(component: Component) -> Account {
    let not_for_machines = vec![SYSTEM_NAMESPACE.to_owned(), "kube-system".to_owned()];
    let places = [
        (Place::Everywhere, Scope::Cluster),
        (Place::Machines, Scope::AllBut(not_for_machines)),
        (Place::System, Scope::In(vec![SYSTEM_NAMESPACE.to_owned()])),
        (Place::Clusters, Scope::In(vec![NAMESPACE.to_owned()])),
    ];
    let grants = places.into_iter().map(|(place, scope)| Grant { scope, rules: component.rules(place) });
    Account::service_account(SYSTEM_NAMESPACE, component.name(), grants.collect())
}

/// The address under which a listener is reached from its own machine.
fn reachable(bind: SocketAddr) -> SocketAddr {
    match bind.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), bind.port()),
        _ => bind,
    }
}

/// Makes the directory for its owner only. One that is there already is left as it is: it may hold other things.
fn make_private(path: &Path) -> Result<(), UpError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| UpError::State { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_token_is_the_account_with_the_rules() {
        for component in Component::ALL {
            assert_eq!(account(component).name(), component.user());
        }
    }
}
