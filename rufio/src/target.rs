// SPDX-License-Identifier: Apache-2.0

//! From a Machine's or Task's connection and its Secret to something that can be connected to, and with which protocols.
//!
//! Pure: the Secret has been read by the caller. `connection.port` is not looked at, as upstream does not either (its
//! default of 623 would be wrong for Redfish); each protocol has its own port in `providerOptions`.

use std::fmt;

use api::bmc::v1alpha1::{Connection, ProviderOptions};
use daemon::Secret;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use zeroize::Zeroizing;

use crate::bmc::{Driver, Fault, FaultKind};

/// Everything needed to open a session with one BMC.
#[derive(Clone)]
pub struct Target {
    /// Host name or address, perhaps with a scheme for Redfish.
    pub host: String,
    /// Account.
    pub username: String,
    /// Its password.
    pub password: Secret<String>,
    /// Whether any certificate is accepted.
    pub insecure_tls: bool,
    /// What Redfish needs besides.
    pub redfish: RedfishTarget,
    /// What IPMI needs besides.
    pub ipmi: IpmiTarget,
    /// Protocols to try, in order; never empty.
    pub drivers: Vec<Driver>,
}

/// `providerOptions.redfish`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedfishTarget {
    /// TCP port; `None` is the scheme's.
    pub port: Option<u16>,
    /// Basic authentication instead of sessions.
    pub basic_auth: bool,
    /// Which system is meant.
    pub system_name: Option<String>,
}

/// `providerOptions.ipmitool`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpmiTarget {
    /// UDP port; `None` is 623.
    pub port: Option<u16>,
    /// The only cipher suite to use; `None` tries the good ones.
    pub cipher_suite: Option<u8>,
}

/// One BMC, so that it is never asked two things at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    host: String,
    redfish: Option<u16>,
    ipmi: Option<u16>,
}

impl Target {
    /// Makes a target; `secret` is the content of `authSecretRef`.
    ///
    /// # Errors
    /// [`FaultKind::Config`] or [`FaultKind::Unsupported`] with the field that is wrong.
    pub fn new(connection: &Connection, secret: &KubeSecret) -> Result<Self, Fault> {
        let options = connection.provider_options.clone().unwrap_or_default();
        let drivers = drivers(&options)?;
        let redfish = options.redfish.unwrap_or_default();
        let ipmi = options.ipmitool.unwrap_or_default();
        let host = connection.host.trim().to_owned();
        if host.is_empty() {
            return Err(config("connection.host is empty"));
        }
        Ok(Self {
            host,
            username: secret_key(secret, "username")?.as_str().to_owned(),
            password: Secret::new(secret_key(secret, "password")?.as_str().to_owned()),
            insecure_tls: connection.insecure_tls,
            redfish: RedfishTarget {
                port: port(redfish.port, "redfish")?,
                basic_auth: redfish.use_basic_auth == Some(true),
                system_name: redfish.system_name.filter(|name| !name.is_empty()),
            },
            ipmi: IpmiTarget {
                port: port(ipmi.port, "ipmitool")?,
                cipher_suite: cipher_suite(ipmi.cipher_suite)?,
            },
            drivers,
        })
    }

    /// Which BMC it is.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        EndpointKey { host: self.host.to_lowercase(), redfish: self.redfish.port, ipmi: self.ipmi.port }
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host
            && self.username == other.username
            && self.password.expose() == other.password.expose()
            && self.insecure_tls == other.insecure_tls
            && self.redfish == other.redfish
            && self.ipmi == other.ipmi
            && self.drivers == other.drivers
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("drivers", &self.drivers)
            .finish_non_exhaustive()
    }
}

/// The protocols to try: those that have options, else those of `preferredOrder` first and the others after, else Redfish
/// and IPMI. The vendors' own Redfish dialects (`dell`, `supermicro`, `openbmc`) are served by Redfish.
///
/// # Errors
/// [`FaultKind::Unsupported`] when only things are named that we do not speak.
pub fn drivers(options: &ProviderOptions) -> Result<Vec<Driver>, Fault> {
    let unsupported = |name: &str| {
        let message = format!("{name} is not supported yet; Redfish and IPMI are");
        Err(Fault::new(FaultKind::Unsupported, message))
    };
    if options.rpc.is_some() {
        return unsupported("providerOptions.rpc");
    }
    if options.homeassistant.is_some() {
        return unsupported("providerOptions.homeassistant");
    }
    let names = options.preferred_order.iter().map(|name| name.0.as_str());
    let mut preferred: Vec<Driver> = Vec::new();
    for driver in names.filter_map(driver_named) {
        if !preferred.contains(&driver) {
            preferred.push(driver);
        }
    }
    let mut given = Vec::new();
    given.extend(options.redfish.as_ref().map(|_| Driver::Redfish));
    given.extend(options.ipmitool.as_ref().map(|_| Driver::Ipmi));
    if given.is_empty() {
        if options.intel_amt.is_some() {
            return unsupported("providerOptions.intelAMT");
        }
        if let (true, Some(name)) = (preferred.is_empty(), options.preferred_order.first()) {
            return unsupported(&format!("providerOptions.preferredOrder {:?}", name.0));
        }
        given = vec![Driver::Redfish, Driver::Ipmi];
    }
    given.sort_by_key(|driver| preferred.iter().position(|name| name == driver).unwrap_or(usize::MAX));
    Ok(given)
}

fn driver_named(name: &str) -> Option<Driver> {
    match name.to_ascii_lowercase().as_str() {
        "gofish" | "redfish" | "dell" | "supermicro" | "openbmc" => Some(Driver::Redfish),
        "ipmitool" | "ipmi" => Some(Driver::Ipmi),
        _ => None,
    }
}

/// Zero means the protocol's own port, as upstream has it.
fn port(port: Option<i64>, provider: &str) -> Result<Option<u16>, Fault> {
    match port.map(u16::try_from) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(port)) => Ok(Some(port)),
        Some(Err(_)) => Err(config(format!("providerOptions.{provider}.port is not a port from 1 to 65535"))),
    }
}

fn cipher_suite(text: Option<String>) -> Result<Option<u8>, Fault> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let number = text.trim().parse::<u8>();
    number
        .map(Some)
        .map_err(|_| config("providerOptions.ipmitool.cipherSuite is not a number such as 3 or 17"))
}

fn secret_key(secret: &KubeSecret, key: &str) -> Result<Zeroizing<String>, Fault> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let value = value.ok_or_else(|| config(format!("Secret {name} has no key {key}")))?;
    // A line break at the end comes from `echo`, and no BMC takes one.
    let text =
        std::str::from_utf8(&value.0).map_err(|_| config(format!("{key} in Secret {name} is not text")))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn config(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Config, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::bmc::v1alpha1::RpcOptions;
    use api::bmc::v1alpha1::{
        Connection, IntelAmtOptions, IpmiOptions, ProviderName, ProviderOptions, RedfishOptions,
    };
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::{Target, drivers};
    use crate::bmc::{Driver, FaultKind};

    const BOTH: [Driver; 2] = [Driver::Redfish, Driver::Ipmi];

    fn order(names: &[&str]) -> ProviderOptions {
        let preferred_order = names.iter().map(|&name| ProviderName(name.to_owned())).collect();
        ProviderOptions { preferred_order, ..ProviderOptions::default() }
    }

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), ByteString(value.into())))
            .collect::<BTreeMap<_, _>>();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn protocols_follow_the_options() {
        assert_eq!(drivers(&ProviderOptions::default()).unwrap(), BOTH);
        assert_eq!(drivers(&order(&["IPMItool"])).unwrap(), [Driver::Ipmi, Driver::Redfish]);
        assert_eq!(drivers(&order(&["dell", "gofish", "ipmitool"])).unwrap(), BOTH);
        assert_eq!(drivers(&order(&["IntelAMT", "ipmitool"])).unwrap(), [Driver::Ipmi, Driver::Redfish]);
        let ipmi = ProviderOptions { ipmitool: Some(IpmiOptions::default()), ..ProviderOptions::default() };
        assert_eq!(drivers(&ipmi).unwrap(), [Driver::Ipmi]);
        let both = ProviderOptions { redfish: Some(RedfishOptions::default()), ..ipmi };
        assert_eq!(drivers(&both).unwrap(), BOTH);
    }

    #[test]
    fn what_we_do_not_speak_is_told() {
        let rpc = ProviderOptions { rpc: Some(RpcOptions::default()), ..ProviderOptions::default() };
        let amt =
            ProviderOptions { intel_amt: Some(IntelAmtOptions::default()), ..ProviderOptions::default() };
        for (options, word) in [(rpc, "rpc"), (amt, "intelAMT"), (order(&["asrockrack"]), "asrockrack")] {
            let fault = drivers(&options).unwrap_err();
            assert!(fault.kind == FaultKind::Unsupported && fault.message.contains(word), "{fault:?}");
            assert!(fault.message.contains("not supported yet"));
        }
    }

    #[test]
    fn targets_are_checked_and_never_print_the_password() {
        let mut connection = Connection { host: "10.0.0.1".into(), port: Some(623), ..Connection::default() };
        let good = secret(&[("username", "root"), ("password", "hunter2\n")]);
        let target = Target::new(&connection, &good).unwrap();
        assert_eq!(target.password.expose(), "hunter2");
        assert_eq!((target.redfish.port, target.ipmi.port), (None, None), "connection.port is not used");
        assert!(!format!("{target:?}").contains("hunter2"));

        let missing = Target::new(&connection, &secret(&[("username", "root")])).unwrap_err();
        assert!(missing.kind == FaultKind::Config && missing.message.contains("password"));

        let ipmitool = Some(IpmiOptions { port: Some(70_000), cipher_suite: None });
        connection.provider_options = Some(ProviderOptions { ipmitool, ..ProviderOptions::default() });
        assert!(Target::new(&connection, &good).unwrap_err().message.contains("ipmitool.port"));
    }
}
