/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The contract of what is not said here is in rvmrpc_format.h.
 */
#include "rvmrpc_format.h"

#define	DIGITS_MAX	20	/* of a 64-bit number */

/* ---- Text ---- */

struct text_writer {
	char		*at;
	uint32_t	room;
	bool		overflow;
};

static void
text_bytes(struct text_writer *t, const char *bytes, uint32_t n)
{
	if (t->overflow || n > t->room) {
		t->overflow = true;
		return;
	}
	memcpy(t->at, bytes, n);
	t->at += n;
	t->room -= n;
}

static void
text_string(struct text_writer *t, const char *s)
{
	text_bytes(t, s, strlen(s));
}

static void
text_number(struct text_writer *t, uint64_t value, bool negative)
{
	char digits[DIGITS_MAX + 1];
	char *at = digits + sizeof(digits);

	do {
		*--at = '0' + value % 10;
		value /= 10;
	} while (value != 0);
	if (negative)
		*--at = '-';
	text_bytes(t, at, digits + sizeof(digits) - at);
}

/* ---- meminfo ---- */

/* a - b, or 0. */
static uint64_t
minus(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : 0);
}

/*
 * Inactive pages that can be had without swap.  The kernel does not count those
 * of files; it counts what anonymous memory was promised, and of that what is
 * in swap.  All pageable pages but these are files' at least.
 */
static uint64_t
mem_inactive_files(const struct rvmrpc_mem *mem)
{
	uint64_t pages = mem->active_count + mem->inactive_count +
	    mem->laundry_count;
	uint64_t files;

	if (mem->swap_reserved == RVMRPC_ABSENT)
		return (0);
	files = minus(pages, minus(mem->swap_reserved,
	    mem->swap_total - mem->swap_free) / mem->page_size);
	return (files < mem->inactive_count ? files : mem->inactive_count);
}

/* What eviction can take of the ARC: it keeps its minimum, and what is in use. */
static uint64_t
mem_arc(const struct rvmrpc_mem *mem)
{
	uint64_t above;

	if (mem->arc_size == RVMRPC_ABSENT || mem->arc_min == RVMRPC_ABSENT ||
	    mem->arc_evictable == RVMRPC_ABSENT)
		return (0);
	above = minus(mem->arc_size, mem->arc_min);
	return (above < mem->arc_evictable ? above : mem->arc_evictable);
}

/*
 * What could be given out without swapping; rather too little than too much,
 * for who balloons by it.  The laundry does not count: its pages must be
 * written out, to swap for the most part; nor do buffers, which are not taken
 * when memory is short, nor the reserve, which is never given out.
 */
static uint64_t
mem_available(const struct rvmrpc_mem *mem)
{
	uint64_t pages = mem->free_count + mem_inactive_files(mem);

	return (minus(pages, mem->free_reserved) * mem->page_size +
	    mem_arc(mem));
}

static void
mem_item(struct rvmrpc_info_writer *w, uint16_t key, uint64_t bytes)
{
	if (bytes != RVMRPC_ABSENT)
		rvmrpc_info_u64(w, key, RVMRPC_INDEX_ALL, bytes);
}

void
rvmrpc_mem_items(struct rvmrpc_info_writer *w, const struct rvmrpc_mem *mem)
{
	uint64_t page = mem->page_size;

	mem_item(w, RVMRPC_MEM_TOTAL, mem->page_count * page);
	mem_item(w, RVMRPC_MEM_FREE, mem->free_count * page);
	mem_item(w, RVMRPC_MEM_AVAILABLE, mem_available(mem));
	mem_item(w, RVMRPC_MEM_BUFFERS, mem->bufspace);
	mem_item(w, RVMRPC_MEM_CACHED, mem->arc_size);
	mem_item(w, RVMRPC_MEM_ACTIVE, mem->active_count * page);
	mem_item(w, RVMRPC_MEM_INACTIVE, mem->inactive_count * page);
	mem_item(w, RVMRPC_MEM_LAUNDRY, mem->laundry_count * page);
	mem_item(w, RVMRPC_MEM_WIRED, mem->wire_count * page);
	mem_item(w, RVMRPC_MEM_COMMITTED_AS, mem->swap_reserved);
	mem_item(w, RVMRPC_MEM_SWAP_TOTAL, mem->swap_total);
	mem_item(w, RVMRPC_MEM_SWAP_FREE, mem->swap_free);
}

/*
 * The same numbers as sysctl(8) prints them, of the same moment.  Returns the
 * text's length, 0 when it does not fit.
 */
uint32_t
rvmrpc_mem_text(const struct rvmrpc_mem *mem, char *text, uint32_t size)
{
	const struct {
		const char	*name;
		uint64_t	value;
	} lines[] = {
		{ "vm.stats.vm.v_page_size", mem->page_size },
		{ "vm.stats.vm.v_page_count", mem->page_count },
		{ "vm.stats.vm.v_free_count", mem->free_count },
		{ "vm.stats.vm.v_free_reserved", mem->free_reserved },
		{ "vm.stats.vm.v_active_count", mem->active_count },
		{ "vm.stats.vm.v_inactive_count", mem->inactive_count },
		{ "vm.stats.vm.v_laundry_count", mem->laundry_count },
		{ "vm.stats.vm.v_wire_count", mem->wire_count },
		{ "vm.swap_reserved", mem->swap_reserved },
		{ "vfs.bufspace", mem->bufspace },
		{ "kstat.zfs.misc.arcstats.size", mem->arc_size },
		{ "kstat.zfs.misc.arcstats.c_min", mem->arc_min },
		{ "arc_evictable", mem->arc_evictable },
		{ "vm.swap_total", mem->swap_total },
		{ "swap_free", mem->swap_free },
	};
	struct text_writer t = { .at = text, .room = size };
	uint32_t i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (lines[i].value == RVMRPC_ABSENT)
			continue;
		text_string(&t, lines[i].name);
		text_string(&t, ": ");
		text_number(&t, lines[i].value, false);
		text_string(&t, "\n");
	}
	return (t.overflow ? 0 : t.at - text);
}

/* ---- Numbers ---- */

/* Whole seconds first, or 2^64 ns of ticks were the end. */
uint64_t
rvmrpc_ticks_ns(uint64_t ticks, uint32_t hz)
{
	const uint64_t second = 1000000000;

	return (ticks / hz * second + ticks % hz * second / hz);
}

/* The paper's figure 12: ldavg over fscale. */
uint64_t
rvmrpc_load_millionths(uint64_t load, uint64_t scale)
{
	return (load * 1000000 / scale);
}

/* frac: of a second, in 2^-64. */
uint64_t
rvmrpc_bintime_ns(uint64_t seconds, uint64_t frac)
{
	const uint64_t second = 1000000000;

	return (seconds * second + ((frac >> 32) * second >> 32));
}

/* ---- Addresses ---- */

uint32_t
rvmrpc_prefix(const void *mask, uint32_t bytes)
{
	const unsigned char *m = mask;
	uint32_t n = 0;

	while (n < 8 * bytes && (m[n / 8] >> (7 - n % 8) & 1) != 0)
		n++;
	return (n);
}

const char *
rvmrpc_address_scope(const void *address, uint32_t bytes)
{
	static const unsigned char loopback[16] = { [15] = 1 };
	const unsigned char *a = address;

	if (bytes == 4) {
		if (a[0] == 127)
			return ("host");
		return (a[0] == 169 && a[1] == 254 ? "link" : "global");
	}
	if (memcmp(a, loopback, sizeof(loopback)) == 0)
		return ("host");
	if (a[0] != 0xfe || a[1] < 0x80)
		return ("global");
	return (a[1] < 0xc0 ? "link" : "site");
}

/* ---- Places ---- */

uint32_t
rvmrpc_place_in(struct rvmrpc_place *places, uint32_t n, uint32_t max,
    const struct rvmrpc_place *place)
{
	uint32_t at;

	if (n == max && place->weight <= places[n - 1].weight)
		return (n);
	if (n < max)
		n++;
	for (at = n - 1; at != 0 && places[at - 1].weight < place->weight;
	    at--)
		places[at] = places[at - 1];
	places[at] = *place;
	return (n);
}

/* ---- sysctl ---- */

/* Whether name matches the n bytes at pattern, where * is any bytes. */
static bool
name_matches(const char *pattern, uint32_t n, const char *name)
{
	const char *retry = NULL;
	uint32_t i = 0, star = 0;

	while (*name != '\0') {
		if (i < n && pattern[i] == '*') {
			star = ++i;
			retry = name;
		} else if (i < n && pattern[i] == *name) {
			i++;
			name++;
		} else if (retry != NULL) {
			i = star;
			name = ++retry;
		} else {
			return (false);
		}
	}
	while (i < n && pattern[i] == '*')
		i++;
	return (i == n);
}

/* list: patterns, separated by commas or blanks. */
bool
rvmrpc_name_allowed(const char *list, const char *name)
{
	uint32_t n;

	while (*list != '\0') {
		n = 0;
		while (list[n] != '\0' && list[n] != ',' && list[n] != ' ')
			n++;
		if (n != 0 && name_matches(list, n, name))
			return (true);
		list += n;
		list += *list != '\0';
	}
	return (false);
}

static uint64_t
load_integer(const char *at, uint32_t size, bool is_signed)
{
	uint64_t value = 0;

	memcpy(&value, at, size);
	if (is_signed && size < sizeof(value) &&
	    (value >> (8 * size - 1)) != 0)
		value |= UINT64_MAX << (8 * size);
	return (value);
}

/*
 * Prints an array of integers of that size, separated by blanks, as sysctl(8)
 * does.  RVMRPC_STATUS_OK; GARBAGE_ARGS when data holds no whole one; TOO_BIG.
 */
int
rvmrpc_print_integers(const void *data, uint32_t bytes, uint32_t size,
    bool is_signed, char *text, uint32_t room, uint32_t *length)
{
	struct text_writer t = { .at = text, .room = room };
	uint64_t value;
	uint32_t at;
	bool negative;

	if (bytes < size)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	for (at = 0; bytes - at >= size; at += size) {
		if (at != 0)
			text_string(&t, " ");
		value = load_integer((const char *)data + at, size, is_signed);
		negative = is_signed && value >> 63 != 0;
		text_number(&t, negative ? -value : value, negative);
	}
	*length = t.at - text;
	return (t.overflow ? RVMRPC_STATUS_TOO_BIG : RVMRPC_STATUS_OK);
}
