/*
 * rvmrpcd: what it says of a VM, as JSON
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * json-glib has no unsigned 64-bit numbers, as epochs are.
 */
#include <string.h>
#include "rvmrpc_event.h"
#include "rvmrpc_list.h"
#include "rvmrpc_socket.h"
#include "rvmrpc_text.h"
#include "rvmrpcd.h"

static const char *os_name(uint32_t os)
{
    return os == RVMRPC_OS_LINUX ? "linux" :
           os == RVMRPC_OS_FREEBSD ? "freebsd" : "other";
}

/* ---- JSON ---- */

static void put_string(GString *j, const char *text)
{
    g_string_append_c(j, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            g_string_append_c(j, '\\');
        }
        if ((unsigned char)*text < ' ') {
            g_string_append_printf(j, "\\u%04x", *text);
        } else {
            g_string_append_c(j, *text);
        }
    }
    g_string_append_c(j, '"');
}

/* Before each member and element. */
static void next(GString *j, const char *name)
{
    if (j->len && !strchr("{[", j->str[j->len - 1])) {
        g_string_append(j, ", ");
    }
    if (name) {
        put_string(j, name);
        g_string_append(j, ": ");
    }
}

static void put_text(GString *j, const char *name, const char *text)
{
    next(j, name);
    put_string(j, text);
}

static void put_u64(GString *j, const char *name, uint64_t value)
{
    next(j, name);
    g_string_append_printf(j, "%" G_GUINT64_FORMAT, (guint64)value);
}

static void put_bool(GString *j, const char *name, bool value)
{
    next(j, name);
    g_string_append(j, value ? "true" : "false");
}

static void begin(GString *j, const char *name, char bracket)
{
    next(j, name);
    g_string_append_c(j, bracket);
}

static void end(GString *j, char bracket)
{
    g_string_append_c(j, bracket);
}

/* ---- INFO ---- */

static void put_latency(GString *j, const struct rvmrpc_stats *s)
{
    int used = RVMRPC_HISTOGRAM_BUCKETS;

    while (used && !s->histogram[used - 1]) {
        used--;
    }
    begin(j, "latency-us", '[');
    for (int i = 0; i < used; i++) {
        put_u64(j, NULL, s->histogram[i]);
    }
    end(j, ']');
}

static void put_stats(GString *j, const RvmrpcChannelInfo *info)
{
    const struct rvmrpc_stats *s = &info->stats;

    begin(j, "stats", '{');
    put_u64(j, "calls", s->calls);
    put_u64(j, "completed", s->completed);
    put_u64(j, "failed", s->failed);
    put_u64(j, "refused", s->refused);
    put_u64(j, "timed-out", s->timed_out);
    put_u64(j, "cancelled", s->cancelled);
    put_u64(j, "reset", s->reset);
    put_u64(j, "late-replies", s->late_replies);
    put_u64(j, "bad-replies", s->bad_replies);
    put_u64(j, "registrations", s->registrations);
    put_u64(j, "in-flight", info->in_flight);
    put_u64(j, "hypercalls", 0);
    put_u64(j, "doorbells", info->rings);
    put_u64(j, "waits", 0);
    put_u64(j, "interrupts", info->interrupts);
    put_u64(j, "rekicks", s->rekicks);
    put_u64(j, "lost", s->lost);
    put_u64(j, "events", s->events);
    put_u64(j, "events-lost", s->events_lost);
    put_u64(j, "events-dropped", s->events_dropped);
    put_latency(j, s);
    if (!info->kernel) {
        put_u64(j, "latency-sum-us", s->elapsed_ns / 1000);
    }
    end(j, '}');
}

static void put_name(GString *j, const struct rvmrpc_list_entry *e)
{
    g_autofree char *name = rvmrpc_text(e->name, sizeof(e->name));

    put_u64(j, "number", e->number);
    put_text(j, "name", name);
}

static void put_procedure(GString *j, const struct rvmrpc_list_entry *e)
{
    begin(j, NULL, '{');
    put_name(j, e);
    put_bool(j, "read-only", e->flags & RVMRPC_PROC_READ_ONLY);
    put_bool(j, "may-sleep", e->flags & RVMRPC_PROC_MAY_SLEEP);
    put_bool(j, "allowed", e->flags & RVMRPC_PROC_ALLOWED);
    end(j, '}');
}

/* The first entry is a module, if there is any. */
static void put_modules(GString *j, const GArray *entries)
{
    begin(j, "modules", '[');
    for (guint i = 0; i < entries->len; ) {
        const struct rvmrpc_list_entry *e =
            &g_array_index(entries, struct rvmrpc_list_entry, i);

        begin(j, NULL, '{');
        put_name(j, e);
        put_u64(j, "version", e->version);
        begin(j, "procedures", '[');
        while (++i < entries->len) {
            e = &g_array_index(entries, struct rvmrpc_list_entry, i);
            if (e->kind == RVMRPC_LIST_MODULE) {
                break;
            }
            put_procedure(j, e);
        }
        end(j, ']');
        end(j, '}');
    }
    end(j, ']');
}

static void put_open(GString *j, const RvmrpcChannelInfo *info,
                     const GArray *modules)
{
    g_autofree char *release = rvmrpc_text(info->release, sizeof(info->release));
    uint32_t generation = rvmrpc_list_generation(modules);

    put_text(j, "os", os_name(info->os));
    put_text(j, "release", release);
    put_u64(j, "abi-version", RVMRPC_ABI_VERSION);
    put_u64(j, "epoch", info->epoch);
    put_u64(j, "last-seen-ms", info->seen_ns / 1000000);
    put_text(j, "wait", "interrupt");
    put_u64(j, "slots", info->nslots);
    if (generation) {
        put_u64(j, "list-generation", generation);
    }
    if (modules->len) {
        put_modules(j, modules);
    }
}

static void put_vm(GString *j, const VmConfig *vm, pid_t pid)
{
    begin(j, "vm", '{');
    put_text(j, "name", vm->name);
    if (vm->uuid) {
        put_text(j, "uuid", vm->uuid);
    }
    if (pid) {
        put_u64(j, "pid", pid);
    }
    if (vm->unverified) {
        put_bool(j, "unverified", true);
    }
    end(j, '}');
}

char *info_json(const VmConfig *vm, pid_t pid, const RvmrpcChannelInfo *info,
                const GArray *modules)
{
    GString *j = g_string_new("{");

    put_u64(j, "protocol", RVMRPC_SOCK_VERSION);
    put_vm(j, vm, pid);
    begin(j, "rvmrpc", '{');
    put_text(j, "state", !info || !info->open ? "disconnected" :
             info->silent ? "silent" : "connected");
    put_text(j, "proxy", info && info->kernel ? "kernel" : "daemon");
    put_text(j, "gate", "none");
    if (info && info->open) {
        put_open(j, info, modules);
    }
    if (info) {
        put_stats(j, info);
    }
    end(j, '}');
    end(j, '}');
    return g_string_free(j, FALSE);
}

/* ---- Events ---- */

static GString *begin_event(const char *name)
{
    GString *j = g_string_new("{");

    put_text(j, "event", name);
    begin(j, "data", '{');
    return j;
}

static char *end_event(GString *j)
{
    gint64 us = g_get_real_time();

    end(j, '}');
    begin(j, "timestamp", '{');
    put_u64(j, "seconds", us / G_USEC_PER_SEC);
    put_u64(j, "microseconds", us % G_USEC_PER_SEC);
    end(j, '}');
    end(j, '}');
    return g_string_free(j, FALSE);
}

char *info_connected(const RvmrpcChannelInfo *info)
{
    g_autofree char *release = rvmrpc_text(info->release, sizeof(info->release));
    GString *j = begin_event("RVMRPC_CONNECTED");

    put_text(j, "os", os_name(info->os));
    put_text(j, "release", release);
    put_u64(j, "epoch", info->epoch);
    return end_event(j);
}

char *info_disconnected(const char *reason)
{
    GString *j = begin_event("RVMRPC_DISCONNECTED");

    put_text(j, "reason", reason);
    return end_event(j);
}

static void put_event_fields(GString *j, const RvmrpcEvent *e)
{
    if (e->text) {
        put_text(j, "text", e->text);
    }
    if (e->has_pid) {
        put_u64(j, "pid", e->pid);
    }
    if (e->process) {
        put_text(j, "process", e->process);
    }
    if (e->has_rss) {
        put_u64(j, "rss", e->rss);
    }
    if (e->has_share) {
        next(j, "percent");
        g_string_append_printf(j, "%" G_GUINT64_FORMAT ".%02u",
                               (guint64)e->share / 100,
                               (unsigned)(e->share % 100));
    }
    if (e->has_ended) {
        put_bool(j, "ended", e->ended);
    }
    if (e->data) {
        put_text(j, "data", e->data);
    }
}

char *info_event(const struct rvmrpc_told *told)
{
    static const char *const types[] = {
        [RVMRPC_EVENT_OOM_KILL] = "oom-kill",
        [RVMRPC_EVENT_STALL] = "stall",
        [RVMRPC_EVENT_PANIC] = "panic",
        [RVMRPC_EVENT_OOPS] = "oops",
        [RVMRPC_EVENT_NO_MEMORY] = "no-memory",
        [RVMRPC_EVENT_LOW_MEMORY] = "low-memory",
        [RVMRPC_EVENT_OTHER] = "other",
    };
    GString *j = begin_event("GUEST_KERNEL_EVENT");
    RvmrpcEvent e;

    rvmrpc_event_read(&e, told);
    put_text(j, "type", types[e.type]);
    put_u64(j, "module", e.module);
    put_u64(j, "kind", e.kind);
    put_u64(j, "number", e.number);
    put_u64(j, "time-ns", e.time_ns);
    put_u64(j, "missed", e.missed);
    put_event_fields(j, &e);
    rvmrpc_event_clear(&e);
    return end_event(j);
}
