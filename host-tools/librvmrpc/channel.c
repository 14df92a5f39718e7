/*
 * librvmrpc: the state of a channel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "private.h"

static const char *const state_names[] = {
    [RVMRPC_STATE_ABSENT] = "absent",
    [RVMRPC_STATE_DISCONNECTED] = "disconnected",
    [RVMRPC_STATE_CONNECTED] = "connected",
    [RVMRPC_STATE_SILENT] = "silent",
};

const char *rvmrpc_state_name(RvmrpcState state)
{
    return state < G_N_ELEMENTS(state_names) ? state_names[state] : "unknown";
}

/* Members of the wrong type count as absent. */
static JsonNode *get_value(JsonObject *obj, const char *name)
{
    JsonNode *node = obj ? json_object_get_member(obj, name) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node) ? node : NULL;
}

static char *get_string(JsonObject *obj, const char *name)
{
    JsonNode *node = get_value(obj, name);

    return node && json_node_get_value_type(node) == G_TYPE_STRING ?
           g_strdup(json_node_get_string(node)) : NULL;
}

static guint64 get_u64(JsonObject *obj, const char *name)
{
    JsonNode *node = get_value(obj, name);

    return node && json_node_get_value_type(node) == G_TYPE_INT64 ?
           (guint64)json_node_get_int(node) : 0;
}

static JsonObject *get_object(JsonObject *obj, const char *name)
{
    JsonNode *node = json_object_get_member(obj, name);

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) :
           NULL;
}

static void fill_latency(RvmrpcChannel *ch, JsonObject *stats)
{
    JsonNode *node = json_object_get_member(stats, "latency-us");
    JsonArray *array;

    ch->has_latency_sum = get_value(stats, "latency-sum-us") != NULL;
    ch->latency_sum_us = get_u64(stats, "latency-sum-us");

    if (!node || !JSON_NODE_HOLDS_ARRAY(node)) {
        return;
    }
    array = json_node_get_array(node);
    for (guint i = 0; i < MIN(json_array_get_length(array),
                              RVMRPC_LATENCY_BUCKETS); i++) {
        JsonNode *n = json_array_get_element(array, i);

        if (JSON_NODE_HOLDS_VALUE(n)) {
            ch->latency[i] = json_node_get_int(n);
        }
    }
}

static void fill_stats(RvmrpcChannel *ch, JsonObject *stats)
{
    const struct {
        const char *name;
        guint64 *to;
    } members[] = {
        { "calls", &ch->calls }, { "completed", &ch->completed },
        { "failed", &ch->failed }, { "refused", &ch->refused },
        { "timed-out", &ch->timed_out }, { "cancelled", &ch->cancelled },
        { "reset", &ch->reset }, { "late-replies", &ch->late_replies },
        { "bad-replies", &ch->bad_replies },
        { "registrations", &ch->registrations },
        { "in-flight", &ch->in_flight }, { "hypercalls", &ch->hypercalls },
        { "doorbells", &ch->doorbells }, { "waits", &ch->waits },
        { "interrupts", &ch->interrupts },
        { "events", &ch->events }, { "events-lost", &ch->events_lost },
        { "events-dropped", &ch->events_dropped },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(members); i++) {
        *members[i].to = get_u64(stats, members[i].name);
    }
    fill_latency(ch, stats);
}

RvmrpcChannel *channel_from_json(JsonObject *obj, gboolean vm_running)
{
    RvmrpcChannel *ch = g_new0(RvmrpcChannel, 1);
    g_autofree char *state = get_string(obj, "state");
    JsonObject *stats = get_object(obj, "stats");

    for (guint i = 0; i < G_N_ELEMENTS(state_names); i++) {
        if (g_strcmp0(state, state_names[i]) == 0) {
            ch->state = i;
        }
    }
    ch->running = vm_running;
    ch->os = get_string(obj, "os");
    ch->release = get_string(obj, "release");
    ch->proxy = get_string(obj, "proxy");
    ch->gate = get_string(obj, "gate");
    ch->wait = get_string(obj, "wait");
    ch->epoch = get_u64(obj, "epoch");
    ch->last_seen_ms = get_u64(obj, "last-seen-ms");
    ch->slots = get_u64(obj, "slots");
    if (stats) {
        fill_stats(ch, stats);
    }
    return ch;
}

void rvmrpc_channel_free(RvmrpcChannel *ch)
{
    g_free(ch->os);
    g_free(ch->release);
    g_free(ch->proxy);
    g_free(ch->gate);
    g_free(ch->wait);
    g_free(ch);
}
