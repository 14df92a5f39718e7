/*
 * rvmrpc-exporter: who is connected, and for how long
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include <glib.h>
#include <microhttpd.h>

/* MHD's MHD_OPTION_NOTIFY_CONNECTION. */
void connections_notify(void *data, struct MHD_Connection *connection,
                        void **context,
                        enum MHD_ConnectionNotificationCode code);

/* Before one more: when there are many, the oldest have to go. */
void connections_make_room(void);

/* While it is answered it may stay: that takes no longer than we let it. */
void connections_answering(struct MHD_Connection *connection, gboolean now);

/* Ends those that took longer than @ms for request and answer together. */
void connections_sweep(guint ms);

#endif
