// SPDX-License-Identifier: Apache-2.0
//! What the agent is told: from variables, flags and the kernel command line, into one checked [`Config`].
//!
//! Of two sources the earlier in this list wins; an empty value counts as not given:
//! 1. the unprefixed variables of older agents (`WORKER_ID`, `TINKERBELL_GRPC_AUTHORITY`, ...),
//! 2. `AGENT_<FLAG>` variables,
//! 3. flags, as `-name` or `--name`, with `=` or a space before the value,
//! 4. the kernel command line.
//!
//! Flags that other agents of this contract have (container runtimes, transports) are accepted, so that an image which
//! passes them still starts, and have no effect.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::cmdline::CommandLine;

/// The server's port when the address names none.
const DEFAULT_PORT: u16 = 42113;

/// Everything the agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this agent is: what the server's Workflows name as worker.
    pub agent_id: String,
    /// `host:port` of the server.
    pub server: String,
    /// How the connection to it is secured.
    pub transport: Transport,
    /// The one-time token, when the machine was booted with one.
    pub token: Option<Token>,
    /// Lower bound for the clock: seconds since 1970 when the boot script was made.
    pub not_before: Option<u64>,
    /// Longest wait between attempts to reach the server.
    pub longest_backoff: Duration,
    /// Whether the hardware is described to the server.
    pub inventory: Inventory,
    /// Directory for the journal; must not outlive the boot.
    pub state_dir: PathBuf,
    /// Whether the agent may reboot the machine and set its clock.
    pub authority: Authority,
    /// Proxies for image downloads, unless the action names its own.
    pub proxies: Proxies,
    /// What is logged.
    pub log_level: LevelFilter,
}

/// How the connection to the server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Not at all.
    Plain,
    /// TLS, the server's certificate verified against the system's bundle.
    Tls,
    /// TLS, any certificate accepted.
    TlsUnverified,
}

/// Whether the hardware is described to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inventory {
    /// Collected at start and sent along.
    Sent,
    /// Left out.
    Withheld,
}

/// What the agent may do to the machine as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// Reboot it, switch it off, set its clock: it was booted for this agent.
    Machine,
    /// Only what actions name: disks. The machine is somebody's.
    DisksOnly,
}

/// The one-time agent token. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Proxy addresses; an empty one is none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Comma-separated hosts that are reached directly.
    pub no_proxy: Option<String>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run with this configuration.
    Run(Box<Config>),
    /// Print this and end.
    Print(String),
}

/// Every mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Value,
    Switch,
}

/// A flag: its name, what it takes, and what else sets it.
struct Flag {
    name: &'static str,
    takes: Takes,
    /// Unprefixed variables, the later wins.
    variables: &'static [&'static str],
    /// The older name of the same flag.
    older: Option<&'static str>,
    argument: Option<&'static str>,
    help: &'static str,
}

const fn flag(name: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { name, takes, variables: &[], older: None, argument: None, help }
}

const FLAGS: &[Flag] = &[
    Flag {
        variables: &["ID", "WORKER_ID"],
        argument: Some("worker_id"),
        ..flag("id", Takes::Value, "identity of this agent; default: the kernel argument hw_addr")
    },
    Flag {
        variables: &["TINKERBELL_GRPC_AUTHORITY"],
        older: Some("tinkerbell-grpc-authority"),
        argument: Some("grpc_authority"),
        ..flag("grpc-server", Takes::Value, "host[:port] of the server")
    },
    Flag {
        variables: &["TINKERBELL_TLS"],
        older: Some("tinkerbell-tls"),
        argument: Some("tinkerbell_tls"),
        ..flag("grpc-tls", Takes::Switch, "reach the server over TLS")
    },
    Flag {
        variables: &["TINKERBELL_INSECURE_TLS"],
        older: Some("tinkerbell-insecure-tls"),
        argument: Some("tinkerbell_insecure_tls"),
        ..flag("grpc-insecure-tls", Takes::Switch, "accept any certificate of the server")
    },
    flag("attribute-detection", Takes::Switch, "describe the hardware to the server (default true)"),
    flag("backoff-max-interval", Takes::Value, "longest wait between attempts (default 5s)"),
    flag("log-level", Takes::Value, "0 = what happens, 1 and more = debugging"),
    flag("state-dir", Takes::Value, "where the journal is kept (default /run/tink-worker)"),
    flag("power", Takes::Value, "may reboot the machine: auto (when booted for this agent), always, never"),
    flag("version", Takes::Switch, "print the version"),
    flag("help", Takes::Switch, "print this"),
];

/// Flags and unprefixed variables of other agents: accepted, without effect here.
const FOREIGN: &[(&str, Takes)] = &[
    ("runtime", Takes::Value),
    ("transport", Takes::Value),
    ("registry-name", Takes::Value),
    ("registry-user", Takes::Value),
    ("registry-pass", Takes::Value),
    ("grpc-retry-interval", Takes::Value),
    ("workflow-path", Takes::Value),
    ("nats-server", Takes::Value),
    ("nats-stream", Takes::Value),
    ("nats-events", Takes::Value),
    ("nats-actions", Takes::Value),
    ("docker-socket", Takes::Value),
    ("containerd-namespace", Takes::Value),
    ("containerd-socket", Takes::Value),
    ("containerd-data-root", Takes::Value),
    ("containerd-registry-config-path", Takes::Value),
    ("kubernetes-namespace", Takes::Value),
    ("kubernetes-kubeconfig", Takes::Value),
    ("kubernetes-service-account", Takes::Value),
    ("registry-username", Takes::Value),
    ("registry-password", Takes::Value),
    ("docker-registry", Takes::Value),
];

impl Token {
    /// The token as it stands on the kernel command line.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A proxy address may hold a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies(..)")
    }
}

impl Config {
    /// The configuration of an agent with this identity for this server and defaults for the rest; it may not touch
    /// the machine as a whole.
    pub fn new(
        agent_id: impl Into<String>,
        server: impl Into<String>,
        state_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            agent_id: agent_id.into(),
            server: server.into(),
            transport: Transport::Plain,
            token: None,
            not_before: None,
            longest_backoff: Duration::from_secs(5),
            inventory: Inventory::Sent,
            state_dir: state_dir.into(),
            authority: Authority::DisksOnly,
            proxies: Proxies::default(),
            log_level: LevelFilter::INFO,
        }
    }

    /// From this process's arguments and variables and the kernel command line.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn from_process() -> Result<Invocation, Mistakes> {
        let arguments: Vec<String> =
            std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        // Without /proc there are no kernel arguments to obey.
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Self::load(&arguments, &variables, &cmdline)
    }

    /// From arguments (without the program's name), variables and the text of the kernel command line.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(
        arguments: &[String],
        variables: &BTreeMap<String, String>,
        cmdline: &str,
    ) -> Result<Invocation, Mistakes> {
        let cmdline = CommandLine::parse(cmdline);
        let mut mistakes = Vec::new();
        let flags = parse_flags(arguments, &mut mistakes);
        let mut sources = Sources { flags, variables, cmdline: &cmdline, mistakes };
        if sources.switch("version", false) {
            return Ok(Invocation::Print(env!("CARGO_PKG_VERSION").to_owned()));
        }
        if sources.switch("help", false) {
            return Ok(Invocation::Print(help()));
        }
        let config = Self::from_sources(&mut sources);
        if sources.mistakes.is_empty() {
            Ok(Invocation::Run(Box::new(config)))
        } else {
            Err(Mistakes(sources.mistakes))
        }
    }

    fn from_sources(sources: &mut Sources<'_>) -> Self {
        let cmdline = sources.cmdline;
        let agent_id = sources.value("id").or_else(|| cmdline.get("hw_addr").map(str::to_owned));
        let agent_id = agent_id.unwrap_or_else(|| {
            sources.mistakes.push("no agent identity: give --id, or boot with worker_id=".to_owned());
            String::new()
        });
        let server = sources.value("grpc-server").unwrap_or_else(|| {
            sources.mistakes.push("no server: give --grpc-server, or boot with grpc_authority=".to_owned());
            String::new()
        });
        let transport = match (sources.switch("grpc-tls", false), sources.switch("grpc-insecure-tls", false))
        {
            (false, _) => Transport::Plain,
            (true, false) => Transport::Tls,
            (true, true) => Transport::TlsUnverified,
        };
        let inventory = match sources.switch("attribute-detection", true) {
            true => Inventory::Sent,
            false => Inventory::Withheld,
        };
        let proxy = |name: &str| {
            let variable =
                sources.variables.get(name).or_else(|| sources.variables.get(&name.to_lowercase()));
            let variable = variable.filter(|value| !value.is_empty()).cloned();
            variable.or_else(|| cmdline.get(name).map(str::to_owned))
        };
        Self {
            transport,
            inventory,
            proxies: Proxies {
                http: proxy("HTTP_PROXY"),
                https: proxy("HTTPS_PROXY"),
                no_proxy: proxy("NO_PROXY"),
            },
            token: cmdline.get("tink_agent_token").map(Token::new),
            not_before: cmdline.get("tink_time").and_then(|text| text.parse().ok()),
            longest_backoff: sources.duration("backoff-max-interval", Duration::from_secs(5)),
            authority: sources.authority(),
            log_level: sources.log_level(),
            ..Self::new(
                agent_id,
                with_port(server),
                sources.value("state-dir").unwrap_or_else(|| "/run/tink-worker".to_owned()),
            )
        }
    }
}

struct Sources<'a> {
    flags: BTreeMap<&'static str, String>,
    variables: &'a BTreeMap<String, String>,
    cmdline: &'a CommandLine,
    mistakes: Vec<String>,
}

impl Sources<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let flag = FLAGS.iter().find(|flag| flag.name == name)?;
        let variable = |name: &str| self.variables.get(name).filter(|value| !value.is_empty());
        let prefixed = |name: &str| variable(&format!("AGENT_{}", name.to_uppercase().replace('-', "_")));
        flag.variables
            .iter()
            .rev()
            .find_map(|name| variable(name))
            .or_else(|| prefixed(flag.name))
            .or_else(|| flag.older.and_then(prefixed))
            .or_else(|| self.flags.get(flag.name).filter(|value| !value.is_empty()))
            .cloned()
            .or_else(|| flag.argument.and_then(|name| self.cmdline.get(name)).map(str::to_owned))
    }

    fn switch(&mut self, name: &str, default: bool) -> bool {
        let Some(text) = self.value(name) else {
            return default;
        };
        parse_bool(&text).unwrap_or_else(|| {
            self.mistakes.push(format!("{name}: `{text}` is neither true nor false"));
            default
        })
    }

    fn duration(&mut self, name: &str, default: Duration) -> Duration {
        let Some(text) = self.value(name) else {
            return default;
        };
        let parsed = text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero());
        parsed.unwrap_or_else(|| {
            self.mistakes.push(format!("{name}: `{text}` is not a duration such as 5s"));
            default
        })
    }

    fn log_level(&mut self) -> LevelFilter {
        match self.value("log-level").as_deref().map(str::parse::<i64>) {
            None => LevelFilter::INFO,
            Some(Ok(level)) if level > 0 => LevelFilter::DEBUG,
            Some(Ok(_)) => LevelFilter::INFO,
            Some(Err(_)) => {
                self.mistakes.push("log-level: must be a number".to_owned());
                LevelFilter::INFO
            }
        }
    }

    fn authority(&mut self) -> Authority {
        let booted_for_us = self.cmdline.get("grpc_authority").is_some();
        match self.value("power").as_deref() {
            None | Some("auto") if booted_for_us => Authority::Machine,
            None | Some("auto" | "never") => Authority::DisksOnly,
            Some("always") => Authority::Machine,
            Some(other) => {
                self.mistakes.push(format!("power: `{other}` is none of auto, always, never"));
                Authority::DisksOnly
            }
        }
    }
}

/// Go's notion of a boolean, which the contract's environment values follow.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn parse_flags(arguments: &[String], mistakes: &mut Vec<String>) -> BTreeMap<&'static str, String> {
    let mut flags = BTreeMap::new();
    let mut arguments = arguments.iter().peekable();
    while let Some(argument) = arguments.next() {
        let Some(word) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            mistakes.push(format!("unexpected argument `{argument}`"));
            continue;
        };
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let known = FLAGS.iter().find(|flag| {
            flag.name == name || flag.older == Some(name) || (name == "h" && flag.name == "help")
        });
        let foreign = FOREIGN.iter().find(|(foreign, _)| *foreign == name);
        let (key, takes) = match (known, foreign) {
            (Some(flag), _) => (flag.name, flag.takes),
            (None, Some((name, takes))) => (*name, *takes),
            (None, None) => {
                mistakes.push(format!("unknown flag `--{name}`"));
                continue;
            }
        };
        let value = match (value, takes) {
            (Some(value), _) => value,
            (None, Takes::Value) => arguments.next().cloned().unwrap_or_else(|| {
                mistakes.push(format!("flag `--{name}` needs a value"));
                String::new()
            }),
            (None, Takes::Switch) => arguments
                .next_if(|next| parse_bool(next).is_some())
                .cloned()
                .unwrap_or_else(|| "true".to_owned()),
        };
        flags.insert(key, value);
    }
    flags
}

fn with_port(server: String) -> String {
    let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    match has_port {
        _ if server.is_empty() => server,
        true => server,
        false if server.contains(':') && !server.starts_with('[') => format!("[{server}]:{DEFAULT_PORT}"),
        false => format!("{server}:{DEFAULT_PORT}"),
    }
}

fn help() -> String {
    let mut text =
        "tink-worker: runs on the machine that is provisioned and carries out its actions\n".to_owned();
    for flag in FLAGS {
        text.push_str(&format!("\n  --{:<22}{}", flag.name, flag.help));
        if !flag.variables.is_empty() {
            text.push_str(&format!(" [{}]", flag.variables.join(", ")));
        }
    }
    text.push_str("\n\nEvery flag is also a variable, AGENT_<FLAG>, which wins over the flag.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str], variables: &[(&str, &str)], cmdline: &str) -> Result<Config, Mistakes> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match Config::load(&arguments, &variables, cmdline)? {
            Invocation::Run(config) => Ok(*config),
            Invocation::Print(text) => panic!("printed {text}"),
        }
    }

    const CMDLINE: &str = "grpc_authority=10.0.0.1:42113 worker_id=from-kernel hw_addr=52:54:00:00:00:11 \
                           tinkerbell_tls=false tink_agent_token=secret tink_time=1790000000 HTTP_PROXY=http://p:3128";

    #[test]
    fn the_kernel_command_line_alone_is_enough() {
        let config = load(&[], &[], CMDLINE).unwrap();
        assert_eq!((config.agent_id.as_str(), config.server.as_str()), ("from-kernel", "10.0.0.1:42113"));
        assert_eq!(config.transport, Transport::Plain);
        assert_eq!(config.not_before, Some(1_790_000_000));
        assert_eq!(config.authority, Authority::Machine);
        assert_eq!(config.proxies.http.as_deref(), Some("http://p:3128"));
        assert_eq!(config.token.as_ref().map(Token::reveal), Some("secret"));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn legacy_variables_win_over_agent_variables_over_flags_over_the_kernel() {
        let flags = ["-id", "from-flag"];
        let agent = [("AGENT_ID", "from-agent")];
        let legacy = [("AGENT_ID", "from-agent"), ("WORKER_ID", "from-worker"), ("ID", "from-id")];
        assert_eq!(load(&flags, &legacy, CMDLINE).unwrap().agent_id, "from-worker");
        assert_eq!(load(&flags, &agent, CMDLINE).unwrap().agent_id, "from-agent");
        assert_eq!(load(&flags, &[("WORKER_ID", "")], CMDLINE).unwrap().agent_id, "from-flag");
        assert_eq!(load(&[], &[], CMDLINE).unwrap().agent_id, "from-kernel");
        assert_eq!(load(&[], &[], "hw_addr=aa grpc_authority=h").unwrap().agent_id, "aa");
    }

    #[test]
    fn flags_of_other_agents_and_all_their_spellings_are_accepted() {
        let arguments = [
            "-runtime=containerd",
            "--docker-registry",
            "r",
            "-tinkerbell-tls=true",
            "--grpc-insecure-tls",
            "true",
            "-tinkerbell-grpc-authority",
            "h:1",
            "--attribute-detection=false",
            "--backoff-max-interval=2s",
            "--log-level=4",
            "--id=x",
        ];
        let config = load(&arguments, &[("REGISTRY_PASSWORD", "p")], "").unwrap();
        assert_eq!((config.agent_id.as_str(), config.server.as_str()), ("x", "h:1"));
        assert_eq!(config.transport, Transport::TlsUnverified);
        assert_eq!(config.inventory, Inventory::Withheld);
        assert_eq!(config.longest_backoff, Duration::from_secs(2));
        assert_eq!(config.log_level, LevelFilter::DEBUG);
        assert_eq!(config.authority, Authority::DisksOnly);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let Mistakes(mistakes) =
            load(&["--bogus", "stray", "--power=maybe", "--grpc-tls=maybe", "--log-level"], &[], "")
                .unwrap_err();
        for needle in ["--bogus", "stray", "power", "grpc-tls", "log-level", "--id", "--grpc-server"] {
            assert!(mistakes.iter().any(|mistake| mistake.contains(needle)), "{needle}: {mistakes:?}");
        }
    }

    #[test]
    fn the_default_port_is_added() {
        for (given, expected) in [
            ("10.0.0.1", "10.0.0.1:42113"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("fd00::1", "[fd00::1]:42113"),
            ("[fd00::1]", "[fd00::1]:42113"),
            ("[fd00::1]:7", "[fd00::1]:7"),
            ("", ""),
        ] {
            assert_eq!(with_port(given.to_owned()), expected);
        }
    }
}
