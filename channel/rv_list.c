/*
 * Reverse VMRPC: what a guest says that can be called
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The answer to core.list, page by page.  It is the guest's word, so its length is bounded here.
 */
#include <string.h>
#include "rv_list.h"

#define ENTRIES_MAX     4096
#define AGE_NS          1000000000ull

struct RvList {
    RvChannel *ch;
    GArray *entries;            /* whole */
    GArray *coming;             /* being fetched, or NULL */
    uint64_t epoch;             /* of what is coming */
    uint64_t asked_at;          /* ns */
};

static void ask(RvList *list);

RvList *rv_list_new(RvChannel *ch)
{
    RvList *list = g_new0(RvList, 1);

    list->ch = ch;
    list->entries = g_array_new(FALSE, FALSE, sizeof(struct rvmrpc_list_entry));
    return list;
}

void rv_list_free(RvList *list)
{
    g_clear_pointer(&list->coming, g_array_unref);
    g_array_unref(list->entries);
    g_free(list);
}

void rv_list_clear(RvList *list)
{
    g_array_set_size(list->entries, 0);
    list->asked_at = 0;
}

/* True: there is more to come. */
static bool take_page(RvList *list, const void *data, uint32_t bytes)
{
    struct rvmrpc_list head;
    uint32_t have;

    if (bytes < sizeof(head)) {
        return false;
    }
    memcpy(&head, data, sizeof(head));
    have = (bytes - sizeof(head)) / sizeof(struct rvmrpc_list_entry);
    have = MIN(MIN(have, head.count), ENTRIES_MAX - list->coming->len);
    g_array_append_vals(list->coming, (const char *)data + sizeof(head), have);
    return have && list->coming->len < head.total && list->coming->len < ENTRIES_MAX;
}

static void got_page(RvCall *call, void *opaque)
{
    RvList *list = opaque;
    RvChannelInfo info;
    bool more = false;

    rv_channel_get_info(list->ch, &info);
    if (call->core.status == RVMRPC_STATUS_OK && info.epoch == list->epoch) {
        more = take_page(list, call->res, call->core.reslen);
        if (!more) {
            g_array_unref(list->entries);
            list->entries = g_steal_pointer(&list->coming);
        }
    }
    rv_call_unref(call);
    if (more) {
        ask(list);
    } else {
        g_clear_pointer(&list->coming, g_array_unref);
    }
}

static void ask(RvList *list)
{
    struct rvmrpc_list_req *wanted = g_new0(struct rvmrpc_list_req, 1);
    RvCall *call;

    wanted->first = list->coming->len;
    call = rv_call_new(NULL, RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, wanted, sizeof(*wanted), 0, got_page, list);
    if (rv_channel_submit(list->ch, call) != RVMRPC_STATUS_OK) {
        rv_call_unref(call);
        g_clear_pointer(&list->coming, g_array_unref);
    }
}

const GArray *rv_list_get(RvList *list)
{
    uint64_t now = rv_now();
    RvChannelInfo info;

    rv_channel_get_info(list->ch, &info);
    if (info.open && !list->coming && (!list->asked_at || now - list->asked_at >= AGE_NS)) {
        list->asked_at = now;
        list->epoch = info.epoch;
        list->coming = g_array_new(FALSE, FALSE, sizeof(struct rvmrpc_list_entry));
        ask(list);
    }
    return list->entries;
}
