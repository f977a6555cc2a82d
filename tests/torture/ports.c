/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O ports of a process that its kernel lets have some: ioperm(2), iopl(2) and
 * the string instructions. For a guest alone: it has no device behind them, and
 * a host may refuse the calls.
 */
#include "torture.h"

#include <sys/io.h>
#include <sys/mman.h>
#include <unistd.h>

#define PORT 0x3e0

static void read_first(void)
{
    inb(PORT);
}

static void read_behind(void)
{
    inb(PORT + 8);
}

static void read_over_the_end(void)
{
    inw(PORT + 7);
}

static void interrupts(void)
{
    __asm__ volatile("cli; sti");
}

static void *input(void *to, unsigned long count)
{
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(PORT) : "memory");
    return to;
}

static void input_to_kernel(void)
{
    input((void *)0xffffffff81000000, 4);
}

static void input_to_hole(void)
{
    input((void *)0xffff808000200000, 4);
}

static void input_read_only(void)
{
    input(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4);
}

static void input_nowhere(void)
{
    input((void *)0x1000, 4);
}

/* Onto pages that are not there yet, then, in a child, onto shared ones. */
static void strings(void)
{
    unsigned char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *end = input(at, 3 * PAGE + 5);
    pid_t pid;

    result("ports: insb, bytes", end - at);
    result("ports: insb", checksum(at, 4 * PAGE));
    for (int i = 0; i < 4 * PAGE; i++)
        at[i] = (unsigned char)i;
    pid = fork();
    if (pid == 0) {
        input(at + 100, 2 * PAGE);
        _exit(checksum(at, 4 * PAGE) & 0x7f);
    }
    result("ports: insb in a child", wait_status(pid) >> 8);
    result("ports: the parent's are its own", checksum(at, 4 * PAGE));
    result("ports: insb to the kernel", death(input_to_kernel));
    result("ports: insb to the hole", death(input_to_hole));
    result("ports: insb, read-only", death(input_read_only));
    result("ports: insb to nothing", death(input_nowhere));
}

void ports(void)
{
    result("ports: none", death(read_first));
    result("ports: ioperm", ioperm(PORT, 8, 1));
    result("ports: inb", inb(PORT));
    result("ports: inw", inw(PORT));
    result("ports: inl", (int)inl(PORT + 4));
    outb(1, PORT + 7);
    result("ports: a child has them", death(read_first));
    result("ports: behind", death(read_behind));
    result("ports: over the end", death(read_over_the_end));
    result("ports: cli", death(interrupts));
    strings();
    result("ports: ioperm, none", ioperm(PORT, 8, 0));
    result("ports: none again", death(read_first));
    result("ports: iopl", iopl(3));
    result("ports: with iopl", inb(0x61) & 0x20);
    result("ports: any", inb(PORT + 8));
    result("ports: iopl 0", iopl(0));
    result("ports: none at last", death(read_behind));
}
