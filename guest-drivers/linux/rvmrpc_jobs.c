// SPDX-License-Identifier: GPL-2.0-only
/*
 * Workers: procedures that may sleep.
 *
 * A job is what a worker needs of a slot: private copies of argument and result, or pages that hold part of the result.
 * It has the slot only while its epoch lives: the end of an epoch takes the slot away from a job that still runs, under the
 * job's lock, and leaves the job to its worker.  So a procedure that hangs never writes to the window of a later epoch.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "rvmrpc_drv.h"

atomic_t rvmrpc_abandoned = ATOMIC_INIT(0);
static atomic_t rvmrpc_held = ATOMIC_INIT(0);	/* workers that wait for others */
static int rvmrpc_held_max = 1;

struct rvmrpc_job {
	struct work_struct work;
	struct kref ref;		/* its slot's, and one of each time that it is queued */
	struct mutex lock;		/* rdev; publishing against the end of the epoch */
	struct rvmrpc_dev *rdev;	/* NULL: the epoch is over; lock */
	void *arg;			/* req_bytes */
	void *res;			/* res_bytes */
	u32 req_bytes;			/* fixed */
	u32 res_bytes;			/* fixed */
	struct rvmrpc_pages *pages;	/* NULL: no memory for them; the worker's */

	/* Set by the server thread before the job is queued, the worker's from then on. */
	struct rvmrpc_taken taken;
	struct rvmrpc_accepted call;
	struct module *owner;
	u64 deadline;			/* ns since boot, sleep of the machine included */

	bool busy;			/* set by the server thread, cleared by the worker */
	bool cancelled;			/* set by the server thread, read by the worker */
};

/* ---- Memory ---- */

static void rvmrpc_job_free(struct rvmrpc_job *job)
{
	if (!job)
		return;
	kvfree(job->arg);
	kvfree(job->res);
	kvfree(job->pages);
	kfree(job);
}

static void rvmrpc_job_work(struct work_struct *work);

static struct rvmrpc_job *rvmrpc_job_alloc(const struct rvmrpc_layout *layout)
{
	struct rvmrpc_job *job = kzalloc(sizeof(*job), GFP_KERNEL);

	if (!job)
		return NULL;
	INIT_WORK(&job->work, rvmrpc_job_work);
	kref_init(&job->ref);
	mutex_init(&job->lock);
	job->req_bytes = layout->req_bytes;
	job->res_bytes = layout->res_bytes;
	job->arg = kvmalloc(job->req_bytes, GFP_KERNEL | __GFP_NOWARN);
	job->res = kvzalloc(job->res_bytes, GFP_KERNEL | __GFP_NOWARN);
	job->pages = rvmrpc_pages_alloc(job->res_bytes);
	if (job->arg && job->res)
		return job;
	rvmrpc_job_free(job);
	return NULL;
}

/*
 * Who takes the slot away is still in mutex_unlock() when the worker may have the lock, and go: neither may free what the
 * other has in its hands.
 */
static void rvmrpc_job_release(struct kref *ref)
{
	rvmrpc_job_free(container_of(ref, struct rvmrpc_job, ref));
}

static void rvmrpc_job_put(struct rvmrpc_job *job)
{
	kref_put(&job->ref, rvmrpc_job_release);
}

/* The host is told, which sees calls that are BUSY. */
static struct rvmrpc_job *rvmrpc_job_get(const struct rvmrpc_layout *layout)
{
	struct rvmrpc_job *job = rvmrpc_job_alloc(layout);
	struct rvmrpc_event_writer e;

	if (!job) {
		rvmrpc_event_new(&e, RVMRPC_MOD_CORE, RVMRPC_RECORD_NO_MEMORY);
		rvmrpc_event_send(&e);
	}
	return job;
}

/* It is nobody's, but its worker may not have returned yet. */
static void rvmrpc_job_drop(struct rvmrpc_job *job)
{
	if (!job)
		return;
	flush_work(&job->work);
	rvmrpc_job_put(job);
}

static bool rvmrpc_job_fits(const struct rvmrpc_job *job, const struct rvmrpc_layout *layout)
{
	return job && job->req_bytes == layout->req_bytes && job->res_bytes == layout->res_bytes;
}

/* One slot is kept for what never sleeps: a hung disk must not make a guest mute. */
static u32 rvmrpc_jobs_max(const struct rvmrpc_dev *rdev)
{
	return max_t(u32, rdev->w.guest.layout.nslots - 1, 1);
}

/**
 * rvmrpc_jobs_prepare() - have a worker's memory for each slot of a new epoch
 * @rdev: device, whose guest half is open
 *
 * A slot for which there is none answers BUSY to what may sleep.  With those that were left behind there are never more
 * than RVMRPC_JOBS_MAX, however epochs and devices come and go.
 *
 * Context: server thread, between epochs.
 */
void rvmrpc_jobs_prepare(struct rvmrpc_dev *rdev)
{
	const struct rvmrpc_layout *layout = &rdev->w.guest.layout;
	u32 i, room = RVMRPC_JOBS_MAX - atomic_read(&rvmrpc_abandoned);

	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		struct rvmrpc_job *job = rdev->w.jobs[i];
		bool wanted = room && i < layout->nslots;

		if (!wanted || !rvmrpc_job_fits(job, layout)) {
			rvmrpc_job_drop(job);
			job = wanted ? rvmrpc_job_get(layout) : NULL;
		}
		rdev->w.jobs[i] = job;
		if (job) {
			job->rdev = rdev;
			room--;
		}
	}
	if (rdev->w.arg_bytes != layout->req_bytes) {
		kvfree(rdev->w.arg);
		rdev->w.arg = kvmalloc(layout->req_bytes, GFP_KERNEL | __GFP_NOWARN);
		rdev->w.arg_bytes = rdev->w.arg ? layout->req_bytes : 0;
	}
	WRITE_ONCE(rvmrpc_held_max, max_t(u32, rvmrpc_jobs_max(rdev) - 1, 1));
	rvmrpc_user_epoch(rvmrpc_jobs_max(rdev));
	rvmrpc_connect_epoch(rvmrpc_jobs_max(rdev));
	rvmrpc_files_epoch(rvmrpc_jobs_max(rdev));
}

/* The end of an epoch: what still runs goes on without a slot. */
void rvmrpc_jobs_retire(struct rvmrpc_dev *rdev)
{
	u32 i;

	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		struct rvmrpc_job *job = rdev->w.jobs[i];
		bool taken;

		if (!job)
			continue;
		/* Whether or not it is busy: its worker may be about to have published. */
		mutex_lock(&job->lock);
		taken = job->busy;
		if (taken) {
			job->rdev = NULL;
			rdev->w.jobs[i] = NULL;
			atomic_inc(&rvmrpc_abandoned);
		}
		mutex_unlock(&job->lock);
		if (taken)
			rvmrpc_job_put(job);
	}
	rvmrpc_user_epoch(0);
	rvmrpc_connect_epoch(0);
}

/* The device goes. */
void rvmrpc_jobs_free(struct rvmrpc_dev *rdev)
{
	u32 i;

	rvmrpc_jobs_retire(rdev);
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		struct rvmrpc_job *job = rdev->w.jobs[i];

		rdev->w.jobs[i] = NULL;
		rvmrpc_job_drop(job);
	}
	kvfree(rdev->w.arg);
	rdev->w.arg = NULL;
	rdev->w.arg_bytes = 0;
}

/* ---- Workers ---- */

/* False: the caller has been told that the call failed, so it must not run. */
static bool rvmrpc_job_due(struct rvmrpc_job *job)
{
	bool alive;

	mutex_lock(&job->lock);
	alive = job->rdev && rvmrpc_guest_alive(&job->rdev->w.guest) &&
		!rvmrpc_guest_unwanted(&job->rdev->w.guest, job->taken.slot);
	mutex_unlock(&job->lock);
	return alive && !READ_ONCE(job->cancelled) && ktime_get_boottime_ns() < job->deadline;
}

/* True: the job is the slot's again, for another call; false: it is nobody's. */
static bool rvmrpc_job_publish(struct rvmrpc_job *job, const struct rvmrpc_hdr *reply)
{
	struct rvmrpc_dev *rdev;

	mutex_lock(&job->lock);
	rdev = job->rdev;
	if (rdev) {
		struct rvmrpc_guest *g = &rdev->w.guest;
		u32 slot = job->taken.slot;
		void *res = rvmrpc_guest_res(g, slot);

		memcpy(res, job->res, rvmrpc_pages_begin(job->pages, reply->length));
		if (job->pages)
			rvmrpc_pages_copy(job->pages, res, reply->length);
		/* Once it is published, the host may post the next request. */
		WRITE_ONCE(job->busy, false);
		if (rvmrpc_guest_publish(g, slot, job->taken.seq, reply))
			rvmrpc_window_ring(rdev);
	}
	mutex_unlock(&job->lock);
	return rdev;
}

static void rvmrpc_job_work(struct work_struct *work)
{
	struct rvmrpc_job *job = container_of(work, struct rvmrpc_job, work);
	struct rvmrpc_hdr reply;

	if (!rvmrpc_job_due(job))
		job->call.status = RVMRPC_STATUS_CANCELLED;
	rvmrpc_server_run(&job->call, job->arg, job->res, job->res_bytes, &reply);
	rvmrpc_registry_done(&job->call, job->owner);
	if (!rvmrpc_job_publish(job, &reply)) {
		rvmrpc_count(RVMRPC_CNT_LATE);
		atomic_dec(&rvmrpc_abandoned);
	}
	rvmrpc_pages_put(job->pages);
	rvmrpc_job_put(job);
}

static u32 rvmrpc_jobs_running(const struct rvmrpc_dev *rdev)
{
	u32 i, n = 0;

	for (i = 0; i < rdev->w.guest.layout.nslots; i++)
		n += rdev->w.jobs[i] && READ_ONCE(rdev->w.jobs[i]->busy);
	return n;
}

/**
 * rvmrpc_jobs_give() - let a worker run a call
 * @rdev: device
 * @taken: request
 * @call: accepted
 * @owner: held for the call, or NULL
 *
 * Context: server thread.
 * Return: false when there is no worker for it: answer BUSY.
 */
bool rvmrpc_jobs_give(struct rvmrpc_dev *rdev, const struct rvmrpc_taken *taken,
		      const struct rvmrpc_accepted *call, struct module *owner)
{
	struct rvmrpc_job *job = rdev->w.jobs[taken->slot];
	u32 timeout = min_t(u32, taken->hdr.timeout_ms, RVMRPC_TIMEOUT_MS_MAX);

	if (!job || job->busy || rvmrpc_jobs_running(rdev) >= rvmrpc_jobs_max(rdev))
		return false;
	job->taken = *taken;
	job->call = *call;
	job->call.hdr = &job->taken.hdr;
	job->call.pages = job->pages;
	job->owner = owner;
	job->deadline = ktime_get_boottime_ns() + (u64)timeout * NSEC_PER_MSEC;
	job->cancelled = false;
	memcpy(job->arg, rvmrpc_guest_arg(&rdev->w.guest, taken->slot), taken->hdr.length);
	WRITE_ONCE(job->busy, true);
	kref_get(&job->ref);
	rvmrpc_count_own(RVMRPC_CNT_WORKERS);
	queue_work(rvmrpc_workers, &job->work);
	return true;
}

bool rvmrpc_jobs_busy(const struct rvmrpc_dev *rdev)
{
	return rvmrpc_jobs_running(rdev);
}

/* No worker has a slot, nor is about to have published in one. */
bool rvmrpc_jobs_settled(const struct rvmrpc_dev *rdev)
{
	u32 i;

	if (rvmrpc_jobs_busy(rdev))
		return false;
	for (i = 0; i < rdev->w.guest.layout.nslots; i++) {
		struct rvmrpc_job *job = rdev->w.jobs[i];

		if (job) {
			mutex_lock(&job->lock);
			mutex_unlock(&job->lock);
		}
	}
	return true;
}

/* As many as may run do, and each has been past its deadline for that long: the host has given up on them. */
bool rvmrpc_jobs_stuck(const struct rvmrpc_dev *rdev, int grace_ms)
{
	u64 now = ktime_get_boottime_ns();
	u32 i, late = 0;

	if (atomic_read(&rvmrpc_abandoned) + rvmrpc_jobs_max(rdev) > RVMRPC_JOBS_MAX)
		return false;
	/* Each is looked at once: it may end meanwhile, and then it is none of them. */
	for (i = 0; i < rdev->w.guest.layout.nslots; i++) {
		const struct rvmrpc_job *job = rdev->w.jobs[i];

		late += job && READ_ONCE(job->busy) && now >= job->deadline + (u64)grace_ms * NSEC_PER_MSEC;
	}
	return late >= rvmrpc_jobs_max(rdev);
}

/* ---- Workers that wait for others ---- */

/* One worker is left to what ends by itself, however many programs hang. */
bool rvmrpc_jobs_hold(void)
{
	if (atomic_inc_return(&rvmrpc_held) <= READ_ONCE(rvmrpc_held_max))
		return true;
	atomic_dec(&rvmrpc_held);
	return false;
}

void rvmrpc_jobs_let_go(void)
{
	atomic_dec(&rvmrpc_held);
}

static void rvmrpc_jobs_unwanted(u64 xid)
{
	rvmrpc_user_cancel(xid);
	rvmrpc_connect_cancel(xid);
}

/* Others are no longer waited for when the host has given up a call: nobody would read the answer. */
void rvmrpc_jobs_forget(struct rvmrpc_dev *rdev)
{
	u32 i;

	if (!rvmrpc_jobs_running(rdev))
		return;
	for (i = 0; i < rdev->w.guest.layout.nslots; i++) {
		struct rvmrpc_job *job = rdev->w.jobs[i];

		if (job && READ_ONCE(job->busy) && rvmrpc_guest_unwanted(&rdev->w.guest, i))
			rvmrpc_jobs_unwanted(job->taken.hdr.xid);
	}
}

void rvmrpc_jobs_cancel(struct rvmrpc_dev *rdev, u64 xid)
{
	u32 i;

	for (i = 0; i < rdev->w.guest.layout.nslots; i++) {
		struct rvmrpc_job *job = rdev->w.jobs[i];

		if (job && READ_ONCE(job->busy) && job->taken.hdr.xid == xid)
			WRITE_ONCE(job->cancelled, true);
	}
	rvmrpc_jobs_unwanted(xid);
}
