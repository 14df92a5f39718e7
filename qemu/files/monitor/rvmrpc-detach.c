/*
 * Reverse VMRPC: commands that wait for a guest run beside QMP's dispatcher
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One dispatcher runs the commands of all QMP monitors one after another.  A
 * guest-* command would hold up every other monitor while it waits, so it gets
 * a coroutine of its own, and only its own monitor's next request waits for it.
 *
 * The coroutines stay in iohandler_ctx: these commands start no nested event
 * loop, and moving to qemu_aio_context and back, as qmp_dispatch() does, would
 * cost two turns of the main loop.
 */
#include "qemu/osdep.h"
#include "monitor-internal.h"
#include "block/aio.h"
#include "hw/rvmrpc/detach.h"
#include "qapi/compat-policy.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"

/* All of it belongs to the main thread. */
typedef struct RvmrpcDetached {
    MonitorQMP *mon;
    const QmpCommand *cmd;
    QDict *req;
    unsigned session;
    bool oob_enabled;
    bool cancelled;
    void (*cancel)(void *opaque);
    void *cancel_opaque;
    QLIST_ENTRY(RvmrpcDetached) next;
} RvmrpcDetached;

/* Main thread. */
static QLIST_HEAD(, RvmrpcDetached) detached;

static MonitorQMP *to_qmp(Monitor *mon)
{
    return container_of(mon, MonitorQMP, common);
}

static bool client_is_gone(RvmrpcDetached *d)
{
    QEMU_LOCK_GUARD(&d->mon->qmp_queue_lock);
    return d->session != d->mon->detach.session;
}

/*
 * The command, if it waits for a guest.  What qmp_dispatch() would refuse is
 * left to it.
 */
static const QmpCommand *find_command(MonitorQMP *mon, QObject *obj)
{
    QDict *req = qobject_to(QDict, obj);
    const char *name = req ? qdict_get_try_str(req, "execute") : NULL;
    const QmpCommand *cmd;
    size_t members = 1;

    if (!name || !g_str_has_prefix(name, "guest-") ||
        mon->commands != &qmp_commands) {
        return NULL;
    }
    members += qdict_haskey(req, "id");
    members += !!qobject_to(QDict, qdict_get(req, "arguments"));
    cmd = qmp_find_command(&qmp_commands, name);
    return cmd && cmd->options & QCO_COROUTINE && cmd->enabled &&
           compat_policy_input_ok(cmd->features, &compat_policy,
                                  ERROR_CLASS_COMMAND_NOT_FOUND, "command",
                                  name, NULL) &&
           qmp_command_available(cmd, NULL) &&
           qdict_size(req) == members ? cmd : NULL;
}

/*
 * As qmp_dispatch() makes it; takes over @ret, NULL for a command that returns
 * nothing, and @err.
 */
static QDict *make_response(QDict *req, QObject *ret, Error *err)
{
    QObject *id = qdict_get(req, "id");
    QDict *rsp;

    if (err) {
        rsp = qmp_error_response(err);
    } else {
        rsp = qdict_new();
        qdict_put_obj(rsp, "return", ret ?: QOBJECT(qdict_new()));
    }
    if (id) {
        qdict_put_obj(rsp, "id", qobject_ref(id));
    }
    return rsp;
}

/* The monitor goes on, with what was queued meanwhile. */
static void finish(RvmrpcDetached *d)
{
    MonitorQMP *mon = d->mon;
    bool more;

    mon->detach.command = NULL;
    if (!d->oob_enabled) {
        monitor_resume(&mon->common);
    }
    WITH_QEMU_LOCK_GUARD(&mon->qmp_queue_lock) {
        more = !g_queue_is_empty(mon->qmp_requests);
    }
    if (more) {
        qmp_dispatcher_co_wake();
    }
    QLIST_REMOVE(d, next);
    qobject_unref(d->req);
    g_free(d);
}

static void coroutine_fn run(void *opaque)
{
    RvmrpcDetached *d = opaque;
    QDict *args = qdict_get_qdict(d->req, "arguments");
    g_autoptr(QDict) rsp = NULL;
    QObject *ret = NULL;
    Error *err = NULL;

    args = args ? qobject_ref(args) : qdict_new();
    monitor_set_cur(qemu_coroutine_self(), &d->mon->common);
    d->cmd->fn(args, &ret, &err);
    monitor_set_cur(qemu_coroutine_self(), NULL);
    qobject_unref(args);
    rsp = make_response(d->req, ret, err);
    /*
     * A client that comes between these two lines would get its predecessor's
     * answer.  Closing holds the chardev's lock, so nothing can be held here
     * that it would wait for.
     */
    if (!client_is_gone(d)) {
        qmp_send_response(d->mon, rsp);
    }
    finish(d);
}

bool coroutine_fn rvmrpc_detach_command(Monitor *mon, QObject *req,
                                        unsigned session, bool oob_enabled)
{
    const QmpCommand *cmd = find_command(to_qmp(mon), req);
    RvmrpcDetached *d;

    if (!cmd) {
        return false;
    }
    d = g_new0(RvmrpcDetached, 1);
    d->mon = to_qmp(mon);
    d->cmd = cmd;
    d->req = qobject_to(QDict, qobject_ref(req));
    d->session = session;
    d->oob_enabled = oob_enabled;
    d->mon->detach.command = d;
    QLIST_INSERT_HEAD(&detached, d, next);
    /* The dispatcher may have yielded since it took the request. */
    d->cancelled = client_is_gone(d);
    qemu_aio_coroutine_enter(iohandler_get_aio_context(),
                             qemu_coroutine_create(run, d));
    return true;
}

bool rvmrpc_is_detached(Monitor *mon)
{
    return to_qmp(mon)->detach.command;
}

static void cancel(RvmrpcDetached *d)
{
    d->cancelled = true;
    if (d->cancel) {
        d->cancel(d->cancel_opaque);
    }
}

static void cancel_orphans(void *opaque)
{
    RvmrpcDetached *d;

    QLIST_FOREACH(d, &detached, next) {
        if (client_is_gone(d)) {
            cancel(d);
        }
    }
}

void rvmrpc_detach_closed(Monitor *mon)
{
    to_qmp(mon)->detach.session++;
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), cancel_orphans, NULL);
}

void rvmrpc_detach_cleanup(void)
{
    RvmrpcDetached *d;

    QLIST_FOREACH(d, &detached, next) {
        cancel(d);
    }
    while (!QLIST_EMPTY(&detached)) {
        aio_poll(iohandler_get_aio_context(), true);
    }
}

void coroutine_fn rvmrpc_detach_set_cancel(void (*cb)(void *opaque),
                                           void *opaque)
{
    RvmrpcDetached *d = to_qmp(monitor_cur())->detach.command;

    d->cancel = cb;
    d->cancel_opaque = opaque;
    if (cb && d->cancelled) {
        cb(opaque);
    }
}
