// SPDX-License-Identifier: GPL-2.0-only
/*
 * The server thread, and the path by a gate.
 *
 * One turn by a gate is one gate call: it brings the response of the call before and takes the next request.  With none
 * pending the call either waits in the host (VMLP; any interrupt of this CPU ends it) or arms the device's interrupt,
 * for which the thread then sleeps.  The other path is in rvmrpc_serve.c.
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

#define RVMRPC_CROWDED_MS	20	/* with vmlp_idle_us=-1, when others ran on the CPU */
#define RVMRPC_QUICK_US		20	/* a wait that ends sooner was refused or interrupted */
#define RVMRPC_QUICK_MAX	16

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

static const struct kernel_param_ops rvmrpc_kicking_int_ops = {
	.set = rvmrpc_kicking_set_int,
	.get = param_get_int,
};

static int vmlp_idle_us = 50;
module_param_cb(vmlp_idle_us, &rvmrpc_kicking_int_ops, &vmlp_idle_us, 0644);
__MODULE_PARM_TYPE(vmlp_idle_us, "int");
MODULE_PARM_DESC(vmlp_idle_us, "wait in the host for this long after a call, then sleep until the interrupt; 0 never, -1 always (default 50)");

static int cpu = -1;
module_param_cb(cpu, &rvmrpc_kicking_int_ops, &cpu, 0644);
__MODULE_PARM_TYPE(cpu, "int");
MODULE_PARM_DESC(cpu, "CPU of the server thread, -1 any (default -1)");

static int watchdog_ms = 2000;
module_param_cb(watchdog_ms, &rvmrpc_kicking_int_ops, &watchdog_ms, 0644);
__MODULE_PARM_TYPE(watchdog_ms, "int");
MODULE_PARM_DESC(watchdog_ms, "register again this long after the deadlines of the calls that hold all slots; -1 never (default 2000)");

/* ---- Running calls ---- */

static void rvmrpc_run(struct rvmrpc_slot *slot, u32 number)
{
	struct rvmrpc_session *session = slot->session;
	struct rvmrpc_hdr reply;

	rvmrpc_server_run(&slot->call, slot->request + sizeof(reply),
			  slot->response + sizeof(reply),
			  session->res_pages * RVMRPC_PAGE_SIZE - sizeof(reply), &reply);
	rvmrpc_registry_done(&slot->call, slot->owner);
	memcpy(slot->response, &reply, sizeof(reply));
	trace_rvmrpc_call_end(&reply, number);
}

static u64 rvmrpc_proxy(const struct rvmrpc_session *session, u32 procedure)
{
	return session->handle | (u64)procedure << 32;
}

/* The slot is the host's again with the gate call; nothing of it but the frame is touched after. */
static void rvmrpc_worker_reply(struct rvmrpc_slot *slot, u32 number)
{
	struct rvmrpc_session *session = slot->session;
	u32 answer = RVMRPC_GATE_RESET;

	/* Pairs with rvmrpc_take(). */
	smp_store_release(&slot->busy, false);
	if (!READ_ONCE(session->dead))
		answer = rvmrpc_gate_call_published(slot->frame, session->op,
						    rvmrpc_proxy(session, RVMRPC_REPLY),
						    session->epoch, number);
	if (RVMRPC_GATE_IS_CODE(answer)) {
		rvmrpc_count(RVMRPC_CNT_LATE);
		rvmrpc_server_kick_all();
	}
}

void rvmrpc_worker(struct work_struct *work)
{
	struct rvmrpc_slot *slot = container_of(work, struct rvmrpc_slot, work);
	struct rvmrpc_session *session = slot->session;
	u32 number = slot - session->slots;

	if (READ_ONCE(slot->cancelled))
		slot->call.status = RVMRPC_STATUS_CANCELLED;
	rvmrpc_run(slot, number);
	rvmrpc_worker_reply(slot, number);
	rvmrpc_session_put(session);
}

static void rvmrpc_hand_to_worker(struct rvmrpc_slot *slot)
{
	u32 timeout = min_t(u32, slot->hdr.timeout_ms, RVMRPC_TIMEOUT_MS_MAX);

	slot->deadline = jiffies + msecs_to_jiffies(timeout);
	slot->cancelled = false;
	WRITE_ONCE(slot->busy, true);
	rvmrpc_session_get(slot->session);
	rvmrpc_count(RVMRPC_CNT_WORKERS);
	queue_work(rvmrpc_workers, &slot->work);
}

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

void rvmrpc_back_off(struct rvmrpc_dev *rdev)
{
	rvmrpc_sleep(rdev, rdev->backoff_ms);
	rdev->backoff_ms = min(2 * rdev->backoff_ms, RVMRPC_BACKOFF_MAX_MS);
}

static void rvmrpc_lost(struct rvmrpc_dev *rdev)
{
	rvmrpc_session_retire(rdev);
	rvmrpc_set_state(rdev, RVMRPC_STATE_DISCONNECTED, 0, 0);
}

static void rvmrpc_connect(struct rvmrpc_dev *rdev)
{
	int err;

	clear_bit(RVMRPC_KICKED, &rdev->kicked);
	err = rvmrpc_session_connect(rdev);
	if (err) {
		dev_notice_ratelimited(&rdev->pdev->dev, "cannot register with the host: %pe\n",
				       ERR_PTR(err));
		rvmrpc_back_off(rdev);
		return;
	}
	rdev->reply_slot = RVMRPC_SLOT_NONE;
	rdev->quick = 0;
	rvmrpc_count(RVMRPC_CNT_CONNECTS);
	rvmrpc_set_state(rdev, RVMRPC_STATE_CONNECTED, rdev->session->epoch, rdev->session->nslots);
	dev_info_ratelimited(&rdev->pdev->dev, "connected: %u slots, %s gate, proxy in the %s\n",
			     rdev->session->nslots,
			     READ_ONCE(rdev->gate.kind) == RVMRPC_GATE_KIND_HYPERCALL ?
			     "hypercall" : "doorbell",
			     rdev->session->op & RVMRPC_OP_KERNEL ? "host's kernel" : "VMM");
}

/* Every slot is held by a procedure that the host no longer waits for: begin anew without them. */
static void rvmrpc_watchdog(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_session *session = rdev->session;
	int grace = READ_ONCE(watchdog_ms);
	u32 i;

	if (grace < 0 || !rvmrpc_session_busy(session) || !rvmrpc_session_stuck(session))
		return;
	for (i = 0; i < session->nslots; i++)
		if (time_before(jiffies, session->slots[i].deadline + msecs_to_jiffies(grace)))
			return;
	if (atomic_read(&rvmrpc_abandoned) >= RVMRPC_ABANDONED_MAX)
		return;
	dev_warn(&rdev->pdev->dev, "procedures hold all %u slots past their deadlines; registering again\n",
		 session->nslots);
	rvmrpc_count(RVMRPC_CNT_WATCHDOG);
	rvmrpc_lost(rdev);
}

/* ---- Requests ---- */

static void rvmrpc_take(struct rvmrpc_dev *rdev, u32 number)
{
	struct rvmrpc_session *session = rdev->session;
	struct rvmrpc_origin origin;
	struct rvmrpc_slot *slot;

	slot = number < session->nslots ?
		&session->slots[array_index_nospec(number, session->nslots)] : NULL;
	/* Pairs with rvmrpc_worker_reply(): the worker is done with slot->call. */
	if (!slot || smp_load_acquire(&slot->busy)) {
		dev_warn_ratelimited(&rdev->pdev->dev, "the host gave slot %u, which it does not have\n",
				     number);
		rvmrpc_count(RVMRPC_CNT_ERRORS);
		rvmrpc_lost(rdev);
		rvmrpc_back_off(rdev);
		return;
	}
	memcpy(&slot->hdr, slot->request, sizeof(slot->hdr));
	barrier();	/* from here on only the copy counts */
	origin.epoch = session->epoch;
	origin.abi = session->abi;
	origin.req_bytes = session->req_pages * RVMRPC_PAGE_SIZE - sizeof(slot->hdr);
	if (!rvmrpc_registry_accept(&origin, &slot->hdr, &slot->call, &slot->owner)) {
		rvmrpc_count(RVMRPC_CNT_MALFORMED);
		return;
	}
	rvmrpc_count(RVMRPC_CNT_CALLS);
	if (slot->call.status != RVMRPC_STATUS_OK)
		rvmrpc_count(RVMRPC_CNT_REFUSED);
	trace_rvmrpc_call_begin(&slot->hdr, number);
	if (slot->call.status == RVMRPC_STATUS_OK && (slot->call.flags & RVMRPC_PROC_MAY_SLEEP)) {
		rvmrpc_hand_to_worker(slot);
	} else {
		rvmrpc_run(slot, number);
		rdev->reply_slot = number;
	}
	rdev->last_call = ktime_get();
}

/*
 * Flags of the next poll.  Waiting in the host takes this CPU from whatever else wants it, and asking
 * afterwards is too late; so only a CPU with nothing else to run waits.
 */
static u32 rvmrpc_poll_flags(const struct rvmrpc_dev *rdev)
{
	int idle_us = READ_ONCE(vmlp_idle_us);
	s64 left;

	if (!idle_us || !rvmrpc_gate_waits(&rdev->gate) || !single_task_running())
		return 0;
	if (rdev->quick >= RVMRPC_QUICK_MAX)
		return 0;
	if (idle_us < 0)
		return RVMRPC_MAIN_WAIT;
	left = idle_us - ktime_us_delta(ktime_get(), rdev->last_call);
	if (left <= 0)
		return 0;
	left = min_t(s64, left, RVMRPC_MAIN_WAIT_US_MAX);
	return RVMRPC_MAIN_WAIT | (u32)left << RVMRPC_MAIN_WAIT_US_SHIFT;
}

static void rvmrpc_idle(struct rvmrpc_dev *rdev)
{
	unsigned int ms = RVMRPC_SELF_CHECK_MS;

	if (!rdev->has_irq)
		ms = RVMRPC_NO_IRQ_POLL_MS;
	else if (rvmrpc_session_busy(rdev->session))
		ms = RVMRPC_BUSY_CHECK_MS;
	if (READ_ONCE(vmlp_idle_us) < 0 && rvmrpc_gate_waits(&rdev->gate))
		ms = min(ms, RVMRPC_CROWDED_MS);
	rdev->quick = 0;
	rvmrpc_sleep(rdev, ms);
}

static u32 rvmrpc_poll(struct rvmrpc_dev *rdev, u32 flags)
{
	struct rvmrpc_session *session = rdev->session;
	ktime_t begin = ktime_get();
	u32 answer;

	rvmrpc_count(RVMRPC_CNT_POLLS);
	answer = rvmrpc_gate_call(&rdev->gate, rdev->frame, session->op,
				  rvmrpc_proxy(session, RVMRPC_MAIN), session->epoch,
				  RVMRPC_MAIN_ARG(rdev->reply_slot, flags));
	if (answer != RVMRPC_GATE_NONE)
		rdev->reply_slot = RVMRPC_SLOT_NONE;
	if (!flags)
		return answer;
	rvmrpc_count(RVMRPC_CNT_WAITS);
	if (answer == RVMRPC_GATE_AGAIN &&
	    ktime_us_delta(ktime_get(), begin) < RVMRPC_QUICK_US)
		rdev->quick++;
	else
		rdev->quick = 0;
	return answer;
}

static void rvmrpc_turn(struct rvmrpc_dev *rdev)
{
	u32 flags = rvmrpc_poll_flags(rdev);
	u32 answer;

	clear_bit(RVMRPC_KICKED, &rdev->kicked);
	smp_mb__after_atomic();	/* Before the poll: an interrupt that comes after it is not lost. */
	answer = rvmrpc_poll(rdev, flags);
	if (!RVMRPC_GATE_IS_CODE(answer)) {
		rdev->backoff_ms = RVMRPC_BACKOFF_MIN_MS;
		rvmrpc_take(rdev, answer);
		return;
	}
	switch (answer) {
	case RVMRPC_GATE_AGAIN:
		rdev->backoff_ms = RVMRPC_BACKOFF_MIN_MS;
		rvmrpc_watchdog(rdev);
		if (!flags && rdev->state == RVMRPC_STATE_CONNECTED)
			rvmrpc_idle(rdev);
		break;
	case RVMRPC_GATE_RESET:
	case RVMRPC_GATE_BAD_HANDLE:
		rvmrpc_count(RVMRPC_CNT_RESETS);
		rvmrpc_lost(rdev);
		break;
	default:
		rvmrpc_count(RVMRPC_CNT_ERRORS);
		dev_notice_ratelimited(&rdev->pdev->dev, "the host answers a poll with 0x%x\n", answer);
		rvmrpc_lost(rdev);
		rvmrpc_back_off(rdev);
	}
}

static void rvmrpc_gate_leave(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_session *session = rdev->session;

	/* The answer to core.exit. */
	if (rdev->reply_slot != RVMRPC_SLOT_NONE)
		rvmrpc_gate_call(&rdev->gate, rdev->frame, session->op,
				 rvmrpc_proxy(session, RVMRPC_REPLY), session->epoch,
				 rdev->reply_slot);
	rvmrpc_session_leave(rdev);
}

static void rvmrpc_gate_cancel(struct rvmrpc_dev *rdev, u64 xid)
{
	struct rvmrpc_session *session = rdev->session;
	u32 i;

	for (i = 0; i < session->nslots; i++) {
		struct rvmrpc_slot *slot = &session->slots[i];

		if (READ_ONCE(slot->busy) && slot->hdr.xid == xid)
			WRITE_ONCE(slot->cancelled, true);
	}
}

static const char *rvmrpc_gate_wait_mode(const struct rvmrpc_dev *rdev)
{
	int idle_us = READ_ONCE(vmlp_idle_us);

	if (idle_us && rvmrpc_gate_waits(&rdev->gate))
		return idle_us < 0 ? "vmlp" : "vmlp-then-interrupt";
	return rdev->has_irq ? "interrupt" : "timer";
}

const struct rvmrpc_path rvmrpc_gate_path = {
	.connect = rvmrpc_connect,
	.turn = rvmrpc_turn,
	.leave = rvmrpc_gate_leave,
	.drop = rvmrpc_session_drop,
	.cancel = rvmrpc_gate_cancel,
	.wait_mode = rvmrpc_gate_wait_mode,
};

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
			set_cpus_allowed_ptr(current, cpu_possible_mask);
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
	rdev->path->leave(rdev);
	rdev->path->drop(rdev);
	rvmrpc_set_state(rdev, RVMRPC_STATE_LEFT, 0, 0);
	dev_info(&rdev->pdev->dev, "the host has ended the server\n");
}

static int rvmrpc_server(void *data)
{
	struct rvmrpc_dev *rdev = data;

	while (!READ_ONCE(rdev->stop)) {
		cond_resched_tasks_rcu_qs();
		rvmrpc_keep_cpu(rdev);
		if (rdev->leave && rdev->state == RVMRPC_STATE_CONNECTED)
			rvmrpc_leave(rdev);
		else if (rdev->state == RVMRPC_STATE_CONNECTED)
			rdev->path->turn(rdev);
		else if (rdev->state == RVMRPC_STATE_LEFT)
			wait_event_idle(rdev->wake, READ_ONCE(rdev->stop));
		else
			rdev->path->connect(rdev);
	}
	if (rdev->state == RVMRPC_STATE_CONNECTED)
		rdev->path->leave(rdev);
	rdev->path->drop(rdev);
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

	rdev->stop = false;
	rdev->leave = false;
	rdev->session = NULL;
	rdev->reply_slot = RVMRPC_SLOT_NONE;
	rdev->last_call = ktime_get();
	rdev->backoff_ms = RVMRPC_BACKOFF_MIN_MS;
	rdev->bound_cpu = -1;
	reinit_completion(&rdev->stopped);
	rvmrpc_set_state(rdev, RVMRPC_STATE_DISCONNECTED, 0, 0);
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

/* Leaves the host and ends the thread.  Workers go on; their replies are dropped. */
void rvmrpc_server_stop(struct rvmrpc_dev *rdev)
{
	struct task_struct *thread = rdev->thread;

	if (!thread)
		return;
	WRITE_ONCE(rdev->stop, true);
	/* Any interrupt ends its wait in the host; one that comes just before the wait does not. */
	do {
		wake_up_all(&rdev->wake);
		smp_call_function_single(task_cpu(thread), rvmrpc_nothing, NULL, 0);
	} while (!wait_for_completion_timeout(&rdev->stopped, msecs_to_jiffies(20)));
	WRITE_ONCE(rdev->thread, NULL);
	kthread_stop(thread);
}

void rvmrpc_server_kick(struct rvmrpc_dev *rdev)
{
	set_bit(RVMRPC_KICKED, &rdev->kicked);
	wake_up_all(&rdev->wake);
}
