// SPDX-License-Identifier: Apache-2.0
//! What can be set, and what follows from it: the addresses and URLs that machines are told.
//!
//! Read once at start. Keys and flags are Tinkerbell's; those about directories and the token are ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ::dhcp::Arch;
use ::dhcp::quirks::{BOOT_FROM_DISK_METHOD, leave_by};
use api::Mac;
use daemon::config::{Kind, Setting, Settings};
use daemon::http::TrustedProxies;

use crate::dhcp::pool::POOL_FORM;
use crate::files::SCRIPT_MARKER;

mod capture;
mod dhcp;
mod dhcp6;
mod http;
mod iso;
mod public;
mod pxe;
mod syslog;

pub use self::dhcp::{DhcpConfig, DhcpMode, ServerAddress};
pub use self::dhcp6::{Dhcp6Config, Dhcp6Mode};
pub use self::http::HttpsConfig;
use self::public::Public;
pub use self::pxe::PxeConfig;
pub use self::syslog::SyslogConfig;
use crate::access::{ACCESS_FILE, HttpToken};
pub use crate::capture::CaptureConfig;
pub use crate::dhcp::pool::Pool;
pub use crate::iso::IsoConfig;
use crate::standby::{self, Standby};

/// What this daemon keeps in the state directory, by the names there; also what takes the place of a file when it is whole.
pub(crate) const STATE: &[&str] = &[
    ACCESS_FILE,
    "boots.access.new",
    dhcp::LEASES,
    "boots-leases.new",
    iso::IMAGES,
    syslog::LOGS,
    capture::PACKETS,
];

/// All settings of this daemon, beside those of the skeleton.
pub const SETTINGS: &[Setting] = &Setting::joined::<
    {
        GENERAL.len()
            + dhcp6::SETTINGS.len()
            + http::SETTINGS.len()
            + syslog::SETTINGS.len()
            + iso::SETTINGS.len()
            + standby::SETTINGS.len()
            + capture::SETTINGS.len()
            + pxe::SETTINGS.len()
    },
>(&[
    GENERAL,
    &dhcp6::SETTINGS,
    &http::SETTINGS,
    &syslog::SETTINGS,
    &iso::SETTINGS,
    &standby::SETTINGS,
    &capture::SETTINGS,
    &pxe::SETTINGS,
]);

/// Those that are of no part with a table of its own.
const GENERAL: &[Setting] = &[
    Setting::new(
        "public-ipv4",
        "public-ipv4",
        Kind::Ip,
        "address that machines reach this server at; found from the default route when unset",
    ),
    Setting::new(
        "bind-address",
        "bind-address",
        Kind::Ip,
        "address that HTTP and TFTP listen on; :: is all of IPv4 and IPv6",
    )
    .with_default("0.0.0.0"),
    Setting::new("http-port", "http-port", Kind::Port, "port of the HTTP server").with_default("7171"),
    TrustedProxies::SETTING,
    Setting::new("dhcp-enabled", "dhcp-enabled", Kind::Bool, "answer DHCP").with_default("true"),
    Setting::new(
        "dhcp-enable-netboot-options",
        "dhcp-enable-netboot-options",
        Kind::Bool,
        "send boot data in DHCP answers",
    )
    .with_default("true"),
    Setting::new(
        "dhcp-mode",
        "dhcp-mode",
        Kind::Choice(&["reservation", "proxy", "auto-proxy"]),
        "reservation: addresses and boot data for known machines; proxy: only boot data, beside another DHCP server; \
         auto-proxy: that for unknown machines too",
    )
    .with_default("reservation"),
    Setting::new(
        "dhcp-bind-addr",
        "dhcp-bind-addr",
        Kind::Ip,
        "address that DHCP listens on; other than 0.0.0.0 it hears no broadcasts, only relays",
    )
    .with_default("0.0.0.0"),
    Setting::new("dhcp-bind-port", "dhcp-bind-port", Kind::Port, "port that DHCP listens on")
        .with_default("67"),
    Setting::new(
        "dhcp-bind-interface",
        "dhcp-bind-interface",
        Kind::Text,
        "the only interface on which DHCP is answered",
    ),
    Setting::new(
        "dhcp-ip-for-packet",
        "dhcp-ip-for-packet",
        Kind::Ip,
        "server identifier in DHCP answers; unset: the address of the interface that asks, public-ipv4 through a relay",
    ),
    Setting::new(
        "dhcp-pxe-port",
        "dhcp-pxe-port",
        Kind::Port,
        "port on which PXE clients ask their boot server; 0 switches it off, unset: 4011 if DHCP is on port 67",
    ),
    Setting::new(
        "dhcp-rate",
        "dhcp-rate",
        Kind::Integer,
        "DHCP and DHCPv6 messages per second of one client, 16 times as many at once; 0 is no limit",
    )
    .with_default("2"),
    Setting::new("dhcp-pools", "dhcp-pools", Kind::List(POOL_FORM), "addresses for clients without a reservation"),
    Setting::new(
        "dhcp-pool-probe",
        "dhcp-pool-probe",
        Kind::Duration,
        "how long an address of a pool is asked for with ICMP echo before it is offered to a new client; 0s switches it off",
    )
    .with_default("500ms"),
    Setting::new(
        "dhcp-lease-file",
        "dhcp-lease-file",
        Kind::Path,
        "file of the leases from pools; unset: boots-leases in the state directory",
    ),
    Setting::new(
        "dhcp-syslog-ip",
        "dhcp-syslog-ip",
        Kind::Ip,
        "log server in DHCP answers; public-ipv4 when unset",
    ),
    Setting::new(
        "dhcp-tftp-ip",
        "dhcp-tftp-ip",
        Kind::Ip,
        "TFTP server in DHCP answers; public-ipv4 when unset",
    ),
    Setting::new("dhcp-tftp-port", "dhcp-tftp-port", Kind::Port, "port of that TFTP server")
        .with_default("69"),
    Setting::new(
        "dhcp-ipxe-http-binary-scheme",
        "dhcp-ipxe-http-binary-scheme",
        Kind::Choice(&["http", "https"]),
        "scheme of the boot program URL",
    )
    .with_default("http"),
    Setting::new(
        "dhcp-ipxe-http-binary-host",
        "dhcp-ipxe-http-binary-host",
        Kind::Text,
        "host of the boot program URL; public-ipv4 when unset",
    ),
    Setting::new(
        "dhcp-ipxe-http-binary-port",
        "dhcp-ipxe-http-binary-port",
        Kind::Port,
        "port of the boot program URL; 0 is http-port",
    )
    .with_default("0"),
    Setting::new(
        "dhcp-ipxe-http-binary-path",
        "dhcp-ipxe-http-binary-path",
        Kind::Text,
        "path of the boot program URL",
    )
    .with_default("/ipxe/binary/"),
    Setting::new(
        "dhcp-ipxe-http-script-scheme",
        "dhcp-ipxe-http-script-scheme",
        Kind::Choice(&["http", "https"]),
        "scheme of the script URL",
    )
    .with_default("http"),
    Setting::new(
        "dhcp-ipxe-http-script-host",
        "dhcp-ipxe-http-script-host",
        Kind::Text,
        "host of the script URL; public-ipv4 when unset",
    ),
    Setting::new(
        "dhcp-ipxe-http-script-port",
        "dhcp-ipxe-http-script-port",
        Kind::Port,
        "port of the script URL; 0 is http-port",
    )
    .with_default("0"),
    Setting::new(
        "dhcp-ipxe-http-script-path",
        "dhcp-ipxe-http-script-path",
        Kind::Text,
        "path of the script URL",
    )
    .with_default("/ipxe/script/auto.ipxe"),
    Setting::new(
        "dhcp-ipxe-http-script-prepend-mac",
        "dhcp-ipxe-http-script-prepend-mac",
        Kind::Bool,
        "put the MAC before the last element of the script path",
    )
    .with_default("true"),
    Setting::new(
        "ipxe-override-arch-mapping",
        "ipxe-override-arch-mapping",
        Kind::Csv("architecture=file, such as 7=snp-x86_64.efi"),
        "other boot programs by client architecture",
    ),
    Setting::new(
        "ipxe-binary-inject-mac-addr-format",
        "ipxe-binary-inject-mac-addr-format",
        Kind::Choice(&["colon", "dot", "dash", "no-delimiter", "empty"]),
        "form of the MAC in boot program URLs",
    )
    .with_default("colon"),
    Setting::new(
        "ipxe-embedded-script-patch",
        "ipxe-embedded-script-patch",
        Kind::Text,
        "iPXE commands that boot programs run before they ask for an address, at most 131 bytes: in the place that Tinkerbell's iPXE \
         has for them, and in the autoexec.ipxe of any other",
    ),
    Setting::new("ipxe-http-binary-enabled", "ipxe-http-binary-enabled", Kind::Bool, "serve boot programs over HTTP")
        .with_default("true"),
    Setting::new("ipxe-http-script-enabled", "ipxe-http-script-enabled", Kind::Bool, "serve iPXE scripts over HTTP")
        .with_default("true"),
    Setting::new(
        "ipxe-http-script-osie-url",
        "ipxe-http-script-osie-url",
        Kind::Url,
        "URL of the directory with kernel and initramfs; our own /hook when unset",
    ),
    Setting::new(
        "ipxe-http-script-kernel-name",
        "ipxe-http-script-kernel-name",
        Kind::Text,
        "kernel file name without its architecture; vmlinuz when unset",
    ),
    Setting::new(
        "ipxe-http-script-initrd-name",
        "ipxe-http-script-initrd-name",
        Kind::Text,
        "initramfs file name without its architecture; initramfs when unset",
    ),
    Setting::new(
        "ipxe-http-script-extra-kernel-args",
        "ipxe-http-script-extra-kernel-args",
        Kind::List("kernel arguments"),
        "kernel arguments for every machine",
    ),
    Setting::new(
        "ipxe-http-script-retries",
        "ipxe-http-script-retries",
        Kind::Integer,
        "how often the script repeats a failed download",
    )
    .with_default("1"),
    Setting::new(
        "ipxe-http-script-retry-delay",
        "ipxe-http-script-retry-delay",
        Kind::Integer,
        "seconds before that",
    )
    .with_default("1"),
    Setting::new(
        BOOT_FROM_DISK_METHOD,
        BOOT_FROM_DISK_METHOD,
        Kind::Choice(&["ipxe-exit", "ipxe-sanboot"]),
        "how a script gives a machine back to its disk; ipxe-sanboot: a BIOS, which may halt when iPXE exits, has its first disk started",
    )
    .with_default("ipxe-exit"),
    Setting::new(
        "ipxe-script-syslog-fqdn",
        "ipxe-script-syslog-fqdn",
        Kind::Text,
        "log server of script and kernel; dhcp-syslog-ip when unset",
    ),
    Setting::new(
        "ipxe-script-tink-server-addr-port",
        "ipxe-script-tink-server-addr-port",
        Kind::Text,
        "workflow server for the agent; port 42113 of public-ipv4 when unset",
    ),
    Setting::new(
        "ipxe-script-tink-server-use-tls",
        "ipxe-script-tink-server-use-tls",
        Kind::Bool,
        "the agent uses TLS; unset: if tls-cert-file and tls-key-file are set, which tink-server reads too",
    ),
    Setting::new(
        "ipxe-script-tink-server-insecure-tls",
        "ipxe-script-tink-server-insecure-tls",
        Kind::Bool,
        "the agent accepts any certificate",
    )
    .with_default("false"),
    Setting::new("tftp-server-enabled", "tftp-server-enabled", Kind::Bool, "serve TFTP").with_default("true"),
    Setting::new(
        "tftp-server-bind-addr",
        "tftp-server-bind-addr",
        Kind::Ip,
        "address that TFTP listens on; bind-address when unset",
    ),
    Setting::new("tftp-server-bind-port", "tftp-server-bind-port", Kind::Port, "port that TFTP listens on")
        .with_default("69"),
    Setting::new("tftp-timeout", "tftp-timeout", Kind::Duration, "longest wait for one TFTP acknowledgement")
        .with_default("10s"),
    Setting::new(
        "tftp-block-size",
        "tftp-block-size",
        Kind::Integer,
        "largest TFTP block that is granted, at most what the MTU carries",
    )
    .with_default("1468"),
    Setting::new(
        "tftp-rate",
        "tftp-rate",
        Kind::Integer,
        "TFTP requests per second from one address, four times as many at once; 0 is no limit",
    )
    .with_default("1024"),
    Setting::new(
        "tftp-single-port",
        "tftp-single-port",
        Kind::Bool,
        "answer from the port that was asked, for NAT and firewalls, instead of a new one per transfer",
    )
    .with_default("true"),
    Setting::new(
        "http-token-file",
        "http-token-file",
        Kind::SecretFile,
        "file with the token that opens the logs of machines over HTTP; unset: one is made, in boots.access of the state \
         directory",
    ),
    Setting::new("boot-program-dir", "boot-program-dir", Kind::Path, "directory with the iPXE boot programs"),
    Setting::new(
        "hook-dir",
        "hook-dir",
        Kind::Path,
        "directory with kernel and initramfs of the in-memory operating system, served as /hook",
    ),
    Setting::new(
        "images-dir",
        "images-dir",
        Kind::Path,
        "directory with operating-system images, served as /images",
    ),
    Setting::new(
        "agent-token-namespace",
        "agent-token-namespace",
        Kind::Text,
        "namespace of the Secret with the key of agent tokens",
    )
    .with_default(api::annotations::SYSTEM_NAMESPACE),
    Setting::health_port("smee-health-port", "9101"),
];

/// Port of the workflow server.
const GRPC_PORT: u16 = 42113;
/// Port of TFTP servers (RFC 1350 section 4).
const TFTP_PORT: u16 = 69;

/// The configuration of the daemon.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where HTTPS listens, if it does.
    pub https: Option<HttpsConfig>,
    /// HTTP requests per second of one client; nothing is no limit.
    pub http_rate: Option<u16>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether boot programs are served over HTTP.
    pub http_programs: bool,
    /// Whether scripts are.
    pub http_scripts: bool,
    /// DHCP, unless it is off.
    pub dhcp: Option<DhcpConfig>,
    /// Who gives addresses and which machines boot, also where DHCP is off.
    pub dhcp_mode: DhcpMode,
    /// DHCPv6, unless it is off.
    pub dhcp6: Option<Dhcp6Config>,
    /// TFTP, unless it is off.
    pub tftp: Option<tftp::Config>,
    /// TFTP requests per second from one address; nothing is no limit.
    pub tftp_rate: Option<u16>,
    /// Files of machines that boot without iPXE.
    pub pxe: PxeConfig,
    /// The log server, unless it is off.
    pub syslog: Option<SyslogConfig>,
    /// What is kept of the packets of boots, unless that is off.
    pub capture: Option<CaptureConfig>,
    /// This server's own URL, as others reach it.
    pub http_url: String,
    /// Images for virtual media, unless they are off.
    pub iso: Option<IsoConfig>,
    /// What opens logs and captures; nothing is the one of the state directory.
    pub http_token: Option<HttpToken>,
    /// Directory for what must survive a restart.
    pub state_dir: PathBuf,
    /// What machines are told about where things are.
    pub urls: Urls,
    /// What scripts are made from.
    pub script: ScriptConfig,
    /// Boot programs that differ from the default table, by architecture.
    pub programs: BTreeMap<Arch, String>,
    /// Directory of the boot programs.
    pub boot_program_dir: Option<PathBuf>,
    /// Directory behind `/hook`.
    pub hook_dir: Option<PathBuf>,
    /// Whether scripts send machines to `/hook` for kernel and initramfs.
    pub hook_needed: bool,
    /// Directory behind `/images`.
    pub images_dir: Option<PathBuf>,
    /// Namespace of the token key.
    pub token_namespace: String,
    /// Namespace whose objects are served; nothing is all.
    pub namespace: Option<String>,
    /// Whether there are others, of which one answers.
    pub standby: Standby,
}

/// Where machines find boot programs and scripts.
#[derive(Debug, Clone)]
pub struct Urls {
    /// Base URL of boot programs, with a slash at its end.
    pub binary: String,
    /// Its host, when that is an address.
    pub binary_ip: Option<Ipv4Addr>,
    /// Script URL up to its last element, with a slash at its end.
    pub script_base: String,
    /// Last element of the script URL.
    pub script_name: String,
    /// Whether the MAC goes between the two.
    pub script_has_mac: bool,
    /// TFTP server.
    pub tftp: SocketAddr,
    /// Form of the MAC in boot program URLs.
    pub mac_format: MacFormat,
}

/// Form of a MAC in boot program URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the setting")]
pub enum MacFormat {
    Colon,
    Dot,
    Dash,
    NoDelimiter,
    Empty,
}

/// What scripts are made from, apart from the machine.
#[derive(Debug, Clone)]
pub struct ScriptConfig {
    /// URL of the directory with kernel and initramfs, without a slash at its end.
    pub osie_url: String,
    /// Kernel name without architecture, when it is not `vmlinuz`.
    pub kernel_name: Option<String>,
    /// Initramfs name without architecture, when it is not `initramfs`.
    pub initrd_name: Option<String>,
    /// Kernel arguments for every machine.
    pub extra_args: Vec<String>,
    /// Downloads are repeated this often.
    pub retries: u32,
    /// Seconds before that.
    pub retry_delay: u32,
    /// Commands before `exit 1` where a machine is given back to its disk.
    pub leave_by: &'static str,
    /// Commands that boot programs run before they ask for an address.
    pub patch: Option<String>,
    /// Log server, a name or an address; may be empty.
    pub syslog: String,
    /// Workflow server as `host:port`.
    pub grpc_authority: String,
    /// Whether the agent uses TLS.
    pub tls: bool,
    /// Whether it accepts any certificate.
    pub insecure_tls: bool,
}

impl Config {
    /// Reads the settings; mistakes are recorded in them.
    pub fn from_settings(settings: &mut Settings) -> Self {
        Self::on_host(settings, Public::of_host())
    }

    /// The same on a host that has these addresses. Where machines boot over IPv6 only, it needs none of IPv4: whoever asks all the
    /// same is told what is there over IPv6.
    fn on_host(settings: &mut Settings, host: Public) -> Self {
        let own = settings.get::<Ipv4Addr>("public-ipv4").or(host.v4);
        let v6_only = own.is_none() && settings.bool("dhcpv6-enabled") && !settings.bool("dhcp-enabled");
        if own.is_none() && !v6_only {
            settings.mistake("public-ipv4", "must be set: this host has no default route to find it from");
        }
        let public = own.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let bind = settings.get_or("bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let http = SocketAddr::new(bind, settings.get_or("http-port", 7171));
        let osie_url: Option<String> = settings.get("ipxe-http-script-osie-url");
        let own_hook = osie_url.is_none();
        let mappings: Vec<Mapping> = settings.list("ipxe-override-arch-mapping");
        let script = script(
            settings,
            public,
            osie_url.unwrap_or_else(|| format!("http://{public}:{}/hook", http.port())),
        );
        let public6 = settings.get::<Ipv6Addr>("public-ipv6").or(host.v6);
        let dhcp6 = Dhcp6Config::from_settings(settings, &script, (bind, http.port()), (public6, own_hook));
        let urls = urls(settings, "dhcp", public.into(), http.port());
        let (script, urls) = match &dhcp6 {
            Some(dhcp6) if v6_only => (dhcp6.script.clone(), dhcp6.urls.clone()),
            _ => (script, urls),
        };
        let reached = own.map_or_else(|| public6.map_or(public.into(), IpAddr::V6), IpAddr::V4);
        Self {
            http,
            https: HttpsConfig::from_settings(settings, bind),
            http_rate: http::rate(settings, "http-rate"),
            trusted_proxies: TrustedProxies::from_settings(settings),
            http_programs: settings.bool("ipxe-http-binary-enabled"),
            http_scripts: settings.bool("ipxe-http-script-enabled"),
            dhcp: DhcpConfig::from_settings(settings, public),
            dhcp_mode: DhcpMode::from_settings(settings),
            dhcp6,
            tftp: tftp(settings, bind),
            tftp_rate: http::rate(settings, "tftp-rate"),
            pxe: PxeConfig::from_settings(settings),
            syslog: SyslogConfig::from_settings(settings, bind),
            capture: capture::from_settings(settings),
            http_url: format!("http://{}", SocketAddr::new(reached, http.port())),
            iso: IsoConfig::from_settings(settings),
            http_token: settings.secret_file("http-token-file").map(HttpToken::from),
            state_dir: daemon::state_dir(settings.path("state-dir")),
            urls,
            script,
            programs: mappings.into_iter().map(|mapping| (mapping.0, mapping.1)).collect(),
            boot_program_dir: settings.path("boot-program-dir"),
            hook_dir: settings.path("hook-dir"),
            hook_needed: own_hook,
            images_dir: settings.path("images-dir"),
            token_namespace: settings
                .get_or("agent-token-namespace", api::annotations::SYSTEM_NAMESPACE.to_owned()),
            namespace: settings.get("backend-kube-namespace"),
            standby: Standby::from_settings(settings),
        }
    }
}

fn tftp(settings: &mut Settings, bind: IpAddr) -> Option<tftp::Config> {
    let address = settings.get_or("tftp-server-bind-addr", bind);
    let port = settings.get_or("tftp-server-bind-port", 69);
    let block_size = settings.get_or("tftp-block-size", 1468);
    if !(512..=65464).contains(&block_size) {
        settings.mistake("tftp-block-size", "must be from 512 to 65464");
    }
    let timeout = settings.duration("tftp-timeout");
    if timeout < Duration::from_secs(1) {
        settings.mistake("tftp-timeout", "must be at least 1s");
    }
    let default = tftp::Config::default();
    let single = settings.bool("tftp-single-port");
    let config = tftp::Config {
        listen: SocketAddr::new(address, port),
        ports: if single { tftp::Ports::Single } else { tftp::Ports::PerTransfer },
        limits: tftp::Limits { block_size, ..default.limits },
        timeout,
        ..default
    };
    settings.bool("tftp-server-enabled").then_some(config)
}

/// The URLs that the settings of one version of DHCP make.
fn urls(settings: &mut Settings, dhcp: &str, public: IpAddr, http_port: u16) -> Urls {
    let mut authority = |what: &str| {
        let scheme = settings.text(&format!("{dhcp}-ipxe-http-{what}-scheme"));
        let host: String = settings.get_or(&format!("{dhcp}-ipxe-http-{what}-host"), public.to_string());
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
        let port = match settings.get_or(&format!("{dhcp}-ipxe-http-{what}-port"), 0u16) {
            0 => http_port,
            port => port,
        };
        let path = settings.text(&format!("{dhcp}-ipxe-http-{what}-path"));
        let is_default = matches!((scheme.as_str(), port), ("http", 80) | ("https", 443));
        let port = if is_default { String::new() } else { format!(":{port}") };
        (format!("{scheme}://{host}{port}/"), host, path.trim_start_matches('/').to_owned())
    };
    let (binary_root, binary_host, binary_path) = authority("binary");
    let (script_root, _, script_path) = authority("script");
    let (script_dir, script_name) = script_path.rsplit_once('/').unwrap_or(("", &script_path));
    let slash = |path: &str| if path.is_empty() { String::new() } else { format!("{path}/") };
    let tftp_ip = settings.get_or(&format!("{dhcp}-tftp-ip"), public);
    if tftp_ip.is_ipv4() != public.is_ipv4() {
        let version = if public.is_ipv4() { "IPv4" } else { "IPv6" };
        settings.mistake(&format!("{dhcp}-tftp-ip"), format!("must be an {version} address"));
    }
    Urls {
        binary: format!("{binary_root}{}", slash(binary_path.trim_end_matches('/'))),
        binary_ip: binary_host.parse().ok(),
        script_base: format!("{script_root}{}", slash(script_dir)),
        script_name: script_name.to_owned(),
        script_has_mac: settings.bool(&format!("{dhcp}-ipxe-http-script-prepend-mac")),
        tftp: SocketAddr::new(tftp_ip, settings.get_or(&format!("{dhcp}-tftp-port"), TFTP_PORT)),
        mac_format: match settings.text("ipxe-binary-inject-mac-addr-format").as_str() {
            "dot" => MacFormat::Dot,
            "dash" => MacFormat::Dash,
            "no-delimiter" => MacFormat::NoDelimiter,
            "empty" => MacFormat::Empty,
            _ => MacFormat::Colon,
        },
    }
}

fn script(settings: &mut Settings, public: Ipv4Addr, osie_url: String) -> ScriptConfig {
    let syslog_ip: Ipv4Addr = settings.get_or("dhcp-syslog-ip", public);
    let authority: String = settings.get_or("ipxe-script-tink-server-addr-port", public.to_string());
    let patch: Option<String> = settings.get("ipxe-embedded-script-patch");
    if patch.as_ref().is_some_and(|patch| patch.len() > SCRIPT_MARKER.len()) {
        let longest = SCRIPT_MARKER.len();
        settings.mistake("ipxe-embedded-script-patch", format!("must have at most {longest} bytes"));
    }
    ScriptConfig {
        osie_url: osie_url.trim_end_matches('/').to_owned(),
        kernel_name: settings.get("ipxe-http-script-kernel-name"),
        initrd_name: settings.get("ipxe-http-script-initrd-name"),
        extra_args: settings.list("ipxe-http-script-extra-kernel-args"),
        retries: settings.get_or("ipxe-http-script-retries", 1),
        retry_delay: settings.get_or("ipxe-http-script-retry-delay", 1),
        leave_by: leave_by(&settings.text(BOOT_FROM_DISK_METHOD)).unwrap_or_default(),
        patch,
        syslog: settings.get_or("ipxe-script-syslog-fqdn", syslog_ip.to_string()),
        grpc_authority: with_port(&authority),
        tls: uses_tls(settings),
        insecure_tls: settings.bool("ipxe-script-tink-server-insecure-tls"),
    }
}

/// Whether the agent uses TLS: as it is set, else as the workflow server does with the same certificate.
fn uses_tls(settings: &mut Settings) -> bool {
    let setting = "ipxe-script-tink-server-use-tls";
    if settings.is_set(setting) {
        return settings.bool(setting);
    }
    settings.is_set("tls-cert-file") && settings.is_set("tls-key-file")
}

/// `host:port` of an address or name with or without one; an address without brackets has none.
fn with_port(authority: &str) -> String {
    if authority.parse::<Ipv6Addr>().is_ok() {
        return format!("[{authority}]:{GRPC_PORT}");
    }
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_some() { authority.to_owned() } else { format!("{authority}:{GRPC_PORT}") }
}

impl Urls {
    /// The script URL of a machine.
    pub fn script(&self, mac: impl std::fmt::Display) -> String {
        let mac = if self.script_has_mac { format!("{mac}/") } else { String::new() };
        format!("{}{mac}{}", self.script_base, self.script_name)
    }

    /// The HTTP URL of a machine's boot program.
    pub fn binary_http(&self, mac: Mac, program: &str) -> String {
        format!("{}{}{program}", self.binary, self.mac_dir(mac))
    }

    /// The TFTP URL of a file for a machine.
    pub fn tftp(&self, mac: Mac, file: &str) -> String {
        let server = match self.tftp {
            // EDK II takes what stands between the brackets for the server, and then wants the path.
            SocketAddr::V6(address) if address.port() == TFTP_PORT => format!("[{}]", address.ip()),
            address => address.to_string(),
        };
        format!("tftp://{server}/{}{file}", self.mac_dir(mac))
    }

    fn mac_dir(&self, mac: Mac) -> String {
        let bare = mac.to_string().replace(':', "");
        match self.mac_format {
            MacFormat::Colon => format!("{mac}/"),
            MacFormat::Dash => format!("{}/", mac.dashed()),
            MacFormat::NoDelimiter => format!("{bare}/"),
            MacFormat::Dot => {
                let groups: Vec<&str> =
                    [0..4, 4..8, 8..12].into_iter().filter_map(|group| bare.get(group)).collect();
                format!("{}/", groups.join("."))
            }
            MacFormat::Empty => String::new(),
        }
    }
}

/// `architecture=file`.
struct Mapping(Arch, String);

impl std::str::FromStr for Mapping {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (arch, file) = text.split_once('=').ok_or(())?;
        let arch = arch.trim().parse().map_err(|_| ())?;
        let file = file.trim();
        if file.is_empty() { Err(()) } else { Ok(Self(Arch(arch), file.to_owned())) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use daemon::config::Inputs;

    use super::*;

    /// A configuration from flags, with the address of the lab.
    pub(crate) fn config(args: &[&str]) -> Config {
        let args = std::iter::once("--public-ipv4=172.31.0.1").chain(args.iter().copied());
        let inputs = Inputs::gather(args.map(str::to_owned), []);
        let mut settings = Settings::load("boots", SETTINGS, inputs);
        let config = Config::from_settings(&mut settings);
        assert_eq!(settings.unread(), ["health-port"], "that one is the skeleton's");
        settings.finish().unwrap();
        config
    }

    #[test]
    fn defaults_follow_from_the_public_address() {
        let config = config(&[]);
        let mac = "52:54:00:00:00:11".parse().unwrap();
        assert_eq!(config.urls.script(mac), "http://172.31.0.1:7171/ipxe/script/52:54:00:00:00:11/auto.ipxe");
        assert_eq!(
            config.urls.binary_http(mac, "ipxe.efi"),
            "http://172.31.0.1:7171/ipxe/binary/52:54:00:00:00:11/ipxe.efi"
        );
        assert_eq!(config.urls.tftp(mac, "ipxe.efi"), "tftp://172.31.0.1:69/52:54:00:00:00:11/ipxe.efi");
        assert_eq!(config.script.osie_url, "http://172.31.0.1:7171/hook");
        assert_eq!(config.script.grpc_authority, "172.31.0.1:42113");
        assert_eq!(config.dhcp.unwrap().listen.to_string(), "0.0.0.0:67");
        let tftp = config.tftp.unwrap();
        assert_eq!((tftp.listen.to_string().as_str(), tftp.ports), ("0.0.0.0:69", tftp::Ports::Single));
        assert!(config.hook_needed);
    }

    #[test]
    fn every_url_part_can_be_set() {
        let config = config(&[
            "--dhcp-ipxe-http-script-scheme=https",
            "--dhcp-ipxe-http-script-host=boot.example.com",
            "--dhcp-ipxe-http-script-port=443",
            "--dhcp-ipxe-http-script-path=x.ipxe",
            "--dhcp-ipxe-http-script-prepend-mac=false",
            "--dhcp-ipxe-http-binary-path=bin",
            "--dhcp-ipxe-http-binary-host=10.1.1.1",
            "--ipxe-script-tink-server-addr-port=tink.example.com",
            "--ipxe-http-script-osie-url=http://10.2.2.2/",
            "--ipxe-override-arch-mapping=7=snp-x86_64.efi, 11 = a.efi",
        ]);
        let mac = "52:54:00:00:00:11".parse().unwrap();
        assert_eq!(config.urls.script(mac), "https://boot.example.com/x.ipxe");
        assert_eq!(config.urls.binary_http(mac, "b"), "http://10.1.1.1:7171/bin/52:54:00:00:00:11/b");
        assert_eq!(config.urls.binary_ip, Some(Ipv4Addr::new(10, 1, 1, 1)));
        assert_eq!(config.script.grpc_authority, "tink.example.com:42113");
        assert_eq!(config.script.osie_url, "http://10.2.2.2");
        assert!(!config.hook_needed);
        assert_eq!(config.programs.get(&Arch(11)).unwrap(), "a.efi");
    }

    #[test]
    fn the_agent_uses_tls_where_the_workflow_server_has_a_certificate() {
        let tls = |flags: &[&str]| config(flags).script.tls;
        let files = ["--tls-cert-file=/c.pem", "--tls-key-file=/k.pem"];
        let set = |value: &'static str| [files[0], files[1], value];
        assert!(!tls(&[]));
        assert!(tls(&files));
        assert!(tls(&["--ipxe-script-tink-server-use-tls"]));
        assert!(!tls(&set("--ipxe-script-tink-server-use-tls=false")), "what is set counts");
        let v6 = ["--dhcpv6-enabled", "--public-ipv6=fd00::1", "--bind-address=::"];
        assert!(config(&[&v6[..], &files].concat()).dhcp6.unwrap().script.tls, "over IPv6 too");
    }

    #[test]
    fn the_workflow_server_has_a_port() {
        let authority = |host: &str| {
            config(&[&format!("--ipxe-script-tink-server-addr-port={host}")]).script.grpc_authority
        };
        for (host, expected) in [
            ("tink.example.com", "tink.example.com:42113"),
            ("tink.example.com:1", "tink.example.com:1"),
            ("10.0.0.9", "10.0.0.9:42113"),
            ("fd00::9", "[fd00::9]:42113"),
            ("fd00::42", "[fd00::42]:42113"),
            ("[fd00::9]", "[fd00::9]:42113"),
            ("[fd00::9]:1", "[fd00::9]:1"),
        ] {
            assert_eq!(authority(host), expected);
        }
    }

    #[test]
    fn a_host_of_ipv6_alone_needs_no_address_of_ipv4_where_dhcp_is_off() {
        let host = Public { v4: None, v6: Some("fd00::1".parse().unwrap()) };
        let read = |flags: &[&str]| {
            let inputs = Inputs::gather(flags.iter().map(|flag| (*flag).to_owned()), []);
            let mut settings = Settings::load("boots", SETTINGS, inputs);
            let config = Config::on_host(&mut settings, host);
            settings.finish().map(|()| config).map_err(|errors| errors.to_string())
        };
        let config = read(&["--dhcp-enabled=false", "--dhcpv6-enabled", "--bind-address=::"]).unwrap();
        let mac: Mac = "52:54:00:00:00:11".parse().unwrap();
        let script = "http://[fd00::1]:7171/ipxe/script/52:54:00:00:00:11/auto6.ipxe";
        assert_eq!(
            (config.urls.script(mac).as_str(), config.http_url.as_str()),
            (script, "http://[fd00::1]:7171")
        );
        assert_eq!(config.script.grpc_authority, "[fd00::1]:42113");
        assert_eq!(config.script.osie_url, "http://[fd00::1]:7171/hook");
        for flags in [&["--dhcpv6-enabled", "--bind-address=::"][..], &["--dhcp-enabled=false"]] {
            let mistakes = read(flags).unwrap_err();
            assert!(mistakes.contains("public-ipv4"), "{flags:?}: {mistakes}");
        }
    }

    #[test]
    fn everything_in_the_state_directory_is_named() {
        let config = config(&["--state-dir=/state", "--iso-enabled", "--iso-file=/image.iso"]);
        let (dhcp, syslog) = (config.dhcp.unwrap(), config.syslog.unwrap());
        let (captures, images) = (config.capture.unwrap(), config.iso.unwrap());
        for path in [&dhcp.lease_file, &syslog.logs.dir, &captures.dir, &images.dir] {
            let name = path.strip_prefix("/state").unwrap().to_str().unwrap();
            assert!(STATE.contains(&name), "{name}");
        }
        for written_anew in [ACCESS_FILE, dhcp::LEASES] {
            assert!(STATE.contains(&written_anew) && STATE.contains(&&*format!("{written_anew}.new")));
        }
    }

    #[test]
    fn tftp_hears_ipv6_where_http_does() {
        let tftp = |flags: &[&str]| config(flags).tftp.unwrap();
        assert_eq!(tftp(&["--bind-address=::"]).listen.to_string(), "[::]:69");
        assert_eq!(tftp(&["--tftp-server-bind-addr=fd00::1"]).listen.to_string(), "[fd00::1]:69");
        assert_eq!(tftp(&["--tftp-single-port=false"]).ports, tftp::Ports::PerTransfer);
    }

    #[test]
    fn files_over_http_are_nowhere_or_below_their_prefix() {
        let prefix = |flags: &[&str]| config(flags).pxe.http_prefix;
        assert_eq!(prefix(&["--pxe-http-path-prefix=/a/"]), None);
        assert_eq!(prefix(&["--pxe-http-enabled"]).as_deref(), Some("/tftp/"));
        assert_eq!(prefix(&["--pxe-http-enabled", "--pxe-http-path-prefix=a/b"]).as_deref(), Some("/a/b/"));
        for bad in ["/", "/ipxe", "/a//b", "/{a}/", "/a/*", "/../a", "/a b"] {
            let flags = ["--public-ipv4=172.31.0.1".to_owned(), format!("--pxe-http-path-prefix={bad}")];
            let mut settings = Settings::load("boots", SETTINGS, Inputs::gather(flags, []));
            Config::from_settings(&mut settings);
            assert!(settings.finish().unwrap_err().to_string().contains("pxe-http-path-prefix"), "{bad}");
        }
    }

    #[test]
    fn macs_have_every_upstream_form() {
        let mac = "00:00:5e:00:53:01".parse().unwrap();
        for (format, expected) in [
            ("colon", "00:00:5e:00:53:01/f"),
            ("dash", "00-00-5e-00-53-01/f"),
            ("dot", "0000.5e00.5301/f"),
            ("no-delimiter", "00005e005301/f"),
            ("empty", "f"),
        ] {
            let config = config(&[&format!("--ipxe-binary-inject-mac-addr-format={format}")]);
            assert_eq!(config.urls.tftp(mac, "f"), format!("tftp://172.31.0.1:69/{expected}"));
        }
    }

    #[test]
    fn mistakes_are_told_together() {
        let args = [
            "--public-ipv4=here",
            "--dhcp-mode=proxy",
            "--dhcp-pools=10.0.0.1-10.0.0.9/24",
            "--tftp-block-size=1",
            "--tftp-timeout=1ms",
            "--ipxe-override-arch-mapping=7",
            "--pxe-http-path-prefix=/hook/files",
            &format!("--ipxe-embedded-script-patch={}", "x".repeat(132)),
        ];
        let mut settings = Settings::load("boots", SETTINGS, Inputs::gather(args.map(str::to_owned), []));
        Config::from_settings(&mut settings);
        let errors = settings.finish().unwrap_err();
        let text = errors.to_string();
        for key in [
            "public-ipv4",
            "dhcp-pools",
            "tftp-block-size",
            "tftp-timeout",
            "ipxe-override-arch-mapping",
            "pxe-http-path-prefix",
            "ipxe-embedded-script-patch",
        ] {
            assert!(text.contains(key), "{key}: {text}");
        }
    }
}
