/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's ledger: what a client asked, and how it ended, a line each, written when it happens.
 *
 *	b ID NS MS BYTES	begun: before the guest can know of it; MS is its time
 *	s ID NS			its request has been sent, all of it: its time begins
 *	k ID NS			cancelled
 *	e ID NS STATUS TOLD	ended; TOLD: bytes of the guest's ledger by then
 *	c NS LATE		a sleep of this process ended so late, ns: what it says of times is no better
 *	x NS TEXT		what the server said as it closed the connection
 *
 * Times are CLOCK_MONOTONIC.
 */
#ifndef LEDGER_HOST_H
#define LEDGER_HOST_H

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_MS	1000000ull

/* Opens both; number: of this client, the upper half of its calls' ids.  Starts the control: a thread that sleeps. */
void ledger_open(const char *host, const char *guest, uint32_t number);
uint64_t ledger_now(void);
uint64_t ledger_begin(uint32_t ms, uint32_t bytes);	/* a new id */
void ledger_sent(uint64_t id, uint64_t ns);
void ledger_cancelled(uint64_t id);
void ledger_end(uint64_t id, uint64_t ns, const char *status);
const char *ledger_status(uint32_t status);	/* RVMRPC_STATUS_* by its name */
void ledger_text(const char *text, uint32_t bytes);

/* The next call at random, by a seed. */
struct plan {
	uint32_t procedure;
	uint32_t ms;		/* it sleeps */
	uint32_t timeout;	/* ms */
	uint32_t bytes;		/* after the argument's head */
	uint32_t answer;	/* after the answer's head */
	uint32_t cancel;	/* ms until it is cancelled, 0: never */
	uint32_t pause;		/* us until the next */
};

uint32_t plan_random(uint64_t *state, uint32_t below);
void plan_next(uint64_t *state, struct plan *plan);
/* The argument, of sizeof(struct ledger_arg) + plan->bytes, and what its answer's digest must be. */
uint64_t plan_argument(const struct plan *plan, uint64_t id, void *argument);
/* Whether an answer is that call's, to the last byte. */
bool plan_matches(const struct plan *plan, uint64_t id, uint64_t digest, const void *answer, uint32_t bytes);

#endif
