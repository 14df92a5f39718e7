/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The server thread and its workers.
 *
 * One turn of the server thread is one gate call: it brings the response of
 * the call before and takes the next request.  With none pending the call
 * either waits in the host (VMLP; any interrupt of this CPU ends it) or arms
 * the device's interrupt, for which the thread then sleeps.
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
#define	RVMRPC_BACKOFF_MIN_MS	10
#define	RVMRPC_BACKOFF_MAX_MS	5000
#define	RVMRPC_QUICK_US		20	/* such a wait was refused or interrupted */
#define	RVMRPC_QUICK_MAX	16
#define	RVMRPC_NOTICES		1	/* a second */

#define	rvmrpc_notice(sc, ...) do {					\
	if (ppsratecheck(&(sc)->notice_time, &(sc)->notice_count,	\
	    RVMRPC_NOTICES))						\
		device_printf((sc)->dev, __VA_ARGS__);			\
} while (0)

/* ---- Running calls ---- */

static void
rvmrpc_run(struct rvmrpc_slot *slot)
{
	struct rvmrpc_session *session = slot->session;
	struct rvmrpc_hdr reply;

	rvmrpc_server_run(&slot->call, slot->request + sizeof(reply),
	    slot->response + sizeof(reply),
	    session->res_pages * PAGE_SIZE - sizeof(reply), &reply);
	rvmrpc_registry_done(&slot->call);
	memcpy(slot->response, &reply, sizeof(reply));
}

static uint64_t
rvmrpc_proxy(const struct rvmrpc_session *session, uint32_t procedure)
{
	return (session->handle | (uint64_t)procedure << 32);
}

/* The slot is the host's again with the gate call; it is not touched after. */
void
rvmrpc_worker(void *arg, int pending __unused)
{
	struct rvmrpc_slot *slot = arg;
	struct rvmrpc_session *session = slot->session;
	struct rvmrpc_softc *sc = session->sc;
	uint32_t answer = RVMRPC_GATE_RESET;
	u_int number = slot - session->slots;
	bool dead;

	mtx_lock(&sc->mtx);
	if (slot->cancelled)
		slot->call.status = RVMRPC_STATUS_CANCELLED;
	mtx_unlock(&sc->mtx);
	rvmrpc_run(slot);

	mtx_lock(&sc->mtx);
	slot->busy = false;
	dead = session->dead;
	mtx_unlock(&sc->mtx);
	if (!dead)
		answer = rvmrpc_gate_call(&sc->gate, session->op,
		    rvmrpc_proxy(session, RVMRPC_REPLY), session->epoch,
		    number);
	if (RVMRPC_GATE_IS_CODE(answer)) {
		rvmrpc_count(sc, RVMRPC_CNT_LATE);
		rvmrpc_server_kick(sc);
	}

	mtx_lock(&sc->mtx);
	session->nrunning--;
	wakeup(&sc->sessions);
	mtx_unlock(&sc->mtx);
}

static void
rvmrpc_hand_to_worker(struct rvmrpc_softc *sc, struct rvmrpc_slot *slot)
{
	uint32_t ms = MIN(slot->hdr.timeout_ms, RVMRPC_TIMEOUT_MS_MAX);

	mtx_lock(&sc->mtx);
	slot->deadline = sbinuptime() + ms * SBT_1MS;
	slot->cancelled = false;
	slot->busy = true;
	slot->session->nrunning++;
	mtx_unlock(&sc->mtx);
	rvmrpc_count(sc, RVMRPC_CNT_WORKERS);
	taskqueue_enqueue(slot->session->workers, &slot->task);
}

/* ---- State ---- */

static void
rvmrpc_set_state(struct rvmrpc_softc *sc, enum rvmrpc_state state)
{
	bool connected = state == RVMRPC_STATE_CONNECTED;

	sc->epoch = connected ? sc->session->epoch : 0;
	sc->nslots = connected ? sc->session->nslots : 0;
	sc->state = state;
}

/* Until the interrupt, a kick, a stop, or the time is over. */
static void
rvmrpc_sleep(struct rvmrpc_softc *sc, u_int ms)
{
	rvmrpc_count(sc, RVMRPC_CNT_SLEEPS);
	mtx_lock(&sc->mtx);
	if (!sc->kicked && !sc->stop)
		msleep_sbt(&sc->kicked, &sc->mtx, 0, "rvmrpc", ms * SBT_1MS,
		    0, C_PREL(4));
	mtx_unlock(&sc->mtx);
}

static void
rvmrpc_unkick(struct rvmrpc_softc *sc)
{
	mtx_lock(&sc->mtx);
	sc->kicked = false;
	mtx_unlock(&sc->mtx);
}

static void
rvmrpc_back_off(struct rvmrpc_softc *sc)
{
	rvmrpc_sleep(sc, sc->backoff_ms);
	sc->backoff_ms = MIN(2 * sc->backoff_ms, RVMRPC_BACKOFF_MAX_MS);
}

static void
rvmrpc_lost(struct rvmrpc_softc *sc)
{
	rvmrpc_session_retire(sc);
	rvmrpc_set_state(sc, RVMRPC_STATE_DISCONNECTED);
}

static void
rvmrpc_connect(struct rvmrpc_softc *sc)
{
	int error;

	rvmrpc_unkick(sc);
	error = rvmrpc_session_connect(sc);
	if (error != 0) {
		rvmrpc_notice(sc, "cannot register with the host: error %d\n",
		    error);
		rvmrpc_back_off(sc);
		return;
	}
	sc->reply_slot = RVMRPC_SLOT_NONE;
	sc->quick = 0;
	rvmrpc_count(sc, RVMRPC_CNT_CONNECTS);
	rvmrpc_set_state(sc, RVMRPC_STATE_CONNECTED);
	rvmrpc_notice(sc, "connected: %u slots, %s gate, proxy in the %s\n",
	    sc->session->nslots,
	    sc->gate.kind == RVMRPC_GATE_KIND_HYPERCALL ? "hypercall" :
	    "doorbell", (sc->session->op & RVMRPC_OP_KERNEL) != 0 ?
	    "host's kernel" : "VMM");
}

/*
 * Every slot is held by a procedure that the host no longer waits for: begin
 * anew without them.
 */
static void
rvmrpc_watchdog(struct rvmrpc_softc *sc)
{
	int grace = sc->tun.watchdog_ms;

	rvmrpc_session_reap(sc);
	if (grace < 0 || !rvmrpc_session_stuck(sc->session, grace * SBT_1MS) ||
	    sc->abandoned >= RVMRPC_ABANDONED_MAX)
		return;
	device_printf(sc->dev, "procedures hold all %u slots past their "
	    "deadlines; registering again\n", sc->session->nslots);
	rvmrpc_count(sc, RVMRPC_CNT_WATCHDOG);
	rvmrpc_lost(sc);
}

/* ---- Requests ---- */

/* NULL when the host gave a slot that it does not have. */
static struct rvmrpc_slot *
rvmrpc_slot(struct rvmrpc_softc *sc, uint32_t number)
{
	struct rvmrpc_session *session = sc->session;
	struct rvmrpc_slot *slot;
	bool busy;

	if (number >= session->nslots)
		return (NULL);
	slot = &session->slots[rvmrpc_index_nospec(number, session->nslots)];
	mtx_lock(&sc->mtx);
	busy = slot->busy;
	mtx_unlock(&sc->mtx);
	return (busy ? NULL : slot);
}

static void
rvmrpc_take(struct rvmrpc_softc *sc, uint32_t number)
{
	struct rvmrpc_slot *slot = rvmrpc_slot(sc, number);

	if (slot == NULL) {
		rvmrpc_notice(sc,
		    "the host gave slot %u, which it does not have\n", number);
		rvmrpc_count(sc, RVMRPC_CNT_ERRORS);
		rvmrpc_lost(sc);
		rvmrpc_back_off(sc);
		return;
	}
	memcpy(&slot->hdr, slot->request, sizeof(slot->hdr));
	__compiler_membar();	/* from here on only the copy counts */
	if (!rvmrpc_registry_accept(sc->session, &slot->hdr, &slot->call)) {
		rvmrpc_count(sc, RVMRPC_CNT_MALFORMED);
		return;
	}
	rvmrpc_count(sc, RVMRPC_CNT_CALLS);
	if (slot->call.status != RVMRPC_STATUS_OK)
		rvmrpc_count(sc, RVMRPC_CNT_REFUSED);
	if (slot->call.status == RVMRPC_STATUS_OK &&
	    (slot->call.flags & RVMRPC_PROC_MAY_SLEEP) != 0) {
		rvmrpc_hand_to_worker(sc, slot);
	} else {
		rvmrpc_run(slot);
		sc->reply_slot = number;
	}
	sc->last_call = sbinuptime();
}

/*
 * Flags of the next poll.  Waiting in the host takes this CPU from whatever
 * else wants it, and asking afterwards is too late; so only a CPU with
 * nothing else to run waits.
 */
static uint32_t
rvmrpc_poll_flags(const struct rvmrpc_softc *sc)
{
	int idle_us = sc->tun.vmlp_idle_us;
	sbintime_t left;

	if (idle_us == 0 || !rvmrpc_gate_waits(&sc->gate) ||
	    sched_runnable() || sc->quick >= RVMRPC_QUICK_MAX)
		return (0);
	if (idle_us < 0)
		return (RVMRPC_MAIN_WAIT);
	left = idle_us - (sbinuptime() - sc->last_call) / SBT_1US;
	if (left <= 0)
		return (0);
	left = MIN(left, RVMRPC_MAIN_WAIT_US_MAX);
	return (RVMRPC_MAIN_WAIT |
	    (uint32_t)left << RVMRPC_MAIN_WAIT_US_SHIFT);
}

static void
rvmrpc_idle(struct rvmrpc_softc *sc)
{
	u_int ms = RVMRPC_SELF_CHECK_MS;

	if (sc->irq == NULL)
		ms = RVMRPC_NO_IRQ_POLL_MS;
	else if (rvmrpc_session_busy(sc->session) || sc->abandoned != 0)
		ms = RVMRPC_BUSY_CHECK_MS;
	if (sc->tun.vmlp_idle_us < 0 && rvmrpc_gate_waits(&sc->gate))
		ms = MIN(ms, RVMRPC_CROWDED_MS);
	sc->quick = 0;
	rvmrpc_sleep(sc, ms);
}

static uint32_t
rvmrpc_poll(struct rvmrpc_softc *sc, uint32_t flags)
{
	struct rvmrpc_session *session = sc->session;
	sbintime_t begin = sbinuptime();
	uint32_t answer;

	rvmrpc_count(sc, RVMRPC_CNT_POLLS);
	answer = rvmrpc_gate_call(&sc->gate, session->op,
	    rvmrpc_proxy(session, RVMRPC_MAIN), session->epoch,
	    RVMRPC_MAIN_ARG(sc->reply_slot, flags));
	if (answer != RVMRPC_GATE_NONE)
		sc->reply_slot = RVMRPC_SLOT_NONE;
	if (flags == 0)
		return (answer);
	rvmrpc_count(sc, RVMRPC_CNT_WAITS);
	if (answer == RVMRPC_GATE_AGAIN &&
	    sbinuptime() - begin < RVMRPC_QUICK_US * SBT_1US)
		sc->quick++;
	else
		sc->quick = 0;
	return (answer);
}

static void
rvmrpc_turn(struct rvmrpc_softc *sc)
{
	uint32_t flags = rvmrpc_poll_flags(sc);
	uint32_t answer;

	/* Before the poll: an interrupt that comes after it is not lost. */
	rvmrpc_unkick(sc);
	answer = rvmrpc_poll(sc, flags);
	if (!RVMRPC_GATE_IS_CODE(answer)) {
		sc->backoff_ms = RVMRPC_BACKOFF_MIN_MS;
		rvmrpc_take(sc, answer);
		return;
	}
	switch (answer) {
	case RVMRPC_GATE_AGAIN:
		sc->backoff_ms = RVMRPC_BACKOFF_MIN_MS;
		rvmrpc_watchdog(sc);
		if (flags == 0 && sc->state == RVMRPC_STATE_CONNECTED)
			rvmrpc_idle(sc);
		break;
	case RVMRPC_GATE_RESET:
	case RVMRPC_GATE_BAD_HANDLE:
		rvmrpc_count(sc, RVMRPC_CNT_RESETS);
		rvmrpc_lost(sc);
		break;
	default:
		rvmrpc_count(sc, RVMRPC_CNT_ERRORS);
		rvmrpc_notice(sc, "the host answers a poll with %#x\n",
		    answer);
		rvmrpc_lost(sc);
		rvmrpc_back_off(sc);
	}
}

/*
 * core.exit: its answer, then farewell.  Attaching the device again brings
 * the server back.
 */
static void
rvmrpc_leave(struct rvmrpc_softc *sc)
{
	struct rvmrpc_session *session = sc->session;

	if (sc->reply_slot != RVMRPC_SLOT_NONE)
		rvmrpc_gate_call(&sc->gate, session->op,
		    rvmrpc_proxy(session, RVMRPC_REPLY), session->epoch,
		    sc->reply_slot);
	rvmrpc_session_leave(sc);
	rvmrpc_session_drop(sc);
	rvmrpc_set_state(sc, RVMRPC_STATE_LEFT);
	device_printf(sc->dev, "the host has ended the server\n");
}

/* ---- The thread ---- */

static void
rvmrpc_keep_cpu(struct rvmrpc_softc *sc)
{
	int want = sc->tun.cpu;

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

static bool
rvmrpc_stopping(struct rvmrpc_softc *sc)
{
	bool stop;

	mtx_lock(&sc->mtx);
	stop = sc->stop;
	mtx_unlock(&sc->mtx);
	return (stop);
}

static void
rvmrpc_server(void *arg)
{
	struct rvmrpc_softc *sc = arg;

	while (!rvmrpc_stopping(sc)) {
		rvmrpc_keep_cpu(sc);
		if (sc->leave && sc->state == RVMRPC_STATE_CONNECTED)
			rvmrpc_leave(sc);
		else if (sc->state == RVMRPC_STATE_CONNECTED)
			rvmrpc_turn(sc);
		else if (sc->state == RVMRPC_STATE_LEFT) {
			rvmrpc_unkick(sc);
			rvmrpc_sleep(sc, RVMRPC_SELF_CHECK_MS);
		} else
			rvmrpc_connect(sc);
	}
	if (sc->state == RVMRPC_STATE_CONNECTED)
		rvmrpc_session_leave(sc);
	rvmrpc_session_drop(sc);
	rvmrpc_set_state(sc, RVMRPC_STATE_STOPPED);
	/* Wakes rvmrpc_server_stop() from outside of this module's text. */
	kthread_exit();
}

const char *
rvmrpc_wait_mode(const struct rvmrpc_softc *sc)
{
	int idle_us = sc->tun.vmlp_idle_us;

	if (idle_us != 0 && rvmrpc_gate_waits(&sc->gate))
		return (idle_us < 0 ? "vmlp" : "vmlp-then-interrupt");
	return (sc->irq != NULL ? "interrupt" : "timer");
}

int
rvmrpc_server_start(struct rvmrpc_softc *sc)
{
	struct thread *td;
	int error;

	if (sc->thread != NULL)
		return (0);
	sc->stop = false;
	sc->leave = false;
	sc->session = NULL;
	sc->reply_slot = RVMRPC_SLOT_NONE;
	sc->last_call = sbinuptime();
	sc->quick = 0;
	sc->backoff_ms = RVMRPC_BACKOFF_MIN_MS;
	sc->bound_cpu = -1;
	rvmrpc_set_state(sc, RVMRPC_STATE_DISCONNECTED);
	error = kthread_add(rvmrpc_server, sc, NULL, &td, RFSTOPPED, 0,
	    "rvmrpc");
	if (error != 0) {
		rvmrpc_set_state(sc, RVMRPC_STATE_STOPPED);
		return (error);
	}
	sc->thread = td;
	thread_lock(td);
	/* Waiting in the host must not show in what the host asks for. */
	td->td_flags |= TDF_NOLOAD;
	rvmrpc_sched_add(td);
	return (0);
}

/* Leaves the host and ends the thread; workers go on, unheard. */
void
rvmrpc_server_stop(struct rvmrpc_softc *sc)
{
	if (sc->thread == NULL || SCHEDULER_STOPPED())
		return;
	/*
	 * The thread sees stop no sooner than msleep() has given the mutex
	 * back, so its end is not missed.  A wait in the host ends with the
	 * next tick of its CPU, which is not idle.
	 */
	mtx_lock(&sc->mtx);
	sc->stop = true;
	wakeup(&sc->kicked);
	msleep(sc->thread, &sc->mtx, 0, "rvmend", 0);
	mtx_unlock(&sc->mtx);
	sc->thread = NULL;
}

void
rvmrpc_server_kick(struct rvmrpc_softc *sc)
{
	mtx_lock(&sc->mtx);
	sc->kicked = true;
	wakeup(&sc->kicked);
	mtx_unlock(&sc->mtx);
}
