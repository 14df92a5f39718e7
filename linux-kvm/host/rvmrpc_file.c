// SPDX-License-Identifier: GPL-2.0
/*
 * Reverse VMRPC for user space: /dev/rvmrpc, and a VMM's /dev/rvmrpc-vm
 *
 * A file holds calls: in flight, or ended and not yet read.  Both count against its quota, so that a client which never
 * reads takes no more memory than one which does.  A refused call is answered like any other.
 *
 * close() waits for nobody but a VMM's for the copies that others make of its window.  A call that ends after its file
 * was closed frees itself.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include "rvmrpc_host.h"

#define CALL_BYTES_MAX	((u32)RVMRPC_SLOT_BYTES_MAX)	/* argument and answer each */

struct rvmrpc_file {
	struct kref kref;		/* the open file, each call in flight, its VM */
	bool vmm;			/* it is a VMM's; constant */
	u32 quota;			/* constant */
	wait_queue_head_t wait;		/* there is something to read, or room to write */
	struct mutex attach_lock;	/* outside all that attaching takes */
	fl_owner_t attacher;		/* whose close() detaches; attach_lock to write */

	spinlock_t lock;		/* neither inside a VM's nor around it */
	struct rvmrpc_vm *vm;		/* a VMM's that is attached, referenced; attach_lock and lock to change */
	u32 ncalls;			/* in both lists, being made or being read; lock */
	struct list_head running;	/* lock */
	struct list_head answers;	/* lock */
	u32 events;			/* bit RVMRPC_REC_*: happened since it was read; lock */
	u32 last_event;			/* lock */
	u32 gone_why;			/* RVMRPC_GONE_*, of the last RVMRPC_REC_GONE; lock */
	struct rvmrpc_events *told;	/* a VMM's: of the guest's; lock */
	bool closed;			/* lock */
};

struct client_call {
	struct rvmrpc_kcall kcall;
	refcount_t refs;		/* one until read, or ended when closed; one per canceller */
	struct rvmrpc_file *file;	/* referenced while in flight */
	struct rvmrpc_vm *vm;		/* referenced; NULL: there is no such VM */
	u64 cookie;
	struct list_head node;		/* file->lock */
	struct work_struct put_work;
};

static struct workqueue_struct *client_wq;	/* frees what ended after its file was closed */

/* ---- Files and calls ---- */

static struct rvmrpc_file *file_alloc(u32 quota, bool vmm)
{
	struct rvmrpc_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return NULL;
	kref_init(&file->kref);
	file->quota = quota;
	file->vmm = vmm;
	mutex_init(&file->attach_lock);
	init_waitqueue_head(&file->wait);
	spin_lock_init(&file->lock);
	INIT_LIST_HEAD(&file->running);
	INIT_LIST_HEAD(&file->answers);
	return file;
}

static void file_free(struct kref *kref)
{
	struct rvmrpc_file *file = container_of(kref, struct rvmrpc_file, kref);

	kvfree(file->told);
	kfree(file);
}

void rvmrpc_file_get(struct rvmrpc_file *file)
{
	kref_get(&file->kref);
}

void rvmrpc_file_put(struct rvmrpc_file *file)
{
	kref_put(&file->kref, file_free);
}

/* Referenced; NULL: not attached. */
static struct rvmrpc_vm *file_vm(struct rvmrpc_file *file)
{
	struct rvmrpc_vm *vm;

	spin_lock(&file->lock);
	vm = file->vm;
	if (vm)
		rvmrpc_vm_get(vm);
	spin_unlock(&file->lock);
	return vm;
}

static bool quota_take(struct rvmrpc_file *file)
{
	bool taken;

	spin_lock(&file->lock);
	taken = file->ncalls < file->quota;
	if (taken)
		file->ncalls++;
	spin_unlock(&file->lock);
	return taken;
}

static void quota_give(struct rvmrpc_file *file)
{
	spin_lock(&file->lock);
	file->ncalls--;
	spin_unlock(&file->lock);
	wake_up_interruptible(&file->wait);
}

/* May sleep. */
static void call_put(struct client_call *call)
{
	if (!refcount_dec_and_test(&call->refs))
		return;
	kvfree(call->kcall.core.arg);
	kvfree(call->kcall.res);
	rvmrpc_vm_put(call->vm);
	kfree(call);
}

static void call_put_work(struct work_struct *work)
{
	call_put(container_of(work, struct client_call, put_work));
}

/* The call has ended.  Any thread, must not sleep. */
static void call_done(struct rvmrpc_kcall *kcall)
{
	struct client_call *call = container_of(kcall, struct client_call, kcall);
	struct rvmrpc_file *file = call->file;
	bool closed;

	spin_lock(&file->lock);
	closed = file->closed;
	/* Who closes the file goes through those that run, and this one may be freed before he comes to it. */
	list_del_init(&call->node);
	if (!closed)
		list_add_tail(&call->node, &file->answers);
	spin_unlock(&file->lock);

	if (closed)
		queue_work(client_wq, &call->put_work);
	else
		wake_up_interruptible(&file->wait);
	rvmrpc_file_put(file);
}

/* ---- write() ---- */

static bool submit_ok(const struct rvmrpc_file *file, const struct rvmrpc_submit *s, size_t payload)
{
	return s->arglen == payload && s->arglen <= CALL_BYTES_MAX && s->res_max <= CALL_BYTES_MAX &&
	       s->timeout_ms >= 1 && s->timeout_ms <= RVMRPC_TIMEOUT_MS_MAX && !s->flags && !s->reserved &&
	       !(file->vmm && s->vm);
}

static int call_arg(struct rvmrpc_kcall *kcall, struct iov_iter *from)
{
	void *arg;

	if (kcall->core.arglen) {
		arg = kvmalloc(kcall->core.arglen, GFP_KERNEL_ACCOUNT);
		if (!arg)
			return -ENOMEM;
		kcall->core.arg = arg;
		if (!copy_from_iter_full(arg, kcall->core.arglen, from))
			return -EFAULT;
	}
	return 0;
}

/* Before the call: charged to the client, and whoever takes the answer allocates nothing. */
static int call_res(struct client_call *call, u32 bytes)
{
	bytes = call->vm ? min(bytes, rvmrpc_channel_res_bytes(call->vm)) : 0;
	call->kcall.core.res_max = bytes;
	if (!bytes)
		return 0;
	call->kcall.res = kvmalloc(bytes, GFP_KERNEL_ACCOUNT);
	return call->kcall.res ? 0 : -ENOMEM;
}

static struct client_call *call_create(struct rvmrpc_file *file, const struct rvmrpc_submit *s, struct iov_iter *from)
{
	struct client_call *call = kzalloc(sizeof(*call), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!call)
		return ERR_PTR(-ENOMEM);
	refcount_set(&call->refs, 1);
	INIT_LIST_HEAD(&call->node);
	INIT_WORK(&call->put_work, call_put_work);
	call->file = file;
	call->cookie = s->cookie;
	call->kcall.done = call_done;
	call->kcall.core.module = s->module;
	call->kcall.core.procedure = s->procedure;
	call->kcall.core.list = s->list;
	call->kcall.core.version = s->version;
	call->kcall.core.arglen = s->arglen;
	call->vm = file->vmm ? file_vm(file) : rvmrpc_vm_by_id(s->vm);
	ret = call_res(call, s->res_max);
	if (!ret)
		ret = call_arg(&call->kcall, from);
	if (ret) {
		call_put(call);
		return ERR_PTR(ret);
	}
	call->kcall.core.deadline = ktime_get_ns() + (u64)s->timeout_ms * NSEC_PER_MSEC;
	return call;
}

/* Without core.client: its count is under the lock of one VM, and the quota of a file is for all of them. */
static void call_start(struct rvmrpc_file *file, struct client_call *call)
{
	u32 status = RVMRPC_STATUS_NOT_CONNECTED;
	struct rvmrpc_vm *vm = call->vm;

	kref_get(&file->kref);
	spin_lock(&file->lock);
	list_add_tail(&call->node, &file->running);
	spin_unlock(&file->lock);

	if (vm) {
		/* The call may have been read and freed, with its reference, before submit() returns. */
		rvmrpc_vm_get(vm);
		status = rvmrpc_channel_submit(vm, &call->kcall);
		rvmrpc_vm_put(vm);
	}
	if (status != RVMRPC_STATUS_OK) {
		call->kcall.core.status = status;
		call_done(&call->kcall);
	}
}

static ssize_t client_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct rvmrpc_file *file = iocb->ki_filp->private_data;
	size_t bytes = iov_iter_count(from);
	struct client_call *call;
	struct rvmrpc_submit s;

	if (bytes < sizeof(s))
		return -EINVAL;
	if (!copy_from_iter_full(&s, sizeof(s), from))
		return -EFAULT;
	if (!submit_ok(file, &s, bytes - sizeof(s)))
		return -EINVAL;
	if (!quota_take(file))
		return -EBUSY;
	call = call_create(file, &s, from);
	if (IS_ERR(call)) {
		quota_give(file);
		return PTR_ERR(call);
	}
	call_start(file, call);
	return bytes;
}

/* ---- read() and poll() ---- */

void rvmrpc_file_event(struct rvmrpc_file *file, u32 type, u32 why)
{
	spin_lock(&file->lock);
	if (type == RVMRPC_REC_GONE)
		file->gone_why = why;
	file->events |= BIT(type);
	file->last_event = type;
	spin_unlock(&file->lock);
	wake_up_interruptible(&file->wait);
}

void rvmrpc_file_told(struct rvmrpc_file *file, const struct rvmrpc_told *told)
{
	spin_lock(&file->lock);
	rvmrpc_events_put(file->told, told);
	spin_unlock(&file->lock);
	wake_up_interruptible(&file->wait);
}

/* What the guest told; 0: nothing. */
static ssize_t read_told(struct rvmrpc_file *file, struct iov_iter *to)
{
	struct rvmrpc_record rec = { .type = RVMRPC_REC_EVENT, .reslen = sizeof(struct rvmrpc_event) };
	bool fits = iov_iter_count(to) >= sizeof(rec) + rec.reslen;
	struct rvmrpc_told told;
	bool any;

	if (!file->told)
		return 0;
	spin_lock(&file->lock);
	any = fits ? rvmrpc_events_take(file->told, &told) : file->told->count;
	spin_unlock(&file->lock);
	if (!any)
		return 0;
	if (!fits)
		return -EMSGSIZE;
	rec.cookie = told.missed;
	if (copy_to_iter(&rec, sizeof(rec), to) != sizeof(rec) ||
	    copy_to_iter(&told.event, rec.reslen, to) != rec.reslen) {
		spin_lock(&file->lock);
		rvmrpc_events_put_back(file->told, &told);
		spin_unlock(&file->lock);
		/* Another reader may have found nothing meanwhile, and gone to sleep. */
		wake_up_interruptible(&file->wait);
		return -EFAULT;
	}
	return sizeof(rec) + rec.reslen;
}

/* 0: none.  The one that tells how things are now comes last. */
static u32 take_event(struct rvmrpc_file *file)
{
	u32 type, before;

	spin_lock(&file->lock);
	type = file->events ? file->last_event : 0;
	before = file->events & ~BIT(type);
	if (before)
		type = __ffs(before);
	file->events &= ~BIT(type);
	spin_unlock(&file->lock);
	return type;
}

static int read_event(struct rvmrpc_file *file, u32 type, struct iov_iter *to)
{
	const struct rvmrpc_record rec = {
		.type = type,
		.status = type == RVMRPC_REC_GONE ? READ_ONCE(file->gone_why) : 0,
	};

	if (copy_to_iter(&rec, sizeof(rec), to) == sizeof(rec))
		return sizeof(rec);
	spin_lock(&file->lock);
	file->events |= BIT(type);
	spin_unlock(&file->lock);
	wake_up_interruptible(&file->wait);
	return -EFAULT;
}

static u32 payload_bytes(const struct client_call *call)
{
	return call->kcall.core.status == RVMRPC_STATUS_OK ? call->kcall.core.reslen : 0;
}

/* The first answer, if it fits. */
static struct client_call *take_answer(struct rvmrpc_file *file, size_t room)
{
	struct client_call *call;

	spin_lock(&file->lock);
	call = list_first_entry_or_null(&file->answers, struct client_call, node);
	if (!call)
		call = ERR_PTR(-EAGAIN);
	else if (sizeof(struct rvmrpc_record) + payload_bytes(call) > room)
		call = ERR_PTR(-EMSGSIZE);
	else
		list_del_init(&call->node);
	spin_unlock(&file->lock);
	return call;
}

static ssize_t read_answer(struct rvmrpc_file *file, struct client_call *call, struct iov_iter *to)
{
	const struct rvmrpc_record rec = {
		.cookie = call->cookie,
		.type = RVMRPC_REC_ANSWER,
		.status = call->kcall.core.status,
		.reslen = payload_bytes(call),
		.elapsed_ns = call->kcall.core.elapsed,
	};

	if (copy_to_iter(&rec, sizeof(rec), to) != sizeof(rec) ||
	    copy_to_iter(call->kcall.res, rec.reslen, to) != rec.reslen) {
		spin_lock(&file->lock);
		list_add(&call->node, &file->answers);
		spin_unlock(&file->lock);
		/* Another reader may have found nothing meanwhile, and gone to sleep. */
		wake_up_interruptible(&file->wait);
		return -EFAULT;
	}
	call_put(call);
	quota_give(file);
	return sizeof(rec) + rec.reslen;
}

static ssize_t read_one(struct rvmrpc_file *file, struct iov_iter *to)
{
	struct client_call *call;
	ssize_t ret;
	u32 type;

	if (iov_iter_count(to) < sizeof(struct rvmrpc_record))
		return -EMSGSIZE;
	ret = read_told(file, to);
	if (ret)
		return ret;
	type = take_event(file);
	if (type)
		return read_event(file, type, to);
	call = take_answer(file, iov_iter_count(to));
	if (IS_ERR(call))
		return PTR_ERR(call);
	return read_answer(file, call, to);
}

static __poll_t file_ready(struct rvmrpc_file *file)
{
	__poll_t ready = 0;

	spin_lock(&file->lock);
	if (file->events || !list_empty(&file->answers) || (file->told && file->told->count))
		ready |= EPOLLIN | EPOLLRDNORM;
	if (file->ncalls < file->quota)
		ready |= EPOLLOUT | EPOLLWRNORM;
	spin_unlock(&file->lock);
	return ready;
}

static ssize_t client_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct rvmrpc_file *file = iocb->ki_filp->private_data;
	bool nonblock = iocb->ki_filp->f_flags & O_NONBLOCK || iocb->ki_flags & IOCB_NOWAIT;
	ssize_t ret;

	for (;;) {
		ret = read_one(file, to);
		if (ret != -EAGAIN || nonblock)
			return ret;
		ret = wait_event_interruptible(file->wait, file_ready(file) & EPOLLIN);
		if (ret)
			return ret;
	}
}

static __poll_t client_poll(struct file *filp, poll_table *wait)
{
	struct rvmrpc_file *file = filp->private_data;

	poll_wait(filp, &file->wait, wait);
	return file_ready(file);
}

/* ---- Cancel and close ---- */

/* With a reference; NULL: no such call is in flight. */
static struct client_call *find_running(struct rvmrpc_file *file, u64 cookie)
{
	struct client_call *call, *found = NULL;

	spin_lock(&file->lock);
	list_for_each_entry(call, &file->running, node) {
		if (call->cookie == cookie) {
			refcount_inc(&call->refs);
			found = call;
			break;
		}
	}
	spin_unlock(&file->lock);
	return found;
}

static int ioctl_cancel(struct rvmrpc_file *file, u64 __user *argp)
{
	struct client_call *call;
	u64 cookie;

	if (copy_from_user(&cookie, argp, sizeof(cookie)))
		return -EFAULT;
	call = find_running(file, cookie);
	if (!call)
		return -ENOENT;
	if (call->vm)
		rvmrpc_channel_cancel(call->vm, &call->kcall);
	call_put(call);
	return 0;
}

/* The file is closed: what ends from now on frees itself. */
static struct client_call *pop_running(struct rvmrpc_file *file)
{
	struct client_call *call;

	spin_lock(&file->lock);
	file->closed = true;
	call = list_first_entry_or_null(&file->running, struct client_call, node);
	if (call) {
		list_del_init(&call->node);
		refcount_inc(&call->refs);
	}
	spin_unlock(&file->lock);
	return call;
}

static void file_close(struct rvmrpc_file *file)
{
	struct client_call *call, *next;

	while ((call = pop_running(file))) {
		if (call->vm)
			rvmrpc_channel_cancel(call->vm, &call->kcall);
		call_put(call);
	}
	list_for_each_entry_safe(call, next, &file->answers, node)
		call_put(call);
	rvmrpc_file_put(file);
}

/* ---- /dev/rvmrpc ---- */

static int fill_vm_info(struct rvmrpc_vm *vm, struct rvmrpc_vm_info __user *to)
{
	struct rvmrpc_vm_info info = {
		.id = rvmrpc_vm_id(vm),
		.pid = rvmrpc_vm_pid(vm),
		.connected = rvmrpc_vm_connected(vm),
		.uid = from_kuid_munged(current_user_ns(), vm->uid),
	};

	export_uuid(info.uuid, rvmrpc_vm_uuid(vm));
	strscpy(info.name, rvmrpc_vm_name(vm), sizeof(info.name));
	return copy_to_user(to, &info, sizeof(info)) ? -EFAULT : 0;
}

static int ioctl_list_vms(struct rvmrpc_vm_list __user *argp)
{
	struct rvmrpc_vm_info __user *to;
	struct rvmrpc_vm_list list;
	struct rvmrpc_vm *vm;
	u32 n = 0;

	if (copy_from_user(&list, argp, sizeof(list)))
		return -EFAULT;
	if (list.reserved)
		return -EINVAL;
	to = u64_to_user_ptr(list.vms);
	for (vm = rvmrpc_vm_next(NULL); vm; vm = rvmrpc_vm_next(vm)) {
		if (n < list.size && fill_vm_info(vm, &to[n])) {
			rvmrpc_vm_put(vm);
			return -EFAULT;
		}
		n++;
	}
	return put_user(n, &argp->size);
}

static int ioctl_vm_status(struct rvmrpc_kvm_status __user *argp)
{
	struct rvmrpc_kvm_status status;
	struct rvmrpc_vm *vm;
	u64 id;

	if (get_user(id, &argp->epoch))
		return -EFAULT;
	vm = rvmrpc_vm_by_id(id);
	if (!vm)
		return -ENODEV;
	rvmrpc_channel_status(vm, &status);
	rvmrpc_vm_put(vm);
	return copy_to_user(argp, &status, sizeof(status)) ? -EFAULT : 0;
}

static long dev_ioctl(struct file *filp, unsigned int ioctl, unsigned long arg)
{
	void __user *argp = (void __user *)arg;

	switch (ioctl) {
	case RVMRPC_LIST_VMS:
		return ioctl_list_vms(argp);
	case RVMRPC_VM_STATUS:
		return ioctl_vm_status(argp);
	case RVMRPC_CANCEL:
		return ioctl_cancel(filp->private_data, argp);
	default:
		return -ENOTTY;
	}
}

static int dev_open(struct inode *inode, struct file *filp)
{
	struct rvmrpc_file *file;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	file = file_alloc(RVMRPC_CLIENT_CALLS_MAX, false);
	if (!file)
		return -ENOMEM;
	filp->private_data = file;
	return stream_open(inode, filp);
}

static int dev_release(struct inode *inode, struct file *filp)
{
	file_close(filp->private_data);
	return 0;
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.open = dev_open,
	.release = dev_release,
	.read_iter = client_read,
	.write_iter = client_write,
	.poll = client_poll,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice rvmrpc_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "rvmrpc",
	.mode = 0600,
	.fops = &dev_fops,
};

/* ---- A VMM's /dev/rvmrpc-vm ---- */

/* attach_lock. */
static void file_set_vm(struct rvmrpc_file *file, struct rvmrpc_vm *vm)
{
	spin_lock(&file->lock);
	file->vm = vm;
	/* Those of the VM before. */
	file->events = 0;
	file->told->count = 0;
	file->told->missed = 0;
	spin_unlock(&file->lock);
}

static int vmm_attach(struct rvmrpc_file *file, const struct rvmrpc_vm_attach __user *argp)
{
	struct rvmrpc_vm_attach attach;
	struct rvmrpc_vm *vm;
	int ret = 0;

	if (copy_from_user(&attach, argp, sizeof(attach)))
		return -EFAULT;
	/* Another attach may wait for a page that never comes. */
	if (mutex_lock_killable(&file->attach_lock))
		return -EINTR;
	if (file->vm) {
		ret = -EBUSY;
	} else {
		/* Before it can have any; the VM may tell of some before it is known here. */
		file_set_vm(file, NULL);
		WRITE_ONCE(file->attacher, current->files);
		vm = rvmrpc_vm_attach(&attach, file);
		if (IS_ERR(vm)) {
			ret = PTR_ERR(vm);
			WRITE_ONCE(file->attacher, NULL);
		} else {
			spin_lock(&file->lock);
			file->vm = vm;
			spin_unlock(&file->lock);
		}
	}
	mutex_unlock(&file->attach_lock);
	return ret;
}

/* attach_lock.  False: it has none. */
static bool vmm_detach(struct rvmrpc_file *file)
{
	struct rvmrpc_vm *vm = file->vm;

	if (!vm)
		return false;
	file_set_vm(file, NULL);
	WRITE_ONCE(file->attacher, NULL);
	rvmrpc_vm_detach(vm);
	return true;
}

static int ioctl_detach(struct rvmrpc_file *file)
{
	bool had;

	/* As in vmm_attach(). */
	if (mutex_lock_killable(&file->attach_lock))
		return -EINTR;
	had = vmm_detach(file);
	mutex_unlock(&file->attach_lock);
	return had ? 0 : -ENOTCONN;
}

static int vmm_status(struct rvmrpc_vm *vm, void __user *argp)
{
	struct rvmrpc_kvm_status status;

	rvmrpc_channel_status(vm, &status);
	return copy_to_user(argp, &status, sizeof(status)) ? -EFAULT : 0;
}

static long vmm_ioctl(struct file *filp, unsigned int ioctl, unsigned long arg)
{
	struct rvmrpc_file *file = filp->private_data;
	void __user *argp = (void __user *)arg;
	struct rvmrpc_vm *vm;
	long ret;

	switch (ioctl) {
	case RVMRPC_VM_ATTACH:
		return vmm_attach(file, argp);
	case RVMRPC_VM_DETACH:
		return ioctl_detach(file);
	case RVMRPC_CANCEL:
		return ioctl_cancel(file, argp);
	case RVMRPC_NOTICE:
	case RVMRPC_STATUS:
		break;
	default:
		return -ENOTTY;
	}
	vm = file_vm(file);
	if (!vm)
		return -ENOTCONN;
	ret = ioctl == RVMRPC_NOTICE ? rvmrpc_channel_notice(vm, arg) : vmm_status(vm, argp);
	rvmrpc_vm_put(vm);
	return ret;
}

static int vmm_open(struct inode *inode, struct file *filp)
{
	/* Its quota is the VM's: the VMM has clients of its own, among which it shares it out. */
	struct rvmrpc_file *file;

	if (rvmrpc_vm_refused())
		return -ESHUTDOWN;
	file = file_alloc(RVMRPC_CALLS_MAX, true);
	if (!file)
		return -ENOMEM;
	file->told = kvzalloc(sizeof(*file->told), GFP_KERNEL_ACCOUNT);
	if (!file->told) {
		rvmrpc_file_put(file);
		return -ENOMEM;
	}
	filp->private_data = file;
	return stream_open(inode, filp);
}

/* A VMM has children at times, which keep the file open when it ends: that is the end of its VM all the same. */
static int vmm_flush(struct file *filp, fl_owner_t id)
{
	struct rvmrpc_file *file = filp->private_data;

	/* Nobody else waits for an attach, which lasts as long as a page of the window takes to come. */
	if (READ_ONCE(file->attacher) != id)
		return 0;
	mutex_lock(&file->attach_lock);
	if (file->attacher == id)
		vmm_detach(file);
	mutex_unlock(&file->attach_lock);
	return 0;
}

/* Nobody else has it any more. */
static int vmm_release(struct inode *inode, struct file *filp)
{
	struct rvmrpc_file *file = filp->private_data;

	mutex_lock(&file->attach_lock);
	vmm_detach(file);
	mutex_unlock(&file->attach_lock);
	file_close(file);
	return 0;
}

static const struct file_operations vmm_fops = {
	.owner = THIS_MODULE,
	.open = vmm_open,
	.flush = vmm_flush,
	.release = vmm_release,
	.read_iter = client_read,
	.write_iter = client_write,
	.poll = client_poll,
	.unlocked_ioctl = vmm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice vmm_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "rvmrpc-vm",
	.mode = 0660,
	.fops = &vmm_fops,
};

int rvmrpc_file_init(void)
{
	int ret;

	client_wq = alloc_workqueue("rvmrpc_client", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!client_wq)
		return -ENOMEM;
	ret = misc_register(&rvmrpc_misc);
	if (ret)
		goto destroy;
	ret = misc_register(&vmm_misc);
	if (ret)
		goto deregister;
	return 0;

deregister:
	misc_deregister(&rvmrpc_misc);
destroy:
	destroy_workqueue(client_wq);
	return ret;
}

void rvmrpc_file_exit(void)
{
	misc_deregister(&vmm_misc);
	misc_deregister(&rvmrpc_misc);
	destroy_workqueue(client_wq);
}
