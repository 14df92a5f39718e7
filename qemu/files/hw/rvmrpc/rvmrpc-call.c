/*
 * Reverse VMRPC: calls of host clients
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "rvmrpc-internal.h"

RvmrpcCall *rvmrpc_call_new(struct rvmrpc_client *client, uint32_t module,
                            uint32_t procedure, const void *arg,
                            uint32_t arglen, uint32_t timeout_ms,
                            RvmrpcCallDone *done, void *opaque)
{
    RvmrpcCall *call = g_atomic_rc_box_new0(RvmrpcCall);

    if (!timeout_ms) {
        timeout_ms = rvmrpc_proxy.config.default_timeout_ms;
    }
    call->arg = g_memdup2(arg, arglen);
    call->done = done;
    call->opaque = opaque;
    call->core.client = client;
    call->core.module = module;
    call->core.procedure = procedure;
    call->core.arg = call->arg;
    call->core.arglen = arglen;
    call->core.res_max = UINT32_MAX;
    call->core.deadline = rvmrpc_now() + timeout_ms * (int64_t)SCALE_MS;
    return call;
}

static void call_free(void *data)
{
    RvmrpcCall *call = data;

    g_free(call->arg);
    g_free(call->res);
}

void rvmrpc_call_ref(RvmrpcCall *call)
{
    g_atomic_rc_box_acquire(call);
}

void rvmrpc_call_unref(RvmrpcCall *call)
{
    g_atomic_rc_box_release_full(call, call_free);
}

void rvmrpc_call_finish(RvmrpcCall *call)
{
    call->done(call, call->opaque);
    rvmrpc_call_unref(call);
}
