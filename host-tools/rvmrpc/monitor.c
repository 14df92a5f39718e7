/*
 * The rvmrpc command: VMs that are asked again and again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "monitor.h"

#define INTERVAL_S 2.0

gboolean monitor_sleep(GCancellable *cancellable, double seconds)
{
    GPollFD fd;

    if (g_cancellable_make_pollfd(cancellable, &fd)) {
        g_poll(&fd, 1, seconds * 1000);
        g_cancellable_release_fd(cancellable);
    }
    return !g_cancellable_is_cancelled(cancellable);
}

GThread *monitor_thread(const char *name, GThreadFunc func, gpointer data)
{
    GError *error = NULL;
    GThread *thread = try_thread(name, func, data, &error);

    if (!thread) {
        leave_screen();
        g_prefix_error(&error, "each VM needs threads of its own: ");
        exit(fail(error));
    }
    return thread;
}

/* ---- One VM ---- */

static void publish(Watched *w, Facts *facts)
{
    g_mutex_lock(&w->lock);
    g_clear_pointer(&w->before, facts_free);
    w->before = w->now;
    w->now = facts;
    w->rounds++;
    w->asked = 0;
    g_mutex_unlock(&w->lock);
}

static void *watch_thread(void *data)
{
    Watched *w = data;
    guint timeout = timeout_or(1000);
    RvmrpcConn *conn = NULL;

    do {
        g_mutex_lock(&w->lock);
        w->asked = g_get_monotonic_time();
        g_mutex_unlock(&w->lock);
        publish(w, facts_gather(w->vm,
                                FACTS_CHANNEL | FACTS_PING | FACTS_KERNEL,
                                &conn, timeout, w->cancellable));
    } while (monitor_sleep(w->cancellable, options.interval ?: INTERVAL_S));
    g_clear_pointer(&conn, rvmrpc_conn_free);
    return NULL;
}

static Watched *watched_new(RvmrpcVm *vm)
{
    Watched *w = g_new0(Watched, 1);

    w->vm = rvmrpc_vm_ref(vm);
    w->cancellable = g_cancellable_new();
    w->seen = TRUE;
    g_mutex_init(&w->lock);
    w->thread = monitor_thread("vm", watch_thread, w);
    return w;
}

static void watched_free(void *data)
{
    Watched *w = data;

    g_cancellable_cancel(w->cancellable);
    g_thread_join(w->thread);
    g_object_unref(w->cancellable);
    g_clear_pointer(&w->now, facts_free);
    g_clear_pointer(&w->before, facts_free);
    g_mutex_clear(&w->lock);
    rvmrpc_vm_unref(w->vm);
    g_free(w);
}

gboolean watched_rate(const Watched *w, double *rate)
{
    double seconds;

    if (!w->before || !w->before->channel || !w->now->channel ||
        w->now->channel->calls < w->before->channel->calls) {
        return FALSE;
    }
    seconds = (w->now->time - w->before->time) / 1e6;
    *rate = (w->now->channel->calls - w->before->channel->calls) /
            MAX(seconds, 0.001);
    return TRUE;
}

void json_watched(JsonBuilder *b, const Watched *w)
{
    const Facts *f = w->now;
    guint64 used;
    double value;

    json_vm(b, w->vm);
    if (!f) {
        return;
    }
    json_string(b, "state", facts_state(f));
    json_string(b, "error", f->error ? f->error->message : NULL);
    if (f->mem) {
        json_builder_set_member_name(b, "memory");
        json_builder_begin_object(b);
        json_mem(b, f->mem);
        if (facts_used(f, &used)) {
            json_u64(b, "used", used);
        }
        json_builder_end_object(b);
    }
    if (f->load) {
        json_double(b, "load1m", f->load->load[0]);
    }
    if (cpu_percent(w->before, f, &value)) {
        json_double(b, "cpu-percent", value);
    }
    if (watched_rate(w, &value)) {
        json_double(b, "calls-per-second", value);
    }
    if (f->latency_ns) {
        json_u64(b, "latency-ns", f->latency_ns);
    }
}

/* ---- All ---- */

static GPtrArray *find_vms(char **names, GError **error)
{
    GPtrArray *vms;

    if (!names || !*names) {
        return rvmrpc_list_vms();
    }
    vms = g_ptr_array_new_with_free_func((GDestroyNotify)rvmrpc_vm_unref);
    for (char **name = names; *name; name++) {
        RvmrpcVm *vm = rvmrpc_find_vm(*name, options.cancellable, error);

        if (!vm) {
            g_ptr_array_unref(vms);
            return NULL;
        }
        g_ptr_array_add(vms, vm);
    }
    return vms;
}

static gboolean same_vm(const RvmrpcVm *a, const RvmrpcVm *b)
{
    return rvmrpc_vm_get_pid(a) == rvmrpc_vm_get_pid(b) &&
           g_strcmp0(rvmrpc_vm_get_socket(a), rvmrpc_vm_get_socket(b)) == 0 &&
           strcmp(rvmrpc_vm_get_name(a), rvmrpc_vm_get_name(b)) == 0;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    const Watched *x = *(Watched *const *)a, *y = *(Watched *const *)b;

    return strcmp(rvmrpc_vm_get_name(x->vm), rvmrpc_vm_get_name(y->vm));
}

static void take_vm(Monitor *m, RvmrpcVm *vm)
{
    for (guint i = 0; i < m->all->len; i++) {
        Watched *w = m->all->pdata[i];

        if (!w->seen && same_vm(w->vm, vm)) {
            w->seen = TRUE;
            return;
        }
    }
    g_ptr_array_add(m->all, watched_new(vm));
}

static void take_vms(Monitor *m, GPtrArray *vms)
{
    for (guint i = 0; i < m->all->len; i++) {
        ((Watched *)m->all->pdata[i])->seen = FALSE;
    }
    for (guint i = 0; i < vms->len; i++) {
        take_vm(m, vms->pdata[i]);
    }
    for (guint i = m->all->len; i > 0; i--) {
        if (!((Watched *)m->all->pdata[i - 1])->seen) {
            g_ptr_array_remove_index(m->all, i - 1);
        }
    }
    g_ptr_array_sort(m->all, by_name);
}

static gboolean is_down(Watched *w)
{
    gboolean down;

    g_mutex_lock(&w->lock);
    down = w->now && !w->now->channel;
    g_mutex_unlock(&w->lock);
    return down;
}

/* The same VM by another process: it was started anew. */
static RvmrpcVm *find_successor(const GPtrArray *vms, const RvmrpcVm *old)
{
    const char *uuid = rvmrpc_vm_get_uuid(old);

    for (guint i = 0; i < vms->len; i++) {
        RvmrpcVm *vm = vms->pdata[i];

        if (strcmp(rvmrpc_vm_get_name(vm), rvmrpc_vm_get_name(old)) == 0 &&
            g_strcmp0(rvmrpc_vm_get_uuid(vm), uuid) == 0 &&
            rvmrpc_vm_get_pid(vm) != rvmrpc_vm_get_pid(old)) {
            return vm;
        }
    }
    return NULL;
}

/* VMs that were named stay, whatever becomes of them. */
static void refresh_named(Monitor *m)
{
    g_autoptr(GPtrArray) vms = NULL;

    for (guint i = 0; i < m->all->len; i++) {
        Watched *w = m->all->pdata[i];
        RvmrpcVm *vm;

        if (!is_down(w)) {
            continue;
        }
        if (!vms) {
            vms = rvmrpc_list_vms();
        }
        vm = find_successor(vms, w->vm);
        if (vm) {
            m->all->pdata[i] = watched_new(vm);
            watched_free(w);
        }
    }
}

void monitor_refresh(Monitor *m)
{
    g_autoptr(GPtrArray) vms = NULL;

    if (m->names && *m->names) {
        refresh_named(m);
    } else {
        vms = rvmrpc_list_vms();
        take_vms(m, vms);
    }
}

Monitor *monitor_new(char **names, GError **error)
{
    g_autoptr(GPtrArray) vms = find_vms(names, error);
    Monitor *m;

    if (!vms) {
        return NULL;
    }
    m = g_new0(Monitor, 1);
    m->names = names;
    m->all = g_ptr_array_new_with_free_func(watched_free);
    take_vms(m, vms);
    return m;
}

void monitor_free(Monitor *m)
{
    g_ptr_array_unref(m->all);
    g_free(m);
}
