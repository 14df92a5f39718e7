// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which procedures the host may call: the core's registry under its lock, the allow-list, and other
 * modules' registrations.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include "rvmrpc_drv.h"

/* Short: no procedure runs under it. */
DEFINE_MUTEX(rvmrpc_registry_lock);
struct rvmrpc_server rvmrpc_registry = { .allow = "default" };

/* What register_server_module() allocated. */
struct rvmrpc_foreign {
	struct list_head link;
	struct rvmrpc_module module;
	bool ours;			/* module is the description; else it is the caller's */
	struct rvmrpc_module *registered;
	char name[RVMRPC_NAME_MAX + 1];
};

static LIST_HEAD(rvmrpc_foreigners);	/* rvmrpc_registry_lock */

/* ---- Calls ---- */

struct rvmrpc_lookup rvmrpc_lookups[16];

/* Modules of others, whose owner is NULL when they are part of the kernel. */
static bool rvmrpc_can_go(const struct rvmrpc_module *module)
{
	return module->number >= RVMRPC_MOD_USER;
}

/* Of a module that can go: it is counted and held, and nothing of it is remembered. */
static void rvmrpc_registry_hold(struct rvmrpc_accepted *call, struct module **owner)
{
	struct module *holder = call->module->owner;

	/* One whose init has not ended may yet fail, and is then freed although it is held. */
	if ((holder && holder->state != MODULE_STATE_LIVE) || !try_module_get(holder)) {
		call->module = NULL;
		call->status = RVMRPC_STATUS_MODULE_UNAVAILABLE;
		return;
	}
	*owner = holder;
	rvmrpc_server_count(call);
}

bool rvmrpc_registry_accept_slow(const struct rvmrpc_origin *origin, const struct rvmrpc_hdr *hdr,
				 struct rvmrpc_lookup *l, struct rvmrpc_accepted *call, struct module **owner)
{
	bool accepted;

	*owner = NULL;
	mutex_lock(&rvmrpc_registry_lock);
	rvmrpc_server_lookup(&rvmrpc_registry, hdr->module, hdr->procedure, l);
	accepted = rvmrpc_server_judge(l, hdr, origin->epoch, origin->abi, origin->req_bytes, call);
	if (accepted && call->module && rvmrpc_can_go(call->module))
		rvmrpc_registry_hold(call, owner);
	if (l->module && rvmrpc_can_go(l->module))
		l->module = NULL;
	mutex_unlock(&rvmrpc_registry_lock);
	return accepted;
}

void rvmrpc_registry_done(struct rvmrpc_accepted *call, struct module *owner)
{
	u32 *running;

	if (!call->counted)
		return;
	running = &call->module->running;
	mutex_lock(&rvmrpc_registry_lock);
	rvmrpc_server_done(&rvmrpc_registry, call);
	mutex_unlock(&rvmrpc_registry_lock);
	/* By now it is no more than an address. */
	wake_up_var(running);
	module_put(owner);
}

/* ---- Registrations ---- */

int rvmrpc_status_errno(int status)
{
	switch (status) {
	case RVMRPC_STATUS_OK:
		return 0;
	case RVMRPC_STATUS_BUSY:
		return -EEXIST;
	case RVMRPC_STATUS_TOO_BIG:
		return -ENOSPC;
	default:
		return -EINVAL;
	}
}

int rvmrpc_builtin_add(struct rvmrpc_module *module)
{
	int status;

	mutex_lock(&rvmrpc_registry_lock);
	status = rvmrpc_server_add(&rvmrpc_registry, module);
	mutex_unlock(&rvmrpc_registry_lock);
	return rvmrpc_status_errno(status);
}

/* No worker runs any more. */
void rvmrpc_builtin_remove(struct rvmrpc_module *module)
{
	mutex_lock(&rvmrpc_registry_lock);
	rvmrpc_server_remove(&rvmrpc_registry, module);
	mutex_unlock(&rvmrpc_registry_lock);
}

void rvmrpc_registry_new_epoch(u64 epoch)
{
	mutex_lock(&rvmrpc_registry_lock);
	rvmrpc_server_new_epoch(&rvmrpc_registry, epoch);
	mutex_unlock(&rvmrpc_registry_lock);
}

static int rvmrpc_foreign_add(struct rvmrpc_foreign *foreign, struct module *owner)
{
	int err;

	foreign->registered->owner = owner;
	mutex_lock(&rvmrpc_registry_lock);
	err = rvmrpc_status_errno(rvmrpc_server_add(&rvmrpc_registry, foreign->registered));
	if (!err)
		list_add(&foreign->link, &rvmrpc_foreigners);
	mutex_unlock(&rvmrpc_registry_lock);
	if (err)
		kfree(foreign);
	return err;
}

int __rvmrpc_register_server_module(u32 mod, rvmrpc_dispatch_fn dispatch, struct module *owner)
{
	struct rvmrpc_foreign *foreign;

	if (mod < RVMRPC_MOD_USER || !dispatch)
		return -EINVAL;
	foreign = kzalloc(sizeof(*foreign), GFP_KERNEL);
	if (!foreign)
		return -ENOMEM;
	snprintf(foreign->name, sizeof(foreign->name), "mod-0x%x", mod);
	foreign->registered = &foreign->module;
	foreign->module.number = mod;
	foreign->module.version = 1;
	foreign->module.name = foreign->name;
	foreign->module.dispatch = dispatch;
	return rvmrpc_foreign_add(foreign, owner);
}
EXPORT_SYMBOL_GPL(__rvmrpc_register_server_module);

int __rvmrpc_register_module(struct rvmrpc_module *module, struct module *owner)
{
	struct rvmrpc_foreign *foreign;

	if (module->number < RVMRPC_MOD_USER)
		return -EINVAL;
	foreign = kzalloc(sizeof(*foreign), GFP_KERNEL);
	if (!foreign)
		return -ENOMEM;
	foreign->registered = module;
	return rvmrpc_foreign_add(foreign, owner);
}
EXPORT_SYMBOL_GPL(__rvmrpc_register_module);

static struct rvmrpc_foreign *rvmrpc_foreign_find(u32 mod)
{
	struct rvmrpc_foreign *foreign;

	list_for_each_entry(foreign, &rvmrpc_foreigners, link) {
		if (foreign->registered->number == mod)
			return foreign;
	}
	return NULL;
}

int __rvmrpc_unregister_server_module(u32 mod, struct module *owner)
{
	struct rvmrpc_foreign *foreign;
	int err = 0;

	mutex_lock(&rvmrpc_registry_lock);
	foreign = rvmrpc_foreign_find(mod);
	if (!foreign) {
		err = -ENOENT;
	} else if (foreign->registered->owner != owner) {
		err = -EPERM;
	} else {
		rvmrpc_server_remove(&rvmrpc_registry, foreign->registered);
		list_del(&foreign->link);
	}
	mutex_unlock(&rvmrpc_registry_lock);
	if (err)
		return err;
	wait_var_event(&foreign->registered->running, !READ_ONCE(foreign->registered->running));
	kfree(foreign);
	return 0;
}
EXPORT_SYMBOL_GPL(__rvmrpc_unregister_server_module);

/* ---- allow= ---- */

static int rvmrpc_allow_set(const char *text, const struct kernel_param *kp)
{
	u32 bad = 0;
	int status;

	mutex_lock(&rvmrpc_registry_lock);
	status = rvmrpc_server_allow(&rvmrpc_registry, text, &bad);
	mutex_unlock(&rvmrpc_registry_lock);
	if (status == RVMRPC_STATUS_GARBAGE_ARGS)
		pr_err("allow: cannot read it from byte %u on\n", bad);
	return rvmrpc_status_errno(status);
}

static int rvmrpc_allow_get(char *buffer, const struct kernel_param *kp)
{
	int length;

	mutex_lock(&rvmrpc_registry_lock);
	length = sysfs_emit(buffer, "%s\n", rvmrpc_registry.allow);
	mutex_unlock(&rvmrpc_registry_lock);
	return length;
}

static const struct kernel_param_ops rvmrpc_allow_ops = {
	.set = rvmrpc_allow_set,
	.get = rvmrpc_allow_get,
};
module_param_cb(allow, &rvmrpc_allow_ops, NULL, 0644);
MODULE_PARM_DESC(allow, "procedures the host may call: module.procedure, by name or number or *, comma separated; default; none; -item takes away (default: default)");
