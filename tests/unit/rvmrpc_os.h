/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The core's port to user space, for its tests. */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* User space has nobody to hide its memory from. */
static inline uint32_t rvmrpc_index_nospec(uint32_t index, uint32_t size)
{
	return index < size ? index : 0;
}

#endif /* RVMRPC_OS_H */
