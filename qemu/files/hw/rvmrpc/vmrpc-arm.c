/*
 * VMRPC: what a call of an arm64 guest's kernel looks like
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "target/arm/internals.h"
#include "system/hw_accel.h"
#include "hw/rvmrpc/vmrpc.h"

/* HVC is PSCI's and KVM's; the gate by an instruction is x86's alone. */
bool vmrpc_tcg_has_gate(void)
{
    return false;
}

bool vmrpc_cpu_may_call(CPUState *cpu)
{
    CPUARMState *env = cpu_env(cpu);
    int el;

    cpu_synchronize_state(cpu);
    el = arm_current_el(env);
    /* At EL1 under a stage 2 of the guest's own, it is a guest's guest. */
    return el == 2 || (el == 1 && !(arm_hcr_el2_eff(env) & HCR_VM));
}
