/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x87 and SSE state, segments of the LDT, and 64-bit code in between. */
#include "i386.h"

#include <asm/ldt.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- floating point ----------------------------------------------------------------- */

/* Eight registers of each kind over many a sched_yield(). */
static int float_child(int seed)
{
    double in[8], out[8];
    float in4[8][4], out4[8][4];

    for (int i = 0; i < 8; i++) {
        in[i] = seed * 1.5 + i;
        for (int j = 0; j < 4; j++)
            in4[i][j] = (float)(seed * 10 + i * 4 + j);
    }
    for (int turn = 0; turn < 300; turn++) {
        __asm__ volatile(
            "fldl 0(%0); fldl 8(%0); fldl 16(%0); fldl 24(%0)\n\t"
            "fldl 32(%0); fldl 40(%0); fldl 48(%0); fldl 56(%0)\n\t"
            "movups 0(%1), %%xmm0; movups 16(%1), %%xmm1\n\t"
            "movups 64(%1), %%xmm4; movups 112(%1), %%xmm7\n\t"
            "mov $158, %%eax; int $0x80\n\t" /* sched_yield */
            "fstpl 56(%2); fstpl 48(%2); fstpl 40(%2); fstpl 32(%2)\n\t"
            "fstpl 24(%2); fstpl 16(%2); fstpl 8(%2); fstpl 0(%2)\n\t"
            "movups %%xmm0, 0(%3); movups %%xmm1, 16(%3)\n\t"
            "movups %%xmm4, 64(%3); movups %%xmm7, 112(%3)"
            :
            : "c"(in), "d"(in4), "S"(out), "D"(out4)
            : "eax", "memory");
        if (memcmp(in, out, sizeof(in)) || memcmp(in4[0], out4[0], 32) ||
            memcmp(in4[4], out4[4], 16) || memcmp(in4[7], out4[7], 16))
            return 1;
    }
    return 0;
}

static void spoil_floats(int number)
{
    static const float ones[4] = {1, 1, 1, 1};

    (void)number;
    __asm__ volatile("fninit; fld1; fld1; movups %0, %%xmm4" ::"m"(ones));
}

static void die_x87(void)
{
    unsigned short control = 0x33b; /* all masked but division by zero */

    __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait"
                     :
                     : "m"(control));
}

void floats(void)
{
    pid_t children[PROCESSES];
    float four[4] = {1.5f, 2.5f, 3.5f, 4.5f}, got[4];
    long double sum = 0;
    double kept = 0, value = 1234.5;
    long bad = 0;

    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(float_child(i + 1));
    }
    for (int i = 0; i < PROCESSES; i++)
        bad += wait_status(children[i]) != 0;
    result("float state lost", bad);
    for (int i = 1; i < 2000; i++) {
        long double root;

        __asm__("fsqrt" : "=t"(root) : "0"((long double)i));
        sum += root;
    }
    result("sum of roots", (long)(sum * 1000));
    signal(SIGUSR1, spoil_floats);
    __asm__ volatile("fldl %2; movups %3, %%xmm4\n\t"
                     "mov $20, %%eax; int $0x80\n\t"        /* getpid */
                     "mov %%eax, %%ebx; mov $10, %%ecx\n\t" /* SIGUSR1 */
                     "mov $37, %%eax; int $0x80\n\t"        /* kill */
                     "fstpl %0; movups %%xmm4, %1"
                     : "=m"(kept), "=m"(got)
                     : "m"(value), "m"(four)
                     : "eax", "ebx", "ecx", "memory");
    result("x87 after a signal", (long)(kept * 10));
    result("SSE after a signal", memcmp(four, got, sizeof(got)));
    result("x87 exception", death(die_x87));
}

/* --- segments of the LDT --------------------------------------------------------------- */

#define SELECTOR(nr) ((nr)*8 | 7)

static int set_entry(unsigned int nr, void *base, int is_32, int is_code)
{
    struct user_desc d = {.entry_number = nr,
                          .base_addr = (unsigned int)base,
                          .limit = PAGE - 1,
                          .seg_32bit = is_32 != 0,
                          .contents = is_code ? MODIFY_LDT_CONTENTS_CODE : 0};

    return (int)syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

static long call_far(unsigned int selector, long eax)
{
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) to = {0, (uint16_t)selector};

    __asm__ volatile("lcall *%1" : "+a"(eax) : "m"(to) : "memory");
    return eax;
}

static unsigned char *code;

static void set_code(const char *bytes, size_t length)
{
    memset(code, 0xf4, PAGE);
    memcpy(code, bytes, length);
}

#define CODE(bytes) set_code(bytes, sizeof(bytes) - 1)

static void die_past_the_limit(void)
{
    memset(code, 0x90, PAGE);
    call_far(SELECTOR(1), 0);
}

static void die_without_ldt(void)
{
    struct user_desc none = {
        .entry_number = 1, .read_exec_only = 1, .seg_not_present = 1};

    syscall(SYS_modify_ldt, 1, &none, sizeof(none));
    call_far(SELECTOR(1), 0);
}

void segments(void)
{
    static int data[4] = {11, 22, 33, 44};
    long got = 0;

    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    result("LDT: 32 bits", set_entry(1, code, 1, 1));
    result("LDT: data", set_entry(3, &data[1], 1, 0));
    __asm__ volatile("mov %1, %%es; mov %%es:4, %0; push %%ds; pop %%es"
                     : "=&r"(got)
                     : "r"(SELECTOR(3)));
    result("LDT: through es", got);
    CODE("\x83\xc0\x05\xcb"); /* add $5, %eax; lret */
    result("LDT: call of 32 bits", call_far(SELECTOR(1), 37));
    /* mov $20, %eax; int $0x80; lret */
    CODE("\xb8\x14\0\0\0\xcd\x80\xcb");
    result("LDT: int 0x80", call_far(SELECTOR(1), 0) == getpid());
    /* Linux refuses segments of 16 bits in a PV guest. */
    result("LDT: past the limit", death(die_past_the_limit));
    result("LDT: taken away", death(die_without_ldt));
}

/* --- 64 bits in a 32-bit process --------------------------------------------------------- */

/* There and back; in between %r10 is another's than %edx, and syscall is the
 * 64-bit table's (getpid is 39 there, 20 here). */
static long in_64_bits(void)
{
    long pid;

    __asm__ volatile("lcall %2, $1f\n\tjmp 2f\n"
                     "1:\t.code64\n\t"
                     "movabs $0x123456789abcdef0, %%r10\n\t"
                     "movl $39, %%eax\n\tsyscall\n\t"
                     "shrq $60, %%r10\n\tleal -1(%%r10,%%rax), %%eax\n\t"
                     "lretl\n\t.code32\n2:"
                     : "=a"(pid)
                     : "0"(0), "i"(CS_64)
                     : "ecx", "memory");
    return pid;
}

static long int80_in_64_bits(void)
{
    long pid;

    __asm__ volatile("lcall %2, $1f\n\tjmp 2f\n"
                     "1:\t.code64\n\tmovl $20, %%eax\n\tint $0x80\n\t"
                     "lretl\n\t.code32\n2:"
                     : "=a"(pid)
                     : "0"(0), "i"(CS_64)
                     : "ecx", "memory");
    return pid;
}

static void die_in_64(void)
{
    __asm__ volatile("lcall %0, $1f\n1:\t.code64\n\t"
                     "movabs $0xdead000000000000, %%rax\n\tmov (%%rax), %%rax\n"
                     ".code32" ::"i"(CS_64)
                     : "eax");
}

static void die_rsp(void)
{
    __asm__ volatile("lcall %0, $1f\n1:\t.code64\n\t"
                     "movabs $0xdead000000000000, %%rsp\n\tmovl $39, %%eax\n\t"
                     "syscall\n\tpush %%rax\n.code32" ::"i"(CS_64)
                     : "eax");
}

void widths(void)
{
    result("64 bits: syscall", in_64_bits() == getpid());
    result("64 bits: int 0x80", int80_in_64_bits() == getpid());
    result("64 bits: non-canonical", death(die_in_64));
    result("64 bits: rsp", death(die_rsp));
}
