/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A test program is a file with TEST() functions and main() from here. It
 * prints one line per test and ends with the number of failures; sanitizers
 * end it earlier.
 */
#ifndef TESTS_NATIVE_HARNESS_H
#define TESTS_NATIVE_HARNESS_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

static struct test *tests, **last_test = &tests;
static unsigned int failures;

#define TEST(function)                                                \
    static void function(void);                                       \
    static struct test test_##function = {#function, function, NULL}; \
    __attribute__((constructor)) static void add_##function(void)     \
    {                                                                 \
        *last_test = &test_##function;                                \
        last_test = &test_##function.next;                            \
    }                                                                 \
    static void function(void)

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                      \
        }                                                                    \
    } while (0)

#define CHECK_EQ(got, want)                                                   \
    do {                                                                      \
        int64_t got_ = (int64_t)(got), want_ = (int64_t)(want);               \
        if (got_ != want_) {                                                  \
            printf("%s:%d: %s is %#lx, not %#lx\n", __FILE__, __LINE__, #got, \
                   (unsigned long)got_, (unsigned long)want_);                \
            failures++;                                                       \
        }                                                                     \
    } while (0)

/* xorshift64: the same sequence in every run. */
static inline uint64_t random64(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Open descriptors, with one more for the question. */
static inline unsigned int nr_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned int n = 0;

    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

int main(void)
{
    unsigned int before;

    for (struct test *t = tests; t; t = t->next) {
        before = failures;
        t->run();
        printf("%s %s\n", failures == before ? "PASS" : "FAIL", t->name);
    }
    return failures != 0;
}

#endif
