// SPDX-License-Identifier: GPL-2.0
/*
 * Reverse VMRPC: the host's kernel calls procedures of a guest's kernel
 *
 * The proxy is a VMRPC server, MOD_RVMRPC.  The guest's server thread calls RVMRPC_MAIN, which takes the answer to one
 * call and hands out the next; a call that finds none waits (VMLP) or arms the interrupt.  All state is in core/; this
 * file copies, wakes and tells.  Guest memory is touched only in the gate call that the guest itself makes.
 */
#define pr_fmt(fmt) "rvmrpc: " fmt

#include <linux/completion.h>
#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/nospec.h>
#include <linux/notifier.h>
#include <linux/random.h>
#include <linux/sched/signal.h>

#include "vmrpc.h"
#include "vmrpc_vm.h"

/*
 * A guest that waits in VMLP answers a short call sooner than this thread could sleep and be woken.  A window a little
 * shorter than the call costs both; so as long as KVM's own (halt_poll_ns).  It is no one else's time: vmrpc_may_spin().
 */
static unsigned int call_spin_ns = 200000;
module_param(call_spin_ns, uint, 0644);
MODULE_PARM_DESC(call_spin_ns, "how long rvmrpc_call() spins for its answer before it sleeps, 0 = not at all");

static DEFINE_MUTEX(vms_lock);
static DEFINE_HASHTABLE(vms_by_kvm, 6);	/* vms_lock to write, RCU to read */
static LIST_HEAD(vms_by_id);		/* vms_lock */
static u64 last_id;			/* vms_lock */
static DEFINE_MUTEX(notify_lock);	/* outside vms_lock; from the list's change to the end of its notice */
static RAW_NOTIFIER_HEAD(vm_notifiers);	/* notify_lock */

static u64 now_ns(void)
{
	return ktime_get_ns();
}

/* ---- The guest's pages ---- */

static void pages_free(struct kref *kref)
{
	kvfree(container_of(kref, struct rvmrpc_pages, kref));
}

static void pages_put(struct rvmrpc_pages *pages)
{
	if (pages)
		kref_put(&pages->kref, pages_free);
}

/* Copies at @offset of a buffer that is a list of pages.  srcu dropped; may sleep. */
static int copy_pages(struct kvm_vcpu *vcpu, const u64 *gpa, u32 npages, size_t offset, void *buf, size_t bytes,
		      bool write)
{
	int ret = 0;

	if (!bytes)
		return 0;
	kvm_vcpu_srcu_read_lock(vcpu);
	while (bytes && !ret) {
		size_t page = offset / PAGE_SIZE;
		int at = offset % PAGE_SIZE;
		int n = min_t(size_t, bytes, PAGE_SIZE - at);

		if (page >= npages)
			ret = -EFAULT;
		else if (write)
			ret = kvm_vcpu_write_guest_page(vcpu, gpa[page] >> PAGE_SHIFT, buf, at, n);
		else
			ret = kvm_vcpu_read_guest_page(vcpu, gpa[page] >> PAGE_SHIFT, buf, at, n);
		offset += n;
		buf += n;
		bytes -= n;
	}
	kvm_vcpu_srcu_read_unlock(vcpu);
	return ret;
}

static const u64 *slot_pages(const struct rvmrpc_pages *pages, u32 slot)
{
	return &pages->gpa[slot * (pages->req_pages + pages->res_pages)];
}

static int write_request(struct kvm_vcpu *vcpu, const struct rvmrpc_pages *pages, struct rvmrpc_xfer *x)
{
	const u64 *gpa = slot_pages(pages, x->slot);
	int ret = copy_pages(vcpu, gpa, pages->req_pages, 0, &x->hdr, sizeof(x->hdr), true);

	if (ret)
		return ret;
	return copy_pages(vcpu, gpa, pages->req_pages, sizeof(x->hdr), (void *)x->call->arg, x->length, true);
}

static int read_reply(struct kvm_vcpu *vcpu, const struct rvmrpc_pages *pages, struct rvmrpc_xfer *x)
{
	const u64 *gpa = slot_pages(pages, x->slot) + pages->req_pages;
	struct rvmrpc_kcall *call = container_of(x->call, struct rvmrpc_kcall, core);
	struct rvmrpc_hdr hdr;
	int ret = copy_pages(vcpu, gpa, pages->res_pages, 0, &hdr, sizeof(hdr), false);

	if (ret)
		return ret;
	rvmrpc_proxy_reply_check(x, &hdr);
	/* A client need not know how little the guest answers, and memory for more would be cleared for nothing. */
	if (call->alloc_res && x->length) {
		kvfree(call->res);
		call->res = kvmalloc(x->length, GFP_KERNEL_ACCOUNT);
		if (!call->res)
			return -ENOMEM;
	}
	return copy_pages(vcpu, gpa, pages->res_pages, sizeof(hdr), call->res, x->length, false);
}

/* ---- The end of calls, and waking the guest ---- */

/* No lock held. */
static void tell_done(struct rvmrpc_done *done)
{
	struct rvmrpc_call *core = done->head;

	while (core) {
		struct rvmrpc_kcall *call = container_of(core, struct rvmrpc_kcall, core);

		core = core->next;
		call->done(call);
	}
}

struct proxy_waiter {
	struct list_head node;		/* empty once woken; vm->lock */
	struct kvm_vcpu *vcpu;
	bool woken;			/* vm->lock to write */
};

/* A request may have become deliverable.  vm->lock held: a waiter on the list still waits. */
static void rouse_guest(struct rvmrpc_vm *vm)
{
	struct proxy_waiter *w;

	if (!rvmrpc_proxy_pending(&vm->proxy))
		return;
	w = list_first_entry_or_null(&vm->waiters, struct proxy_waiter, node);
	if (w) {
		list_del_init(&w->node);
		WRITE_ONCE(w->woken, true);
		vmlp_wake(w->vcpu);
	} else if (rvmrpc_proxy_kick(&vm->proxy)) {
		eventfd_signal(vm->kick);
	}
}

/* vm->lock held.  Calls mostly come with later and later deadlines: then the work is armed once a second, not per call. */
static void arm_expiry(struct rvmrpc_vm *vm, u64 deadline)
{
	u64 now = now_ns();

	if (deadline >= vm->armed)
		return;
	vm->armed = deadline;
	mod_delayed_work(system_wq, &vm->expire_work,
			 nsecs_to_jiffies(deadline > now ? deadline - now : 0) + 1);
}

static void expire(struct work_struct *work)
{
	struct rvmrpc_vm *vm = container_of(to_delayed_work(work), struct rvmrpc_vm, expire_work);
	struct rvmrpc_done done = {};

	spin_lock(&vm->lock);
	vm->armed = U64_MAX;
	if (vm->attached)
		arm_expiry(vm, rvmrpc_proxy_expire(&vm->proxy, now_ns(), &done));
	spin_unlock(&vm->lock);
	tell_done(&done);
}

/* ---- Calls of host clients ---- */

u32 rvmrpc_submit(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call)
{
	u32 status = RVMRPC_STATUS_NOT_CONNECTED;

	spin_lock(&vm->lock);
	if (vm->attached)
		status = rvmrpc_proxy_submit(&vm->proxy, &call->core, now_ns());
	if (status == RVMRPC_STATUS_OK) {
		arm_expiry(vm, call->core.deadline);
		rouse_guest(vm);
	}
	spin_unlock(&vm->lock);
	return status;
}

void rvmrpc_cancel(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call)
{
	struct rvmrpc_done done = {};

	spin_lock(&vm->lock);
	rvmrpc_proxy_cancel(&vm->proxy, &call->core, now_ns(), &done);
	spin_unlock(&vm->lock);
	tell_done(&done);
}

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

struct sync_call {
	struct rvmrpc_kcall call;
	struct completion ended;
};

static void sync_done(struct rvmrpc_kcall *call)
{
	complete(&container_of(call, struct sync_call, call)->ended);
}

static void sync_spin(struct sync_call *sync)
{
	ktime_t stop = ktime_add_ns(ktime_get(), READ_ONCE(call_spin_ns));

	while (!completion_done(&sync->ended) && vmrpc_may_spin(stop))
		cpu_relax();
}

ssize_t rvmrpc_call_vm(struct rvmrpc_vm *vm, u32 mod, u32 proc, const void *arg, u32 arglen, void *res,
		       u32 res_buflen, unsigned int timeout_ms)
{
	struct sync_call sync = {
		.call.core = {
			.module = mod,
			.procedure = proc,
			.arg = arg,
			.arglen = arglen,
			.res_max = res ? res_buflen : 0,
		},
		.call.res = res,
		.call.done = sync_done,
	};
	u32 status;

	might_sleep();
	if (timeout_ms > RVMRPC_TIMEOUT_MS_MAX || (!arg && arglen))
		return -EINVAL;
	if (!timeout_ms)
		timeout_ms = RVMRPC_TIMEOUT_MS_DEFAULT;
	sync.call.core.deadline = now_ns() + (u64)timeout_ms * NSEC_PER_MSEC;
	init_completion(&sync.ended);

	status = rvmrpc_submit(vm, &sync.call);
	if (status != RVMRPC_STATUS_OK)
		return rvmrpc_status_to_errno(status);
	sync_spin(&sync);
	if (wait_for_completion_killable(&sync.ended)) {
		/* It comes back at once, or at the end of a copy. */
		rvmrpc_cancel(vm, &sync.call);
		wait_for_completion(&sync.ended);
	}
	/* Not by ?:, which would make the errno unsigned. */
	status = sync.call.core.status;
	if (status != RVMRPC_STATUS_OK)
		return rvmrpc_status_to_errno(status);
	return sync.call.core.reslen;
}
EXPORT_SYMBOL_GPL(rvmrpc_call_vm);

ssize_t rvmrpc_call(u32 mod, u32 proc, const void *arg, u32 arglen, void *res, u32 res_buflen)
{
	struct rvmrpc_vm *vm, *only = NULL;
	ssize_t ret = -ENODEV;

	for (vm = rvmrpc_vm_next(NULL); vm; vm = rvmrpc_vm_next(vm)) {
		if (!rvmrpc_vm_connected(vm))
			continue;
		if (only) {
			rvmrpc_vm_put(vm);
			ret = -ENOTUNIQ;
			goto out;
		}
		only = rvmrpc_vm_get(vm);
	}
	if (only)
		ret = rvmrpc_call_vm(only, mod, proc, arg, arglen, res, res_buflen, 0);
out:
	if (only)
		rvmrpc_vm_put(only);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_call);

/* ---- The proxy's procedures, in the vCPU's thread ---- */

/* NULL: the epoch is over.  The pages are the caller's to put.  @polls: the server thread itself is here. */
static struct rvmrpc_pages *enter(struct rvmrpc_vm *vm, u64 epoch, bool polls)
{
	struct rvmrpc_pages *pages = NULL;

	spin_lock(&vm->lock);
	if (vm->attached && rvmrpc_proxy_enter(&vm->proxy, epoch, now_ns())) {
		pages = vm->pages;
		kref_get(&pages->kref);
		if (polls)
			rvmrpc_proxy_awake(&vm->proxy);
	}
	spin_unlock(&vm->lock);
	return pages;
}

static int take_reply(struct vmrpc_data *rpcdata, struct rvmrpc_pages *pages, u64 epoch, u32 slot)
{
	struct rvmrpc_vm *vm = rpcdata->vm;
	struct rvmrpc_done done = {};
	struct rvmrpc_xfer x;
	int ret = -ECONNRESET;
	bool ok;

	spin_lock(&vm->lock);
	if (vm->proxy.epoch == epoch)
		ret = rvmrpc_proxy_reply_begin(&vm->proxy, slot, &x) ? -EINVAL : 0;
	if (ret || !x.call) {
		rouse_guest(vm);
		spin_unlock(&vm->lock);
		return ret;
	}
	spin_unlock(&vm->lock);

	ok = !read_reply(rpcdata->vcpu, pages, &x);

	spin_lock(&vm->lock);
	rvmrpc_proxy_reply_commit(&vm->proxy, &x, ok, now_ns(), &done);
	rouse_guest(vm);
	spin_unlock(&vm->lock);
	tell_done(&done);
	return 0;
}

/* One try.  -EAGAIN: nothing; then, with the lock never dropped in between, either @w waits or the interrupt is armed. */
static int try_deliver(struct vmrpc_data *rpcdata, struct rvmrpc_pages *pages, u64 epoch, struct proxy_waiter *w,
		       bool arm)
{
	struct rvmrpc_vm *vm = rpcdata->vm;
	struct rvmrpc_done done = {};
	struct rvmrpc_xfer x;
	int ret = -EAGAIN;
	bool ok;

	spin_lock(&vm->lock);
	while (ret == -EAGAIN) {
		if (vm->proxy.epoch != epoch) {
			ret = -ECONNRESET;
			break;
		}
		if (!rvmrpc_proxy_deliver_begin(&vm->proxy, &x, now_ns(), &done)) {
			if (w)
				list_add_tail(&w->node, &vm->waiters);
			else if (arm)
				rvmrpc_proxy_arm(&vm->proxy);
			break;
		}
		spin_unlock(&vm->lock);
		ok = !write_request(rpcdata->vcpu, pages, &x);
		spin_lock(&vm->lock);
		if (rvmrpc_proxy_deliver_commit(&vm->proxy, &x, ok, now_ns(), &done))
			ret = x.slot;
	}
	spin_unlock(&vm->lock);
	tell_done(&done);
	return ret;
}

static bool waiter_woken(void *data)
{
	return READ_ONCE(((struct proxy_waiter *)data)->woken);
}

static int wait_and_deliver(struct vmrpc_data *rpcdata, struct rvmrpc_pages *pages, u64 epoch, u32 wait_us)
{
	struct proxy_waiter w = { .vcpu = rpcdata->vcpu };
	struct rvmrpc_vm *vm = rpcdata->vm;
	int ret;

	INIT_LIST_HEAD(&w.node);
	ret = try_deliver(rpcdata, pages, epoch, &w, false);
	if (ret != -EAGAIN)
		return ret;

	vmlp_wait(rpcdata, waiter_woken, &w, wait_us);

	/* From here on nobody wakes this vCPU: w is about to go. */
	spin_lock(&vm->lock);
	list_del_init(&w.node);
	spin_unlock(&vm->lock);
	ret = try_deliver(rpcdata, pages, epoch, NULL, false);
	if (ret == -EAGAIN)
		atomic64_inc(&vm->interrupted);
	return ret;
}

static int proxy_main(struct vmrpc_data *rpcdata, u64 epoch, u64 bytes)
{
	struct rvmrpc_vm *vm = rpcdata->vm;
	struct rvmrpc_pages *pages;
	u32 slot, wait_us;
	int ret = 0;

	if (!rvmrpc_proxy_main_arg(bytes, &slot, &wait_us))
		return -EINVAL;
	pages = enter(vm, epoch, true);
	if (!pages)
		return -ECONNRESET;
	WRITE_ONCE(vm->vmlp, wait_us);
	if (slot != RVMRPC_SLOT_NONE)
		ret = take_reply(rpcdata, pages, epoch, slot);
	if (!ret) {
		if (wait_us)
			ret = wait_and_deliver(rpcdata, pages, epoch, wait_us);
		else
			ret = try_deliver(rpcdata, pages, epoch, NULL, true);
	}
	pages_put(pages);
	return ret;
}

static int proxy_reply(struct vmrpc_data *rpcdata, u64 epoch, u64 bytes)
{
	struct rvmrpc_pages *pages;
	int ret;

	if (bytes > U32_MAX)
		return -EINVAL;
	pages = enter(rpcdata->vm, epoch, false);
	if (!pages)
		return -ECONNRESET;
	ret = take_reply(rpcdata, pages, epoch, bytes);
	pages_put(pages);
	return ret;
}

/* ---- Registration ---- */

static struct rvmrpc_pages *read_pages(struct vmrpc_data *rpcdata, const struct rvmrpc_init *in, u64 arg,
				       u32 list_bytes)
{
	struct rvmrpc_pages *pages = kvzalloc(sizeof(*pages) + list_bytes, GFP_KERNEL_ACCOUNT);
	int ret = 0;
	char probe;
	u32 i;

	if (!pages)
		return ERR_PTR(-ENOMEM);
	kref_init(&pages->kref);
	pages->req_pages = in->req_pages;
	pages->res_pages = in->res_pages;
	ret = vmrpc_copy_from_guest(rpcdata, pages->gpa, arg + sizeof(*in), list_bytes);
	for (i = 0; !ret && i < list_bytes / sizeof(u64); i++) {
		if (!rvmrpc_proxy_check_page(pages->gpa[i]))
			ret = -EINVAL;
		else if (copy_pages(rpcdata->vcpu, &pages->gpa[i], 1, 0, &probe, 1, false))
			ret = -EFAULT;
		cond_resched();
	}
	if (ret) {
		pages_put(pages);
		return ERR_PTR(ret);
	}
	return pages;
}

static u64 new_epoch(void)
{
	u64 epoch;

	do {
		epoch = get_random_u64();
	} while (!epoch);
	return epoch;
}

/* Takes over the pages. */
static int start_epoch(struct rvmrpc_vm *vm, const struct rvmrpc_init *in, struct rvmrpc_pages *pages,
		       struct rvmrpc_init_answer *answer)
{
	struct rvmrpc_done done = {};
	int ret = -ECONNRESET;

	spin_lock(&vm->lock);
	if (vm->attached) {
		rvmrpc_proxy_register(&vm->proxy, in, new_epoch(), now_ns(), answer, &done);
		swap(vm->pages, pages);
		ret = 0;
	}
	spin_unlock(&vm->lock);
	pages_put(pages);
	tell_done(&done);
	return ret;
}

static int register_guest(struct vmrpc_data *rpcdata, u64 arg, size_t bytes)
{
	struct rvmrpc_vm *vm = rpcdata->vm;
	struct rvmrpc_init_answer answer;
	struct rvmrpc_pages *pages;
	struct rvmrpc_init in;
	u32 list_bytes, code;
	int ret;

	if (bytes < sizeof(in))
		return -EINVAL;
	ret = vmrpc_copy_from_guest(rpcdata, &in, arg, sizeof(in));
	if (ret)
		return ret;
	code = rvmrpc_proxy_check_init(&vm->proxy.limits, &in, bytes, &list_bytes);
	if (code)
		return code == RVMRPC_GATE_BAD_VERSION ? -EPROTONOSUPPORT : -EINVAL;
	pages = read_pages(rpcdata, &in, arg, list_bytes);
	if (IS_ERR(pages))
		return PTR_ERR(pages);
	ret = start_epoch(vm, &in, pages, &answer);
	if (ret)
		return ret;
	vm->event(vm, RVMRPC_REC_CONNECTED);
	return vmrpc_copy_to_guest(rpcdata, arg + offsetof(struct rvmrpc_init, answer), &answer, sizeof(answer));
}

static int proxy_init_host(struct vmrpc_data *rpcdata, u64 arg, size_t bytes)
{
	int ret = register_guest(rpcdata, arg, bytes);

	if (ret) {
		spin_lock(&rpcdata->vm->lock);
		rpcdata->vm->proxy.stats.bad_inits++;
		spin_unlock(&rpcdata->vm->lock);
	}
	return ret;
}

/* Ends the epoch, if there is one.  No lock held. */
static void end_epoch(struct rvmrpc_vm *vm, u32 status, bool detach)
{
	struct rvmrpc_pages *pages = NULL;
	struct rvmrpc_done done = {};
	bool had_epoch;

	spin_lock(&vm->lock);
	had_epoch = vm->proxy.epoch;
	rvmrpc_proxy_unregister(&vm->proxy, status, now_ns(), &done);
	swap(vm->pages, pages);
	if (detach)
		vm->attached = false;
	spin_unlock(&vm->lock);
	pages_put(pages);
	tell_done(&done);
	if (had_epoch && !detach)
		vm->event(vm, RVMRPC_REC_GONE);
}

static int proxy_exit(struct vmrpc_data *rpcdata, u64 epoch)
{
	struct rvmrpc_pages *pages = enter(rpcdata->vm, epoch, false);

	if (!pages)
		return -ECONNRESET;
	pages_put(pages);
	end_epoch(rpcdata->vm, RVMRPC_STATUS_NOT_CONNECTED, false);
	return 0;
}

static int proxy_dispatch(struct vmrpc_data *rpcdata, u32 func, u64 arg, size_t bytes)
{
	switch (func) {
	case RVMRPC_INIT_HOST:
		return proxy_init_host(rpcdata, arg, bytes);
	case RVMRPC_MAIN:
		return proxy_main(rpcdata, arg, bytes);
	case RVMRPC_REPLY:
		return proxy_reply(rpcdata, arg, bytes);
	case RVMRPC_EXIT:
		return proxy_exit(rpcdata, arg);
	default:
		return -EOPNOTSUPP;
	}
}

struct vmrpc_module rvmrpc_proxy_module = {
	.name = RVMRPC_PROXY_NAME,
	.version = RVMRPC_PROXY_VERSION,
	.owner = THIS_MODULE,
	.dispatch = proxy_dispatch,
};

/* ---- VMs ---- */

struct rvmrpc_vm *rvmrpc_vm_find(struct kvm *kvm)
{
	struct rvmrpc_vm *vm;

	hash_for_each_possible_rcu(vms_by_kvm, vm, node, (unsigned long)kvm) {
		if (vm->kvm == kvm)
			return vm;
	}
	return NULL;
}

static void vm_free(struct kref *kref)
{
	struct rvmrpc_vm *vm = container_of(kref, struct rvmrpc_vm, kref);

	eventfd_ctx_put(vm->kick);
	kvfree_rcu(vm, rcu);
}

struct rvmrpc_vm *rvmrpc_vm_get(struct rvmrpc_vm *vm)
{
	kref_get(&vm->kref);
	return vm;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_get);

void rvmrpc_vm_put(struct rvmrpc_vm *vm)
{
	if (vm)
		kref_put(&vm->kref, vm_free);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_put);

static bool attach_ok(const struct rvmrpc_attach *a)
{
	return a->version == RVMRPC_KVM_VERSION && !a->flags && !memchr_inv(a->reserved, 0, sizeof(a->reserved)) &&
	       memchr(a->name, 0, sizeof(a->name)) && a->slots && a->slots <= RVMRPC_SLOTS_MAX &&
	       a->req_pages && a->req_pages <= RVMRPC_SLOT_PAGES_MAX &&
	       a->res_pages && a->res_pages <= RVMRPC_SLOT_PAGES_MAX;
}

static struct rvmrpc_vm *vm_alloc(struct kvm *kvm, const struct rvmrpc_attach *attach,
				  void (*event)(struct rvmrpc_vm *vm, u32 type))
{
	const struct rvmrpc_limits limits = {
		.slots = attach->slots,
		.req_pages = attach->req_pages,
		.res_pages = attach->res_pages,
	};
	struct rvmrpc_vm *vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);

	if (!vm)
		return ERR_PTR(-ENOMEM);
	vm->kick = eventfd_ctx_fdget(attach->kick_fd);
	if (IS_ERR(vm->kick)) {
		int err = PTR_ERR(vm->kick);

		kvfree(vm);
		return ERR_PTR(err);
	}
	kref_init(&vm->kref);
	spin_lock_init(&vm->lock);
	INIT_LIST_HEAD(&vm->waiters);
	INIT_DELAYED_WORK(&vm->expire_work, expire);
	rvmrpc_proxy_init(&vm->proxy, &limits, get_random_u32());
	vm->proxy.stopped = true;
	vm->armed = U64_MAX;
	vm->kvm = kvm;
	import_uuid(&vm->uuid, attach->uuid);
	memcpy(vm->name, attach->name, sizeof(vm->name));
	vm->pid = task_tgid_nr(current);
	vm->event = event;
	vm->attached = true;
	return vm;
}

/* From here on it is found.  -EBUSY: the VM is attached. */
static int vm_publish(struct rvmrpc_vm *vm)
{
	bool taken;

	mutex_lock(&vms_lock);
	rcu_read_lock();
	taken = rvmrpc_vm_find(vm->kvm);
	rcu_read_unlock();
	if (!taken) {
		kvm_get_kvm(vm->kvm);
		vm->id = ++last_id;
		hash_add_rcu(vms_by_kvm, &vm->node, (unsigned long)vm->kvm);
		list_add_tail(&vm->list, &vms_by_id);
	}
	mutex_unlock(&vms_lock);
	return taken ? -EBUSY : 0;
}

struct rvmrpc_vm *rvmrpc_vm_attach(struct kvm *kvm, const struct rvmrpc_attach *attach,
				   void (*event)(struct rvmrpc_vm *vm, u32 type))
{
	struct rvmrpc_vm *vm;
	int ret;

	if (!attach_ok(attach))
		return ERR_PTR(-EINVAL);
	vm = vm_alloc(kvm, attach, event);
	if (IS_ERR(vm))
		return vm;

	mutex_lock(&notify_lock);
	ret = vm_publish(vm);
	if (!ret) {
		static_branch_inc(&vmrpc_enabled);
		raw_notifier_call_chain(&vm_notifiers, RVMRPC_VM_ATTACHED, vm);
	}
	mutex_unlock(&notify_lock);
	if (ret) {
		rvmrpc_vm_put(vm);
		return ERR_PTR(ret);
	}
	return vm;
}

void rvmrpc_vm_detach(struct rvmrpc_vm *vm)
{
	mutex_lock(&notify_lock);
	mutex_lock(&vms_lock);
	hash_del_rcu(&vm->node);
	list_del_init(&vm->list);
	mutex_unlock(&vms_lock);
	end_epoch(vm, RVMRPC_STATUS_NOT_CONNECTED, true);
	cancel_delayed_work_sync(&vm->expire_work);
	raw_notifier_call_chain(&vm_notifiers, RVMRPC_VM_DETACHED, vm);
	mutex_unlock(&notify_lock);
	static_branch_dec(&vmrpc_enabled);
	kvm_put_kvm(vm->kvm);
	rvmrpc_vm_put(vm);
}

int rvmrpc_register_notifier(struct notifier_block *nb)
{
	struct rvmrpc_vm *vm;
	int ret;

	mutex_lock(&notify_lock);
	ret = raw_notifier_chain_register(&vm_notifiers, nb);
	if (!ret) {
		for (vm = rvmrpc_vm_next(NULL); vm; vm = rvmrpc_vm_next(vm))
			nb->notifier_call(nb, RVMRPC_VM_ATTACHED, vm);
	}
	mutex_unlock(&notify_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_register_notifier);

void rvmrpc_unregister_notifier(struct notifier_block *nb)
{
	mutex_lock(&notify_lock);
	raw_notifier_chain_unregister(&vm_notifiers, nb);
	mutex_unlock(&notify_lock);
}
EXPORT_SYMBOL_GPL(rvmrpc_unregister_notifier);

int rvmrpc_vm_notice(struct rvmrpc_vm *vm, unsigned long notice)
{
	switch (notice) {
	case RVMRPC_KVM_RUN:
	case RVMRPC_KVM_STOP:
		spin_lock(&vm->lock);
		vm->proxy.stopped = notice == RVMRPC_KVM_STOP;
		rouse_guest(vm);
		spin_unlock(&vm->lock);
		return 0;
	case RVMRPC_KVM_RESET:
		end_epoch(vm, RVMRPC_STATUS_RESET, false);
		return 0;
	default:
		return -EINVAL;
	}
}

void rvmrpc_vm_status(struct rvmrpc_vm *vm, struct rvmrpc_kvm_status *s)
{
	const struct rvmrpc_stats *stats = &vm->proxy.stats;

	BUILD_BUG_ON(sizeof(s->histogram) != sizeof(stats->histogram));
	memset(s, 0, sizeof(*s));
	spin_lock(&vm->lock);
	s->epoch = vm->proxy.epoch;
	s->last_seen_ns = vm->proxy.last_seen ? now_ns() - vm->proxy.last_seen : 0;
	s->os = vm->proxy.os;
	s->abi = vm->proxy.abi;
	s->nslots = vm->proxy.nslots;
	s->in_flight = vm->proxy.ncalls;
	s->silent = vm->proxy.unanswered;
	s->vmlp = READ_ONCE(vm->vmlp);
	s->stopped = vm->proxy.stopped;
	memcpy(s->release, vm->proxy.release, sizeof(s->release));
	s->calls = stats->calls;
	s->completed = stats->completed;
	s->failed = stats->failed;
	s->refused = stats->refused;
	s->timed_out = stats->timed_out;
	s->cancelled = stats->cancelled;
	s->reset = stats->reset;
	s->late_replies = stats->late_replies;
	s->bad_replies = stats->bad_replies;
	s->registrations = stats->registrations;
	s->kicks = stats->kicks;
	memcpy(s->histogram, stats->histogram, sizeof(s->histogram));
	spin_unlock(&vm->lock);
	s->hypercalls = atomic64_read(&vm->hypercalls);
	s->waits = atomic64_read(&vm->waits);
	s->interrupted = atomic64_read(&vm->interrupted);
	s->user_exits = atomic64_read(&vm->user_exits);
	s->refused_calls = atomic64_read(&vm->refused_calls);
}

/* ---- Finding VMs ---- */

typedef bool (*vm_match)(const struct rvmrpc_vm *vm, const void *key);

static struct rvmrpc_vm *vm_lookup(vm_match match, const void *key)
{
	struct rvmrpc_vm *vm, *found = NULL;

	mutex_lock(&vms_lock);
	list_for_each_entry(vm, &vms_by_id, list) {
		if (match(vm, key)) {
			found = rvmrpc_vm_get(vm);
			break;
		}
	}
	mutex_unlock(&vms_lock);
	return found;
}

static bool match_uuid(const struct rvmrpc_vm *vm, const void *key)
{
	return uuid_equal(&vm->uuid, key);
}

static bool match_name(const struct rvmrpc_vm *vm, const void *key)
{
	return !strcmp(vm->name, key);
}

static bool match_pid(const struct rvmrpc_vm *vm, const void *key)
{
	return vm->pid == *(const pid_t *)key;
}

static bool match_id(const struct rvmrpc_vm *vm, const void *key)
{
	return vm->id == *(const u64 *)key;
}

/* The list is sorted by id. */
static bool match_after(const struct rvmrpc_vm *vm, const void *key)
{
	return vm->id > *(const u64 *)key;
}

struct rvmrpc_vm *rvmrpc_vm_by_uuid(const uuid_t *uuid)
{
	return vm_lookup(match_uuid, uuid);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_uuid);

struct rvmrpc_vm *rvmrpc_vm_by_name(const char *name)
{
	return vm_lookup(match_name, name);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_name);

struct rvmrpc_vm *rvmrpc_vm_by_pid(pid_t pid)
{
	return vm_lookup(match_pid, &pid);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_pid);

struct rvmrpc_vm *rvmrpc_vm_by_id(u64 id)
{
	return vm_lookup(match_id, &id);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_id);

struct rvmrpc_vm *rvmrpc_vm_next(struct rvmrpc_vm *vm)
{
	u64 id = vm ? vm->id : 0;
	struct rvmrpc_vm *next = vm_lookup(match_after, &id);

	rvmrpc_vm_put(vm);
	return next;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_next);

const uuid_t *rvmrpc_vm_uuid(const struct rvmrpc_vm *vm)
{
	return &vm->uuid;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_uuid);

const char *rvmrpc_vm_name(const struct rvmrpc_vm *vm)
{
	return vm->name;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_name);

pid_t rvmrpc_vm_pid(const struct rvmrpc_vm *vm)
{
	return vm->pid;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_pid);

u64 rvmrpc_vm_id(const struct rvmrpc_vm *vm)
{
	return vm->id;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_id);

bool rvmrpc_vm_connected(struct rvmrpc_vm *vm)
{
	bool connected;

	spin_lock(&vm->lock);
	connected = vm->proxy.epoch;
	spin_unlock(&vm->lock);
	return connected;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_connected);
