// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMLP: the server thread waits in the host, where the gate has it.
 *
 * RVMRPC_MAIN is a futex wait on the window's `posted'; nothing else goes through the gate.  Any interrupt of this CPU
 * ends it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include "rvmrpc_drv.h"

#define RVMRPC_QUICK_US		20	/* a wait that ends so soon after another was refused or interrupted */
#define RVMRPC_QUICK_MAX	16

static int vmlp_idle_us = 50;
module_param_cb(vmlp_idle_us, &rvmrpc_kicking_int_ops, &vmlp_idle_us, 0644);
__MODULE_PARM_TYPE(vmlp_idle_us, "int");
MODULE_PARM_DESC(vmlp_idle_us, "wait in the host for this long after a call, then sleep until the interrupt; 0 never, -1 always (default 50)");

/* The host's features may have changed since the last epoch.  Server thread. */
void rvmrpc_vmlp_bind(struct rvmrpc_dev *rdev)
{
	static const struct vmrpc_bind name = {
		.name = RVMRPC_PROXY_NAME,
		.version = RVMRPC_PROXY_VERSION,
	};
	struct rvmrpc_vmlp *v = &rdev->vmlp;
	u64 space;

	WRITE_ONCE(v->bound, false);
	v->quick = 0;
	if (!rdev->gate.regs || rvmrpc_gate_choose(&rdev->gate) == RVMRPC_GATE_KIND_NONE ||
	    !rvmrpc_gate_waits(&rdev->gate))
		return;
	space = READ_ONCE(rdev->gate.features) & RVMRPC_FEAT_PROXY_KERNEL ? RVMRPC_OP_KERNEL : 0;
	v->handle = rvmrpc_gate_call(&rdev->gate, v->frame, RVMRPC_OP_BIND | space, (unsigned long)&name, 0, 0);
	v->op = RVMRPC_OP_PERFORM | space;
	WRITE_ONCE(v->bound, !RVMRPC_GATE_IS_CODE(v->handle));
}

/* How long to wait in the host now, in microseconds.  Asking after a wait is too late: whoever else wants this CPU waits. */
static u32 rvmrpc_vmlp_us(const struct rvmrpc_dev *rdev)
{
	const struct rvmrpc_vmlp *v = &rdev->vmlp;
	int idle_us = READ_ONCE(vmlp_idle_us);
	s64 left;

	if (!v->bound || !idle_us || v->quick >= RVMRPC_QUICK_MAX || !single_task_running())
		return 0;
	if (idle_us < 0)
		return RVMRPC_WAIT_MS_MAX * 1000;
	left = idle_us - ktime_us_delta(ktime_get(), v->last_call);
	return clamp_t(s64, left, 0, RVMRPC_WAIT_MS_MAX * 1000);
}

/* Whether a call's answer can be left to the wait that follows, which does what a ring does. */
bool rvmrpc_vmlp_follows(const struct rvmrpc_dev *rdev)
{
	return rdev->vmlp.bound && !rdev->w.spin_us && READ_ONCE(vmlp_idle_us) && single_task_running();
}

/* A call's time counts from its end. */
void rvmrpc_vmlp_called(struct rvmrpc_dev *rdev)
{
	if (rdev->vmlp.bound && READ_ONCE(vmlp_idle_us) > 0)
		rdev->vmlp.last_call = ktime_get();
}

static void rvmrpc_vmlp_again(struct rvmrpc_vmlp *v, ktime_t now)
{
	if (ktime_us_delta(now, v->again_at) < RVMRPC_QUICK_US)
		v->quick++;
	else
		v->quick = 0;
	v->again_at = now;
}

/**
 * rvmrpc_vmlp_wait() - wait in the host for a request
 * @rdev: device, whose epoch is open
 *
 * Context: server thread.
 * Return: whether it did: then look for requests before anything else.
 */
bool rvmrpc_vmlp_wait(struct rvmrpc_dev *rdev)
{
	const struct rvmrpc_guest *g = &rdev->w.guest;
	struct rvmrpc_vmlp *v = &rdev->vmlp;
	u32 us = rvmrpc_vmlp_us(rdev);
	u32 answer;

	if (!us)
		return false;
	rvmrpc_count_own(RVMRPC_CNT_POLLS);
	answer = rvmrpc_gate_call(&rdev->gate, v->frame, v->op, v->handle | (u64)RVMRPC_MAIN << 32, g->epoch,
				  RVMRPC_MAIN_ARG(g->posted, us));
	rvmrpc_count_own(RVMRPC_CNT_WAITS);
	if (answer == RVMRPC_GATE_AGAIN)
		rvmrpc_vmlp_again(v, ktime_get());
	else
		v->quick = 0;
	if (answer != RVMRPC_MAIN_POSTED && answer != RVMRPC_GATE_AGAIN) {
		/* Its owner cannot wait, or is another one by now: the interrupt is left. */
		WRITE_ONCE(v->bound, false);
		if (answer != RVMRPC_GATE_RESET)
			rvmrpc_count_own(RVMRPC_CNT_ERRORS);
	}
	return true;
}

/* It sleeps in the guest now; what ended waits at once may be gone after it. */
void rvmrpc_vmlp_slept(struct rvmrpc_dev *rdev)
{
	rdev->vmlp.quick = 0;
}

/* Whether it would wait for ever, were this CPU its own. */
bool rvmrpc_vmlp_always(const struct rvmrpc_dev *rdev)
{
	return rdev->vmlp.bound && READ_ONCE(vmlp_idle_us) < 0;
}

const char *rvmrpc_vmlp_mode(const struct rvmrpc_dev *rdev)
{
	int idle_us = READ_ONCE(vmlp_idle_us);

	if (!idle_us || !READ_ONCE(rdev->vmlp.bound))
		return NULL;
	return idle_us < 0 ? "vmlp" : "vmlp-then-interrupt";
}
