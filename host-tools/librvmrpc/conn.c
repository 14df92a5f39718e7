/*
 * librvmrpc: connections and calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "private.h"

/* The host ends a call that much before we stop to wait for it. */
#define MARGIN_MS 100

static const Way *const ways[] = {
    &way_socket, &way_kernel, &way_qmp, &way_libvirt,
};

/* ---- Turns of threads that share a connection ---- */

/* An eventfd, since a mutex can be waited for neither in time nor cancelled. */
static gboolean take_turn(RvmrpcConn *conn, const Until *until, GError **error)
{
    g_autoptr(GError) err = NULL;
    guint64 one;

    while (read(conn->turn, &one, sizeof(one)) < 0) {
        if (!until_ready(until, conn->turn, POLLIN, &err)) {
            break;
        }
    }
    if (!err) {
        return TRUE;
    }
    if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_BUSY,
                    "%s: another call has this connection; connect once more",
                    conn->vm->label);
    } else {
        g_propagate_error(error, g_steal_pointer(&err));
    }
    return FALSE;
}

static void give_turn(RvmrpcConn *conn)
{
    const guint64 one = 1;

    while (write(conn->turn, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

/* Unless it is broken. */
static gboolean begin(RvmrpcConn *conn, const Until *until, GError **error)
{
    if (!take_turn(conn, until, error)) {
        return FALSE;
    }
    if (conn->broken) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                    "%s: the connection is broken; connect again",
                    conn->vm->label);
        give_turn(conn);
        return FALSE;
    }
    return TRUE;
}

/* ---- Connecting ---- */

static RvmrpcConn *conn_open(RvmrpcVm *vm, const Way *way, const Until *until,
                             GError **error)
{
    RvmrpcConn *conn = g_new0(RvmrpcConn, 1);

    conn->vm = rvmrpc_vm_ref(vm);
    conn->way = way;
    conn->fd = -1;
    conn->in = g_byte_array_new();
    conn->turn = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    if (conn->turn < 0) {
        g_set_error_literal(error, G_IO_ERROR, g_io_error_from_errno(errno),
                            g_strerror(errno));
    }
    if (conn->turn < 0 || !way->open(conn, until, error)) {
        rvmrpc_conn_free(conn);
        return NULL;
    }
    return conn;
}

void rvmrpc_conn_free(RvmrpcConn *conn)
{
    conn->way->close(conn);
    g_queue_clear_full(&conn->events, g_free);
    g_byte_array_unref(conn->in);
    if (conn->turn >= 0) {
        close(conn->turn);
    }
    rvmrpc_vm_unref(conn->vm);
    g_free(conn);
}

const char *rvmrpc_conn_get_way(const RvmrpcConn *conn)
{
    return conn->way->name;
}

/* What went wrong with one way, in our codes and with the VM's name. */
static GError *way_error(const RvmrpcVm *vm, const Way *way, GError *err)
{
    const char *path = way == &way_socket ? vm->socket :
                       way == &way_qmp ? vm->qmp : way->name;

    if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        return g_error_copy(err);
    }
    if (err->domain == RVMRPC_ERROR) {
        return g_error_new(RVMRPC_ERROR, err->code, "%s: %s", vm->label,
                           err->message);
    }
    if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED)) {
        return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_PERMISSION,
                           "%s: permission denied on %s; become a member of "
                           "its group, or root", vm->label, path);
    }
    if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_SILENT,
                           "%s: %s does not answer; is its QEMU stuck?",
                           vm->label, path);
    }
    return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                       "%s: cannot connect to %s: %s; does the VM still run?",
                       vm->label, path, err->message);
}

/* A refused permission tells more than a way that is not there. */
static void keep_error(GError **kept, GError *err)
{
    if (!*kept || err->code == RVMRPC_ERROR_PERMISSION) {
        g_clear_error(kept);
        *kept = err;
    } else {
        g_error_free(err);
    }
}

RvmrpcConn *rvmrpc_connect(RvmrpcVm *vm, guint timeout_ms,
                           GCancellable *cancellable, GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    GError *first = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autoptr(GError) err = NULL;
        RvmrpcConn *conn;

        if (!ways[i]->possible(vm)) {
            continue;
        }
        conn = conn_open(vm, ways[i], &until, &err);
        if (conn) {
            g_clear_error(&first);
            return conn;
        }
        keep_error(&first, way_error(vm, ways[i], err));
        if (g_cancellable_is_cancelled(cancellable) || !until_left(&until)) {
            break;
        }
    }
    if (!first) {
        first = g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                            "%s: no way leads to it; give its device a "
                            "socket: -device rvmrpc,socket=PATH", vm->label);
    }
    g_propagate_error(error, first);
    return NULL;
}

/* ---- Calls ---- */

/* I/O errors mean that the VM's host side is gone, or does not answer. */
static void translate(const RvmrpcConn *conn, GError *err, GError **error)
{
    g_propagate_error(error, way_error(conn->vm, conn->way, err));
    g_error_free(err);
}

GBytes *call_target(RvmrpcConn *conn, const Target *target, GBytes *arg,
                    guint timeout_ms, guint64 *elapsed_ns,
                    GCancellable *cancellable, GError **error)
{
    guint total_ms = CLAMP(timeout_ms, 1, RVMRPC_TIMEOUT_MS_MAX);
    guint call_ms = total_ms - MIN(MARGIN_MS, total_ms / 5);
    Until until = until_ms(total_ms, cancellable);
    GBytes *answer = NULL;
    GError *err = NULL;
    guint64 elapsed = 0;
    guint32 status;
    gboolean ok;

    if (!begin(conn, &until, error)) {
        return NULL;
    }
    /* Of what the wait for its turn has left. */
    ok = conn->way->call(conn, target, arg,
                         CLAMP(until_left(&until), 1, call_ms), &until,
                         &status, &answer, &elapsed, &err);
    give_turn(conn);
    if (!ok) {
        translate(conn, err, error);
        return NULL;
    }
    if (elapsed_ns) {
        *elapsed_ns = elapsed;
    }
    if (status != RVMRPC_STATUS_OK) {
        g_clear_pointer(&answer, g_bytes_unref);
        g_propagate_error(error, status_error(conn->vm, status));
    }
    return answer;
}

GBytes *rvmrpc_call(RvmrpcConn *conn, guint32 module, guint32 procedure,
                    GBytes *arg, guint timeout_ms, guint64 *elapsed_ns,
                    GCancellable *cancellable, GError **error)
{
    const Target target = { .module = module, .procedure = procedure };

    return call_target(conn, &target, arg, timeout_ms, elapsed_ns, cancellable,
                       error);
}

gboolean call_is_stale(guint32 generation, const GError *err)
{
    return generation && g_error_matches(err, RVMRPC_ERROR,
                                         RVMRPC_ERROR_VERSION_MISMATCH);
}

/* ---- By name ---- */

/* Decimal, or hexadecimal after 0x; else it is a name. */
static const char *parse_number(const char *text, guint32 *number)
{
    guint64 value;
    char *end;

    if (!g_ascii_isdigit(text[0])) {
        return text;
    }
    value = g_ascii_strtoull(text, &end, g_ascii_strncasecmp(text, "0x", 2) ?
                             10 : 16);
    if (*end != '\0' || value > G_MAXUINT32) {
        return text;
    }
    *number = value;
    return NULL;
}

/* OK, MODULE_UNAVAILABLE, PROCEDURE_UNAVAILABLE. */
static guint32 find_numbers(const GPtrArray *modules, Target *target)
{
    const char *name = target->names[0], *procedure = target->names[1];
    const RvmrpcModule *m = NULL;

    for (guint i = 0; i < modules->len && !m; i++) {
        const RvmrpcModule *at = modules->pdata[i];

        if (name ? strcmp(at->name, name) == 0 : at->number == target->module) {
            m = at;
        }
    }
    if (!m) {
        return RVMRPC_STATUS_MODULE_UNAVAILABLE;
    }
    target->module = m->number;
    target->list = m->generation;
    for (guint i = 0; procedure && i < m->procedures->len; i++) {
        const RvmrpcProcedure *p = m->procedures->pdata[i];

        if (strcmp(p->name, procedure) == 0) {
            target->procedure = p->number;
            return RVMRPC_STATUS_OK;
        }
    }
    return procedure ? RVMRPC_STATUS_PROCEDURE_UNAVAILABLE : RVMRPC_STATUS_OK;
}

/* By what the guest's list says now. */
static gboolean resolve(RvmrpcConn *conn, Target *target, const Until *until,
                        GError **error)
{
    g_autoptr(GPtrArray) modules = NULL;
    guint32 status;

    modules = rvmrpc_list_modules(conn, MAX(until_left(until), 1),
                                  until->cancellable, error);
    if (!modules) {
        return FALSE;
    }
    status = find_numbers(modules, target);
    if (status != RVMRPC_STATUS_OK) {
        g_propagate_error(error, status_error(conn->vm, status));
        return FALSE;
    }
    return TRUE;
}

/*
 * After VERSION_MISMATCH, *err.  If the list is the same it was the procedure
 * that said so, and it is not run twice.
 */
static GBytes *call_anew(RvmrpcConn *conn, Target *target, GBytes *arg,
                         const Until *until, guint64 *elapsed_ns, GError **err)
{
    const guint32 before = target->list;
    GError *failed = NULL;

    if (resolve(conn, target, until, &failed) && target->list == before) {
        return NULL;
    }
    g_clear_error(err);
    if (failed) {
        g_propagate_error(err, failed);
        return NULL;
    }
    return call_target(conn, target, arg, MAX(until_left(until), 1),
                       elapsed_ns, until->cancellable, err);
}

GBytes *rvmrpc_call_by_name(RvmrpcConn *conn, const char *module,
                            const char *procedure, GBytes *arg,
                            guint timeout_ms, guint64 *elapsed_ns,
                            GCancellable *cancellable, GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    Target target = { .list = 0 };
    GError *err = NULL;
    GBytes *answer;

    target.names[0] = parse_number(module, &target.module);
    target.names[1] = parse_number(procedure, &target.procedure);
    if ((target.names[0] || target.names[1]) && !conn->way->resolves &&
        !resolve(conn, &target, &until, error)) {
        return NULL;
    }
    answer = call_target(conn, &target, arg, MAX(until_left(&until), 1),
                         elapsed_ns, cancellable, &err);
    if (call_is_stale(target.list, err)) {
        answer = call_anew(conn, &target, arg, &until, elapsed_ns, &err);
    }
    if (err) {
        g_propagate_error(error, err);
    }
    return answer;
}

/* ---- State and events ---- */

RvmrpcChannel *rvmrpc_query(RvmrpcConn *conn, guint timeout_ms,
                            GCancellable *cancellable, GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    RvmrpcChannel *channel;
    GError *err = NULL;

    if (!begin(conn, &until, error)) {
        return NULL;
    }
    channel = conn->way->query(conn, &until, &err);
    give_turn(conn);
    if (!channel) {
        translate(conn, err, error);
    }
    return channel;
}

char *rvmrpc_next_event(RvmrpcConn *conn, guint timeout_ms,
                        GCancellable *cancellable, GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    GError *err = NULL;
    char *event;

    if (!conn->way->next_event) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_UNSUPPORTED,
                    "%s: no events by %s; give its device a socket",
                    conn->vm->label, conn->way->name);
        return NULL;
    }
    if (!begin(conn, &until, error)) {
        return NULL;
    }
    event = conn->way->next_event(conn, &until, &err);
    give_turn(conn);
    if (!event) {
        if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
            g_propagate_error(error, err);
        } else {
            translate(conn, err, error);
        }
    }
    return event;
}
