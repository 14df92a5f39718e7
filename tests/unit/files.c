/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Module files: which trees a path is in, and what its procedures make of requests, on a file system that is all lies. */
#include <glib.h>

#include "rvmrpc_files.h"
#include "rvmrpc_reader.h"

static struct rvmrpc_trees trees, write_trees;

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

int rvmrpc_os_file_split(const char *path, uint32_t length, bool write, struct rvmrpc_file_path *parts)
{
	int status = rvmrpc_trees_split(write ? &write_trees : &trees, path, length, parts);

	if (status == RVMRPC_STATUS_OK)
		parts->key = g_str_hash(parts->tree);
	return status;
}

static const struct rvmrpc_file_path *os_entered[2];
static uint32_t os_calls;	/* that entered */
static const char *os_busy;	/* tree, "": all */

int rvmrpc_os_file_enter(const struct rvmrpc_file_path *path)
{
	const int i = os_entered[0] ? 1 : 0;

	if (os_busy && (!os_busy[0] || !strcmp(os_busy, path->tree)))
		return RVMRPC_STATUS_BUSY;
	g_assert_null(os_entered[i]);
	os_entered[i] = path;
	os_calls++;
	return RVMRPC_STATUS_OK;
}

void rvmrpc_os_file_leave(const struct rvmrpc_file_path *path)
{
	const int i = os_entered[1] ? 1 : 0;

	g_assert_true(path == os_entered[i]);
	os_entered[i] = NULL;
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

int rvmrpc_os_file_read(const struct rvmrpc_file_path *path, uint64_t offset, const struct rvmrpc_response *res,
			uint32_t at, uint32_t *length, struct rvmrpc_file_attributes *a, uint32_t *failed)
{
	(void)offset;
	os_room = *length;
	memset((char *)res->res + at, 'x', *length);
	a->size = 1000;
	a->inode = 7;
	return os_answer(path, failed);
}

int rvmrpc_os_file_space(const struct rvmrpc_file_path *path, struct rvmrpc_file_space *space, uint32_t *failed)
{
	space->size = 10;
	return os_answer(path, failed);
}

/* What was asked for last, in words. */
static int os_done(const struct rvmrpc_file_path *path, uint32_t *failed, const char *format, ...) G_GNUC_PRINTF(3, 4);

static int os_done(const struct rvmrpc_file_path *path, uint32_t *failed, const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list ap;
	int status = os_answer(path, failed);

	va_start(ap, format);
	what = g_strdup_vprintf(format, ap);
	va_end(ap);
	g_strlcat(os_path, what, sizeof(os_path));
	return status;
}

int rvmrpc_os_file_write(const struct rvmrpc_file_path *path, uint64_t offset, const void *from, uint32_t *length,
			 uint32_t *failed)
{
	int status = os_done(path, failed, " %" G_GUINT64_FORMAT " %.*s", offset, (int)*length, (const char *)from);

	*length = *length ? *length - 1 : 0;
	return status;
}

int rvmrpc_os_file_create(const struct rvmrpc_file_place *place, bool folder, uint16_t mode, uint32_t *failed)
{
	return os_done(&place->folder, failed, " %s %s %o", folder ? "mkdir" : "create", place->name, mode);
}

int rvmrpc_os_file_remove(const struct rvmrpc_file_place *place, bool folder, uint32_t *failed)
{
	return os_done(&place->folder, failed, " %s %s", folder ? "rmdir" : "remove", place->name);
}

int rvmrpc_os_file_rename(const struct rvmrpc_file_place *from, const struct rvmrpc_file_place *to, bool keep,
			  uint32_t *failed)
{
	return os_done(&from->folder, failed, " %s %s %s|%s %s", keep ? "keep" : "rename", from->name, to->folder.tree,
		       to->folder.rest, to->name);
}

int rvmrpc_os_file_sync(const struct rvmrpc_file_path *path, uint32_t *failed)
{
	return os_done(path, failed, " sync");
}

int rvmrpc_os_file_set(const struct rvmrpc_file_path *path, const struct rvmrpc_file_set_req *set, uint32_t *failed)
{
	return os_done(path, failed, " set %x", set->set);
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

/* Runs one on a head and what follows it, in memory of exactly their size. */
static int run(uint32_t number, const void *head, const char *path, uint32_t room)
{
	const struct rvmrpc_procedure *proc = &rvmrpc_files_module.procs[number];
	const uint32_t size = number == RVMRPC_FILES_SET ? sizeof(struct rvmrpc_file_set_req) : 16, length = strlen(path);
	g_autofree char *arg = g_malloc(size + length);
	struct rvmrpc_request req = { .func = number, .arg = arg, .arglen = size + length, .timeout_ms = 1000 };
	int status;

	g_assert_cmpuint(proc->number, ==, number);
	memcpy(arg, head, size);
	memcpy(arg + size, path, length);
	g_free(res.res);
	res = (struct rvmrpc_response){ .resmax = room, .res = g_malloc(room) };
	status = proc->handler(&req, &res);
	g_assert_null(os_entered[0]);
	return status;
}

static void setup(void)
{
	uint32_t at;

	os_failed = RVMRPC_FAILED_NOT;
	os_status = RVMRPC_STATUS_OK;
	g_assert_cmpint(rvmrpc_trees_set(&trees, "/srv", &at), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_trees_set(&write_trees, "/srv/w", &at), ==, RVMRPC_STATUS_OK);
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

/* ---- Changes ---- */

/* "garbage", "no", or what the OS was asked for and what the answer says. */
static void change(uint32_t number, struct rvmrpc_file_change_req head, const char *path, const char *tail,
		   const char *want)
{
	g_autofree char *both = g_strconcat(path, tail, NULL), *got = NULL;
	struct rvmrpc_file_change_res done;
	int status;

	if (!head.path_bytes)
		head.path_bytes = strlen(path);
	status = run(number, &head, both, sizeof(done));
	if (status == RVMRPC_STATUS_OK) {
		g_assert_cmpuint(res.reslen, ==, sizeof(done));
		memcpy(&done, res.res, sizeof(done));
		got = done.failed ? g_strdup_printf("failed %u", done.failed) : g_strdup_printf("%s, %u", os_path, done.written);
	} else {
		got = g_strdup(status == RVMRPC_STATUS_NOT_ALLOWED ? "no" : "garbage");
		g_assert_true(status == RVMRPC_STATUS_NOT_ALLOWED || status == RVMRPC_STATUS_GARBAGE_ARGS);
	}
	g_assert_cmpstr(got, ==, want);
}

#define HEAD(...)	((struct rvmrpc_file_change_req){ __VA_ARGS__ })

static void test_change(void)
{
	setup();
	change(RVMRPC_FILES_WRITE, HEAD(.offset = 7), "/srv/w/a", "data", "/srv/w|a 7 data, 3");
	change(RVMRPC_FILES_WRITE, HEAD(0), "/srv/w/a", "", "/srv/w|a 0 , 0");
	change(RVMRPC_FILES_CREATE, HEAD(.mode = 01777), "/srv/w/b/c/a", "", "/srv/w|b/c/ create a 1777, 0");
	change(RVMRPC_FILES_MKDIR, HEAD(.mode = 0700), "/srv/w/a", "", "/srv/w| mkdir a 700, 0");
	change(RVMRPC_FILES_REMOVE, HEAD(0), "/srv/w//a", "", "/srv/w| remove a, 0");
	change(RVMRPC_FILES_RMDIR, HEAD(0), "/srv/w/../a", "", "/srv/w|../ rmdir a, 0");
	change(RVMRPC_FILES_SYNC, HEAD(0), "/srv/w", "", "/srv/w| sync, 0");
	change(RVMRPC_FILES_RENAME, HEAD(.flags = RVMRPC_FILE_KEEP), "/srv/w/a", "/srv/w/b/c",
	       "/srv/w| keep a /srv/w|b/ c, 0");
	os_failed = RVMRPC_FAILED_EXISTS;
	change(RVMRPC_FILES_CREATE, HEAD(0), "/srv/w/a", "", "failed 8");
	/* What is read may not be written. */
	change(RVMRPC_FILES_WRITE, HEAD(0), "/srv/a", "data", "no");
	change(RVMRPC_FILES_RENAME, HEAD(0), "/srv/w/a", "/srv/a", "no");
	change(RVMRPC_FILES_RENAME, HEAD(0), "/srv/a", "/srv/w/a", "no");
}

/* What may not be there, and names that are none. */
static void test_change_bad(void)
{
	static const char *const names[] = { "/srv/w/", "/srv/w/a/", "/srv/w/.", "/srv/w/..", "/srv/w/a/..", "/srv/w/a/." };
	g_autofree char *name = g_strnfill(RVMRPC_FILE_NAME_MAX + 1, 'n'), *path = g_strconcat("/srv/w/", name, NULL);

	setup();
	for (uint32_t proc = RVMRPC_FILES_CREATE; proc <= RVMRPC_FILES_RMDIR; proc++) {
		const char *tail = proc == RVMRPC_FILES_RENAME ? "/srv/w/x" : "";

		for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
			change(proc, HEAD(0), names[i], tail, i ? "garbage" : "no");
		change(proc, HEAD(0), path, tail, "failed 5");
		change(proc, HEAD(.offset = 1), "/srv/w/a", tail, "garbage");
		change(proc, HEAD(.flags = proc == RVMRPC_FILES_RENAME ? 2 : 1), "/srv/w/a", tail, "garbage");
		change(proc, HEAD(.mode = proc <= RVMRPC_FILES_MKDIR ? 04755 : 0644), "/srv/w/a", tail, "garbage");
		if (proc != RVMRPC_FILES_RENAME)
			change(proc, HEAD(0), "/srv/w/a", "x", "garbage");
	}
	for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
		change(RVMRPC_FILES_RENAME, HEAD(0), "/srv/w/a", names[i], i ? "garbage" : "no");
	change(RVMRPC_FILES_RENAME, HEAD(0), "/srv/w/a", path, "failed 5");
	change(RVMRPC_FILES_RENAME, HEAD(0), "/srv/w/a", "", "garbage");
	change(RVMRPC_FILES_WRITE, HEAD(.path_bytes = 13), "/srv/w/a", "data", "garbage");
	change(RVMRPC_FILES_WRITE, HEAD(.path_bytes = UINT32_MAX), "/srv/w/a", "data", "garbage");
	change(RVMRPC_FILES_WRITE, HEAD(.offset = INT64_MAX - 3), "/srv/w/a", "data", "garbage");
	change(RVMRPC_FILES_WRITE, HEAD(.offset = INT64_MAX - 4), "/srv/w/a", "data",
	       "/srv/w|a 9223372036854775803 data, 3");
	change(RVMRPC_FILES_WRITE, HEAD(.mode = 1), "/srv/w/a", "data", "garbage");
	g_assert_cmpint(run(RVMRPC_FILES_SYNC, &HEAD(.path_bytes = 6), "/srv/w", 7), ==, RVMRPC_STATUS_TOO_BIG);
}

static void test_set(void)
{
	const struct rvmrpc_file_set_req all = { RVMRPC_FILE_SET_ALL, 0644, 1, 1, 1, 1, RVMRPC_FILE_NOW };
	struct rvmrpc_file_set_req set = all;

	setup();
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 8), ==, RVMRPC_STATUS_OK);
	g_assert_cmpstr(os_path, ==, "/srv/w|a set 3f");
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/a", 8), ==, RVMRPC_STATUS_NOT_ALLOWED);
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 7), ==, RVMRPC_STATUS_TOO_BIG);
	for (uint32_t bit = 0; bit < 6; bit++) {
		set.set = RVMRPC_FILE_SET_ALL & ~(1u << bit);
		g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	}
	set = all;
	set.set |= RVMRPC_FILE_SET_ALL + 1;
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	set = all;
	set.mode = 02644;
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	set = all;
	set.size = 1ull << 63;
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	memset(&set, 0, sizeof(set));
	g_assert_cmpint(run(RVMRPC_FILES_SET, &set, "/srv/w/a", 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
}

/* Each procedure counts in its tree, and none runs when that has enough. */
static void test_enter(void)
{
	static const char zeros[sizeof(struct rvmrpc_file_set_req)];
	const struct rvmrpc_file_change_req change_head = { .path_bytes = 8 };
	const struct rvmrpc_file_set_req set = { .set = RVMRPC_FILE_SET_SIZE };

	setup();
	for (uint32_t proc = 0; proc < rvmrpc_files_module.nprocs; proc++) {
		const void *head = proc < RVMRPC_FILES_WRITE ? (const void *)zeros : &change_head;
		const char *path = proc == RVMRPC_FILES_RENAME ? "/srv/w/a/srv/w/b" : "/srv/w/a";
		const uint32_t before = os_calls;

		if (proc == RVMRPC_FILES_SET)
			head = &set;
		g_assert_cmpint(run(proc, head, path, 4096), ==, RVMRPC_STATUS_OK);
		g_assert_cmpuint(os_calls, ==, before + 1);
		os_busy = "";
		os_path[0] = '\0';
		g_assert_cmpint(run(proc, head, path, 4096), ==, RVMRPC_STATUS_BUSY);
		g_assert_cmpstr(os_path, ==, "");
		os_busy = NULL;
	}
}

/* A rename walks in two trees, and either may hang. */
static void test_enter_both(void)
{
	static const char paths[] = "/srv/w/a/data/b";
	const struct rvmrpc_file_change_req head = { .path_bytes = 8 };
	uint32_t bad, before;

	setup();
	g_assert_cmpint(rvmrpc_trees_set(&write_trees, "/srv/w:/data", &bad), ==, RVMRPC_STATUS_OK);
	before = os_calls;
	g_assert_cmpint(run(RVMRPC_FILES_RENAME, &head, paths, 4096), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(os_calls, ==, before + 2);
	os_busy = "/data";
	os_path[0] = '\0';
	g_assert_cmpint(run(RVMRPC_FILES_RENAME, &head, paths, 4096), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpstr(os_path, ==, "");
	os_busy = NULL;
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
	g_test_add_func("/files/change", test_change);
	g_test_add_func("/files/change-bad", test_change_bad);
	g_test_add_func("/files/set", test_set);
	g_test_add_func("/files/enter", test_enter);
	g_test_add_func("/files/enter-both", test_enter_both);
	status = g_test_run();
	g_free(res.res);
	return status;
}
