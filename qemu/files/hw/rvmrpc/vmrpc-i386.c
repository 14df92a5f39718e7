/*
 * VMRPC: what a call of an x86 guest's kernel looks like
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "system/hw_accel.h"
#include "system/tcg.h"
#include "hw/rvmrpc/vmrpc.h"

bool vmrpc_tcg_has_gate(void)
{
    return tcg_enabled();
}

bool vmrpc_cpu_may_call(CPUState *cpu)
{
    cpu_synchronize_state(cpu);
    return !(cpu_env(cpu)->hflags & (HF_CPL_MASK | HF_GUEST_MASK));
}
