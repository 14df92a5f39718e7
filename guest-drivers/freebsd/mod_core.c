/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Modules core and echo.
 */
#include "rvmrpc_drv.h"

static int
core_null(struct rvmrpc_request *req __unused,
    struct rvmrpc_response *res __unused)
{
	return (RVMRPC_STATUS_OK);
}

static int
core_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_list_req wanted = { .first = 0 };

	if (req->arglen != 0 && req->arglen != sizeof(wanted))
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	memcpy(&wanted, req->arg, req->arglen);
	if (wanted.reserved != 0)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	mtx_lock(&rvmrpc_registry_mtx);
	res->reslen = rvmrpc_server_list(&rvmrpc_registry, wanted.first,
	    res->res, res->resmax);
	mtx_unlock(&rvmrpc_registry_mtx);
	return (res->reslen != 0 ? RVMRPC_STATUS_OK : RVMRPC_STATUS_TOO_BIG);
}

/* A call that a worker has begun goes on to its end. */
static int
core_cancel(struct rvmrpc_request *req, struct rvmrpc_response *res __unused)
{
	struct rvmrpc_softc *sc = rvmrpc_server_self();
	struct rvmrpc_slot *slot;
	uint64_t xid;
	u_int i;

	memcpy(&xid, req->arg, sizeof(xid));
	mtx_lock(&sc->mtx);
	for (i = 0; i < sc->session->nslots; i++) {
		slot = &sc->session->slots[i];
		if (slot->busy && slot->call.hdr.xid == xid)
			slot->cancelled = true;
	}
	mtx_unlock(&sc->mtx);
	return (RVMRPC_STATUS_OK);
}

static int
core_exit(struct rvmrpc_request *req __unused,
    struct rvmrpc_response *res __unused)
{
	rvmrpc_server_self()->leave = true;
	return (RVMRPC_STATUS_OK);
}

static int
echo_echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->arglen > res->resmax)
		return (RVMRPC_STATUS_TOO_BIG);
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
	return (RVMRPC_STATUS_OK);
}

/* None of these may sleep: they belong to the server thread. */
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

static struct rvmrpc_module core_module = {
	.number = RVMRPC_MOD_CORE,
	.version = 1,
	.name = "core",
	.procs = core_procs,
	.nprocs = nitems(core_procs),
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
	.nprocs = nitems(echo_procs),
};

int
rvmrpc_mod_core_init(void)
{
	int error = rvmrpc_builtin_add(&core_module);

	if (error != 0)
		return (error);
	error = rvmrpc_builtin_add(&echo_module);
	if (error != 0)
		rvmrpc_builtin_remove(&core_module);
	return (error);
}

void
rvmrpc_mod_core_exit(void)
{
	rvmrpc_builtin_remove(&echo_module);
	rvmrpc_builtin_remove(&core_module);
}
