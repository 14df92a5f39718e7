/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs from Linux 5.10 on for those who change files and folders.
 *
 * @parent: a folder, which for all but rvmrpc_create() mnt_want_write() holds writable (twice would be a deadlock with who
 * freezes it).  @name: of one component, neither "." nor "..".  Nothing is followed.
 */
#ifndef RVMRPC_COMPAT_DIRS_H
#define RVMRPC_COMPAT_DIRS_H

#include <linux/dcache.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/version.h>

/* A first argument that came with 5.12, and changed with 6.3. */
#if KERNEL_VERSION(6, 3, 0) <= LINUX_VERSION_CODE
#define RVMRPC_IDMAPPED(fn, path, ...)	((fn)(mnt_idmap((path)->mnt), __VA_ARGS__))
#elif KERNEL_VERSION(5, 12, 0) <= LINUX_VERSION_CODE
#define RVMRPC_IDMAPPED(fn, path, ...)	((fn)(mnt_user_ns((path)->mnt), __VA_ARGS__))
#else
#define RVMRPC_IDMAPPED(fn, path, ...)	((void)(path), (fn)(__VA_ARGS__))
#endif

/* And a last one that 6.19 added: whom to tell of delegations to break. Nobody: then they make it EWOULDBLOCK. */
#if KERNEL_VERSION(6, 19, 0) <= LINUX_VERSION_CODE
#define RVMRPC_DELEGATED(fn, path, ...)	RVMRPC_IDMAPPED(fn, path, __VA_ARGS__, NULL)
#else
#define RVMRPC_DELEGATED(fn, path, ...)	RVMRPC_IDMAPPED(fn, path, __VA_ARGS__)
#endif

/* A regular file that was not there. */
static inline struct file *rvmrpc_create(const struct path *parent, const char *name, umode_t mode)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_LARGEFILE;

#if KERNEL_VERSION(5, 13, 0) <= LINUX_VERSION_CODE
	return file_open_root(parent, name, flags, mode);
#else
	return file_open_root(parent->dentry, parent->mnt, name, flags, mode);
#endif
}

/* Under the inode's lock. */
static inline int rvmrpc_notify_change(const struct path *path, struct iattr *attr)
{
	return RVMRPC_IDMAPPED(notify_change, path, path->dentry, attr, NULL);
}

/* Since 6.19 the kernel locks and looks up itself; a name that is not there is ENOENT then. */
#if KERNEL_VERSION(6, 19, 0) <= LINUX_VERSION_CODE
static inline struct dentry *rvmrpc_start_creating(const struct path *parent, const char *name)
{
	return start_creating_noperm(parent->dentry, &QSTR(name));
}

/* The reference stays. */
static inline void rvmrpc_end_creating(const struct path *parent, struct dentry *dentry)
{
	end_creating_keep(dentry);
}

static inline struct dentry *rvmrpc_start_removing(const struct path *parent, const char *name)
{
	return start_removing_noperm(parent->dentry, &QSTR(name));
}

static inline void rvmrpc_end_removing(const struct path *parent, struct dentry *dentry)
{
	end_removing(dentry);
}
#else
static inline struct dentry *rvmrpc_lookup(const struct path *parent, const char *name)
{
#if KERNEL_VERSION(6, 16, 0) <= LINUX_VERSION_CODE
	return lookup_noperm(&QSTR(name), parent->dentry);
#else
	return lookup_one_len(name, parent->dentry, strlen(name));
#endif
}

static inline struct dentry *rvmrpc_start_creating(const struct path *parent, const char *name)
{
	struct dentry *dentry;

	inode_lock_nested(d_inode(parent->dentry), I_MUTEX_PARENT);
	dentry = rvmrpc_lookup(parent, name);
	if (IS_ERR(dentry))
		inode_unlock(d_inode(parent->dentry));
	return dentry;
}

/* The reference stays. */
static inline void rvmrpc_end_creating(const struct path *parent, struct dentry *dentry)
{
	inode_unlock(d_inode(parent->dentry));
}

static inline void rvmrpc_end_removing(const struct path *parent, struct dentry *dentry)
{
	inode_unlock(d_inode(parent->dentry));
	dput(dentry);
}

static inline struct dentry *rvmrpc_start_removing(const struct path *parent, const char *name)
{
	struct dentry *dentry = rvmrpc_start_creating(parent, name);

	if (IS_ERR(dentry) || d_is_positive(dentry))
		return dentry;
	rvmrpc_end_removing(parent, dentry);
	return ERR_PTR(-ENOENT);
}
#endif

/* A new folder; to be put.  Since 6.15 the call puts what it was given if it fails, and since 6.19 it unlocks, too. */
static inline struct dentry *rvmrpc_mkdir(const struct path *parent, const char *name, umode_t mode)
{
	struct dentry *dentry = rvmrpc_start_creating(parent, name);

	if (IS_ERR(dentry))
		return dentry;
#if KERNEL_VERSION(6, 15, 0) <= LINUX_VERSION_CODE
	dentry = RVMRPC_DELEGATED(vfs_mkdir, parent, d_inode(parent->dentry), dentry, mode);
#else
	{
		int err = RVMRPC_IDMAPPED(vfs_mkdir, parent, d_inode(parent->dentry), dentry, mode);

		if (err) {
			dput(dentry);
			dentry = ERR_PTR(err);
		}
	}
#endif
	rvmrpc_end_creating(parent, dentry);
	return dentry;
}

static inline int rvmrpc_unlink(const struct path *parent, struct dentry *dentry)
{
	return RVMRPC_IDMAPPED(vfs_unlink, parent, d_inode(parent->dentry), dentry, NULL);
}

static inline int rvmrpc_rmdir(const struct path *parent, struct dentry *dentry)
{
	return RVMRPC_DELEGATED(vfs_rmdir, parent, d_inode(parent->dentry), dentry);
}

/* From and to: folders of one mount; how: RENAME_*. */
static inline void rvmrpc_renamedata(struct renamedata *rd, const struct path *from, const struct path *to, unsigned int how)
{
	*rd = (struct renamedata){ .flags = how };
#if KERNEL_VERSION(6, 18, 0) <= LINUX_VERSION_CODE
	rd->mnt_idmap = mnt_idmap(from->mnt);
#elif KERNEL_VERSION(6, 3, 0) <= LINUX_VERSION_CODE
	rd->old_mnt_idmap = rd->new_mnt_idmap = mnt_idmap(from->mnt);
#elif KERNEL_VERSION(5, 12, 0) <= LINUX_VERSION_CODE
	rd->old_mnt_userns = rd->new_mnt_userns = mnt_user_ns(from->mnt);
#endif
#if KERNEL_VERSION(6, 17, 0) <= LINUX_VERSION_CODE
	rd->old_parent = from->dentry;
	rd->new_parent = to->dentry;
#else
	rd->old_dir = d_inode(from->dentry);
	rd->new_dir = d_inode(to->dentry);
#endif
}

/* 6.19 brought these, and took lock_rename() away. */
#if KERNEL_VERSION(6, 19, 0) <= LINUX_VERSION_CODE
static inline int rvmrpc_start_renaming(struct renamedata *rd, const struct path *from, const char *old,
					const struct path *to, const char *new)
{
	return start_renaming(rd, 0, &QSTR(old), &QSTR(new));
}

static inline void rvmrpc_end_renaming(struct renamedata *rd, const struct path *from, const struct path *to)
{
	end_renaming(rd);
}
#else
static inline void rvmrpc_end_renaming(struct renamedata *rd, const struct path *from, const struct path *to)
{
	unlock_rename(from->dentry, to->dentry);
	dput(rd->old_dentry);
	dput(rd->new_dentry);
}

/* What must not be: nothing to rename, a folder into itself, or over one that it is in. */
static inline int rvmrpc_renaming_error(const struct renamedata *rd, const struct dentry *trap)
{
	if (d_is_negative(rd->old_dentry))
		return -ENOENT;
	if (rd->old_dentry == trap)
		return -EINVAL;
	if (rd->new_dentry == trap)
		return -ENOTEMPTY;
	return (rd->flags & RENAME_NOREPLACE) && d_is_positive(rd->new_dentry) ? -EEXIST : 0;
}

static inline int rvmrpc_start_renaming(struct renamedata *rd, const struct path *from, const char *old,
					const struct path *to, const char *new)
{
	struct dentry *trap = lock_rename(from->dentry, to->dentry);
	int err;

	if (IS_ERR(trap))
		return PTR_ERR(trap);
	rd->old_dentry = rvmrpc_lookup(from, old);
	if (IS_ERR(rd->old_dentry)) {
		err = PTR_ERR(rd->old_dentry);
		unlock_rename(from->dentry, to->dentry);
		return err;
	}
	rd->new_dentry = rvmrpc_lookup(to, new);
	if (IS_ERR(rd->new_dentry)) {
		err = PTR_ERR(rd->new_dentry);
		rd->new_dentry = NULL;
	} else {
		err = rvmrpc_renaming_error(rd, trap);
	}
	if (err)
		rvmrpc_end_renaming(rd, from, to);
	return err;
}
#endif

#endif /* RVMRPC_COMPAT_DIRS_H */
