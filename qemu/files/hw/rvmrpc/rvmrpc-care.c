/*
 * Reverse VMRPC: QMP commands that do something to a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-rvmrpc.h"
#include "qemu/coroutine.h"
#include "qemu/timer.h"
#include "rvmrpc-records.h"

#define DISKS_TIMEOUT_MS    10000
#define RECLAIM_TIMEOUT_MS  30000
#define THAW_MS_DEFAULT     60000
/* Keys of SysRq that end the kernel, and with it the call. */
#define LAST_KEYS           "bco"

QEMU_BUILD_BUG_ON(GUEST_FREEZE_STATE_FROZEN != RVMRPC_FREEZE_FROZEN ||
                  GUEST_FREEZE_STATE__MAX != RVMRPC_FREEZE_EXPIRED + 1);
QEMU_BUILD_BUG_ON(GUEST_RECLAIM_END_EXHAUSTED != RVMRPC_SHRINK_EXHAUSTED ||
                  GUEST_RECLAIM_END__MAX != RVMRPC_SHRINK_LATE + 1);

/* Of an answer that is @size bytes, or begins with them. */
static bool copy_answer(const RvmrpcCall *call, void *res, size_t size,
                        Error **errp)
{
    if (call->core.reslen < size) {
        error_setg(errp, "system-error: the guest's answer is too short");
        return false;
    }
    if (size) {
        memcpy(res, call->res, size);
    }
    return true;
}

static bool coroutine_fn
ask_for(uint32_t module, uint32_t procedure, const void *arg, uint32_t arglen,
        void *res, size_t size, const RvmrpcDeadline *d, Error **errp)
{
    g_autoptr(RvmrpcCall) call = rvmrpc_ask_ok(module, procedure, arg, arglen,
                                               d, errp);

    return call && copy_answer(call, res, size, errp);
}

/* ---- Clock ---- */

#define CLOCK_KEYS      (BIT(RVMRPC_CLOCK_REALTIME) | BIT(RVMRPC_CLOCK_BOOTTIME))

static const RvmrpcMember clock_members[] = {
    [RVMRPC_CLOCK_REALTIME] = { RVMRPC_PLAIN(NUMBER, GuestClock, realtime_ns) },
    [RVMRPC_CLOCK_MONOTONIC] = {
        RVMRPC_OPTIONAL(NUMBER, GuestClock, , monotonic_ns),
    },
    [RVMRPC_CLOCK_BOOTTIME] = { RVMRPC_PLAIN(NUMBER, GuestClock, boottime_ns) },
};

static bool add_clock(void *to, struct rvmrpc_reader *r)
{
    GuestClock *clock = to;

    return r->kind == RVMRPC_RECORD_CLOCK &&
           (rvmrpc_members_set(clock, clock_members, ARRAY_SIZE(clock_members),
                               r) & CLOCK_KEYS) == CLOCK_KEYS &&
           clock->realtime_ns <= INT64_MAX;
}

/* The guest's clocks are of the middle of the call, more or less. */
static bool coroutine_fn read_clock(GuestClock *clock, const RvmrpcDeadline *d,
                                    Error **errp)
{
    RvmrpcListing l = {
        .module = RVMRPC_MOD_CLOCK,
        .procedure = RVMRPC_CLOCK_READ,
        .max = 1,
        .add = add_clock,
        .to = clock,
    };
    int64_t before = get_clock_realtime(), after;

    if (!rvmrpc_records_get(&l, d, NULL, errp)) {
        return false;
    }
    after = get_clock_realtime();
    if (!l.count) {
        rvmrpc_malformed_error(errp);
        return false;
    }
    clock->host_ns = before + (after - before) / 2;
    clock->skew_ns = clock->realtime_ns - clock->host_ns;
    clock->error_ns = MAX(after - before, 0) / 2;
    return true;
}

GuestClock *coroutine_fn qmp_guest_clock(bool has_timeout, uint32_t timeout,
                                         Error **errp)
{
    g_autoptr(GuestClock) clock = g_new0(GuestClock, 1);
    RvmrpcDeadline d;

    return rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) &&
           read_clock(clock, &d, errp) ? g_steal_pointer(&clock) : NULL;
}

GuestClockStep *coroutine_fn qmp_guest_set_clock(bool has_timeout,
                                                 uint32_t timeout, Error **errp)
{
    struct rvmrpc_clock_req req = { };
    struct rvmrpc_clock_res res;
    GuestClock clock = { };
    GuestClockStep *step;
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ||
        !read_clock(&clock, &d, errp)) {
        return NULL;
    }
    req.realtime_ns = clock.host_ns;
    req.boottime_ns = clock.boottime_ns;
    if (!ask_for(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &req, sizeof(req), &res,
                 sizeof(res), &d, errp)) {
        return NULL;
    }
    step = g_new0(GuestClockStep, 1);
    step->before_ns = res.before_ns;
    step->after_ns = res.after_ns;
    step->error_ns = clock.error_ns;
    return step;
}

/* ---- Memory ---- */

GuestDropCaches *coroutine_fn
qmp_guest_drop_caches(GuestDropCachesMode mode, bool has_sync, bool sync,
                      bool has_timeout, uint32_t timeout, Error **errp)
{
    static const uint32_t modes[] = {
        [GUEST_DROP_CACHES_MODE_PAGECACHE] = RVMRPC_DROP_PAGECACHE,
        [GUEST_DROP_CACHES_MODE_SLAB] = RVMRPC_DROP_SLAB,
        [GUEST_DROP_CACHES_MODE_ALL] = RVMRPC_DROP_ALL,
    };
    const struct rvmrpc_drop_req req = {
        .mode = modes[mode],
        .flags = has_sync && sync ? RVMRPC_DROP_SYNC : 0,
    };
    struct rvmrpc_drop_res res;
    GuestDropCaches *ret;
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, DISKS_TIMEOUT_MS,
                               errp) ||
        !ask_for(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &req,
                 sizeof(req), &res, sizeof(res), &d, errp)) {
        return NULL;
    }
    ret = g_new0(GuestDropCaches, 1);
    ret->freed = res.freed;
    return ret;
}

GuestReclaim *coroutine_fn qmp_guest_reclaim(uint64_t bytes, bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    const struct rvmrpc_shrink_req req = { .bytes = bytes };
    struct rvmrpc_shrink_res res;
    GuestReclaim *ret;
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, RECLAIM_TIMEOUT_MS,
                               errp)) {
        return NULL;
    }
    if (!bytes) {
        error_setg(errp, "bytes must not be 0");
        return NULL;
    }
    if (!ask_for(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_SHRINK, &req, sizeof(req),
                 &res, sizeof(res), &d, errp)) {
        return NULL;
    }
    if (res.end >= GUEST_RECLAIM_END__MAX) {
        rvmrpc_malformed_error(errp);
        return NULL;
    }
    ret = g_new0(GuestReclaim, 1);
    ret->freed = res.freed;
    ret->reclaimed = res.reclaimed;
    ret->end = res.end;
    return ret;
}

GuestCompact *coroutine_fn qmp_guest_compact(bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    struct rvmrpc_compact_res res;
    GuestCompact *ret;
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, RECLAIM_TIMEOUT_MS,
                               errp) ||
        !ask_for(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_COMPACT, NULL, 0, &res,
                 sizeof(res), &d, errp)) {
        return NULL;
    }
    ret = g_new0(GuestCompact, 1);
    ret->before = res.before;
    ret->after = res.after;
    return ret;
}

/* ---- File systems ---- */

static GuestFreezeInfo *coroutine_fn
ask_freeze(uint32_t procedure, const struct rvmrpc_freeze_req *req,
           const RvmrpcDeadline *d, Error **errp)
{
    struct rvmrpc_freeze_res res;
    GuestFreezeInfo *info;

    if (!ask_for(RVMRPC_MOD_FREEZE, procedure, req, req ? sizeof(*req) : 0,
                 &res, sizeof(res), d, errp)) {
        return NULL;
    }
    if (res.state >= GUEST_FREEZE_STATE__MAX) {
        rvmrpc_malformed_error(errp);
        return NULL;
    }
    info = g_new0(GuestFreezeInfo, 1);
    info->state = res.state;
    info->count = res.count;
    info->skipped = res.skipped;
    info->lost = res.lost;
    info->left_ms = res.left_ms;
    return info;
}

GuestFreezeInfo *coroutine_fn
qmp_guest_freeze(bool has_thaw_ms, uint32_t thaw_ms, bool has_timeout,
                 uint32_t timeout, Error **errp)
{
    const struct rvmrpc_freeze_req req = {
        .timeout_ms = has_thaw_ms ? thaw_ms : THAW_MS_DEFAULT,
    };
    RvmrpcDeadline d;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, DISKS_TIMEOUT_MS,
                               errp)) {
        return NULL;
    }
    if (req.timeout_ms < 1 || req.timeout_ms > RVMRPC_FREEZE_MS_MAX) {
        error_setg(errp, "thaw-ms must be between 1 and %d",
                   RVMRPC_FREEZE_MS_MAX);
        return NULL;
    }
    return ask_freeze(RVMRPC_FREEZE_FREEZE, &req, &d, errp);
}

GuestFreezeInfo *coroutine_fn qmp_guest_thaw(bool has_timeout,
                                             uint32_t timeout, Error **errp)
{
    RvmrpcDeadline d;

    return rvmrpc_deadline_begin(&d, has_timeout, timeout, DISKS_TIMEOUT_MS,
                                 errp) ?
           ask_freeze(RVMRPC_FREEZE_THAW, NULL, &d, errp) : NULL;
}

GuestFreezeInfo *coroutine_fn
qmp_guest_freeze_status(bool has_timeout, uint32_t timeout, Error **errp)
{
    RvmrpcDeadline d;

    return rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp) ?
           ask_freeze(RVMRPC_FREEZE_STATUS, NULL, &d, errp) : NULL;
}

void coroutine_fn qmp_guest_sync(bool has_timeout, uint32_t timeout,
                                 Error **errp)
{
    RvmrpcDeadline d;

    if (rvmrpc_deadline_begin(&d, has_timeout, timeout, DISKS_TIMEOUT_MS,
                              errp)) {
        ask_for(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYNC, NULL, 0, NULL, 0, &d,
                errp);
    }
}

/* ---- Control ---- */

GuestSysrq *coroutine_fn qmp_guest_sysrq(const char *key, bool has_timeout,
                                         uint32_t timeout, Error **errp)
{
    static const RvmrpcTarget target = {
        .module = RVMRPC_MOD_CONTROL,
        .procedure = RVMRPC_CONTROL_SYSRQ,
    };
    const struct rvmrpc_sysrq_req req = { .key = (unsigned char)key[0] };
    g_autoptr(GuestSysrq) ret = g_new0(GuestSysrq, 1);
    g_autoptr(RvmrpcCall) call = NULL;
    struct rvmrpc_sysrq_res res;
    RvmrpcDeadline d;
    uint32_t status;

    if (!rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp)) {
        return NULL;
    }
    if (!g_ascii_isgraph(key[0]) || key[1]) {
        error_setg(errp, "key must be one printable character, such as 'm'");
        return NULL;
    }
    status = rvmrpc_ask(&target, &req, sizeof(req), &d, &call);
    if (status == RVMRPC_STATUS_RESET && strchr(LAST_KEYS, key[0])) {
        return g_steal_pointer(&ret);
    }
    if (!rvmrpc_check_ok(status, call, errp) ||
        !copy_answer(call, &res, sizeof(res), errp)) {
        return NULL;
    }
    ret->has_enabled = true;
    ret->enabled = res.enabled;
    return g_steal_pointer(&ret);
}

static void coroutine_fn power(uint32_t procedure, bool force,
                               bool has_timeout, uint32_t timeout,
                               Error **errp)
{
    const struct rvmrpc_power_req req = {
        .flags = force ? RVMRPC_POWER_FORCE : 0,
    };
    RvmrpcDeadline d;

    if (rvmrpc_deadline_begin(&d, has_timeout, timeout, 0, errp)) {
        ask_for(RVMRPC_MOD_CONTROL, procedure, &req, sizeof(req), NULL, 0, &d,
                errp);
    }
}

void coroutine_fn qmp_guest_poweroff(bool has_force, bool force,
                                     bool has_timeout, uint32_t timeout,
                                     Error **errp)
{
    power(RVMRPC_CONTROL_POWEROFF, has_force && force, has_timeout, timeout,
          errp);
}

void coroutine_fn qmp_guest_reboot(bool has_force, bool force,
                                   bool has_timeout, uint32_t timeout,
                                   Error **errp)
{
    power(RVMRPC_CONTROL_REBOOT, has_force && force, has_timeout, timeout,
          errp);
}
