/*
 * rvmrpc-exporter: Prometheus' text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Prometheus wants the samples of a metric together, so every metric goes
 * over all VMs.
 */
#ifndef PAGE_H
#define PAGE_H

#include "../common/facts.h"

#define PREFIX "rvmrpc_"

typedef struct Page {
    GString *text;
    const GPtrArray *all;       /* of Facts */
    char **labels;              /* of each VM: domain="...",... */
} Page;

/* What a label may have as its value, for text of any kind or NULL. */
char *page_label(const char *text);
/* The same of a guest's text, which is cut. */
char *page_guest_label(const char *text);
/* Of each VM, no two alike; for g_strfreev(). */
char **page_labels(const GPtrArray *all);

/* What stands before a metric's samples. */
void page_head(Page *page, const char *name, const char *type,
               const char *help);
/* @vm: its index; @more: labels beside the VM's, each with a comma before it. */
void page_sample(Page *page, guint vm, const char *name, const char *more,
                 double value);
/* A value, and the end of its line. */
void page_number(GString *text, double value);

#endif
