/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Selectors, descriptors of the LDT, and far transfers through both. */
#include "fuzz.h"

#include <asm/ldt.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void load_all(void *of)
{
    const uint16_t *s = of;

    switch (below(10)) {
    case 0:
        __asm__ volatile("mov %0, %%ds" ::"r"((uint32_t)s[0]));
        break;
    case 1:
        __asm__ volatile("mov %0, %%es" ::"r"((uint32_t)s[0]));
        break;
    case 2: /* the library's own is lost: nothing of it until the end */
        __asm__ volatile(
            "mov %0, %%fs\n mov %%fs:0, %%rax\n"
            "mov $24, %%eax; syscall; mov %%fs:0, %%rax" ::"r"((uint32_t)s[0])
            : "rax", "rcx", "r11", "memory");
        break;
    case 3:
        __asm__ volatile("mov %0, %%gs; mov $24, %%eax; syscall\n"
                         "mov %%gs:0, %%rax" ::"r"((uint32_t)s[0])
                         : "rax", "rcx", "r11", "memory");
        break;
    case 4:
        __asm__ volatile("mov %%ss, %%edx; mov %0, %%ss; mov %%edx, %%ss" ::"r"(
                             (uint32_t)s[0])
                         : "rdx");
        break;
    case 5: /* held over a way into the kernel and back */
        __asm__ volatile(
            "mov %0, %%ss; mov $24, %%eax; syscall" ::"r"((uint32_t)s[0])
            : "rax", "rcx", "r11", "memory");
        break;
    case 6:
        __asm__ volatile(
            "mov %0, %%ss; mov $20, %%eax; int $0x80" ::"r"((uint32_t)s[0])
            : "rax", "memory");
        break;
    case 7:
        __asm__ volatile(
            "lar %0, %%eax; lsl %0, %%eax; verr %w0; verw %w0" ::"r"(
                (uint32_t)s[0])
            : "rax", "cc");
        break;
    case 8:
        __asm__ volatile(
            "mov %0, %%ds; mov %0, %%es; mov %1, %%fs\n"
            "mov %1, %%gs; mov %0, %%ss; ud2" ::"r"((uint32_t)s[0]),
            "r"((uint32_t)s[1]));
        break;
    default: { /* lfs, lgs, lss */
        struct {
            uint64_t offset;
            uint16_t selector;
        } __attribute__((packed)) far = {word(), s[0]};

        __asm__ volatile("rex.w lgs %0, %%eax; mov $24, %%eax; syscall\n"
                         "rex.w lss %0, %%eax; ud2" ::"m"(far)
                         : "rax", "rcx", "r11", "memory");
    }
    }
}

void part_selectors(void)
{
    /* Neighbours as well: all of them in the end. */
    uint16_t first = (uint16_t)any();

    for (unsigned int i = 0; i < 128; i++) {
        uint16_t s[2] = {i < 64 ? (uint16_t)(first + i) : selector(),
                         selector()};

        attempt(load_all, s);
        if (one_in(16))
            sched_yield();
    }
}

static struct user_desc descriptor(unsigned int entry)
{
    struct user_desc d;

    scribble(&d, sizeof(d));
    d.entry_number = one_in(8) ? (unsigned int)word() : entry;
    switch (below(4)) {
    case 0:
        d.base_addr = 0;
        d.limit = 0xfffff;
        d.limit_in_pages = 1;
        break;
    case 1:
        d.base_addr = LOW_CODE;
        d.limit = below(2 * PAGE);
        d.limit_in_pages = 0;
        break;
    case 2:
        d.seg_not_present = 0;
        break;
    }
    return d;
}

/* --- far transfers ---------------------------------------------------------------- */

/* For the assembly below. */
static struct {
    uint64_t rip, cs, rflags, rsp, ss;
} frame;
static struct {
    uint64_t offset;
    uint16_t selector;
} __attribute__((packed)) far_pointer;

static void by_iret(void *unused)
{
    (void)unused;
    __asm__ volatile("push %0; push %1; push %2; push %3; push %4\n"
                     "iretq" ::"m"(frame.ss),
                     "m"(frame.rsp), "m"(frame.rflags), "m"(frame.cs),
                     "m"(frame.rip), "a"(39UL));
}

static void by_retf(void *unused)
{
    (void)unused;
    __asm__ volatile("push %0; push %1; lretq" ::"m"(frame.cs), "m"(frame.rip),
                     "a"(39UL));
}

/* A far return to where the stack changes as well cannot be had at ring 3; a
 * 32-bit one of each kind can. */
static void by_small_iret(void *unused)
{
    (void)unused;
    __asm__ volatile("mov %0, %%rsp; pushq %1; pushq %2\n"
                     "iretl" ::"r"(LOW_STACK_TOP - 32),
                     "m"(frame.cs), "m"(frame.rip), "a"(39UL));
}

static void by_jump(void *unused)
{
    (void)unused;
    __asm__ volatile("rex.w ljmp *%0" ::"m"(far_pointer), "a"(39UL));
}

static void by_call(void *unused)
{
    (void)unused;
    __asm__ volatile("rex.w lcall *%0" ::"m"(far_pointer), "a"(39UL));
}

/* From a stack below 4 GiB, which 32-bit code can use. */
static void by_short_jump(void *unused)
{
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) *to = (void *)(LOW_STACK_TOP - 64);

    (void)unused;
    to->offset = (uint32_t)frame.rip;
    to->selector = (uint16_t)frame.cs;
    __asm__ volatile("mov %0, %%rsp; ljmpl *(%%rsp)" ::"r"(LOW_STACK_TOP - 64),
                     "a"(39UL), "b"(39UL));
}

static void transfer(void)
{
    static void (*const ways[])(void *) = {
        by_iret, by_retf, by_jump, by_call, by_short_jump, by_small_iret};
    bool low = one_in(2);
    unsigned int way;

    frame.rip = one_in(6) ? address() : landing(low);
    frame.cs = one_in(3) ? 0x23 : one_in(2) ? 0x33 : selector();
    frame.rflags = eflags();
    frame.rsp = one_in(3) ? word() : LOW_STACK_TOP - 16;
    frame.ss = one_in(2) ? 0x2b : selector();
    far_pointer.offset = frame.rip;
    far_pointer.selector = (uint16_t)frame.cs;
    traps_left = (int)below(8);
    way = below(ARRAY_SIZE(ways));
    note("way %u: rip %lx cs %lx rflags %lx rsp %lx ss %lx\n", way, frame.rip,
         frame.cs, frame.rflags, frame.rsp, frame.ss);
    note("at 10000: %lx %lx\n", *(uint64_t *)LOW_CODE,
         *(uint64_t *)(LOW_CODE + 8));
    attempt(ways[way], NULL);
    traps_left = 0;
}

void part_transfers(void)
{
    for (int i = 0; i < 48; i++)
        transfer();
}

void part_descriptors(void)
{
    for (int i = 0; i < 24; i++) {
        unsigned int entry = one_in(8) ? 8191 : below(600);
        struct user_desc d = descriptor(entry);
        uint16_t s[2] = {(uint16_t)(entry << 3 | 7), selector()};
        uint8_t old[64];

        if (one_in(8)) {
            d.entry_number = 12 + below(3);
            s[0] = (uint16_t)(d.entry_number << 3 | 3);
            syscall(SYS_set_thread_area, &d);
        }
        syscall(SYS_modify_ldt, one_in(2) ? 1 : 0x11, &d, sizeof(d));
        if (one_in(16))
            syscall(SYS_modify_ldt, one_in(2) ? 0 : 2, old, sizeof(old));
        if (one_in(2))
            attempt(load_all, s);
        transfer();
        frame.cs = s[0];
        far_pointer.selector = s[0];
        far_pointer.offset = frame.rip = one_in(2) ? below(2 * PAGE) : LOW_CODE;
        note("entry %x base %x limit %x flags %x: %x:%lx\n", d.entry_number,
             d.base_addr, d.limit, ((unsigned int *)&d)[3], s[0], frame.rip);
        attempt(one_in(2) ? by_iret : by_jump, NULL);
        note("short\n");
        attempt(by_short_jump, NULL);
        note("done\n");
        if (one_in(8) && fork() == 0)
            _exit(attempt(load_all, s));
    }
}
