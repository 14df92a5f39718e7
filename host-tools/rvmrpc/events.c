/*
 * The rvmrpc command: events
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include "rvmrpc-cmd.h"
#include "../common/json.h"
#include "../common/stdio.h"

/* One wait of many. */
#define WAIT_MS 60000

static void add_process(GString *s, JsonObject *data)
{
    g_autofree char *process = clean(member_text(data, "process", NULL));

    g_string_append_printf(s, "%s (%" G_GUINT64_FORMAT ")", process,
                           member_int(data, "pid", 0));
}

static void add_oom_kill(GString *s, JsonObject *data)
{
    g_string_append(s, "out of memory: ");
    add_process(s, data);
    if (json_object_has_member(data, "rss")) {
        g_autofree char *size = size_words(member_int(data, "rss", 0));

        g_string_append_printf(s, " with %s is killed", size);
    }
}

static void add_stall(GString *s, JsonObject *data)
{
    g_string_append_printf(s, "tasks wait for memory %.1f %% of the time%s",
                           member_double(data, "percent", 0),
                           member_bool(data, "ended", FALSE) ? ": the stall is over" : "");
}

static void add_kernel_event(GString *s, JsonObject *data)
{
    const char *type = member_text(data, "type", NULL) ?: "other";
    g_autofree char *name = rvmrpc_escape(type, FALSE);
    const char *words = member_text(data, "text", NULL);

    if (strcmp(type, "oom-kill") == 0) {
        add_oom_kill(s, data);
    } else if (strcmp(type, "stall") == 0) {
        add_stall(s, data);
    } else if (strcmp(type, "no-memory") == 0) {
        g_string_append(s, "the driver got no memory");
    } else if (strcmp(type, "low-memory") == 0) {
        g_string_append(s, "the kernel is short of memory");
    } else if (strcmp(type, "other") == 0) {
        g_string_append_printf(s, "module 0x%" G_GINT64_MODIFIER "x, kind %"
                               G_GUINT64_FORMAT, member_int(data, "module", 0),
                               member_int(data, "kind", 0));
    } else {
        g_string_append(s, name);
        if (json_object_has_member(data, "pid")) {
            g_string_append(s, " in ");
            add_process(s, data);
        }
    }
    if (words) {
        g_autofree char *text = rvmrpc_escape(words, FALSE);

        g_string_append_printf(s, ": %s", text);
    }
    if (member_int(data, "missed", 0)) {
        g_string_append_printf(s, " (%" G_GUINT64_FORMAT
                               " before it were lost)",
                               member_int(data, "missed", 0));
    }
}

static char *event_words(const char *name, JsonObject *data)
{
    GString *s = g_string_new(NULL);

    if (g_strcmp0(name, "GUEST_KERNEL_EVENT") == 0) {
        add_kernel_event(s, data);
    } else if (g_strcmp0(name, "RVMRPC_CONNECTED") == 0) {
        g_autofree char *release = clean(member_text(data, "release", NULL));

        g_string_append_printf(s, "a driver has registered, kernel %s",
                               release);
    } else if (g_strcmp0(name, "RVMRPC_DISCONNECTED") == 0) {
        g_autofree char *reason = clean(member_text(data, "reason", NULL));

        g_string_append_printf(s, "the driver is gone: %s", reason);
    } else {
        g_autofree char *text = clean(name);

        g_string_append(s, text);
    }
    return g_string_free(s, FALSE);
}

static void print_words(const char *name, JsonObject *data)
{
    g_autofree char *text = event_words(name, data), *now = clock_text();

    printf("%s %s\n", now, text);
}

static void print_object(const char *name, JsonNode *data)
{
    g_autofree char *now = clock_text();
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    json_string(b, "time", now);
    json_string(b, "event", name);
    json_builder_set_member_name(b, "data");
    json_builder_add_value(b, json_node_copy(data));
    json_builder_end_object(b);
    print_json(b, FALSE);
}

/* FALSE: it is none. */
static gboolean print_event(const char *text)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *event = parse_object(parser, text);
    const char *name = member_text(event, "event", NULL);
    JsonObject *data = member_object(event, "data");

    if (!name || !data) {
        return FALSE;
    }
    if (options.json) {
        print_object(name, json_object_get_member(event, "data"));
    } else {
        print_words(name, data);
    }
    return TRUE;
}

int cmd_events(int argc, char **argv)
{
    g_autoptr(RvmrpcConn) conn = NULL;
    int printed = 0, code = EXIT_OK;

    (void)argc;
    conn = open_vm(argv[0], &code);
    if (!conn) {
        return code;
    }
    stdio_may_stop();
    do {
        g_autoptr(GError) error = NULL;
        g_autofree char *event =
            rvmrpc_next_event(conn, timeout_or(WAIT_MS), options.cancellable,
                              &error);

        if (event) {
            printed += print_event(event);
        } else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
            return EXIT_OK;
        } else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
            return fail(g_steal_pointer(&error));
        } else if (options.timeout_ms) {
            return EXIT_NO_ANSWER;
        }
    } while (stdio_flush() && (!options.count || printed < options.count));
    return EXIT_OK;
}
