/*
 * VMRPC: the hypercall gate of a patched KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/kvm.h>
#include <linux/rvmrpc.h>
#include "hw/rvmrpc/vmrpc.h"
#include "qemu/error-report.h"
#include "system/kvm.h"
#include "rvmrpc-internal.h"

int rvmrpc_kvm_gate_open(void)
{
    struct rvmrpc_kvm_attach attach = { .version = RVMRPC_KVM_VERSION };
    int fd;

    if (!kvm_enabled() || !kvm_irqchip_in_kernel()) {
        return -1;
    }
    fd = kvm_vm_ioctl(kvm_state, RVMRPC_ATTACH, &attach);
    /* ENOTTY: a stock KVM. */
    if (fd < 0 && fd != -ENOTTY) {
        warn_report("rvmrpc: KVM does not open its gate: %s; using the "
                    "doorbell", strerror(-fd));
    }
    return fd < 0 ? -1 : fd;
}

void rvmrpc_kvm_gate_count(int token, uint64_t *hypercalls, uint64_t *waits)
{
    struct rvmrpc_gate_status s;

    if (token >= 0 && ioctl(token, RVMRPC_GATE_STATUS, &s) == 0) {
        *hypercalls += s.hypercalls;
        *waits += s.waits;
    }
}

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
