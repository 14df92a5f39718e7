/*
 * The rvmrpc command: watch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include "monitor.h"
#include "../common/stdio.h"

#define TICK_S          0.1
/* How often VMs are looked for. */
#define REFRESH_S       2.0
/* Until a socket that was lost is tried again. */
#define AGAIN_S         2.0

/* ---- Events: a thread per VM, as far as its way has them ---- */

typedef struct Follower {
    RvmrpcVm *vm;
    GCancellable *cancellable;
    GAsyncQueue *lines;
    GThread *thread;
} Follower;

/* Until there will be no more. */
static void take_events(Follower *f, RvmrpcConn *conn, GError **error)
{
    GError *err = NULL;

    while (!err) {
        char *event = rvmrpc_next_event(conn, 60000, f->cancellable, &err);

        if (event) {
            g_async_queue_push(f->lines, event);
        } else if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
            g_clear_error(&err);
        }
    }
    g_propagate_error(error, err);
}

/* By a socket again when it was away; a monitor serves one client at a time. */
static void *follow(void *data)
{
    Follower *f = data;
    gboolean unsupported;

    do {
        g_autoptr(GError) error = NULL;
        g_autoptr(RvmrpcConn) conn = rvmrpc_connect(f->vm, timeout_or(1000),
                                                    f->cancellable, NULL);

        if (conn) {
            take_events(f, conn, &error);
        }
        unsupported = g_error_matches(error, RVMRPC_ERROR,
                                      RVMRPC_ERROR_UNSUPPORTED);
    } while (!unsupported && rvmrpc_vm_get_socket(f->vm) &&
             monitor_sleep(f->cancellable, AGAIN_S));
    return NULL;
}

static Follower *follower_new(RvmrpcVm *vm)
{
    Follower *f = g_new0(Follower, 1);

    f->vm = rvmrpc_vm_ref(vm);
    f->cancellable = g_cancellable_new();
    f->lines = g_async_queue_new_full(g_free);
    f->thread = monitor_thread("events", follow, f);
    return f;
}

static void follower_free(void *data)
{
    Follower *f = data;

    g_cancellable_cancel(f->cancellable);
    g_thread_join(f->thread);
    g_object_unref(f->cancellable);
    g_async_queue_unref(f->lines);
    rvmrpc_vm_unref(f->vm);
    g_free(f);
}

/* ---- Lines ---- */

static void print_event(const RvmrpcVm *vm, const char *event)
{
    g_autofree char *text = rvmrpc_escape(event, FALSE), *now = clock_text();
    JsonBuilder *b;

    if (!options.json) {
        printf("%s %s event %s\n", now, rvmrpc_vm_get_name(vm), text);
        return;
    }
    b = json_builder_new();
    json_builder_begin_object(b);
    json_string(b, "time", now);
    json_string(b, "name", rvmrpc_vm_get_name(vm));
    json_string(b, "event", event);
    json_builder_end_object(b);
    print_json(b, FALSE);
}

static void print_json_line(const Watched *w, const char *now)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    json_string(b, "time", now);
    json_watched(b, w);
    json_builder_end_object(b);
    print_json(b, FALSE);
}

static void print_text_line(const Watched *w, const char *now)
{
    const Facts *f = w->now;
    const char *state = facts_state(f);
    guint64 used;
    double cpu;

    printf("%s %s %s%s%s", now, rvmrpc_vm_get_name(w->vm), color_of(state),
           state, color_off());
    if (facts_used(f, &used)) {
        g_autofree char *a = human_size(used);
        g_autofree char *b = human_size(f->mem->value[RVMRPC_MEM_TOTAL]);

        printf(" memory %s of %s", a, b);
    }
    if (f->load) {
        printf(" load %.2f", f->load->load[0]);
    }
    if (cpu_percent(w->before, f, &cpu)) {
        printf(" cpu %.1f%%", cpu);
    }
    if (f->latency_ns) {
        printf(" latency %.0f us", f->latency_ns / 1e3);
    }
    if (f->error) {
        g_autofree char *text = rvmrpc_escape(f->error->message, FALSE);

        printf(" (%s)", text);
    }
    printf("\n");
}

/* Prints what is new of a VM. */
static void show(Watched *w)
{
    g_autofree char *now = clock_text();

    g_mutex_lock(&w->lock);
    if (w->rounds > w->printed) {
        w->printed = w->rounds;
        w->lines++;
        if (options.json) {
            print_json_line(w, now);
        } else {
            print_text_line(w, now);
        }
    }
    g_mutex_unlock(&w->lock);
}

static void show_events(GHashTable *followers, Watched *w)
{
    Follower *f = g_hash_table_lookup(followers, w->vm);
    char *event;

    if (!f) {
        f = follower_new(w->vm);
        /* It has a reference: no other VM comes to be at that address. */
        g_hash_table_insert(followers, w->vm, f);
    }
    while ((event = g_async_queue_try_pop(f->lines))) {
        print_event(w->vm, event);
        g_free(event);
    }
}

static gboolean is_gone(void *key, void *value, void *data)
{
    const Monitor *m = data;

    (void)value;
    for (guint i = 0; i < m->all->len; i++) {
        if (((const Watched *)m->all->pdata[i])->vm == key) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean enough(const Monitor *m)
{
    gboolean all = options.count > 0;

    for (guint i = 0; all && i < m->all->len; i++) {
        all = ((Watched *)m->all->pdata[i])->lines >= (guint)options.count;
    }
    return all;
}

int cmd_watch(int argc, char **argv)
{
    /* Each interval has its line. */
    const double tick = MIN(TICK_S, options.interval ?: TICK_S);
    const guint refresh_ticks = REFRESH_S / tick;
    g_autoptr(GHashTable) followers = NULL;
    GError *error = NULL;
    Monitor *m;
    guint ticks = 0;

    (void)argc;
    m = monitor_new(argv, &error);
    if (!m) {
        return fail(error);
    }
    stdio_may_stop();
    followers = g_hash_table_new_full(NULL, NULL, NULL, follower_free);
    do {
        if (++ticks % refresh_ticks == 0) {
            monitor_refresh(m);
            g_hash_table_foreach_remove(followers, is_gone, m);
        }
        for (guint i = 0; i < m->all->len; i++) {
            show_events(followers, m->all->pdata[i]);
            show(m->all->pdata[i]);
        }
    } while (stdio_flush() && !enough(m) &&
             monitor_sleep(options.cancellable, tick));
    g_hash_table_remove_all(followers);
    monitor_free(m);
    return EXIT_OK;
}
