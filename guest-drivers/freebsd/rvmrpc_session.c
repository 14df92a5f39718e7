/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Sessions: memory shared with the host, its registration, and what becomes
 * of it when the epoch ends while workers are still inside.
 *
 * The host touches the memory only inside a gate call of this guest that
 * names the session's epoch, so it may be freed when no such call is made.
 */
#include "rvmrpc_drv.h"
#include <sys/priority.h>
#include <vm/vm.h>
#include <vm/pmap.h>

CTASSERT(PAGE_SIZE == RVMRPC_PAGE_SIZE);

struct rvmrpc_geometry {
	u_int	nslots;
	u_int	req_pages;
	u_int	res_pages;
};

static u_int
rvmrpc_clamp(int value, u_int max, u_int limit)
{
	max = MIN(MAX(max, 1), limit);
	return (value < 1 ? 1 : MIN((u_int)value, max));
}

/* What the tunables ask for, within what the device takes. */
static struct rvmrpc_geometry
rvmrpc_geometry(struct rvmrpc_softc *sc)
{
	uint32_t slots = bus_read_4(sc->regs, RVMRPC_REG_SLOTS);
	uint32_t pages = bus_read_4(sc->regs, RVMRPC_REG_PAGES);
	struct rvmrpc_geometry g;

	g.nslots = rvmrpc_clamp(sc->tun.slots, slots, RVMRPC_SLOTS_MAX);
	g.req_pages = rvmrpc_clamp(sc->tun.req_pages, pages & 0xffff,
	    RVMRPC_SLOT_PAGES_MAX);
	g.res_pages = rvmrpc_clamp(sc->tun.res_pages, pages >> 16,
	    RVMRPC_SLOT_PAGES_MAX);
	return (g);
}

/* ---- Memory ---- */

/* No worker is inside. */
static void
rvmrpc_session_free(struct rvmrpc_session *session)
{
	if (session->workers != NULL)
		taskqueue_free(session->workers);
	free(session->init, M_RVMRPC);
	free(session->memory, M_RVMRPC);
	free(session, M_RVMRPC);
}

static void
rvmrpc_gpas(uint64_t *list, const char *buffer, u_int pages)
{
	u_int i;

	for (i = 0; i < pages; i++)
		list[i] = vtophys(buffer + i * PAGE_SIZE);
}

static void
rvmrpc_init_fill(struct rvmrpc_session *session, size_t size)
{
	struct rvmrpc_init *init = session->init;
	uint64_t *list = (uint64_t *)(init + 1);
	u_int i;

	init->magic = RVMRPC_INIT_MAGIC;
	init->abi_min = RVMRPC_ABI_MIN;
	init->abi_max = RVMRPC_ABI_MAX;
	init->size = size;
	init->os = RVMRPC_OS_FREEBSD;
	init->nslots = session->nalloc;
	init->req_pages = session->req_pages;
	init->res_pages = session->res_pages;
	strlcpy(init->release, osrelease, sizeof(init->release));
	for (i = 0; i < session->nalloc; i++) {
		rvmrpc_gpas(list, session->slots[i].request,
		    session->req_pages);
		list += session->req_pages;
		rvmrpc_gpas(list, session->slots[i].response,
		    session->res_pages);
		list += session->res_pages;
	}
}

static void
rvmrpc_slots_init(struct rvmrpc_session *session)
{
	char *page = (char *)roundup2((uintptr_t)session->memory, PAGE_SIZE);
	struct rvmrpc_slot *slot;
	u_int i;

	for (i = 0; i < session->nalloc; i++) {
		slot = &session->slots[i];
		slot->session = session;
		slot->request = page;
		page += session->req_pages * PAGE_SIZE;
		slot->response = page;
		page += session->res_pages * PAGE_SIZE;
		TASK_INIT(&slot->task, 0, rvmrpc_worker, slot);
	}
}

static struct rvmrpc_session *
rvmrpc_session_alloc(struct rvmrpc_softc *sc, const struct rvmrpc_geometry *g)
{
	u_int pages = g->nslots * (g->req_pages + g->res_pages);
	size_t size = sizeof(struct rvmrpc_init) + pages * sizeof(uint64_t);
	struct rvmrpc_session *session;

	session = malloc(sizeof(*session) +
	    g->nslots * sizeof(struct rvmrpc_slot), M_RVMRPC,
	    M_WAITOK | M_ZERO);
	session->sc = sc;
	session->nalloc = g->nslots;
	session->req_pages = g->req_pages;
	session->res_pages = g->res_pages;
	/* malloc(9) promises no page alignment: one page more. */
	session->memory = malloc((pages + 1) * PAGE_SIZE, M_RVMRPC,
	    M_WAITOK | M_ZERO);
	session->init = malloc(size, M_RVMRPC, M_WAITOK | M_ZERO);
	rvmrpc_slots_init(session);
	rvmrpc_init_fill(session, size);
	session->workers = taskqueue_create("rvmrpc", M_WAITOK,
	    taskqueue_thread_enqueue, &session->workers);
	if (taskqueue_start_threads(&session->workers, g->nslots, PWAIT,
	    "rvmrpc worker") != 0) {
		rvmrpc_session_free(session);
		return (NULL);
	}
	return (session);
}

/* ---- What its workers do ---- */

bool
rvmrpc_session_busy(struct rvmrpc_session *session)
{
	bool busy;

	mtx_lock(&session->sc->mtx);
	busy = session->nrunning != 0;
	mtx_unlock(&session->sc->mtx);
	return (busy);
}

/* Every slot is with a worker that is past its call's deadline and grace. */
bool
rvmrpc_session_stuck(struct rvmrpc_session *session, sbintime_t grace)
{
	sbintime_t now = sbinuptime();
	bool stuck = true;
	u_int i;

	mtx_lock(&session->sc->mtx);
	for (i = 0; i < session->nslots && stuck; i++)
		stuck = session->slots[i].busy &&
		    now >= session->slots[i].deadline + grace;
	mtx_unlock(&session->sc->mtx);
	return (stuck);
}

/* A call runs past its deadline, in whatever session. */
bool
rvmrpc_sessions_overdue(struct rvmrpc_softc *sc)
{
	sbintime_t now = sbinuptime();
	struct rvmrpc_session *session;
	bool overdue = false;
	u_int i;

	mtx_assert(&sc->mtx, MA_OWNED);
	LIST_FOREACH(session, &sc->sessions, link)
		for (i = 0; i < session->nalloc; i++)
			overdue |= session->slots[i].busy &&
			    now >= session->slots[i].deadline;
	return (overdue);
}

/* Frees the sessions whose last worker has ended. */
void
rvmrpc_session_reap(struct rvmrpc_softc *sc)
{
	struct rvmrpc_session *session, *next;
	struct rvmrpc_sessions done = LIST_HEAD_INITIALIZER(done);
	u_int left = 0;

	mtx_lock(&sc->mtx);
	LIST_FOREACH_SAFE(session, &sc->sessions, link, next) {
		if (!session->dead)
			continue;
		if (session->nrunning != 0) {
			left++;
			continue;
		}
		LIST_REMOVE(session, link);
		LIST_INSERT_HEAD(&done, session, link);
	}
	mtx_unlock(&sc->mtx);
	sc->abandoned = left;
	LIST_FOREACH_SAFE(session, &done, link, next)
		rvmrpc_session_free(session);
}

/* ---- Registration ---- */

static int
rvmrpc_session_bind(struct rvmrpc_softc *sc, struct rvmrpc_session *session)
{
	static const struct vmrpc_bind name = {
		.name = RVMRPC_PROXY_NAME,
		.version = RVMRPC_PROXY_VERSION,
	};
	uint64_t space = 0;
	uint32_t answer;

	/* Behind the doorbell is the VMM, whatever the host's kernel has. */
	if ((sc->gate.features & RVMRPC_FEAT_PROXY_KERNEL) != 0 &&
	    sc->gate.kind == RVMRPC_GATE_KIND_HYPERCALL)
		space = RVMRPC_OP_KERNEL;
	answer = rvmrpc_gate_call(&sc->gate, RVMRPC_OP_BIND | space,
	    (uintptr_t)&name, 0, 0);
	if (RVMRPC_GATE_IS_CODE(answer))
		return (ENOENT);
	session->handle = answer;
	session->op = RVMRPC_OP_PERFORM | space;
	return (0);
}

static int
rvmrpc_session_register(struct rvmrpc_softc *sc,
    struct rvmrpc_session *session)
{
	struct rvmrpc_init *init = session->init;
	struct rvmrpc_init_answer host;
	uint32_t answer;

	memset(&init->answer, 0, sizeof(init->answer));
	answer = rvmrpc_gate_call(&sc->gate, session->op,
	    session->handle | (uint64_t)RVMRPC_INIT_HOST << 32,
	    (uintptr_t)init, init->size);
	if (RVMRPC_GATE_IS_CODE(answer))
		return (EIO);
	host = init->answer;
	if (host.epoch == 0 || host.abi < RVMRPC_ABI_MIN ||
	    host.abi > RVMRPC_ABI_MAX || host.nslots == 0 ||
	    host.nslots > session->nalloc)
		return (EPROTO);
	session->epoch = host.epoch;
	session->abi = host.abi;
	session->nslots = host.nslots;
	return (0);
}

/* Takes the session that is there when its shape still fits, or a new one. */
static int
rvmrpc_session_prepare(struct rvmrpc_softc *sc)
{
	struct rvmrpc_geometry g = rvmrpc_geometry(sc);
	struct rvmrpc_session *session = sc->session;

	if (session != NULL && (session->nalloc != g.nslots ||
	    session->req_pages != g.req_pages ||
	    session->res_pages != g.res_pages))
		rvmrpc_session_drop(sc);
	rvmrpc_session_reap(sc);
	if (sc->session != NULL)
		return (0);
	if (sc->abandoned >= RVMRPC_ABANDONED_MAX)
		return (EBUSY);
	session = rvmrpc_session_alloc(sc, &g);
	if (session == NULL)
		return (ENOMEM);
	mtx_lock(&sc->mtx);
	LIST_INSERT_HEAD(&sc->sessions, session, link);
	mtx_unlock(&sc->mtx);
	sc->session = session;
	return (0);
}

/* Binds the proxy and registers with it.  No session is connected. */
int
rvmrpc_session_connect(struct rvmrpc_softc *sc)
{
	int error;

	if (rvmrpc_gate_choose(&sc->gate) == RVMRPC_GATE_KIND_NONE)
		return (ENXIO);
	error = rvmrpc_session_prepare(sc);
	if (error == 0)
		error = rvmrpc_session_bind(sc, sc->session);
	if (error == 0)
		error = rvmrpc_session_register(sc, sc->session);
	return (error);
}

/*
 * The epoch is over.  With no worker inside, the session's memory serves the
 * next epoch (the guest may have none left to give); else it stays with its
 * workers.
 */
void
rvmrpc_session_retire(struct rvmrpc_softc *sc)
{
	sc->reply_slot = RVMRPC_SLOT_NONE;
	if (rvmrpc_session_busy(sc->session))
		rvmrpc_session_drop(sc);
}

void
rvmrpc_session_drop(struct rvmrpc_softc *sc)
{
	struct rvmrpc_session *session = sc->session;

	sc->session = NULL;
	if (session == NULL)
		return;
	mtx_lock(&sc->mtx);
	session->dead = true;
	mtx_unlock(&sc->mtx);
	rvmrpc_session_reap(sc);
}

/* Tells the host; it answers for the calls that are still running. */
void
rvmrpc_session_leave(struct rvmrpc_softc *sc)
{
	struct rvmrpc_session *session = sc->session;

	rvmrpc_gate_call(&sc->gate, session->op,
	    session->handle | (uint64_t)RVMRPC_EXIT << 32, session->epoch, 0);
	rvmrpc_gate_call(&sc->gate,
	    RVMRPC_OP_UNBIND | (session->op & RVMRPC_OP_KERNEL),
	    session->handle, 0, 0);
}
