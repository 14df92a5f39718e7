// SPDX-License-Identifier: GPL-2.0-only
/*
 * The benchmark's host LKM: calls into a guest, timed in the kernel, and the wake ping-pong that is part of their limit.
 *
 * /sys/kernel/debug/rvmrpc_bench/
 *	run		write a command; it runs in the writer's thread, on the CPUs that this may use
 *			"null N", "meminfo N", "procfs N" (the file opened, read and closed), "echo N BYTES"
 *			"lone N MS" (null calls, each after both sides slept for so long)
 *			"pingpong N CPU" (a completion to a thread on that CPU, and one back)
 *			"spin N CPU" (N blocks of 32: two cache lines, to a thread on that CPU and back)
 *			"burst N" (N blocks of 32 null calls without copies)
 *			"refused N", "clock N" (N blocks of 32, of it: a call that the guest never hears of, and to
 *			read the clock)
 *			"held N BYTES" (echo calls without copies)
 *			"flood MS THREADS VMS" (null calls of that many threads; samples: ns, calls)
 *	samples		ns of each, u64
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rvmrpc.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "rvmrpc_abi.h"

#define SAMPLES_MAX	20000
#define VMS_MAX		8
#define THREADS_MAX	64
#define TIMEOUT_MS	10000
#define ECHO_MAX	(RVMRPC_SLOT_BYTES_MAX - (u32)sizeof(struct rvmrpc_hdr))

static DEFINE_MUTEX(lock);
static u64 *samples;			/* lock, as all below */
static unsigned int nsamples;
static u8 *sent, *got;			/* ECHO_MAX each */
static struct rvmrpc_vm *vms[VMS_MAX];
static unsigned int nvms;
static struct dentry *dir;

static void vms_find(void)
{
	struct rvmrpc_vm *vm;

	nvms = 0;
	for (vm = rvmrpc_vm_next(NULL); vm; vm = rvmrpc_vm_next(vm)) {
		if (nvms < VMS_MAX && rvmrpc_vm_connected(vm))
			vms[nvms++] = rvmrpc_vm_get(vm);
	}
}

static void vms_put(void)
{
	while (nvms)
		rvmrpc_vm_put(vms[--nvms]);
}

/* ---- One call after another ---- */

struct call {
	u32 module;
	u32 procedure;
	u32 arglen;
	u32 res_max;
};

static int time_calls(const struct call *c, unsigned int n, unsigned int pause_ms)
{
	unsigned int i;
	ssize_t ret;
	u64 start;

	if (!nvms)
		return -ENODEV;
	for (i = 0; i < n; i++) {
		if (pause_ms)
			msleep(pause_ms);
		start = ktime_get_ns();
		ret = rvmrpc_call_vm(vms[0], c->module, c->procedure, sent, c->arglen, got, c->res_max, TIMEOUT_MS);
		if (ret < 0)
			return ret;
		samples[i] = ktime_get_ns() - start;
	}
	nsamples = n;
	return 0;
}

static int time_procfs(unsigned int n)
{
	static const char path[] = "/proc/meminfo";
	const struct call c = { RVMRPC_MOD_PROCFS, RVMRPC_PROCFS_READ, sizeof(path) - 1, SZ_16K };

	memcpy(sent, path, sizeof(path) - 1);
	return time_calls(&c, n, 0);
}

/* ---- Without copies, and two threads that spin ---- */

#define BLOCK	32

static int time_held(u32 module, u32 procedure, unsigned int n, u32 bytes, unsigned int block)
{
	struct rvmrpc_held *h;
	unsigned int i, j;
	ssize_t ret = 0;
	u64 start;

	if (!nvms)
		return -ENODEV;
	h = rvmrpc_call_begin(vms[0]);
	if (IS_ERR(h))
		return PTR_ERR(h);
	if (bytes > h->req_bytes)
		ret = -EINVAL;
	for (i = 0; i < n && ret >= 0; i++) {
		start = ktime_get_ns();
		for (j = 0; j < block && ret >= 0; j++)
			ret = rvmrpc_call_run(h, module, procedure, bytes, TIMEOUT_MS);
		samples[i] = (ktime_get_ns() - start) / block;
	}
	nsamples = i;
	rvmrpc_call_end(h);
	return ret < 0 ? ret : 0;
}

/* What is refused before the guest hears of it: about half of what the host does for a call. */
static int time_refused(unsigned int n)
{
	struct rvmrpc_held *h = nvms ? rvmrpc_call_begin(vms[0]) : ERR_PTR(-ENODEV);
	unsigned int i, j;
	u64 start;

	if (IS_ERR(h))
		return PTR_ERR(h);
	for (i = 0; i < n; i++) {
		start = ktime_get_ns();
		for (j = 0; j < BLOCK; j++)
			rvmrpc_call_run(h, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, h->req_bytes + 1, TIMEOUT_MS);
		samples[i] = (ktime_get_ns() - start) / BLOCK;
	}
	nsamples = i;
	rvmrpc_call_end(h);
	return 0;
}

static int time_clock(unsigned int n)
{
	unsigned int i, j;
	u64 start;

	for (i = 0; i < n; i++) {
		start = ktime_get_ns();
		for (j = 0; j < BLOCK; j++)
			ktime_get_ns();
		samples[i] = (ktime_get_ns() - start) / BLOCK;
	}
	nsamples = i;
	return 0;
}

/* The parts that two CPUs write lie on lines of their own. */
struct lines {
	u32 ball __aligned(128);
	u32 back __aligned(128);
	unsigned int n;
};

static int spin_partner(void *data)
{
	struct lines *l = data;
	u32 i;

	for (i = 1; i <= l->n; i++) {
		/* Pairs with the release of the ball, */
		while (smp_load_acquire(&l->ball) != i)
			;
		/* and this with the acquire of what comes back. */
		smp_store_release(&l->back, i);
	}
	return 0;
}

static int time_spin(unsigned int n, unsigned int cpu)
{
	static struct lines l;
	struct task_struct *partner;
	unsigned int i, j;
	u32 ball = 0;
	u64 start;

	if (cpu >= nr_cpu_ids || !cpu_online(cpu))
		return -EINVAL;
	l = (struct lines) { .n = n * BLOCK };
	partner = kthread_create(spin_partner, &l, "rvmrpc_spin");
	if (IS_ERR(partner))
		return PTR_ERR(partner);
	kthread_bind(partner, cpu);
	get_task_struct(partner);
	wake_up_process(partner);
	for (i = 0; i < n; i++) {
		start = ktime_get_ns();
		for (j = 0; j < BLOCK; j++) {
			/* Pairs with the partner's acquire, */
			smp_store_release(&l.ball, ++ball);
			/* and this with its release. */
			while (smp_load_acquire(&l.back) != ball)
				;
		}
		samples[i] = (ktime_get_ns() - start) / BLOCK;
		cond_resched();
	}
	kthread_stop(partner);
	put_task_struct(partner);
	nsamples = n;
	return 0;
}

static int run_held(const char *what, unsigned int n, unsigned int a)
{
	if (!strcmp(what, "spin"))
		return time_spin(n, a);
	if (!strcmp(what, "clock"))
		return time_clock(n);
	if (!strcmp(what, "refused"))
		return time_refused(n);
	if (!strcmp(what, "burst"))
		return time_held(RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, n, 0, BLOCK);
	if (!strcmp(what, "held"))
		return time_held(RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, n, a, 1);
	return -EINVAL;
}

/* ---- Two threads that wake each other ---- */

struct rally {
	struct completion ball;
	struct completion back;
	unsigned int n;
};

static int rally_partner(void *data)
{
	struct rally *r = data;
	unsigned int i;

	for (i = 0; i < r->n; i++) {
		wait_for_completion(&r->ball);
		complete(&r->back);
	}
	return 0;
}

static int time_pingpong(unsigned int n, unsigned int cpu)
{
	struct rally r = { .n = n };
	struct task_struct *partner;
	unsigned int i;
	u64 start;

	if (cpu >= nr_cpu_ids || !cpu_online(cpu))
		return -EINVAL;
	init_completion(&r.ball);
	init_completion(&r.back);
	partner = kthread_create(rally_partner, &r, "rvmrpc_rally");
	if (IS_ERR(partner))
		return PTR_ERR(partner);
	kthread_bind(partner, cpu);
	get_task_struct(partner);
	wake_up_process(partner);
	for (i = 0; i < n; i++) {
		start = ktime_get_ns();
		complete(&r.ball);
		wait_for_completion(&r.back);
		samples[i] = ktime_get_ns() - start;
	}
	kthread_stop(partner);
	put_task_struct(partner);
	nsamples = n;
	return 0;
}

/* ---- Many clients ---- */

struct flood {
	struct completion ended;
	atomic_t running;
	atomic_t calls;
	atomic_t failed;
	u64 stop_ns;
};

struct flooder {
	struct flood *flood;
	struct rvmrpc_vm *vm;
};

static int flooder_run(void *data)
{
	struct flooder *f = data;
	struct flood *flood = f->flood;

	while (ktime_get_ns() < flood->stop_ns) {
		if (rvmrpc_call_vm(f->vm, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL, 0, NULL, 0, TIMEOUT_MS) < 0)
			atomic_inc(&flood->failed);
		else
			atomic_inc(&flood->calls);
		cond_resched();
	}
	if (atomic_dec_and_test(&flood->running))
		complete(&flood->ended);
	return 0;
}

static int time_flood(unsigned int ms, unsigned int threads, unsigned int use)
{
	static struct flooder flooders[THREADS_MAX];
	struct flood flood = { };
	unsigned int i;
	u64 start = ktime_get_ns();

	if (!threads || threads > THREADS_MAX || !use || use > nvms)
		return -EINVAL;
	init_completion(&flood.ended);
	atomic_set(&flood.running, threads);
	flood.stop_ns = start + (u64)ms * NSEC_PER_MSEC;
	for (i = 0; i < threads; i++) {
		struct task_struct *thread;

		flooders[i] = (struct flooder) { .flood = &flood, .vm = vms[i % use] };
		thread = kthread_create(flooder_run, &flooders[i], "rvmrpc_flood");
		if (IS_ERR(thread)) {
			atomic_inc(&flood.failed);
			if (atomic_dec_and_test(&flood.running))
				complete(&flood.ended);
			continue;
		}
		set_cpus_allowed_ptr(thread, current->cpus_ptr);
		wake_up_process(thread);
	}
	wait_for_completion(&flood.ended);
	samples[0] = ktime_get_ns() - start;
	samples[1] = atomic_read(&flood.calls);
	nsamples = 2;
	return atomic_read(&flood.failed) ? -EIO : 0;
}

/* ---- Commands ---- */

static int run(const char *what, unsigned int n, unsigned int a, unsigned int b)
{
	static const struct call null = { RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, 0, 0 };
	static const struct call meminfo = { RVMRPC_MOD_SYSINFO, RVMRPC_SYSINFO_MEMINFO, 0, SZ_16K };
	const struct call echo = { RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, a, a };

	if (!strcmp(what, "flood"))
		return time_flood(n, a, b);
	if (n > SAMPLES_MAX)
		return -EINVAL;
	if (!strcmp(what, "null"))
		return time_calls(&null, n, 0);
	if (!strcmp(what, "lone"))
		return time_calls(&null, n, a);
	if (!strcmp(what, "meminfo"))
		return time_calls(&meminfo, n, 0);
	if (!strcmp(what, "procfs"))
		return time_procfs(n);
	if (!strcmp(what, "pingpong"))
		return time_pingpong(n, a);
	if (!strcmp(what, "echo") && a <= ECHO_MAX)
		return time_calls(&echo, n, 0);
	return run_held(what, n, a);
}

static ssize_t run_write(struct file *file, const char __user *user, size_t bytes, loff_t *pos)
{
	unsigned int n = 0, a = 0, b = 0;
	char text[64], what[16];
	int err;

	if (bytes >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, bytes))
		return -EFAULT;
	text[bytes] = 0;
	if (sscanf(text, "%15s %u %u %u", what, &n, &a, &b) < 2)
		return -EINVAL;
	mutex_lock(&lock);
	nsamples = 0;
	vms_find();
	err = run(what, n, a, b);
	vms_put();
	mutex_unlock(&lock);
	return err ?: bytes;
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.write = run_write,
};

static ssize_t samples_read(struct file *file, char __user *user, size_t bytes, loff_t *pos)
{
	ssize_t done;

	mutex_lock(&lock);
	done = simple_read_from_buffer(user, bytes, pos, samples, nsamples * sizeof(*samples));
	mutex_unlock(&lock);
	return done;
}

static const struct file_operations samples_fops = {
	.owner = THIS_MODULE,
	.read = samples_read,
};

static void bench_free(void)
{
	kvfree(samples);
	kvfree(sent);
	kvfree(got);
}

static int __init bench_init(void)
{
	samples = kvcalloc(SAMPLES_MAX, sizeof(*samples), GFP_KERNEL);
	sent = kvzalloc(ECHO_MAX, GFP_KERNEL);
	got = kvzalloc(ECHO_MAX, GFP_KERNEL);
	if (!samples || !sent || !got) {
		bench_free();
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
	bench_free();
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_DESCRIPTION("Reverse VMRPC benchmark: a client in the host's kernel");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
