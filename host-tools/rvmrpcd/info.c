/*
 * rvmrpcd: what it says of a VM, as JSON
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <json-glib/json-glib.h>
#include <string.h>
#include "rvmrpcd.h"
#include "rvmrpc_socket.h"

char *escape(const char *text, size_t len)
{
    g_autofree char *copy = g_strndup(text, len);

    return g_strescape(copy, "\"");
}

const char *os_name(uint32_t os)
{
    return os == RVMRPC_OS_LINUX ? "linux" : os == RVMRPC_OS_FREEBSD ? "freebsd" : "other";
}

static void put_text(JsonBuilder *b, const char *name, const char *text)
{
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, text);
}

static void put_int(JsonBuilder *b, const char *name, uint64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, (gint64)value);
}

static void put_bool(JsonBuilder *b, const char *name, bool value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}

static void begin(JsonBuilder *b, const char *name)
{
    json_builder_set_member_name(b, name);
    json_builder_begin_object(b);
}

static void put_stats(JsonBuilder *b, const RvChannelInfo *info)
{
    const struct rvmrpc_stats *s = &info->stats;

    begin(b, "stats");
    put_int(b, "calls", s->calls);
    put_int(b, "completed", s->completed);
    put_int(b, "failed", s->failed);
    put_int(b, "refused", s->refused);
    put_int(b, "timed-out", s->timed_out);
    put_int(b, "cancelled", s->cancelled);
    put_int(b, "reset", s->reset);
    put_int(b, "late-replies", s->late_replies);
    put_int(b, "bad-replies", s->bad_replies);
    put_int(b, "registrations", s->registrations);
    put_int(b, "in-flight", info->in_flight);
    put_int(b, "doorbells", info->rings);
    put_int(b, "interrupts", s->kicks + s->rekicks);
    put_int(b, "rekicks", s->rekicks);
    put_int(b, "lost", s->lost);
    json_builder_set_member_name(b, "latency-us");
    json_builder_begin_array(b);
    for (int i = 0; i < RVMRPC_HISTOGRAM_BUCKETS; i++) {
        json_builder_add_int_value(b, (gint64)s->histogram[i]);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void put_entry(JsonBuilder *b, const struct rvmrpc_list_entry *e)
{
    g_autofree char *name = escape(e->name, sizeof(e->name));

    put_int(b, "number", e->number);
    put_text(b, "name", name);
}

/* Entries before the first module, and of unknown kinds, say nothing. */
static void put_modules(JsonBuilder *b, const GArray *list)
{
    bool in_module = false;

    json_builder_set_member_name(b, "modules");
    json_builder_begin_array(b);
    for (unsigned i = 0; i < list->len; i++) {
        const struct rvmrpc_list_entry *e = &g_array_index(list, struct rvmrpc_list_entry, i);

        if (e->kind == RVMRPC_LIST_MODULE) {
            if (in_module) {
                json_builder_end_array(b);
                json_builder_end_object(b);
            }
            in_module = true;
            json_builder_begin_object(b);
            put_entry(b, e);
            put_int(b, "version", e->version);
            json_builder_set_member_name(b, "procedures");
            json_builder_begin_array(b);
        } else if (e->kind == RVMRPC_LIST_PROCEDURE && in_module) {
            json_builder_begin_object(b);
            put_entry(b, e);
            put_bool(b, "read-only", e->flags & RVMRPC_PROC_READ_ONLY);
            put_bool(b, "may-sleep", e->flags & RVMRPC_PROC_MAY_SLEEP);
            put_bool(b, "allowed", e->flags & RVMRPC_PROC_ALLOWED);
            json_builder_end_object(b);
        }
    }
    if (in_module) {
        json_builder_end_array(b);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void put_channel(JsonBuilder *b, World *world)
{
    g_autofree char *release = NULL;
    RvChannelInfo info;

    begin(b, "rvmrpc");
    if (!world) {
        put_text(b, "state", "disconnected");
        json_builder_end_object(b);
        return;
    }
    rv_channel_get_info(world->channel, &info);
    put_text(b, "state", !info.open ? "disconnected" : info.silent ? "silent" : "connected");
    put_text(b, "proxy", "daemon");
    put_text(b, "gate", "none");
    if (info.open) {
        release = escape(info.release, sizeof(info.release));
        put_text(b, "os", os_name(info.os));
        put_text(b, "release", release);
        put_int(b, "abi-version", RVMRPC_ABI_WINDOW);
        put_int(b, "epoch", info.epoch);
        put_int(b, "last-seen-ms", info.seen_ns / 1000000);
        put_text(b, "wait", "interrupt");
        put_int(b, "slots", info.nslots);
        put_modules(b, rv_channel_list(world->channel));
    }
    put_stats(b, &info);
    json_builder_end_object(b);
}

char *info_json(Vm *vm)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(b);
    put_int(b, "protocol", RVMRPC_SOCK_VERSION);
    begin(b, "vm");
    put_text(b, "name", vm->config->name);
    if (vm->config->uuid) {
        put_text(b, "uuid", vm->config->uuid);
    }
    if (vm->current) {
        put_int(b, "pid", vm->current->pid);
    }
    json_builder_end_object(b);
    put_channel(b, vm->current);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    return json_to_string(root, FALSE);
}

char *event_json(const char *event, const char *data)
{
    gint64 us = g_get_real_time();

    return g_strdup_printf("{\"event\": \"%s\", \"data\": {%s}, \"timestamp\": {\"seconds\": %" G_GINT64_FORMAT
                           ", \"microseconds\": %" G_GINT64_FORMAT "}}", event, data, us / G_USEC_PER_SEC,
                           us % G_USEC_PER_SEC);
}
