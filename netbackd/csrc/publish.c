/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both rings' answers, and the events for them. */
#include "state.h"

void publish_answers(struct net_engine *e)
{
    bool tx_wants = ring_publish(&e->tx), rx_wants = ring_publish(&e->rx);

    /* These fail only without a peer, who then needs no event. */
    if (tx_wants || (rx_wants && !e->is_split)) {
        COUNT(e, notifies, 1);
        xenevtchn_notify(e->xce, e->tx.port);
    }
    if (rx_wants && e->is_split) {
        COUNT(e, notifies, 1);
        xenevtchn_notify(e->xce, e->rx.port);
    }
}
