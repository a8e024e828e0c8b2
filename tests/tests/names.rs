// SPDX-License-Identifier: Apache-2.0
//! Daemons name an Event when they write it, readers compute the name to find it: two functions, since the library that
//! writes knows no machines, and one rule.

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
    (prop::sample::select(api::events::Reason::ALL.to_vec()), "[0-9A-Za-z_-]{0,36}").prop_map(
        |(reason, action)| {
            if action.is_empty() { reason.phase().to_owned() } else { reason.action_phase(&action) }
        },
    )
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn writers_and_readers_of_events_agree_on_a_valid_name(hardware in part(), phase in part(), boot: Option<u64>) {
        let name = daemon::events::event_name(&hardware, &phase, boot);
        prop_assert_eq!(&name, &api::events::event_name(&hardware, &phase, boot));
        prop_assert!(is_name(&name), "{}", name);
        prop_assert!(name.ends_with(&boot.unwrap_or_default().to_string()), "{}", name);
    }

    #[test]
    fn a_usual_name_is_its_three_parts(hardware in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", phase in "[a-z]+(-[a-z]+)?", boot: u64) {
        let name = daemon::events::event_name(&hardware, &phase, Some(boot));
        prop_assert_eq!(name, format!("{hardware}.{phase}.{boot}"));
    }
}
