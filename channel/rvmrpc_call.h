/*
 * Reverse VMRPC: a call of a client in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Owns its argument and its answer.  Any thread may have a reference; done()
 * comes in that of the channel's GMainContext.
 */
#ifndef RVMRPC_CHANNEL_CALL_H
#define RVMRPC_CHANNEL_CALL_H

#include <glib.h>
#include "rvmrpc_proxy.h"

typedef struct RvmrpcCall RvmrpcCall;
typedef struct RvmrpcChannel RvmrpcChannel;
typedef void RvmrpcCallDone(RvmrpcCall *call, void *opaque);

struct RvmrpcCall {
    struct rvmrpc_call core;    /* status, reslen, elapsed: valid at the end */
    gint refs;                  /* atomic */
    RvmrpcChannel *channel;     /* from submission to done(); atomic */
    void *arg;
    void *res;                  /* status OK: reslen bytes; may be stolen */
    RvmrpcCallDone *done;
    void *opaque;
};

static inline RvmrpcCall *rvmrpc_call_of(struct rvmrpc_call *core)
{
    return (RvmrpcCall *)((char *)core - offsetof(RvmrpcCall, core));
}

/* The clock of deadlines, in ns; it goes on while a VM is stopped. */
uint64_t rvmrpc_clock(void);

/*
 * A call with one reference.  @quota: who calls, NULL for the host itself.
 * @arg: @arglen bytes of g_malloc(), taken over.  @timeout_ms: 1 to
 * RVMRPC_TIMEOUT_MS_MAX from now on, 0 for the default.  @done comes exactly
 * once for a call that was submitted with OK, and never within
 * rvmrpc_channel_submit().
 */
RvmrpcCall *rvmrpc_call_new(struct rvmrpc_client *quota, uint32_t module,
                            uint32_t procedure, void *arg, uint32_t arglen,
                            uint32_t timeout_ms, RvmrpcCallDone *done,
                            void *opaque);
RvmrpcCall *rvmrpc_call_ref(RvmrpcCall *call);
void rvmrpc_call_unref(RvmrpcCall *call);

#endif
