/*
 * Reverse VMRPC: the host's end of a window in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A channel is a GSource.  Before its thread sleeps in poll() the source says
 * so in the window and looks once more (prepare); whatever wakes the thread,
 * the source takes one turn (dispatch), whose length is bounded, so that the
 * guests that share the thread get turns alike.
 *
 * Requests may come from any thread: they are posted there and then, and the
 * channel's thread is woken to wait for the answer.  Nothing goes up while the
 * lock is held.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "rvmrpc_channel.h"
#include "rvmrpc_kernel.h"

#define NS_PER_US       1000ull
#define NS_PER_MS       1000000ull
#define NS_PER_S        1000000000ull
#define NEVER           UINT64_MAX

/* Looks at the window's pages without a ring; of all channels at a time. */
#define LOOK_NS         NS_PER_S
/* At hellos that are too many. */
#define LOOK_LATER_NS   (100 * NS_PER_MS)
/* For answers and sleepers that a lost ring or kick hides. */
#define AGAIN_MIN_NS    (2 * NS_PER_MS)
#define AGAIN_MAX_NS    (64 * NS_PER_MS)
/* A spin that is shorter meets nobody. */
#define SPIN_MIN_US     20
/* Looks of submitters that are left out when they are in vain. */
#define LOOK_SKIPS_MAX  63
/* Without a sign of life for so long: ask.  The driver's beat takes 5 s. */
#define BEAT_NS         (15 * NS_PER_S)
#define PROBE_MS        1000
/* Payload that is copied in a turn before others get theirs. */
#define TURN_BYTES      (256 * 1024)
/* So many rings for nothing in that time: none is heard for that time. */
#define IDLE_RINGS      32
#define IDLE_NS         (10 * NS_PER_MS)
/* From one offer of the window to the kernel to the next. */
#define OFFER_MIN_NS    LOOK_NS
#define OFFER_MAX_NS    (64 * NS_PER_S)

struct RvmrpcChannel {
    GSource *source;            /* fixed, as tag and config but for kernel */
    RvmrpcChannelConfig config; /* its kernel: NULL, or offered; lock */
    gpointer tag;               /* of the doorbell */
    GMutex lock;                /* leaf, but for ops->rouse(); all below */
    RvmrpcKernel *kernel;       /* it owns the window; then there is no source */
    RvmrpcKernelConfig offered; /* what it is told of the VM */
    int refusal;                /* why it did not take the window */
    uint64_t given_at;          /* ns, as those two */
    uint64_t offer_at;
    uint64_t offer_ns;
    struct rvmrpc_owner owner;
    struct rvmrpc_done done;    /* ended, not told yet */
    GArray *told;               /* struct rvmrpc_told, not told on yet; or NULL */
    uint32_t looked;            /* RVMRPC_LOOK_* that were not told yet */
    RvmrpcClosed why;           /* of RVMRPC_LOOK_CLOSED, if ends is set */
    bool ends;                  /* the host ended the epoch */
    bool interrupt_later;       /* when the VM runs again */
    bool stopped;
    uint32_t next_slot;         /* where the next turn begins */
    bool again;                 /* the last turn left something to do */
    bool asleep;                /* the window says so */
    bool guest_awake;           /* the last post found it so */
    uint32_t look_misses;       /* grows when looks of submitters are in vain, */
    uint32_t look_skips;        /* so many of which are left out */
    bool muted;                 /* the doorbell is not listened to */
    bool silent;
    bool stuck;                 /* since the last answer */
    bool tell_stuck;
    uint64_t next_look;         /* all of these: ns */
    uint64_t next_deadline;
    uint64_t again_at;
    uint64_t again_ns;
    uint64_t unmute_at;
    uint64_t idle_since;
    uint64_t last_post;
    uint64_t last_answer;
    uint64_t spin_until;
    uint64_t next_probe;
    uint32_t idle_rings;
    uint32_t spin_us;           /* how long it spins at present */
    uint32_t guest_spin_us;     /* how long the guest may */
    uint64_t rings;
    uint64_t interrupts;
    RvmrpcCall *probe;          /* under way */
};

typedef struct ChannelSource {
    GSource source;
    RvmrpcChannel *ch;
} ChannelSource;

/* 63 bits: most of JSON's readers have signed integers, and see epochs. */
static uint64_t random63(void)
{
    uint64_t value;

    /* Neither short nor interrupted for so few bytes, once there are any. */
    while (getrandom(&value, sizeof(value), 0) != sizeof(value)) {
        g_usleep(1000);
    }
    return value >> 1;
}

static const uint64_t one = 1;

static void interrupt(RvmrpcChannel *ch)
{
    ch->interrupts++;
    /* EAGAIN: the counter is full, so an interrupt is on its way. */
    if (write(ch->config.interrupt_fd, &one, sizeof(one)) < 0 &&
        errno != EAGAIN) {
        g_warning("cannot interrupt a guest: %s", g_strerror(errno));
    }
}

/* Some slot's answer is still to come. */
static bool waiting(const RvmrpcChannel *ch)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;

    for (uint32_t i = 0; i < p->nslots; i++) {
        if (p->slots[i].state == RVMRPC_SLOT_BUSY) {
            return true;
        }
    }
    return false;
}

static bool answered(const RvmrpcChannel *ch)
{
    for (uint32_t i = 0; i < ch->owner.proxy.nslots; i++) {
        if (rvmrpc_owner_answered(&ch->owner, i)) {
            return true;
        }
    }
    return false;
}

/* ---- Spinning ---- */

/* The guest may while calls follow each other closely. */
static void adapt_guest(RvmrpcChannel *ch, uint64_t now)
{
    ch->guest_spin_us = rvmrpc_spin_next(ch->guest_spin_us,
        (now - ch->last_answer) / NS_PER_US, SPIN_MIN_US, ch->config.spin_us);
    rvmrpc_owner_set_spin(&ch->owner, ch->guest_spin_us);
}

/* An answer came. */
static void adapt(RvmrpcChannel *ch, uint64_t now)
{
    if (ch->asleep) {
        ch->spin_us = rvmrpc_spin_next(ch->spin_us,
            (now - ch->last_post) / NS_PER_US, SPIN_MIN_US, ch->config.spin_us);
    }
}

/* What the guest's pages said; lock held. */
static void note_looked(RvmrpcChannel *ch, uint32_t what)
{
    if (what & RVMRPC_LOOK_KICK) {
        interrupt(ch);
    }
    if (what & (RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_OPENED)) {
        ch->silent = false;
        ch->stuck = false;
    }
    if (what & RVMRPC_LOOK_CLOSED && !ch->ends) {
        ch->why = what & RVMRPC_LOOK_OPENED ? RVMRPC_CLOSED_REPLACED :
                  what & RVMRPC_LOOK_KICK ? RVMRPC_CLOSED_OVERWRITTEN :
                  RVMRPC_CLOSED_GUEST_EXIT;
    }
    ch->looked |= what & (RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_OPENED);
}

/* ---- Requests ---- */

static void posted(RvmrpcChannel *ch, uint64_t now)
{
    adapt_guest(ch, now);
    ch->guest_awake = false;
    if (ch->config.ops->rouse && ch->config.ops->rouse(ch->config.opaque)) {
        /* It waits in the host, and looks before it sleeps anywhere else. */
    } else if (rvmrpc_owner_kick(&ch->owner)) {
        interrupt(ch);
    } else {
        ch->guest_awake = true;
    }
    ch->last_post = now;
    ch->spin_until = now + ch->spin_us * NS_PER_US;
    ch->again_ns = AGAIN_MIN_NS;
    ch->again_at = MIN(ch->again_at, now + ch->again_ns);
}

static void deliver(RvmrpcChannel *ch, uint64_t now)
{
    struct rvmrpc_owner *o = &ch->owner;
    struct rvmrpc_xfer x;
    uint64_t bytes = 0;
    bool any = false;

    if (!rvmrpc_proxy_pending(&o->proxy)) {
        return;
    }
    note_looked(ch, rvmrpc_owner_intact(o, now, &ch->done));
    while (bytes < TURN_BYTES &&
           rvmrpc_proxy_deliver_begin(&o->proxy, &x, now, &ch->done)) {
        rvmrpc_owner_copy_in(o, &x);
        bytes += x.length;
        any |= rvmrpc_owner_post(o, &x, now, &ch->done);
    }
    if (any) {
        posted(ch, now);
    }
    ch->again |= rvmrpc_proxy_pending(&o->proxy);
}

/* ---- Answers ---- */

static uint32_t take_answer(RvmrpcChannel *ch, uint32_t slot, uint64_t now)
{
    struct rvmrpc_owner *o = &ch->owner;
    struct rvmrpc_xfer x;
    RvmrpcCall *call;

    if (!rvmrpc_owner_reap_begin(o, slot, &x, now, &ch->done)) {
        return 0;
    }
    call = rvmrpc_call_of(x.call);
    if (x.length) {
        call->res = g_malloc(x.length);
        rvmrpc_owner_copy_out(o, &x, call->res);
    }
    rvmrpc_owner_reap_commit(o, &x, true, now, &ch->done);
    return x.length;
}

static void note_answer(RvmrpcChannel *ch, uint64_t now)
{
    ch->silent = false;
    ch->stuck = false;
    adapt(ch, now);
    ch->last_answer = now;
}

/* True: there was an answer. */
static bool reap(RvmrpcChannel *ch, uint64_t now)
{
    uint32_t nslots = ch->owner.proxy.nslots, slot = 0;
    uint64_t bytes = 0;
    bool any = false;

    for (uint32_t i = 0; i < nslots && bytes < TURN_BYTES; i++) {
        slot = (ch->next_slot + i) % nslots;
        if (rvmrpc_owner_answered(&ch->owner, slot)) {
            bytes += take_answer(ch, slot, now);
            any = true;
        }
    }
    if (bytes >= TURN_BYTES) {
        ch->next_slot = slot + 1;
    }
    if (any) {
        note_answer(ch, now);
    }
    return any;
}

/* ---- What the guest says ---- */

/* True: the guest came or went. */
static bool look(RvmrpcChannel *ch, uint64_t now)
{
    uint64_t beat_at = ch->owner.beat_at;
    uint32_t what = rvmrpc_owner_look(&ch->owner, now, &ch->done);

    if (ch->owner.beat_at != beat_at) {
        ch->silent = false;
    }
    ch->next_look = what & RVMRPC_LOOK_LATER ? now + LOOK_LATER_NS :
                    (now / LOOK_NS + 1) * LOOK_NS;
    note_looked(ch, what);
    return what & (RVMRPC_LOOK_OPENED | RVMRPC_LOOK_CLOSED);
}

/* True: there was an event.  Of those of an epoch this comes before its end. */
static bool hear(RvmrpcChannel *ch, uint64_t now)
{
    struct rvmrpc_told told;
    bool any = false;

    if (!rvmrpc_owner_events_due(&ch->owner, now)) {
        return false;
    }
    rvmrpc_owner_hear(&ch->owner, now);
    while (rvmrpc_owner_take_event(&ch->owner, now, &told)) {
        if (!ch->told) {
            ch->told = g_array_new(FALSE, FALSE, sizeof(told));
        }
        g_array_append_val(ch->told, told);
        any = true;
    }
    return any;
}

static uint32_t submit(RvmrpcChannel *ch, RvmrpcCall *call, uint64_t now)
{
    uint32_t status = rvmrpc_proxy_submit(&ch->owner.proxy, &call->core, now);

    if (status != RVMRPC_STATUS_OK) {
        return status;
    }
    g_atomic_pointer_set(&call->channel, ch);
    rvmrpc_call_ref(call);
    ch->next_deadline = MIN(ch->next_deadline, call->core.deadline);
    deliver(ch, now);
    return RVMRPC_STATUS_OK;
}

static void probed(RvmrpcCall *call, void *opaque)
{
    RvmrpcChannel *ch = opaque;

    g_mutex_lock(&ch->lock);
    ch->silent = call->core.status == RVMRPC_STATUS_TIMED_OUT;
    g_clear_pointer(&ch->probe, rvmrpc_call_unref);
    g_mutex_unlock(&ch->lock);
}

/* A missing beat or an unanswered call alone says little: ask. */
static void probe(RvmrpcChannel *ch, uint64_t now)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;

    if (!p->epoch || p->stopped || ch->probe || ch->silent ||
        now < ch->next_probe ||
        (!p->unanswered && now - p->last_seen < BEAT_NS)) {
        return;
    }
    ch->next_probe = now + NS_PER_S;
    ch->probe = rvmrpc_call_new(NULL, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL,
                                0, PROBE_MS, probed, ch);
    if (submit(ch, ch->probe, now) != RVMRPC_STATUS_OK) {
        ch->silent = rvmrpc_proxy_stuck(p);
        g_clear_pointer(&ch->probe, rvmrpc_call_unref);
    }
}

/* ---- A turn ---- */

static bool drain(RvmrpcChannel *ch)
{
    uint64_t n;

    if (read(ch->config.doorbell_fd, &n, sizeof(n)) != sizeof(n)) {
        return false;
    }
    ch->rings += n;
    return true;
}

static void mute(RvmrpcChannel *ch, bool muted, uint64_t now)
{
    ch->muted = muted;
    ch->unmute_at = muted ? now + IDLE_NS : NEVER;
    g_source_modify_unix_fd(ch->source, ch->tag, muted ? 0 : G_IO_IN);
}

/* A guest that rings for nothing shall not keep the thread awake. */
static void idle_ring(RvmrpcChannel *ch, uint64_t now)
{
    if (now - ch->idle_since > IDLE_NS) {
        ch->idle_since = now;
        ch->idle_rings = 0;
    }
    if (++ch->idle_rings > IDLE_RINGS) {
        ch->idle_rings = 0;
        mute(ch, true, now);
    }
}

static void look_again(RvmrpcChannel *ch, uint64_t now)
{
    if (now < ch->again_at) {
        return;
    }
    ch->again_at = NEVER;
    /* Calls that are left to their slots can wait for the next look. */
    if (!ch->owner.proxy.ncalls || !waiting(ch)) {
        return;
    }
    if (rvmrpc_owner_rekick(&ch->owner)) {
        interrupt(ch);
    }
    ch->again_ns = MIN(2 * ch->again_ns, AGAIN_MAX_NS);
    ch->again_at = now + ch->again_ns;
}

static void expire(RvmrpcChannel *ch, uint64_t now)
{
    ch->next_deadline = rvmrpc_owner_expire(&ch->owner, now, &ch->done);
    if (!ch->stuck && rvmrpc_proxy_stuck(&ch->owner.proxy)) {
        ch->stuck = ch->tell_stuck = true;
    }
}

/* Lock not held, in the channel's thread. */
static void tell_state(RvmrpcChannel *ch, uint32_t what, RvmrpcClosed why,
                       bool stuck)
{
    const RvmrpcChannelOps *ops = ch->config.ops;

    if (what & RVMRPC_LOOK_CLOSED) {
        ops->closed(ch->config.opaque, why);
    }
    if (what & RVMRPC_LOOK_OPENED) {
        ops->opened(ch->config.opaque);
    }
    if (stuck) {
        ops->stuck(ch->config.opaque);
    }
}

static void tell_events(RvmrpcChannel *ch, GArray *told)
{
    for (guint i = 0; told && i < told->len; i++) {
        ch->config.ops->event(ch->config.opaque,
                              &g_array_index(told, struct rvmrpc_told, i));
    }
    g_clear_pointer(&told, g_array_unref);
}

/* Owners are told last: they may submit the next. */
static void tell_done(struct rvmrpc_call *core)
{
    for (struct rvmrpc_call *next; core; core = next) {
        RvmrpcCall *call = rvmrpc_call_of(core);

        next = core->next;
        g_atomic_pointer_set(&call->channel, NULL);
        call->done(call, call->opaque);
        rvmrpc_call_unref(call);
    }
}

/* Lets the lock go, which is held. */
static void unlock_and_tell(RvmrpcChannel *ch)
{
    struct rvmrpc_call *ended = ch->done.head;
    GArray *told = g_steal_pointer(&ch->told);
    uint32_t what = ch->looked;
    RvmrpcClosed why = ch->why;
    bool stuck = ch->tell_stuck;

    ch->done.head = ch->done.tail = NULL;
    ch->looked = 0;
    ch->tell_stuck = ch->ends = false;
    g_mutex_unlock(&ch->lock);
    tell_events(ch, told);
    tell_state(ch, what, why, stuck);
    tell_done(ended);
}

static void hand_over(RvmrpcChannel *ch);  /* below: it ends the source */

static void turn(RvmrpcChannel *ch)
{
    uint64_t now = rvmrpc_clock();
    bool rung = drain(ch), useful, offer;

    g_mutex_lock(&ch->lock);
    offer = now >= ch->next_look && now >= ch->offer_at && ch->config.kernel;
    ch->again = false;
    if (ch->muted && now >= ch->unmute_at) {
        mute(ch, false, now);
    }
    useful = reap(ch, now);
    if (ch->asleep) {
        rvmrpc_owner_awake(&ch->owner);
        ch->asleep = false;
    }
    useful |= hear(ch, now);
    if (rung || now >= ch->next_look) {
        useful |= look(ch, now);
    }
    if (rung && !useful) {
        idle_ring(ch, now);
    }
    look_again(ch, now);
    expire(ch, now);
    deliver(ch, now);
    probe(ch, now);
    unlock_and_tell(ch);
    if (offer) {
        hand_over(ch);
    }
}

/* ---- The source ---- */

static uint64_t next_time(const RvmrpcChannel *ch)
{
    return MIN(MIN(MIN(ch->next_look, ch->next_deadline),
                   MIN(ch->again_at, ch->unmute_at)),
               rvmrpc_owner_events_at(&ch->owner));
}

static bool has_work(const RvmrpcChannel *ch)
{
    return ch->again || ch->looked || ch->told || ch->done.head ||
           answered(ch) || rvmrpc_owner_events_due(&ch->owner, 0);
}

/* True: there is something to do.  Lock held. */
static bool prepare(RvmrpcChannel *ch, gint *timeout)
{
    uint64_t now = rvmrpc_clock(), next = next_time(ch);

    if (next <= now || has_work(ch)) {
        return TRUE;
    }
    *timeout = (gint)MIN((next - now + NS_PER_MS - 1) / NS_PER_MS, 1000);
    if (!waiting(ch)) {
        return FALSE;
    }
    if (now < ch->spin_until) {
        /* Other descriptors are looked at between two looks at the window. */
        *timeout = 0;
        return FALSE;
    }
    ch->asleep = true;
    return !rvmrpc_owner_sleep(&ch->owner);
}

static gboolean source_prepare(GSource *source, gint *timeout)
{
    RvmrpcChannel *ch = ((ChannelSource *)source)->ch;
    gboolean ready;

    g_mutex_lock(&ch->lock);
    ready = prepare(ch, timeout);
    g_mutex_unlock(&ch->lock);
    return ready;
}

static gboolean source_check(GSource *source)
{
    RvmrpcChannel *ch = ((ChannelSource *)source)->ch;
    gboolean ready;

    if (g_source_query_unix_fd(source, ch->tag)) {
        return TRUE;
    }
    g_mutex_lock(&ch->lock);
    ready = has_work(ch) || rvmrpc_clock() >= next_time(ch);
    g_mutex_unlock(&ch->lock);
    return ready;
}

static gboolean source_dispatch(GSource *source, GSourceFunc unused,
                                void *unused2)
{
    (void)unused;
    (void)unused2;
    turn(((ChannelSource *)source)->ch);
    return G_SOURCE_CONTINUE;
}

/* ---- For its users ---- */

/* Takes the window over, from whomever.  The channel's thread, or before it. */
static void own(RvmrpcChannel *ch)
{
    static GSourceFuncs funcs = {
        .prepare = source_prepare,
        .check = source_check,
        .dispatch = source_dispatch,
    };
    const RvmrpcChannelConfig *config = &ch->config;
    const struct rvmrpc_owner_config owner = {
        .layout = config->layout,
        .doorbell = config->doorbell,
        .random = random63,
    };

    g_mutex_lock(&ch->lock);
    ch->kernel = NULL;
    ch->next_deadline = ch->again_at = ch->unmute_at = NEVER;
    rvmrpc_owner_init(&ch->owner, config->base, config->size, &owner,
                      random63() >> 31);
    ch->owner.proxy.stopped = ch->stopped;
    ch->source = g_source_new(&funcs, sizeof(ChannelSource));
    ((ChannelSource *)ch->source)->ch = ch;
    ch->tag = g_source_add_unix_fd(ch->source, config->doorbell_fd, G_IO_IN);
    g_source_attach(ch->source, config->context);
    interrupt(ch);
    g_mutex_unlock(&ch->lock);
}

static void offer_later(RvmrpcChannel *ch, uint64_t now, bool patient)
{
    ch->offer_ns = patient ? MIN(2 * ch->offer_ns, OFFER_MAX_NS) : OFFER_MIN_NS;
    /* It comes with a look; the thread is not woken for it. */
    ch->offer_at = now / LOOK_NS * LOOK_NS + ch->offer_ns;
}

static void kernel_lost(void *opaque)
{
    RvmrpcChannel *ch = opaque;
    RvmrpcKernel *k = ch->kernel;
    uint64_t now = rvmrpc_clock();

    own(ch);
    /* A guest that tears its window again and again pays for it alone. */
    g_mutex_lock(&ch->lock);
    offer_later(ch, now, now - ch->given_at < OFFER_MAX_NS);
    g_mutex_unlock(&ch->lock);
    rvmrpc_kernel_free(k, RVMRPC_STATUS_RESET);
}

/*
 * True: the kernel has taken the window.  Else it is as it was, and asking for
 * a module that is not there costs next to nothing.  Lock held, so that what
 * the VM does meanwhile is told to somebody.
 */
static bool give(RvmrpcChannel *ch, uint64_t now)
{
    if (!ch->config.kernel) {
        return false;
    }
    ch->offered.stopped = ch->stopped;
    ch->kernel = rvmrpc_kernel_new(&ch->config, kernel_lost, ch, &ch->refusal);
    ch->given_at = now;
    if (!ch->kernel) {
        offer_later(ch, now, ch->refusal != RVMRPC_KERNEL_ABSENT);
    }
    return ch->kernel;
}

static void set_offered(RvmrpcChannel *ch, const RvmrpcKernelConfig *kernel)
{
    if (kernel) {
        ch->offered = *kernel;
    }
    ch->config.kernel = kernel ? &ch->offered : NULL;
    ch->offer_ns = OFFER_MIN_NS;
    ch->refusal = 0;
}

RvmrpcChannel *rvmrpc_channel_new(const RvmrpcChannelConfig *config)
{
    RvmrpcChannel *ch = g_new0(RvmrpcChannel, 1);
    bool given;

    ch->config = *config;
    ch->stopped = config->kernel && config->kernel->stopped;
    g_mutex_init(&ch->lock);
    g_mutex_lock(&ch->lock);
    set_offered(ch, config->kernel);
    given = give(ch, rvmrpc_clock());
    g_mutex_unlock(&ch->lock);
    if (!given) {
        own(ch);
    }
    return ch;
}

static void drop_source(RvmrpcChannel *ch)
{
    g_source_destroy(ch->source);
    g_source_unref(ch->source);
}

static void disown(RvmrpcChannel *ch, uint32_t status)
{
    g_mutex_lock(&ch->lock);
    hear(ch, rvmrpc_clock());
    rvmrpc_owner_close(&ch->owner, status, rvmrpc_clock(), &ch->done);
    ch->looked = 0;
    unlock_and_tell(ch);
    interrupt(ch);
    drop_source(ch);
}

/*
 * Gives our window to the kernel, if that takes it.  From then on it is not
 * written to any more.
 */
static void hand_over(RvmrpcChannel *ch)
{
    uint64_t now = rvmrpc_clock();

    g_mutex_lock(&ch->lock);
    if (!give(ch, now)) {
        g_mutex_unlock(&ch->lock);
        return;
    }
    hear(ch, now);
    if (ch->owner.proxy.epoch) {
        note_looked(ch, RVMRPC_LOOK_CLOSED);
        ch->why = RVMRPC_CLOSED_REPLACED;
    }
    rvmrpc_proxy_unregister(&ch->owner.proxy, RVMRPC_STATUS_RESET, now,
                            &ch->done);
    unlock_and_tell(ch);
    drop_source(ch);
}

void rvmrpc_channel_offer(RvmrpcChannel *ch, const RvmrpcKernelConfig *kernel)
{
    g_mutex_lock(&ch->lock);
    set_offered(ch, kernel);
    g_mutex_unlock(&ch->lock);
    if (!kernel && ch->kernel) {
        rvmrpc_kernel_give_up(ch->kernel);
    } else if (kernel && !ch->kernel) {
        hand_over(ch);
    }
}

void rvmrpc_channel_free(RvmrpcChannel *ch, uint32_t status)
{
    if (ch->kernel) {
        rvmrpc_kernel_free(ch->kernel, status);
    } else {
        disown(ch, status);
    }
    g_mutex_clear(&ch->lock);
    g_free(ch);
}

/* The channel's thread shall look at what another one has changed. */
static void wake_thread(const RvmrpcChannel *ch)
{
    GMainContext *context = ch->config.context ?: g_main_context_default();

    if (!g_main_context_is_owner(context)) {
        g_main_context_wakeup(context);
    }
}

static uint32_t submit_anywhere(RvmrpcChannel *ch, RvmrpcCall *call)
{
    return ch->kernel ? rvmrpc_kernel_submit(ch->kernel, ch, call) :
                        submit(ch, call, rvmrpc_clock());
}

uint32_t rvmrpc_channel_submit(RvmrpcChannel *ch, RvmrpcCall *call)
{
    uint32_t status;
    bool kernel;

    g_mutex_lock(&ch->lock);
    status = submit_anywhere(ch, call);
    kernel = ch->kernel;
    g_mutex_unlock(&ch->lock);
    if (!kernel) {
        wake_thread(ch);
    }
    return status;
}

/* Whether the call waits in its slot, and nobody else's matter is to be told. */
static bool alone(const RvmrpcChannel *ch, const RvmrpcCall *call)
{
    return !ch->kernel && !ch->done.head && !ch->looked &&
           ch->owner.proxy.slots[call->core.slot].call == &call->core;
}

/* Whether it is worth to look for the answer of a call that was just posted. */
static bool may_meet(RvmrpcChannel *ch)
{
    if (ch->kernel || ch->asleep || !ch->guest_awake) {
        return false;
    }
    if (ch->look_skips) {
        ch->look_skips--;
        return false;
    }
    return true;
}

static void note_meeting(RvmrpcChannel *ch, bool met)
{
    ch->look_misses = met ? 0 : MIN(2 * ch->look_misses + 1, LOOK_SKIPS_MAX);
    ch->look_skips = ch->look_misses;
}

/* True: the call has its answer, and its end is the caller's to tell. */
static bool meet(RvmrpcChannel *ch, RvmrpcCall *call)
{
    uint64_t now = rvmrpc_clock();
    struct rvmrpc_done *done = &ch->done;

    if (!rvmrpc_owner_answered(&ch->owner, call->core.slot)) {
        return false;
    }
    take_answer(ch, call->core.slot, now);
    note_answer(ch, now);
    if (done->head != &call->core || call->core.next) {
        return false;
    }
    done->head = done->tail = NULL;
    return true;
}

uint32_t rvmrpc_channel_submit_and_look(RvmrpcChannel *ch, RvmrpcCall *call,
                                        uint32_t us)
{
    bool met = false, idle = false, looks;
    uint64_t until;
    uint32_t status;

    g_mutex_lock(&ch->lock);
    status = submit_anywhere(ch, call);
    looks = status == RVMRPC_STATUS_OK && may_meet(ch);
    until = MIN(rvmrpc_clock() + us * NS_PER_US, call->core.deadline);
    while (looks && !met && rvmrpc_clock() < until && alone(ch, call)) {
        met = meet(ch, call);
        idle = met && !rvmrpc_proxy_pending(&ch->owner.proxy);
        /* Whoever wants the channel gets it. */
        g_mutex_unlock(&ch->lock);
        g_mutex_lock(&ch->lock);
    }
    if (looks) {
        note_meeting(ch, met);
    }
    g_mutex_unlock(&ch->lock);
    if (met) {
        tell_done(&call->core);
    }
    if (!idle) {
        wake_thread(ch);
    }
    return status;
}

void rvmrpc_channel_cancel(RvmrpcCall *call)
{
    RvmrpcChannel *ch = g_atomic_pointer_get(&call->channel);

    if (!ch) {
        return;
    }
    g_mutex_lock(&ch->lock);
    if (ch->kernel) {
        rvmrpc_kernel_cancel(ch->kernel, call);
    } else {
        rvmrpc_owner_cancel(&ch->owner, &call->core, rvmrpc_clock(),
                            &ch->done);
    }
    g_mutex_unlock(&ch->lock);
    wake_thread(ch);
}

void rvmrpc_channel_set_stopped(RvmrpcChannel *ch, bool stopped)
{
    g_mutex_lock(&ch->lock);
    ch->stopped = stopped;
    if (!stopped && ch->interrupt_later) {
        ch->interrupt_later = false;
        interrupt(ch);
    }
    if (ch->kernel) {
        rvmrpc_kernel_run(ch->kernel, !stopped);
        g_mutex_unlock(&ch->lock);
        return;
    }
    ch->owner.proxy.stopped = stopped;
    if (!stopped) {
        deliver(ch, rvmrpc_clock());
    }
    g_mutex_unlock(&ch->lock);
    wake_thread(ch);
}

void rvmrpc_channel_end(RvmrpcChannel *ch, uint32_t status, RvmrpcClosed why)
{
    g_mutex_lock(&ch->lock);
    if (ch->kernel) {
        rvmrpc_kernel_reset(ch->kernel, why);
        /* The kernel's own comes at once; a state that is loaded ends it. */
        ch->interrupt_later = ch->stopped;
        g_mutex_unlock(&ch->lock);
        return;
    }
    hear(ch, rvmrpc_clock());
    if (ch->owner.proxy.epoch) {
        note_looked(ch, RVMRPC_LOOK_CLOSED);
        ch->why = why;
        ch->ends = true;
    }
    rvmrpc_owner_close(&ch->owner, status, rvmrpc_clock(), &ch->done);
    if (ch->owner.proxy.stopped) {
        ch->interrupt_later = true;
    } else {
        interrupt(ch);
    }
    g_mutex_unlock(&ch->lock);
    wake_thread(ch);
}

/* What the guest has said, and did not ring for; lock held. */
static bool unheard(const RvmrpcChannel *ch)
{
    return rvmrpc_owner_hailed(&ch->owner) ||
           rvmrpc_owner_events_due(&ch->owner, rvmrpc_clock());
}

/* As the guest does: so it is heard no more often than its rings are. */
static void ring(RvmrpcChannel *ch)
{
    /* EAGAIN: the counter is full, so it was rung. */
    if (write(ch->config.doorbell_fd, &one, sizeof(one)) < 0 &&
        errno != EAGAIN) {
        g_warning("cannot ring for a guest: %s", g_strerror(errno));
    }
}

enum rvmrpc_main_turn rvmrpc_channel_main(RvmrpcChannel *ch, uint64_t epoch,
                                          uint32_t seen,
                                          void (*wait)(void *opaque),
                                          void *opaque)
{
    enum rvmrpc_main_turn what;
    bool wake;

    g_mutex_lock(&ch->lock);
    if (ch->kernel) {
        g_mutex_unlock(&ch->lock);
        return RVMRPC_MAIN_TURN_RESET;
    }
    what = rvmrpc_owner_main(&ch->owner, epoch, seen);
    wake = answered(ch);
    if (unheard(ch)) {
        ring(ch);
    }
    if (what == RVMRPC_MAIN_TURN_WAIT) {
        wait(opaque);
    }
    g_mutex_unlock(&ch->lock);
    if (wake) {
        wake_thread(ch);
    }
    return what;
}

void rvmrpc_channel_get_info(RvmrpcChannel *ch, RvmrpcChannelInfo *info)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;

    g_mutex_lock(&ch->lock);
    if (ch->kernel) {
        rvmrpc_kernel_get_info(ch->kernel, info);
        g_mutex_unlock(&ch->lock);
        return;
    }
    memset(info, 0, sizeof(*info));
    info->open = p->epoch;
    info->silent = ch->silent;
    info->os = p->os;
    memcpy(info->release, p->release, sizeof(info->release) - 1);
    info->epoch = p->epoch;
    info->seen_ns = p->last_seen ? rvmrpc_clock() - p->last_seen : 0;
    info->nslots = p->nslots;
    info->in_flight = p->ncalls;
    info->rings = ch->rings;
    info->interrupts = ch->interrupts;
    info->spin_us = ch->spin_us;
    info->guest_spin_us = ch->guest_spin_us;
    info->stats = p->stats;
    g_mutex_unlock(&ch->lock);
}

bool rvmrpc_channel_in_kernel(RvmrpcChannel *ch)
{
    bool in_kernel;

    g_mutex_lock(&ch->lock);
    in_kernel = ch->kernel;
    g_mutex_unlock(&ch->lock);
    return in_kernel;
}

uint64_t rvmrpc_channel_epoch(RvmrpcChannel *ch)
{
    uint64_t epoch;

    g_mutex_lock(&ch->lock);
    epoch = ch->kernel ? rvmrpc_kernel_epoch(ch->kernel) :
            ch->owner.proxy.epoch;
    g_mutex_unlock(&ch->lock);
    return epoch;
}

uint32_t rvmrpc_channel_max_arg(const RvmrpcChannel *ch)
{
    return ch->config.layout.req_bytes;
}
