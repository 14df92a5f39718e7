/*
 * Reverse VMRPC: the socket of a VM (docs/socket.md)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Serves clients on a UNIX socket by a channel.  Clients take turns, and what
 * one of them can cost is bounded.  As the channel it belongs to the thread of
 * its GMainContext, callbacks included.
 */
#ifndef RVMRPC_SOCKSERVER_H
#define RVMRPC_SOCKSERVER_H

#include <sys/types.h>
#include "rvmrpc_channel.h"

#define RVMRPC_SOCK_CLIENTS_MAX     64
/* Calls of all clients in the channel: leaves room for the host's own. */
#define RVMRPC_SOCK_WINDOW          48

typedef struct RvmrpcSockServer RvmrpcSockServer;

typedef struct RvmrpcSockConfig {
    const char *path;
    uint32_t mode;              /* of the file */
    gid_t gid;                  /* its group; (gid_t)-1: as it comes */
    int fd;                     /* listens already, taken over; else -1 */
    GMainContext *context;      /* NULL: the default one */
    /* INFO's JSON, of g_malloc().  It waits for nobody. */
    char *(*info)(void *opaque);
    void *opaque;
} RvmrpcSockConfig;

/* NULL and *error, when it cannot listen. */
RvmrpcSockServer *rvmrpc_sockserver_new(const RvmrpcSockConfig *config,
                                        GError **error);
/* Ends all connections, and their calls. */
void rvmrpc_sockserver_free(RvmrpcSockServer *s);

/*
 * By which calls go from now on; NULL: they are NOT_CONNECTED.  Those under
 * way stay where they are.
 */
void rvmrpc_sockserver_set_channel(RvmrpcSockServer *s, RvmrpcChannel *ch);

/* Tells subscribers; @json is a whole event, as QMP's. */
void rvmrpc_sockserver_event(RvmrpcSockServer *s, const char *json);

#endif
