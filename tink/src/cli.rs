// SPDX-License-Identifier: Apache-2.0

//! The command line: what can be typed, and the exit code (64 for a wrong command line or configuration, 1 for a failure,
//! 0 else).

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use api::access::Reach;
use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::apply,
    backup,
    cluster::{self, ClusterCommand},
    connect::{self, Places},
    demo::{self, DemoArgs},
    describe::describe,
    get::{self, Format, Selection},
    hardware::{self, HardwareCommand},
    image, kinds, logs, output, pcap,
    pods::PodsArgs,
    restore, setup,
    traces::Place,
    up::{self, AloneConfig, Stack, UpConfig},
    why::{self, Snapshot},
};

/// Provisions machines over the network: applies manifests, shows what every machine does, and says why one is stuck.
#[derive(Debug, Parser)]
#[command(name = "tink", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Kubeconfig of the API server [default: $KUBECONFIG, else the one that `tink up` writes]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// State directory of `tink up` [default: /var/lib/tinkerbell for root, else ~/.local/state/tinkerbell]
    #[arg(long, global = true, env = "TINKERBELL_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// A daemon on its own.
#[derive(Debug, Subcommand)]
enum DaemonCommand {
    /// Run the network-boot daemon alone, as the program `boots` does
    #[command(disable_help_flag = true)]
    Boots(DaemonArgs),
    /// Run the metadata daemon alone, as the program `hegel` does
    #[command(disable_help_flag = true)]
    Hegel(DaemonArgs),
    /// Run the BMC daemon alone, as the program `rufio` does
    #[command(disable_help_flag = true)]
    Rufio(DaemonArgs),
    /// Run the workflow daemon alone, as the program `tink-server` does
    #[command(disable_help_flag = true)]
    TinkServer(DaemonArgs),
    /// Run the daemon that keeps clusters as their objects say
    #[command(disable_help_flag = true)]
    Orchestrator(DaemonArgs),
}

/// What a daemon is started with.
#[derive(Debug, Args)]
struct DaemonArgs {
    /// Flags of the daemon, as --NAME=VALUE; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAG")]
    flags: Vec<String>,
}

#[derive(Debug, Args)]
struct Namespace {
    /// Namespace of the objects
    #[arg(short, long, default_value = api::annotations::DEFAULT_NAMESPACE, value_name = "NAME")]
    namespace: String,
    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

/// A machine, and where boots is, which keeps what it wrote and sent.
#[derive(Debug, Args)]
struct Traces {
    /// Hardware name, MAC, IP address, or name of a BMC Machine
    machine: String,
    /// Look in this namespace only
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// URL of boots [default: from boots.access in the state directory]
    #[arg(long, value_name = "URL")]
    boots: Option<String>,
    /// File with the token of boots [default: from boots.access in the state directory]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LogsArgs {
    #[command(flatten)]
    traces: Traces,
    /// Go on with what will come
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PcapArgs {
    #[command(flatten)]
    traces: Traces,
    /// The file to write; standard output when it is not given
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Traces {
    /// Namespace and name of the Hardware that is meant, and where boots is.
    async fn find(
        self,
        client: &Client,
        state_dir: Option<PathBuf>,
    ) -> Result<((String, String), Place), Failure> {
        let snapshot = Snapshot::fetch_machines(client, self.namespace.as_deref()).await?;
        let found = why::hardware(&snapshot, &self.machine).map_err(|why| Failure::Failed(vec![why]))?;
        let place = Place { url: self.boots, token_file: self.token_file, state_dir };
        Ok(((found.namespace().unwrap_or_default(), found.name_any()), place))
    }
}

impl LogsArgs {
    async fn run(self, client: &Client, state_dir: Option<PathBuf>) -> Result<(), Failure> {
        let Self { traces, follow, tail, json } = self;
        let ((namespace, machine), place) = traces.find(client, state_dir).await?;
        logs::logs(&place, &logs::Wanted { namespace, machine, tail, follow, json }).await?;
        Ok(())
    }
}

impl PcapArgs {
    async fn run(self, client: &Client, state_dir: Option<PathBuf>) -> Result<(), Failure> {
        let ((namespace, machine), place) = self.traces.find(client, state_dir).await?;
        pcap::pcap(&place, (&namespace, &machine), self.write).await?;
        Ok(())
    }
}

impl Namespace {
    fn chosen(self) -> Option<String> {
        (!self.all_namespaces).then_some(self.namespace)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole stack in this process: API server, network boot, metadata, BMCs, workflows
    #[command(
        after_help = "Without arguments it prints a commented sample of the configuration file. Every setting of \
                            the file is also a flag; `tink up --flags` lists them."
    )]
    Up {
        /// Configuration file (YAML): one section for each daemon
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Tell every mistake of the configuration at once, and start nothing
        #[arg(long)]
        check_config: bool,
        /// List the flags of all daemons
        #[arg(long)]
        flags: bool,
        /// Settings that win over environment and file, as --NAME=VALUE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTING")]
        settings: Vec<String>,
    },
    /// Run the API server alone, for daemons that are programs of their own
    #[command(
        after_help = "Takes the configuration file and the flags of `tink up`, of which it uses the section `api`. Writes \
                            the administrator's `kubeconfig` and one `<daemon>.kubeconfig` for each daemon into the state directory."
    )]
    Api {
        /// Configuration file (YAML), as for `tink up`
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Settings that win over environment and file, as --NAME=VALUE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTING")]
        settings: Vec<String>,
    },
    #[command(flatten)]
    Daemon(DaemonCommand),
    /// Prepare a Kubernetes cluster for the daemons: resource definitions, namespaces, accounts and their rights
    Setup {
        /// Let the daemons see one namespace only; they must run with --backend-kube-namespace
        #[arg(long)]
        one_namespace: bool,
        /// Print the objects instead of applying them
        #[arg(long)]
        print: bool,
        /// Run the daemons as pods, too, on the nodes of the control plane
        #[arg(long, requires = "address", conflicts_with = "one_namespace")]
        pods: bool,
        #[command(flatten)]
        how: PodsArgs,
    },
    /// Make objects be as manifests say
    Apply {
        /// Manifest, directory of manifests, or - for standard input
        #[arg(short, long = "filename", required = true, value_name = "FILE")]
        filename: Vec<PathBuf>,
        /// Namespace of objects that name none
        #[arg(short, long, default_value = api::annotations::DEFAULT_NAMESPACE, value_name = "NAME")]
        namespace: String,
    },
    /// Show objects: hardware, templates, workflows, machines, jobs, ...
    Get {
        /// Kind, in any spelling that kubectl takes
        kind: String,
        /// One object; without it all
        name: Option<String>,
        /// How to show them
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
        #[command(flatten)]
        namespace: Namespace,
        /// Only objects with these labels
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
        /// Go on showing every change
        #[arg(short, long)]
        watch: bool,
    },
    /// Show one object in full, with its Events
    Describe {
        /// Kind, in any spelling that kubectl takes
        kind: String,
        /// One object; without it all
        name: Option<String>,
        #[command(flatten)]
        namespace: Namespace,
    },
    /// Say in one sentence what a machine is doing, or why it is not
    Why {
        /// Hardware name, MAC, IP address, or name of a BMC Machine
        machine: String,
        /// Look in this namespace only
        #[arg(short, long, value_name = "NAME")]
        namespace: Option<String>,
    },
    /// Show what a machine wrote to the log server: its kernel, its agent, iPXE
    Logs(LogsArgs),
    /// Give the packets of a machine's last boot: DHCP, TFTP and HTTP as boots saw them, in the pcapng format
    #[command(
        after_help = "Contents of files and scripts are not in it: of a transfer over TFTP there is its beginning and its end, of HTTP \
                            the heads. Read it with `tink pcap MACHINE | tshark -d tcp.port==7171,http -r -` or Wireshark."
    )]
    Pcap(PcapArgs),
    /// Write this program as a container image, for nodes that have no registry to take one from
    #[command(
        after_help = "A docker-archive: `ctr -n k8s.io images import FILE` on each node, `docker load` or `podman load`. Its entry point is tink, so \
                            that a container's arguments are a daemon and its flags: boots, hegel, rufio, tink-server or orchestrator. Only a static tink can be one."
    )]
    Image {
        /// The file; one of this name is replaced
        file: PathBuf,
        /// What the image is called
        #[arg(long, default_value = concat!("tinkerbell/tink:", env!("CARGO_PKG_VERSION")), value_name = "REPOSITORY:TAG")]
        name: String,
        /// Directory of iPXE boot programs that goes along, for --boot-program-dir=/usr/share/tinkerbell/boot-programs
        #[arg(long, value_name = "DIR")]
        boot_programs: Option<PathBuf>,
        /// Directory of kernel and initramfs that goes along, for --hook-dir=/usr/share/tinkerbell/hook
        #[arg(long, value_name = "DIR")]
        hook: Option<PathBuf>,
    },
    /// Write everything that is on the API server into one manifest (mode 0600: Secrets are in it), at one moment
    #[command(after_help = "Events and Leases are left out. Works while everything runs, on Kubernetes too.")]
    Backup {
        /// The file; it is complete or not there
        file: PathBuf,
        /// Replace a file of this name
        #[arg(long)]
        force: bool,
    },
    /// Put a backup into an empty API server, with every UID, status and time as it was
    #[command(
        after_help = "Everything is tried before the first object is made. Objects that are there and are the same are left alone, so \
                            it can be repeated. Kubernetes gives new UIDs; owner references follow them."
    )]
    Restore {
        /// The file that `tink backup` wrote
        file: PathBuf,
        /// Replace objects that differ, and restore beside others
        #[arg(long)]
        force: bool,
    },
    /// Machines of a hardware.csv as objects: print or apply them
    #[command(subcommand)]
    Hardware(HardwareCommand),
    /// Clusters: a file to begin with, a check of everything before anything is touched, making, moving and deleting them
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Take simulated servers from powered off to their installed operating system
    Demo(DemoArgs),
}

/// Why a command ended badly.
pub(crate) enum Failure {
    /// The command line was wrong: exit code 64.
    Usage(String),
    /// Something else, in one line each: exit code 1.
    Failed(Vec<String>),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(vec![daemon::chain(&error)])
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing is left to tell when the terminal itself is gone.
            error.print().unwrap_or_default();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(daemon::EXIT_USAGE) };
        }
    };
    if let Some(code) = cli.command.alone(&cli.global) {
        return code;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Failure::from(error)),
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(failure) => report(failure),
    }
}

fn report(failure: Failure) -> ExitCode {
    match failure {
        Failure::Usage(problem) => {
            let error = Cli::command().error(ErrorKind::InvalidValue, problem);
            error.print().unwrap_or_default();
            ExitCode::from(daemon::EXIT_USAGE)
        }
        Failure::Failed(problems) => {
            for problem in problems {
                eprintln!("tink: {problem}");
            }
            ExitCode::from(daemon::EXIT_FAILURE)
        }
    }
}

impl Cli {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = self.global.client();
        let problems = |findings: Vec<manifest::Finding>| {
            Failure::Failed(findings.iter().map(ToString::to_string).collect())
        };
        match self.command {
            Command::Up { config, check_config: true, settings, .. } => {
                let read = UpConfig::check(inputs(&self.global, config, settings));
                return Ok(daemon::checked("tink up", read.0, read.1));
            }
            Command::Up { config, flags, settings, .. } => {
                return run_stack(&self.global, config, flags, settings).await;
            }
            Command::Api { config, settings } => return run_api(&self.global, config, settings).await,
            Command::Setup { one_namespace, print, pods, how } => {
                let reach = if one_namespace { Reach::OneNamespace } else { Reach::AllNamespaces };
                let pods = if pods { Some(how.read(&[])?) } else { None };
                match print {
                    true => setup::print(reach, pods.as_ref())?,
                    false => setup::setup(&client.await?, reach, pods.as_ref()).await?,
                }
            }
            Command::Demo(_) | Command::Daemon(_) | Command::Image { .. } => return Err(too_late()),
            Command::Hardware(command) => return hardware::run(command, client).await,
            Command::Cluster(command) => {
                let places = Places { kubeconfig: self.global.kubeconfig, state_dir: self.global.state_dir };
                return cluster::run(command, &places).await;
            }
            Command::Backup { file, force } => {
                let made = backup::backup(&client.await?, &file, force).await?;
                let (objects, version) = (made.objects, made.version);
                output::print(&format!(
                    "{}: {objects} objects at resource version {version}\n",
                    file.display()
                ))?;
            }
            Command::Restore { file, force } => {
                let done = restore::restore(&client.await?, &file, force).await.map_err(problems)?;
                let (restored, unchanged) = (done.restored, done.unchanged);
                output::print(&format!("{restored} objects restored, {unchanged} were there\n"))?;
            }
            Command::Apply { filename, namespace } => {
                apply(&client.await?, &filename, &namespace).await.map_err(problems)?;
            }
            Command::Get { kind, name, output, namespace, selector, watch } => {
                let kind = kinds::find(&kind).map_err(Failure::Usage)?;
                let selection = Selection { kind, name, namespace: namespace.chosen(), labels: selector };
                if watch && matches!(output, Format::Yaml | Format::Json) {
                    return Err(Failure::Usage("--watch shows tables only".to_owned()));
                }
                let client = client.await?;
                if watch {
                    get::watch(&client, &selection, output, interrupted()).await?;
                } else {
                    get::get(&client, &selection, output).await?;
                }
            }
            Command::Describe { kind, name, namespace } => {
                let kind = kinds::find(&kind).map_err(Failure::Usage)?;
                let selection = Selection { kind, name, namespace: namespace.chosen(), labels: None };
                describe(&client.await?, &selection).await?;
            }
            Command::Logs(logs) => logs.run(&client.await?, self.global.state_dir).await?,
            Command::Pcap(pcap) => pcap.run(&client.await?, self.global.state_dir).await?,
            Command::Why { machine, namespace } => {
                let snapshot = Snapshot::fetch(&client.await?, namespace.as_deref()).await?;
                let answer = why::explain(&snapshot, &machine, Timestamp::now());
                output::print(&answer.to_string())?;
                if !answer.known {
                    return Ok(ExitCode::from(daemon::EXIT_FAILURE));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Command {
    /// Runs what needs no runtime or makes its own, before any thread is started; gives its exit code.
    fn alone(&self, global: &Global) -> Option<ExitCode> {
        let args = |daemon: &DaemonArgs| arguments(global, None, daemon.flags.clone());
        let code = match self {
            // It moves this process into a network namespace.
            Self::Demo(arguments) => match demo::main(arguments) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("tink demo: {error:#}");
                    ExitCode::from(daemon::EXIT_FAILURE)
                }
            },
            Self::Daemon(DaemonCommand::Boots(daemon)) => boots::program::main(args(daemon)),
            Self::Daemon(DaemonCommand::Hegel(daemon)) => hegel::program::main(args(daemon)),
            Self::Daemon(DaemonCommand::Rufio(daemon)) => rufio::program::main(args(daemon)),
            Self::Daemon(DaemonCommand::TinkServer(daemon)) => tink_server::program::main(args(daemon)),
            Self::Daemon(DaemonCommand::Orchestrator(daemon)) => orchestrator::program::main(args(daemon)),
            Self::Image { file, name, boot_programs, hook } => {
                let written = write_image(file, name, (boot_programs.as_deref(), hook.as_deref()));
                written.map_or_else(report, |()| ExitCode::SUCCESS)
            }
            _ => return None,
        };
        Some(code)
    }
}

impl Global {
    fn client(&self) -> impl Future<Output = Result<Client, connect::ConnectError>> + use<> {
        let places = Places { kubeconfig: self.kubeconfig.clone(), state_dir: self.state_dir.clone() };
        async move { connect::connect(&places).await }
    }
}

/// For what [`Command::alone`] has run.
fn too_late() -> Failure {
    Failure::Usage("this runs before anything else".to_owned())
}

fn write_image(
    file: &Path,
    name: &str,
    (boot_programs, hook): (Option<&Path>, Option<&Path>),
) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let digest = image::write(image::Contents { program: &program, boot_programs, hook }, name, file)?;
    output::print(&format!("{}: {name}, sha256:{digest}\n", file.display()))?;
    Ok(())
}

/// `tink up`: reads the configuration, runs everything until a signal, and drains.
async fn run_stack(
    global: &Global,
    config: Option<PathBuf>,
    flags: bool,
    settings: Vec<String>,
) -> Result<ExitCode, Failure> {
    if flags {
        output::print(&up::help())?;
        return Ok(ExitCode::SUCCESS);
    }
    if config.is_none() && settings.is_empty() {
        output::print(&up::sample())?;
        return Ok(ExitCode::SUCCESS);
    }
    let inputs = inputs(global, config, settings);
    let (config, warnings) = match UpConfig::read(inputs) {
        Ok(read) => read,
        Err(mistakes) => return Ok(mistaken("up", &mistakes)),
    };
    config.telemetry.init();
    run_until_signal(warnings, Stack::start(config)).await
}

/// `tink api`: the same with the API server alone.
async fn run_api(
    global: &Global,
    config: Option<PathBuf>,
    settings: Vec<String>,
) -> Result<ExitCode, Failure> {
    let (config, warnings) = match AloneConfig::read(inputs(global, config, settings)) {
        Ok(read) => read,
        Err(mistakes) => return Ok(mistaken("api", &mistakes)),
    };
    config.telemetry.init();
    run_until_signal(warnings, Stack::alone(config)).await
}

/// The layers of the configuration, from the command line and the environment.
fn inputs(global: &Global, config: Option<PathBuf>, settings: Vec<String>) -> daemon::config::Inputs {
    daemon::config::Inputs::gather(arguments(global, config, settings), std::env::vars())
}

/// The flags that daemons know, among them those that this command line has for all.
fn arguments(global: &Global, config: Option<PathBuf>, settings: Vec<String>) -> Vec<String> {
    let named =
        |name: &str, path: &Option<PathBuf>| path.as_ref().map(|path| format!("--{name}={}", path.display()));
    let mut args = settings;
    args.extend(named("config", &config));
    args.extend(named("state-dir", &global.state_dir));
    args.extend(named("backend-kube-config", &global.kubeconfig));
    args
}

fn mistaken(command: &str, mistakes: &daemon::config::ConfigErrors) -> ExitCode {
    eprintln!("tink {command}: {mistakes}");
    ExitCode::from(daemon::EXIT_USAGE)
}

async fn run_until_signal(
    warnings: Vec<String>,
    start: impl Future<Output = Result<Stack, up::UpError>>,
) -> Result<ExitCode, Failure> {
    daemon::abort_on_panic(apiserver::opens_a_store);
    for warning in warnings {
        tracing::warn!(warning, "configuration");
    }
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(daemon::shutdown_on_signal(shutdown.clone())?);
    let mut stack = start.await?;
    tracing::info!(url = stack.url(), kubeconfig = %stack.kubeconfig().display(), "API server serves");
    tokio::select! {
        ready = stack.ready() => {
            ready?;
            tracing::info!("everything is ready");
        }
        () = shutdown.cancelled() => {}
    }
    stack.run(shutdown).await?;
    signals.abort();
    Ok(ExitCode::SUCCESS)
}

/// Done at Ctrl-C; never when that cannot be heard, since then the signal ends the process anyway.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(args: &[&str]) -> ExitCode {
        run(args.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_state_directory_is_found_where_tink_up_puts_it() {
        let command = Cli::command();
        let argument = command.get_arguments().find(|argument| argument.get_id() == "state_dir").unwrap();
        let setting = daemon::COMMON.iter().find(|setting| setting.key == "state-dir").unwrap();
        let variable = argument.get_env().unwrap().to_str().unwrap().to_owned();
        assert!(setting.env_names().any(|name| name == variable), "{variable}");
        for help in [argument.get_help().unwrap().to_string(), setting.help.to_owned()] {
            assert!(help.contains("/var/lib/tinkerbell"), "{help}");
        }
        assert_eq!(daemon::state_dir(None).file_name().unwrap(), "tinkerbell");
    }

    #[test]
    fn wrong_command_lines_end_with_64_before_anything_is_connected() {
        let usage = ExitCode::from(64);
        for args in [
            &["tink"][..],
            &["tink", "gt", "hardware"],
            &["tink", "get", "hardwear", "--kubeconfig", "/nonexistent"],
            &["tink", "get", "hw", "-o", "xml"],
            &["tink", "get", "hw", "-w", "-o", "json"],
            &["tink", "apply"],
            &["tink", "cluster", "generate", "Rack"],
            &["tink", "cluster", "generate", "rack", "--provider", "vsphere"],
            &["tink", "cluster", "check", "-z", "hardware.csv"],
            &["tink", "hardware", "apply"],
            &["tink", "boots", "--no-such-flag=1"],
            &["tink", "tink-server", "--check-config", "--no-such-flag=1"],
            &["tink", "cluster", "move"],
            &["tink", "cluster", "move", "--to", "k", "--abort", "--force"],
            &["tink", "hardware", "generate", "-z", "h", "--tinkerbell-bmc-consumer-url", "hook"],
        ] {
            assert_eq!(exit(args), usage, "{args:?}");
        }
        for args in [
            &["tink", "--version"][..],
            &["tink", "hegel", "--help"],
            &["tink", "rufio", "--version"],
            &["tink", "rufio", "--state-dir", "/nonexistent", "--check-config"],
        ] {
            assert_eq!(exit(args), ExitCode::SUCCESS, "{args:?}");
        }
        for args in [
            &["tink", "get", "hw", "--kubeconfig", "/nonexistent"][..],
            &["tink", "cluster", "check", "-f", "/nonexistent", "--offline"],
            &["tink", "cluster", "move", "--to", "/nonexistent", "--kubeconfig", "/nonexistent"],
            &["tink", "hardware", "generate", "-z", "/nonexistent"],
        ] {
            assert_eq!(exit(args), ExitCode::from(1), "{args:?}");
        }
    }
}
