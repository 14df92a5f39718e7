/*
 * librvmrpc: by QMP, at its own socket or through libvirt
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For VMs without a socket of the device.  Through libvirt means virsh: it
 * knows the connection's URI, its authentication and its daemons, and nobody
 * has to link libvirt who does not use it.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "private.h"

/* An answer of 1 MiB in base64, and what is around it. */
#define REPLY_MAX (2 << 20)

static const char *const status_names[] = {
    "ok", "module-unavailable", "version-mismatch", "procedure-unavailable",
    "garbage-args", "too-big", "not-allowed", "busy", "not-connected",
    "stopped", "timed-out", "cancelled", "reset", "system-error",
};

G_STATIC_ASSERT(G_N_ELEMENTS(status_names) == RVMRPC_STATUS_MAX + 1);

/* ---- Replies ---- */

/* Says how what came begins: it may be another program's, at that path. */
static gboolean malformed(const char *text, GError **error)
{
    g_autofree char *start = g_strndup(text, 160);
    g_autofree char *shown = g_strescape(start, NULL);

    g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                "QMP's answer makes no sense: %s", shown);
    return FALSE;
}

/* "return" of a reply; *error for an "error", or for neither. */
static JsonObject *get_return(JsonObject *reply, GError **error)
{
    JsonObject *err = member_object(reply, "error");
    JsonObject *ret = member_object(reply, "return");
    const char *kind, *desc;

    if (ret) {
        return ret;
    }
    if (!err) {
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(),
                                                         reply);
        g_autofree char *text = json_to_string(node, FALSE);

        malformed(text, error);
        return NULL;
    }
    kind = member_text(err, "class", "");
    desc = member_text(err, "desc", "");
    if (strcmp(kind, "CommandNotFound") == 0) {
        desc = "its QEMU has no Reverse VMRPC; set <emulator> to one that has";
    }
    g_set_error_literal(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY, desc);
    return NULL;
}

/* ---- At its own socket ---- */

/* The next line, without its end. */
static char *read_line(RvmrpcConn *conn, const Until *until, GError **error)
{
    while (TRUE) {
        guint have = conn->in->len;
        guint8 *end = have ? memchr(conn->in->data, '\n', have) : NULL;
        ssize_t n;

        if (end) {
            gsize length = end - conn->in->data;
            char *line = g_utf8_make_valid((char *)conn->in->data, length);

            g_byte_array_remove_range(conn->in, 0, length + 1);
            return line;
        }
        if (have > REPLY_MAX) {
            conn->broken = TRUE;
            malformed("it has no end", error);
            return NULL;
        }
        if (!until_ready(until, conn->fd, POLLIN, error)) {
            return NULL;
        }
        g_byte_array_set_size(conn->in, have + 65536);
        n = read(conn->fd, conn->in->data + have, 65536);
        g_byte_array_set_size(conn->in, have + MAX(n, 0));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            conn->broken = TRUE;
            g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CLOSED,
                                "QEMU closed its monitor");
            return NULL;
        }
    }
}

static gboolean is_our_event(JsonObject *obj)
{
    const char *name = member_text(obj, "event", NULL);

    return name && (g_str_has_prefix(name, "RVMRPC_") ||
                    strcmp(name, "GUEST_KERNEL_EVENT") == 0);
}

/* The reply with id conn->cookie, in the parser's memory; keeps events for who asks for them. */
static JsonObject *read_reply(RvmrpcConn *conn, JsonParser *parser,
                              const Until *until, GError **error)
{
    while (TRUE) {
        g_autofree char *line = read_line(conn, until, error);
        JsonObject *obj = line ? parse_object(parser, line) : NULL;

        if (!line) {
            return NULL;
        }
        if (!obj) {
            conn->broken = TRUE;
            malformed(line, error);
            return NULL;
        }
        if (is_our_event(obj)) {
            if (conn->subscribed) {
                g_queue_push_tail(&conn->events, g_steal_pointer(&line));
            }
        } else if (member_int(obj, "id", -1) == (gint64)conn->cookie) {
            return obj;
        }
        if (until_over(until, error)) {
            return NULL;
        }
    }
}

static JsonObject *qmp_execute(RvmrpcConn *conn, const char *command,
                               JsonParser *parser, const Until *until,
                               GError **error)
{
    g_autofree char *line = NULL;
    JsonObject *reply;

    line = g_strdup_printf("{\"id\": %" G_GUINT64_FORMAT ", %s}\n",
                           ++conn->cookie, command);
    if (!write_all(conn->fd, line, strlen(line), until, error)) {
        conn->broken = TRUE;
        return NULL;
    }
    reply = read_reply(conn, parser, until, error);
    return reply ? get_return(reply, error) : NULL;
}

static gboolean qmp_possible(const RvmrpcVm *vm)
{
    return vm->qmp != NULL;
}

/* Before it may come what QEMU had to say to the client before us. */
static gboolean read_greeting(RvmrpcConn *conn, JsonParser *parser,
                              const Until *until, GError **error)
{
    while (TRUE) {
        g_autofree char *line = read_line(conn, until, error);
        JsonObject *obj = line ? parse_object(parser, line) : NULL;

        if (!line) {
            return FALSE;
        }
        if (!obj) {
            return malformed(line, error);
        }
        if (member_object(obj, "QMP")) {
            return TRUE;
        }
        if (until_over(until, error)) {
            return FALSE;
        }
    }
}

static gboolean qmp_open(RvmrpcConn *conn, const Until *until, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();

    conn->fd = conn->vm->of_process ?
        process_connect(conn->vm->pid, conn->vm->qmp, until, error) :
        unix_connect(conn->vm->qmp, until, error);
    if (conn->fd < 0) {
        return FALSE;
    }
    if (!read_greeting(conn, parser, until, error)) {
        return FALSE;
    }
    return qmp_execute(conn, "\"execute\": \"qmp_capabilities\"", parser,
                       until, error) != NULL;
}

static void qmp_close(RvmrpcConn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
}

/* ---- Through libvirt ---- */

static gboolean libvirt_possible(const RvmrpcVm *vm)
{
    return vm->libvirt;
}

static gboolean libvirt_open(RvmrpcConn *conn, const Until *until,
                             GError **error)
{
    g_autofree char *virsh = g_find_program_in_path("virsh");

    (void)conn;
    (void)until;
    if (!virsh) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                            "virsh is not installed");
    }
    return virsh != NULL;
}

static void libvirt_close(RvmrpcConn *conn)
{
    (void)conn;
}

/* virsh and the time that it has. */
typedef struct Run {
    GCancellable *over;         /* the time, or the caller's patience */
    gboolean ended;
    char *out, *err;
    GError *error;
} Run;

static gboolean run_over(void *data)
{
    g_cancellable_cancel(((Run *)data)->over);
    return G_SOURCE_REMOVE;
}

static gboolean run_cancelled(GCancellable *cancellable, void *data)
{
    (void)cancellable;
    return run_over(data);
}

static void run_ended(GObject *virsh, GAsyncResult *result, void *data)
{
    Run *run = data;

    g_subprocess_communicate_utf8_finish(G_SUBPROCESS(virsh), result,
                                         &run->out, &run->err, &run->error);
    run->ended = TRUE;
}

static GSource *attach(GSource *source, GSourceFunc func, Run *run,
                       GMainContext *context)
{
    g_source_set_callback(source, func, run, NULL);
    g_source_attach(source, context);
    return source;
}

/* Until it has printed all and ended, or its time is over. */
static void run_virsh(GSubprocess *virsh, Run *run, const Until *until)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GSource) time = NULL, cancel = NULL;

    run->over = g_cancellable_new();
    time = attach(g_timeout_source_new(until_left(until)), run_over, run,
                  context);
    cancel = attach(g_cancellable_source_new(until->cancellable),
                    G_SOURCE_FUNC(run_cancelled), run, context);
    g_main_context_push_thread_default(context);
    g_subprocess_communicate_utf8_async(virsh, NULL, run->over, run_ended,
                                        run);
    while (!run->ended) {
        g_main_context_iteration(context, TRUE);
    }
    g_main_context_pop_thread_default(context);
    g_source_destroy(time);
    g_source_destroy(cancel);
    g_object_unref(run->over);
}

char *virsh_output(const char *const *argv, const Until *until,
                   char **complaint, GError **error)
{
    g_autoptr(GSubprocess) virsh = NULL;
    Run run = { .ended = FALSE };

    *complaint = NULL;
    virsh = g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                              G_SUBPROCESS_FLAGS_STDERR_PIPE, error);
    if (!virsh) {
        return NULL;
    }
    run_virsh(virsh, &run, until);
    if (run.error) {
        g_subprocess_force_exit(virsh);
        if (!g_cancellable_set_error_if_cancelled(until->cancellable, error)) {
            g_set_error_literal(error, G_IO_ERROR,
                                until_left(until) ? G_IO_ERROR_FAILED :
                                G_IO_ERROR_TIMED_OUT, run.error->message);
        }
        g_error_free(run.error);
        return NULL;
    }
    if (!g_subprocess_get_if_exited(virsh) ||
        g_subprocess_get_exit_status(virsh) != 0) {
        *complaint = g_steal_pointer(&run.err);
    }
    g_free(run.err);
    return run.out;
}

static JsonObject *libvirt_execute(RvmrpcConn *conn, const char *command,
                                   JsonParser *parser, const Until *until,
                                   GError **error)
{
    g_autofree char *json = g_strdup_printf("{%s}", command);
    const char *argv[] = { "virsh", "-q", "qemu-monitor-command", "--",
                           conn->vm->uuid ?: conn->vm->name, json, NULL };
    g_autofree char *text = NULL, *complaint = NULL;
    JsonObject *reply;

    text = virsh_output(argv, until, &complaint, error);
    if (!text) {
        return NULL;
    }
    if (complaint) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                    "libvirt says: %s", g_strstrip(complaint));
        return NULL;
    }
    reply = parse_object(parser, text);
    if (!reply) {
        malformed(text, error);
        return NULL;
    }
    return get_return(reply, error);
}

/* ---- Both ---- */

static JsonObject *execute(RvmrpcConn *conn, const char *command,
                           JsonParser *parser, const Until *until,
                           GError **error)
{
    return conn->way == &way_qmp ?
           qmp_execute(conn, command, parser, until, error) :
           libvirt_execute(conn, command, parser, until, error);
}

static gboolean get_status(JsonObject *ret, guint32 *status)
{
    const char *name = member_text(ret, "status", "");

    for (guint32 i = 0; i < G_N_ELEMENTS(status_names); i++) {
        if (strcmp(name, status_names[i]) == 0) {
            *status = i;
            return TRUE;
        }
    }
    return FALSE;
}

/* QEMU finds a name itself, under the list's generation. */
static char *selector(const char *name, guint32 number)
{
    g_autoptr(JsonNode) node = NULL;
    g_autofree char *text = NULL;

    if (!name) {
        return g_strdup_printf("%u", number);
    }
    text = g_utf8_make_valid(name, -1);
    node = json_node_init_string(json_node_alloc(), text);
    return json_to_string(node, FALSE);
}

static gboolean either_call(RvmrpcConn *conn, const Target *target,
                            GBytes *arg, guint timeout_ms, const Until *until,
                            guint32 *status, GBytes **answer,
                            guint64 *elapsed_ns, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autofree char *module = selector(target->names[0], target->module);
    g_autofree char *procedure = selector(target->names[1],
                                          target->procedure);
    g_autofree char *data = NULL, *command = NULL;
    gsize size = 0;
    const void *bytes = arg ? g_bytes_get_data(arg, &size) : NULL;
    guchar *decoded;
    JsonObject *ret;

    data = g_base64_encode(bytes, size);
    command = g_strdup_printf(
        "\"execute\": \"guest-kernel-call\", \"arguments\": {\"module\": %s, "
        "\"procedure\": %s, \"data\": \"%s\", \"timeout\": %u}", module,
        procedure, data, timeout_ms);
    ret = execute(conn, command, parser, until, error);
    if (!ret) {
        return FALSE;
    }
    if (!get_status(ret, status)) {
        return malformed("a call without its status", error);
    }
    decoded = g_base64_decode(member_text(ret, "data", ""), &size);
    *answer = g_bytes_new_take(decoded, size);
    *elapsed_ns = member_int(ret, "elapsed-ns", 0);
    return TRUE;
}

static RvmrpcChannel *either_query(RvmrpcConn *conn, const Until *until,
                                   GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    gboolean running;
    JsonObject *ret = execute(conn, "\"execute\": \"query-status\"", parser,
                              until, error);

    if (!ret) {
        return NULL;
    }
    running = member_bool(ret, "running", TRUE);
    ret = execute(conn, "\"execute\": \"query-rvmrpc\"", parser, until, error);
    return ret ? channel_from_json(ret, running) : NULL;
}

/* What a monitor tells before this answer happened before. */
static gboolean qmp_subscribe(RvmrpcConn *conn, const Until *until,
                              GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();

    conn->subscribed = conn->subscribed ||
        qmp_execute(conn, "\"execute\": \"query-version\"", parser, until,
                    error);
    return conn->subscribed;
}

static char *qmp_next_event(RvmrpcConn *conn, const Until *until,
                            GError **error)
{
    if (!qmp_subscribe(conn, until, error)) {
        return NULL;
    }
    while (g_queue_is_empty(&conn->events)) {
        g_autoptr(JsonParser) parser = json_parser_new();
        g_autofree char *line = read_line(conn, until, error);
        JsonObject *obj = line ? parse_object(parser, line) : NULL;

        if (!line) {
            return NULL;
        }
        if (obj && is_our_event(obj)) {
            return g_steal_pointer(&line);
        }
        if (until_over(until, error)) {
            return NULL;
        }
    }
    return g_queue_pop_head(&conn->events);
}

const Way way_qmp = {
    .name = "qmp",
    .resolves = TRUE,
    .possible = qmp_possible,
    .open = qmp_open,
    .close = qmp_close,
    .call = either_call,
    .query = either_query,
    .next_event = qmp_next_event,
};

const Way way_libvirt = {
    .name = "libvirt",
    .resolves = TRUE,
    .possible = libvirt_possible,
    .open = libvirt_open,
    .close = libvirt_close,
    .call = either_call,
    .query = either_query,
};
