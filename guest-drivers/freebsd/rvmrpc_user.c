/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Programs of this guest serve procedures to the host: /dev/rvmrpc-serve.
 *
 * A worker posts its call to the file that has the module, and waits until the
 * program has answered, the call's deadline, or the file's end.  Argument and
 * answer are copied by way of a call's own memory, so no worker waits for a
 * page of a program.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_programs.h"
#include <sys/conf.h>
#include <sys/fcntl.h>
#include <sys/filio.h>
#include <sys/ioccom.h>
#include <sys/poll.h>
#include <sys/selinfo.h>
#include <sys/sx.h>
#include <sys/uio.h>

#define	USER_GRACE_MS	10

struct user_call {
	struct rvmrpc_program_call call;	/* user_mtx */
	u_int		refs;		/* the worker, who copies; user_mtx */
	void		*answer;	/* user_mtx, as the next */
	uint32_t	answer_length;
	sbintime_t	deadline;	/* fixed, as all that follows */
	uint32_t	procedure;
	uint32_t	res_max;
	uint32_t	length;
	uint8_t		arg[];
};

/* An open file. */
struct user_file {
	LIST_ENTRY(user_file) link;	/* while it has a number; user_mtx */
	struct selinfo	sel;		/* user_mtx */
	volatile bool	registered;	/* user_sx to write */
	struct rvmrpc_program program;	/* says itself */
};

static struct sx user_sx;		/* registrations; before user_mtx */
SX_SYSINIT(rvmrpc_user_sx, &user_sx, "rvmrpc user registrations");
static struct mtx user_mtx;
MTX_SYSINIT(rvmrpc_user, &user_mtx, "rvmrpc user", MTX_DEF);
static struct rvmrpc_programs user_programs = { .held_max = 1 }; /* user_mtx */
static LIST_HEAD(, user_file) user_files =
    LIST_HEAD_INITIALIZER(user_files);	/* user_mtx; user_sx to change */
static u_int user_opens;		/* user_mtx */
static bool user_going;			/* the device is; user_mtx */
static struct cdev *user_cdev;		/* NULL: hw.rvmrpc.user is 0 */

/* ---- Calls ---- */

static struct user_call *
user_call_new(const struct rvmrpc_request *req,
    const struct rvmrpc_response *res)
{
	struct user_call *call;

	/* A guest without memory says so, rather than hold a worker. */
	call = malloc(sizeof(*call) + req->arglen, M_RVMRPC, M_NOWAIT);
	if (call == NULL)
		return (NULL);
	memset(call, 0, sizeof(*call));
	call->call.xid = req->xid;
	call->refs = 1;
	call->deadline = sbinuptime() + req->timeout_ms * SBT_1MS;
	call->procedure = req->func;
	call->res_max = res->resmax;
	call->length = req->arglen;
	memcpy(call->arg, req->arg, req->arglen);
	return (call);
}

static void
user_call_put(struct user_call *call)
{
	bool last;

	mtx_lock(&user_mtx);
	last = --call->refs == 0;
	mtx_unlock(&user_mtx);
	if (!last)
		return;
	free(call->answer, M_RVMRPC);
	free(call, M_RVMRPC);
}

static struct user_call *
user_call_of(struct rvmrpc_program_call *call)
{
	return (call != NULL ? __containerof(call, struct user_call, call) :
	    NULL);
}

void
rvmrpc_os_program_over(struct rvmrpc_program_call *call)
{
	mtx_assert(&user_mtx, MA_OWNED);
	wakeup(user_call_of(call));
}

static struct user_file *
user_file_find(uint32_t number)
{
	struct user_file *file;

	mtx_assert(&user_mtx, MA_OWNED);
	LIST_FOREACH(file, &user_files, link)
		if (file->program.module.number == number)
			break;
	return (file);
}

/* There is one more to read, or none ever will be. */
static void
user_file_wake(struct user_file *file)
{
	mtx_assert(&user_mtx, MA_OWNED);
	wakeup(file);
	selwakeup(&file->sel);
}

/* What ends it at once, or RVMRPC_STATUS_OK: a worker is held. */
static int
user_call_post(struct user_call *call, uint32_t number)
{
	struct user_file *file;
	int status;

	mtx_lock(&user_mtx);
	file = user_file_find(number);
	status = rvmrpc_program_post(&user_programs,
	    file != NULL ? &file->program : NULL, &call->call);
	if (status == RVMRPC_STATUS_OK)
		user_file_wake(file);
	mtx_unlock(&user_mtx);
	return (status);
}

static int
user_call_wait(struct user_call *call, struct rvmrpc_response *res)
{
	/* Its caller is to see that its time is over, not we. */
	sbintime_t end = call->deadline + USER_GRACE_MS * SBT_1MS;

	mtx_lock(&user_mtx);
	while (call->call.state != RVMRPC_PROGRAM_OVER && sbinuptime() < end)
		msleep_sbt(call, &user_mtx, 0, "rvmusr", end, 0, C_ABSOLUTE);
	rvmrpc_program_leave(&user_programs, &call->call);
	mtx_unlock(&user_mtx);
	/* It is over: nobody writes to it any more. */
	if (call->call.status != RVMRPC_STATUS_OK)
		return (call->call.status);
	if (call->answer_length != 0)
		memcpy(res->res, call->answer, call->answer_length);
	res->reslen = call->answer_length;
	return (RVMRPC_STATUS_OK);
}

static int
user_dispatch(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct user_call *call = user_call_new(req, res);
	int status;

	if (call == NULL)
		return (RVMRPC_STATUS_SYSTEM_ERROR);
	status = user_call_post(call, req->mod);
	if (status == RVMRPC_STATUS_OK)
		status = user_call_wait(call, res);
	user_call_put(call);
	return (status);
}

void
rvmrpc_user_epoch(u_int workers)
{
	mtx_lock(&user_mtx);
	rvmrpc_programs_epoch(&user_programs, workers);
	mtx_unlock(&user_mtx);
}

void
rvmrpc_user_cancel(uint64_t xid)
{
	mtx_lock(&user_mtx);
	rvmrpc_programs_cancel(&user_programs, xid);
	mtx_unlock(&user_mtx);
}

/* ---- Requests and answers ---- */

/* Waits for the next request, and takes it with a reference. */
static int
user_take(struct user_file *file, size_t room, bool wait,
    struct user_call **taken)
{
	struct user_call *call;
	int error = 0;

	mtx_lock(&user_mtx);
	for (;;) {
		call = user_call_of(rvmrpc_program_next(&user_programs,
		    &file->program));
		if (call != NULL || error != 0)
			break;
		if (user_going)
			error = ENXIO;
		else if (!wait)
			error = EAGAIN;
		else
			error = msleep(file, &user_mtx, PCATCH, "rvmsrv", 0);
	}
	if (call != NULL)
		error = room < sizeof(struct rvmrpc_serve_request) +
		    call->length ? EMSGSIZE : 0;
	if (error == 0) {
		call->call.state = RVMRPC_PROGRAM_READ;
		call->refs++;
		*taken = call;
	}
	mtx_unlock(&user_mtx);
	return (error);
}

/* It was not read after all. */
static void
user_take_back(struct user_file *file, struct user_call *call)
{
	mtx_lock(&user_mtx);
	if (call->call.state == RVMRPC_PROGRAM_READ) {
		call->call.state = RVMRPC_PROGRAM_QUEUED;
		user_file_wake(file);
	}
	mtx_unlock(&user_mtx);
}

/* The file, once it has a module. */
static int
user_file_get(struct user_file **file)
{
	int error = devfs_get_cdevpriv((void **)file);

	return (error == 0 && !(*file)->registered ? ENOTCONN : error);
}

static int
user_read(struct cdev *dev __unused, struct uio *uio, int ioflag)
{
	struct rvmrpc_serve_request request = { .reserved = 0 };
	struct user_file *file;
	struct user_call *call;
	sbintime_t left;
	int error;

	error = user_file_get(&file);
	if (error == 0)
		error = user_take(file, uio->uio_resid,
		    (ioflag & O_NONBLOCK) == 0, &call);
	if (error != 0)
		return (error);
	left = call->deadline - sbinuptime();
	request.id = call->call.id;
	request.procedure = call->procedure;
	request.length = call->length;
	request.timeout_ms = MAX(left, 0) / SBT_1MS;
	error = uiomove(&request, sizeof(request), uio);
	if (error == 0)
		error = uiomove(call->arg, call->length, uio);
	if (error != 0)
		user_take_back(file, call);
	user_call_put(call);
	return (error);
}

/* Of those that were read and not answered, with a reference. */
static struct user_call *
user_call_find(struct user_file *file, uint64_t id)
{
	struct user_call *call;

	mtx_lock(&user_mtx);
	call = user_call_of(rvmrpc_program_find(&user_programs,
	    &file->program, id));
	if (call != NULL)
		call->refs++;
	mtx_unlock(&user_mtx);
	return (call);
}

static int
user_answer(struct user_call *call, const struct rvmrpc_serve_answer *answer,
    struct uio *uio)
{
	bool fits = answer->length <= call->res_max, ended;
	void *data = NULL;
	int error;

	if (fits && answer->length != 0) {
		data = malloc(answer->length, M_RVMRPC, M_WAITOK);
		error = uiomove(data, answer->length, uio);
		if (error != 0) {
			free(data, M_RVMRPC);
			return (error);
		}
	}
	mtx_lock(&user_mtx);
	/* It may be over, or be the next to be read again. */
	ended = call->call.state == RVMRPC_PROGRAM_READ &&
	    rvmrpc_program_end(&call->call,
	    fits ? answer->status : RVMRPC_STATUS_TOO_BIG);
	if (ended && fits) {
		call->answer = data;
		call->answer_length = answer->length;
		data = NULL;
	}
	mtx_unlock(&user_mtx);
	free(data, M_RVMRPC);
	if (!ended)
		return (ENOENT);
	return (fits ? 0 : EMSGSIZE);
}

static int
user_write(struct cdev *dev __unused, struct uio *uio, int ioflag __unused)
{
	struct rvmrpc_serve_answer answer;
	struct user_file *file;
	struct user_call *call;
	int error;

	error = user_file_get(&file);
	if (error == 0 && uio->uio_resid < (ssize_t)sizeof(answer))
		error = EINVAL;
	if (error == 0)
		error = uiomove(&answer, sizeof(answer), uio);
	if (error != 0)
		return (error);
	if (!rvmrpc_program_may_answer(&answer, uio->uio_resid))
		return (EINVAL);
	call = user_call_find(file, answer.id);
	if (call == NULL)
		return (ENOENT);
	error = user_answer(call, &answer, uio);
	user_call_put(call);
	return (error);
}

static int
user_poll(struct cdev *dev __unused, int events, struct thread *td)
{
	struct user_file *file;
	int ready = events & (POLLOUT | POLLWRNORM);

	if (user_file_get(&file) != 0)
		return (POLLERR);
	if ((events & (POLLIN | POLLRDNORM)) == 0)
		return (ready);
	mtx_lock(&user_mtx);
	if (rvmrpc_program_next(&user_programs, &file->program) != NULL)
		ready |= events & (POLLIN | POLLRDNORM);
	else
		selrecord(td, &file->sel);
	mtx_unlock(&user_mtx);
	return (ready);
}

/* ---- Registration ---- */

static int
user_describe(struct rvmrpc_program *program)
{
	const struct rvmrpc_serve_register *d = &program->description;
	int error;

	if (!rvmrpc_program_may(program))
		return (EINVAL);
	error = copyin((const void *)(uintptr_t)d->procs, program->entries,
	    d->nprocs * sizeof(program->entries[0]));
	if (error == 0 && !rvmrpc_program_describe(program, user_dispatch))
		error = EINVAL;
	return (error);
}

static int
user_register_as(struct user_file *file, uint32_t number)
{
	bool taken;
	int error;

	sx_assert(&user_sx, SA_XLOCKED);
	/*
	 * Found by its number from the first call on; one that is about to
	 * close still has its own.
	 */
	mtx_lock(&user_mtx);
	taken = user_file_find(number) != NULL;
	if (!taken) {
		file->program.module.number = number;
		LIST_INSERT_HEAD(&user_files, file, link);
	}
	mtx_unlock(&user_mtx);
	if (taken)
		return (EEXIST);
	error = rvmrpc_register_module(&file->program.module);
	if (error != 0) {
		mtx_lock(&user_mtx);
		LIST_REMOVE(file, link);
		mtx_unlock(&user_mtx);
	}
	return (error);
}

static int
user_register(struct user_file *file)
{
	uint32_t number = file->program.description.number, i;
	int error = user_describe(&file->program);

	if (error != 0)
		return (error);
	if (number != 0)
		return (user_register_as(file, number));
	/* With more numbers than there can be modules, EEXIST is the name's. */
	for (i = 0; i <= RVMRPC_MODULES_MAX; i++) {
		error = user_register_as(file, RVMRPC_PROGRAM_NUMBER + i);
		if (error != EEXIST)
			break;
	}
	return (error);
}

static int
user_ioctl(struct cdev *dev __unused, u_long cmd, caddr_t data,
    int flags __unused, struct thread *td __unused)
{
	struct rvmrpc_serve_register *description = (void *)data;
	struct user_file *file;
	int error;

	/* What fcntl(2) says; each read is told. */
	if (cmd == FIONBIO || cmd == FIOASYNC)
		return (0);
	if (cmd != RVMRPC_SERVE_REGISTER)
		return (ENOTTY);
	error = devfs_get_cdevpriv((void **)&file);
	if (error != 0)
		return (error);
	sx_xlock(&user_sx);
	if (file->registered)
		error = EBUSY;
	else {
		file->program.description = *description;
		error = user_register(file);
		file->registered = error == 0;
	}
	sx_xunlock(&user_sx);
	if (error == 0)
		description->number = file->program.module.number;
	return (error);
}

/* ---- The device ---- */

/* The file's end. */
static void
user_close(void *data)
{
	struct user_file *file = data;

	if (file->registered) {
		mtx_lock(&user_mtx);
		rvmrpc_program_close(&user_programs, &file->program);
		mtx_unlock(&user_mtx);
		unregister_server_module(file->program.module.number);
		sx_xlock(&user_sx);
		mtx_lock(&user_mtx);
		LIST_REMOVE(file, link);
		mtx_unlock(&user_mtx);
		sx_xunlock(&user_sx);
	}
	seldrain(&file->sel);
	free(file, M_RVMRPC);
	mtx_lock(&user_mtx);
	if (--user_opens == 0)
		wakeup(&user_opens);
	mtx_unlock(&user_mtx);
}

static int
user_open(struct cdev *dev __unused, int flags __unused, int type __unused,
    struct thread *td __unused)
{
	struct user_file *file = malloc(sizeof(*file), M_RVMRPC,
	    M_WAITOK | M_ZERO);
	int error = devfs_set_cdevpriv(file, user_close);

	if (error != 0) {
		free(file, M_RVMRPC);
		return (error);
	}
	mtx_lock(&user_mtx);
	user_opens++;
	mtx_unlock(&user_mtx);
	return (0);
}

/* Who reads holds up destroy_dev(). */
static void
user_purge(struct cdev *dev __unused)
{
	struct user_file *file;

	mtx_lock(&user_mtx);
	user_going = true;
	LIST_FOREACH(file, &user_files, link)
		user_file_wake(file);
	mtx_unlock(&user_mtx);
}

static struct cdevsw user_cdevsw = {
	.d_version = D_VERSION,
	.d_name = "rvmrpc-serve",
	.d_open = user_open,
	.d_read = user_read,
	.d_write = user_write,
	.d_poll = user_poll,
	.d_ioctl = user_ioctl,
	.d_purge = user_purge,
};

int
rvmrpc_user_busy(void)
{
	int error;

	mtx_lock(&user_mtx);
	error = user_opens != 0 ? EBUSY : 0;
	mtx_unlock(&user_mtx);
	return (error);
}

int
rvmrpc_user_init(void)
{
	struct make_dev_args args;

	if (rvmrpc_tun.user == 0)
		return (0);
	make_dev_args_init(&args);
	args.mda_flags = MAKEDEV_CHECKNAME | MAKEDEV_WAITOK;
	args.mda_devsw = &user_cdevsw;
	args.mda_uid = UID_ROOT;
	args.mda_gid = GID_WHEEL;
	args.mda_mode = 0600;
	return (make_dev_s(&args, &user_cdev, "rvmrpc-serve"));
}

/*
 * With -f also while files are open: they end.  For one whose own last close
 * has begun destroy_dev() does not wait.
 */
void
rvmrpc_user_exit(void)
{
	if (user_cdev != NULL)
		destroy_dev(user_cdev);
	mtx_lock(&user_mtx);
	while (user_opens != 0)
		msleep(&user_opens, &user_mtx, 0, "rvmuex", 0);
	mtx_unlock(&user_mtx);
}
