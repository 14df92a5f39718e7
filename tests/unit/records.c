/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of records: what the guest's writer makes, and what the host's reader takes of it and of what no writer makes. */
#include <glib.h>

#include "rvmrpc_reader.h"
#include "rvmrpc_records.h"

#define KIND	7
#define SELECT	2

static struct rvmrpc_response res;
static struct rvmrpc_record_writer w;

/* Begins an answer of exactly so many bytes, so that one too many is seen. */
static int begin(const struct rvmrpc_records_req *wanted, uint32_t arglen, uint32_t bytes)
{
	struct rvmrpc_request req = { .arg = wanted ? (const void *)wanted : "", .arglen = arglen };

	g_free(res.res);
	res = (struct rvmrpc_response){ .resmax = bytes, .res = g_malloc(bytes) };
	return rvmrpc_records_begin(&w, &req, &res, SELECT);
}

static bool open_answer(struct rvmrpc_reader *r)
{
	return rvmrpc_reader_open(r, res.res, res.reslen);
}

/* Number i of a list: 8 + 16 + 8 + 8 bytes. */
static bool put(uint32_t i)
{
	rvmrpc_record_begin(&w, KIND);
	rvmrpc_record_u64(&w, 1, 100 + i);
	rvmrpc_record_string(&w, 2, "name", i % 9 ? 4 : 0);
	return rvmrpc_record_end(&w, i);
}

static void test_fields(void)
{
	struct rvmrpc_reader r;

	g_assert_cmpint(begin(NULL, 0, 4096), ==, RVMRPC_STATUS_OK);
	rvmrpc_record_begin(&w, KIND);
	rvmrpc_record_u64(&w, 1, UINT64_MAX);
	rvmrpc_record_string(&w, 2, "nine byte", 9);
	rvmrpc_record_bytes(&w, 3, "\0\1", 2);
	rvmrpc_record_string(&w, 2, "", 0);
	g_assert_true(rvmrpc_record_end(&w, 0));
	rvmrpc_record_begin(&w, KIND + 1);
	g_assert_true(rvmrpc_record_end(&w, 1));
	g_assert_cmpint(rvmrpc_records_end(&w), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, 24 + 8 + 16 + 24 + 16 + 8 + 8);

	g_assert_true(open_answer(&r));
	g_assert_cmpuint(r.head.count, ==, 2);
	g_assert_cmpuint(r.head.flags | r.head.next, ==, 0);
	g_assert_true(rvmrpc_reader_record(&r) && r.kind == KIND);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == 1 && r.type == RVMRPC_FIELD_U64 && r.u64 == UINT64_MAX);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == 2 && r.type == RVMRPC_FIELD_STRING);
	g_assert_cmpmem(r.value, r.length, "nine byte", 9);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == 3 && r.type == RVMRPC_FIELD_BYTES && r.u64 == 0);
	g_assert_cmpmem(r.value, r.length, "\0\1", 2);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == 2 && r.length == 0);
	g_assert_false(rvmrpc_reader_field(&r));
	g_assert_true(rvmrpc_reader_record(&r) && r.kind == KIND + 1);
	g_assert_false(rvmrpc_reader_field(&r));
	g_assert_false(rvmrpc_reader_record(&r));
	g_assert_false(r.malformed);
}

static void test_wanted(void)
{
	struct rvmrpc_records_req wanted = { .cursor = 5, .select = SELECT, .limit = 1 };

	g_assert_cmpint(begin(&wanted, sizeof(wanted), 64), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(w.wanted.cursor, ==, 5);
	g_assert_cmpuint(w.wanted.select, ==, SELECT);
	g_assert_cmpint(begin(NULL, 0, 64), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(w.wanted.cursor | w.wanted.select | w.wanted.limit, ==, 0);
	g_assert_cmpint(begin(&wanted, sizeof(wanted) - 1, 64), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	wanted.select++;
	g_assert_cmpint(begin(&wanted, sizeof(wanted), 64), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(begin(NULL, 0, 23), ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpint(begin(NULL, 0, 24), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_records_end(&w), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, 24);
}

/* Reads a list of `total` as a reader does, in answers of so many bytes; returns how many answers it took. */
static uint32_t read_pages(uint32_t total, uint32_t bytes, uint32_t limit)
{
	struct rvmrpc_records_req wanted = { .limit = limit };
	uint32_t pages = 0, seen = 0, i;
	struct rvmrpc_reader r;

	do {
		g_assert_cmpint(begin(&wanted, sizeof(wanted), bytes), ==, RVMRPC_STATUS_OK);
		for (i = w.wanted.cursor; i < total && put(i); i++)
			;
		rvmrpc_records_later(&w, 4711);
		g_assert_cmpint(rvmrpc_records_end(&w), ==, RVMRPC_STATUS_OK);
		g_assert_cmpuint(res.reslen, <=, bytes);
		g_assert_true(open_answer(&r));
		g_assert_true(!limit || r.head.count <= limit);
		while (rvmrpc_reader_record(&r)) {
			g_assert_true(rvmrpc_reader_field(&r) && r.u64 == 100 + seen);
			seen++;
		}
		wanted.cursor = r.head.next;
		pages++;
	} while (r.head.flags & RVMRPC_RECORDS_MORE);
	g_assert_cmpuint(r.head.next, ==, 4711);
	g_assert_cmpuint(seen, ==, total);
	return pages;
}

static void test_pages(void)
{
	uint32_t bytes;

	for (bytes = 24 + 40; bytes < 24 + 5 * 40; bytes++) {
		g_assert_cmpuint(read_pages(17, bytes, 0), <=, 17);
		g_assert_cmpuint(read_pages(17, bytes, 1), ==, 17);
	}
	g_assert_cmpuint(read_pages(17, 24 + 17 * 40, 0), ==, 1);
	g_assert_cmpuint(read_pages(17, 4096, 5), ==, 4);
	g_assert_cmpuint(read_pages(17, 4096, 17), ==, 1);
	g_assert_cmpuint(read_pages(0, 24, 0), ==, 1);
}

/* Never an answer without a record that says that there are more: a reader would ask for ever. */
static void test_too_big(void)
{
	g_autofree char *large = g_malloc0(0x10000);

	g_assert_cmpint(begin(NULL, 0, 24 + 39), ==, RVMRPC_STATUS_OK);
	g_assert_false(put(1));
	g_assert_cmpint(rvmrpc_records_end(&w), ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(res.reslen, ==, 0);

	/* A record's length is a u16, whatever the slot holds. */
	g_assert_cmpint(begin(NULL, 0, 0x40000), ==, RVMRPC_STATUS_OK);
	rvmrpc_record_begin(&w, KIND);
	rvmrpc_record_bytes(&w, 1, large, 0xfff8 - 16);
	g_assert_true(rvmrpc_record_end(&w, 0));
	rvmrpc_record_begin(&w, KIND);
	rvmrpc_record_bytes(&w, 1, large, 0xfff8 - 15);
	g_assert_false(rvmrpc_record_end(&w, 1));
	rvmrpc_record_begin(&w, KIND);
	rvmrpc_record_bytes(&w, 1, large, SIZE_MAX - 3);
	g_assert_false(rvmrpc_record_end(&w, 1));
}

static void answer_of_two(void)
{
	g_assert_cmpint(begin(NULL, 0, 256), ==, RVMRPC_STATUS_OK);
	g_assert_true(put(0) && put(1));
	g_assert_cmpint(rvmrpc_records_end(&w), ==, RVMRPC_STATUS_OK);
}

/* A word of the answer at an offset, as another: then it is malformed. */
static void check_bad(uint32_t offset, uint32_t size, uint64_t value)
{
	g_autofree char *copy = NULL;
	struct rvmrpc_reader r;

	answer_of_two();
	copy = g_memdup2(res.res, res.reslen);
	g_assert_true(rvmrpc_reader_open(&r, copy, res.reslen));
	memcpy(copy + offset, &value, size);
	g_assert_false(rvmrpc_reader_open(&r, copy, res.reslen));
}

static void test_malformed(void)
{
	struct rvmrpc_reader r;
	uint32_t bytes;

	check_bad(0, 4, 1);			/* count */
	check_bad(0, 4, 3);
	check_bad(4, 4, 0);			/* length */
	check_bad(4, 4, 0xffffffff);
	check_bad(20, 4, 1);			/* reserved */
	check_bad(24, 2, 0);			/* of the first record: length */
	check_bad(24, 2, 4);
	check_bad(24, 2, 12);
	check_bad(24, 2, 0xfff8);
	check_bad(28, 4, 1);			/* reserved */
	check_bad(24 + 8 + 4, 4, 7);		/* of its first field: a u64 has 8 bytes */
	check_bad(24 + 8 + 16 + 4, 4, 1);	/* of its second: an empty string that is none leads out */
	check_bad(24 + 8 + 16 + 4, 4, 0xffffffff);
	answer_of_two();
	for (bytes = 0; bytes < res.reslen; bytes++) {
		g_autofree char *copy = g_memdup2(res.res, bytes);

		g_assert_false(rvmrpc_reader_open(&r, copy, bytes));
	}
}

int main(int argc, char **argv)
{
	int failed;

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/records/fields", test_fields);
	g_test_add_func("/records/wanted", test_wanted);
	g_test_add_func("/records/pages", test_pages);
	g_test_add_func("/records/too-big", test_too_big);
	g_test_add_func("/records/malformed", test_malformed);
	failed = g_test_run();
	g_free(res.res);
	return failed;
}
