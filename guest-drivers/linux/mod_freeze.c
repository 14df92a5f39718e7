// SPDX-License-Identifier: GPL-2.0-only
/*
 * What module freeze asks of this kernel: file systems stand still for a backup, and never longer than was said.
 *
 * Who freezes may hang in a disk, so a work of its own thaws when the time is over, and who freezes undoes what it froze
 * after that.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/workqueue.h>
#include "mounts_text.h"
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

#define FREEZE_MAX	256

static DEFINE_MUTEX(freeze_lock);
/* Written with freeze_lock, read by the server thread without. */
static struct {
	u32 state;			/* RVMRPC_FREEZE_* */
	u32 count;			/* frozen */
	u32 skipped;
	unsigned long deadline;		/* jiffies */
	bool over;			/* who freezes is to end, and to undo */
	bool frozen[FREEZE_MAX];
} freeze;
static struct path freeze_paths[FREEZE_MAX];	/* held by who freezes, then until they are thawed */
static u32 freeze_paths_used;			/* of who freezes */

static struct workqueue_struct *freeze_queue;
static void freeze_expire(struct work_struct *work);
static DECLARE_DELAYED_WORK(freeze_timer, freeze_expire);

static struct super_block *freeze_super_of(u32 i)
{
	return freeze_paths[i].dentry->d_sb;
}

/* ---- Thaw ---- */

/* Thaws what is frozen, in the order of mounting.  freeze_lock held.  *lost: what others had thawed before. */
static u32 freeze_undo(u32 *lost)
{
	u32 i, n = 0;

	for (i = 0; i < FREEZE_MAX; i++) {
		if (!freeze.frozen[i])
			continue;
		if (rvmrpc_thaw_super(freeze_super_of(i)))
			++*lost;
		else
			n++;
		freeze.frozen[i] = false;
		path_put(&freeze_paths[i]);
	}
	WRITE_ONCE(freeze.count, 0);
	return n;
}

/* freeze_lock held. */
static bool freeze_holds(void)
{
	return freeze.state == RVMRPC_FREEZE_FROZEN || freeze.state == RVMRPC_FREEZE_FREEZING;
}

static void freeze_end(u32 state, u32 *count, u32 *lost)
{
	freeze.over = true;
	*count = freeze_undo(lost);
	/* Who freezes says itself that it has ended. */
	if (freeze.state == RVMRPC_FREEZE_FROZEN)
		WRITE_ONCE(freeze.state, state);
}

static void freeze_expire(struct work_struct *work)
{
	u32 count, lost = 0;

	mutex_lock(&freeze_lock);
	/* It may have waited for the lock while one freeze ended and another began. */
	if (freeze_holds() && !time_before(jiffies, freeze.deadline)) {
		freeze_end(RVMRPC_FREEZE_EXPIRED, &count, &lost);
		pr_warn("nobody thawed %u file systems in time: done\n", count);
	}
	mutex_unlock(&freeze_lock);
}

int rvmrpc_os_thaw(struct rvmrpc_freeze_res *state)
{
	u32 count = 0, lost = 0;

	cancel_delayed_work(&freeze_timer);
	mutex_lock(&freeze_lock);
	if (freeze_holds())
		freeze_end(RVMRPC_FREEZE_THAWED, &count, &lost);
	rvmrpc_os_freeze_state(state);
	mutex_unlock(&freeze_lock);
	state->count = count;
	state->lost = lost;
	return RVMRPC_STATUS_OK;
}

void rvmrpc_os_freeze_state(struct rvmrpc_freeze_res *state)
{
	long left = READ_ONCE(freeze.deadline) - jiffies;

	state->state = READ_ONCE(freeze.state);
	state->count = READ_ONCE(freeze.count);
	state->skipped = READ_ONCE(freeze.skipped);
	if (left > 0 && (state->state == RVMRPC_FREEZE_FROZEN || state->state == RVMRPC_FREEZE_FREEZING))
		state->left_ms = jiffies_to_msecs(left);
}

/* ---- Freeze ---- */

struct freeze_walk {
	struct rvmrpc_mount_remotes remotes;
	u32 skipped;
	bool failed;
};

static bool freeze_known(const struct super_block *sb)
{
	u32 i;

	for (i = 0; i < freeze_paths_used; i++) {
		if (freeze_super_of(i) == sb)
			return true;
	}
	return false;
}

static bool freeze_can(const struct super_block *sb)
{
	return sb->s_op->freeze_fs || sb->s_op->freeze_super;
}

/* Holds what is to be frozen. */
static bool freeze_mount(const struct rvmrpc_mount *mount, void *data)
{
	struct freeze_walk *walk = data;
	enum rvmrpc_mount_kind kind = rvmrpc_mount_kind(&walk->remotes, mount);
	struct path path;
	int err;

	walk->skipped += kind == RVMRPC_MOUNT_REMOTE || kind == RVMRPC_MOUNT_BELOW;
	if (kind != RVMRPC_MOUNT_DATA)
		return true;
	err = rvmrpc_mount_path(mount, &path);
	/* Hidden by another mount: its own, if it has one that is not hidden, is in the list. */
	if (err == -ENXIO)
		return true;
	if (err || freeze_paths_used == FREEZE_MAX) {
		pr_err("cannot freeze %s: %pe\n", mount->target, ERR_PTR(err ?: -ENOSPC));
		walk->failed = true;
		if (!err)
			path_put(&path);
		return false;
	}
	if (sb_rdonly(path.dentry->d_sb) || freeze_known(path.dentry->d_sb) || !freeze_can(path.dentry->d_sb)) {
		walk->skipped += !freeze_can(path.dentry->d_sb);
		path_put(&path);
		return true;
	}
	freeze_paths[freeze_paths_used++] = path;
	return true;
}

/* One of them.  False: it failed, or the time is over. */
static bool freeze_one(u32 i)
{
	int err = freeze.over ? -ETIME : rvmrpc_freeze_super(freeze_super_of(i));
	bool over;

	mutex_lock(&freeze_lock);
	over = freeze.over;
	if (!err) {
		freeze.frozen[i] = true;
		WRITE_ONCE(freeze.count, freeze.count + 1);
	}
	mutex_unlock(&freeze_lock);
	if (err) {
		pr_err("cannot freeze %pd of %s: %pe\n", freeze_paths[i].dentry, freeze_super_of(i)->s_id, ERR_PTR(err));
		path_put(&freeze_paths[i]);
	}
	return !err && !over;
}

static bool freeze_all(void)
{
	struct freeze_walk walk = { .skipped = 0 };
	bool good;
	u32 i;

	freeze_paths_used = 0;
	good = !rvmrpc_mounts_walk(freeze_mount, &walk) && !walk.failed;
	WRITE_ONCE(freeze.skipped, walk.skipped);
	i = freeze_paths_used;
	while (i && good)
		good = freeze_one(--i);
	while (i)
		path_put(&freeze_paths[--i]);
	return good;
}

static bool freeze_begin(u32 timeout_ms)
{
	bool free;

	mutex_lock(&freeze_lock);
	free = !freeze_holds();
	if (free) {
		freeze.over = false;
		WRITE_ONCE(freeze.count, 0);
		WRITE_ONCE(freeze.deadline, jiffies + msecs_to_jiffies(timeout_ms));
		WRITE_ONCE(freeze.state, RVMRPC_FREEZE_FREEZING);
		mod_delayed_work(freeze_queue, &freeze_timer, msecs_to_jiffies(timeout_ms));
	}
	mutex_unlock(&freeze_lock);
	return free;
}

int rvmrpc_os_freeze(u32 timeout_ms, struct rvmrpc_freeze_res *state)
{
	u32 lost = 0;
	bool good;

	if (!freeze_begin(timeout_ms))
		return RVMRPC_STATUS_BUSY;
	good = freeze_all();
	mutex_lock(&freeze_lock);
	/* The time was over, or somebody thawed, after the last of them was frozen. */
	good = good && !freeze.over;
	if (!good) {
		freeze_undo(&lost);
		cancel_delayed_work(&freeze_timer);
	}
	WRITE_ONCE(freeze.state, good ? RVMRPC_FREEZE_FROZEN : RVMRPC_FREEZE_THAWED);
	rvmrpc_os_freeze_state(state);
	mutex_unlock(&freeze_lock);
	return good ? RVMRPC_STATUS_OK : RVMRPC_STATUS_SYSTEM_ERROR;
}

/* ---- Module ---- */

int rvmrpc_mod_freeze_init(void)
{
	int err;

	/* Not freezable: it is the promise that no file system stays frozen. */
	freeze_queue = alloc_workqueue(KBUILD_MODNAME "_thaw", WQ_UNBOUND | WQ_MEM_RECLAIM, 1);
	if (!freeze_queue)
		return -ENOMEM;
	err = rvmrpc_builtin_add(&rvmrpc_freeze_module);
	if (err)
		destroy_workqueue(freeze_queue);
	return err;
}

void rvmrpc_mod_freeze_exit(void)
{
	struct rvmrpc_freeze_res state;

	rvmrpc_builtin_remove(&rvmrpc_freeze_module);
	rvmrpc_os_thaw(&state);
	cancel_delayed_work_sync(&freeze_timer);
	destroy_workqueue(freeze_queue);
}
