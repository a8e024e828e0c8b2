#!/bin/sh
# Runs as mmdebstrap's last hook with the finished root in $1, as (namespace) root, so that owners are right.
# In: OUT (folder for the results), ROOT_UUID, ESP_UUID, ROOT_SLACK_MIB, KERNEL_ARGUMENTS (may be empty). Out: root.img, core.img, boot.img, esp.img.
set -eu
root=$1

# Identity belongs to the installed machine, not to the image.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
echo localhost > "$root/etc/hostname"
ln -s /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

cat > "$root/etc/fstab" <<X
UUID=$ROOT_UUID / ext4 errors=remount-ro 0 1
UUID=$(echo "$ESP_UUID" | sed 's/^\(....\)/\1-/') /boot/efi vfat umask=0077,nofail 0 1
X
mkdir -p "$root/boot/efi" "$root/boot/grub" "$root/etc/netplan"
# A provisioning template overwrites this very file with the machine's address.
cat > "$root/etc/netplan/config.yaml" <<X
network:
  version: 2
  ethernets:
    any:
      match: {name: "e*"}
      dhcp4: true
      optional: true
X
chmod 600 "$root/etc/netplan/config.yaml"
# The one locale that every installation has; cloud-init's default needs the package locales.
echo 'locale: C.UTF-8' > "$root/etc/cloud/cloud.cfg.d/05_image.cfg"

# Host keys are the installed machine's own: cloud-init makes them; without it, the server does at its first start.
mkdir -p "$root/etc/systemd/system/ssh.service.d"
printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' > "$root/etc/systemd/system/ssh.service.d/host-keys.conf"
chroot "$root" systemctl enable systemd-networkd systemd-resolved ssh >/dev/null 2>&1
chroot "$root" systemctl disable apt-daily.timer apt-daily-upgrade.timer >/dev/null 2>&1

# /vmlinuz and /initrd.img are links that the kernel package keeps current, so an upgrade boots without update-grub.
cat > "$root/boot/grub/grub.cfg" <<X
set timeout=0
set default=0
search --no-floppy --fs-uuid --set=root $ROOT_UUID
menuentry "Debian" {
    linux /vmlinuz root=UUID=$ROOT_UUID ro $KERNEL_ARGUMENTS console=tty0 console=ttyS0,115200
    initrd /initrd.img
}
X
cat > "$OUT/early.cfg" <<X
search.fs_uuid $ROOT_UUID root
set prefix=(\$root)/boot/grub
configfile \$prefix/grub.cfg
X
cp "$OUT/early.cfg" "$root/early.cfg"
chroot "$root" grub-mkimage -O i386-pc -p /boot/grub -c /early.cfg -o /core.img \
    biosdisk part_gpt ext2 search search_fs_uuid normal configfile linux echo test serial
mv "$root/core.img" "$OUT/core.img"
rm "$root/early.cfg"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$OUT/boot.img"

# The ESP: shim and GRUB as Debian signed them; GRUB reads EFI/debian/grub.cfg from its own partition.
truncate -s 64M "$OUT/esp.img"
mkfs.vfat -F 32 -i "$ESP_UUID" -n ESP --invariant "$OUT/esp.img" >/dev/null
mmd -i "$OUT/esp.img" ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i "$OUT/esp.img" "$root/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i "$OUT/esp.img" "$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
mcopy -i "$OUT/esp.img" "$OUT/early.cfg" ::EFI/debian/grub.cfg

rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt

# mmdebstrap still has /proc, /sys and /dev mounted in the root; a bind mount without them, in a mount namespace of its
# own that ends with the command, shows the tree as it will be.
export root
mkdir -p "$OUT/tree"
unshare --mount sh -eu -c '
    mount --bind "$root" "$OUT/tree"
    used=$(du -sm --apparent-size "$OUT/tree" | cut -f1)
    truncate -s "$((used * 108 / 100 + ROOT_SLACK_MIB))M" "$OUT/root.img"
    mke2fs -q -t ext4 -L root -U "$ROOT_UUID" -E lazy_itable_init=0,lazy_journal_init=0 -d "$OUT/tree" "$OUT/root.img"
'
