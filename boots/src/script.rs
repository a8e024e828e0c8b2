// SPDX-License-Identifier: Apache-2.0
//! iPXE scripts: what a machine runs between its boot program and its kernel.
//!
//! Pure: machine, configuration and token in, text out. The order of the kernel arguments is a contract with every
//! in-memory operating system and its agent; ours come after upstream's fixed list.

use std::fmt::Write as _;

use crate::config::ScriptConfig;
use crate::machine::{Machine, Nic};

/// How often `autoexec.ipxe` asks for an address, as often as Tinkerbell's own iPXE.
const DHCP_ATTEMPTS: u32 = 10;

/// What varies from boot to boot.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// Proves to the workflow server that the agent runs on the machine that was booted.
    pub(crate) token: Option<String>,
    /// Unix seconds, so that the agent's clock is right before its first TLS handshake.
    pub(crate) now: u64,
}

/// Why there is no script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScriptError {
    /// `netboot.allowPXE` is not true.
    #[error("netboot is not allowed")]
    NotAllowed,
    /// `netboot.ipxe.url` is not of HTTP.
    #[error("the scheme of netboot.ipxe.url is neither http nor https")]
    Scheme,
}

/// The script of a machine.
///
/// # Errors
///
/// When it may not boot, or its own script URL cannot be chained to.
pub(crate) fn render(
    machine: &Machine,
    nic: &Nic,
    config: &ScriptConfig,
    moment: &Moment,
) -> Result<String, ScriptError> {
    let boot = &nic.boot;
    if !boot.allowed {
        return Err(ScriptError::NotAllowed);
    }
    if let Some(url) = &boot.script_url {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ScriptError::Scheme);
        }
        let name = &machine.name;
        return Ok(format!("#!ipxe\n\necho Chaining to the script of {name}\nchain --autofree {url}\n"));
    }
    if let Some(contents) = &boot.script {
        return Ok(format!("#!ipxe\n\necho Running the script of {}\n{contents}", machine.name));
    }
    Ok(hook(machine, nic, config, moment))
}

/// What an iPXE that looks for `autoexec.ipxe` beside itself is given. It runs it with no network configured, so this gets an
/// address first, with the user class of Tinkerbell's own iPXE, and then goes on to the script.
pub(crate) fn autoexec(script_url: &str) -> String {
    let url = one_line(script_url);
    format!(
        "#!ipxe\n\nset user-class Tinkerbell\nset attempt:int32 0\n:again\ndhcp && goto leased ||\ninc attempt\n\
         iseq ${{attempt}} {DHCP_ATTEMPTS} && exit 1 ||\ngoto again\n:leased\nchain --autofree {url}\n"
    )
}

/// Names of kernel and initramfs of a machine, iPXE variables resolved.
pub(crate) fn file_names(nic: &Nic, config: &ScriptConfig) -> (String, String) {
    let arch = &nic.boot.arch;
    let name = |own: &Option<String>, global: &Option<String>, default: &str| match (own, global) {
        (Some(own), _) => own.clone(),
        (None, global) => format!("{}-{arch}", global.as_deref().unwrap_or(default)),
    };
    (
        name(&nic.boot.kernel, &config.kernel_name, "vmlinuz"),
        name(&nic.boot.initrd, &config.initrd_name, "initramfs"),
    )
}

fn hook(machine: &Machine, nic: &Nic, config: &ScriptConfig, moment: &Moment) -> String {
    let mut script = String::from("#!ipxe\n\n");
    push_syslog(&mut script, &config.syslog);
    let (kernel, initrd) = file_names(nic, config);
    let base = nic.boot.osie_url.as_ref().unwrap_or(&config.osie_url);
    let arguments = kernel_arguments(machine, nic, config, moment);
    let ScriptConfig { retries, retry_delay, .. } = config;
    let lines = [
        format!("echo Tinkerbell: {} boots its in-memory operating system", machine.name),
        format!("set arch {}", nic.boot.arch),
        format!("set download-url {base}"),
        format!("set kernel {kernel}"),
        format!("set initrd {initrd}"),
        format!("set retries:int32 {retries}"),
        format!("set retry_delay:int32 {retry_delay}"),
    ];
    for line in lines {
        script.push_str(&one_line(&line));
        script.push('\n');
    }
    push_step(&mut script, "kernel", &format!("kernel ${{download-url}}/${{kernel}} {arguments}"));
    push_step(&mut script, "initrd", "initrd --name ${initrd} ${download-url}/${initrd}");
    push_step(&mut script, "boot", "boot");
    script.push_str(
        "\n:failed\necho Tinkerbell: ${step} failed, going on with the next boot device\nimgfree\nexit\n",
    );
    script
}

/// One command that is repeated `retries` times.
fn push_step(script: &mut String, step: &str, command: &str) {
    let command = one_line(command);
    // Writing to a String cannot fail.
    let written = write!(
        script,
        "\nset step {step}\nset attempt:int32 0\n:{step}_again\n{command} && goto {step}_done ||\n\
         iseq ${{attempt}} ${{retries}} && goto failed ||\ninc attempt\necho Tinkerbell: {step} failed, trying again\n\
         sleep ${{retry_delay}}\ngoto {step}_again\n:{step}_done\n"
    );
    debug_assert!(written.is_ok());
}

/// iPXE's own log output to the log server: directly to an address, a name is looked up first.
fn push_syslog(script: &mut String, syslog: &str) {
    if syslog.is_empty() {
        return;
    }
    if syslog.parse::<std::net::Ipv4Addr>().is_ok() {
        script.push_str(&one_line(&format!("set syslog {syslog}")));
    } else {
        script.push_str(&one_line(&format!(
            "nslookup syslog_ip {syslog} && set syslog ${{syslog_ip}} || echo Tinkerbell: the log server {syslog} has no address"
        )));
    }
    script.push('\n');
}

/// The kernel command line; its order is fixed.
fn kernel_arguments(machine: &Machine, nic: &Nic, config: &ScriptConfig, moment: &Moment) -> String {
    let mut arguments = Vec::new();
    arguments.extend(nic.boot.vlan.as_ref().map(|vlan| format!("vlan_id={vlan}")));
    arguments.extend([
        format!("facility={}", machine.facility),
        format!("syslog_host={}", config.syslog),
        format!("grpc_authority={}", config.grpc_authority),
        format!("tinkerbell_tls={}", config.tls),
        format!("tinkerbell_insecure_tls={}", config.insecure_tls),
        format!("worker_id={}", nic.agent_id),
        format!("hw_addr={}", nic.mac),
        "modules=loop,squashfs,sd-mod,usb-storage intel_iommu=on iommu=pt".to_owned(),
        "initrd=${initrd} console=tty0 console=ttyS1,115200".to_owned(),
    ]);
    arguments.extend(config.extra_args.iter().cloned());
    arguments.extend(nic.boot.kernel_args.iter().cloned());
    arguments.extend(moment.token.as_ref().map(|token| format!("{}={token}", api::token::KERNEL_ARGUMENT)));
    arguments.push(format!("tink_time={}", moment.now));
    arguments.join(" ")
}

/// A value from an object must not begin a new line of the script.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::tests::config;
    use crate::machine::tests::hardware;

    fn script(args: &[&str], interface: &Value) -> Result<String, ScriptError> {
        let (machine, problems) = Machine::read(&hardware(interface));
        assert_eq!(problems, [] as [String; 0]);
        let moment = Moment { token: Some("TOKEN".into()), now: 1_700_000_007 };
        render(&machine, &machine.nics[0], &config(args).script, &moment)
    }

    fn command_line(text: &str) -> &str {
        text.lines().find(|line| line.starts_with("kernel ")).unwrap()
    }

    #[test]
    fn the_default_script_is_this() {
        assert_eq!(script(&[], &json!({})).unwrap(), include_str!("script/default.ipxe"));
    }

    #[test]
    fn the_kernel_arguments_have_upstreams_order_then_ours() {
        let text = script(
            &[
                "--ipxe-http-script-extra-kernel-args=a=1",
                "--ipxe-http-script-extra-kernel-args=b=2",
                "--ipxe-script-tink-server-use-tls",
                "--ipxe-script-syslog-fqdn=log.example.com",
            ],
            &json!({ "dhcp": { "vlan_id": "7" }, "netboot": { "osie": { "kernelParams": ["x", "y=z"] } } }),
        )
        .unwrap();
        assert_eq!(
            command_line(&text),
            "kernel ${download-url}/${kernel} vlan_id=7 facility=lab syslog_host=log.example.com \
             grpc_authority=172.31.0.1:42113 tinkerbell_tls=true tinkerbell_insecure_tls=false \
             worker_id=52:54:00:00:00:11 hw_addr=52:54:00:00:00:11 modules=loop,squashfs,sd-mod,usb-storage \
             intel_iommu=on iommu=pt initrd=${initrd} console=tty0 console=ttyS1,115200 a=1 b=2 x y=z \
             tink_agent_token=TOKEN tink_time=1700000007 && goto kernel_done ||"
        );
        assert!(text.contains("\nnslookup syslog_ip log.example.com && set syslog ${syslog_ip} || echo "));
    }

    #[test]
    fn files_and_their_place_can_be_set_for_all_and_for_one() {
        let args = ["--ipxe-http-script-kernel-name=vm", "--ipxe-http-script-osie-url=http://h/a/"];
        let text = script(&args, &json!({ "dhcp": { "arch": "aarch64" } })).unwrap();
        assert!(
            text.contains(
                "set download-url http://h/a\nset kernel vm-aarch64\nset initrd initramfs-aarch64\n"
            )
        );
        let osie =
            json!({ "netboot": { "osie": { "baseURL": "http://own/", "kernel": "k", "initrd": "i" } } });
        let text = script(&args, &osie).unwrap();
        assert!(text.contains("set download-url http://own\nset kernel k\nset initrd i\n"));
    }

    #[test]
    fn own_scripts_replace_it_and_a_url_wins() {
        let contents = json!({ "netboot": { "ipxe": { "contents": "shell\n" } } });
        assert_eq!(script(&[], &contents).unwrap(), "#!ipxe\n\necho Running the script of m1\nshell\n");
        let both = json!({ "netboot": { "ipxe": { "contents": "shell", "url": "http://h/x?y=1" } } });
        assert_eq!(
            script(&[], &both).unwrap(),
            "#!ipxe\n\necho Chaining to the script of m1\nchain --autofree http://h/x?y=1\n"
        );
        let other = json!({ "netboot": { "ipxe": { "url": "tftp://h/x" } } });
        assert_eq!(script(&[], &other), Err(ScriptError::Scheme));
    }

    #[test]
    fn autoexec_gets_an_address_and_goes_on() {
        assert_eq!(
            autoexec("http://h/m/auto.ipxe"),
            "#!ipxe\n\nset user-class Tinkerbell\nset attempt:int32 0\n:again\ndhcp && goto leased ||\n\
             inc attempt\niseq ${attempt} 10 && exit 1 ||\ngoto again\n:leased\nchain --autofree http://h/m/auto.ipxe\n"
        );
    }

    #[test]
    fn no_script_unless_allowed() {
        for netboot in [json!({ "netboot": null }), json!({ "netboot": { "allowPXE": false } })] {
            assert_eq!(script(&[], &netboot), Err(ScriptError::NotAllowed));
        }
    }

    #[test]
    fn a_value_cannot_add_a_line() {
        let osie = json!({ "netboot": { "osie": { "kernel": "k\nshell", "kernelParams": ["p\nshell"] } } });
        assert!(!script(&[], &osie).unwrap().lines().any(|line| line.starts_with("shell")));
    }
}
