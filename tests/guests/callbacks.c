/* SPDX-License-Identifier: GPL-2.0-or-later */
/* callback_op, set_callbacks, set_trap_table, vm_assist, stack_switch, NMI. */
#include "tests/guests/lib/guest.h"

const char guest_name[] = "callbacks";

USER static uint64_t user_call(void)
{
    uint64_t rax = 0x77;

    __asm__ volatile("syscall" : "+a"(rax) : : "rcx", "r11", "memory");
    return rax;
}

static uint64_t stub(unsigned int entry)
{
    return (uint64_t)trap_stubs + entry * 32;
}

static int64_t reg(unsigned int type, uint64_t address, unsigned int flags)
{
    struct callback_register r = {
        .type = (uint16_t)type, .flags = (uint16_t)flags, .address = address};

    return CALL(callback_op, CALLBACKOP_register, &r);
}

static int64_t unreg(unsigned int type)
{
    struct callback_unregister r = {.type = (uint16_t)type};

    return CALL(callback_op, CALLBACKOP_unregister, &r);
}

static unsigned int last_entry;
static uint8_t mask_inside;

static bool entry_hook(struct regs *r)
{
    if (r->rax == USER_EXIT)
        return false;
    last_entry = (unsigned int)r->entry;
    mask_inside = vcpu_info()->evtchn_upcall_mask;
    return true;
}

static void test_callback_op(void)
{
    syscall_hook = entry_hook;
    check_rc("register syscall, events stay",
             reg(CALLBACKTYPE_syscall, stub(ENTRY_SYSCALL), 0), 0);
    user_run(user_call, 0);
    check_eq("mask in the handler", mask_inside, 0);
    check_rc(
        "register syscall, events masked",
        reg(CALLBACKTYPE_syscall, stub(ENTRY_SYSCALL), CALLBACKF_mask_events),
        0);
    user_run(user_call, 0);
    check_eq("mask in the handler", mask_inside, 1);
    syscall_hook = NULL;
    check_rc("an unknown type", reg(77, stub(ENTRY_SYSCALL), 0), -XEN_ENOSYS);
    check_rc("not canonical", reg(CALLBACKTYPE_event, 0xdead000000000000, 0),
             -XEN_EINVAL);
    check_rc("register at a bad pointer",
             CALL(callback_op, CALLBACKOP_register, BAD_POINTER), -XEN_EFAULT);
    check_rc("unregister at a bad pointer",
             CALL(callback_op, CALLBACKOP_unregister, BAD_POINTER),
             -XEN_EFAULT);
    check_rc("events cannot be unregistered", unreg(CALLBACKTYPE_event),
             -XEN_EINVAL);
    check_rc("nor failsafe", unreg(CALLBACKTYPE_failsafe), -XEN_EINVAL);
    check_rc("unregister of an unknown type", unreg(77), -XEN_ENOSYS);
}

static void test_set_callbacks(void)
{
    evtchn_port_t port = (evtchn_port_t)bind_ipi();

    check_rc("set_callbacks",
             CALL(set_callbacks, stub(ENTRY_EVENT), stub(ENTRY_FAILSAFE),
                  stub(ENTRY_SYSCALL)),
             0);
    event_count[port] = 0;
    evtchn_unmask(port);
    events_enable();
    evtchn_send(port);
    events_disable();
    check_eq("events come", event_count[port], 1);
    evtchn_close(port);
}

static bool nmi_hook(struct regs *r)
{
    last_entry = (unsigned int)r->entry;
    return r->entry == 2;
}

static void test_nmi(void)
{
    int64_t rc = reg(CALLBACKTYPE_nmi, stub(2), 0);

    check_rc("register nmi", rc, 0);
    trap_hook = nmi_hook;
    last_entry = 0;
    rc = CALL(vcpu_op, VCPUOP_send_nmi, 0, 0);
    CALL(xen_version, XENVER_version, 0);
    trap_hook = NULL;
    check_rc("send_nmi", rc, 0);
    check_eq("it comes", last_entry, 2);
    check_rc("unregister nmi", unreg(CALLBACKTYPE_nmi), 0);
    check_rc("send_nmi to nobody", CALL(vcpu_op, VCPUOP_send_nmi, 9, 0),
             -XEN_ENOENT);
}

static void test_trap_table(void)
{
    trap_info_t bad[2] = {
        {.vector = 0x33, .cs = FLAT_KERNEL_CS, .address = 0xdead000000000000}};

    check_rc("set_trap_table at a bad pointer",
             CALL(set_trap_table, BAD_POINTER), -XEN_EFAULT);
    check(CALL(set_trap_table, bad) < 0, "an address that is not canonical",
          "accepted");
    check_rc("the table as it was", CALL(set_trap_table, trap_table), 0);
    PROBE("ud2");
    check_trap("it is used", X86_UD, 0);
}

static void test_vm_assist(void)
{
    check_rc(
        "enable writable_pagetables",
        CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    check_rc("enable architectural_iopl",
             CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl),
             0);
    check_rc(
        "disable it",
        CALL(vm_assist, VMASST_CMD_disable, VMASST_TYPE_architectural_iopl), 0);
    check_rc(
        "enable runstate_update_flag",
        CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag),
        0);
    check_rc("4gb_segments, which 32-bit guests have",
             CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_4gb_segments), 0);
    check_rc(
        "4gb_segments_notify",
        CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_4gb_segments_notify), 0);
    check_rc("pae_extended_cr3",
             CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_pae_extended_cr3),
             0);
    check_rc("m2p_strict",
             CALL(vm_assist, VMASST_CMD_enable, VMASST_TYPE_m2p_strict), 0);
    check_rc("6", CALL(vm_assist, VMASST_CMD_enable, 6), -XEN_EINVAL);
    check_rc("31", CALL(vm_assist, VMASST_CMD_enable, 31), -XEN_EINVAL);
    check_rc("33", CALL(vm_assist, VMASST_CMD_enable, 33), -XEN_EINVAL);
    check(CALL(vm_assist, VMASST_CMD_enable, 63) < 0, "no such assist",
          "accepted");
    check(CALL(vm_assist, VMASST_CMD_enable, 1000) < 0, "far out", "accepted");
}

void guest_main(void)
{
    events_init();
    user_init();
    test_callback_op();
    test_set_callbacks();
    test_nmi();
    test_trap_table();
    test_vm_assist();
}
