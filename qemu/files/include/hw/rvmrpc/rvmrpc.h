/*
 * Reverse VMRPC: the host calls procedures in the guest's kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_RVMRPC_RVMRPC_H
#define HW_RVMRPC_RVMRPC_H

#include "qapi/qapi-types-rvmrpc.h"
#include "hw/rvmrpc/core/rvmrpc_abi.h"
#include "hw/rvmrpc/core/rvmrpc_proxy.h"

#define TYPE_RVMRPC "rvmrpc"

/* ---- Calls: QMP and other clients ---- */

typedef struct RvmrpcCall RvmrpcCall;

/* The call has ended.  Any thread, no lock of ours held; must not block. */
typedef void RvmrpcCallDone(RvmrpcCall *call, void *opaque);

struct RvmrpcCall {
    struct rvmrpc_call core;    /* outcome: status, reslen, elapsed */
    void *arg;                  /* owned */
    void *res;                  /* owned; reslen bytes when status is OK */
    RvmrpcCallDone *done;
    void *opaque;
    uint64_t cookie;            /* in the kernel's proxy; 0: not there */
};

/*
 * A call, not yet submitted.  @arg is copied.  @client counts the calls of one
 * caller and must outlive the call.  @timeout_ms: 1 to RVMRPC_TIMEOUT_MS_MAX,
 * or 0 for the device's default.  One reference.
 */
RvmrpcCall *rvmrpc_call_new(struct rvmrpc_client *client, uint32_t module,
                            uint32_t procedure, const void *arg,
                            uint32_t arglen, uint32_t timeout_ms,
                            RvmrpcCallDone *done, void *opaque);
void rvmrpc_call_unref(RvmrpcCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcCall, rvmrpc_call_unref)

/*
 * Hands the call to the proxy.  OK: done() will be called, once.  Else it is
 * refused with that RVMRPC_STATUS_* and done() is not called.  Any thread.
 */
uint32_t rvmrpc_call_submit(RvmrpcCall *call);

/* done() is called soon, unless it was already.  Any thread. */
void rvmrpc_call_cancel(RvmrpcCall *call);

/* ---- The channel ---- */

/* There is a device.  BQL held. */
bool rvmrpc_present(void);

/* Looks a name up among the modules that the guest listed.  Any thread. */
bool rvmrpc_find_module(const char *name, uint32_t *number);
bool rvmrpc_find_procedure(uint32_t module, const char *name,
                           uint32_t *number);

/* The call that asks for that list; rvmrpc_list_store() takes its answer. */
void rvmrpc_list_store(const RvmrpcCall *call);

/* BQL held, or in the thread of the socket, which ends before the device. */
RvmrpcInfo *rvmrpc_query(void);

/* ---- The device's half ---- */

typedef struct RvmrpcDeviceOps {
    void (*kick)(void *opaque);     /* raise the interrupt; BQL held */
} RvmrpcDeviceOps;

typedef struct RvmrpcConfig {
    struct rvmrpc_limits limits;
    uint32_t default_timeout_ms;
    bool hypercall;             /* the gate is QEMU's own (TCG) */
    const RvmrpcDeviceOps *ops;
    void *opaque;
} RvmrpcConfig;

/* BQL held, all of them. */
void rvmrpc_attach(const RvmrpcConfig *config);
void rvmrpc_detach(void);
void rvmrpc_reset(RvmrpcDisconnectReason reason);
void rvmrpc_kick_after_load(void);

#endif
