// SPDX-License-Identifier: GPL-2.0-or-later
/* The built-in procedures, each with any argument that the dispatcher lets through, and any room for the answer. */
#include "proof.h"
#include "rvmrpc_records.c"
#include "rvmrpc_builtin.c"
#include "rvmrpc_care.c"

/* What the kernel does for them may give anything. */
#define ANY(type)	({ type any; any; })

uint32_t rvmrpc_os_list(uint32_t first, void *buf, uint32_t bytes)
{
	uint32_t n;

	(void)first;
	(void)buf;
	assume(n <= bytes);
	return n;
}

void rvmrpc_os_cancel(uint64_t xid)
{
	(void)xid;
}

void rvmrpc_os_exit(void)
{
}

bool rvmrpc_os_can_sync(void)
{
	return ANY(bool);
}

int rvmrpc_os_drop_caches(uint32_t mode, bool sync, uint64_t *freed)
{
	claim(mode >= RVMRPC_DROP_PAGECACHE && mode <= RVMRPC_DROP_ALL);
	(void)sync;
	*freed = ANY(uint64_t);
	return ANY(int);
}

int rvmrpc_os_shrink(uint64_t bytes, uint32_t ms, struct rvmrpc_shrink_res *result)
{
	claim(bytes);
	(void)ms;
	*result = ANY(struct rvmrpc_shrink_res);
	return ANY(int);
}

int rvmrpc_os_compact(struct rvmrpc_compact_res *result)
{
	*result = ANY(struct rvmrpc_compact_res);
	return ANY(int);
}

void rvmrpc_os_clocks(struct rvmrpc_clocks *clocks)
{
	*clocks = ANY(struct rvmrpc_clocks);
}

bool rvmrpc_os_clock_set(uint64_t realtime_ns)
{
	claim(realtime_ns && realtime_ns <= CLOCK_NS_MAX);
	return ANY(bool);
}

int rvmrpc_os_sysrq(uint32_t key, uint32_t *enabled)
{
	claim(key > ' ' && key < 0x7f);
	*enabled = ANY(uint32_t);
	return ANY(int);
}

int rvmrpc_os_sync(void)
{
	return ANY(int);
}

void rvmrpc_os_power(bool reboot, bool force)
{
	(void)reboot;
	(void)force;
}

int rvmrpc_os_freeze(uint32_t timeout_ms, struct rvmrpc_freeze_res *state)
{
	claim(timeout_ms && timeout_ms <= RVMRPC_FREEZE_MS_MAX);
	*state = ANY(struct rvmrpc_freeze_res);
	return ANY(int);
}

int rvmrpc_os_thaw(struct rvmrpc_freeze_res *state)
{
	*state = ANY(struct rvmrpc_freeze_res);
	return ANY(int);
}

void rvmrpc_os_freeze_state(struct rvmrpc_freeze_res *state)
{
	*state = ANY(struct rvmrpc_freeze_res);
}

/* Each of a module's: the checker goes through all of them. */
static void claim_procedures(const struct rvmrpc_module *m)
{
	struct rvmrpc_response res = { .res = proof_answers, .resmax = ANY(uint32_t) };
	struct rvmrpc_request req = ANY(struct rvmrpc_request);
	const struct rvmrpc_procedure *p;
	uint32_t i;

	assume(res.resmax <= RVMRPC_SLOT_BYTES_MAX && req.arglen <= RVMRPC_SLOT_BYTES_MAX);
	proof_answers_bytes = res.resmax;
	proof_window_bytes = req.arglen;
	req.arg = proof_window;
	for (i = 0; i < m->nprocs; i++) {
		p = &m->procs[i];
		if (req.arglen < p->arg_min || req.arglen > p->arg_max)
			continue;
		req.func = p->number;
		res.reslen = 0;
		p->handler(&req, &res);
		claim(res.reslen <= res.resmax);
	}
}

/* PROOF unwind 6 */
void prove_core(void)
{
	claim_procedures(&rvmrpc_core_module);
	claim_procedures(&rvmrpc_echo_module);
	reached();
}

/* PROOF unwind 6 */
void prove_care(void)
{
	claim_procedures(&rvmrpc_clock_module);
	claim_procedures(&rvmrpc_control_module);
	claim_procedures(&rvmrpc_freeze_module);
	claim_procedures(&rvmrpc_reclaim_sized_module);
	reached();
}
