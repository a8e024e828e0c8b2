// SPDX-License-Identifier: Apache-2.0

//! What the orchestrator says against those who have to understand it: its templates against the workflow controller, its look
//! at BMCs and files against simulated ones, and the command line over both.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use api::anywhere::v1alpha1::OsFamily;
use lab::{
    bmc::{self, Account, Behaviour, BmcHandle, Kind},
    chassis::{Chassis as _, Identity, SimulatedChassis},
};
use orchestrator::{
    check::Subject,
    cluster,
    finding::{Finding, Findings},
    inventory::{self, BmcMode, Inventory, Server},
    probe, templates,
};
use tink_server::{template, view};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

const CLUSTER: &str = include_str!("../../orchestrator/tests/data/cluster.yaml");
const HARDWARE: &str = include_str!("../../orchestrator/tests/data/hardware.csv");

fn machines(text: &str) -> Inventory {
    let mut findings = Findings::default();
    let inventory = inventory::read("hardware.csv", text, BmcMode::Accounts, &mut findings);
    assert!(!findings.has_errors(), "{findings:?}");
    inventory
}

/// The actions of a machine's workflow, by name, with their environments.
fn rendered(text: &str, server: &Server) -> BTreeMap<String, BTreeMap<String, String>> {
    let hardware = server.objects(None).hardware;
    let map = BTreeMap::from([("device_1".to_owned(), server.nic.mac.to_string())]);
    let mut next = 0;
    let mut id = || {
        next += 1;
        next.to_string()
    };
    let workflow = template::render(text, &view::data(&map, Some(&hardware)), &mut id)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(workflow.tasks[0].agent_id, server.nic.mac.to_string());
    assert_eq!(workflow.global_timeout, 6000);
    workflow.tasks[0].actions.iter().map(|one| (one.name.clone().unwrap(), one.environment.clone())).collect()
}

fn built_in(family: OsFamily) -> String {
    let settings = templates::Settings {
        cluster: "rack",
        image_url: "https://images.example.com/ubuntu-1-34.gz",
        metadata_hosts: &["10.10.50.9", "10.10.50.3"],
        ..templates::Settings::default()
    };
    templates::to_yaml(&templates::built_in(family, &settings))
}

#[test]
fn built_in_templates_become_workflows_and_their_files_are_what_the_systems_read() {
    let inventory = machines(HARDWARE);
    let first = rendered(&built_in(OsFamily::Ubuntu), &inventory.servers[0].1);
    assert_eq!(first["stream image to disk"]["DEST_DISK"], "/dev/sda");
    let file = &first["write netplan config"];
    assert_eq!(
        (file["DEST_DISK"].as_str(), file["MODE"].as_str(), file["UID"].as_str()),
        ("/dev/sda2", "0644", "0")
    );
    let netplan: serde_json::Value = serde_saphyr::from_str(&file["CONTENTS"]).unwrap();
    assert_eq!(
        netplan["network"]["ethernets"],
        serde_json::json!({ "id0": {
            "match": { "macaddress": "cc:48:3a:00:00:01" },
            "addresses": ["10.10.50.11/24"],
            "nameservers": { "addresses": ["1.1.1.1", "8.8.8.8"] },
            "routes": [{ "to": "default", "via": "10.10.50.1" }],
        } })
    );
    let datasource: serde_json::Value =
        serde_saphyr::from_str(&first["add cloud-init config"]["CONTENTS"]).unwrap();
    assert_eq!(datasource["datasource"]["Ec2"]["metadata_urls"][1], "http://10.10.50.3:7172");
    assert_eq!(first["add cloud-init ds config"]["CONTENTS"], "datasource: Ec2\n");

    let nvme = rendered(&built_in(OsFamily::Redhat), &inventory.servers[3].1);
    let file = &nvme["write network manager config"];
    assert_eq!((file["DEST_DISK"].as_str(), file["MODE"].as_str()), ("/dev/nvme0n1p1", "0600"));
    let expected = "[connection]\nid=static-connection\nautoconnect=true\ntype=ethernet\n\n[ethernet]\n\
                    mac-address=cc:48:3a:00:00:04\n\n[ipv4]\nmethod=manual\naddress1=10.10.50.14/24,10.10.50.1\n\
                    dns=1.1.1.1;8.8.8.8;\n\n[ipv6]\nmethod=ignore\n";
    assert_eq!(file["CONTENTS"].trim_start(), expected);
}

#[test]
fn vlans_and_more_interfaces_are_configured_too() {
    let text = HARDWARE
        .replace("disk,vlan_id", "disk,vlan_id,extra_nics")
        .replace("/dev/sda,", "/dev/sda,,")
        .replace("/dev/nvme0n1,", "/dev/nvme0n1,,")
        .replace("116a1,50", "116a1,50,52:54:00:00:00:99=10.99.0.5/16|52:54:00:00:00:98");
    let inventory = machines(&text);
    let server = &inventory.servers[4].1;
    let workflow = rendered(&built_in(OsFamily::Ubuntu), server);
    let file = &workflow["write netplan config"];
    assert_eq!(file["DEST_DISK"], "/dev/disk/by-id/nvme-eui.0025388b710116a1-part2");
    let netplan: serde_json::Value = serde_saphyr::from_str(&file["CONTENTS"]).unwrap();
    let network = &netplan["network"];
    assert_eq!(
        network["ethernets"]["id0"],
        serde_json::json!({ "match": { "macaddress": "cc:48:3a:00:00:05" }, "set-name": "mainif" })
    );
    assert_eq!(network["ethernets"]["id1"]["addresses"], serde_json::json!(["10.99.0.5/16"]));
    assert!(network["ethernets"].get("id2").is_none());
    let vlan = &network["vlans"]["vlan50"];
    assert_eq!((&vlan["id"], &vlan["link"]), (&50.into(), &"id0".into()));
    assert_eq!(vlan["addresses"], serde_json::json!(["10.10.50.15/24"]));
    let connection =
        &rendered(&built_in(OsFamily::Redhat), server)["write network manager config"]["CONTENTS"];
    assert!(
        connection.contains(
            "type=vlan\ninterface-name=vlan50\n\n[vlan]\nid=50\n\n[ethernet]\nmac-address=cc:48:3a:00:00:05\n"
        ),
        "{connection}"
    );
}

#[test]
fn a_template_of_the_users_own_becomes_a_workflow() {
    let mut findings = Findings::default();
    let file = cluster::read("cluster.yaml", CLUSTER, &mut findings).unwrap();
    let text = templates::to_yaml(&file.template("own").unwrap().value.spec.template);
    let workflow = rendered(&text, &machines(HARDWARE).servers[0].1);
    let stream = &workflow["stream image to disk"];
    assert_eq!((stream["DEST_DISK"].as_str(), stream["COMPRESSED"].as_str()), ("/dev/sda", "true"));
}

const PASSWORD: &str = "pw7Zq4-rack";
const RACK: u8 = 50;

struct Rack {
    csv: String,
    chassis: Vec<SimulatedChassis>,
    _bmcs: Vec<BmcHandle>,
}

/// Fifty servers that take a third of a second for every answer, half of them IPMI. Number 7 (Redfish) and 8 (IPMI) have
/// another password than their row, and nobody is where the rows of 9 and 10 say.
async fn rack() -> Rack {
    let mut csv = "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk,bmc_driver,bmc_port\n".to_owned();
    let (mut all, mut bmcs) = (Vec::new(), Vec::new());
    for number in 1..=RACK {
        let address = Ipv4Addr::new(127, 0, 1, number);
        let (kind, driver) = if number % 2 == 0 { (Kind::Ipmi, "ipmi") } else { (Kind::Redfish, "redfish") };
        let identity = Identity {
            name: format!("n{number}"),
            uuid: format!("00000000-0000-0000-0000-0000000000{number:02x}"),
            mac: format!("52:54:00:00:02:{number:02x}"),
            manufacturer: "Lab".to_owned(),
            model: "Simulated".to_owned(),
            serial: number.to_string(),
        };
        let mac = identity.mac.clone();
        let chassis = SimulatedChassis::new(identity, Duration::ZERO);
        let password = if matches!(number, 7 | 8) { "another" } else { PASSWORD };
        let account = Account::administrator("admin", password).unwrap();
        let behaviour = Behaviour { latency: Duration::from_millis(300), ..Behaviour::default() };
        let at = SocketAddr::new(IpAddr::V4(address), 0);
        let handle = bmc::start(kind, at, account, Arc::new(chassis.clone()), behaviour).await.unwrap();
        let port = handle.addr().port();
        let type_ = if number <= 3 { "cp" } else { "worker" };
        writeln!(
            csv,
            "n{number},{address},admin,{PASSWORD},{mac},10.10.50.{},24,10.10.50.1,1.1.1.1,type={type_},/dev/sda,{driver},{port}",
            number + 10
        )
        .unwrap();
        if matches!(number, 9 | 10) {
            handle.stop().await;
        } else {
            bmcs.push(handle);
        }
        all.push(chassis);
    }
    Rack { csv, chassis: all, _bmcs: bmcs }
}

/// A web server that has `/good.gz` and `/small.gz`, and is an hour late when it is told to.
async fn web(late: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = client.split();
                let mut lines = BufReader::new(read).lines();
                let first = lines.next_line().await.ok().flatten().unwrap_or_default();
                while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
                assert!(first.starts_with("HEAD "), "{first}");
                let (status, length) = match first.split(' ').nth(1) {
                    Some("/good-1-34.gz") => ("200 OK", 800 << 20),
                    Some("/small-1-34.gz") => ("200 OK", 300),
                    _ => ("404 Not Found", 9),
                };
                let now = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(i64::from(late));
                let date = jiff::fmt::rfc2822::to_string(&now.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                // A client may leave at any time.
                drop(write.write_all(answer.as_bytes()).await);
            });
        }
    });
    address
}

async fn seen(yaml: &str, csv: &str) -> Vec<Finding> {
    let inventory = machines(csv);
    let mut findings = Findings::default();
    let file = cluster::read("cluster.yaml", yaml, &mut findings).unwrap();
    probe::online(Subject { file: &file, inventory: Some(&inventory) }, &mut findings).await;
    findings.sorted()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_bmcs_are_asked_at_once_and_only_the_broken_ones_are_told() {
    let rack = rack().await;
    let image = format!("http://{}/good-1-34.gz", web(false).await);
    let yaml = CLUSTER.replace("https://images.example.com/ubuntu-v1.34.3-amd64.gz", &image);
    let begin = Instant::now();
    let found = seen(&yaml, &rack.csv).await;
    println!("{RACK} BMCs with 300 ms for every answer: {:.1} s", begin.elapsed().as_secs_f64());
    let of_csv: Vec<_> = found
        .iter()
        .filter(|one| one.place.file == "hardware.csv")
        .map(|one| (one.place.line, one.code, one.place.field.as_str()))
        .collect();
    assert_eq!(
        of_csv,
        [
            (8, "bmc-account", "bmc_username"),
            (9, "bmc-account", "bmc_username"),
            (10, "bmc-silent", "bmc_ip"),
            (11, "bmc-silent", "bmc_ip"),
        ],
        "{found:#?}"
    );
    assert!(found.iter().all(|one| !one.to_string().contains(PASSWORD)), "{found:#?}");
    assert!(!found.iter().any(|one| one.code.starts_with("url-") || one.code == "clock"), "{found:#?}");
    // Nothing was changed.
    for chassis in &rack.chassis {
        assert!(chassis.starts().is_empty());
        assert_eq!(chassis.power(), lab::chassis::PowerState::Off);
        assert_eq!(chassis.boot_override(), lab::chassis::BootOverride::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_missing_or_too_small_and_a_wrong_clock_are_told() {
    let address = web(true).await;
    let image = format!("http://{address}/small-1-34.gz");
    let yaml = CLUSTER.replace("https://images.example.com/ubuntu-v1.34.3-amd64.gz", &image).replace(
        "  osImageDigest:",
        &format!("  hookImagesURLPath: http://{address}/hook\n  osImageDigest:"),
    );
    let found = seen(
        &yaml,
        HARDWARE
            .split("eksa-cp02")
            .next()
            .unwrap()
            .replace("10.10.44.1,admin,\"Pr0v1s10n,\"\"1\"\"\"", ",,")
            .as_str(),
    )
    .await;
    let codes: Vec<_> = found
        .iter()
        .map(|one| (one.place.line, one.code))
        .filter(|(_, code)| *code != "address-not-checked")
        .collect();
    assert_eq!(codes, [(55, "url-size"), (56, "url-status"), (56, "url-status"), (0, "clock")], "{found:#?}");
    assert!(
        found.iter().any(|one| one.what.contains("/hook/vmlinuz-x86_64: the server answers HTTP 404")),
        "{found:#?}"
    );

    let nobody = CLUSTER
        .replace("https://images.example.com/ubuntu-v1.34.3-amd64.gz", "http://127.0.0.1:1/good-1-34.gz");
    let found = seen(&nobody, "hostname,mac,ip_address,netmask,gateway,nameservers,labels,disk\nn1,52:54:00:00:00:01,10.10.50.11,24,10.10.50.1,1.1.1.1,,/dev/sda\n").await;
    let unreachable: Vec<_> = found.iter().filter(|one| one.code == "url-unreachable").collect();
    assert_eq!(unreachable.len(), 1, "{found:#?}");
    assert!(unreachable[0].what.contains("127.0.0.1:1"), "{found:#?}");
}
