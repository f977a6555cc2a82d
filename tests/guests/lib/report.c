/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks, their counters, and the one line that decides. */
#include "tests/guests/lib/guest.h"

static unsigned int passed, failed;

void check(bool ok, const char *name, const char *format, ...)
{
    char text[256];
    va_list args;
    size_t length;

    if (ok) {
        passed++;
        print("PASS %s\n", name);
        return;
    }
    failed++;
    va_start(args, format);
    length = format_text(text, sizeof(text) - 1, format, args);
    va_end(args);
    text[length] = 0;
    print("FAIL %s: %s\n", name, text);
}

void check_eq(const char *name, uint64_t got, uint64_t want)
{
    check(got == want, name, "got 0x%lx, want 0x%lx", got, want);
}

void check_rc(const char *name, int64_t got, int64_t want)
{
    check(got == want, name, "returned %ld, want %ld", (long)got, (long)want);
}

void check_trap(const char *name, unsigned int vector, uint64_t error)
{
    if (!caught.taken)
        check(false, name, "no trap, want vector %u", vector);
    else
        check(caught.vector == vector && caught.error == error &&
                  caught.rip == probe_rip,
              name, "vector %u error 0x%lx at +%ld, want %u 0x%lx at +0",
              caught.vector, caught.error, (long)(caught.rip - probe_rip),
              vector, error);
}

void skip(const char *name, const char *why)
{
    print("SKIP %s: %s\n", name, why);
}

void verdict(void)
{
    /* No checks at all is no success. */
    print("verdict: %s %u/%u\n", failed || !passed ? "FAIL" : "PASS", passed,
          passed + failed);
}
