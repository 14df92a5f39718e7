/*
 * Reverse VMRPC: what a guest says that can be called
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The answers to core.list, page by page, into a copy that is whole.
 */
#include <string.h>
#include "rvmrpc_list.h"

#define AGE_NS          1000000000ull
#define ENTRIES_MAX     (RVMRPC_LIST_MODULES * (1 + RVMRPC_LIST_PROCEDURES))

struct RvmrpcList {
    RvmrpcChannel *ch;
    GArray *entries;            /* whole */
    uint64_t epoch;             /* of these */
    GArray *coming;             /* being fetched, or NULL */
    uint64_t coming_epoch;
    uint32_t at;                /* index of the next page's first */
    uint32_t modules;           /* in what is coming */
    uint32_t procedures;        /* of the last of them */
    uint64_t asked_at;          /* ns */
};

static GArray *entries_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct rvmrpc_list_entry));
}

RvmrpcList *rvmrpc_list_new(RvmrpcChannel *ch)
{
    RvmrpcList *list = g_new0(RvmrpcList, 1);

    list->ch = ch;
    list->entries = entries_new();
    return list;
}

void rvmrpc_list_free(RvmrpcList *list)
{
    g_clear_pointer(&list->coming, g_array_unref);
    g_array_unref(list->entries);
    g_free(list);
}

static void take_entry(RvmrpcList *list, const struct rvmrpc_list_entry *e)
{
    if (e->kind == RVMRPC_LIST_MODULE &&
        list->modules < RVMRPC_LIST_MODULES) {
        list->modules++;
        list->procedures = 0;
        g_array_append_val(list->coming, *e);
    } else if (e->kind == RVMRPC_LIST_PROCEDURE && list->modules &&
               list->procedures < RVMRPC_LIST_PROCEDURES) {
        list->procedures++;
        g_array_append_val(list->coming, *e);
    }
}

/* True: there is more to come. */
static bool take_page(RvmrpcList *list, const char *data, uint32_t bytes)
{
    struct rvmrpc_list_entry e;
    struct rvmrpc_list head;
    uint32_t have;

    if (bytes < sizeof(head)) {
        return false;
    }
    memcpy(&head, data, sizeof(head));
    have = MIN((bytes - sizeof(head)) / sizeof(e), head.count);
    for (uint32_t i = 0; i < have; i++) {
        memcpy(&e, data + sizeof(head) + i * sizeof(e), sizeof(e));
        take_entry(list, &e);
    }
    list->at += have;
    return have && list->at < MIN(head.total, ENTRIES_MAX);
}

static void ask(RvmrpcList *list);

static void got_page(RvmrpcCall *call, void *opaque)
{
    RvmrpcList *list = opaque;

    if (call->core.status == RVMRPC_STATUS_OK &&
        rvmrpc_channel_epoch(list->ch) == list->coming_epoch) {
        if (take_page(list, call->res, call->core.reslen)) {
            ask(list);
            return;
        }
        g_array_unref(list->entries);
        list->entries = g_steal_pointer(&list->coming);
        list->epoch = list->coming_epoch;
    }
    g_clear_pointer(&list->coming, g_array_unref);
}

static void ask(RvmrpcList *list)
{
    struct rvmrpc_list_req *wanted = g_new0(struct rvmrpc_list_req, 1);
    RvmrpcCall *call;

    wanted->first = list->at;
    call = rvmrpc_call_new(NULL, RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, wanted,
                           sizeof(*wanted), 0, got_page, list);
    if (rvmrpc_channel_submit(list->ch, call) != RVMRPC_STATUS_OK) {
        g_clear_pointer(&list->coming, g_array_unref);
    }
    rvmrpc_call_unref(call);
}

void rvmrpc_list_refresh(RvmrpcList *list)
{
    uint64_t now = rvmrpc_clock(), epoch = rvmrpc_channel_epoch(list->ch);

    if (!epoch || list->coming ||
        (epoch == list->epoch && now - list->asked_at < AGE_NS)) {
        return;
    }
    list->asked_at = now;
    list->coming_epoch = epoch;
    list->coming = entries_new();
    list->at = list->modules = list->procedures = 0;
    ask(list);
}

const GArray *rvmrpc_list_get(RvmrpcList *list)
{
    if (list->epoch != rvmrpc_channel_epoch(list->ch)) {
        g_array_set_size(list->entries, 0);
    }
    return list->entries;
}
