/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the soak's clients and its module of the guest agree on: the module's number, its argument and answer, and the
 * words that both are filled with, so that an answer shows whose it is.
 */
#ifndef LEDGER_H
#define LEDGER_H

#ifdef __KERNEL__
#include <linux/types.h>
#include <linux/string.h>
#else
#include <stdint.h>
#include <string.h>
#endif

#define MOD_LEDGER	0x1ed
#define LEDGER_QUICK	0	/* in the server thread */
#define LEDGER_SLOW	1	/* in a worker, which then sleeps */

struct ledger_arg {
	uint64_t id;
	uint32_t ms;		/* LEDGER_SLOW: how long it sleeps */
	uint32_t answer;	/* bytes that follow the answer's head */
};			/* then words, by the id */

struct ledger_res {
	uint64_t id;
	uint64_t digest;	/* of the argument */
};			/* then words, by the id and the digest */

static inline uint64_t ledger_word(uint64_t seed, uint32_t i)
{
	uint64_t x = (seed + i) * 0x9e3779b97f4a7c15ull;

	return x ^ x >> 29;
}

/* The last word may be cut. */
static inline void ledger_fill(void *to, uint32_t bytes, uint64_t seed)
{
	uint32_t i;

	for (i = 0; i < bytes; i += 8) {
		uint64_t word = ledger_word(seed, i / 8);

		memcpy((char *)to + i, &word, bytes - i < 8 ? bytes - i : 8);
	}
}

static inline uint64_t ledger_digest(const void *from, uint32_t bytes)
{
	uint64_t digest = bytes;
	uint32_t i;

	for (i = 0; i < bytes; i += 8) {
		uint64_t word = 0;

		memcpy(&word, (const char *)from + i, bytes - i < 8 ? bytes - i : 8);
		digest = (digest ^ word) * 0x100000001b3ull;
		digest ^= digest >> 31;
	}
	return digest;
}

#endif
