/*
 * Reverse VMRPC: a window that the host's kernel owns
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For rvmrpc_channel.c, whose interface this stands behind: rvmrpc_host.ko has
 * the window, and is told and asked by /dev/rvmrpc-vm.  Callbacks come in the
 * thread of the channel's context, where new and free belong, too; the rest is
 * any thread's that keeps it from being freed.  Nothing here waits for a guest.
 */
#ifndef RVMRPC_CHANNEL_KERNEL_H
#define RVMRPC_CHANNEL_KERNEL_H

#include <errno.h>
#include "rvmrpc_channel.h"

typedef struct RvmrpcKernel RvmrpcKernel;

/*
 * The kernel has given the window up: all calls have ended, and closed() was
 * told.  @opaque's owner frees it, and owns the window from now on.
 */
typedef void RvmrpcKernelLost(void *opaque);

/*
 * NULL: the window stays the caller's, untouched.  @config is the channel's,
 * and stays.  @refusal is kept from one attempt to the next, 0 at first, so
 * that nothing is said twice: 0, RVMRPC_KERNEL_ABSENT, or another errno.
 */
#define RVMRPC_KERNEL_ABSENT    ENOENT  /* it is not there, or wants to go */
RvmrpcKernel *rvmrpc_kernel_new(const RvmrpcChannelConfig *config,
                                RvmrpcKernelLost *lost, void *opaque,
                                int *refusal);
/* Takes the window back, as rvmrpc_channel_free(). */
void rvmrpc_kernel_free(RvmrpcKernel *k, uint32_t status);

/* Ends its calls, tells closed() if it was open, and then lost(). */
void rvmrpc_kernel_give_up(RvmrpcKernel *k);

/* As those of the channel; @ch becomes call->channel. */
uint32_t rvmrpc_kernel_submit(RvmrpcKernel *k, RvmrpcChannel *ch,
                              RvmrpcCall *call);
void rvmrpc_kernel_cancel(RvmrpcKernel *k, RvmrpcCall *call);
void rvmrpc_kernel_get_info(const RvmrpcKernel *k, RvmrpcChannelInfo *info);
uint64_t rvmrpc_kernel_epoch(const RvmrpcKernel *k);

/* What happened to the VM. */
void rvmrpc_kernel_run(RvmrpcKernel *k, bool running);
/* Ends the epoch; @why is told with it. */
void rvmrpc_kernel_reset(RvmrpcKernel *k, RvmrpcClosed why);

#endif
