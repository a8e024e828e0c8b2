// SPDX-License-Identifier: Apache-2.0

use super::*;

fn settings(proxy: Option<&ProxyConfiguration>) -> Settings<'_> {
    Settings {
        cluster: "rack",
        image_url: "https://images.example.com/ubuntu-1-34.gz",
        image_digest: None,
        metadata_hosts: &["10.10.50.9", "10.10.50.3"],
        proxy,
    }
}

fn names(template: &WorkflowTemplate) -> Vec<&str> {
    template.tasks[0].actions.iter().map(|action| action.name.as_str()).collect()
}

#[test]
fn each_family_has_its_actions_partition_and_network_file() {
    let ubuntu = built_in(OsFamily::Ubuntu, &settings(None));
    assert_eq!(
        names(&ubuntu),
        [
            "stream image to disk",
            "write netplan config",
            "disable cloud-init network capabilities",
            "add cloud-init config",
            "add cloud-init ds config",
            "reboot",
        ]
    );
    let redhat = built_in(OsFamily::Redhat, &settings(None));
    assert_eq!(names(&redhat)[1], "write network manager config");
    let action = |template: &WorkflowTemplate, number: usize| template.tasks[0].actions[number].clone();
    assert!(action(&ubuntu, 1).environment["DEST_DISK"].ends_with(" 2 }}"));
    assert!(action(&redhat, 1).environment["DEST_DISK"].ends_with(" 1 }}"));
    assert_eq!(action(&redhat, 1).environment["MODE"], "0600");
    let urls = |template: &WorkflowTemplate| action(template, 3).environment["CONTENTS"].clone();
    assert!(urls(&ubuntu).contains("metadata_urls: [http://10.10.50.9:7172,http://10.10.50.3:7172]"));
    assert!(urls(&redhat).contains("metadata_urls: [\"http://10.10.50.9:7172\",\"http://10.10.50.3:7172\"]"));
    let timeouts: Vec<_> = ubuntu.tasks[0].actions.iter().map(|action| action.timeout).collect();
    assert_eq!((ubuntu.global_timeout, timeouts), (6000, vec![600, 90, 90, 90, 90, 90]));
}

#[test]
fn the_image_is_reached_through_the_proxy_and_the_stack_without_it() {
    let proxy = ProxyConfiguration {
        http_proxy: Some("10.0.0.1:3128".to_owned()),
        https_proxy: Some("10.0.0.1:3129".to_owned()),
        no_proxy: vec!["10.10.0.0/16".to_owned()],
    };
    let digest = Settings { image_digest: Some("sha256:ab"), ..settings(Some(&proxy)) };
    let stream = built_in(OsFamily::Ubuntu, &digest).tasks.remove(0).actions.remove(0);
    assert_eq!(stream.environment["NO_PROXY"], "10.10.0.0/16,10.10.50.9,10.10.50.3");
    assert_eq!(stream.environment["HTTPS_PROXY"], "10.0.0.1:3129");
    assert_eq!(stream.environment["IMG_DIGEST"], "sha256:ab");
}

#[test]
fn any_text_is_the_same_after_it_was_written_as_yaml() {
    let texts = [
        "",
        "\n",
        "\n\n",
        "0644",
        "true",
        "a\nb",
        "a\nb\n",
        "a\n\n",
        "  first is indented\nx",
        "\n\nlate",
        "it's \"quoted\": - # {x}",
        "\u{e4}",
    ];
    for text in texts {
        let action = TemplateAction {
            name: "a".to_owned(),
            image: "i".to_owned(),
            command: vec![text.to_owned(), "x".to_owned()],
            environment: BTreeMap::from([("K".to_owned(), text.to_owned())]),
            ..TemplateAction::default()
        };
        let task = TemplateTask {
            name: "t".to_owned(),
            worker: "w".to_owned(),
            actions: vec![action],
            ..TemplateTask::default()
        };
        let template = WorkflowTemplate {
            version: "0.1".to_owned(),
            name: text.to_owned(),
            tasks: vec![task],
            ..WorkflowTemplate::default()
        };
        let yaml = to_yaml(&template);
        let back: WorkflowTemplate =
            serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        assert_eq!(back, template, "{yaml}");
    }
}
