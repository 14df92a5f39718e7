// SPDX-License-Identifier: GPL-2.0-only
/*
 * Modules core and echo.
 */
#include <linux/string.h>
#include "rvmrpc_drv.h"

static int core_null(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return RVMRPC_STATUS_OK;
}

static int core_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_list_req wanted = { };

	if (req->arglen && req->arglen != sizeof(wanted))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	memcpy(&wanted, req->arg, req->arglen);
	if (wanted.reserved)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	mutex_lock(&rvmrpc_registry_lock);
	res->reslen = rvmrpc_server_list(&rvmrpc_registry, wanted.first, res->res, res->resmax);
	mutex_unlock(&rvmrpc_registry_lock);
	return res->reslen ? RVMRPC_STATUS_OK : RVMRPC_STATUS_TOO_BIG;
}

/* A call that a worker has begun goes on to its end. */
static int core_cancel(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_session *session = rvmrpc_server_self()->session;
	u64 xid;
	u32 i;

	memcpy(&xid, req->arg, sizeof(xid));
	for (i = 0; i < session->nslots; i++) {
		struct rvmrpc_slot *slot = &session->slots[i];

		if (READ_ONCE(slot->busy) && slot->call.hdr.xid == xid)
			WRITE_ONCE(slot->cancelled, true);
	}
	return RVMRPC_STATUS_OK;
}

static int core_exit(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	rvmrpc_server_self()->leave = true;
	return RVMRPC_STATUS_OK;
}

static int echo_echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->arglen > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
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
		.arg_min = sizeof(u64),
		.arg_max = sizeof(u64),
		.handler = core_cancel,
	}, {
		.number = RVMRPC_CORE_EXIT,
		.name = "exit",
		.handler = core_exit,
	},
};

static struct rvmrpc_module core_module = {
	.number = RVMRPC_MOD_CORE,
	.version = 1,
	.name = "core",
	.procs = core_procs,
	.nprocs = ARRAY_SIZE(core_procs),
};

static const struct rvmrpc_procedure echo_procs[] = {
	{
		.number = RVMRPC_ECHO_ECHO,
		.name = "echo",
		.flags = RVMRPC_PROC_READ_ONLY,
		.arg_max = RVMRPC_ARG_ANY,
		.handler = echo_echo,
	},
};

static struct rvmrpc_module echo_module = {
	.number = RVMRPC_MOD_ECHO,
	.version = 1,
	.name = "echo",
	.procs = echo_procs,
	.nprocs = ARRAY_SIZE(echo_procs),
};

int rvmrpc_mod_core_init(void)
{
	int err = rvmrpc_builtin_add(&core_module);

	if (err)
		return err;
	err = rvmrpc_builtin_add(&echo_module);
	if (err)
		rvmrpc_builtin_remove(&core_module);
	return err;
}

void rvmrpc_mod_core_exit(void)
{
	rvmrpc_builtin_remove(&echo_module);
	rvmrpc_builtin_remove(&core_module);
}
