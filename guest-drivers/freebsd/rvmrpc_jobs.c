/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Workers: procedures that may sleep.
 *
 * A job is what a worker needs of a slot: a thread, and private copies of
 * argument and result.  It has the slot only while its epoch lives: the end of
 * an epoch takes the slot away from a job that still runs, and leaves the job
 * to its worker.  So a procedure that hangs never writes to the window of a
 * later epoch.
 */
#include "rvmrpc_drv.h"
#include <sys/priority.h>

/* With those left to hanging procedures; then slots go without a worker. */
#define	RVMRPC_JOBS_MAX	RVMRPC_SLOTS_MAX

#define	RVMRPC_DRAIN_MS		10

struct rvmrpc_job {
	LIST_ENTRY(rvmrpc_job) link;	/* of orphans; jobs_mtx */
	struct rvmrpc_softc *sc;
	struct taskqueue *worker;	/* one thread, the job's own */
	struct task	task;
	void		*arg;		/* req_bytes */
	void		*res;		/* res_bytes */
	uint32_t	req_bytes;	/* fixed */
	uint32_t	res_bytes;	/* fixed */
	/* The server thread's until it is given, then the worker's. */
	struct rvmrpc_taken taken;
	struct rvmrpc_accepted call;
	sbintime_t	deadline;	/* jobs_mtx, as all below */
	bool		busy;
	bool		orphan;		/* the epoch is over */
	bool		cancelled;
};

/* ---- Workers ---- */

static void
rvmrpc_job_publish(struct rvmrpc_job *job, const struct rvmrpc_hdr *reply)
{
	struct rvmrpc_softc *sc = job->sc;
	uint32_t slot = job->taken.slot;

	mtx_lock(&sc->jobs_mtx);
	/* Once it is published, the host may post the next request. */
	job->busy = false;
	if (job->orphan)
		rvmrpc_count(sc, RVMRPC_CNT_LATE);
	else {
		memcpy(rvmrpc_guest_res(&sc->guest, slot), job->res,
		    reply->length);
		if (rvmrpc_guest_publish(&sc->guest, slot, job->taken.seq,
		    reply))
			rvmrpc_window_ring(sc);
	}
	wakeup(&sc->orphans);
	mtx_unlock(&sc->jobs_mtx);
}

static void
rvmrpc_worker(void *arg, int pending __unused)
{
	struct rvmrpc_job *job = arg;
	struct rvmrpc_hdr reply;

	/* Whom the caller has been told that it failed must not run. */
	mtx_lock(&job->sc->jobs_mtx);
	if (job->orphan || job->cancelled || sbinuptime() >= job->deadline ||
	    !rvmrpc_guest_alive(&job->sc->guest) ||
	    rvmrpc_guest_unwanted(&job->sc->guest, job->taken.slot))
		job->call.status = RVMRPC_STATUS_CANCELLED;
	mtx_unlock(&job->sc->jobs_mtx);
	rvmrpc_server_run(&job->call, job->arg, job->res, job->res_bytes,
	    &reply);
	rvmrpc_registry_done(&job->call);
	rvmrpc_job_publish(job, &reply);
}

/* ---- Memory ---- */

/* It is not busy, and nobody gives it anything. */
static void
rvmrpc_job_free(struct rvmrpc_job *job)
{
	if (job == NULL)
		return;
	/* Waits for a worker that has published, but not returned yet. */
	taskqueue_free(job->worker);
	free(job->arg, M_RVMRPC);
	free(job->res, M_RVMRPC);
	free(job, M_RVMRPC);
}

static struct rvmrpc_job *
rvmrpc_job_alloc(struct rvmrpc_softc *sc)
{
	struct rvmrpc_job *job = malloc(sizeof(*job), M_RVMRPC,
	    M_WAITOK | M_ZERO);

	job->sc = sc;
	job->req_bytes = sc->guest.layout.req_bytes;
	job->res_bytes = sc->guest.layout.res_bytes;
	job->arg = malloc(job->req_bytes, M_RVMRPC, M_WAITOK);
	job->res = malloc(job->res_bytes, M_RVMRPC, M_WAITOK | M_ZERO);
	TASK_INIT(&job->task, 0, rvmrpc_worker, job);
	job->worker = taskqueue_create("rvmrpc", M_WAITOK,
	    taskqueue_thread_enqueue, &job->worker);
	if (taskqueue_start_threads(&job->worker, 1, PWAIT,
	    "rvmrpc worker") == 0)
		return (job);
	rvmrpc_job_free(job);
	/* The host sees calls that are BUSY.  Memory alone is waited for. */
	rvmrpc_event_core(RVMRPC_RECORD_NO_MEMORY, "no thread for a worker");
	return (NULL);
}

/* Frees the orphans whose procedures have ended. */
void
rvmrpc_jobs_reap(struct rvmrpc_softc *sc)
{
	struct rvmrpc_jobs done = LIST_HEAD_INITIALIZER(done);
	struct rvmrpc_job *job, *next;

	if (sc->abandoned == 0)
		return;
	mtx_lock(&sc->jobs_mtx);
	LIST_FOREACH_SAFE(job, &sc->orphans, link, next)
		if (!job->busy) {
			LIST_REMOVE(job, link);
			LIST_INSERT_HEAD(&done, job, link);
			sc->abandoned--;
		}
	mtx_unlock(&sc->jobs_mtx);
	LIST_FOREACH_SAFE(job, &done, link, next)
		rvmrpc_job_free(job);
}

/* One slot is kept for what never sleeps: a hung disk mutes no guest. */
static u_int
rvmrpc_jobs_max(const struct rvmrpc_softc *sc)
{
	return (MAX(sc->guest.layout.nslots - 1, 1));
}

/*
 * Has a worker for each slot of a new epoch; a slot without one answers BUSY
 * to what may sleep.  What fits is kept: the guest may have no memory to give.
 */
void
rvmrpc_jobs_prepare(struct rvmrpc_softc *sc)
{
	const struct rvmrpc_layout *layout = &sc->guest.layout;
	struct rvmrpc_job *job;
	u_int i, room;
	bool wanted;

	rvmrpc_jobs_reap(sc);
	room = RVMRPC_JOBS_MAX - sc->abandoned;
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		job = sc->jobs[i];
		wanted = room != 0 && i < layout->nslots;
		if (!wanted || job == NULL ||
		    job->req_bytes != layout->req_bytes ||
		    job->res_bytes != layout->res_bytes) {
			rvmrpc_job_free(job);
			job = wanted ? rvmrpc_job_alloc(sc) : NULL;
		}
		sc->jobs[i] = job;
		room -= job != NULL;
	}
	if (sc->arg_bytes != layout->req_bytes) {
		free(sc->arg, M_RVMRPC);
		sc->arg = malloc(layout->req_bytes, M_RVMRPC, M_WAITOK);
		sc->arg_bytes = layout->req_bytes;
	}
	rvmrpc_user_epoch(rvmrpc_jobs_max(sc));
	rvmrpc_files_epoch(rvmrpc_jobs_max(sc));
}

/* The end of an epoch: what still runs goes on without a slot. */
void
rvmrpc_jobs_retire(struct rvmrpc_softc *sc)
{
	struct rvmrpc_job *job;
	u_int i;

	mtx_lock(&sc->jobs_mtx);
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		job = sc->jobs[i];
		if (job == NULL || !job->busy)
			continue;
		job->orphan = true;
		LIST_INSERT_HEAD(&sc->orphans, job, link);
		sc->jobs[i] = NULL;
		sc->abandoned++;
	}
	mtx_unlock(&sc->jobs_mtx);
	rvmrpc_user_epoch(0);
}

/* ---- The server thread's view ---- */

static u_int
rvmrpc_jobs_running(struct rvmrpc_softc *sc)
{
	u_int i, n = 0;

	mtx_assert(&sc->jobs_mtx, MA_OWNED);
	for (i = 0; i < sc->guest.layout.nslots; i++)
		n += sc->jobs[i] != NULL && sc->jobs[i]->busy;
	return (n);
}

/* False: there is no worker for it, answer BUSY. */
bool
rvmrpc_jobs_give(struct rvmrpc_softc *sc, const struct rvmrpc_taken *taken,
    const struct rvmrpc_accepted *call)
{
	uint32_t ms = MIN(taken->hdr.timeout_ms, RVMRPC_TIMEOUT_MS_MAX);
	struct rvmrpc_job *job = sc->jobs[taken->slot];
	bool given;

	mtx_lock(&sc->jobs_mtx);
	given = job != NULL && !job->busy &&
	    rvmrpc_jobs_running(sc) < rvmrpc_jobs_max(sc);
	if (given) {
		job->deadline = sbinuptime() + ms * SBT_1MS;
		job->cancelled = false;
		job->busy = true;
	}
	mtx_unlock(&sc->jobs_mtx);
	if (!given)
		return (false);
	job->taken = *taken;
	job->call = *call;
	job->call.hdr = &job->taken.hdr;
	memcpy(job->arg, rvmrpc_guest_arg(&sc->guest, taken->slot),
	    taken->hdr.length);
	rvmrpc_count(sc, RVMRPC_CNT_WORKERS);
	taskqueue_enqueue(job->worker, &job->task);
	return (true);
}

bool
rvmrpc_jobs_busy(struct rvmrpc_softc *sc)
{
	bool busy;

	mtx_lock(&sc->jobs_mtx);
	busy = rvmrpc_jobs_running(sc) != 0;
	mtx_unlock(&sc->jobs_mtx);
	return (busy);
}

/* A call runs past its deadline and a grace, in whatever epoch. */
static bool
rvmrpc_jobs_overdue(struct rvmrpc_softc *sc)
{
	sbintime_t now = sbinuptime();
	struct rvmrpc_job *job;
	bool overdue = false;
	u_int i;

	mtx_assert(&sc->jobs_mtx, MA_OWNED);
	LIST_FOREACH(job, &sc->orphans, link)
		overdue |= job->busy && now >= job->deadline;
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		job = sc->jobs[i];
		overdue |= job != NULL && job->busy && now >= job->deadline;
	}
	return (overdue);
}

/*
 * As many as may run do, and each has been past its deadline for that long:
 * the host has given up on them.
 */
bool
rvmrpc_jobs_stuck(struct rvmrpc_softc *sc, sbintime_t grace)
{
	sbintime_t now = sbinuptime();
	const struct rvmrpc_job *job;
	bool stuck;
	u_int i;

	mtx_lock(&sc->jobs_mtx);
	stuck = rvmrpc_jobs_running(sc) >= rvmrpc_jobs_max(sc) &&
	    sc->abandoned + rvmrpc_jobs_max(sc) <= RVMRPC_JOBS_MAX;
	for (i = 0; i < sc->guest.layout.nslots && stuck; i++) {
		job = sc->jobs[i];
		stuck = job == NULL || !job->busy ||
		    now >= job->deadline + grace;
	}
	mtx_unlock(&sc->jobs_mtx);
	return (stuck);
}

void
rvmrpc_jobs_cancel(struct rvmrpc_softc *sc, uint64_t xid)
{
	struct rvmrpc_job *job;
	u_int i;

	mtx_lock(&sc->jobs_mtx);
	for (i = 0; i < sc->guest.layout.nslots; i++) {
		job = sc->jobs[i];
		if (job != NULL && job->busy && job->taken.hdr.xid == xid)
			job->cancelled = true;
	}
	mtx_unlock(&sc->jobs_mtx);
	rvmrpc_user_cancel(xid);
}

/*
 * Programs are no longer waited for when the host has given up a call: nobody
 * would read the answer.
 */
void
rvmrpc_jobs_forget(struct rvmrpc_softc *sc)
{
	struct rvmrpc_job *job;
	u_int i;

	mtx_lock(&sc->jobs_mtx);
	for (i = 0; i < sc->guest.layout.nslots; i++) {
		job = sc->jobs[i];
		if (job != NULL && job->busy &&
		    rvmrpc_guest_unwanted(&sc->guest, i))
			rvmrpc_user_cancel(job->taken.hdr.xid);
	}
	mtx_unlock(&sc->jobs_mtx);
}

/* ---- The device goes ---- */

bool
rvmrpc_jobs_hang(struct rvmrpc_softc *sc)
{
	bool overdue;

	mtx_lock(&sc->jobs_mtx);
	overdue = rvmrpc_jobs_overdue(sc);
	mtx_unlock(&sc->jobs_mtx);
	return (overdue);
}

/*
 * Waits for the workers, but not for one that is past its call's deadline:
 * EBUSY.  No server thread runs, so all are orphans.
 */
int
rvmrpc_jobs_drain(struct rvmrpc_softc *sc)
{
	int error = 0;

	rvmrpc_jobs_reap(sc);
	mtx_lock(&sc->jobs_mtx);
	while (!LIST_EMPTY(&sc->orphans)) {
		if (rvmrpc_jobs_overdue(sc)) {
			error = EBUSY;
			break;
		}
		msleep_sbt(&sc->orphans, &sc->jobs_mtx, 0, "rvmdrn",
		    RVMRPC_DRAIN_MS * SBT_1MS, 0, 0);
		mtx_unlock(&sc->jobs_mtx);
		rvmrpc_jobs_reap(sc);
		mtx_lock(&sc->jobs_mtx);
	}
	mtx_unlock(&sc->jobs_mtx);
	return (error);
}

/* After rvmrpc_jobs_drain(). */
void
rvmrpc_jobs_free(struct rvmrpc_softc *sc)
{
	u_int i;

	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		rvmrpc_job_free(sc->jobs[i]);
		sc->jobs[i] = NULL;
	}
	free(sc->arg, M_RVMRPC);
	sc->arg = NULL;
	sc->arg_bytes = 0;
}
