/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What libs/client says of the place of a file: its path or the reason. */
#include <stdio.h>
#include <string.h>

#include <errno.h>

#include "libs/client/paths.h"

int main(void)
{
    char path[64];

    if (evtchnd_runtime_path(path, sizeof(path), "vmcore.7"))
        puts(strerrorname_np(errno));
    else
        puts(path);
    return 0;
}
