// SPDX-License-Identifier: Apache-2.0

//! The client: from a host and credentials to one chosen system and its operations.

use std::time::Duration;

use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::json;
use crate::power::{self, PowerState};
use crate::quirks::{Quirk, QuirkRow, Quirks};
use crate::session;
use crate::tls::Trust;
use crate::transport::{Reply, Transport};

/// Systems looked at when one has to be found by name; a service with more is told from the first ones.
const MAX_SYSTEMS: usize = 64;
/// Pages of a collection that are read.
const MAX_PAGES: usize = 8;

/// Who we say we are. The password is wiped when dropped and cannot be printed.
#[derive(Clone)]
pub struct Credentials {
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

/// How to connect. [`Options::default`] verifies certificates with the system's roots.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which certificates are believed.
    pub trust: Trust,
    /// Basic on every request instead of a session.
    pub basic_auth: bool,
    /// Which system is meant, by `Name` or else by `Id`; `None` takes the only one.
    pub system_name: Option<String>,
    /// Limit for TCP and TLS.
    pub connect_timeout: Duration,
    /// Limit for one request.
    pub request_timeout: Duration,
    /// Limit for work that the service does in the background (HTTP 202).
    pub task_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trust: Trust::SystemRoots,
            basic_auth: false,
            system_name: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            task_timeout: Duration::from_secs(120),
        }
    }
}

/// What a system says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemInfo {
    /// `Name`.
    pub name: String,
    /// `Id`.
    pub id: String,
    /// `UUID`, when given.
    pub uuid: Option<String>,
    /// `Manufacturer`, when given.
    pub manufacturer: Option<String>,
    /// `Model`, when given.
    pub model: Option<String>,
    /// `PowerState`.
    pub power: PowerState,
}

/// An open conversation with one service about one system. End it with [`Client::close`]: BMCs have few sessions.
pub struct Client {
    pub(crate) transport: Transport,
    pub(crate) system: Url,
    pub(crate) task_timeout: Duration,
    quirks: Quirks,
}

impl Client {
    /// Finds the service, logs in and picks the system.
    ///
    /// # Errors
    /// Every variant of [`Error`] but `Unsupported` and `Task`. A session made on the way is deleted again.
    pub async fn connect(
        endpoint: Endpoint,
        credentials: Credentials,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut transport = Transport::new(endpoint, credentials, options)?;
        let root = service_root(&mut transport).await?;
        if !options.basic_auth
            && let Some(link) = session::sessions_link(&root)
        {
            transport.sessions = Some(transport.endpoint().resolve(link)?);
        }
        transport.login().await?;
        let system = transport.endpoint().root();
        let mut client =
            Self { transport, system, task_timeout: options.task_timeout, quirks: Quirks::default() };
        match client.pick_system(&root, options.system_name.as_deref()).await {
            Ok(()) => Ok(client),
            Err(error) => {
                client.transport.logout().await;
                Err(error)
            }
        }
    }

    /// Where this client is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.transport.endpoint()
    }

    /// Whether the service is known for `quirk`.
    #[must_use]
    pub fn has_quirk(&self, quirk: Quirk) -> bool {
        self.quirks.rows().iter().any(|row| row.quirk == quirk)
    }

    /// Everything the service is known for.
    #[must_use]
    pub fn quirks(&self) -> &[QuirkRow] {
        self.quirks.rows()
    }

    /// Reads what the system says about itself.
    ///
    /// # Errors
    /// As every request.
    pub async fn system_info(&mut self) -> Result<SystemInfo, Error> {
        let system = self.read_system().await?.body;
        let owned = |key| json::text(&system, key).map(str::to_owned);
        Ok(SystemInfo {
            name: owned("Name").unwrap_or_default(),
            id: owned("Id").unwrap_or_default(),
            uuid: owned("UUID"),
            manufacturer: owned("Manufacturer"),
            model: owned("Model"),
            power: power::power_state(&system),
        })
    }

    /// Deletes the session, if there is one. Failures are logged only.
    pub async fn close(mut self) {
        self.transport.logout().await;
    }

    pub(crate) async fn read_system(&mut self) -> Result<Reply, Error> {
        self.transport.get(&self.system).await
    }

    /// The members of a collection, over its pages, `limit` at most.
    pub(crate) async fn members(&mut self, collection: &Url, limit: usize) -> Result<Vec<Url>, Error> {
        let mut found = Vec::new();
        let mut page = Some(collection.clone());
        for _ in 0..MAX_PAGES {
            let Some(url) = page else { break };
            let body = self.transport.get(&url).await?.body;
            for link in json::links(&body, "Members") {
                found.push(self.transport.endpoint().resolve(link)?);
            }
            page = match json::text(&body, "Members@odata.nextLink")
                .or_else(|| json::text(&body, "@odata.nextLink"))
            {
                Some(next) if found.len() < limit => Some(self.transport.endpoint().resolve(next)?),
                _ => None,
            };
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn pick_system(&mut self, root: &Value, wanted: Option<&str>) -> Result<(), Error> {
        let link = json::link(root, "Systems").ok_or_else(|| Error::NotRedfish {
            endpoint: self.endpoint().clone(),
            reason: "its root names no systems".into(),
        })?;
        let collection = self.transport.endpoint().resolve(link)?;
        let members = self.members(&collection, MAX_SYSTEMS).await?;
        let mut systems = Vec::new();
        for url in members {
            systems.push((self.transport.get(&url).await?.body, url));
            if wanted.is_none() && systems.len() > 1 {
                break;
            }
        }
        let chosen = choose(&systems, wanted)?;
        self.quirks = Quirks::of(root, &chosen.0);
        self.system = chosen.1.clone();
        Ok(())
    }
}

async fn service_root(transport: &mut Transport) -> Result<Value, Error> {
    let url = transport.endpoint().root();
    let not_redfish = |transport: &Transport, reason: String| Error::NotRedfish {
        endpoint: transport.endpoint().clone(),
        reason,
    };
    let reply = match transport.get(&url).await {
        Ok(reply) => reply,
        Err(Error::Api { status: status @ (404 | 405 | 501), .. }) => {
            return Err(not_redfish(transport, format!("HTTP {status} for /redfish/v1/")));
        }
        // The root is public by the standard, but some services hide it; try again with what we have.
        Err(Error::Auth { status: 401, .. }) => {
            transport.login().await?;
            transport.get(&url).await?
        }
        Err(other) => return Err(other),
    };
    if json::text(&reply.body, "RedfishVersion").is_some() || reply.body.get("Systems").is_some() {
        Ok(reply.body)
    } else {
        Err(not_redfish(transport, "its answer for /redfish/v1/ is no service root".into()))
    }
}

fn choose<'a>(systems: &'a [(Value, Url)], wanted: Option<&str>) -> Result<&'a (Value, Url), Error> {
    let names = || systems.iter().map(|(body, url)| name(body, url)).collect();
    match (wanted, systems) {
        (None, [only]) => Ok(only),
        (None, []) => Err(Error::System { problem: "the service has no system".into(), names: Vec::new() }),
        (None, _) => Err(Error::System {
            problem: "there are several systems; name one in providerOptions.redfish.systemName".into(),
            names: names(),
        }),
        (Some(wanted), _) => {
            let by = |key| systems.iter().find(|(body, _)| json::text(body, key) == Some(wanted));
            by("Name").or_else(|| by("Id")).ok_or_else(|| Error::System {
                problem: format!("no system is called {wanted:?}"),
                names: names(),
            })
        }
    }
}

fn name(body: &Value, url: &Url) -> String {
    json::text(body, "Name")
        .or_else(|| json::text(body, "Id"))
        .map_or_else(|| url.path().to_owned(), json::shorten)
}
