/* SPDX-License-Identifier: GPL-2.0-or-later */
/* console_io, and a console ring that is written faster than it is read. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "console_io";

#define WAIT_NS 20000000000 /* as good as never */

static void test_console_io(void)
{
    static const char text[] = "console_io says hello\n";
    char buffer[16];

    check_rc("write", CALL(console_io, CONSOLEIO_write, sizeof(text) - 1, text),
             0);
    check_rc("write of nothing", CALL(console_io, CONSOLEIO_write, 0, text), 0);
    check_rc("write from a bad pointer",
             CALL(console_io, CONSOLEIO_write, 10, BAD_POINTER), -XEN_EFAULT);
    check(CALL(console_io, CONSOLEIO_read, sizeof(buffer), buffer) <= 0,
          "read offers nothing", "read something");
    check_rc("unknown sub-op", CALL(console_io, 7, 0, 0), -XEN_ENOSYS);
}

/* 100 KiB: fifty times the ring. The test counts the lines and their order. */
static void test_flood(void)
{
    for (unsigned int i = 0; i < 2000; i++)
        print("flood %04u abcdefghijklmnopqrstuvwxyz0123456789\n", i);
}

static bool is_taken(const struct xencons_interface *ring)
{
    uint64_t start = system_time_ns();

    while (READ_ONCE(ring->out_cons) != READ_ONCE(ring->out_prod)) {
        if (system_time_ns() - start > WAIT_NS)
            return false;
        CALL(sched_op, SCHEDOP_yield, 0);
    }
    return true;
}

/*
 * One byte, and no other until it is gone. The host looks for more on its own
 * for some milliseconds after the last: bytes come while it does, when it is
 * about to stop, and after that.
 */
static void test_none_is_left(void)
{
    const struct xencons_interface *ring =
        va_of_mfn(start_info->console.domU.mfn);
    unsigned int n;

    for (n = 0; n < 150; n++) {
        uint64_t start = system_time_ns();

        while (system_time_ns() - start < n * 60000)
            ;
        console_write(".", 1);
        if (!is_taken(ring))
            break;
    }
    console_write("\n", 1);
    check(n == 150, "no byte is left in the ring", "the one after %u us",
          n * 60);
}

void guest_main(void)
{
    test_console_io();
    test_flood();
    test_none_is_left();
    check(true, "flood has ended", "cannot happen");
}
