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

static void fill_latency(RvmrpcChannel *ch, JsonObject *stats)
{
    JsonNode *node = json_object_get_member(stats, "latency-us");
    gint64 sum = member_int(stats, "latency-sum-us", -1);
    JsonArray *array;

    ch->has_latency_sum = sum >= 0;
    ch->latency_sum_us = MAX(sum, 0);

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
        *members[i].to = member_int(stats, members[i].name, 0);
    }
    fill_latency(ch, stats);
}

RvmrpcChannel *channel_from_json(JsonObject *obj, gboolean vm_running)
{
    RvmrpcChannel *ch = g_new0(RvmrpcChannel, 1);
    const char *state = member_text(obj, "state", NULL);
    JsonObject *stats = member_object(obj, "stats");

    for (guint i = 0; i < G_N_ELEMENTS(state_names); i++) {
        if (g_strcmp0(state, state_names[i]) == 0) {
            ch->state = i;
        }
    }
    ch->running = vm_running;
    ch->os = g_strdup(member_text(obj, "os", NULL));
    ch->release = g_strdup(member_text(obj, "release", NULL));
    ch->proxy = g_strdup(member_text(obj, "proxy", NULL));
    ch->gate = g_strdup(member_text(obj, "gate", NULL));
    ch->wait = g_strdup(member_text(obj, "wait", NULL));
    ch->epoch = member_int(obj, "epoch", 0);
    ch->last_seen_ms = member_int(obj, "last-seen-ms", 0);
    ch->slots = member_int(obj, "slots", 0);
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
