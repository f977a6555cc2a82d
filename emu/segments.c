/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segment registers and their bases. ds, es, fs and gs are the guest's while
 * emu runs: C uses none of them, but to give a guest what it asked for.
 *
 * A selector is checked by the processor, which looks into the guest's tables;
 * where it refuses one, a NUL selector takes its place, as on Xen. With a NUL
 * selector AMD's keep the old base (APM vol 2, 4.5.3), which may be the
 * kernel's: whoever loads one here writes the base after it.
 */
#include "emu/emu.h"
#include "emu/privileged.h"

/*
 * The user's %gs, from the kernel (set_segment_base in Xen's
 * misc-hypercalls.c): never refused, as Linux takes no refusal. Who wants to
 * know reads %gs back.
 */
static void load_user_gs(struct vcpu *v, uint16_t selector)
{
    bool is_nul = selector <= 3;

    swap_gs(v);
    if (!load_gs(is_nul ? selector : selector | 3)) {
        load_gs(0);
        is_nul = true;
    }
    if (is_nul)
        set_gs_base(v, 0);
    swap_gs(v);
}

int64_t do_set_segment_base(struct vcpu *v, guest_word which, guest_word base,
                            guest_word a3, guest_word a4, guest_word a5)
{
    which = (uint32_t)which;
    if (which != SEGBASE_GS_USER_SEL && !canonical(base))
        return -XEN_EINVAL;
    switch (which) {
    case SEGBASE_FS:
        set_fs_base(v, base);
        return 0;
    case SEGBASE_GS_USER:
        set_gs_inactive(v, base);
        return 0;
    case SEGBASE_GS_KERNEL:
        set_gs_base(v, base);
        return 0;
    case SEGBASE_GS_USER_SEL:
        load_user_gs(v, (uint16_t)base);
        return 0;
    default:
        return -XEN_EINVAL;
    }
}

bool load_first_segments(struct vcpu *v)
{
    bool (*const load[])(uint16_t) = {load_ds, load_es, load_fs, load_gs};
    bool all_loaded = true;

    for (unsigned int i = 0; i < ARRAY_SIZE(load); i++) {
        if (load[i](v->selectors[i]))
            continue;
        all_loaded = false;
        load[i](0);
    }
    /* Through their MSRs: a KVM that interprets ring 0 may not know better. */
    raw_wrmsr(MSR_FS_BASE, v->fs_base);
    raw_wrmsr(MSR_GS_BASE, v->gs_base);
    set_gs_inactive(v, v->gs_inactive);
    return all_loaded;
}
