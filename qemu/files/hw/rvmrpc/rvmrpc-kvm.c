/*
 * VMRPC: a gate call that a patched KVM hands to QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc-internal.h"

int rvmrpc_kvm_handle_exit(CPUState *cpu, struct kvm_run *run)
{
    VmrpcCall call = {
        .cpu = cpu,
        .gate = VMRPC_GATE_HYPERCALL,
        .op = run->hypercall.nr,
        .a0 = run->hypercall.args[0],
        .a1 = run->hypercall.args[1],
        .a2 = run->hypercall.args[2],
    };

    qatomic_inc(&vmrpc_hypercalls);
    run->hypercall.ret = vmrpc_call(&call);
    return 0;
}
