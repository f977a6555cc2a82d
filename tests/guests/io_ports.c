/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O ports, of which a domain has none: who may name one (IOPL, its assist,
 * the bitmap), what they read as, and the string instructions.
 */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "io_ports";

static uint8_t buffer[2 * PAGE_SIZE] PAGE_ALIGNED;
static uint8_t bitmap[2 * PAGE_SIZE + 1] PAGE_ALIGNED;

static void set_iopl(uint32_t level)
{
    struct physdev_set_iopl set = {.iopl = level};

    if (CALL(physdev_op, PHYSDEVOP_set_iopl, &set))
        panic("set_iopl");
}

static int64_t set_bitmap(void *at, uint32_t ports)
{
    struct physdev_set_iobitmap set = {.nr_ports = ports};

    set_xen_guest_handle(set.bitmap, at);
    return CALL(physdev_op, PHYSDEVOP_set_iobitmap, &set);
}

static uint32_t inb(uint16_t port)
{
    uint32_t value = 0x5a;

    PROBE_OP("inb %w1, %b0", : "+a"(value) : "d"(port));
    return value;
}

static uint32_t inl(uint16_t port)
{
    uint32_t value = 0x5a;

    PROBE_OP("inl %w1, %0", : "+a"(value) : "d"(port));
    return value;
}

static void outl(uint16_t port, uint32_t value)
{
    PROBE_OP("outl %0, %w1", : : "a"(value), "d"(port));
}

static void outb(uint16_t port, uint32_t value)
{
    PROBE_OP("outb %b0, %w1", : : "a"(value), "d"(port));
}

static void test_values(void)
{
    set_iopl(1);
    check_eq("port 0x61: the bit that Linux waits for", inb(0x61) & 0x20, 0x20);
    check_eq("a serial line", inb(0x3fd), 0xff);
    check_eq("four bytes", inl(0x3f8), 0xffffffff);
    outb(0x70, 0x8b);
    check_eq("the RTC's index is kept", inb(0x70), 0x8b);
    check_eq("its data are not there", inb(0x71), 0xff);
    outl(0xcf8, 0x80000000);
    check_eq("PCI's address is kept", inl(0xcf8), 0x80000000);
    check_eq("a byte of it is nothing", inb(0xcf8), 0xff);
    check_eq("and no device answers", inl(0xcfc), 0xffffffff);
    outl(0xe0, 2); /* emu's own, which ends a domain */
    check(!caught.taken, "a port is only a number", "vector %u", caught.vector);
}

static void test_iopl_assist(void)
{
    uint64_t flags = 0;

    set_iopl(0);
    inb(0x61);
    check_trap("IOPL 0: in", X86_GP, 0);
    PROBE("cli");
    check_trap("IOPL 0: cli", X86_GP, 0);
    check_rc("enable architectural_iopl",
             CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl),
             0);
    check_eq("with it: in", inb(0x61), 0xff);
    check(!caught.taken, "without a trap", "vector %u", caught.vector);
    PROBE("cli");
    check(!caught.taken, "with it: cli", "vector %u", caught.vector);
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    check_eq("IOPL is not in the flags", flags & RFLAGS_IOPL, 0);
    set_iopl(2);
    PROBE("ud2");
    check_eq("but in a trap's frame", caught.rflags & RFLAGS_IOPL, 0x2000);
    check_rc(
        "disable it",
        CALL(vm_assist, VMASST_CMD_disable, VMASST_TYPE_architectural_iopl), 0);
    PROBE("ud2");
    check_eq("without it: not", caught.rflags & RFLAGS_IOPL, 0);
}

static void test_ins(void)
{
    uint64_t at = (uint64_t)buffer + 8, count = 3;

    set_iopl(1);
    memset(buffer, 0, sizeof(buffer));
    PROBE_OP("rep insw", : "+D"(at), "+c"(count) : "d"(0x3f8));
    check(!caught.taken && count == 0 && at == (uint64_t)buffer + 14,
          "rep insw", "vector %u, %lu left, at +%lu", caught.vector, count,
          at - (uint64_t)buffer);
    check(buffer[7] == 0 && buffer[8] == 0xff && buffer[13] == 0xff &&
              buffer[14] == 0,
          "six bytes of it", "%x %x %x %x", buffer[7], buffer[8], buffer[13],
          buffer[14]);
    at = (uint64_t)buffer + 103;
    count = 4;
    PROBE_OP("std\n\trep insb\n\tcld", : "+D"(at), "+c"(count) : "d"(0x3f8));
    check(!caught.taken && count == 0 && at == (uint64_t)buffer + 99,
          "backwards", "vector %u, %lu left, at +%lu", caught.vector, count,
          at - (uint64_t)buffer);
    check(buffer[99] == 0 && buffer[100] == 0xff && buffer[103] == 0xff &&
              buffer[104] == 0,
          "down to the last", "%x %x %x %x", buffer[99], buffer[100],
          buffer[103], buffer[104]);
    /* More than emu does at a time. */
    at = (uint64_t)buffer;
    count = sizeof(buffer);
    PROBE_OP("rep insb", : "+D"(at), "+c"(count) : "d"(0x3f8));
    check(!caught.taken && count == 0 && buffer[sizeof(buffer) - 1] == 0xff,
          "two pages", "vector %u, %lu left", caught.vector, count);
}

/* The second page is read-only: the first is done, and the trap is there. */
static void test_ins_fault(void)
{
    uint64_t at = (uint64_t)buffer + PAGE_SIZE - 4, count = 10;

    memset(buffer, 0, sizeof(buffer));
    if (page_protect(buffer + PAGE_SIZE, false))
        panic("page_protect");
    PROBE_OP("rep insb", : "+D"(at), "+c"(count) : "d"(0x3f8));
    check_trap("rep insb onto a read-only page", X86_PF, PF_P | PF_W);
    check_eq("address", caught.cr2, (uint64_t)buffer + PAGE_SIZE);
    check_eq("count", caught.regs.rcx, 6);
    check_eq("rdi", caught.regs.rdi, (uint64_t)buffer + PAGE_SIZE);
    check(buffer[PAGE_SIZE - 1] == 0xff && buffer[PAGE_SIZE] == 0,
          "what was before it is done", "%x %x", buffer[PAGE_SIZE - 1],
          buffer[PAGE_SIZE]);
    page_protect(buffer + PAGE_SIZE, true);
    at = (uint64_t)BAD_POINTER;
    PROBE_OP("insl", : "+D"(at) : "d"(0x3f8));
    check_trap("insl where nothing is mapped", X86_PF, PF_W);
    check_eq("address", caught.cr2, (uint64_t)BAD_POINTER);
    at = 0x800000000000;
    PROBE_OP("insb", : "+D"(at) : "d"(0x3f8));
    check_trap("insb at no address", X86_GP, 0);
}

static void test_outs(void)
{
    uint64_t at = (uint64_t)buffer, count = 4;
    uint64_t base = (uint64_t)buffer + 0x100;

    memset(buffer, 0, sizeof(buffer));
    memcpy(buffer, "\x11\x22\x33\x44", 4);
    PROBE_OP("rep outsb", : "+S"(at), "+c"(count) : "d"(0x70));
    check(!caught.taken && count == 0, "rep outsb", "vector %u, %lu left",
          caught.vector, count);
    check_eq("in their order", inb(0x70), 0x44);
    buffer[0x108] = 0x66;
    CALL(set_segment_base, SEGBASE_FS, base);
    at = 8;
    PROBE_OP("outsb %%fs:(%%rsi), %%dx", : "+S"(at) : "d"(0x70));
    CALL(set_segment_base, SEGBASE_FS, 0);
    check(!caught.taken && at == 9, "outsb with FS", "vector %u, rsi 0x%lx",
          caught.vector, at);
    check_eq("its base counts", inb(0x70), 0x66);
    at = (uint64_t)BAD_POINTER;
    count = 1;
    PROBE_OP("rep outsl", : "+S"(at), "+c"(count) : "d"(0x70));
    check_trap("outs from where nothing is", X86_PF, 0);
    check_eq("nothing was written", inb(0x70), 0x66);
}

/* --- user space ------------------------------------------------------------------ */

USER static uint64_t user_inb(uint64_t port)
{
    uint64_t value = 0;

    __asm__ volatile("inb %w1, %b0" : "+a"(value) : "d"(port));
    return value;
}

USER static uint64_t user_inl(uint64_t port)
{
    uint32_t value = 0;

    __asm__ volatile("inl %w1, %0" : "+a"(value) : "d"(port));
    return value;
}

USER static uint64_t user_cli(void)
{
    __asm__ volatile("cli");
    return 1;
}

USER static uint64_t user_insb(uint64_t address)
{
    uint64_t count = 1;

    __asm__ volatile("rep insb"
                     : "+D"(address), "+c"(count)
                     : "d"(0x3f8)
                     : "memory");
    return count;
}

static void check_user(const char *name, void *fn, uint64_t arg, uint64_t want)
{
    uint64_t got = user_run(fn, arg);

    check(got == want, name, "vector %u, 0x%lx", caught.vector, got);
}

static void check_user_fault(const char *name, void *fn, uint64_t arg,
                             unsigned int vector, uint64_t error)
{
    user_run(fn, arg);
    check(caught.taken && caught.vector == vector && caught.error == error,
          name, "%u: vector %u, error 0x%lx", caught.taken, caught.vector,
          caught.error);
}

static void check_user_trap(const char *name, void *fn, uint64_t arg)
{
    check_user_fault(name, fn, arg, X86_GP, 0);
}

static void test_user_bitmap(void)
{
    set_iopl(1);
    memset(bitmap, 0xff, sizeof(bitmap));
    bitmap[0x3f8 / 8] = 0xf0;
    check_user_trap("user: no bitmap", user_inb, 0x3f8);
    check_rc("set_iobitmap", set_bitmap(bitmap, 65536), 0);
    check_user("user: a port that the bitmap allows", user_inb, 0x3f8, 0xff);
    check_user("user: four of them", user_inl, 0x3f8, 0xffffffff);
    check_user_trap("user: one that it does not", user_inb, 0x3fc);
    check_user_trap("user: three that it does and one more", user_inl, 0x3f9);
    check_user_trap("user: cli is not a port", user_cli, 0);
    bitmap[0x3f8 / 8] = 0xff;
    check_user_trap("user: it is the kernel's to change", user_inb, 0x3f8);
    bitmap[0x3f8 / 8] = 0xf0;
    check_rc("a short one", set_bitmap(bitmap, 0x3fa), 0);
    check_user("user: below its end", user_inb, 0x3f9, 0xff);
    check_user_trap("user: behind it", user_inb, 0x3fa);
    check_rc("at a bad pointer: it is only noted", set_bitmap(BAD_POINTER, 64),
             0);
    check_user_trap("user: what cannot be read allows nothing", user_inb, 1);
    check_rc("in Xen's own", set_bitmap(XEN_POINTER, 64), -XEN_EINVAL);
    check_rc("at no address", set_bitmap((void *)0x800000000000, 64),
             -XEN_EINVAL);
    check_rc("of too many", set_bitmap(bitmap, 65537), -XEN_EINVAL);
    check_rc("none", set_bitmap(bitmap, 0), 0);
    check_user_trap("user: none", user_inb, 0x3f8);
}

static void test_user_iopl(void)
{
    set_iopl(2);
    check_user_trap("user: IOPL 2", user_inb, 0x3f8);
    set_iopl(3);
    check_user("user: IOPL 3", user_inb, 0x3f8, 0xff);
    check_user("user: IOPL 3, cli", user_cli, 0, 1);
    check_user("user: insb", user_insb, USER_DATA_VA + 5, 0);
    check_eq("it was put there", user_data[5], 0xff);
    buffer[9] = 0x12;
    check_user_fault("user: insb into the kernel", user_insb,
                     (uint64_t)&buffer[9], X86_PF, PF_W | PF_U);
    check_eq("nothing was", buffer[9], 0x12);
    check_user_fault("user: insb onto a read-only page", user_insb,
                     USER_CODE_VA, X86_PF, PF_P | PF_W | PF_U);
    check_eq("count", caught.regs.rcx, 1);
    set_iopl(1);
}

/* With the assist an iret to user mode sets it; without, the call alone. */
static void test_user_iret(void)
{
    user_rflags = RFLAGS_IF | RFLAGS_IOPL;
    check_user_trap("user: IOPL of an iret counts for nothing", user_inb, 1);
    CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl);
    check_user("user: with architectural_iopl it counts", user_inb, 1, 0xff);
    user_rflags = RFLAGS_IF;
    check_user_trap("user: and goes with the next", user_inb, 1);
    CALL(vm_assist, VMASST_CMD_disable, VMASST_TYPE_architectural_iopl);
}

void guest_main(void)
{
    events_init();
    user_init();
    test_values();
    test_iopl_assist();
    test_ins();
    test_ins_fault();
    test_outs();
    test_user_bitmap();
    test_user_iopl();
    test_user_iret();
}
