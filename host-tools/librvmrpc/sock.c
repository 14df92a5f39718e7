/*
 * librvmrpc: by the VM's own socket, see rvmrpc_socket.h
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "private.h"
#include "rvmrpc_socket.h"

/* A monitor's greeting and complaints take some hundred bytes. */
#define QMP_HELLO_MAX 65536

typedef struct rvmrpc_sock_hdr Header;

/* ---- Frames ---- */

static gboolean malformed(GError **error, const char *what)
{
    g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                "the socket speaks another protocol, or another version: %s",
                what);
    return FALSE;
}

void frame_begin(Header *hdr, gsize length)
{
    hdr->magic = RVMRPC_SOCK_MAGIC;
    hdr->version = RVMRPC_SOCK_VERSION;
    hdr->length = length;
}

gboolean frame_is_good(const Header *hdr)
{
    return hdr->magic == RVMRPC_SOCK_MAGIC &&
           hdr->version == RVMRPC_SOCK_VERSION &&
           hdr->length <= RVMRPC_SOCK_PAYLOAD_MAX;
}

static gboolean send_frame(RvmrpcConn *conn, Header *hdr, GBytes *payload,
                           const Until *until, GError **error)
{
    gsize size = 0;
    const void *data = payload ? g_bytes_get_data(payload, &size) : NULL;
    g_autoptr(GByteArray) frame = g_byte_array_new();

    frame_begin(hdr, size);
    g_byte_array_append(frame, (const guint8 *)hdr, sizeof(*hdr));
    if (size) {
        g_byte_array_append(frame, data, size);
    }
    if (write_all(conn->fd, frame->data, frame->len, until, error)) {
        return TRUE;
    }
    conn->broken = TRUE;        /* half a frame may be on its way */
    return FALSE;
}

/* Reads what there is, up to @want bytes in conn->in. */
static gboolean fill(RvmrpcConn *conn, gsize want, const Until *until,
                     GError **error)
{
    while (conn->in->len < want) {
        guint have = conn->in->len;
        ssize_t n;

        if (!until_ready(until, conn->fd, POLLIN, error)) {
            return FALSE;
        }
        g_byte_array_set_size(conn->in, want);
        n = read(conn->fd, conn->in->data + have, want - have);
        g_byte_array_set_size(conn->in, have + MAX(n, 0));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            conn->broken = TRUE;
            g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CLOSED,
                                "it ended the connection");
            return FALSE;
        }
    }
    return TRUE;
}

/* A frame that has begun stays in conn->in when the time is over. */
static gboolean read_frame(RvmrpcConn *conn, Header *hdr, GBytes **payload,
                           const Until *until, GError **error)
{
    if (!fill(conn, sizeof(*hdr), until, error)) {
        return FALSE;
    }
    memcpy(hdr, conn->in->data, sizeof(*hdr));
    if (!frame_is_good(hdr)) {
        conn->broken = TRUE;
        return malformed(error, "not a frame");
    }
    if (!fill(conn, sizeof(*hdr) + hdr->length, until, error)) {
        return FALSE;
    }
    *payload = g_bytes_new(conn->in->data + sizeof(*hdr), hdr->length);
    g_byte_array_set_size(conn->in, 0);
    return TRUE;
}

static char *to_text(GBytes *payload)
{
    gsize size;
    const char *data = g_bytes_get_data(payload, &size);

    return g_utf8_make_valid(size ? data : "", size);
}

/* Until the answer to @cookie; drops late ones, keeps events. */
static gboolean read_answer(RvmrpcConn *conn, guint16 type, guint64 cookie,
                            Header *hdr, GBytes **payload, const Until *until,
                            GError **error)
{
    while (read_frame(conn, hdr, payload, until, error)) {
        g_autofree char *text = NULL;

        if (hdr->type == type && hdr->cookie == cookie) {
            return TRUE;
        }
        if (hdr->type == RVMRPC_SOCK_EVENT) {
            g_queue_push_tail(&conn->events, to_text(*payload));
        } else if (hdr->type == RVMRPC_SOCK_ERROR) {
            conn->broken = TRUE;
            text = to_text(*payload);
            g_clear_pointer(payload, g_bytes_unref);
            g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                        "its socket says: %s", text);
            return FALSE;
        }
        g_clear_pointer(payload, g_bytes_unref);
        if (until_over(until, error)) {
            return FALSE;
        }
    }
    return FALSE;
}

/* INFO as JSON, in the parser's memory. */
static JsonObject *ask_info(RvmrpcConn *conn, guint16 type, JsonParser *parser,
                            const Until *until, GError **error)
{
    Header hdr = { .type = type, .cookie = ++conn->cookie };
    g_autoptr(GBytes) payload = NULL;
    g_autofree char *text = NULL;
    JsonObject *info;

    if (!send_frame(conn, &hdr, NULL, until, error) ||
        !read_answer(conn, RVMRPC_SOCK_INFO, conn->cookie, &hdr, &payload,
                     until, error)) {
        return NULL;
    }
    text = to_text(payload);
    info = parse_object(parser, text);
    if (!info) {
        malformed(error, "no JSON");
    }
    return info;
}

/* ---- The way ---- */

static gboolean sock_possible(const RvmrpcVm *vm)
{
    return vm->socket != NULL;
}

static gboolean check_user(const RvmrpcVm *vm, const struct ucred *peer,
                           GError **error)
{
    gboolean ok = !vm->of_folder || user_runs_vms(peer->uid);

    if (!ok) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                    "at %s answers user %u, who is none of those that run VMs",
                    vm->socket, peer->uid);
    }
    return ok;
}

static gboolean sock_connect(RvmrpcConn *conn, struct ucred *peer,
                             const Until *until, GError **error)
{
    const RvmrpcVm *vm = conn->vm;

    conn->fd = vm->of_process ?
        process_connect(vm->pid, vm->socket, until, error) :
        unix_connect(vm->socket, until, error);
    return conn->fd >= 0 && unix_peer(conn->fd, peer, error);
}

/* What was found may have ended, and another VM may have its socket. */
static gboolean check_identity(const RvmrpcVm *vm, JsonObject *info,
                               GError **error)
{
    JsonObject *obj = member_object(info, "vm");
    const char *name = member_text(obj, "name", NULL);
    const char *uuid = member_text(obj, "uuid", NULL);

    if ((vm->uuid && uuid && g_ascii_strcasecmp(vm->uuid, uuid) != 0) ||
        (vm->of_folder && vm->name && g_strcmp0(vm->name, name) != 0)) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_NO_WAY,
                    "at %s answers another VM, %s (%s)", vm->socket,
                    name ?: "without a name", uuid ?: "no UUID");
        return FALSE;
    }
    return TRUE;
}

static gboolean sock_open(RvmrpcConn *conn, const Until *until, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    struct ucred peer;
    JsonObject *info;

    if (!sock_connect(conn, &peer, until, error) ||
        !check_user(conn->vm, &peer, error)) {
        return FALSE;
    }
    info = ask_info(conn, RVMRPC_SOCK_QUERY, parser, until, error);
    return info && check_identity(conn->vm, info, error);
}

static void sock_close(RvmrpcConn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
}

static void send_cancel(RvmrpcConn *conn)
{
    Header hdr = { .type = RVMRPC_SOCK_CANCEL, .cookie = conn->cookie };
    Until now = until_ms(0, NULL);

    if (!conn->broken) {
        send_frame(conn, &hdr, NULL, &now, NULL);
    }
}

static gboolean sock_call(RvmrpcConn *conn, const Target *target, GBytes *arg,
                          guint timeout_ms, const Until *until,
                          guint32 *status, GBytes **answer,
                          guint64 *elapsed_ns, GError **error)
{
    Header hdr = {
        .type = RVMRPC_SOCK_SUBMIT,
        .cookie = ++conn->cookie,
        .module = target->module,
        .procedure = target->procedure,
        .timeout_ms = timeout_ms,
        .list = target->list,
    };

    if (arg && g_bytes_get_size(arg) > RVMRPC_SOCK_PAYLOAD_MAX) {
        *status = RVMRPC_STATUS_TOO_BIG;
        return TRUE;
    }
    if (!send_frame(conn, &hdr, arg, until, error)) {
        return FALSE;
    }
    if (!read_answer(conn, RVMRPC_SOCK_ANSWER, conn->cookie, &hdr, answer,
                     until, error)) {
        send_cancel(conn);
        return FALSE;
    }
    *status = hdr.status;
    *elapsed_ns = hdr.elapsed_ns;
    return TRUE;
}

static RvmrpcChannel *sock_query(RvmrpcConn *conn, const Until *until,
                                 GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *info = ask_info(conn, RVMRPC_SOCK_QUERY, parser, until, error);
    JsonObject *channel = member_object(info, "rvmrpc");

    if (!info) {
        return NULL;
    }
    if (!channel) {
        malformed(error, "no state");
        return NULL;
    }
    return channel_from_json(channel, member_bool(member_object(info, "vm"), "running", TRUE));
}

static char *sock_next_event(RvmrpcConn *conn, const Until *until,
                             GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GBytes) payload = NULL;
    Header hdr;

    if (!conn->subscribed) {
        if (!ask_info(conn, RVMRPC_SOCK_SUBSCRIBE, parser, until, error)) {
            return NULL;
        }
        conn->subscribed = TRUE;
    }
    if (g_queue_is_empty(&conn->events)) {
        if (!read_answer(conn, RVMRPC_SOCK_EVENT, 0, &hdr, &payload, until,
                         error)) {
            return NULL;
        }
        return to_text(payload);
    }
    return g_queue_pop_head(&conn->events);
}

const Way way_socket = {
    .name = "socket",
    .possible = sock_possible,
    .open = sock_open,
    .close = sock_close,
    .call = sock_call,
    .query = sock_query,
    .next_event = sock_next_event,
};

/* ---- Whose socket is it? ---- */

static void take_text(JsonObject *obj, const char *name, char **to)
{
    const char *text = member_text(obj, name, NULL);

    if (text) {
        g_free(*to);
        *to = g_strdup(text);
    }
}

/* A process is who it is; else a QEMU is who listens, and a daemon tells. */
static void take_identity(RvmrpcVm *vm, JsonObject *obj)
{
    take_text(obj, "name", &vm->name);
    take_text(obj, "uuid", &vm->uuid);
    if (!vm->of_process) {
        vm->pid = json_object_has_member(obj, "running") && vm->peer ?
            vm->peer : member_int(obj, "pid", 0);
    }
}

/*
 * QMP greets whoever connects.  It has had our query, too, and will complain:
 * it says so to whom it serves then, which must not be the next client.
 */
static gboolean take_complaint(RvmrpcConn *conn, const Until *until)
{
    GByteArray *in = conn->in;

    if (in->len == 0 || in->data[0] != '{') {
        return FALSE;
    }
    while (!g_strstr_len((char *)in->data, in->len, "\"error\"") &&
           in->len < QMP_HELLO_MAX && fill(conn, in->len + 1, until, NULL)) {
    }
    return TRUE;
}

gboolean socket_identify(RvmrpcVm *vm, const Until *until, gboolean *is_qmp,
                         GError **error)
{
    RvmrpcConn conn = { .vm = vm, .fd = -1 };
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GByteArray) in = g_byte_array_new();
    JsonObject *info = NULL, *obj;
    struct ucred peer;

    conn.in = in;
    if (sock_connect(&conn, &peer, until, error)) {
        vm->peer = peer.pid;
        vm->stranger = !check_user(vm, &peer, error);
        info = vm->stranger ? NULL : ask_info(&conn, RVMRPC_SOCK_QUERY, parser,
                                              until, error);
    }
    *is_qmp = !info && take_complaint(&conn, until);
    sock_close(&conn);
    g_queue_clear_full(&conn.events, g_free);
    if (!info) {
        return FALSE;
    }
    obj = member_object(info, "vm");
    if (obj) {
        take_identity(vm, obj);
    }
    return TRUE;
}
