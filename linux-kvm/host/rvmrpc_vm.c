// SPDX-License-Identifier: GPL-2.0
/*
 * Reverse VMRPC in the host's kernel: the VMs whose windows it owns, and how clients find them
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/rvmrpc_glue.h>
#include "rvmrpc_host.h"
#include "rvmrpc_host_trace.h"

static unsigned int max_windows = 1024;
module_param(max_windows, uint, 0644);
MODULE_PARM_DESC(max_windows, "windows that a user may have at a time");

static unsigned int max_mib = 4096;
module_param(max_mib, uint, 0644);
MODULE_PARM_DESC(max_mib, "MiB of windows that a user may have at a time");

#define SPIN_US_MAX	1000000

static DEFINE_MUTEX(vms_lock);
static LIST_HEAD(vms);			/* sorted by id; vms_lock */
static u64 last_id;			/* vms_lock */
static bool refused;			/* vms_lock to write */
static const struct rvmrpc_glue *glue;	/* vms_lock */
static struct workqueue_struct *notice_wq;	/* ordered: no VMM waits for a notifier */
static DEFINE_MUTEX(notify_lock);	/* held while notifiers run */
static RAW_NOTIFIER_HEAD(vm_notifiers);	/* notify_lock, as the next */
static RAW_NOTIFIER_HEAD(event_notifiers);
static LIST_HEAD(told);			/* VMs that they were told of; notify_lock */

/* ---- References ---- */

static void vm_free(struct kref *kref)
{
	struct rvmrpc_vm *vm = container_of(kref, struct rvmrpc_vm, kref);

	rvmrpc_file_put(vm->file);
	put_pid(vm->pid);
	if (vm->interrupt)
		eventfd_ctx_put(vm->interrupt);
	kvfree(vm);
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

static void vm_unmap(struct kref *kref)
{
	struct rvmrpc_vm *vm = container_of(kref, struct rvmrpc_vm, mapped);

	rvmrpc_unpin(&vm->pin);
}

void rvmrpc_vm_unmap(struct rvmrpc_vm *vm)
{
	kref_put(&vm->mapped, vm_unmap);
}

/* ---- Attach ---- */

static bool attach_ok(const struct rvmrpc_vm_attach *a)
{
	return a->version == RVMRPC_HOST_VERSION && !(a->flags & ~RVMRPC_VM_STOPPED) && !a->reserved &&
	       !memchr_inv(a->reserved2, 0, sizeof(a->reserved2)) && memchr(a->name, 0, sizeof(a->name)) &&
	       a->spin_us <= SPIN_US_MAX;
}

/* An eventfd, and its file: while that is there, nobody who shares it can make it go. */
static int get_eventfd(int fd, struct file **file, struct eventfd_ctx **ctx)
{
	struct eventfd_ctx *found;

	*file = eventfd_fget(fd);
	if (IS_ERR(*file))
		return PTR_ERR(*file);
	found = eventfd_ctx_fileget(*file);
	if (IS_ERR(found)) {
		fput(*file);
		return PTR_ERR(found);
	}
	*ctx = found;
	return 0;
}

static int get_eventfds(struct rvmrpc_vm *vm, const struct rvmrpc_vm_attach *a)
{
	int ret = get_eventfd(a->doorbell_fd, &vm->doorbell_file, &vm->doorbell);

	if (ret)
		return ret;
	ret = get_eventfd(a->interrupt_fd, &vm->interrupt_file, &vm->interrupt);
	if (ret) {
		eventfd_ctx_put(vm->doorbell);
		fput(vm->doorbell_file);
	}
	return ret;
}

/* All but the interrupt's context, which vm_free() puts: a thread may be about to signal it. */
static void put_eventfds(struct rvmrpc_vm *vm)
{
	eventfd_ctx_put(vm->doorbell);
	fput(vm->doorbell_file);
	fput(vm->interrupt_file);
}

/* ---- The token of a VMM whose vCPUs can wait here ---- */

int rvmrpc_glue_register(const struct rvmrpc_glue *new)
{
	int ret = -EBUSY;

	mutex_lock(&vms_lock);
	if (!glue) {
		glue = new;
		ret = 0;
	}
	mutex_unlock(&vms_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_glue_register);

void rvmrpc_glue_unregister(const struct rvmrpc_glue *old)
{
	mutex_lock(&vms_lock);
	if (glue == old)
		glue = NULL;
	mutex_unlock(&vms_lock);
}
EXPORT_SYMBOL_GPL(rvmrpc_glue_unregister);

static void unbind(struct rvmrpc_vm *vm)
{
	if (!vm->glue)
		return;
	vm->glue->unbind(vm->binding);
	module_put(vm->glue->owner);
	vm->glue = NULL;
}

static int bind(struct rvmrpc_vm *vm, int token_fd)
{
	struct file *token;
	int ret = 0;

	if (token_fd < 0)
		return 0;
	token = fget(token_fd);
	if (!token)
		return -EBADF;
	mutex_lock(&vms_lock);
	if (glue && try_module_get(glue->owner))
		vm->glue = glue;
	mutex_unlock(&vms_lock);
	if (vm->glue) {
		vm->binding = vm->glue->bind(vm, token);
		if (IS_ERR(vm->binding)) {
			ret = PTR_ERR(vm->binding);
			module_put(vm->glue->owner);
			vm->glue = NULL;
		}
	} else {
		ret = -EOPNOTSUPP;
	}
	fput(token);
	return ret;
}

static struct pid *get_vmm(pid_t nr)
{
	struct pid *pid = nr ? find_get_pid(nr) : get_task_pid(current, PIDTYPE_TGID);

	if (!pid)
		return ERR_PTR(-ESRCH);
	/* Who may end any process may speak for one: a daemon need have no more than that. */
	if (pid != task_tgid(current) && !capable(CAP_KILL) && !capable(CAP_SYS_ADMIN)) {
		put_pid(pid);
		return ERR_PTR(-EPERM);
	}
	return pid;
}

/* ---- Notices, one after another; each VM's come in their order ---- */

static void tell_attached(struct work_struct *work)
{
	struct rvmrpc_vm *vm = container_of(work, struct rvmrpc_vm, tell_attached);

	mutex_lock(&notify_lock);
	list_add_tail(&vm->told, &told);
	raw_notifier_call_chain(&vm_notifiers, RVMRPC_VM_ATTACHED, vm);
	mutex_unlock(&notify_lock);
}

static void tell_detached(struct work_struct *work)
{
	struct rvmrpc_vm *vm = container_of(work, struct rvmrpc_vm, tell_detached);

	mutex_lock(&notify_lock);
	list_del(&vm->told);
	raw_notifier_call_chain(&vm_notifiers, RVMRPC_VM_DETACHED, vm);
	mutex_unlock(&notify_lock);
	rvmrpc_vm_put(vm);
}

static bool next_event(struct rvmrpc_vm *vm, struct rvmrpc_told *told)
{
	bool any;

	spin_lock(&vm->events_lock);
	any = rvmrpc_events_take(&vm->events, told);
	spin_unlock(&vm->events_lock);
	return any;
}

static void tell_events(struct work_struct *work)
{
	struct rvmrpc_vm *vm = container_of(work, struct rvmrpc_vm, tell_events);
	struct rvmrpc_told told;

	while (next_event(vm, &told)) {
		struct rvmrpc_vm_event event = { .vm = vm, .event = &told.event, .missed = told.missed };

		mutex_lock(&notify_lock);
		raw_notifier_call_chain(&event_notifiers, told.event.record.kind, &event);
		mutex_unlock(&notify_lock);
	}
	rvmrpc_vm_put(vm);
}

void rvmrpc_vm_event(struct rvmrpc_vm *vm, const struct rvmrpc_told *told)
{
	spin_lock(&vm->events_lock);
	rvmrpc_events_put(&vm->events, told);
	spin_unlock(&vm->events_lock);
	rvmrpc_vm_get(vm);
	/* One that is queued has its reference, and sees this event. */
	if (!queue_work(notice_wq, &vm->tell_events))
		rvmrpc_vm_put(vm);
}

/* Whether another VM keeps this one from being attached.  vms_lock. */
static int find_conflict(const struct rvmrpc_vm *vm)
{
	unsigned long pages = vm->pin.npages;
	unsigned int windows = 1;
	struct rvmrpc_vm *other;

	if (refused)
		return -ESHUTDOWN;
	list_for_each_entry(other, &vms, list) {
		if (other->pin.pages[0] == vm->pin.pages[0])
			return -EBUSY;
		if (!uuid_is_null(&vm->uuid) && uuid_equal(&other->uuid, &vm->uuid))
			return -EEXIST;
		if (uid_eq(other->uid, vm->uid)) {
			pages += other->pin.npages;
			windows++;
		}
	}
	return windows > max_windows || pages > (u64)max_mib * (SZ_1M / PAGE_SIZE) ? -EDQUOT : 0;
}

/* From here on it is found; and the window is taken, once that nobody else has it. */
static int vm_publish(struct rvmrpc_vm *vm, const struct rvmrpc_owner_config *config, bool stopped)
{
	int ret;

	mutex_lock(&vms_lock);
	ret = find_conflict(vm);
	if (!ret) {
		vm->id = ++last_id;
		trace_rvmrpc_host_attach(vm->id, pid_nr(vm->pid), vm->name, (u64)vm->pin.npages << PAGE_SHIFT);
		list_add_tail(&vm->list, &vms);
		/* Until it was told that it has gone. */
		rvmrpc_vm_get(vm);
		/* Before there can be an event of its guest. */
		queue_work(notice_wq, &vm->tell_attached);
		rvmrpc_channel_open(vm, config, stopped);
		rvmrpc_channel_listen(vm);
	}
	mutex_unlock(&vms_lock);
	return ret;
}

static struct rvmrpc_vm *vm_alloc(const struct rvmrpc_vm_attach *attach, struct rvmrpc_file *file)
{
	struct rvmrpc_vm *vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);

	if (!vm)
		return ERR_PTR(-ENOMEM);
	vm->pid = get_vmm(attach->pid);
	if (IS_ERR(vm->pid)) {
		int err = PTR_ERR(vm->pid);

		kvfree(vm);
		return ERR_PTR(err);
	}
	kref_init(&vm->kref);
	kref_init(&vm->mapped);
	rvmrpc_channel_prepare(vm);
	INIT_WORK(&vm->tell_attached, tell_attached);
	INIT_WORK(&vm->tell_detached, tell_detached);
	INIT_WORK(&vm->tell_events, tell_events);
	spin_lock_init(&vm->events_lock);
	import_uuid(&vm->uuid, attach->uuid);
	memcpy(vm->name, attach->name, sizeof(vm->name));
	vm->uid = current_uid();
	vm->spin_us = attach->spin_us;
	rvmrpc_file_get(file);
	vm->file = file;
	return vm;
}

struct rvmrpc_vm *rvmrpc_vm_attach(const struct rvmrpc_vm_attach *attach, struct rvmrpc_file *file)
{
	struct rvmrpc_owner_config config = { .doorbell = attach->doorbell };
	struct rvmrpc_vm *vm;
	int ret;

	if (!attach_ok(attach) || !rvmrpc_layout_make(attach->window_bytes, attach->nslots, attach->req_bytes,
						      attach->res_bytes, &config.layout))
		return ERR_PTR(-EINVAL);
	vm = vm_alloc(attach, file);
	if (IS_ERR(vm))
		return vm;
	ret = get_eventfds(vm, attach);
	if (ret)
		goto put;
	ret = rvmrpc_pin(&vm->pin, attach->window, attach->window_bytes);
	if (ret)
		goto eventfds;
	ret = bind(vm, attach->token_fd);
	if (ret)
		goto unpin;
	ret = vm_publish(vm, &config, attach->flags & RVMRPC_VM_STOPPED);
	if (ret)
		goto unbind;
	return vm;

unbind:
	unbind(vm);
unpin:
	rvmrpc_unpin(&vm->pin);
eventfds:
	put_eventfds(vm);
put:
	rvmrpc_vm_put(vm);
	return ERR_PTR(ret);
}

void rvmrpc_vm_detach(struct rvmrpc_vm *vm)
{
	rvmrpc_channel_close(vm);
	trace_rvmrpc_host_detach(vm->id);
	mutex_lock(&vms_lock);
	list_del_init(&vm->list);
	queue_work(notice_wq, &vm->tell_detached);
	mutex_unlock(&vms_lock);
	unbind(vm);
	put_eventfds(vm);
	rvmrpc_vm_unmap(vm);
	rvmrpc_vm_put(vm);
}

void rvmrpc_vm_refuse(bool refuse)
{
	struct rvmrpc_vm *vm;

	mutex_lock(&vms_lock);
	refused = refuse;
	if (refuse) {
		list_for_each_entry(vm, &vms, list)
			rvmrpc_file_event(vm->file, RVMRPC_REC_DETACH, 0);
	}
	mutex_unlock(&vms_lock);
}

bool rvmrpc_vm_refused(void)
{
	return READ_ONCE(refused);
}

/* ---- Notifiers ---- */

int rvmrpc_register_notifier(struct notifier_block *nb)
{
	struct rvmrpc_vm *vm;
	int ret;

	mutex_lock(&notify_lock);
	ret = raw_notifier_chain_register(&vm_notifiers, nb);
	if (!ret) {
		list_for_each_entry(vm, &told, told)
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

int rvmrpc_register_event_notifier(struct notifier_block *nb)
{
	int ret;

	mutex_lock(&notify_lock);
	ret = raw_notifier_chain_register(&event_notifiers, nb);
	mutex_unlock(&notify_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(rvmrpc_register_event_notifier);

void rvmrpc_unregister_event_notifier(struct notifier_block *nb)
{
	mutex_lock(&notify_lock);
	raw_notifier_chain_unregister(&event_notifiers, nb);
	mutex_unlock(&notify_lock);
}
EXPORT_SYMBOL_GPL(rvmrpc_unregister_event_notifier);

/* ---- Finding VMs ---- */

typedef bool (*vm_match)(const struct rvmrpc_vm *vm, const void *key);

/* The first; or, where there must be one only, an error when there is another. */
static struct rvmrpc_vm *vm_lookup(vm_match match, const void *key, bool unique)
{
	struct rvmrpc_vm *vm, *found = NULL;

	mutex_lock(&vms_lock);
	list_for_each_entry(vm, &vms, list) {
		if (!match(vm, key))
			continue;
		if (found) {
			found = ERR_PTR(-ENOTUNIQ);
			break;
		}
		found = vm;
		if (!unique)
			break;
	}
	if (!IS_ERR_OR_NULL(found))
		rvmrpc_vm_get(found);
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
	return pid_nr(vm->pid) == *(const pid_t *)key;
}

static bool match_id(const struct rvmrpc_vm *vm, const void *key)
{
	return vm->id == *(const u64 *)key;
}

static bool match_after(const struct rvmrpc_vm *vm, const void *key)
{
	return vm->id > *(const u64 *)key;
}

struct rvmrpc_vm *rvmrpc_vm_by_uuid(const uuid_t *uuid)
{
	return vm_lookup(match_uuid, uuid, false);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_uuid);

struct rvmrpc_vm *rvmrpc_vm_by_name(const char *name)
{
	return vm_lookup(match_name, name, true);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_name);

struct rvmrpc_vm *rvmrpc_vm_by_pid(pid_t pid)
{
	return vm_lookup(match_pid, &pid, true);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_pid);

struct rvmrpc_vm *rvmrpc_vm_by_id(u64 id)
{
	return vm_lookup(match_id, &id, false);
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_by_id);

struct rvmrpc_vm *rvmrpc_vm_next(struct rvmrpc_vm *vm)
{
	u64 id = vm ? vm->id : 0;
	struct rvmrpc_vm *next = vm_lookup(match_after, &id, false);

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
	return pid_nr(vm->pid);
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
	connected = vm->owner.proxy.epoch;
	spin_unlock(&vm->lock);
	return connected;
}
EXPORT_SYMBOL_GPL(rvmrpc_vm_connected);

int rvmrpc_vm_init(void)
{
	notice_wq = alloc_ordered_workqueue("rvmrpc_notice", 0);
	return notice_wq ? 0 : -ENOMEM;
}

/* No VM is attached any more. */
void rvmrpc_vm_exit(void)
{
	destroy_workqueue(notice_wq);
}
