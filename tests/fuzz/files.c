// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Module files: any request to any of its procedures, on an OS that answers anything. What comes to the OS must be a path in
 * a tree, a name that is one, and bytes of the request.
 */
#include <stddef.h>
#include "input.h"
#include "rvmrpc_files.h"

static struct rvmrpc_trees trees, write_trees;
static const uint8_t *arg_begin, *arg_end;
static struct input *in;
static int entered;

static int os_answer(uint32_t *failed)
{
	*failed = input_u8(in) % 20;
	return input_u8(in) & 1 ? RVMRPC_STATUS_OK : RVMRPC_STATUS_NOT_ALLOWED;
}

static void check_path(const struct rvmrpc_file_path *path)
{
	CHECK(path->tree[0] == '/' && strlen(path->tree) < sizeof(path->tree));
	CHECK(path->rest[0] != '/' && strlen(path->rest) < sizeof(path->rest));
}

static void check_place(const struct rvmrpc_file_place *place)
{
	const char *name = place->name;

	check_path(&place->folder);
	CHECK(name[0] && strlen(name) <= RVMRPC_FILE_NAME_MAX && !strchr(name, '/'));
	CHECK(strcmp(name, ".") && strcmp(name, ".."));
}

/* A tree that may only be read is none of those that may be written. */
static void check_writable(const struct rvmrpc_file_path *path)
{
	check_path(path);
	CHECK(!strcmp(path->tree, "/s/w") || !strcmp(path->tree, "/x"));
}

void *rvmrpc_os_file_alloc(size_t bytes)
{
	return malloc(bytes);
}

void rvmrpc_os_file_free(void *scratch)
{
	free(scratch);
}

int rvmrpc_os_file_split(const char *path, uint32_t length, bool write, struct rvmrpc_file_path *parts)
{
	int status;

	CHECK((const uint8_t *)path >= arg_begin && length <= arg_end - (const uint8_t *)path);
	status = rvmrpc_trees_split(write ? &write_trees : &trees, path, length, parts);
	if (status == RVMRPC_STATUS_OK)
		parts->key = strlen(parts->tree);
	return status;
}

int rvmrpc_os_file_enter(const struct rvmrpc_file_path *path)
{
	check_path(path);
	entered++;
	return RVMRPC_STATUS_OK;
}

void rvmrpc_os_file_leave(const struct rvmrpc_file_path *path)
{
	check_path(path);
	entered--;
}

int rvmrpc_os_file_stat(const struct rvmrpc_file_path *path, struct rvmrpc_file_attributes *a, char *link,
			uint32_t *link_length, uint32_t *failed)
{
	check_path(path);
	input_bytes(in, a, sizeof(*a));
	if (link) {
		*link_length = input_u32(in) % (RVMRPC_FILES_PATH_MAX + 1);
		memset(link, 'l', *link_length);
	}
	return os_answer(failed);
}

int rvmrpc_os_file_list(const struct rvmrpc_file_path *path, struct rvmrpc_record_writer *w, uint32_t ms, uint32_t *failed)
{
	struct rvmrpc_file_attributes a;
	char name[256];
	uint64_t cursor;

	(void)ms;
	check_path(path);
	for (cursor = 1; in->left; cursor++) {
		uint32_t length = input_u8(in);

		input_bytes(in, name, length);
		input_bytes(in, &a, sizeof(a));
		rvmrpc_file_record(w, name, length, &a);
		if (!rvmrpc_record_end(w, cursor))
			break;
	}
	return os_answer(failed);
}

int rvmrpc_os_file_read(const struct rvmrpc_file_path *path, uint64_t offset, const struct rvmrpc_response *res,
			uint32_t at, uint32_t *length, struct rvmrpc_file_attributes *a, uint32_t *failed)
{
	check_path(path);
	CHECK(offset + *length <= RVMRPC_FILE_OFFSET_MAX);
	memset((char *)res->res + at, 'r', *length);
	input_bytes(in, a, sizeof(*a));
	*length = *length ? input_u32(in) % *length : 0;
	return os_answer(failed);
}

int rvmrpc_os_file_space(const struct rvmrpc_file_path *path, struct rvmrpc_file_space *space, uint32_t *failed)
{
	check_path(path);
	input_bytes(in, space, sizeof(*space));
	return os_answer(failed);
}

int rvmrpc_os_file_write(const struct rvmrpc_file_path *path, uint64_t offset, const void *from, uint32_t *length,
			 uint32_t *failed)
{
	check_writable(path);
	CHECK((const uint8_t *)from >= arg_begin && *length <= arg_end - (const uint8_t *)from);
	CHECK(offset + *length <= RVMRPC_FILE_OFFSET_MAX);
	return os_answer(failed);
}

int rvmrpc_os_file_create(const struct rvmrpc_file_place *place, bool folder, uint16_t mode, uint32_t *failed)
{
	(void)folder;
	check_place(place);
	check_writable(&place->folder);
	CHECK(!(mode & ~RVMRPC_FILE_MODES));
	return os_answer(failed);
}

int rvmrpc_os_file_remove(const struct rvmrpc_file_place *place, bool folder, uint32_t *failed)
{
	(void)folder;
	check_place(place);
	check_writable(&place->folder);
	return os_answer(failed);
}

int rvmrpc_os_file_rename(const struct rvmrpc_file_place *from, const struct rvmrpc_file_place *to, bool keep,
			  uint32_t *failed)
{
	(void)keep;
	check_place(from);
	check_place(to);
	check_writable(&from->folder);
	check_writable(&to->folder);
	return os_answer(failed);
}

int rvmrpc_os_file_sync(const struct rvmrpc_file_path *path, uint32_t *failed)
{
	check_writable(path);
	return os_answer(failed);
}

int rvmrpc_os_file_set(const struct rvmrpc_file_path *path, const struct rvmrpc_file_set_req *set, uint32_t *failed)
{
	check_writable(path);
	CHECK(set->set && !(set->set & ~RVMRPC_FILE_SET_ALL) && !(set->mode & ~RVMRPC_FILE_MODES));
	CHECK(set->size <= RVMRPC_FILE_OFFSET_MAX);
	return os_answer(failed);
}

/* A path in a tree, of a length that fits, and a second one behind it: what chance alone seldom makes. */
static void make_likely(uint32_t number, uint8_t *arg, uint32_t length, uint32_t head)
{
	static const char begin[] = "/s/w/";
	const uint32_t n = sizeof(begin) - 1, how = input_u8(in);
	uint32_t path;

	if (!(how & 1) || length < head + 2 * n)
		return;
	memcpy(arg + head, begin, n);
	if (number < RVMRPC_FILES_WRITE || number == RVMRPC_FILES_SET)
		return;
	memset(arg, 0, head);
	path = number == RVMRPC_FILES_WRITE || number == RVMRPC_FILES_RENAME ? n + input_u8(in) % (length - head - 2 * n + 1) :
	       length - head;
	memcpy(arg + offsetof(struct rvmrpc_file_change_req, path_bytes), &path, sizeof(path));
	if (number == RVMRPC_FILES_RENAME)
		memcpy(arg + head + path, begin, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input stream = { data, size };
	uint32_t bad, room, number = input_u8(&stream) % rvmrpc_files_module.nprocs;
	const struct rvmrpc_procedure *proc = &rvmrpc_files_module.procs[number];
	struct rvmrpc_request req = { .func = number, .timeout_ms = 1000 };
	struct rvmrpc_response res = { .reslen = 0 };
	uint8_t *arg;

	in = &stream;
	room = input_u32(in) % 9000;
	req.arglen = input_u32(in) % 4096;
	if (req.arglen < proc->arg_min || req.arglen > proc->arg_max)
		return 0;
	CHECK(rvmrpc_trees_set(&trees, "/s:/s/w:/x", &bad) == RVMRPC_STATUS_OK);
	CHECK(rvmrpc_trees_set(&write_trees, "/s/w:/x", &bad) == RVMRPC_STATUS_OK);
	arg = malloc(req.arglen);
	input_bytes(in, arg, req.arglen);
	make_likely(number, arg, req.arglen, proc->arg_min - 1);
	arg_begin = arg;
	arg_end = arg + req.arglen;
	req.arg = arg;
	res.resmax = room;
	res.res = malloc(room ? room : 1);
	if (proc->handler(&req, &res) == RVMRPC_STATUS_OK)
		CHECK(res.reslen <= room);
	CHECK(!entered);
	free(res.res);
	free(arg);
	return 0;
}
