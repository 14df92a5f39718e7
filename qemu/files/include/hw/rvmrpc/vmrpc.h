/*
 * VMRPC: a guest kernel calls procedures of the VMM process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_RVMRPC_VMRPC_H
#define HW_RVMRPC_VMRPC_H

#include "hw/core/cpu.h"
#include "hw/rvmrpc/core/rvmrpc_abi.h"

/* By which way a gate call came in. */
typedef enum VmrpcGateKind {
    VMRPC_GATE_HYPERCALL,
    VMRPC_GATE_DOORBELL,
} VmrpcGateKind;

/*
 * A vCPU that may wait in the host.  BQL held, both.  @wake: has the vCPU's
 * thread call VmrpcGateOps.wait_finish() soon.  @abort: vCPUs are paused; the
 * wait ends with the answer that was preset.
 */
typedef struct VmrpcWaitOps {
    void (*wake)(CPUState *cpu);
    void (*abort)(CPUState *cpu, uint64_t token);
} VmrpcWaitOps;

/* One gate call.  @cpu may be NULL (a doorbell rung by no vCPU). */
typedef struct VmrpcCall {
    CPUState *cpu;
    VmrpcGateKind gate;
    uint64_t op, a0, a1, a2;
    const VmrpcWaitOps *wait_ops;   /* NULL: it cannot wait */
    uint64_t wait_token;            /* tells the wait from a later halt */
    bool waits;                     /* out: it waits, the answer is preset */
    GArray *mappings;               /* of vmrpc_get_hva(), or NULL */
} VmrpcCall;

/*
 * The hypercall gate as an accelerator sees it; NULL while there is no device
 * that offers it.  Set under the BQL, read by vCPU threads at any time.
 */
typedef struct VmrpcGateOps {
    /* vCPU thread; returns the answer for RAX. */
    uint64_t (*call)(VmrpcCall *call);
    /* vCPU thread; a wait is over.  False: @cpu is in no such wait. */
    bool (*wait_finish)(CPUState *cpu, uint64_t token, uint64_t *answer);
    /* vCPU thread; an interrupt ended the wait of @cpu, if it waited. */
    void (*wait_end)(CPUState *cpu);
} VmrpcGateOps;

extern const VmrpcGateOps *vmrpc_gate_ops;

/* The same, but never NULL again: waits can outlast the gate. */
extern const VmrpcGateOps *vmrpc_wait_gate_ops;

/*
 * A procedure of a server module, the paper's figure 2.  Runs in the thread of
 * the vCPU that calls; with the BQL held on the doorbell gate, without it on
 * the hypercall gate; must not sleep.  @arg is a guest virtual address or a
 * plain number.  Returns a result below 2^31 or one of RVMRPC_GATE_*.
 */
typedef uint32_t VmrpcDispatch(VmrpcCall *call, uint32_t func, uint64_t arg,
                               uint64_t bytes);

typedef struct VmrpcModule {
    const char *name;       /* at most RVMRPC_NAME_MAX bytes */
    const char *version;
    VmrpcDispatch *dispatch;
} VmrpcModule;

/* Adds a server module for the life of the process.  BQL held. */
void vmrpc_register_module(const VmrpcModule *module);

/*
 * Whether @cpu runs a kernel, and that of this VM: its user space, or a guest
 * of it, may have been given the device.  Its own thread.
 */
bool vmrpc_cpu_may_call(CPUState *cpu);

/* Whether TCG serves the hypercall gate of this target's guests. */
bool vmrpc_tcg_has_gate(void);

/* Executes a gate call and returns its answer.  vCPU thread. */
uint64_t vmrpc_call(VmrpcCall *call);

/*
 * Copies between the host and the guest virtual address @gva of the calling
 * vCPU (paper, section 2).  False when a page is not mapped or is not RAM.
 * Only inside a procedure.
 */
bool vmrpc_copy_from_guest(VmrpcCall *call, void *buf, uint64_t gva,
                           size_t len);
bool vmrpc_copy_to_guest(VmrpcCall *call, uint64_t gva, const void *buf,
                         size_t len);

/*
 * Maps @gva, up to @len bytes but at most to the page's end; *@got says how
 * many.  NULL when it is not mapped or not RAM.  Valid until vmrpc_put_hva()
 * or the end of the procedure; what was mapped for @write is marked dirty.
 */
void *vmrpc_get_hva(VmrpcCall *call, uint64_t gva, size_t len, bool write,
                    size_t *got);
void vmrpc_put_hva(VmrpcCall *call, void *hva);

/* A KVM exit with the reason KVM_EXIT_VMRPC.  vCPU thread, no BQL. */
struct kvm_run;
int rvmrpc_kvm_handle_exit(CPUState *cpu, struct kvm_run *run);

#endif
