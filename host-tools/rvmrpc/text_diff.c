/*
 * The rvmrpc command: what differs between two texts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "domain_xml.h"

#define CONTEXT 3               /* lines around a change */

typedef struct Diff {
    char **a, **b;
    guint a_len, b_len;
    guint *common;              /* [i][j]: the most lines that a[i..], b[j..] share */
} Diff;

static guint *cell(const Diff *d, guint i, guint j)
{
    return &d->common[i * (d->b_len + 1) + j];
}

static void measure(Diff *d)
{
    d->common = g_new0(guint, (gsize)(d->a_len + 1) * (d->b_len + 1));
    for (guint i = d->a_len; i-- > 0;) {
        for (guint j = d->b_len; j-- > 0;) {
            *cell(d, i, j) = strcmp(d->a[i], d->b[j]) == 0 ?
                             *cell(d, i + 1, j + 1) + 1 :
                             MAX(*cell(d, i + 1, j), *cell(d, i, j + 1));
        }
    }
}

/* All lines of both, each with its mark in front. */
static GPtrArray *merge(const Diff *d)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    guint i = 0, j = 0;

    while (i < d->a_len || j < d->b_len) {
        if (i < d->a_len && j < d->b_len && strcmp(d->a[i], d->b[j]) == 0) {
            g_ptr_array_add(lines, g_strconcat(" ", d->a[i++], NULL));
            j++;
        } else if (j == d->b_len || (i < d->a_len &&
                   *cell(d, i + 1, j) >= *cell(d, i, j + 1))) {
            g_ptr_array_add(lines, g_strconcat("-", d->a[i++], NULL));
        } else {
            g_ptr_array_add(lines, g_strconcat("+", d->b[j++], NULL));
        }
    }
    return lines;
}

static gboolean near_change(const GPtrArray *lines, guint at)
{
    guint from = at > CONTEXT ? at - CONTEXT : 0;
    guint to = MIN(at + CONTEXT + 1, lines->len);

    for (guint i = from; i < to; i++) {
        if (*(const char *)lines->pdata[i] != ' ') {
            return TRUE;
        }
    }
    return FALSE;
}

/* A newline ends a line and begins none. */
static char **lines_of(const char *text)
{
    g_autofree char *copy = g_strchomp(g_strdup(text));

    return g_strsplit(copy, "\n", -1);
}

char *text_diff(const char *before, const char *after)
{
    g_auto(GStrv) a = lines_of(before), b = lines_of(after);
    Diff d = { a, b, g_strv_length(a), g_strv_length(b), NULL };
    g_autoptr(GPtrArray) lines = NULL;
    GString *s = g_string_new(NULL);
    gboolean gap = FALSE;

    measure(&d);
    lines = merge(&d);
    g_free(d.common);
    for (guint i = 0; i < lines->len; i++) {
        gboolean show = near_change(lines, i);

        if (show) {
            g_string_append_printf(s, "%s%s\n", gap && s->len ? "@@\n" : "",
                                   (const char *)lines->pdata[i]);
        }
        gap = !show;
    }
    return g_string_free(s, FALSE);
}
