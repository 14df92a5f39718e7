/*
 * Work that is done by several threads at a time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "crowd.h"

#define THREADS_MAX 512

typedef struct Crowd {
    CrowdWork work;
    gpointer *items;
    gint count;
    gint next;          /* atomic: the first that nobody has taken */
    gpointer data;
} Crowd;

static gpointer work_on(gpointer opaque)
{
    Crowd *c = opaque;
    gint i;

    while ((i = g_atomic_int_add(&c->next, 1)) < c->count) {
        c->work(c->items[i], c->data);
    }
    return NULL;
}

void crowd_run(CrowdWork work, gpointer *items, guint count, gpointer data)
{
    Crowd c = { .work = work, .items = items, .count = count, .data = data };
    g_autoptr(GPtrArray) others = g_ptr_array_new();

    for (guint i = 1; i < MIN(count, THREADS_MAX); i++) {
        GThread *thread = g_thread_try_new("crowd", work_on, &c, NULL);

        if (!thread) {
            break;
        }
        g_ptr_array_add(others, thread);
    }
    work_on(&c);
    for (guint i = 0; i < others->len; i++) {
        g_thread_join(others->pdata[i]);
    }
}
