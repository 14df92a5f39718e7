/*
 * librvmrpc: several calls at a time, from a main loop
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "private.h"
#include "rvmrpc_fdsource.h"
#include "rvmrpc_socket.h"

#define AT_ONCE     12          /* below RVMRPC_CLIENT_CALLS_MAX, which is refused */
#define READ_BYTES  (128 * 1024)
#define SWEEP_MS    500
#define GRACE_MS    2000        /* for an answer that the host owes */

typedef struct Call {
    struct rvmrpc_sock_hdr hdr;
    GBytes *arg;
    gint64 end;                 /* us; once it was sent */
    RvmrpcCallDone *done;
    gpointer data;
} Call;

/* In a g_rc_box: a callback may free it. */
struct RvmrpcCalls {
    RvmrpcConn *conn;
    GMainContext *context;
    GSource *source;            /* NULL: it is broken, or freed */
    GSource *timer;
    GQueue waiting, sent;       /* of Call */
    GByteArray *out;            /* frames, from out_at on */
    gsize out_at;
};

/* Ends a call that is in no queue any more; frees @error. */
static void call_end(Call *call, GBytes *answer, GError *error)
{
    call->done(answer, error, call->data);
    g_clear_error(&error);
    g_clear_pointer(&call->arg, g_bytes_unref);
    g_free(call);
}

/* Those that there are now: a callback may submit more.  Takes @error. */
static void fail_all(RvmrpcCalls *calls, GError *error)
{
    GQueue failed = G_QUEUE_INIT;
    Call *call;

    g_clear_pointer(&calls->source, rvmrpc_fd_source_free);
    calls->conn->broken = TRUE;
    while ((call = g_queue_pop_head(&calls->sent)) ||
           (call = g_queue_pop_head(&calls->waiting))) {
        g_queue_push_tail(&failed, call);
    }
    while ((call = g_queue_pop_head(&failed))) {
        call_end(call, NULL, g_error_copy(error));
    }
    g_error_free(error);
}

static void lost(RvmrpcCalls *calls, int code, const char *text)
{
    fail_all(calls, g_error_new(RVMRPC_ERROR, code, "%s: %s",
                                calls->conn->vm->label, text));
}

/* ---- Output ---- */

static void put_frames(RvmrpcCalls *calls)
{
    Call *call;

    while (calls->sent.length < AT_ONCE &&
           (call = g_queue_pop_head(&calls->waiting))) {
        gsize size = 0;
        const void *arg = call->arg ? g_bytes_get_data(call->arg, &size) : NULL;

        if (size > RVMRPC_SOCK_PAYLOAD_MAX) {
            call_end(call, NULL, status_error(calls->conn->vm,
                                              RVMRPC_STATUS_TOO_BIG));
            continue;
        }
        frame_begin(&call->hdr, size);
        g_byte_array_append(calls->out, (const guint8 *)&call->hdr,
                            sizeof(call->hdr));
        if (size) {
            g_byte_array_append(calls->out, arg, size);
        }
        g_clear_pointer(&call->arg, g_bytes_unref);
        call->end = g_get_monotonic_time() +
                    (call->hdr.timeout_ms + GRACE_MS) * (gint64)1000;
        g_queue_push_tail(&calls->sent, call);
    }
}

static void write_frames(RvmrpcCalls *calls)
{
    GByteArray *out = calls->out;

    put_frames(calls);
    if (!calls->source) {
        return;                 /* a callback has freed them */
    }
    while (calls->out_at < out->len) {
        ssize_t n = send(calls->conn->fd, out->data + calls->out_at,
                         out->len - calls->out_at, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            break;              /* what is wrong, reading tells */
        }
        calls->out_at += MAX(n, 0);
    }
    /* It may never come to be empty: what is new comes behind what waits. */
    if (calls->out_at > out->len / 2) {
        g_byte_array_remove_range(out, 0, calls->out_at);
        calls->out_at = 0;
    }
    rvmrpc_fd_source_set_events(calls->source,
                                G_IO_IN | (out->len ? G_IO_OUT : 0));
}

/* ---- Input ---- */

static Call *take_call(RvmrpcCalls *calls, guint64 cookie)
{
    for (GList *l = calls->sent.head; l; l = l->next) {
        Call *call = l->data;

        if (call->hdr.cookie == cookie) {
            g_queue_delete_link(&calls->sent, l);
            return call;
        }
    }
    return NULL;
}

static void handle_frame(RvmrpcCalls *calls, const struct rvmrpc_sock_hdr *hdr,
                         const guint8 *payload)
{
    Call *call = hdr->type == RVMRPC_SOCK_ANSWER ?
                 take_call(calls, hdr->cookie) : NULL;
    g_autoptr(GBytes) answer = NULL;

    if (hdr->type == RVMRPC_SOCK_ERROR) {
        g_autofree char *text = g_utf8_make_valid((const char *)payload,
                                                  hdr->length);

        lost(calls, RVMRPC_ERROR_NO_WAY, text);
    } else if (call && hdr->status != RVMRPC_STATUS_OK) {
        call_end(call, NULL, status_error(calls->conn->vm, hdr->status));
    } else if (call) {
        answer = g_bytes_new(payload, hdr->length);
        call_end(call, answer, NULL);
    }
}

/* All frames that are whole. */
static void handle_frames(RvmrpcCalls *calls)
{
    GByteArray *in = calls->conn->in;
    gsize at = 0;

    while (calls->source && in->len - at >= sizeof(struct rvmrpc_sock_hdr)) {
        struct rvmrpc_sock_hdr hdr;

        memcpy(&hdr, in->data + at, sizeof(hdr));
        if (!frame_is_good(&hdr)) {
            lost(calls, RVMRPC_ERROR_MALFORMED, "its socket sends no frames");
            return;
        }
        if (in->len - at - sizeof(hdr) < hdr.length) {
            break;
        }
        handle_frame(calls, &hdr, in->data + at + sizeof(hdr));
        at += sizeof(hdr) + hdr.length;
    }
    g_byte_array_remove_range(in, 0, at);
}

static void read_frames(RvmrpcCalls *calls)
{
    GByteArray *in = calls->conn->in;
    const guint have = in->len;
    ssize_t n;

    g_byte_array_set_size(in, have + READ_BYTES);
    n = read(calls->conn->fd, in->data + have, READ_BYTES);
    g_byte_array_set_size(in, have + MAX(n, 0));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        lost(calls, RVMRPC_ERROR_NO_WAY, "its socket ended the connection");
    } else if (n > 0) {
        handle_frames(calls);
    }
}

static void calls_clear(void *data)
{
    RvmrpcCalls *calls = data;

    g_byte_array_unref(calls->out);
    rvmrpc_conn_free(calls->conn);
    g_main_context_unref(calls->context);
}

static void on_ready(GIOCondition condition, void *opaque)
{
    RvmrpcCalls *calls = g_rc_box_acquire(opaque);

    if (condition & (G_IO_IN | G_IO_HUP | G_IO_ERR)) {
        read_frames(calls);
    }
    if (calls->source) {
        write_frames(calls);
    }
    g_rc_box_release_full(calls, calls_clear);
}

/* The host ends each call in time: one that does not is stuck. */
static gboolean on_sweep(gpointer data)
{
    RvmrpcCalls *calls = data;
    const Call *oldest = NULL;

    for (GList *l = calls->sent.head; l; l = l->next) {
        const Call *call = l->data;

        oldest = !oldest || call->end < oldest->end ? call : oldest;
    }
    g_rc_box_acquire(calls);
    if (!calls->source) {
        lost(calls, RVMRPC_ERROR_NO_WAY, "its socket ended the connection");
    } else if (oldest && oldest->end < g_get_monotonic_time()) {
        lost(calls, RVMRPC_ERROR_SILENT, "its socket does not answer");
    }
    g_rc_box_release_full(calls, calls_clear);
    return G_SOURCE_CONTINUE;
}

/* ---- Interface ---- */

RvmrpcCalls *rvmrpc_calls_new(RvmrpcConn *conn, GMainContext *context,
                              GError **error)
{
    RvmrpcCalls *calls;

    if (conn->way != &way_socket) {
        g_set_error(error, RVMRPC_ERROR, RVMRPC_ERROR_UNSUPPORTED,
                    "%s: not by %s; give its device a socket",
                    conn->vm->label, conn->way->name);
        rvmrpc_conn_free(conn);
        return NULL;
    }
    calls = g_rc_box_new0(RvmrpcCalls);
    calls->conn = conn;
    calls->context = context ? g_main_context_ref(context) :
                     g_main_context_ref_thread_default();
    calls->out = g_byte_array_new();
    calls->source = rvmrpc_fd_source_new(conn->fd, G_IO_IN, calls->context,
                                         on_ready, calls);
    calls->timer = g_timeout_source_new(SWEEP_MS);
    g_source_set_callback(calls->timer, on_sweep, calls, NULL);
    g_source_attach(calls->timer, calls->context);
    return calls;
}

void rvmrpc_calls_submit(RvmrpcCalls *calls, guint32 module, guint32 procedure,
                         GBytes *arg, guint timeout_ms, RvmrpcCallDone *done,
                         gpointer data)
{
    Call *call = g_new0(Call, 1);

    call->hdr = (struct rvmrpc_sock_hdr) {
        .type = RVMRPC_SOCK_SUBMIT,
        .cookie = ++calls->conn->cookie,
        .module = module,
        .procedure = procedure,
        .timeout_ms = CLAMP(timeout_ms, 1, RVMRPC_TIMEOUT_MS_MAX),
    };
    call->arg = arg ? g_bytes_ref(arg) : NULL;
    call->done = done;
    call->data = data;
    g_queue_push_tail(&calls->waiting, call);
    if (calls->source) {
        /* Written, or found broken, from the loop: no callback comes from here. */
        rvmrpc_fd_source_set_events(calls->source, G_IO_IN | G_IO_OUT);
    } else {
        g_source_set_ready_time(calls->timer, 0);
    }
}

gboolean rvmrpc_calls_is_broken(const RvmrpcCalls *calls)
{
    return calls->source == NULL;
}

void rvmrpc_calls_free(RvmrpcCalls *calls)
{
    fail_all(calls, g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_CANCELLED,
                                "%s: it was given up", calls->conn->vm->label));
    g_source_destroy(calls->timer);
    g_source_unref(calls->timer);
    g_rc_box_release_full(calls, calls_clear);
}
