/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the Linux driver makes of its kernel's texts, at sizes that no test VM has.
 */
#define _GNU_SOURCE
#include <glib.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t u64;
typedef uint32_t u32;

#include "rvmrpc_abi.h"
#include "sysinfo_text.h"

#define CPUS	512
#define TEXT	RVMRPC_RES_BYTES_DEFAULT	/* what the driver reads of a file */

static u64 ticks_of(u32 cpu, int stat)
{
	return 10000000000000ull + 1000u * cpu + stat;
}

/* /proc/stat of a guest that has run for long, from its second line on. */
static GString *stat_text(void)
{
	GString *text = g_string_new("cpu  1 2 3 4 5 6 7 8 0 0\n");
	u32 cpu;
	int i;

	for (cpu = 0; cpu < CPUS; cpu++) {
		g_string_append_printf(text, "cpu%u", cpu);
		for (i = 0; i < SYSINFO_STATS; i++)
			g_string_append_printf(text, " %" G_GUINT64_FORMAT, ticks_of(cpu, i));
		g_string_append(text, " 0 0\n");
	}
	return text;
}

/* Reads the text as the driver does, cut at so many bytes; returns how many CPUs it has. */
static u32 read_cut(const char *text, size_t bytes)
{
	g_autofree char *raw = g_strndup(text, bytes);
	u64 ticks[SYSINFO_STATS];
	u32 cpus = 0, index;
	const char *line;
	int i;

	raw[sysinfo_whole(raw, bytes)] = 0;
	for (line = raw; !strncmp(line, "cpu", 3); line = sysinfo_next_line(line)) {
		index = RVMRPC_INDEX_ALL;
		sysinfo_stat_read(line, &index, ticks);
		if (index == RVMRPC_INDEX_ALL) {
			g_assert_true(line == raw && ticks[SYSINFO_STEAL] == 8);
			continue;
		}
		g_assert_cmpuint(index, ==, cpus++);
		for (i = 0; i < SYSINFO_STATS; i++)
			g_assert_cmpuint(ticks[i], ==, ticks_of(index, i));
	}
	return cpus;
}

static void test_cut(void)
{
	GString *text = stat_text();
	size_t cut;

	g_assert_cmpuint(read_cut(text->str, text->len), ==, CPUS);
	g_assert_cmpuint(text->len, >, TEXT - 1);
	g_assert_cmpuint(read_cut(text->str, TEXT - 1), <, CPUS);
	/* Wherever it is cut, no CPU has a number that is not its own. */
	for (cut = 0; cut < 1000; cut++)
		g_assert_cmpuint(read_cut(text->str, text->len - cut), >, CPUS - 20);
	for (cut = 0; cut < 300; cut++)
		g_assert_cmpuint(read_cut(text->str, cut), <, 4);
	g_string_free(text, TRUE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/linux/stat/cut", test_cut);
	return g_test_run();
}
