/*
 * Reverse VMRPC: the proxy between the host's clients and the guest's server
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The proxy is a VMRPC server, MOD_RVMRPC.  The guest's server thread calls
 * RVMRPC_MAIN, which takes the answer to one call and hands out the next; a
 * call that finds none waits (VMLP) or arms the interrupt.  All state is in
 * core/rvmrpc_proxy; this file copies, wakes and tells.
 *
 * There is one VM in a process, hence one proxy; the device attaches to it.
 */
#include "qemu/osdep.h"
#include "qemu/guest-random.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "migration/misc.h"
#include "qapi/util.h"
#include "system/runstate.h"
#include "system/system.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc-internal.h"
#include "rvmrpc-kvm.h"
#include "trace.h"

/* vCPUs that can wait at a time; one more is answered AGAIN. */
#define RVMRPC_WAITERS_MAX  16

/* The guest's pages of one epoch; kept by the copies in progress. */
typedef struct RvmrpcPages {
    uint32_t req_pages, res_pages;  /* per slot */
    uint64_t gpa[];
} RvmrpcPages;

typedef struct RvmrpcWaiter {
    CPUState *cpu;                  /* referenced; NULL: free */
    const VmrpcWaitOps *ops;
    uint64_t token;
    uint64_t epoch;                 /* that waits */
    int64_t end;                    /* ns */
    bool woken;
} RvmrpcWaiter;

RvmrpcProxy rvmrpc_proxy;

static RvmrpcPages *pages;                          /* proxy lock */
static RvmrpcWaiter waiters[RVMRPC_WAITERS_MAX];    /* proxy lock */
static QEMUTimer *timer;            /* deadlines and ends of waits */
static QEMUBH *rouse_bh;            /* wakes for threads without the BQL */
static QEMUBH *kick_bh;
static bool kick_when_running;      /* BQL */
static bool stuck_told;             /* proxy lock */
static NotifierWithReturn migration_notifier;
static Notifier shutdown_notifier;

int64_t rvmrpc_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* ---- The end of calls ---- */

/* Proxy lock not held. */
static void tell_done(struct rvmrpc_done *done)
{
    struct rvmrpc_call *core = done->head;

    while (core) {
        struct rvmrpc_call *next = core->next;

        trace_rvmrpc_end(core->xid, core->status, core->elapsed);
        rvmrpc_call_finish(container_of(core, RvmrpcCall, core));
        core = next;
    }
}

/* ---- Waking the guest ---- */

static RvmrpcWaiter *find_waiter(CPUState *cpu)
{
    for (int i = 0; i < RVMRPC_WAITERS_MAX; i++) {
        if (waiters[i].cpu == cpu) {
            return &waiters[i];
        }
    }
    return NULL;
}

static void remove_waiter(RvmrpcWaiter *w)
{
    object_unref(OBJECT(w->cpu));
    w->cpu = NULL;
    qatomic_dec(&rvmrpc_proxy.nwaiters);
}

static void wake_waiter(RvmrpcWaiter *w)
{
    trace_rvmrpc_wake(w->cpu->cpu_index);
    w->woken = true;
    w->ops->wake(w->cpu);
}

static bool wake_one_waiter(void)
{
    for (int i = 0; i < RVMRPC_WAITERS_MAX; i++) {
        if (waiters[i].cpu && !waiters[i].woken) {
            wake_waiter(&waiters[i]);
            return true;
        }
    }
    return false;
}

/*
 * A request may have become deliverable: wake a vCPU that waits, or interrupt
 * a driver that sleeps.  Proxy lock held.  A vCPU looks for work and falls
 * asleep under the BQL, so without it the wake could be lost: the main loop
 * does it then.
 */
static void rouse_guest(void)
{
    RvmrpcProxy *p = &rvmrpc_proxy;

    if (!rvmrpc_proxy_pending(&p->core)) {
        return;
    }
    if (!bql_locked()) {
        qemu_bh_schedule(rouse_bh);
    } else if (!wake_one_waiter() && rvmrpc_proxy_kick(&p->core)) {
        trace_rvmrpc_kick();
        /* Not here: the message could be aimed at our own doorbell. */
        qemu_bh_schedule(kick_bh);
    }
}

/* Main loop, BQL held. */
static void rouse(void *opaque)
{
    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    rouse_guest();
}

/* Main loop, BQL held. */
static void kick(void *opaque)
{
    RvmrpcProxy *p = &rvmrpc_proxy;

    if (p->attached) {
        p->interrupts++;
        p->config.ops->kick(p->config.opaque);
    }
}

/* Proxy lock held. */
static void set_timer(int64_t at)
{
    if (at < INT64_MAX) {
        timer_mod_anticipate_ns(timer, at);
    }
}

/* Main loop. */
static void timer_fired(void *opaque)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    struct rvmrpc_done done = { };
    int64_t now = rvmrpc_now();
    bool stuck = false;

    WITH_QEMU_LOCK_GUARD(&p->lock) {
        uint64_t next = rvmrpc_proxy_expire(&p->core, now, &done);

        set_timer(MIN(next, INT64_MAX));
        for (int i = 0; i < RVMRPC_WAITERS_MAX; i++) {
            RvmrpcWaiter *w = &waiters[i];

            if (!w->cpu || w->woken) {
                continue;
            }
            if (w->end <= now) {
                wake_waiter(w);
            } else {
                set_timer(w->end);
            }
        }
        if (rvmrpc_proxy_stuck(&p->core) && !stuck_told) {
            stuck = stuck_told = true;
        }
    }
    tell_done(&done);
    if (stuck) {
        rvmrpc_tell_disconnected(RVMRPC_DISCONNECT_REASON_STUCK);
    }
}

/* ---- Client side ---- */

uint32_t rvmrpc_call_submit(RvmrpcCall *call)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    uint32_t status;

    qemu_mutex_lock(&p->lock);
    if (!p->core.epoch && rvmrpc_kvm_attached()) {
        qemu_mutex_unlock(&p->lock);
        return rvmrpc_kvm_submit(call);
    }
    status = p->attached ?
             rvmrpc_proxy_submit(&p->core, &call->core, rvmrpc_now()) :
             RVMRPC_STATUS_NOT_CONNECTED;
    trace_rvmrpc_submit(call->core.xid, call->core.module,
                        call->core.procedure, call->core.arglen, status);
    if (status == RVMRPC_STATUS_OK) {
        rvmrpc_call_ref(call);      /* until rvmrpc_call_finish() */
        set_timer(call->core.deadline);
        rouse_guest();
    }
    qemu_mutex_unlock(&p->lock);
    return status;
}

void rvmrpc_call_cancel(RvmrpcCall *call)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    struct rvmrpc_done done = { };

    if (call->cookie) {
        rvmrpc_kvm_cancel(call);
        return;
    }
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        rvmrpc_proxy_cancel(&p->core, &call->core, rvmrpc_now(), &done);
    }
    tell_done(&done);
}

/* ---- Copies, in the vCPU's thread, no lock held ---- */

/* Copies at @offset of a buffer that is a list of pages. */
static bool copy_pages(const uint64_t *gpa, uint32_t npages, size_t offset,
                       void *buf, size_t len, bool write)
{
    while (len) {
        size_t page = offset / RVMRPC_PAGE_SIZE;
        size_t in_page = offset % RVMRPC_PAGE_SIZE;
        size_t n = MIN(len, RVMRPC_PAGE_SIZE - in_page);

        if (page >= npages ||
            !(write ? vmrpc_gpa_write(gpa[page] + in_page, buf, n)
                    : vmrpc_gpa_read(gpa[page] + in_page, buf, n))) {
            return false;
        }
        offset += n;
        buf += n;
        len -= n;
    }
    return true;
}

static const uint64_t *slot_pages(const RvmrpcPages *pg, uint32_t slot)
{
    return &pg->gpa[slot * (pg->req_pages + pg->res_pages)];
}

static bool write_request(const RvmrpcPages *pg, struct rvmrpc_xfer *x)
{
    const uint64_t *gpa = slot_pages(pg, x->slot);

    return copy_pages(gpa, pg->req_pages, 0, &x->hdr, sizeof(x->hdr), true) &&
           copy_pages(gpa, pg->req_pages, sizeof(x->hdr),
                      (void *)x->call->arg, x->length, true);
}

static bool read_reply(const RvmrpcPages *pg, struct rvmrpc_xfer *x)
{
    const uint64_t *gpa = slot_pages(pg, x->slot) + pg->req_pages;
    RvmrpcCall *call = container_of(x->call, RvmrpcCall, core);
    struct rvmrpc_hdr hdr;

    if (!copy_pages(gpa, pg->res_pages, 0, &hdr, sizeof(hdr), false)) {
        return false;
    }
    rvmrpc_proxy_reply_check(x, &hdr);
    if (!x->length) {
        return true;
    }
    call->res = g_malloc(x->length);
    return copy_pages(gpa, pg->res_pages, sizeof(hdr), call->res, x->length,
                      false);
}

/* ---- The proxy's procedures ---- */

/* Starts a gate call; the pages are the caller's to release. */
static RvmrpcPages *enter(uint64_t epoch)
{
    RvmrpcProxy *p = &rvmrpc_proxy;

    QEMU_LOCK_GUARD(&p->lock);
    if (!rvmrpc_proxy_enter(&p->core, epoch, rvmrpc_now())) {
        return NULL;
    }
    return g_atomic_rc_box_acquire(pages);
}

static uint32_t take_reply(const RvmrpcPages *pg, uint64_t epoch,
                           uint32_t slot)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    struct rvmrpc_done done = { };
    struct rvmrpc_xfer x;
    uint32_t code;
    bool ok;

    WITH_QEMU_LOCK_GUARD(&p->lock) {
        if (p->core.epoch != epoch) {
            return RVMRPC_GATE_RESET;
        }
        code = rvmrpc_proxy_reply_begin(&p->core, slot, &x);
        if (code || !x.call) {
            rouse_guest();
            return code;
        }
    }
    ok = read_reply(pg, &x);
    trace_rvmrpc_reply(x.xid, slot, x.status, x.length, x.stale);
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        rvmrpc_proxy_reply_commit(&p->core, &x, ok, rvmrpc_now(), &done);
        rouse_guest();
    }
    tell_done(&done);
    return 0;
}

/* Proxy lock held. */
static bool add_waiter(VmrpcCall *call, uint32_t wait_us)
{
    RvmrpcWaiter *w = find_waiter(call->cpu) ?: find_waiter(NULL);

    if (!w) {
        return false;
    }
    if (!w->cpu) {
        object_ref(OBJECT(call->cpu));
        qatomic_inc(&rvmrpc_proxy.nwaiters);
    }
    *w = (RvmrpcWaiter) {
        .cpu = call->cpu,
        .ops = call->wait_ops,
        .token = call->wait_token,
        .epoch = rvmrpc_proxy.core.epoch,
        .end = rvmrpc_now() + wait_us * (int64_t)SCALE_US,
    };
    set_timer(w->end);
    rvmrpc_proxy.waits++;
    trace_rvmrpc_wait(call->cpu->cpu_index);
    return true;
}

/*
 * Nothing can be delivered: wait or arm.  False: look again.  Proxy lock held,
 * so no request slips between the look and the wait.
 */
static bool wait_or_arm(VmrpcCall *call, uint32_t wait_us)
{
    bool armed;

    if (wait_us) {
        call->waits = call->wait_ops && add_waiter(call, wait_us);
        return true;
    }
    armed = rvmrpc_proxy_arm(&rvmrpc_proxy.core);
    trace_rvmrpc_arm(armed);
    return armed;
}

/* @call NULL: after a wait; then neither wait nor arm. */
static uint32_t next_request(VmrpcCall *call, const RvmrpcPages *pg,
                             uint64_t epoch, uint32_t wait_us)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    uint32_t answer = RVMRPC_GATE_AGAIN;
    struct rvmrpc_done done = { };
    struct rvmrpc_xfer x;
    bool ok;

    qemu_mutex_lock(&p->lock);
    while (true) {
        if (p->core.epoch != epoch) {
            answer = RVMRPC_GATE_RESET;
            break;
        }
        if (!rvmrpc_proxy_deliver_begin(&p->core, &x, rvmrpc_now(), &done)) {
            if (!call || wait_or_arm(call, wait_us)) {
                break;
            }
            continue;
        }
        qemu_mutex_unlock(&p->lock);
        ok = write_request(pg, &x);
        trace_rvmrpc_deliver(x.xid, x.slot, ok);
        qemu_mutex_lock(&p->lock);
        if (rvmrpc_proxy_deliver_commit(&p->core, &x, ok, rvmrpc_now(),
                                        &done)) {
            answer = x.slot;
            break;
        }
    }
    qemu_mutex_unlock(&p->lock);
    tell_done(&done);
    return answer;
}

/* The guest's server thread polls. */
static void note_poll(VmrpcCall *call, bool wait)
{
    RvmrpcProxy *p = &rvmrpc_proxy;

    QEMU_LOCK_GUARD(&p->lock);
    rvmrpc_proxy_awake(&p->core);
    p->doorbell = call->gate == VMRPC_GATE_DOORBELL;
    p->vmlp = wait && !p->doorbell;
}

static uint32_t proxy_main(VmrpcCall *call, uint64_t epoch, uint64_t bytes)
{
    uint32_t slot, wait_us, answer;
    RvmrpcPages *pg;

    if (!rvmrpc_proxy_main_arg(bytes, &slot, &wait_us)) {
        return RVMRPC_GATE_BAD_ARGS;
    }
    pg = enter(epoch);
    if (!pg) {
        return RVMRPC_GATE_RESET;
    }
    note_poll(call, wait_us);
    answer = slot == RVMRPC_SLOT_NONE ? 0 : take_reply(pg, epoch, slot);
    if (!answer) {
        answer = next_request(call, pg, epoch, wait_us);
    }
    g_atomic_rc_box_release(pg);
    return answer;
}

static uint32_t proxy_reply(uint64_t epoch, uint64_t bytes)
{
    RvmrpcPages *pg;
    uint32_t answer;

    if (bytes > UINT32_MAX) {
        return RVMRPC_GATE_BAD_ARGS;
    }
    pg = enter(epoch);
    if (!pg) {
        return RVMRPC_GATE_RESET;
    }
    answer = take_reply(pg, epoch, bytes);
    g_atomic_rc_box_release(pg);
    return answer;
}

/* ---- Registration ---- */

static uint32_t read_init(VmrpcCall *call, uint64_t arg, uint64_t bytes,
                          struct rvmrpc_init *in, RvmrpcPages **pg)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    uint32_t list_bytes, code;
    char probe;

    if (bytes < sizeof(*in)) {
        return RVMRPC_GATE_BAD_ARGS;
    }
    if (!vmrpc_copy_from_guest(call, in, arg, sizeof(*in))) {
        return RVMRPC_GATE_FAULT;
    }
    code = rvmrpc_proxy_check_init(&p->config.limits, in, bytes, &list_bytes);
    if (code) {
        return code;
    }
    *pg = g_atomic_rc_box_alloc(sizeof(**pg) + list_bytes);
    (*pg)->req_pages = in->req_pages;
    (*pg)->res_pages = in->res_pages;
    if (!vmrpc_copy_from_guest(call, (*pg)->gpa, arg + sizeof(*in),
                               list_bytes)) {
        return RVMRPC_GATE_FAULT;
    }
    for (size_t i = 0; i < list_bytes / sizeof(uint64_t); i++) {
        if (!rvmrpc_proxy_check_page((*pg)->gpa[i])) {
            return RVMRPC_GATE_BAD_ARGS;
        }
        if (!vmrpc_gpa_read((*pg)->gpa[i], &probe, 1)) {
            return RVMRPC_GATE_FAULT;
        }
    }
    return 0;
}

static uint64_t new_epoch(void)
{
    uint64_t epoch;

    do {
        qemu_guest_getrandom_nofail(&epoch, sizeof(epoch));
    } while (!epoch);
    return epoch;
}

/* Takes over the pages. */
static void start_epoch(const struct rvmrpc_init *in, RvmrpcPages *pg,
                        struct rvmrpc_init_answer *answer)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    struct rvmrpc_done done = { };
    uint64_t old_epoch;

    WITH_QEMU_LOCK_GUARD(&p->lock) {
        old_epoch = p->core.epoch;
        rvmrpc_proxy_register(&p->core, in, new_epoch(), rvmrpc_now(), answer,
                              &done);
        g_clear_pointer(&pages, g_atomic_rc_box_release);
        pages = pg;
        stuck_told = false;
        trace_rvmrpc_register(p->core.epoch, in->os, p->core.nslots,
                              in->req_pages, in->res_pages);
    }
    tell_done(&done);
    if (old_epoch) {
        rvmrpc_tell_disconnected(RVMRPC_DISCONNECT_REASON_REPLACED);
    }
}

static uint32_t proxy_init_host(VmrpcCall *call, uint64_t arg, uint64_t bytes)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    struct rvmrpc_init_answer answer;
    struct rvmrpc_init in;
    RvmrpcPages *pg = NULL;
    uint32_t code = read_init(call, arg, bytes, &in, &pg);

    if (code) {
        g_clear_pointer(&pg, g_atomic_rc_box_release);
        QEMU_LOCK_GUARD(&p->lock);
        p->core.stats.bad_inits++;
        return code;
    }
    start_epoch(&in, pg, &answer);
    if (!vmrpc_copy_to_guest(call, arg + offsetof(struct rvmrpc_init, answer),
                             &answer, sizeof(answer))) {
        return RVMRPC_GATE_FAULT;
    }
    rvmrpc_tell_connected(in.os, in.release, sizeof(in.release), answer.epoch);
    rvmrpc_list_refresh();
    return 0;
}

/* Ends the epoch.  Any thread, proxy lock not held. */
static void end_epoch(uint32_t status, RvmrpcDisconnectReason reason)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    struct rvmrpc_done done = { };
    uint64_t epoch;

    WITH_QEMU_LOCK_GUARD(&p->lock) {
        epoch = p->core.epoch;
        rvmrpc_proxy_unregister(&p->core, status, rvmrpc_now(), &done);
        g_clear_pointer(&pages, g_atomic_rc_box_release);
    }
    tell_done(&done);
    if (epoch) {
        trace_rvmrpc_unregister(epoch, RvmrpcDisconnectReason_str(reason));
        rvmrpc_tell_disconnected(reason);
    }
}

static uint32_t proxy_exit(uint64_t epoch)
{
    RvmrpcPages *pg = enter(epoch);

    if (!pg) {
        return RVMRPC_GATE_RESET;
    }
    g_atomic_rc_box_release(pg);
    end_epoch(RVMRPC_STATUS_NOT_CONNECTED,
              RVMRPC_DISCONNECT_REASON_GUEST_EXIT);
    return 0;
}

static uint32_t proxy_dispatch(VmrpcCall *call, uint32_t func, uint64_t arg,
                               uint64_t bytes)
{
    if (!qatomic_read(&rvmrpc_proxy.attached)) {
        return RVMRPC_GATE_RESET;
    }
    switch (func) {
    case RVMRPC_INIT_HOST:
        return proxy_init_host(call, arg, bytes);
    case RVMRPC_MAIN:
        return proxy_main(call, arg, bytes);
    case RVMRPC_REPLY:
        return proxy_reply(arg, bytes);
    case RVMRPC_EXIT:
        return proxy_exit(arg);
    default:
        return RVMRPC_GATE_NO_PROCEDURE;
    }
}

static const VmrpcModule proxy_module = {
    .name = RVMRPC_PROXY_NAME,
    .version = RVMRPC_PROXY_VERSION,
    .dispatch = proxy_dispatch,
};

/* ---- The hypercall gate ---- */

static uint64_t gate_call(VmrpcCall *call)
{
    qatomic_inc(&rvmrpc_proxy.hypercalls);
    return vmrpc_call(call);
}

/* vCPU thread, no lock held.  False: it does not wait, or not with @token. */
static bool take_waiter(CPUState *cpu, const uint64_t *token, const char *why,
                        uint64_t *epoch)
{
    RvmrpcWaiter *w;
    bool same;

    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    w = find_waiter(cpu);
    if (!w) {
        return false;
    }
    *epoch = w->epoch;
    same = !token || w->token == *token;
    trace_rvmrpc_wait_end(cpu->cpu_index, same ? why : "moved on");
    remove_waiter(w);
    return same;
}

static bool gate_wait_finish(CPUState *cpu, uint64_t token, uint64_t *answer)
{
    uint32_t code = RVMRPC_GATE_RESET;
    RvmrpcPages *pg;
    uint64_t epoch;

    if (!take_waiter(cpu, &token, "woken", &epoch)) {
        return false;
    }
    pg = enter(epoch);
    if (pg) {
        code = next_request(NULL, pg, epoch, 0);
        g_atomic_rc_box_release(pg);
    }
    *answer = RVMRPC_GATE_ANSWER(code);
    return true;
}

static void gate_wait_end(CPUState *cpu)
{
    uint64_t epoch;

    if (qatomic_read(&rvmrpc_proxy.nwaiters) &&
        take_waiter(cpu, NULL, "interrupt", &epoch)) {
        QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
        /* It may have been woken for a request that another could take. */
        rouse_guest();
    }
}

static const VmrpcGateOps gate_ops = {
    .call = gate_call,
    .wait_finish = gate_wait_finish,
    .wait_end = gate_wait_end,
};

/* vCPUs are paused, BQL held: no wait is left in the VM's state. */
static void abort_waits(void)
{
    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    for (int i = 0; i < RVMRPC_WAITERS_MAX; i++) {
        if (waiters[i].cpu) {
            trace_rvmrpc_wait_end(waiters[i].cpu->cpu_index, "stopped");
            waiters[i].ops->abort(waiters[i].cpu, waiters[i].token);
            remove_waiter(&waiters[i]);
        }
    }
}

/* vCPUs run: their threads end the waits. */
static void wake_all_waiters(void)
{
    QEMU_LOCK_GUARD(&rvmrpc_proxy.lock);
    while (wake_one_waiter()) {
        continue;
    }
}

/* ---- The VM's life ---- */

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    RvmrpcProxy *p = &rvmrpc_proxy;

    WITH_QEMU_LOCK_GUARD(&p->lock) {
        p->core.stopped = !running;
        if (running) {
            rouse_guest();
        }
    }
    rvmrpc_kvm_running(running);
    if (!running) {
        abort_waits();
    } else if (kick_when_running) {
        kick_when_running = false;
        kick(NULL);
    }
}

static int migration_changed(NotifierWithReturn *n, MigrationEvent *e,
                             Error **errp)
{
    if (e->type == MIG_EVENT_PRECOPY_DONE) {
        rvmrpc_reset(RVMRPC_DISCONNECT_REASON_MIGRATED);
    }
    return 0;
}

/* A client must not keep QEMU from ending. */
static void shutting_down(Notifier *n, void *data)
{
    end_epoch(RVMRPC_STATUS_STOPPED, RVMRPC_DISCONNECT_REASON_GUEST_EXIT);
    rvmrpc_kvm_reset(RVMRPC_DISCONNECT_REASON_GUEST_EXIT);
}

void rvmrpc_reset(RvmrpcDisconnectReason reason)
{
    end_epoch(RVMRPC_STATUS_RESET, reason);
    rvmrpc_kvm_reset(reason);
    wake_all_waiters();
}

void rvmrpc_kick_after_load(void)
{
    rvmrpc_reset(RVMRPC_DISCONNECT_REASON_STATE_LOADED);
    kick_when_running = true;
}

static void init_once(const RvmrpcConfig *config)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    uint64_t xid;

    if (p->initialized) {
        return;
    }
    p->initialized = true;
    qemu_mutex_init(&p->lock);
    qemu_guest_getrandom_nofail(&xid, sizeof(xid));
    rvmrpc_proxy_init(&p->core, &config->limits, xid >> 32);
    p->core.stopped = !runstate_is_running();
    timer = timer_new_ns(QEMU_CLOCK_REALTIME, timer_fired, NULL);
    rouse_bh = qemu_bh_new(rouse, NULL);
    kick_bh = qemu_bh_new(kick, NULL);
    qemu_add_vm_change_state_handler(vm_state_changed, NULL);
    migration_add_notifier(&migration_notifier, migration_changed);
    shutdown_notifier.notify = shutting_down;
    qemu_register_shutdown_notifier(&shutdown_notifier);
    vmrpc_register_module(&proxy_module);
    vmrpc_log_register();
    qatomic_set(&vmrpc_wait_gate_ops, &gate_ops);
}

void rvmrpc_attach(const RvmrpcConfig *config)
{
    RvmrpcProxy *p = &rvmrpc_proxy;

    init_once(config);
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        p->config = *config;
        p->core.limits = config->limits;
        qatomic_set(&p->attached, true);
    }
    qatomic_set(&vmrpc_gate_ops, config->hypercall ? &gate_ops : NULL);
}

void rvmrpc_detach(void)
{
    qatomic_set(&vmrpc_gate_ops, NULL);
    WITH_QEMU_LOCK_GUARD(&rvmrpc_proxy.lock) {
        qatomic_set(&rvmrpc_proxy.attached, false);
    }
    rvmrpc_reset(RVMRPC_DISCONNECT_REASON_UNPLUGGED);
}

/* ---- query-rvmrpc ---- */

bool rvmrpc_present(void)
{
    return rvmrpc_proxy.attached;
}

static RvmrpcState query_state(const struct rvmrpc_proxy *core)
{
    if (!core->epoch) {
        return RVMRPC_STATE_DISCONNECTED;
    }
    return core->unanswered ? RVMRPC_STATE_SILENT : RVMRPC_STATE_CONNECTED;
}

/* Proxy lock held. */
static RvmrpcStats *query_stats(void)
{
    const RvmrpcProxy *p = &rvmrpc_proxy;
    const struct rvmrpc_stats *from = &p->core.stats;
    RvmrpcStats *s = g_new0(RvmrpcStats, 1);
    int used = RVMRPC_HISTOGRAM_BUCKETS;

    s->calls = from->calls;
    s->completed = from->completed;
    s->failed = from->failed;
    s->refused = from->refused;
    s->timed_out = from->timed_out;
    s->cancelled = from->cancelled;
    s->reset = from->reset;
    s->late_replies = from->late_replies;
    s->bad_replies = from->bad_replies;
    s->registrations = from->registrations;
    s->in_flight = p->core.ncalls;
    s->hypercalls = qatomic_read(&p->hypercalls);
    s->doorbells = p->doorbells;
    s->waits = p->waits;
    s->interrupts = p->interrupts;
    while (used && !from->histogram[used - 1]) {
        used--;
    }
    while (used--) {
        QAPI_LIST_PREPEND(s->latency_us, from->histogram[used]);
    }
    return s;
}

/* A guest is registered; proxy lock held. */
static void query_registered(RvmrpcInfo *info)
{
    const RvmrpcProxy *p = &rvmrpc_proxy;

    info->has_os = true;
    info->os = rvmrpc_os(p->core.os);
    info->release = rvmrpc_escape(p->core.release, sizeof(p->core.release));
    info->has_abi_version = true;
    info->abi_version = p->core.abi;
    info->has_epoch = true;
    info->epoch = p->core.epoch;
    info->has_last_seen_ms = true;
    info->last_seen_ms = (rvmrpc_now() - p->core.last_seen) / SCALE_MS;
    info->has_gate = true;
    info->gate = p->doorbell ? RVMRPC_GATE_DOORBELL : RVMRPC_GATE_HYPERCALL;
    info->has_wait = true;
    info->wait = p->vmlp ? RVMRPC_WAIT_VMLP : RVMRPC_WAIT_INTERRUPT;
    info->has_slots = true;
    info->slots = p->core.nslots;
}

RvmrpcInfo *rvmrpc_query(void)
{
    RvmrpcProxy *p = &rvmrpc_proxy;
    RvmrpcInfo *info = g_new0(RvmrpcInfo, 1);

    if (!p->attached) {
        info->state = RVMRPC_STATE_ABSENT;
        return info;
    }
    info->has_proxy = true;
    info->proxy = RVMRPC_PROXY_KIND_VMM;
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        info->state = query_state(&p->core);
        if (p->core.epoch) {
            query_registered(info);
        }
        info->stats = query_stats();
    }
    if (info->state == RVMRPC_STATE_DISCONNECTED) {
        rvmrpc_kvm_query(info);
    }
    if (info->state != RVMRPC_STATE_DISCONNECTED) {
        info->modules = rvmrpc_list_get();
        info->has_modules = info->modules != NULL;
    }
    return info;
}
