// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module tasks: processes, sorted and cut here, and the threads that hang.
 *
 * Runs in the server thread, under RCU, allocates nothing and waits for no lock: it must answer while the guest forks
 * without end, has no memory left, or waits for a disk that is gone.
 */
#include <linux/cred.h>
#include <linux/idr.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/uidgid.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

#define TASKS_BATCH	128	/* between two places where others may run */
#define TASKS_WALK_MS	500
#define TASKS_STACK_MAX	24	/* functions */

/* ---- The walk ---- */

struct tasks_walk {
	enum pid_type type;		/* PIDTYPE_TGID: processes; PIDTYPE_PID: threads */
	int pid;			/* the next one to look at */
	unsigned int batch;
	ktime_t deadline;
};

static void tasks_begin(struct tasks_walk *walk, u32 ms, enum pid_type type, u64 first)
{
	walk->type = type;
	walk->pid = clamp_t(u64, first, 1, INT_MAX);
	walk->batch = 0;
	walk->deadline = ktime_add_ms(ktime_get(), min_t(u32, ms / 2, TASKS_WALK_MS));
}

/*
 * The task with the lowest number from walk->pid on, which becomes its number; NULL: there is none.  RCU read lock held,
 * and given up for a moment now and then: the task holds until the next call.
 */
static struct task_struct *tasks_next(struct tasks_walk *walk)
{
	struct task_struct *task;
	struct pid *pid;

	if (++walk->batch % TASKS_BATCH == 0) {
		rcu_read_unlock();
		cond_resched();
		rcu_read_lock();
	}
	for (pid = idr_get_next(&init_pid_ns.idr, &walk->pid); pid;
	     walk->pid++, pid = idr_get_next(&init_pid_ns.idr, &walk->pid)) {
		task = pid_task(pid, walk->type);
		if (task)
			return task;
	}
	return NULL;
}

/* Looked at seldom: at the beginning of a batch. */
static bool tasks_late(const struct tasks_walk *walk)
{
	return walk->batch % TASKS_BATCH == 0 && ktime_after(ktime_get(), walk->deadline);
}

/* ---- What is known of one; RCU read lock held ---- */

/* False: it has none, or who changes it does not let go. */
static bool tasks_rss(struct task_struct *process, u64 *bytes)
{
	struct task_struct *t;
	bool found = false;

	/* A leader that has ended has none, but its threads do. */
	for_each_thread(process, t) {
		if (!spin_trylock(&t->alloc_lock))
			return false;
		if (t->mm && !(t->flags & PF_KTHREAD)) {
			*bytes = (u64)get_mm_rss(t->mm) << PAGE_SHIFT;
			found = true;
		}
		spin_unlock(&t->alloc_lock);
		if (found || (t->flags & PF_KTHREAD))
			break;
	}
	return found;
}

static u64 tasks_cpu_ns(struct task_struct *process)
{
	u64 ns = READ_ONCE(process->signal->sum_sched_runtime);
	struct task_struct *t;

	for_each_thread(process, t)
		ns += READ_ONCE(t->se.sum_exec_runtime);
	return ns;
}

/* By cgroup 2: its state is S then, as of one that sleeps.  Who is stopped or waits for a vfork() has the first alone. */
static bool tasks_frozen(const struct task_struct *task)
{
#ifdef CONFIG_CGROUPS
	return task->frozen && (READ_ONCE(task->jobctl) & JOBCTL_TRAP_FREEZE);
#else
	return false;
#endif
}

static void tasks_fields(struct rvmrpc_record_writer *w, struct task_struct *task)
{
	struct task_struct *parent = rcu_dereference(task->real_parent);
	const char state = task_state_to_char(task);
	char name[TASK_COMM_LEN];

	/* It may change meanwhile, but ends with a NUL. */
	memcpy(name, task->comm, sizeof(name));
	rvmrpc_record_u64(w, RVMRPC_TASK_PID, task_tgid_nr(task));
	rvmrpc_record_string(w, RVMRPC_TASK_NAME, name, strnlen(name, sizeof(name)));
	rvmrpc_record_string(w, RVMRPC_TASK_STATE, &state, 1);
	rvmrpc_record_u64(w, RVMRPC_TASK_PARENT, parent ? task_tgid_nr(parent) : 0);
	rvmrpc_record_u64(w, RVMRPC_TASK_UID, from_kuid(&init_user_ns, task_uid(task)));
	if (task->flags & PF_KTHREAD)
		rvmrpc_record_u64(w, RVMRPC_TASK_KERNEL, 1);
	if (tasks_frozen(task))
		rvmrpc_record_u64(w, RVMRPC_TASK_FROZEN, 1);
	rvmrpc_record_u64(w, RVMRPC_TASK_STARTED_NS, task->start_boottime);
}

static void tasks_process_record(struct rvmrpc_record_writer *w, struct task_struct *process)
{
	u64 rss;

	rvmrpc_record_begin(w, RVMRPC_RECORD_TASK);
	tasks_fields(w, process);
	rvmrpc_record_u64(w, RVMRPC_TASK_THREADS, get_nr_threads(process));
	if (tasks_rss(process, &rss))
		rvmrpc_record_u64(w, RVMRPC_TASK_RSS, rss);
	rvmrpc_record_u64(w, RVMRPC_TASK_CPU_NS, tasks_cpu_ns(process));
}

/* ---- list: all ---- */

static void tasks_all(struct rvmrpc_record_writer *w, struct tasks_walk *walk)
{
	struct task_struct *task;

	while ((task = tasks_next(walk))) {
		tasks_process_record(w, task);
		if (!rvmrpc_record_end(w, walk->pid))
			return;
		walk->pid++;
		if (tasks_late(walk)) {
			rvmrpc_records_more(w, walk->pid);
			return;
		}
	}
}

/* ---- list: those that have most ---- */

/* The server thread's own; most first. */
static struct tasks_place {
	u64 weight;
	int pid;
} tasks_top[RVMRPC_TASKS_TOP_MAX];

static u32 tasks_place_in(u32 n, int pid, u64 weight)
{
	u32 at;

	if (n == RVMRPC_TASKS_TOP_MAX && weight <= tasks_top[n - 1].weight)
		return n;
	if (n < RVMRPC_TASKS_TOP_MAX)
		n++;
	for (at = n - 1; at && tasks_top[at - 1].weight < weight; at--)
		tasks_top[at] = tasks_top[at - 1];
	tasks_top[at].weight = weight;
	tasks_top[at].pid = pid;
	return n;
}

static u64 tasks_weight(struct task_struct *process, u32 select)
{
	u64 rss = 0;

	if (select == RVMRPC_TASKS_BY_CPU)
		return tasks_cpu_ns(process);
	tasks_rss(process, &rss);
	return rss;
}

/* Returns how many there are in tasks_top. */
static u32 tasks_rank(struct rvmrpc_record_writer *w, struct tasks_walk *walk)
{
	struct task_struct *task;
	u32 n = 0;

	while ((task = tasks_next(walk))) {
		n = tasks_place_in(n, walk->pid, tasks_weight(task, w->wanted.select));
		walk->pid++;
		if (tasks_late(walk)) {
			rvmrpc_records_partial(w);
			break;
		}
	}
	return n;
}

static void tasks_first(struct rvmrpc_record_writer *w, struct tasks_walk *walk)
{
	struct task_struct *task;
	u32 n = tasks_rank(w, walk);
	struct pid *pid;
	u64 i;

	for (i = w->wanted.cursor; i < n; i++) {
		pid = idr_find(&init_pid_ns.idr, tasks_top[i].pid);
		task = pid ? pid_task(pid, PIDTYPE_TGID) : NULL;
		/* It has ended meanwhile. */
		if (!task)
			continue;
		tasks_process_record(w, task);
		if (!rvmrpc_record_end(w, i))
			return;
	}
}

int rvmrpc_os_tasks_list(struct rvmrpc_record_writer *w, u32 ms)
{
	struct tasks_walk walk;

	rcu_read_lock();
	if (w->wanted.select == RVMRPC_TASKS_BY_PID) {
		tasks_begin(&walk, ms, PIDTYPE_TGID, w->wanted.cursor);
		tasks_all(w, &walk);
	} else {
		tasks_begin(&walk, ms, PIDTYPE_TGID, 0);
		tasks_first(w, &walk);
	}
	rcu_read_unlock();
	return RVMRPC_STATUS_OK;
}

/* ---- blocked ---- */

#if RVMRPC_CAN_UNWIND && IS_ENABLED(CONFIG_KALLSYMS)
/* It may run meanwhile: then what comes out is wrong, but no more. */
static void tasks_stack(struct rvmrpc_record_writer *w, struct task_struct *task)
{
	struct unwind_state state;
	unsigned long address;
	char name[64];
	int n = 0;

	for (unwind_start(&state, task, NULL, NULL); !unwind_done(&state) && n < TASKS_STACK_MAX;
	     unwind_next_frame(&state), n++) {
		address = unwind_get_return_address(&state);
		if (!address)
			return;
		rvmrpc_record_string(w, RVMRPC_TASK_STACK, name, rvmrpc_function(address, name, sizeof(name)));
	}
}
#else
static void tasks_stack(struct rvmrpc_record_writer *w, struct task_struct *task)
{
}
#endif

int rvmrpc_os_tasks_blocked(struct rvmrpc_record_writer *w, u32 ms)
{
	struct task_struct *task;
	struct tasks_walk walk;

	tasks_begin(&walk, ms, PIDTYPE_PID, w->wanted.cursor);
	rcu_read_lock();
	for (task = tasks_next(&walk); task; walk.pid++, task = tasks_next(&walk)) {
		if (tasks_late(&walk)) {
			rvmrpc_records_more(w, walk.pid);
			break;
		}
		if (task_state_to_char(task) != 'D')
			continue;
		rvmrpc_record_begin(w, RVMRPC_RECORD_TASK);
		tasks_fields(w, task);
		rvmrpc_record_u64(w, RVMRPC_TASK_THREAD, walk.pid);
		tasks_stack(w, task);
		if (!rvmrpc_record_end(w, walk.pid))
			break;
	}
	rcu_read_unlock();
	return RVMRPC_STATUS_OK;
}

/* ---- Module ---- */

int rvmrpc_mod_tasks_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_tasks_module);
}

void rvmrpc_mod_tasks_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_tasks_module);
}
