/*
 * Reverse VMRPC: the host calls procedures in the guest's kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_RVMRPC_RVMRPC_H
#define HW_RVMRPC_RVMRPC_H

#include "qapi/qapi-types-rvmrpc.h"
#include "hw/rvmrpc/core/rvmrpc_abi.h"
#include "hw/rvmrpc/core/rvmrpc_channel.h"
#include "hw/rvmrpc/core/rvmrpc_list.h"

#define TYPE_RVMRPC "rvmrpc"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(RvmrpcCall, rvmrpc_call_unref)

/* The host's end of the device's window: channel, socket, notices. */
typedef struct RvmrpcHost RvmrpcHost;

/* The device's, or NULL: there is none.  BQL held; valid as long. */
RvmrpcHost *rvmrpc_host_find(void);

RvmrpcChannel *rvmrpc_host_channel(RvmrpcHost *h);
RvmrpcList *rvmrpc_host_list(RvmrpcHost *h);
/* What a call gets that names no timeout, in ms. */
uint32_t rvmrpc_host_timeout(const RvmrpcHost *h);
/*
 * Submits a call of the main thread's, and looks for its answer for as long as
 * two other threads would take to wake up.  Then done() comes from within.  The
 * BQL, which is held, is let go meanwhile: a guest may need it to answer.
 */
uint32_t rvmrpc_host_submit(RvmrpcHost *h, RvmrpcCall *call);

/* What query-rvmrpc says; never NULL.  Any thread. */
RvmrpcInfo *rvmrpc_query(RvmrpcHost *h);

#endif
