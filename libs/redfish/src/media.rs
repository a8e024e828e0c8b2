// SPDX-License-Identifier: Apache-2.0

//! Virtual media: inserting and ejecting images by URL (DSP2046, VirtualMedia).
//!
//! Slots hang off the Manager on older services and off the System on newer ones; both are searched, in that order.

use http::Method;
use serde_json::{Value, json};
use url::Url;

use crate::client::Client;
use crate::error::Error;
use crate::json;
use crate::task;
use crate::transport::{Payload, Reply};

/// Slots looked at; services have two to eight.
const MAX_SLOTS: usize = 32;

/// The kind of medium a slot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// `CD`; slots that take `DVD` count as well.
    Cd,
    /// `USBStick`.
    Usb,
    /// `Floppy`.
    Floppy,
}

impl MediaKind {
    fn accepts(self, text: &str) -> bool {
        let names: &[&str] = match self {
            Self::Cd => &["CD", "DVD"],
            Self::Usb => &["USBStick"],
            Self::Floppy => &["Floppy"],
        };
        names.iter().any(|name| name.eq_ignore_ascii_case(text))
    }
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSlot {
    /// The slot's `Id`.
    pub id: String,
    /// Whether a medium is in it.
    pub inserted: bool,
    /// The image's URL as the service reports it.
    pub image: Option<String>,
}

impl Client {
    /// Reads the first slot that takes `kind`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when there is none; else as every request.
    pub async fn media(&mut self, kind: MediaKind) -> Result<MediaSlot, Error> {
        let slot = self.find_slot(kind).await?;
        Ok(read(&slot.body))
    }

    /// Puts the image at `url` into the first slot that takes `kind`, after ejecting what is there. The service fetches the
    /// image itself.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when there is no such slot; else as every request.
    pub async fn insert_media(&mut self, kind: MediaKind, url: &str) -> Result<(), Error> {
        let slot = self.find_slot(kind).await?;
        if occupied(&slot.body) {
            self.eject_slot(&slot).await?;
        }
        let Some(target) = action(&slot.body, "#VirtualMedia.InsertMedia") else {
            // Before VirtualMedia 1.2 a PATCH inserts.
            return self.patch_slot(&slot, &json!({ "Image": url, "Inserted": true })).await;
        };
        let target = self.transport.endpoint().resolve(target)?;
        let mut refused = None;
        for body in insert_bodies(url) {
            let payload = Payload { body: Some(&body), if_match: None };
            let reply = self.transport.request(Method::POST, &target, payload).await?;
            let another = reply.status.is_client_error()
                && !matches!(reply.status.as_u16(), 401 | 403 | 404 | 409 | 429);
            if !another {
                task::finish(&mut self.transport, reply, self.task_timeout).await?;
                return Ok(());
            }
            refused.get_or_insert(reply);
        }
        match refused {
            Some(reply) => Err(self.transport.refusal(&reply)),
            None => Ok(()),
        }
    }

    /// Ejects whatever is in the first slot that takes `kind`; an empty slot is fine.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when there is no such slot; else as every request.
    pub async fn eject_media(&mut self, kind: MediaKind) -> Result<(), Error> {
        let slot = self.find_slot(kind).await?;
        if occupied(&slot.body) { self.eject_slot(&slot).await } else { Ok(()) }
    }

    async fn eject_slot(&mut self, slot: &Reply) -> Result<(), Error> {
        let Some(target) = action(&slot.body, "#VirtualMedia.EjectMedia") else {
            return self.patch_slot(slot, &json!({ "Image": null, "Inserted": false })).await;
        };
        let target = self.transport.endpoint().resolve(target)?;
        let payload = Payload { body: Some(&json!({})), if_match: None };
        let reply = self.transport.request(Method::POST, &target, payload).await?;
        task::finish(&mut self.transport, reply, self.task_timeout).await.map(drop)
    }

    async fn patch_slot(&mut self, slot: &Reply, body: &Value) -> Result<(), Error> {
        let reply = self.transport.patch(&slot.url, body, slot.etag().as_deref()).await?;
        task::finish(&mut self.transport, reply, self.task_timeout).await.map(drop)
    }

    /// The first fitting slot, preferring one that can insert by action.
    async fn find_slot(&mut self, kind: MediaKind) -> Result<Reply, Error> {
        let mut second_best = None;
        for collection in self.media_collections().await? {
            for slot in self.members(&collection, MAX_SLOTS).await? {
                let reply = self.transport.get(&slot).await?;
                let types = reply.body.get("MediaTypes").and_then(Value::as_array);
                let fits =
                    types.into_iter().flatten().filter_map(Value::as_str).any(|text| kind.accepts(text));
                if fits && action(&reply.body, "#VirtualMedia.InsertMedia").is_some() {
                    return Ok(reply);
                }
                if fits {
                    second_best.get_or_insert(reply);
                }
            }
        }
        second_best.ok_or_else(|| Error::Unsupported {
            what: "virtual media of this kind".into(),
            allowed: Vec::new(),
        })
    }

    async fn media_collections(&mut self) -> Result<Vec<Url>, Error> {
        let system = self.read_system().await?.body;
        let managers: Vec<String> = system
            .get("Links")
            .map(|links| json::links(links, "ManagedBy").into_iter().map(str::to_owned).collect())
            .unwrap_or_default();
        let mut found = Vec::new();
        for manager in managers {
            let manager = self.transport.endpoint().resolve(&manager)?;
            let reply = self.transport.get(&manager).await?;
            found.extend(json::link(&reply.body, "VirtualMedia").map(str::to_owned));
        }
        found.extend(json::link(&system, "VirtualMedia").map(str::to_owned));
        found.dedup();
        found.iter().map(|link| self.transport.endpoint().resolve(link)).collect()
    }
}

fn action<'a>(slot: &'a Value, name: &str) -> Option<&'a str> {
    slot.get("Actions").and_then(|actions| actions.get(name)).and_then(|action| json::text(action, "target"))
}

fn occupied(slot: &Value) -> bool {
    let slot = read(slot);
    slot.inserted || slot.image.is_some()
}

fn read(slot: &Value) -> MediaSlot {
    MediaSlot {
        id: json::text(slot, "Id").unwrap_or_default().to_owned(),
        inserted: slot.get("Inserted").and_then(Value::as_bool).unwrap_or(false),
        image: json::text(slot, "Image").map(str::to_owned),
    }
}

/// Full, then with the transfer protocol spelt out (some insist on it), then the URL alone (some refuse all else).
fn insert_bodies(url: &str) -> Vec<Value> {
    let full = json!({ "Image": url, "Inserted": true, "WriteProtected": true });
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_uppercase()).unwrap_or_default();
    let explicit = json!({ "Image": url, "TransferMethod": "Stream", "TransferProtocolType": scheme });
    vec![full, explicit, json!({ "Image": url })]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MediaKind, insert_bodies, occupied};

    #[test]
    fn a_slot_with_a_left_over_image_is_occupied() {
        assert!(occupied(&json!({"Inserted": false, "Image": "http://x/y.iso"})));
        assert!(occupied(&json!({"Inserted": true})));
        assert!(!occupied(&json!({"Inserted": false, "Image": ""})));
    }

    #[test]
    fn the_last_form_is_the_url_alone() {
        let bodies = insert_bodies("https://x/y.iso");
        assert_eq!(bodies[1]["TransferProtocolType"], "HTTPS");
        assert_eq!(bodies[2], json!({"Image": "https://x/y.iso"}));
        assert!(MediaKind::Cd.accepts("DVD") && !MediaKind::Cd.accepts("Floppy"));
    }
}
