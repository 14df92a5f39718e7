/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module sysctl: variables by name, from an allow-list of its own, printed as
 * sysctl(8) prints strings and integers.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/proc.h>
#include <net/vnet.h>

#define	SYSCTL_NAME_MAX		255
#define	SYSCTL_FMT_MAX		64

static struct mtx sysctl_allow_mtx;
MTX_SYSINIT(rvmrpc_sysctl, &sysctl_allow_mtx, "rvmrpc sysctl", MTX_DEF);

static char sysctl_allow[RVMRPC_ALLOW_MAX] =	/* sysctl_allow_mtx */
    "kern.ostype,kern.osrelease,kern.version,kern.hostname,kern.cp_time,"
    "kern.cp_times,kern.openfiles,kern.maxfiles,hw.model,hw.ncpu,hw.physmem,"
    "hw.usermem,hw.realmem,hw.pagesize,vm.stats.*,vm.swap_total,"
    "vm.swap_reserved,vfs.bufspace,vfs.numvnodes,"
    "kstat.zfs.misc.arcstats.*";

int
rvmrpc_sysctl_allow_set(const char *text)
{
	if (strlen(text) >= sizeof(sysctl_allow))
		return (ENOSPC);
	mtx_lock(&sysctl_allow_mtx);
	strlcpy(sysctl_allow, text, sizeof(sysctl_allow));
	mtx_unlock(&sysctl_allow_mtx);
	return (0);
}

void
rvmrpc_sysctl_allow_get(char *text)
{
	mtx_lock(&sysctl_allow_mtx);
	strlcpy(text, sysctl_allow, RVMRPC_ALLOW_MAX);
	mtx_unlock(&sysctl_allow_mtx);
}

static bool
sysctl_allowed(const char *name)
{
	bool allowed;

	mtx_lock(&sysctl_allow_mtx);
	allowed = rvmrpc_name_allowed(sysctl_allow, name);
	mtx_unlock(&sysctl_allow_mtx);
	return (allowed);
}

/* ---- A variable ---- */

struct sysctl_var {
	int		oid[CTL_MAXNAME];
	u_int		length;
	u_int		kind;
};

static int
sysctl_find(const char *name, struct sysctl_var *var)
{
	int question[CTL_MAXNAME + 2] = { CTL_SYSCTL, CTL_SYSCTL_NAME2OID };
	struct {
		u_int	kind;
		char	fmt[SYSCTL_FMT_MAX];
	} answer;
	size_t size = sizeof(var->oid), got;
	int error;

	error = kernel_sysctl(curthread, question, 2, var->oid, &size,
	    __DECONST(char *, name), strlen(name), &got, 0);
	if (error != 0)
		return (error);
	var->length = got / sizeof(int);
	question[1] = CTL_SYSCTL_OIDFMT;
	memcpy(question + 2, var->oid, got);
	size = sizeof(answer);
	error = kernel_sysctl(curthread, question, var->length + 2, &answer,
	    &size, NULL, 0, &got, 0);
	var->kind = answer.kind;
	return (error);
}

struct sysctl_type {
	u_int		size;
	bool		is_signed;
};

/* Size 0: no integer. */
static struct sysctl_type
sysctl_type(u_int kind)
{
	static const struct sysctl_type types[CTLTYPE + 1] = {
		[CTLTYPE_INT] = { sizeof(int), true },
		[CTLTYPE_UINT] = { sizeof(u_int), false },
		[CTLTYPE_LONG] = { sizeof(long), true },
		[CTLTYPE_ULONG] = { sizeof(u_long), false },
		[CTLTYPE_S8] = { 1, true },
		[CTLTYPE_U8] = { 1, false },
		[CTLTYPE_S16] = { 2, true },
		[CTLTYPE_U16] = { 2, false },
		[CTLTYPE_S32] = { 4, true },
		[CTLTYPE_U32] = { 4, false },
		[CTLTYPE_S64] = { 8, true },
		[CTLTYPE_U64] = { 8, false },
	};

	return (types[kind & CTLTYPE]);
}

static int
sysctl_print(const struct sysctl_var *var, const char *data, uint32_t bytes,
    struct rvmrpc_response *res)
{
	struct sysctl_type type = sysctl_type(var->kind);

	if (type.size != 0)
		return (rvmrpc_print_integers(data, bytes, type.size,
		    type.is_signed, res->res, res->resmax, &res->reslen));
	res->reslen = strnlen(data, bytes);
	memcpy(res->res, data, res->reslen);
	return (RVMRPC_STATUS_OK);
}

static int
sysctl_get(struct sysctl_var *var, struct rvmrpc_response *res)
{
	size_t size = res->resmax, got = 0;
	char *data;
	int error, status;

	/* Before its handler runs, for no use. */
	if (sysctl_type(var->kind).size == 0 &&
	    (var->kind & CTLTYPE) != CTLTYPE_STRING)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	data = malloc(size, M_RVMRPC, M_WAITOK);
	/* A worker is in no network stack; the host's questions are of the first. */
	CURVNET_SET(vnet0);
	error = kernel_sysctl(curthread, var->oid, var->length, data, &size,
	    NULL, 0, &got, 0);
	CURVNET_RESTORE();
	if (error == 0)
		status = sysctl_print(var, data, got, res);
	else
		status = error == ENOMEM ? RVMRPC_STATUS_TOO_BIG :
		    RVMRPC_STATUS_SYSTEM_ERROR;
	free(data, M_RVMRPC);
	return (status);
}

static int
sysctl_read(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	char name[SYSCTL_NAME_MAX + 1];
	struct sysctl_var var;

	memcpy(name, req->arg, req->arglen);
	name[req->arglen] = '\0';
	if (strlen(name) != req->arglen)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	if (!sysctl_allowed(name))
		return (RVMRPC_STATUS_NOT_ALLOWED);
	if (sysctl_find(name, &var) != 0)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	return (sysctl_get(&var, res));
}

/* A variable's handler may sleep. */
static const struct rvmrpc_procedure sysctl_procs[] = {
	{
		.number = RVMRPC_SYSCTL_READ,
		.name = "read",
		.flags = RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_MAY_SLEEP,
		.arg_min = 1,
		.arg_max = SYSCTL_NAME_MAX,
		.handler = sysctl_read,
	},
};

static struct rvmrpc_module sysctl_module = {
	.number = RVMRPC_MOD_SYSCTL,
	.version = 1,
	.name = "sysctl",
	.procs = sysctl_procs,
	.nprocs = nitems(sysctl_procs),
};

int
rvmrpc_mod_sysctl_init(void)
{
	return (rvmrpc_builtin_add(&sysctl_module));
}

void
rvmrpc_mod_sysctl_exit(void)
{
	rvmrpc_builtin_remove(&sysctl_module);
}
