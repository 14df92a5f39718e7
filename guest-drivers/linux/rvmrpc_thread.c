// SPDX-License-Identifier: GPL-2.0-only
/*
 * The server thread: its life, its CPU, its sleep.  What it does with the window is in rvmrpc_serve.c.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/smp.h>
#include "rvmrpc_drv.h"

#define CREATE_TRACE_POINTS
#include "rvmrpc_trace.h"

static int rvmrpc_kicking_set_int(const char *text, const struct kernel_param *kp)
{
	int *value = kp->arg;
	int new, err;

	err = kstrtoint(text, 0, &new);
	if (err)
		return err;
	if (new < -1)
		return -EINVAL;
	WRITE_ONCE(*value, new);
	rvmrpc_server_kick_all();
	return 0;
}

/* Of parameters that the thread shall see at once. */
const struct kernel_param_ops rvmrpc_kicking_int_ops = {
	.set = rvmrpc_kicking_set_int,
	.get = param_get_int,
};

static int cpu = -1;
module_param_cb(cpu, &rvmrpc_kicking_int_ops, &cpu, 0644);
__MODULE_PARM_TYPE(cpu, "int");
MODULE_PARM_DESC(cpu, "CPU of the server thread, -1 any (default -1)");

static int watchdog_ms = 2000;
module_param_cb(watchdog_ms, &rvmrpc_kicking_int_ops, &watchdog_ms, 0644);
__MODULE_PARM_TYPE(watchdog_ms, "int");
MODULE_PARM_DESC(watchdog_ms, "register again this long after the deadlines of the calls that hold all slots; -1 never (default 2000)");

/* ---- State ---- */

void rvmrpc_set_state(struct rvmrpc_dev *rdev, enum rvmrpc_state state, u64 epoch, u32 nslots)
{
	WRITE_ONCE(rdev->epoch, epoch);
	WRITE_ONCE(rdev->nslots, nslots);
	WRITE_ONCE(rdev->state, state);
}

/* Sleeps until the interrupt, a kick, a stop, or the time is over; true for the last. */
bool rvmrpc_sleep(struct rvmrpc_dev *rdev, unsigned int ms)
{
	rvmrpc_count_own(RVMRPC_CNT_SLEEPS);
	return !wait_event_idle_timeout(rdev->wake,
					test_bit(RVMRPC_KICKED, &rdev->kicked) ||
					READ_ONCE(rdev->stop), msecs_to_jiffies(ms));
}

/* Whatever the host does meanwhile. */
void rvmrpc_pause(struct rvmrpc_dev *rdev, unsigned int ms)
{
	wait_event_idle_timeout(rdev->wake, READ_ONCE(rdev->stop), msecs_to_jiffies(ms));
}

int rvmrpc_watchdog_ms(void)
{
	return READ_ONCE(watchdog_ms);
}

/* ---- The thread ---- */

/* CPU hotplug takes a thread off its CPU, lets it run anywhere and does not bring it back. */
static void rvmrpc_keep_cpu(struct rvmrpc_dev *rdev)
{
	int want = READ_ONCE(cpu);

	if (want < 0) {
		if (rdev->bound_cpu >= 0)
			set_cpus_allowed_ptr(current, &rdev->cpus);
		rdev->bound_cpu = -1;
		return;
	}
	if (rdev->bound_cpu == want && cpumask_equal(current->cpus_ptr, cpumask_of(want)))
		return;
	if (want < nr_cpu_ids && cpu_online(want) &&
	    !set_cpus_allowed_ptr(current, cpumask_of(want)))
		rdev->bound_cpu = want;
}

/* core.exit.  Rebinding the driver to the device brings the server back. */
static void rvmrpc_leave(struct rvmrpc_dev *rdev)
{
	rvmrpc_window_leave(rdev);
	rvmrpc_window_drop(rdev);
	rvmrpc_set_state(rdev, RVMRPC_STATE_LEFT, 0, 0);
	dev_info(&rdev->pdev->dev, "the host has ended the server\n");
}

static void rvmrpc_server_turn(struct rvmrpc_dev *rdev)
{
	cond_resched_tasks_rcu_qs();
	rvmrpc_keep_cpu(rdev);
	if (rdev->leave && rdev->state == RVMRPC_STATE_CONNECTED)
		rvmrpc_leave(rdev);
	else if (rdev->state == RVMRPC_STATE_CONNECTED)
		rvmrpc_window_turn(rdev);
	else if (rdev->state == RVMRPC_STATE_LEFT)
		wait_event_idle(rdev->wake, READ_ONCE(rdev->stop));
	else
		rvmrpc_window_connect(rdev);
}

static int rvmrpc_server(void *data)
{
	struct rvmrpc_dev *rdev = data;

	cpumask_copy(&rdev->cpus, current->cpus_ptr);
	/* Hundreds of processes that want every CPU, as a fork bomb makes, would keep it off for seconds. */
	set_user_nice(current, MIN_NICE);
	do {
		while (!READ_ONCE(rdev->stop))
			rvmrpc_server_turn(rdev);
	} while (cmpxchg(&rdev->stop, RVMRPC_STOP_ASKED, RVMRPC_STOP_AGREED) != RVMRPC_STOP_ASKED);
	if (rdev->state == RVMRPC_STATE_CONNECTED)
		rvmrpc_window_leave(rdev);
	rvmrpc_window_drop(rdev);
	rvmrpc_set_state(rdev, RVMRPC_STATE_STOPPED, 0, 0);
	complete(&rdev->stopped);

	set_current_state(TASK_IDLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_IDLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* For procedures that never sleep: they run in the server thread. */
struct rvmrpc_dev *rvmrpc_server_self(void)
{
	return kthread_data(current);
}

int rvmrpc_server_start(struct rvmrpc_dev *rdev)
{
	struct task_struct *thread;

	rdev->stop = RVMRPC_STOP_NOT;
	rdev->vmlp.last_call = ktime_get();
	rdev->bound_cpu = -1;
	reinit_completion(&rdev->stopped);
	rvmrpc_set_state(rdev, rdev->leave ? RVMRPC_STATE_LEFT : RVMRPC_STATE_DISCONNECTED, 0, 0);
	thread = kthread_run(rvmrpc_server, rdev, "rvmrpc");
	if (IS_ERR(thread)) {
		rvmrpc_set_state(rdev, RVMRPC_STATE_STOPPED, 0, 0);
		return PTR_ERR(thread);
	}
	WRITE_ONCE(rdev->thread, thread);
	return 0;
}

static void rvmrpc_nothing(void *unused)
{
}

/*
 * Leaves the host and ends the thread.  Workers go on; their replies are dropped.  ms: how long a procedure may hold the
 * thread, then it goes on and the answer is -EBUSY; 0 is for ever.
 */
int rvmrpc_server_stop(struct rvmrpc_dev *rdev, unsigned int ms)
{
	unsigned long end = jiffies + msecs_to_jiffies(ms);
	struct task_struct *thread = rdev->thread;

	if (!thread)
		return 0;
	WRITE_ONCE(rdev->stop, RVMRPC_STOP_ASKED);
	/* Any interrupt ends its wait in the host; one that comes just before the wait does not. */
	do {
		wake_up_all(&rdev->wake);
		smp_call_function_single(task_cpu(thread), rvmrpc_nothing, NULL, 0);
		if (ms && time_after(jiffies, end) &&
		    cmpxchg(&rdev->stop, RVMRPC_STOP_ASKED, RVMRPC_STOP_NOT) == RVMRPC_STOP_ASKED) {
			dev_warn(&rdev->pdev->dev, "a procedure holds the server thread\n");
			return -EBUSY;
		}
	} while (!wait_for_completion_timeout(&rdev->stopped, msecs_to_jiffies(20)));
	WRITE_ONCE(rdev->thread, NULL);
	kthread_stop(thread);
	return 0;
}

void rvmrpc_server_kick(struct rvmrpc_dev *rdev)
{
	set_bit(RVMRPC_KICKED, &rdev->kicked);
	wake_up_all(&rdev->wake);
}
