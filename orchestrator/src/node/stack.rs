// SPDX-License-Identifier: Apache-2.0

//! The image of the daemons on a node of the control plane, for clusters that have no registry to pull it from: they run there after the move.
//!
//! It is fetched last, so that nobody waits for it, and kept where boots serves it to the nodes that come later. A node that does not get it is a node all the
//! same: the pods say that they have no image.

use super::{Entry, Node, Settings};

/// Where boots, as a pod, looks for images.
const FOLDER: &str = "/var/lib/tinkerbell/images";

/// The end of the script of a node.
pub(super) fn commands(settings: &Settings<'_>, node: &Node<'_>) -> String {
    let Some((first, name)) = settings.stack_image.and_then(|url| Some((url, url.rsplit_once('/')?.1)))
    else {
        return String::new();
    };
    if node.entry == Entry::JoinWorker || name.is_empty() {
        return String::new();
    }
    let mut urls = vec![quoted(first)];
    // After the move the same file is served by the cluster.
    if let (Some(before), Some(after)) = (settings.bootstrap, settings.provisioner) {
        let moved = first.replacen(&format!("//{before}"), &format!("//{after}"), 1);
        if moved != first {
            urls.push(quoted(&moved));
        }
    }
    let (urls, file) = (urls.join(" "), quoted(&format!("{FOLDER}/{name}")));
    format!(
        "mkdir -p {FOLDER}
image={file}
tries=0
while [ ! -e \"$image\" ] && [ $tries -lt 10 ]; do
  [ $tries -eq 0 ] || sleep 10
  tries=$((tries + 1))
  for url in {urls}; do
    if curl --fail --silent --show-error --location --output \"$image.part\" \"$url\"; then
      mv \"$image.part\" \"$image\"
      break
    fi
  done
done
ctr --namespace k8s.io images import \"$image\" || echo \"the image of the daemons is not on this node\" >&2
"
    )
}

/// A word for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
