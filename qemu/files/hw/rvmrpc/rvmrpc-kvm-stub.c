/*
 * Reverse VMRPC: builds without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc-kvm.h"

bool rvmrpc_kvm_attach(PCIDevice *dev, const struct rvmrpc_limits *limits)
{
    return false;
}

void rvmrpc_kvm_detach(PCIDevice *dev)
{
}

bool rvmrpc_kvm_attached(void)
{
    return false;
}

uint32_t rvmrpc_kvm_submit(RvmrpcCall *call)
{
    return RVMRPC_STATUS_NOT_CONNECTED;
}

void rvmrpc_kvm_cancel(RvmrpcCall *call)
{
}

void rvmrpc_kvm_running(bool running)
{
}

void rvmrpc_kvm_reset(RvmrpcDisconnectReason reason)
{
}

bool rvmrpc_kvm_os(uint32_t *os)
{
    return false;
}

bool rvmrpc_kvm_query(RvmrpcInfo *info)
{
    return false;
}

/* No VM is attached, so no vCPU exits for this reason. */
int rvmrpc_kvm_handle_exit(CPUState *cpu, struct kvm_run *run)
{
    g_assert_not_reached();
}
