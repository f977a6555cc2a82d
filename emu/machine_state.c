/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one object that emu writes beside the vCPU blocks: machine.h. */
#include "emu/emu.h"

struct emu_machine emu_machine;

void init_machine(void)
{
    emu_machine.version = EMU_MACHINE_VERSION;
    emu_machine.bytes = sizeof(emu_machine);
    emu_machine.grant_frames = 1;
}
