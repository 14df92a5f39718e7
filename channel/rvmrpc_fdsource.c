/*
 * Reverse VMRPC: a file descriptor in a GMainContext
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "rvmrpc_fdsource.h"

typedef struct FdSource {
    GSource source;
    gpointer tag;
    GIOCondition events;
    RvmrpcFdReady *ready;
    void *opaque;
} FdSource;

static gboolean dispatch(GSource *source, GSourceFunc unused, void *unused2)
{
    FdSource *s = (FdSource *)source;

    (void)unused;
    (void)unused2;
    if (g_source_get_ready_time(source) >= 0) {
        g_source_set_ready_time(source, -1);
    }
    s->ready(g_source_query_unix_fd(source, s->tag), s->opaque);
    return G_SOURCE_CONTINUE;
}

GSource *rvmrpc_fd_source_new(int fd, GIOCondition events,
                              GMainContext *context, RvmrpcFdReady *ready,
                              void *opaque)
{
    static GSourceFuncs funcs = { .dispatch = dispatch };
    GSource *source = g_source_new(&funcs, sizeof(FdSource));
    FdSource *s = (FdSource *)source;

    s->events = events;
    s->ready = ready;
    s->opaque = opaque;
    s->tag = g_source_add_unix_fd(source, fd, events);
    g_source_attach(source, context);
    return source;
}

void rvmrpc_fd_source_set_events(GSource *source, GIOCondition events)
{
    FdSource *s = (FdSource *)source;

    if (s->events != events) {
        s->events = events;
        g_source_modify_unix_fd(source, s->tag, events);
    }
}

void rvmrpc_fd_source_free(GSource *source)
{
    g_source_destroy(source);
    g_source_unref(source);
}
