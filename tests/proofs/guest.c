// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest half of the window, whatever the host writes there, and when. */
#include "proof.h"
#include "rvmrpc_guest.c"

#ifndef SLOTS
#define SLOTS 4
#endif

/* What holds of a channel that is open. */
static bool is_open(const struct rvmrpc_guest *g)
{
	return g->state == RVMRPC_GUEST_OPEN && words_lie_within(&g->layout, g->win.size) &&
	       g->last < g->layout.nslots && g->behind <= g->layout.nslots;
}

static void any_guest(struct rvmrpc_guest *g)
{
	g->win.size = any_window();
	g->win.base = proof_window;
}

/* With as many slots as the loops are unwound for. */
static void open_guest(struct rvmrpc_guest *g)
{
	any_guest(g);
	assume(is_open(g) && g->layout.nslots <= SLOTS);
}

/* PROOF unwind 65 */
void prove_probe(void)
{
	struct rvmrpc_window_id id;
	struct rvmrpc_guest g;
	uint32_t status;

	any_guest(&g);
	status = rvmrpc_guest_probe(&g.win, &id);
	claim(implies(status == RVMRPC_HELLO_OK, id.magic == RVMRPC_WINDOW_MAGIC && id.size == g.win.size));
	rvmrpc_guest_init(&g, proof_window, g.win.size);
	claim(g.state == RVMRPC_GUEST_IDLE && !(g.wait & 1));
	reached();
}

/* PROOF unwind 65 */
void prove_hello(void)
{
	struct rvmrpc_guest g;
	char release[70];
	uint64_t nonce;
	uint32_t os;

	any_guest(&g);
	release[sizeof(release) - 1] = '\0';
	rvmrpc_guest_hello(&g, nonce, os, release);
	claim(g.state == RVMRPC_GUEST_GREETED && g.nonce == nonce);
	reached();
}

/* PROOF full unwind 65 */
void prove_answered(void)
{
	enum rvmrpc_guest_answer answer;
	struct rvmrpc_guest g;
	uint32_t status;

	any_guest(&g);
	g.state = RVMRPC_GUEST_GREETED;
	answer = rvmrpc_guest_answered(&g, &status);
	claim(implies(answer == RVMRPC_ANSWER_OPEN, is_open(&g) && g.epoch && g.abi == RVMRPC_ABI_VERSION && !g.behind));
	claim(implies(answer == RVMRPC_ANSWER_REFUSED, g.state == RVMRPC_GUEST_IDLE && status != RVMRPC_HELLO_OK));
	claim(implies(answer == RVMRPC_ANSWER_NONE, g.state == RVMRPC_GUEST_GREETED));
	reached();
}

/* PROOF unwind 65 -DSLOTS=2, oldest.0:3 full unwind 65 -DSLOTS=4, oldest.0:5 */
void prove_take(void)
{
	struct rvmrpc_guest g, was;
	struct rvmrpc_taken t;

	open_guest(&g);
	was = g;
	if (rvmrpc_guest_take(&g, &t)) {
		claim(t.slot < g.layout.nslots && t.seq && g.taken[t.slot] == t.seq && was.taken[t.slot] != t.seq);
		claim(!t.hdr.reserved2);
	}
	claim(is_open(&g) && g.epoch == was.epoch);
	reached();
}

/* PROOF unwind 2 */
void prove_publish(void)
{
	struct rvmrpc_hdr reply;
	struct rvmrpc_guest g;
	uint32_t slot, seq;

	open_guest(&g);
	assume(slot < g.layout.nslots);
	rvmrpc_guest_unwanted(&g, slot);
	rvmrpc_guest_publish(&g, slot, seq, &reply);
	claim(is_open(&g) && g.answered[slot] == seq);
	reached();
}

/* PROOF unwind 65 -DSLOTS=4, rvmrpc_guest_intact.0:5,rvmrpc_win_await.0:5 */
void prove_sleep(void)
{
	uint32_t us, least, most, spin, looks;
	struct rvmrpc_guest g;
	uint64_t waited;
	bool sleeps;

	open_guest(&g);
	assume(looks < 4);
	rvmrpc_guest_await(&g, looks);
	rvmrpc_guest_beat(&g);
	rvmrpc_guest_intact(&g);
	rvmrpc_guest_alive(&g);
	sleeps = rvmrpc_guest_sleep(&g);
	claim(sleeps == (g.wait & 1) && implies(sleeps, !g.behind));
	rvmrpc_guest_awake(&g);
	claim(!(g.wait & 1));
	spin = rvmrpc_guest_spin_next(&g, us, waited, least, most);
	claim(implies(us <= most && least <= most, spin <= most));
	rvmrpc_guest_bye(&g);
	claim(g.state == RVMRPC_GUEST_IDLE || is_open(&g));
	reached();
}
