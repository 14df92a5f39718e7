// SPDX-License-Identifier: GPL-2.0-only
/*
 * The benchmark's module of the guest: what the limit of a call is made of, timed where the server runs.
 *
 * /sys/kernel/debug/rvmrpc_bench/
 *	run		write "null N" (a null hypercall on this CPU) or "memcpy N BYTES"
 *	samples		ns of each, one line
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/cpufeature.h>
#include "rvmrpc_abi.h"

#define SAMPLES_MAX	1000
#define LINE_MAX	(SAMPLES_MAX * 12)

static DEFINE_MUTEX(lock);
static u64 samples[SAMPLES_MAX];	/* lock, as all below */
static unsigned int nsamples;
static char line[LINE_MAX];
static char *from, *to;			/* SZ_1M each */
static struct dentry *dir;

static u64 null_hypercall(void)
{
	u64 rax = RVMRPC_HYPERCALL_NR;

	if (boot_cpu_has(X86_FEATURE_VMMCALL))
		asm volatile("vmmcall" : "+a" (rax) : "b" ((u64)RVMRPC_OP_NULL), "c" (0), "d" (0), "S" (0)
			     : "memory", "cc");
	else
		asm volatile("vmcall" : "+a" (rax) : "b" ((u64)RVMRPC_OP_NULL), "c" (0), "d" (0), "S" (0)
			     : "memory", "cc");
	return rax;
}

static int time_nulls(unsigned int n)
{
	unsigned int i;
	u64 start;

	for (i = 0; i < n; i++) {
		start = ktime_get_ns();
		if (null_hypercall() != RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER))
			return -EIO;
		samples[i] = ktime_get_ns() - start;
	}
	return 0;
}

static int time_memcpy(unsigned int n, unsigned int bytes)
{
	unsigned int i;
	u64 start;

	if (bytes > SZ_1M)
		return -EINVAL;
	for (i = 0; i < n; i++) {
		start = ktime_get_ns();
		memcpy(to, from, bytes);
		barrier_data(to);
		samples[i] = ktime_get_ns() - start;
		cond_resched();
	}
	return 0;
}

static ssize_t run_write(struct file *file, const char __user *user, size_t bytes, loff_t *pos)
{
	unsigned int n = 0, size = 0;
	char text[64], what[16];
	int err = -EINVAL;

	if (bytes >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, bytes))
		return -EFAULT;
	text[bytes] = 0;
	if (sscanf(text, "%15s %u %u", what, &n, &size) < 2 || n > SAMPLES_MAX)
		return -EINVAL;
	mutex_lock(&lock);
	if (!strcmp(what, "null"))
		err = time_nulls(n);
	else if (!strcmp(what, "memcpy"))
		err = time_memcpy(n, size);
	nsamples = err ? 0 : n;
	mutex_unlock(&lock);
	return err ?: bytes;
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.write = run_write,
};

static ssize_t samples_read(struct file *file, char __user *user, size_t bytes, loff_t *pos)
{
	unsigned int i;
	int length = 0;
	ssize_t done;

	mutex_lock(&lock);
	for (i = 0; i < nsamples; i++)
		length += scnprintf(line + length, LINE_MAX - length, "%llu%c", samples[i],
				    i + 1 == nsamples ? '\n' : ' ');
	done = simple_read_from_buffer(user, bytes, pos, line, length);
	mutex_unlock(&lock);
	return done;
}

static const struct file_operations samples_fops = {
	.owner = THIS_MODULE,
	.read = samples_read,
};

static int __init bench_init(void)
{
	from = vzalloc(SZ_1M);
	to = vzalloc(SZ_1M);
	if (!from || !to) {
		vfree(from);
		vfree(to);
		return -ENOMEM;
	}
	dir = debugfs_create_dir("rvmrpc_bench", NULL);
	debugfs_create_file("run", 0200, dir, NULL, &run_fops);
	debugfs_create_file("samples", 0400, dir, NULL, &samples_fops);
	return 0;
}

static void __exit bench_exit(void)
{
	debugfs_remove(dir);
	vfree(from);
	vfree(to);
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_DESCRIPTION("Reverse VMRPC benchmark: null hypercalls and memcpy of a guest");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
