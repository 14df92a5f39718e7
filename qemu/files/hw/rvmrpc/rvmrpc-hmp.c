/*
 * Reverse VMRPC: HMP command "info rvmrpc"
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-rvmrpc.h"

#define LINE_MAX_BYTES  80

static int procedures(const RvmrpcModule *m)
{
    const RvmrpcProcedureList *p;
    int n = 0;

    for (p = m->procedures; p; p = p->next) {
        n++;
    }
    return n;
}

/* A line of a terminal; query-rvmrpc has them all. */
static void print_modules(Monitor *mon, const RvmrpcInfo *info)
{
    g_autoptr(GString) line = g_string_new("modules:");
    const RvmrpcModuleList *m;
    int more = 0;

    for (m = info->modules; m; m = m->next) {
        gsize len = line->len;

        if (!more) {
            g_string_append_printf(line, " %s(%d)", m->value->name,
                                   procedures(m->value));
        }
        if (more || line->len > LINE_MAX_BYTES) {
            g_string_truncate(line, len);
            more++;
        }
    }
    if (more) {
        g_string_append_printf(line, " and %d more", more);
    }
    monitor_printf(mon, "%s\n", line->str);
}

/* Upper bound, in us, of the bucket with the given share of all answers. */
static uint64_t percentile(const RvmrpcStats *s, unsigned percent)
{
    uint64_t total = 0, seen = 0, bound = 1;
    uint64List *b;

    for (b = s->latency_us; b; b = b->next) {
        total += b->value;
    }
    for (b = s->latency_us; b; b = b->next) {
        seen += b->value;
        if (seen * 100 >= total * percent) {
            break;
        }
        bound *= 2;
    }
    return bound;
}

static void print_stats(Monitor *mon, const RvmrpcStats *s)
{
    monitor_printf(mon, "calls: %" PRIu64 " accepted, %" PRIu64 " answered, %"
                   PRIu64 " failed, %" PRIu64 " timed out, %" PRIu64
                   " in flight\n", s->calls, s->completed, s->failed,
                   s->timed_out, s->in_flight);
    monitor_printf(mon, "dropped: %" PRIu64 " late, %" PRIu64 " bad, %" PRIu64
                   " reset, %" PRIu64 " cancelled\n", s->late_replies,
                   s->bad_replies, s->reset, s->cancelled);
    monitor_printf(mon, "window: %" PRIu64 " rings, %" PRIu64 " interrupts; "
                   "gates: %" PRIu64 " hypercalls, %" PRIu64 " doorbells, %"
                   PRIu64 " waits\n", s->rings, s->interrupts, s->hypercalls,
                   s->doorbells, s->waits);
    if (s->completed) {
        monitor_printf(mon, "latency: half below %" PRIu64 " us, 99%% below %"
                       PRIu64 " us\n", percentile(s, 50), percentile(s, 99));
    } else {
        monitor_printf(mon, "latency: no call was answered yet\n");
    }
}

void hmp_info_rvmrpc(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(RvmrpcInfo) info = qmp_query_rvmrpc(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "state: %s", RvmrpcState_str(info->state));
    if (info->has_last_seen_ms) {
        monitor_printf(mon, ", seen %" PRIu64 " ms ago", info->last_seen_ms);
    }
    monitor_printf(mon, "\n");
    if (info->release) {
        monitor_printf(mon, "guest: %s %s, ABI %u, epoch 0x%016" PRIx64 "\n",
                       RvmrpcOs_str(info->os), info->release,
                       info->abi_version, info->epoch);
        monitor_printf(mon, "channel: proxy %s, gate %s, wait %s, %u slots\n",
                       RvmrpcProxyKind_str(info->proxy),
                       RvmrpcGate_str(info->gate), RvmrpcWait_str(info->wait),
                       info->slots);
        print_modules(mon, info);
    }
    if (info->stats) {
        print_stats(mon, info->stats);
    }
}
