/*
 * Work that is done by several threads at a time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CROWD_H
#define CROWD_H

#include <glib.h>

typedef void (*CrowdWork)(gpointer item, gpointer data);

/**
 * crowd_run:
 * @items: (array length=count): not NULL each
 *
 * Returns when all is done, as much as may be at the same time.  Where this host lets a process have no more
 * threads (ulimit -u, pids.max) those that there are do it, the caller's alone
 * if need be: GLib's pools would wait for ever then.
 */
void crowd_run(CrowdWork work, gpointer *items, guint count, gpointer data);

#endif
