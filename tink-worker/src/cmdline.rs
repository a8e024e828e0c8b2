// SPDX-License-Identifier: Apache-2.0
//! The kernel command line, as boot scripts of this stack and of others write it. Pure; tolerant of everything, since
//! most of what stands there is for the kernel.

use std::collections::BTreeMap;

/// Arguments by name; of a name that is given twice the last counts, as for the kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandLine(BTreeMap<String, String>);

impl CommandLine {
    /// Parses the text of `/proc/cmdline`. A double quote hides spaces, as in the kernel's own parser; a word without
    /// `=` has an empty value.
    pub(crate) fn parse(text: &str) -> Self {
        let mut quoted = false;
        let words = text.split(|c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        });
        let arguments = words
            .map(|word| word.replace('"', ""))
            .filter(|word| !word.is_empty())
            .map(|word| match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (word, String::new()),
            })
            .collect();
        Self(arguments)
    }

    /// The argument's value; `None` when it is absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_a_netboot_are_found_among_the_kernels_own() {
        let line = CommandLine::parse(
            "initrd=initramfs facility=onprem syslog_host=10.0.0.1 grpc_authority=10.0.0.1:42113 tinkerbell_tls=false \
             worker_id=52:54:00:00:00:11 hw_addr=52:54:00:00:00:11 modules=loop,squashfs console=tty0 \
             console=ttyS1,115200 quiet a=\"b c=d\" tink_agent_token=AA-_= =odd =\n",
        );
        assert_eq!(line.get("grpc_authority"), Some("10.0.0.1:42113"));
        assert_eq!(line.get("worker_id"), Some("52:54:00:00:00:11"));
        assert_eq!(line.get("console"), Some("ttyS1,115200"));
        assert_eq!(line.get("a"), Some("b c=d"));
        assert_eq!(line.get("tink_agent_token"), Some("AA-_="));
        assert_eq!(line.get("quiet"), None);
        assert_eq!(line.get("absent"), None);
    }

    #[test]
    fn any_text_is_accepted() {
        for text in ["", " ", "\"", "===", "a=\"", "\u{0}x=\u{7f}"] {
            assert_eq!(CommandLine::parse(text).get("worker_id"), None);
        }
    }
}
