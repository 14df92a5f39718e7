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
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "hw/rvmrpc/detach.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "rvmrpc-internal.h"
#include "rvmrpc-sysinfo.h"

QEMU_BUILD_BUG_ON(RVMRPC_CALL_STATUS__MAX != RVMRPC_STATUS_MAX + 1);
QEMU_BUILD_BUG_ON(RVMRPC_CALL_STATUS_SYSTEM_ERROR !=
                  RVMRPC_STATUS_SYSTEM_ERROR);

#define DROP_CACHES_TIMEOUT_MS 10000

static struct rvmrpc_client qmp_client;     /* channel's lock */

static RvmrpcHost *find_host(Error **errp)
{
    RvmrpcHost *h = rvmrpc_host_find();

    if (!h) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE,
                  "there is no rvmrpc device: add -device rvmrpc");
    }
    return h;
}

static bool check_timeout(bool has_timeout, uint32_t timeout, Error **errp)
{
    if (has_timeout && (timeout < 1 || timeout > RVMRPC_TIMEOUT_MS_MAX)) {
        error_setg(errp, "timeout must be between 1 and %d milliseconds",
                   RVMRPC_TIMEOUT_MS_MAX);
        return false;
    }
    return true;
}

/* ---- Waiting for a call ---- */

typedef struct CallWait {
    Coroutine *co;
    bool met;           /* it ended in the coroutine, which goes on */
    bool ended;         /* set in the thread that ends the call */
} CallWait;

/* Any thread, the coroutine too; it is entered later, from the main loop. */
static void call_done(RvmrpcCall *call, void *opaque)
{
    CallWait *wait = opaque;
    Coroutine *co = wait->co;

    if (qemu_in_coroutine() && qemu_coroutine_self() == co) {
        wait->met = true;
        return;
    }
    qatomic_store_release(&wait->ended, true);
    aio_co_schedule(qemu_coroutine_get_aio_context(co), co);
}

static void cancel_call(void *opaque)
{
    rvmrpc_channel_cancel(opaque);
}

/* What is called. */
typedef struct Target {
    uint32_t module;
    uint32_t procedure;
    uint16_t version;   /* of the module that was found by name, else 0 */
    uint32_t list;      /* generation of the list that had the name, else 0 */
} Target;

/* Calls and waits.  The call's outcome is valid in any case. */
static RvmrpcCall *coroutine_fn
call_and_wait(RvmrpcHost *h, const Target *target, const void *arg,
              uint32_t arglen, uint32_t timeout)
{
    CallWait wait = { .co = qemu_coroutine_self() };
    RvmrpcCall *call = rvmrpc_call_new(&qmp_client, target->module,
                                       target->procedure,
                                       g_memdup2(arg, arglen), arglen,
                                       timeout ?: rvmrpc_host_timeout(h),
                                       call_done, &wait);
    uint32_t status;

    call->core.version = target->version;
    call->core.list = target->list;
    status = rvmrpc_host_submit(h, call);
    if (status != RVMRPC_STATUS_OK) {
        call->core.status = status;
        return call;
    }
    if (wait.met) {
        return call;
    }
    rvmrpc_detach_set_cancel(cancel_call, call);
    do {
        qemu_coroutine_yield();
    } while (!qatomic_load_acquire(&wait.ended));
    rvmrpc_detach_set_cancel(NULL, NULL);
    return call;
}

static const char *stopped_hint(void)
{
    if (runstate_check(RUN_STATE_SUSPENDED)) {
        return "the VM is suspended; 'system_wakeup' wakes it";
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        return "the VM waits for the state that a migration brings";
    }
    return runstate_needs_reset() ?
           "the VM has ended; 'system_reset' starts it anew" :
           "the VM does not run; 'cont' resumes it";
}

static const char *status_hint(uint32_t status)
{
    switch (status) {
    case RVMRPC_STATUS_NOT_CONNECTED:
        return "load the rvmrpc driver in the guest";
    case RVMRPC_STATUS_STOPPED:
        return stopped_hint();
    case RVMRPC_STATUS_TIMED_OUT:
        return "the guest did not answer before the deadline";
    case RVMRPC_STATUS_NOT_ALLOWED:
        return "the guest's allow-list does not have the procedure";
    case RVMRPC_STATUS_MODULE_UNAVAILABLE:
        return "query-rvmrpc lists the guest's modules";
    case RVMRPC_STATUS_PROCEDURE_UNAVAILABLE:
        return "query-rvmrpc lists the module's procedures";
    case RVMRPC_STATUS_TOO_BIG:
        return "arguments or answer do not fit into a slot";
    case RVMRPC_STATUS_BUSY:
        return "too many calls are in flight";
    case RVMRPC_STATUS_CANCELLED:
        return "the caller has gone, or QEMU ends";
    case RVMRPC_STATUS_RESET:
        return "the guest was reset, migrated or registered again";
    case RVMRPC_STATUS_GARBAGE_ARGS:
        return "the procedure did not understand its arguments";
    default:
        return "the call failed in the guest";
    }
}

/* ---- guest-kernel-call ---- */

typedef struct ListWait {
    Coroutine *co;
    uint32_t status;
    bool ended;         /* set in the channel's thread */
} ListWait;

/* The channel's thread. */
static void list_done(uint32_t status, void *opaque)
{
    ListWait *wait = opaque;
    Coroutine *co = wait->co;

    wait->status = status;
    qatomic_store_release(&wait->ended, true);
    aio_co_schedule(qemu_coroutine_get_aio_context(co), co);
}

/* Asks for the list of modules once more; it may have grown. */
static uint32_t coroutine_fn refresh_list(RvmrpcHost *h)
{
    ListWait wait = { .co = qemu_coroutine_self() };
    uint32_t status = rvmrpc_list_ask(rvmrpc_host_list(h), list_done, &wait);

    if (status != RVMRPC_STATUS_OK) {
        return status;
    }
    do {
        qemu_coroutine_yield();
    } while (!qatomic_load_acquire(&wait.ended));
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
                             const Selector *procedure, Target *t)
{
    g_autoptr(GArray) entries = rvmrpc_list_get(rvmrpc_host_list(h));
    const struct rvmrpc_list_entry *e;

    *t = (Target) {
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

static uint32_t ms_left(int64_t start, uint32_t timeout)
{
    int64_t spent = (rvmrpc_clock() - start) / SCALE_MS;

    return spent < timeout ? timeout - spent : 1;
}

/* After the guest was asked for its list once more; the device may have gone. */
static uint32_t coroutine_fn
find_anew(RvmrpcHost **h, const Selector *module, const Selector *procedure,
          Target *target)
{
    uint32_t status = refresh_list(*h);

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
                 const void *arg, size_t arglen, uint32_t timeout,
                 uint32_t *status)
{
    RvmrpcHost *h = rvmrpc_host_find();
    int64_t start = rvmrpc_clock();
    RvmrpcCall *call = NULL;
    Target target;
    bool anew = false;

    *status = find_numbers(h, module, procedure, &target);
    for (;;) {
        if (*status == RVMRPC_STATUS_OK) {
            call = call_and_wait(h, &target, arg, arglen,
                                 ms_left(start, timeout));
            *status = call->core.status;
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
        *status = find_anew(&h, module, procedure, &target);
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
    int64_t start = rvmrpc_clock();
    Selector mod = { }, proc = { };
    RvmrpcReply *reply;
    RvmrpcHost *h;
    size_t arglen = 0;
    uint32_t status;

    h = find_host(errp);
    if (!h || !check_timeout(has_timeout, timeout, errp) ||
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
    call = resolve_and_call(&mod, &proc, arg, arglen, has_timeout ? timeout :
                            rvmrpc_host_timeout(h), &status);
    reply = g_new0(RvmrpcReply, 1);
    reply->status = status;
    if (status != RVMRPC_STATUS_OK) {
        reply->reason = g_strdup(status_hint(status));
    }
    reply->data = status == RVMRPC_STATUS_OK ?
                  g_base64_encode(call->res, call->core.reslen) : g_strdup("");
    reply->elapsed_ns = rvmrpc_clock() - start;
    return reply;
}

/* ---- Typed commands ---- */

/* NULL and *errp unless the guest answered OK. */
static RvmrpcCall *coroutine_fn
call_ok(uint32_t module, uint32_t procedure, const void *arg, uint32_t arglen,
        bool has_timeout, uint32_t timeout, Error **errp)
{
    const Target target = { .module = module, .procedure = procedure };
    RvmrpcHost *h = find_host(errp);
    RvmrpcCall *call;
    uint32_t status;

    if (!h || !check_timeout(has_timeout, timeout, errp)) {
        return NULL;
    }
    call = call_and_wait(h, &target, arg, arglen, has_timeout ? timeout : 0);
    status = call->core.status;
    if (status == RVMRPC_STATUS_OK) {
        return call;
    }
    error_setg(errp, "%s: %s", RvmrpcStatus_str(status), status_hint(status));
    rvmrpc_call_unref(call);
    return NULL;
}

static RvmrpcCall *coroutine_fn
sysinfo(uint32_t procedure, uint32_t flags, uint32_t first, bool has_timeout,
        uint32_t timeout, Error **errp)
{
    struct rvmrpc_info_req req = { .flags = flags, .first = first };

    return call_ok(RVMRPC_MOD_SYSINFO, procedure, &req, sizeof(req),
                   has_timeout, timeout, errp);
}

/* As many answers as all CPUs need, in one time. */
static bool coroutine_fn
sysinfo_pages(uint32_t procedure, RvmrpcAddPage *add, void *info,
              bool has_timeout, uint32_t timeout, Error **errp)
{
    RvmrpcHost *h = find_host(errp);
    int64_t start = rvmrpc_clock();
    uint32_t first = 0, next;

    if (!h || !check_timeout(has_timeout, timeout, errp)) {
        return false;
    }
    if (!has_timeout) {
        timeout = rvmrpc_host_timeout(h);
    }
    do {
        g_autoptr(RvmrpcCall) call = sysinfo(procedure, 0, first, true,
                                             ms_left(start, timeout), errp);

        next = 0;
        if (!call || !add(info, call, &next, errp)) {
            return false;
        }
        if (next && next <= first) {
            error_setg(errp, "system-error: the guest's answer is malformed");
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

    call = sysinfo(RVMRPC_SYSINFO_MEMINFO,
                   has_raw && raw ? RVMRPC_INFO_TEXT : 0, 0, has_timeout,
                   timeout, errp);
    return call ? rvmrpc_decode_meminfo(call, has_raw && raw, errp) : NULL;
}

GuestLoadavg *coroutine_fn qmp_guest_loadavg(bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    g_autoptr(RvmrpcCall) call = NULL;

    call = sysinfo(RVMRPC_SYSINFO_LOADAVG, 0, 0, has_timeout, timeout, errp);
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

    call = sysinfo(RVMRPC_SYSINFO_OSINFO, 0, 0, has_timeout, timeout, errp);
    return call ? rvmrpc_decode_osinfo(call, errp) : NULL;
}

GuestDropCaches *coroutine_fn
qmp_guest_drop_caches(GuestDropCachesMode mode, bool has_sync, bool sync,
                      bool has_timeout, uint32_t timeout, Error **errp)
{
    static const uint32_t modes[] = {
        [GUEST_DROP_CACHES_MODE_PAGECACHE] = RVMRPC_DROP_PAGECACHE,
        [GUEST_DROP_CACHES_MODE_SLAB] = RVMRPC_DROP_SLAB,
        [GUEST_DROP_CACHES_MODE_ALL] = RVMRPC_DROP_ALL,
    };
    struct rvmrpc_drop_req req = {
        .mode = modes[mode],
        .flags = has_sync && sync ? RVMRPC_DROP_SYNC : 0,
    };
    g_autoptr(RvmrpcCall) call = NULL;
    struct rvmrpc_drop_res res;
    GuestDropCaches *ret;

    call = call_ok(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &req,
                   sizeof(req), true,
                   has_timeout ? timeout : DROP_CACHES_TIMEOUT_MS, errp);
    if (!call) {
        return NULL;
    }
    if (call->core.reslen < sizeof(res)) {
        error_setg(errp, "system-error: the guest's answer is too short");
        return NULL;
    }
    memcpy(&res, call->res, sizeof(res));
    ret = g_new0(GuestDropCaches, 1);
    ret->freed = res.freed;
    return ret;
}

/* ---- query-rvmrpc ---- */

RvmrpcInfo *qmp_query_rvmrpc(Error **errp)
{
    return rvmrpc_query(rvmrpc_host_find());
}
