/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tasks, locks, works and eventfds for rvmrpc_channel.c (tests/unit/host-kernel.h), on one thread: who runs, and for how many
 * steps, is its caller's choice.  A step ends where another CPU could come between: before and while a lock is taken, at looks
 * at the clock, at barriers, in loops that spin.  So what fails once fails again.
 */
#ifndef RVMRPC_FUZZ_KERNEL_TASKS_H
#define RVMRPC_FUZZ_KERNEL_TASKS_H

#include <ucontext.h>

#include "input.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define FIBERS
#endif
#endif
#ifndef FIBERS
#define ASAN_POISON_MEMORY_REGION(at, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#endif

#define NTASKS		10
#define STACK_BYTES	(256 * 1024)
#define RELAX_NS	(20 * NSEC_PER_USEC)	/* that a turn of a loop takes, which spins */

typedef struct {
	struct task_struct *owner;
} spinlock_t;

struct task_struct {
	void (*job)(struct task_struct *task);	/* NULL: it has nothing to do */
	ucontext_t context;
	void *fake_stack;
	uint32_t left;			/* steps until somebody else has his turn; 0: as many as it likes */
	uint32_t locks;			/* that it holds */
	const spinlock_t *wants;	/* it spins for that */
	bool waits;			/* what is RVMRPC_TASK_WAITS */
	bool parked;			/* and does not run */
	u64 until;			/* then it does */
	const struct task_struct *after;	/* it waits for the end of that one's job */
	struct work_struct *work;	/* it waits for, or runs */
	bool killed;
};

static struct {
	struct task_struct tasks[NTASKS];
	struct task_struct *running;	/* NULL: none, it is an interrupt, or the guest */
	ucontext_t caller;
	void *caller_fake_stack;
	const void *caller_stack;
	size_t caller_bytes;
	bool irqs_off;
	bool alone, hurried;		/* what the scheduler tells who wants to spin */
	u64 jumped;			/* ns that have passed while somebody could run */
	u64 randoms;
} cpu;

static struct task_struct interrupt_task;
static unsigned char stacks[NTASKS][STACK_BYTES] __attribute__((aligned(64)));

#define current			(cpu.running ?: &interrupt_task)

/* ---- From one stack to another ---- */

#ifdef FIBERS
#define fiber_leave(save, to, bytes)	__sanitizer_start_switch_fiber(save, to, bytes)
#define fiber_enter(saved, from, bytes)	__sanitizer_finish_switch_fiber(saved, from, bytes)
#else
#define fiber_leave(save, to, bytes)	((void)(save))
#define fiber_enter(saved, from, bytes)	((void)(saved))
#endif

static void task_stop(void)
{
	struct task_struct *task = cpu.running;

	fiber_leave(&task->fake_stack, cpu.caller_stack, cpu.caller_bytes);
	swapcontext(&task->context, &cpu.caller);
	fiber_enter(task->fake_stack, &cpu.caller_stack, &cpu.caller_bytes);
}

static void task_main(void)
{
	struct task_struct *task;

	fiber_enter(NULL, &cpu.caller_stack, &cpu.caller_bytes);
	for (;;) {
		task = cpu.running;
		task->job(task);
		CHECK(!task->locks && !task->waits);
		task->job = NULL;
		task->killed = false;
		task_stop();
	}
}

static bool can_run(const struct task_struct *task)
{
	if (!task->job || (task->wants && task->wants->owner) || (task->after && task->after->job))
		return false;
	return !task->parked || !task->waits || task->until <= now_ns;
}

static void task_run(struct task_struct *task, uint32_t steps)
{
	unsigned char *stack = stacks[task - cpu.tasks];

	CHECK(!cpu.running);
	if (!task->context.uc_stack.ss_sp) {
		getcontext(&task->context);
		task->context.uc_stack.ss_sp = stack;
		task->context.uc_stack.ss_size = STACK_BYTES;
		makecontext(&task->context, task_main, 0);
	}
	task->left = steps;
	cpu.running = task;
	fiber_leave(&cpu.caller_fake_stack, stack, STACK_BYTES);
	swapcontext(&cpu.caller, &task->context);
	fiber_enter(cpu.caller_fake_stack, NULL, NULL);
	cpu.running = NULL;
}

/* Others may run here. */
static void step(void)
{
	if (cpu.running && !cpu.irqs_off && cpu.running->left && !--cpu.running->left)
		task_stop();
}

/* ---- The clock and what is random ---- */

static u64 ktime_get_ns(void)
{
	step();
	return now_ns += 20;
}

static u64 get_random_u64(void)
{
	u64 x = cpu.randoms += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	return x ^ x >> 27;
}

#define get_random_u32()	((u32)get_random_u64())

/* Not into the core's functions that are built elsewhere. */
#undef rvmrpc_os_mb
#define rvmrpc_os_mb()		step()

/* ---- Locks ---- */

#define spin_lock_init(l)	((l)->owner = NULL)

static bool spin_trylock(spinlock_t *l)
{
	if (l->owner)
		return false;
	l->owner = current;
	current->locks++;
	return true;
}

static void spin_lock(spinlock_t *l)
{
	/* Whoever comes from an interrupt would spin for ever. */
	CHECK(cpu.running && !cpu.irqs_off);
	step();
	while (!spin_trylock(l)) {
		CHECK(l->owner != current);
		current->wants = l;
		task_stop();
		current->wants = NULL;
	}
}

static void spin_unlock(spinlock_t *l)
{
	CHECK(l->owner == current);
	l->owner = NULL;
	current->locks--;
	step();
}

static bool spin_is_contended(const spinlock_t *l)
{
	uint32_t i;

	step();
	for (i = 0; i < NTASKS; i++) {
		if (cpu.tasks[i].wants == l)
			return true;
	}
	return false;
}

/* ---- Sleep ---- */

#define TASK_RUNNING		0
#define RVMRPC_TASK_WAITS	1
#define __set_current_state(state)	((void)(current->waits = (state)))
#define fatal_signal_pending(task)	((task)->killed)

static void set_current_state(int state)
{
	current->waits = state;
	step();
}

static void wake_up_process(struct task_struct *task)
{
	CHECK(task->job);
	task->waits = false;
	step();
}

static void task_kill(struct task_struct *task)
{
	task->killed = true;
	task->waits = false;
}

static void task_park(u64 until)
{
	CHECK(!current->locks);
	current->until = until;
	current->parked = true;
	task_stop();
	current->parked = false;
	current->waits = false;
}

static void rvmrpc_schedule_timeout(long ticks)
{
	CHECK(ticks > 0);
	if (current->killed)
		current->waits = false;
	task_park((jiffies + ticks) * TICK_NS);
}

static bool single_task_running(void)
{
	step();
	return cpu.alone;
}

static bool need_resched(void)
{
	step();
	return cpu.hurried;
}

static void cpu_relax(void)
{
	now_ns += RELAX_NS;
	cpu.jumped += RELAX_NS;
	step();
}

/* ---- Works; a task runs each that is due ---- */

struct work_struct {
	void (*func)(struct work_struct *work);
	bool queued, running, cancelled;
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

static void queue_work(struct workqueue_struct *wq, struct work_struct *work)
{
	(void)wq;
	if (work->queued || work->cancelled)
		return;
	work->queued = true;
	work->at = now_ns;
}

static void mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *dwork, u64 ticks)
{
	dwork->work.queued = false;
	queue_work(wq, &dwork->work);
	if (ticks)
		dwork->work.at = (jiffies + ticks) * TICK_NS;
}

static void cancel_work_sync(struct work_struct *work)
{
	uint32_t i;

	CHECK(!current->locks);
	work->queued = false;
	work->cancelled = true;
	for (i = 0; i < NTASKS; i++) {
		if (&cpu.tasks[i] != current && cpu.tasks[i].work == work)
			current->after = &cpu.tasks[i];
	}
	task_stop();
	current->after = NULL;
	CHECK(!work->running);
	work->cancelled = false;
}

#define cancel_delayed_work_sync(d)	cancel_work_sync(&(d)->work)

static void work_job(struct task_struct *task)
{
	struct work_struct *work = task->work;

	work->func(work);
	work->running = false;
	task->work = NULL;
}

static bool work_due(const struct work_struct *work)
{
	return work->queued && !work->running && work->at <= now_ns;
}

static void work_start(struct work_struct *work, struct task_struct *task)
{
	CHECK(!task->job);
	work->queued = false;
	work->running = true;
	task->work = work;
	task->job = work_job;
}

/* ---- Wait queues and eventfds; of each one knows ---- */

typedef struct wait_queue_entry {
	int (*func)(struct wait_queue_entry *entry, unsigned int mode, int sync, void *key);
} wait_queue_entry_t;

typedef struct {
	wait_queue_entry_t *entry;
	struct task_struct *task;
} wait_queue_head_t;

struct eventfd_ctx {
	wait_queue_head_t wqh;
	u64 count;
};

struct file {
	struct eventfd_ctx *ctx;
};

typedef struct poll_table {
	void (*func)(struct file *file, wait_queue_head_t *wqh, struct poll_table *table);
} poll_table;

#define EPOLLIN			1
#define key_to_poll(key)	GPOINTER_TO_UINT(key)
#define init_waitqueue_head(head)	((head)->task = NULL)
#define init_waitqueue_func_entry(e, f)	((e)->func = (f))
#define init_poll_funcptr(table, f)	((table)->func = (f))
#define add_wait_queue(head, e)	((head)->entry = (e))
#define vfs_poll(file, table)	((table)->func(file, &(file)->ctx->wqh, table))
#define wake_up(head)		((head)->task ? wake_up_process((head)->task) : (void)0)

#define wait_event_cmd(head, condition, before, after)	\
	do {						\
		(head).task = current;			\
		for (;;) {				\
			current->waits = true;		\
			if (condition)			\
				break;			\
			before;				\
			task_park(U64_MAX);		\
			after;				\
		}					\
		current->waits = false;			\
		(head).task = NULL;			\
	} while (0)

static void rvmrpc_eventfd_signal(struct eventfd_ctx *ctx)
{
	bool irqs_off = cpu.irqs_off;

	CHECK(!cpu.running || !current->locks);
	step();
	cpu.irqs_off = true;
	ctx->count++;
	if (ctx->wqh.entry)
		ctx->wqh.entry->func(ctx->wqh.entry, 0, 0, GUINT_TO_POINTER(EPOLLIN));
	cpu.irqs_off = irqs_off;
}

static void eventfd_ctx_do_read(struct eventfd_ctx *ctx, u64 *count)
{
	*count = ctx->count;
	ctx->count = 0;
}

static void eventfd_ctx_remove_wait_queue(struct eventfd_ctx *ctx, wait_queue_entry_t *entry, u64 *count)
{
	step();
	CHECK(ctx->wqh.entry == entry);
	ctx->wqh.entry = NULL;
	eventfd_ctx_do_read(ctx, count);
}

#endif /* RVMRPC_FUZZ_KERNEL_TASKS_H */
