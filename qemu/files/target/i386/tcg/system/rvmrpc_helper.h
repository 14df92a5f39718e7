/*
 * VMRPC's hypercall gate under TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef I386_TCG_RVMRPC_HELPER_H
#define I386_TCG_RVMRPC_HELPER_H

#include "cpu.h"

/*
 * Tries VMCALL or VMMCALL as a gate call.  False: it is none, the instruction
 * behaves as ever.  Does not return when the call waits.
 */
bool rvmrpc_hypercall(CPUX86State *env, int next_eip_addend);

/* An interrupt has ended the halt of @cs, which may have been such a wait. */
void rvmrpc_halt_end(CPUState *cs);

#endif
