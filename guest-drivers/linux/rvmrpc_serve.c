// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hello, requests, and how the server thread waits for them.
 *
 * In a burst a call costs neither exit nor interrupt: the thread spins on one word for a short time after each call,
 * while nothing else wants this CPU.  Then it waits in the host, where the gate has that, for a short time too.  Then it
 * says that it sleeps, looks once more, and sleeps until the interrupt.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel_stat.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/utsname.h>
#include "rvmrpc_drv.h"
#include "rvmrpc_trace.h"

#define RVMRPC_SPIN_MIN_US	10	/* what a spin grows from */
#define RVMRPC_SPIN_BATCH	256	/* looks at one slot between looks at all else */
#define RVMRPC_TURN_MAX		256	/* requests before the thread looks at all else */
#define RVMRPC_HELLO_FIRST_MS	100	/* then 1 s, then every 5 s */
#define RVMRPC_HELLO_THEN_MS	1000
#define RVMRPC_HELLO_MAX_MS	5000

static unsigned int spin_us = 1000;
module_param(spin_us, uint, 0644);
MODULE_PARM_DESC(spin_us, "look for the next request for so long after a call, if nothing else runs and the host lets it; 0 never (default 1000)");

/* ---- Requests ---- */

static inline void rvmrpc_answer(struct rvmrpc_dev *rdev)
{
	const struct rvmrpc_taken *t = &rdev->w.taken;
	struct rvmrpc_guest *g = &rdev->w.guest;
	struct rvmrpc_hdr reply;

	if (rdev->w.call.status == RVMRPC_STATUS_OK) {
		if (t->hdr.length > rdev->w.arg_bytes)
			rdev->w.call.status = RVMRPC_STATUS_BUSY;
		else if (!rvmrpc_guest_copy_arg(g, t, rdev->w.arg))
			return;
	}
	rvmrpc_server_run(&rdev->w.call, rdev->w.arg, rvmrpc_guest_res(g, t->slot), g->layout.res_bytes, &reply);
	/* By value: the reply is built where it is published, and nowhere else. */
	trace_rvmrpc_call_end(reply.xid, reply.status, reply.length, t->slot);
	if (!rvmrpc_guest_publish(g, t->slot, t->seq, &reply))
		return;
	if (rvmrpc_vmlp_follows(rdev))
		rdev->w.ring_due = true;
	else
		rvmrpc_window_ring(rdev);
}

/* An answer was left to a wait that does not follow after all. */
static void rvmrpc_ring_due(struct rvmrpc_dev *rdev)
{
	if (!rdev->w.ring_due)
		return;
	rdev->w.ring_due = false;
	rvmrpc_window_ring(rdev);
}

static void rvmrpc_window_lost(struct rvmrpc_dev *rdev)
{
	rvmrpc_jobs_retire(rdev);
	rvmrpc_events_close(rdev);
	rdev->w.guest.state = RVMRPC_GUEST_IDLE;
	rvmrpc_set_state(rdev, RVMRPC_STATE_DISCONNECTED, 0, 0);
	/* A host whose epochs do not last must not make this thread spin. */
	rvmrpc_pause(rdev, rvmrpc_retry_lost(&rdev->w.retry, ktime_to_ms(ktime_get())));
}

/* False: it was malformed, and the epoch is over. */
static bool rvmrpc_handle(struct rvmrpc_dev *rdev)
{
	const struct rvmrpc_taken *t = &rdev->w.taken;
	struct rvmrpc_accepted *call = &rdev->w.call;
	struct module *owner;

	if (!rvmrpc_registry_accept(&rdev->w.origin, &t->hdr, call, &owner)) {
		/* It holds its slot for ever. */
		rvmrpc_count_own(RVMRPC_CNT_MALFORMED);
		rvmrpc_window_lost(rdev);
		return false;
	}
	trace_rvmrpc_call_begin(&t->hdr, t->slot);
	if (call->status == RVMRPC_STATUS_OK && (call->flags & RVMRPC_PROC_MAY_SLEEP)) {
		if (rvmrpc_jobs_give(rdev, t, call, owner))
			return true;
		call->status = RVMRPC_STATUS_BUSY;
	}
	if (call->status != RVMRPC_STATUS_OK)
		rvmrpc_count_own(RVMRPC_CNT_REFUSED);
	rvmrpc_answer(rdev);
	rvmrpc_registry_done(call, owner);
	return true;
}

/* ---- Spinning ---- */

/*
 * Whether the host gave this CPU to others since the last look: then it has better use for it than to spin.  KVM counts
 * what a vCPU waits for its CPU at each wake-up, too, so some stolen time says nothing: more than was left does.
 */
static bool rvmrpc_was_robbed(struct rvmrpc_dev *rdev)
{
	u64 steal = kcpustat_cpu(raw_smp_processor_id()).cpustat[CPUTIME_STEAL];
	ktime_t now = ktime_get();
	bool robbed = 2 * (steal - rdev->w.steal) > ktime_to_ns(ktime_sub(now, rdev->w.steal_at));

	rdev->w.steal = steal;
	rdev->w.steal_at = now;
	return robbed;
}

static bool rvmrpc_spin_ends(const struct rvmrpc_dev *rdev)
{
	return need_resched() || !single_task_running() || READ_ONCE(rdev->stop) || rdev->leave ||
	       test_bit(RVMRPC_KICKED, &rdev->kicked);
}

/* Looks for a request for spin_us; true if there is one. */
static bool rvmrpc_spin(struct rvmrpc_dev *rdev)
{
	const struct rvmrpc_guest *g = &rdev->w.guest;
	ktime_t end = 0;

	if (!rdev->w.spin_us)
		return false;
	do {
		/* A PAUSE at each look would be an exit now and then, and under TCG one every time. */
		if (rvmrpc_guest_await(g, RVMRPC_SPIN_BATCH) || rvmrpc_guest_posted(g))
			return true;
		cpu_relax();
		/* The first batch is free of the clock: in a burst the next request is there by then. */
		if (!end)
			end = ktime_add_us(ktime_get(), rdev->w.spin_us);
		else if (ktime_after(ktime_get(), end) || !rvmrpc_guest_alive(g))
			break;
	} while (!rvmrpc_spin_ends(rdev));
	return false;
}

/* A request came after it had waited.  For who never spins there is nothing to learn, and the clock is not for nothing. */
static void rvmrpc_spin_learn(struct rvmrpc_dev *rdev)
{
	u64 waited_us = ktime_us_delta(ktime_get(), rdev->w.waits_since) + rdev->w.spin_us;
	u32 most = rvmrpc_was_robbed(rdev) ? 0 : READ_ONCE(spin_us);

	rdev->w.spin_us = rvmrpc_guest_spin_next(&rdev->w.guest, rdev->w.spin_us, waited_us, RVMRPC_SPIN_MIN_US, most);
}

/* ---- Sleep ---- */

/*
 * Our own words may have been overwritten: then an answer may be lost whose slot would never be free again.  False: so
 * they were, and the epoch is over.
 */
static bool rvmrpc_window_check(struct rvmrpc_dev *rdev)
{
	rdev->w.check = jiffies + msecs_to_jiffies(RVMRPC_SELF_CHECK_MS);
	if (!rvmrpc_jobs_settled(rdev) || rvmrpc_guest_intact(&rdev->w.guest))
		return true;
	if (rvmrpc_retry_says(&rdev->w.retry, RVMRPC_SAY_OVERWRITTEN))
		dev_notice(&rdev->pdev->dev, "the window was overwritten; saying hello again\n");
	rvmrpc_count_own(RVMRPC_CNT_RESETS);
	rvmrpc_window_lost(rdev);
	return false;
}

/* Every worker is held by a procedure that the host no longer waits for: begin anew without them. */
static void rvmrpc_window_watchdog(struct rvmrpc_dev *rdev)
{
	int grace = rvmrpc_watchdog_ms();

	if (grace < 0 || !rvmrpc_jobs_stuck(rdev, grace))
		return;
	dev_warn(&rdev->pdev->dev, "procedures hold all workers past their deadlines; saying hello again\n");
	rvmrpc_count_own(RVMRPC_CNT_WATCHDOG);
	rvmrpc_window_lost(rdev);
}

static void rvmrpc_window_idle(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_guest *g = &rdev->w.guest;
	unsigned int ms = RVMRPC_SELF_CHECK_MS;

	if (!rdev->has_irq)
		ms = RVMRPC_NO_IRQ_POLL_MS;
	else if (rvmrpc_jobs_busy(rdev))
		ms = RVMRPC_BUSY_CHECK_MS;
	if (rvmrpc_vmlp_always(rdev))
		ms = min_t(unsigned int, ms, RVMRPC_CROWDED_MS);
	rvmrpc_vmlp_slept(rdev);
	clear_bit(RVMRPC_KICKED, &rdev->kicked);
	if (!rvmrpc_guest_sleep(g))
		return;
	if (rvmrpc_sleep(rdev, ms)) {
		rvmrpc_guest_beat(g);
		rvmrpc_event_sources_beat();
	}
	rvmrpc_guest_awake(g);
}

/* ---- A turn ---- */

/* False: the epoch is over, or nothing is there any more. */
static bool rvmrpc_take_one(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_guest *g = &rdev->w.guest;

	if (!rvmrpc_guest_alive(g)) {
		rvmrpc_count_own(RVMRPC_CNT_RESETS);
		rvmrpc_window_lost(rdev);
		return false;
	}
	if (rvmrpc_guest_take(g, &rdev->w.taken)) {
		if (rdev->w.waits && (rdev->w.spin_us || READ_ONCE(spin_us)))
			rvmrpc_spin_learn(rdev);
		rdev->w.waits = false;
		if (!rvmrpc_handle(rdev))
			return false;
		/* What is not the answer comes after it: the host goes on meanwhile. */
		rvmrpc_guest_beat(g);
		rvmrpc_count_own(RVMRPC_CNT_CALLS);
		rvmrpc_vmlp_called(rdev);
	}
	if (g->behind || rvmrpc_guest_due(g) || rvmrpc_guest_posted(g))
		return true;
	/* Once after each request. */
	if (rdev->w.waits || !rvmrpc_spin(rdev))
		return false;
	rvmrpc_count_own(RVMRPC_CNT_SPINS);
	return true;
}

/* Nothing came while it spun. */
static void rvmrpc_window_wait(struct rvmrpc_dev *rdev)
{
	if (!rdev->w.waits && READ_ONCE(spin_us))
		rdev->w.waits_since = ktime_get();
	rdev->w.waits = true;
	rvmrpc_jobs_forget(rdev);
	rvmrpc_window_watchdog(rdev);
	if (rdev->state != RVMRPC_STATE_CONNECTED)
		return;
	if (rvmrpc_vmlp_wait(rdev)) {
		/* It did what a ring does, unless it was refused. */
		if (rdev->vmlp.bound)
			rdev->w.ring_due = false;
		rvmrpc_ring_due(rdev);
		/* With vmlp_idle_us=-1 it may never sleep. */
		rvmrpc_guest_beat(&rdev->w.guest);
		return;
	}
	rvmrpc_ring_due(rdev);
	rvmrpc_window_idle(rdev);
}

void rvmrpc_window_turn(struct rvmrpc_dev *rdev)
{
	u32 n;

	/* Whatever woke it is seen now; what comes from here on ends a spin. */
	if (test_bit(RVMRPC_KICKED, &rdev->kicked))
		clear_bit(RVMRPC_KICKED, &rdev->kicked);
	if (time_after_eq(jiffies, rdev->w.check) && !rvmrpc_window_check(rdev))
		return;
	for (n = 0; n < RVMRPC_TURN_MAX && !rdev->leave; n++) {
		if (!rvmrpc_take_one(rdev))
			break;
		rvmrpc_ring_due(rdev);
	}
	if (n < RVMRPC_TURN_MAX && !rdev->leave && !READ_ONCE(rdev->stop) && rdev->state == RVMRPC_STATE_CONNECTED)
		rvmrpc_window_wait(rdev);
	if (rdev->leave)
		rvmrpc_ring_due(rdev);
}

/*
 * QEMU's ivshmem binds an irqfd when MSI-X is switched on, and after a state was loaded it has none; until then
 * interrupts are lost.  A new epoch may mean just that.
 */
static void rvmrpc_toggle_msix(struct rvmrpc_dev *rdev)
{
	struct pci_dev *pdev = rdev->pdev;
	int at = pdev->msix_cap + PCI_MSIX_FLAGS;
	u16 flags;

	if (!rdev->has_irq || !rvmrpc_is_ivshmem(pdev))
		return;
	pci_read_config_word(pdev, at, &flags);
	pci_write_config_word(pdev, at, flags | PCI_MSIX_FLAGS_MASKALL);
	pci_write_config_word(pdev, at, (flags | PCI_MSIX_FLAGS_MASKALL) & ~PCI_MSIX_FLAGS_ENABLE);
	pci_write_config_word(pdev, at, flags | PCI_MSIX_FLAGS_MASKALL);
	pci_write_config_word(pdev, at, flags);
}

static void rvmrpc_window_opened(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_guest *g = &rdev->w.guest;

	rdev->w.retry.opened = ktime_to_ms(ktime_get());
	rdev->w.origin.epoch = g->epoch;
	rdev->w.origin.req_bytes = g->layout.req_bytes;
	rdev->w.origin.abi = g->abi;
	rdev->w.spin_us = 0;
	rdev->w.waits = false;
	rdev->w.check = jiffies + msecs_to_jiffies(RVMRPC_SELF_CHECK_MS);
	rdev->w.ring_due = false;
	rvmrpc_was_robbed(rdev);
	rvmrpc_registry_new_epoch(g->epoch);
	rvmrpc_events_open(rdev);
	rvmrpc_jobs_prepare(rdev);
	rvmrpc_toggle_msix(rdev);
	rvmrpc_vmlp_bind(rdev);
	rvmrpc_count_own(RVMRPC_CNT_CONNECTS);
	rvmrpc_set_state(rdev, RVMRPC_STATE_CONNECTED, g->epoch, g->layout.nslots);
	if (rvmrpc_retry_says(&rdev->w.retry, RVMRPC_SAY_CONNECTED))
		dev_info(&rdev->pdev->dev, "connected: %u slots in a window of %llu KiB\n", g->layout.nslots,
			 g->win.size >> 10);
}

static void rvmrpc_window_refused(struct rvmrpc_dev *rdev, u32 status)
{
	if (rvmrpc_retry_says(&rdev->w.retry, RVMRPC_SAY_REFUSED))
		dev_err(&rdev->pdev->dev, "the host refuses this driver: %s\n",
			status == RVMRPC_HELLO_BAD_VERSION ? "no common ABI version" : "it does not understand it");
	rvmrpc_sleep(rdev, RVMRPC_SELF_CHECK_MS);
}

/* Repeats the hello's ring: its host may have missed it, or have come only now. */
static void rvmrpc_window_unanswered(struct rvmrpc_dev *rdev)
{
	unsigned int ms = rdev->w.hello_ms;

	if (!rvmrpc_sleep(rdev, ms))
		return;
	if (ms >= RVMRPC_HELLO_THEN_MS && rvmrpc_retry_says(&rdev->w.retry, RVMRPC_SAY_SILENT))
		dev_notice(&rdev->pdev->dev, "the host does not answer; asking again every %u s\n",
			   RVMRPC_HELLO_MAX_MS / 1000);
	rdev->w.hello_ms = ms < RVMRPC_HELLO_THEN_MS ? RVMRPC_HELLO_THEN_MS : RVMRPC_HELLO_MAX_MS;
	rvmrpc_window_ring(rdev);
}

static void rvmrpc_window_hello(struct rvmrpc_dev *rdev)
{
	rvmrpc_guest_hello(&rdev->w.guest, get_random_u64() | 1, RVMRPC_OS_LINUX, init_utsname()->release);
	rdev->w.hello_ms = RVMRPC_HELLO_FIRST_MS;
	rvmrpc_window_ring(rdev);
}

void rvmrpc_window_connect(struct rvmrpc_dev *rdev)
{
	struct rvmrpc_guest *g = &rdev->w.guest;
	u32 status;

	if (!g->win.base)
		rvmrpc_guest_init(g, rdev->w.base, pci_resource_len(rdev->pdev, RVMRPC_BAR_WINDOW));
	clear_bit(RVMRPC_KICKED, &rdev->kicked);
	/* Or the look at the answer may come before it, and the answer's interrupt between them. */
	rvmrpc_os_mb();
	if (g->state != RVMRPC_GUEST_GREETED)
		rvmrpc_window_hello(rdev);
	switch (rvmrpc_guest_answered(g, &status)) {
	case RVMRPC_ANSWER_OPEN:
		rvmrpc_window_opened(rdev);
		break;
	case RVMRPC_ANSWER_REFUSED:
		rvmrpc_window_refused(rdev, status);
		break;
	case RVMRPC_ANSWER_STALE:
		g->state = RVMRPC_GUEST_IDLE;
		rvmrpc_pause(rdev, rvmrpc_retry_again(&rdev->w.retry));
		break;
	case RVMRPC_ANSWER_NONE:
		rvmrpc_window_unanswered(rdev);
		break;
	}
}

void rvmrpc_window_leave(struct rvmrpc_dev *rdev)
{
	rvmrpc_guest_bye(&rdev->w.guest);
	rvmrpc_window_ring(rdev);
}

void rvmrpc_window_drop(struct rvmrpc_dev *rdev)
{
	rvmrpc_jobs_retire(rdev);
	rvmrpc_events_close(rdev);
	/* Whatever was in the window is looked at anew: the machine may have slept. */
	memset(&rdev->w.guest, 0, sizeof(rdev->w.guest));
}

/* How it waits when it does not spin. */
const char *rvmrpc_wait_mode(const struct rvmrpc_dev *rdev)
{
	const char *vmlp = rvmrpc_vmlp_mode(rdev);

	if (vmlp)
		return vmlp;
	if (!rdev->has_irq)
		return "timer";
	return READ_ONCE(spin_us) ? "spin-then-interrupt" : "interrupt";
}
