/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The server thread: hello, requests, and how it waits for them.
 *
 * In a burst a call costs neither exit nor interrupt: the thread spins on one
 * word for a short time after each call, while nothing else wants this CPU.
 * Then it waits in the host (VMLP; any interrupt of this CPU ends it) where a
 * gate has that, or says that it sleeps and sleeps until the interrupt.
 */
#include "rvmrpc_drv.h"
#include <sys/kthread.h>
#include <sys/proc.h>
#include <sys/sched.h>
#include <sys/smp.h>
#include <sys/unistd.h>

#define	RVMRPC_SELF_CHECK_MS	5000	/* longest sleep: an interrupt is lost */
#define	RVMRPC_NO_IRQ_POLL_MS	10
#define	RVMRPC_CROWDED_MS	20	/* vmlp_idle_us=-1, others want the CPU */
#define	RVMRPC_BUSY_CHECK_MS	500	/* the watchdog may be needed */
#define	RVMRPC_HELLO_FIRST_MS	100	/* then 1 s, then every 5 s */
#define	RVMRPC_HELLO_THEN_MS	1000
#define	RVMRPC_HELLO_MAX_MS	5000
#define	RVMRPC_QUICK_US		20	/* such a wait was refused or interrupted */
#define	RVMRPC_QUICK_MAX	16
#define	RVMRPC_SPIN_MIN_US	10	/* what a spin grows from */
#define	RVMRPC_SPIN_BATCH	256	/* looks at one slot between all others */
#define	RVMRPC_TURN_MAX		256	/* requests between looks at all else */

/* ---- State ---- */

static void
rvmrpc_set_state(struct rvmrpc_softc *sc, enum rvmrpc_state state)
{
	bool connected = state == RVMRPC_STATE_CONNECTED;

	sc->epoch = connected ? sc->guest.epoch : 0;
	sc->nslots = connected ? sc->guest.layout.nslots : 0;
	sc->state = state;
}

/* Until the interrupt, a kick, a stop, or the time is over: true. */
static bool
rvmrpc_sleep(struct rvmrpc_softc *sc, u_int ms)
{
	int error = 0;

	rvmrpc_count(sc, RVMRPC_CNT_SLEEPS);
	mtx_lock(&sc->mtx);
	if (!sc->kicked && !sc->stop)
		error = msleep_sbt(sc, &sc->mtx, 0, "rvmrpc",
		    ms * SBT_1MS, 0, C_PREL(4));
	mtx_unlock(&sc->mtx);
	return (error != 0);
}

static void
rvmrpc_unkick(struct rvmrpc_softc *sc)
{
	mtx_lock(&sc->mtx);
	sc->kicked = false;
	mtx_unlock(&sc->mtx);
}

/* Whatever the host does meanwhile. */
static void
rvmrpc_pause(struct rvmrpc_softc *sc, u_int ms)
{
	sbintime_t end = sbinuptime() + ms * SBT_1MS;

	mtx_lock(&sc->mtx);
	while (!sc->stop && sbinuptime() < end)
		msleep_sbt(sc, &sc->mtx, 0, "rvmbck", end, 0, C_ABSOLUTE);
	mtx_unlock(&sc->mtx);
}

static uint64_t
rvmrpc_now_ms(void)
{
	return (sbinuptime() / SBT_1MS);
}

static void
rvmrpc_lost(struct rvmrpc_softc *sc)
{
	rvmrpc_jobs_retire(sc);
	rvmrpc_events_close(sc);
	sc->guest.state = RVMRPC_GUEST_IDLE;
	rvmrpc_set_state(sc, RVMRPC_STATE_DISCONNECTED);
	/* A host whose epochs do not last must not make this thread spin. */
	rvmrpc_pause(sc, rvmrpc_retry_lost(&sc->retry, rvmrpc_now_ms()));
}

/* ---- Requests ---- */

static void
rvmrpc_answer(struct rvmrpc_softc *sc)
{
	const struct rvmrpc_taken *t = &sc->taken;
	struct rvmrpc_guest *g = &sc->guest;
	struct rvmrpc_hdr reply;

	if (sc->call.status == RVMRPC_STATUS_OK &&
	    !rvmrpc_guest_copy_arg(g, t, sc->arg)) {
		rvmrpc_registry_done(&sc->call);
		return;
	}
	rvmrpc_server_run(&sc->call, sc->arg, rvmrpc_guest_res(g, t->slot),
	    g->layout.res_bytes, &reply);
	rvmrpc_registry_done(&sc->call);
	if (rvmrpc_guest_publish(g, t->slot, t->seq, &reply))
		rvmrpc_window_ring(sc);
}

/* False: it was malformed, and the epoch is over. */
static bool
rvmrpc_handle(struct rvmrpc_softc *sc)
{
	struct rvmrpc_accepted *call = &sc->call;

	if (!rvmrpc_registry_accept(&sc->guest, &sc->taken.hdr, call)) {
		/* Its slot stays taken. */
		rvmrpc_count(sc, RVMRPC_CNT_MALFORMED);
		rvmrpc_lost(sc);
		return (false);
	}
	rvmrpc_count(sc, RVMRPC_CNT_CALLS);
	if (call->status == RVMRPC_STATUS_OK &&
	    (call->flags & RVMRPC_PROC_MAY_SLEEP) != 0) {
		if (rvmrpc_jobs_give(sc, &sc->taken, call))
			return (true);
		call->status = RVMRPC_STATUS_BUSY;
	}
	if (call->status != RVMRPC_STATUS_OK)
		rvmrpc_count(sc, RVMRPC_CNT_REFUSED);
	rvmrpc_answer(sc);
	rvmrpc_guest_beat(&sc->guest);
	return (true);
}

/* ---- Spinning ---- */

static bool
rvmrpc_spin_ends(const struct rvmrpc_softc *sc)
{
	return (sched_runnable() || sc->kicked || sc->stop || sc->leave);
}

/*
 * Looks for a request for spin_us; true if there is one.  By the CPU's own
 * clock: a timecounter can be a device, and each look at it an exit.
 */
static bool
rvmrpc_spin(struct rvmrpc_softc *sc)
{
	const struct rvmrpc_guest *g = &sc->guest;
	uint64_t begin = 0, length = cpu_tickrate() / 1000000 * sc->spin_us;
	bool found = false;

	if (sc->spin_us == 0)
		return (false);
	sched_pin();
	do {
		/* A PAUSE at each look can be an exit. */
		found = rvmrpc_guest_await(g, RVMRPC_SPIN_BATCH) ||
		    rvmrpc_guest_posted(g);
		if (found)
			break;
		cpu_spinwait();
		if (begin == 0)
			begin = cpu_ticks();
		else if (cpu_ticks() - begin > length ||
		    !rvmrpc_guest_alive(g))
			break;
	} while (!rvmrpc_spin_ends(sc));
	sched_unpin();
	return (found);
}

/* A request came after it had waited. */
static void
rvmrpc_spin_learn(struct rvmrpc_softc *sc)
{
	sc->spin_us = rvmrpc_guest_spin_next(&sc->guest, sc->spin_us,
	    (sbinuptime() - sc->waits_since) / SBT_1US + sc->spin_us,
	    RVMRPC_SPIN_MIN_US, MAX(rvmrpc_tun.spin_us, 0));
	sc->waits_since = 0;
}

/* ---- Waiting in the host ---- */

static void
rvmrpc_proxy_unbind(struct rvmrpc_softc *sc)
{
	if (sc->bound)
		rvmrpc_gate_call(&sc->gate, RVMRPC_OP_UNBIND | sc->space,
		    sc->handle, 0, 0);
	sc->bound = false;
}

/* Anew in each epoch: the host may be another one. */
static void
rvmrpc_proxy_bind(struct rvmrpc_softc *sc)
{
	static const struct vmrpc_bind name = {
		.name = RVMRPC_PROXY_NAME,
		.version = RVMRPC_PROXY_VERSION,
	};
	uint32_t answer;

	rvmrpc_gate_choose(&sc->gate);
	if (!rvmrpc_gate_waits(&sc->gate)) {
		sc->bound = false;
		return;
	}
	rvmrpc_proxy_unbind(sc);
	sc->space = (sc->gate.features & RVMRPC_FEAT_PROXY_KERNEL) != 0 ?
	    RVMRPC_OP_KERNEL : 0;
	answer = rvmrpc_gate_call(&sc->gate, RVMRPC_OP_BIND | sc->space,
	    (uintptr_t)&name, 0, 0);
	sc->handle = answer;
	sc->bound = !RVMRPC_GATE_IS_CODE(answer);
}

/*
 * How long the next wait may last, 0 for none.  It takes this CPU from
 * whatever else wants it, and asking afterwards is too late; so only a CPU
 * with nothing else to run waits.
 */
static u_int
rvmrpc_vmlp_us(const struct rvmrpc_softc *sc)
{
	int idle_us = rvmrpc_tun.vmlp_idle_us;
	sbintime_t left;

	if (idle_us == 0 || !sc->bound || !rvmrpc_gate_waits(&sc->gate) ||
	    sched_runnable() || sc->quick >= RVMRPC_QUICK_MAX)
		return (0);
	if (idle_us < 0)
		return (RVMRPC_WAIT_MS_MAX * 1000);
	left = idle_us - (sbinuptime() - sc->last_call) / SBT_1US;
	return (MIN(MAX(left, 0), RVMRPC_WAIT_MS_MAX * 1000));
}

/* False: it may not, or must not any more. */
static bool
rvmrpc_vmlp(struct rvmrpc_softc *sc)
{
	u_int us = rvmrpc_vmlp_us(sc);
	sbintime_t begin = sbinuptime();
	uint32_t answer;

	if (us == 0)
		return (false);
	rvmrpc_count(sc, RVMRPC_CNT_WAITS);
	answer = rvmrpc_gate_call(&sc->gate, RVMRPC_OP_PERFORM | sc->space,
	    sc->handle | (uint64_t)RVMRPC_MAIN << 32, sc->guest.epoch,
	    RVMRPC_MAIN_ARG(sc->guest.posted, us));
	rvmrpc_guest_beat(&sc->guest);
	switch (answer) {
	case RVMRPC_MAIN_POSTED:
		sc->quick = 0;
		return (true);
	case RVMRPC_GATE_AGAIN:
		if (sbinuptime() - begin < RVMRPC_QUICK_US * SBT_1US)
			sc->quick++;
		else
			sc->quick = 0;
		return (true);
	case RVMRPC_GATE_RESET:
		rvmrpc_count(sc, RVMRPC_CNT_RESETS);
		rvmrpc_lost(sc);
		return (true);
	default:
		/* Until the next hello by the interrupt alone. */
		rvmrpc_count(sc, RVMRPC_CNT_ERRORS);
		sc->bound = false;
		return (false);
	}
}

/* ---- Sleep ---- */

/*
 * Our own words may have been overwritten: then an answer may be lost whose
 * slot would never be free again.  False: so it is, and the epoch is over.
 */
static bool
rvmrpc_check(struct rvmrpc_softc *sc)
{
	sbintime_t now = sbinuptime();

	if (now < sc->check)
		return (true);
	sc->check = now + RVMRPC_SELF_CHECK_MS * SBT_1MS;
	if (rvmrpc_jobs_busy(sc) || rvmrpc_guest_intact(&sc->guest))
		return (true);
	if (rvmrpc_retry_says(&sc->retry, RVMRPC_SAY_OVERWRITTEN))
		device_printf(sc->dev, "the window was overwritten; saying "
		    "hello again\n");
	rvmrpc_count(sc, RVMRPC_CNT_RESETS);
	rvmrpc_lost(sc);
	return (false);
}

/*
 * Every worker is held by a procedure that the host no longer waits for:
 * begin anew without them.
 */
static void
rvmrpc_watchdog(struct rvmrpc_softc *sc)
{
	int grace = rvmrpc_tun.watchdog_ms;

	rvmrpc_jobs_reap(sc);
	if (grace < 0 || !rvmrpc_jobs_stuck(sc, grace * SBT_1MS))
		return;
	device_printf(sc->dev, "procedures hold all workers past their "
	    "deadlines; saying hello again\n");
	rvmrpc_count(sc, RVMRPC_CNT_WATCHDOG);
	rvmrpc_lost(sc);
}

static void
rvmrpc_idle(struct rvmrpc_softc *sc)
{
	struct rvmrpc_guest *g = &sc->guest;
	u_int ms = RVMRPC_SELF_CHECK_MS;

	if (sc->irq == NULL)
		ms = RVMRPC_NO_IRQ_POLL_MS;
	else if (rvmrpc_jobs_busy(sc) || sc->abandoned != 0)
		ms = RVMRPC_BUSY_CHECK_MS;
	if (rvmrpc_tun.vmlp_idle_us < 0 && sc->bound)
		ms = MIN(ms, RVMRPC_CROWDED_MS);
	sc->quick = 0;
	rvmrpc_unkick(sc);
	if (!rvmrpc_guest_sleep(g))
		return;
	if (rvmrpc_sleep(sc, ms))
		rvmrpc_guest_beat(g);
	rvmrpc_guest_awake(g);
}

/* ---- The epoch ---- */

/* False: the epoch is over, or nothing is there any more. */
static bool
rvmrpc_take_one(struct rvmrpc_softc *sc)
{
	struct rvmrpc_guest *g = &sc->guest;

	if (!rvmrpc_guest_alive(g)) {
		rvmrpc_count(sc, RVMRPC_CNT_RESETS);
		rvmrpc_lost(sc);
		return (false);
	}
	if (rvmrpc_guest_take(g, &sc->taken)) {
		if (sc->waits_since != 0)
			rvmrpc_spin_learn(sc);
		if (!rvmrpc_handle(sc))
			return (false);
	}
	if (g->behind != 0 || rvmrpc_guest_due(g) || rvmrpc_guest_posted(g))
		return (true);
	/* Once after each request. */
	if (sc->waits_since != 0 || !rvmrpc_spin(sc))
		return (false);
	rvmrpc_count(sc, RVMRPC_CNT_SPINS);
	return (true);
}

static void
rvmrpc_turn(struct rvmrpc_softc *sc)
{
	struct rvmrpc_guest *g = &sc->guest;
	u_int n;

	/* Whatever woke it is seen now; what comes from here on is not lost. */
	rvmrpc_unkick(sc);
	if (!rvmrpc_check(sc))
		return;
	for (n = 0; n < RVMRPC_TURN_MAX && !sc->leave; n++)
		if (!rvmrpc_take_one(sc))
			break;
	if (g->posted != sc->last_posted)
		sc->last_call = sbinuptime();
	sc->last_posted = g->posted;
	if (n == RVMRPC_TURN_MAX || sc->leave || sc->stop ||
	    sc->state != RVMRPC_STATE_CONNECTED)
		return;
	if (sc->waits_since == 0)
		sc->waits_since = sbinuptime();
	rvmrpc_jobs_forget(sc);
	rvmrpc_watchdog(sc);
	if (sc->state == RVMRPC_STATE_CONNECTED && !rvmrpc_vmlp(sc))
		rvmrpc_idle(sc);
}

static void
rvmrpc_opened(struct rvmrpc_softc *sc)
{
	struct rvmrpc_guest *g = &sc->guest;

	sc->retry.opened = rvmrpc_now_ms();
	sc->spin_us = 0;
	sc->waits_since = 0;
	sc->quick = 0;
	sc->last_posted = g->posted;
	sc->check = sbinuptime() + RVMRPC_SELF_CHECK_MS * SBT_1MS;
	rvmrpc_registry_new_epoch(g->epoch);
	rvmrpc_events_open(sc);
	rvmrpc_jobs_prepare(sc);
	rvmrpc_proxy_bind(sc);
	rvmrpc_window_rebind_irq(sc);
	rvmrpc_count(sc, RVMRPC_CNT_CONNECTS);
	rvmrpc_set_state(sc, RVMRPC_STATE_CONNECTED);
	if (rvmrpc_retry_says(&sc->retry, RVMRPC_SAY_CONNECTED))
		device_printf(sc->dev, "connected: %u slots in a window of "
		    "%ju KiB\n", g->layout.nslots,
		    (uintmax_t)g->win.size >> 10);
}

static void
rvmrpc_refused(struct rvmrpc_softc *sc, uint32_t status)
{
	if (rvmrpc_retry_says(&sc->retry, RVMRPC_SAY_REFUSED))
		device_printf(sc->dev, "the host refuses this driver: %s\n",
		    status == RVMRPC_HELLO_BAD_VERSION ?
		    "no common ABI version" : "it does not understand it");
	rvmrpc_sleep(sc, RVMRPC_SELF_CHECK_MS);
}

/* Repeats the ring: its host may have missed it, or have come only now. */
static void
rvmrpc_unanswered(struct rvmrpc_softc *sc)
{
	u_int ms = sc->hello_ms;

	if (!rvmrpc_sleep(sc, ms))
		return;
	if (ms >= RVMRPC_HELLO_THEN_MS &&
	    rvmrpc_retry_says(&sc->retry, RVMRPC_SAY_SILENT))
		device_printf(sc->dev, "the host does not answer; asking "
		    "again every %u s\n", RVMRPC_HELLO_MAX_MS / 1000);
	sc->hello_ms = ms < RVMRPC_HELLO_THEN_MS ? RVMRPC_HELLO_THEN_MS :
	    RVMRPC_HELLO_MAX_MS;
	rvmrpc_window_ring(sc);
}

static void
rvmrpc_hello(struct rvmrpc_softc *sc)
{
	uint64_t nonce;

	arc4rand(&nonce, sizeof(nonce), 0);
	rvmrpc_guest_hello(&sc->guest, nonce | 1, RVMRPC_OS_FREEBSD,
	    osrelease);
	sc->hello_ms = RVMRPC_HELLO_FIRST_MS;
	rvmrpc_window_ring(sc);
}

static void
rvmrpc_connect(struct rvmrpc_softc *sc)
{
	uint32_t status;

	rvmrpc_unkick(sc);
	if (sc->guest.state != RVMRPC_GUEST_GREETED)
		rvmrpc_hello(sc);
	switch (rvmrpc_guest_answered(&sc->guest, &status)) {
	case RVMRPC_ANSWER_OPEN:
		rvmrpc_opened(sc);
		break;
	case RVMRPC_ANSWER_REFUSED:
		rvmrpc_refused(sc, status);
		break;
	case RVMRPC_ANSWER_STALE:
		sc->guest.state = RVMRPC_GUEST_IDLE;
		rvmrpc_pause(sc, rvmrpc_retry_again(&sc->retry));
		break;
	case RVMRPC_ANSWER_NONE:
		rvmrpc_unanswered(sc);
		break;
	}
}

/* Says farewell; what still runs goes on unheard. */
static void
rvmrpc_leave(struct rvmrpc_softc *sc, enum rvmrpc_state state)
{
	rvmrpc_jobs_retire(sc);
	rvmrpc_events_close(sc);
	if (sc->state == RVMRPC_STATE_CONNECTED) {
		rvmrpc_guest_bye(&sc->guest);
		rvmrpc_window_ring(sc);
		rvmrpc_proxy_unbind(sc);
	}
	sc->bound = false;
	rvmrpc_set_state(sc, state);
}

/* ---- The thread ---- */

static void
rvmrpc_keep_cpu(struct rvmrpc_softc *sc)
{
	int want = rvmrpc_tun.cpu;

	if (want == sc->bound_cpu)
		return;
	thread_lock(curthread);
	if (want < 0 || (u_int)want > mp_maxid || CPU_ABSENT(want))
		sched_unbind(curthread);
	else
		sched_bind(curthread, want);
	thread_unlock(curthread);
	sc->bound_cpu = want;
}

static void
rvmrpc_server_turn(struct rvmrpc_softc *sc)
{
	rvmrpc_keep_cpu(sc);
	switch (sc->state) {
	case RVMRPC_STATE_CONNECTED:
		if (!sc->leave) {
			rvmrpc_turn(sc);
			break;
		}
		/* Attaching the device again brings it back. */
		rvmrpc_leave(sc, RVMRPC_STATE_LEFT);
		device_printf(sc->dev, "the host has ended the server\n");
		break;
	case RVMRPC_STATE_LEFT:
		rvmrpc_unkick(sc);
		rvmrpc_sleep(sc, RVMRPC_SELF_CHECK_MS);
		break;
	default:
		rvmrpc_connect(sc);
	}
}

static void
rvmrpc_server(void *arg)
{
	struct rvmrpc_softc *sc = arg;
	bool ended;

	do {
		/* What is in the window is looked at anew: it may have slept. */
		rvmrpc_guest_init(&sc->guest, sc->map.r_vaddr,
		    rman_get_size(sc->window));
		rvmrpc_set_state(sc, sc->leave ? RVMRPC_STATE_LEFT :
		    RVMRPC_STATE_DISCONNECTED);
		while (!sc->stop)
			rvmrpc_server_turn(sc);
		rvmrpc_leave(sc, RVMRPC_STATE_STOPPED);
		/*
		 * rvmrpc_server_stop() holds the mutex from when it says stop
		 * until it sleeps: so it does, and kthread_exit() wakes it from
		 * outside of this module's text.  Or it has given up.
		 */
		mtx_lock(&sc->mtx);
		ended = sc->ended = sc->stop;
		mtx_unlock(&sc->mtx);
	} while (!ended);
	kthread_exit();
}

const char *
rvmrpc_wait_mode(const struct rvmrpc_softc *sc)
{
	if (rvmrpc_tun.vmlp_idle_us != 0 && sc->bound)
		return (rvmrpc_tun.vmlp_idle_us < 0 ? "vmlp" :
		    "vmlp-then-interrupt");
	if (sc->irq == NULL)
		return ("timer");
	return (rvmrpc_tun.spin_us > 0 ? "spin-then-interrupt" : "interrupt");
}

int
rvmrpc_server_start(struct rvmrpc_softc *sc)
{
	struct thread *td;
	int error;

	if (sc->thread != NULL)
		return (0);
	sc->stop = false;
	sc->ended = false;
	sc->bound_cpu = -1;
	error = kthread_add(rvmrpc_server, sc, NULL, &td, RFSTOPPED, 0,
	    "rvmrpc");
	if (error != 0)
		return (error);
	sc->thread = td;
	thread_lock(td);
	/* Waiting for the host must not show in what the host asks for. */
	td->td_flags |= TDF_NOLOAD;
	rvmrpc_sched_add(td);
	return (0);
}

/*
 * Leaves the host and ends the thread; workers go on, unheard.  ms: how long a
 * procedure may hold the thread, then it goes on: EBUSY; 0 is for ever.
 */
int
rvmrpc_server_stop(struct rvmrpc_softc *sc, u_int ms)
{
	int error;

	if (sc->thread == NULL || SCHEDULER_STOPPED())
		return (0);
	/* A wait in the host ends with the next tick of its busy CPU. */
	mtx_lock(&sc->mtx);
	sc->stop = true;
	wakeup(sc);
	error = msleep_sbt(sc->thread, &sc->mtx, 0, "rvmend", ms * SBT_1MS, 0,
	    0);
	if (error != 0)
		error = sc->ended ? 0 : EBUSY;
	sc->stop = error == 0;
	mtx_unlock(&sc->mtx);
	if (error != 0)
		device_printf(sc->dev, "a procedure holds the server thread\n");
	else
		sc->thread = NULL;
	return (error);
}

void
rvmrpc_server_kick(struct rvmrpc_softc *sc)
{
	mtx_lock(&sc->mtx);
	sc->kicked = true;
	wakeup(sc);
	mtx_unlock(&sc->mtx);
}
