/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xen_version: every sub-op, good and bad pointers. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "xen_version";

static bool terminated(const char *s, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!s[i])
            return true;
    return false;
}

static void test_strings(void)
{
    static xen_extraversion_t extra;
    static xen_compile_info_t compile;
    static xen_capabilities_info_t caps;
    static xen_changeset_info_t changeset;
    static xen_commandline_t commandline;

    check_rc("extraversion", CALL(xen_version, XENVER_extraversion, extra), 0);
    check(terminated(extra, sizeof(extra)), "extraversion ends", "no NUL");
    check_rc("compile_info", CALL(xen_version, XENVER_compile_info, &compile),
             0);
    check(terminated(compile.compiler, sizeof(compile.compiler)) &&
              terminated(compile.compile_by, sizeof(compile.compile_by)) &&
              terminated(compile.compile_date, sizeof(compile.compile_date)),
          "compile_info ends", "a field has no NUL");
    check_rc("capabilities", CALL(xen_version, XENVER_capabilities, &caps), 0);
    check(starts_with(caps, "xen-3.0-x86_64"), "capabilities name the ABI",
          "read '%s'", caps);
    check_rc("changeset", CALL(xen_version, XENVER_changeset, &changeset), 0);
    check(terminated(changeset, sizeof(changeset)), "changeset ends", "no NUL");
    check_rc("commandline", CALL(xen_version, XENVER_commandline, &commandline),
             0);
    check(terminated(commandline, sizeof(commandline)), "commandline ends",
          "no NUL");
}

static bool feature(unsigned int bit)
{
    struct xen_feature_info info = {.submap_idx = bit / 32};

    return CALL(xen_version, XENVER_get_features, &info) == 0 &&
           (info.submap >> bit % 32 & 1);
}

static void test_features(void)
{
    struct xen_feature_info info = {.submap_idx = 77};

    check(feature(XENFEAT_mmu_pt_update_preserve_ad),
          "feature mmu_pt_update_preserve_ad", "not offered");
    check(feature(XENFEAT_gnttab_map_avail_bits),
          "feature gnttab_map_avail_bits", "not offered");
    check(!feature(XENFEAT_auto_translated_physmap),
          "feature auto_translated_physmap is absent", "offered");
    check(!feature(XENFEAT_dom0), "feature dom0 is absent", "offered");
    check_rc("submap out of range",
             CALL(xen_version, XENVER_get_features, &info), -XEN_EINVAL);
}

static void test_bad_pointers(void)
{
    static const unsigned int ops[] = {
        XENVER_extraversion,        XENVER_compile_info, XENVER_capabilities,
        XENVER_changeset,           XENVER_commandline,  XENVER_get_features,
        XENVER_platform_parameters, XENVER_guest_handle};

    for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
        check_rc("unmapped pointer", CALL(xen_version, ops[i], BAD_POINTER),
                 -XEN_EFAULT);
        check_rc("pointer into Xen's hole",
                 CALL(xen_version, ops[i], XEN_POINTER), -XEN_EFAULT);
    }
}

void guest_main(void)
{
    int64_t version = CALL(xen_version, XENVER_version, 0);
    xen_platform_parameters_t params = {0};
    xen_domain_handle_t handle = {0};
    unsigned int nonzero = 0;

    check(version >> 16 >= 4 && (version & 0xffff) < 100, "version", "0x%lx",
          (unsigned long)version);
    test_strings();
    check_rc("platform_parameters",
             CALL(xen_version, XENVER_platform_parameters, &params), 0);
    check_eq("virt_start", params.virt_start, 0xffff800000000000);
    check_rc("pagesize", CALL(xen_version, XENVER_pagesize, 0), PAGE_SIZE);
    check_rc("guest_handle", CALL(xen_version, XENVER_guest_handle, &handle),
             0);
    for (unsigned int i = 0; i < sizeof(handle); i++)
        nonzero += handle[i] != 0;
    check(nonzero > 4, "guest_handle is a uuid", "%u bytes not 0", nonzero);
    check(CALL(xen_version, XENVER_build_id, 0) <= 0, "build_id may fail",
          "positive without a buffer");
    test_features();
    check_rc("unknown sub-op", CALL(xen_version, 99, 0), -XEN_ENOSYS);
    test_bad_pointers();
}
