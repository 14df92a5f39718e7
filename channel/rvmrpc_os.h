/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The core's port to user space. */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Of the window, which another process or a guest writes: compilers must neither tear, repeat nor move these. */
#define rvmrpc_os_load(p)		__atomic_load_n(p, __ATOMIC_RELAXED)
#define rvmrpc_os_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define rvmrpc_os_store(p, v)		__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define rvmrpc_os_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define rvmrpc_os_mb()			__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define rvmrpc_os_barrier()		__atomic_signal_fence(__ATOMIC_SEQ_CST)

#endif /* RVMRPC_OS_H */
