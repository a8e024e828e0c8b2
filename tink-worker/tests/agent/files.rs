// SPDX-License-Identifier: Apache-2.0
//! writefile on a real ext4 file system on a loop device.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::workflow::action_status_request::StateType;

use crate::servers::{World, action};

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        eprintln!("{program}: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// An ext4 file system on a loop device; detached on drop, also when the test fails.
struct Partition {
    directory: tempfile::TempDir,
    device: PathBuf,
}

impl Partition {
    /// `tree` is what the file system holds.
    fn new(tree: impl Fn(&Path)) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (source, image) = (directory.path().join("tree"), directory.path().join("image"));
        std::fs::create_dir(&source).unwrap();
        tree(&source);
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let (source, image) = (source.to_str().unwrap(), image.to_str().unwrap());
        run("mkfs.ext4", &["-q", "-d", source, image]).unwrap();
        let Some(device) = run("losetup", &["--find", "--show", image]) else {
            eprintln!("skipped: no loop device");
            return None;
        };
        Some(Self { directory, device: device.into() })
    }

    /// What a path of the file system holds, read without mounting it.
    fn debugfs(&self, request: &str) -> String {
        let image = self.directory.path().join("image");
        run("debugfs", &["-R", request, image.to_str().unwrap()]).unwrap()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let detached = run("losetup", &["--detach", self.device.to_str().unwrap()]);
        assert!(detached.is_some() || std::thread::panicking());
    }
}

fn environment(device: &Path, path: &str, contents: &str, more: &[&str]) -> Vec<String> {
    let mut environment = vec![
        format!("DEST_DISK={}", device.display()),
        "FS_TYPE=ext4".to_owned(),
        format!("DEST_PATH={path}"),
        format!("CONTENTS={contents}"),
        "UID=12".to_owned(),
        "GID=34".to_owned(),
        "MODE=0640".to_owned(),
        "DIRMODE=0751".to_owned(),
    ];
    environment.extend(more.iter().map(|text| (*text).to_owned()));
    environment
}

async fn write(environment: Vec<String>) -> (StateType, String) {
    let world = World::new([action("a", "quay.io/tinkerbell/actions/writefile:v1", 30, &environment)]).await;
    world.end_of("a").await
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_whole_with_owner_and_mode_and_links_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let Some(partition) = Partition::new(|tree| {
        std::fs::create_dir_all(tree.join("etc/old")).unwrap();
        std::fs::write(tree.join("etc/old/file"), "old contents, longer than the new ones").unwrap();
        std::fs::write(tree.join("etc/target"), "old").unwrap();
        symlink("/etc/target", tree.join("etc/absolute")).unwrap();
        symlink("../etc/target", tree.join("etc/relative")).unwrap();
        symlink(outside.path(), tree.join("out")).unwrap();
        symlink("/etc/loop", tree.join("etc/loop")).unwrap();
    }) else {
        return;
    };
    let before = mounts();
    let device = partition.device.as_path();
    for (path, contents) in [
        ("/etc/netplan/deep/config.yaml", "network:\n  version: 2\nA=b\n"),
        ("/etc/old/file", "new"),
        ("/etc/absolute", "through an absolute link"),
        ("/etc/relative", "through a relative link"),
        ("/empty", ""),
    ] {
        let (state, message) = write(environment(device, path, contents, &[])).await;
        assert_eq!(state, StateType::Success, "{path}: {message}");
        let landed = match path {
            "/etc/absolute" | "/etc/relative" => "/etc/target",
            path => path,
        };
        assert_eq!(partition.debugfs(&format!("cat {landed}")), contents.trim(), "{path}");
        let stat = partition.debugfs(&format!("stat {landed}"));
        assert!(stat.contains("Mode:  0640") && stat.contains("User:    12   Group:    34"), "{stat}");
    }
    let stat = partition.debugfs("stat /etc/netplan/deep");
    assert!(stat.contains("Mode:  0751") && stat.contains("User:    12   Group:    34"), "{stat}");
    assert!(partition.debugfs("stat /etc/absolute").contains("Type: symlink"));
    assert!(!partition.debugfs("ls /etc/old").contains(".tink-worker"));

    // The link's target is a path of this machine, which on the partition is a path of the partition.
    let (state, _) = write(environment(device, "/out/x", "escaped", &[])).await;
    assert_eq!(state, StateType::Failed);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    for (path, hint) in
        [("/etc", "Is a directory"), ("/etc/loop", "Too many"), ("/etc/target/x", "Not a directory")]
    {
        let (state, message) = write(environment(device, path, "x", &[])).await;
        assert_eq!(state, StateType::Failed);
        assert!(message.contains(hint), "{path}: {message}");
    }
    assert_eq!(mounts(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mounted_says_why() {
    let Some(partition) = Partition::new(|_| {}) else {
        return;
    };
    let device = partition.device.as_path();
    let cases = [
        (
            environment(Path::new("/dev/no-such-part1"), "/x", "", &[]),
            "partition /dev/no-such-part1 does not exist",
        ),
        (environment(device, "/x", "", &["FS_TYPE=nosuchfs"]), "does not know the file system"),
        (environment(device, "/x", "", &["FS_TYPE="]), "variable FS_TYPE is required"),
        (environment(device, "/x/", "", &[]), "names a directory"),
        (environment(device, "x", "", &[]), "is not absolute"),
        (environment(device, "/a/../../x", "", &[]), "contains `..`"),
        (environment(device, "/x", "", &["MODE=0999"]), "variable MODE"),
        (environment(device, "/x", "", &["UID=root"]), "variable UID"),
    ];
    for (environment, hint) in cases {
        let (state, message) = write(environment).await;
        assert_eq!(state, StateType::Failed);
        assert!(message.contains(hint), "{message}");
    }
}
