/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: module files.
 *
 * Procedures, checks and answers are here, what is done to files is the OS's.  A file is named by the tree of the
 * allow-list that it is in and the rest of its path; that the rest does not lead out of the tree, by whatever it names, is
 * the OS's to see to while it walks: what a path means changes under whoever only looks at its text.
 */
#ifndef RVMRPC_FILES_H
#define RVMRPC_FILES_H

#include "rvmrpc_records.h"

#define RVMRPC_TREES_MAX	1024	/* bytes of text, with the NUL */
#define RVMRPC_FILE_OFFSET_MAX	0x7fffffffffffffffull

/* Absolute paths of folders with colons between them; "": none. */
struct rvmrpc_trees {
	char text[RVMRPC_TREES_MAX];
};

/*
 * Sets the trees.  A newline at the text's end does not count.  OK; TOO_BIG; GARBAGE_ARGS: *bad is where the first of them
 * begins that is not absolute, or has empty names, "." or "..".  The trees are as they were then.
 */
int rvmrpc_trees_set(struct rvmrpc_trees *trees, const char *text, uint32_t *bad);

/* A path of a request, in two parts; each has room for a NUL. */
struct rvmrpc_file_path {
	char tree[RVMRPC_TREES_MAX];
	char rest[RVMRPC_FILES_PATH_MAX + 1];	/* below it, no slash at its beginning; "": the tree itself */
	uint32_t key;				/* the OS's: of the tree in which it may be read */
	bool held;				/* it counts as a call in that one */
};

#define RVMRPC_FILE_NAME_MAX	255	/* bytes */

/* Where a name is made, changed or taken away. */
struct rvmrpc_file_place {
	struct rvmrpc_file_path folder;
	char name[RVMRPC_FILE_NAME_MAX + 1];	/* in it; neither "." nor ".." */
};

/* Takes a path apart, by the longest tree that it begins with.  OK, NOT_ALLOWED, or GARBAGE_ARGS: it is no path. */
int rvmrpc_trees_split(const struct rvmrpc_trees *trees, const char *path, uint32_t length, struct rvmrpc_file_path *parts);

/* A request's path: OK and *parts, in whose tree the call counts until rvmrpc_file_release(); else as split, or BUSY. */
int rvmrpc_file_hold(const char *path, uint32_t length, bool write, struct rvmrpc_file_path *parts);
void rvmrpc_file_release(struct rvmrpc_file_path *parts);

/*
 * Makes a place of its folder, which is the whole path at first.  OK, and *failed; NOT_ALLOWED: it is a tree itself;
 * GARBAGE_ARGS: its last name is "", "." or "..".
 */
int rvmrpc_file_place_cut(struct rvmrpc_file_place *place, uint32_t *failed);

/* What is known of a file. */
struct rvmrpc_file_attributes {
	uint64_t mode, size, allocated, inode, links, uid, gid;
	uint64_t device;	/* 0: it is none */
	uint64_t accessed_ns, modified_ns, changed_ns;
};

/* For who lists a folder.  name: length bytes, or NULL. */
void rvmrpc_file_record(struct rvmrpc_record_writer *w, const char *name, uint32_t length,
			const struct rvmrpc_file_attributes *a);

extern struct rvmrpc_module rvmrpc_files_module;

/* The procedures that change files: those with a struct rvmrpc_file_change_req, and set. */
int rvmrpc_files_change(struct rvmrpc_request *req, struct rvmrpc_response *res);
int rvmrpc_files_set(struct rvmrpc_request *req, struct rvmrpc_response *res);

/*
 * All that follows: worker, may sleep.  Each returns RVMRPC_STATUS_*; with OK *failed says whether there is more.
 * NOT_ALLOWED: the path leads out of the tree.
 */

/* Of the trees that there are now; write: of those that may be written, if the path is in one that may be read. */
int rvmrpc_os_file_split(const char *path, uint32_t length, bool write, struct rvmrpc_file_path *parts);

/*
 * A call in a tree begins, and ends.  OK, or BUSY: there are so many that the file system seems to hang, and others need
 * workers, too.  It is known by its path's address.
 */
int rvmrpc_os_file_enter(const struct rvmrpc_file_path *path);
void rvmrpc_os_file_leave(const struct rvmrpc_file_path *path);

/* link: room for RVMRPC_FILES_PATH_MAX bytes, *link_length of which were used; NULL: a link is followed. */
int rvmrpc_os_file_stat(const struct rvmrpc_file_path *path, struct rvmrpc_file_attributes *a, char *link,
			uint32_t *link_length, uint32_t *failed);

/* Writes a record FILE for each entry but "." and "..", from the writer's cursor on, for at most so long. */
int rvmrpc_os_file_list(const struct rvmrpc_file_path *path, struct rvmrpc_record_writer *w, uint32_t ms,
			uint32_t *failed);

/* Of a regular file, to byte at of the answer, or its pages; *length: bytes that fit, and were read. */
int rvmrpc_os_file_read(const struct rvmrpc_file_path *path, uint64_t offset, const struct rvmrpc_response *res,
			uint32_t at, uint32_t *length, struct rvmrpc_file_attributes *a, uint32_t *failed);

struct rvmrpc_file_space {
	uint64_t size, free, available, files, files_free;	/* files 0: no limit */
};

int rvmrpc_os_file_space(const struct rvmrpc_file_path *path, struct rvmrpc_file_space *space, uint32_t *failed);

/*
 * What follows changes files.  Nothing is followed at the end of a path, no special file is opened, and what is set-user-ID
 * or has another name, perhaps out of the tree, is not written.
 */

/* To a regular file; *length: bytes to be written, and those that were. */
int rvmrpc_os_file_write(const struct rvmrpc_file_path *path, uint64_t offset, const void *from, uint32_t *length,
			 uint32_t *failed);

/* A regular file or a folder, of these permissions. */
int rvmrpc_os_file_create(const struct rvmrpc_file_place *place, bool folder, uint16_t mode, uint32_t *failed);
int rvmrpc_os_file_remove(const struct rvmrpc_file_place *place, bool folder, uint32_t *failed);

/* keep: what has that name already is not replaced. */
int rvmrpc_os_file_rename(const struct rvmrpc_file_place *from, const struct rvmrpc_file_place *to, bool keep,
			  uint32_t *failed);

int rvmrpc_os_file_sync(const struct rvmrpc_file_path *path, uint32_t *failed);

/* Of a regular file or a folder: what set->set says, in the order of its bits until one fails. */
int rvmrpc_os_file_set(const struct rvmrpc_file_path *path, const struct rvmrpc_file_set_req *set, uint32_t *failed);

/* Scratch of a call; NULL when there is no memory. */
void *rvmrpc_os_file_alloc(size_t bytes);
void rvmrpc_os_file_free(void *scratch);

#endif /* RVMRPC_FILES_H */
