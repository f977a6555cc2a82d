/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mmuext_op: roots, pinned tables, flushes, and whole pages. */
#include "emu/emu.h"

static int op_cpus(struct mmuext_op *op, uint64_t *mask)
{
    *mask = 0;
    /* A bitmap of at most as many vCPUs as there are. */
    if (copy_from_guest(mask, (uint64_t)op->arg2.vcpumask.p,
                        (shared->nr_vcpus + 7) / 8))
        return -XEN_EINVAL;
    return 0;
}

static int op_clear_copy(struct mmuext_op *op)
{
    uint64_t to = op->arg1.mfn, from = op->arg2.src_mfn;

    /* As on Xen, not a page that is in use as a table. */
    if (!mfn_guest(to) || table_level(to) ||
        (op->cmd == MMUEXT_COPY_PAGE && !mfn_guest(from)))
        return -XEN_EINVAL;
    if (op->cmd == MMUEXT_CLEAR_PAGE)
        memset(machine(to << PAGE_SHIFT), 0, PAGE_SIZE);
    else
        memcpy(machine(to << PAGE_SHIFT), machine(from << PAGE_SHIFT),
               PAGE_SIZE);
    return 0;
}

static int op_root(struct vcpu *v, struct mmuext_op *op)
{
    uint64_t mfn = op->arg1.mfn;

    if (op->cmd == MMUEXT_NEW_BASEPTR)
        return set_kernel_root(v, mfn);
    if (mfn)
        return set_user_root(v, mfn);
    drop_root(__atomic_exchange_n(&v->pub.user_cr3, 0, __ATOMIC_SEQ_CST));
    return 0;
}

static int op_pin(struct mmuext_op *op)
{
    if (!mfn_guest(op->arg1.mfn))
        return -XEN_EINVAL;
    if (op->cmd == MMUEXT_UNPIN_TABLE)
        return unpin(op->arg1.mfn);
    return pin(op->arg1.mfn, (int)(op->cmd - MMUEXT_PIN_L1_TABLE) + 1);
}

static int mmuext(struct vcpu *v, struct mmuext_op *op)
{
    uint64_t mask;
    int rc;

    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
    case MMUEXT_UNPIN_TABLE:
        return op_pin(op);
    case MMUEXT_NEW_BASEPTR:
    case MMUEXT_NEW_USER_BASEPTR:
        return op_root(v, op);
    case MMUEXT_TLB_FLUSH_LOCAL:
        flush_local(v);
        return 0;
    case MMUEXT_INVLPG_LOCAL:
        flush_local_va(v, op->arg1.linear_addr);
        return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
        rc = op_cpus(op, &mask);
        if (!rc && op->cmd == MMUEXT_INVLPG_MULTI && mask & 1UL << v->pub.id) {
            flush_local_va(v, op->arg1.linear_addr);
            mask &= ~(1UL << v->pub.id);
        }
        if (!rc)
            flush_vcpus(v, mask);
        return rc;
    case MMUEXT_TLB_FLUSH_ALL:
        flush_vcpus(v, ~0UL);
        return 0;
    case MMUEXT_INVLPG_ALL:
        flush_local_va(v, op->arg1.linear_addr);
        flush_vcpus(v, ~(1UL << v->pub.id));
        return 0;
    case MMUEXT_SET_LDT:
        return set_ldt(v, op->arg1.linear_addr, op->arg2.nr_ents);
    case MMUEXT_CLEAR_PAGE:
    case MMUEXT_COPY_PAGE:
        return op_clear_copy(op);
    case MMUEXT_FLUSH_CACHE: /* for domains with a device of their own */
        return -XEN_EACCES;
    case MMUEXT_FLUSH_CACHE_GLOBAL:
        return -XEN_EINVAL;
    case MMUEXT_MARK_SUPER: /* gone from Xen */
    case MMUEXT_UNMARK_SUPER:
        return -XEN_EOPNOTSUPP;
    default:
        return -XEN_ENOSYS;
    }
}

int64_t do_mmuext_op(struct vcpu *v, guest_word ops, guest_word count,
                     guest_word pdone, guest_word domid, guest_word a5)
{
    uint64_t done = 0;
    int rc = 0;

    if (!is_self(domid))
        return -XEN_ESRCH;
    for (; done < (uint32_t)count; done++) {
        struct mmuext_op op;

        rc = copy_from_guest(&op, ops + done * sizeof(op), sizeof(op));
        if (!rc)
            rc = mmuext(v, &op);
        if (rc)
            break;
    }
    return report_done(pdone, done, rc);
}
