/* SPDX-License-Identifier: GPL-2.0-or-later */
/* console_io: Xen's own console, here the VM process's log. */
#include "emu/emu.h"

#define CONSOLE_WRITE 0 /* CONSOLEIO_write, public/xen.h */
#define CONSOLE_READ 1

int64_t do_console_io(struct vcpu *v, guest_word cmd, guest_word count,
                      guest_word buffer, guest_word a4, guest_word a5)
{
    struct emu_request *r = &v->pub.request;

    if (cmd == CONSOLE_READ)
        return 0; /* nothing is ever typed there */
    if (cmd != CONSOLE_WRITE)
        return -XEN_ENOSYS;
    if ((int32_t)count < 0)
        return -XEN_EINVAL;
    count = (uint32_t)count;
    while (count) {
        uint32_t n =
            count < sizeof(r->data) ? (uint32_t)count : sizeof(r->data);

        if (copy_from_guest(r->data, buffer, n))
            return -XEN_EFAULT;
        r->length = n;
        request(v, EMU_REQUEST_CONSOLE);
        buffer += n;
        count -= n;
    }
    return 0;
}
