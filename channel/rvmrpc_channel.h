/*
 * Reverse VMRPC: the host's end of a window in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One window of one guest: its doorbell, interrupt, deadlines, and the owner
 * of core/.  What it has to tell goes up by callbacks, in the thread of one
 * GMainContext.  Any thread may call what does not say otherwise; no function
 * here waits.  Times are those of rvmrpc_clock().
 */
#ifndef RVMRPC_CHANNEL_H
#define RVMRPC_CHANNEL_H

#include <sys/types.h>
#include "rvmrpc_call.h"
#include "rvmrpc_owner.h"

typedef enum RvmrpcClosed {
    RVMRPC_CLOSED_GUEST_EXIT,   /* the driver left */
    RVMRPC_CLOSED_REPLACED,     /* it, or another one, said hello */
    RVMRPC_CLOSED_OVERWRITTEN,  /* a state was loaded over it, or worse */
    /* By rvmrpc_channel_end(): */
    RVMRPC_CLOSED_GUEST_RESET,
    RVMRPC_CLOSED_STATE_LOADED,
    RVMRPC_CLOSED_MIGRATED,
    RVMRPC_CLOSED_VM_ENDS,
} RvmrpcClosed;

/* They may submit and cancel; they may not free the channel. */
typedef struct RvmrpcChannelOps {
    /* A driver has registered: calls are possible. */
    void (*opened)(void *opaque);
    /* They are not any more. */
    void (*closed)(void *opaque, RvmrpcClosed why);
    /* No slot answers: calls get BUSY until one does. */
    void (*stuck)(void *opaque);
    /*
     * The guest has told something, before what comes next; rvmrpc_event.h
     * reads it.  What it can cause is bounded (core/rvmrpc_ring.h).
     */
    void (*event)(void *opaque, const struct rvmrpc_told *told);
    /*
     * NULL, or: wakes a vCPU that waits in rvmrpc_channel_main(), true if
     * there is one.  Any thread, with the channel's lock held.
     */
    bool (*rouse)(void *opaque);
} RvmrpcChannelOps;

/* For a window that rvmrpc_host.ko shall own, whenever it is there. */
typedef struct RvmrpcKernelConfig {
    const char *name;           /* stays */
    uint8_t uuid[16];           /* zero: not known */
    pid_t pid;                  /* of the VMM; 0: this process */
    int token_fd;               /* of KVM's, or -1 */
    bool stopped;               /* vCPUs do not run */
    bool wanted;                /* warn, while it is not there */
} RvmrpcKernelConfig;

typedef struct RvmrpcChannelConfig {
    void *base;                 /* the window, mapped */
    uint64_t size;              /* bytes */
    struct rvmrpc_layout layout;    /* by rvmrpc_layout_make() */
    uint32_t doorbell;          /* what the guest writes to ring */
    int doorbell_fd;            /* eventfds, nonblocking: read here, */
    int interrupt_fd;           /* and written here; the caller's */
    uint32_t spin_us;           /* most time that either side spins; 0 never */
    GMainContext *context;      /* NULL: the default one */
    const RvmrpcKernelConfig *kernel;   /* NULL: never; copied */
    const RvmrpcChannelOps *ops;
    void *opaque;
} RvmrpcChannelConfig;

/* What there is to know of it; a copy. */
typedef struct RvmrpcChannelInfo {
    bool open;
    bool silent;                /* it did not answer, and nothing came since */
    bool kernel;                /* the host's kernel owns the window, */
    bool vmlp;                  /* and the guest waits in it */
    uint32_t os;                /* RVMRPC_OS_* */
    char release[64];           /* the guest's own word, with a NUL */
    uint64_t epoch;             /* 0: not open */
    uint64_t seen_ns;           /* since the last sign of life */
    uint32_t nslots;
    uint32_t in_flight;
    uint64_t rings;
    uint64_t interrupts;        /* all of them; stats has those of requests */
    uint32_t spin_us;           /* what it spins at present */
    uint32_t guest_spin_us;
    struct rvmrpc_stats stats;
} RvmrpcChannelInfo;

/*
 * Takes the window over, whatever is in it: a new epoch, and one interrupt,
 * since the guest may sleep.  In the channel's thread, or before it runs.
 */
RvmrpcChannel *rvmrpc_channel_new(const RvmrpcChannelConfig *config);

/*
 * Ends the epoch and tells the guest.  Calls end with @status; their done()
 * comes before this returns.  In the channel's thread, or after it has ended.
 */
void rvmrpc_channel_free(RvmrpcChannel *ch, uint32_t status);

/*
 * OK: the channel has a reference until done().  Else the call was refused, as
 * by rvmrpc_proxy_submit(), and done() does not come.
 */
uint32_t rvmrpc_channel_submit(RvmrpcChannel *ch, RvmrpcCall *call);

/*
 * The same, for a thread whose client waits for this call: if the guest is
 * awake it looks for the answer itself, for at most @us microseconds, less often
 * where that was in vain.  When it comes, done() comes from within, and no
 * thread is woken.
 */
uint32_t rvmrpc_channel_submit_and_look(RvmrpcChannel *ch, RvmrpcCall *call,
                                        uint32_t us);

/* Ends the call with CANCELLED, soon.  Nothing happens when it has ended. */
void rvmrpc_channel_cancel(RvmrpcCall *call);

/*
 * The kernel may have the window from now on: @kernel as in the config; or NULL:
 * not any more.  What is open ends when the owner changes, which may be at any
 * later time, too.  In the channel's thread.
 */
void rvmrpc_channel_offer(RvmrpcChannel *ch, const RvmrpcKernelConfig *kernel);

/* While it is stopped the guest is asked nothing: calls get STOPPED. */
void rvmrpc_channel_set_stopped(RvmrpcChannel *ch, bool stopped);

/* Ends the epoch; the guest is interrupted as soon as it runs. */
void rvmrpc_channel_end(RvmrpcChannel *ch, uint32_t status, RvmrpcClosed why);

/*
 * RVMRPC_MAIN of a guest that has seen so much.  When it shall wait, @wait is
 * called with the channel's lock held, so that ops->rouse() misses no waiter.
 */
enum rvmrpc_main_turn rvmrpc_channel_main(RvmrpcChannel *ch, uint64_t epoch,
                                          uint32_t seen,
                                          void (*wait)(void *opaque),
                                          void *opaque);

void rvmrpc_channel_get_info(RvmrpcChannel *ch, RvmrpcChannelInfo *info);

/* The host's kernel owns the window. */
bool rvmrpc_channel_in_kernel(RvmrpcChannel *ch);

/* 0: no guest is registered. */
uint64_t rvmrpc_channel_epoch(RvmrpcChannel *ch);

/* Bytes of an argument beyond which every call is TOO_BIG. */
uint32_t rvmrpc_channel_max_arg(const RvmrpcChannel *ch);

#endif
