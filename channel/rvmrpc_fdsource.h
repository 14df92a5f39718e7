/*
 * Reverse VMRPC: a file descriptor in a GMainContext
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * As g_unix_fd_source_new(), but what it waits for can change.
 */
#ifndef RVMRPC_FDSOURCE_H
#define RVMRPC_FDSOURCE_H

#include <glib.h>

/*
 * @condition: what is there; 0 when only the time of g_source_set_ready_time()
 * has come.  Either ends that time.  G_IO_HUP and G_IO_ERR come unasked.
 */
typedef void RvmrpcFdReady(GIOCondition condition, void *opaque);

/* Attached to @context; the caller's reference. */
GSource *rvmrpc_fd_source_new(int fd, GIOCondition events,
                              GMainContext *context, RvmrpcFdReady *ready,
                              void *opaque);
void rvmrpc_fd_source_set_events(GSource *source, GIOCondition events);
/* Ends it, also from within its own callback. */
void rvmrpc_fd_source_free(GSource *source);

#endif
