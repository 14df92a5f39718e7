/*
 * The rvmrpc command: tables, as wide as what is in them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "rvmrpc-cmd.h"

#define COLUMNS_MAX 12
/* A longer text goes beyond its column, and makes no other row longer. */
#define WIDTH_MAX   48

struct Table {
    guint columns;
    gboolean right[COLUMNS_MAX];
    GPtrArray *cells;           /* of char *, row by row, heads first */
    GHashTable *below;          /* row -> GString, of lines below it */
};

Table *table_new(const char *const *heads)
{
    Table *t = g_new0(Table, 1);

    t->cells = g_ptr_array_new_with_free_func(g_free);
    for (; heads[t->columns] && t->columns < COLUMNS_MAX; t->columns++) {
        const char *head = heads[t->columns];

        t->right[t->columns] = *head == '>';
        g_ptr_array_add(t->cells, g_strdup(*head == '>' ? head + 1 : head));
    }
    t->below = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return t;
}

void table_free(Table *t)
{
    g_hash_table_unref(t->below);
    g_ptr_array_unref(t->cells);
    g_free(t);
}

void table_add(Table *t, char *cell)
{
    g_ptr_array_add(t->cells, cell);
}

void table_add_u64(Table *t, const RvmrpcRecord *r, guint key)
{
    guint64 value;

    table_add(t, rvmrpc_record_get_u64(r, key, &value) ?
              g_strdup_printf("%" G_GUINT64_FORMAT, value) : g_strdup("-"));
}

void table_add_size(Table *t, const RvmrpcRecord *r, guint key)
{
    guint64 value;

    table_add(t, rvmrpc_record_get_u64(r, key, &value) ? human_size(value) :
              g_strdup("-"));
}

void table_add_text(Table *t, const RvmrpcRecord *r, guint key)
{
    g_autofree char *text = rvmrpc_record_get_string(r, key);

    table_add(t, clean(text));
}

void table_below(Table *t, char *lines)
{
    g_hash_table_insert(t->below,
                        GUINT_TO_POINTER((t->cells->len - 1) / t->columns),
                        lines);
}

guint table_rows(const Table *t)
{
    return t->cells->len / t->columns - 1;
}

char *table_text(const Table *t, const char *indent)
{
    GString *s = g_string_new(NULL);
    int width[COLUMNS_MAX] = { 0 };

    for (guint i = 0; i < t->cells->len; i++) {
        int length = MIN(g_utf8_strlen(t->cells->pdata[i], -1), WIDTH_MAX);

        width[i % t->columns] = MAX(width[i % t->columns], length);
    }
    for (guint i = 0; i < t->cells->len; i++) {
        const guint column = i % t->columns;
        const char *cell = t->cells->pdata[i];
        const gboolean last = column == t->columns - 1;
        const int pad = MAX(width[column] - g_utf8_strlen(cell, -1), 0);
        const char *below;

        g_string_append_printf(s, "%s%*s%s%*s%s", column ? "  " : indent,
                               t->right[column] ? pad : 0, "", cell,
                               t->right[column] || last ? 0 : pad, "",
                               last ? "\n" : "");
        below = last ? g_hash_table_lookup(t->below,
                                           GUINT_TO_POINTER(i / t->columns)) :
                NULL;
        g_string_append(s, below ?: "");
    }
    return g_string_free(s, FALSE);
}
