// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host LKM of the nested tests: threads that call a guest at once, each looking at its own answers.
 *
 * insmod makes the calls and prints one line; it fails when an answer is not what was sent, or does not come.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/random.h>
#include <linux/rvmrpc.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include "rvmrpc_abi.h"

#define THREADS_MAX	RVMRPC_CALLS_MAX

static char *uuid;
module_param(uuid, charp, 0444);
MODULE_PARM_DESC(uuid, "of the VM");

static char *name;
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "of the VM; default: any");

static unsigned int threads = 8;
module_param(threads, uint, 0444);
MODULE_PARM_DESC(threads, "callers at once");

static unsigned int calls = 1000;
module_param(calls, uint, 0444);
MODULE_PARM_DESC(calls, "echo calls of each");

static unsigned int size = 256;
module_param(size, uint, 0444);
MODULE_PARM_DESC(size, "bytes of each");

static unsigned int nulls;
module_param(nulls, uint, 0444);
MODULE_PARM_DESC(nulls, "null calls to be timed, one after another");

static unsigned int timeout_ms = 10000;
module_param(timeout_ms, uint, 0444);
MODULE_PARM_DESC(timeout_ms, "of each call");

static unsigned int held;
module_param(held, uint, 0444);
MODULE_PARM_DESC(held, "echo calls without copies, of size bytes, in one slot");

static unsigned int sleep_ms;
module_param(sleep_ms, uint, 0444);
MODULE_PARM_DESC(sleep_ms, "one call of the guest's module test, which takes so long");

static unsigned int slow_ms;
module_param(slow_ms, uint, 0444);
MODULE_PARM_DESC(slow_ms, "instead of all that: a notifier that takes so long for each VM");

static bool events;
module_param(events, bool, 0444);
MODULE_PARM_DESC(events, "instead of all that: print what guests tell");

static bool keep;
module_param(keep, bool, 0444);
MODULE_PARM_DESC(keep, "load though calls fail: busybox' insmod tries twice what fails");

static struct rvmrpc_vm *vm;
static atomic_t right, wrong, failed;
static atomic_t last_error;

struct caller {
	struct work_struct work;
	u8 *sent;
	u8 *got;
};

static void echo_once(struct caller *c)
{
	ssize_t ret;

	get_random_bytes(c->sent, size);
	ret = rvmrpc_call_vm(vm, RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, c->sent, size, c->got, size, timeout_ms);
	if (ret < 0) {
		atomic_inc(&failed);
		atomic_set(&last_error, ret);
	} else if (ret != size || memcmp(c->sent, c->got, size)) {
		atomic_inc(&wrong);
	} else {
		atomic_inc(&right);
	}
}

static void caller_run(struct work_struct *work)
{
	struct caller *c = container_of(work, struct caller, work);
	unsigned int i;

	for (i = 0; i < calls; i++)
		echo_once(c);
}

static bool callers_alloc(struct caller *callers)
{
	unsigned int i;

	for (i = 0; i < threads; i++) {
		INIT_WORK(&callers[i].work, caller_run);
		callers[i].sent = kvmalloc(size, GFP_KERNEL);
		callers[i].got = kvmalloc(size, GFP_KERNEL);
		if (!callers[i].sent || !callers[i].got)
			return false;
	}
	return true;
}

static void callers_free(struct caller *callers)
{
	unsigned int i;

	for (i = 0; i < threads; i++) {
		kvfree(callers[i].sent);
		kvfree(callers[i].got);
	}
	kfree(callers);
}

static int run_callers(void)
{
	struct caller *callers = kcalloc(threads, sizeof(*callers), GFP_KERNEL);
	struct workqueue_struct *wq;
	unsigned int i;
	int ret = -ENOMEM;

	if (!callers)
		return -ENOMEM;
	wq = alloc_workqueue("rvmrpc_test", WQ_UNBOUND, threads);
	if (wq && callers_alloc(callers)) {
		for (i = 0; i < threads; i++)
			queue_work(wq, &callers[i].work);
		ret = 0;
	}
	if (wq)
		destroy_workqueue(wq);
	callers_free(callers);
	return ret;
}

static int time_nulls(void)
{
	u64 best = U64_MAX, worst = 0, sum = 0, start, ns;
	unsigned int i;
	ssize_t ret;

	for (i = 0; i < nulls; i++) {
		start = ktime_get_ns();
		ret = rvmrpc_call_vm(vm, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL, 0, NULL, 0, timeout_ms);
		if (ret < 0)
			return ret;
		ns = ktime_get_ns() - start;
		best = min(best, ns);
		worst = max(worst, ns);
		sum += ns;
	}
	if (nulls)
		pr_info("null calls %u min_ns %llu mean_ns %llu max_ns %llu\n", nulls, best, sum / nulls, worst);
	return 0;
}

/* Module test of tests/vm/guest. */
#define MOD_TEST	0x101
#define TEST_SLEEP	1

static int call_sleeper(void)
{
	u64 start = ktime_get_ns();
	ssize_t ret = 0;

	if (sleep_ms) {
		ret = rvmrpc_call_vm(vm, MOD_TEST, TEST_SLEEP, &sleep_ms, sizeof(sleep_ms), NULL, 0, timeout_ms);
		pr_info("sleeper %zd after %llu ms\n", ret, (ktime_get_ns() - start) / NSEC_PER_MSEC);
	}
	return ret;
}

static ssize_t echo_held(struct rvmrpc_held *h, u8 fill)
{
	ssize_t ret;

	memset(h->req, fill, size);
	ret = rvmrpc_call_run(h, RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, size, timeout_ms);
	if (ret >= 0 && (ret != size || memchr_inv(h->res, fill, size)))
		return -EBADMSG;
	return ret;
}

static int run_held(void)
{
	struct rvmrpc_held *h;
	unsigned int i;
	ssize_t ret = 0;

	if (!held)
		return 0;
	h = rvmrpc_call_begin(vm);
	if (IS_ERR(h))
		return PTR_ERR(h);
	for (i = 0; i < held && ret >= 0; i++)
		ret = echo_held(h, i);
	pr_info("held %u of %u, %u bytes of %u, last %zd\n", i, held, size, h->res_bytes, ret);
	rvmrpc_call_end(h);
	return ret < 0 ? ret : 0;
}
static struct rvmrpc_vm *find_vm(void)
{
	uuid_t wanted;

	if (uuid)
		return uuid_parse(uuid, &wanted) ? NULL : rvmrpc_vm_by_uuid(&wanted);
	return name ? rvmrpc_vm_by_name(name) : rvmrpc_vm_next(NULL);
}

static int run(void)
{
	int ret = run_callers();

	if (ret)
		return ret;
	pr_info("threads %u calls %u size %u right %d wrong %d failed %d error %d\n", threads, calls, size,
		atomic_read(&right), atomic_read(&wrong), atomic_read(&failed), atomic_read(&last_error));
	if (atomic_read(&wrong))
		return -EBADMSG;
	ret = atomic_read(&failed) ? atomic_read(&last_error) : time_nulls();
	if (!ret)
		ret = run_held();
	return ret ?: call_sleeper();
}

static int slow_notified(struct notifier_block *nb, unsigned long action, void *data)
{
	msleep(slow_ms);
	return NOTIFY_OK;
}

static struct notifier_block slow_notifier = {
	.notifier_call = slow_notified,
};

/* The text of each event, which is its first field. */
static int event_notified(struct notifier_block *nb, unsigned long kind, void *data)
{
	const struct rvmrpc_vm_event *e = data;
	struct rvmrpc_field field;

	memcpy(&field, e->event->fields, sizeof(field));
	pr_info("event %llu of %s: module 0x%x, kind %lu, missed %llu, \"%*pE\"\n", e->event->seq, rvmrpc_vm_name(e->vm),
		e->event->module, kind, e->missed, (int)min_t(u32, field.length, sizeof(e->event->fields) - sizeof(field)),
		e->event->fields + sizeof(field));
	return NOTIFY_OK;
}

static struct notifier_block event_notifier = {
	.notifier_call = event_notified,
};

static int __init test_init(void)
{
	int ret;

	if (events)
		return rvmrpc_register_event_notifier(&event_notifier);
	if (slow_ms)
		return rvmrpc_register_notifier(&slow_notifier);
	if (threads < 1 || threads > THREADS_MAX)
		return -EINVAL;
	vm = find_vm();
	if (IS_ERR_OR_NULL(vm))
		return vm ? PTR_ERR(vm) : -ENODEV;
	ret = run();
	rvmrpc_vm_put(vm);
	return keep ? 0 : ret;
}

static void __exit test_exit(void)
{
	if (slow_ms)
		rvmrpc_unregister_notifier(&slow_notifier);
	if (events)
		rvmrpc_unregister_event_notifier(&event_notifier);
}

module_init(test_init);
module_exit(test_exit);

MODULE_DESCRIPTION("Reverse VMRPC tests: many callers of a guest");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
