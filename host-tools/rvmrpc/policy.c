/*
 * The rvmrpc command: balance, who is asked for how much
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <math.h>
#include "policy.h"

/* Once it asks, until there is so much more than the target: 1/16. */
#define HYSTERESIS      16
/* Of what a guest can spare, in one round: its answer is to be seen first. */
#define STEP            2
/* Room above the floor that is left: a kernel may take more than it is asked. */
#define MARGIN          8
/* Points of pressure more than a round ago. */
#define RISE            0.25
#define RISE_WAIT       6
#define BACKOFF_MAX     64
/* Of those that say they freed what never came: the next ones have their turn. */
#define FUTILE_WAIT     4
/* The kernel's average is over 10 s. */
#define AVERAGE_S       10.0
/* What is read again so fast is wanted: this, and this share of the cache. */
#define HOT_BYTES       (1 << 20)
#define HOT_SHARE       4096
/* Below that they are chance. */
#define SWAP_IN_BYTES   (64 << 10)
#define STALLS          1.0

const char *policy_reason_name(PolicyReason reason)
{
    static const char *const names[] = {
        [POLICY_ENOUGH] = "enough",
        [POLICY_ASKED] = "asked",
        [POLICY_NOT_NEEDED] = "not-needed",
        [POLICY_UNKNOWN] = "unknown",
        [POLICY_FIRST] = "first-look",
        [POLICY_PRESSURE] = "pressure",
        [POLICY_SWAPS] = "swaps",
        [POLICY_RISING] = "rising",
        [POLICY_HOT] = "hot",
        [POLICY_FLOOR] = "floor",
        [POLICY_LITTLE] = "little",
        [POLICY_WAITS] = "waits",
    };

    return names[reason];
}

static guint64 above(guint64 a, guint64 b)
{
    return a > b ? a - b : 0;
}

/* ---- A guest ---- */

/* Having a guest reclaim is a wait for memory itself, which is not its fault. */
static void see_pressure(PolicyGuest *g, double seconds)
{
    g->own *= exp(-seconds / AVERAGE_S);
    if (g->look.psi_unknown) {
        return;
    }
    g->before = g->pressure;
    g->pressure = g->look.has_psi ? MAX(g->look.psi - g->own, 0) : 0;
}

static gboolean is_hot(const PolicyLook *look)
{
    return look->refault >= MAX(HOT_BYTES, look->cached / HOT_SHARE);
}

/* Why it is asked for nothing; POLICY_ASKED: it can be. */
static PolicyReason judge(PolicyGuest *g, double limit)
{
    const PolicyLook *look = &g->look;

    if (!look->has_memory || look->psi_unknown ||
        (!look->has_rates && !look->first)) {
        return POLICY_UNKNOWN;
    }
    if (look->first) {
        return POLICY_FIRST;
    }
    if (g->pressure >= limit) {
        return POLICY_PRESSURE;
    }
    if (look->swap_in >= SWAP_IN_BYTES || look->stalls >= STALLS) {
        return POLICY_SWAPS;
    }
    if (g->pressure > g->before + RISE) {
        g->wait = MAX(g->wait, RISE_WAIT);
        return POLICY_RISING;
    }
    if (g->wait) {
        return POLICY_WAITS;
    }
    if (is_hot(look)) {
        return POLICY_HOT;
    }
    if (g->room < POLICY_LEAST) {
        return POLICY_FLOOR;
    }
    return g->spare / STEP < POLICY_LEAST ? POLICY_LITTLE : POLICY_ASKED;
}

static void look_at(PolicyGuest *g, double limit, double seconds)
{
    const PolicyLook *look = &g->look;
    guint64 kept = above(look->total, look->free);

    see_pressure(g, seconds);
    g->ask = 0;
    g->spare = look->has_memory ? above(look->available, look->free) : 0;
    g->room = look->has_memory ? above(kept, g->floor) : 0;
    g->room -= g->room / MARGIN;
    if (g->wait) {
        g->wait--;
    }
    g->reason = judge(g, limit);
}

/* ---- The host ---- */

static void look_at_host(PolicyHost *host)
{
    guint64 gained = above(host->available, host->last);
    guint64 enough = host->target + host->target / HYSTERESIS;

    /* What was freed comes by and by, and some of it never. */
    if (host->coming && gained < host->coming / 4) {
        host->futile++;
    } else if (gained) {
        host->futile = 0;
    }
    host->coming = above(host->coming, gained) / 2;
    host->last = host->available;
    host->asking = host->available < (host->asking ? enough : host->target);
    host->need = host->asking ? above(enough, host->available + host->coming)
                              : 0;
}

static double heat(const PolicyGuest *g)
{
    return g->look.refault / MAX(g->look.cached, 1);
}

/* The coldest cache first, then who has most to spare. */
static int compare(const void *a, const void *b)
{
    const PolicyGuest *one = *(PolicyGuest *const *)a;
    const PolicyGuest *other = *(PolicyGuest *const *)b;

    if (heat(one) != heat(other)) {
        return heat(one) < heat(other) ? -1 : 1;
    }
    return one->spare > other->spare ? -1 : one->spare < other->spare;
}

void policy_decide(PolicyHost *host, PolicyGuest *const *guests, guint count,
                   double seconds)
{
    g_autoptr(GPtrArray) able = g_ptr_array_new();
    guint64 need;

    look_at_host(host);
    need = host->need;
    for (guint i = 0; i < count; i++) {
        if (host->futile && guests[i]->ask) {
            guests[i]->wait = MAX(guests[i]->wait,
                                  MIN(host->futile, FUTILE_WAIT) + 1);
        }
        look_at(guests[i], host->limit, seconds);
        if (!host->asking) {
            guests[i]->reason = POLICY_ENOUGH;
        } else if (guests[i]->reason == POLICY_ASKED) {
            g_ptr_array_add(able, guests[i]);
        }
    }
    g_ptr_array_sort(able, compare);
    for (guint i = 0; i < able->len; i++) {
        PolicyGuest *g = able->pdata[i];

        if (!need) {
            g->reason = POLICY_NOT_NEEDED;
            continue;
        }
        g->ask = MIN(MIN(g->spare / STEP, g->room), MAX(need, POLICY_LEAST));
        need = above(need, g->ask);
    }
}

void policy_told(PolicyHost *host, PolicyGuest *g, guint64 freed,
                 double seconds)
{
    /* 1 - e^-x of it at its end, which the next look counts from its beginning. */
    g->own += 100 * expm1(seconds / AVERAGE_S);
    host->coming += MIN(freed, g->ask);
    if (freed >= g->ask / 4) {
        g->backoff = 0;
        return;
    }
    g->backoff = CLAMP(g->backoff * 2, 2, BACKOFF_MAX);
    /* The next look takes one off. */
    g->wait = MAX(g->wait, g->backoff + 1);
}
