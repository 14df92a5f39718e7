/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module files: the walk from a tree to what a path means.
 *
 * One name after the other, each looked up in the folder that the last one
 * was, never by a path: what is renamed meanwhile cannot lead elsewhere.  ".."
 * is the folder that the walk came through, so there is none above the tree.
 * Links are read and walked here.  A mount point ends the walk: what is mounted
 * there may be anything, the rest of the guest among it.
 */
#include "files.h"
#include <sys/mount.h>
#include <sys/namei.h>
#include <sys/proc.h>
#include <sys/uio.h>
#include <sys/vnode.h>

#define	WALK_DEPTH_MAX	128	/* folders between a tree and a file */

struct files_walk {
	struct vnode	*folders[WALK_DEPTH_MAX]; /* referenced; 0: the tree */
	u_int		depth;		/* how many; the last is where it is */
	u_int		links;		/* that it went through */
	bool		root;		/* the tree is the guest's root */
	char		path[RVMRPC_FILES_PATH_MAX + 1];	/* the rest */
	char		link[RVMRPC_FILES_PATH_MAX];
};

/* ---- One step ---- */

/* As namei(9): not every file system takes shared locks. */
static int
walk_lock_flags(const struct mount *mp)
{
	const int shared = MNTK_LOOKUP_SHARED | MNTK_EXTENDED_SHARED;

	/* None: it is about to go, and the lock says so. */
	return (mp != NULL && (mp->mnt_kern_flag & shared) == shared ?
	    LK_SHARED : LK_EXCLUSIVE);
}

int
rvmrpc_files_lock(struct vnode *vp)
{
	return (vn_lock(vp, walk_lock_flags(vp->v_mount)));
}

int
rvmrpc_files_lookup(struct vnode *folder, const char *name, size_t length,
    struct vnode **found)
{
	struct componentname cn = {
		.cn_nameiop = LOOKUP,
		.cn_flags = ISLASTCN | LOCKLEAF | MAKEENTRY | NOFOLLOW,
		.cn_cred = curthread->td_ucred,
		.cn_nameptr = __DECONST(char *, name),
		.cn_namelen = length,
	};
	int error;

	if (length > NAME_MAX)
		return (ENAMETOOLONG);
	rvmrpc_cn_thread(&cn);
	error = rvmrpc_files_lock(folder);
	if (error != 0)
		return (error);
	cn.cn_lkflags = walk_lock_flags(folder->v_mount);
	error = VOP_LOOKUP(folder, found, &cn);
	if (error == 0 && *found == folder) {
		/* In itself: the file system is broken. */
		vrele(folder);
		error = ELOOP;
	}
	rvmrpc_vop_unlock(folder);
	return (error);
}

int
rvmrpc_files_readlink(struct vnode *vp, char *to, uint32_t *length)
{
	struct iovec iov = { .iov_base = to, .iov_len = RVMRPC_FILES_PATH_MAX };
	struct uio uio = {
		.uio_iov = &iov,
		.uio_iovcnt = 1,
		.uio_resid = RVMRPC_FILES_PATH_MAX,
		.uio_segflg = UIO_SYSSPACE,
		.uio_rw = UIO_READ,
		.uio_td = curthread,
	};
	int error;

	error = VOP_READLINK(vp, &uio, curthread->td_ucred);
	*length = RVMRPC_FILES_PATH_MAX - uio.uio_resid;
	return (error);
}

/* Bytes of the name at the beginning of a path. */
static size_t
walk_name(const char *path)
{
	size_t length = 0;

	while (path[length] != '\0' && path[length] != '/')
		length++;
	return (length);
}

/* ---- The tree ---- */

/* From what is covered, which is locked, to what covers it; *vpp is locked. */
static int
walk_cross(struct vnode **vpp)
{
	struct vnode *vp = *vpp;
	struct mount *mp;
	int error;

	while (vp->v_type == VDIR && (mp = vp->v_mountedhere) != NULL) {
		if (vfs_busy(mp, 0) != 0)
			continue;
		vput(vp);
		error = VFS_ROOT(mp, walk_lock_flags(mp), &vp);
		vfs_unbusy(mp);
		if (error != 0)
			return (error);
	}
	*vpp = vp;
	return (0);
}

/* devfs, fdescfs, procfs: they lead to what is elsewhere. */
static bool
walk_is_synthetic(const struct vnode *vp)
{
	return ((vp->v_mount->mnt_vfc->vfc_flags & VFCF_SYNTHETIC) != 0);
}

/*
 * The tree is the administrator's word and may be on any mount, but no link is
 * taken on the way to it: it would be who can write above it that says where
 * the tree is.  *tree: referenced.
 */
static int
walk_tree(const char *name, struct vnode **tree)
{
	struct vnode *folder = rootvnode, *vp;
	size_t length;
	int error = 0;

	/* A driver of the loader's is there before the root is mounted. */
	if (folder == NULL)
		return (EAGAIN);
	vref(folder);
	for (name++; *name != '\0' && error == 0; name += length) {
		name += *name == '/';
		length = walk_name(name);
		error = rvmrpc_files_lookup(folder, name, length, &vp);
		vrele(folder);
		if (error == 0)
			error = walk_cross(&vp);
		if (error != 0)
			return (error);
		if (vp->v_type == VLNK || walk_is_synthetic(vp))
			error = EXDEV;
		else if (vp->v_type != VDIR)
			error = ENOTDIR;
		rvmrpc_vop_unlock(vp);
		folder = vp;
	}
	if (error != 0)
		vrele(folder);
	*tree = folder;
	return (error);
}

/* ---- Below it ---- */

static void
walk_up(struct files_walk *walk, u_int depth)
{
	while (walk->depth > depth)
		vrele(walk->folders[--walk->depth]);
}

/* Goes on where the link vp, of which it disposes, says, and then with rest. */
static int
walk_link(struct files_walk *walk, struct vnode *vp, const char *rest)
{
	size_t behind = strlen(rest) + 1;
	uint32_t length = 0;
	int error = ELOOP;

	if (++walk->links <= MAXSYMLINKS)
		error = rvmrpc_files_readlink(vp, walk->link, &length);
	vput(vp);
	if (error != 0)
		return (error);
	if (length == 0)
		return (ENOENT);
	if (length + behind > sizeof(walk->path))
		return (ENAMETOOLONG);
	if (walk->link[0] == '/') {
		/* It means the guest's root, which is the tree or out of it. */
		if (!walk->root)
			return (EXDEV);
		walk_up(walk, 1);
	}
	memmove(walk->path + length, rest, behind);
	memcpy(walk->path, walk->link, length);
	return (0);
}

static int
walk_down(struct files_walk *walk, struct vnode *vp)
{
	int error = 0;

	if (vp->v_type != VDIR)
		error = ENOTDIR;
	else if (walk->depth == nitems(walk->folders))
		error = ENAMETOOLONG;
	if (error != 0) {
		vput(vp);
		return (error);
	}
	rvmrpc_vop_unlock(vp);
	walk->folders[walk->depth++] = vp;
	return (0);
}

/* True: it was no name; *error. */
static bool
walk_dots(struct files_walk *walk, const char *name, size_t length, int *error)
{
	if (name[0] != '.' || length > 2 || (length == 2 && name[1] != '.'))
		return (false);
	if (length == 2 && walk->depth > 1)
		walk_up(walk, walk->depth - 1);
	else if (length == 2 && !walk->root)
		*error = EXDEV;
	return (true);
}

/* The path ends in the folder where the walk is. */
static int
walk_here(struct files_walk *walk, struct vnode **found)
{
	struct vnode *vp = walk->folders[walk->depth - 1];
	int error = rvmrpc_files_lock(vp);

	if (error == 0) {
		vref(vp);
		*found = vp;
	}
	return (error);
}

static int
walk_path(struct files_walk *walk, bool follow, struct vnode **found)
{
	struct vnode *vp;
	char *at = walk->path;
	size_t length;
	int error = 0;

	while (error == 0) {
		at += strspn(at, "/");
		length = walk_name(at);
		if (length == 0)
			return (walk_here(walk, found));
		if (walk_dots(walk, at, length, &error)) {
			at += length;
			continue;
		}
		error = rvmrpc_files_lookup(walk->folders[walk->depth - 1], at,
		    length, &vp);
		if (error != 0)
			break;
		at += length;
		if (vp->v_type == VLNK && (follow || *at != '\0')) {
			error = walk_link(walk, vp, at);
			at = walk->path;
		} else if ((vp->v_type == VDIR || vp->v_type == VREG) &&
		    vp->v_mountedhere != NULL) {
			vput(vp);
			error = EXDEV;
		} else if (*at == '\0') {
			*found = vp;
			return (0);
		} else
			error = walk_down(walk, vp);
	}
	return (error);
}

int
rvmrpc_files_find(const struct rvmrpc_file_path *path, bool follow,
    struct vnode **found)
{
	struct files_walk *walk;
	int error;

	walk = malloc(sizeof(*walk), M_RVMRPC, M_NOWAIT);
	if (walk == NULL)
		return (ENOMEM);
	walk->depth = 0;
	walk->links = 0;
	walk->root = strcmp(path->tree, "/") == 0;
	strlcpy(walk->path, path->rest, sizeof(walk->path));
	error = walk_tree(path->tree, &walk->folders[0]);
	if (error == 0) {
		walk->depth = 1;
		error = walk_path(walk, follow, found);
	}
	walk_up(walk, 0);
	free(walk, M_RVMRPC);
	return (error);
}
