/*
 * The rvmrpc command: balance, what it is told
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "../common/size.h"
#include "balance.h"

#define INTERVAL_S      10
#define LIMIT_PERCENT   1.0

static gboolean set_size(const char *text, guint64 *bytes, GError **error)
{
    if (!size_parse(text, bytes)) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "'%s' is no size, as 4G", text);
        return FALSE;
    }
    return TRUE;
}

/* NaN is in no range. */
static gboolean set_number(const char *text, double least, double most,
                           double *number, GError **error)
{
    char *end;

    *number = g_ascii_strtod(text, &end);
    if (end == text || *end || !(*number >= least && *number <= most)) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "'%s' is not from %g to %g", text, least, most);
        return FALSE;
    }
    return TRUE;
}

/* VMs have their UUIDs in small letters. */
static char *key_of(const char *vm)
{
    return g_uuid_string_is_valid(vm) ? g_ascii_strdown(vm, -1) : g_strdup(vm);
}

static gboolean set_floor(BalanceConfig *c, const char *vm, const char *text,
                          GError **error)
{
    guint64 bytes;

    if (!set_size(text, &bytes, error)) {
        return FALSE;
    }
    g_hash_table_replace(c->floors, key_of(vm), g_memdup2(&bytes,
                                                          sizeof(bytes)));
    return TRUE;
}

/* ---- The file ---- */

static gboolean set_key(BalanceConfig *c, const char *group, const char *key,
                        const char *text, GError **error)
{
    if (g_str_has_prefix(group, "vm ") && strcmp(key, "floor") == 0) {
        return set_floor(c, group + 3, text, error);
    }
    if (strcmp(group, "balance") == 0) {
        if (strcmp(key, "target") == 0) {
            return set_size(text, &c->target, error);
        }
        if (strcmp(key, "floor") == 0) {
            return set_size(text, &c->floor, error);
        }
        if (strcmp(key, "pressure") == 0) {
            return set_number(text, 0.01, 100, &c->limit, error);
        }
        if (strcmp(key, "interval") == 0) {
            return set_number(text, 0.01, 3600, &c->interval, error);
        }
    }
    g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "there is no such key; [balance] has target, floor, "
                        "pressure and interval, [vm NAME] has floor");
    return FALSE;
}

static gboolean load_file(BalanceConfig *c, const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return FALSE;
    }
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        g_auto(GStrv) keys = g_key_file_get_keys(file, *group, NULL, NULL);

        for (char **key = keys; key && *key; key++) {
            g_autofree char *text = g_key_file_get_string(file, *group, *key,
                                                          error);

            if (!text || !set_key(c, *group, *key, g_strstrip(text), error)) {
                g_prefix_error(error, "%s: [%s] %s: ", path, *group, *key);
                return FALSE;
            }
        }
    }
    return TRUE;
}

/* ---- Options, which go before the file ---- */

/* "SIZE" for all, or "VM=SIZE". */
static gboolean floor_option(BalanceConfig *c, const char *text,
                             GError **error)
{
    const char *at = strrchr(text, '=');
    g_autofree char *vm = at ? g_strndup(text, at - text) : NULL;
    gboolean ok = at ? set_floor(c, vm, at + 1, error) :
                  set_size(text, &c->floor, error);

    if (!ok) {
        g_prefix_error(error, "--floor: ");
    }
    return ok;
}

static gboolean load(BalanceConfig *c, GError **error)
{
    if (options.config && !load_file(c, options.config, error)) {
        return FALSE;
    }
    if (options.target && !set_size(options.target, &c->target, error)) {
        g_prefix_error(error, "--target: ");
        return FALSE;
    }
    for (char **floor = options.floors; floor && *floor; floor++) {
        if (!floor_option(c, *floor, error)) {
            return FALSE;
        }
    }
    if (options.interval != 0) {
        c->interval = options.interval;
    }
    if (!c->target) {
        g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                            "how much memory shall the host have available? "
                            "--target SIZE, or target= in a file");
        return FALSE;
    }
    return TRUE;
}

BalanceConfig *balance_config_load(void)
{
    BalanceConfig *c = g_new0(BalanceConfig, 1);
    g_autoptr(GError) error = NULL;

    c->floors = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    c->limit = LIMIT_PERCENT;
    c->interval = INTERVAL_S;
    if (!load(c, &error)) {
        usage_error("%s", error->message);
        balance_config_free(c);
        return NULL;
    }
    return c;
}

void balance_config_free(BalanceConfig *c)
{
    g_hash_table_unref(c->floors);
    g_free(c);
}

guint64 balance_config_floor(const BalanceConfig *c, const RvmrpcVm *vm)
{
    const guint64 *bytes = g_hash_table_lookup(c->floors,
                                               rvmrpc_vm_get_name(vm));

    if (!bytes && rvmrpc_vm_get_uuid(vm)) {
        bytes = g_hash_table_lookup(c->floors, rvmrpc_vm_get_uuid(vm));
    }
    return bytes ? *bytes : c->floor;
}
