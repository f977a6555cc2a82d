# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Sourced by the set-up scripts: one line per step with its time, and stamps.
# A step is skipped while the stamp holds the digest of what it depends on.

# shellcheck disable=SC2154 # the sourcing script says where the tree is
stamps=$top/build/stamps
log=$top/build/setup.log
mkdir -p "$stamps"

fail() {
    echo "setup: $1" >&2
    exit 1
}

# step NAME COMMAND...: run it, its output goes to the log and is shown when
# it fails.
step() {
    local name=$1 began=$EPOCHREALTIME rc=0
    shift
    # To standard error: what is set up for may own the standard output.
    printf 'setup: %-9s ' "$name" >&2
    echo "== $name: $*" >>"$log"
    local mark
    mark=$(stat -c %s "$log")
    "$@" >>"$log" 2>&1 </dev/null || rc=$?
    local took=$((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}))
    if [ "$rc" -ne 0 ]; then
        printf 'failed\n' >&2
        tail -c +"$((mark + 1))" "$log" | tail -n 40 >&2
        fail "$name failed; the whole log is $log"
    fi
    printf '%6.1f s\n' "$((took / 100000))e-1" >&2
}

# is_current NAME DIGEST: the step was done with these inputs.
is_current() {
    [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]
}

set_current() {
    echo "$2" >"$stamps/$1"
}

digest() {
    cat -- "$@" | sha256sum | cut -d' ' -f1
}

apt() {
    # Another apt may be at work, and archives have bad moments. 9: a lock of
    # the caller's, which is not for what apt starts.
    apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" 9>&-
}
