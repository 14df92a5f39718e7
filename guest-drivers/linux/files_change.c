// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module files: what is done to files below the trees of fs_write=.
 *
 * A folder is found as for reading, and what is done to a name is done in that folder, whatever the folder is called by
 * then; nothing is followed from there on.  Who can write into a tree must not have the host write elsewhere, or as root
 * for him: so a file that has another name, or is set-user-ID, is left alone.
 */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/stat.h>
#include <linux/uidgid.h>
#include "files.h"
#include "rvmrpc_compat_dirs.h"
#include "rvmrpc_os.h"

/* Who writes to a file system that is frozen waits for its end; who asks again does not keep a worker. */
static int change_frozen(const struct path *path)
{
	return READ_ONCE(path->dentry->d_sb->s_writers.frozen) == SB_UNFROZEN ? 0 : -EAGAIN;
}

/* 0 and @folder, to be put; or -errno. */
static int change_folder(const struct rvmrpc_file_place *place, struct path *folder)
{
	int err = rvmrpc_files_find(&place->folder, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, folder);

	if (err)
		return err;
	err = change_frozen(folder);
	if (err)
		path_put(folder);
	return err;
}

/* ---- Attributes ---- */

static int change_attributes(const struct path *path, struct iattr *attr)
{
	struct inode *inode = d_inode(path->dentry);
	int err = mnt_want_write(path->mnt);

	if (err)
		return err;
	inode_lock(inode);
	err = rvmrpc_notify_change(path, attr);
	inode_unlock(inode);
	mnt_drop_write(path->mnt);
	return err;
}

/* The kernel takes set-user-ID away for a new owner, but not in one call with a new mode. */
static int change_owner(const struct path *path, const struct rvmrpc_file_set_req *set)
{
	struct iattr attr = { .ia_valid = ATTR_CTIME };

	if (!d_is_dir(path->dentry))
		attr.ia_valid |= ATTR_KILL_SUID | ATTR_KILL_SGID | ATTR_KILL_PRIV;
	if (set->set & RVMRPC_FILE_SET_UID) {
		attr.ia_valid |= ATTR_UID;
		attr.ia_uid = make_kuid(&init_user_ns, set->uid);
	}
	if (set->set & RVMRPC_FILE_SET_GID) {
		attr.ia_valid |= ATTR_GID;
		attr.ia_gid = make_kgid(&init_user_ns, set->gid);
	}
	if ((attr.ia_valid & ATTR_UID && !uid_valid(attr.ia_uid)) || (attr.ia_valid & ATTR_GID && !gid_valid(attr.ia_gid)))
		return -EINVAL;
	return change_attributes(path, &attr);
}

static int change_mode(const struct path *path, umode_t mode)
{
	struct iattr attr = {
		.ia_valid = ATTR_MODE | ATTR_CTIME,
		.ia_mode = mode | (d_inode(path->dentry)->i_mode & ~S_IALLUGO),
	};

	return change_attributes(path, &attr);
}

static struct timespec64 change_time(u64 ns)
{
	return ns_to_timespec64((s64)ns);
}

static int change_times(const struct path *path, const struct rvmrpc_file_set_req *set)
{
	struct iattr attr = { .ia_valid = ATTR_CTIME };

	if (set->set & RVMRPC_FILE_SET_ACCESSED) {
		attr.ia_valid |= ATTR_ATIME;
		if (set->accessed_ns != RVMRPC_FILE_NOW)
			attr.ia_valid |= ATTR_ATIME_SET;
		attr.ia_atime = change_time(set->accessed_ns);
	}
	if (set->set & RVMRPC_FILE_SET_MODIFIED) {
		attr.ia_valid |= ATTR_MTIME;
		if (set->modified_ns != RVMRPC_FILE_NOW)
			attr.ia_valid |= ATTR_MTIME_SET;
		attr.ia_mtime = change_time(set->modified_ns);
	}
	return change_attributes(path, &attr);
}

/* ---- Files ---- */

/* Whether a regular file may be written: its permissions do not stop root, so what else would open() look at? */
static int change_may_write(const struct path *path)
{
	const struct inode *inode = d_inode(path->dentry);

	if (inode->i_nlink > 1 || inode->i_mode & S_ISUID || (inode->i_mode & (S_ISGID | 0010)) == (S_ISGID | 0010) ||
	    IS_APPEND(inode))
		return -EPERM;
	return path_permission(path, MAY_WRITE);
}

/* -ELOOP: it is neither a regular file nor, if these will do, a folder. */
static int change_find(const struct rvmrpc_file_path *path, bool folders, struct path *found)
{
	int err = rvmrpc_files_find(path, 0, found);

	if (err)
		return err;
	if (!d_is_reg(found->dentry) && !(folders && d_is_dir(found->dentry)))
		err = -ENOTSUPP;
	else
		err = change_frozen(found);
	if (err)
		path_put(found);
	return err;
}

/* The kernel has no error of that meaning. */
static int change_status(int err, u32 *failed)
{
	if (err != -ENOTSUPP)
		return rvmrpc_files_status(err, failed);
	*failed = RVMRPC_FAILED_NOT_REGULAR;
	return RVMRPC_STATUS_OK;
}

static int change_write(const struct path *path, u64 offset, const void *from, u32 *length)
{
	struct file *file;
	loff_t pos = offset;
	ssize_t put = 0;
	u32 done = 0;
	int err;

	err = change_may_write(path);
	if (err)
		return err;
	file = dentry_open(path, O_WRONLY | O_NONBLOCK | O_LARGEFILE, current_cred());
	if (IS_ERR(file))
		return PTR_ERR(file);
	while (done < *length) {
		put = kernel_write(file, (const char *)from + done, *length - done, &pos);
		if (put <= 0)
			break;
		done += put;
	}
	fput(file);
	*length = done;
	return done || !put ? 0 : put;
}

int rvmrpc_os_file_write(const struct rvmrpc_file_path *path, u64 offset, const void *from, u32 *length, u32 *failed)
{
	struct path found;
	int err;

	err = change_find(path, false, &found);
	if (!err) {
		err = change_write(&found, offset, from, length);
		path_put(&found);
	}
	return change_status(err, failed);
}

static int change_sync(const struct path *path)
{
	struct file *file = dentry_open(path, O_RDONLY | O_NONBLOCK | O_NOATIME | O_LARGEFILE, current_cred());
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);
	err = vfs_fsync(file, 0);
	fput(file);
	/* It has no disk. */
	return err == -EINVAL ? 0 : err;
}

int rvmrpc_os_file_sync(const struct rvmrpc_file_path *path, u32 *failed)
{
	struct path found;
	int err;

	err = change_find(path, true, &found);
	if (!err) {
		err = change_sync(&found);
		path_put(&found);
	}
	return change_status(err, failed);
}

static int change_size(const struct path *path, u64 size)
{
	int err;

	if (d_is_dir(path->dentry))
		return -EISDIR;
	err = change_may_write(path);
	return err ?: vfs_truncate(path, size);
}

static int change_set(const struct path *path, const struct rvmrpc_file_set_req *set)
{
	int err = 0;

	if (!d_is_dir(path->dentry) && d_inode(path->dentry)->i_nlink > 1)
		return -EPERM;
	if (set->set & RVMRPC_FILE_SET_SIZE)
		err = change_size(path, set->size);
	if (!err && set->set & (RVMRPC_FILE_SET_UID | RVMRPC_FILE_SET_GID))
		err = change_owner(path, set);
	if (!err && set->set & RVMRPC_FILE_SET_MODE)
		err = change_mode(path, set->mode);
	if (!err && set->set & (RVMRPC_FILE_SET_ACCESSED | RVMRPC_FILE_SET_MODIFIED))
		err = change_times(path, set);
	return err;
}

int rvmrpc_os_file_set(const struct rvmrpc_file_path *path, const struct rvmrpc_file_set_req *set, u32 *failed)
{
	struct path found;
	int err;

	err = change_find(path, true, &found);
	if (!err) {
		err = change_set(&found, set);
		path_put(&found);
	}
	return change_status(err, failed);
}

/* ---- Names ---- */

/* The mode that was wanted, without what a kernel thread's umask took, where the file system has modes. */
static void change_made(const struct path *path, u16 mode)
{
	const umode_t now = d_inode(path->dentry)->i_mode;

	/* A folder may have its group from the one that it is in. */
	if ((now & RVMRPC_FILE_MODES) != mode)
		change_mode(path, mode | (now & S_ISGID));
}

static int change_create(const struct path *folder, const char *name, u16 mode)
{
	struct file *file = rvmrpc_create(folder, name, mode);

	if (IS_ERR(file))
		return PTR_ERR(file);
	change_made(&file->f_path, mode);
	fput(file);
	return 0;
}

static int change_mkdir(const struct path *folder, const char *name, u16 mode)
{
	struct path made = { .mnt = folder->mnt };
	int err = mnt_want_write(folder->mnt);

	if (err)
		return err;
	made.dentry = rvmrpc_mkdir(folder, name, mode);
	mnt_drop_write(folder->mnt);
	if (IS_ERR(made.dentry))
		return PTR_ERR(made.dentry);
	/* Some file systems look it up anew only when it is asked for. */
	if (d_is_positive(made.dentry))
		change_made(&made, mode);
	dput(made.dentry);
	return 0;
}

int rvmrpc_os_file_create(const struct rvmrpc_file_place *place, bool folder, u16 mode, u32 *failed)
{
	struct path parent;
	int err;

	err = change_folder(place, &parent);
	if (!err) {
		err = folder ? change_mkdir(&parent, place->name, mode) : change_create(&parent, place->name, mode);
		path_put(&parent);
	}
	return rvmrpc_files_status(err, failed);
}

static int change_remove(const struct path *parent, const char *name, bool folder)
{
	struct dentry *dentry = rvmrpc_start_removing(parent, name);
	struct inode *inode = NULL;
	int err = -EXDEV;

	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	if (!d_mountpoint(dentry)) {
		/* Its blocks are given back when nobody waits for the folder any more. */
		inode = d_inode(dentry);
		ihold(inode);
		err = folder ? rvmrpc_rmdir(parent, dentry) : rvmrpc_unlink(parent, dentry);
	}
	rvmrpc_end_removing(parent, dentry);
	iput(inode);
	return err;
}

int rvmrpc_os_file_remove(const struct rvmrpc_file_place *place, bool folder, u32 *failed)
{
	struct path parent;
	int err;

	err = change_folder(place, &parent);
	if (err)
		return rvmrpc_files_status(err, failed);
	err = mnt_want_write(parent.mnt);
	if (!err) {
		err = change_remove(&parent, place->name, folder);
		mnt_drop_write(parent.mnt);
	}
	path_put(&parent);
	return rvmrpc_files_status(err, failed);
}

static int change_rename(const struct path *from, const char *old, const struct path *to, const char *new, bool keep)
{
	struct renamedata rd;
	int err;

	rvmrpc_renamedata(&rd, from, to, keep ? RENAME_NOREPLACE : 0);
	err = rvmrpc_start_renaming(&rd, from, old, to, new);
	if (err)
		return err;
	err = d_mountpoint(rd.old_dentry) || d_mountpoint(rd.new_dentry) ? -EXDEV : vfs_rename(&rd);
	rvmrpc_end_renaming(&rd, from, to);
	return err;
}

static int change_rename_writable(const struct path *from, const char *old, const struct path *to, const char *new,
				  bool keep)
{
	int err = mnt_want_write(from->mnt);

	if (err)
		return err;
	err = change_rename(from, old, to, new, keep);
	mnt_drop_write(from->mnt);
	return err;
}

int rvmrpc_os_file_rename(const struct rvmrpc_file_place *from, const struct rvmrpc_file_place *to, bool keep, u32 *failed)
{
	struct path old, new;
	int err;

	err = change_folder(from, &old);
	if (err)
		return rvmrpc_files_status(err, failed);
	err = change_folder(to, &new);
	if (!err) {
		if (old.mnt == new.mnt)
			err = change_rename_writable(&old, from->name, &new, to->name, keep);
		else
			*failed = RVMRPC_FAILED_OTHER_MOUNT;
		path_put(&new);
	}
	path_put(&old);
	return *failed ? RVMRPC_STATUS_OK : rvmrpc_files_status(err, failed);
}
