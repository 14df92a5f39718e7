/*
 * What the tools show of a VM, asked for in one go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "crowd.h"
#include "facts.h"
#include "rvmrpc_abi.h"

static guint left(gint64 end)
{
    gint64 us = end - g_get_monotonic_time();

    return us > 1000 ? us / 1000 : 1;
}

/* What waits must leave some time to what is asked after it. */
static guint share(gint64 end)
{
    return MAX(left(end) / 2, 1);
}

static void gather_kernel(Facts *f, RvmrpcConn *conn, gint64 end,
                          GCancellable *cancellable)
{
    f->mem = rvmrpc_get_meminfo(conn, FALSE, left(end), cancellable,
                                &f->error);
    if (f->mem) {
        f->load = rvmrpc_get_loadavg(conn, left(end), cancellable, &f->error);
    }
    if (f->load) {
        f->stat = rvmrpc_get_cpustat(conn, left(end), cancellable, &f->error);
    }
}

/*
 * A guest makes up as many records as it likes, and as long ones, and there may
 * be many such guests.
 */
#define LIST_BYTES  (1 << 20)
static const RvmrpcListing listings[FACTS_LISTS] = {
#define LIST(module, procedure, max) \
    { RVMRPC_MOD_##module, RVMRPC_##module##_##procedure, 0, 0, max, LIST_BYTES }
    [FACTS_LIST_PSI] = LIST(PRESSURE, PSI, 16),
    [FACTS_LIST_VMSTAT] = LIST(PRESSURE, VMSTAT, 16),
    [FACTS_LIST_DISKS] = LIST(PRESSURE, DISKS, 256),
    [FACTS_LIST_NET] = LIST(NET, LIST, 512),    /* addresses among them */
    [FACTS_LIST_BLOCKED] = LIST(TASKS, BLOCKED, FACTS_BLOCKED_MAX),
    [FACTS_LIST_FS] = LIST(FS, LIST, 256),
#undef LIST
};

static void gather_lists(Facts *f, FactsKind kinds, RvmrpcConn *conn,
                         gint64 end, GCancellable *cancellable)
{
    for (guint i = 0; i < FACTS_LISTS && g_get_monotonic_time() < end; i++) {
        if (kinds & FACTS_LIST(i)) {
            f->list[i] = rvmrpc_get_records(conn, &listings[i],
                                            i == FACTS_LISTS - 1 ? left(end) :
                                            share(end), cancellable, NULL);
        }
    }
}

/* The guest did not answer this, and may well answer something else. */
static gboolean is_refusal(const GError *error)
{
    return error->domain == RVMRPC_ERROR &&
           (error->code <= RVMRPC_ERROR_BUSY ||
            error->code == RVMRPC_ERROR_SYSTEM_ERROR ||
            error->code == RVMRPC_ERROR_MALFORMED);
}

static void gather_guest(Facts *f, FactsKind kinds, RvmrpcConn *conn,
                         gint64 end, GCancellable *cancellable)
{
    if (kinds & FACTS_PING) {
        g_autoptr(GBytes) null = NULL;

        null = rvmrpc_call(conn, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL,
                           left(end), &f->latency_ns, cancellable, &f->error);
        if (!null) {
            f->latency_ns = 0;
            return;
        }
    }
    if (kinds & FACTS_KERNEL) {
        gather_kernel(f, conn, end, cancellable);
    }
    if (f->error && !is_refusal(f->error)) {
        return;
    }
    if (kinds & FACTS_OS) {
        f->os = rvmrpc_get_osinfo(conn, share(end), cancellable, NULL);
    }
    if (kinds & FACTS_CLOCK) {
        f->has_clock = rvmrpc_get_clock(conn, &f->clock, share(end),
                                        cancellable, NULL);
    }
    gather_lists(f, kinds, conn, end, cancellable);
}

Facts *facts_gather(RvmrpcVm *vm, FactsKind kinds, RvmrpcConn **conn,
                    guint timeout_ms, GCancellable *cancellable)
{
    gint64 end = g_get_monotonic_time() + timeout_ms * (gint64)1000;
    Facts *f = g_new0(Facts, 1);

    f->vm = rvmrpc_vm_ref(vm);
    if (!*conn) {
        *conn = rvmrpc_connect(vm, timeout_ms, cancellable, &f->error);
    }
    if (*conn) {
        f->way = rvmrpc_conn_get_way(*conn);
        f->channel = rvmrpc_query(*conn, left(end), cancellable, &f->error);
    }
    if (f->channel && f->channel->state != RVMRPC_STATE_ABSENT &&
        f->channel->state != RVMRPC_STATE_DISCONNECTED &&
        f->channel->running) {
        gather_guest(f, kinds, *conn, end, cancellable);
    }
    if (f->error && *conn) {
        g_clear_pointer(conn, rvmrpc_conn_free);
    }
    f->time = g_get_monotonic_time();
    return f;
}

void facts_free(Facts *f)
{
    rvmrpc_vm_unref(f->vm);
    g_clear_error(&f->error);
    g_clear_pointer(&f->channel, rvmrpc_channel_free);
    g_clear_pointer(&f->mem, rvmrpc_meminfo_free);
    g_clear_pointer(&f->load, rvmrpc_loadavg_free);
    g_clear_pointer(&f->stat, rvmrpc_cpustat_free);
    g_clear_pointer(&f->os, rvmrpc_osinfo_free);
    for (guint i = 0; i < FACTS_LISTS; i++) {
        g_clear_pointer(&f->list[i], rvmrpc_records_free);
    }
    g_free(f);
}

/* ---- All ---- */

typedef struct Job {
    RvmrpcVm *vm;
    Facts *facts;
} Job;

typedef struct Pass {
    FactsKind kinds;
    guint timeout_ms;
    GCancellable *cancellable;
} Pass;

static void gather_job(void *data, void *user_data)
{
    Job *job = data;
    const Pass *pass = user_data;
    RvmrpcConn *conn = NULL;

    job->facts = facts_gather(job->vm, pass->kinds, &conn, pass->timeout_ms,
                              pass->cancellable);
    g_clear_pointer(&conn, rvmrpc_conn_free);
}

GPtrArray *facts_gather_all(GPtrArray *vms, FactsKind kinds, guint timeout_ms,
                            GCancellable *cancellable)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)facts_free);
    Pass pass = { kinds, timeout_ms, cancellable };
    g_autofree Job *jobs = g_new0(Job, vms->len);
    g_autofree gpointer *items = g_new0(gpointer, vms->len);

    for (guint i = 0; i < vms->len; i++) {
        jobs[i].vm = vms->pdata[i];
        items[i] = &jobs[i];
    }
    crowd_run(gather_job, items, vms->len, &pass);
    for (guint i = 0; i < vms->len; i++) {
        g_ptr_array_add(all, jobs[i].facts);
    }
    return all;
}

/* ---- What they say ---- */

const char *facts_state(const Facts *f)
{
    if (!f->channel) {
        return g_error_matches(f->error, RVMRPC_ERROR, RVMRPC_ERROR_PERMISSION)
               ? "denied" :
               g_error_matches(f->error, RVMRPC_ERROR, RVMRPC_ERROR_SILENT) ?
               "silent" : "down";
    }
    if (f->channel->state == RVMRPC_STATE_ABSENT) {
        return "absent";
    }
    if (!f->channel->running) {
        return "paused";
    }
    if (f->channel->state == RVMRPC_STATE_DISCONNECTED) {
        return "no-driver";
    }
    if (g_error_matches(f->error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT) ||
        g_error_matches(f->error, RVMRPC_ERROR, RVMRPC_ERROR_SILENT)) {
        return "silent";
    }
    return rvmrpc_state_name(f->channel->state);
}

gboolean facts_whole(const Facts *f, FactsList list)
{
    const RvmrpcRecords *records = f->list[list];

    return records && !rvmrpc_records_get_cut(records) &&
           !rvmrpc_records_is_partial(records) &&
           !rvmrpc_records_has_more(records);
}

const RvmrpcRecord *facts_record(const Facts *f, FactsList list, guint kind,
                                 const char *resource)
{
    const RvmrpcRecords *records = f->list[list];
    guint count = records ? rvmrpc_records_get_count(records) : 0;

    for (guint i = 0; i < count; i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        g_autofree char *name = NULL;

        if (rvmrpc_record_get_kind(r) != kind) {
            continue;
        }
        if (resource) {
            name = rvmrpc_record_get_string(r, RVMRPC_PSI_RESOURCE);
        }
        if (g_strcmp0(name, resource) == 0) {
            return r;
        }
    }
    return NULL;
}

gboolean facts_used(const Facts *f, guint64 *used)
{
    const RvmrpcMeminfo *mem = f->mem;
    guint64 unused;

    if (!mem || !rvmrpc_meminfo_has(mem, RVMRPC_MEM_TOTAL) ||
        !rvmrpc_meminfo_has(mem, RVMRPC_MEM_AVAILABLE)) {
        return FALSE;
    }
    /* Huge pages that wait for their user are 0 where there are none. */
    unused = mem->value[RVMRPC_MEM_AVAILABLE] +
             mem->value[RVMRPC_MEM_HUGE_FREE];
    *used = mem->value[RVMRPC_MEM_TOTAL] - MIN(mem->value[RVMRPC_MEM_TOTAL],
                                            unused);
    return TRUE;
}
