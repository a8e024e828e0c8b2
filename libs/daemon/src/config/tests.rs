// SPDX-License-Identifier: Apache-2.0

use std::net::Ipv4Addr;

use super::*;

const BOOTS: &[Setting] = &[
    Setting::new(
        "dhcp-mode",
        "dhcp-mode",
        Kind::Choice(&["reservation", "proxy", "auto-proxy"]),
        "how to answer DHCP",
    )
    .with_default("reservation"),
    Setting::new("http-port", "http-port", Kind::Port, "port of HTTP").with_default("7171"),
    Setting::new("public-ipv4", "public-ipv4", Kind::Ip, "address that machines reach us at"),
    Setting::new("tftp-enabled", "tftp-server-enabled", Kind::Bool, "serve TFTP").with_default("true"),
    Setting::new("tftp-timeout", "tftp-timeout", Kind::Duration, "time to wait for an ACK")
        .with_default("10s"),
    Setting::new(
        "extra-kernel-args",
        "ipxe-http-script-extra-kernel-args",
        Kind::List("kernel arguments"),
        "appended",
    ),
    Setting::new("kernel-name", "ipxe-http-script-kernel-name", Kind::Text, "file name of the kernel"),
];
const HEGEL: &[Setting] = &[
    Setting::new("http-port", "tootles-http-port", Kind::Port, "port of HTTP").with_default("7172"),
    Setting::new("trusted-proxies", "trusted-proxies", Kind::Csv("networks"), "who may set X-Forwarded-For"),
    Setting::new("public-ipv4", "public-ipv4", Kind::Ip, "address that machines reach us at"),
    Setting::new("token-file", "tootles-token-file", Kind::SecretFile, "token"),
];
const TABLES: &[Table] = &[Table::new("boots", BOOTS), Table::new("hegel", HEGEL)];

fn inputs(file: &str, env: &[(&str, &str)], args: &[&str]) -> Inputs {
    Inputs {
        file: Some(("tink.yaml".to_owned(), file.to_owned())),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        mistakes: Vec::new(),
    }
}

fn told(errors: &ConfigErrors) -> Vec<String> {
    errors.mistakes().iter().map(ToString::to_string).collect()
}

#[test]
fn flag_wins_over_environment_over_section_over_global_over_default() {
    let file = "boots:\n  http-port: 2\nglobal:\n  http-port: 1\n  public-ipv4: 10.0.0.1\n";
    let env = [("TINKERBELL_HTTP_PORT", "3")];
    let port = |inputs| {
        let mut settings = Layers::read(TABLES, inputs, true).settings("boots");
        let port = settings.get::<u16>("http-port");
        settings.finish().unwrap();
        port
    };
    assert_eq!(port(inputs(file, &env, &["--http-port=4"])), Some(4));
    assert_eq!(port(inputs(file, &env, &["--http-port", "5"])), Some(5));
    assert_eq!(port(inputs(file, &env, &[])), Some(3));
    assert_eq!(port(inputs(file, &[], &[])), Some(2));
    assert_eq!(port(inputs("global:\n  http-port: 1\n", &[], &[])), Some(1));
    assert_eq!(port(inputs("", &[], &[])), Some(7171));
}

#[test]
fn a_global_value_reaches_every_daemon_that_has_the_flag() {
    let layers = Layers::read(TABLES, inputs("global:\n  public-ipv4: 10.0.0.1\n", &[], &[]), true);
    for daemon in ["boots", "hegel"] {
        let mut settings = layers.settings(daemon);
        assert_eq!(settings.get::<Ipv4Addr>("public-ipv4"), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }
    assert_eq!(layers.settings("hegel").get::<u16>("http-port"), Some(7172), "another flag of the same key");
}

#[test]
fn every_mistake_of_every_section_is_told_at_once_with_its_place() {
    let file = "boots:\n  dhcp-mode: reservations\n  http-prot: 80\n  tftp-timeout: soon\n  extra-kernel-args: {a: b}\n\
                hegel:\n  http-port: 70000\n  trusted-proxies: [10.0.0.1, nonsense]\nbots:\n  a: 1\n";
    let env = [("TINKERBELL_PUBLIC_IPV4", "10.0.0.300"), ("TINKERBELL_HTTPS_PORT", "1"), ("HOME", "/")];
    let layers = Layers::read(
        TABLES,
        inputs(file, &env, &["--dhcp-mod=x", "proxy", "--tftp-server-enabled=maybe"]),
        true,
    );
    let mut boots = layers.settings("boots");
    let mut hegel = layers.settings("hegel");
    boots.text("dhcp-mode");
    boots.duration("tftp-timeout");
    boots.list::<String>("extra-kernel-args");
    boots.bool("tftp-enabled");
    boots.get::<Ipv4Addr>("public-ipv4");
    boots.require::<String>("kernel-name");
    hegel.get::<u16>("http-port");
    hegel.list::<Ipv4Addr>("trusted-proxies");
    let errors = layers.finish([boots, hegel]).unwrap_err();
    assert_eq!(
        told(&errors),
        [
            "--dhcp-mod: dhcp-mod is not a flag of this program; did you mean --dhcp-mode?",
            "--tftp-server-enabled: boots.tftp-enabled: \"maybe\" is not valid; expected true or false",
            "command line: proxy is not a flag; expected --name=value or --name value",
            "TINKERBELL_PUBLIC_IPV4: boots.public-ipv4: \"10.0.0.300\" is not valid; expected an IP address such as 172.31.0.1",
            "tink.yaml:2: boots.dhcp-mode: \"reservations\" is not valid; expected one of reservation, proxy, auto-proxy",
            "tink.yaml:3: boots.http-prot is not a setting; did you mean `http-port`?",
            "tink.yaml:4: boots.tftp-timeout: \"soon\" is not valid; expected a duration such as 90s, 1m30s or 250ms",
            "tink.yaml:5: boots.extra-kernel-args has the wrong shape; expected a list of kernel arguments",
            "tink.yaml:7: hegel.http-port: \"70000\" is not valid; expected a port number from 0 to 65535",
            "tink.yaml:8: hegel.trusted-proxies: \"nonsense\" is not valid; expected a comma-separated list of networks",
            "tink.yaml:9: bots is not a section; did you mean `boots`?",
            "not set: boots.kernel-name must be set",
        ]
    );
}

#[test]
fn a_lone_daemon_leaves_other_sections_and_variables_alone() {
    let file = "rufio:\n  anything: goes\nglobal:\n  power-check-interval: 1m\nboots:\n  http-port: 1\n";
    let env = [("TINKERBELL_HTTPS_PORT", "1"), ("TINKERBELL_ENABLE_UI", "true")];
    let layers = Layers::read(&[Table::new("boots", BOOTS)], inputs(file, &env, &[]), false);
    let settings = layers.settings("boots");
    let warnings = layers.finish([settings]).unwrap();
    let expected =
        "environment variable TINKERBELL_HTTPS_PORT is not a setting; did you mean `TINKERBELL_HTTP_PORT`?";
    assert_eq!(warnings, [expected]);
}

#[test]
fn scalars_stay_as_they_are_written_and_lists_come_in_every_form() {
    let file = "boots:\n  kernel-name: 1.10\n  extra-kernel-args: [console=ttyS0, 0x10, 'a b']\n\
                hegel:\n  trusted-proxies: 10.0.0.1, 10.0.0.2\n";
    let layers = Layers::read(TABLES, inputs(file, &[], &[]), true);
    assert_eq!(layers.settings("boots").text("kernel-name"), "1.10");
    assert_eq!(
        layers.settings("boots").list::<String>("extra-kernel-args"),
        ["console=ttyS0", "0x10", "a b"]
    );
    assert_eq!(layers.settings("hegel").list::<String>("trusted-proxies"), ["10.0.0.1", "10.0.0.2"]);

    let flags = ["--ipxe-http-script-extra-kernel-args=a,b", "--ipxe-http-script-extra-kernel-args", "c"];
    let layers = Layers::read(TABLES, inputs(file, &[], &flags), true);
    assert_eq!(
        layers.settings("boots").list::<String>("extra-kernel-args"),
        ["a,b", "c"],
        "a repeatable flag is not split"
    );
}

#[test]
fn an_empty_value_unsets_and_a_switch_needs_no_value() {
    let file = "boots:\n  public-ipv4: 10.0.0.1\n  tftp-enabled: false\n";
    let layers = Layers::read(TABLES, inputs(file, &[], &["--public-ipv4=", "--tftp-server-enabled"]), true);
    let mut boots = layers.settings("boots");
    assert_eq!(boots.get::<Ipv4Addr>("public-ipv4"), None);
    assert!(boots.bool("tftp-enabled"));
    boots.finish().unwrap();
}

#[test]
fn broken_yaml_names_the_line() {
    let texts =
        [("boots:\n  a: [1\n", 0), ("boots:\n  a: 1\n  a: 2\n", 3), ("boots: 7\n", 1), ("- boots\n", 0)];
    for (text, line) in texts {
        let mut settings = Settings::load("boots", BOOTS, inputs(text, &[], &[]));
        settings.get::<u16>("http-port");
        let errors = settings.finish().unwrap_err();
        let [mistake] = errors.mistakes() else { panic!("{errors}") };
        let Source::File { name, line: told } = &mistake.source else { panic!("{errors}") };
        assert_eq!(name, "tink.yaml");
        assert!(line == 0 || line == *told, "{errors}");
    }
}

#[test]
fn a_mistake_is_told_with_the_line_of_its_key_wherever_the_value_begins() {
    let file = "boost:\n  # not there\n  http-port: 1\nboots:\n  http-port:\n    - 1\n    - 2\n  dhcp-mode:\n    any\n";
    let layers = Layers::read(TABLES, inputs(file, &[], &[]), true);
    let mut boots = layers.settings("boots");
    boots.get::<u16>("http-port");
    boots.text("dhcp-mode");
    let errors = layers.finish([boots]).unwrap_err();
    let mut lines: Vec<_> = errors
        .mistakes()
        .iter()
        .map(|mistake| match &mistake.source {
            Source::File { line, .. } => *line,
            other => panic!("{other:?}"),
        })
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 5, 8], "{errors}");
}

#[test]
fn an_unreadable_file_is_one_of_the_mistakes() {
    let args = ["--config", "/nonexistent/tink.yaml", "--http-port=x"];
    let inputs = Inputs::gather(args.map(str::to_owned), []);
    let layers = Layers::read(TABLES, inputs, true);
    let mut boots = layers.settings("boots");
    boots.get::<u16>("http-port");
    let errors = told(&layers.finish([boots]).unwrap_err());
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].starts_with("--config: config: \"/nonexistent/tink.yaml\" cannot be read: "),
        "{errors:?}"
    );
}

#[test]
fn a_key_that_is_not_declared_is_reported() {
    let mut settings = Settings::load("boots", BOOTS, inputs("", &[], &[]));
    settings.text("no-such-key");
    assert!(settings.finish().is_err());
    let mut settings = Settings::load("hegel", HEGEL, inputs("", &[], &[]));
    settings.text("token-file");
    assert_eq!(settings.unread(), ["http-port", "trusted-proxies", "public-ipv4"]);
}

#[test]
fn a_secret_comes_from_a_file_and_is_in_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "hunter2\n").unwrap();
    let file = format!("hegel:\n  token-file: {}\n", path.display());
    let mut settings = Settings::load("hegel", HEGEL, inputs(&file, &[], &[]));
    assert_eq!(settings.secret_file("token-file").unwrap().expose(), "hunter2");
    settings.finish().unwrap();

    std::fs::write(&path, "\n").unwrap();
    let mut settings = Settings::load("hegel", HEGEL, inputs(&file, &[], &[]));
    assert!(settings.secret_file("token-file").is_none());
    assert!(settings.finish().unwrap_err().to_string().contains("names a file that is empty"));
}

#[test]
fn the_sample_loads_as_it_is_and_uncommented_and_changes_nothing() {
    let sample = sample(TABLES);
    let uncommented: String = sample
        .lines()
        .map(|line| match line.trim_start().strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("  {setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    for text in [&sample, &uncommented] {
        let layers = Layers::read(TABLES, inputs(text, &[], &[]), true);
        for table in TABLES {
            let mut settings = layers.settings(table.daemon);
            for setting in table.settings {
                let expected = setting.default.unwrap_or_default();
                if !setting.kind.is_list() {
                    assert_eq!(settings.text(setting.key), expected, "{}.{}", table.daemon, setting.key);
                }
            }
            settings.finish().unwrap();
        }
        assert_eq!(layers.finish([]).unwrap(), Vec::<String>::new());
    }
    assert!(uncommented.contains("  dhcp-mode: reservation\n"));
}

#[test]
fn the_sample_of_a_daemon_with_many_settings_loads_as_it_is() {
    const ONE: Setting = Setting::new("name", "name", Kind::Text, "a name").with_default("x");
    const MANY: &[Setting] = &[ONE; 100];
    let tables = &[Table::new("many", MANY)];
    let sample = sample(tables);
    assert!(sample.lines().filter(|line| line.starts_with("  #")).count() > 200, "{sample}");
    let layers = Layers::read(tables, inputs(&sample, &[], &[]), true);
    let mut settings = layers.settings("many");
    assert_eq!(settings.text("name"), "x");
    assert_eq!(layers.finish([settings]).unwrap(), Vec::<String>::new());
}

#[test]
fn durations_as_go_writes_them() {
    let cases = [
        ("90", Some(90_000)),
        ("1m30s", Some(90_000)),
        ("250ms", Some(250)),
        ("1.5h", Some(5_400_000)),
        ("0", Some(0)),
        ("", None),
        ("s", None),
        ("10", Some(10_000)),
        ("10 s", None),
        ("-1s", None),
        ("1d", None),
        ("1e400s", None),
    ];
    for (text, millis) in cases {
        assert_eq!(parse_duration(text).map(|duration| duration.as_millis()), millis, "{text}");
    }
}
