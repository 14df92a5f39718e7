/*
 * Reverse VMRPC: a window under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * With one vCPU, or one thread for all, TCG leaves barriers out: nobody else
 * is there to see.  But the window has the host's threads at its other end,
 * and without barriers wake-ups are lost.
 */
#include "qemu/osdep.h"
#include "exec/exec-all.h"
#include "exec/tb-flush.h"
#include "exec/translation-block.h"
#include "hw/core/cpu.h"
#include "system/cpu-timers.h"
#include "system/tcg.h"
#include "rvmrpc-internal.h"

/* No vCPU runs. */
static void keep_barriers(CPUState *cpu, run_on_cpu_data data)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (!tcg_cflags_has(cs, CF_PARALLEL)) {
            tcg_cflags_set(cs, CF_PARALLEL);
        }
    }
    tb_flush(cpu);
}

void rvmrpc_tcg_keep_barriers(void)
{
    if (tcg_enabled() && !icount_enabled() && first_cpu &&
        !tcg_cflags_has(first_cpu, CF_PARALLEL)) {
        async_safe_run_on_cpu(first_cpu, keep_barriers, RUN_ON_CPU_NULL);
    }
}
