/*
 * Reverse VMRPC: a window that the host's kernel owns
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For rvmrpc_channel.c, whose interface this stands behind: rvmrpc_host.ko has
 * the window, and is told and asked by /dev/rvmrpc-vm.  One thread's, as the
 * channel; no function here waits for a guest.
 */
#ifndef RVMRPC_CHANNEL_KERNEL_H
#define RVMRPC_CHANNEL_KERNEL_H

#include "rvmrpc_channel.h"

typedef struct RvmrpcKernel RvmrpcKernel;

/*
 * The kernel has given the window up, as its administrator wants: all calls
 * have ended, and closed() was told.  @opaque's owner frees it, and owns the
 * window from now on.
 */
typedef void RvmrpcKernelLost(void *opaque);

/*
 * NULL: the window stays the caller's, for lack of the module or of its
 * consent.  @config is the channel's, and stays.
 */
RvmrpcKernel *rvmrpc_kernel_new(const RvmrpcChannelConfig *config,
                                RvmrpcKernelLost *lost, void *opaque);
/* Takes the window back, as rvmrpc_channel_free(). */
void rvmrpc_kernel_free(RvmrpcKernel *k, uint32_t status);

/* As those of the channel. */
uint32_t rvmrpc_kernel_submit(RvmrpcKernel *k, RvmrpcCall *call);
void rvmrpc_kernel_cancel(RvmrpcKernel *k, RvmrpcCall *call);
void rvmrpc_kernel_get_info(const RvmrpcKernel *k, RvmrpcChannelInfo *info);

/* What happened to the VM: RVMRPC_KVM_RUN, _STOP or _RESET. */
void rvmrpc_kernel_notice(RvmrpcKernel *k, unsigned notice);

#endif
