// SPDX-License-Identifier: Apache-2.0

//! The configuration of the whole stack: one file, one section for each daemon and one for the API server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use daemon::{
    Telemetry,
    config::{self, ConfigErrors, Inputs, Kind, Layers, Setting, Settings, Table},
};

use super::ports::{Listener, Protocol};

/// Settings of the API server.
const API_SETTINGS: &[Setting] = &[
    Setting::new("bind-addr", "api-bind-addr", Kind::Ip, "address that the API server listens on")
        .with_default("127.0.0.1"),
    Setting::new("port", "api-port", Kind::Port, "port that the API server listens on").with_default("6443"),
    Setting::new(
        "names",
        "api-names",
        Kind::Csv("names or addresses"),
        "names besides localhost by which the API server is reached, for its certificate",
    ),
    Setting::health_port("api-health-port", "9105"),
];

const TABLES: [Table; 5] = [
    table("api", API_SETTINGS),
    table("boots", boots::SETTINGS),
    table("hegel", hegel::SETTINGS),
    table("rufio", rufio::SETTINGS),
    table(tink_server::NAME, tink_server::SETTINGS),
];

/// Everything that the stack is started with.
#[derive(Debug)]
pub struct UpConfig {
    /// Directory of the store, the certificates and the kubeconfig.
    pub state_dir: PathBuf,
    /// How to log.
    pub telemetry: Telemetry,
    pub(super) api: ApiConfig,
    pub(super) boots: Part<boots::Config>,
    pub(super) hegel: Part<hegel::Config>,
    pub(super) rufio: Part<rufio::Config>,
    pub(super) tink_server: Part<tink_server::Config>,
    /// Every address that something will listen on.
    pub(super) listeners: Vec<Listener>,
}

/// What the API server alone is started with: the same file and flags, of which it takes its own section.
#[derive(Debug)]
pub struct AloneConfig {
    /// Directory of the store, the certificates and the kubeconfigs.
    pub state_dir: PathBuf,
    /// How to log.
    pub telemetry: Telemetry,
    pub(super) api: ApiConfig,
}

impl AloneConfig {
    /// Reads flags, environment and file; gives warnings beside the configuration.
    ///
    /// # Errors
    ///
    /// Every mistake at once.
    pub fn read(inputs: Inputs) -> Result<(Self, Vec<String>), ConfigErrors> {
        let layers = Layers::read(&TABLES, inputs, true);
        let mut settings = section(&layers, "api");
        let config = api(&mut settings);
        Ok((config, layers.finish([settings])?))
    }

    pub(super) fn listeners(&self) -> Vec<Listener> {
        let health =
            self.api.health.map(|address| tcp("health of the API server (api.health-port)", address));
        let own = tcp("the API server (api.port)", self.api.bind);
        std::iter::once(own).chain(health).collect()
    }
}

/// The settings of one part, which may name no other API server.
fn section(layers: &Layers, name: &str) -> Settings {
    let mut settings = layers.settings(name);
    if settings.is_set("backend-kube-config") {
        let problem = "is for a daemon on its own: `tink up` brings its own API server";
        settings.mistake("backend-kube-config", problem);
    }
    settings
}

/// The API server's settings.
fn api(settings: &mut Settings) -> AloneConfig {
    let state_dir = daemon::state_dir(settings.path("state-dir"));
    let telemetry = Telemetry::from_settings(settings);
    let address = settings.get_or("bind-addr", IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port: u16 = settings.get_or("port", 6443);
    if port == 0 {
        settings.mistake("port", "must not be 0: the kubeconfig names it");
    }
    let bind = SocketAddr::new(address, port);
    let api = ApiConfig { bind, names: settings.list("names"), health: health(settings) };
    AloneConfig { state_dir, telemetry, api }
}

const fn tcp(what: &'static str, address: SocketAddr) -> Listener {
    Listener { what, protocol: Protocol::Tcp, address }
}

/// The API server's share.
#[derive(Debug)]
pub(super) struct ApiConfig {
    pub(super) bind: SocketAddr,
    pub(super) names: Vec<String>,
    pub(super) health: Option<SocketAddr>,
}

/// One daemon's share.
#[derive(Clone, Debug)]
pub(super) struct Part<C> {
    pub(super) config: C,
    pub(super) health: Option<SocketAddr>,
}

const fn table(daemon: &'static str, settings: &'static [Setting]) -> Table {
    Table { daemon, settings, common: daemon::COMMON }
}

/// A configuration file with every setting, commented out at its default.
#[must_use]
pub fn sample() -> String {
    config::sample(&TABLES)
}

/// The flags of all daemons.
#[must_use]
pub fn help() -> String {
    config::help(&TABLES)
}

impl UpConfig {
    /// Reads flags, environment and file; gives warnings beside the configuration.
    ///
    /// # Errors
    ///
    /// Every mistake at once.
    pub fn read(inputs: Inputs) -> Result<(Self, Vec<String>), ConfigErrors> {
        let (config, finished) = Self::make(inputs);
        finished.map(|warnings| (config, warnings))
    }

    /// What is wrong with settings, and with what they name.
    pub fn check(inputs: Inputs) -> (Result<Vec<String>, ConfigErrors>, Vec<String>) {
        let (config, finished) = Self::make(inputs);
        (
            finished,
            boots::check(&config.boots.config).iter().map(|mistake| format!("boots: {mistake}")).collect(),
        )
    }

    /// The configuration, which is to be thrown away when there are mistakes.
    fn make(inputs: Inputs) -> (Self, Result<Vec<String>, ConfigErrors>) {
        let layers = Layers::read(&TABLES, inputs, true);
        let mut all: Vec<Settings> = Vec::new();
        let section = |name: &str| section(&layers, name);
        let mut settings = section("api");
        let AloneConfig { state_dir, telemetry, api } = api(&mut settings);
        all.push(settings);

        let mut settings = section("boots");
        let mut boots =
            Part { config: boots::Config::from_settings(&mut settings), health: health(&mut settings) };
        all.push(settings);
        let mut settings = section("hegel");
        let hegel =
            Part { config: hegel::Config::from_settings(&mut settings), health: health(&mut settings) };
        all.push(settings);
        let mut settings = section("rufio");
        let mut rufio =
            Part { config: rufio::Config::from_settings(&mut settings), health: health(&mut settings) };
        all.push(settings);
        let mut settings = section(tink_server::NAME);
        let mut tink_server =
            Part { config: tink_server::Config::from_settings(&mut settings), health: health(&mut settings) };
        all.push(settings);

        let finished = layers.finish(all);
        // The store lets one `tink up` in, so that its name may stay the same: after a crash it goes on at once.
        let elections = [
            &mut boots.config.standby.election,
            &mut rufio.config.election,
            &mut tink_server.config.election,
        ];
        for election in elections.into_iter().flatten() {
            election.identity = Some("tink-up".to_owned());
        }
        boots.config.boot_program_dir = boots.config.boot_program_dir.or_else(|| built("boot-programs"));
        boots.config.hook_dir = boots.config.hook_dir.or_else(|| built("hook"));
        boots.config.images_dir = boots.config.images_dir.or_else(|| built("images"));
        let listeners = Vec::new();
        let mut config = Self { state_dir, telemetry, api, boots, hegel, rufio, tink_server, listeners };
        config.listeners = config.all_listeners();
        (config, finished)
    }

    fn all_listeners(&self) -> Vec<Listener> {
        let udp = |what, address| Listener { what, protocol: Protocol::Udp, address };
        let boots = &self.boots.config;
        let mut all = vec![
            tcp("the API server (api.port)", self.api.bind),
            tcp("network boot over HTTP (boots.http-port)", boots.http),
            tcp("metadata (hegel.http-port)", self.hegel.config.listen),
            tcp("agents (tink-server.bind-port)", self.tink_server.config.bind),
        ];
        all.extend(
            boots.https.as_ref().map(|https| tcp("network boot over HTTPS (boots.https-port)", https.listen)),
        );
        all.extend(boots.dhcp.as_ref().map(|dhcp| udp("DHCP (boots.dhcp-bind-port)", dhcp.listen.into())));
        all.extend(
            boots.dhcp6.as_ref().map(|dhcp| udp("DHCPv6 (boots.dhcpv6-bind-port)", dhcp.listen.into())),
        );
        all.extend(boots.dhcp.as_ref().and_then(|dhcp| {
            let address = (*dhcp.listen.ip(), dhcp.pxe_port?).into();
            Some(udp("DHCP for boot servers (boots.dhcp-pxe-port)", address))
        }));
        all.extend(boots.tftp.as_ref().map(|tftp| udp("TFTP (boots.tftp-server-bind-port)", tftp.listen)));
        all.extend(
            boots.syslog.as_ref().map(|syslog| udp("log messages (boots.syslog-bind-port)", syslog.listen)),
        );
        let health = [
            ("health of the API server (api.health-port)", self.api.health),
            ("health of boots (boots.health-port)", self.boots.health),
            ("health of hegel (hegel.health-port)", self.hegel.health),
            ("health of rufio (rufio.health-port)", self.rufio.health),
            ("health of tink-server (tink-server.health-port)", self.tink_server.health),
        ];
        all.extend(health.into_iter().filter_map(|(what, address)| Some(tcp(what, address?))));
        all
    }
}

fn health(settings: &mut Settings) -> Option<SocketAddr> {
    let address = settings.get_or("health-bind-addr", IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port: u16 = settings.get_or("health-port", 0);
    (port != 0).then_some(SocketAddr::new(address, port))
}

/// What `./x build` made last, where no setting says otherwise.
fn built(name: &str) -> Option<PathBuf> {
    crate::built_artefacts().map(|current| current.join(name)).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, args: &[&str]) -> Result<(UpConfig, Vec<String>), Vec<String>> {
        let inputs = Inputs {
            file: Some(("up.yaml".to_owned(), file.to_owned())),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..Inputs::default()
        };
        UpConfig::read(inputs).map_err(|errors| errors.to_string().lines().map(str::to_owned).collect())
    }

    #[test]
    fn the_sample_is_a_configuration_that_changes_nothing() {
        let args = ["--public-ipv4=192.0.2.1"];
        let sample = sample();
        let uncomment = |line: &str| match line.strip_prefix("  #") {
            Some(setting) if !setting.starts_with(' ') => format!("  {setting}\n"),
            _ => format!("{line}\n"),
        };
        let chosen: String = sample.lines().map(uncomment).collect();
        assert!(chosen.contains("\n  http-port: 7171\n") && chosen.contains("\n  # "), "{chosen}");
        let (sampled, warnings) = read(&sample, &args).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let (chosen, _) = read(&chosen, &args).unwrap();
        let (plain, _) = read("", &args).unwrap();
        let addresses = |config: &UpConfig| config.listeners.iter().map(|l| l.address).collect::<Vec<_>>();
        for config in [&sampled, &chosen] {
            assert_eq!(addresses(config), addresses(&plain));
        }
        let ports: Vec<_> = plain.listeners.iter().map(|l| l.address.port()).collect();
        assert_eq!(ports, [6443, 7171, 7172, 42113, 67, 4011, 69, 514, 9105, 9101, 9102, 9103, 9104]);
        for name in ["api:", "boots:", "hegel:", "rufio:", "tink-server:"] {
            assert!(sample.lines().any(|line| line == name), "{name}");
        }
    }

    #[test]
    fn every_mistake_of_every_section_is_told_at_once() {
        let file = "\
api:
  port: 99999
boots:
  http-prt: 1
  public-ipv4: 192.0.2.1
hegel:
  http-port: no
rufoi: {}
tink-server:
  backend-kube-config: /etc/kubeconfig
";
        let mistakes = read(file, &["--dhcp-mode=off"]).unwrap_err();
        let text = mistakes.join("\n");
        for part in [
            "up.yaml:2",
            "up.yaml:4",
            "up.yaml:7",
            "up.yaml:8",
            "up.yaml:10",
            "--dhcp-mode",
            "http-port",
            "rufio",
            "brings its own API server",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
