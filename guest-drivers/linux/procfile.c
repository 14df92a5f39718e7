// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of proc, read by the kernel's own VFS.
 *
 * The mount is our own: no container's view of /proc, no mount option and nothing that user space
 * mounts over a file comes between.  Opening goes through a kernel worker, so the files carry the
 * kernel's credentials and PID namespace and not those of whoever loaded the module.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/seq_file.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

static struct vfsmount *rvmrpc_proc;	/* fixed from init to exit */

/*
 * These have seq_read() as their only read function, which takes a user's pointer.  They are seq files
 * of the kernel proper, so the function below it does the same for a kernel's.
 */
static bool rvmrpc_is_seq_file(const char *path)
{
	static const char * const names[] = {
		"pressure/cpu", "pressure/io", "pressure/irq", "pressure/memory",
		"swaps", "1/net/dev", "1/net/snmp", "1/net/netstat", "1/net/sockstat",
	};

	return match_string(names, ARRAY_SIZE(names), path) >= 0;
}

static ssize_t rvmrpc_seq_read(struct file *file, char *buf, size_t size, loff_t *pos)
{
	struct kvec vec = { .iov_base = buf, .iov_len = size };
	struct iov_iter iter;
	struct kiocb kiocb;
	ssize_t got;

	init_sync_kiocb(&kiocb, file);
	kiocb.ki_pos = *pos;
	iov_iter_kvec(&iter, READ, &vec, 1, size);
	got = seq_read_iter(&kiocb, &iter);
	*pos = kiocb.ki_pos;
	return got;
}

/* Name by name: nothing is followed, be it a symbolic link, ".." or a mount. */
static struct dentry *rvmrpc_proc_lookup(const char *path)
{
	struct dentry *parent, *dentry = dget(rvmrpc_proc->mnt_root);
	size_t length;

	while (*path) {
		length = strcspn(path, "/");
		parent = dentry;
		dentry = d_can_lookup(parent) ? rvmrpc_lookup_positive(path, parent, length) :
						ERR_PTR(-ENOTDIR);
		dput(parent);
		if (IS_ERR(dentry))
			break;
		path += length;
		path += *path == '/';
	}
	return dentry;
}

/**
 * rvmrpc_proc_open() - open a file of proc
 * @path: below /proc, no symbolic link and no mount point in it
 * @flags: O_RDONLY or O_WRONLY, O_NONBLOCK
 *
 * Context: process context, may sleep.
 * Return: the file or an ERR_PTR(); -EINVAL for other than a regular file.
 */
struct file *rvmrpc_proc_open(const char *path, int flags)
{
	struct path found = { .mnt = rvmrpc_proc, .dentry = rvmrpc_proc_lookup(path) };
	struct file *file = ERR_PTR(-EINVAL);

	if (IS_ERR(found.dentry))
		return ERR_CAST(found.dentry);
	if (d_is_reg(found.dentry))
		file = dentry_open(&found, flags, current_cred());
	dput(found.dentry);
	return file;
}

/**
 * rvmrpc_proc_read() - read a file of proc
 * @file: from rvmrpc_proc_open()
 * @path: the same
 * @buf: kernel memory
 * @size: there
 * @pos: where in the file
 *
 * Return: bytes, at most @size; -EOPNOTSUPP for a file that only user space can read; -errno.
 */
ssize_t rvmrpc_proc_read(struct file *file, const char *path, char *buf, size_t size, loff_t pos)
{
	bool kernel = file->f_op->read_iter && !file->f_op->read;
	size_t done = 0;

	if (!kernel && !rvmrpc_is_seq_file(path))
		return -EOPNOTSUPP;
	while (done < size) {
		ssize_t got = kernel ? kernel_read(file, buf + done, size - done, &pos) :
				       rvmrpc_seq_read(file, buf + done, size - done, &pos);

		if (got < 0)
			return got;
		if (!got)
			break;
		done += got;
	}
	return done;
}

/* ---- Opened by a kernel worker ---- */

struct rvmrpc_proc_work {
	struct work_struct work;
	struct rvmrpc_procfile *pf;	/* NULL: mount */
	int err;
};

static void rvmrpc_proc_work(struct work_struct *work)
{
	struct rvmrpc_proc_work *pw = container_of(work, struct rvmrpc_proc_work, work);
	struct file_system_type *type;

	if (pw->pf) {
		pw->pf->file = rvmrpc_proc_open(pw->pf->path, O_RDONLY);
		pw->err = PTR_ERR_OR_ZERO(pw->pf->file);
		return;
	}
	type = get_fs_type("proc");
	if (!type) {
		pw->err = -ENODEV;
		return;
	}
	rvmrpc_proc = kern_mount(type);
	pw->err = PTR_ERR_OR_ZERO(rvmrpc_proc);
	module_put(type->owner);
}

static int rvmrpc_proc_do(struct rvmrpc_procfile *pf)
{
	struct workqueue_struct *wq = alloc_workqueue(KBUILD_MODNAME "_open", WQ_UNBOUND, 1);
	struct rvmrpc_proc_work pw = { .pf = pf };

	if (!wq)
		return -ENOMEM;
	INIT_WORK_ONSTACK(&pw.work, rvmrpc_proc_work);
	queue_work(wq, &pw.work);
	/* Which waits for it. */
	destroy_workqueue(wq);
	destroy_work_on_stack(&pw.work);
	return pw.err;
}

/*
 * Keeps a file open for readers that must not allocate: the first read gives the seq file its buffer.
 * buf: scratch for that read.  An optional file that is not there is no error.
 */
int rvmrpc_procfile_open(struct rvmrpc_procfile *pf, char *buf, size_t size)
{
	ssize_t got;
	int err;

	err = rvmrpc_proc_do(pf);
	if (err) {
		pf->file = NULL;
		if (pf->optional)
			return 0;
		pr_err("cannot open /proc/%s: %pe\n", pf->path, ERR_PTR(err));
		return err;
	}
	got = rvmrpc_proc_read(pf->file, pf->path, buf, size, 0);
	return got < 0 && !pf->optional ? got : 0;
}

void rvmrpc_procfile_close(struct rvmrpc_procfile *pf)
{
	if (pf->file)
		fput(pf->file);
	pf->file = NULL;
}

int rvmrpc_proc_init(void)
{
	int err = rvmrpc_proc_do(NULL);

	if (err)
		pr_err("cannot mount proc: %pe\n", ERR_PTR(err));
	return err;
}

void rvmrpc_proc_exit(void)
{
	kern_unmount(rvmrpc_proc);
}
