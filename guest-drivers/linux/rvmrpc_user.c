// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs of this guest serve procedures to the host: /dev/rvmrpc-serve.
 *
 * A worker posts its call to the file that has the module, and waits until the program has answered, the call's deadline, or
 * the file's end.  Argument and answer are copied by way of a call's own memory, so no worker waits for a page of a program.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ioctl.h>
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
#include "rvmrpc_programs.h"

static bool user;
module_param(user, bool, 0444);
MODULE_PARM_DESC(user, "programs may serve procedures by " RVMRPC_SERVE_DEVICE " (default: 0)");

/* Of a worker; one who copies has a reference as well. */
struct user_call {
	struct rvmrpc_program_call call;	/* user_lock */
	struct kref ref;
	wait_queue_head_t done;
	void *answer;			/* user_lock, as the next */
	u32 answer_length;
	u64 deadline;			/* ns since boot; fixed, as all that follows */
	u32 procedure;
	u32 res_max;
	u32 length;
	u8 arg[];
};

/* An open file. */
struct user_file {
	struct list_head link;		/* in user_files from before its registration until after its end; user_lock */
	bool registered;		/* user_register_lock to write */
	wait_queue_head_t wake;
	struct rvmrpc_program program;	/* says itself */
};

static DEFINE_MUTEX(user_register_lock);	/* before user_lock */
static DEFINE_SPINLOCK(user_lock);
static LIST_HEAD(user_files);		/* user_lock; user_register_lock to change */
static struct rvmrpc_programs user_programs = { .held_max = 1 };	/* user_lock */

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
	call->call.xid = req->xid;
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

static struct user_call *user_call_of(struct rvmrpc_program_call *call)
{
	return call ? container_of(call, struct user_call, call) : NULL;
}

void rvmrpc_os_program_over(struct rvmrpc_program_call *call)
{
	wake_up(&user_call_of(call)->done);
}

/* user_lock held. */
static struct user_file *user_file_find(u32 number)
{
	struct user_file *file;

	list_for_each_entry(file, &user_files, link) {
		if (file->program.module.number == number)
			return file;
	}
	return NULL;
}

/* What ends it at once, or RVMRPC_STATUS_OK: a worker is held. */
static int user_call_post(struct user_call *call, u32 number)
{
	struct user_file *file;
	int status;

	/* Connections hold workers, too: together they leave one. */
	if (!rvmrpc_jobs_hold())
		return RVMRPC_STATUS_BUSY;
	spin_lock(&user_lock);
	file = user_file_find(number);
	status = rvmrpc_program_post(&user_programs, file ? &file->program : NULL, &call->call);
	if (status == RVMRPC_STATUS_OK)
		wake_up_interruptible(&file->wake);
	spin_unlock(&user_lock);
	if (status != RVMRPC_STATUS_OK)
		rvmrpc_jobs_let_go();
	return status;
}

static bool user_call_is_over(struct user_call *call)
{
	bool over;

	spin_lock(&user_lock);
	over = call->call.state == RVMRPC_PROGRAM_OVER;
	spin_unlock(&user_lock);
	return over;
}

static int user_call_wait(struct user_call *call, struct rvmrpc_response *res)
{
	s64 left = call->deadline - ktime_get_boottime_ns();

	/* Idle: it is neither load nor a task that hangs. */
	if (left > 0)
		wait_event_idle_timeout(call->done, user_call_is_over(call), nsecs_to_jiffies(left) + 1);
	spin_lock(&user_lock);
	rvmrpc_program_leave(&user_programs, &call->call);
	spin_unlock(&user_lock);
	rvmrpc_jobs_let_go();
	/* It is over: nobody writes to it any more. */
	if (call->call.status != RVMRPC_STATUS_OK)
		return call->call.status;
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

/**
 * rvmrpc_user_epoch() - an epoch begins or ends: nobody waits for the calls of the last one
 * @workers: that may run at a time in the next one, or 0
 *
 * Context: may take a spinlock.
 */
void rvmrpc_user_epoch(u32 workers)
{
	spin_lock(&user_lock);
	rvmrpc_programs_epoch(&user_programs, workers);
	spin_unlock(&user_lock);
}

void rvmrpc_user_cancel(u64 xid)
{
	spin_lock(&user_lock);
	rvmrpc_programs_cancel(&user_programs, xid);
	spin_unlock(&user_lock);
}

/* Programs are frozen before workers are, which would wait for them for as long as the deadlines say. */
static int user_pm_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	bool sleeps = rvmrpc_pm_sleeps(event);

	spin_lock(&user_lock);
	user_programs.asleep = sleeps;
	if (sleeps)
		rvmrpc_programs_cancel(&user_programs, 0);
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
	call = user_call_of(rvmrpc_program_next(&user_programs, &file->program));
	if (!call) {
		call = ERR_PTR(-EAGAIN);
	} else if (room < sizeof(struct rvmrpc_serve_request) + call->length) {
		call = ERR_PTR(-EMSGSIZE);
	} else {
		call->call.state = RVMRPC_PROGRAM_READ;
		kref_get(&call->ref);
	}
	spin_unlock(&user_lock);
	return call;
}

/* It was not read after all. */
static void user_take_back(struct user_file *file, struct user_call *call)
{
	spin_lock(&user_lock);
	if (call->call.state == RVMRPC_PROGRAM_READ) {
		call->call.state = RVMRPC_PROGRAM_QUEUED;
		wake_up_interruptible(&file->wake);
	}
	spin_unlock(&user_lock);
}

static bool user_has_next(struct user_file *file)
{
	bool has;

	spin_lock(&user_lock);
	has = rvmrpc_program_next(&user_programs, &file->program);
	spin_unlock(&user_lock);
	return has;
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
		if (wait_event_interruptible(file->wake, user_has_next(file)))
			return -ERESTARTSYS;
	}
	if (IS_ERR(call))
		return PTR_ERR(call);
	left = call->deadline - ktime_get_boottime_ns();
	request.id = call->call.id;
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
	struct user_call *call;

	spin_lock(&user_lock);
	call = user_call_of(rvmrpc_program_find(&user_programs, &file->program, id));
	if (call)
		kref_get(&call->ref);
	spin_unlock(&user_lock);
	return call;
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
	ended = call->call.state == RVMRPC_PROGRAM_READ &&
		rvmrpc_program_end(&call->call, fits ? answer->status : RVMRPC_STATUS_TOO_BIG);
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
	if (!rvmrpc_program_may_answer(&answer, length - sizeof(answer)))
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
	return EPOLLOUT | EPOLLWRNORM | (user_has_next(file) ? EPOLLIN | EPOLLRDNORM : 0);
}

/* ---- Registration ---- */

static int user_describe(struct rvmrpc_program *program)
{
	const struct rvmrpc_serve_register *d = &program->description;

	if (!rvmrpc_program_may(program))
		return -EINVAL;
	if (copy_from_user(program->entries, u64_to_user_ptr(d->procs), d->nprocs * sizeof(program->entries[0])))
		return -EFAULT;
	return rvmrpc_program_describe(program, user_dispatch) ? 0 : -EINVAL;
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
		file->program.module.number = number;
		list_add(&file->link, &user_files);
	}
	spin_unlock(&user_lock);
	if (taken)
		return -EEXIST;
	err = rvmrpc_register_module(&file->program.module);
	if (!err)
		return 0;
	spin_lock(&user_lock);
	list_del(&file->link);
	spin_unlock(&user_lock);
	return err;
}

static int user_register(struct user_file *file)
{
	u32 number = file->program.description.number, i;
	int err = user_describe(&file->program);

	if (err)
		return err;
	if (number)
		return user_register_as(file, number);
	/* With more numbers than there can be modules, EEXIST is the name's. */
	for (i = 0; i <= RVMRPC_MODULES_MAX; i++) {
		err = user_register_as(file, RVMRPC_PROGRAM_NUMBER + i);
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
		if (!copy_from_user(&file->program.description, description, sizeof(*description)))
			err = user_register(file);
		WRITE_ONCE(file->registered, !err);
	}
	mutex_unlock(&user_register_lock);
	if (!err)
		err = put_user(file->program.module.number, &description->number);
	return err;
}

static int user_open(struct inode *inode, struct file *filp)
{
	struct user_file *file = kvzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	init_waitqueue_head(&file->wake);
	filp->private_data = file;
	return stream_open(inode, filp);
}

static int user_release(struct inode *inode, struct file *filp)
{
	struct user_file *file = filp->private_data;

	if (file->registered) {
		spin_lock(&user_lock);
		rvmrpc_program_close(&user_programs, &file->program);
		spin_unlock(&user_lock);
		unregister_server_module(file->program.module.number);
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
