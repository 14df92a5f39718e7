/*
 * Reverse VMRPC: MOD_RVMRPC, a VMRPC server with one procedure
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * RVMRPC_MAIN is a futex wait on the window's `posted' (docs/spec.md 3.1): a
 * vCPU that finds nothing halts in the host until a request is posted (VMLP).
 * Only QEMU's own hypercall gate can wait, under TCG.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "hw/qdev-core.h"
#include "hw/rvmrpc/vmrpc.h"
#include "rvmrpc-internal.h"
#include "trace.h"

/* vCPUs that can wait at a time; one more is answered AGAIN. */
#define WAITERS_MAX     16
#define WAIT_US_MAX     (RVMRPC_WAIT_MS_MAX * 1000)

typedef struct Waiter {
    CPUState *cpu;              /* referenced; NULL: free */
    const VmrpcWaitOps *ops;
    uint64_t token;
    uint64_t epoch;
    uint32_t seen;              /* what it has seen posted */
    int64_t end;                /* ns */
    bool woken;
} Waiter;

uint64_t vmrpc_hypercalls, vmrpc_doorbells, rvmrpc_main_waits;

static bool initialized;        /* BQL */
static QemuMutex channel_lock;  /* outside the channel's own */
static RvmrpcChannel *channel;  /* channel_lock; also BQL to write */
static QemuMutex lock;          /* leaf, inside the channel's */
static Waiter waiters[WAITERS_MAX];     /* lock */
static int nwaiters;            /* lock to write */
static uint64_t waited_epoch;   /* of the last that waited; lock */
static QEMUTimer *timer;        /* ends of waits */
static QEMUBH *rouse_bh;        /* for threads without the BQL */

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* ---- Waiters ---- */

static Waiter *find_waiter(CPUState *cpu)
{
    for (int i = 0; i < WAITERS_MAX; i++) {
        if (waiters[i].cpu == cpu) {
            return &waiters[i];
        }
    }
    return NULL;
}

static void remove_waiter(Waiter *w)
{
    object_unref(OBJECT(w->cpu));
    w->cpu = NULL;
    qatomic_dec(&nwaiters);
}

static void wake_waiter(Waiter *w)
{
    trace_rvmrpc_wake(w->cpu->cpu_index);
    w->woken = true;
    w->ops->wake(w->cpu);
}

/*
 * All of them: each looks whether it is meant.  One alone may be of an epoch
 * that is over, and the wake would be lost on it.
 */
static bool wake_waiters(void)
{
    bool any = false;

    for (int i = 0; i < WAITERS_MAX; i++) {
        if (waiters[i].cpu && !waiters[i].woken) {
            wake_waiter(&waiters[i]);
            any = true;
        }
    }
    return any;
}

static void rouse(void *opaque)
{
    QEMU_LOCK_GUARD(&lock);
    wake_waiters();
}

/*
 * A vCPU falls asleep under the BQL, so a wake without it could be lost: the
 * main loop does it then.
 */
bool rvmrpc_main_rouse(void)
{
    if (!qatomic_read(&nwaiters)) {
        return false;
    }
    if (!bql_locked()) {
        qemu_bh_schedule(rouse_bh);
        return true;
    }
    QEMU_LOCK_GUARD(&lock);
    return wake_waiters();
}

void rvmrpc_main_wake_all(void)
{
    QEMU_LOCK_GUARD(&lock);
    wake_waiters();
}

void rvmrpc_main_abort(void)
{
    QEMU_LOCK_GUARD(&lock);
    for (int i = 0; i < WAITERS_MAX; i++) {
        if (waiters[i].cpu) {
            trace_rvmrpc_wait_end(waiters[i].cpu->cpu_index, "stopped");
            waiters[i].ops->abort(waiters[i].cpu, waiters[i].token);
            remove_waiter(&waiters[i]);
        }
    }
}

bool rvmrpc_main_waited(uint64_t epoch)
{
    QEMU_LOCK_GUARD(&lock);
    return waited_epoch == epoch;
}

static void timer_fired(void *opaque)
{
    int64_t now = now_ns();

    QEMU_LOCK_GUARD(&lock);
    for (int i = 0; i < WAITERS_MAX; i++) {
        Waiter *w = &waiters[i];

        if (!w->cpu || w->woken) {
            continue;
        }
        if (w->end <= now) {
            wake_waiter(w);
        } else {
            timer_mod_anticipate_ns(timer, w->end);
        }
    }
}

/* ---- MAIN ---- */

typedef struct MainCall {
    VmrpcCall *call;            /* NULL: after a wait, it does not wait again */
    uint64_t epoch;
    uint32_t seen;
    uint32_t wait_us;
} MainCall;

/* Nothing is posted.  The channel's lock is held: no post slips in between. */
static void wait_begins(void *opaque)
{
    MainCall *m = opaque;
    VmrpcCall *call = m->call;
    Waiter *w;

    if (!call || !m->wait_us || !call->wait_ops) {
        return;
    }
    QEMU_LOCK_GUARD(&lock);
    w = find_waiter(call->cpu) ?: find_waiter(NULL);
    if (!w) {
        return;
    }
    if (!w->cpu) {
        object_ref(OBJECT(call->cpu));
        qatomic_inc(&nwaiters);
    }
    *w = (Waiter) {
        .cpu = call->cpu,
        .ops = call->wait_ops,
        .token = call->wait_token,
        .epoch = m->epoch,
        .seen = m->seen,
        .end = now_ns() + MIN(m->wait_us, WAIT_US_MAX) * (int64_t)SCALE_US,
    };
    waited_epoch = m->epoch;
    timer_mod_anticipate_ns(timer, w->end);
    qatomic_inc(&rvmrpc_main_waits);
    trace_rvmrpc_wait(call->cpu->cpu_index);
    call->waits = true;
}

static uint32_t main_turn(MainCall *m)
{
    enum rvmrpc_main_turn turn = RVMRPC_MAIN_TURN_RESET;

    WITH_QEMU_LOCK_GUARD(&channel_lock) {
        if (channel) {
            turn = rvmrpc_channel_main(channel, m->epoch, m->seen,
                                       wait_begins, m);
        }
    }
    switch (turn) {
    case RVMRPC_MAIN_TURN_POSTED:
        return RVMRPC_MAIN_POSTED;
    case RVMRPC_MAIN_TURN_WAIT:
        return RVMRPC_GATE_AGAIN;
    default:
        return RVMRPC_GATE_RESET;
    }
}

static uint32_t proxy_dispatch(VmrpcCall *call, uint32_t func, uint64_t arg,
                               uint64_t bytes)
{
    MainCall m = {
        .call = call,
        .epoch = arg,
        .seen = bytes,
        .wait_us = bytes >> 32,
    };

    return func == RVMRPC_MAIN ? main_turn(&m) : RVMRPC_GATE_NO_PROCEDURE;
}

static const VmrpcModule proxy_module = {
    .name = RVMRPC_PROXY_NAME,
    .version = RVMRPC_PROXY_VERSION,
    .dispatch = proxy_dispatch,
};

/* ---- The hypercall gate ---- */

static uint64_t gate_call(VmrpcCall *call)
{
    qatomic_inc(&vmrpc_hypercalls);
    return vmrpc_call(call);
}

/* vCPU thread, no lock held.  False: it does not wait, or not with @token. */
static bool take_waiter(CPUState *cpu, const uint64_t *token, const char *why,
                        MainCall *m)
{
    Waiter *w;
    bool same;

    QEMU_LOCK_GUARD(&lock);
    w = find_waiter(cpu);
    if (!w) {
        return false;
    }
    m->epoch = w->epoch;
    m->seen = w->seen;
    same = !token || w->token == *token;
    trace_rvmrpc_wait_end(cpu->cpu_index, same ? why : "moved on");
    remove_waiter(w);
    return same;
}

static bool gate_wait_finish(CPUState *cpu, uint64_t token, uint64_t *answer)
{
    MainCall m = { };

    if (!take_waiter(cpu, &token, "woken", &m)) {
        return false;
    }
    *answer = RVMRPC_GATE_ANSWER(main_turn(&m));
    return true;
}

/* The guest looks at its window itself: nothing is lost with the wake. */
static void gate_wait_end(CPUState *cpu)
{
    MainCall m;

    if (qatomic_read(&nwaiters)) {
        take_waiter(cpu, NULL, "interrupt", &m);
    }
}

static const VmrpcGateOps gate_ops = {
    .call = gate_call,
    .wait_finish = gate_wait_finish,
    .wait_end = gate_wait_end,
};

/* Its thread has ended, and will neither be woken nor wait again. */
static void device_gone(DeviceListener *listener, DeviceState *dev)
{
    CPUState *cpu = (CPUState *)object_dynamic_cast(OBJECT(dev), TYPE_CPU);
    MainCall m;

    if (cpu) {
        take_waiter(cpu, NULL, "unplugged", &m);
    }
}

static DeviceListener device_listener = {
    .unrealize = device_gone,
};

void rvmrpc_main_serve(RvmrpcChannel *ch, bool hypercall)
{
    if (!initialized) {
        initialized = true;
        qemu_mutex_init(&channel_lock);
        qemu_mutex_init(&lock);
        timer = timer_new_ns(QEMU_CLOCK_REALTIME, timer_fired, NULL);
        rouse_bh = qemu_bh_new(rouse, NULL);
        vmrpc_register_module(&proxy_module);
        device_listener_register(&device_listener);
        qatomic_set(&vmrpc_wait_gate_ops, &gate_ops);
    }
    WITH_QEMU_LOCK_GUARD(&channel_lock) {
        channel = ch;
    }
    qatomic_set(&vmrpc_gate_ops, hypercall ? &gate_ops : NULL);
    if (!ch) {
        rvmrpc_main_wake_all();
    }
}
