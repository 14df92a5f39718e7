/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Module files: which trees a path is in, and what its procedures make of requests, on a file system that is all lies. */
#include <glib.h>

#include "rvmrpc_files.h"
#include "rvmrpc_reader.h"

static struct rvmrpc_trees trees;

/* ---- The OS ---- */

static uint32_t os_failed;	/* what every procedure of the OS says */
static int os_status;
static char os_path[8192];	/* tree, "|", rest of the last call */
static uint32_t os_room;

static int os_answer(const struct rvmrpc_file_path *path, uint32_t *failed)
{
	g_snprintf(os_path, sizeof(os_path), "%s|%s", path->tree, path->rest);
	*failed = os_failed;
	return os_status;
}

void *rvmrpc_os_file_alloc(size_t bytes)
{
	return g_malloc(bytes);
}

void rvmrpc_os_file_free(void *scratch)
{
	g_free(scratch);
}

int rvmrpc_os_file_split(const char *path, uint32_t length, struct rvmrpc_file_path *parts)
{
	return rvmrpc_trees_split(&trees, path, length, parts);
}

int rvmrpc_os_file_stat(const struct rvmrpc_file_path *path, struct rvmrpc_file_attributes *a, char *link,
			uint32_t *link_length, uint32_t *failed)
{
	a->mode = 0120777;
	a->modified_ns = UINT64_MAX;
	if (link) {
		memcpy(link, "to", 2);
		*link_length = 2;
	}
	return os_answer(path, failed);
}

int rvmrpc_os_file_list(const struct rvmrpc_file_path *path, struct rvmrpc_record_writer *w, uint32_t ms,
			uint32_t *failed)
{
	const struct rvmrpc_file_attributes a = { .mode = 0100644, .device = 5 };

	(void)ms;
	rvmrpc_file_record(w, "\xff name", 6, &a);
	rvmrpc_record_end(w, 1);
	return os_answer(path, failed);
}

int rvmrpc_os_file_read(const struct rvmrpc_file_path *path, uint64_t offset, void *to, uint32_t *length,
			struct rvmrpc_file_attributes *a, uint32_t *failed)
{
	(void)offset;
	os_room = *length;
	memset(to, 'x', *length);
	a->size = 1000;
	a->inode = 7;
	return os_answer(path, failed);
}

int rvmrpc_os_file_space(const struct rvmrpc_file_path *path, struct rvmrpc_file_space *space, uint32_t *failed)
{
	space->size = 10;
	return os_answer(path, failed);
}

/* ---- Trees ---- */

static void test_trees(void)
{
	static const char *const good[] = { "", "\n", "/", "/a", "/a/b\n", "/a:/b/c:/", "/...", "/.a:/b..", "/a b" };
	static const struct {
		const char *text;
		uint32_t bad;
	} bad[] = {
		{ "a", 0 }, { ":", 0 }, { "/a:", 0 }, { "/a::/b", 3 }, { "/a:b", 3 }, { "//", 0 }, { "/a/", 0 }, { "/a//b", 0 },
		{ "/.", 0 }, { "/..", 0 }, { "/a/..", 0 }, { "/x:/a/../b", 3 }, { "/x:/./b", 3 }, { " /a", 0 },
	};
	g_autofree char *large = g_strnfill(RVMRPC_TREES_MAX, 'a');
	uint32_t at;

	for (gsize i = 0; i < G_N_ELEMENTS(good); i++)
		g_assert_cmpint(rvmrpc_trees_set(&trees, good[i], &at), ==, RVMRPC_STATUS_OK);
	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		at = 99;
		g_assert_cmpint(rvmrpc_trees_set(&trees, bad[i].text, &at), ==, RVMRPC_STATUS_GARBAGE_ARGS);
		g_assert_cmpuint(at, ==, bad[i].bad);
		g_assert_cmpstr(trees.text, ==, "/a b");
	}
	large[0] = '/';
	g_assert_cmpint(rvmrpc_trees_set(&trees, large, &at), ==, RVMRPC_STATUS_TOO_BIG);
	large[RVMRPC_TREES_MAX - 1] = '\0';
	g_assert_cmpint(rvmrpc_trees_set(&trees, large, &at), ==, RVMRPC_STATUS_OK);
}

static void split(const char *list, const char *path, const char *want)
{
	struct rvmrpc_file_path *parts = g_new(struct rvmrpc_file_path, 1);
	g_autofree char *got = NULL;
	uint32_t at;
	int status;

	g_assert_cmpint(rvmrpc_trees_set(&trees, list, &at), ==, RVMRPC_STATUS_OK);
	status = rvmrpc_trees_split(&trees, path, strlen(path), parts);
	got = status == RVMRPC_STATUS_OK ? g_strdup_printf("%s|%s", parts->tree, parts->rest) :
	      g_strdup(status == RVMRPC_STATUS_NOT_ALLOWED ? "no" : "garbage");
	g_assert_cmpstr(got, ==, want);
	g_free(parts);
}

static void test_split(void)
{
	struct rvmrpc_file_path *parts = g_new(struct rvmrpc_file_path, 1);
	g_autofree char *large = g_strnfill(RVMRPC_FILES_PATH_MAX + 1, '/');

	split("", "/a", "no");
	split("/srv", "/srv", "/srv|");
	split("/srv", "/srv//", "/srv|");
	split("/srv", "/srv/a//b/", "/srv|a//b/");
	split("/srv", "/srv2", "no");
	split("/srv", "/sr", "no");
	split("/srv", "/", "no");
	split("/srv", "//srv/a", "no");
	split("/srv", "/x/../srv", "no");
	split("/srv", "srv/a", "garbage");
	split("/srv", "", "garbage");
	/* The OS' walk finds that out. */
	split("/srv", "/srv/../etc", "/srv|../etc");
	split("/", "/etc/passwd", "/|etc/passwd");
	split("/", "/", "/|");
	split("/srv:/srv/data:/", "/srv/data/x", "/srv/data|x");
	split("/srv/data:/srv", "/srv/datax", "/srv|datax");
	split("/srv/data:/srv", "/etc", "no");
	g_assert_cmpint(rvmrpc_trees_split(&trees, "/srv\0/x", 7, parts), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	memcpy(large, "/srv", 4);
	g_assert_cmpint(rvmrpc_trees_split(&trees, large, RVMRPC_FILES_PATH_MAX + 1, parts), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(rvmrpc_trees_split(&trees, large, RVMRPC_FILES_PATH_MAX, parts), ==, RVMRPC_STATUS_OK);
	g_free(parts);
}

/* ---- Procedures ---- */

static struct rvmrpc_response res;

/* Runs one on a head of 16 bytes and a path, in memory of exactly their size. */
static int run(uint32_t number, const void *head, const char *path, uint32_t room)
{
	const struct rvmrpc_procedure *proc = &rvmrpc_files_module.procs[number];
	const uint32_t length = strlen(path);
	g_autofree char *arg = g_malloc(16 + length);
	struct rvmrpc_request req = { .arg = arg, .arglen = 16 + length, .timeout_ms = 1000 };

	g_assert_cmpuint(proc->number, ==, number);
	memcpy(arg, head, 16);
	memcpy(arg + 16, path, length);
	g_free(res.res);
	res = (struct rvmrpc_response){ .resmax = room, .res = g_malloc(room) };
	return proc->handler(&req, &res);
}

static void setup(void)
{
	uint32_t at;

	os_failed = RVMRPC_FAILED_NOT;
	os_status = RVMRPC_STATUS_OK;
	g_assert_cmpint(rvmrpc_trees_set(&trees, "/srv", &at), ==, RVMRPC_STATUS_OK);
}

/* The only record's field of that key, in r. */
static bool field(struct rvmrpc_reader *r, uint16_t kind, uint16_t key)
{
	g_assert_true(rvmrpc_reader_open(r, res.res, res.reslen));
	g_assert_cmpuint(r->head.count, ==, 1);
	g_assert_true(rvmrpc_reader_record(r));
	g_assert_cmpuint(r->kind, ==, kind);
	while (rvmrpc_reader_field(r)) {
		if (r->key == key)
			return true;
	}
	return false;
}

static void test_stat(void)
{
	struct rvmrpc_records_req head = { .select = RVMRPC_FILES_NOFOLLOW };
	struct rvmrpc_reader r;

	setup();
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/srv/a", 4096), ==, RVMRPC_STATUS_OK);
	g_assert_cmpstr(os_path, ==, "/srv|a");
	g_assert_true(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_LINK));
	g_assert_cmpmem(r.value, r.length, "to", 2);
	g_assert_true(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_MODIFIED_NS) && r.u64 == UINT64_MAX);
	g_assert_false(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_NAME));
	g_assert_false(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_DEVICE));
	head.select = RVMRPC_FILES_FOLLOW;
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/srv/a", 4096), ==, RVMRPC_STATUS_OK);
	g_assert_false(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_LINK));
	head.select = 2;
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/srv/a", 4096), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	head.select = 0;
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/etc/a", 4096), ==, RVMRPC_STATUS_NOT_ALLOWED);
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/srv", 64), ==, RVMRPC_STATUS_TOO_BIG);
	os_failed = RVMRPC_FAILED_LOOP;
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/srv/a", 4096), ==, RVMRPC_STATUS_OK);
	g_assert_true(field(&r, RVMRPC_RECORD_FAILURE, RVMRPC_FAILURE_REASON) && r.u64 == RVMRPC_FAILED_LOOP);
	os_status = RVMRPC_STATUS_NOT_ALLOWED;
	g_assert_cmpint(run(RVMRPC_FILES_STAT, &head, "/srv/a", 4096), ==, RVMRPC_STATUS_NOT_ALLOWED);
}

static void test_list(void)
{
	struct rvmrpc_records_req head = { .cursor = 0 };
	struct rvmrpc_reader r;

	setup();
	g_assert_cmpint(run(RVMRPC_FILES_LIST, &head, "/srv", 4096), ==, RVMRPC_STATUS_OK);
	g_assert_true(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_NAME) && r.type == RVMRPC_FIELD_BYTES);
	g_assert_cmpmem(r.value, r.length, "\xff name", 6);
	g_assert_true(field(&r, RVMRPC_RECORD_FILE, RVMRPC_FILE_DEVICE) && r.u64 == 5);
	head.cursor = UINT64_MAX;
	g_assert_cmpint(run(RVMRPC_FILES_LIST, &head, "/srv", 4096), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	head.cursor = 0;
	g_assert_cmpint(run(RVMRPC_FILES_STATFS, &head, "/srv", 4096), ==, RVMRPC_STATUS_OK);
	g_assert_true(field(&r, RVMRPC_RECORD_FILESYSTEM, RVMRPC_FS_SIZE) && r.u64 == 10);
	g_assert_false(field(&r, RVMRPC_RECORD_FILESYSTEM, RVMRPC_FS_FILES));
}

static void test_read(void)
{
	struct rvmrpc_file_req head = { .length = UINT32_MAX };
	struct rvmrpc_file_res got;

	setup();
	g_assert_cmpint(run(RVMRPC_FILES_READ, &head, "/srv/a", 100), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(os_room, ==, 100 - sizeof(got));
	g_assert_cmpuint(res.reslen, ==, 100);
	memcpy(&got, res.res, sizeof(got));
	g_assert_true(got.size == 1000 && got.inode == 7 && !got.failed && !got.reserved);
	head.length = 5;
	g_assert_cmpint(run(RVMRPC_FILES_READ, &head, "/srv/a", 100), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, sizeof(got) + 5);
	g_assert_cmpint(run(RVMRPC_FILES_READ, &head, "/srv/a", sizeof(got)), ==, RVMRPC_STATUS_TOO_BIG);
	head.offset = UINT64_MAX / 2 - 4;
	g_assert_cmpint(run(RVMRPC_FILES_READ, &head, "/srv/a", 100), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	head = (struct rvmrpc_file_req){ .length = 5, .reserved = 1 };
	g_assert_cmpint(run(RVMRPC_FILES_READ, &head, "/srv/a", 100), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	head.reserved = 0;
	os_failed = RVMRPC_FAILED_NOT_REGULAR;
	g_assert_cmpint(run(RVMRPC_FILES_READ, &head, "/srv/a", 100), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, sizeof(got));
	memcpy(&got, res.res, sizeof(got));
	g_assert_true(got.failed == RVMRPC_FAILED_NOT_REGULAR && !got.size && !got.inode);
}

int main(int argc, char **argv)
{
	int status;

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/files/trees", test_trees);
	g_test_add_func("/files/split", test_split);
	g_test_add_func("/files/stat", test_stat);
	g_test_add_func("/files/list", test_list);
	g_test_add_func("/files/read", test_read);
	status = g_test_run();
	g_free(res.res);
	return status;
}
