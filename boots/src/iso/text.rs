// SPDX-License-Identifier: Apache-2.0
//! The kernel arguments that an ISO image gets for a machine. Pure; the order of the first ones is a contract.

use crate::config::ScriptConfig;
use crate::machine::{Machine, Nic};
use crate::script::{own_arguments, word};

/// Consoles of a machine whose facility code names none.
const CONSOLES: &str = "console=ttyAMA0 console=ttyS0 console=tty0 console=tty1 console=ttyS1";

/// How the machine gets its address in the in-memory operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// From DHCP.
    Dhcp,
    /// From `ipam=` on the kernel command line.
    Static,
}

/// The arguments of a machine; `token` proves to the workflow server that its agent runs on the machine that was booted.
pub(crate) fn arguments(
    machine: &Machine,
    nic: &Nic,
    config: &ScriptConfig,
    addressing: Addressing,
    token: Option<&str>,
) -> String {
    let mut arguments = Vec::new();
    let facility = Some(own_arguments(&machine.facility)).filter(|facility| !facility.is_empty());
    arguments.extend(facility.as_ref().map(|facility| format!("facility={facility}")));
    if !facility.is_some_and(|facility| facility.contains("console=")) {
        arguments.push(CONSOLES.to_owned());
    }
    arguments.extend(nic.boot.vlan.as_ref().map(|vlan| format!("vlan_id={}", word(vlan))));
    arguments.extend([
        format!("hw_addr={}", nic.mac),
        format!("syslog_host={}", word(&config.syslog)),
        format!("grpc_authority={}", word(&config.grpc_authority)),
        format!("tinkerbell_tls={}", config.tls),
        format!("worker_id={}", word(&nic.agent_id)),
    ]);
    arguments.extend(config.extra_args.iter().map(|argument| own_arguments(argument)));
    // An address of IPv6 has no form among fields with colons between them; that machine asks its router and DHCPv6.
    if addressing == Addressing::Static && nic.lease6.address.is_none() {
        arguments.push(format!("ipam={}", ipam(nic)));
    }
    // What upstream's text lacks comes after all of it.
    arguments.extend(config.insecure_tls.then(|| "tinkerbell_insecure_tls=true".to_owned()));
    arguments.extend(nic.boot.kernel_args.iter().map(|argument| own_arguments(argument)));
    arguments.extend(token.map(|token| format!("{}={token}", api::token::KERNEL_ARGUMENT)));
    arguments.retain(|argument| !argument.is_empty());
    plain(&arguments.join(" "))
}

/// Without what has a meaning to GRUB, on whose command line the text stands: a name in a Hardware must not begin another command.
fn plain(text: &str) -> String {
    text.replace([';', '|', '&', '<', '>', '{', '}', '$', '\'', '"', '\\', '#'], "_")
}

/// Nine fields: MAC, VLAN, address, netmask, gateway, host name, name servers, search list, time servers.
fn ipam(nic: &Nic) -> String {
    let lease = &nic.lease;
    let address = |address: Option<std::net::Ipv4Addr>| address.map(|ip| ip.to_string()).unwrap_or_default();
    let list = |all: &[std::net::Ipv4Addr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    // A colon or a comma in a name would begin another field.
    let name = |name: &Option<String>| word(name.as_deref().unwrap_or_default()).replace([':', ','], "_");
    [
        nic.mac.dashed(),
        name(&nic.boot.vlan),
        address(lease.address),
        address(lease.netmask),
        address(lease.gateway),
        name(&lease.hostname),
        list(&lease.name_servers),
        name(&lease.domain),
        list(&lease.time_servers),
    ]
    .join(":")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::tests::config;
    use crate::machine::tests::hardware;

    fn text(flags: &[&str], facility: &str, interface: &Value, addressing: Addressing) -> String {
        let mut hardware = hardware(interface);
        let metadata = hardware.spec.metadata.get_or_insert_default();
        metadata.facility.get_or_insert_default().facility_code = Some(facility.to_owned());
        let (machine, _) = Machine::read(&hardware);
        arguments(&machine, &machine.nics[0], &config(flags).script, addressing, Some("TOKEN"))
    }

    #[test]
    fn the_default_text_is_this() {
        let golden = include_str!("text/default.txt").trim_end();
        assert_eq!(text(&[], "lab", &json!({}), Addressing::Static), golden);
    }

    #[test]
    fn the_arguments_have_upstreams_order_then_ours() {
        assert_eq!(
            text(&[], "lab", &json!({}), Addressing::Dhcp),
            "facility=lab console=ttyAMA0 console=ttyS0 console=tty0 console=tty1 console=ttyS1 \
             hw_addr=52:54:00:00:00:11 syslog_host=172.31.0.1 grpc_authority=172.31.0.1:42113 \
             tinkerbell_tls=false worker_id=52:54:00:00:00:11 tink_agent_token=TOKEN"
        );
        let interface = json!({
            "dhcp": {
                "vlan_id": "7", "name_servers": ["1.1.1.1", "9.9.9.9"], "time_servers": ["10.0.0.1"],
                "domain_name": "lab.example",
            },
            "netboot": { "osie": { "kernelParams": ["x=1"] } },
        });
        let flags = ["--ipxe-http-script-extra-kernel-args=a=1", "--ipxe-script-tink-server-insecure-tls"];
        assert_eq!(
            text(&flags, "onprem console=ttyS1,115200", &interface, Addressing::Static),
            "facility=onprem console=ttyS1,115200 vlan_id=7 hw_addr=52:54:00:00:00:11 syslog_host=172.31.0.1 \
             grpc_authority=172.31.0.1:42113 tinkerbell_tls=false worker_id=52:54:00:00:00:11 a=1 \
             ipam=52-54-00-00-00-11:7:172.31.0.11:255.255.255.0:172.31.0.1:m1:1.1.1.1,9.9.9.9:lab.example:10.0.0.1 \
             tinkerbell_insecure_tls=true x=1 tink_agent_token=TOKEN"
        );
        assert!(text(&[], "", &json!({}), Addressing::Dhcp).starts_with("console=ttyAMA0 "));
    }

    #[test]
    fn a_machine_with_an_address_of_ipv6_is_told_none_among_colons() {
        let ip = json!({ "address": "2001:db8::11", "netmask": null, "gateway": null });
        let text = text(&[], "lab", &json!({ "dhcp": { "ip": ip } }), Addressing::Static);
        assert!(!text.contains("ipam=") && text.contains(" hw_addr=52:54:00:00:00:11 "), "{text}");
    }

    #[test]
    fn argument_injection_by_names_adds_no_field_and_no_line() {
        let interface = json!({ "dhcp": { "hostname": "a:b,c d\ninit=/bin/sh", "domain_name": "x:y" } });
        let text = text(&[], "lab\nroot=/dev/sda", &interface, Addressing::Static);
        assert!(text.contains(":a_b_c_d_init=/bin/sh::x_y:"), "{text}");
        assert!(!text.contains('\n') && !text.contains(" init="), "{text}");
    }

    #[test]
    fn command_injection_by_names_and_arguments_ends_no_line_of_grub() {
        let osie = json!({ "kernelParams": ["a=1;reboot", "b='${c}' #"] });
        let text = text(&[], "lab|halt", &json!({ "netboot": { "osie": osie } }), Addressing::Dhcp);
        assert!(text.contains(" a=1_reboot b=___c__ _ "), "{text}");
        assert!(text.starts_with("facility=lab_halt "), "{text}");
    }
}
