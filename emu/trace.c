/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flight recorder: what came before an end. A guest that spins would fill
 * it with one thing, so neighbours that are alike, results too, are one entry.
 */
#include "emu/privileged.h"

static struct emu_trace *entry(struct vcpu *v, uint32_t nr)
{
    return &v->trace[nr % EMU_TRACE_ENTRIES];
}

/* rip first: it differs most often. */
static bool is_again(const struct emu_trace *t, uint32_t kind, uint32_t nr,
                     uint64_t rip, uint64_t arg0, uint64_t arg1)
{
    return t->rip == rip && t->arg[0] == arg0 && t->arg[1] == arg1 &&
           t->kind == kind && t->nr == nr;
}

uint32_t trace(struct vcpu *v, uint32_t kind, uint32_t nr, uint64_t rip,
               uint64_t arg0, uint64_t arg1)
{
    struct emu_trace *t = entry(v, v->pub.trace_next - 1);

    if (is_again(t, kind, nr, rip, arg0, arg1)) {
        t->repeats++;
        t->last_tsc = rdtsc();
        return v->pub.trace_next - 1;
    }
    t = entry(v, v->pub.trace_next++);
    t->tsc = rdtsc();
    t->last_tsc = t->tsc;
    t->rip = rip;
    t->arg[0] = arg0;
    t->arg[1] = arg1;
    t->result = 0;
    t->kind = kind;
    t->nr = nr;
    t->repeats = 0;
    return v->pub.trace_next - 1;
}

/*
 * Known only at the end, after what a multicall did. One that comes out unlike
 * the last is an entry of its own, if nothing has come since.
 */
void trace_result(struct vcpu *v, uint32_t nr, uint64_t result)
{
    struct emu_trace *t = entry(v, nr);

    if (v->pub.trace_next - nr > EMU_TRACE_ENTRIES)
        return;
    if (t->repeats && t->result != result && v->pub.trace_next - nr == 1) {
        struct emu_trace *own = entry(v, v->pub.trace_next++);

        t->repeats--;
        *own = *t;
        own->tsc = t->last_tsc;
        own->repeats = 0;
        t = own;
    }
    t->result = result;
}
