/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the freestanding core asks of Linux.
 */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include <linux/limits.h>
#include <linux/nospec.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>

#ifndef UINT64_MAX
#define UINT64_MAX U64_MAX
#endif

#define rvmrpc_index_nospec(index, size)	array_index_nospec(index, size)

#endif /* RVMRPC_OS_H */
