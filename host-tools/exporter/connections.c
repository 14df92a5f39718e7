/*
 * rvmrpc-exporter: who is connected, and for how long
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * libmicrohttpd's own timeout begins anew with every byte, and at its limit it
 * hears nobody.  A connection has one request, and one time for all of it; the
 * oldest gives way when there are many.
 */
#include <sys/socket.h>
#include "connections.h"

/* So many stay; who is ended takes a while to go.  Never more than MOST. */
#define MANY        64
#define MOST        512
#define PAUSE_US    100000

typedef struct Connection {
    int fd;
    gint64 since;               /* us, monotonic */
    gboolean answering;         /* lock */
} Connection;

static GMutex lock;
static GCond left;              /* one has gone */
static GQueue all;              /* of Connection, the oldest first; lock */

/* Its thread sees that and ends.  Locked, so that the descriptor is its own. */
static void end(Connection *c)
{
    shutdown(c->fd, SHUT_RDWR);
}

static void end_oldest(void)
{
    for (GList *l = all.head; l; l = l->next) {
        Connection *c = l->data;

        if (!c->answering) {
            /* One may take a while to end: the next one is another's turn. */
            g_queue_unlink(&all, l);
            g_queue_push_tail_link(&all, l);
            end(c);
            return;
        }
    }
}

static Connection *begin(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    Connection *c = g_new0(Connection, 1);

    c->fd = info->connect_fd;
    c->since = g_get_monotonic_time();
    return c;
}

void connections_notify(void *data, struct MHD_Connection *connection,
                        void **context,
                        enum MHD_ConnectionNotificationCode code)
{
    (void)data;
    g_mutex_lock(&lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = begin(connection);
        g_queue_push_tail(&all, *context);
    } else {
        g_queue_remove(&all, *context);
        g_clear_pointer(context, g_free);
        g_cond_signal(&left);
    }
    g_mutex_unlock(&lock);
}

void connections_make_room(void)
{
    g_mutex_lock(&lock);
    if (all.length >= MANY) {
        end_oldest();
    }
    while (all.length >= MOST) {
        /* Nobody else does meanwhile: the sweep is this thread's, too. */
        end_oldest();
        g_cond_wait_until(&left, &lock, g_get_monotonic_time() + PAUSE_US);
    }
    g_mutex_unlock(&lock);
}

void connections_answering(struct MHD_Connection *connection, gboolean now)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    g_mutex_lock(&lock);
    ((Connection *)info->socket_context)->answering = now;
    g_mutex_unlock(&lock);
}

void connections_sweep(guint ms)
{
    gint64 least = g_get_monotonic_time() - ms * (gint64)1000;

    g_mutex_lock(&lock);
    for (GList *l = all.head; l; l = l->next) {
        Connection *c = l->data;

        if (c->since < least && !c->answering) {
            end(c);
        }
    }
    g_mutex_unlock(&lock);
}
