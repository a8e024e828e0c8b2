// SPDX-License-Identifier: Apache-2.0
//! `./x demo --cluster` as somebody who watches sees it: each command with what comes of it, an end that says so, and nothing left.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;

/// Commands in the order in which they are typed.
const TYPED: [&str; 13] = [
    "$ tink cluster generate rack | tee rack.yaml",
    "$ tink cluster check -f rack.yaml -z hardware.csv",
    "$ tink up ",
    "$ tink cluster create -f rack.yaml -z hardware.csv ",
    "$ tink cluster get rack",
    "$ tink cluster move --to rack/rack-eks-a-cluster.kubeconfig ",
    "$ tink cluster cleanup",
    "$ kubectl patch -n eksa-system clusters.anywhere.eks.amazonaws.com rack ",
    "$ tink hardware generate -z late.csv --secrets | kubectl apply -f -",
    "$ kubectl wait ",
    "$ tink up ",
    "$ tink cluster move --to state/kubeconfig",
    "$ tink cluster delete rack --yes",
];

fn demo(temporary: &Path, programs: Option<&Path>) -> Result<Output> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_cluster-demo"));
    if let Some(programs) = programs {
        demo.env("TINK_BIN_DIR", programs);
    }
    Ok(demo.env("TMPDIR", temporary).output()?)
}

#[test]
#[ignore = "needs the programs and the Kubernetes of ./x test"]
fn the_demo_of_a_cluster_shows_every_command_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path(), None).unwrap();
    let (shown, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{shown}");
    assert!(output.status.success(), "{}: {problem}", output.status);
    let mut rest = shown.as_ref();
    for line in TYPED {
        let Some((_, after)) = rest.split_once(line) else { panic!("{line:?} is not where it should be") };
        rest = after;
    }
    for told in [
        "# A bare-metal cluster.",
        "0 errors, 0 warnings",
        "rack is ready: its kubeconfig is rack/rack-eks-a-cluster.kubeconfig",
        "nothing of ours is left here",
        "md-0 lacks 1 of its machines",
        "cluster.anywhere.eks.amazonaws.com/rack condition met",
        "rack is gone",
    ] {
        assert!(shown.contains(told), "{told:?} is not told");
    }
    let last = shown.trim_end().lines().next_back().unwrap_or_default();
    assert!(last.starts_with("All 6 servers are off and free after "), "{last}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "needs the Kubernetes of ./x test"]
fn the_demo_of_a_cluster_without_its_programs_says_so_in_a_sentence() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path(), Some(temporary.path())).unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{problem}");
    assert!(problem.starts_with("cluster-demo: ") && problem.contains("tink is missing"), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
    assert!(std::fs::read_dir(temporary.path()).unwrap().next().is_none());
}
