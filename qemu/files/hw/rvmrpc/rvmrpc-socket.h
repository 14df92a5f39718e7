/*
 * Reverse VMRPC: the data path beside QMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_SOCKET_INTERNAL_H
#define RVMRPC_SOCKET_INTERNAL_H

#include "io/channel.h"
#include "io/net-listener.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "system/iothread.h"

/*
 * Serves clients on a UNIX socket with permissions @mode.  BQL held; there is
 * a device, and will be until the end of rvmrpc_socket_stop().
 */
bool rvmrpc_socket_start(const char *path, uint32_t mode, Error **errp);
void rvmrpc_socket_stop(void);

/* Tells subscribers; @json is a whole event.  Any thread. */
void rvmrpc_socket_event(const char *json);

/* ---- What rvmrpc-socket.c and rvmrpc-client.c share: all in its thread ---- */

#define RVMRPC_SOCK_CLIENTS_MAX     64
/* Calls of all clients in the proxy: leaves room for QMP's. */
#define RVMRPC_SOCK_WINDOW          48

typedef struct RvmrpcSockClient RvmrpcSockClient;

typedef struct RvmrpcSocket {
    IOThread *iothread;
    QIONetListener *listener;
    char *path;
    Notifier exit_notifier;
    QemuMutex lock;             /* leaf */
    GMainContext *context;      /* NULL: not running; lock to write */
    GQueue clients;
    GQueue ready;               /* clients whose turn comes */
    uint32_t in_proxy;          /* calls */
    GSource *sweep;             /* runs while some client has a deadline */
} RvmrpcSocket;

extern RvmrpcSocket rvmrpc_socket;

/* A new client on an accepted connection. */
void rvmrpc_sock_client_new(QIOChannel *ioc);
/* Ends the connection and its calls. */
void rvmrpc_sock_client_drop(RvmrpcSockClient *client);
/* Hands its oldest waiting request to the proxy.  True: there are more. */
bool rvmrpc_sock_client_submit(RvmrpcSockClient *client);
/* Looks at its deadlines; may drop it.  True: look again soon. */
bool rvmrpc_sock_client_sweep(RvmrpcSockClient *client, int64_t now);
void rvmrpc_sock_client_event(RvmrpcSockClient *client, const char *json);

/* The client has requests that wait for their turn. */
void rvmrpc_sock_ready(RvmrpcSockClient *client);
/* Submits what the window has room for. */
void rvmrpc_sock_pump(void);
/* Some client has a deadline now. */
void rvmrpc_sock_start_sweep(void);
/* Runs @func(@opaque) in the thread, then @free.  Any thread. */
void rvmrpc_sock_post(GSourceFunc func, void *opaque, GDestroyNotify free);
GSource *rvmrpc_sock_watch(QIOChannel *ioc, GIOCondition condition,
                           QIOChannelFunc func, RvmrpcSockClient *client);

#endif
