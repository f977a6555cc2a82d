/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions: those that are not for user space, those that few emulators
 * know, and bytes that may be none, cut by the ends of pages. The registers
 * are anything.
 */
#include "fuzz.h"

#include <string.h>

struct code {
    uint8_t length, bytes[7];
};

static const struct code codes[] = {
    {1, {0xf4}},                         /* hlt */
    {1, {0xfa}},                         /* cli */
    {1, {0xfb}},                         /* sti */
    {1, {0xcc}},                         /* int3 */
    {1, {0xce}},                         /* into */
    {1, {0xf1}},                         /* int1 */
    {1, {0xcf}},                         /* iret */
    {1, {0x9c}},                         /* pushf */
    {1, {0x9d}},                         /* popf */
    {1, {0xcb}},                         /* retf */
    {1, {0x9b}},                         /* fwait */
    {1, {0xec}},                         /* in al, dx */
    {1, {0xef}},                         /* out dx, eax */
    {1, {0x6c}},                         /* insb */
    {1, {0x6f}},                         /* outsd */
    {1, {0xd7}},                         /* xlat */
    {1, {0x07}},                         /* pop es: #UD in 64-bit code */
    {2, {0x0f, 0x05}},                   /* syscall */
    {2, {0x0f, 0x07}},                   /* sysret */
    {2, {0x0f, 0x34}},                   /* sysenter */
    {2, {0x0f, 0x35}},                   /* sysexit */
    {2, {0x0f, 0x06}},                   /* clts */
    {2, {0x0f, 0x08}},                   /* invd */
    {2, {0x0f, 0x09}},                   /* wbinvd */
    {2, {0x0f, 0x0b}},                   /* ud2 */
    {2, {0x0f, 0xb9}},                   /* ud1 */
    {2, {0x0f, 0xff}},                   /* ud0 */
    {2, {0x0f, 0x30}},                   /* wrmsr */
    {2, {0x0f, 0x31}},                   /* rdtsc */
    {2, {0x0f, 0x32}},                   /* rdmsr */
    {2, {0x0f, 0x33}},                   /* rdpmc */
    {2, {0x0f, 0x37}},                   /* getsec */
    {2, {0x0f, 0xa2}},                   /* cpuid */
    {2, {0x0f, 0xaa}},                   /* rsm */
    {2, {0x0f, 0xa1}},                   /* pop fs */
    {2, {0x0f, 0xa9}},                   /* pop gs */
    {2, {0x0f, 0x77}},                   /* emms */
    {3, {0x0f, 0x01, 0xc1}},             /* vmcall */
    {3, {0x0f, 0x01, 0xd9}},             /* vmmcall */
    {3, {0x0f, 0x01, 0xd8}},             /* vmrun */
    {3, {0x0f, 0x01, 0xdc}},             /* stgi */
    {3, {0x0f, 0x01, 0xdf}},             /* invlpga */
    {3, {0x0f, 0x01, 0xd0}},             /* xgetbv */
    {3, {0x0f, 0x01, 0xd1}},             /* xsetbv */
    {3, {0x0f, 0x01, 0xd5}},             /* xend */
    {3, {0x0f, 0x01, 0xee}},             /* rdpkru */
    {3, {0x0f, 0x01, 0xef}},             /* wrpkru */
    {3, {0x0f, 0x01, 0xf8}},             /* swapgs */
    {3, {0x0f, 0x01, 0xf9}},             /* rdtscp */
    {3, {0x0f, 0x01, 0xfa}},             /* monitorx */
    {3, {0x0f, 0x01, 0xfb}},             /* mwaitx */
    {3, {0x0f, 0x01, 0xfc}},             /* clzero */
    {3, {0x0f, 0x01, 0xfd}},             /* rdpru */
    {3, {0x0f, 0x01, 0xc8}},             /* monitor */
    {3, {0x0f, 0x01, 0xc9}},             /* mwait */
    {3, {0x0f, 0x01, 0xca}},             /* clac */
    {3, {0x0f, 0x01, 0xcb}},             /* stac */
    {3, {0x0f, 0x01, 0xcf}},             /* encls */
    {3, {0x0f, 0x01, 0xd7}},             /* enclu */
    {3, {0x0f, 0x01, 0x00}},             /* sgdt */
    {3, {0x0f, 0x01, 0x08}},             /* sidt */
    {3, {0x0f, 0x01, 0x10}},             /* lgdt */
    {3, {0x0f, 0x01, 0x18}},             /* lidt */
    {3, {0x0f, 0x01, 0xe0}},             /* smsw */
    {3, {0x0f, 0x01, 0xf0}},             /* lmsw */
    {3, {0x0f, 0x01, 0x38}},             /* invlpg */
    {3, {0x0f, 0x00, 0xc0}},             /* sldt */
    {3, {0x0f, 0x00, 0xc8}},             /* str */
    {3, {0x0f, 0x00, 0xd0}},             /* lldt */
    {3, {0x0f, 0x00, 0xd8}},             /* ltr */
    {3, {0x0f, 0x00, 0xe0}},             /* verr */
    {3, {0x0f, 0x00, 0xe8}},             /* verw */
    {3, {0x0f, 0x02, 0xc1}},             /* lar */
    {3, {0x0f, 0x03, 0xc1}},             /* lsl */
    {3, {0x0f, 0x20, 0xc0}},             /* mov cr0 */
    {3, {0x0f, 0x20, 0xd0}},             /* mov cr2 */
    {3, {0x0f, 0x20, 0xd8}},             /* mov cr3 */
    {3, {0x0f, 0x22, 0xd8}},             /* mov to cr3 */
    {3, {0x0f, 0x22, 0xe0}},             /* mov to cr4 */
    {4, {0x44, 0x0f, 0x20, 0xc0}},       /* mov cr8 */
    {3, {0x0f, 0x21, 0xf8}},             /* mov dr7 */
    {3, {0x0f, 0x23, 0xf8}},             /* mov to dr7 */
    {3, {0x0f, 0xae, 0x00}},             /* fxsave */
    {3, {0x0f, 0xae, 0x08}},             /* fxrstor */
    {3, {0x0f, 0xae, 0x10}},             /* ldmxcsr */
    {3, {0x0f, 0xae, 0x20}},             /* xsave */
    {3, {0x0f, 0xae, 0x28}},             /* xrstor */
    {3, {0x0f, 0xc7, 0x18}},             /* xrstors */
    {3, {0x0f, 0xc7, 0x28}},             /* xsaves */
    {4, {0xf3, 0x0f, 0xae, 0xc1}},       /* rdfsbase */
    {4, {0xf3, 0x0f, 0xae, 0xc9}},       /* rdgsbase */
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd1}}, /* wrfsbase */
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd9}}, /* wrgsbase */
    {5, {0x66, 0x0f, 0x38, 0x82, 0x00}}, /* invpcid */
    {3, {0x0f, 0xb2, 0x20}},             /* lss */
    {2, {0x8e, 0xd0}},                   /* mov to ss */
    {2, {0x8e, 0xe8}},                   /* mov to gs */
    {7, {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2}},
    {5, {0x0f, 0x0b, 'x', 'e', 'n'}},
    {5, {0x0f, 0x0b, 'k', 'v', 'm'}},
    {2, {0xcd, 0x80}},
    {2, {0xcd, 0x82}},
    {3, {0x48, 0xff, 0x28}},                   /* ljmp */
    {3, {0x48, 0xff, 0x18}},                   /* lcall */
    {2, {0x48, 0xcf}},                         /* iretq */
    {2, {0x48, 0xcb}},                         /* lretq */
    {2, {0xc7, 0xf8}},                         /* xbegin */
    {4, {0xf3, 0x0f, 0xc7, 0xf8}},             /* rdpid */
    {4, {0x66, 0x0f, 0xae, 0xf1}},             /* tpause */
    {4, {0xf3, 0x0f, 0x01, 0xee}},             /* stui */
    {6, {0xc4, 0xe2, 0x7b, 0x49, 0xc0, 0x00}}, /* tilezero */
};

size_t make_instruction(uint8_t *to)
{
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0,
                                       0x2e, 0x36, 0x3e, 0x26, 0x64,
                                       0x65, 0x40, 0x41, 0x48, 0x4f};
    const struct code *c = &codes[below(ARRAY_SIZE(codes))];
    size_t n = 0, most = one_in(8) ? 15 : one_in(2) ? 3 : 0;

    for (size_t i = most ? below((unsigned int)most) : 0; i > 0; i--)
        to[n++] = prefixes[below(ARRAY_SIZE(prefixes))];
    if (one_in(8)) { /* int n */
        to[n++] = 0xcd;
        if (n < 15)
            to[n++] = (uint8_t)any();
        return n;
    }
    for (size_t i = 0; i < c->length && n < 15; i++)
        to[n++] = c->bytes[i];
    if (one_in(6))
        to[below((unsigned int)n)] = (uint8_t)any();
    return n;
}

/* For the assembly below: rax to r15 but rsp, rsp last, and where to go. */
uint64_t loaded[17];

/* Every register is what the table says, and there we go. */
static void go(void *to)
{
    loaded[16] = (uint64_t)to;
    __asm__ volatile("mov loaded+8(%rip), %rcx; mov loaded+16(%rip), %rdx\n"
                     "mov loaded+24(%rip), %rbx; mov loaded+32(%rip), %rbp\n"
                     "mov loaded+40(%rip), %rsi; mov loaded+48(%rip), %rdi\n"
                     "mov loaded+56(%rip), %r8; mov loaded+64(%rip), %r9\n"
                     "mov loaded+72(%rip), %r10; mov loaded+80(%rip), %r11\n"
                     "mov loaded+88(%rip), %r12; mov loaded+96(%rip), %r13\n"
                     "mov loaded+104(%rip), %r14; mov loaded+112(%rip), %r15\n"
                     "mov loaded(%rip), %rax\n"
                     "cmpq $0, loaded+120(%rip)\n"
                     "je 1f\n"
                     "mov loaded+120(%rip), %rsp\n"
                     "1: jmp *loaded+128(%rip)\n");
}

static void load_registers(void)
{
    for (unsigned int i = 0; i < 15; i++)
        loaded[i] = word();
    loaded[15] = one_in(4) ? word() : 0;
    /* A system call as good as any, as long as it is none of those that
     * end or stop a process: half of the numbers fail at once. */
    if (one_in(2))
        loaded[0] = 39;
}

void part_instructions(void)
{
    for (int i = 0; i < 48; i++) {
        uint8_t code[17];
        size_t n = make_instruction(code);

        code[n++] = 0xcc;
        load_registers();
        attempt(go, put_code(code, n));
    }
}

/* Bytes that mean nothing. */
void part_noise(void)
{
    for (int i = 0; i < 48; i++) {
        uint8_t code[24];

        scribble(code, sizeof(code));
        load_registers();
        attempt(go, one_in(8) ? (void *)address()
                              : put_code(code, 1 + below(sizeof(code))));
    }
}

/* --- flags ------------------------------------------------------------------- */

static const uint8_t after_popf[][12] = {
    {0x0f, 0x05}, /* syscall */
    {0xcd, 0x80}, /* int 0x80 */
    {0x0f, 0x34}, /* sysenter */
    {0xcc},       /* int3 */
    {0xf1},       /* int1 */
    {0x0f, 0x0b}, /* ud2 */
    {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2},
    {0x8e, 0xd1, 0x0f, 0x05}, /* mov to ss, then each of these */
    {0x8e, 0xd1, 0xcd, 0x80},
    {0x8e, 0xd1, 0xcc},
    {0x8e, 0xd1, 0xf1},
    {0x8e, 0xd1, 0x0f, 0x34},
    {0x8e, 0xd1, 0x0f, 0x0b},
    {0x8e, 0xd1, 0x9d},
    {0x48, 0x8b, 0x00},             /* mov (%rax), %rax */
    {0x48, 0x8b, 0x44, 0x24, 0x01}, /* mov 1(%rsp), %rax: #AC */
    {0x48, 0xcf},                   /* iretq */
    {0x9c, 0x9d, 0x0f, 0x05},
    {0xf3, 0xa4}, /* rep movsb */
    {0xfb, 0xfa},
};

static void with_flags(void *to)
{
    loaded[16] = (uint64_t)to;
    __asm__ volatile("mov %%ss, %%ecx\n"
                     "push %0\n"
                     "popfq\n"
                     "jmp *loaded+128(%%rip)\n" ::"r"(loaded[15]),
                     "a"(39UL), "S"(loaded[1]), "D"(loaded[2])
                     : "rcx", "r11", "memory");
}

void part_flags(void)
{
    for (int i = 0; i < 64; i++) {
        uint8_t code[16];

        memset(code, 0x90, sizeof(code));
        memcpy(code, after_popf[below(ARRAY_SIZE(after_popf))], 12);
        code[12] = 0x0f;
        code[13] = 0x05;
        code[14] = 0xcc;
        loaded[1] = word();
        loaded[2] = word();
        loaded[15] = eflags();
        traps_left = (int)below(24);
        attempt(with_flags, put_code(code, 15));
        traps_left = 0;
    }
}
