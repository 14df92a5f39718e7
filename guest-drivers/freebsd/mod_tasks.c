/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module tasks: processes, sorted and cut here, and the threads that hang.
 *
 * Runs in the server thread and allocates nothing: it must answer while the
 * guest forks without end, has no memory left, or waits for a disk that is
 * gone.  The list's lock is had by trying: who has it for itself might sleep.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/proc.h>
#include <sys/resourcevar.h>
#include <sys/sx.h>
#include <sys/ucred.h>
#include <vm/vm.h>
#include <vm/vm_param.h>
#include <vm/pmap.h>
#include <vm/vm_map.h>

#define	TASKS_TRIES	20	/* one in a ms */
#define	TASKS_BATCH	128	/* between two looks at the clock */
#define	TASKS_WALK_MS	500
#define	TASKS_WAIT_MAX	32

/* The server thread's own, as all below. */
static struct rvmrpc_place tasks_places[RVMRPC_TASKS_TOP_MAX];

/* ---- What is known of one, taken with its lock held ---- */

struct tasks_info {
	char		name[MAXCOMLEN + 1];
	char		wait[TASKS_WAIT_MAX];	/* empty: it does not */
	char		state;
	pid_t		pid;
	pid_t		parent;
	uid_t		uid;
	bool		kernel;
	int		threads;
	uint64_t	rss;		/* or RVMRPC_ABSENT */
	uint64_t	cpu_ns;
	uint64_t	started_ns;
};

/* As ps(1) has it. */
static char
tasks_letter(const struct proc *p, struct thread *td)
{
	if (TD_ON_RUNQ(td) || TD_CAN_RUN(td) || TD_IS_RUNNING(td))
		return ('R');
	if (P_SHOULDSTOP(p))
		return ('T');
	if (TD_IS_SLEEPING(td))
		return ((td->td_flags & TDF_SINTR) != 0 ? 'S' : 'D');
	return (TD_ON_LOCK(td) ? 'L' : 'W');
}

static void
tasks_state(const struct proc *p, struct thread *td, struct tasks_info *info)
{
	const char *wait;

	info->wait[0] = '\0';
	thread_lock(td);
	info->state = tasks_letter(p, td);
	wait = TD_ON_LOCK(td) ? td->td_lockname : td->td_wmesg;
	if (wait != NULL)
		strlcpy(info->wait, wait, sizeof(info->wait));
	thread_unlock(td);
}

static uint64_t
tasks_rss(const struct proc *p)
{
	/* Those of the kernel share one. */
	if (p->p_vmspace == NULL || (p->p_flag & P_KPROC) != 0)
		return (RVMRPC_ABSENT);
	return ((uint64_t)vmspace_resident_count(p->p_vmspace) * PAGE_SIZE);
}

/* Its threads add what they used to the process' sum later. */
static uint64_t
tasks_cpu_ns(struct proc *p)
{
	struct thread *td;
	uint64_t ticks;

	PROC_STATLOCK(p);
	ticks = p->p_rux.rux_runtime;
	FOREACH_THREAD_IN_PROC(p, td)
		ticks += td->td_incruntime;
	PROC_STATUNLOCK(p);
	return (cputick2usec(ticks) * 1000);
}

/* td: whose state counts. */
static void
tasks_look(struct proc *p, struct thread *td, struct tasks_info *info)
{
	const struct timeval *start = &p->p_stats->p_start;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	strlcpy(info->name, p->p_comm, sizeof(info->name));
	tasks_state(p, td, info);
	info->pid = p->p_pid;
	info->parent = p->p_pptr != NULL ? p->p_oppid : 0;
	info->uid = p->p_ucred != NULL ? p->p_ucred->cr_ruid : 0;
	info->kernel = (p->p_flag & P_KPROC) != 0;
	info->threads = p->p_numthreads;
	info->rss = tasks_rss(p);
	info->cpu_ns = tasks_cpu_ns(p);
	info->started_ns = (uint64_t)start->tv_sec * 1000000000 +
	    start->tv_usec * 1000;
}

static void
tasks_record(struct rvmrpc_record_writer *w, const struct tasks_info *info)
{
	rvmrpc_record_begin(w, RVMRPC_RECORD_TASK);
	rvmrpc_record_u64(w, RVMRPC_TASK_PID, info->pid);
	rvmrpc_record_string(w, RVMRPC_TASK_NAME, info->name,
	    strlen(info->name));
	rvmrpc_record_string(w, RVMRPC_TASK_STATE, &info->state, 1);
	rvmrpc_record_u64(w, RVMRPC_TASK_PARENT, info->parent);
	rvmrpc_record_u64(w, RVMRPC_TASK_UID, info->uid);
	if (info->kernel)
		rvmrpc_record_u64(w, RVMRPC_TASK_KERNEL, 1);
	if (info->wait[0] != '\0')
		rvmrpc_record_string(w, RVMRPC_TASK_WAIT, info->wait,
		    strlen(info->wait));
	rvmrpc_record_u64(w, RVMRPC_TASK_STARTED_NS, info->started_ns);
}

/* ---- The walk ---- */

struct tasks_walk {
	uint32_t	select;		/* of list; TASKS_BLOCKED */
	uint64_t	first;		/* numbers below it are not wanted */
	sbintime_t	deadline;
	uint32_t	seen;		/* that were wanted */
	uint32_t	n;		/* in tasks_places */
};

#define	TASKS_BLOCKED	UINT32_MAX

static bool
tasks_lock(void)
{
	int i;

	for (i = 0; i < TASKS_TRIES; i++) {
		if (sx_try_slock(&allproc_lock))
			return (true);
		pause_sbt("rvmtsk", SBT_1MS, 0, 0);
	}
	return (false);
}

/* A thread of the kernel sleeps like that when it has nothing to do. */
static bool
tasks_is_blocked(const struct proc *p, struct thread *td)
{
	return ((p->p_flag & P_KPROC) == 0 && tasks_letter(p, td) == 'D');
}

/* By number: the lowest are the heaviest. */
static void
tasks_place_number(struct tasks_walk *walk, struct proc *p, uint32_t number)
{
	struct rvmrpc_place place = {
		.weight = UINT64_MAX - number,
		.what = p,
		.number = number,
	};

	if (number < walk->first)
		return;
	walk->seen++;
	walk->n = rvmrpc_place_in(tasks_places, walk->n,
	    nitems(tasks_places), &place);
}

static void
tasks_place_weight(struct tasks_walk *walk, struct proc *p)
{
	struct rvmrpc_place place = { .what = p, .number = p->p_pid };

	place.weight = walk->select == RVMRPC_TASKS_BY_CPU ?
	    tasks_cpu_ns(p) : tasks_rss(p);
	if (place.weight == RVMRPC_ABSENT)
		place.weight = 0;
	walk->seen++;
	walk->n = rvmrpc_place_in(tasks_places, walk->n,
	    nitems(tasks_places), &place);
}

/* The time of idle CPUs is in a process, too, which would use most. */
static bool
tasks_is_one(const struct proc *p)
{
	return (p->p_state != PRS_NEW &&
	    !TD_IS_IDLETHREAD(FIRST_THREAD_IN_PROC(p)));
}

static void
tasks_place(struct tasks_walk *walk, struct proc *p)
{
	struct thread *td;

	PROC_LOCK(p);
	if (!tasks_is_one(p))
		;
	else if (walk->select == RVMRPC_TASKS_BY_PID)
		tasks_place_number(walk, p, p->p_pid);
	else if (walk->select != TASKS_BLOCKED)
		tasks_place_weight(walk, p);
	else
		FOREACH_THREAD_IN_PROC(p, td)
			if (tasks_is_blocked(p, td))
				tasks_place_number(walk, p, td->td_tid);
	PROC_UNLOCK(p);
}

/*
 * Sorts those that are wanted; what is in tasks_places stays while the list is
 * locked.  Who has ended is in it no more.
 */
static void
tasks_sort(struct rvmrpc_record_writer *w, struct tasks_walk *walk)
{
	struct proc *p;
	u_int n = 0;

	sx_assert(&allproc_lock, SA_SLOCKED);
	FOREACH_PROC_IN_SYSTEM(p) {
		if (++n % TASKS_BATCH == 0 && sbinuptime() >= walk->deadline) {
			rvmrpc_records_partial(w);
			return;
		}
		tasks_place(walk, p);
	}
}

static void
tasks_begin(struct tasks_walk *walk, uint32_t ms, uint32_t select,
    uint64_t first)
{
	walk->select = select;
	walk->first = first;
	walk->deadline = sbinuptime() + MIN(ms / 2, TASKS_WALK_MS) * SBT_1MS;
	walk->seen = 0;
	walk->n = 0;
}

/* ---- list ---- */

static bool
tasks_process(struct rvmrpc_record_writer *w, struct proc *p, uint64_t cursor)
{
	struct tasks_info info;

	PROC_LOCK(p);
	tasks_look(p, FIRST_THREAD_IN_PROC(p), &info);
	PROC_UNLOCK(p);
	tasks_record(w, &info);
	rvmrpc_record_u64(w, RVMRPC_TASK_THREADS, info.threads);
	if (info.rss != RVMRPC_ABSENT)
		rvmrpc_record_u64(w, RVMRPC_TASK_RSS, info.rss);
	rvmrpc_record_u64(w, RVMRPC_TASK_CPU_NS, info.cpu_ns);
	return (rvmrpc_record_end(w, cursor));
}

/* By PID the cursor is one, and there may be more than there are places. */
static void
tasks_all(struct rvmrpc_record_writer *w, const struct tasks_walk *walk)
{
	const struct rvmrpc_place *place;
	uint32_t i;

	for (i = 0; i < walk->n; i++) {
		place = &tasks_places[i];
		if (!tasks_process(w, place->what, place->number))
			return;
	}
	if (walk->seen > walk->n)
		rvmrpc_records_more(w, tasks_places[walk->n - 1].number + 1ull);
}

static void
tasks_first(struct rvmrpc_record_writer *w, const struct tasks_walk *walk)
{
	uint64_t i;

	for (i = w->wanted.cursor; i < walk->n; i++)
		if (!tasks_process(w, tasks_places[i].what, i))
			return;
}

int
rvmrpc_os_tasks_list(struct rvmrpc_record_writer *w, uint32_t ms)
{
	struct tasks_walk walk;

	if (!tasks_lock())
		return (RVMRPC_STATUS_BUSY);
	tasks_begin(&walk, ms, w->wanted.select, w->wanted.cursor);
	tasks_sort(w, &walk);
	if (walk.select == RVMRPC_TASKS_BY_PID)
		tasks_all(w, &walk);
	else
		tasks_first(w, &walk);
	sx_sunlock(&allproc_lock);
	return (RVMRPC_STATUS_OK);
}

/* ---- blocked ---- */

/* False: it is there no more, or goes on. */
static bool
tasks_look_blocked(struct proc *p, uint32_t number, struct tasks_info *info)
{
	struct thread *td;

	PROC_LOCK(p);
	FOREACH_THREAD_IN_PROC(p, td)
		if ((uint32_t)td->td_tid == number)
			break;
	if (td != NULL)
		tasks_look(p, td, info);
	PROC_UNLOCK(p);
	return (td != NULL && info->state == 'D');
}

static void
tasks_threads(struct rvmrpc_record_writer *w, const struct tasks_walk *walk)
{
	const struct rvmrpc_place *place;
	struct tasks_info info;
	uint32_t i;

	for (i = 0; i < walk->n; i++) {
		place = &tasks_places[i];
		if (!tasks_look_blocked(place->what, place->number, &info))
			continue;
		tasks_record(w, &info);
		rvmrpc_record_u64(w, RVMRPC_TASK_THREAD, place->number);
		if (!rvmrpc_record_end(w, place->number))
			return;
	}
	if (walk->seen > walk->n)
		rvmrpc_records_more(w, tasks_places[walk->n - 1].number + 1ull);
}

int
rvmrpc_os_tasks_blocked(struct rvmrpc_record_writer *w, uint32_t ms)
{
	struct tasks_walk walk;

	if (!tasks_lock())
		return (RVMRPC_STATUS_BUSY);
	tasks_begin(&walk, ms, TASKS_BLOCKED, w->wanted.cursor);
	tasks_sort(w, &walk);
	tasks_threads(w, &walk);
	sx_sunlock(&allproc_lock);
	return (RVMRPC_STATUS_OK);
}

/* ---- Module ---- */

int
rvmrpc_mod_tasks_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_tasks_module));
}

void
rvmrpc_mod_tasks_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_tasks_module);
}
