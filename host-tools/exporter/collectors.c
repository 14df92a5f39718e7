/*
 * rvmrpc-exporter: what the guests are asked for, by name
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "collectors.h"

/* Names as node_exporter has them, where it has them. */
static const struct {
    const char *name;
    FactsKind kind;
    FactsList list;             /* FACTS_LISTS: it is none */
} collectors[] = {
    { "kernel", FACTS_KERNEL, FACTS_LISTS },
    { "uname", FACTS_OS, FACTS_LISTS },
    { "time", FACTS_CLOCK, FACTS_LISTS },
#define LIST(name, list) { name, FACTS_LIST(list), list }
    LIST("pressure", FACTS_LIST_PSI),
    LIST("vmstat", FACTS_LIST_VMSTAT),
    LIST("diskstats", FACTS_LIST_DISKS),
    LIST("network", FACTS_LIST_NET),
    LIST("tasks", FACTS_LIST_BLOCKED),
    LIST("filesystem", FACTS_LIST_FS),
#undef LIST
};

/* Adds the kinds of @names to *kinds. */
static gboolean add(char *const *names, FactsKind *kinds, GError **error)
{
    for (; names && *names; names++) {
        gsize i = 0;

        while (i < G_N_ELEMENTS(collectors) &&
               strcmp(collectors[i].name, *names) != 0) {
            i++;
        }
        if (i == G_N_ELEMENTS(collectors)) {
            GString *all = g_string_new(NULL);

            for (i = 0; i < G_N_ELEMENTS(collectors); i++) {
                g_string_append_printf(all, "%s%s", i ? ", " : "",
                                       collectors[i].name);
            }
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "no collector '%s'; there are %s", *names, all->str);
            g_string_free(all, TRUE);
            return FALSE;
        }
        *kinds |= collectors[i].kind;
    }
    return TRUE;
}

FactsKind collectors_choose(char *const *with, char *const *without,
                            GError **error)
{
    FactsKind kinds = 0, no = 0;

    if (!add(with, &kinds, error) || !add(without, &no, error)) {
        return 0;
    }
    for (gsize i = 0; !with && i < G_N_ELEMENTS(collectors); i++) {
        kinds |= collectors[i].kind;
    }
    return FACTS_CHANNEL | FACTS_PING | (kinds & ~no);
}

static gboolean told(const Facts *f, gsize i)
{
    switch (collectors[i].kind) {
    case FACTS_KERNEL:
        return f->stat != NULL;
    case FACTS_OS:
        return f->os != NULL;
    case FACTS_CLOCK:
        return f->has_clock;
    default:
        return facts_whole(f, collectors[i].list);
    }
}

void collectors_put(Page *p, FactsKind kinds)
{
    const char *name = "guest_collector_success";

    page_head(p, name, "gauge", "The guest told all that was asked for; 0: it "
              "lacks or refuses it, or was too slow, or has too much.");
    for (guint vm = 0; vm < p->all->len; vm++) {
        const Facts *f = p->all->pdata[vm];

        for (gsize i = 0; f->latency_ns && i < G_N_ELEMENTS(collectors); i++) {
            g_autofree char *more = g_strdup_printf(",collector=\"%s\"",
                                                    collectors[i].name);

            if (kinds & collectors[i].kind) {
                page_sample(p, vm, name, more, told(f, i));
            }
        }
    }
}
