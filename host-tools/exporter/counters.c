/*
 * rvmrpc-exporter: a guest's counters that never fall
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Linux counts a CPU's idle time anew from less when it was offline, and two
 * scrapes may end in the other order than they began.  To Prometheus a counter
 * that falls has begun at 0 again, which would be hours of CPU time at once.
 */
#include "counters.h"

/* VMs that were not seen for so long are forgotten. */
#define FORGET_US (600 * (gint64)G_USEC_PER_SEC)

typedef struct Kept {
    guint64 epoch;              /* another one may be another boot */
    gint64 seen;
    GHashTable *cpus;           /* CpuCounters by index */
} Kept;

static GMutex lock;
static GHashTable *vms;         /* Kept by labels; lock */

static void kept_free(void *data)
{
    Kept *kept = data;

    g_hash_table_unref(kept->cpus);
    g_free(kept);
}

static gboolean is_old(void *key, void *value, void *now)
{
    (void)key;
    return ((Kept *)value)->seen < *(gint64 *)now - FORGET_US;
}

static Kept *get_kept(const char *labels, const Facts *f)
{
    gint64 now = g_get_monotonic_time();
    Kept *kept;

    if (!vms) {
        vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                    kept_free);
    }
    g_hash_table_foreach_remove(vms, is_old, &now);
    kept = g_hash_table_lookup(vms, labels);
    if (!kept || kept->epoch != f->channel->epoch) {
        kept = g_new0(Kept, 1);
        kept->epoch = f->channel->epoch;
        kept->cpus = g_hash_table_new_full(NULL, NULL, NULL, g_free);
        g_hash_table_replace(vms, g_strdup(labels), kept);
    }
    kept->seen = now;
    return kept;
}

static CpuCounters *get_cpu(Kept *kept, guint32 index)
{
    CpuCounters *c = g_hash_table_lookup(kept->cpus, GUINT_TO_POINTER(index));

    if (!c) {
        c = g_new0(CpuCounters, 1);
        c->index = index;
        g_hash_table_insert(kept->cpus, GUINT_TO_POINTER(index), c);
    }
    return c;
}

GArray *counters_raise(const char *labels, const Facts *f)
{
    GArray *now = g_array_new(FALSE, FALSE, sizeof(CpuCounters));
    Kept *kept;

    g_mutex_lock(&lock);
    kept = get_kept(labels, f);
    for (guint i = 0; i < f->stat->cpus->len; i++) {
        const RvmrpcCpuTimes *t = &g_array_index(f->stat->cpus,
                                                 RvmrpcCpuTimes, i);
        const guint64 told[CPU_MODES] = {
            t->user, t->system, t->idle, t->iowait, t->steal,
        };
        CpuCounters *c = get_cpu(kept, t->index);

        for (guint mode = 0; mode < CPU_MODES; mode++) {
            c->ns[mode] = MAX(c->ns[mode], told[mode]);
        }
        g_array_append_val(now, *c);
    }
    g_mutex_unlock(&lock);
    return now;
}
