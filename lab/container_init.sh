#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# container_init.sh ROOT STAGE OUT CONSOLE DEVICES NOTIFY: PID 1 of the lab
# container until systemd is. Puts the container's file system together in a
# mount namespace of its own, so that no mount outlives it. CONSOLE is a
# terminal, NOTIFY a socket, DEVICES are words NAME:MAJOR:MINOR:MODE:GROUP,
# character devices below /dev.
# What a container gives its systemd: https://systemd.io/CONTAINER_INTERFACE
set -eu
root=$1 stage=$2 out=$3 console=$4 devices=$5 notify=$6

# What the container changes lies in memory over what is there. The names are
# relative from here on: in overlay's options ":" and "," have a meaning.
mount -t tmpfs -o mode=755 over "$root/run"
cd "$root/run"
mkdir root stage upper work tree-upper tree-work new
mount --bind "$root" root
mount --bind "$stage" stage
mount -t overlay -o lowerdir=stage/root:root,upperdir=upper,workdir=work \
    overlay new
mkdir -p new/srv/xenner new/out
mount -t overlay \
    -o lowerdir=stage/tree,upperdir=tree-upper,workdir=tree-work \
    overlay new/srv/xenner
mount --bind "$out" new/out
cd new

# The kernel is the machine's: its settings are not the container's to change,
# but for those of its own network.
mount -t proc -o nosuid,noexec,nodev proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then
    mount --bind proc/sysrq-trigger proc/sysrq-trigger
    mount -o remount,bind,ro proc/sysrq-trigger
fi
mount -t sysfs -o ro,nosuid,noexec,nodev sysfs sys
mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755,nosuid dev dev
mkdir dev/net dev/pts
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for device in $devices; do
    IFS=: read -r name major minor mode group <<END
$device
END
    mknod -m "$mode" "dev/$name" c "$major" "$minor"
    [ "$group" = root ] || chroot . chgrp "$group" "/dev/$name"
done
: >dev/console
mount --bind "$console" dev/console

mount -t tmpfs -o mode=755,nosuid,nodev run run
mkdir run/host
: >run/host/notify
mount --bind "$notify" run/host/notify
cat ../stage/env - >run/lab.env <<END
XENNER_PLACE=container
LAB_OUT=/out
END

# As a package does it; its directories are made at boot.
chroot . systemd-sysusers 2>sysusers.out || { cat sysusers.out >&2; exit 1; }
rm sysusers.out

rm -f etc/machine-id
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
# Nobody comes in over the network, or on a terminal that is not there; and
# these file systems are the machine's, with no namespaces.
for unit in \
    ssh.service ssh.socket console-getty.service getty@tty1.service \
    sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount \
    lvm2-monitor.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir -p etc/systemd/journald.conf.d
printf '[Journal]\nForwardToConsole=yes\n' \
    >etc/systemd/journald.conf.d/container.conf

pivot_root . mnt
exec chroot . /usr/bin/env -i container=lab NOTIFY_SOCKET=/run/host/notify \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/sh -c 'umount -l /mnt &&
        exec /lib/systemd/systemd --unit=multi-user.target --show-status=no'
