/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PV console ring, and numbers into text. */
#include "tests/guests/lib/guest.h"

static struct xencons_interface *ring;
static evtchn_port_t port;

void console_init(void)
{
    ring = va_of_mfn(start_info->console.domU.mfn);
    port = start_info->console.domU.evtchn;
}

static void notify(void)
{
    struct evtchn_send send = {.port = port};

    CALL(event_channel_op, EVTCHNOP_send, &send);
}

/* Yields while the other end has not made room: nothing may be lost. */
void console_write(const char *text, size_t length)
{
    while (length > 0) {
        uint32_t prod = ring->out_prod;
        uint32_t used = prod - READ_ONCE(ring->out_cons);

        if (used >= sizeof(ring->out)) {
            notify();
            CALL(sched_op, SCHEDOP_yield, 0);
            continue;
        }
        ring->out[prod & (sizeof(ring->out) - 1)] = *text++;
        barrier(); /* The byte before the index that announces it. */
        ring->out_prod = prod + 1;
        length--;
    }
    notify();
}

struct sink {
    char *at, *end;
};

static void put(struct sink *s, char c)
{
    if (s->at < s->end)
        *s->at++ = c;
}

static void put_number(struct sink *s, uint64_t value, unsigned int base,
                       bool negative, int width, bool zero)
{
    char digits[24];
    int n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative)
        digits[n++] = '-';
    while (width-- > n)
        put(s, zero ? '0' : ' ');
    while (n)
        put(s, digits[--n]);
}

static void put_string(struct sink *s, const char *text, int width)
{
    int n = 0;

    for (; *text; text++, n++)
        put(s, *text);
    while (n++ < width)
        put(s, ' ');
}

/* %d %u %x %s %c %p %%, with l, a width and a leading 0. */
size_t format_text(char *out, size_t size, const char *format, va_list args)
{
    struct sink s = {.at = out, .end = out + size};

    for (; *format; format++) {
        bool zero = false, wide = false;
        int width = 0;

        if (*format != '%') {
            put(&s, *format);
            continue;
        }
        format++;
        for (; *format >= '0' && *format <= '9'; format++) {
            zero = zero || (width == 0 && *format == '0');
            width = width * 10 + *format - '0';
        }
        for (; *format == 'l'; format++)
            wide = true;
        switch (*format) {
        case 'd': {
            int64_t v = wide ? va_arg(args, long) : va_arg(args, int);

            put_number(&s, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0, width,
                       zero);
            break;
        }
        case 'u':
        case 'x':
            put_number(&s,
                       wide ? va_arg(args, unsigned long)
                            : va_arg(args, unsigned int),
                       *format == 'x' ? 16 : 10, false, width, zero);
            break;
        case 'p':
            put_number(&s, (uint64_t)va_arg(args, void *), 16, false, 0, false);
            break;
        case 's':
            put_string(&s, va_arg(args, const char *), width);
            break;
        case 'c':
            put(&s, (char)va_arg(args, int));
            break;
        default:
            put(&s, *format);
        }
    }
    return (size_t)(s.at - out);
}

void print(const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    console_write(text, format_text(text, sizeof(text), format, args));
    va_end(args);
}
