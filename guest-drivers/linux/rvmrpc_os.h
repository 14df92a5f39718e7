/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the freestanding core asks of Linux.
 */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include <linux/build_bug.h>
#include <linux/limits.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>

#ifndef UINT64_MAX
#define UINT64_MAX U64_MAX
#endif

/*
 * The window.  The forms for virtual machines: a kernel with one CPU has a host with more.  Nothing else may be used on
 * it (scripts/check-style).
 */
#define rvmrpc_os_load(p)		READ_ONCE(*(p))
/* Pairs with the host's release of the same word. */
#define rvmrpc_os_load_acquire(p)	virt_load_acquire(p)
#define rvmrpc_os_store(p, v)		WRITE_ONCE(*(p), v)
/* Pairs with the host's acquire of the same word. */
#define rvmrpc_os_store_release(p, v)	virt_store_release(p, v)
/* Between what one publishes and a look whether the other side sleeps; each use says with what it pairs. */
#define rvmrpc_os_mb()			virt_mb()
#define rvmrpc_os_barrier()		barrier()

#endif /* RVMRPC_OS_H */
