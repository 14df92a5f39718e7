/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of Linux as rvmrpc_channel.c needs to run in one thread of user space (host-kernel.c), where time goes on only when
 * it is told to.  A lock that is taken twice, or let go unheld, ends the test.
 *
 * With HOST_KERNEL_TASKS there are others than one task, and what they meet at is left out here (tests/fuzz/kernel-tasks.h).
 */
#ifndef HOST_KERNEL_H
#define HOST_KERNEL_H

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <linux/types.h>

#include "rvmrpc_os.h"

typedef uint64_t u64;
typedef uint32_t u32;
typedef struct { u64 half[2]; } uuid_t;
typedef u32 kuid_t;

#define U64_MAX			UINT64_MAX
#define KBUILD_MODNAME		"test"
#define NSEC_PER_SEC		1000000000ull
#define NSEC_PER_MSEC		1000000ull
#define NSEC_PER_USEC		1000ull
#define PAGE_SHIFT		12
#define module_param(name, type, mode)
#define MODULE_PARM_DESC(name, text)
#define EXPORT_SYMBOL_GPL(name)
#define BUILD_BUG_ON(wrong)	G_STATIC_ASSERT(!(wrong))
#define noinline		__attribute__((noinline))
#define likely(x)		(x)
#define unlikely(x)		(x)
#define READ_ONCE(x)		(x)
#define WRITE_ONCE(x, value)	((x) = (value))
#define smp_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define smp_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define container_of(p, type, member)	((type *)((char *)(p) - offsetof(type, member)))
#define min(a, b)		((a) < (b) ? (a) : (b))
#define max(a, b)		((a) > (b) ? (a) : (b))
#define min3(a, b, c)		min(min(a, b), c)
#define min_t(type, a, b)	min((type)(a), (type)(b))
#define div_u64(a, b)		((a) / (b))
#define trace_rvmrpc_host_call_begin(...)
#define trace_rvmrpc_host_call_end(...)
#define trace_rvmrpc_host_call_end_enabled()	false

struct file;
struct page;
struct mm_struct;
struct pid;
struct eventfd_ctx;
struct module;

/* ---- Time ---- */

#define TICK_NS			(4 * NSEC_PER_MSEC)

static u64 now_ns = 1000 * NSEC_PER_SEC;

#define jiffies			(now_ns / TICK_NS)
#define nsecs_to_jiffies(ns)	((ns) / TICK_NS)

/* ---- Lists and references ---- */

struct list_head {
	struct list_head *next, *prev;
};

#define INIT_LIST_HEAD(l)	((l)->next = (l)->prev = (l))
#define list_empty(l)		((l)->next == (l))
#define list_for_each_entry_safe(p, n, head, member)			\
	for (p = container_of((head)->next, __typeof__(*p), member);	\
	     n = container_of(p->member.next, __typeof__(*p), member), &p->member != (head); p = n)

static void list_add_tail(struct list_head *node, struct list_head *head)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static void list_del_init(struct list_head *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	INIT_LIST_HEAD(node);
}

typedef struct { u64 value; } atomic64_t;
#define atomic64_add(n, a)	((a)->value += (n))
#define atomic64_read(a)	((a)->value)

struct kref {
	int n;
};
#define kref_get(k)		((k)->n++)

#ifndef HOST_KERNEL_TASKS

#define get_random_u32()	((u32)g_random_int())
#define get_random_u64()	((u64)g_random_int() << 32 | g_random_int())
/* A look at the clock takes some time. */
#define ktime_get_ns()		(now_ns += 20)

/* ---- Locks ---- */

typedef struct { bool held; } spinlock_t;
#define spin_lock_init(l)	((l)->held = false)
#define spin_is_contended(l)	false

static bool spin_trylock(spinlock_t *l)
{
	bool was = l->held;

	l->held = true;
	return !was;
}

static void spin_lock(spinlock_t *l)
{
	g_assert_true(spin_trylock(l));
}

static void spin_unlock(spinlock_t *l)
{
	g_assert_true(l->held);
	l->held = false;
}

/* ---- Work, which the test runs ---- */

struct work_struct {
	void (*func)(struct work_struct *work);
	bool queued;
	u64 at;
};

struct delayed_work {
	struct work_struct work;
};

struct workqueue_struct;
#define alloc_workqueue(...)	NULL
#define destroy_workqueue(wq)
#define INIT_WORK(w, f)		((w)->func = (f))
#define INIT_DELAYED_WORK(d, f)	((d)->work.func = (f))
#define to_delayed_work(w)	container_of(w, struct delayed_work, work)
#define cancel_work_sync(w)	((w)->queued = false)
#define cancel_delayed_work_sync(d)	((d)->work.queued = false)

static void queue_work(struct workqueue_struct *wq, struct work_struct *work)
{
	(void)wq;
	work->queued = true;
	work->at = now_ns;
}

static void mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *dwork, u64 ticks)
{
	queue_work(wq, &dwork->work);
	if (ticks)
		dwork->work.at = (jiffies + ticks) * TICK_NS;
}

/* ---- Waiting: of the eventfds nothing is there but that the test calls their callback ---- */

typedef struct { int unused; } wait_queue_head_t, wait_queue_entry_t, poll_table;
#define EPOLLIN			1
#define key_to_poll(key)	GPOINTER_TO_UINT(key)
#define init_waitqueue_head(wqh)
#define init_waitqueue_func_entry(entry, func)	((void)(func))
#define init_poll_funcptr(table, func)	((void)(func))
#define add_wait_queue(wqh, entry)	((void)(wqh), (void)(entry))
#define vfs_poll(file, table)
#define wake_up(wqh)		((void)(wqh))
#define wait_event_cmd(wqh, condition, before, after)	g_assert_true(condition)
#define rvmrpc_eventfd_signal(ctx)	((void)(ctx))
#define eventfd_ctx_do_read(ctx, count)	(*(count) = 1)
#define eventfd_ctx_remove_wait_queue(ctx, entry, count)	(*(count) = 0)

/* ---- The one task ---- */

struct task_struct {
	bool killed;
};

static struct task_struct this_task;
/* What the guest, or somebody else, does while the task spins, and while it sleeps. */
static void (*meanwhile)(void);

#define current			(&this_task)
#define TASK_RUNNING		0
#define RVMRPC_TASK_WAITS	1
#define set_current_state(state)
#define __set_current_state(state)
#define wake_up_process(task)	((void)(task))
#define fatal_signal_pending(task)	((task)->killed)
#define single_task_running()	true
#define need_resched()		false
#define cpu_relax()		(meanwhile ? meanwhile() : (void)0)

static void rvmrpc_schedule_timeout(long ticks)
{
	cpu_relax();
	now_ns += ticks * TICK_NS;
}

#endif /* HOST_KERNEL_TASKS */

#endif /* HOST_KERNEL_H */
