/*
 * Reverse VMRPC: a call of a client in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <time.h>
#include "rvmrpc_call.h"

uint64_t rvmrpc_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

RvmrpcCall *rvmrpc_call_new(struct rvmrpc_client *quota, uint32_t module,
                            uint32_t procedure, void *arg, uint32_t arglen,
                            uint32_t timeout_ms, RvmrpcCallDone *done,
                            void *opaque)
{
    RvmrpcCall *call = g_new0(RvmrpcCall, 1);

    call->refs = 1;
    call->arg = arg;
    call->done = done;
    call->opaque = opaque;
    call->core.client = quota;
    call->core.module = module;
    call->core.procedure = procedure;
    call->core.arg = arg;
    call->core.arglen = arglen;
    call->core.res_max = UINT32_MAX;
    call->core.deadline = rvmrpc_clock() +
        (timeout_ms ?: RVMRPC_TIMEOUT_MS_DEFAULT) * 1000000ull;
    return call;
}

RvmrpcCall *rvmrpc_call_ref(RvmrpcCall *call)
{
    g_atomic_int_inc(&call->refs);
    return call;
}

void rvmrpc_call_unref(RvmrpcCall *call)
{
    if (!g_atomic_int_dec_and_test(&call->refs)) {
        return;
    }
    g_free(call->arg);
    g_free(call->res);
    g_free(call);
}
