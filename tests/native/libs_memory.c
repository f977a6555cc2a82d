/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libxengnttab and libxenforeignmemory on a made-up domain's vmcore. */
#include "tests/native/granting.h"
#include "tests/native/harness.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include <xenforeignmemory.h>
#include <xengnttab.h>

#include "libs/gnttab/batch.h"

TEST(a_grant_is_marked_while_mapped)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    char *page, *again;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    page = xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ);
    CHECK(page && page[0] == 'b');
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading);
    again = xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ | PROT_WRITE);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading | GTF_writing);
    if (again)
        again[7] = 'X';
    CHECK_EQ(memory[FRAME(1) * 4096L + 7], 'X');
    CHECK_EQ(xengnttab_unmap(xgt, again, 1), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading);
    CHECK_EQ(xengnttab_unmap(xgt, page, 2), -1);
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(xengnttab_unmap(xgt, page, 1), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

/* A process of its own that maps two grants and dies as by kill -9. */
static void die_with_grants(uint32_t first, uint32_t second)
{
    pid_t child = fork();
    int status = 0;

    if (!child) {
        xengnttab_handle *xgt = xengnttab_open(NULL, 0);

        if (xgt && xengnttab_map_grant_ref(xgt, DOMID, first, PROT_READ) &&
            xengnttab_map_grant_ref(xgt, DOMID, second, PROT_READ | PROT_WRITE))
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

TEST(one_frame_under_two_grants)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    uint32_t run[] = {8, 9}, refs[] = {10, 8};
    char *both, *first, *second;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    grant(9, GTF_permit_access, 0, FRAME(2));
    grant(10, GTF_permit_access, 0, FRAME(1));
    first = xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ | PROT_WRITE);
    second = xengnttab_map_grant_ref(xgt, DOMID, 10, PROT_READ | PROT_WRITE);
    both = xengnttab_map_domain_grant_refs(xgt, 2, DOMID, run, PROT_READ);
    CHECK(first && second && both);
    first[5] = 'Y';
    CHECK(second[5] == 'Y' && both[5] == 'Y' && both[4096] == 'c');
    /* The address says which of them ends: the guest sees it in the marks. */
    CHECK_EQ(xengnttab_unmap(xgt, second, 1), 0);
    CHECK_EQ(entries[10].flags, GTF_permit_access);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading | GTF_writing);
    CHECK_EQ(xengnttab_unmap(xgt, first, 1), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading);
    CHECK_EQ(xengnttab_unmap(xgt, both, 2), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    /* One page twice is no run. */
    both = xengnttab_map_domain_grant_refs(xgt, 2, DOMID, refs, PROT_READ);
    CHECK(both && both[5] == 'Y' && both[4096 + 5] == 'Y');
    CHECK_EQ(xengnttab_unmap(xgt, both, 2), 0);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(no_more_pages_than_a_table_has_grants)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    uint32_t nr_grants = GRANT_FRAMES_BYTES / sizeof(*entries);
    uint32_t *refs = malloc((nr_grants + 1) * sizeof(*refs));
    void *pages;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    for (uint32_t i = 0; i <= nr_grants; i++)
        refs[i] = 8;
    CHECK(!xengnttab_map_domain_grant_refs(xgt, nr_grants + 1, DOMID, refs,
                                           PROT_READ));
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    pages =
        xengnttab_map_domain_grant_refs(xgt, nr_grants, DOMID, refs, PROT_READ);
    CHECK(pages);
    CHECK_EQ(xengnttab_unmap(xgt, pages, nr_grants), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(xengnttab_close(xgt), 0);
    free(refs);
    end_domain();
}

TEST(a_packets_grants_at_one_go)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    uint32_t refs[XENNER_GNTTAB_MAX_BATCH + 1] = {8, 9, 10}, bad[] = {8, 9, 11};
    struct xenner_gnttab_batch *batch, *second;
    void *pages[XENNER_GNTTAB_MAX_BATCH + 1], *page;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    grant(9, GTF_permit_access, 0, FRAME(5));
    grant(10, GTF_permit_access, 0, FRAME(1));
    grant(11, GTF_permit_access, 0, NR_FRAMES);
    batch = xenner_gnttab_map_batch(xgt, 3, DOMID, refs, PROT_READ, pages);
    CHECK(batch);
    CHECK(*(char *)pages[0] == 'b' && *(char *)pages[1] == 'f');
    CHECK(*(char *)pages[2] == 'b');
    CHECK_EQ(entries[10].flags, GTF_permit_access | GTF_reading);
    /* Others' uses of a grant, and of its frame, are their own. */
    second = xenner_gnttab_map_batch(xgt, 2, DOMID, refs, PROT_READ, pages);
    page = xengnttab_map_grant_ref(xgt, DOMID, 9, PROT_READ | PROT_WRITE);
    CHECK(second && page);
    xenner_gnttab_unmap_batch(xgt, batch);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading);
    CHECK_EQ(entries[9].flags, GTF_permit_access | GTF_reading | GTF_writing);
    CHECK_EQ(entries[10].flags, GTF_permit_access);
    xenner_gnttab_unmap_batch(xgt, second);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(xengnttab_unmap(xgt, page, 1), 0);
    CHECK_EQ(entries[9].flags, GTF_permit_access);
    /* All or none. */
    CHECK(!xenner_gnttab_map_batch(xgt, 3, DOMID, bad, PROT_READ, pages));
    CHECK_EQ(errno, EINVAL);
    CHECK(!xenner_gnttab_map_batch(xgt, 3, 6, refs, PROT_READ, pages));
    CHECK_EQ(errno, ESRCH);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(entries[9].flags, GTF_permit_access);
    CHECK(!xenner_gnttab_map_batch(xgt, XENNER_GNTTAB_MAX_BATCH + 1, DOMID,
                                   refs, PROT_READ, pages));
    CHECK_EQ(errno, EINVAL);
    CHECK(!xenner_gnttab_map_batch(xgt, 0, DOMID, refs, PROT_READ, pages));
    CHECK_EQ(errno, EINVAL);
    /* Nobody has a view like this. */
    CHECK(!xenner_gnttab_map_batch(xgt, 3, DOMID, refs, PROT_NONE, pages));
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    /* What is still mapped ends with the handle. */
    CHECK(xenner_gnttab_map_batch(xgt, 3, DOMID, refs, PROT_READ, pages));
    CHECK(xenner_gnttab_map_batch(xgt, 1, DOMID, refs, PROT_READ, pages));
    CHECK_EQ(xengnttab_close(xgt), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(entries[10].flags, GTF_permit_access);
    end_domain();
}

static unsigned int nr_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned int n = 0;
    int c;

    while ((c = fgetc(maps)) != EOF)
        n += c == '\n';
    fclose(maps);
    return n;
}

/* However many pages, batches and handles: one mapping to read, one to write. */
TEST(scattered_pages_are_in_one_view)
{
    struct xenner_gnttab_batch *batch[4][16];
    uint32_t refs[XENNER_GNTTAB_MAX_BATCH];
    void *pages[XENNER_GNTTAB_MAX_BATCH];
    xengnttab_handle *xgt[4];
    unsigned int before;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    grant(9, GTF_permit_access, 0, FRAME(5));
    for (int i = 0; i < XENNER_GNTTAB_MAX_BATCH; i++)
        refs[i] = 8 + i % 2;
    for (int i = 0; i < 4; i++)
        xgt[i] = xengnttab_open(NULL, 0);
    before = nr_mappings();
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 16; j++) {
            batch[i][j] = xenner_gnttab_map_batch(
                xgt[i], XENNER_GNTTAB_MAX_BATCH, DOMID, refs,
                j % 2 ? PROT_READ : PROT_READ | PROT_WRITE, pages);
            CHECK(batch[i][j]);
            CHECK(*(char *)pages[254] == 'b' && *(char *)pages[255] == 'f');
        }
    }
    /* What is allocated may take some more. */
    CHECK(nr_mappings() < before + 16);
    CHECK(entries[9].flags & GTF_writing);
    /* The view is no one handle's. */
    for (int j = 0; j < 16; j++)
        xenner_gnttab_unmap_batch(xgt[0], batch[0][j]);
    CHECK_EQ(xengnttab_close(xgt[0]), 0);
    CHECK_EQ(*(char *)pages[255], 'f');
    for (int i = 1; i < 4; i++)
        CHECK_EQ(xengnttab_close(xgt[i]), 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(entries[9].flags, GTF_permit_access);
    CHECK(nr_mappings() < before + 16);
    end_domain();
}

/* The table says so, and the processor: each alone would do. */
TEST(what_is_granted_read_only_cannot_be_written)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    uint32_t refs[] = {8, 9};
    struct xenner_gnttab_batch *batch;
    void *pages[2];

    make_domain();
    grant(8, GTF_permit_access | GTF_readonly, 0, FRAME(1));
    grant(9, GTF_permit_access, 0, FRAME(5));
    CHECK(!xenner_gnttab_map_batch(xgt, 2, DOMID, refs, PROT_READ | PROT_WRITE,
                                   pages));
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(entries[9].flags, GTF_permit_access);
    batch = xenner_gnttab_map_batch(xgt, 1, DOMID, refs + 1,
                                    PROT_READ | PROT_WRITE, pages);
    CHECK(batch);
    CHECK_EQ(read(zeros, pages[0], 4096), 4096);
    CHECK_EQ(memory[FRAME(5) * 4096L], 0);
    xenner_gnttab_unmap_batch(xgt, batch);
    /* Its neighbour was writable, and is in the other view. */
    batch = xenner_gnttab_map_batch(xgt, 2, DOMID, refs, PROT_READ, pages);
    CHECK(batch);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(read(zeros, pages[i], 4096), -1);
        CHECK_EQ(errno, EFAULT);
    }
    CHECK_EQ(memory[FRAME(1) * 4096L], 'b');
    close(zeros);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(marks_of_the_dead_are_cleared)
{
    xengnttab_handle *xgt;

    make_domain();
    grant(8, GTF_permit_access | GTF_readonly, 0, FRAME(1));
    grant(9, GTF_permit_access, 0, FRAME(2));
    die_with_grants(8, 9);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_readonly | GTF_reading);
    CHECK_EQ(entries[9].flags, GTF_permit_access | GTF_reading | GTF_writing);
    xgt = xengnttab_open(NULL, 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_readonly);
    CHECK_EQ(entries[9].flags, GTF_permit_access);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

/* One is opened by a parent that lives on, and maps the same page. */
TEST(marks_of_the_living_stay)
{
    int ready[2], done[2], status = 0;
    xengnttab_handle *xgt;
    pid_t child;
    char byte = 0;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    CHECK(!pipe(ready) && !pipe(done));
    child = fork();
    if (!child) {
        xgt = xengnttab_open(NULL, 0);
        byte = !xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ);
        if (write(ready[1], &byte, 1) == 1 && read(done[0], &byte, 1) == 1)
            _exit(xengnttab_close(xgt));
        _exit(1);
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(byte, 0);
    die_with_grants(8, 8);
    xgt = xengnttab_open(NULL, 0);
    CHECK(entries[8].flags & GTF_reading);
    CHECK_EQ(write(done[1], &byte, 1), 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(!(entries[8].flags & GTF_reading));
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

/* Another domain has the number now, and its grants are its own. */
TEST(a_successors_marks_stay)
{
    xengnttab_handle *xgt;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    die_with_grants(8, 8);
    end_domain();
    make_domain();
    grant(8, GTF_permit_access | GTF_reading, 0, FRAME(1));
    xgt = xengnttab_open(NULL, 0);
    CHECK_EQ(entries[8].flags, GTF_permit_access | GTF_reading);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(all_pages_or_none)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    uint32_t refs[] = {8, 9, 10};
    char *pages;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(3));
    grant(9, GTF_permit_access, 0, FRAME(1));
    grant(10, GTF_permit_access, 0, FRAME(2));
    pages = xengnttab_map_domain_grant_refs(xgt, 3, DOMID, refs, PROT_READ);
    CHECK(pages && pages[0] == 'd' && pages[4096] == 'b' && pages[8192] == 'c');
    CHECK_EQ(xengnttab_close(xgt), 0); /* unmaps, and clears the marks */
    CHECK_EQ(entries[9].flags, GTF_permit_access);
    xgt = xengnttab_open(NULL, 0);
    grant(10, GTF_permit_access, 3, FRAME(2)); /* not for us */
    errno = 0;
    CHECK(!xengnttab_map_domain_grant_refs(xgt, 3, DOMID, refs, PROT_READ));
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(bad_grants)
{
    static const grant_entry_v1_t bad[] = {
        {0, 0, FRAME(1)},
        {GTF_accept_transfer, 0, FRAME(1)},
        {GTF_permit_access, 1, FRAME(1)},
        {GTF_permit_access | GTF_readonly, 0, FRAME(1)},
        {GTF_permit_access, 0, NR_FRAMES},
        {GTF_permit_access, 0, 0},
        {GTF_permit_access, 0, ~0U},
        {GTF_permit_access, 0, GRANT_FRAMES_GPA >> 12},
    };
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);

    make_domain();
    for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        entries[9] = bad[i];
        errno = 0;
        CHECK(!xengnttab_map_grant_ref(xgt, DOMID, 9, PROT_READ | PROT_WRITE));
        CHECK_EQ(errno, EINVAL);
        CHECK(!memcmp(&entries[9], &bad[i], sizeof(bad[i])));
    }
    errno = 0;
    CHECK(!xengnttab_map_grant_ref(xgt, DOMID, 32768, PROT_READ));
    CHECK_EQ(errno, EINVAL);
    CHECK(!xengnttab_map_grant_ref(xgt, 6, 9, PROT_READ) && errno == ESRCH);
    CHECK(!xengnttab_map_grant_refs(xgt, 0, NULL, NULL, PROT_READ));
    CHECK_EQ(xengnttab_set_max_grants(xgt, 32752), 0);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(the_byte_is_cleared_at_the_end)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    char *page;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    page = xengnttab_map_grant_ref_notify(xgt, DOMID, 8, PROT_READ | PROT_WRITE,
                                          100, ~0U);
    CHECK(page != NULL);
    CHECK_EQ(xengnttab_unmap(xgt, page, 1), 0);
    CHECK_EQ(memory[FRAME(1) * 4096L + 100], 0);
    CHECK_EQ(memory[FRAME(1) * 4096L + 101], 'b');
    CHECK(!xengnttab_map_grant_ref_notify(xgt, DOMID, 8, PROT_READ, 4096, ~0U));
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

static int16_t copy(xengnttab_handle *xgt, xengnttab_grant_copy_segment_t seg)
{
    seg.status = 77;
    CHECK_EQ(xengnttab_grant_copy(xgt, 1, &seg), 0);
    return seg.status;
}

TEST(copies)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    xengnttab_grant_copy_segment_t seg = {0};
    char buffer[4096];

    make_domain();
    CHECK_EQ(xengnttab_grant_copy(xgt, 0, NULL), 0); /* QEMU's question */
    grant(8, GTF_permit_access, 0, FRAME(1));
    grant(9, GTF_permit_access | GTF_readonly, 0, FRAME(2));
    seg.flags = GNTCOPY_source_gref;
    seg.source.foreign.domid = DOMID;
    seg.source.foreign.ref = 9;
    seg.source.foreign.offset = 4000;
    seg.dest.virt = buffer;
    seg.len = 96;
    CHECK_EQ(copy(xgt, seg), GNTST_okay);
    CHECK_EQ(buffer[95], 'c');
    seg.len = 97;
    CHECK_EQ(copy(xgt, seg), GNTST_bad_copy_arg);
    seg.len = 96;
    seg.dest.virt = (void *)16;
    CHECK_EQ(copy(xgt, seg), GNTST_general_error);
    seg.source.foreign.ref = 40000;
    CHECK_EQ(copy(xgt, seg), GNTST_bad_gntref);
    seg.source.foreign.domid = 6;
    CHECK_EQ(copy(xgt, seg), GNTST_bad_domain);
    /* Guest to guest, and not into what is read-only. */
    seg.flags = GNTCOPY_source_gref | GNTCOPY_dest_gref;
    seg.source.foreign.domid = seg.dest.foreign.domid = DOMID;
    seg.source.foreign.ref = 9;
    seg.dest.foreign.ref = 8;
    seg.dest.foreign.offset = 0;
    CHECK_EQ(copy(xgt, seg), GNTST_okay);
    CHECK_EQ(memory[FRAME(1) * 4096L + 95], 'c');
    seg.source.foreign.ref = 8;
    seg.dest.foreign.ref = 9;
    CHECK_EQ(copy(xgt, seg), GNTST_general_error);
    CHECK_EQ(entries[8].flags, GTF_permit_access);
    CHECK_EQ(entries[9].flags, GTF_permit_access | GTF_readonly);
    seg.flags = 0;
    CHECK_EQ(copy(xgt, seg), GNTST_bad_copy_arg);
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(a_new_domain_of_that_number_is_another_one)
{
    xengnttab_handle *xgt = xengnttab_open(NULL, 0);
    char *page;

    make_domain();
    grant(8, GTF_permit_access, 0, FRAME(1));
    page = xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ);
    CHECK_EQ(xengnttab_unmap(xgt, page, 1), 0);
    end_domain();
    make_domain();
    CHECK(!xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ));
    grant(8, GTF_permit_access, 0, FRAME(4));
    page = xengnttab_map_grant_ref(xgt, DOMID, 8, PROT_READ);
    CHECK(page && page[0] == 'e');
    CHECK_EQ(xengnttab_close(xgt), 0);
    end_domain();
}

TEST(foreign_pages)
{
    xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
    xen_pfn_t frame[] = {FRAME(2), NR_FRAMES, FRAME(5), ~0UL};
    int err[4];
    char *pages;

    make_domain();
    errno = 0;
    CHECK(!xenforeignmemory_map(fmem, DOMID, PROT_READ, 4, frame, NULL));
    CHECK_EQ(errno, EINVAL);
    pages = xenforeignmemory_map(fmem, DOMID, PROT_READ, 4, frame, err);
    CHECK(pages && pages[0] == 'c' && pages[8192] == 'f');
    CHECK(!err[0] && err[1] == -EINVAL && !err[2] && err[3] == -EINVAL);
    CHECK_EQ(xenforeignmemory_unmap(fmem, pages, 4), 0);
    frame[1] = FRAME(3);
    pages = xenforeignmemory_map2(fmem, DOMID, NULL, PROT_READ | PROT_WRITE, 0,
                                  3, frame, NULL);
    CHECK(pages && pages[4096] == 'd');
    CHECK_EQ(xenforeignmemory_unmap(fmem, pages, 3), 0);
    CHECK(!xenforeignmemory_map(fmem, 6, PROT_READ, 1, frame, NULL));
    CHECK_EQ(errno, ESRCH);
    CHECK(!xenforeignmemory_map(fmem, DOMID, PROT_READ, 0, frame, NULL));
    CHECK_EQ(xenforeignmemory_close(fmem), 0);
    end_domain();
}
