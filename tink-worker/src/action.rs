// SPDX-License-Identifier: Apache-2.0
//! One action as the agent understands it, parsed from what the server sent, and which built-in it means. Pure.
//!
//! An action names a container image; what the image would do is built in. It is recognised by the last element of the
//! image's path under `actions/` or `embedded/`, whatever registry, tag or digest stands around it.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::workflow::ActionResponse;
use serde::{Deserialize, Serialize};

use crate::config::parse_bool;
use crate::power::{self, PowerPlan};

/// Images whose entry point is a shell or nothing, so that the command alone says what happens.
const SHELL_IMAGES: [&str; 5] = ["alpine", "busybox", "bash", "debian", "ubuntu"];

/// Seconds that waitdaemon waits unless told otherwise.
const WAITDAEMON_DEFAULT_WAIT: u64 = 10;

/// Longest wait that waitdaemon accepts.
const WAITDAEMON_LONGEST_WAIT: u64 = 3600;

/// What identifies an action to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// `namespace/name`.
    pub(crate) workflow: String,
    pub(crate) task: String,
    pub(crate) action: String,
}

/// An action to carry out. Not printable: its environment may hold secrets.
#[derive(Clone)]
pub(crate) struct Action {
    pub(crate) key: Key,
    pub(crate) name: String,
    pub(crate) image: String,
    /// `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Environment,
}

/// The variables of an action: raw text, no conversion.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

/// Why the server's answer is not an action for this agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForUs {
    #[error("the server sent an action without {0}")]
    Incomplete(&'static str),
    #[error("the server sent an action of another agent")]
    OtherAgent,
}

/// Why an action cannot be carried out as it is written. Permanent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("variable {0} is required")]
    Missing(&'static str),
    #[error("variable {name}: {problem}")]
    Variable { name: &'static str, problem: String },
    #[error(
        "image `{0}` is not built into this agent, and actions in containers are not supported yet; built in are \
         image2disk, writefile, reboot, poweroff and waitdaemon"
    )]
    Unsupported(String),
    #[error(
        "waitdaemon: image `{0}` with this command is not a reboot or poweroff, the only things it can run yet"
    )]
    UnsupportedDaemon(String),
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Builtin {
    Image2Disk,
    WriteFile,
    Power(PowerPlan),
}

impl Action {
    /// Takes the server's answer for the agent with this identity.
    pub(crate) fn parse(response: ActionResponse, agent_id: &str) -> Result<Self, NotForUs> {
        let required = |value: Option<String>, what| {
            value.filter(|value| !value.is_empty()).ok_or(NotForUs::Incomplete(what))
        };
        if response.agent_id.as_deref().is_some_and(|id| !id.is_empty() && id != agent_id) {
            return Err(NotForUs::OtherAgent);
        }
        let timeout = response.timeout.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        Ok(Self {
            key: Key {
                workflow: required(response.workflow_id, "a workflow")?,
                task: required(response.task_id, "a task")?,
                action: required(response.action_id, "an identity")?,
            },
            name: response.name.unwrap_or_default(),
            image: response.image.unwrap_or_default(),
            timeout: (timeout > 0).then(|| Duration::from_secs(timeout)),
            command: response.command,
            environment: Environment::parse(&response.environment),
        })
    }

    /// Which built-in it is.
    pub(crate) fn recognise(&self) -> Result<Builtin, Invalid> {
        let image = ImageName::parse(&self.image);
        if image.name == "waitdaemon" {
            return self.waitdaemon();
        }
        match (image.is_action, image.name) {
            (true, "image2disk") => Ok(Builtin::Image2Disk),
            (true, "writefile") => Ok(Builtin::WriteFile),
            _ => match power_of(&image, &self.command) {
                Some(plan) => Ok(Builtin::Power(plan)),
                None => Err(Invalid::Unsupported(self.image.clone())),
            },
        }
    }

    /// "Report success, wait, then run IMAGE": here IMAGE must be something that reboots or powers off.
    fn waitdaemon(&self) -> Result<Builtin, Invalid> {
        let image = self.environment.required("IMAGE")?;
        let wait = match self.environment.get("WAIT_SECONDS") {
            None => WAITDAEMON_DEFAULT_WAIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|seconds| *seconds <= WAITDAEMON_LONGEST_WAIT)
                .ok_or_else(|| Invalid::variable("WAIT_SECONDS", format!("`{text}` is not 0 to 3600")))?,
        };
        let mut plan = power_of(&ImageName::parse(image), &self.command)
            .ok_or_else(|| Invalid::UnsupportedDaemon(image.to_owned()))?;
        plan.delay_seconds = plan.delay_seconds.saturating_add(wait);
        Ok(Builtin::Power(plan))
    }
}

fn power_of(image: &ImageName<'_>, command: &[String]) -> Option<PowerPlan> {
    match (image.is_action, image.name) {
        (true, "reboot") => Some(PowerPlan::now(power::Change::Reboot)),
        (true, "poweroff") => Some(PowerPlan::now(power::Change::PowerOff)),
        (_, name) if SHELL_IMAGES.contains(&name) => power::plan_of_command(command),
        _ => None,
    }
}

/// The parts of a container image reference that matter here.
struct ImageName<'a> {
    name: &'a str,
    /// Whether the path element before the name says that this is an action.
    is_action: bool,
}

impl<'a> ImageName<'a> {
    fn parse(reference: &'a str) -> Self {
        let without_digest = reference.split('@').next().unwrap_or_default();
        let (directory, file) = without_digest.rsplit_once('/').unwrap_or(("", without_digest));
        let name = file.split(':').next().unwrap_or_default();
        let parent = directory.rsplit('/').next().unwrap_or_default();
        Self { name, is_action: matches!(parent, "actions" | "embedded") }
    }
}

impl Environment {
    fn parse(variables: &[String]) -> Self {
        let pairs = variables.iter().map(|variable| match variable.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (variable.clone(), String::new()),
        });
        Self(pairs.collect())
    }

    /// The variable's text; an empty one counts as not given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn required(&self, name: &'static str) -> Result<&str, Invalid> {
        self.get(name).ok_or(Invalid::Missing(name))
    }

    /// A boolean by Go's parser; what it cannot parse is false, as for the actions of the contract.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.get(name).and_then(parse_bool).unwrap_or(false)
    }
}

impl Invalid {
    pub(crate) fn variable(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Variable { name, problem: problem.into() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::power::Change;

    pub(crate) fn action(image: &str, command: &[&str], environment: &[&str]) -> Action {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let response = ActionResponse {
            workflow_id: Some("ns/w".to_owned()),
            task_id: Some("t".to_owned()),
            action_id: Some("a".to_owned()),
            agent_id: Some("agent".to_owned()),
            image: Some(image.to_owned()),
            timeout: Some(0),
            command: owned(command),
            environment: owned(environment),
            ..ActionResponse::default()
        };
        Action::parse(response, "agent").unwrap()
    }

    fn power(change: Change, delay_seconds: u64) -> Result<Builtin, Invalid> {
        Ok(Builtin::Power(PowerPlan { change, delay_seconds }))
    }

    #[test]
    fn images_are_recognised_whatever_stands_around_the_name() {
        for image in [
            "quay.io/tinkerbell/actions/image2disk:latest",
            "quay.io/tinkerbell/actions/image2disk@sha256:00",
            "mirror:5000/a/b/actions/image2disk:v1@sha256:00",
            "127.0.0.1/embedded/image2disk",
            "actions/image2disk",
        ] {
            assert_eq!(action(image, &[], &[]).recognise(), Ok(Builtin::Image2Disk), "{image}");
        }
        let writefile = action("quay.io/tinkerbell/actions/writefile:1", &[], &[]);
        assert_eq!(writefile.recognise(), Ok(Builtin::WriteFile));
        assert_eq!(action("127.0.0.1/embedded/reboot", &[], &[]).recognise(), power(Change::Reboot, 0));
        for image in
            ["image2disk", "quay.io/evil/image2disk", "actions/kexec", "", "docker.io/library/nginx:1"]
        {
            let refused = action(image, &[], &[]).recognise();
            assert_eq!(refused, Err(Invalid::Unsupported(image.to_owned())), "{image}");
        }
    }

    #[test]
    fn waitdaemon_and_shell_one_liners_become_power_plans() {
        let waitdaemon = "ghcr.io/jacobweinstock/waitdaemon:latest";
        let run =
            |command: &[&str], environment: &[&str]| action(waitdaemon, command, environment).recognise();
        assert_eq!(run(&["reboot"], &["IMAGE=alpine"]), power(Change::Reboot, 10));
        assert_eq!(run(&["poweroff"], &["IMAGE=alpine:3.20", "WAIT_SECONDS=0"]), power(Change::PowerOff, 0));
        assert_eq!(
            run(
                &["sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger"],
                &["IMAGE=busybox"]
            ),
            power(Change::Reboot, 10)
        );
        assert_eq!(
            run(&[], &["IMAGE=quay.io/t/actions/reboot:v1", "WAIT_SECONDS=3"]),
            power(Change::Reboot, 3)
        );
        assert_eq!(run(&["reboot"], &[]), Err(Invalid::Missing("IMAGE")));
        assert!(matches!(run(&["rm"], &["IMAGE=alpine"]), Err(Invalid::UnsupportedDaemon(_))));
        assert!(matches!(
            run(&[], &["IMAGE=quay.io/tinkerbell/actions/kexec"]),
            Err(Invalid::UnsupportedDaemon(_))
        ));
        assert!(matches!(
            run(&["reboot"], &["IMAGE=alpine", "WAIT_SECONDS=x"]),
            Err(Invalid::Variable { .. })
        ));
        assert_eq!(action("alpine", &["/sbin/reboot", "-f"], &[]).recognise(), power(Change::Reboot, 0));
        assert!(action("nginx", &["reboot"], &[]).recognise().is_err());
    }

    #[test]
    fn environment_keeps_raw_text() {
        let action =
            action("x", &[], &["MODE=0600", "CONTENTS=a=b\n", "EMPTY=", "COMPRESSED=True", "ODD=yes"]);
        let environment = &action.environment;
        assert_eq!(environment.get("MODE"), Some("0600"));
        assert_eq!(environment.get("CONTENTS"), Some("a=b\n"));
        assert_eq!(environment.required("EMPTY"), Err(Invalid::Missing("EMPTY")));
        assert!(environment.switch("COMPRESSED"));
        assert!(!environment.switch("ODD"));
    }

    #[test]
    fn answers_that_are_not_for_this_agent_are_refused() {
        let whole = ActionResponse {
            workflow_id: Some("ns/w".to_owned()),
            task_id: Some("t".to_owned()),
            action_id: Some("a".to_owned()),
            agent_id: Some("other".to_owned()),
            ..ActionResponse::default()
        };
        assert_eq!(Action::parse(whole.clone(), "agent").err(), Some(NotForUs::OtherAgent));
        let nameless = ActionResponse { agent_id: None, action_id: None, ..whole };
        assert_eq!(Action::parse(nameless, "agent").err(), Some(NotForUs::Incomplete("an identity")));
    }
}
