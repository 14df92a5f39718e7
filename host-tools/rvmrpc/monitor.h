/*
 * The rvmrpc command: VMs that are asked again and again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MONITOR_H
#define MONITOR_H

#include "rvmrpc-cmd.h"

/* One VM and the thread that asks it: a VM that hangs holds up no other. */
typedef struct Watched {
    RvmrpcVm *vm;
    Facts *now, *before;        /* NULL: not asked yet; lock */
    guint rounds;               /* lock */
    gint64 asked;               /* since when an answer is awaited, or 0; lock */
    GMutex lock;
    GThread *thread;
    GCancellable *cancellable;  /* ends the thread */
    gboolean seen;              /* by the last discovery */
    guint printed;              /* rounds; of watch and top --json */
    guint lines;                /* of watch: rounds may pass between two */
} Watched;

typedef struct Monitor {
    GPtrArray *all;             /* of Watched, by name */
    char **names;               /* VMs to watch, NULL: all */
} Monitor;

/* NULL and *error: a name of @names is no VM. */
Monitor *monitor_new(char **names, GError **error);
void monitor_free(Monitor *monitor);

/* Begins with VMs that are new, ends with those that are gone. */
void monitor_refresh(Monitor *monitor);

/* A thread of its own, or the end of the program when this host allows none. */
GThread *monitor_thread(const char *name, GThreadFunc func, gpointer data);

/* Sleeps; FALSE when it was interrupted. */
gboolean monitor_sleep(GCancellable *cancellable, double seconds);

/* Calls per second between both; FALSE: not known.  Locked. */
gboolean watched_rate(const Watched *w, double *rate);

/* What is known of it, members of an object.  Locked. */
void json_watched(JsonBuilder *b, const Watched *w);

/* The same refreshes as the screen of top, until it has been enough. */
void top_json(Monitor *m);

#endif
