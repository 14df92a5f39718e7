/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules that programs of the guest serve, by the interface of rvmrpc_serve.h.
 *
 * What a program may say, and whose turn it is, is here; waiting, waking and memory are the driver's.  All functions
 * that have a struct rvmrpc_programs or one of its calls are called with one lock of the driver's held, which is these'.
 */
#ifndef RVMRPC_PROGRAMS_H
#define RVMRPC_PROGRAMS_H

#include "rvmrpc_serve.h"
#include "rvmrpc_server.h"

#define RVMRPC_PROGRAM_NUMBER	0x10000	/* the first of those that the driver picks */

/* An open file's module. */
struct rvmrpc_program {
	struct rvmrpc_module module;	/* fixed once it is described, as all but the last */
	struct rvmrpc_procedure procs[RVMRPC_SERVE_PROCS_MAX];
	struct rvmrpc_serve_proc entries[RVMRPC_SERVE_PROCS_MAX];
	struct rvmrpc_serve_register description;
	bool closed;			/* the lock */
};

/* Whether p->description is good, but for its procedures, nprocs of which may be copied to p->entries. */
bool rvmrpc_program_may(const struct rvmrpc_program *p);

/* Fills module, but for its number, and procs from description and entries.  False: these are no good. */
bool rvmrpc_program_describe(struct rvmrpc_program *p, rvmrpc_dispatch_fn handler);

/* Whether an answer, of so many bytes behind its head, is of the right form. */
bool rvmrpc_program_may_answer(const struct rvmrpc_serve_answer *answer, uint64_t bytes);

enum rvmrpc_program_state {
	RVMRPC_PROGRAM_QUEUED,
	RVMRPC_PROGRAM_READ,
	RVMRPC_PROGRAM_OVER,
};

/* Of a worker. */
struct rvmrpc_program_call {
	const struct rvmrpc_program *program;
	uint64_t id;
	uint64_t xid;			/* set by the driver */
	enum rvmrpc_program_state state;
	uint32_t status;		/* RVMRPC_STATUS_*, once it is over */
};

struct rvmrpc_programs {
	struct rvmrpc_program_call *calls[RVMRPC_SLOTS_MAX];	/* each holds a worker */
	uint32_t held;			/* how many */
	uint32_t held_max;		/* one worker is left to what the driver itself serves */
	uint64_t last_id;
	bool asleep;			/* the machine is about to */
};

/*
 * Gives a call to a program, or to none, NULL.  RVMRPC_STATUS_OK: it holds a worker until rvmrpc_program_leave();
 * MODULE_UNAVAILABLE; BUSY.
 */
int rvmrpc_program_post(struct rvmrpc_programs *all, const struct rvmrpc_program *p, struct rvmrpc_program_call *call);

/* Its worker waits no more: unless it is over, it was cancelled. */
void rvmrpc_program_leave(struct rvmrpc_programs *all, struct rvmrpc_program_call *call);

/* The oldest that waits to be read; NULL. */
struct rvmrpc_program_call *rvmrpc_program_next(const struct rvmrpc_programs *all, const struct rvmrpc_program *p);

/* One that was read and waits for its answer; NULL. */
struct rvmrpc_program_call *rvmrpc_program_find(const struct rvmrpc_programs *all, const struct rvmrpc_program *p,
						uint64_t id);

/* False: it was over. */
bool rvmrpc_program_end(struct rvmrpc_program_call *call, uint32_t status);

/* The program goes: what it has not read did not run, the rest may have. */
void rvmrpc_program_close(struct rvmrpc_programs *all, struct rvmrpc_program *p);

/* Nobody waits for those of this xid any more, or, 0, for any. */
void rvmrpc_programs_cancel(struct rvmrpc_programs *all, uint64_t xid);

/* An epoch begins, with so many workers, or ends, 0: nobody waits for the calls of the last one. */
void rvmrpc_programs_epoch(struct rvmrpc_programs *all, uint32_t workers);

/* The driver's, with the lock held: wakes the worker of a call that is over. */
void rvmrpc_os_program_over(struct rvmrpc_program_call *call);

#endif /* RVMRPC_PROGRAMS_H */
