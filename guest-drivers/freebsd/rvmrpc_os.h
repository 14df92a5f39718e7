/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the freestanding core asks of FreeBSD.
 */
#ifndef RVMRPC_OS_H
#define	RVMRPC_OS_H

#include <sys/param.h>
#include <sys/systm.h>

/* Of the window; compilers must neither tear, repeat nor move these. */
#define	rvmrpc_os_load(p)		__atomic_load_n(p, __ATOMIC_RELAXED)
#define	rvmrpc_os_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define	rvmrpc_os_store(p, v)		__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define	rvmrpc_os_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
/* A kernel with one CPU has a host with more. */
#define	rvmrpc_os_mb()			__asm __volatile("mfence" : : : "memory")
#define	rvmrpc_os_barrier()		__asm __volatile("" : : : "memory")

#endif /* RVMRPC_OS_H */
