/*
 * Reverse VMRPC: the proxy in the host's kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A KVM that has it takes over the hypercall gate and the proxy behind it.
 * QEMU tells it the VM's state, and is one of its clients.
 */
#ifndef RVMRPC_KVM_H
#define RVMRPC_KVM_H

#include "hw/pci/pci_device.h"
#include "rvmrpc-internal.h"

/*
 * Attaches the VM.  False: this KVM (or accelerator) does not have it, the
 * doorbell gate is left.  BQL held, as for all here but submit and cancel.
 */
bool rvmrpc_kvm_attach(PCIDevice *dev, const struct rvmrpc_limits *limits);
void rvmrpc_kvm_detach(PCIDevice *dev);
bool rvmrpc_kvm_attached(void);

/* As rvmrpc_call_submit() and rvmrpc_call_cancel().  Any thread. */
uint32_t rvmrpc_kvm_submit(RvmrpcCall *call);
void rvmrpc_kvm_cancel(RvmrpcCall *call);

/* Tells the kernel that vCPUs run or stop. */
void rvmrpc_kvm_running(bool running);

/* Has it end all calls with RESET; @reason is for the event. */
void rvmrpc_kvm_reset(RvmrpcDisconnectReason reason);

/* The guest's OS, by the ABI.  False: no guest is registered there. */
bool rvmrpc_kvm_os(uint32_t *os);
/* Fills in what the kernel knows.  False: as above. */
bool rvmrpc_kvm_query(RvmrpcInfo *info);

#endif
