/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module files: files below the trees of fs_allow, read as the guest's root
 * would.  files_change.c has what is done to those below fs_write.
 */
#include "files.h"
#include <sys/dirent.h>
#include <sys/fcntl.h>
#include <sys/hash.h>
#include <sys/mount.h>
#include <sys/proc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vnode.h>

#define	FILES_NAMES_MAX	32768	/* bytes of entries at a time */

/* Short. */
static struct mtx files_mtx;
MTX_SYSINIT(rvmrpc_files, &files_mtx, "rvmrpc files", MTX_DEF);
static struct rvmrpc_trees files_trees;	/* files_mtx, as the next */
static struct rvmrpc_trees files_write_trees;
CTASSERT(RVMRPC_TREES_MAX <= RVMRPC_ALLOW_MAX);
/* That run, of all epochs; files_mtx, as the next. */
static const struct rvmrpc_file_path *files_calls[RVMRPC_SLOTS_MAX];
static u_int files_calls_max = 1;	/* of one tree */

void *
rvmrpc_os_file_alloc(size_t bytes)
{
	return (malloc(bytes, M_RVMRPC, M_NOWAIT));
}

void
rvmrpc_os_file_free(void *scratch)
{
	free(scratch, M_RVMRPC);
}

int
rvmrpc_os_file_split(const char *path, uint32_t length, bool write,
    struct rvmrpc_file_path *parts)
{
	int status;

	mtx_lock(&files_mtx);
	status = rvmrpc_trees_split(&files_trees, path, length, parts);
	if (status == RVMRPC_STATUS_OK)
		parts->key = hash32_str(parts->tree, HASHINIT);
	if (status == RVMRPC_STATUS_OK && write)
		status = rvmrpc_trees_split(&files_write_trees, path, length,
		    parts);
	mtx_unlock(&files_mtx);
	return (status);
}

/*
 * A new epoch has so many workers.  A tree is one file system, since no mount
 * is entered: one that hangs must leave a worker to the others.
 */
void
rvmrpc_files_epoch(u_int workers)
{
	mtx_lock(&files_mtx);
	files_calls_max = MAX(workers, 2) - 1;
	mtx_unlock(&files_mtx);
}

int
rvmrpc_os_file_enter(const struct rvmrpc_file_path *path)
{
	const struct rvmrpc_file_path **place = NULL;
	u_int i, n = 0;

	mtx_lock(&files_mtx);
	for (i = 0; i < nitems(files_calls); i++)
		if (files_calls[i] == NULL)
			place = &files_calls[i];
		else if (files_calls[i]->key == path->key)
			n++;
	if (place != NULL && n < files_calls_max)
		*place = path;
	else
		place = NULL;
	mtx_unlock(&files_mtx);
	return (place != NULL ? RVMRPC_STATUS_OK : RVMRPC_STATUS_BUSY);
}

void
rvmrpc_os_file_leave(const struct rvmrpc_file_path *path)
{
	u_int i;

	mtx_lock(&files_mtx);
	for (i = 0; i < nitems(files_calls); i++)
		if (files_calls[i] == path)
			files_calls[i] = NULL;
	mtx_unlock(&files_mtx);
}

int
rvmrpc_files_status(int error, uint32_t *failed)
{
	*failed = RVMRPC_FAILED_NOT;
	switch (error) {
	case 0:
		break;
	case EXDEV:
		return (RVMRPC_STATUS_NOT_ALLOWED);
	case ENOMEM:
	case EAGAIN:
	case ERELOOKUP:
		return (RVMRPC_STATUS_BUSY);
	case ENOENT:
		*failed = RVMRPC_FAILED_NOT_FOUND;
		break;
	case ENOTDIR:
		*failed = RVMRPC_FAILED_NOT_DIRECTORY;
		break;
	case ELOOP:
		*failed = RVMRPC_FAILED_LOOP;
		break;
	case ENAMETOOLONG:
		*failed = RVMRPC_FAILED_TOO_LONG;
		break;
	case EACCES:
	case EPERM:
	case ETXTBSY:
		*failed = RVMRPC_FAILED_ACCESS;
		break;
	case EFTYPE:
		*failed = RVMRPC_FAILED_NOT_REGULAR;
		break;
	case EEXIST:
		*failed = RVMRPC_FAILED_EXISTS;
		break;
	case ENOTEMPTY:
		*failed = RVMRPC_FAILED_NOT_EMPTY;
		break;
	case EISDIR:
		*failed = RVMRPC_FAILED_IS_DIRECTORY;
		break;
	case ENOSPC:
	case EDQUOT:
		*failed = RVMRPC_FAILED_NO_SPACE;
		break;
	case EROFS:
		*failed = RVMRPC_FAILED_READ_ONLY;
		break;
	case EFBIG:
		*failed = RVMRPC_FAILED_TOO_LARGE;
		break;
	default:
		*failed = RVMRPC_FAILED_IO;
	}
	return (RVMRPC_STATUS_OK);
}

/* ---- Attributes ---- */

static uint64_t
files_ns(const struct timespec *ts)
{
	return ((uint64_t)ts->tv_sec * 1000000000 + ts->tv_nsec);
}

/* vp is locked. */
static int
files_attributes(struct vnode *vp, struct rvmrpc_file_attributes *a)
{
	struct vattr va;
	int error;

	error = VOP_GETATTR(vp, &va, curthread->td_ucred);
	if (error != 0)
		return (error);
	*a = (struct rvmrpc_file_attributes) {
		.mode = MAKEIMODE(va.va_type, va.va_mode),
		.size = va.va_size,
		.allocated = va.va_bytes,
		.inode = va.va_fileid,
		.links = va.va_nlink,
		.uid = va.va_uid,
		.gid = va.va_gid,
		.accessed_ns = files_ns(&va.va_atime),
		.modified_ns = files_ns(&va.va_mtime),
		.changed_ns = files_ns(&va.va_ctime),
	};
	if (va.va_type == VBLK || va.va_type == VCHR)
		a->device = (uint64_t)major(va.va_rdev) << 32 |
		    (uint32_t)minor(va.va_rdev);
	return (0);
}

int
rvmrpc_os_file_stat(const struct rvmrpc_file_path *path,
    struct rvmrpc_file_attributes *a, char *link, uint32_t *link_length,
    uint32_t *failed)
{
	struct vnode *vp;
	int error;

	error = rvmrpc_files_find(path, link == NULL, &vp);
	if (error != 0)
		return (rvmrpc_files_status(error, failed));
	error = files_attributes(vp, a);
	if (error == 0 && link != NULL && vp->v_type == VLNK)
		error = rvmrpc_files_readlink(vp, link, link_length);
	vput(vp);
	return (rvmrpc_files_status(error, failed));
}

/* Of the mount that vp, of which it disposes, is on. */
static int
files_statfs(struct vnode *vp, struct statfs *st)
{
	struct mount *mp = vp->v_mount;
	int error;

	vfs_ref(mp);
	vput(vp);
	error = vfs_busy(mp, 0);
	vfs_rel(mp);
	if (error != 0)
		return (error);
	*st = mp->mnt_stat;
	error = VFS_STATFS(mp, st);
	vfs_unbusy(mp);
	return (error);
}

int
rvmrpc_os_file_space(const struct rvmrpc_file_path *path,
    struct rvmrpc_file_space *space, uint32_t *failed)
{
	struct statfs *st;
	struct vnode *vp;
	int error;

	st = rvmrpc_os_file_alloc(sizeof(*st));
	if (st == NULL)
		return (RVMRPC_STATUS_BUSY);
	error = rvmrpc_files_find(path, true, &vp);
	if (error == 0)
		error = files_statfs(vp, st);
	if (error == 0)
		*space = (struct rvmrpc_file_space) {
			.size = st->f_blocks * st->f_bsize,
			.free = st->f_bfree * st->f_bsize,
			/* Less than none where root took of the reserve. */
			.available = MAX(st->f_bavail, 0) * st->f_bsize,
			.files = st->f_files,
			.files_free = MAX(st->f_ffree, 0),
		};
	rvmrpc_os_file_free(st);
	return (rvmrpc_files_status(error, failed));
}

/* ---- Folders ---- */

/* Names first: looking at a folder's files takes its lock anew. */
struct files_names {
	uint64_t	next;		/* cursor behind them */
	bool		end;		/* there are no more */
	uint32_t	used;		/* bytes of entries */
	rvmrpc_cookie_t	*cookies;	/* behind each entry; M_TEMP */
	int		count;		/* of them */
	char		entries[FILES_NAMES_MAX] __aligned(8);
};

/* The folder is locked. */
static int
files_read_names(struct vnode *folder, uint64_t cursor,
    struct files_names *names)
{
	struct iovec iov = {
		.iov_base = names->entries,
		.iov_len = sizeof(names->entries),
	};
	struct uio uio = {
		.uio_iov = &iov,
		.uio_iovcnt = 1,
		.uio_offset = cursor,
		.uio_resid = sizeof(names->entries),
		.uio_segflg = UIO_SYSSPACE,
		.uio_rw = UIO_READ,
		.uio_td = curthread,
	};
	int eof = 0, error;

	if (folder->v_type != VDIR)
		return (ENOTDIR);
	names->cookies = NULL;
	names->count = 0;
	error = VOP_READDIR(folder, &uio, curthread->td_ucred, &eof,
	    &names->count, &names->cookies);
	if (error != 0)
		return (error);
	names->used = sizeof(names->entries) - uio.uio_resid;
	names->next = uio.uio_offset;
	names->end = eof != 0 || names->used == 0;
	/* A file system that does not say where its entries are. */
	if (names->used != 0 && names->cookies == NULL)
		return (EOPNOTSUPP);
	return (0);
}

static bool
files_is_entry(const struct dirent *d)
{
	if (d->d_fileno == 0 || d->d_type == DT_WHT)
		return (false);
	return (d->d_name[0] != '.' || d->d_namlen > 2 ||
	    (d->d_namlen == 2 && d->d_name[1] != '.'));
}

/*
 * False: the answer has ended, as it says.  What went away meanwhile is left
 * out; a mount point is what it covers.
 */
static bool
files_entry(struct vnode *folder, struct rvmrpc_record_writer *w,
    const struct dirent *d, uint64_t cursor)
{
	struct rvmrpc_file_attributes a;
	struct vnode *vp;
	int error;

	error = rvmrpc_files_lookup(folder, d->d_name, d->d_namlen, &vp);
	if (error == 0) {
		error = files_attributes(vp, &a);
		vput(vp);
	} else if (error == ENOENT)
		return (true);
	if (error != 0) {
		rvmrpc_records_partial(w);
		return (true);
	}
	rvmrpc_file_record(w, d->d_name, d->d_namlen, &a);
	return (rvmrpc_record_end(w, cursor));
}

static void
files_entries(struct vnode *folder, struct rvmrpc_record_writer *w,
    const struct files_names *names, sbintime_t deadline)
{
	uint64_t cursor = w->wanted.cursor;
	const struct dirent *d;
	uint32_t at;
	int i;

	for (at = i = 0; at < names->used && i < names->count; i++) {
		d = (const struct dirent *)(names->entries + at);
		if (at != 0 && sbinuptime() >= deadline) {
			rvmrpc_records_more(w, cursor);
			return;
		}
		if (files_is_entry(d) && !files_entry(folder, w, d, cursor))
			return;
		cursor = names->cookies[i];
		at += d->d_reclen;
	}
	if (!names->end)
		rvmrpc_records_more(w, names->next);
}

int
rvmrpc_os_file_list(const struct rvmrpc_file_path *path,
    struct rvmrpc_record_writer *w, uint32_t ms, uint32_t *failed)
{
	sbintime_t deadline = sbinuptime() + ms * SBT_1MS;
	struct files_names *names;
	struct vnode *folder;
	int error;

	names = rvmrpc_os_file_alloc(sizeof(*names));
	if (names == NULL)
		return (RVMRPC_STATUS_BUSY);
	names->cookies = NULL;
	error = rvmrpc_files_find(path, true, &folder);
	if (error == 0) {
		error = files_read_names(folder, w->wanted.cursor, names);
		rvmrpc_vop_unlock(folder);
		if (error == 0)
			files_entries(folder, w, names, deadline);
		vrele(folder);
	}
	free(names->cookies, M_TEMP);
	rvmrpc_os_file_free(names);
	return (rvmrpc_files_status(error, failed));
}

/* ---- Reading ---- */

/* vp is locked, and is not meanwhile. */
static int
files_read(struct vnode *vp, uint64_t offset, void *to, uint32_t *length)
{
	struct ucred *cred = curthread->td_ucred;
	ssize_t left = 0;
	int error;

	error = vn_open_vnode(vp, FREAD, cred, curthread, NULL);
	if (error != 0)
		return (error);
	rvmrpc_vop_unlock(vp);
	/* Who writes has the range, and waits so while it is frozen. */
	error = vn_rdwr(UIO_READ, vp, to, *length, offset, UIO_SYSSPACE,
	    IO_RANGELOCKED, cred, NOCRED, &left, curthread);
	*length -= left;
	/* vn_close() would wait while the file system is frozen. */
	vn_lock(vp, LK_EXCLUSIVE | LK_RETRY);
	VOP_CLOSE(vp, FREAD, cred, curthread);
	return (error);
}

int
rvmrpc_os_file_read(const struct rvmrpc_file_path *path, uint64_t offset,
    const struct rvmrpc_response *res, uint32_t at, uint32_t *length,
    struct rvmrpc_file_attributes *a, uint32_t *failed)
{
	struct vnode *vp;
	int error;

	error = rvmrpc_files_find(path, true, &vp);
	if (error != 0)
		return (rvmrpc_files_status(error, failed));
	if (vp->v_type != VREG) {
		vput(vp);
		*failed = RVMRPC_FAILED_NOT_REGULAR;
		return (RVMRPC_STATUS_OK);
	}
	error = files_attributes(vp, a);
	if (error == 0)
		error = files_read(vp, offset, (char *)res->res + at, length);
	vput(vp);
	return (rvmrpc_files_status(error, failed));
}

/* ---- fs_allow, fs_write ---- */

static int
files_trees_set(struct rvmrpc_trees *trees, const char *name, const char *text)
{
	uint32_t bad = 0;
	int status;

	mtx_lock(&files_mtx);
	status = rvmrpc_trees_set(trees, text, &bad);
	mtx_unlock(&files_mtx);
	if (status == RVMRPC_STATUS_GARBAGE_ARGS)
		printf("rvmrpc: %s: no absolute path of a folder from byte %u "
		    "on\n", name, bad);
	return (rvmrpc_status_errno(status));
}

static void
files_trees_get(const struct rvmrpc_trees *trees, char *text)
{
	mtx_lock(&files_mtx);
	strlcpy(text, trees->text, RVMRPC_ALLOW_MAX);
	mtx_unlock(&files_mtx);
}

int
rvmrpc_fs_allow_set(const char *text)
{
	return (files_trees_set(&files_trees, "fs_allow", text));
}

void
rvmrpc_fs_allow_get(char *text)
{
	files_trees_get(&files_trees, text);
}

int
rvmrpc_fs_write_set(const char *text)
{
	return (files_trees_set(&files_write_trees, "fs_write", text));
}

void
rvmrpc_fs_write_get(char *text)
{
	files_trees_get(&files_write_trees, text);
}

int
rvmrpc_mod_files_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_files_module));
}

void
rvmrpc_mod_files_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_files_module);
}
