/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The two gates into the host, and which of them answers.
 */
#include "rvmrpc_drv.h"
#include <vm/vm.h>
#include <vm/pmap.h>
#include <machine/cputypes.h>
#include <machine/md_var.h>

/*
 * A module cannot catch an undefined instruction on FreeBSD, so this one is
 * executed only where the feature register, read after each hello, says that
 * it answers.  rvmrpc(4) says what remains.
 */
static uint64_t
rvmrpc_hypercall(uint32_t number, uint64_t op, uint64_t a0, uint64_t a1,
    uint64_t a2)
{
	uint64_t rax = number;

	if (cpu_vendor_id == CPU_VENDOR_AMD ||
	    strcmp(cpu_vendor, "HygonGenuine") == 0)
		__asm volatile("vmmcall" : "+a" (rax)
		    : "b" (op), "c" (a0), "d" (a1), "S" (a2) : "memory", "cc");
	else
		__asm volatile("vmcall" : "+a" (rax)
		    : "b" (op), "c" (a0), "d" (a1), "S" (a2) : "memory", "cc");
	return (rax);
}

/*
 * The host has written the answer when the write returns.  The frame is on
 * the stack: wired, and its alignment keeps it within a page.
 */
static uint64_t
rvmrpc_doorbell(struct rvmrpc_gate *gate, uint64_t op, uint64_t a0,
    uint64_t a1, uint64_t a2)
{
	volatile struct rvmrpc_frame frame
	    __aligned(sizeof(struct rvmrpc_frame)) = {
		.op = op, .a0 = a0, .a1 = a1, .a2 = a2
	};

	__compiler_membar();
	bus_write_8(gate->regs, RVMRPC_REG_DOORBELL, vtophys(&frame));
	__compiler_membar();
	return (frame.answer);
}

static uint64_t
rvmrpc_gate_try(struct rvmrpc_gate *gate, enum rvmrpc_gate_kind kind,
    uint64_t op, uint64_t a0, uint64_t a1, uint64_t a2)
{
	switch (kind) {
	case RVMRPC_GATE_KIND_HYPERCALL:
		return (rvmrpc_hypercall(gate->number, op, a0, a1, a2));
	case RVMRPC_GATE_KIND_DOORBELL:
		return (rvmrpc_doorbell(gate, op, a0, a1, a2));
	default:
		return (0);
	}
}

static bool
rvmrpc_gate_answers(struct rvmrpc_gate *gate, enum rvmrpc_gate_kind kind)
{
	return (rvmrpc_gate_try(gate, kind, RVMRPC_OP_NULL, 0, 0, 0) ==
	    RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER));
}

/*
 * Reads the feature register and takes the first gate that answers.  The
 * features change at reset and migration, so it is done again after each hello
 * and whenever an answer has a wrong tag.
 */
enum rvmrpc_gate_kind
rvmrpc_gate_choose(struct rvmrpc_gate *gate)
{
	enum rvmrpc_gate_kind kind = RVMRPC_GATE_KIND_NONE;
	uint32_t features = 0;

	mtx_lock(&gate->choose_mtx);
	if (gate->regs != NULL &&
	    bus_read_4(gate->regs, RVMRPC_REG_MAGIC) == RVMRPC_DEV_MAGIC) {
		features = bus_read_4(gate->regs, RVMRPC_REG_FEATURES);
		gate->number = bus_read_4(gate->regs, RVMRPC_REG_HYPERCALL);
	}
	if ((features & RVMRPC_FEAT_HYPERCALL) != 0 && gate->hypercall &&
	    rvmrpc_gate_answers(gate, RVMRPC_GATE_KIND_HYPERCALL))
		kind = RVMRPC_GATE_KIND_HYPERCALL;
	else if ((features & RVMRPC_FEAT_DOORBELL) != 0 &&
	    rvmrpc_gate_answers(gate, RVMRPC_GATE_KIND_DOORBELL))
		kind = RVMRPC_GATE_KIND_DOORBELL;
	gate->features = features;
	gate->kind = kind;
	mtx_unlock(&gate->choose_mtx);
	return (kind);
}

/*
 * Calls the host by the gate that answers; the lower half of the answer, or
 * RVMRPC_GATE_NONE.  May stay in the host for as long as the procedure does.
 */
uint32_t
rvmrpc_gate_call(struct rvmrpc_gate *gate, uint64_t op, uint64_t a0,
    uint64_t a1, uint64_t a2)
{
	uint64_t answer;
	int tries;

	for (tries = 0; tries < 2; tries++) {
		answer = rvmrpc_gate_try(gate, gate->kind, op, a0, a1, a2);
		if (RVMRPC_GATE_IS_ANSWER(answer))
			return ((uint32_t)answer);
		if (rvmrpc_gate_choose(gate) == RVMRPC_GATE_KIND_NONE)
			break;
	}
	return (RVMRPC_GATE_NONE);
}

/* Whether the server thread can wait in the host. */
bool
rvmrpc_gate_waits(const struct rvmrpc_gate *gate)
{
	return (gate->kind == RVMRPC_GATE_KIND_HYPERCALL &&
	    (gate->features & RVMRPC_FEAT_VMLP) != 0);
}

void
rvmrpc_gate_init(struct rvmrpc_gate *gate, bool hypercall)
{
	mtx_init(&gate->choose_mtx, "rvmrpc gate", NULL, MTX_DEF);
	gate->hypercall = hypercall;
}

void
rvmrpc_gate_destroy(struct rvmrpc_gate *gate)
{
	mtx_destroy(&gate->choose_mtx);
}
