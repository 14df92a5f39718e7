/*
 * Reverse VMRPC: a call of a client in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Owns its argument and its answer.  All of channel/ belongs to one thread, that of its GMainContext.
 */
#ifndef RV_CALL_H
#define RV_CALL_H

#include <glib.h>
#include "rvmrpc_proxy.h"

typedef struct RvCall RvCall;
typedef struct RvChannel RvChannel;
typedef void RvCallDone(RvCall *call, void *opaque);

struct RvCall {
    struct rvmrpc_call core;    /* status, reslen and elapsed are valid at the end */
    unsigned refs;
    RvChannel *channel;         /* that it is in, from submission to done() */
    void *arg;
    void *res;                  /* status OK: reslen bytes; may be taken */
    RvCallDone *done;
    void *opaque;
};

/* Of one of the core's calls, all of which are such. */
static inline RvCall *rv_call_of(struct rvmrpc_call *core)
{
    G_STATIC_ASSERT(G_STRUCT_OFFSET(RvCall, core) == 0);
    return (RvCall *)core;
}

/* ns of the clock of deadlines. */
uint64_t rv_now(void);

/*
 * A call with one reference.  @quota: who calls, NULL for the host itself.  @arg: @arglen bytes of g_malloc(), taken.
 * @timeout_ms: 1 to RVMRPC_TIMEOUT_MS_MAX from now on, 0 for the default.  @done comes exactly once for a call that
 * was submitted with OK, never from within the submission.
 */
RvCall *rv_call_new(struct rvmrpc_client *quota, uint32_t module, uint32_t procedure, void *arg, uint32_t arglen,
                    uint32_t timeout_ms, RvCallDone *done, void *opaque);
RvCall *rv_call_ref(RvCall *call);
void rv_call_unref(RvCall *call);

#endif
