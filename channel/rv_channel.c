/*
 * Reverse VMRPC: the host's end of a window in user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The channel is a GSource.  Before the thread sleeps in poll() the source says so in the window and looks once more
 * (prepare); whatever wakes it, it takes one turn (dispatch) of bounded length, so that guests share the thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "rv_channel.h"
#include "rv_list.h"

#define NS_PER_US           1000ull
#define NS_PER_MS           1000000ull
#define NS_PER_S            1000000000ull
#define NEVER               UINT64_MAX

#define LOOK_NS             NS_PER_S            /* at the window's pages, without a ring */
#define LOOK_LATER_NS       (100 * NS_PER_MS)   /* at hellos that are too many */
#define AGAIN_MIN_NS        (2 * NS_PER_MS)     /* for an answer, or a guest, that a lost ring or kick hides */
#define AGAIN_MAX_NS        (64 * NS_PER_MS)
#define SPIN_MIN_US         20
#define BEAT_NS             (15 * NS_PER_S)     /* without a sign of life: ask */
#define PROBE_MS            1000
#define TURN_CALLS          16                  /* answers and requests of a turn */

struct RvChannel {
    GSource *source;
    RvChannelConfig config;
    struct rvmrpc_owner owner;
    struct rvmrpc_done done;    /* ended, not told yet */
    gpointer tag;               /* of the doorbell's fd */
    bool asleep;                /* the window says so */
    uint64_t next_look;         /* all of these: ns */
    uint64_t next_deadline;
    uint64_t again_at;
    uint64_t again_ns;
    uint64_t last_post;
    uint64_t last_answer;
    uint64_t spin_until;
    uint32_t spin_us;           /* how long it spins at present */
    uint32_t guest_spin_us;     /* how long the guest may */
    RvCall *probe;              /* under way */
    bool silent;
    bool stuck;                 /* it was said */
    uint64_t rings;
    RvList *list;
};

typedef struct RvSource {
    GSource source;
    RvChannel *ch;
} RvSource;

/* 63 bits: for most of JSON's readers integers are signed, and an epoch is shown in JSON. */
static uint64_t random63(void)
{
    uint64_t value;

    /* Never short and never interrupted for so few bytes, once the pool is there. */
    while (getrandom(&value, sizeof(value), 0) != sizeof(value)) {
        g_usleep(1000);
    }
    return value >> 1;
}

static void kick(RvChannel *ch)
{
    static const uint64_t one = 1;

    /* EAGAIN: the counter is full, so an interrupt is on its way. */
    if (write(ch->config.interrupt_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        g_warning("cannot interrupt a guest: %s", g_strerror(errno));
    }
}

static bool waiting(const RvChannel *ch)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;

    for (uint32_t i = 0; i < p->nslots; i++) {
        if (p->slots[i].state == RVMRPC_SLOT_BUSY) {
            return true;
        }
    }
    return false;
}

/* ---- Requests ---- */

/* The guest may spin while calls follow each other closely, and not when they are rare. */
static void adapt_guest(RvChannel *ch, uint64_t now)
{
    uint32_t limit = ch->config.spin_us;

    if (now - ch->last_answer < limit * NS_PER_US) {
        ch->guest_spin_us = MIN(MAX(2 * ch->guest_spin_us, SPIN_MIN_US), limit);
    } else {
        ch->guest_spin_us = ch->guest_spin_us / 2 < SPIN_MIN_US ? 0 : ch->guest_spin_us / 2;
    }
    rvmrpc_owner_set_spin(&ch->owner, ch->guest_spin_us);
}

static void posted(RvChannel *ch, uint64_t now)
{
    adapt_guest(ch, now);
    if (rvmrpc_owner_kick(&ch->owner)) {
        kick(ch);
    }
    ch->last_post = now;
    ch->spin_until = now + ch->spin_us * NS_PER_US;
    ch->again_ns = AGAIN_MIN_NS;
    ch->again_at = MIN(ch->again_at, now + ch->again_ns);
}

static void looked(RvChannel *ch, uint32_t what);

static void deliver(RvChannel *ch, uint64_t now)
{
    struct rvmrpc_owner *o = &ch->owner;
    struct rvmrpc_xfer x;
    bool any = false;

    if (!rvmrpc_proxy_pending(&o->proxy)) {
        return;
    }
    looked(ch, rvmrpc_owner_intact(o, now, &ch->done));
    for (int i = 0; i < TURN_CALLS && rvmrpc_proxy_deliver_begin(&o->proxy, &x, now, &ch->done); i++) {
        rvmrpc_owner_copy_in(o, &x);
        any |= rvmrpc_owner_post(o, &x, now, &ch->done);
    }
    if (any) {
        posted(ch, now);
    }
}

/* ---- Answers ---- */

/* An answer that came so soon would have been met by a spin; one that did not come in time would not. */
static void adapt(RvChannel *ch, uint64_t now)
{
    uint64_t took = now - ch->last_post;

    if (ch->asleep && took < ch->config.spin_us * NS_PER_US) {
        ch->spin_us = MIN(MAX(2 * ch->spin_us, SPIN_MIN_US), ch->config.spin_us);
    } else if (ch->asleep) {
        ch->spin_us = ch->spin_us / 2 < SPIN_MIN_US ? 0 : ch->spin_us / 2;
    }
}

static void take_answer(RvChannel *ch, uint32_t slot, uint64_t now)
{
    struct rvmrpc_owner *o = &ch->owner;
    struct rvmrpc_xfer x;
    RvCall *call;

    if (rvmrpc_owner_reap_begin(o, slot, &x, now, &ch->done)) {
        call = rv_call_of(x.call);
        if (x.length) {
            call->res = g_malloc(x.length);
            rvmrpc_owner_copy_out(o, &x, call->res);
        }
        rvmrpc_owner_reap_commit(o, &x, true, now, &ch->done);
    }
    ch->silent = false;
    ch->stuck = false;
    ch->last_answer = now;
}

static void reap(RvChannel *ch, uint64_t now)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;
    bool any = false;

    for (uint32_t i = 0; i < p->nslots; i++) {
        if (rvmrpc_owner_answered(&ch->owner, i)) {
            take_answer(ch, i, now);
            any = true;
        }
    }
    if (any) {
        adapt(ch, now);
    }
}

/* ---- The guest's signs of life ---- */

static void looked(RvChannel *ch, uint32_t what)
{
    const RvChannelOps *ops = ch->config.ops;

    if (what & RVMRPC_LOOK_KICK) {
        kick(ch);
    }
    if (what & (RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_OPENED)) {
        ch->silent = false;
        ch->stuck = false;
        rv_list_clear(ch->list);
    }
    if (what & RVMRPC_LOOK_CLOSED) {
        ops->closed(ch->config.opaque, what & RVMRPC_LOOK_OPENED ? RV_CLOSED_REPLACED :
                    what & RVMRPC_LOOK_KICK ? RV_CLOSED_OVERWRITTEN : RV_CLOSED_GUEST_EXIT);
    }
    if (what & RVMRPC_LOOK_OPENED) {
        ops->opened(ch->config.opaque);
    }
}

static void look(RvChannel *ch, uint64_t now)
{
    uint64_t beat_at = ch->owner.beat_at;
    uint32_t what = rvmrpc_owner_look(&ch->owner, now, &ch->done);

    if (ch->owner.beat_at != beat_at) {
        ch->silent = false;
    }
    ch->next_look = now + (what & RVMRPC_LOOK_LATER ? LOOK_LATER_NS : LOOK_NS);
    looked(ch, what);
}

static void probed(RvCall *call, void *opaque)
{
    RvChannel *ch = opaque;

    ch->silent = call->core.status == RVMRPC_STATUS_TIMED_OUT;
    rv_call_unref(call);
    ch->probe = NULL;
}

/* A missing beat, or an unanswered call, alone says nothing: a procedure may be slow, a guest busy. */
static void probe(RvChannel *ch, uint64_t now)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;

    if (!p->epoch || ch->probe || ch->silent || (!p->unanswered && now - p->last_seen < BEAT_NS)) {
        return;
    }
    ch->owner.proxy.unanswered = 0;
    ch->probe = rv_call_new(NULL, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL, 0, PROBE_MS, probed, ch);
    if (rv_channel_submit(ch, ch->probe) != RVMRPC_STATUS_OK) {
        /* Every slot is with calls that nobody answers. */
        ch->silent = true;
        g_clear_pointer(&ch->probe, rv_call_unref);
    }
}

/* ---- A turn ---- */

static bool drain(RvChannel *ch)
{
    uint64_t n;

    if (read(ch->config.doorbell_fd, &n, sizeof(n)) != sizeof(n)) {
        return false;
    }
    ch->rings += n;
    return true;
}

static void look_again(RvChannel *ch, uint64_t now)
{
    if (now < ch->again_at) {
        return;
    }
    ch->again_at = NEVER;
    if (!waiting(ch)) {
        return;
    }
    if (rvmrpc_owner_rekick(&ch->owner)) {
        kick(ch);
    }
    ch->again_ns = MIN(2 * ch->again_ns, AGAIN_MAX_NS);
    ch->again_at = now + ch->again_ns;
}

static void expire(RvChannel *ch, uint64_t now)
{
    if (now >= ch->next_deadline) {
        rvmrpc_proxy_expire(&ch->owner.proxy, now, &ch->done);
    }
    if (!ch->stuck && rvmrpc_proxy_stuck(&ch->owner.proxy)) {
        ch->stuck = true;
        g_warning("a guest answers in none of its %u slots", ch->owner.proxy.nslots);
    }
}

/* Owners are told last: they may submit, cancel, or free what they own. */
static void tell(RvChannel *ch)
{
    struct rvmrpc_call *core = ch->done.head, *next;

    ch->done.head = ch->done.tail = NULL;
    for (; core; core = next) {
        RvCall *call = rv_call_of(core);

        next = core->next;
        call->channel = NULL;
        call->done(call, call->opaque);
        rv_call_unref(call);
    }
}

static void turn(RvChannel *ch)
{
    uint64_t now = rv_now();
    bool rung = drain(ch);

    reap(ch, now);
    if (ch->asleep) {
        rvmrpc_owner_awake(&ch->owner);
        ch->asleep = false;
    }
    if (rung || now >= ch->next_look) {
        look(ch, now);
    }
    look_again(ch, now);
    expire(ch, now);
    deliver(ch, now);
    probe(ch, now);
    ch->next_deadline = rvmrpc_proxy_expire(&ch->owner.proxy, now, &ch->done);
    tell(ch);
}

/* ---- The source ---- */

static bool answered(const RvChannel *ch)
{
    for (uint32_t i = 0; i < ch->owner.proxy.nslots; i++) {
        if (rvmrpc_owner_answered(&ch->owner, i)) {
            return true;
        }
    }
    return false;
}

static gboolean source_prepare(GSource *source, gint *timeout)
{
    RvChannel *ch = ((RvSource *)source)->ch;
    uint64_t now = rv_now(), next;

    if (ch->done.head || answered(ch)) {
        return TRUE;
    }
    if (now < ch->spin_until && waiting(ch)) {
        /* Others' file descriptors are looked at between two looks at the window. */
        *timeout = 0;
        return FALSE;
    }
    ch->asleep = true;
    if (!rvmrpc_owner_sleep(&ch->owner)) {
        return TRUE;
    }
    next = MIN(MIN(ch->next_look, ch->next_deadline), ch->again_at);
    *timeout = next <= now ? 0 : (gint)MIN((next - now + NS_PER_MS - 1) / NS_PER_MS, 1000);
    return next <= now;
}

static gboolean source_check(GSource *source)
{
    RvChannel *ch = ((RvSource *)source)->ch;
    uint64_t now = rv_now();

    return g_source_query_unix_fd(source, ch->tag) || ch->done.head || answered(ch) ||
           now >= MIN(MIN(ch->next_look, ch->next_deadline), ch->again_at);
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
    (void)callback;
    (void)opaque;
    turn(((RvSource *)source)->ch);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {
    .prepare = source_prepare,
    .check = source_check,
    .dispatch = source_dispatch,
};

/* ---- For its users ---- */

RvChannel *rv_channel_new(const RvChannelConfig *config)
{
    const struct rvmrpc_owner_config owner = {
        .layout = config->layout,
        .doorbell = config->doorbell,
        .random = random63,
    };
    RvChannel *ch = g_new0(RvChannel, 1);

    ch->config = *config;
    ch->next_deadline = ch->again_at = NEVER;
    rvmrpc_owner_init(&ch->owner, config->base, config->size, &owner, random63() >> 31);
    ch->list = rv_list_new(ch);
    ch->source = g_source_new(&source_funcs, sizeof(RvSource));
    ((RvSource *)ch->source)->ch = ch;
    ch->tag = g_source_add_unix_fd(ch->source, config->doorbell_fd, G_IO_IN);
    g_source_attach(ch->source, config->context);
    /* A guest that sleeps has to hear of its new host. */
    kick(ch);
    return ch;
}

void rv_channel_free(RvChannel *ch, uint32_t status)
{
    rvmrpc_owner_close(&ch->owner, status, rv_now(), &ch->done);
    tell(ch);
    kick(ch);
    g_source_destroy(ch->source);
    g_source_unref(ch->source);
    rv_list_free(ch->list);
    g_free(ch);
}

uint32_t rv_channel_submit(RvChannel *ch, RvCall *call)
{
    uint64_t now = rv_now();
    uint32_t status = rvmrpc_proxy_submit(&ch->owner.proxy, &call->core, now);

    if (status != RVMRPC_STATUS_OK) {
        return status;
    }
    rv_call_ref(call);
    call->channel = ch;
    ch->next_deadline = MIN(ch->next_deadline, call->core.deadline);
    deliver(ch, now);
    return RVMRPC_STATUS_OK;
}

void rv_channel_cancel(RvCall *call)
{
    RvChannel *ch = call->channel;

    if (ch) {
        rvmrpc_proxy_cancel(&ch->owner.proxy, &call->core, rv_now(), &ch->done);
    }
}

uint32_t rv_channel_max_arg(const RvChannel *ch)
{
    return ch->config.layout.req_bytes;
}

const GArray *rv_channel_list(RvChannel *ch)
{
    return rv_list_get(ch->list);
}

void rv_channel_get_info(const RvChannel *ch, RvChannelInfo *info)
{
    const struct rvmrpc_proxy *p = &ch->owner.proxy;

    memset(info, 0, sizeof(*info));
    info->open = p->epoch;
    info->silent = ch->silent;
    info->stuck = rvmrpc_proxy_stuck(p);
    info->os = p->os;
    memcpy(info->release, p->release, sizeof(info->release) - 1);
    info->epoch = p->epoch;
    info->seen_ns = p->last_seen ? rv_now() - p->last_seen : 0;
    info->nslots = p->nslots;
    info->in_flight = p->ncalls;
    info->rings = ch->rings;
    info->stats = p->stats;
}
