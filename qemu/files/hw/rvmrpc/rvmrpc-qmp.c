/*
 * Reverse VMRPC: QMP commands
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest-* commands are coroutines of their own: while one waits for the
 * guest, the main loop goes on, and so do all other monitors.
 */
#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-rvmrpc.h"
#include "qemu/base64.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "hw/rvmrpc/detach.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "rvmrpc-ask.h"
#include "rvmrpc-sysinfo.h"

/* ---- guest-kernel-call ---- */

typedef struct ListWait {
    Coroutine *co;
    RvmrpcList *list;   /* until it ended */
    uint32_t status;
    bool ended;         /* set in the thread that ends it */
} ListWait;

/* The channel's thread, or the main thread. */
static void end_list_wait(ListWait *wait, uint32_t status)
{
    Coroutine *co = wait->co;

    wait->status = status;
    qatomic_store_release(&wait->ended, true);
    aio_co_schedule(qemu_coroutine_get_aio_context(co), co);
}

static void list_done(uint32_t status, void *opaque)
{
    end_list_wait(opaque, status);
}

/* Main thread.  A list that goes ends its waits first. */
static void give_list_up(ListWait *wait, uint32_t status)
{
    if (!qatomic_load_acquire(&wait->ended) &&
        rvmrpc_list_forget(wait->list, wait)) {
        end_list_wait(wait, status);
    }
}

static void list_late(void *opaque)
{
    give_list_up(opaque, RVMRPC_STATUS_TIMED_OUT);
}

static void list_cancelled(void *opaque)
{
    give_list_up(opaque, RVMRPC_STATUS_CANCELLED);
}

/*
 * Asks for the list of modules once more; it may have grown.  A guest can make
 * it as many pages as it likes, each of which has a time of its own.
 */
static uint32_t coroutine_fn refresh_list(RvmrpcHost *h,
                                          const RvmrpcDeadline *d)
{
    ListWait wait = {
        .co = qemu_coroutine_self(),
        .list = rvmrpc_host_list(h),
    };
    uint32_t status = rvmrpc_list_ask(wait.list, list_done, &wait);
    QEMUTimer late;

    if (status != RVMRPC_STATUS_OK) {
        return status;
    }
    timer_init_ms(&late, QEMU_CLOCK_REALTIME, list_late, &wait);
    timer_mod(&late, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              MAX(rvmrpc_deadline_left(d), 1));
    rvmrpc_detach_set_cancel(list_cancelled, &wait);
    do {
        qemu_coroutine_yield();
    } while (!qatomic_load_acquire(&wait.ended));
    rvmrpc_detach_set_cancel(NULL, NULL);
    timer_del(&late);
    return wait.status;
}

/* A module or procedure as QMP names it: by name, else by number. */
typedef struct Selector {
    const char *name;
    uint32_t number;
} Selector;

/* QAPI has no alternate of a string and a number. */
static bool get_selector(const char *what, QObject *obj, Selector *sel,
                         Error **errp)
{
    QString *str = qobject_to(QString, obj);
    QNum *num = qobject_to(QNum, obj);
    uint64_t number;

    if (str) {
        sel->name = qstring_get_str(str);
        return true;
    }
    if (num && qnum_get_try_uint(num, &number) && number <= UINT32_MAX) {
        sel->number = number;
        return true;
    }
    error_setg(errp, "%s must be a name or a number from 0 to 4294967295",
               what);
    return false;
}

/* An entry of that kind and name from @from on, before the next module. */
static const struct rvmrpc_list_entry *
find_entry(const GArray *entries, guint from, uint32_t kind, const char *name)
{
    for (guint i = from; i < entries->len; i++) {
        const struct rvmrpc_list_entry *e =
            &g_array_index(entries, struct rvmrpc_list_entry, i);

        if (e->kind == kind && !strncmp(e->name, name, sizeof(e->name))) {
            return e;
        }
        if (kind == RVMRPC_LIST_PROCEDURE && e->kind == RVMRPC_LIST_MODULE) {
            break;
        }
    }
    return NULL;
}

/* The index after the module of that number. */
static guint after_module(const GArray *entries, uint32_t number)
{
    for (guint i = 0; i < entries->len; i++) {
        const struct rvmrpc_list_entry *e =
            &g_array_index(entries, struct rvmrpc_list_entry, i);

        if (e->kind == RVMRPC_LIST_MODULE && e->number == number) {
            return i + 1;
        }
    }
    return entries->len;
}

static uint32_t find_numbers(RvmrpcHost *h, const Selector *module,
                             const Selector *procedure, RvmrpcTarget *t)
{
    g_autoptr(GArray) entries = rvmrpc_list_get(rvmrpc_host_list(h));
    const struct rvmrpc_list_entry *e;

    *t = (RvmrpcTarget) {
        .module = module->number,
        .procedure = procedure->number,
    };
    if (module->name) {
        e = find_entry(entries, 0, RVMRPC_LIST_MODULE, module->name);
        if (!e) {
            return RVMRPC_STATUS_MODULE_UNAVAILABLE;
        }
        t->module = e->number;
        t->version = e->version;
        t->list = e->generation;
    }
    if (procedure->name) {
        e = find_entry(entries, after_module(entries, t->module),
                       RVMRPC_LIST_PROCEDURE, procedure->name);
        if (!e) {
            return RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
        }
        t->procedure = e->number;
        t->version = e->version;
        t->list = e->generation;
    }
    return RVMRPC_STATUS_OK;
}

/* After the guest was asked for its list once more; the device may have gone. */
static uint32_t coroutine_fn
find_anew(RvmrpcHost **h, const Selector *module, const Selector *procedure,
          const RvmrpcDeadline *d, RvmrpcTarget *target)
{
    uint32_t status = refresh_list(*h, d);

    *h = rvmrpc_host_find();
    return !*h ? RVMRPC_STATUS_NOT_CONNECTED :
           status != RVMRPC_STATUS_OK ? status :
           find_numbers(*h, module, procedure, target);
}

/*
 * Resolves names and calls.  NULL: it did not come to the call.  A guest whose
 * modules have changed since refuses it, and it is resolved once more.
 */
static RvmrpcCall *coroutine_fn
resolve_and_call(const Selector *module, const Selector *procedure,
                 const void *arg, size_t arglen, const RvmrpcDeadline *d,
                 uint32_t *status)
{
    RvmrpcHost *h = rvmrpc_host_find();
    RvmrpcCall *call = NULL;
    RvmrpcTarget target;
    bool anew = false;

    *status = find_numbers(h, module, procedure, &target);
    for (;;) {
        if (*status == RVMRPC_STATUS_OK) {
            *status = rvmrpc_ask(&target, arg, arglen, d, &call);
            if (*status != RVMRPC_STATUS_VERSION_MISMATCH || !target.list) {
                return call;
            }
        }
        h = rvmrpc_host_find();
        if (anew || !h) {
            return call;
        }
        g_clear_pointer(&call, rvmrpc_call_unref);
        anew = true;
        *status = find_anew(&h, module, procedure, d, &target);
    }
}

/* qbase64_decode() takes what it can of a text that breaks off. */
static uint8_t *decode_base64(const char *data, size_t *len, Error **errp)
{
    g_autofree uint8_t *bytes = qbase64_decode(data, -1, len, errp);
    g_autofree char *again = bytes ? g_base64_encode(bytes, *len) : NULL;

    if (again && strcmp(again, data)) {
        error_setg(errp, "data is not base64");
        return NULL;
    }
    return g_steal_pointer(&bytes);
}

RvmrpcReply *coroutine_fn
qmp_guest_kernel_call(QObject *module, QObject *procedure, const char *data,
                      bool has_timeout, uint32_t timeout, Error **errp)
{
    g_autoptr(RvmrpcCall) call = NULL;
    g_autofree uint8_t *arg = NULL;
    Selector mod = { }, proc = { };
    RvmrpcDeadline d;
    RvmrpcReply *reply;
    size_t arglen = 0;
    uint32_t status;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ||
        !get_selector("module", module, &mod, errp) ||
        !get_selector("procedure", procedure, &proc, errp)) {
        return NULL;
    }
    if (data) {
        arg = decode_base64(data, &arglen, errp);
        if (!arg) {
            return NULL;
        }
    }
    call = resolve_and_call(&mod, &proc, arg, arglen, &d, &status);
    reply = g_new0(RvmrpcReply, 1);
    reply->status = status;
    if (status != RVMRPC_STATUS_OK) {
        reply->reason = g_strdup(rvmrpc_status_hint(status));
    }
    reply->data = status == RVMRPC_STATUS_OK ?
                  g_base64_encode(call->res, call->core.reslen) : g_strdup("");
    reply->elapsed_ns = rvmrpc_clock() - d.start;
    return reply;
}

/* ---- sysinfo ---- */

static RvmrpcCall *coroutine_fn
sysinfo(uint32_t procedure, uint32_t flags, uint32_t first,
        const RvmrpcDeadline *d, Error **errp)
{
    struct rvmrpc_info_req req = { .flags = flags, .first = first };

    return rvmrpc_ask_ok(RVMRPC_MOD_SYSINFO, procedure, &req, sizeof(req), d,
                         errp);
}

/* One answer. */
static RvmrpcCall *coroutine_fn
sysinfo_page(uint32_t procedure, uint32_t flags, bool has_timeout,
             uint32_t timeout, Error **errp)
{
    RvmrpcDeadline d;

    return rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ?
           sysinfo(procedure, flags, 0, &d, errp) : NULL;
}

/* As many answers as all CPUs need, in one time. */
static bool coroutine_fn
sysinfo_pages(uint32_t procedure, RvmrpcAddPage *add, void *info,
              bool has_timeout, uint32_t timeout, Error **errp)
{
    uint32_t first = 0, next;
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp)) {
        return false;
    }
    do {
        g_autoptr(RvmrpcCall) call = NULL;

        if (first && !rvmrpc_deadline_left(&d)) {
            rvmrpc_status_error(RVMRPC_STATUS_TIMED_OUT, errp);
            return false;
        }
        call = sysinfo(procedure, 0, first, &d, errp);
        next = 0;
        if (!call || !add(info, call, &next, errp)) {
            return false;
        }
        if (next && next <= first) {
            rvmrpc_malformed_error(errp);
            return false;
        }
        first = next;
    } while (first);
    return true;
}

GuestMeminfo *coroutine_fn qmp_guest_meminfo(bool has_raw, bool raw,
                                             bool has_timeout, uint32_t timeout,
                                             Error **errp)
{
    g_autoptr(RvmrpcCall) call = NULL;

    call = sysinfo_page(RVMRPC_SYSINFO_MEMINFO,
                        has_raw && raw ? RVMRPC_INFO_TEXT : 0, has_timeout,
                        timeout, errp);
    return call ? rvmrpc_decode_meminfo(call, has_raw && raw, errp) : NULL;
}

GuestLoadavg *coroutine_fn qmp_guest_loadavg(bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    g_autoptr(RvmrpcCall) call = NULL;

    call = sysinfo_page(RVMRPC_SYSINFO_LOADAVG, 0, has_timeout, timeout, errp);
    return call ? rvmrpc_decode_loadavg(call, errp) : NULL;
}

GuestCpuinfo *coroutine_fn qmp_guest_cpuinfo(bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    g_autoptr(GuestCpuinfo) info = g_new0(GuestCpuinfo, 1);

    return sysinfo_pages(RVMRPC_SYSINFO_CPUINFO, rvmrpc_add_cpuinfo, info,
                         has_timeout, timeout, errp) ?
           g_steal_pointer(&info) : NULL;
}

GuestCpustat *coroutine_fn qmp_guest_cpustat(bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    g_autoptr(GuestCpustat) info = g_new0(GuestCpustat, 1);

    info->total = g_new0(GuestCpuTimes, 1);
    return sysinfo_pages(RVMRPC_SYSINFO_CPUSTAT, rvmrpc_add_cpustat, info,
                         has_timeout, timeout, errp) ?
           g_steal_pointer(&info) : NULL;
}

GuestKernelOsinfo *coroutine_fn qmp_guest_osinfo(bool has_timeout,
                                                 uint32_t timeout,
                                                 Error **errp)
{
    g_autoptr(RvmrpcCall) call = NULL;

    call = sysinfo_page(RVMRPC_SYSINFO_OSINFO, 0, has_timeout, timeout, errp);
    return call ? rvmrpc_decode_osinfo(call, errp) : NULL;
}

/* ---- query-rvmrpc ---- */

RvmrpcInfo *qmp_query_rvmrpc(Error **errp)
{
    return rvmrpc_query(rvmrpc_host_find());
}
