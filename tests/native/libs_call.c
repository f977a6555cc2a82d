/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libxencall with a made-up evtchnd and a made-up vmcore: the hypercalls that
 * libxenctrl makes, and any others.
 */
/* First: the headers of Xen have a part that is for tools. */
#include "libs/call/handle.h"

#include "tests/native/anything.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>

#include <xen/event_channel.h>
#include <xen/version.h>
#include <xen/xen.h>

#include "abi/emu.h"
#include "abi/layout.h"

#define DOMID 5
#define DOMCTL_VERSION 0x15
#define NR_VMCORES 300
#define NR_CLIENTS 300
#define NR_CALLS 12

static int vmcore_fd = -1;

/* The file of domain 5, empty. */
static void make_vmcore(off_t size_bytes)
{
    char path[256];

    if (vmcore_fd >= 0)
        close(vmcore_fd);
    if (evtchnd_runtime_path(path, sizeof(path), "vmcore.5"))
        exit(1);
    unlink(path);
    vmcore_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (vmcore_fd < 0 || ftruncate(vmcore_fd, size_bytes))
        exit(1);
}

static void put(const void *from, size_t bytes, off_t at)
{
    if (pwrite(vmcore_fd, from, bytes, at) != (ssize_t)bytes)
        exit(1);
}

/* As emu leaves it: vCPU 0 runs, vCPU 1 is blocked, 10 pages are given back. */
static void make_running_domain(void)
{
    struct emu_shared shared = {
        .magic = EMU_ABI_MAGIC,
        .version = EMU_ABI_VERSION,
        .machine_nr_pages = 4096,
        .m2p_nr_entries = 4096,
        .guest_mfn = 0,
    };
    uint32_t up = EMU_VCPU_UP, blocked = EMU_VCPU_UP | EMU_VCPU_BLOCKED;
    uint64_t none[10];

    make_vmcore(16 << 20);
    memset(none, 0xff, sizeof(none));
    put(&shared, sizeof(shared), EMU_SHARED_GPA);
    put(&up, sizeof(up), EMU_VCPU_GPA + offsetof(struct emu_vcpu, state));
    put(&blocked, sizeof(blocked),
        EMU_VCPU_GPA + EMU_VCPU_BYTES + offsetof(struct emu_vcpu, state));
    put(none, sizeof(none), M2P_GPA + 100 * sizeof(*none));
}

static long domctl(xencall_handle *xcall, struct xen_domctl *op)
{
    op->interface_version = DOMCTL_VERSION;
    errno = 0;
    return xencall1(xcall, __HYPERVISOR_domctl, (uint64_t)(uintptr_t)op);
}

static xencall_handle *open_honest(void)
{
    xencall_handle *xcall;

    is_honest = true;
    start_server(1);
    xcall = xencall_open(NULL, 0);
    CHECK(xcall != NULL);
    if (!xcall)
        exit(1);
    return xcall;
}

static void close_honest(xencall_handle *xcall)
{
    CHECK_EQ(xencall_close(xcall), 0);
    stop_server();
    close(listener);
}

TEST(a_domain_as_its_vmcore_says)
{
    struct xen_domctl op = {.cmd = XEN_DOMCTL_getdomaininfo, .domain = 3};
    xencall_handle *xcall = open_honest();

    make_running_domain();
    honest_domain.pid = (uint32_t)getpid();
    CHECK_EQ(domctl(xcall, &op), 0);
    CHECK_EQ(op.domain, DOMID);
    CHECK_EQ(op.u.getdomaininfo.tot_pages, 4096 - 10);
    CHECK_EQ(op.u.getdomaininfo.max_pages, 4096);
    CHECK_EQ(op.u.getdomaininfo.nr_online_vcpus, 2);
    CHECK_EQ(op.u.getdomaininfo.max_vcpu_id, honest_domain.nr_vcpus - 1);
    CHECK_EQ(op.u.getdomaininfo.flags, XEN_DOMINF_running);
    CHECK(op.u.getdomaininfo.cpu_time > 0);
    op = (struct xen_domctl){.cmd = XEN_DOMCTL_getvcpuinfo, .domain = DOMID};
    op.u.getvcpuinfo.vcpu = 1;
    CHECK_EQ(domctl(xcall, &op), 0);
    CHECK(op.u.getvcpuinfo.online && op.u.getvcpuinfo.blocked);
    op.u.getvcpuinfo.vcpu = 2;
    CHECK_EQ(domctl(xcall, &op), -1);
    CHECK_EQ(errno, ESRCH);
    op = (struct xen_domctl){.cmd = XEN_DOMCTL_getdomaininfo, .domain = 6};
    CHECK_EQ(domctl(xcall, &op), -1);
    CHECK_EQ(errno, ESRCH);
    op.cmd = XEN_DOMCTL_destroydomain;
    CHECK_EQ(domctl(xcall, &op), -1);
    CHECK_EQ(errno, ENOSYS);
    close_honest(xcall);
}

TEST(a_list_is_as_long_as_there_is_room)
{
    struct xen_sysctl op = {.interface_version = DOMCTL_VERSION,
                            .cmd = XEN_SYSCTL_getdomaininfolist};
    xencall_handle *xcall = open_honest();
    /* One, with nothing behind it that may be touched. */
    struct xen_domctl_getdomaininfo *info = malloc(sizeof(*info));

    make_running_domain();
    op.u.getdomaininfolist.buffer.p = info;
    op.u.getdomaininfolist.max_domains = 1;
    CHECK_EQ(xencall1(xcall, __HYPERVISOR_sysctl, (uint64_t)(uintptr_t)&op), 0);
    CHECK_EQ(op.u.getdomaininfolist.num_domains, 1);
    CHECK_EQ(info->domain, DOMID);
    op.u.getdomaininfolist.max_domains = 0;
    CHECK_EQ(xencall1(xcall, __HYPERVISOR_sysctl, (uint64_t)(uintptr_t)&op), 0);
    CHECK_EQ(op.u.getdomaininfolist.num_domains, 0);
    op.u.getdomaininfolist.buffer.p = NULL;
    CHECK_EQ(xencall1(xcall, __HYPERVISOR_sysctl, (uint64_t)(uintptr_t)&op), 0);
    op.u.getdomaininfolist.max_domains = 1;
    CHECK_EQ(xencall1(xcall, __HYPERVISOR_sysctl, (uint64_t)(uintptr_t)&op),
             -1);
    CHECK_EQ(errno, EFAULT);
    op.interface_version = 0x13;
    CHECK_EQ(xencall1(xcall, __HYPERVISOR_sysctl, (uint64_t)(uintptr_t)&op),
             -1);
    CHECK_EQ(errno, EACCES);
    free(info);
    close_honest(xcall);
}

TEST(maps_of_any_length)
{
    xencall_handle *xcall = open_honest();

    make_running_domain();
    for (uint32_t nr_bits = 1; nr_bits < 70; nr_bits++) {
        struct xen_domctl op = {.cmd = XEN_DOMCTL_getvcpuaffinity,
                                .domain = DOMID};
        uint8_t *bits = malloc((nr_bits + 7) / 8);

        op.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
        op.u.vcpuaffinity.cpumap_hard.bitmap.p = bits;
        op.u.vcpuaffinity.cpumap_hard.nr_bits = nr_bits;
        CHECK_EQ(domctl(xcall, &op), 0);
        CHECK(bits[0] & 1);
        free(bits);
    }
    close_honest(xcall);
}

/* What a guest can write where usage.c reads: it shows in the figures, and
 * nowhere else. */
TEST(a_vmcore_that_says_anything)
{
    xencall_handle *xcall = open_honest();
    struct xen_domctl op;
    unsigned int before = nr_fds();
    uint64_t words[600], random = 0x2545f4914f6cdd1d;

    for (int round = 0; round < NR_VMCORES; round++) {
        make_running_domain();
        for (unsigned int i = 0; i < 600; i++)
            words[i] = random64(&random) >> random64(&random) % 64;
        /* Its magic and version are right in some. */
        put(words, random64(&random) % sizeof(words),
            EMU_SHARED_GPA + (off_t)(random64(&random) % 2 * 16));
        put(words, sizeof(words), EMU_VCPU_GPA);
        if (random64(&random) % 3 == 0 &&
            ftruncate(vmcore_fd, (off_t)(random64(&random) % (16 << 20))))
            exit(1);
        op = (struct xen_domctl){.cmd = XEN_DOMCTL_getdomaininfo,
                                 .domain = DOMID};
        CHECK_EQ(domctl(xcall, &op), 0);
        CHECK(op.u.getdomaininfo.tot_pages <= honest_domain.nr_pages);
        CHECK(op.u.getdomaininfo.nr_online_vcpus <= honest_domain.nr_vcpus);
        CHECK(op.u.getdomaininfo.max_vcpu_id < honest_domain.nr_vcpus);
        op.cmd = XEN_DOMCTL_getvcpuinfo;
        op.u.getvcpuinfo.vcpu = (uint32_t)(random64(&random) % 2);
        CHECK_EQ(domctl(xcall, &op), 0);
    }
    /* make_vmcore() has one open at any time, and had none before. */
    CHECK(nr_fds() <= before + 1);
    close_honest(xcall);
}

static bool is_xens_errno(int number)
{
    static const int known[] = {0,     EACCES, EINVAL, ENODATA,
                                ESRCH, ENOSYS, EPERM,  ENOSPC};

    for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (number == known[i])
            return true;
    }
    return false;
}

/* A hypercall by numbers that may be any; pointers in it are NULL, or lead to
 * as much as the structure says. */
static void call_anything(xencall_handle *xcall, uint64_t *random)
{
    static const unsigned int ops[] = {
        __HYPERVISOR_domctl, __HYPERVISOR_sysctl, __HYPERVISOR_xen_version,
        __HYPERVISOR_event_channel_op, __HYPERVISOR_memory_op};
    static struct xen_domctl_getdomaininfo list[32];
    unsigned int op = ops[random64(random) % 5];
    uint32_t cmd = (uint32_t)(random64(random) % 24);
    union {
        struct xen_domctl domctl;
        struct xen_sysctl sysctl;
        uint8_t bytes[2048];
    } arg = {0};

    for (unsigned int i = 0; i < 16; i++)
        arg.bytes[random64(random) % 16] = (uint8_t)random64(random);
    if (op == __HYPERVISOR_domctl) {
        uint32_t domid = (uint32_t)(random64(random) % 8);

        arg =
            (typeof(arg)){.domctl = {DOMCTL_VERSION, cmd + 1, domid, {0}, {}}};
        arg.domctl.u.getvcpuinfo.vcpu = (uint32_t)(random64(random) % 80);
    } else if (op == __HYPERVISOR_sysctl) {
        arg = (typeof(arg)){.sysctl = {DOMCTL_VERSION, cmd + 1, {}}};
        if (arg.sysctl.cmd == XEN_SYSCTL_getdomaininfolist) {
            arg.sysctl.u.getdomaininfolist.buffer.p = list;
            arg.sysctl.u.getdomaininfolist.max_domains = 32;
        }
    }
    errno = 0;
    if (op == __HYPERVISOR_domctl || op == __HYPERVISOR_sysctl)
        xencall1(xcall, op, (uint64_t)(uintptr_t)&arg);
    else
        xencall2(xcall, op, cmd, (uint64_t)(uintptr_t)&arg);
    /* One that says anything invents errors as well. */
    CHECK(is_xens_errno(errno) || !is_honest);
}

TEST(any_hypercall)
{
    xencall_handle *xcall = open_honest();
    uint64_t random = 0x9e3779b97f4a7c15;

    make_running_domain();
    for (int i = 0; i < 4000; i++)
        call_anything(xcall, &random);
    close_honest(xcall);
}

/* What is no errno must not come out as a success: -0xffffffff is 1. */
TEST(an_error_that_is_none)
{
    static const uint32_t errors[] = {4096, 0x80000000, 0xffffffff};
    xencall_handle *xcall = open_honest();
    struct xen_domctl op = {.cmd = XEN_DOMCTL_getdomaininfo, .domain = 6};

    for (unsigned int i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        honest_error = errors[i];
        CHECK_EQ(domctl(xcall, &op), -1);
        CHECK_EQ(errno, EPROTO);
    }
    honest_error = ESRCH;
    close_honest(xcall);
}

TEST(a_server_that_says_anything)
{
    uint64_t random = 0x2545f4914f6cdd1d;
    unsigned int before, opened = 0;

    make_running_domain();
    is_honest = false;
    start_server(0x9e3779b97f4a7c15);
    before = nr_fds();
    for (int i = 0; i < NR_CLIENTS; i++) {
        xencall_handle *xcall = xencall_open(NULL, 0);

        for (int n = 0; xcall && n < NR_CALLS; n++)
            call_anything(xcall, &random);
        opened += xcall != NULL;
        CHECK_EQ(xencall_close(xcall), 0);
    }
    CHECK(opened > NR_CLIENTS / 8);
    stop_server();
    CHECK_EQ(nr_fds(), before);
    close(listener);
}

TEST(buffers)
{
    size_t sizes[] = {0, 1, 4095, 4096, 4097, 1 << 20};
    xencall_handle *xcall = open_honest();
    char *buffer;

    for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        buffer = xencall_alloc_buffer(xcall, sizes[i]);
        CHECK(buffer && !((uintptr_t)buffer % 4096));
        if (buffer && sizes[i])
            buffer[0] = buffer[sizes[i] - 1] = 1;
        xencall_free_buffer(xcall, buffer);
    }
    errno = 0;
    CHECK(!xencall_alloc_buffer(xcall, SIZE_MAX));
    CHECK_EQ(errno, ENOMEM);
    xencall_free_buffer(xcall, NULL);
    close_honest(xcall);
}
