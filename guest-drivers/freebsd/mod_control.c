/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What module control asks of this kernel.
 */
#include "rvmrpc_drv.h"
#include <sys/mount.h>
#include <sys/proc.h>
#include <sys/reboot.h>
#include <sys/vnode.h>

/* FreeBSD has no such keys. */
int
rvmrpc_os_sysrq(uint32_t key __unused, uint32_t *enabled __unused)
{
	return (RVMRPC_STATUS_PROCEDURE_UNAVAILABLE);
}

/* ---- sync ---- */

/* mp is busy.  Returns whether all of it was written. */
static bool
control_sync_mount(struct mount *mp)
{
	int error, save;

	if (vn_start_write(NULL, &mp, V_WAIT) != 0)
		return (false);
	save = curthread_pflags_set(TDP_SYNCIO);
	rvmrpc_vfs_msync(mp, MNT_WAIT);
	error = VFS_SYNC(mp, MNT_WAIT);
	curthread_pflags_restore(save);
	vn_finished_write(mp);
	return (error == 0);
}

/* Those that are local, or those that are not. */
static bool
control_sync_mounts(bool local)
{
	struct mount *mp, *next;
	bool good = true;

	mtx_lock(&mountlist_mtx);
	for (mp = TAILQ_FIRST(&mountlist); mp != NULL; mp = next) {
		if ((mp->mnt_flag & MNT_RDONLY) != 0 ||
		    ((mp->mnt_flag & MNT_LOCAL) != 0) != local ||
		    vfs_busy(mp, MBF_NOWAIT | MBF_MNTLSTLOCK) != 0) {
			next = TAILQ_NEXT(mp, mnt_list);
			continue;
		}
		good &= control_sync_mount(mp);
		mtx_lock(&mountlist_mtx);
		next = TAILQ_NEXT(mp, mnt_list);
		vfs_unbusy(mp);
	}
	mtx_unlock(&mountlist_mtx);
	return (good);
}

/*
 * sync(2) only begins to write; this waits.  A server that does not answer
 * holds up no disk: it comes last.
 */
bool
rvmrpc_sync(void)
{
	bool good = control_sync_mounts(true);

	return (control_sync_mounts(false) && good);
}

/* One at a time: each would hold a worker while a disk hangs. */
static volatile u_int control_syncing;

int
rvmrpc_os_sync(void)
{
	bool good;

	if (atomic_cmpset_int(&control_syncing, 0, 1) == 0)
		return (RVMRPC_STATUS_BUSY);
	good = rvmrpc_sync();
	atomic_store_rel_int(&control_syncing, 0);
	return (good ? RVMRPC_STATUS_OK : RVMRPC_STATUS_SYSTEM_ERROR);
}

/* ---- Power ---- */

/*
 * By a signal to init(8), which always can be sent: so force adds nothing.
 * Without an init the kernel does it.
 */
void
rvmrpc_os_power(bool reboot, bool force __unused)
{
	printf("rvmrpc: the host asks for %s\n",
	    reboot ? "a reboot" : "power-off");
	shutdown_nice(reboot ? RB_AUTOBOOT : RB_POWEROFF);
}

/* ---- Module ---- */

int
rvmrpc_mod_control_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_control_module));
}

void
rvmrpc_mod_control_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_control_module);
}
