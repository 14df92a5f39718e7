/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the Linux driver makes of its kernel's texts, at sizes that no test VM has.
 */
#define _GNU_SOURCE
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t u64;
typedef uint32_t u32;

#include "rvmrpc_abi.h"
#include "klog_text.h"
#include "mounts_text.h"
#include "pressure_text.h"

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

static void test_psi(void)
{
	static const char * const bad[] = { "", "\n", "some", "some avg10=1", "some avg10=1.00 avg60=2.00 avg300=3.00",
					    "some avg10=1.00 avg60=2.00 avg300=3.00\nfull total=1" };
	struct pressure_psi psi;
	size_t i;

	g_assert_true(pressure_psi_read("some avg10=1.02 avg60=100.00 avg300=0.99 total=4711\nfull", &psi));
	g_assert_cmpuint(psi.average[0], ==, 102);
	g_assert_cmpuint(psi.average[1], ==, 10000);
	g_assert_cmpuint(psi.average[2], ==, 99);
	g_assert_cmpuint(psi.total, ==, 4711);
	for (i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(pressure_psi_read(bad[i], &psi));
}

static void test_diskstats(void)
{
	struct pressure_disk_line disk;

	g_assert_true(pressure_disk_read(" 254       1 vda1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\n", &disk));
	g_assert_cmpuint(disk.major, ==, 254);
	g_assert_cmpuint(disk.minor, ==, 1);
	g_assert_cmpmem(disk.name, disk.name_length, "vda1", 4);
	g_assert_cmpint(disk.numbers, ==, PRESSURE_DISK_NUMBERS);
	g_assert_cmpuint(disk.number[PRESSURE_FLUSH_MS], ==, 17);
	/* An older kernel's, and what was cut. */
	g_assert_true(pressure_disk_read("8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n254 0 vda 1", &disk));
	g_assert_cmpint(disk.numbers, ==, PRESSURE_QUEUE_MS + 1);
	g_assert_cmpuint(disk.number[PRESSURE_QUEUE_MS], ==, 11);
	g_assert_false(pressure_disk_read("8 0 sda 1 2 3\n", &disk));
	g_assert_false(pressure_disk_read("8 0 sda", &disk));
	g_assert_false(pressure_disk_read("\n", &disk));
	g_assert_false(pressure_disk_read("", &disk));
}

/* A record as the kernel gives it; returns its text. */
static char *klog_text(const char *record, struct klog_prefix *prefix)
{
	char *text = g_strdup(record);

	g_assert_true(klog_prefix_read(text, prefix));
	text[klog_strip(text, strlen(text), prefix->length)] = 0;
	return text;
}

static void test_klog(void)
{
	static const struct { const char *record, *text; u64 priority, us; bool has_time; } cases[] = {
		{ "<6>[   12.345678] hello\n", "hello", 6, 12345678, true },
		{ "<30>[99999.000001][    T1] [drm] x\n", "[drm] x", 30, 99999000001, true },
		{ "<4>[    0.000000] [drm] x\n", "[drm] x", 4, 0, true },
		{ "<6>[    1.000000] one\n<6>[    1.000000] two\n<6>[    1.000000] \n", "one\ntwo\n", 6, 1000000, true },
		{ "<7>no time\n<7>at all", "no time\nat all", 7, 0, false },
		{ "<7>[no time] at all\n", "[no time] at all", 7, 0, false },
		{ "<0>", "", 0, 0, false },
		{ "<6>[   12.345678]", "", 6, 12345678, true },
		{ "<6>[   12.345678][", "", 6, 12345678, true },
		{ "<6>[    1.000000] one\n<6", "one", 6, 1000000, true },
	};
	struct klog_prefix prefix;
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text = klog_text(cases[i].record, &prefix);

		g_assert_cmpstr(text, ==, cases[i].text);
		g_assert_cmpuint(prefix.priority, ==, cases[i].priority);
		g_assert_true(prefix.has_time == cases[i].has_time && (!prefix.has_time || prefix.us == cases[i].us));
	}
	g_assert_false(klog_prefix_read("", &prefix));
	g_assert_false(klog_prefix_read("hello", &prefix));
	g_assert_false(klog_prefix_read("<6", &prefix));
}

static void test_mounts(void)
{
	static const char * const bad[] = {
		"", " ", "36", "36 35 98:0 / /mnt", "36 35 98:0 / /mnt rw", "36 35 98:0 / /mnt rw - ext4",
		"36 35 98:0 / /mnt rw - ext4 /dev/vda", "36 35 98:0 / /mnt rw master:1 ext4 /dev/vda rw", "36 35 98 / /mnt rw - a b c",
	};
	struct rvmrpc_mount m;
	size_t i;
	char *line;

	line = g_strdup("36 35 98:7 /a\\040b /mnt/\\134\\011\\0409\\8 rw,noatime master:1 shared:2 - fuse.x /dev/v\\043 ro,a");
	g_assert_true(mounts_read(line, &m));
	g_assert_cmpuint(m.id, ==, 36);
	g_assert_cmpuint(m.parent, ==, 35);
	g_assert_cmpuint(m.major, ==, 98);
	g_assert_cmpuint(m.minor, ==, 7);
	g_assert_cmpstr(m.root, ==, "/a b");
	g_assert_cmpstr(m.target, ==, "/mnt/\\\t 9\\8");
	g_assert_cmpstr(m.type, ==, "fuse.x");
	g_assert_cmpstr(m.source, ==, "/dev/v#");
	g_assert_true(mounts_read_only(&m) && mounts_remote(m.type));
	g_free(line);
	line = g_strdup("1 0 0:1 / / rw - zfs pool rw");
	g_assert_true(mounts_read(line, &m));
	g_assert_false(mounts_read_only(&m) || mounts_remote(m.type));
	g_assert_true(mounts_remote("nfs4") && mounts_remote("fuseblk") && mounts_remote("9p"));
	g_assert_false(mounts_remote("ext4") || mounts_remote("") || mounts_remote("fuseish"));
	g_free(line);
	for (i = 0; i < G_N_ELEMENTS(bad); i++) {
		line = g_strdup(bad[i]);
		g_assert_false(mounts_read(line, &m));
		g_free(line);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/linux/stat/cut", test_cut);
	g_test_add_func("/linux/pressure/psi", test_psi);
	g_test_add_func("/linux/pressure/diskstats", test_diskstats);
	g_test_add_func("/linux/klog", test_klog);
	g_test_add_func("/linux/mounts", test_mounts);
	return g_test_run();
}
