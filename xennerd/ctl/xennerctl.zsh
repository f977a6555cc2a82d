#compdef xennerctl xl
# SPDX-License-Identifier: GPL-2.0-or-later
# zsh's completion of xennerctl, and of the same as xl, which knows itself what
# may follow.
local -a found
found=(${(f)"$($words[1] complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
# A file, where it knows of nothing.
if (( $#found )); then compadd -a found; else _files; fi
