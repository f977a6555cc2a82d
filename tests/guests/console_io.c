/* SPDX-License-Identifier: GPL-2.0-or-later */
/* console_io, and a console ring that is written faster than it is read. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "console_io";

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

void guest_main(void)
{
    test_console_io();
    test_flood();
    check(true, "flood has ended", "cannot happen");
}
