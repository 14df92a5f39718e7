/*
 * Reverse VMRPC: the host's end of a window in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One window of one guest: doorbell, interrupt, deadlines, and the owner of core/.  What it has to tell goes up by the
 * callbacks of RvChannelOps.  Everything runs in the thread of the GMainContext, callbacks included.
 */
#ifndef RV_CHANNEL_H
#define RV_CHANNEL_H

#include "rv_call.h"
#include "rvmrpc_owner.h"

typedef enum RvClosed {
    RV_CLOSED_GUEST_EXIT,       /* the driver left */
    RV_CLOSED_REPLACED,         /* it said hello again: it, or the guest, began anew */
    RV_CLOSED_OVERWRITTEN,      /* by a state that was loaded, or by the guest */
} RvClosed;

typedef struct RvChannelOps {
    /* A driver has registered; calls are possible. */
    void (*opened)(void *opaque);
    /* They are not any more. */
    void (*closed)(void *opaque, RvClosed why);
} RvChannelOps;

typedef struct RvChannelConfig {
    void *base;                 /* the window, mapped */
    uint64_t size;
    struct rvmrpc_layout layout;
    uint32_t doorbell;          /* what the guest writes to ring */
    int doorbell_fd;            /* eventfds: read here, */
    int interrupt_fd;           /* and written here; both stay the caller's */
    uint32_t spin_us;           /* most time to look for an answer before the thread sleeps, of both sides; 0 never */
    GMainContext *context;      /* NULL: the default one */
    const RvChannelOps *ops;
    void *opaque;
} RvChannelConfig;

/* What there is to know of it; a copy. */
typedef struct RvChannelInfo {
    bool open;
    bool silent;                /* calls went unanswered, and nothing was seen of the guest since */
    bool stuck;                 /* no slot answers */
    uint32_t os;
    char release[64];
    uint64_t epoch;
    uint64_t seen_ns;           /* since a sign of life */
    uint32_t nslots;
    uint32_t in_flight;
    uint64_t rings;
    struct rvmrpc_stats stats;
} RvChannelInfo;

/* Takes the window over: a new epoch, and one interrupt. */
RvChannel *rv_channel_new(const RvChannelConfig *config);

/* Ends it: calls end with @status, whose done() comes before this returns; the guest is told. */
void rv_channel_free(RvChannel *ch, uint32_t status);

/* OK, and the channel has a reference until done(); or a refusal, as rvmrpc_proxy_submit(). */
uint32_t rv_channel_submit(RvChannel *ch, RvCall *call);

/* The call ends with CANCELLED, soon; nothing happens when it is in no channel, or has ended. */
void rv_channel_cancel(RvCall *call);

void rv_channel_get_info(const RvChannel *ch, RvChannelInfo *info);

/* Bytes of an argument beyond which every call is TOO_BIG. */
uint32_t rv_channel_max_arg(const RvChannel *ch);

/*
 * The guest's own list of what can be called, as it was asked for last: struct rvmrpc_list_entry, checked for shape
 * only.  Asks for a fresh one.  The channel's; empty until there is one of this epoch.
 */
const GArray *rv_channel_list(RvChannel *ch);

#endif
