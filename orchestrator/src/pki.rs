// SPDX-License-Identifier: Apache-2.0

//! The certificates and keys that a cluster begins with: made here, so that no machine has to be the first to be trusted.
//!
//! Owns the three authorities of a kubeadm cluster, the keys of its service accounts, and what is signed on this side: the
//! administrator's kubeconfig and a client of etcd. Kept in Secrets with the names and keys of Cluster API, so that its tools
//! find them. Machines get what they need through [`crate::node`]; leaves of the control plane are kubeadm's to make.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use daemon::Secret;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{ByteString, api::core::v1};
use kube::core::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use api::{annotations::LABEL_CLUSTER, anywhere::v1alpha1::NAMESPACE};

/// Type of Cluster API's Secrets.
pub const SECRET_TYPE: &str = "cluster.x-k8s.io/secret";
/// Life of an authority, in days: kubeadm's ten years.
const AUTHORITY_DAYS: i64 = 3650;
/// Life of the administrator's certificate, in days: kubeadm's year.
const ADMIN_DAYS: i64 = 365;
/// Age of its Secret at which it is signed anew. After a move to another API server a Secret looks new: two moves still leave time.
pub(crate) const ADMIN_RENEWED: SignedDuration = SignedDuration::from_hours(120 * 24);
/// Life of our own client of etcd, which is made anew by every run, in days.
const CLIENT_DAYS: i64 = 2;
const SECONDS_PER_DAY: i64 = 86_400;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum PkiError {
    /// It cannot be made or signed. Not retried.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A Secret does not hold what it should. Not retried: the cluster is bound to what was in it.
    #[error("the Secret {name} has no usable {key}")]
    Damaged {
        /// Name of the Secret.
        name: String,
        /// Key in it.
        key: &'static str,
    },
}

/// One of the parts, each in a Secret of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Signs the API server and its clients.
    Kubernetes,
    /// Signs etcd and its clients.
    Etcd,
    /// Signs who asks in the name of others.
    FrontProxy,
    /// Signs tokens of service accounts: a pair of keys without a certificate.
    Accounts,
}

/// A key with its certificate, or with its public half.
#[derive(Clone)]
pub struct Pair {
    /// PEM of the certificate or the public key.
    pub public: String,
    /// PEM of the private key, PKCS #8.
    pub key: Secret<String>,
}

/// Everything that a cluster begins with.
#[derive(Clone)]
pub struct Pki {
    /// Signs the API server and its clients.
    pub kubernetes: Pair,
    /// Signs etcd and its clients.
    pub etcd: Pair,
    /// Signs who asks in the name of others.
    pub front_proxy: Pair,
    /// Signs tokens of service accounts.
    pub accounts: Pair,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kubernetes, Self::Etcd, Self::FrontProxy, Self::Accounts];

    /// Name of its Secret, as Cluster API has it.
    #[must_use]
    pub fn secret_name(self, cluster: &str) -> String {
        let suffix = match self {
            Self::Kubernetes => "ca",
            Self::Etcd => "etcd",
            Self::FrontProxy => "proxy",
            Self::Accounts => "sa",
        };
        format!("{cluster}-{suffix}")
    }

    /// The common name that kubeadm gives this authority.
    const fn common_name(self) -> &'static str {
        match self {
            Self::Kubernetes | Self::Accounts => "kubernetes",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    /// Makes a new pair; `now` is when its life begins.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn make(self, now: Timestamp) -> Result<Pair, PkiError> {
        let key = KeyPair::generate()?;
        let public = match self {
            Self::Accounts => key.public_key_pem(),
            Self::Kubernetes | Self::Etcd | Self::FrontProxy => {
                let mut params = self.authority()?;
                live(&mut params, now, AUTHORITY_DAYS)?;
                params.self_signed(&key)?.pem()
            }
        };
        Ok(Pair { public, key: Secret::new(key.serialize_pem()) })
    }

    /// What of an authority goes into what it signs; always the same, so that a kept key is enough to sign with.
    fn authority(self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name(self.common_name(), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        Ok(params)
    }

    /// Its Secret.
    #[must_use]
    pub fn secret(self, cluster: &str, pair: &Pair) -> v1::Secret {
        secret(
            self.secret_name(cluster),
            cluster,
            [("tls.crt", pair.public.clone()), ("tls.key", pair.key.expose().clone())],
        )
    }

    /// Reads a Secret back.
    ///
    /// # Errors
    ///
    /// When a key is missing or is no text.
    pub fn read(self, secret: &v1::Secret) -> Result<Pair, PkiError> {
        let text = |key: &'static str| {
            value(secret, key).ok_or_else(|| PkiError::Damaged {
                name: secret.metadata.name.clone().unwrap_or_default(),
                key,
            })
        };
        Ok(Pair { public: text("tls.crt")?, key: Secret::new(text("tls.key")?) })
    }
}

impl Pair {
    /// Signs a client's certificate.
    fn client(
        &self,
        part: Part,
        name_and_group: (&str, Option<&str>),
        now: Timestamp,
        days: i64,
    ) -> Result<Pair, PkiError> {
        let issuer = Issuer::new(part.authority()?, KeyPair::from_pem(self.key.expose())?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name(name_and_group.0, name_and_group.1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        live(&mut params, now, days)?;
        let public = params.signed_by(&key, &issuer)?.pem();
        Ok(Pair { public, key: Secret::new(key.serialize_pem()) })
    }
}

impl Pki {
    /// By the digest of its public key, a machine that joins knows the right API server: `sha256:` and hex (kubeadm's
    /// `caCertHashes`, RFC 7469 section 2.4 over the SubjectPublicKeyInfo).
    ///
    /// # Errors
    ///
    /// When the kept key is none.
    pub fn pin(&self) -> Result<String, PkiError> {
        let key = KeyPair::from_pem(self.kubernetes.key.expose())?;
        let digest = Sha256::digest(key.subject_public_key_info());
        Ok(digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }

    /// The administrator's kubeconfig; `endpoint` is host and port.
    ///
    /// # Errors
    ///
    /// When its certificate cannot be signed.
    pub fn kubeconfig(
        &self,
        cluster: &str,
        endpoint: &str,
        now: Timestamp,
    ) -> Result<Secret<String>, PkiError> {
        let user = format!("{cluster}-admin");
        let client = self.kubernetes.client(
            Part::Kubernetes,
            ("kubernetes-admin", Some("system:masters")),
            now,
            ADMIN_DAYS,
        )?;
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": cluster, "cluster": {
                "server": format!("https://{endpoint}"),
                "certificate-authority-data": encoded(&self.kubernetes.public),
            } }],
            "users": [{ "name": user, "user": {
                "client-certificate-data": encoded(&client.public),
                "client-key-data": encoded(client.key.expose()),
            } }],
            "contexts": [{
                "name": format!("{user}@{cluster}"),
                "context": { "cluster": cluster, "user": user },
            }],
            "current-context": format!("{user}@{cluster}"),
        });
        // JSON is YAML.
        Ok(Secret::new(format!("{config:#}\n")))
    }

    /// A client of etcd for one run.
    ///
    /// # Errors
    ///
    /// When its certificate cannot be signed.
    pub fn etcd_client(&self, now: Timestamp) -> Result<Pair, PkiError> {
        self.etcd.client(Part::Etcd, ("tink", None), now, CLIENT_DAYS)
    }
}

/// A Secret of a cluster.
#[must_use]
pub fn secret<const N: usize>(name: String, cluster: &str, data: [(&str, String); N]) -> v1::Secret {
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    v1::Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(LABEL_CLUSTER.to_owned(), cluster.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(BTreeMap::from(data)),
        ..v1::Secret::default()
    }
}

/// A text in a Secret.
#[must_use]
pub fn value(secret: &v1::Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    name
}

/// Valid from the day before (clocks differ) for so many days.
fn live(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<(), PkiError> {
    let day = |offset: i64| {
        let date = Timestamp::from_second(now.as_second() + offset * SECONDS_PER_DAY).ok()?;
        let date = date.to_zoned(TimeZone::UTC).date();
        let (month, day) = (u8::try_from(date.month()).ok()?, u8::try_from(date.day()).ok()?);
        Some(rcgen::date_time_ymd(date.year().into(), month, day))
    };
    let (Some(from), Some(to)) = (day(-1), day(days)) else {
        return Err(PkiError::Certificate(rcgen::Error::Time));
    };
    params.not_before = from;
    params.not_after = to;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

    use super::*;

    fn pki() -> Pki {
        let make = |part: Part| {
            let made = part.make(Timestamp::now()).unwrap();
            part.read(&part.secret("rack", &made)).unwrap()
        };
        Pki {
            kubernetes: make(Part::Kubernetes),
            etcd: make(Part::Etcd),
            front_proxy: make(Part::FrontProxy),
            accounts: make(Part::Accounts),
        }
    }

    fn verify(client: &str, authority: &Pair) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.public.as_bytes()).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let client = CertificateDer::from_pem_slice(client.as_bytes()).unwrap();
        verifier.verify_client_cert(&client, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn clients_are_trusted_by_the_authority_that_signed_them_and_by_no_other() {
        let pki = pki();
        let kubeconfig = pki.kubeconfig("rack", "10.0.0.2:6443", Timestamp::now()).unwrap();
        let read: serde_json::Value = serde_json::from_str(kubeconfig.expose()).unwrap();
        assert_eq!(read["clusters"][0]["cluster"]["server"], "https://10.0.0.2:6443");
        let data = read["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
        let client = String::from_utf8(BASE64_STANDARD.decode(data).unwrap()).unwrap();
        assert!(verify(&client, &pki.kubernetes));
        assert!(!verify(&client, &pki.etcd));
        assert!(verify(&pki.etcd_client(Timestamp::now()).unwrap().public, &pki.etcd));
    }

    #[test]
    fn secrets_are_those_of_cluster_api() {
        let pair = Part::Accounts.make(Timestamp::now()).unwrap();
        let secret = Part::Accounts.secret("rack", &pair);
        assert_eq!(secret.metadata.name.as_deref(), Some("rack-sa"));
        assert_eq!(secret.type_.as_deref(), Some("cluster.x-k8s.io/secret"));
        assert!(value(&secret, "tls.crt").unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
        assert!(value(&secret, "tls.key").unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        let names = Part::ALL.map(|part| part.secret_name("rack"));
        assert_eq!(names, ["rack-ca", "rack-etcd", "rack-proxy", "rack-sa"]);
        let empty = v1::Secret::default();
        assert!(Part::Etcd.read(&empty).is_err());
    }

    #[test]
    fn the_pin_is_the_digest_of_the_public_key() {
        let pki = pki();
        let pin = pki.pin().unwrap();
        assert_eq!(pin.len(), "sha256:".len() + 64);
        // The same key gives the same pin, another one another.
        assert_eq!(pin, pki.clone().pin().unwrap());
        assert_ne!(pin, self::pki().pin().unwrap());
    }
}
