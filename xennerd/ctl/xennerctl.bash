# SPDX-License-Identifier: GPL-2.0-or-later
# bash's completion of xennerctl, and of the same as xl, which knows itself what
# may follow.
_xennerctl() {
    mapfile -t COMPREPLY < \
        <("$1" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # A file, or what else bash knows of.
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default 2>/dev/null
}
complete -F _xennerctl xennerctl xl
