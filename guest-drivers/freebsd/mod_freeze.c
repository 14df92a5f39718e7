/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What module freeze asks of this kernel: writes are suspended as
 * /dev/ufssuspend does it.
 *
 * Two threads of its own.  Who suspends a file system may write to it, so that
 * is done by one that does nothing else; it may hang on a disk.  The other one
 * thaws when the time is over, whoever hangs.
 */
#include "rvmrpc_drv.h"
#include <sys/eventhandler.h>
#include <sys/mount.h>
#include <sys/priority.h>
#include <sys/proc.h>
#include <sys/reboot.h>
#include <sys/sx.h>
#include <sys/vnode.h>

#define	FREEZE_MAX	256

static struct sx freeze_sx;
SX_SYSINIT(rvmrpc_freeze, &freeze_sx, "rvmrpc freeze");

/* Written with freeze_sx, read by the server thread without. */
static struct {
	volatile uint32_t state;	/* RVMRPC_FREEZE_* */
	volatile uint32_t count;	/* frozen */
	volatile uint32_t skipped;
	volatile sbintime_t deadline;
	bool		over;		/* who freezes is to end, and to undo */
	bool		frozen[FREEZE_MAX];
} freeze;

/* Busy.  Who freezes has them, then those that are frozen are freeze_sx'. */
static struct mount *freeze_mounts[FREEZE_MAX];
static u_int freeze_mounts_used;	/* of who freezes */

static struct taskqueue *freeze_queue, *thaw_queue;
static struct task freeze_task;
static struct timeout_task thaw_task;
static eventhandler_tag freeze_tag;

/* ---- Thaw ---- */

/* False: somebody else had. */
static bool
freeze_resume(struct mount *mp)
{
	bool suspended;

	MNT_ILOCK(mp);
	suspended = (mp->mnt_kern_flag & MNTK_SUSPEND) != 0;
	/* It asks for the thread that suspended it, which may hang. */
	if (suspended)
		mp->mnt_susp_owner = curthread;
	MNT_IUNLOCK(mp);
	if (suspended)
		vfs_write_resume(mp, 0);
	vfs_unbusy(mp);
	return (suspended);
}

/* In the order of mounting.  *lost: those that others had thawed before. */
static uint32_t
freeze_undo(uint32_t *lost)
{
	uint32_t n = 0;
	u_int i;

	sx_assert(&freeze_sx, SA_XLOCKED);
	for (i = 0; i < FREEZE_MAX; i++) {
		if (!freeze.frozen[i])
			continue;
		freeze.frozen[i] = false;
		if (freeze_resume(freeze_mounts[i]))
			n++;
		else
			++*lost;
	}
	freeze.count = 0;
	return (n);
}

static bool
freeze_holds(void)
{
	return (freeze.state == RVMRPC_FREEZE_FROZEN ||
	    freeze.state == RVMRPC_FREEZE_FREEZING);
}

static void
freeze_end(uint32_t state, uint32_t *count, uint32_t *lost)
{
	freeze.over = true;
	*count = freeze_undo(lost);
	/* Who freezes says itself that it has ended. */
	if (freeze.state == RVMRPC_FREEZE_FROZEN)
		freeze.state = state;
}

static void
freeze_expire(void *arg __unused, int pending __unused)
{
	uint32_t count, lost = 0;

	sx_xlock(&freeze_sx);
	/* One freeze may have ended meanwhile, and another have begun. */
	if (freeze_holds() && sbinuptime() >= freeze.deadline) {
		freeze_end(RVMRPC_FREEZE_EXPIRED, &count, &lost);
		printf("rvmrpc: nobody thawed %u file systems in time: done\n",
		    count);
	}
	sx_xunlock(&freeze_sx);
}

int
rvmrpc_os_thaw(struct rvmrpc_freeze_res *state)
{
	uint32_t count = 0, lost = 0;

	taskqueue_cancel_timeout(thaw_queue, &thaw_task, NULL);
	sx_xlock(&freeze_sx);
	if (freeze_holds())
		freeze_end(RVMRPC_FREEZE_THAWED, &count, &lost);
	rvmrpc_os_freeze_state(state);
	sx_xunlock(&freeze_sx);
	state->count = count;
	state->lost = lost;
	return (RVMRPC_STATUS_OK);
}

void
rvmrpc_os_freeze_state(struct rvmrpc_freeze_res *state)
{
	sbintime_t left = freeze.deadline - sbinuptime();

	state->state = freeze.state;
	state->count = freeze.count;
	state->skipped = freeze.skipped;
	if (left > 0 && (state->state == RVMRPC_FREEZE_FROZEN ||
	    state->state == RVMRPC_FREEZE_FREEZING))
		state->left_ms = left / SBT_1MS;
}

/* Before the kernel writes all back and unmounts. */
static void
freeze_shutdown(void *arg __unused, int howto __unused)
{
	struct rvmrpc_freeze_res state;

	if (!SCHEDULER_STOPPED())
		rvmrpc_os_thaw(&state);
}

/* ---- Freeze ---- */

static bool
freeze_can(const struct mount *mp)
{
	return (strcmp(mp->mnt_vfc->vfc_name, "ufs") == 0);
}

/*
 * Has what is to be frozen busy, so that nobody unmounts it.  False: there is
 * too much.
 */
static bool
freeze_gather(void)
{
	uint32_t skipped = 0;
	struct mount *mp;
	bool good = true;

	freeze_mounts_used = 0;
	mtx_lock(&mountlist_mtx);
	TAILQ_FOREACH(mp, &mountlist, mnt_list) {
		if ((mp->mnt_flag & MNT_RDONLY) != 0 ||
		    rvmrpc_mount_kind(mp) == RVMRPC_MOUNT_OTHER)
			continue;
		if (!freeze_can(mp)) {
			skipped++;
			continue;
		}
		good = freeze_mounts_used < FREEZE_MAX;
		if (!good) {
			printf("rvmrpc: cannot freeze more than %u file "
			    "systems\n", FREEZE_MAX);
			break;
		}
		/* Being unmounted. */
		if (vfs_busy(mp, MBF_NOWAIT | MBF_MNTLSTLOCK) != 0)
			continue;
		freeze_mounts[freeze_mounts_used++] = mp;
		mtx_lock(&mountlist_mtx);
	}
	mtx_unlock(&mountlist_mtx);
	freeze.skipped = skipped;
	return (good);
}

/* False: it failed, or the time is over. */
static bool
freeze_one(u_int i)
{
	struct mount *mp = freeze_mounts[i];
	int error = freeze.over ? ETIMEDOUT :
	    vfs_write_suspend(mp, VS_SKIP_UNMOUNT);
	bool over;

	sx_xlock(&freeze_sx);
	over = freeze.over;
	if (error == 0) {
		freeze.frozen[i] = true;
		freeze.count++;
	}
	sx_xunlock(&freeze_sx);
	if (error != 0) {
		printf("rvmrpc: cannot freeze %s: error %d\n",
		    mp->mnt_stat.f_mntonname, error);
		vfs_unbusy(mp);
	}
	return (error == 0 && !over);
}

/* The last mounted first. */
static bool
freeze_all(void)
{
	bool good = freeze_gather();
	u_int i = freeze_mounts_used;

	while (i != 0 && good)
		good = freeze_one(--i);
	while (i != 0)
		vfs_unbusy(freeze_mounts[--i]);
	return (good);
}

static void
freeze_run(void *arg __unused, int pending __unused)
{
	bool good = freeze_all();
	uint32_t lost = 0;

	sx_xlock(&freeze_sx);
	/* The time was over, or somebody thawed, after the last was frozen. */
	good = good && !freeze.over;
	if (!good)
		freeze_undo(&lost);
	freeze.state = good ? RVMRPC_FREEZE_FROZEN : RVMRPC_FREEZE_THAWED;
	wakeup(&freeze);
	sx_xunlock(&freeze_sx);
}

static void
freeze_begin(uint32_t timeout_ms)
{
	sbintime_t timeout = timeout_ms * SBT_1MS;

	freeze.over = false;
	freeze.count = 0;
	freeze.deadline = sbinuptime() + timeout;
	freeze.state = RVMRPC_FREEZE_FREEZING;
	/* A relative one counts from the last tick, and could come too early. */
	taskqueue_enqueue_timeout_sbt(thaw_queue, &thaw_task, freeze.deadline,
	    0, C_ABSOLUTE);
	taskqueue_enqueue(freeze_queue, &freeze_task);
}

int
rvmrpc_os_freeze(uint32_t timeout_ms, struct rvmrpc_freeze_res *state)
{
	int status = RVMRPC_STATUS_BUSY;

	sx_xlock(&freeze_sx);
	if (!freeze_holds()) {
		freeze_begin(timeout_ms);
		while (freeze.state == RVMRPC_FREEZE_FREEZING)
			sx_sleep(&freeze, &freeze_sx, 0, "rvmfrz", 0);
		rvmrpc_os_freeze_state(state);
		status = state->state == RVMRPC_FREEZE_FROZEN ?
		    RVMRPC_STATUS_OK : RVMRPC_STATUS_SYSTEM_ERROR;
	}
	sx_xunlock(&freeze_sx);
	return (status);
}

/* ---- Module ---- */

static struct taskqueue *
freeze_thread(const char *name, struct taskqueue **queue)
{
	*queue = taskqueue_create(name, M_WAITOK, taskqueue_thread_enqueue,
	    queue);
	if (taskqueue_start_threads(queue, 1, PWAIT, "rvmrpc %s", name) != 0) {
		taskqueue_free(*queue);
		*queue = NULL;
	}
	return (*queue);
}

static void
freeze_free(void)
{
	if (freeze_queue != NULL)
		taskqueue_free(freeze_queue);
	if (thaw_queue != NULL)
		taskqueue_free(thaw_queue);
}

int
rvmrpc_mod_freeze_init(void)
{
	int error = ENOMEM;

	TASK_INIT(&freeze_task, 0, freeze_run, NULL);
	if (freeze_thread("freeze", &freeze_queue) != NULL &&
	    freeze_thread("thaw", &thaw_queue) != NULL) {
		TIMEOUT_TASK_INIT(thaw_queue, &thaw_task, 0, freeze_expire,
		    NULL);
		error = rvmrpc_builtin_add(&rvmrpc_freeze_module);
	}
	if (error != 0) {
		freeze_free();
		return (error);
	}
	freeze_tag = EVENTHANDLER_REGISTER(shutdown_pre_sync, freeze_shutdown,
	    NULL, SHUTDOWN_PRI_FIRST);
	return (0);
}

/* No worker runs any more. */
void
rvmrpc_mod_freeze_exit(void)
{
	struct rvmrpc_freeze_res state;

	EVENTHANDLER_DEREGISTER(shutdown_pre_sync, freeze_tag);
	rvmrpc_builtin_remove(&rvmrpc_freeze_module);
	rvmrpc_os_thaw(&state);
	taskqueue_drain_timeout(thaw_queue, &thaw_task);
	freeze_free();
}
