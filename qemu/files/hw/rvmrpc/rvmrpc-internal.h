/*
 * Reverse VMRPC: what the files of hw/rvmrpc share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_INTERNAL_H
#define RVMRPC_INTERNAL_H

#include "qemu/thread.h"
#include "hw/rvmrpc/rvmrpc.h"

typedef struct RvmrpcProxy {
    bool initialized;           /* BQL */
    QemuMutex lock;             /* leaf: nothing is taken inside */
    bool attached;              /* there is a device; BQL and lock to write */
    RvmrpcConfig config;        /* BQL and lock to write */
    struct rvmrpc_proxy core;   /* lock */
    bool doorbell;              /* gate of the last RVMRPC_MAIN; lock */
    bool vmlp;                  /* it asked to wait; lock */
    uint64_t waits;             /* lock */
    int nwaiters;               /* vCPUs that wait; lock to write */
    uint64_t hypercalls;        /* atomic */
    uint64_t doorbells;         /* BQL */
    uint64_t interrupts;        /* BQL */
} RvmrpcProxy;

extern RvmrpcProxy rvmrpc_proxy;

/* ns of the clock of deadlines: the host's, it goes on while the VM stops. */
int64_t rvmrpc_now(void);

void rvmrpc_call_ref(RvmrpcCall *call);
/* The proxy has done with it: tells the owner, drops the proxy's reference. */
void rvmrpc_call_finish(RvmrpcCall *call);

/* The list of modules: asks the guest again; a copy.  Any thread. */
void rvmrpc_list_refresh(void);
RvmrpcModuleList *rvmrpc_list_get(void);

/* Registers the VMRPC server "log".  BQL held. */
void vmrpc_log_register(void);

/* Send the events of that name.  Any thread. */
void rvmrpc_tell_connected(uint32_t os, const char *release, size_t len,
                           uint64_t epoch);
void rvmrpc_tell_disconnected(RvmrpcDisconnectReason reason);

RvmrpcOs rvmrpc_os(uint32_t os);
/* Text of the guest, of at most @len bytes, fit for a terminal and JSON. */
char *rvmrpc_escape(const char *text, size_t len);

#endif
