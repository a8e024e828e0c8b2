// SPDX-License-Identifier: Apache-2.0
//! The names that daemons give to Events, for the words that `api` has for machines: the library that makes the names
//! knows none of them.

use api::events::Reason;
use daemon::events::event_name;
use proptest::prelude::*;

/// Object names as users have them, and anything else.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?",
        "[A-Za-z0-9._:-]{0,40}",
        "[a-z0-9.-]{200,300}",
        "\\PC{0,40}",
        api_phase(),
    ]
}

fn api_phase() -> impl Strategy<Value = String> {
    (prop::sample::select(Reason::ALL.to_vec()), "[0-9A-Za-z_-]{0,36}").prop_map(|(reason, action)| {
        if action.is_empty() { reason.phase().to_owned() } else { reason.action_phase(&action) }
    })
}

/// RFC 1123 subdomain, as the API server checks names.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[test]
fn names_are_the_same_for_the_same_thing_and_valid_for_anything() {
    assert_eq!(event_name("m1", "dhcp-offered", Some(1_700_000_000)), "m1.dhcp-offered.1700000000");
    assert_eq!(event_name("m1", Reason::PoweredOn.phase(), None), "m1.powered-on.0");
    let phase = Reason::ActionStarted.action_phase("01JC_X");
    assert_eq!(event_name("m1", &phase, Some(7)), "m1.action-started.01jc-x.7");
    assert_eq!(event_name("-M1-", ".x-._y.", None), "m1.x.y.0");
    assert_eq!(event_name("é", "", None), "0");
    let long = event_name(&"a.".repeat(200), "dhcp-offered", Some(1));
    assert!(long.len() <= 253 && long.ends_with("a.dhcp-offered.1"), "{long}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn an_event_has_a_valid_name_whatever_it_is_about(hardware in part(), phase in part(), boot: Option<u64>) {
        let name = event_name(&hardware, &phase, boot);
        prop_assert!(is_name(&name), "{}", name);
        prop_assert!(name.ends_with(&boot.unwrap_or_default().to_string()), "{}", name);
    }

    #[test]
    fn a_usual_name_is_its_three_parts(hardware in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", phase in "[a-z]+(-[a-z]+)?", boot: u64) {
        let name = event_name(&hardware, &phase, Some(boot));
        prop_assert_eq!(name, format!("{hardware}.{phase}.{boot}"));
    }
}
