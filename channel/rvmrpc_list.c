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
#define RESTARTS_MAX    3       /* since the list changed meanwhile */
#define ENTRIES_MAX     (RVMRPC_LIST_MODULES * (1 + RVMRPC_LIST_PROCEDURES))

struct RvmrpcList {
    RvmrpcChannel *ch;
    GMutex lock;                /* outside the channel's; all below */
    GArray *entries;            /* whole; never changed, but replaced */
    uint64_t epoch;             /* of these */
    GArray *coming;             /* being fetched, or NULL */
    uint64_t coming_epoch;
    uint32_t at;                /* index of the next page's first */
    uint32_t generation;        /* of what is coming; 0: not known */
    uint32_t total;             /* entries of what is coming */
    unsigned restarts;
    uint32_t modules;           /* in what is coming */
    uint32_t procedures;        /* of the last of them */
    uint64_t asked_at;          /* ns */
    GSList *waiters;            /* of Waiter: told when what comes is whole */
};

typedef struct Waiter {
    RvmrpcListDone *done;
    void *opaque;
} Waiter;

static GArray *entries_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct rvmrpc_list_entry));
}

RvmrpcList *rvmrpc_list_new(RvmrpcChannel *ch)
{
    RvmrpcList *list = g_new0(RvmrpcList, 1);

    list->ch = ch;
    g_mutex_init(&list->lock);
    list->entries = entries_new();
    return list;
}

void rvmrpc_list_free(RvmrpcList *list)
{
    g_clear_pointer(&list->coming, g_array_unref);
    g_array_unref(list->entries);
    g_mutex_clear(&list->lock);
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

uint32_t rvmrpc_list_generation(const GArray *entries)
{
    return entries->len ?
           g_array_index(entries, struct rvmrpc_list_entry, 0).generation : 0;
}

/*
 * The page is of another list than those before it.  A guest that tells no
 * generation refuses none.
 */
static bool has_changed(const RvmrpcList *list, const char *data,
                        uint32_t bytes)
{
    struct rvmrpc_list head;

    if (!list->at || bytes < sizeof(head)) {
        return false;
    }
    memcpy(&head, data, sizeof(head));
    return head.total != list->total;
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
    list->total = head.total;
    list->generation = rvmrpc_list_generation(list->coming);
    return have && list->at < MIN(head.total, ENTRIES_MAX);
}

/* Lets the lock go, which is held: what was to come is here, or never will. */
static void finish(RvmrpcList *list, uint32_t status)
{
    GSList *waiters = g_slist_reverse(g_steal_pointer(&list->waiters));

    g_clear_pointer(&list->coming, g_array_unref);
    g_mutex_unlock(&list->lock);
    for (GSList *l = waiters; l; l = l->next) {
        Waiter *w = l->data;

        w->done(status, w->opaque);
    }
    g_slist_free_full(waiters, g_free);
}

static uint32_t ask(RvmrpcList *list);

/* Lock held. */
static uint32_t ask_from_the_start(RvmrpcList *list)
{
    g_array_set_size(list->coming, 0);
    list->at = list->generation = list->modules = list->procedures = 0;
    return ask(list);
}

static void got_page(RvmrpcCall *call, void *opaque)
{
    RvmrpcList *list = opaque;
    uint32_t status = call->core.status;

    g_mutex_lock(&list->lock);
    /* An answer of an epoch that is over by now tells nothing. */
    if (status == RVMRPC_STATUS_OK &&
        rvmrpc_channel_epoch(list->ch) != list->coming_epoch) {
        status = RVMRPC_STATUS_RESET;
    }
    if (status == RVMRPC_STATUS_OK &&
        has_changed(list, call->res, call->core.reslen)) {
        status = RVMRPC_STATUS_VERSION_MISMATCH;
    }
    if (status == RVMRPC_STATUS_OK) {
        if (take_page(list, call->res, call->core.reslen)) {
            status = ask(list);
            if (status == RVMRPC_STATUS_OK) {
                g_mutex_unlock(&list->lock);
                return;
            }
        } else {
            g_array_unref(list->entries);
            list->entries = g_steal_pointer(&list->coming);
            list->epoch = list->coming_epoch;
        }
    } else if (status == RVMRPC_STATUS_VERSION_MISMATCH &&
               list->restarts++ < RESTARTS_MAX) {
        status = ask_from_the_start(list);
        if (status == RVMRPC_STATUS_OK) {
            g_mutex_unlock(&list->lock);
            return;
        }
    }
    finish(list, status);
}

/* Lock held. */
static uint32_t ask(RvmrpcList *list)
{
    struct rvmrpc_list_req *wanted = g_new0(struct rvmrpc_list_req, 1);
    RvmrpcCall *call;
    uint32_t status;

    wanted->first = list->at;
    call = rvmrpc_call_new(NULL, RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, wanted,
                           sizeof(*wanted), 0, got_page, list);
    call->core.list = list->generation;
    status = rvmrpc_channel_submit(list->ch, call);
    rvmrpc_call_unref(call);
    return status;
}

/* Lock held. */
static uint32_t start(RvmrpcList *list, uint64_t epoch)
{
    uint32_t status;

    list->asked_at = rvmrpc_clock();
    list->coming_epoch = epoch;
    list->coming = entries_new();
    list->restarts = 0;
    status = ask_from_the_start(list);
    if (status != RVMRPC_STATUS_OK) {
        g_clear_pointer(&list->coming, g_array_unref);
    }
    return status;
}

void rvmrpc_list_refresh(RvmrpcList *list)
{
    uint64_t now = rvmrpc_clock(), epoch = rvmrpc_channel_epoch(list->ch);

    g_mutex_lock(&list->lock);
    if (epoch && !list->coming &&
        (epoch != list->epoch || now - list->asked_at >= AGE_NS)) {
        start(list, epoch);
    }
    g_mutex_unlock(&list->lock);
}

uint32_t rvmrpc_list_ask(RvmrpcList *list, RvmrpcListDone *done, void *opaque)
{
    uint64_t epoch = rvmrpc_channel_epoch(list->ch);
    uint32_t status = RVMRPC_STATUS_OK;
    Waiter *w;

    g_mutex_lock(&list->lock);
    if (!list->coming) {
        status = start(list, epoch);
    }
    if (status == RVMRPC_STATUS_OK) {
        w = g_new0(Waiter, 1);
        w->done = done;
        w->opaque = opaque;
        list->waiters = g_slist_prepend(list->waiters, w);
    }
    g_mutex_unlock(&list->lock);
    return status;
}

bool rvmrpc_list_forget(RvmrpcList *list, const void *opaque)
{
    bool found = false;

    g_mutex_lock(&list->lock);
    for (GSList *l = list->waiters; l; l = l->next) {
        Waiter *w = l->data;

        if (w->opaque == opaque) {
            list->waiters = g_slist_delete_link(list->waiters, l);
            g_free(w);
            found = true;
            break;
        }
    }
    g_mutex_unlock(&list->lock);
    return found;
}

GArray *rvmrpc_list_get(RvmrpcList *list)
{
    uint64_t epoch = rvmrpc_channel_epoch(list->ch);
    GArray *entries;

    g_mutex_lock(&list->lock);
    entries = list->epoch == epoch ? g_array_ref(list->entries) :
              entries_new();
    g_mutex_unlock(&list->lock);
    return entries;
}
