/*
 * Reverse VMRPC: what the server and its clients share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RV_SERVER_INTERNAL_H
#define RV_SERVER_INTERNAL_H

#include "rv_server.h"

#define RV_CLIENTS_MAX      64
/* Of one user, so that another finds room. */
#define RV_CLIENTS_OF_UID   48
/* Calls of all clients in the proxy: leaves room for the host's own. */
#define RV_CALLS_MAX        48

typedef struct RvClient RvClient;

struct RvServer {
    unsigned refs;              /* its own, and one for each client's memory */
    char *path;
    RvMade made;
    int fd;
    GMainContext *context;
    const RvServerOps *ops;
    void *opaque;
    GSource *listener;          /* NULL while accept() has to be spared */
    GSource *again;             /* brings it back */
    GQueue clients;
    GQueue ready;               /* clients whose turn comes */
    unsigned in_proxy;          /* calls */
    GSource *sweep;             /* runs while some client has a deadline */
    bool gone;                  /* freed, but for its clients' calls */
};

void rv_server_unref(RvServer *server);

/* A new client on an accepted connection. */
void rv_client_new(RvServer *server, int fd, uid_t uid);
/* Ends the connection and its calls. */
void rv_client_drop(RvClient *client);
/* Hands its oldest waiting request to the proxy.  True: there are more. */
bool rv_client_submit(RvClient *client);
/* Looks at its deadlines; may drop it.  True: look again soon. */
bool rv_client_sweep(RvClient *client, uint64_t now);
void rv_client_event(RvClient *client, const char *json);
uid_t rv_client_uid(const RvClient *client);
/* ns since it did anything, 0 while it has calls or waits for events. */
uint64_t rv_client_idle(const RvClient *client, uint64_t now);

/* The client has requests that wait for their turn. */
void rv_server_ready(RvServer *server, RvClient *client);
/* Submits what the proxy has room for. */
void rv_server_pump(RvServer *server);
/* Some client has a deadline now. */
void rv_server_start_sweep(RvServer *server);

/* Attaches a source; the caller has a reference. */
GSource *rv_watch(RvServer *server, int fd, GIOCondition condition, GUnixFDSourceFunc func, void *opaque);
GSource *rv_timer(RvServer *server, unsigned ms, GSourceFunc func, void *opaque);
/* Runs @func(@opaque) once, soon, then @free. */
void rv_soon(RvServer *server, GSourceFunc func, void *opaque, GDestroyNotify free);
void rv_unwatch(GSource **source);

#endif
