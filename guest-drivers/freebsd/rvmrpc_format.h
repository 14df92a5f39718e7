/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What becomes of FreeBSD's numbers on their way to the host.  No kernel is
 * needed here, so tests/unit runs it in user space.
 */
#ifndef RVMRPC_FORMAT_H
#define	RVMRPC_FORMAT_H

#include "rvmrpc_server.h"

/* A number that this kernel does not have. */
#define	RVMRPC_ABSENT	UINT64_MAX

struct rvmrpc_mem {
	uint64_t	page_size;
	/* Pages. */
	uint64_t	page_count;
	uint64_t	free_count;
	uint64_t	free_reserved;
	uint64_t	active_count;
	uint64_t	inactive_count;
	uint64_t	laundry_count;
	uint64_t	wire_count;
	/* Bytes. */
	uint64_t	swap_total;
	uint64_t	swap_free;
	uint64_t	swap_reserved;	/* or absent, as the rest */
	uint64_t	bufspace;
	uint64_t	arc_size;
	uint64_t	arc_min;
	uint64_t	arc_evictable;	/* clean, and used by nobody */
};

void	rvmrpc_mem_items(struct rvmrpc_info_writer *w,
	    const struct rvmrpc_mem *mem);
uint32_t rvmrpc_mem_text(const struct rvmrpc_mem *mem, char *text,
	    uint32_t size);

uint64_t rvmrpc_ticks_ns(uint64_t ticks, uint32_t hz);
uint64_t rvmrpc_load_millionths(uint64_t load, uint64_t scale);

bool	rvmrpc_name_allowed(const char *list, const char *name);
int	rvmrpc_print_integers(const void *data, uint32_t bytes, uint32_t size,
	    bool is_signed, char *text, uint32_t room, uint32_t *length);

#endif /* RVMRPC_FORMAT_H */
