// SPDX-License-Identifier: GPL-2.0
/*
 * Reverse VMRPC in the host's kernel: calls of other code in it (linux/rvmrpc.h)
 */
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include "rvmrpc_host.h"

int rvmrpc_status_to_errno(u32 status)
{
	static const int errnos[] = {
		[RVMRPC_STATUS_OK] = 0,
		[RVMRPC_STATUS_MODULE_UNAVAILABLE] = -ENOENT,
		[RVMRPC_STATUS_VERSION_MISMATCH] = -EPROTONOSUPPORT,
		[RVMRPC_STATUS_PROCEDURE_UNAVAILABLE] = -EOPNOTSUPP,
		[RVMRPC_STATUS_GARBAGE_ARGS] = -EINVAL,
		[RVMRPC_STATUS_TOO_BIG] = -EMSGSIZE,
		[RVMRPC_STATUS_NOT_ALLOWED] = -EACCES,
		[RVMRPC_STATUS_BUSY] = -EBUSY,
		[RVMRPC_STATUS_NOT_CONNECTED] = -ENOTCONN,
		[RVMRPC_STATUS_STOPPED] = -EHOSTDOWN,
		[RVMRPC_STATUS_TIMED_OUT] = -ETIMEDOUT,
		[RVMRPC_STATUS_CANCELLED] = -ECANCELED,
		[RVMRPC_STATUS_RESET] = -ECONNRESET,
		[RVMRPC_STATUS_SYSTEM_ERROR] = -EIO,
	};

	static_assert(ARRAY_SIZE(errnos) == RVMRPC_STATUS_MAX + 1);
	return status <= RVMRPC_STATUS_MAX ? errnos[status] : -EIO;
}
EXPORT_SYMBOL_GPL(rvmrpc_status_to_errno);

/* Of this thread's call. */
static int call_errno(u32 status)
{
	return status == RVMRPC_STATUS_CANCELLED && fatal_signal_pending(current) ? -EINTR :
	       rvmrpc_status_to_errno(status);
}

/* 0: not a time that may be given. */
static u32 check_timeout(unsigned int timeout_ms)
{
	return timeout_ms > RVMRPC_TIMEOUT_MS_MAX ? 0 : timeout_ms ?: RVMRPC_TIMEOUT_MS_DEFAULT;
}

ssize_t rvmrpc_call_vm(struct rvmrpc_vm *vm, u32 mod, u32 proc, const void *arg, u32 arglen, void *res,
		       u32 res_buflen, unsigned int timeout_ms)
{
	struct rvmrpc_kcall call = {
		.core = {
			.module = mod,
			.procedure = proc,
			.arg = arg,
			.arglen = arglen,
			.res_max = res ? res_buflen : 0,
		},
		.task = current,
		.res = res,
	};
	u32 status;

	might_sleep();
	might_fault();
	timeout_ms = check_timeout(timeout_ms);
	if (!timeout_ms || (!arg && arglen))
		return -EINVAL;
	status = rvmrpc_channel_call(vm, &call, timeout_ms);
	/* Not by ?:, which would make the errno unsigned. */
	if (status != RVMRPC_STATUS_OK)
		return call_errno(status);
	return call.core.reslen;
}
EXPORT_SYMBOL_GPL(rvmrpc_call_vm);

/* The one VM that has a driver, referenced. */
static struct rvmrpc_vm *only_vm(void)
{
	struct rvmrpc_vm *vm, *only = NULL;

	for (vm = rvmrpc_vm_next(NULL); vm; vm = rvmrpc_vm_next(vm)) {
		if (!rvmrpc_vm_connected(vm))
			continue;
		if (only) {
			rvmrpc_vm_put(vm);
			rvmrpc_vm_put(only);
			return ERR_PTR(-ENOTUNIQ);
		}
		only = rvmrpc_vm_get(vm);
	}
	return only ?: ERR_PTR(-ENODEV);
}

ssize_t rvmrpc_call(u32 mod, u32 proc, const void *arg, u32 arglen, void *res, u32 res_buflen)
{
	struct rvmrpc_vm *vm = only_vm();
	ssize_t ret;

	if (IS_ERR(vm))
		return PTR_ERR(vm);
	ret = rvmrpc_call_vm(vm, mod, proc, arg, arglen, res, res_buflen, 0);
	rvmrpc_vm_put(vm);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_call);

/* ---- Without copies ---- */

struct held {
	struct rvmrpc_held shown;
	struct rvmrpc_vm *vm;		/* referenced */
	struct rvmrpc_kcall call;
};

struct rvmrpc_held *rvmrpc_call_begin(struct rvmrpc_vm *vm)
{
	struct held *h = kzalloc(sizeof(*h), GFP_KERNEL);
	u32 status;

	if (!h)
		return ERR_PTR(-ENOMEM);
	h->call.core.deadline = U64_MAX;
	status = rvmrpc_channel_hold(vm, &h->call.core);
	if (status != RVMRPC_STATUS_OK) {
		kfree(h);
		return ERR_PTR(rvmrpc_status_to_errno(status));
	}
	h->vm = rvmrpc_vm_get(vm);
	h->shown.req = rvmrpc_owner_req(&vm->owner, &h->call.core);
	h->shown.res = rvmrpc_owner_res(&vm->owner, &h->call.core);
	h->shown.req_bytes = vm->owner.config.layout.req_bytes;
	h->shown.res_bytes = vm->owner.config.layout.res_bytes;
	return &h->shown;
}
EXPORT_SYMBOL_GPL(rvmrpc_call_begin);

ssize_t rvmrpc_call_run(struct rvmrpc_held *held, u32 mod, u32 proc, u32 arglen, unsigned int timeout_ms)
{
	struct held *h = container_of(held, struct held, shown);
	struct rvmrpc_kcall *call = &h->call;
	u32 status;

	/* Only to be told: the way of a call in a burst has no time for a reschedule that it does not need. */
	if (IS_ENABLED(CONFIG_DEBUG_ATOMIC_SLEEP))
		might_sleep();
	might_fault();
	call->core.module = mod;
	call->core.procedure = proc;
	call->core.arglen = arglen;
	call->core.res_max = held->res_bytes;
	call->task = current;
	call->ended = false;
	timeout_ms = check_timeout(timeout_ms);
	if (!timeout_ms)
		return -EINVAL;
	status = rvmrpc_channel_run(h->vm, call, timeout_ms);
	if (status != RVMRPC_STATUS_OK)
		return call_errno(status);
	return call->core.reslen;
}
EXPORT_SYMBOL_GPL(rvmrpc_call_run);

void rvmrpc_call_end(struct rvmrpc_held *held)
{
	struct held *h = container_of(held, struct held, shown);

	if (!held)
		return;
	rvmrpc_channel_release(h->vm, &h->call.core);
	rvmrpc_vm_put(h->vm);
	kfree(h);
}
EXPORT_SYMBOL_GPL(rvmrpc_call_end);
