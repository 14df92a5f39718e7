/*
 * The rvmrpc command: top --json, a line for each refresh
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include "monitor.h"
#include "../common/stdio.h"

#define INTERVAL_S      2.0
#define TICK_S          0.1
/* How long a line waits for the answers of VMs that are late. */
#define GRACE_S         0.5

static gboolean is_new(Watched *w)
{
    gboolean new;

    g_mutex_lock(&w->lock);
    new = w->rounds > w->printed;
    g_mutex_unlock(&w->lock);
    return new;
}

/* @passed: since the last line, or the start. */
static gboolean is_due(const Monitor *m, double passed, double interval)
{
    if (!m->all->len || passed >= interval + GRACE_S) {
        return passed >= interval;
    }
    for (guint i = 0; i < m->all->len; i++) {
        if (!is_new(m->all->pdata[i])) {
            return FALSE;
        }
    }
    return TRUE;
}

static void add_vm(JsonBuilder *b, Watched *w)
{
    json_builder_begin_object(b);
    g_mutex_lock(&w->lock);
    json_watched(b, w);
    json_bool(b, "late", w->rounds <= w->printed);
    w->printed = w->rounds;
    g_mutex_unlock(&w->lock);
    json_builder_end_object(b);
}

static void print_line(const Monitor *m)
{
    g_autofree char *now = clock_text();
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    json_string(b, "time", now);
    json_builder_set_member_name(b, "vms");
    json_builder_begin_array(b);
    for (guint i = 0; i < m->all->len; i++) {
        add_vm(b, m->all->pdata[i]);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    print_json(b, FALSE);
}

void top_json(Monitor *m)
{
    const double interval = options.interval ?: INTERVAL_S;
    gint64 last = g_get_monotonic_time(), found = last;
    int lines = 0;

    stdio_may_stop();
    do {
        gint64 now = g_get_monotonic_time();

        if (now - found >= INTERVAL_S * G_USEC_PER_SEC) {
            monitor_refresh(m);
            found = now;
        }
        if (is_due(m, (now - last) / (double)G_USEC_PER_SEC, interval)) {
            print_line(m);
            last = now;
            lines++;
        }
    } while (stdio_flush() && (!options.count || lines < options.count) &&
             monitor_sleep(options.cancellable, MIN(TICK_S, interval)));
}
