// SPDX-License-Identifier: Apache-2.0

use std::net::{IpAddr, Ipv4Addr};

use api::{
    Mac,
    anywhere::v1alpha1::{Arch, BootMode},
    bmc::v1alpha1::RpcOptions,
};
use daemon::Secret;
use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;

const GOOD: &str = include_str!("../../tests/data/hardware.csv");

fn findings(text: &str) -> (Inventory, Vec<String>) {
    let mut findings = Findings::default();
    let inventory = read("h.csv", text, BmcMode::Accounts, &mut findings);
    (inventory, findings.sorted().iter().map(ToString::to_string).collect())
}

#[test]
fn a_file_as_eks_anywhere_documents_it_is_read() {
    let (inventory, problems) = findings(GOOD);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((inventory.rows, inventory.servers.len()), (5, 5));
    let (line, first) = &inventory.servers[0];
    assert_eq!((*line, first.hostname.as_str()), (3, "eksa-cp01"));
    assert_eq!(first.nic.address.unwrap().to_string(), "10.10.50.11/24");
    assert_eq!(first.labels["type"], "cp");
    assert_eq!((first.arch, first.boot_mode), (Arch::X86_64, BootMode::Uefi));
    let bmc = first.bmc.as_ref().unwrap();
    assert_eq!(bmc.address.to_string(), "10.10.44.1");
    assert_eq!(bmc.account.as_ref().unwrap().password.expose(), "Pr0v1s10n,\"1\"");
    let spare = &inventory.servers[4].1;
    assert!(spare.bmc.is_none());
    assert_eq!(spare.vlan, Some(50));
    assert_eq!(spare.disk, "/dev/disk/by-id/nvme-eui.0025388b710116a1");
}

/// A row, and the beginning of what must be told of it.
const MISTAKES: [(&str, &str); 25] = [
    (
        "Node_1,,,,52:54:00:00:00:01,10.0.0.1,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "hostname: \"Node_1\" is no host name",
    ),
    (
        "n2,,,,52:54:00:00:00,10.0.0.2,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "mac: \"52:54:00:00:00\" is not a MAC",
    ),
    (
        "n3,,,,01:00:5e:00:00:01,10.0.0.3,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "mac: 01:00:5e:00:00:01 is not the address of one",
    ),
    (
        "n4,,,,52:54:00:00:00:04,10.0.0.4/24,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "ip_address: \"10.0.0.4/24\" is not an IP",
    ),
    (
        "n5,,,,52:54:00:00:00:05,fd00::5,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "ip_address: fd00::5 is an IPv6 address",
    ),
    (
        "n6,,,,52:54:00:00:00:06,10.0.0.6,255.0.255.0,10.0.0.254,1.1.1.1,,/dev/sda,",
        "netmask: \"255.0.255.0\" is not a netmask",
    ),
    (
        "n7,,,,52:54:00:00:00:07,10.0.0.7,24,10.0.1.254,1.1.1.1,,/dev/sda,",
        "gateway: 10.0.1.254 is outside the machine's network 10.0.0.0/24",
    ),
    (
        "n8,,,,52:54:00:00:00:08,10.0.0.8,24,10.0.0.254,\"1.1.1.1,8.8.8.8\",,/dev/sda,",
        "nameservers: \"1.1.1.1,8.8.8.8\" is not one IP",
    ),
    (
        "n9,,,,52:54:00:00:00:09,10.0.0.9,24,10.0.0.254,1.1.1.1||8.8.8.8,,/dev/sda,",
        "nameservers: \"1.1.1.1||8.8.8.8\" has an empty item",
    ),
    (
        "n10,,,,52:54:00:00:00:0a,10.0.0.10,24,10.0.0.254,1.1.1.1,type:cp|a=b=c,/dev/sda,",
        "labels: \"type:cp\" has no =, \"b=c\" is no label value",
    ),
    (
        "n11,,,,52:54:00:00:00:0b,10.0.0.11,24,10.0.0.254,1.1.1.1,,/dev/sda/dev/sdb,",
        "disk: \"/dev/sda/dev/sdb\" is not the path of one",
    ),
    (
        "n12,,,,52:54:00:00:00:0c,10.0.0.12,24,10.0.0.254,1.1.1.1,,/dev/sda,4095",
        "vlan_id: \"4095\" is not a VLAN",
    ),
    ("n13,,,,52:54:00:00:00:0d,10.0.0.13,24,10.0.0.254,1.1.1.1,,,", "disk: is empty"),
    (
        "n14,10.0.9.14,,secret-14,52:54:00:00:00:0e,10.0.0.14,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "bmc_username: is empty, but the row has a BMC",
    ),
    (
        "n15,,root,secret-15,52:54:00:00:00:0f,10.0.0.15,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "bmc_ip: is empty, but the row has an account",
    ),
    (
        "n16,bmc-16,root,secret-16,52:54:00:00:00:10,10.0.0.16,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "bmc_ip: \"bmc-16\" is not an IP",
    ),
    (
        "n17,10.0.0.18,root,p,52:54:00:00:00:11,10.0.0.17,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "bmc_ip: 10.0.0.18 is the address of the machine on line 19",
    ),
    ("n18,10.0.9.18,root,p,52:54:00:00:00:12,10.0.0.18,24,10.0.0.254,1.1.1.1,,/dev/sda,", ""),
    (
        "n18,,,,52:54:00:00:00:13,10.0.0.19,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "hostname: n18 is already on line 19",
    ),
    (
        "n20,,,,52:54:00:00:00:12,10.0.0.20,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "mac: 52:54:00:00:00:12 is already on line 19",
    ),
    (
        "n21,,,,52:54:00:00:00:15,10.0.0.18,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "ip_address: 10.0.0.18 is already on line 19",
    ),
    (
        "n22,10.0.9.18,root,p,52:54:00:00:00:16,10.0.0.22,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "bmc_ip: 10.0.9.18 is already on line 19",
    ),
    (
        "n23,,,,52:54:00:00:00:17,10.0.0.255,24,10.0.0.254,1.1.1.1,,/dev/sda,",
        "ip_address: 10.0.0.255 is the first or last",
    ),
    (
        "n24,,,,52:54:00:00:00:18,10.0.0.24,24,10.0.0.254,1.1.1.1,,/dev/sda",
        ": the row has 11 cells, the header has 12",
    ),
    (
        "n25,,,,52:54:00:00:00:19,10.0.0.25,24,10.0.0.254,1.1.1.1,v1alpha1.tinkerbell.org/ownerName=x,/dev/sda,",
        "labels: \"v1alpha1.tinkerbell.org/ownerName\" says which cluster",
    ),
];

#[test]
fn every_mistake_is_told_with_line_column_value_and_fix() {
    const HEADER: &str = "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk,vlan_id";
    let text: String =
        [HEADER].into_iter().chain(MISTAKES.iter().map(|case| case.0)).collect::<Vec<_>>().join("\n");
    let (_, problems) = findings(&text);
    let expected: Vec<_> = (2..)
        .zip(MISTAKES)
        .filter(|(_, case)| !case.1.is_empty())
        .map(|(line, case)| format!("error: h.csv:{line}: {}", case.1.trim_start_matches(": ")))
        .collect();
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(&expected) {
        assert!(problem.starts_with(expected.as_str()), "{problem}\n{expected}");
        assert!(problem.contains("; "), "{problem}");
        assert!(!problem.contains("secret-1"), "a password is told: {problem}");
    }
}

#[test]
fn what_no_row_can_say_is_told_of_the_file() {
    for (text, expected) in [
        ("", "error: h.csv: there is nothing in it"),
        ("# only a comment\n", "error: h.csv: there is nothing in it"),
        (
            "hostname,mac,ip_address,netmask,gateway,nameservers,labels,disk\n",
            "error: h.csv:1: there are no machines in it",
        ),
        (
            "hostname,mac\nn1,52:54:00:00:00:01\n",
            "error: h.csv:1: the header has no column ip_address, netmask",
        ),
    ] {
        let (_, problems) = findings(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{problems:?}");
    }
}

#[test]
fn our_columns_are_read_and_their_mistakes_told() {
    let header = "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk,arch,boot_mode,bmc_driver,bmc_port,extra_nics";
    let row = |n: u8, ours: &str| {
        format!(
            "n{n},10.9.0.{n},u,p,52:54:00:00:00:{n:02x},10.0.0.{n},24,10.0.0.254,1.1.1.1,,/dev/sda,{ours}"
        )
    };
    let nics = "52:54:00:00:01:01=10.1.0.5/24|52:54:00:00:01:02";
    let text = [
        header.to_owned(),
        row(1, &format!("arm64,bios,ipmi,6230,{nics}")),
        row(2, "sparc,,,,"),
        row(3, ",efi,,,"),
        row(4, ",,ilo,,"),
        row(5, ",,redfish,70000,"),
        row(6, ",,,443,"),
        row(7, ",,,,52:54:00:00:01:02"),
        row(8, ",,,,52:54:00:00:01:08=10.1.0.5"),
    ];
    let (inventory, problems) = findings(&text.join("\n"));
    let server = &inventory.servers[0].1;
    assert_eq!((server.arch, server.boot_mode), (Arch::Aarch64, BootMode::Bios));
    assert_eq!(
        server.bmc.as_ref().map(|bmc| (bmc.driver, bmc.port)),
        Some((Some(BmcDriver::Ipmi), Some(6230)))
    );
    assert_eq!(server.extra_nics.len(), 2);
    let expected = [
        "error: h.csv:3: arch: \"sparc\" is not known",
        "error: h.csv:4: boot_mode: \"efi\" is not known",
        "error: h.csv:5: bmc_driver: \"ilo\" is not known",
        "error: h.csv:6: bmc_port: \"70000\" is not a port",
        "error: h.csv:7: bmc_port: is filled, but bmc_driver is not",
        "error: h.csv:8: extra_nics: 52:54:00:00:01:02 is already on line 2",
        "error: h.csv:9: extra_nics: \"10.1.0.5\" is no address with its prefix",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
}

#[test]
fn objects_have_the_names_labels_and_constants_that_others_look_for() {
    let (inventory, _) = findings(GOOD);
    let objects = inventory.servers[0].1.objects(None);
    let hardware = serde_json::to_value(&objects.hardware).unwrap();
    assert_eq!(hardware["metadata"]["namespace"], "eksa-system");
    assert_eq!(hardware["metadata"]["labels"], serde_json::json!({ "type": "cp" }));
    assert_eq!(hardware["spec"]["bmcRef"], serde_json::json!({ "kind": "Machine", "name": "bmc-eksa-cp01" }));
    assert_eq!(hardware["spec"]["metadata"]["instance"]["id"], "cc:48:3a:00:00:01");
    assert_eq!(hardware["spec"]["metadata"]["facility"]["facility_code"], "onprem");
    assert_eq!(
        hardware["spec"]["interfaces"],
        serde_json::json!([{
            "netboot": { "allowPXE": true, "allowWorkflow": true },
            "dhcp": {
                "arch": "x86_64", "mac": "cc:48:3a:00:00:01", "hostname": "eksa-cp01", "lease_time": 4_294_967_294_u64,
                "name_servers": ["1.1.1.1", "8.8.8.8"], "uefi": true,
                "ip": { "address": "10.10.50.11", "netmask": "255.255.255.0", "gateway": "10.10.50.1", "family": 4 },
            },
        }])
    );
    let machine = serde_json::to_value(objects.machine.unwrap()).unwrap();
    let connection = &machine["spec"]["connection"];
    assert_eq!((&connection["host"], &connection["insecureTLS"]), (&"10.10.44.1".into(), &true.into()));
    assert_eq!(connection["authSecretRef"]["name"], "bmc-eksa-cp01-auth");
    assert_eq!(connection["providerOptions"]["preferredOrder"][0], "gofish");
    let [secret] = objects.secrets.as_slice() else { panic!("one Secret") };
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
    assert_eq!(secret.metadata.labels.as_ref().unwrap()["clusterctl.cluster.x-k8s.io/move"], "true");

    let spare = inventory.servers[4].1.objects(None);
    assert!(spare.machine.is_none() && spare.secrets.is_empty() && spare.hardware.spec.bmc_ref.is_none());
}

#[test]
fn a_web_hook_takes_the_place_of_accounts() {
    let mut findings = Findings::default();
    let text = GOOD.replace("admin,\"Pr0v1s10n,\"\"1\"\"\"", ",");
    let inventory = read("h.csv", &text, BmcMode::WebHook, &mut findings);
    assert_eq!(findings.as_slice(), []);
    let rpc = RpcBmc {
        options: RpcOptions { consumer_url: "https://hook.example/rpc".to_owned(), ..RpcOptions::default() },
        hmac_secrets: vec![Secret::new("k0".to_owned()), Secret::new("k1".to_owned())],
    };
    let objects = inventory.servers[0].1.objects(Some(&rpc));
    let names: Vec<_> = objects.secrets.iter().filter_map(|secret| secret.metadata.name.as_deref()).collect();
    assert_eq!(names, ["bmc-eksa-cp01-auth-0", "bmc-eksa-cp01-auth-1"]);
    let connection = objects.machine.unwrap().spec.connection;
    assert!(connection.auth_secret_ref.is_none());
    let hmac = connection.provider_options.unwrap().rpc.unwrap().hmac.unwrap();
    assert_eq!(hmac.secrets.keys().map(String::as_str).collect::<Vec<_>>(), ["sha256", "sha512"]);
    assert_eq!(hmac.secrets["sha512"].len(), 2);
}

fn server() -> impl Strategy<Value = Server> {
    let text = "[a-z]([a-z0-9-]{0,8}[a-z0-9])?";
    let nic = (any::<[u8; 5]>(), 1_u32..0x00ff_ffff, 8_u8..=30).prop_map(|(mac, host, prefix)| {
        let [a, b, c, d, e] = mac;
        let address = Ipv4Addr::from(0x0a00_0000 | host);
        Nic { mac: Mac::from([0x52, a, b, c, d, e]), address: Ipv4Net::new(address, prefix).ok() }
    });
    let nic = nic.prop_filter("an address between the first and the last", |nic| {
        nic.address.is_some_and(|n| n.addr() != n.network() && n.addr() != n.broadcast())
    });
    let driver = prop_oneof![
        Just((None, None)),
        Just((Some(BmcDriver::Ipmi), None)),
        Just((Some(BmcDriver::Redfish), Some(8443)))
    ];
    let bmc = (any::<Ipv4Addr>(), "[!-~]{1,12}", "[!-~]([ -~]{0,12}[!-~])?", driver).prop_map(
        |(address, username, password, driver)| BmcAccess {
            address: IpAddr::V4(address),
            account: Some(BmcAccount { username, password: Secret::new(password) }),
            driver: driver.0,
            port: driver.1,
        },
    );
    let labels = prop::collection::btree_map(text, text, 0..4);
    let extra = (any::<[u8; 5]>(), prop::option::of(Just("10.200.0.9/16"))).prop_map(|(mac, address)| {
        let [a, b, c, d, e] = mac;
        Nic { mac: Mac::from([0x56, a, b, c, d, e]), address: address.map(|text| text.parse().unwrap()) }
    });
    let parts =
        (text, nic, labels, prop::option::of(bmc), prop::option::of(1_u16..=4094), prop::option::of(extra));
    let choices = (
        prop::sample::select(vec![Arch::X86_64, Arch::Aarch64]),
        prop::sample::select(vec![BootMode::Uefi, BootMode::Bios]),
    );
    (parts, choices, prop::collection::vec(any::<Ipv4Addr>(), 1..3)).prop_map(
        |(parts, (arch, boot_mode), servers)| {
            let (hostname, nic, labels, bmc, vlan, extra) = parts;
            let network = nic.address.unwrap();
            let gateway = network.hosts().find(|host| *host != network.addr()).unwrap();
            Server {
                hostname,
                nic,
                gateway,
                name_servers: servers.into_iter().map(IpAddr::V4).collect(),
                vlan,
                extra_nics: extra.into_iter().collect(),
                labels,
                disk: "/dev/disk/by-id/wwn-0x5000".to_owned(),
                arch,
                boot_mode,
                bmc,
            }
        },
    )
}

/// The row of a machine, every cell in quotes.
fn row(server: &Server) -> String {
    let bmc = server.bmc.as_ref();
    let account = bmc.and_then(|bmc| bmc.account.as_ref());
    let join = |items: Vec<String>| items.join("|");
    let network = server.nic.address.unwrap();
    let driver = bmc.and_then(|bmc| bmc.driver).map(|driver| match driver {
        BmcDriver::Redfish => "redfish",
        BmcDriver::Ipmi => "ipmi",
    });
    let nics = server.extra_nics.iter().map(|nic| match nic.address {
        Some(address) => format!("{}={address}", nic.mac),
        None => nic.mac.to_string(),
    });
    let cells = [
        server.hostname.clone(),
        bmc.map(|bmc| bmc.address.to_string()).unwrap_or_default(),
        account.map(|account| account.username.clone()).unwrap_or_default(),
        account.map(|account| account.password.expose().clone()).unwrap_or_default(),
        server.nic.mac.dashed(),
        network.addr().to_string(),
        network.netmask().to_string(),
        server.gateway.to_string(),
        join(server.name_servers.iter().map(ToString::to_string).collect()),
        join(server.labels.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        server.disk.clone(),
        server.vlan.map(|vlan| vlan.to_string()).unwrap_or_default(),
        server.arch.as_str().to_owned(),
        server.boot_mode.as_str().to_owned(),
        driver.unwrap_or_default().to_owned(),
        bmc.and_then(|bmc| bmc.port).map(|port| port.to_string()).unwrap_or_default(),
        join(nics.collect()),
    ];
    cells.map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).join(",")
}

proptest! {
    #[test]
    fn a_machine_is_the_same_through_its_row_and_its_objects(server in server()) {
        let header = "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk,vlan_id,arch,boot_mode,bmc_driver,bmc_port,extra_nics";
        let mut findings = Findings::default();
        let inventory = read("h.csv", &format!("{header}\r\n{}\r\n", row(&server)), BmcMode::Accounts, &mut findings);
        prop_assert_eq!(findings.as_slice(), &[]);
        prop_assert_eq!(&inventory.servers[0].1, &server);

        let objects = server.objects(None);
        let back = Server::from_objects(&objects.hardware, objects.machine.as_ref(), objects.secrets.first()).unwrap();
        prop_assert_eq!(back, server);
    }

    #[test]
    fn nothing_that_is_written_makes_it_panic(text in "(hostname|mac|disk|labels|netmask|,|\"|\n|#|=|\\||[0-9:./]|\\PC){0,120}") {
        let mut findings = Findings::default();
        let inventory = read("h.csv", &text, BmcMode::Accounts, &mut findings);
        prop_assert!(inventory.servers.len() <= inventory.rows);
        prop_assert!(!inventory.servers.is_empty() || findings.has_errors());
    }
}
