/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the FreeBSD driver makes of its kernel's numbers, on the real core.
 */
#include <glib.h>
#include "rvmrpc_format.h"

#define MIB	(1024 * 1024ull)

struct answer {
	char bytes[4096];
	char text[2048];
	struct rvmrpc_response res;
	struct rvmrpc_info head;
	struct rvmrpc_item items[64];
};

static void build(struct answer *a, const struct rvmrpc_mem *mem, bool raw)
{
	struct rvmrpc_info_writer w;

	memset(a, 0, sizeof(*a));
	a->res.res = a->bytes;
	a->res.resmax = sizeof(a->bytes);
	rvmrpc_info_begin(&w, &a->res, a->text, sizeof(a->text));
	if (raw)
		rvmrpc_info_raw(&w, rvmrpc_mem_text(mem, a->text, sizeof(a->text)));
	rvmrpc_mem_items(&w, mem);
	g_assert_cmpint(rvmrpc_info_end(&w, &a->res), ==, RVMRPC_STATUS_OK);
	memcpy(&a->head, a->bytes, sizeof(a->head));
	memcpy(a->items, a->bytes + sizeof(a->head), a->head.count * sizeof(a->items[0]));
}

static uint64_t value_of(const struct answer *a, uint16_t key)
{
	uint32_t i;

	for (i = 0; i < a->head.count; i++)
		if (a->items[i].key == key) {
			g_assert_cmpint(a->items[i].type, ==, RVMRPC_ITEM_U64);
			g_assert_cmpuint(a->items[i].index, ==, RVMRPC_INDEX_ALL);
			return a->items[i].value;
		}
	return RVMRPC_ABSENT;
}

/* 1 GiB, no ZFS, no swap. */
static const struct rvmrpc_mem plain = {
	.page_size = 4096,
	.page_count = 262144,
	.free_count = 100000,
	.free_reserved = 1000,
	.active_count = 30000,
	.inactive_count = 50000,
	.laundry_count = 7000,
	.wire_count = 70000,
	.swap_reserved = 64 * MIB,
	.bufspace = 16 * MIB,
	.arc_size = RVMRPC_ABSENT,
	.arc_min = RVMRPC_ABSENT,
	.arc_evictable = RVMRPC_ABSENT,
};

static void test_mem_keys(void)
{
	struct answer a;

	build(&a, &plain, false);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_TOTAL), ==, 1024 * MIB);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_FREE), ==, 100000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_ACTIVE), ==, 30000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_INACTIVE), ==, 50000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_LAUNDRY), ==, 7000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_WIRED), ==, 70000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_BUFFERS), ==, 16 * MIB);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_COMMITTED_AS), ==, 64 * MIB);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_SWAP_TOTAL), ==, 0);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_SWAP_FREE), ==, 0);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_CACHED), ==, RVMRPC_ABSENT);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_SLAB), ==, RVMRPC_ABSENT);
	g_assert_cmpuint(a.head.raw_length, ==, 0);
}

static uint64_t available(const struct rvmrpc_mem *mem)
{
	struct answer a;

	build(&a, mem, false);
	return value_of(&a, RVMRPC_MEM_AVAILABLE);
}

static void test_mem_available(void)
{
	struct rvmrpc_mem mem = plain;

	/* 87000 pageable pages, 16384 of them anonymous at most: all inactive ones may be files'. */
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull);
	/* 60000 anonymous: 27000 are files' for sure.  Then none; then more than there is memory. */
	mem.swap_reserved = 60000 * 4096ull;
	g_assert_cmpuint(available(&mem), ==, (99000 + 27000) * 4096ull);
	mem.swap_reserved = 87000 * 4096ull;
	g_assert_cmpuint(available(&mem), ==, 99000 * 4096ull);
	mem.swap_reserved = 1ull << 50;
	g_assert_cmpuint(available(&mem), ==, 99000 * 4096ull);
	/* What is in swap is not in memory. */
	mem.swap_reserved = 87000 * 4096ull;
	mem.swap_total = 20000 * 4096ull;
	mem.swap_free = 10000 * 4096ull;
	g_assert_cmpuint(available(&mem), ==, (99000 + 10000) * 4096ull);
	mem.swap_reserved = RVMRPC_ABSENT;
	g_assert_cmpuint(available(&mem), ==, 99000 * 4096ull);
	/* Fewer pages than the reserve. */
	mem = plain;
	mem.free_count = 300;
	mem.inactive_count = 200;
	g_assert_cmpuint(available(&mem), ==, 0);
}

/* Of the ARC, what is above its minimum, and that only if nobody uses it and it is clean. */
static void test_mem_arc(void)
{
	struct rvmrpc_mem mem = plain;
	struct answer a;

	mem.arc_size = 300 * MIB;
	mem.arc_min = 100 * MIB;
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull);
	mem.arc_evictable = 250 * MIB;
	build(&a, &mem, false);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_CACHED), ==, 300 * MIB);
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull + 200 * MIB);
	mem.arc_evictable = 30 * MIB;
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull + 30 * MIB);
	mem.arc_min = 400 * MIB;
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull);
}

static void test_mem_text(void)
{
	struct rvmrpc_mem mem = plain;
	char small[40];
	struct answer a;

	mem.arc_size = UINT64_MAX - 1;
	build(&a, &mem, true);
	g_assert_cmpuint(a.head.raw_length, ==, strlen(a.text));
	g_assert_true(g_str_has_prefix(a.text, "vm.stats.vm.v_page_size: 4096\n"));
	g_assert_nonnull(strstr(a.text, "\nvm.stats.vm.v_laundry_count: 7000\n"));
	g_assert_nonnull(strstr(a.text, "\nkstat.zfs.misc.arcstats.size: 18446744073709551614\n"));
	g_assert_null(strstr(a.text, "c_min"));
	g_assert_cmpuint(rvmrpc_mem_text(&mem, small, sizeof(small)), ==, 0);
}

static void test_numbers(void)
{
	const uint64_t year = 365 * 24 * 3600ull;

	g_assert_cmpuint(rvmrpc_ticks_ns(0, 127), ==, 0);
	g_assert_cmpuint(rvmrpc_ticks_ns(127, 127), ==, 1000000000);
	g_assert_cmpuint(rvmrpc_ticks_ns(1, 128), ==, 7812500);
	g_assert_cmpuint(rvmrpc_ticks_ns(100 * year * 128 + 64, 128), ==,
			 100 * year * 1000000000 + 500000000);
	g_assert_cmpuint(rvmrpc_load_millionths(0, 2048), ==, 0);
	g_assert_cmpuint(rvmrpc_load_millionths(2048, 2048), ==, 1000000);
	g_assert_cmpuint(rvmrpc_load_millionths(512, 2048), ==, 250000);
	g_assert_cmpuint(rvmrpc_load_millionths(UINT32_MAX, 2048), ==, 2097151999511);
}

static void test_names(void)
{
	static const struct {
		const char *list;
		const char *name;
		bool allowed;
	} rows[] = {
		{ "hw.ncpu", "hw.ncpu", true },
		{ "hw.ncpu", "hw.ncpus", false },
		{ "hw.ncpu", "hw.ncp", false },
		{ "hw.ncpu", "", false },
		{ "", "hw.ncpu", false },
		{ ",, ,", "", false },
		{ "kern.ostype,hw.*", "hw.model", true },
		{ "kern.ostype hw.*", "hw.", true },
		{ "kern.ostype,hw.*", "kern.osrelease", false },
		{ "hw*", "kern.hw", false },
		{ "*", "anything.at.all", true },
		{ "dev.*.temperature", "dev.cpu.0.temperature", true },
		{ "dev.*.temperature", "dev.cpu.0.temperatures", false },
		{ "*a*b*", "xxaxxbxx", true },
		{ "*a*b*", "xxbxxaxx", false },
		{ "*aab", "aaaab", true },
		{ "a**,b", "a", true },
		{ "hw.ncpu,kern", "hw.ncpu,kern", false },
	};
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(rows); i++) {
		if (rvmrpc_name_allowed(rows[i].list, rows[i].name) != rows[i].allowed)
			g_error("\"%s\" of \"%s\"", rows[i].name, rows[i].list);
	}
}

static void print_is(const void *data, uint32_t bytes, uint32_t size, bool is_signed,
		     const char *want)
{
	char text[128];
	uint32_t length = 0;

	g_assert_cmpint(rvmrpc_print_integers(data, bytes, size, is_signed, text, sizeof(text),
					      &length), ==, RVMRPC_STATUS_OK);
	text[length] = '\0';
	g_assert_cmpstr(text, ==, want);
}

static void test_print(void)
{
	const int64_t s64[] = { INT64_MIN, -1, 0, INT64_MAX };
	const uint64_t u64 = UINT64_MAX;
	const int32_t s32[] = { INT32_MIN, -7, 7 };
	const uint32_t u32 = UINT32_MAX;
	const int16_t s16 = -300;
	const int8_t s8 = -3;
	const uint8_t u8[] = { 0, 255 };
	char text[8];
	uint32_t length;

	print_is(s64, sizeof(s64), 8, true, "-9223372036854775808 -1 0 9223372036854775807");
	print_is(&u64, sizeof(u64), 8, false, "18446744073709551615");
	print_is(s32, sizeof(s32), 4, true, "-2147483648 -7 7");
	print_is(&u32, sizeof(u32), 4, false, "4294967295");
	print_is(&s16, sizeof(s16), 2, true, "-300");
	print_is(&s8, sizeof(s8), 1, true, "-3");
	print_is(u8, sizeof(u8), 1, false, "0 255");
	/* What is left of an array's last element does not count. */
	print_is(s32, 7, 4, true, "-2147483648");
	g_assert_cmpint(rvmrpc_print_integers(s32, 3, 4, true, text, sizeof(text), &length), ==,
			RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(rvmrpc_print_integers(s32, 0, 4, true, text, sizeof(text), &length), ==,
			RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(rvmrpc_print_integers(s32, 4, 4, true, text, sizeof(text), &length), ==,
			RVMRPC_STATUS_TOO_BIG);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/freebsd/mem/keys", test_mem_keys);
	g_test_add_func("/freebsd/mem/available", test_mem_available);
	g_test_add_func("/freebsd/mem/arc", test_mem_arc);
	g_test_add_func("/freebsd/mem/text", test_mem_text);
	g_test_add_func("/freebsd/numbers", test_numbers);
	g_test_add_func("/freebsd/names", test_names);
	g_test_add_func("/freebsd/print", test_print);
	return g_test_run();
}
