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
uint64_t rvmrpc_bintime_ns(uint64_t seconds, uint64_t frac);

bool	rvmrpc_name_allowed(const char *list, const char *name);
int	rvmrpc_print_integers(const void *data, uint32_t bytes, uint32_t size,
	    bool is_signed, char *text, uint32_t room, uint32_t *length);

/* Of addresses, in the order of the network: 4 bytes or 16. */
uint32_t rvmrpc_prefix(const void *mask, uint32_t bytes);
const char *rvmrpc_address_scope(const void *address, uint32_t bytes);

/* What stands in a list that is sorted and cut before it is told. */
struct rvmrpc_place {
	uint64_t	weight;
	void		*what;
	uint32_t	number;
};

/*
 * Puts one into its place among n of at most max, heaviest first; the lightest
 * falls out.  Returns how many there are then.
 */
uint32_t rvmrpc_place_in(struct rvmrpc_place *places, uint32_t n,
	    uint32_t max, const struct rvmrpc_place *place);

#endif /* RVMRPC_FORMAT_H */
