/*
 * The rvmrpc command: reading a guest's files ahead
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_AHEAD_H
#define RVMRPC_AHEAD_H

#include "rvmrpc-cmd.h"

/* Of one of the kernel's requests: all that it asks for ahead. */
#define AHEAD_REQUEST_BYTES 131072
/* What a guest said of a file is believed for so long, by the kernel, too. */
#define AHEAD_FRESH_S       1

/*
 * Bytes of a guest's file from @offset on, as many as one answer holds, in one of
 * the pool's threads; NULL and @error.
 */
typedef GBytes *(*AheadRead)(void *data, const char *path, guint64 offset,
                             guint32 length, RvmrpcFileVersion *version,
                             GError **error);

/* Threads that read ahead, for all files.  May be used by any thread. */
typedef struct AheadPool AheadPool;

/*
 * @threads: that many calls at a time, at most LANES_MAX; @data: for @read; NULL
 * and @error: no threads
 */
AheadPool *ahead_pool_new(guint threads, AheadRead read, void *data,
                          GError **error);
/* Waits for the calls in flight.  All of its files are freed before. */
void ahead_pool_free(AheadPool *pool);
/* What was read ahead is not what the files hold any more. */
void ahead_pool_changed(AheadPool *pool);

/* One opened file.  May be used by any thread. */
typedef struct Ahead Ahead;

Ahead *ahead_new(AheadPool *pool, const char *path);
void ahead_free(Ahead *ahead);

/**
 * ahead_copy: what was read ahead, and asks for more of a file read in order
 * @buffer: @size bytes, of which as many as are returned are written
 * @end: us, monotonic: then no other call is waited for
 *
 * May sleep until a call in flight ends.
 * Returns: bytes from @offset on, 0 or fewer than @size: ask for the others; -1
 * and @error: so it ended
 */
gssize ahead_copy(Ahead *ahead, guint64 offset, void *buffer, gsize size,
                  gint64 end, GError **error);
/* The file has @file_size bytes: nothing is asked for before that is known. */
void ahead_note(Ahead *ahead, guint64 file_size);

#endif
