/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * How module files finds what a path means.
 */
#ifndef RVMRPC_FILES_BSD_H
#define	RVMRPC_FILES_BSD_H

#include "rvmrpc_drv.h"
#include "rvmrpc_files.h"

struct mount;
struct vnode;

/*
 * Finds what a path of a request means, without leaving its tree; follow: a
 * link at its end, too.
 *
 * 0: *found is referenced and locked.  EXDEV: it leads out of the tree; ENOMEM;
 * another errno.
 */
int	rvmrpc_files_find(const struct rvmrpc_file_path *path, bool follow,
	    struct vnode **found);

/*
 * What has that name in a folder, which is referenced and not locked.  No link
 * is followed, and what is mounted there not gone into; name: neither "." nor
 * "..", not written to.
 *
 * 0: *found is referenced and locked; errno.
 */
int	rvmrpc_files_lookup(struct vnode *folder, const char *name,
	    size_t length, struct vnode **found);

/* Locks what is referenced: 0, or ENOENT, it is gone. */
int	rvmrpc_files_lock(struct vnode *vp);

/*
 * What a link, which is locked, says.  to: room for RVMRPC_FILES_PATH_MAX
 * bytes; *length of them were used.
 */
int	rvmrpc_files_readlink(struct vnode *vp, char *to, uint32_t *length);

/* RVMRPC_STATUS_* and a reason for 0 or an errno. */
int	rvmrpc_files_status(int error, uint32_t *failed);

#endif /* RVMRPC_FILES_BSD_H */
