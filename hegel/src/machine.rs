// SPDX-License-Identifier: Apache-2.0
//! What one machine is told: the answers of its Hardware, made once when the Hardware changes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use api::v1alpha1::{Hardware, Instance, InstanceIp, OperatingSystem};
use bytes::Bytes;
use k8s_openapi::api::core::v1::ObjectReference;

use crate::rootio;
use crate::tree::Leaf;

/// Seconds in which further requests of one machine count as the same boot: cloud-init asks many times during one.
const SAME_BOOT: i64 = 60;

/// Namespace and name of a Hardware.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of(hardware: &Hardware) -> Self {
        let metadata = &hardware.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// One machine's answers.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) key: Key,
    pub(crate) instance_id: Option<String>,
    pub(crate) addresses: Vec<IpAddr>,
    uid: Option<String>,
    user_data: Bytes,
    hostname: Bytes,
    plan: Bytes,
    facility: Bytes,
    tags: Bytes,
    public_ipv4: Bytes,
    local_ipv4: Bytes,
    public_ipv6: Bytes,
    keys: Vec<Bytes>,
    os: [Bytes; 4],
    rootio: Bytes,
    last_fetch: Arc<AtomicI64>,
}

impl Machine {
    /// The answers of a Hardware. `last_fetch` is carried over from the machine's earlier form, so that a change of its Hardware
    /// is no new boot.
    pub(crate) fn new(hardware: &Hardware, last_fetch: Option<Arc<AtomicI64>>) -> Self {
        let empty = Instance::default();
        let metadata = hardware.spec.metadata.as_ref();
        let instance = metadata.and_then(|metadata| metadata.instance.as_ref()).unwrap_or(&empty);
        let facility = metadata.and_then(|metadata| metadata.facility.clone()).unwrap_or_default();
        let os = instance.operating_system.clone().unwrap_or_default();
        let OperatingSystem { slug, distro, version, image_tag, .. } = os;
        let mut addresses: Vec<IpAddr> = hardware
            .spec
            .interfaces
            .iter()
            .filter_map(|interface| interface.ip())
            .map(|ip| ip.to_canonical())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            key: Key::of(hardware),
            uid: hardware.metadata.uid.clone(),
            instance_id: hardware.instance_id().map(str::to_owned),
            addresses,
            user_data: value(hardware.spec.user_data.as_ref()),
            hostname: value(instance.hostname.as_ref()),
            plan: value(facility.plan_slug.as_ref()),
            facility: value(facility.facility_code.as_ref()),
            tags: Bytes::from(instance.tags.join("\n")),
            public_ipv4: address(instance, |ip| ip.family == Some(4) && ip.public == Some(true)),
            local_ipv4: address(instance, |ip| ip.family == Some(4) && ip.public != Some(true)),
            public_ipv6: address(instance, |ip| ip.family == Some(6)),
            keys: instance
                .ssh_keys
                .iter()
                .map(|key| key.trim())
                .filter(|key| !key.is_empty())
                .map(bytes)
                .collect(),
            os: [slug, distro, version, image_tag].map(|text| value(text.as_ref())),
            rootio: Bytes::from(rootio::document(hardware)),
            last_fetch: last_fetch.unwrap_or_default(),
        }
    }

    /// The value of a leaf; nothing for a key that the machine does not have.
    pub(crate) fn answer(&self, leaf: Leaf) -> Option<Bytes> {
        let [slug, distro, version, image_tag] = &self.os;
        let bytes = match leaf {
            Leaf::UserData => &self.user_data,
            Leaf::InstanceId => return Some(value(self.instance_id.as_ref())),
            Leaf::Hostname => &self.hostname,
            Leaf::Iqn | Leaf::LicenseState => return Some(Bytes::new()),
            Leaf::Plan => &self.plan,
            Leaf::Facility => &self.facility,
            Leaf::Tags => &self.tags,
            Leaf::PublicIpv4 => &self.public_ipv4,
            Leaf::LocalIpv4 => &self.local_ipv4,
            Leaf::PublicIpv6 => &self.public_ipv6,
            Leaf::PublicKeys => return Some(self.key_list()),
            Leaf::PublicKey(number) => {
                return self.keys.get(number).map(|_| Bytes::from_static(b"openssh-key"));
            }
            Leaf::OpensshKey(number) => return self.keys.get(number).cloned(),
            Leaf::OsSlug => slug,
            Leaf::OsDistro => distro,
            Leaf::OsVersion => version,
            Leaf::OsImageTag => image_tag,
        };
        Some(bytes.clone())
    }

    /// rootio's document.
    pub(crate) fn rootio(&self) -> Bytes {
        self.rootio.clone()
    }

    /// Notes a fetch at `now` (Unix seconds) and says whether it is the first of a boot, as far as time tells.
    pub(crate) fn is_first_fetch(&self, now: i64) -> bool {
        let last = self.last_fetch.swap(now, Ordering::Relaxed);
        now.saturating_sub(last) > SAME_BOOT
    }

    /// What [`Machine::new`] carries over.
    pub(crate) fn last_fetch(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.last_fetch)
    }

    /// The Hardware, for Events.
    pub(crate) fn reference(&self) -> ObjectReference {
        daemon::events::hardware_reference(&self.key.namespace, &self.key.name, self.uid.as_deref())
    }

    /// Names are numbered, since cloud-init keeps one key per name.
    fn key_list(&self) -> Bytes {
        let lines: Vec<String> =
            (0..self.keys.len()).map(|number| format!("{number}=key-{number}")).collect();
        Bytes::from(lines.join("\n"))
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn value(text: Option<&String>) -> Bytes {
    text.map(|text| bytes(text)).unwrap_or_default()
}

fn address(instance: &Instance, wanted: impl Fn(&InstanceIp) -> bool) -> Bytes {
    value(instance.ips.iter().find(|ip| wanted(ip)).and_then(|ip| ip.address.as_ref()))
}
