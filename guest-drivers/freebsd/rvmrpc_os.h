/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the freestanding core asks of FreeBSD.
 */
#ifndef RVMRPC_OS_H
#define	RVMRPC_OS_H

#include <sys/param.h>
#include <sys/systm.h>

/* The index, or 0 when it is out of bounds, under speculation too. */
static inline uint32_t
rvmrpc_index_nospec(uint32_t index, uint32_t size)
{
	uint32_t mask;

	__asm volatile("cmpl %2, %1; sbbl %0, %0"
	    : "=r" (mask) : "r" (index), "r" (size) : "cc");
	return (index & mask);
}

#endif /* RVMRPC_OS_H */
