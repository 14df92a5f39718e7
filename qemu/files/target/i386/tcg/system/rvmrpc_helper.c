/*
 * VMRPC's hypercall gate under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A helper must not sleep: it would hold up RCU, exclusive work and, with one
 * thread for all vCPUs, the whole VM.  So a call that waits halts its vCPU as
 * HLT does, with the answer preset to AGAIN; a request is delivered by work
 * queued to the vCPU's thread.
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/exec-all.h"
#include "exec/helper-proto.h"
#include "hw/core/cpu.h"
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc_helper.h"
#include "tcg/helper-tcg.h"

/* vCPU thread, BQL held. */
static void wait_work(CPUState *cs, run_on_cpu_data data)
{
    const VmrpcGateOps *ops = data.host_ptr;
    CPUX86State *env = cpu_env(cs);
    uint64_t answer;

    /* A reset or a debugger may have moved the vCPU on. */
    if (!cs->halted) {
        ops->wait_end(cs);
    } else if (ops->wait_finish(cs, env->eip, &answer)) {
        env->regs[R_EAX] = answer;
        cs->halted = 0;
    }
}

static void wake(CPUState *cs)
{
    async_run_on_cpu(cs, wait_work,
                     RUN_ON_CPU_HOST_PTR((void *)vmrpc_wait_gate_ops));
}

static void abort_wait(CPUState *cs, uint64_t token)
{
    if (cpu_env(cs)->eip == token) {
        cs->halted = 0;
    }
}

static const VmrpcWaitOps wait_ops = {
    .wake = wake,
    .abort = abort_wait,
};

/* Without IF no interrupt could end the wait. */
static bool can_wait(CPUX86State *env)
{
    return (env->eflags & IF_MASK) && (env->hflags2 & HF2_GIF_MASK) &&
           !(env->hflags & HF_SMM_MASK);
}

static bool is_ours(CPUX86State *env)
{
    return (uint32_t)env->regs[R_EAX] == RVMRPC_HYPERCALL_NR &&
           (env->hflags & HF_CPL_MASK) == 0 &&
           (env->hflags & HF_CS64_MASK) && !(env->hflags & HF_GUEST_MASK);
}

bool rvmrpc_hypercall(CPUX86State *env, int next_eip_addend)
{
    const VmrpcGateOps *ops = qatomic_read(&vmrpc_gate_ops);
    CPUState *cs = env_cpu(env);
    VmrpcCall call = {
        .cpu = cs,
        .gate = VMRPC_GATE_HYPERCALL,
        .op = env->regs[R_EBX],
        .a0 = env->regs[R_ECX],
        .a1 = env->regs[R_EDX],
        .a2 = env->regs[R_ESI],
        .wait_ops = can_wait(env) ? &wait_ops : NULL,
        .wait_token = env->eip + next_eip_addend,
    };

    if (!ops || !is_ours(env)) {
        return false;
    }
    env->regs[R_EAX] = ops->call(&call);
    if (call.waits) {
        env->eip += next_eip_addend;
        do_end_instruction(env);
        cs->halted = 1;
        cs->exception_index = EXCP_HLT;
        cpu_loop_exit(cs);
    }
    return true;
}

void rvmrpc_halt_end(CPUState *cs)
{
    const VmrpcGateOps *ops = qatomic_read(&vmrpc_wait_gate_ops);

    if (ops) {
        ops->wait_end(cs);
    }
}

void helper_vmcall(CPUX86State *env, int next_eip_addend)
{
    if (!rvmrpc_hypercall(env, next_eip_addend)) {
        raise_exception(env, EXCP06_ILLOP);
    }
}
