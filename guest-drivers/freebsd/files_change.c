/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module files: what is done to files below the trees of fs_write.
 *
 * A folder is found as for reading, and what is done to a name is done in that
 * folder, whatever the folder is called by then; nothing is followed from there
 * on.  Who can write into a tree must not have the host write elsewhere, or as
 * root for him: so a file that has another name, or is set-user-ID, is left
 * alone.
 */
#include "files.h"
#include <sys/fcntl.h>
#include <sys/mount.h>
#include <sys/namei.h>
#include <sys/proc.h>
#include <sys/rwlock.h>
#include <sys/stat.h>
#include <sys/vnode.h>
#include <vm/vm.h>
#include <vm/vm_object.h>

/* What is to be changed: locked by us alone, and not to be frozen meanwhile. */
struct change {
	struct vnode	*vp;
	struct mount	*mp;	/* vn_start_write() */
};

static void
change_end(struct change *c)
{
	vput(c->vp);
	vn_finished_write(c->mp);
}

/*
 * Who writes to a file system that is frozen waits for its end; who asks again
 * does not keep a worker.  found is referenced and locked.
 */
static int
change_begin(struct change *c, struct vnode *found)
{
	int error;

	c->vp = found;
	error = vn_start_write(found, &c->mp, V_NOWAIT);
	rvmrpc_vop_unlock(found);
	if (error != 0) {
		vrele(found);
		return (error);
	}
	error = vn_lock(found, LK_EXCLUSIVE);
	if (error != 0) {
		vrele(found);
		vn_finished_write(c->mp);
	}
	return (error);
}

/* EFTYPE: it is neither a regular file nor, if these will do, a folder. */
static int
change_find(struct change *c, const struct rvmrpc_file_path *path, bool folders)
{
	struct vnode *vp;
	int error;

	error = rvmrpc_files_find(path, false, &vp);
	if (error != 0)
		return (error);
	if (vp->v_type != VREG && !(folders && vp->v_type == VDIR)) {
		vput(vp);
		return (EFTYPE);
	}
	return (change_begin(c, vp));
}

static int
change_folder(struct change *c, const struct rvmrpc_file_place *place)
{
	struct vnode *vp;
	int error;

	error = rvmrpc_files_find(&place->folder, true, &vp);
	if (error != 0)
		return (error);
	if (vp->v_type != VDIR) {
		vput(vp);
		return (ENOTDIR);
	}
	return (change_begin(c, vp));
}

/* ---- Files ---- */

/* Permissions do not stop root, so what else would open(2) look at? */
static int
change_may_write(struct vnode *vp)
{
	struct ucred *cred = curthread->td_ucred;
	struct vattr va;
	int error;

	error = VOP_GETATTR(vp, &va, cred);
	if (error != 0)
		return (error);
	if (va.va_nlink > 1 || (va.va_mode & S_ISUID) != 0 ||
	    (va.va_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ||
	    (va.va_flags & (UF_APPEND | SF_APPEND)) != 0)
		return (EPERM);
	return (VOP_ACCESS(vp, VWRITE, cred, curthread));
}

static int
change_write(struct vnode *vp, uint64_t offset, const void *from,
    uint32_t *length)
{
	struct ucred *cred = curthread->td_ucred;
	ssize_t left = *length;
	int error;

	error = change_may_write(vp);
	if (error == 0)
		error = VOP_OPEN(vp, FWRITE, cred, curthread, NULL);
	if (error != 0)
		return (error);
	/* Not while it is run. */
	error = VOP_ADD_WRITECOUNT(vp, 1);
	if (error == 0) {
		error = vn_rdwr(UIO_WRITE, vp, __DECONST(void *, from), *length,
		    offset, UIO_SYSSPACE, IO_NODELOCKED, cred, NOCRED, &left,
		    curthread);
		VOP_ADD_WRITECOUNT(vp, -1);
	}
	VOP_CLOSE(vp, FWRITE, cred, curthread);
	*length -= left;
	return (*length != 0 ? 0 : error);
}

int
rvmrpc_os_file_write(const struct rvmrpc_file_path *path, uint64_t offset,
    const void *from, uint32_t *length, uint32_t *failed)
{
	struct change c;
	int error;

	error = change_find(&c, path, false);
	if (error == 0) {
		error = change_write(c.vp, offset, from, length);
		change_end(&c);
	}
	return (rvmrpc_files_status(error, failed));
}

int
rvmrpc_os_file_sync(const struct rvmrpc_file_path *path, uint32_t *failed)
{
	struct change c;
	int error;

	error = change_find(&c, path, true);
	if (error == 0) {
		/* As fsync(2): what was written by way of memory, too. */
		if (c.vp->v_object != NULL) {
			VM_OBJECT_WLOCK(c.vp->v_object);
			vm_object_page_clean(c.vp->v_object, 0, 0, 0);
			VM_OBJECT_WUNLOCK(c.vp->v_object);
		}
		error = VOP_FSYNC(c.vp, MNT_WAIT, curthread);
		change_end(&c);
	}
	return (rvmrpc_files_status(error, failed));
}

/* ---- Attributes ---- */

static int
change_attributes(struct vnode *vp, struct vattr *va)
{
	return (VOP_SETATTR(vp, va, curthread->td_ucred));
}

static int
change_size(struct vnode *vp, uint64_t size)
{
	struct vattr va;
	int error;

	if (vp->v_type == VDIR)
		return (EISDIR);
	error = change_may_write(vp);
	if (error != 0)
		return (error);
	VATTR_NULL(&va);
	va.va_size = size;
	return (change_attributes(vp, &va));
}

/* Root keeps set-user-ID for a new owner, who must not get it. */
static int
change_owner(struct vnode *vp, const struct rvmrpc_file_set_req *set)
{
	struct vattr va, old;
	int error;

	VATTR_NULL(&va);
	if ((set->set & RVMRPC_FILE_SET_UID) != 0)
		va.va_uid = set->uid;
	if ((set->set & RVMRPC_FILE_SET_GID) != 0)
		va.va_gid = set->gid;
	/* It would mean that nothing is to change. */
	if (((set->set & RVMRPC_FILE_SET_UID) != 0 && set->uid == UINT32_MAX) ||
	    ((set->set & RVMRPC_FILE_SET_GID) != 0 && set->gid == UINT32_MAX))
		return (EINVAL);
	if (vp->v_type != VDIR) {
		error = VOP_GETATTR(vp, &old, curthread->td_ucred);
		if (error != 0)
			return (error);
		if ((old.va_mode & (S_ISUID | S_ISGID)) != 0)
			va.va_mode = old.va_mode & ~(S_ISUID | S_ISGID);
	}
	return (change_attributes(vp, &va));
}

static int
change_mode(struct vnode *vp, uint32_t mode)
{
	struct vattr va;

	VATTR_NULL(&va);
	va.va_mode = mode;
	return (change_attributes(vp, &va));
}

static struct timespec
change_time(uint64_t ns)
{
	struct timespec ts;

	if (ns == RVMRPC_FILE_NOW) {
		vfs_timestamp(&ts);
		return (ts);
	}
	ts.tv_sec = (int64_t)ns / 1000000000;
	ts.tv_nsec = (int64_t)ns % 1000000000;
	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return (ts);
}

static int
change_times(struct vnode *vp, const struct rvmrpc_file_set_req *set)
{
	struct vattr va;

	VATTR_NULL(&va);
	if ((set->set & RVMRPC_FILE_SET_ACCESSED) != 0)
		va.va_atime = change_time(set->accessed_ns);
	if ((set->set & RVMRPC_FILE_SET_MODIFIED) != 0)
		va.va_mtime = change_time(set->modified_ns);
	/* The last second before 1970 would mean that nothing is to change. */
	if (((set->set & RVMRPC_FILE_SET_ACCESSED) != 0 &&
	    va.va_atime.tv_sec == VNOVAL) ||
	    ((set->set & RVMRPC_FILE_SET_MODIFIED) != 0 &&
	    va.va_mtime.tv_sec == VNOVAL))
		return (EINVAL);
	return (change_attributes(vp, &va));
}

static int
change_set(struct vnode *vp, const struct rvmrpc_file_set_req *set)
{
	const uint32_t owner = RVMRPC_FILE_SET_UID | RVMRPC_FILE_SET_GID;
	const uint32_t times = RVMRPC_FILE_SET_ACCESSED |
	    RVMRPC_FILE_SET_MODIFIED;
	struct vattr va;
	int error;

	error = VOP_GETATTR(vp, &va, curthread->td_ucred);
	if (error != 0)
		return (error);
	if (vp->v_type != VDIR && va.va_nlink > 1)
		return (EPERM);
	if ((set->set & RVMRPC_FILE_SET_SIZE) != 0)
		error = change_size(vp, set->size);
	if (error == 0 && (set->set & owner) != 0)
		error = change_owner(vp, set);
	if (error == 0 && (set->set & RVMRPC_FILE_SET_MODE) != 0)
		error = change_mode(vp, set->mode);
	if (error == 0 && (set->set & times) != 0)
		error = change_times(vp, set);
	return (error);
}

int
rvmrpc_os_file_set(const struct rvmrpc_file_path *path,
    const struct rvmrpc_file_set_req *set, uint32_t *failed)
{
	struct change c;
	int error;

	error = change_find(&c, path, true);
	if (error == 0) {
		error = change_set(c.vp, set);
		change_end(&c);
	}
	return (rvmrpc_files_status(error, failed));
}

/* ---- Names ---- */

/*
 * Looks a name up in a folder that is locked, for what is about to be done to
 * it.  0: *vp is locked; EJUSTRETURN: there is none, and one may be made.
 */
static int
change_lookup(struct vnode *folder, const char *name, int op,
    struct componentname *cn, struct vnode **vp)
{
	int error;

	memset(cn, 0, sizeof(*cn));
	cn->cn_nameiop = op;
	/* Not to be cached, MAKEENTRY: it is about to change. */
	cn->cn_flags = ISLASTCN | LOCKPARENT | LOCKLEAF | NOFOLLOW |
	    RVMRPC_CN_SAVED;
	cn->cn_lkflags = LK_EXCLUSIVE;
	cn->cn_cred = curthread->td_ucred;
	cn->cn_pnbuf = cn->cn_nameptr = __DECONST(char *, name);
	cn->cn_namelen = strlen(name);
	rvmrpc_cn_thread(cn);
	*vp = NULL;
	error = VOP_LOOKUP(folder, vp, cn);
	if (error == 0 && *vp == folder) {
		vrele(folder);
		error = ELOOP;
	}
	if (error != 0)
		*vp = NULL;
	return (error);
}

static bool
change_is_mount_point(const struct vnode *vp)
{
	return ((vp->v_type == VDIR || vp->v_type == VREG) &&
	    vp->v_mountedhere != NULL);
}

static int
change_create(struct vnode *parent, const char *name, bool folder,
    uint16_t mode)
{
	struct componentname cn;
	struct vnode *vp;
	struct vattr va;
	int error;

	error = change_lookup(parent, name, CREATE, &cn, &vp);
	if (error == 0) {
		vput(vp);
		return (EEXIST);
	}
	if (error != EJUSTRETURN)
		return (error);
	VATTR_NULL(&va);
	va.va_type = folder ? VDIR : VREG;
	va.va_mode = mode;
	error = folder ? VOP_MKDIR(parent, &vp, &cn, &va) :
	    VOP_CREATE(parent, &vp, &cn, &va);
	if (error == 0) {
		/* UFS makes no folder that is sticky. */
		error = change_mode(vp, mode);
		vput(vp);
	}
	return (error);
}

int
rvmrpc_os_file_create(const struct rvmrpc_file_place *place, bool folder,
    uint16_t mode, uint32_t *failed)
{
	struct change c;
	int error;

	error = change_folder(&c, place);
	if (error == 0) {
		error = change_create(c.vp, place->name, folder, mode);
		rvmrpc_vput_folder(c.vp);
		vn_finished_write(c.mp);
	}
	return (rvmrpc_files_status(error, failed));
}

static int
change_remove(struct vnode *parent, const char *name, bool folder)
{
	struct componentname cn;
	struct vnode *vp;
	int error;

	error = change_lookup(parent, name, DELETE, &cn, &vp);
	if (error != 0)
		return (error);
	if (change_is_mount_point(vp) || (vp->v_vflag & VV_ROOT) != 0)
		error = EXDEV;
	else if (folder)
		error = vp->v_type != VDIR ? ENOTDIR :
		    VOP_RMDIR(parent, vp, &cn);
	else
		error = vp->v_type == VDIR ? EISDIR :
		    VOP_REMOVE(parent, vp, &cn);
	vput(vp);
	return (error);
}

int
rvmrpc_os_file_remove(const struct rvmrpc_file_place *place, bool folder,
    uint32_t *failed)
{
	struct change c;
	int error;

	error = change_folder(&c, place);
	if (error == 0) {
		error = change_remove(c.vp, place->name, folder);
		change_end(&c);
	}
	return (rvmrpc_files_status(error, failed));
}

/* Whether one may take the other's name; EJUSTRETURN: they are one. */
static int
change_may_rename(const struct vnode *from, const struct vnode *to,
    const struct vnode *folder, bool keep)
{
	if (change_is_mount_point(from))
		return (EXDEV);
	if (from == folder)
		return (EINVAL);
	if (to == NULL)
		return (0);
	if (keep)
		return (EEXIST);
	if (change_is_mount_point(to))
		return (EXDEV);
	if (from == to)
		return (EJUSTRETURN);
	if (from->v_type == VDIR && to->v_type != VDIR)
		return (ENOTDIR);
	return (from->v_type != VDIR && to->v_type == VDIR ? EISDIR : 0);
}

/* Disposes of from, which is what old names in it, and not locked. */
static int
change_rename_to(struct vnode *from, struct vnode *vp,
    struct componentname *old, struct vnode *to, const char *name, bool keep)
{
	struct componentname cn;
	struct vnode *there = NULL;
	int error;

	vref(to);
	error = vn_lock(to, LK_EXCLUSIVE);
	if (error != 0)
		vrele(to);
	else {
		error = change_lookup(to, name, RENAME, &cn, &there);
		if (error == 0 || error == EJUSTRETURN) {
			error = change_may_rename(vp, there, to, keep);
			/* It unlocks, and gives up, all of them. */
			if (error == 0)
				return (VOP_RENAME(from, vp, old, to, there,
				    &cn));
		}
		if (there != NULL)
			vput(there);
		vput(to);
	}
	vrele(vp);
	vrele(from);
	return (error == EJUSTRETURN ? 0 : error);
}

/* Folders that are referenced, and not locked. */
static int
change_rename(struct vnode *from, const char *old, struct vnode *to,
    const char *new, bool keep)
{
	struct componentname cn;
	struct vnode *vp;
	int error;

	error = vn_lock(from, LK_EXCLUSIVE);
	if (error != 0)
		return (error);
	error = change_lookup(from, old, DELETE, &cn, &vp);
	if (error == 0)
		rvmrpc_vop_unlock(vp);
	rvmrpc_vop_unlock(from);
	if (error != 0)
		return (error);
	vref(from);
	return (change_rename_to(from, vp, &cn, to, new, keep));
}

int
rvmrpc_os_file_rename(const struct rvmrpc_file_place *from,
    const struct rvmrpc_file_place *to, bool keep, uint32_t *failed)
{
	struct change c;
	struct vnode *folder;
	int error;

	error = change_folder(&c, from);
	if (error != 0)
		return (rvmrpc_files_status(error, failed));
	rvmrpc_vop_unlock(c.vp);
	error = rvmrpc_files_find(&to->folder, true, &folder);
	if (error == 0) {
		rvmrpc_vop_unlock(folder);
		if (folder->v_type != VDIR)
			error = ENOTDIR;
		else if (folder->v_mount != c.vp->v_mount)
			*failed = RVMRPC_FAILED_OTHER_MOUNT;
		else
			error = change_rename(c.vp, from->name, folder,
			    to->name, keep);
		vrele(folder);
	}
	vrele(c.vp);
	vn_finished_write(c.mp);
	return (*failed != RVMRPC_FAILED_NOT ? RVMRPC_STATUS_OK :
	    rvmrpc_files_status(error, failed));
}
