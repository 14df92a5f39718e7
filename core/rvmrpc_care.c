/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules clock, control and freeze, and what reclaim has where sizes are known.
 */
#include "rvmrpc_builtin.h"
#include "rvmrpc_care.h"
#include "rvmrpc_records.h"

/* What nobody can count in ns from 1970 on in 63 bits. */
#define CLOCK_NS_MAX	0x7fffffffffffffffull

/* The answer of a procedure that has one structure. */
static int care_answer(struct rvmrpc_response *res, const void *answer, uint32_t bytes)
{
	memcpy(res->res, answer, bytes);
	res->reslen = bytes;
	return RVMRPC_STATUS_OK;
}

/* ---- clock ---- */

static int clock_read(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_record_writer w;
	struct rvmrpc_clocks now;
	int status;

	status = rvmrpc_records_begin(&w, req, res, 0);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (!w.wanted.cursor) {
		rvmrpc_os_clocks(&now);
		rvmrpc_record_begin(&w, RVMRPC_RECORD_CLOCK);
		rvmrpc_record_u64(&w, RVMRPC_CLOCK_REALTIME, now.realtime_ns);
		rvmrpc_record_u64(&w, RVMRPC_CLOCK_MONOTONIC, now.monotonic_ns);
		rvmrpc_record_u64(&w, RVMRPC_CLOCK_BOOTTIME, now.boottime_ns);
		rvmrpc_record_end(&w, 0);
	}
	return rvmrpc_records_end(&w);
}

static int clock_set(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_clock_res result;
	struct rvmrpc_clock_req wanted;
	struct rvmrpc_clocks now;
	uint64_t age = 0;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (res->resmax < sizeof(result))
		return RVMRPC_STATUS_TOO_BIG;
	rvmrpc_os_clocks(&now);
	/* A boottime to come is an age that is far too great. */
	if (wanted.boottime_ns)
		age = now.boottime_ns - wanted.boottime_ns;
	if (age > RVMRPC_CLOCK_AGE_NS_MAX || !wanted.realtime_ns || wanted.realtime_ns > CLOCK_NS_MAX - age)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	result.before_ns = now.realtime_ns;
	result.after_ns = wanted.realtime_ns + age;
	if (!rvmrpc_os_clock_set(result.after_ns))
		return RVMRPC_STATUS_SYSTEM_ERROR;
	return care_answer(res, &result, sizeof(result));
}

static const struct rvmrpc_procedure clock_procs[] = {
	{
		.number = RVMRPC_CLOCK_READ,
		.name = "read",
		.flags = RVMRPC_PROC_READ_ONLY,
		.arg_max = sizeof(struct rvmrpc_records_req),
		.handler = clock_read,
	}, {
		.number = RVMRPC_CLOCK_SET,
		.name = "set",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.arg_min = sizeof(struct rvmrpc_clock_req),
		.arg_max = sizeof(struct rvmrpc_clock_req),
		.handler = clock_set,
	},
};

struct rvmrpc_module rvmrpc_clock_module = {
	.number = RVMRPC_MOD_CLOCK,
	.version = 1,
	.name = "clock",
	.procs = clock_procs,
	.nprocs = RVMRPC_COUNT(clock_procs),
};

/* ---- control ---- */

static int control_sysrq(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_sysrq_res result = { .enabled = 0 };
	struct rvmrpc_sysrq_req wanted;
	int status;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (wanted.key < 0x21 || wanted.key > 0x7e || wanted.reserved)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(result))
		return RVMRPC_STATUS_TOO_BIG;
	status = rvmrpc_os_sysrq(wanted.key, &result.enabled);
	return status == RVMRPC_STATUS_OK ? care_answer(res, &result, sizeof(result)) : status;
}

static int control_sync(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	(void)req;
	(void)res;
	return rvmrpc_os_sync();
}

static int control_power(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_power_req wanted;

	(void)res;
	memcpy(&wanted, req->arg, sizeof(wanted));
	if ((wanted.flags & ~RVMRPC_POWER_FORCE) || wanted.reserved)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	rvmrpc_os_power(req->func == RVMRPC_CONTROL_REBOOT, wanted.flags & RVMRPC_POWER_FORCE);
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure control_procs[] = {
	{
		.number = RVMRPC_CONTROL_SYSRQ,
		.name = "sysrq",
		.arg_min = sizeof(struct rvmrpc_sysrq_req),
		.arg_max = sizeof(struct rvmrpc_sysrq_req),
		.handler = control_sysrq,
	}, {
		.number = RVMRPC_CONTROL_SYNC,
		.name = "sync",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.handler = control_sync,
	}, {
		.number = RVMRPC_CONTROL_POWEROFF,
		.name = "poweroff",
		.arg_min = sizeof(struct rvmrpc_power_req),
		.arg_max = sizeof(struct rvmrpc_power_req),
		.handler = control_power,
	}, {
		.number = RVMRPC_CONTROL_REBOOT,
		.name = "reboot",
		.arg_min = sizeof(struct rvmrpc_power_req),
		.arg_max = sizeof(struct rvmrpc_power_req),
		.handler = control_power,
	},
};

struct rvmrpc_module rvmrpc_control_module = {
	.number = RVMRPC_MOD_CONTROL,
	.version = 1,
	.name = "control",
	.procs = control_procs,
	.nprocs = RVMRPC_COUNT(control_procs),
};

/* ---- freeze ---- */

static int freeze_freeze(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_freeze_req wanted;
	struct rvmrpc_freeze_res state;
	int status;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (!wanted.timeout_ms || wanted.timeout_ms > RVMRPC_FREEZE_MS_MAX || wanted.reserved)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(state))
		return RVMRPC_STATUS_TOO_BIG;
	memset(&state, 0, sizeof(state));
	status = rvmrpc_os_freeze(wanted.timeout_ms, &state);
	return status == RVMRPC_STATUS_OK ? care_answer(res, &state, sizeof(state)) : status;
}

static int freeze_thaw(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_freeze_res state;
	int status;

	(void)req;
	if (res->resmax < sizeof(state))
		return RVMRPC_STATUS_TOO_BIG;
	memset(&state, 0, sizeof(state));
	status = rvmrpc_os_thaw(&state);
	return status == RVMRPC_STATUS_OK ? care_answer(res, &state, sizeof(state)) : status;
}

static int freeze_status(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_freeze_res state;

	(void)req;
	if (res->resmax < sizeof(state))
		return RVMRPC_STATUS_TOO_BIG;
	memset(&state, 0, sizeof(state));
	rvmrpc_os_freeze_state(&state);
	return care_answer(res, &state, sizeof(state));
}

static const struct rvmrpc_procedure freeze_procs[] = {
	{
		.number = RVMRPC_FREEZE_FREEZE,
		.name = "freeze",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.arg_min = sizeof(struct rvmrpc_freeze_req),
		.arg_max = sizeof(struct rvmrpc_freeze_req),
		.handler = freeze_freeze,
	}, {
		.number = RVMRPC_FREEZE_THAW,
		.name = "thaw",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.handler = freeze_thaw,
	}, {
		.number = RVMRPC_FREEZE_STATUS,
		.name = "status",
		.flags = RVMRPC_PROC_READ_ONLY,
		.handler = freeze_status,
	},
};

struct rvmrpc_module rvmrpc_freeze_module = {
	.number = RVMRPC_MOD_FREEZE,
	.version = 1,
	.name = "freeze",
	.procs = freeze_procs,
	.nprocs = RVMRPC_COUNT(freeze_procs),
};

/* ---- reclaim ---- */

static int reclaim_shrink(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_shrink_req wanted;
	struct rvmrpc_shrink_res result;
	int status;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (!wanted.bytes)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(result))
		return RVMRPC_STATUS_TOO_BIG;
	memset(&result, 0, sizeof(result));
	/* So that the answer is there before the caller is gone. */
	status = rvmrpc_os_shrink(wanted.bytes, req->timeout_ms / 4 * 3, &result);
	return status == RVMRPC_STATUS_OK ? care_answer(res, &result, sizeof(result)) : status;
}

static int reclaim_compact(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_compact_res result;
	int status;

	(void)req;
	if (res->resmax < sizeof(result))
		return RVMRPC_STATUS_TOO_BIG;
	memset(&result, 0, sizeof(result));
	status = rvmrpc_os_compact(&result);
	return status == RVMRPC_STATUS_OK ? care_answer(res, &result, sizeof(result)) : status;
}

static const struct rvmrpc_procedure reclaim_sized_procs[] = {
	RVMRPC_RECLAIM_PROC_DROP_CACHES,
	{
		.number = RVMRPC_RECLAIM_SHRINK,
		.name = "shrink",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.arg_min = sizeof(struct rvmrpc_shrink_req),
		.arg_max = sizeof(struct rvmrpc_shrink_req),
		.handler = reclaim_shrink,
	}, {
		.number = RVMRPC_RECLAIM_COMPACT,
		.name = "compact",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.handler = reclaim_compact,
	},
};

struct rvmrpc_module rvmrpc_reclaim_sized_module = {
	.number = RVMRPC_MOD_RECLAIM,
	.version = 1,
	.name = "reclaim",
	.procs = reclaim_sized_procs,
	.nprocs = RVMRPC_COUNT(reclaim_sized_procs),
};
