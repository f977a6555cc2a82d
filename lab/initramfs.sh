#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# The lab machine's first program: the image is never written to, what the
# machine changes lies over it in memory, or on the disk that is kept.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /root/*.ko; do
    $b insmod "$module"
done
$b mkdir /lower /over /new
$b mount -t ext4 -o ro,noatime /dev/vda /lower
if $b grep -q lab.overlay=disk /proc/cmdline; then
    $b mount -t ext4 -o noatime /dev/vdc /over
else
    $b mount -t tmpfs -o size=75%,mode=755 over /over
fi
$b mkdir -p /over/upper /over/work
$b mount -t overlay \
    -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /new
$b mount --move /dev /new/dev
$b umount /proc
exec $b switch_root /new /lib/systemd/systemd
