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

use crate::config::ScriptConfig;
use crate::machine::{Machine, Nic};
use crate::script::{Moment, ScriptError, file_names, kernel_arguments, word};

/// Last element of the path of a configuration.
pub(crate) const GRUB_CFG: &str = "grub.cfg";

/// The configuration of a machine.
///
/// # Errors
///
/// When kernel and initramfs are not behind a URL of plain HTTP, which is all that GRUB speaks.
pub(crate) fn render(
    machine: &Machine,
    nic: &Nic,
    config: &ScriptConfig,
    moment: &Moment,
) -> Result<String, ScriptError> {
    let (boot, name) = (&nic.boot, word(&machine.name));
    if !boot.allowed {
        return Ok(leave(&format!("{name} may not boot from the network (netboot.allowPXE)")));
    }
    if boot.script.is_some() || boot.script_url.is_some() {
        return Ok(leave(&format!("the script of {name} (netboot.ipxe) is for iPXE")));
    }
    let base = boot.osie_url.as_ref().unwrap_or(&config.osie_url);
    let base: Url = base.parse().map_err(|_| ScriptError::Scheme)?;
    let host = base.host_str().filter(|_| base.scheme() == "http").ok_or(ScriptError::Scheme)?;
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    let root = format!("(http,{host}{port}){}", base.path().trim_end_matches('/'));
    let (kernel, initrd) = file_names(nic, config);
    let arguments = kernel_arguments(machine, nic, config, moment, "");
    let arguments: Vec<String> = arguments.split(' ').map(quoted).collect();
    Ok(format!(
        "echo {}\nif linux {} {}; then\n  if initrd {}; then\n    boot\n  fi\nfi\n{}",
        quoted(&format!("Tinkerbell: {name} boots its in-memory operating system")),
        quoted(&format!("{root}/{}", word(&kernel))),
        arguments.join(" "),
        quoted(&format!("{root}/{}", word(&initrd))),
        leave(&format!("{name} got no kernel or no initramfs")),
    ))
}

/// What a GRUB is told whose address is nobody's: it says which MAC it has.
pub(crate) fn by_mac() -> String {
    format!("source \"${{prefix}}/${{net_default_mac}}/{GRUB_CFG}\"\n")
}

/// Hands back to the firmware, which goes on with the next entry of its boot order.
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
    use crate::config::tests::config;
    use crate::machine::tests::hardware;

    fn text(args: &[&str], interface: &Value) -> Result<String, ScriptError> {
        let (machine, problems) = Machine::read(&hardware(interface));
        assert_eq!(problems, [] as [String; 0]);
        let moment = Moment { token: Some("TOKEN".into()), now: 1_700_000_007 };
        render(&machine, &machine.nics[0], &config(args).script, &moment)
    }

    #[test]
    fn the_default_configuration_is_this() {
        assert_eq!(text(&[], &json!({})).unwrap(), include_str!("grub/default.cfg"));
    }

    #[test]
    fn a_machine_that_may_not_boot_or_has_its_own_script_leaves() {
        for (interface, reason) in [
            (json!({ "netboot": { "allowPXE": false } }), "netboot.allowPXE"),
            (json!({ "netboot": { "ipxe": { "contents": "shell" } } }), "is for iPXE"),
            (json!({ "netboot": { "ipxe": { "url": "http://a/b" } } }), "is for iPXE"),
        ] {
            let text = text(&[], &interface).unwrap();
            assert!(text.contains(reason) && text.ends_with("\nexit 1\n"), "{text}");
            assert!(!text.contains("linux") && !text.contains("TOKEN"), "{text}");
        }
    }

    #[test]
    fn only_plain_http_is_named_to_grub() {
        let osie = |url: &str| text(&[], &json!({ "netboot": { "osie": { "baseURL": url } } }));
        assert!(osie("http://[fd00::1]/hook/").unwrap().contains("'(http,[fd00::1])/hook/vmlinuz-x86_64'"));
        for url in ["https://10.0.0.1/hook", "tftp://10.0.0.1/hook", "hook"] {
            assert_eq!(osie(url), Err(ScriptError::Scheme), "{url}");
        }
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        let osie = json!({ "kernelParams": ["a='b' ; reboot", "$x\n{c}"], "kernel": "k' | reboot '" });
        let text = text(&[], &json!({ "netboot": { "osie": osie } })).unwrap();
        assert!(text.contains(r"'a='\''b'\''' ';' 'reboot' '$x' '{c}'"), "{text}");
        assert!(text.contains(r"/k'\''_|_reboot_'\'''"), "{text}");
    }
}
