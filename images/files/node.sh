#!/bin/sh
# Runs as mmdebstrap's hook with the finished root in $1, before the root becomes a disk: a machine with it can become a node.
# In: PROGRAMS (folder of static programs: kubeadm, kubelet, kubectl, one for each image that is to be carried), MORE_IMAGES
# (words NAME=PROGRAM: images besides those that kubeadm asks for), OUT (folder to work in).
set -eu
root=$1
work=$OUT/node
mkdir -p "$work"

install -m 755 "$PROGRAMS/kubeadm" "$PROGRAMS/kubelet" "$PROGRAMS/kubectl" "$root/usr/bin/"
mkdir -p "$root/etc/systemd/system/kubelet.service.d" "$root/etc/kubernetes/manifests" "$root/opt/cni"
# As in Kubernetes' own packages, but that it waits for its configuration instead of failing without it.
cat > "$root/etc/systemd/system/kubelet.service" <<'X'
[Unit]
Description=kubelet: the Kubernetes node agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target containerd.service
ConditionPathExists=/var/lib/kubelet/config.yaml

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
X
cat > "$root/etc/systemd/system/kubelet.service.d/10-kubeadm.conf" <<'X'
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
X
printf 'overlay\nbr_netfilter\n' > "$root/etc/modules-load.d/kubernetes.conf"
cat > "$root/etc/sysctl.d/90-kubernetes.conf" <<'X'
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
X
# Network plugins look for each other, and their manifests put more of them, where upstream has them.
ln -s /usr/lib/cni "$root/opt/cni/bin"

version=$(chroot "$root" kubeadm version -o short)
names=$(chroot "$root" kubeadm config images list --kubernetes-version "$version")
pause=$(echo "$names" | grep '/pause:')
cat > "$root/etc/containerd/config.toml" <<X
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # A layer that is unpacked is not kept as an archive too.
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
X
chroot "$root" systemctl enable containerd kubelet >/dev/null 2>&1

# iptables with all that it loads: kube-proxy runs it.
add_iptables() {
    libraries=$(chroot "$root" sh -c 'ldd /usr/sbin/xtables-nft-multi /usr/lib/x86_64-linux-gnu/xtables/*.so' |
        sed -n 's/.*[[:space:]]\(\/[^ ]*\) (0x.*/\1/p' | sort -u)
    for library in $libraries; do
        install -D "$root$library" "$1$library"
    done
    install -D "$root/usr/sbin/xtables-nft-multi" "$1/usr/sbin/xtables-nft-multi"
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s xtables-nft-multi "$1/usr/sbin/$name"
    done
    mkdir -p "$1/usr/lib/x86_64-linux-gnu"
    cp -r "$root/usr/lib/x86_64-linux-gnu/xtables" "$1/usr/lib/x86_64-linux-gnu/"
}

# Loads image $1, made of nothing but program $2, into containerd: one layer in the form of `docker save`.
load() {
    rm -rf "$work/tree"
    install -m 755 -D "$PROGRAMS/$2" "$work/tree/usr/local/bin/$2"
    [ "$2" != kube-proxy ] || add_iptables "$work/tree"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$work/tree" -cf "$work/layer.tar" .
    digest=$(sha256sum < "$work/layer.tar" | cut -d ' ' -f 1)
    cat > "$work/config.json" <<X
{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:$digest"]},
"config":{"Env":["PATH=/usr/local/bin:/usr/sbin"],"Entrypoint":["/usr/local/bin/$2"]}}
X
    echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"$1\"],\"Layers\":[\"layer.tar\"]}]" > "$work/manifest.json"
    tar -C "$work" -c manifest.json config.json layer.tar |
        chroot "$root" ctr --namespace k8s.io images import - >/dev/null
}

# A containerd that only stores. It unpacks here what each machine would have to unpack before its first container.
echo 'disabled_plugins = ["io.containerd.grpc.v1.cri"]' > "$root/run/containerd.toml"
chroot "$root" containerd --config /run/containerd.toml > "$work/containerd.log" 2>&1 &
containerd=$!
trap 'kill "$containerd" 2>/dev/null || :; cat "$work/containerd.log" >&2' EXIT
tries=0
until chroot "$root" ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || exit 1
    sleep 0.2
done
for name in $names; do
    program=${name##*/}
    program=${program%%:*}
    # Without a program, an image is pulled by who needs it, from wherever the cluster says.
    [ ! -e "$PROGRAMS/$program" ] || load "$name" "$program"
done
for pair in $MORE_IMAGES; do
    load "${pair%=*}" "${pair##*=}"
done
# The archives of what is unpacked go, as the configuration says.
chroot "$root" ctr --namespace k8s.io content prune references
kill "$containerd"
wait "$containerd" || :
trap - EXIT
rm -rf "$root/run/containerd" "$root/run/containerd.toml" "$work"
