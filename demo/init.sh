#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# The guest's only program. What it does is said on the kernel's command line:
# demo.do=shell, script, poweroff, idle or run (of /bin/payload).
/bin/busybox echo XENNER-INIT
/bin/busybox mount -t proc proc /proc
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in
    demo.do=*) todo=${word#demo.do=} ;;
    esac
done
if [ "$todo" = poweroff ]; then
    /bin/busybox poweroff -f
fi
export PATH=/bin HOME=/root
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
hostname xenner

section() {
    echo
    echo "== $1"
}

show_hypervisor() {
    find /sys/hypervisor/ -type f | sort | while read -r file; do
        # Some files are for writing only, or for other kinds of guests.
        echo "${file#/sys/hypervisor/}: $(cat "$file" 2>&1)"
    done
}

script() {
    section uname
    uname -a
    section /sys/hypervisor
    show_hypervisor
    section /proc/cpuinfo
    cat /proc/cpuinfo
    section memory
    free -m
    section uptime
    uptime
    date -u
    section "dmesg: warnings"
    # The raw form begins with the level: 0 to 4 are warnings and worse.
    dmesg -r | grep '^<[0-4]>'
    section end
}

case $todo in
shell)
    echo
    echo "Debian's kernel $(uname -r), a Xen PV guest. \"poweroff -f\" or Ctrl-] ends it."
    setsid cttyhack sh
    ;;
script) script ;;
idle)
    echo "XENNER-IDLE"
    while :; do sleep 3600; done
    ;;
run) /bin/payload && echo "XENNER-DONE" ;;
*) echo "init: demo.do=$todo: not known" ;;
esac
poweroff -f
