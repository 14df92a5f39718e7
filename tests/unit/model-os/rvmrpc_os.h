/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The core's port to a model: each access of the window is a step of the model's memory (model-window.c). */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

uint64_t model_load(const volatile void *p, size_t bytes, bool acquire);
void model_store(volatile void *p, uint64_t value, size_t bytes, bool release);
void model_mb(const char *where);
void *model_memcpy(void *to, const void *from, size_t bytes);

#define rvmrpc_os_load(p)		((__typeof__(*(p)))model_load(p, sizeof(*(p)), false))
#define rvmrpc_os_load_acquire(p)	((__typeof__(*(p)))model_load(p, sizeof(*(p)), true))
#define rvmrpc_os_store(p, v)		model_store(p, v, sizeof(*(p)), false)
#define rvmrpc_os_store_release(p, v)	model_store(p, v, sizeof(*(p)), true)
#define rvmrpc_os_mb()			model_mb(__func__)
#define rvmrpc_os_barrier()		((void)0)
/* The core copies to and from the window by these. */
#define rvmrpc_os_move_hdr(to, from)	model_memcpy(to, from, RVMRPC_SLOT_SEQ)
#define memcpy(to, from, bytes)		model_memcpy(to, from, bytes)

#endif /* RVMRPC_OS_H */
