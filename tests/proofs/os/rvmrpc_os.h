/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core's port to a bounded model checker (CBMC): the window is whatever its other side makes of it.
 *
 * Every load of it finds any value, every time anew, also where this side has just written: the other side may change all of
 * it between any two accesses.  So nothing is kept of it but its size: each access is proved to lie within.
 */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Memory that the other side can write; of the window its first bytes only are there, and answers have a place of their own. */
#define PROOF_WINDOW_MAX	0x40000000u
extern unsigned char proof_window[PROOF_WINDOW_MAX], proof_answers[PROOF_WINDOW_MAX];
extern uint64_t proof_window_bytes, proof_answers_bytes;

#define proof_in(p, object)	__CPROVER_same_object((const void *)(p), (object))
#define proof_is_shared(p)	(proof_in(p, proof_window) || proof_in(p, proof_answers))

/* Whether memory can be accessed. */
static inline bool proof_ok(const volatile void *p, uint64_t bytes)
{
	uint64_t at = __CPROVER_POINTER_OFFSET((const void *)p);

	if (proof_in(p, proof_window))
		return at <= proof_window_bytes && bytes <= proof_window_bytes - at;
	if (proof_in(p, proof_answers))
		return at <= proof_answers_bytes && bytes <= proof_answers_bytes - at;
	return __CPROVER_rw_ok((const void *)p, bytes);
}

static inline uint64_t proof_load(const volatile void *p, size_t bytes)
{
	uint64_t any;

	__CPROVER_assert(proof_ok(p, bytes), "a word that is loaded lies within the window");
	__CPROVER_assert(!(__CPROVER_POINTER_OFFSET((const void *)p) % bytes), "a word that is loaded is aligned");
	if (proof_is_shared(p))
		return any;
	return bytes == 8 ? *(const volatile uint64_t *)p : *(const volatile uint32_t *)p;
}

static inline void proof_store(volatile void *p, uint64_t value, size_t bytes)
{
	__CPROVER_assert(proof_ok(p, bytes), "a word that is stored lies within the window");
	__CPROVER_assert(!(__CPROVER_POINTER_OFFSET((void *)p) % bytes), "a word that is stored is aligned");
	if (proof_is_shared(p))
		return;
	if (bytes == 8)
		*(volatile uint64_t *)p = value;
	else
		*(volatile uint32_t *)p = (uint32_t)value;
}

static inline void *proof_copy(void *to, const void *from, size_t bytes)
{
	if (!bytes)
		return to;
	__CPROVER_assert(proof_ok(from, bytes), "what is copied can be read");
	__CPROVER_assert(proof_ok(to, bytes), "where it is copied to can be written");
	if (proof_is_shared(to))
		return to;
	if (proof_is_shared(from))
		__CPROVER_havoc_slice(to, bytes);
	else
		memcpy(to, from, bytes);
	return to;
}

static inline void *proof_set(void *to, int value, size_t bytes)
{
	if (!bytes)
		return to;
	__CPROVER_assert(proof_ok(to, bytes), "what is set can be written");
	return proof_is_shared(to) ? to : memset(to, value, bytes);
}

#define rvmrpc_os_load(p)		((__typeof__(*(p)))proof_load(p, sizeof(*(p))))
#define rvmrpc_os_load_acquire(p)	rvmrpc_os_load(p)
#define rvmrpc_os_store(p, v)		proof_store(p, v, sizeof(*(p)))
#define rvmrpc_os_store_release(p, v)	rvmrpc_os_store(p, v)
#define rvmrpc_os_mb()			((void)0)
#define rvmrpc_os_barrier()		((void)0)
#define rvmrpc_os_move_hdr(to, from)	proof_copy(to, from, RVMRPC_SLOT_SEQ)
#define memcpy(to, from, bytes)		proof_copy(to, from, bytes)
#define memset(to, value, bytes)	proof_set(to, value, bytes)

#endif /* RVMRPC_OS_H */
