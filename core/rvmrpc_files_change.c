/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: module files, what changes them.
 */
#include "rvmrpc_files.h"

/* A request, taken apart. */
struct change {
	struct rvmrpc_file_change_req head;	/* the checked copy */
	struct rvmrpc_file_place place;		/* of what is done to a file, folder is the whole path */
	struct rvmrpc_file_place to;		/* rename */
	const char *tail;			/* behind the path, in the request */
	uint32_t tail_bytes;
};

static int change_done(struct rvmrpc_response *res, uint32_t failed, uint32_t written)
{
	const struct rvmrpc_file_change_res done = { .failed = failed, .written = failed ? 0 : written };

	memcpy(res->res, &done, sizeof(done));
	res->reslen = sizeof(done);
	return RVMRPC_STATUS_OK;
}

/* Only what a procedure has a use for may be there. */
static bool change_is_good(uint32_t procedure, const struct change *c)
{
	const struct rvmrpc_file_change_req *h = &c->head;
	bool write = procedure == RVMRPC_FILES_WRITE, rename = procedure == RVMRPC_FILES_RENAME;
	bool makes = procedure == RVMRPC_FILES_CREATE || procedure == RVMRPC_FILES_MKDIR;

	if (c->tail_bytes && !write && !rename)
		return false;
	if (h->offset > (write ? RVMRPC_FILE_OFFSET_MAX - c->tail_bytes : 0))
		return false;
	return !(h->mode & ~(makes ? RVMRPC_FILE_MODES : 0)) && !(h->flags & ~(rename ? RVMRPC_FILE_KEEP : 0));
}

static int change_read(const struct rvmrpc_request *req, struct change *c)
{
	const char *path = (const char *)req->arg + sizeof(c->head);
	const uint32_t bytes = req->arglen - sizeof(c->head);

	memcpy(&c->head, req->arg, sizeof(c->head));
	if (c->head.path_bytes > bytes)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	c->tail = path + c->head.path_bytes;
	c->tail_bytes = bytes - c->head.path_bytes;
	if (!change_is_good(req->func, c))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	return rvmrpc_file_hold(path, c->head.path_bytes, true, &c->place.folder);
}

static int change_rename(struct change *c, uint32_t *failed)
{
	int status = rvmrpc_os_file_split(c->tail, c->tail_bytes, true, &c->to.folder);

	/* It may be the other file system that hangs. */
	if (status == RVMRPC_STATUS_OK && c->to.folder.key != c->place.folder.key) {
		status = rvmrpc_os_file_enter(&c->to.folder);
		c->to.folder.held = status == RVMRPC_STATUS_OK;
	}
	if (status != RVMRPC_STATUS_OK)
		return status;
	status = rvmrpc_file_place_cut(&c->to, failed);
	if (status != RVMRPC_STATUS_OK || *failed)
		return status;
	return rvmrpc_os_file_rename(&c->place, &c->to, c->head.flags & RVMRPC_FILE_KEEP, failed);
}

/* What is done to a name, not to a file. */
static int change_name(uint32_t procedure, struct change *c, uint32_t *failed)
{
	int status = rvmrpc_file_place_cut(&c->place, failed);

	if (status != RVMRPC_STATUS_OK || *failed)
		return status;
	switch (procedure) {
	case RVMRPC_FILES_CREATE:
	case RVMRPC_FILES_MKDIR:
		return rvmrpc_os_file_create(&c->place, procedure == RVMRPC_FILES_MKDIR, c->head.mode, failed);
	case RVMRPC_FILES_RENAME:
		return change_rename(c, failed);
	default:
		return rvmrpc_os_file_remove(&c->place, procedure == RVMRPC_FILES_RMDIR, failed);
	}
}

static int change_do(const struct rvmrpc_request *req, struct rvmrpc_response *res, struct change *c)
{
	uint32_t failed = RVMRPC_FAILED_NOT, written = 0;
	int status = change_read(req, c);

	if (status != RVMRPC_STATUS_OK)
		return status;
	if (req->func == RVMRPC_FILES_WRITE) {
		written = c->tail_bytes;
		status = rvmrpc_os_file_write(&c->place.folder, c->head.offset, c->tail, &written, &failed);
	} else if (req->func == RVMRPC_FILES_SYNC) {
		status = rvmrpc_os_file_sync(&c->place.folder, &failed);
	} else {
		status = change_name(req->func, c, &failed);
	}
	return status == RVMRPC_STATUS_OK ? change_done(res, failed, written) : status;
}

int rvmrpc_files_change(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct change *c;
	int status;

	if (res->resmax < sizeof(struct rvmrpc_file_change_res))
		return RVMRPC_STATUS_TOO_BIG;
	c = rvmrpc_os_file_alloc(sizeof(*c));
	if (!c)
		return RVMRPC_STATUS_BUSY;
	c->place.folder.held = false;
	c->to.folder.held = false;
	status = change_do(req, res, c);
	rvmrpc_file_release(&c->to.folder);
	rvmrpc_file_release(&c->place.folder);
	rvmrpc_os_file_free(c);
	return status;
}

static bool set_is_good(const struct rvmrpc_file_set_req *set)
{
	const uint32_t has = set->set;

	if (!has || (has & ~RVMRPC_FILE_SET_ALL) || (set->mode & ~RVMRPC_FILE_MODES) || set->size > RVMRPC_FILE_OFFSET_MAX)
		return false;
	return (has & RVMRPC_FILE_SET_SIZE || !set->size) && (has & RVMRPC_FILE_SET_MODE || !set->mode) &&
	       (has & RVMRPC_FILE_SET_UID || !set->uid) && (has & RVMRPC_FILE_SET_GID || !set->gid) &&
	       (has & RVMRPC_FILE_SET_ACCESSED || !set->accessed_ns) &&
	       (has & RVMRPC_FILE_SET_MODIFIED || !set->modified_ns);
}

int rvmrpc_files_set(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_file_path *path;
	struct rvmrpc_file_set_req set;
	uint32_t failed = RVMRPC_FAILED_NOT;
	int status;

	memcpy(&set, req->arg, sizeof(set));
	if (!set_is_good(&set))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(struct rvmrpc_file_change_res))
		return RVMRPC_STATUS_TOO_BIG;
	path = rvmrpc_os_file_alloc(sizeof(*path));
	if (!path)
		return RVMRPC_STATUS_BUSY;
	status = rvmrpc_file_hold((const char *)req->arg + sizeof(set), req->arglen - sizeof(set), true, path);
	if (status == RVMRPC_STATUS_OK)
		status = rvmrpc_os_file_set(path, &set, &failed);
	rvmrpc_file_release(path);
	rvmrpc_os_file_free(path);
	return status == RVMRPC_STATUS_OK ? change_done(res, failed, 0) : status;
}
