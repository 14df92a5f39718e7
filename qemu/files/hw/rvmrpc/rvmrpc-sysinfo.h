/*
 * Reverse VMRPC: answers of the module sysinfo as QAPI types
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_SYSINFO_H
#define RVMRPC_SYSINFO_H

#include "hw/rvmrpc/rvmrpc.h"

/* A malformed answer is an error; keys that are not known are skipped. */
GuestMeminfo *rvmrpc_decode_meminfo(const RvmrpcCall *call, bool raw,
                                    Error **errp);
GuestLoadavg *rvmrpc_decode_loadavg(const RvmrpcCall *call, Error **errp);
GuestKernelOsinfo *rvmrpc_decode_osinfo(const RvmrpcCall *call, Error **errp);

/*
 * Adds what an answer says of some CPUs to a GuestCpuinfo, GuestCpustat (with
 * a total).  *next is set when there are more: the CPU to go on with.
 */
typedef bool RvmrpcAddPage(void *info, const RvmrpcCall *call, uint32_t *next,
                           Error **errp);
RvmrpcAddPage rvmrpc_add_cpuinfo, rvmrpc_add_cpustat;

#endif
