/*
 * Reverse VMRPC: a UNIX socket that is listened on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_LISTENER_H
#define RVMRPC_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

typedef struct RvmrpcListener RvmrpcListener;

/* @fd: nonblocking, closed at exec; the callee's. */
typedef void RvmrpcAccepted(int fd, void *opaque);

/*
 * Listens at @path, with permissions @mode and group @gid ((gid_t)-1: as it
 * comes): at no time is it open to others.  What an ended process left there
 * is replaced, a socket that is served or a file of another kind is not.
 */
RvmrpcListener *rvmrpc_listener_new(const char *path, uint32_t mode, gid_t gid,
                                    GMainContext *context,
                                    RvmrpcAccepted *accepted, void *opaque,
                                    GError **error);

/* On a socket that somebody else made and keeps; takes over @fd. */
RvmrpcListener *rvmrpc_listener_new_for_fd(int fd, GMainContext *context,
                                           RvmrpcAccepted *accepted,
                                           void *opaque);

/* Removes the path, if it is still the socket that this made. */
void rvmrpc_listener_free(RvmrpcListener *l);

/* uid and pid of who connected; false: it has gone. */
bool rvmrpc_peer(int fd, uid_t *uid, pid_t *pid);

#endif
