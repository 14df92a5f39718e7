/*
 * librvmrpc: what a guest says that can be called
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "private.h"

/* 64 modules of 64 procedures, as rvmrpcd: what a guest makes us keep. */
#define ENTRIES_MAX (64 * (1 + 64))
/* Of reading the list, which may change meanwhile. */
#define RESTARTS_MAX 3

static void procedure_free(void *data)
{
    RvmrpcProcedure *p = data;

    g_free(p->name);
    g_free(p);
}

static void module_free(void *data)
{
    RvmrpcModule *m = data;

    g_free(m->name);
    g_ptr_array_unref(m->procedures);
    g_free(m);
}

GPtrArray *modules_new(void)
{
    return g_ptr_array_new_with_free_func(module_free);
}

static void add_module(GPtrArray *modules, const struct rvmrpc_list_entry *e)
{
    RvmrpcModule *m = g_new0(RvmrpcModule, 1);

    m->number = e->number;
    m->version = e->version;
    m->generation = e->generation;
    m->name = g_utf8_make_valid(e->name, strnlen(e->name, sizeof(e->name)));
    m->procedures = g_ptr_array_new_with_free_func(procedure_free);
    g_ptr_array_add(modules, m);
}

static void add_procedure(RvmrpcModule *m, const struct rvmrpc_list_entry *e)
{
    RvmrpcProcedure *p = g_new0(RvmrpcProcedure, 1);

    p->number = e->number;
    p->name = g_utf8_make_valid(e->name, strnlen(e->name, sizeof(e->name)));
    p->read_only = !!(e->flags & RVMRPC_PROC_READ_ONLY);
    p->may_sleep = !!(e->flags & RVMRPC_PROC_MAY_SLEEP);
    p->allowed = !!(e->flags & RVMRPC_PROC_ALLOWED);
    g_ptr_array_add(m->procedures, p);
}

gboolean modules_parse(GPtrArray *modules, GBytes *answer, ListPage *page,
                       GError **error)
{
    gsize size;
    const guint8 *data = g_bytes_get_data(answer, &size);
    struct rvmrpc_list list;
    struct rvmrpc_list_entry e = { 0 };

    if (size < sizeof(list)) {
        goto malformed;
    }
    memcpy(&list, data, sizeof(list));
    if (list.count > (size - sizeof(list)) / sizeof(e) ||
        list.total > ENTRIES_MAX) {
        goto malformed;
    }
    for (guint32 i = 0; i < list.count; i++) {
        memcpy(&e, data + sizeof(list) + i * sizeof(e), sizeof(e));
        if (e.kind == RVMRPC_LIST_MODULE) {
            add_module(modules, &e);
        } else if (e.kind == RVMRPC_LIST_PROCEDURE && modules->len) {
            add_procedure(modules->pdata[modules->len - 1], &e);
        }
    }
    *page = (ListPage) {
        .total = list.total,
        .count = list.count,
        .generation = e.generation,
    };
    return TRUE;
malformed:
    g_set_error_literal(error, RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                        "the guest's list of modules is malformed");
    return FALSE;
}

/* From entry @first on, of the list that has @generation, or of any. */
static gboolean ask_page(RvmrpcConn *conn, GPtrArray *modules, guint32 first,
                         guint32 generation, ListPage *page,
                         const Until *until, GError **error)
{
    const struct rvmrpc_list_req req = { .first = first };
    const Target target = {
        .module = RVMRPC_MOD_CORE,
        .procedure = RVMRPC_CORE_LIST,
        .list = generation,
    };
    g_autoptr(GBytes) arg = g_bytes_new(&req, sizeof(req));
    g_autoptr(GBytes) answer = NULL;

    if (first && !until_more(until, conn->vm, error)) {
        return FALSE;
    }
    answer = call_target(conn, &target, arg, MAX(until_left(until), 1), NULL,
                         until->cancellable, error);
    if (!answer) {
        return FALSE;
    }
    if (!modules_parse(modules, answer, page, error)) {
        g_prefix_error(error, "%s: ", conn->vm->label);
        return FALSE;
    }
    return TRUE;
}

/* FALSE and no *error: the list has changed meanwhile. */
static gboolean read_list(RvmrpcConn *conn, GPtrArray *modules,
                          const Until *until, GError **error)
{
    ListPage page, before = { .generation = 0 };
    guint32 first = 0;

    g_ptr_array_set_size(modules, 0);
    do {
        GError *err = NULL;

        if (!ask_page(conn, modules, first, before.generation, &page, until,
                      &err)) {
            if (call_is_stale(before.generation, err)) {
                g_error_free(err);
            } else {
                g_propagate_error(error, err);
            }
            return FALSE;
        }
        /* By ways that carry no generation it is for us to look. */
        if (first && (page.total != before.total ||
                      (page.count && page.generation != before.generation))) {
            return FALSE;
        }
        if (!page.count && first < page.total) {
            g_propagate_error(error, malformed_error(conn->vm));
            return FALSE;
        }
        before = page;
        first += page.count;
    } while (first < page.total);
    return TRUE;
}

GPtrArray *rvmrpc_list_modules(RvmrpcConn *conn, guint timeout_ms,
                               GCancellable *cancellable, GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    g_autoptr(GPtrArray) modules = modules_new();

    for (int i = 0; i <= RESTARTS_MAX; i++) {
        GError *err = NULL;

        if (read_list(conn, modules, &until, &err)) {
            return g_steal_pointer(&modules);
        }
        if (err) {
            g_propagate_error(error, err);
            return NULL;
        }
    }
    g_propagate_error(error, status_error(conn->vm,
                                          RVMRPC_STATUS_VERSION_MISMATCH));
    return NULL;
}
