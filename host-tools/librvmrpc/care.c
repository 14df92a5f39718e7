/*
 * librvmrpc: what is done to a guest: its clock, its memory, its disks, its end
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "private.h"

/* A call whose answer is @size bytes, or begins with them. */
static gboolean call_for(RvmrpcConn *conn, guint32 module, guint32 procedure,
                         const void *req, gsize req_size, void *res,
                         gsize size, guint timeout_ms,
                         GCancellable *cancellable, GError **error)
{
    g_autoptr(GBytes) arg = g_bytes_new(req, req_size);
    g_autoptr(GBytes) answer = NULL;

    answer = rvmrpc_call(conn, module, procedure, arg, timeout_ms, NULL,
                         cancellable, error);
    if (!answer) {
        return FALSE;
    }
    if (g_bytes_get_size(answer) < size) {
        g_propagate_error(error, malformed_error(conn->vm));
        return FALSE;
    }
    if (size) {
        memcpy(res, g_bytes_get_data(answer, NULL), size);
    }
    return TRUE;
}

/* ---- Clock ---- */

/* The host's, ns since 1970. */
static gint64 now_ns(void)
{
    return g_get_real_time() * 1000;
}

gboolean rvmrpc_get_clock(RvmrpcConn *conn, RvmrpcClock *clock,
                          guint timeout_ms, GCancellable *cancellable,
                          GError **error)
{
    const RvmrpcListing what = {
        .module = RVMRPC_MOD_CLOCK,
        .procedure = RVMRPC_CLOCK_READ,
        .max = 1,
    };
    g_autoptr(RvmrpcRecords) records = NULL;
    const RvmrpcRecord *record;
    gint64 before = now_ns(), after;

    records = rvmrpc_get_records(conn, &what, timeout_ms, cancellable, error);
    after = now_ns();
    if (!records) {
        return FALSE;
    }
    record = rvmrpc_records_get_count(records) ?
             rvmrpc_records_get(records, 0) : NULL;
    *clock = (RvmrpcClock) { 0 };
    if (!record || rvmrpc_record_get_kind(record) != RVMRPC_RECORD_CLOCK ||
        !rvmrpc_record_get_u64(record, RVMRPC_CLOCK_REALTIME,
                               &clock->realtime_ns) ||
        !rvmrpc_record_get_u64(record, RVMRPC_CLOCK_BOOTTIME,
                               &clock->boottime_ns) ||
        clock->realtime_ns > G_MAXINT64) {
        g_propagate_error(error, malformed_error(conn->vm));
        return FALSE;
    }
    clock->has_monotonic = rvmrpc_record_get_u64(record,
                                                 RVMRPC_CLOCK_MONOTONIC,
                                                 &clock->monotonic_ns);
    clock->host_ns = before + (after - before) / 2;
    clock->skew_ns = (gint64)clock->realtime_ns - clock->host_ns;
    clock->error_ns = MAX(after - before, 0) / 2;
    return TRUE;
}

gboolean rvmrpc_set_clock(RvmrpcConn *conn, const RvmrpcClock *clock,
                          guint timeout_ms, guint64 *before_ns,
                          guint64 *after_ns, GCancellable *cancellable,
                          GError **error)
{
    const struct rvmrpc_clock_req req = {
        .realtime_ns = clock->host_ns,
        .boottime_ns = clock->boottime_ns,
    };
    struct rvmrpc_clock_res res;

    if (!call_for(conn, RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &req, sizeof(req),
                  &res, sizeof(res), timeout_ms, cancellable, error)) {
        return FALSE;
    }
    *before_ns = res.before_ns;
    *after_ns = res.after_ns;
    return TRUE;
}

/* ---- Memory ---- */

gboolean rvmrpc_drop_caches(RvmrpcConn *conn, RvmrpcDropMode mode,
                            gboolean sync, guint timeout_ms, guint64 *freed,
                            GCancellable *cancellable, GError **error)
{
    const struct rvmrpc_drop_req req = {
        .mode = mode,
        .flags = sync ? RVMRPC_DROP_SYNC : 0,
    };
    struct rvmrpc_drop_res res;

    if (!call_for(conn, RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &req,
                  sizeof(req), &res, sizeof(res), timeout_ms, cancellable,
                  error)) {
        return FALSE;
    }
    if (freed) {
        *freed = res.freed;
    }
    return TRUE;
}

gboolean rvmrpc_shrink(RvmrpcConn *conn, guint64 bytes, guint timeout_ms,
                       RvmrpcShrunk *shrunk, GCancellable *cancellable,
                       GError **error)
{
    const struct rvmrpc_shrink_req req = { .bytes = bytes };
    struct rvmrpc_shrink_res res;

    if (!call_for(conn, RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_SHRINK, &req,
                  sizeof(req), &res, sizeof(res), timeout_ms, cancellable,
                  error)) {
        return FALSE;
    }
    *shrunk = (RvmrpcShrunk) { res.freed, res.reclaimed, res.end };
    return TRUE;
}

/* ---- File systems ---- */

static gboolean call_freeze(RvmrpcConn *conn, guint32 procedure,
                            const struct rvmrpc_freeze_req *req,
                            guint timeout_ms, RvmrpcFrozen *frozen,
                            GCancellable *cancellable, GError **error)
{
    struct rvmrpc_freeze_res res;

    if (!call_for(conn, RVMRPC_MOD_FREEZE, procedure, req,
                  req ? sizeof(*req) : 0, &res, sizeof(res), timeout_ms,
                  cancellable, error)) {
        return FALSE;
    }
    *frozen = (RvmrpcFrozen) {
        res.state, res.count, res.skipped, res.lost, res.left_ms
    };
    return TRUE;
}

gboolean rvmrpc_freeze(RvmrpcConn *conn, guint thaw_ms, guint timeout_ms,
                       RvmrpcFrozen *frozen, GCancellable *cancellable,
                       GError **error)
{
    const struct rvmrpc_freeze_req req = { .timeout_ms = thaw_ms };

    return call_freeze(conn, RVMRPC_FREEZE_FREEZE, &req, timeout_ms, frozen,
                       cancellable, error);
}

gboolean rvmrpc_thaw(RvmrpcConn *conn, guint timeout_ms, RvmrpcFrozen *frozen,
                     GCancellable *cancellable, GError **error)
{
    return call_freeze(conn, RVMRPC_FREEZE_THAW, NULL, timeout_ms, frozen,
                       cancellable, error);
}

gboolean rvmrpc_get_freeze(RvmrpcConn *conn, guint timeout_ms,
                           RvmrpcFrozen *frozen, GCancellable *cancellable,
                           GError **error)
{
    return call_freeze(conn, RVMRPC_FREEZE_STATUS, NULL, timeout_ms, frozen,
                       cancellable, error);
}

/* ---- Control ---- */

gboolean rvmrpc_sysrq(RvmrpcConn *conn, char key, guint timeout_ms,
                      guint32 *enabled, GCancellable *cancellable,
                      GError **error)
{
    const struct rvmrpc_sysrq_req req = { .key = (guchar)key };
    struct rvmrpc_sysrq_res res;

    if (!call_for(conn, RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYSRQ, &req,
                  sizeof(req), &res, sizeof(res), timeout_ms, cancellable,
                  error)) {
        return FALSE;
    }
    *enabled = res.enabled;
    return TRUE;
}

static gboolean call_power(RvmrpcConn *conn, guint32 procedure, gboolean force,
                           guint timeout_ms, GCancellable *cancellable,
                           GError **error)
{
    const struct rvmrpc_power_req req = {
        .flags = force ? RVMRPC_POWER_FORCE : 0,
    };

    return call_for(conn, RVMRPC_MOD_CONTROL, procedure, &req, sizeof(req),
                    NULL, 0, timeout_ms, cancellable, error);
}

gboolean rvmrpc_poweroff(RvmrpcConn *conn, gboolean force, guint timeout_ms,
                         GCancellable *cancellable, GError **error)
{
    return call_power(conn, RVMRPC_CONTROL_POWEROFF, force, timeout_ms,
                      cancellable, error);
}

gboolean rvmrpc_reboot(RvmrpcConn *conn, gboolean force, guint timeout_ms,
                       GCancellable *cancellable, GError **error)
{
    return call_power(conn, RVMRPC_CONTROL_REBOOT, force, timeout_ms,
                      cancellable, error);
}
