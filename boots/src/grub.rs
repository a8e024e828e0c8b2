// SPDX-License-Identifier: Apache-2.0
//! GRUB's configuration: what a machine runs between GRUB and its kernel where firmware enforces Secure Boot, under which no
//! unsigned iPXE starts.
//!
//! Firmware loads Debian's signed shim (as `netboot.ipxe.binary` of its Hardware, or the architecture's program), shim loads
//! Debian's signed GRUB from beside itself, and GRUB asks for `grub.cfg` in a place that is fixed in it. Pure: machine,
//! configuration and token in, text out. Kernel arguments are those of the iPXE script.
//!
//! What is put into the text cannot change it: every value stands between single quotes, in which nothing has a meaning.

use url::Url;

use crate::boot::Answer;
use crate::config::ScriptConfig;
use crate::machine::{Machine, Nic};
use crate::script::{Moment, file_names, kernel_arguments, word};

/// Last element of the path of a configuration.
pub(crate) const GRUB_CFG: &str = "grub.cfg";
/// Most attempts to load kernel and initramfs: each stands in the text.
const MAX_ATTEMPTS: u32 = 100;

/// The configuration of a machine for which this was decided.
pub(crate) fn render(
    machine: &Machine,
    nic: &Nic,
    answer: Answer<'_>,
    config: &ScriptConfig,
    moment: &Moment,
) -> String {
    let name = word(&machine.name);
    match answer {
        Answer::Hook => hook(machine, nic, config, moment),
        Answer::OnlyForIpxe => leave(&format!("the script of {name} (netboot.ipxe) is for iPXE")),
        _ => leave(&format!("{name} may not boot from the network (netboot.allowPXE)")),
    }
}

/// What boots the in-memory operating system.
fn hook(machine: &Machine, nic: &Nic, config: &ScriptConfig, moment: &Moment) -> String {
    let name = word(&machine.name);
    let Some(root) = root(nic.boot.osie_url.as_ref().unwrap_or(&config.osie_url)) else {
        return leave(&format!(
            "{name} has its kernel behind no URL of plain HTTP, which is all that GRUB speaks"
        ));
    };
    let (kernel, initrd) = file_names(nic, config);
    let arguments = kernel_arguments(machine, nic, config, moment, "");
    let arguments: Vec<String> = arguments.split(' ').map(quoted).collect();
    let attempts = config.retries.saturating_add(1).min(MAX_ATTEMPTS);
    let attempts: Vec<String> = (1..=attempts).map(|attempt| attempt.to_string()).collect();
    format!(
        "echo {}\nfor attempt in {}; do\n  if linux {} {}; then\n    if initrd {}; then\n      boot\n    fi\n  fi\n  sleep {}\ndone\n{}",
        quoted(&format!("Tinkerbell: {name} boots its in-memory operating system")),
        attempts.join(" "),
        quoted(&format!("{root}/{}", word(&kernel))),
        arguments.join(" "),
        quoted(&format!("{root}/{}", word(&initrd))),
        config.retry_delay,
        leave(&format!("{name} got no kernel or no initramfs")),
    )
}

/// GRUB's name of the folder that a URL is of.
fn root(base: &str) -> Option<String> {
    let base: Url = base.parse().ok()?;
    let host = base.host_str().filter(|_| base.scheme() == "http")?;
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("(http,{host}{port}){}", base.path().trim_end_matches('/')))
}

/// What every GRUB is told first: to ask again by the MAC that it has.
pub(crate) fn by_mac() -> String {
    let stranger = leave("nobody knows ${net_default_mac}").replace('\'', "\"");
    format!("source \"${{prefix}}/${{net_default_mac}}/{GRUB_CFG}\"\n{stranger}")
}

/// Hands back to the firmware. What it does then is its own: GRUB 2.12 of Debian tells it of a success whatever it is told, after which
/// some go on with the next entry of the boot order and others show their menu.
fn leave(reason: &str) -> String {
    format!("echo {}\nexit 1\n", quoted(&format!("Tinkerbell: {reason}, going on with the next boot device")))
}

/// A text as one word of GRUB's language, where a quote is the one character that cannot stand between quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::boot::{Protocol, answer};
    use crate::config::tests::config;
    use crate::machine::tests::hardware;

    fn text(args: &[&str], interface: &Value) -> String {
        let (machine, problems) = Machine::read(&hardware(interface));
        assert_eq!(problems, [] as [String; 0]);
        let moment = Moment { token: Some("TOKEN".into()), now: 1_700_000_007 };
        let nic = &machine.nics[0];
        render(&machine, nic, answer(nic, Protocol::Grub), &config(args).script, &moment)
    }

    #[test]
    fn the_default_configuration_is_this() {
        assert_eq!(text(&[], &json!({})), include_str!("grub/default.cfg"));
    }

    #[test]
    fn kernel_and_initramfs_are_tried_as_often_as_ipxe_tries_them() {
        let text = |retries: u32| {
            text(
                &[&format!("--ipxe-http-script-retries={retries}"), "--ipxe-http-script-retry-delay=7"],
                &json!({}),
            )
        };
        assert!(text(0).contains("\nfor attempt in 1; do\n") && text(0).contains("\n  sleep 7\ndone\n"));
        assert!(text(3).contains("\nfor attempt in 1 2 3 4; do\n"));
        let most = text(u32::MAX);
        assert!(most.contains(" 100; do\n") && most.len() < 2000, "{most}");
    }

    #[test]
    fn a_machine_that_may_not_boot_or_has_its_own_script_leaves() {
        for (interface, reason) in [
            (json!({ "netboot": { "allowPXE": false } }), "netboot.allowPXE"),
            (json!({ "netboot": { "ipxe": { "contents": "shell" } } }), "is for iPXE"),
            (json!({ "netboot": { "ipxe": { "url": "http://a/b" } } }), "is for iPXE"),
        ] {
            let text = text(&[], &interface);
            assert!(text.contains(reason) && text.ends_with("\nexit 1\n"), "{text}");
            assert!(!text.contains("linux") && !text.contains("TOKEN"), "{text}");
        }
    }

    #[test]
    fn only_plain_http_is_named_to_grub() {
        let osie = |url: &str| text(&[], &json!({ "netboot": { "osie": { "baseURL": url } } }));
        assert!(osie("http://[fd00::1]/hook/").contains("'(http,[fd00::1])/hook/vmlinuz-x86_64'"));
        for url in ["https://10.0.0.1/hook", "tftp://10.0.0.1/hook", "hook"] {
            let text = osie(url);
            assert!(text.contains("behind no URL of plain HTTP") && !text.contains("linux"), "{url}: {text}");
        }
    }

    #[test]
    fn a_grub_asks_by_its_mac_and_leaves_when_nobody_knows_it() {
        let asks = "source \"${prefix}/${net_default_mac}/grub.cfg\"\necho \"Tinkerbell: nobody knows ${net_default_mac}, ";
        assert!(by_mac().starts_with(asks) && by_mac().ends_with("\nexit 1\n"), "{}", by_mac());
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        let osie = json!({ "kernelParams": ["a='b' ; reboot", "$x\n{c}"], "kernel": "k' | reboot '" });
        let text = text(&[], &json!({ "netboot": { "osie": osie } }));
        assert!(text.contains(r"'a='\''b'\''' ';' 'reboot' '$x' '{c}'"), "{text}");
        assert!(text.contains(r"/k'\''_|_reboot_'\'''"), "{text}");
    }
}
