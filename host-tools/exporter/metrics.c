/*
 * rvmrpc-exporter: facts as Prometheus' text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "collectors.h"
#include "counters.h"
#include "lists.h"
#include "metrics.h"
#include "page.h"
#include "rvmrpc_abi.h"

static const char *const states[] = {
    "connected", "no-driver", "silent", "paused", "absent", "denied", "down",
};

/* A value of one VM; FALSE: it has none. */
typedef gboolean Getter(const Facts *f, guint arg, double *value);

/* A metric whose samples have no labels but the VM's. */
static void plain(Page *p, const char *name, const char *type,
                  const char *help, Getter *get, guint arg)
{
    double value;

    page_head(p, name, type, help);
    for (guint i = 0; i < p->all->len; i++) {
        if (get(p->all->pdata[i], arg, &value)) {
            page_sample(p, i, name, "", value);
        }
    }
}

/* ---- Values ---- */

static gboolean get_up(const Facts *f, guint arg, double *value)
{
    (void)arg;
    *value = f->latency_ns != 0;
    return TRUE;
}

/* All that was asked for was answered, as far as the VM can answer now. */
static gboolean get_success(const Facts *f, guint arg, double *value)
{
    (void)arg;
    *value = f->channel && !f->error;
    return TRUE;
}

static gboolean get_memory(const Facts *f, guint key, double *value)
{
    if (!f->mem || !rvmrpc_meminfo_has(f->mem, key)) {
        return FALSE;
    }
    *value = f->mem->value[key];
    return TRUE;
}

static gboolean get_load(const Facts *f, guint which, double *value)
{
    if (f->load) {
        *value = f->load->load[which];
    }
    return f->load != NULL;
}

static gboolean get_threads(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (f->load) {
        *value = f->load->threads;
    }
    return f->load != NULL;
}

static gboolean get_running(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (f->load) {
        *value = f->load->runnable;
    }
    return f->load != NULL;
}

static gboolean get_boot_time(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (f->os) {
        *value = f->os->boot_time;
    }
    return f->os && f->os->boot_time;
}

static gboolean get_time(const Facts *f, guint arg, double *value)
{
    (void)arg;
    *value = f->clock.realtime_ns / 1e9;
    return f->has_clock;
}

static gboolean get_skew(const Facts *f, guint arg, double *value)
{
    (void)arg;
    *value = f->clock.skew_ns / 1e9;
    return f->has_clock;
}

static gboolean get_skew_error(const Facts *f, guint arg, double *value)
{
    (void)arg;
    *value = f->clock.error_ns / 1e9;
    return f->has_clock;
}

static gboolean get_cpus(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (f->stat) {
        *value = f->stat->cpus->len;
    }
    return f->stat != NULL;
}

static gboolean get_last_seen(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (!f->channel || !f->channel->epoch) {
        return FALSE;
    }
    *value = f->channel->last_seen_ms / 1e3;
    return TRUE;
}

static gboolean get_in_flight(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (f->channel) {
        *value = f->channel->in_flight;
    }
    return f->channel != NULL;
}

static gboolean get_registrations(const Facts *f, guint arg, double *value)
{
    (void)arg;
    if (f->channel) {
        *value = f->channel->registrations;
    }
    return f->channel != NULL;
}

static gboolean get_latency(const Facts *f, guint arg, double *value)
{
    (void)arg;
    *value = f->latency_ns / 1e9;
    return f->latency_ns != 0;
}

/* ---- Metrics ---- */

static void put_states(Page *p)
{
    page_head(p, "state", "gauge", "State of the channel into the guest: 1 for "
              "the one that it is in.");
    for (guint i = 0; i < p->all->len; i++) {
        const char *state = facts_state(p->all->pdata[i]);

        for (gsize s = 0; s < G_N_ELEMENTS(states); s++) {
            g_autofree char *more = g_strdup_printf(",state=\"%s\"",
                                                    states[s]);
            page_sample(p, i, "state", more, strcmp(state, states[s]) == 0);
        }
    }
}

static void put_guests(Page *p)
{
    page_head(p, "guest_info", "gauge", "The guest's kernel.");
    for (guint i = 0; i < p->all->len; i++) {
        const Facts *f = p->all->pdata[i];
        g_autofree char *os = NULL, *release = NULL, *more = NULL;

        if (!f->channel || !f->channel->release) {
            continue;
        }
        os = page_label(f->channel->os);
        release = page_label(f->channel->release);
        more = g_strdup_printf(",os=\"%s\",release=\"%s\"", os, release);
        page_sample(p, i, "guest_info", more, 1);
    }
}

static void put_uname(Page *p)
{
    page_head(p, "guest_uname_info", "gauge", "The guest, as uname has it.");
    for (guint i = 0; i < p->all->len; i++) {
        const RvmrpcOsinfo *os = ((const Facts *)p->all->pdata[i])->os;
        g_autoptr(GString) more = g_string_new(NULL);

        if (!os) {
            continue;
        }
        const struct {
            const char *name, *text;
        } labels[] = {
            { "sysname", os->sysname }, { "release", os->release },
            { "version", os->version }, { "machine", os->machine },
            { "nodename", os->hostname },
        };
        for (gsize n = 0; n < G_N_ELEMENTS(labels); n++) {
            g_autofree char *value = page_guest_label(labels[n].text);

            g_string_append_printf(more, ",%s=\"%s\"", labels[n].name, value);
        }
        page_sample(p, i, "guest_uname_info", more->str, 1);
    }
}

static void put_memory(Page *p)
{
    for (guint key = 0; key < RVMRPC_MEM_KEYS; key++) {
        g_autofree char *name = NULL, *help = NULL;

        if (!rvmrpc_mem_key_name(key)) {
            continue;
        }
        name = g_strdup_printf("guest_memory_%s_bytes",
                               rvmrpc_mem_key_name(key));
        g_strdelimit(name, "-", '_');
        help = g_strdup_printf("Memory as the guest's kernel counts it: %s.",
                               rvmrpc_mem_key_name(key));
        plain(p, name, "gauge", help, get_memory, key);
    }
}

static void put_cpu(Page *p)
{
    static const char *const modes[CPU_MODES] = {
        "user", "system", "idle", "iowait", "steal",
    };
    const char *name = "guest_cpu_seconds_total";

    page_head(p, name, "counter", "CPU time since the guest's boot.");
    for (guint i = 0; i < p->all->len; i++) {
        const Facts *f = p->all->pdata[i];
        g_autoptr(GArray) cpus = f->stat ? counters_raise(p->labels[i], f) :
                                 NULL;

        for (guint n = 0; cpus && n < cpus->len; n++) {
            const CpuCounters *c = &g_array_index(cpus, CpuCounters, n);

            for (guint mode = 0; mode < CPU_MODES; mode++) {
                g_autofree char *more =
                    g_strdup_printf(",cpu=\"%u\",mode=\"%s\"", c->index,
                                    modes[mode]);
                page_sample(p, i, name, more, c->ns[mode] / 1e9);
            }
        }
    }
}

static void put_calls(Page *p)
{
    const char *name = "calls_total";

    page_head(p, name, "counter", "Calls into the guest, of all its clients, "
              "by how they ended.");
    for (guint i = 0; i < p->all->len; i++) {
        const RvmrpcChannel *ch = ((const Facts *)p->all->pdata[i])->channel;

        if (ch) {
            page_sample(p, i, name, ",result=\"ok\"",
                        ch->completed - MIN(ch->failed, ch->completed));
            page_sample(p, i, name, ",result=\"failed\"", ch->failed);
            page_sample(p, i, name, ",result=\"refused\"", ch->refused);
            page_sample(p, i, name, ",result=\"timed_out\"", ch->timed_out);
            page_sample(p, i, name, ",result=\"cancelled\"", ch->cancelled);
            page_sample(p, i, name, ",result=\"reset\"", ch->reset);
        }
    }
}

static void put_events(Page *p)
{
    const char *name = "events_total";

    page_head(p, name, "counter", "What the guest told by itself: passed on, "
              "overwritten before it was read, over its rate.");
    for (guint i = 0; i < p->all->len; i++) {
        const RvmrpcChannel *ch = ((const Facts *)p->all->pdata[i])->channel;

        if (ch) {
            page_sample(p, i, name, ",result=\"told\"", ch->events);
            page_sample(p, i, name, ",result=\"lost\"", ch->events_lost);
            page_sample(p, i, name, ",result=\"dropped\"", ch->events_dropped);
        }
    }
}

/* The host counts in powers of two; the last bucket has no end. */
static void put_latency(Page *p)
{
    page_head(p, "call_duration_seconds", "histogram", "Time of answered "
              "calls, of all clients, in the host.");
    for (guint i = 0; i < p->all->len; i++) {
        const RvmrpcChannel *ch = ((const Facts *)p->all->pdata[i])->channel;
        guint64 sum = 0;

        for (guint n = 0; ch && n < RVMRPC_LATENCY_BUCKETS; n++) {
            char le[G_ASCII_DTOSTR_BUF_SIZE];
            g_autofree char *more = NULL;

            sum += ch->latency[n];
            /* 16 us to 17 s: what lies below or above is in the next. */
            if (n >= 4 && n <= 24) {
                g_ascii_formatd(le, sizeof(le), "%.6f", (1u << n) / 1e6);
                more = g_strdup_printf(",le=\"%s\"", le);
                page_sample(p, i, "call_duration_seconds_bucket", more, sum);
            }
        }
        if (ch) {
            page_sample(p, i, "call_duration_seconds_bucket", ",le=\"+Inf\"",
                        sum);
            page_sample(p, i, "call_duration_seconds_count", "", sum);
        }
        if (ch && ch->has_latency_sum) {
            page_sample(p, i, "call_duration_seconds_sum", "",
                        ch->latency_sum_us / 1e6);
        }
    }
}

/* A metric of the exporter's own. */
static void own(Page *p, const char *name, const char *help,
                const char *labels, double value)
{
    page_head(p, name, "gauge", help);
    g_string_append_printf(p->text, PREFIX "%s%s ", name, labels);
    page_number(p->text, value);
}

static void put_exporter(Page *p, double seconds)
{
    own(p, "exporter_vms", "VMs that were asked.", "", p->all->len);
    own(p, "exporter_scrape_duration_seconds", "Time that asking them took.",
        "", seconds);
    own(p, "exporter_build_info", "The exporter's version.",
        "{version=\"" RVMRPC_VERSION "\"}", 1);
}

static void put_kernel(Page *p)
{
    put_memory(p);
    plain(p, "guest_load1", "gauge", "Load of 1 minute.", get_load, 0);
    plain(p, "guest_load5", "gauge", "Load of 5 minutes.", get_load, 1);
    plain(p, "guest_load15", "gauge", "Load of 15 minutes.", get_load, 2);
    plain(p, "guest_threads", "gauge", "Threads there are.", get_threads, 0);
    plain(p, "guest_procs_running", "gauge", "Threads that run or could.",
          get_running, 0);
    plain(p, "guest_cpus", "gauge", "CPUs that the guest uses.", get_cpus, 0);
    put_cpu(p);
}

static void put_time(Page *p)
{
    plain(p, "guest_boot_time_seconds", "gauge", "When the guest booted, by "
          "its own clock.", get_boot_time, 0);
    plain(p, "guest_time_seconds", "gauge", "The guest's time, since 1970.",
          get_time, 0);
    plain(p, "guest_clock_skew_seconds", "gauge", "How far the guest's clock "
          "is ahead of the host's.", get_skew, 0);
    plain(p, "guest_clock_skew_error_seconds", "gauge", "By how much that may "
          "be wrong.", get_skew_error, 0);
}

char *metrics_text(const GPtrArray *all, FactsKind kinds, double seconds)
{
    Page p = { g_string_new(NULL), all, page_labels(all) };

    plain(&p, "up", "gauge", "The guest answers.", get_up, 0);
    plain(&p, "scrape_success", "gauge", "The VM was reached, and its "
          "kernel told memory, load and CPU time, if asked to.", get_success, 0);
    put_states(&p);
    put_guests(&p);
    collectors_put(&p, kinds);
    put_kernel(&p);
    put_uname(&p);
    put_time(&p);
    lists_put(&p);
    put_calls(&p);
    put_events(&p);
    put_latency(&p);
    plain(&p, "calls_in_flight", "gauge", "Calls that are running.",
          get_in_flight, 0);
    plain(&p, "registrations_total", "counter",
          "Times that a driver registered.", get_registrations, 0);
    plain(&p, "last_seen_seconds", "gauge",
          "Time since the driver's last call to the host.", get_last_seen, 0);
    plain(&p, "ping_seconds", "gauge", "Time of one null call.", get_latency,
          0);
    put_exporter(&p, seconds);
    g_strfreev(p.labels);
    return g_string_free(p.text, FALSE);
}
