/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Which procedures the host may call: the core's registry under its lock, the
 * allow-list, and other modules' registrations.
 */
#include "rvmrpc_drv.h"

/* Short: no procedure runs under it. */
struct mtx rvmrpc_registry_mtx;
MTX_SYSINIT(rvmrpc_registry, &rvmrpc_registry_mtx, "rvmrpc registry", MTX_DEF);

struct rvmrpc_server rvmrpc_registry;

/* What a foreign module's registration took. */
struct rvmrpc_foreign {
	LIST_ENTRY(rvmrpc_foreign) link;
	struct rvmrpc_module *registered;
	struct rvmrpc_module module;	/* of the paper's form */
	char		name[RVMRPC_NAME_MAX + 1];
};

static LIST_HEAD(, rvmrpc_foreign) rvmrpc_foreigners =
    LIST_HEAD_INITIALIZER(rvmrpc_foreigners);	/* rvmrpc_registry_mtx */
static u_int rvmrpc_leavers;	/* wait for their calls; rvmrpc_registry_mtx */

/* ---- Calls ---- */

bool
rvmrpc_registry_accept(const struct rvmrpc_guest *g,
    const struct rvmrpc_hdr *hdr, struct rvmrpc_accepted *call)
{
	bool accepted;

	mtx_lock(&rvmrpc_registry_mtx);
	accepted = rvmrpc_server_accept(&rvmrpc_registry, hdr, g->epoch, g->abi,
	    g->layout.req_bytes, call);
	mtx_unlock(&rvmrpc_registry_mtx);
	return (accepted);
}

void
rvmrpc_registry_done(struct rvmrpc_accepted *call)
{
	mtx_lock(&rvmrpc_registry_mtx);
	rvmrpc_server_done(&rvmrpc_registry, call);
	if (rvmrpc_leavers != 0)
		wakeup(&rvmrpc_leavers);
	mtx_unlock(&rvmrpc_registry_mtx);
}

void
rvmrpc_registry_new_epoch(uint64_t epoch)
{
	mtx_lock(&rvmrpc_registry_mtx);
	rvmrpc_server_new_epoch(&rvmrpc_registry, epoch);
	mtx_unlock(&rvmrpc_registry_mtx);
}

/* ---- Registrations ---- */

int
rvmrpc_status_errno(int status)
{
	switch (status) {
	case RVMRPC_STATUS_OK:
		return (0);
	case RVMRPC_STATUS_BUSY:
		return (EEXIST);
	case RVMRPC_STATUS_TOO_BIG:
		return (ENOSPC);
	default:
		return (EINVAL);
	}
}

int
rvmrpc_builtin_add(struct rvmrpc_module *module)
{
	int status;

	mtx_lock(&rvmrpc_registry_mtx);
	status = rvmrpc_server_add(&rvmrpc_registry, module);
	mtx_unlock(&rvmrpc_registry_mtx);
	return (rvmrpc_status_errno(status));
}

/* No worker runs any more. */
void
rvmrpc_builtin_remove(struct rvmrpc_module *module)
{
	mtx_lock(&rvmrpc_registry_mtx);
	rvmrpc_server_remove(&rvmrpc_registry, module);
	mtx_unlock(&rvmrpc_registry_mtx);
}

static int
rvmrpc_foreign_add(struct rvmrpc_foreign *foreign)
{
	int error;

	mtx_lock(&rvmrpc_registry_mtx);
	error = rvmrpc_status_errno(rvmrpc_server_add(&rvmrpc_registry,
	    foreign->registered));
	if (error == 0)
		LIST_INSERT_HEAD(&rvmrpc_foreigners, foreign, link);
	mtx_unlock(&rvmrpc_registry_mtx);
	if (error != 0)
		free(foreign, M_RVMRPC);
	return (error);
}

int
rvmrpc_register_module(struct rvmrpc_module *module)
{
	struct rvmrpc_foreign *foreign;

	if (module->number < RVMRPC_MOD_USER)
		return (EINVAL);
	foreign = malloc(sizeof(*foreign), M_RVMRPC, M_WAITOK | M_ZERO);
	foreign->registered = module;
	return (rvmrpc_foreign_add(foreign));
}

int
register_server_module(uint32_t mod, rvmrpc_dispatch_fn dispatch)
{
	struct rvmrpc_foreign *foreign;

	if (mod < RVMRPC_MOD_USER || dispatch == NULL)
		return (EINVAL);
	foreign = malloc(sizeof(*foreign), M_RVMRPC, M_WAITOK | M_ZERO);
	snprintf(foreign->name, sizeof(foreign->name), "mod-0x%x", mod);
	foreign->registered = &foreign->module;
	foreign->module.number = mod;
	foreign->module.version = 1;
	foreign->module.name = foreign->name;
	foreign->module.dispatch = dispatch;
	return (rvmrpc_foreign_add(foreign));
}

static struct rvmrpc_foreign *
rvmrpc_foreign_find(uint32_t mod)
{
	struct rvmrpc_foreign *foreign;

	mtx_assert(&rvmrpc_registry_mtx, MA_OWNED);
	LIST_FOREACH(foreign, &rvmrpc_foreigners, link)
		if (foreign->registered->number == mod)
			break;
	return (foreign);
}

int
unregister_server_module(uint32_t mod)
{
	struct rvmrpc_foreign *foreign;

	mtx_lock(&rvmrpc_registry_mtx);
	foreign = rvmrpc_foreign_find(mod);
	if (foreign != NULL) {
		rvmrpc_server_remove(&rvmrpc_registry, foreign->registered);
		LIST_REMOVE(foreign, link);
		rvmrpc_leavers++;
		while (foreign->registered->running != 0)
			msleep(&rvmrpc_leavers, &rvmrpc_registry_mtx, 0,
			    "rvmunr", 0);
		rvmrpc_leavers--;
	}
	mtx_unlock(&rvmrpc_registry_mtx);
	free(foreign, M_RVMRPC);
	return (foreign != NULL ? 0 : ENOENT);
}

int
rvmrpc_module_busy(uint32_t mod)
{
	struct rvmrpc_foreign *foreign;
	int error = 0;

	mtx_lock(&rvmrpc_registry_mtx);
	foreign = rvmrpc_foreign_find(mod);
	if (foreign != NULL && foreign->registered->running != 0)
		error = EBUSY;
	mtx_unlock(&rvmrpc_registry_mtx);
	return (error);
}

/* ---- The allow-list ---- */

int
rvmrpc_allow_set(const char *text)
{
	uint32_t bad = 0;
	int status;

	mtx_lock(&rvmrpc_registry_mtx);
	status = rvmrpc_server_allow(&rvmrpc_registry, text, &bad);
	mtx_unlock(&rvmrpc_registry_mtx);
	if (status == RVMRPC_STATUS_GARBAGE_ARGS)
		printf("rvmrpc: allow: cannot read it from byte %u on\n", bad);
	return (rvmrpc_status_errno(status));
}

void
rvmrpc_allow_get(char *text)
{
	mtx_lock(&rvmrpc_registry_mtx);
	strlcpy(text, rvmrpc_registry.allow, RVMRPC_ALLOW_MAX);
	mtx_unlock(&rvmrpc_registry_mtx);
}
