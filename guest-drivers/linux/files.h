/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the two halves of module files share: finding what a path names, and what an error means.
 */
#ifndef RVMRPC_LINUX_FILES_H
#define RVMRPC_LINUX_FILES_H

#include <linux/path.h>
#include "rvmrpc_files.h"

/*
 * Context: worker, may sleep.
 * Return: 0 and @found, to be put; -EXDEV: it leads out of the tree; -errno.
 */
int rvmrpc_files_find(const struct rvmrpc_file_path *path, unsigned int flags, struct path *found);

/* RVMRPC_STATUS_* and a reason for 0 or -errno. */
int rvmrpc_files_status(int err, u32 *failed);

#endif /* RVMRPC_LINUX_FILES_H */
