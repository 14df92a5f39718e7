/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: module files.
 */
#include "rvmrpc_builtin.h"
#include "rvmrpc_files.h"

/* ---- Trees ---- */

/* Bytes of the tree at this place. */
static uint32_t tree_length(const char *tree)
{
	uint32_t n = 0;

	while (tree[n] && tree[n] != ':')
		n++;
	return n;
}

/* Absolute, and each name but a name alone: "/" or "/a/b". */
static bool tree_is_good(const char *tree, uint32_t length)
{
	uint32_t at = 0, n;

	if (!length || tree[0] != '/')
		return false;
	while (length > 1 && at < length) {
		const char *name = tree + ++at;

		for (n = 0; at + n < length && name[n] != '/';)
			n++;
		if (!n || (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.'))))
			return false;
		at += n;
	}
	return true;
}

int rvmrpc_trees_set(struct rvmrpc_trees *trees, const char *text, uint32_t *bad)
{
	uint32_t length = (uint32_t)strlen(text), at = 0, n;

	if (length && text[length - 1] == '\n')
		length--;
	if (length >= sizeof(trees->text))
		return RVMRPC_STATUS_TOO_BIG;
	for (; at < length; at += n + 1) {
		n = tree_length(text + at);
		if (n > length - at)
			n = length - at;
		if (!tree_is_good(text + at, n) || at + n + 1 == length) {
			*bad = at;
			return RVMRPC_STATUS_GARBAGE_ARGS;
		}
	}
	memcpy(trees->text, text, length);
	memset(trees->text + length, 0, sizeof(trees->text) - length);
	return RVMRPC_STATUS_OK;
}

/* Whether a path, which begins with a slash, begins with the tree. */
static bool tree_has(const char *tree, uint32_t n, const char *path, uint32_t length)
{
	if (n == 1)
		return true;
	return length >= n && !memcmp(tree, path, n) && (length == n || path[n] == '/');
}

int rvmrpc_trees_split(const struct rvmrpc_trees *trees, const char *path, uint32_t length, struct rvmrpc_file_path *parts)
{
	const char *tree, *found = NULL;
	uint32_t n, best = 0;

	if (!length || length > RVMRPC_FILES_PATH_MAX || path[0] != '/' || memchr(path, 0, length))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	for (tree = trees->text; *tree; tree += n + (tree[n] == ':')) {
		n = tree_length(tree);
		if (n > best && tree_has(tree, n, path, length)) {
			found = tree;
			best = n;
		}
	}
	if (!found)
		return RVMRPC_STATUS_NOT_ALLOWED;
	memcpy(parts->tree, found, best);
	parts->tree[best] = '\0';
	while (best < length && path[best] == '/')
		best++;
	memcpy(parts->rest, path + best, length - best);
	parts->rest[length - best] = '\0';
	return RVMRPC_STATUS_OK;
}

int rvmrpc_file_hold(const char *path, uint32_t length, bool write, struct rvmrpc_file_path *parts)
{
	int status;

	parts->held = false;
	status = rvmrpc_os_file_split(path, length, write, parts);
	if (status == RVMRPC_STATUS_OK)
		status = rvmrpc_os_file_enter(parts);
	parts->held = status == RVMRPC_STATUS_OK;
	return status;
}

void rvmrpc_file_release(struct rvmrpc_file_path *parts)
{
	if (parts->held)
		rvmrpc_os_file_leave(parts);
	parts->held = false;
}

int rvmrpc_file_place_cut(struct rvmrpc_file_place *place, uint32_t *failed)
{
	char *rest = place->folder.rest;
	uint32_t length = (uint32_t)strlen(rest), at = length;

	if (!length)
		return RVMRPC_STATUS_NOT_ALLOWED;
	while (at && rest[at - 1] != '/')
		at--;
	length -= at;
	if (!length || (rest[at] == '.' && (length == 1 || (length == 2 && rest[at + 1] == '.'))))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (length > RVMRPC_FILE_NAME_MAX) {
		*failed = RVMRPC_FAILED_TOO_LONG;
		return RVMRPC_STATUS_OK;
	}
	memcpy(place->name, rest + at, length + 1);
	rest[at] = '\0';
	return RVMRPC_STATUS_OK;
}

/* ---- Answers ---- */

void rvmrpc_file_record(struct rvmrpc_record_writer *w, const char *name, uint32_t length,
			const struct rvmrpc_file_attributes *a)
{
	rvmrpc_record_begin(w, RVMRPC_RECORD_FILE);
	if (name)
		rvmrpc_record_bytes(w, RVMRPC_FILE_NAME, name, length);
	rvmrpc_record_u64(w, RVMRPC_FILE_MODE, a->mode);
	rvmrpc_record_u64(w, RVMRPC_FILE_SIZE, a->size);
	rvmrpc_record_u64(w, RVMRPC_FILE_ALLOCATED, a->allocated);
	rvmrpc_record_u64(w, RVMRPC_FILE_INODE, a->inode);
	rvmrpc_record_u64(w, RVMRPC_FILE_LINKS, a->links);
	rvmrpc_record_u64(w, RVMRPC_FILE_UID, a->uid);
	rvmrpc_record_u64(w, RVMRPC_FILE_GID, a->gid);
	if (a->device)
		rvmrpc_record_u64(w, RVMRPC_FILE_DEVICE, a->device);
	rvmrpc_record_u64(w, RVMRPC_FILE_ACCESSED_NS, a->accessed_ns);
	rvmrpc_record_u64(w, RVMRPC_FILE_MODIFIED_NS, a->modified_ns);
	rvmrpc_record_u64(w, RVMRPC_FILE_CHANGED_NS, a->changed_ns);
}

static int files_failure(struct rvmrpc_record_writer *w, uint32_t failed)
{
	rvmrpc_record_begin(w, RVMRPC_RECORD_FAILURE);
	rvmrpc_record_u64(w, RVMRPC_FAILURE_REASON, failed);
	rvmrpc_record_end(w, 0);
	return rvmrpc_records_end(w);
}

/* The request of all that answer with records: its head, and the path behind it. */
static int files_begin(struct rvmrpc_record_writer *w, const struct rvmrpc_request *req, struct rvmrpc_response *res,
		       uint32_t select_max, struct rvmrpc_file_path *path)
{
	const uint32_t head = sizeof(struct rvmrpc_records_req);
	struct rvmrpc_request records = *req;
	int status;

	records.arglen = head;
	status = rvmrpc_records_begin(w, &records, res, select_max);
	if (status != RVMRPC_STATUS_OK)
		return status;
	return rvmrpc_file_hold((const char *)req->arg + head, req->arglen - head, false, path);
}

/* A path, and what a link says. */
struct files_scratch {
	struct rvmrpc_file_path path;
	char link[RVMRPC_FILES_PATH_MAX];
};

static int files_with_scratch(struct rvmrpc_request *req, struct rvmrpc_response *res,
			      int (*fn)(const struct rvmrpc_request *req, struct rvmrpc_response *res,
					struct files_scratch *scratch))
{
	struct files_scratch *scratch = rvmrpc_os_file_alloc(sizeof(*scratch));
	int status;

	if (!scratch)
		return RVMRPC_STATUS_BUSY;
	scratch->path.held = false;
	status = fn(req, res, scratch);
	rvmrpc_file_release(&scratch->path);
	rvmrpc_os_file_free(scratch);
	return status;
}

/* ---- Procedures ---- */

static int files_do_stat(const struct rvmrpc_request *req, struct rvmrpc_response *res, struct files_scratch *scratch)
{
	struct rvmrpc_file_attributes a = { .mode = 0 };
	uint32_t length = 0, failed = RVMRPC_FAILED_NOT;
	struct rvmrpc_record_writer w;
	int status;

	status = files_begin(&w, req, res, RVMRPC_FILES_NOFOLLOW, &scratch->path);
	if (status != RVMRPC_STATUS_OK)
		return status;
	status = rvmrpc_os_file_stat(&scratch->path, &a, w.wanted.select ? scratch->link : NULL, &length, &failed);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (failed)
		return files_failure(&w, failed);
	rvmrpc_file_record(&w, NULL, 0, &a);
	if (length)
		rvmrpc_record_bytes(&w, RVMRPC_FILE_LINK, scratch->link, length);
	rvmrpc_record_end(&w, 0);
	return rvmrpc_records_end(&w);
}

static int files_stat(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return files_with_scratch(req, res, files_do_stat);
}

static int files_do_list(const struct rvmrpc_request *req, struct rvmrpc_response *res, struct files_scratch *scratch)
{
	uint32_t failed = RVMRPC_FAILED_NOT;
	struct rvmrpc_record_writer w;
	int status;

	status = files_begin(&w, req, res, 0, &scratch->path);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (w.wanted.cursor > RVMRPC_FILE_OFFSET_MAX)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	status = rvmrpc_os_file_list(&scratch->path, &w, req->timeout_ms / 4 * 3, &failed);
	if (status != RVMRPC_STATUS_OK)
		return status;
	return failed ? files_failure(&w, failed) : rvmrpc_records_end(&w);
}

static int files_list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return files_with_scratch(req, res, files_do_list);
}

static int files_do_statfs(const struct rvmrpc_request *req, struct rvmrpc_response *res, struct files_scratch *scratch)
{
	struct rvmrpc_file_space space = { .size = 0 };
	uint32_t failed = RVMRPC_FAILED_NOT;
	struct rvmrpc_record_writer w;
	int status;

	status = files_begin(&w, req, res, 0, &scratch->path);
	if (status != RVMRPC_STATUS_OK)
		return status;
	status = rvmrpc_os_file_space(&scratch->path, &space, &failed);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (failed)
		return files_failure(&w, failed);
	rvmrpc_record_begin(&w, RVMRPC_RECORD_FILESYSTEM);
	rvmrpc_record_u64(&w, RVMRPC_FS_SIZE, space.size);
	rvmrpc_record_u64(&w, RVMRPC_FS_FREE, space.free);
	rvmrpc_record_u64(&w, RVMRPC_FS_AVAILABLE, space.available);
	if (space.files) {
		rvmrpc_record_u64(&w, RVMRPC_FS_FILES, space.files);
		rvmrpc_record_u64(&w, RVMRPC_FS_FILES_FREE, space.files_free);
	}
	rvmrpc_record_end(&w, 0);
	return rvmrpc_records_end(&w);
}

static int files_statfs(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return files_with_scratch(req, res, files_do_statfs);
}

static int files_do_read(const struct rvmrpc_request *req, struct rvmrpc_response *res, struct files_scratch *scratch)
{
	struct rvmrpc_file_attributes a = { .mode = 0 };
	struct rvmrpc_file_res head = { .failed = RVMRPC_FAILED_NOT };
	struct rvmrpc_file_req wanted;
	int status;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (wanted.reserved || wanted.offset > RVMRPC_FILE_OFFSET_MAX - wanted.length)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	status = rvmrpc_file_hold((const char *)req->arg + sizeof(wanted), req->arglen - sizeof(wanted), false,
				  &scratch->path);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (res->resmax <= sizeof(head))
		return RVMRPC_STATUS_TOO_BIG;
	if (wanted.length > res->resmax - sizeof(head))
		wanted.length = res->resmax - sizeof(head);
	status = rvmrpc_os_file_read(&scratch->path, wanted.offset, res, sizeof(head), &wanted.length, &a, &head.failed);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (!head.failed) {
		head.size = a.size;
		head.inode = a.inode;
		head.modified_ns = a.modified_ns;
	}
	memcpy(res->res, &head, sizeof(head));
	res->reslen = sizeof(head) + (head.failed ? 0 : wanted.length);
	return RVMRPC_STATUS_OK;
}

static int files_read(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	return files_with_scratch(req, res, files_do_read);
}

/* A head, and a path with so many bytes behind it. */
#define FILES_PROC(n, s, f, head, tail, fn) {					\
		.number = (n),							\
		.name = (s),							\
		.flags = (f) | RVMRPC_PROC_MAY_SLEEP,				\
		.arg_min = sizeof(struct head) + 1,				\
		.arg_max = sizeof(struct head) + RVMRPC_FILES_PATH_MAX + (tail),	\
		.handler = (fn),						\
	}
#define FILES_READS(n, s, head, fn)	FILES_PROC(n, s, RVMRPC_PROC_READ_ONLY, head, 0, fn)
#define FILES_CHANGES(n, s, tail)	FILES_PROC(n, s, 0, rvmrpc_file_change_req, tail, rvmrpc_files_change)

static const struct rvmrpc_procedure files_procs[] = {
	FILES_READS(RVMRPC_FILES_STAT, "stat", rvmrpc_records_req, files_stat),
	FILES_READS(RVMRPC_FILES_LIST, "list", rvmrpc_records_req, files_list),
	FILES_READS(RVMRPC_FILES_READ, "read", rvmrpc_file_req, files_read),
	FILES_READS(RVMRPC_FILES_STATFS, "statfs", rvmrpc_records_req, files_statfs),
	FILES_CHANGES(RVMRPC_FILES_WRITE, "write", RVMRPC_SLOT_BYTES_MAX),
	FILES_CHANGES(RVMRPC_FILES_CREATE, "create", 0),
	FILES_CHANGES(RVMRPC_FILES_MKDIR, "mkdir", 0),
	FILES_CHANGES(RVMRPC_FILES_RENAME, "rename", RVMRPC_FILES_PATH_MAX),
	FILES_CHANGES(RVMRPC_FILES_REMOVE, "remove", 0),
	FILES_CHANGES(RVMRPC_FILES_RMDIR, "rmdir", 0),
	FILES_CHANGES(RVMRPC_FILES_SYNC, "sync", 0),
	FILES_PROC(RVMRPC_FILES_SET, "set", 0, rvmrpc_file_set_req, 0, rvmrpc_files_set),
};

struct rvmrpc_module rvmrpc_files_module = {
	.number = RVMRPC_MOD_FILES,
	.version = 1,
	.name = "files",
	.procs = files_procs,
	.nprocs = RVMRPC_COUNT(files_procs),
};
