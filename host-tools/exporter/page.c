/*
 * rvmrpc-exporter: Prometheus' text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Labels are domain and uuid, as libvirt's exporters have them, and the socket.
 */
#include <string.h>
#include "page.h"

/* Bytes of a guest's text, which may be as long as an answer. */
#define LABEL_MAX 256

/* ---- Labels ---- */

char *page_label(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text ?: "", -1);
    GString *out = g_string_new(NULL);

    for (const char *p = valid; *p; p++) {
        if (*p == '\\' || *p == '"') {
            g_string_append_c(out, '\\');
        }
        if (*p == '\n') {
            g_string_append(out, "\\n");
        } else {
            g_string_append_c(out, *p);
        }
    }
    return g_string_free(out, FALSE);
}

char *page_guest_label(const char *text)
{
    g_autofree char *cut = g_strndup(text ?: "", LABEL_MAX);

    return page_label(cut);
}

/* What tells VMs apart is the VM's own, whoever else is there. */
static char *make_label(const RvmrpcVm *vm)
{
    const char *path = rvmrpc_vm_get_socket(vm);
    g_autofree char *name = page_label(rvmrpc_vm_get_name(vm));
    g_autofree char *uuid = page_label(rvmrpc_vm_get_uuid(vm));
    g_autofree char *socket = path ? page_label(path) :
        g_strdup_printf("pid-%" G_GINT64_FORMAT, rvmrpc_vm_get_pid(vm));

    return g_strdup_printf("domain=\"%s\",uuid=\"%s\",socket=\"%s\"", name,
                           uuid, socket);
}

/*
 * Two VMs with the same labels would make the whole page invalid.  Such are in
 * different containers: no two of one file system have one socket.
 */
char **page_labels(const GPtrArray *all)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    char **labels = g_new0(char *, all->len + 1);

    for (guint i = 0; i < all->len; i++) {
        const RvmrpcVm *vm = ((const Facts *)all->pdata[i])->vm;

        labels[i] = make_label(vm);
        if (g_hash_table_contains(seen, labels[i])) {
            char *whole = g_strdup_printf("%.*s@pid-%" G_GINT64_FORMAT "\"",
                                          (int)strlen(labels[i]) - 1,
                                          labels[i], rvmrpc_vm_get_pid(vm));
            g_free(labels[i]);
            labels[i] = whole;
        }
        g_hash_table_add(seen, labels[i]);
    }
    return labels;
}

/* ---- Samples ---- */

void page_number(GString *text, double value)
{
    char buf[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append(text, g_ascii_formatd(buf, sizeof(buf), "%.15g", value));
    g_string_append_c(text, '\n');
}

void page_head(Page *p, const char *name, const char *type, const char *help)
{
    g_string_append_printf(p->text, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX
                           "%s %s\n", name, help, name, type);
}

void page_sample(Page *p, guint vm, const char *name, const char *more,
                   double value)
{
    g_string_append_printf(p->text, PREFIX "%s{%s%s} ", name, p->labels[vm],
                           more);
    page_number(p->text, value);
}
