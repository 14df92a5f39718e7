// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs of this guest serve procedures to the host: /dev/rvmrpc-serve.
 *
 * A worker posts its call to the file that has the module, and waits until the program has answered, the call's deadline, or
 * the file's end.  Argument and answer are copied by way of a call's own memory, so no worker waits for a page of a program.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include "rvmrpc_drv.h"
#include "rvmrpc_serve.h"

static bool user;
module_param(user, bool, 0444);
MODULE_PARM_DESC(user, "programs may serve procedures by " RVMRPC_SERVE_DEVICE " (default: 0)");

/* The same for programs of 32 bits. */
RVMRPC_ASSERT_SIZE(rvmrpc_serve_proc, 40);
RVMRPC_ASSERT_SIZE(rvmrpc_serve_register, 64);
RVMRPC_ASSERT_SIZE(rvmrpc_serve_request, 24);
RVMRPC_ASSERT_SIZE(rvmrpc_serve_answer, 16);

#define USER_FIRST_NUMBER	0x10000	/* of those that the driver picks */

enum user_call_state {
	USER_CALL_QUEUED,
	USER_CALL_READ,
	USER_CALL_OVER,
};

/* Of a worker; one who copies has a reference as well. */
struct user_call {
	struct kref ref;
	wait_queue_head_t done;
	u64 id;
	u64 xid;
	u64 deadline;			/* ns since boot */
	u32 procedure;
	u32 res_max;
	struct list_head link;		/* in queued or read of its file until it is over; user_lock, as all that follows */
	enum user_call_state state;
	u32 status;			/* RVMRPC_STATUS_*, once it is over */
	void *answer;
	u32 answer_length;
	u32 length;			/* fixed */
	u8 arg[];
};

/* An open file. */
struct user_file {
	struct list_head link;		/* in user_files from before its registration until after its end; user_lock */
	struct list_head queued;	/* calls; user_lock */
	struct list_head read;		/* likewise */
	bool closed;			/* user_lock */
	bool registered;		/* user_register_lock to write */
	wait_queue_head_t wake;
	struct rvmrpc_module module;	/* fixed while it is registered, as all that follows */
	struct rvmrpc_procedure procs[RVMRPC_SERVE_PROCS_MAX];
	struct rvmrpc_serve_proc entries[RVMRPC_SERVE_PROCS_MAX];
	struct rvmrpc_serve_register description;
};

static DEFINE_MUTEX(user_register_lock);	/* before user_lock */
static DEFINE_SPINLOCK(user_lock);
static LIST_HEAD(user_files);		/* user_lock; user_register_lock to change */
static u64 user_last_id;		/* user_lock */
static bool user_asleep;		/* the machine is about to; user_lock */

/* ---- Calls ---- */

static struct user_call *user_call_new(const struct rvmrpc_request *req, const struct rvmrpc_response *res)
{
	/* A guest without memory answers so, rather than holding a worker. */
	struct user_call *call = kvmalloc(struct_size(call, arg, req->arglen),
					  GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);

	if (!call)
		return NULL;
	memset(call, 0, sizeof(*call));
	kref_init(&call->ref);
	init_waitqueue_head(&call->done);
	call->xid = req->xid;
	call->deadline = ktime_get_boottime_ns() + (u64)req->timeout_ms * NSEC_PER_MSEC;
	call->procedure = req->func;
	call->res_max = res->resmax;
	call->length = req->arglen;
	memcpy(call->arg, req->arg, req->arglen);
	return call;
}

static void user_call_free(struct kref *ref)
{
	struct user_call *call = container_of(ref, struct user_call, ref);

	kvfree(call->answer);
	kvfree(call);
}

static void user_call_put(struct user_call *call)
{
	kref_put(&call->ref, user_call_free);
}

/* False: it was over.  user_lock held. */
static bool user_call_end(struct user_call *call, u32 status)
{
	if (call->state == USER_CALL_OVER)
		return false;
	list_del(&call->link);
	call->status = status;
	WRITE_ONCE(call->state, USER_CALL_OVER);
	wake_up(&call->done);
	return true;
}

/* Those of one xid, or all.  user_lock held. */
static void user_calls_end(struct list_head *calls, u32 status, u64 xid)
{
	struct user_call *call, *next;

	list_for_each_entry_safe(call, next, calls, link) {
		if (!xid || call->xid == xid)
			user_call_end(call, status);
	}
}

/* Of all files.  user_lock held. */
static void user_calls_cancel(u64 xid)
{
	struct user_file *file;

	list_for_each_entry(file, &user_files, link) {
		user_calls_end(&file->queued, RVMRPC_STATUS_CANCELLED, xid);
		user_calls_end(&file->read, RVMRPC_STATUS_CANCELLED, xid);
	}
}

/* user_lock held. */
static struct user_file *user_file_find(u32 number)
{
	struct user_file *file;

	list_for_each_entry(file, &user_files, link) {
		if (file->module.number == number)
			return file;
	}
	return NULL;
}

/* What ends it at once, or RVMRPC_STATUS_OK: a worker is held. */
static int user_call_post(struct user_call *call, u32 number)
{
	int status = RVMRPC_STATUS_OK;
	struct user_file *file;

	spin_lock(&user_lock);
	file = user_file_find(number);
	if (!file || file->closed) {
		status = RVMRPC_STATUS_MODULE_UNAVAILABLE;
	} else if (user_asleep || !rvmrpc_jobs_hold()) {
		status = RVMRPC_STATUS_BUSY;
	} else {
		call->id = ++user_last_id;
		list_add_tail(&call->link, &file->queued);
		wake_up_interruptible(&file->wake);
	}
	spin_unlock(&user_lock);
	return status;
}

static int user_call_wait(struct user_call *call, struct rvmrpc_response *res)
{
	s64 left = call->deadline - ktime_get_boottime_ns();

	/* Idle: it is neither load nor a task that hangs. */
	if (left > 0)
		wait_event_idle_timeout(call->done, READ_ONCE(call->state) == USER_CALL_OVER,
					nsecs_to_jiffies(left) + 1);
	spin_lock(&user_lock);
	user_call_end(call, RVMRPC_STATUS_CANCELLED);
	spin_unlock(&user_lock);
	rvmrpc_jobs_let_go();
	if (call->status != RVMRPC_STATUS_OK)
		return call->status;
	if (call->answer_length)
		memcpy(res->res, call->answer, call->answer_length);
	res->reslen = call->answer_length;
	return RVMRPC_STATUS_OK;
}

static int user_dispatch(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct user_call *call = user_call_new(req, res);
	int status;

	if (!call)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	status = user_call_post(call, req->mod);
	if (status == RVMRPC_STATUS_OK)
		status = user_call_wait(call, res);
	user_call_put(call);
	return status;
}

/* An epoch begins or ends: nobody waits for the calls of the last one. */
void rvmrpc_user_epoch(void)
{
	spin_lock(&user_lock);
	user_calls_cancel(0);
	spin_unlock(&user_lock);
}

void rvmrpc_user_cancel(u64 xid)
{
	spin_lock(&user_lock);
	user_calls_cancel(xid);
	spin_unlock(&user_lock);
}

/* Programs are frozen before workers are, which would wait for them for as long as the deadlines say. */
static int user_pm_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	bool sleeps = rvmrpc_pm_sleeps(event);

	spin_lock(&user_lock);
	user_asleep = sleeps;
	if (sleeps)
		user_calls_cancel(0);
	spin_unlock(&user_lock);
	return NOTIFY_DONE;
}

static struct notifier_block user_pm = { .notifier_call = user_pm_notify };

/* ---- Requests and answers ---- */

/* The next request, with a reference. */
static struct user_call *user_take(struct user_file *file, size_t room)
{
	struct user_call *call;

	spin_lock(&user_lock);
	call = list_first_entry_or_null(&file->queued, struct user_call, link);
	if (!call) {
		call = ERR_PTR(-EAGAIN);
	} else if (room < sizeof(struct rvmrpc_serve_request) + call->length) {
		call = ERR_PTR(-EMSGSIZE);
	} else {
		call->state = USER_CALL_READ;
		list_move_tail(&call->link, &file->read);
		kref_get(&call->ref);
	}
	spin_unlock(&user_lock);
	return call;
}

/* It was not read after all. */
static void user_take_back(struct user_file *file, struct user_call *call)
{
	spin_lock(&user_lock);
	if (call->state == USER_CALL_READ) {
		call->state = USER_CALL_QUEUED;
		list_move(&call->link, &file->queued);
		wake_up_interruptible(&file->wake);
	}
	spin_unlock(&user_lock);
}

static ssize_t user_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct user_file *file = iocb->ki_filp->private_data;
	struct rvmrpc_serve_request request = { 0 };
	bool wait = !(iocb->ki_filp->f_flags & O_NONBLOCK) && !(iocb->ki_flags & IOCB_NOWAIT);
	struct user_call *call;
	ssize_t length;
	s64 left;

	if (!READ_ONCE(file->registered))
		return -ENOTCONN;
	for (;;) {
		call = user_take(file, iov_iter_count(to));
		if (call != ERR_PTR(-EAGAIN) || !wait)
			break;
		if (wait_event_interruptible(file->wake, !list_empty_careful(&file->queued)))
			return -ERESTARTSYS;
	}
	if (IS_ERR(call))
		return PTR_ERR(call);
	left = call->deadline - ktime_get_boottime_ns();
	request.id = call->id;
	request.procedure = call->procedure;
	request.length = call->length;
	request.timeout_ms = left > 0 ? div_u64(left, NSEC_PER_MSEC) : 0;
	length = sizeof(request) + call->length;
	if (copy_to_iter(&request, sizeof(request), to) != sizeof(request) ||
	    copy_to_iter(call->arg, call->length, to) != call->length) {
		user_take_back(file, call);
		length = -EFAULT;
	}
	user_call_put(call);
	return length;
}

/* Of those that were read and not answered, with a reference. */
static struct user_call *user_call_find(struct user_file *file, u64 id)
{
	struct user_call *call, *found = NULL;

	spin_lock(&user_lock);
	list_for_each_entry(call, &file->read, link) {
		if (call->id == id) {
			kref_get(&call->ref);
			found = call;
			break;
		}
	}
	spin_unlock(&user_lock);
	return found;
}

static int user_answer(struct user_call *call, const struct rvmrpc_serve_answer *answer, struct iov_iter *from)
{
	bool fits = answer->length <= call->res_max;
	void *data = NULL;
	bool ended;

	if (fits && answer->length) {
		data = kvmalloc(answer->length, GFP_KERNEL_ACCOUNT);
		if (!data)
			return -ENOMEM;
		if (!copy_from_iter_full(data, answer->length, from)) {
			kvfree(data);
			return -EFAULT;
		}
	}
	spin_lock(&user_lock);
	/* It may be over, or be the next to be read again. */
	ended = call->state == USER_CALL_READ &&
		user_call_end(call, fits ? answer->status : RVMRPC_STATUS_TOO_BIG);
	if (ended && fits) {
		call->answer = data;
		call->answer_length = answer->length;
		data = NULL;
	}
	spin_unlock(&user_lock);
	kvfree(data);
	if (!ended)
		return -ENOENT;
	return fits ? 0 : -EMSGSIZE;
}

static ssize_t user_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct user_file *file = iocb->ki_filp->private_data;
	size_t length = iov_iter_count(from);
	struct rvmrpc_serve_answer answer;
	struct user_call *call;
	int err;

	if (!READ_ONCE(file->registered))
		return -ENOTCONN;
	if (length < sizeof(answer))
		return -EINVAL;
	if (!copy_from_iter_full(&answer, sizeof(answer), from))
		return -EFAULT;
	if (answer.length != length - sizeof(answer) || !RVMRPC_STATUS_IS_GUESTS(answer.status) ||
	    (answer.length && answer.status != RVMRPC_STATUS_OK))
		return -EINVAL;
	call = user_call_find(file, answer.id);
	if (!call)
		return -ENOENT;
	err = user_answer(call, &answer, from);
	user_call_put(call);
	return err ? err : length;
}

static __poll_t user_poll(struct file *filp, struct poll_table_struct *wait)
{
	struct user_file *file = filp->private_data;

	poll_wait(filp, &file->wake, wait);
	if (!READ_ONCE(file->registered))
		return EPOLLERR;
	return EPOLLOUT | EPOLLWRNORM | (list_empty_careful(&file->queued) ? 0 : EPOLLIN | EPOLLRDNORM);
}

/* ---- Registration ---- */

static int user_describe(struct user_file *file)
{
	struct rvmrpc_serve_register *d = &file->description;
	u32 i;

	if (!d->nprocs || d->nprocs > RVMRPC_SERVE_PROCS_MAX || (d->number && d->number < RVMRPC_MOD_USER) ||
	    d->reserved[0] || d->reserved[1] || d->name[RVMRPC_SERVE_NAME_SIZE - 1])
		return -EINVAL;
	if (copy_from_user(file->entries, u64_to_user_ptr(d->procs), d->nprocs * sizeof(file->entries[0])))
		return -EFAULT;
	for (i = 0; i < d->nprocs; i++) {
		const struct rvmrpc_serve_proc *entry = &file->entries[i];

		if (entry->name[RVMRPC_SERVE_NAME_SIZE - 1] ||
		    (entry->flags & ~(RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_SECRET)))
			return -EINVAL;
		file->procs[i] = (struct rvmrpc_procedure) {
			.number = entry->number,
			.flags = entry->flags | RVMRPC_PROC_MAY_SLEEP,
			.arg_max = RVMRPC_ARG_ANY,
			.name = entry->name,
			.handler = user_dispatch,
		};
	}
	file->module = (struct rvmrpc_module) {
		.version = d->version,
		.name = d->name,
		.procs = file->procs,
		.nprocs = d->nprocs,
	};
	return 0;
}

/* user_register_lock held. */
static int user_register_as(struct user_file *file, u32 number)
{
	bool taken;
	int err;

	/* Found by its number from the first call on; one that is about to close still has its own. */
	spin_lock(&user_lock);
	taken = user_file_find(number);
	if (!taken) {
		file->module.number = number;
		list_add(&file->link, &user_files);
	}
	spin_unlock(&user_lock);
	if (taken)
		return -EEXIST;
	err = rvmrpc_register_module(&file->module);
	if (!err)
		return 0;
	spin_lock(&user_lock);
	list_del(&file->link);
	spin_unlock(&user_lock);
	return err;
}

static int user_register(struct user_file *file)
{
	u32 number = file->description.number;
	int err = user_describe(file);

	if (err)
		return err;
	if (number)
		return user_register_as(file, number);
	/* With more numbers than there can be modules, EEXIST is the name's. */
	for (number = USER_FIRST_NUMBER; number <= USER_FIRST_NUMBER + RVMRPC_MODULES_MAX; number++) {
		err = user_register_as(file, number);
		if (err != -EEXIST)
			break;
	}
	return err;
}

static long user_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct rvmrpc_serve_register __user *description = (void __user *)arg;
	struct user_file *file = filp->private_data;
	int err = -EBUSY;

	if (cmd != RVMRPC_SERVE_REGISTER)
		return -ENOTTY;
	mutex_lock(&user_register_lock);
	if (!file->registered) {
		err = -EFAULT;
		if (!copy_from_user(&file->description, description, sizeof(file->description)))
			err = user_register(file);
		WRITE_ONCE(file->registered, !err);
	}
	mutex_unlock(&user_register_lock);
	if (!err)
		err = put_user(file->module.number, &description->number);
	return err;
}

static int user_open(struct inode *inode, struct file *filp)
{
	struct user_file *file = kvzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	INIT_LIST_HEAD(&file->queued);
	INIT_LIST_HEAD(&file->read);
	init_waitqueue_head(&file->wake);
	filp->private_data = file;
	return stream_open(inode, filp);
}

static int user_release(struct inode *inode, struct file *filp)
{
	struct user_file *file = filp->private_data;

	if (file->registered) {
		spin_lock(&user_lock);
		file->closed = true;
		/* What nobody has read did not run; the rest may have. */
		user_calls_end(&file->queued, RVMRPC_STATUS_MODULE_UNAVAILABLE, 0);
		user_calls_end(&file->read, RVMRPC_STATUS_SYSTEM_ERROR, 0);
		spin_unlock(&user_lock);
		unregister_server_module(file->module.number);
		mutex_lock(&user_register_lock);
		spin_lock(&user_lock);
		list_del(&file->link);
		spin_unlock(&user_lock);
		mutex_unlock(&user_register_lock);
	}
	kvfree(file);
	return 0;
}

static const struct file_operations user_fops = {
	.owner = THIS_MODULE,
	.open = user_open,
	.release = user_release,
	.read_iter = user_read_iter,
	.write_iter = user_write_iter,
	.poll = user_poll,
	.unlocked_ioctl = user_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice user_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "rvmrpc-serve",
	.fops = &user_fops,
	.mode = 0600,
};

int rvmrpc_user_init(void)
{
	int err;

	if (!user)
		return 0;
	err = register_pm_notifier(&user_pm);
	if (err)
		return err;
	err = misc_register(&user_misc);
	if (err)
		unregister_pm_notifier(&user_pm);
	return err;
}

void rvmrpc_user_exit(void)
{
	if (!user)
		return;
	misc_deregister(&user_misc);
	unregister_pm_notifier(&user_pm);
}
