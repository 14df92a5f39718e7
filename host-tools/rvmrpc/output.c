/*
 * The rvmrpc command: output
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "rvmrpc-cmd.h"
#include "../common/stdio.h"

static gboolean use_color(void)
{
    const char *term = g_getenv("TERM");

    return isatty(STDOUT_FILENO) && !g_getenv("NO_COLOR") &&
           g_strcmp0(term, "dumb") != 0;
}

const char *color_of(const char *state)
{
    if (!use_color()) {
        return "";
    }
    return strcmp(state, "connected") == 0 ? "\033[32m" :
           strcmp(state, "paused") == 0 || strcmp(state, "no-driver") == 0 ?
           "\033[33m" : "\033[31m";
}

const char *color_off(void)
{
    return use_color() ? "\033[0m" : "";
}

char *human_size(guint64 bytes)
{
    static const char units[] = "KMGTPE";
    double value = bytes / 1024.0;
    const char *unit = units;

    while (value >= 1000 && unit[1]) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%.1f%c", value, *unit);
}

char *size_words(guint64 bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
    double value = bytes / 1024.0;
    guint unit = 0;

    if (bytes < 1024) {
        return g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes);
    }
    while (value >= 1000 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%.1f %s", value, units[unit]);
}

char *clean(const char *text)
{
    return text ? rvmrpc_escape(text, FALSE) : g_strdup("-");
}

char *clock_text(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();

    return g_date_time_format(now, options.json ? "%FT%T%z" : "%T");
}

/* ---- JSON ---- */

void print_json(JsonBuilder *builder, gboolean pretty)
{
    g_autoptr(JsonNode) root = json_builder_get_root(builder);
    g_autofree char *text = json_to_string(root, pretty);

    puts(text);
    stdio_flush();
    g_object_unref(builder);
}

JsonBuilder *begin_json(void)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    return b;
}

int end_json(JsonBuilder *b)
{
    json_builder_end_object(b);
    print_json(b, TRUE);
    return EXIT_OK;
}

/* A path of this host may be no UTF-8, which JSON is. */
void json_string(JsonBuilder *b, const char *name, const char *value)
{
    if (value) {
        g_autofree char *valid = g_utf8_make_valid(value, -1);

        json_builder_set_member_name(b, name);
        json_builder_add_string_value(b, valid);
    }
}

/* JSON's own numbers end where a signed 64 bit integer does. */
void json_u64(JsonBuilder *b, const char *name, guint64 value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, MIN(value, (guint64)G_MAXINT64));
}

void json_i64(JsonBuilder *b, const char *name, gint64 value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

void json_bool(JsonBuilder *b, const char *name, gboolean value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}

void json_double(JsonBuilder *b, const char *name, double value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_double_value(b, value);
}

void json_mem(JsonBuilder *b, const RvmrpcMeminfo *mem)
{
    for (guint key = 0; key < RVMRPC_MEM_KEYS; key++) {
        if (rvmrpc_meminfo_has(mem, key)) {
            json_u64(b, rvmrpc_mem_key_name(key), mem->value[key]);
        }
    }
    json_string(b, "raw", mem->raw);
}

void json_vm(JsonBuilder *b, const RvmrpcVm *vm)
{
    json_string(b, "name", rvmrpc_vm_get_name(vm));
    json_string(b, "uuid", rvmrpc_vm_get_uuid(vm));
    if (rvmrpc_vm_get_pid(vm)) {
        json_u64(b, "pid", rvmrpc_vm_get_pid(vm));
    }
    json_string(b, "socket", rvmrpc_vm_get_socket(vm));
}

gboolean cpu_percent(const Facts *before, const Facts *now, double *percent)
{
    const RvmrpcCpuTimes *a, *b;
    double busy, idle;

    if (!before || !before->stat || !now->stat) {
        return FALSE;
    }
    a = &before->stat->total;
    b = &now->stat->total;
    busy = ((double)b->user - a->user) + ((double)b->system - a->system) +
           ((double)b->steal - a->steal);
    idle = ((double)b->idle - a->idle) + ((double)b->iowait - a->iowait);
    if (busy < 0 || idle < 0 || busy + idle <= 0) {
        return FALSE;
    }
    *percent = 100 * busy / (busy + idle);
    return TRUE;
}
