/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules that programs of the guest serve.
 */
#include "rvmrpc_programs.h"

/* The same for programs of 32 bits. */
RVMRPC_ASSERT_SIZE(rvmrpc_serve_proc, 40);
RVMRPC_ASSERT_SIZE(rvmrpc_serve_register, 64);
RVMRPC_ASSERT_SIZE(rvmrpc_serve_request, 24);
RVMRPC_ASSERT_SIZE(rvmrpc_serve_answer, 16);

/* ---- What a program says ---- */

bool rvmrpc_program_may(const struct rvmrpc_program *p)
{
	const struct rvmrpc_serve_register *d = &p->description;

	return d->nprocs && d->nprocs <= RVMRPC_SERVE_PROCS_MAX && (!d->number || d->number >= RVMRPC_MOD_USER) &&
	       !d->reserved[0] && !d->reserved[1] && !d->name[RVMRPC_SERVE_NAME_SIZE - 1];
}

bool rvmrpc_program_describe(struct rvmrpc_program *p, rvmrpc_dispatch_fn handler)
{
	uint32_t i;

	for (i = 0; i < p->description.nprocs; i++) {
		const struct rvmrpc_serve_proc *entry = &p->entries[i];

		if (entry->name[RVMRPC_SERVE_NAME_SIZE - 1] ||
		    (entry->flags & ~(RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_SECRET)))
			return false;
		p->procs[i] = (struct rvmrpc_procedure) {
			.number = entry->number,
			.flags = entry->flags | RVMRPC_PROC_MAY_SLEEP,
			.arg_max = RVMRPC_ARG_ANY,
			.name = entry->name,
			.handler = handler,
		};
	}
	p->module = (struct rvmrpc_module) {
		.version = p->description.version,
		.name = p->description.name,
		.procs = p->procs,
		.nprocs = p->description.nprocs,
	};
	return true;
}

bool rvmrpc_program_may_answer(const struct rvmrpc_serve_answer *answer, uint64_t bytes)
{
	return answer->length == bytes && RVMRPC_STATUS_IS_GUESTS(answer->status) &&
	       (!answer->length || answer->status == RVMRPC_STATUS_OK);
}

/* ---- Calls ---- */

int rvmrpc_program_post(struct rvmrpc_programs *all, const struct rvmrpc_program *p, struct rvmrpc_program_call *call)
{
	uint32_t i;

	if (!p || p->closed)
		return RVMRPC_STATUS_MODULE_UNAVAILABLE;
	if (all->held >= all->held_max || all->asleep)
		return RVMRPC_STATUS_BUSY;
	for (i = 0; all->calls[i];)
		i++;
	all->calls[i] = call;
	all->held++;
	call->program = p;
	call->id = ++all->last_id;
	call->state = RVMRPC_PROGRAM_QUEUED;
	return RVMRPC_STATUS_OK;
}

void rvmrpc_program_leave(struct rvmrpc_programs *all, struct rvmrpc_program_call *call)
{
	uint32_t i;

	rvmrpc_program_end(call, RVMRPC_STATUS_CANCELLED);
	for (i = 0; all->calls[i] != call;)
		i++;
	all->calls[i] = NULL;
	all->held--;
}

/* What is behind one that goes may be older: they are told apart by their ids. */
struct rvmrpc_program_call *rvmrpc_program_next(const struct rvmrpc_programs *all, const struct rvmrpc_program *p)
{
	struct rvmrpc_program_call *call, *oldest = NULL;
	uint32_t i;

	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		call = all->calls[i];
		if (call && call->program == p && call->state == RVMRPC_PROGRAM_QUEUED &&
		    (!oldest || call->id < oldest->id))
			oldest = call;
	}
	return oldest;
}

struct rvmrpc_program_call *rvmrpc_program_find(const struct rvmrpc_programs *all, const struct rvmrpc_program *p,
						uint64_t id)
{
	uint32_t i;

	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		struct rvmrpc_program_call *call = all->calls[i];

		if (call && call->program == p && call->id == id && call->state == RVMRPC_PROGRAM_READ)
			return call;
	}
	return NULL;
}

bool rvmrpc_program_end(struct rvmrpc_program_call *call, uint32_t status)
{
	if (call->state == RVMRPC_PROGRAM_OVER)
		return false;
	call->status = status;
	call->state = RVMRPC_PROGRAM_OVER;
	rvmrpc_os_program_over(call);
	return true;
}

void rvmrpc_program_close(struct rvmrpc_programs *all, struct rvmrpc_program *p)
{
	uint32_t i;

	p->closed = true;
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		struct rvmrpc_program_call *call = all->calls[i];

		if (call && call->program == p)
			rvmrpc_program_end(call, call->state == RVMRPC_PROGRAM_QUEUED ?
					   RVMRPC_STATUS_MODULE_UNAVAILABLE : RVMRPC_STATUS_SYSTEM_ERROR);
	}
}

void rvmrpc_programs_cancel(struct rvmrpc_programs *all, uint64_t xid)
{
	uint32_t i;

	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		struct rvmrpc_program_call *call = all->calls[i];

		if (call && (!xid || call->xid == xid))
			rvmrpc_program_end(call, RVMRPC_STATUS_CANCELLED);
	}
}

void rvmrpc_programs_epoch(struct rvmrpc_programs *all, uint32_t workers)
{
	if (workers)
		all->held_max = workers > 1 ? workers - 1 : 1;
	rvmrpc_programs_cancel(all, 0);
}
