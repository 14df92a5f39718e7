/*
 * Reverse VMRPC: one client of a VM's socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Knows its connection and its calls; what it needs of its server comes by
 * RvmrpcSockClientOps.
 */
#ifndef RVMRPC_SOCKCLIENT_H
#define RVMRPC_SOCKCLIENT_H

#include <sys/types.h>
#include "rvmrpc_channel.h"

typedef struct RvmrpcSockClient RvmrpcSockClient;

typedef struct RvmrpcSockClientOps {
    GMainContext *(*context)(void *server);
    /* NULL: the VM is not there. */
    RvmrpcChannel *(*channel)(void *server);
    char *(*info)(void *server);
    /* It has requests that wait for their turn. */
    void (*ready)(void *server, RvmrpcSockClient *c);
    /* A call of its turns has ended. */
    void (*ended)(void *server);
    /* It has a deadline now. */
    void (*sweep)(void *server);
    /* Its connection has ended.  Its memory stays while calls end. */
    void (*gone)(void *server, RvmrpcSockClient *c);
} RvmrpcSockClientOps;

/* On an accepted connection of user @uid; @server is a g_rc_box. */
RvmrpcSockClient *rvmrpc_sock_client_new(int fd, uid_t uid,
                                         const RvmrpcSockClientOps *ops,
                                         void *server);
/* Ends the connection and its calls. */
void rvmrpc_sock_client_drop(RvmrpcSockClient *c);
uid_t rvmrpc_sock_client_uid(const RvmrpcSockClient *c);
/* Since when nothing was asked or answered; UINT64_MAX: it waits for us. */
uint64_t rvmrpc_sock_client_idle_since(const RvmrpcSockClient *c);
/* Tells it that it has to go, if it can be told at once, and ends it. */
void rvmrpc_sock_client_evict(RvmrpcSockClient *c);

typedef enum RvmrpcSockSubmit {
    RVMRPC_SOCK_NONE,           /* there is none, or its share is used up */
    RVMRPC_SOCK_SUBMITTED,      /* ended() will come */
    RVMRPC_SOCK_REFUSED,        /* it was answered */
} RvmrpcSockSubmit;

/* Hands its oldest waiting request to the channel. */
RvmrpcSockSubmit rvmrpc_sock_client_submit(RvmrpcSockClient *c);
/* Looks at its deadlines; may drop it.  True: look again soon. */
bool rvmrpc_sock_client_sweep(RvmrpcSockClient *c, uint64_t now);
void rvmrpc_sock_client_event(RvmrpcSockClient *c, const char *json);

#endif
