/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel is asked for: system calls, addresses that are not ours,
 * ports, and memory that changes under everybody's feet. */
#include "fuzz.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_CALLS 470

/* Those that only wait, or stop the attempts themselves. */
static bool is_dull(long number)
{
    switch (number) {
    case SYS_pause:
    case SYS_setitimer:
    case SYS_alarm:
    case SYS_exit:
    case SYS_exit_group:
    case SYS_vhangup:
    case SYS_vfork:
    case SYS_rt_sigsuspend:
        return true;
    default:
        return false;
    }
}

struct call {
    long number;
    uint64_t args[6];
};

static uint8_t buffer[2 * PAGE] __attribute__((aligned(4096)));

static uint64_t argument(void)
{
    switch (below(8)) {
    case 0:
        return below(8);
    case 1:
    case 2:
        return (uint64_t)buffer + below(2) * below(2 * PAGE);
    case 3:
        return below(4096);
    case 4:
        return address();
    case 5:
        return (uint64_t)-1;
    case 6:
        return PAGE;
    default:
        return word();
    }
}

static void do_call(void *of)
{
    const struct call *c = of;

    syscall(c->number, c->args[0], c->args[1], c->args[2], c->args[3],
            c->args[4], c->args[5]);
}

/* The same numbers through the other entries, whose meanings differ. */
static void do_int80(void *of)
{
    const struct call *c = of;

    __asm__ volatile("int $0x80" ::"a"(c->number), "b"(c->args[0]),
                     "c"(c->args[1]), "d"(c->args[2]), "S"(c->args[3]),
                     "D"(c->args[4])
                     : "memory");
}

void part_calls(void)
{
    for (int i = 0; i < 96; i++) {
        struct call c = {.number = below(NR_CALLS)};

        if (one_in(16))
            scribble(buffer, sizeof(buffer));
        for (int n = 0; n < 6; n++)
            c.args[n] = argument();
        if (one_in(32))
            c.number = (long)word();
        if (one_in(8))
            c.number = one_in(2) ? SYS_prctl : SYS_arch_prctl;
        if (c.number == SYS_prctl)
            c.args[0] = below(80);
        if (c.number == SYS_arch_prctl)
            c.args[0] = (one_in(2) ? 0x1000 : 0x2000) + below(40);
        if (!is_dull(c.number))
            attempt(one_in(8) && c.number != 1 ? do_int80 : do_call, &c);
    }
}

/* --- addresses ----------------------------------------------------------------------- */

struct place {
    uint64_t at;
    unsigned int way;
    int in, out;
};

static void touch(const struct place *p)
{
    switch (p->way) {
    case 0:
        __asm__ volatile("mov (%0), %%al" ::"r"(p->at) : "rax");
        break;
    case 1:
        __asm__ volatile("movb $1, (%0)" ::"r"(p->at) : "memory");
        break;
    case 2:
        __asm__ volatile("lock incq (%0)" ::"r"(p->at) : "memory");
        break;
    case 3:
        __asm__ volatile("call *%0" ::"r"(p->at), "a"(39UL) : "memory");
        break;
    case 4: /* forged as the SYSCALL instruction would leave it */
        __asm__ volatile("push %1; popfq; jmp *%0" ::"r"(p->at), "r"(eflags()),
                         "a"(39UL), "c"(word()), "d"(0));
        break;
    case 5:
        __asm__ volatile("mov %0, %%rsp; push %%rax" ::"r"(p->at));
        break;
    case 6:
        __asm__ volatile("mov %0, %%rsp; hlt" ::"r"(p->at), "a"(word()));
        break;
    case 7:
        __asm__ volatile("mov %0, %%rsp; mov $39, %%eax; syscall; int $0x80\n"
                         "ud2" ::"r"(p->at)
                         : "rax", "rcx", "r11");
        break;
    case 8:
        __asm__ volatile("prefetcht0 (%0); clflush (%0)" ::"r"(p->at));
        break;
    default:
        __asm__ volatile("cld; rep movsb" ::"S"(p->at), "D"(buffer), "c"(64UL)
                         : "memory");
    }
}

static void hand_over(const struct place *p)
{
    struct iovec here = {buffer, 64}, there = {(void *)p->at, 64};

    switch (p->way) {
    case 10:
        syscall(SYS_write, p->out, p->at, 1 + below(8192));
        break;
    case 11:
        syscall(SYS_write, p->out, buffer, 64);
        syscall(SYS_read, p->in, p->at, 64);
        break;
    case 12:
        syscall(SYS_arch_prctl, one_in(2) ? ARCH_SET_GS : ARCH_SET_FS, p->at);
        sched_yield();
        break;
    case 13:
        syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0);
        syscall(SYS_process_vm_writev, getpid(), &here, 1, &there, 1, 0);
        break;
    case 14:
        syscall(SYS_set_robust_list, p->at, 24);
        syscall(SYS_rseq, p->at & ~31UL, 32, 0, 0x53053053);
        break;
    case 15:
        syscall(SYS_clone, 0x100 | SIGCHLD, p->at, 0, 0, one_in(2) ? p->at : 0);
        break;
    case 16:
        syscall(SYS_mmap, p->at & ~(PAGE - 1), 1 + below(4 * PAGE),
                PROT_READ | PROT_WRITE, 0x32, -1, 0);
        syscall(SYS_mprotect, p->at & ~(PAGE - 1), PAGE, 7);
        syscall(SYS_munmap, p->at & ~(PAGE - 1), PAGE);
        break;
    default:
        syscall(SYS_futex, p->at & ~3UL, below(13), 0, buffer, p->at, 0);
    }
}

static void reach(void *of)
{
    const struct place *p = of;

    if (p->way < 10)
        touch(p);
    else
        hand_over(p);
}

void part_addresses(void)
{
    int ends[2];

    if (pipe2(ends, O_NONBLOCK))
        return;
    for (int i = 0; i < 64; i++) {
        struct place p = {.at = one_in(4) ? word() : address(),
                          .way = below(18),
                          .in = ends[0],
                          .out = ends[1]};

        traps_left = (int)below(4);
        attempt(reach, &p);
        traps_left = 0;
    }
}

/* --- ports, breakpoints: with the rights of root ------------------------------------ */

static void use_port(void *unused)
{
    uint16_t port = one_in(3)   ? (uint16_t)any()
                    : one_in(2) ? (uint16_t)(0xe0 + below(8))
                                : (uint16_t)below(0x100);

    (void)unused;
    switch (below(7)) {
    case 0:
        __asm__ volatile("inb %0, %%al" ::"d"(port) : "rax");
        break;
    case 1:
        __asm__ volatile("inl %0, %%eax" ::"d"(port) : "rax");
        break;
    case 2:
        __asm__ volatile("outb %%al, %0" ::"d"(port), "a"(below(16)));
        break;
    case 3:
        __asm__ volatile("outl %%eax, %0" ::"d"(port), "a"(below(16)));
        break;
    case 4:
        __asm__ volatile("cld; rep insb" ::"d"(port), "D"(address()), "c"(4UL)
                         : "memory");
        break;
    case 5:
        __asm__ volatile("cld; rep outsb" ::"d"(port), "S"(address()), "c"(4UL)
                         : "memory");
        break;
    default:
        __asm__ volatile("cli; sti");
    }
}

static void watch(void)
{
    struct perf_event_attr attr;
    int fd;

    memset(&attr, 0, sizeof(attr));
    attr.size = sizeof(attr);
    attr.type = one_in(2) ? PERF_TYPE_BREAKPOINT : below(6);
    attr.bp_type = 1 + below(4);
    attr.bp_addr = one_in(2) ? address() : (uint64_t)buffer;
    attr.bp_len = 1UL << below(4);
    attr.config = one_in(2) ? attr.bp_addr : below(12);
    attr.sample_period = 1 + below(100000);
    attr.sample_type = any() & 0xffffff;
    attr.exclude_kernel = one_in(2);
    fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
    if (fd >= 0 && one_in(2)) {
        buffer[0] = 1;
        sched_yield();
        close(fd);
    }
}

void part_ports(void)
{
    syscall(SYS_iopl, below(4));
    for (int i = 0; i < 48; i++) {
        if (one_in(8))
            syscall(SYS_iopl, below(4));
        if (one_in(8))
            syscall(SYS_ioperm, below(0x400), below(64), below(2));
        if (one_in(4))
            watch();
        attempt(use_port, NULL);
    }
}

/* --- memory ----------------------------------------------------------------------------- */

#define AREA 0x200000000UL
#define AREA_PAGES 64

static volatile bool is_over;

static uint64_t some_page(uint64_t *random)
{
    *random = *random * 6364136223846793005 + 1442695040888963407;
    return AREA + (*random >> 40) % AREA_PAGES * PAGE;
}

static void change(uint64_t at, unsigned int how)
{
    void *page = (void *)at;

    switch (how % 8) {
    case 0:
        munmap(page, PAGE);
        break;
    case 1:
    case 2:
        mprotect(page, 2 * PAGE, (int)(how >> 3) & 7);
        break;
    case 3:
        madvise(page, 4 * PAGE, MADV_DONTNEED);
        break;
    case 4:
        syscall(SYS_mremap, page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                at ^ (uint64_t)(how >> 3 & 7) * PAGE);
        break;
    default:
        mmap(page, 2 * PAGE, (int)(how >> 3) & 7,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
}

/* Through the kernel, which answers a fault with an error. */
static void *race(void *of)
{
    uint64_t random = (uint64_t)of;
    struct iovec here, there;
    char bytes[64];

    while (!is_over) {
        here = (struct iovec){bytes, sizeof(bytes)};
        there = (struct iovec){(void *)some_page(&random), sizeof(bytes)};
        if (random >> 20 & 1)
            change(some_page(&random), (unsigned int)(random >> 45));
        syscall(random >> 21 & 1 ? SYS_process_vm_readv : SYS_process_vm_writev,
                getpid(), &here, 1, &there, 1, 0);
    }
    return NULL;
}

void part_memory(void)
{
    pthread_t threads[3];
    unsigned int nr = 1 + below(ARRAY_SIZE(threads));
    uint64_t random = any();

    mmap((void *)AREA, AREA_PAGES * PAGE, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (unsigned int i = 0; i < nr; i++) {
        if (pthread_create(&threads[i], NULL, race, (void *)any()))
            return;
    }
    for (int i = 0; i < 300; i++) {
        ++*nr_attempts;
        change(some_page(&random), (unsigned int)(random >> 45));
        if (one_in(64) && fork() == 0) {
            for (int n = 0; n < 20; n++)
                change(some_page(&random), (unsigned int)(random >> 45));
            _exit(0);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    if (one_in(3)) /* dies with all of them at work */
        kill(getpid(), SIGKILL);
    is_over = true;
    for (unsigned int i = 0; i < nr; i++)
        pthread_join(threads[i], NULL);
}
