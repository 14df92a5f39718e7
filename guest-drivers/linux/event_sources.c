// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where events come from: OOM kills, stalls for memory, panics and oopses.
 *
 * The OOM killer's notifier names no victim; its trace point does, and this kernel's modules may listen to any of those
 * that they find by name.  A PSI trigger is a file's of user space: its writer takes no kernel's text.  So the total is
 * looked at twice a second while the CPU is awake, and with the server thread's beat; an idle guest is not woken for it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kdebug.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <trace/events/oom.h>
#include "pressure_text.h"
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

static void event_process(struct rvmrpc_event_writer *e, struct task_struct *task)
{
	rvmrpc_record_u64(&e->fields, RVMRPC_EVENT_PID, task_tgid_nr(task));
	rvmrpc_event_string(e, RVMRPC_EVENT_PROCESS, task->comm, strnlen(task->comm, sizeof(task->comm)));
}

/* ---- OOM kills ---- */

static struct tracepoint *event_oom;	/* NULL: this kernel has none */

/* Its memory is stable: its lock is held, or it is current. */
static void event_victim(struct task_struct *task)
{
	struct rvmrpc_event_writer e;

	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_OOM_KILL);
	event_process(&e, task);
	if (task->mm)
		rvmrpc_record_u64(&e.fields, RVMRPC_EVENT_RSS, (u64)get_mm_rss(task->mm) << PAGE_SHIFT);
	rvmrpc_event_send(&e);
}

static void event_mark_victim(void *unused, struct task_struct *task, uid_t uid)
{
	event_victim(task);
}

/* Kernels before 6.8, but for those that have it by now. */
static void event_mark_victim_pid(void *unused, int pid)
{
	struct task_struct *task;

	rcu_read_lock();
	task = pid_task(find_pid_ns(pid, &init_pid_ns), PIDTYPE_PID);
	if (task)
		event_victim(task);
	rcu_read_unlock();
}

static void *event_oom_probe(void)
{
	return __builtin_types_compatible_p(typeof(trace_mark_victim), void(int)) ? (void *)event_mark_victim_pid :
										     (void *)event_mark_victim;
}

static void event_find_oom(struct tracepoint *tp, void *unused)
{
	if (!strcmp(tp->name, "mark_victim"))
		event_oom = tp;
}

static void event_oom_init(void)
{
	for_each_kernel_tracepoint(event_find_oom, NULL);
	if (event_oom && tracepoint_probe_register(event_oom, event_oom_probe(), NULL))
		event_oom = NULL;
	if (!event_oom)
		pr_notice("this kernel does not say whom its OOM killer meets; the host is not told\n");
}

static void event_oom_exit(void)
{
	if (!event_oom)
		return;
	tracepoint_probe_unregister(event_oom, event_oom_probe(), NULL);
	tracepoint_synchronize_unregister();
}

/* ---- Stalls ---- */

#define EVENT_STALL_MS		500
#define EVENT_CALM_MS		5000	/* a stall has ended when there was none for so long */

static unsigned int stall_percent = 20;
module_param(stall_percent, uint, 0644);
MODULE_PARM_DESC(stall_percent, "tell the host when tasks wait for memory for more of the time than this, 0 never (default 20)");

/* All of it the work's own. */
static struct rvmrpc_procfile event_psi = { .path = "pressure/memory", .optional = true };
static char event_psi_text[256];
static u64 event_psi_total;		/* us, at the last look, */
static u64 event_psi_at;		/* which was then, ns */
static u64 event_stalled_at;		/* when it last was over the limit, ns; 0: it is not stalled */
static unsigned long event_psi_next;	/* jiffies of the look after; the work's to write */

static void event_stall(bool ended, u64 share)
{
	struct rvmrpc_event_writer e;

	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_STALL);
	rvmrpc_record_u64(&e.fields, RVMRPC_EVENT_SHARE, share);
	if (ended)
		rvmrpc_record_u64(&e.fields, RVMRPC_EVENT_ENDED, 1);
	rvmrpc_event_send(&e);
}

static void event_judge(u64 total, u64 now)
{
	u64 limit = 100ull * READ_ONCE(stall_percent), share;

	if (!event_psi_at || now - event_psi_at < NSEC_PER_MSEC)
		return;
	/* Hundredths of a percent. */
	share = min_t(u64, div64_u64((total - event_psi_total) * 10000 * NSEC_PER_USEC, now - event_psi_at), 10000);
	if (limit && share >= limit) {
		if (!event_stalled_at)
			event_stall(false, share);
		event_stalled_at = now;
	} else if (event_stalled_at && now - event_stalled_at >= EVENT_CALM_MS * NSEC_PER_MSEC) {
		event_stall(true, share);
		event_stalled_at = 0;
	}
}

static void event_psi_work(struct work_struct *work)
{
	struct pressure_psi psi;
	u64 now = ktime_get_ns();
	ssize_t got;

	got = rvmrpc_proc_read(event_psi.file, event_psi.path, event_psi_text, sizeof(event_psi_text) - 1, 0);
	/* It is switched off until the next boot. */
	if (got == -EOPNOTSUPP)
		return;
	event_psi_text[max_t(ssize_t, got, 0)] = '\0';
	/* Its first line is of those of which some waited. */
	if (pressure_psi_read(event_psi_text, &psi)) {
		event_judge(psi.total, now);
		event_psi_total = psi.total;
		event_psi_at = now;
	}
	WRITE_ONCE(event_psi_next, jiffies + msecs_to_jiffies(EVENT_STALL_MS));
	schedule_delayed_work(to_delayed_work(work), msecs_to_jiffies(EVENT_STALL_MS));
}

/* It wakes nobody. */
static DECLARE_DEFERRABLE_WORK(event_psi_look, event_psi_work);

void rvmrpc_event_sources_beat(void)
{
	/* A server that looks every 20 ms whether it has its CPU for itself would not, by this. */
	if (time_after_eq(jiffies, READ_ONCE(event_psi_next)) && cancel_delayed_work(&event_psi_look))
		schedule_delayed_work(&event_psi_look, 0);
}

/* ---- Panic and oops ---- */

/* What is no function that has a name would be printed as an address, which is nobody's business. */
size_t rvmrpc_function(unsigned long address, char *name, size_t size)
{
	size_t length = scnprintf(name, size, "%ps", (void *)address);

	return strstarts(name, "0x") ? scnprintf(name, size, "?") : length;
}

static int event_panic(struct notifier_block *nb, unsigned long unused, void *reason)
{
	struct rvmrpc_event_writer e;

	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_PANIC);
	event_process(&e, current);
	if (reason)
		rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, reason, strlen(reason));
	rvmrpc_event_send(&e);
	return NOTIFY_DONE;
}

static struct notifier_block event_panic_nb = {
	.notifier_call = event_panic,
	.priority = INT_MAX,		/* others may hang */
};

static int event_oops(struct notifier_block *nb, unsigned long what, void *data)
{
	const struct die_args *args = data;
	struct rvmrpc_event_writer e;
	char text[128], name[64];
	int n;

	if (what != DIE_OOPS)
		return NOTIFY_DONE;
	rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_OOPS);
	event_process(&e, current);
	rvmrpc_function(args->regs ? instruction_pointer(args->regs) : 0, name, sizeof(name));
	n = scnprintf(text, sizeof(text), "%s in %s", args->str, name);
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, text, n);
	rvmrpc_event_send(&e);
	return NOTIFY_DONE;
}

static struct notifier_block event_oops_nb = {
	.notifier_call = event_oops,
};

/* ---- All of them ---- */

int rvmrpc_event_sources_init(void)
{
	int err = rvmrpc_procfile_open(&event_psi, event_psi_text, sizeof(event_psi_text));

	if (err)
		return err;
	event_oom_init();
	atomic_notifier_chain_register(&panic_notifier_list, &event_panic_nb);
	register_die_notifier(&event_oops_nb);
	if (event_psi.file)
		schedule_delayed_work(&event_psi_look, 0);
	return 0;
}

void rvmrpc_event_sources_exit(void)
{
	cancel_delayed_work_sync(&event_psi_look);
	unregister_die_notifier(&event_oops_nb);
	atomic_notifier_chain_unregister(&panic_notifier_list, &event_panic_nb);
	event_oom_exit();
	rvmrpc_procfile_close(&event_psi);
}
