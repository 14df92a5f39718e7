/*
 * The rvmrpc command: balance, what it says
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include "balance.h"

/* Why a guest is or is not asked; to be freed. */
static char *explain(const Balanced *b)
{
    const PolicyGuest *g = &b->guest;
    const PolicyLook *look = &g->look;
    g_autofree char *ask = size_words(g->ask), *spare = size_words(g->spare);
    g_autofree char *kept = size_words(look->total - MIN(look->total,
                                                         look->free));
    g_autofree char *floor = size_words(g->floor);

    switch (g->reason) {
    case POLICY_ENOUGH:
        return g_strdup("not asked: the host has enough");
    case POLICY_ASKED:
        return g_strdup_printf("asked for %s: it has %s to spare, reads "
                               "%.2f MiB/s again, and waits for memory "
                               "%.2f %% of the time", ask, spare,
                               look->refault / 1048576, g->pressure);
    case POLICY_NOT_NEEDED:
        return g_strdup_printf("not asked: has %s to spare, and others' cache "
                               "is colder or larger", spare);
    case POLICY_UNKNOWN:
        return b->state ? g_strdup_printf("not asked: %s", b->state) :
               g_strdup_printf("not asked: its kernel does not tell %s",
                               !look->has_memory ? "its memory" :
                               look->psi_unknown ? "how long its tasks wait for "
                               "memory" : "what it reads again");
    case POLICY_FIRST:
        return g_strdup("not asked: it was seen for the first time, and rates "
                        "take two looks");
    case POLICY_PRESSURE:
        return g_strdup_printf("not asked: its tasks wait for memory %.2f %% "
                               "of the time", g->pressure);
    case POLICY_SWAPS:
        return g_strdup_printf("not asked: it swaps in %.2f MiB/s, and had to "
                               "wait for memory %.1f times a second",
                               look->swap_in / 1048576, look->stalls);
    case POLICY_RISING:
        return g_strdup_printf("not asked: its pressure rises, from %.2f to "
                               "%.2f %%", g->before, g->pressure);
    case POLICY_HOT:
        return g_strdup_printf("not asked: its cache is in use, it reads "
                               "%.2f MiB/s again", look->refault / 1048576);
    case POLICY_FLOOR:
        return g_strdup_printf("not asked: it has %s in use, its floor is %s",
                               kept, floor);
    case POLICY_LITTLE:
        return g_strdup_printf("not asked: it has only %s to spare", spare);
    case POLICY_WAITS:
        return g_strdup_printf("not asked for %u rounds more: asking it was of "
                               "no use, or its pressure rose", g->wait);
    }
    return NULL;
}

void balance_show(const PolicyHost *host, const GPtrArray *all)
{
    g_autofree char *now = clock_text();
    g_autofree char *available = size_words(host->available);
    g_autofree char *target = size_words(host->target);
    g_autofree char *need = size_words(host->need);

    printf("%s the host has %s available, its target is %s", now, available,
           target);
    if (host->asking) {
        printf(": %s to be asked for", need);
    }
    putchar('\n');
    for (guint i = 0; i < all->len; i++) {
        const Balanced *b = all->pdata[i];
        g_autofree char *name = clean(rvmrpc_vm_get_name(b->vm));
        g_autofree char *text = explain(b);

        printf("  %s: %s\n", name, text);
    }
}

void balance_show_results(const GPtrArray *all)
{
    for (guint i = 0; i < all->len; i++) {
        const Balanced *b = all->pdata[i];
        g_autofree char *name = clean(rvmrpc_vm_get_name(b->vm));
        g_autofree char *freed = size_words(b->shrunk.freed);
        g_autofree char *why = b->error ? clean(b->error->message) : NULL;

        if (!b->guest.ask) {
            continue;
        }
        if (why) {
            printf("  %s: failed: %s\n", name, why);
        } else {
            printf("  %s: freed %s in %.2f s%s\n", name, freed, b->seconds,
                   b->shrunk.end == RVMRPC_SHRINK_EXHAUSTED ?
                   ": it found no more" : "");
        }
    }
}

static void json_guest(JsonBuilder *b, const Balanced *of)
{
    const PolicyGuest *g = &of->guest;
    g_autofree char *text = explain(of);

    json_builder_begin_object(b);
    json_vm(b, of->vm);
    json_string(b, "reason", policy_reason_name(g->reason));
    json_string(b, "explanation", text);
    json_u64(b, "floor", g->floor);
    if (g->look.has_memory) {
        json_u64(b, "total", g->look.total);
        json_u64(b, "free", g->look.free);
        json_u64(b, "spare", g->spare);
    }
    if (g->look.has_psi) {
        json_double(b, "pressure", g->pressure);
    }
    if (g->look.has_rates) {
        json_double(b, "refault", g->look.refault);
    }
    json_u64(b, "ask", g->ask);
    if (g->ask && !options.dry_run) {
        json_string(b, "error", of->error ? of->error->message : NULL);
        json_u64(b, "freed", of->shrunk.freed);
    }
    json_builder_end_object(b);
}

void balance_show_json(const PolicyHost *host, const GPtrArray *all)
{
    JsonBuilder *b = json_builder_new();
    g_autofree char *now = clock_text();

    json_builder_begin_object(b);
    json_string(b, "time", now);
    json_u64(b, "available", host->available);
    json_u64(b, "target", host->target);
    json_bool(b, "asking", host->asking);
    json_u64(b, "need", host->need);
    json_builder_set_member_name(b, "vms");
    json_builder_begin_array(b);
    for (guint i = 0; i < all->len; i++) {
        json_guest(b, all->pdata[i]);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    print_json(b, FALSE);
}
