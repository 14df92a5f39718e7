/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules core, echo and reclaim.
 */
#include "rvmrpc_builtin.h"

/* ---- core ---- */

static int core_null(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	(void)req;
	(void)res;
	return RVMRPC_STATUS_OK;
}

static int core_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_list_req wanted = { .first = 0 };

	if (req->arglen && req->arglen != sizeof(wanted))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	memcpy(&wanted, req->arg, req->arglen);
	if (wanted.reserved)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	res->reslen = rvmrpc_os_list(wanted.first, res->res, res->resmax);
	return res->reslen ? RVMRPC_STATUS_OK : RVMRPC_STATUS_TOO_BIG;
}

static int core_cancel(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	uint64_t xid;

	(void)res;
	memcpy(&xid, req->arg, sizeof(xid));
	/* No call has 0, which means all of them to who ends waits. */
	if (xid)
		rvmrpc_os_cancel(xid);
	return RVMRPC_STATUS_OK;
}

static int core_exit(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	(void)req;
	(void)res;
	rvmrpc_os_exit();
	return RVMRPC_STATUS_OK;
}

/* None of these may get RVMRPC_PROC_MAY_SLEEP: they belong to the server thread. */
static const struct rvmrpc_procedure core_procs[] = {
	{
		.number = RVMRPC_CORE_NULL,
		.name = "null",
		.flags = RVMRPC_PROC_READ_ONLY,
		.arg_max = RVMRPC_ARG_ANY,
		.handler = core_null,
	}, {
		.number = RVMRPC_CORE_LIST,
		.name = "list",
		.flags = RVMRPC_PROC_READ_ONLY,
		.arg_max = sizeof(struct rvmrpc_list_req),
		.handler = core_list,
	}, {
		.number = RVMRPC_CORE_CANCEL,
		.name = "cancel",
		.flags = RVMRPC_PROC_READ_ONLY,
		.arg_min = sizeof(uint64_t),
		.arg_max = sizeof(uint64_t),
		.handler = core_cancel,
	}, {
		.number = RVMRPC_CORE_EXIT,
		.name = "exit",
		.handler = core_exit,
	},
};

struct rvmrpc_module rvmrpc_core_module = {
	.number = RVMRPC_MOD_CORE,
	.version = 1,
	.name = "core",
	.procs = core_procs,
	.nprocs = RVMRPC_COUNT(core_procs),
};

/* ---- echo ---- */

static int echo_echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->arglen > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure echo_procs[] = {
	{
		.number = RVMRPC_ECHO_ECHO,
		.name = "echo",
		.flags = RVMRPC_PROC_READ_ONLY,
		.arg_max = RVMRPC_ARG_ANY,
		.handler = echo_echo,
	},
};

struct rvmrpc_module rvmrpc_echo_module = {
	.number = RVMRPC_MOD_ECHO,
	.version = 1,
	.name = "echo",
	.procs = echo_procs,
	.nprocs = RVMRPC_COUNT(echo_procs),
};

/* ---- reclaim ---- */

int rvmrpc_reclaim_drop_caches(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_drop_res result = { .freed = 0 };
	struct rvmrpc_drop_req wanted;
	int status;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (wanted.mode < RVMRPC_DROP_PAGECACHE || wanted.mode > RVMRPC_DROP_ALL ||
	    (wanted.flags & ~RVMRPC_DROP_SYNC))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(result))
		return RVMRPC_STATUS_TOO_BIG;
	if ((wanted.flags & RVMRPC_DROP_SYNC) && !rvmrpc_os_can_sync())
		return RVMRPC_STATUS_SYSTEM_ERROR;
	status = rvmrpc_os_drop_caches(wanted.mode, wanted.flags & RVMRPC_DROP_SYNC, &result.freed);
	if (status != RVMRPC_STATUS_OK)
		return status;
	memcpy(res->res, &result, sizeof(result));
	res->reslen = sizeof(result);
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure reclaim_procs[] = { RVMRPC_RECLAIM_PROC_DROP_CACHES };

struct rvmrpc_module rvmrpc_reclaim_module = {
	.number = RVMRPC_MOD_RECLAIM,
	.version = 1,
	.name = "reclaim",
	.procs = reclaim_procs,
	.nprocs = RVMRPC_COUNT(reclaim_procs),
};
