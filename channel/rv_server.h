/*
 * Reverse VMRPC: the socket of a VM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Serves the frames of rvmrpc_socket.h (docs/socket.md) to clients on a UNIX socket, who take turns.  Everything runs
 * in the thread of the GMainContext, callbacks included.
 */
#ifndef RV_SERVER_H
#define RV_SERVER_H

#include "rv_call.h"

typedef struct RvServer RvServer;

typedef struct RvServerOps {
    /* Of a call with one reference, kept by the server: as rv_channel_submit(). */
    uint32_t (*submit)(void *opaque, RvCall *call);
    /* As rv_channel_cancel(), of one that may not have been submitted. */
    void (*cancel)(void *opaque, RvCall *call);
    /* Bytes of an argument beyond which every call is TOO_BIG. */
    uint32_t (*max_arg)(void *opaque);
    /* The text of INFO, g_malloc()ed JSON. */
    char *(*info)(void *opaque);
} RvServerOps;

/*
 * Listens on @path, whose mode is never wider than @mode.  A socket that nobody serves is replaced, nothing else is.
 * NULL and @error when that cannot be.
 */
RvServer *rv_server_new(const char *path, mode_t mode, GMainContext *context, const RvServerOps *ops, void *opaque,
                        GError **error);

/* Ends all connections; their calls are cancelled, and their done() may still come. */
void rv_server_free(RvServer *server);

/* Tells all subscribers.  @json: a whole event, as QMP has it. */
void rv_server_event(RvServer *server, const char *json);

/*
 * A listening socket at @path as above, for users of their own.  @made is filled for rv_unlink_made(), which removes
 * the file at the end only if it still is the one that was made.
 */
typedef struct RvMade {
    dev_t dev;
    ino_t ino;
} RvMade;

int rv_listen(const char *path, mode_t mode, int backlog, RvMade *made, GError **error);
void rv_unlink_made(const char *path, const RvMade *made);

#endif
