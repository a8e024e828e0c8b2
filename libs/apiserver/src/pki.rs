// SPDX-License-Identifier: Apache-2.0

//! The server's own certificate authority, its certificate, and the bearer tokens of its users, kept in a state directory.
//!
//! `tink up` and `tink api` load or create the [`Identity`] once at start and hand it to the TLS listener. Files are 0600 in a directory that is 0700; they are
//! reused while they are valid and name the same hosts. Secrets are never printed: the types that hold them have no `Debug`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Life of the authority, in days.
const CA_DAYS: i64 = 3650;
/// Life of the server's certificate, in days (what clients accept at most is 398).
const SERVER_DAYS: i64 = 365;
/// A certificate with less left than this is renewed at start, in days.
const RENEW_DAYS: i64 = 30;
/// Names that every certificate has.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const SERVER_CERT: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
const TOKEN: &str = "admin.token";
/// What tokens of service accounts are signed with.
const SIGNER: &str = "accounts.key";
const RECORD: &str = "pki.json";

/// Why the identity could not be loaded or made. Not retried.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {reason}; remove the directory to have new certificates made")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// When what we made runs out; unix seconds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    ca_until: i64,
    server_until: i64,
    names: Vec<String>,
}

/// A bearer token. It cannot be printed; [`Self::reveal`] is for writing it to its owner.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    fn generate() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The token's text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in constant time (but for the length).
    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

/// Certificates, key and token of this server.
pub struct Identity {
    ca_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    token: Token,
    signer: Token,
    directory: PathBuf,
}

impl Identity {
    /// Loads the identity from `directory`, making what is missing, about to expire, or not made for all of `names` (besides loopback; DNS names or addresses).
    ///
    /// # Errors
    /// [`PkiError`]; nothing half-written is left behind.
    pub fn load_or_create(directory: &Path, names: &[String]) -> Result<Self, PkiError> {
        create_directory(directory)?;
        let mut names: Vec<String> =
            LOOPBACK.iter().map(|n| (*n).to_owned()).chain(names.iter().cloned()).collect();
        names.sort();
        names.dedup();
        let file = |name: &str| directory.join(name);
        let record = read_record(&file(RECORD))?;
        let horizon = jiff::Timestamp::now().as_second() + RENEW_DAYS * 86_400;
        let ca_holds = record.as_ref().is_some_and(|r| r.ca_until > horizon)
            && file(CA_CERT).exists()
            && file(CA_KEY).exists();
        let server_holds = ca_holds
            && record.as_ref().is_some_and(|r| r.server_until > horizon && r.names == names)
            && file(SERVER_CERT).exists()
            && file(SERVER_KEY).exists();
        if !server_holds {
            let kept = record.filter(|_| ca_holds);
            renew(directory, names, kept.map(|r| r.ca_until))?;
        }
        let ca_pem = read(&file(CA_CERT))?;
        let damaged = |name: &str, e: rustls::pki_types::pem::Error| PkiError::Damaged {
            path: file(name),
            reason: e.to_string(),
        };
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(read(&file(SERVER_CERT))?.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(read(&file(SERVER_KEY))?.as_bytes());
        Ok(Self {
            ca_pem,
            chain: chain.map_err(|e| damaged(SERVER_CERT, e))?,
            key: key.map_err(|e| damaged(SERVER_KEY, e))?,
            token: load_token(&file(TOKEN))?,
            signer: load_token(&file(SIGNER))?,
            directory: directory.to_owned(),
        })
    }

    /// The authority's certificate, for clients to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The admin's token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The token of another user, made at the first time; `file` is the name of its file, without a directory.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn token_of(&self, file: &str) -> Result<Token, PkiError> {
        let path = self.directory.join(format!("{file}.token"));
        if file.is_empty() || !file.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(PkiError::Damaged { path, reason: "not a name for a token".into() });
        }
        load_token(&path)
    }

    pub(crate) fn signer(&self) -> &Token {
        &self.signer
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// A kubeconfig for the admin; `server` is the URL, `namespace` the default namespace. It holds the token: write it with [`write_private`].
    pub fn kubeconfig(&self, server: &str, namespace: &str) -> String {
        self.kubeconfig_of("admin", &self.token, server, namespace)
    }

    /// A kubeconfig for the bearer of `token`, who is called `user` in it.
    pub fn kubeconfig_of(&self, user: &str, token: &Token, server: &str, namespace: &str) -> String {
        let authority = base64::engine::general_purpose::STANDARD.encode(&self.ca_pem);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "embedded", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": token.0}}],
            "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": user, "namespace": namespace}}],
            "current-context": "embedded",
        });
        // JSON is YAML; pretty-printed it reads like one.
        serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// [`PkiError::Io`].
pub fn write_private(path: &Path, contents: &str) -> Result<(), PkiError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.{:08x}", rand::random::<u32>()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(contents.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            fs::remove_file(&temporary)?;
            return Err(error);
        }
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(|source| PkiError::Io { path: path.into(), source })
}

fn create_directory(directory: &Path) -> Result<(), PkiError> {
    let create = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
    };
    create().map_err(|source| PkiError::Io { path: directory.into(), source })
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Io { path: path.into(), source })
}

fn read_record(path: &Path) -> Result<Option<Record>, PkiError> {
    if !path.exists() {
        return Ok(None);
    }
    let parsed = serde_json::from_str(&read(path)?);
    parsed.map(Some).map_err(|e| PkiError::Damaged { path: path.into(), reason: e.to_string() })
}

fn load_token(path: &Path) -> Result<Token, PkiError> {
    if !path.exists() {
        write_private(path, &Token::generate().0)?;
    }
    let token = read(path)?.trim().to_owned();
    if token.len() < 32 {
        return Err(PkiError::Damaged { path: path.into(), reason: "the token is too short".into() });
    }
    Ok(Token(token))
}

/// Makes the server's certificate, and the authority unless its expiry is given. The record is written last: without it everything is made again.
fn renew(directory: &Path, names: Vec<String>, ca_until: Option<i64>) -> Result<(), PkiError> {
    let file = |name: &str| directory.join(name);
    let (ca_key, ca_until) = match ca_until {
        Some(until) => {
            let pem = read(&file(CA_KEY))?;
            let key = KeyPair::from_pem(&pem)
                .map_err(|e| PkiError::Damaged { path: file(CA_KEY), reason: e.to_string() })?;
            (key, until)
        }
        None => {
            let key = KeyPair::generate()?;
            let (params, until) = ca_params()?;
            write_private(&file(CA_CERT), &params.self_signed(&key)?.pem())?;
            write_private(&file(CA_KEY), &key.serialize_pem())?;
            (key, until)
        }
    };
    // Only the name and the key of the authority go into what it signs, and both are always the same.
    let issuer = Issuer::new(ca_params()?.0, ca_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name = distinguished_name("embedded API server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let server_until = set_life(&mut params, SERVER_DAYS)?;
    let certificate = params.signed_by(&key, &issuer)?;
    write_private(&file(SERVER_CERT), &certificate.pem())?;
    write_private(&file(SERVER_KEY), &key.serialize_pem())?;
    let record = Record { ca_until, server_until, names };
    let record = serde_json::to_string(&record)
        .map_err(|e| PkiError::Damaged { path: file(RECORD), reason: e.to_string() })?;
    write_private(&file(RECORD), &record)
}

fn ca_params() -> Result<(CertificateParams, i64), PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = distinguished_name("embedded API server authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let until = set_life(&mut params, CA_DAYS)?;
    Ok((params, until))
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Valid from yesterday (clocks differ) for `days`; returns the end.
fn set_life(params: &mut CertificateParams, days: i64) -> Result<i64, PkiError> {
    let now = jiff::Timestamp::now().as_second();
    let day = |seconds: i64| {
        let date = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (u8::try_from(date.month()).ok()?, u8::try_from(date.day()).ok()?);
        Some(rcgen::date_time_ymd(date.year().into(), month, day))
    };
    let until = now + days * 86_400;
    let (Some(from), Some(to)) = (day(now - 86_400), day(until)) else {
        return Err(PkiError::Certificate(rcgen::Error::Time));
    };
    params.not_before = from;
    params.not_after = to;
    Ok(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_identity_is_private_and_reused_until_its_names_change() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("pki");
        let first = Identity::load_or_create(&directory, &[]).unwrap();
        assert_eq!(mode(&directory), 0o700);
        for name in [CA_KEY, SERVER_KEY, TOKEN, SIGNER] {
            assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
        }
        let again = Identity::load_or_create(&directory, &[]).unwrap();
        assert_eq!(first.chain, again.chain);
        assert_eq!(first.token.reveal(), again.token.reveal());
        let renamed = Identity::load_or_create(&directory, &["192.0.2.1".to_owned()]).unwrap();
        assert_ne!(first.chain, renamed.chain);
        assert_eq!(first.ca_pem, renamed.ca_pem, "clients go on trusting the authority");
        assert_eq!(first.token.reveal(), renamed.token.reveal());
    }

    #[test]
    fn damaged_files_are_named() {
        let temporary = tempfile::tempdir().unwrap();
        Identity::load_or_create(temporary.path(), &[]).unwrap();
        fs::write(temporary.path().join(RECORD), "{").unwrap();
        let error = Identity::load_or_create(temporary.path(), &[]).err().unwrap().to_string();
        assert!(error.contains("pki.json"), "{error}");
    }
}
