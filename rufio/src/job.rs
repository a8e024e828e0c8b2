// SPDX-License-Identifier: Apache-2.0

//! What to do next for a Job: pure. One Task at a time, in order, until one fails or all are done.

use std::time::Duration;

/// How long a Job waits for what should appear by itself: its Machine, or the end of a Task left over by an older Job of
/// its name.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Longest value of a label (Kubernetes).
const MAX_LABEL: usize = 63;

/// One of the Job's Tasks as the API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Its place in the Job, from its name.
    pub index: usize,
    /// How far it is.
    pub phase: TaskPhase,
}

/// How far a Task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskPhase {
    /// Neither completed nor failed.
    Open,
    /// Completed.
    Completed,
    /// Failed, with the reason.
    Failed(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the Task with this index.
    Create(usize),
    /// Wait for the Task with this index.
    Await(usize),
    /// Everything is done.
    Complete,
    /// A Task failed.
    Fail(String),
}

/// The next step for a Job of `total` actions.
///
/// The next Task follows the highest that exists, so that a finished Task which somebody deleted is not carried out again.
#[must_use]
pub fn next(total: usize, tasks: &[TaskView]) -> Step {
    let failed = tasks.iter().find_map(|task| match &task.phase {
        TaskPhase::Failed(reason) => Some((task.index, reason)),
        TaskPhase::Open | TaskPhase::Completed => None,
    });
    if let Some((index, reason)) = failed {
        return Step::Fail(format!("task {index} failed: {reason}"));
    }
    if let Some(open) = tasks.iter().filter(|task| task.phase == TaskPhase::Open).map(|task| task.index).min()
    {
        return Step::Await(open);
    }
    let next = tasks.iter().map(|task| task.index + 1).max().unwrap_or(0);
    if next >= total { Step::Complete } else { Step::Create(next) }
}

/// The name of a Job's Task.
#[must_use]
pub fn task_name(job: &str, index: usize) -> String {
    format!("{job}-task-{index}")
}

/// The place of a Task in its Job; `None` for a name that is not of this Job.
#[must_use]
pub fn task_index(job: &str, task: &str) -> Option<usize> {
    task.strip_prefix(job)?.strip_prefix("-task-")?.parse().ok()
}

/// The Job's name as the value of the owner label, if it can be one.
#[must_use]
pub fn owner_label(job: &str) -> Option<&str> {
    (job.len() <= MAX_LABEL).then_some(job)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Step, TaskPhase, TaskView, next, task_index, task_name};

    proptest! {
        /// Tasks that end in random order of events, and may be deleted once completed, are each made exactly once, in order.
        #[test]
        fn every_action_is_carried_out_once_and_in_order(
            total in 1_usize..6, fails_at in prop::option::of(0_usize..6), deleted in prop::collection::vec(any::<bool>(), 6),
        ) {
            let mut tasks: Vec<TaskView> = Vec::new();
            let mut made = Vec::new();
            for _ in 0..50 {
                match next(total, &tasks) {
                    Step::Create(index) => {
                        made.push(index);
                        tasks.push(TaskView { index, phase: TaskPhase::Open });
                    }
                    Step::Await(index) => {
                        let failed = fails_at == Some(index);
                        let phase = if failed { TaskPhase::Failed("no".into()) } else { TaskPhase::Completed };
                        for task in tasks.iter_mut().filter(|task| task.index == index) {
                            task.phase = phase.clone();
                        }
                        // Older completed Tasks may be cleaned away by people.
                        tasks.retain(|task| task.index == index || !deleted[task.index]);
                    }
                    Step::Complete => {
                        prop_assert_eq!(&made, &(0..total).collect::<Vec<_>>());
                        prop_assert!(fails_at.is_none_or(|index| index >= total));
                        return Ok(());
                    }
                    Step::Fail(reason) => {
                        prop_assert_eq!(made.last().copied(), fails_at);
                        prop_assert!(reason.contains("no"));
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "no end");
        }
    }

    #[test]
    fn names_and_places_belong_together() {
        assert_eq!(task_index("netboot-x", &task_name("netboot-x", 12)), Some(12));
        assert_eq!(task_index("netboot", "netboot-x-task-0"), None);
        assert_eq!(task_index("netboot", "netboot-task-0-task-1"), None);
    }
}
