/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What netbackd is measured against and with: a bare loop that reads and writes
 * a tap, which is the most that any backend could do, and the other end of the
 * traffic, on a packet socket.
 *
 *     net_bare tap-tx NAME BYTES GSO SECONDS     "packets=N seconds=S"
 *     net_bare tap-rx NAME SECONDS               likewise
 *     net_bare tap-echo NAME SECONDS
 *     net_bare peer-tx INTERFACE BYTES GSO SECONDS
 *     net_bare peer-ping INTERFACE SECONDS       "us=T": half of them take less
 *
 * GSO is the size of TCP's segments, 0: frames of no protocol.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define KIND 0x88b5
#define MAX_BYTES 66000
#define MAX_PINGS 1000000
#define PAGE_BYTES 4096UL
#define NR_PAGES 256UL

static struct {
    struct virtio_net_hdr header;
    unsigned char frame[MAX_BYTES];
} __attribute__((packed)) packet;

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void must(int is_true, const char *what)
{
    if (!is_true) {
        perror(what);
        exit(1);
    }
}

static void put16(size_t at, unsigned int value)
{
    packet.frame[at] = (unsigned char)(value >> 8);
    packet.frame[at + 1] = (unsigned char)value;
}

/* A frame to everybody; with GSO one of TCP, whose sums nobody looks at. */
static void fill(size_t bytes, unsigned int gso)
{
    unsigned int sum = 0;

    memset(&packet, 0, sizeof(packet));
    memset(packet.frame, 0xff, 6);
    packet.frame[6] = 2;
    put16(12, gso ? 0x800 : KIND);
    if (!gso)
        return;
    packet.frame[14] = 0x45;
    put16(16, (unsigned int)bytes - 14);
    packet.frame[22] = 64;
    packet.frame[23] = 6;
    packet.frame[46] = 5 << 4;
    /* A bridge may look at it. */
    for (size_t at = 14; at < 34; at += 2)
        sum += (unsigned int)(packet.frame[at] << 8 | packet.frame[at + 1]);
    put16(24, ~(sum % 0xffff) & 0xffff);
    packet.header = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = 54,
        .gso_size = (unsigned short)gso,
        .csum_start = 34,
        .csum_offset = 16,
    };
}

static int open_tap(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
                                         IFF_MULTI_QUEUE};

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    must(!ioctl(fd, TUNSETIFF, &request), name);
    must(!ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6),
         "offloads");
    return fd;
}

static int open_peer(const char *name, int kind)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons((uint16_t)kind),
                                  .sll_ifindex = (int)if_nametoindex(name)};
    int fd = socket(AF_PACKET, SOCK_RAW, 0), yes = 1;

    must(fd >= 0, "packet socket");
    must(!setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)),
         "vnet_hdr");
    must(!setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)),
         "bypass");
    must(!bind(fd, (void *)&address, sizeof(address)), name);
    return fd;
}

static void report(unsigned long packets, double since)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf("packets=%lu seconds=%f cpu=%f\n", packets, now_s() - since,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) *
                   1e-6);
}

/* From as many pages as a frontend's ring has: a guest's are not all warm. */
static void write_all(int fd, size_t bytes, double seconds)
{
    size_t step = bytes > PAGE_BYTES ? 16 * PAGE_BYTES : PAGE_BYTES;
    size_t count = NR_PAGES * PAGE_BYTES / step;
    char *pages = aligned_alloc(PAGE_BYTES, NR_PAGES * PAGE_BYTES);
    unsigned long packets = 0;
    double start;

    must(pages != NULL, "memory");
    for (size_t i = 0; i < count; i++)
        memcpy(pages + i * step, packet.frame, bytes);
    start = now_s();
    while (now_s() - start < seconds) {
        for (size_t i = 0; i < 64; i++) {
            struct iovec iov[] = {
                {&packet.header, sizeof(packet.header)},
                {pages + (packets + i) % count * step, bytes}};

            must(writev(fd, iov, 2) > 0 || errno == ENOBUFS, "write");
        }
        packets += 64;
    }
    report(packets, start);
    free(pages);
}

static void tap_read(int fd, double seconds, int is_echo)
{
    double start = now_s();
    unsigned long packets = 0;

    while (now_s() - start < seconds) {
        struct pollfd fds = {.fd = fd, .events = POLLIN};
        ssize_t got;

        for (int i = 0; i < 64; i++) {
            got = read(fd, &packet, sizeof(packet));
            if (got < 0)
                break;
            packets++;
            if (is_echo && packet.frame[12] == KIND >> 8)
                must(write(fd, &packet, (size_t)got) == got, "echo");
        }
        if (got < 0)
            poll(&fds, 1, 20);
    }
    report(packets, start);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void ping(int fd, double seconds)
{
    static double times[MAX_PINGS];
    double start = now_s();
    size_t n = 0;

    while (now_s() - start < seconds && n < MAX_PINGS) {
        struct pollfd fds = {.fd = fd, .events = POLLIN};
        double before = now_s();

        must(write(fd, &packet, sizeof(packet.header) + 64) > 0, "ping");
        if (poll(&fds, 1, 100) <= 0)
            continue;
        must(read(fd, &packet, sizeof(packet)) > 0, "pong");
        times[n++] = now_s() - before;
    }
    must(n > 0, "no answer");
    qsort(times, n, sizeof(times[0]), compare);
    printf("us=%f packets=%zu\n", times[n / 2] * 1e6, n);
}

int main(int argc, char **argv)
{
    const char *what = argc > 3 ? argv[1] : "";
    size_t bytes = argc > 5 ? (size_t)atol(argv[3]) : 64;
    double seconds = argc > 3 ? atof(argv[argc - 1]) : 0;

    fill(bytes, argc > 5 ? (unsigned int)atoi(argv[4]) : 0);
    if (!strcmp(what, "tap-tx") && argc == 6)
        write_all(open_tap(argv[2]), bytes, seconds);
    else if (!strcmp(what, "tap-rx"))
        tap_read(open_tap(argv[2]), seconds, 0);
    else if (!strcmp(what, "tap-echo"))
        tap_read(open_tap(argv[2]), seconds, 1);
    else if (!strcmp(what, "peer-tx") && argc == 6)
        write_all(open_peer(argv[2], packet.header.gso_size ? ETH_P_IP : KIND),
                  bytes, seconds);
    else if (!strcmp(what, "peer-ping"))
        ping(open_peer(argv[2], KIND), seconds);
    else
        return 2;
    return 0;
}
