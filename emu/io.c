/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O ports. Behind none of them is a device: a domain has what Xen answers one
 * that was given no port (guest_io_read() of its emul-priv-op.c), after it has
 * looked whether the guest's kernel lets this code reach the port at all.
 */
#include "emu/privileged.h"
#include "emu/privop.h"

#define PORT_PIT_2 0x42
#define PORT_RTC_INDEX 0x70
#define PORT_PCI_ADDRESS 0xcf8

/* Steps of one rep prefix between two looks at what else there is to do. */
#define MOST_STEPS 1024

/* A kernel counts as ring 1 in what it sets, unless it asked for ring 0. */
bool iopl_ok(const struct vcpu *v)
{
    uint32_t cpl = 3;

    if (v->pub.in_kernel)
        cpl = emu_machine.vm_assist & 1UL << VMASST_TYPE_architectural_iopl ? 0
                                                                            : 1;
    return cpl <= v->iopl;
}

/*
 * The bitmap that the guest's kernel named for what runs above its IOPL. It is
 * the kernel's memory, whoever runs. Two bytes always, as the processor reads
 * it (SDM vol 1, 19.5.2); one that cannot be read allows nothing, and the
 * second may be behind the bitmap (guest_io_okay() of Xen's emul-priv-op.c).
 */
static bool bitmap_ok(struct vcpu *v, uint32_t port, unsigned int bytes)
{
    struct page_fault fault;
    uint8_t bits[2] = {0xff, 0xff};

    if (port + bytes > v->iobitmap_ports)
        return false;
    /* A byte that fails stays as it is, and so does what is behind it. */
    copy_from_root(v->pub.kernel_cr3, bits, v->iobitmap_va + (port >> 3),
                   sizeof(bits), &fault);
    return !((bits[0] | bits[1] << 8) & ((1 << bytes) - 1) << (port & 7));
}

static bool io_ok(struct vcpu *v, uint32_t port, unsigned int bytes)
{
    return iopl_ok(v) || bitmap_ok(v, port, bytes);
}

/*
 * One difference from Xen, whose domains read all ones from channel 2 of the
 * PIT as well: Linux calibrates with it, and takes 50,000 reads of two ports
 * until it gives ones up; of zeros it reads one.
 */
static uint8_t port_byte(uint32_t port)
{
    switch (port) {
    case PORT_PIT_2:
        return 0;
    case PORT_RTC_INDEX:
        return (uint8_t)emu_machine.cmos_index;
    default:
        return 0xff;
    }
}

/* What the domain has written to the two registers that keep it. */
static uint32_t read_port(uint32_t port, unsigned int bytes)
{
    uint32_t value = 0;

    if (port == PORT_PCI_ADDRESS && bytes == 4)
        return READ_ONCE(emu_machine.pci_address);
    for (unsigned int n = 0; n < bytes; n++)
        value |= (uint32_t)port_byte(port + n) << 8 * n;
    return value;
}

static void write_port(uint32_t port, unsigned int bytes, uint32_t value)
{
    if (port == PORT_PCI_ADDRESS && bytes == 4)
        WRITE_ONCE(emu_machine.pci_address, value);
    else if (port <= PORT_RTC_INDEX && port + bytes > PORT_RTC_INDEX)
        WRITE_ONCE(emu_machine.cmos_index,
                   value >> 8 * (PORT_RTC_INDEX - port) & 0xff);
}

static void count(struct vcpu *v, const struct emu_frame *f, uint16_t port,
                  bool in)
{
    v->pub.counters.privop[EMU_PRIVOP_IO]++;
    trace(v, EMU_TRACE_PRIVOP, EMU_PRIVOP_IO, f->rip, port, in);
}

enum emulated port_io(struct vcpu *v, struct emu_frame *f, unsigned int bytes,
                      bool in, uint16_t port)
{
    uint64_t mask = bytes == 4 ? ~0UL : (1UL << bytes * 8) - 1;

    if (!io_ok(v, port, bytes))
        return REFUSED;
    count(v, f, port, in);
    if (in)
        f->rax = (f->rax & ~mask) | read_port(port, bytes);
    else
        write_port(port, bytes, (uint32_t)(f->rax & mask));
    v->db_wanted |= port_breakpoints(v, port, bytes);
    return EMULATED;
}

/* --- INS and OUTS --------------------------------------------------------- */

struct segment {
    int nr;
    uint64_t base, limit;
};

static uint16_t selector(int segment)
{
    uint32_t sel = 0;

    if (segment == SEG_ES)
        __asm__("mov %%es, %0" : "=r"(sel));
    else if (segment == SEG_FS)
        __asm__("mov %%fs, %0" : "=r"(sel));
    else if (segment == SEG_GS)
        __asm__("mov %%gs, %0" : "=r"(sel));
    else
        __asm__("mov %%ds, %0" : "=r"(sel));
    return (uint16_t)sel;
}

/*
 * 64-bit code has a base in FS and GS only and no limits; other code has what
 * its descriptors say. May it be read, or written?
 */
static bool find_segment(struct vcpu *v, const struct emu_frame *f,
                         const struct insn *i, bool write, struct segment *s)
{
    struct descriptor d;
    uint16_t sel;

    s->limit = ~0UL;
    s->base = 0;
    if (i->code_bits == 64) {
        if (s->nr == SEG_FS)
            s->base = fs_base(v);
        else if (s->nr == SEG_GS)
            s->base = gs_base(v);
        return true;
    }
    sel = s->nr == SEG_CS   ? (uint16_t)f->cs
          : s->nr == SEG_SS ? (uint16_t)f->ss
                            : selector(s->nr);
    if (!read_descriptor(v, sel, &d) || !d.is_segment || !d.is_present)
        return false;
    s->base = d.base;
    s->limit = d.limit;
    /* As Xen: no look at the ways in which code may not be read. */
    return write ? !d.is_code && d.is_writable : true;
}

static bool linear(const struct insn *i, const struct segment *s,
                   uint64_t offset, unsigned int bytes, uint64_t *va)
{
    *va = s->base + offset;
    if (i->code_bits == 64)
        return canonical(*va) && canonical(*va + bytes - 1);
    *va = (uint32_t)*va;
    return s->limit >= bytes - 1 && offset <= s->limit - bytes + 1;
}

/*
 * One datum between a port and memory, which is reached as the guest itself
 * would: its kernel as in a hypercall, its user space through its own tables
 * alone. False: it is not there, and the guest has its #PF.
 */
static bool move_datum(struct vcpu *v, struct emu_frame *f, uint16_t port,
                       uint64_t va, unsigned int bytes, bool in)
{
    uint64_t root = v->pub.in_kernel ? v->pub.kernel_cr3 : v->pub.user_cr3;
    uint32_t value = in ? read_port(port, bytes) : 0;
    struct page_fault fault;
    bool done;

    if (in)
        done = (v->pub.in_kernel && !copy_to_guest(va, &value, bytes)) ||
               copy_to_root(root, va, &value, bytes, &fault);
    else
        done = (v->pub.in_kernel && !copy_from_guest(&value, va, bytes)) ||
               copy_from_root(root, &value, va, bytes, &fault);
    if (!done)
        inject_page_fault(v, f, fault.va, fault.error_code);
    else if (!in)
        write_port(port, bytes, value);
    return done;
}

/* Only as much of a register as the address size has. */
static void set_part(uint64_t *reg, uint64_t mask, uint64_t value)
{
    *reg = (mask == 0xffff ? *reg & ~mask : 0) | (value & mask);
}

static enum emulated steps(struct vcpu *v, struct emu_frame *f,
                           const struct insn *i, unsigned int bytes, bool in,
                           const struct segment *s, uint64_t mask)
{
    uint64_t *index = in ? &f->rdi : &f->rsi, va;
    uint64_t step = f->rflags & RFLAGS_DF ? -(uint64_t)bytes : bytes;
    unsigned int most = f->rflags & RFLAGS_TF ? 1 : MOST_STEPS;
    bool rep = i->repe || i->repne;

    for (unsigned int n = 0; !rep || (f->rcx & mask); n++) {
        if (n == most)
            return TO_BE_GONE_ON;
        if (!linear(i, s, *index & mask, bytes, &va)) {
            inject_trap(v, f, s->nr == SEG_SS ? X86_TRAP_SS : X86_TRAP_GP, 0);
            return RAISED;
        }
        if (!move_datum(v, f, (uint16_t)f->rdx, va, bytes, in))
            return RAISED;
        v->db_wanted |= port_breakpoints(v, (uint16_t)f->rdx, bytes);
        if (v->db_wanted)
            most = n + 1;
        set_part(index, mask, *index + step);
        if (!rep)
            break;
        set_part(&f->rcx, mask, f->rcx - 1);
    }
    return EMULATED;
}

enum emulated string_io(struct vcpu *v, struct emu_frame *f,
                        const struct insn *i, unsigned int bytes, bool in)
{
    uint64_t mask = i->address_bytes == 8   ? ~0UL
                    : i->address_bytes == 4 ? 0xffffffff
                                            : 0xffff;
    /* INS knows no segment but ES. */
    struct segment s = {.nr = in               ? SEG_ES
                              : i->segment < 0 ? SEG_DS
                                               : i->segment};

    if ((i->repe || i->repne) && !(f->rcx & mask)) {
        set_part(&f->rcx, mask, 0);
        set_part(in ? &f->rdi : &f->rsi, mask, in ? f->rdi : f->rsi);
        return EMULATED;
    }
    if (!io_ok(v, (uint16_t)f->rdx, bytes) || !find_segment(v, f, i, in, &s))
        return REFUSED;
    count(v, f, (uint16_t)f->rdx, in);
    return steps(v, f, i, bytes, in, &s, mask);
}
