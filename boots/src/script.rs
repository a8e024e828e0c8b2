// SPDX-License-Identifier: Apache-2.0
//! iPXE scripts: what a machine runs between its boot program and its kernel.
//!
//! Pure: machine, configuration and token in, text out. The order of the kernel arguments is a contract with every
//! in-memory operating system and its agent; ours come after upstream's fixed list.
//!
//! What is put into a script cannot change it: a value has no line end, and is one word where one word is meant; iPXE's
//! variables (`${`) work only where an operator writes arguments of the kernel, URLs and scripts.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use crate::boot::Answer;
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
    /// `netboot.ipxe.url` is not of HTTP.
    #[error("the scheme of netboot.ipxe.url is neither http nor https")]
    Scheme,
}

/// The script of a machine for which this was decided.
///
/// # Errors
///
/// When its own script URL cannot be chained to.
pub(crate) fn render(
    machine: &Machine,
    nic: &Nic,
    answer: Answer<'_>,
    config: &ScriptConfig,
    moment: &Moment,
) -> Result<String, ScriptError> {
    let name = word(&machine.name);
    match answer {
        Answer::ScriptAt(url) if !matches!(url.scheme(), "http" | "https") => Err(ScriptError::Scheme),
        Answer::ScriptAt(url) => {
            Ok(format!("#!ipxe\n\necho Chaining to the script of {name}\nchain --autofree {url}\n"))
        }
        Answer::Script(contents) => Ok(format!("#!ipxe\n\necho Running the script of {name}\n{contents}")),
        Answer::Hook => Ok(hook(machine, nic, config, moment)),
        _ => Ok(leave(&name, machine.leave_by.unwrap_or(config.leave_by))),
    }
}

/// What a machine runs that may not boot from the network: it says so and hands back to the firmware, by `leave_by` if that
/// succeeds ([`dhcp::quirks`]), else as a failure.
pub(crate) fn leave(name: &str, leave_by: &str) -> String {
    format!(
        "#!ipxe\n\necho Tinkerbell: {} may not boot from the network (netboot.allowPXE), going on with the next boot device\n\
         {leave_by}exit 1\n",
        word(name)
    )
}

/// The script of a machine of which there is no Hardware: it finds out by itself what it is.
pub(crate) fn unknown(config: &ScriptConfig, now: u64) -> String {
    let mut script = String::from("#!ipxe\n\n");
    push_syslog(&mut script, &config.syslog);
    script.push_str(
        "echo Tinkerbell: ${mac} boots its in-memory operating system, nobody knows it yet\n\
         set arch ${buildarch}\n\
         iseq ${arch} i386 && set arch x86_64 ||\n\
         iseq ${arch} arm32 && set arch aarch64 ||\n\
         iseq ${arch} arm64 && set arch aarch64 ||\n",
    );
    let name =
        |own: &Option<String>, usual: &str| format!("{}-${{arch}}", word(own.as_deref().unwrap_or(usual)));
    let files = (name(&config.kernel_name, "vmlinuz"), name(&config.initrd_name, "initramfs"));
    push_boot(&mut script, config, &config.osie_url, files, &unknown_arguments(config, now));
    push_failed(&mut script, config.leave_by);
    script
}

/// The IP version that a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// What an iPXE that looks for `autoexec.ipxe` beside itself is given. It runs it with no network configured, so this gets an
/// address first, with the user class of Tinkerbell's own iPXE, and then goes on to the script. An operator's commands come where
/// Tinkerbell's iPXE has them.
pub(crate) fn autoexec(script_url: &str, version: Version, config: &ScriptConfig, leave_by: &str) -> String {
    let url = one_line(script_url);
    let patch = config.patch.as_ref().map(|patch| format!("{patch}\n")).unwrap_or_default();
    let configure = match version {
        Version::V4 => "dhcp",
        Version::V6 => "ifconf --configurator ipv6",
    };
    format!(
        "#!ipxe\n\nset user-class Tinkerbell\n{patch}set attempt:int32 0\n:again\n{configure} && goto leased ||\ninc attempt\n\
         iseq ${{attempt}} {DHCP_ATTEMPTS} && goto failed ||\ngoto again\n:failed\n{leave_by}exit 1\n\
         :leased\nchain --autofree {url}\n"
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
    push_line(
        &mut script,
        format_args!("echo Tinkerbell: {} boots its in-memory operating system", word(&machine.name)),
    );
    push_line(&mut script, format_args!("set arch {}", word(&nic.boot.arch)));
    let arguments = kernel_arguments(machine, nic, config, moment, "initrd=${initrd} ");
    push_boot(&mut script, config, base, (word(&kernel), word(&initrd)), &arguments);
    push_failed(&mut script, machine.leave_by.unwrap_or(config.leave_by));
    script
}

/// The steps from kernel to boot, each repeated.
fn push_boot(
    script: &mut String,
    config: &ScriptConfig,
    base: &str,
    (kernel, initrd): (String, String),
    arguments: &str,
) {
    let ScriptConfig { retries, retry_delay, .. } = config;
    push_line(script, format_args!("set download-url {}", one_line(base).replace(' ', "%20")));
    push_line(script, format_args!("set kernel {kernel}"));
    push_line(script, format_args!("set initrd {initrd}"));
    push_line(script, format_args!("set retries:int32 {retries}"));
    push_line(script, format_args!("set retry_delay:int32 {retry_delay}"));
    push_step(script, "kernel", &format!("kernel ${{download-url}}/${{kernel}} {arguments}"));
    push_step(script, "initrd", "initrd --name ${initrd} ${download-url}/${initrd}");
    push_step(script, "boot", "boot");
}

/// The way back to the firmware when a step fails for good.
fn push_failed(script: &mut String, leave_by: &str) {
    let failed = "\n:failed\necho Tinkerbell: ${step} failed, going on with the next boot device\nimgfree";
    push_line(script, format_args!("{failed}\n{leave_by}exit 1"));
}

fn push_line(script: &mut String, line: impl Display) {
    // Writing to a String cannot fail.
    let written = writeln!(script, "{line}");
    debug_assert!(written.is_ok());
}

/// One command that is repeated `retries` times.
fn push_step(script: &mut String, step: &str, command: &str) {
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
    let host = word(syslog);
    match host.parse() {
        Ok(IpAddr::V4(_)) => push_line(script, format_args!("set syslog {host}")),
        Ok(IpAddr::V6(_)) => push_line(script, format_args!("set syslog6 {host}")),
        Err(_) => push_line(
            script,
            format_args!(
                "nslookup syslog_ip {host} && set syslog ${{syslog_ip}} || echo Tinkerbell: the log server {host} has no address"
            ),
        ),
    }
}

/// The kernel command line; its order is fixed. `initrd` is the argument by which a kernel that iPXE starts as a UEFI application
/// finds its initramfs.
pub(crate) fn kernel_arguments(
    machine: &Machine,
    nic: &Nic,
    config: &ScriptConfig,
    moment: &Moment,
    initrd: &str,
) -> String {
    let mut arguments = Vec::new();
    arguments.extend(nic.boot.vlan.as_ref().map(|vlan| format!("vlan_id={}", word(vlan))));
    arguments.extend([
        format!("facility={}", without_variables(&own_arguments(&machine.facility))),
        format!("syslog_host={}", word(&config.syslog)),
        format!("grpc_authority={}", word(&config.grpc_authority)),
        format!("tinkerbell_tls={}", config.tls),
        format!("tinkerbell_insecure_tls={}", config.insecure_tls),
        format!("worker_id={}", word(&nic.agent_id)),
        format!("hw_addr={}", nic.mac),
        "modules=loop,squashfs,sd-mod,usb-storage intel_iommu=on iommu=pt".to_owned(),
        format!("{initrd}console=tty0 console=ttyS1,115200"),
    ]);
    arguments.extend(config.extra_args.iter().map(|argument| own_arguments(argument)));
    arguments.extend(nic.boot.kernel_args.iter().map(|argument| own_arguments(argument)));
    arguments.extend(moment.token.as_ref().map(|token| format!("{}={token}", api::token::KERNEL_ARGUMENT)));
    arguments.push(format!("tink_time={}", moment.now));
    arguments.join(" ")
}

/// The kernel command line of a machine that nobody knows; its order is fixed too.
fn unknown_arguments(config: &ScriptConfig, now: u64) -> String {
    let mut arguments = vec![
        format!("syslog_host={}", word(&config.syslog)),
        format!("grpc_authority={}", word(&config.grpc_authority)),
        format!("tinkerbell_tls={}", config.tls),
        "worker_id=${mac} hw_addr=${mac} console=tty1 console=tty2 console=ttyAMA0,115200 console=ttyAMA1,115200 \
         console=ttyS0,115200 console=ttyS1,115200 intel_iommu=on iommu=pt"
            .to_owned(),
    ];
    arguments.extend(config.extra_args.iter().map(|argument| own_arguments(argument)));
    arguments.push(format!("initrd=${{initrd}} tink_time={now}"));
    arguments.join(" ")
}

/// Kernel arguments as an operator wrote them, iPXE's variables included; what would end the command goes.
pub(crate) fn own_arguments(text: &str) -> String {
    let line = one_line(text);
    let words = line.split_ascii_whitespace().filter(|word| !matches!(*word, "&&" | "||"));
    words.collect::<Vec<_>>().join(" ")
}

/// A value that is to be one word of a command, whatever it is: no space, no line end, no variable.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c.is_whitespace() { '_' } else { c };
    without_variables(&text.chars().map(plain).collect::<String>())
}

/// A text in which iPXE expands nothing.
fn without_variables(text: &str) -> String {
    text.replace("${", "_{")
}

/// A text that does not begin a new line of the script.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::boot::{Protocol, answer};
    use crate::config::tests::config;
    use crate::machine::tests::hardware;

    fn script(args: &[&str], interface: &Value) -> Result<String, ScriptError> {
        let (machine, problems) = Machine::read(&hardware(interface));
        assert_eq!(problems, [] as [String; 0]);
        let moment = Moment { token: Some("TOKEN".into()), now: 1_700_000_007 };
        let nic = &machine.nics[0];
        render(&machine, nic, answer(nic, Protocol::Ipxe), &config(args).script, &moment)
    }

    fn command_line(text: &str) -> &str {
        text.lines().find(|line| line.starts_with("kernel ")).unwrap()
    }

    #[test]
    fn the_default_script_is_this() {
        assert_eq!(script(&[], &json!({})).unwrap(), include_str!("script/default.ipxe"));
    }

    #[test]
    fn the_script_of_a_stranger_and_the_way_to_a_machines_own_are_these() {
        assert_eq!(unknown(&config(&[]).script, 1_700_000_007), include_str!("script/unknown.ipxe"));
        let own = json!({ "netboot": { "ipxe": { "url": "http://boot.example/auto.ipxe" } } });
        assert_eq!(script(&[], &own).unwrap(), include_str!("script/chain.ipxe"));
    }

    #[test]
    fn steps_are_repeated_as_often_and_as_late_as_is_set() {
        let flags = ["--ipxe-http-script-retries=7", "--ipxe-http-script-retry-delay=30"];
        for text in [script(&flags, &json!({})).unwrap(), unknown(&config(&flags).script, 1)] {
            assert!(text.contains("\nset retries:int32 7\nset retry_delay:int32 30\n"), "{text}");
            assert_eq!(text.matches("\nsleep ${retry_delay}\n").count(), 3, "{text}");
            assert_eq!(text.matches("\niseq ${attempt} ${retries} && goto failed ||\n").count(), 3, "{text}");
        }
    }

    #[test]
    fn without_a_log_server_ipxe_logs_nowhere() {
        let config = ScriptConfig { syslog: String::new(), ..config(&[]).script };
        let (machine, _) = Machine::read(&hardware(&json!({})));
        let moment = Moment { token: None, now: 0 };
        let known = render(&machine, &machine.nics[0], Answer::Hook, &config, &moment).unwrap();
        for text in [known, unknown(&config, 0)] {
            assert!(text.starts_with("#!ipxe\n\necho "), "{text}");
            assert!(!text.contains("set syslog") && !text.contains("nslookup"), "{text}");
            assert!(command_line(&text).contains(" syslog_host= "), "{text}");
        }
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
        let args = [
            "--ipxe-http-script-kernel-name=vm",
            "--ipxe-http-script-initrd-name=init",
            "--ipxe-http-script-osie-url=http://h/a/",
        ];
        let text = script(&args, &json!({ "dhcp": { "arch": "aarch64" } })).unwrap();
        assert!(
            text.contains("set download-url http://h/a\nset kernel vm-aarch64\nset initrd init-aarch64\n")
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
            autoexec("http://h/m/auto.ipxe", Version::V4, &config(&[]).script, ""),
            "#!ipxe\n\nset user-class Tinkerbell\nset attempt:int32 0\n:again\ndhcp && goto leased ||\n\
             inc attempt\niseq ${attempt} 10 && goto failed ||\ngoto again\n:failed\nexit 1\n\
             :leased\nchain --autofree http://h/m/auto.ipxe\n"
        );
    }

    #[test]
    fn an_operators_commands_come_before_the_first_address() {
        let config = ScriptConfig { patch: Some("set net0/mtu 1400\nshow mac".into()), ..config(&[]).script };
        let text = autoexec("http://h/m/auto.ipxe", Version::V4, &config, "");
        let begin =
            "#!ipxe\n\nset user-class Tinkerbell\nset net0/mtu 1400\nshow mac\nset attempt:int32 0\n:again\n";
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn over_ipv6_it_configures_ipv6_and_logs_there() {
        let config = ScriptConfig { syslog: "fd00::1".into(), ..config(&[]).script };
        let text = autoexec("http://[fd00::1]/m/auto6.ipxe", Version::V6, &config, "");
        assert!(text.contains("\nifconf --configurator ipv6 && goto leased ||\n"), "{text}");
        assert!(unknown(&config, 1).starts_with("#!ipxe\n\nset syslog6 fd00::1\n"));
    }

    #[test]
    fn a_machine_that_may_not_boot_leaves_for_its_disk() {
        let exit = "#!ipxe\n\necho Tinkerbell: m1 may not boot from the network (netboot.allowPXE), going on with the next boot device\nexit 1\n";
        for netboot in [
            json!({ "netboot": null }),
            json!({ "netboot": { "allowPXE": false } }),
            json!({ "netboot": { "allowPXE": false, "ipxe": { "contents": "shell" } } }),
        ] {
            assert_eq!(script(&[], &netboot).as_deref(), Ok(exit));
        }
    }

    #[test]
    fn a_machine_whose_bios_halts_starts_its_first_disk() {
        const SANBOOT: &str = "\niseq ${platform} pcbios && sanboot --no-describe --drive 0x80 ||\nexit 1\n";
        let moment = Moment { token: None, now: 0 };
        let text = |method: &str, flags: &[&str], allowed: bool| {
            let mut hardware = hardware(&json!({ "netboot": { "allowPXE": allowed } }));
            let name = "tinkerbell.org/ipxe-boot-from-disk-method".to_owned();
            hardware.metadata.annotations.get_or_insert_default().insert(name, method.to_owned());
            let (machine, problems) = Machine::read(&hardware);
            (
                render(
                    &machine,
                    &machine.nics[0],
                    answer(&machine.nics[0], Protocol::Ipxe),
                    &config(flags).script,
                    &moment,
                )
                .unwrap(),
                problems.len(),
            )
        };
        let for_all = ["--ipxe-boot-from-disk-method=ipxe-sanboot"];
        for allowed in [true, false] {
            let (own, problems) = text("ipxe-sanboot", &[], allowed);
            assert!(own.ends_with(SANBOOT) && problems == 0, "{own}");
            assert_eq!(text("", &for_all, allowed), (own, 0));
            let (exit, _) = text("ipxe-exit", &for_all, allowed);
            assert!(exit.ends_with("\nexit 1\n") && !exit.contains("sanboot"), "{exit}");
            assert_eq!(
                text("http-404", &[], allowed),
                (exit, 1),
                "another word is a problem and changes nothing"
            );
        }
        assert!(unknown(&config(&for_all).script, 0).ends_with(SANBOOT));
        let config = config(&for_all).script;
        let autoexec = autoexec("http://h/m/auto.ipxe", Version::V4, &config, config.leave_by);
        assert!(
            autoexec.contains(&format!("goto failed ||\ngoto again\n:failed{SANBOOT}:leased\n")),
            "{autoexec}"
        );
    }

    #[test]
    fn a_machine_that_nobody_knows_finds_out_what_it_is() {
        let config =
            config(&["--ipxe-http-script-extra-kernel-args=a=1", "--ipxe-http-script-kernel-name=vm"]).script;
        let text = unknown(&config, 1_700_000_007);
        assert_eq!(
            command_line(&text),
            "kernel ${download-url}/${kernel} syslog_host=172.31.0.1 grpc_authority=172.31.0.1:42113 \
             tinkerbell_tls=false worker_id=${mac} hw_addr=${mac} console=tty1 console=tty2 \
             console=ttyAMA0,115200 console=ttyAMA1,115200 console=ttyS0,115200 console=ttyS1,115200 \
             intel_iommu=on iommu=pt a=1 initrd=${initrd} tink_time=1700000007 && goto kernel_done ||"
        );
        assert!(text.contains("\nset download-url http://172.31.0.1:7171/hook\nset kernel vm-${arch}\nset initrd initramfs-${arch}\n"));
        assert!(text.contains("\niseq ${arch} i386 && set arch x86_64 ||\n"));
    }

    /// Every value of a Hardware that goes into the script, made of this text.
    fn poisoned(text: &str) -> String {
        let mut hardware = hardware(&json!({
            "dhcp": { "arch": text, "vlan_id": text },
            "netboot": { "osie": { "kernel": text, "initrd": text, "baseURL": text, "kernelParams": [text] } },
        }));
        hardware.spec.agent_id = Some(text.to_owned());
        let metadata = hardware.spec.metadata.get_or_insert_default();
        metadata.facility.get_or_insert_default().facility_code = Some(text.to_owned());
        let (machine, _) = Machine::read(&hardware);
        let moment = Moment { token: None, now: 0 };
        let syslog = format!("--ipxe-script-syslog-fqdn={text}");
        render(&machine, &machine.nics[0], Answer::Hook, &config(&[&syslog]).script, &moment).unwrap()
    }

    #[test]
    fn script_injection_by_newlines_adds_no_line() {
        let usual = script(&[], &json!({})).unwrap().lines().count();
        for text in ["x\nshell", "x\r\nshell\n", "x\u{85}shell", "x\0shell"] {
            let script = poisoned(text);
            assert_eq!(script.lines().count(), usual, "{text:?}");
            assert!(!script.lines().any(|line| line.starts_with("shell")), "{text:?}: {script}");
        }
    }

    #[test]
    fn script_injection_by_variables_expands_nothing_but_an_operators_arguments() {
        for text in ["${net0/mac}", "$${net0/mac}", "x ${net0/mac}"] {
            let script = poisoned(text);
            // kernelParams and baseURL are an operator's, who may use what iPXE has.
            assert_eq!(script.matches("${net0/mac}").count(), 2, "{script}");
        }
    }

    #[test]
    fn a_facility_may_bring_consoles() {
        let mut hardware = hardware(&json!({}));
        let metadata = hardware.spec.metadata.get_or_insert_default();
        metadata.facility.get_or_insert_default().facility_code =
            Some("onprem console=ttyS1,115200\nconsole=${console} || shell".to_owned());
        let (machine, _) = Machine::read(&hardware);
        let moment = Moment { token: None, now: 0 };
        let (nic, config) = (&machine.nics[0], config(&[]).script);
        let script = render(&machine, nic, Answer::Hook, &config, &moment).unwrap();
        let arguments = " facility=onprem console=ttyS1,115200 console=_{console} shell syslog_host=";
        assert!(command_line(&script).contains(arguments), "{script}");
        let grub = crate::grub::render(&machine, nic, Answer::Hook, &config, &moment);
        let arguments =
            " 'facility=onprem' 'console=ttyS1,115200' 'console=_{console}' 'shell' 'syslog_host=";
        assert!(grub.contains(arguments), "{grub}");
    }

    #[test]
    fn script_injection_by_words_adds_no_command_and_no_argument() {
        for text in ["x || shell", "x && shell", "x init=/bin/sh"] {
            let script = poisoned(text);
            // A facility and kernelParams may be several arguments.
            assert_eq!(script.matches(" shell").count() + script.matches(" init=").count(), 2, "{script}");
            let line = command_line(&script);
            assert!(!line.contains("|| shell") && !line.contains("&& shell"), "{line}");
        }
    }
}
