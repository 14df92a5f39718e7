/*
 * Reverse VMRPC: one client of the data path beside QMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a client can make QEMU keep is bounded: calls by a quota, answers that
 * it does not read by not reading its requests, half a frame by time.  All of
 * it runs in the socket's thread, but for call_done().
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-rvmrpc.h"
#include "qapi/qobject-output-visitor.h"
#include "qemu/iov.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qemu/uuid.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "system/system.h"
#include "hw/rvmrpc/core/rvmrpc_socket.h"
#include "rvmrpc-internal.h"
#include "rvmrpc-socket.h"
#include "trace.h"

/* Calls in the proxy: half of the usual slots, so that none takes them all. */
#define IN_PROXY_MAX        2
/* Bytes of unread answers beyond which no request is read. */
#define UNREAD_MAX          (256 * KiB)
/* For the rest of a frame, and for the client to read something. */
#define PATIENCE_NS         (10 * NANOSECONDS_PER_SECOND)
/* Requests read at a time, before other clients are looked at. */
#define READ_BATCH          8

typedef struct Frame {
    struct rvmrpc_sock_hdr hdr;
    void *payload;              /* owned */
    size_t sent;
} Frame;

typedef struct Request {
    RvmrpcSockClient *client;   /* referenced */
    RvmrpcCall *call;
    uint64_t cookie;
    int64_t start;
} Request;

struct RvmrpcSockClient {
    QIOChannel *ioc;            /* NULL: gone, waits for its calls' end */
    GSource *in, *out;
    struct rvmrpc_sock_hdr hdr; /* of the frame that is being read */
    uint8_t *payload;
    size_t have;                /* bytes of both */
    int64_t frame_start;
    GQueue frames;              /* to be written */
    size_t unread;              /* bytes of them */
    int64_t progress;           /* when it last read something */
    GQueue waiting;             /* requests that are not in the proxy yet */
    GQueue running;             /* in the proxy */
    struct rvmrpc_client quota; /* the proxy's */
    bool throttled;             /* over its quota: not read until the sweep */
    bool subscribed;
    bool closing;               /* nothing is read, dropped when all is sent */
};

static void update_watches(RvmrpcSockClient *c);

/* ---- Output ---- */

static void frame_free(Frame *f)
{
    g_free(f->payload);
    g_free(f);
}

/* Takes over @payload. */
static void send_frame(RvmrpcSockClient *c, const struct rvmrpc_sock_hdr *hdr,
                       void *payload)
{
    Frame *f = g_new0(Frame, 1);

    f->hdr = *hdr;
    f->hdr.magic = RVMRPC_SOCK_MAGIC;
    f->hdr.version = RVMRPC_SOCK_VERSION;
    f->payload = payload;
    if (g_queue_is_empty(&c->frames)) {
        c->progress = rvmrpc_now();
    }
    g_queue_push_tail(&c->frames, f);
    c->unread += sizeof(f->hdr) + f->hdr.length;
}

static void send_text(RvmrpcSockClient *c, uint16_t type, uint64_t cookie,
                      const char *text)
{
    struct rvmrpc_sock_hdr hdr = {
        .type = type,
        .cookie = cookie,
        .length = strlen(text),
    };

    send_frame(c, &hdr, g_strdup(text));
}

static void send_answer(RvmrpcSockClient *c, const Request *r, uint32_t status)
{
    RvmrpcCall *call = r->call;
    bool ok = status == RVMRPC_STATUS_OK;
    struct rvmrpc_sock_hdr hdr = {
        .type = RVMRPC_SOCK_ANSWER,
        .cookie = r->cookie,
        .status = status,
        .module = call->core.module,
        .procedure = call->core.procedure,
        .length = ok ? call->core.reslen : 0,
        .elapsed_ns = rvmrpc_now() - r->start,
    };

    send_frame(c, &hdr, ok ? g_steal_pointer(&call->res) : NULL);
}

/* The client broke the rules: says so and ends it. */
static void complain(RvmrpcSockClient *c, const char *text)
{
    trace_rvmrpc_sock_complain(c, text);
    send_text(c, RVMRPC_SOCK_ERROR, 0, text);
    c->closing = true;
}

/* False: the connection is gone. */
static bool write_frames(RvmrpcSockClient *c)
{
    Frame *f;

    while ((f = g_queue_peek_head(&c->frames))) {
        struct iovec all[] = {
            { .iov_base = &f->hdr, .iov_len = sizeof(f->hdr) },
            { .iov_base = f->payload, .iov_len = f->hdr.length },
        }, iov[ARRAY_SIZE(all)];
        size_t total = iov_size(all, ARRAY_SIZE(all));
        unsigned n = iov_copy(iov, ARRAY_SIZE(iov), all, ARRAY_SIZE(all),
                              f->sent, total - f->sent);
        ssize_t ret = qio_channel_writev(c->ioc, iov, n, NULL);

        if (ret == QIO_CHANNEL_ERR_BLOCK) {
            return true;
        }
        if (ret <= 0) {
            return false;
        }
        f->sent += ret;
        c->unread -= ret;
        c->progress = rvmrpc_now();
        if (f->sent == total) {
            frame_free(g_queue_pop_head(&c->frames));
        }
    }
    return !c->closing;
}

/* After anything was put into c->frames.  The client may be gone then. */
static void flush(RvmrpcSockClient *c)
{
    if (c->ioc && !write_frames(c)) {
        rvmrpc_sock_client_drop(c);
    } else if (c->ioc) {
        update_watches(c);
    }
}

/* ---- Requests ---- */

static void client_free(void *opaque)
{
    RvmrpcSockClient *c = opaque;

    g_free(c->payload);
}

static void client_unref(void *opaque)
{
    g_atomic_rc_box_release_full(opaque, client_free);
}

static void request_free(void *opaque)
{
    Request *r = opaque;

    rvmrpc_call_unref(r->call);
    client_unref(r->client);
    g_free(r);
}

static gboolean call_ended(void *opaque)
{
    Request *r = opaque;
    RvmrpcSockClient *c = r->client;

    rvmrpc_socket.in_proxy--;
    if (c->ioc) {
        g_queue_remove(&c->running, r);
        c->throttled = false;
        send_answer(c, r, r->call->core.status);
        flush(c);
    }
    if (c->ioc && !g_queue_is_empty(&c->waiting)) {
        rvmrpc_sock_ready(c);
    }
    rvmrpc_sock_pump();
    return G_SOURCE_REMOVE;
}

/* Any thread. */
static void call_done(RvmrpcCall *call, void *opaque)
{
    rvmrpc_sock_post(call_ended, opaque, request_free);
}

bool rvmrpc_sock_client_submit(RvmrpcSockClient *c)
{
    Request *r = g_queue_peek_head(&c->waiting);
    uint32_t status;

    if (!r || c->running.length >= IN_PROXY_MAX) {
        return false;
    }
    g_queue_pop_head(&c->waiting);
    g_queue_push_tail(&c->running, r);
    rvmrpc_socket.in_proxy++;
    status = rvmrpc_call_submit(r->call);
    if (status != RVMRPC_STATUS_OK) {
        /* Not at once: who asked for it may be in the midst of the client. */
        r->call->core.status = status;
        call_done(r->call, r);
    }
    return !g_queue_is_empty(&c->waiting) &&
           c->running.length < IN_PROXY_MAX;
}

static void submit(RvmrpcSockClient *c)
{
    const struct rvmrpc_sock_hdr *hdr = &c->hdr;
    Request *r;

    if (hdr->timeout_ms > RVMRPC_TIMEOUT_MS_MAX) {
        complain(c, "timeout is longer than 60000 ms");
        return;
    }
    r = g_new0(Request, 1);
    r->client = g_atomic_rc_box_acquire(c);
    r->cookie = hdr->cookie;
    r->start = rvmrpc_now();
    r->call = rvmrpc_call_new(&c->quota, hdr->module, hdr->procedure,
                              c->payload, hdr->length, hdr->timeout_ms,
                              call_done, r);
    if (c->waiting.length + c->running.length >= RVMRPC_CLIENT_CALLS_MAX) {
        send_answer(c, r, RVMRPC_STATUS_BUSY);
        request_free(r);
        c->throttled = true;
        rvmrpc_sock_start_sweep();
        return;
    }
    g_queue_push_tail(&c->waiting, r);
    rvmrpc_sock_start_sweep();
    rvmrpc_sock_ready(c);
}

static void cancel(RvmrpcSockClient *c, uint64_t cookie)
{
    for (GList *l = c->waiting.head; l; l = l->next) {
        Request *r = l->data;

        if (r->cookie == cookie) {
            g_queue_delete_link(&c->waiting, l);
            send_answer(c, r, RVMRPC_STATUS_CANCELLED);
            request_free(r);
            return;
        }
    }
    for (GList *l = c->running.head; l; l = l->next) {
        Request *r = l->data;

        if (r->cookie == cookie) {
            rvmrpc_call_cancel(r->call);
            return;
        }
    }
}

static QObject *info_object(void)
{
    g_autoptr(RvmrpcInfo) info = rvmrpc_query();
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_RvmrpcInfo(v, NULL, &info, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return obj;
}

static void query(RvmrpcSockClient *c, uint64_t cookie)
{
    g_autoptr(GString) json = NULL;
    QDict *dict = qdict_new(), *vm = qdict_new();
    g_autofree char *uuid = qemu_uuid_unparse_strdup(&qemu_uuid);
    const char *name = qemu_get_vm_name();
    bool stopped;

    WITH_QEMU_LOCK_GUARD(&rvmrpc_proxy.lock) {
        stopped = rvmrpc_proxy.core.stopped;
    }
    if (name) {
        qdict_put_str(vm, "name", name);
    }
    if (!qemu_uuid_is_null(&qemu_uuid)) {
        qdict_put_str(vm, "uuid", uuid);
    }
    qdict_put_int(vm, "pid", getpid());
    qdict_put_bool(vm, "running", !stopped);
    qdict_put_int(dict, "protocol", RVMRPC_SOCK_VERSION);
    qdict_put(dict, "vm", vm);
    qdict_put_obj(dict, "rvmrpc", info_object());
    json = qobject_to_json(QOBJECT(dict));
    qobject_unref(dict);
    send_text(c, RVMRPC_SOCK_INFO, cookie, json->str);
}

void rvmrpc_sock_client_event(RvmrpcSockClient *c, const char *json)
{
    if (c->subscribed && !c->closing) {
        send_text(c, RVMRPC_SOCK_EVENT, 0, json);
        flush(c);
    }
}

static void handle_frame(RvmrpcSockClient *c)
{
    trace_rvmrpc_sock_frame(c, c->hdr.type, c->hdr.cookie, c->hdr.length);
    switch (c->hdr.type) {
    case RVMRPC_SOCK_SUBMIT:
        submit(c);
        break;
    case RVMRPC_SOCK_CANCEL:
        cancel(c, c->hdr.cookie);
        break;
    case RVMRPC_SOCK_SUBSCRIBE:
        c->subscribed = true;
        query(c, c->hdr.cookie);
        break;
    case RVMRPC_SOCK_QUERY:
        query(c, c->hdr.cookie);
        break;
    }
}

/* ---- Input ---- */

static const char *check_header(const struct rvmrpc_sock_hdr *hdr)
{
    if (hdr->magic != RVMRPC_SOCK_MAGIC) {
        return "not a frame";
    }
    if (hdr->version != RVMRPC_SOCK_VERSION) {
        return "unknown version of the protocol; this is 1";
    }
    if (hdr->type < RVMRPC_SOCK_SUBMIT || hdr->type > RVMRPC_SOCK_SUBSCRIBE) {
        return "unknown type of frame";
    }
    if (hdr->length > RVMRPC_SOCK_PAYLOAD_MAX) {
        return "frame is too long";
    }
    if (hdr->status || hdr->reserved || hdr->elapsed_ns) {
        return "a field that must be zero is not";
    }
    if (hdr->type != RVMRPC_SOCK_SUBMIT &&
        (hdr->length || hdr->module || hdr->procedure || hdr->timeout_ms)) {
        return "a field that must be zero is not";
    }
    return NULL;
}

/* Reads towards the end of a frame.  1: it is there, 0: not yet, -1: gone. */
static int read_some(RvmrpcSockClient *c)
{
    const size_t head = sizeof(c->hdr);
    const char *wrong;

    while (c->have < head || c->have < head + c->hdr.length) {
        char *to = c->have < head ? (char *)&c->hdr + c->have :
                   (char *)c->payload + c->have - head;
        size_t want = c->have < head ? head - c->have :
                      head + c->hdr.length - c->have;
        ssize_t ret = qio_channel_read(c->ioc, to, want, NULL);

        if (ret == QIO_CHANNEL_ERR_BLOCK) {
            return 0;
        }
        if (ret <= 0) {
            return -1;
        }
        if (!c->have) {
            c->frame_start = rvmrpc_now();
        }
        c->have += ret;
        if (c->have == head) {
            wrong = check_header(&c->hdr);
            if (wrong) {
                complain(c, wrong);
                return 0;
            }
            c->payload = g_malloc(c->hdr.length);
        }
    }
    return 1;
}

static bool may_read(const RvmrpcSockClient *c)
{
    return !c->closing && !c->throttled && c->unread < UNREAD_MAX;
}

static gboolean readable(QIOChannel *ioc, GIOCondition condition, void *opaque)
{
    RvmrpcSockClient *c = opaque;
    int ret = 0;

    for (int i = 0; i < READ_BATCH && may_read(c); i++) {
        ret = read_some(c);
        if (ret <= 0) {
            break;
        }
        handle_frame(c);
        g_clear_pointer(&c->payload, g_free);
        c->have = 0;
    }
    if (ret < 0) {
        rvmrpc_sock_client_drop(c);
        return G_SOURCE_REMOVE;
    }
    if (c->have) {
        rvmrpc_sock_start_sweep();
    }
    flush(c);
    return G_SOURCE_CONTINUE;
}

static gboolean writable(QIOChannel *ioc, GIOCondition condition, void *opaque)
{
    flush(opaque);
    return G_SOURCE_CONTINUE;
}

/* ---- Life ---- */

static void clear_watch(GSource **watch)
{
    if (*watch) {
        g_source_destroy(*watch);
        g_clear_pointer(watch, g_source_unref);
    }
}

static void update_watches(RvmrpcSockClient *c)
{
    if (!may_read(c)) {
        clear_watch(&c->in);
    } else if (!c->in) {
        c->in = rvmrpc_sock_watch(c->ioc, G_IO_IN | G_IO_HUP | G_IO_ERR,
                                  readable, c);
    }
    if (g_queue_is_empty(&c->frames)) {
        clear_watch(&c->out);
    } else if (!c->out) {
        c->out = rvmrpc_sock_watch(c->ioc, G_IO_OUT, writable, c);
        rvmrpc_sock_start_sweep();
    }
}

/* A waiting request may reach its deadline before its turn. */
static void expire_waiting(RvmrpcSockClient *c, int64_t now)
{
    GList *next;

    for (GList *l = c->waiting.head; l; l = next) {
        Request *r = l->data;

        next = l->next;
        if (r->call->core.deadline <= now) {
            g_queue_delete_link(&c->waiting, l);
            send_answer(c, r, RVMRPC_STATUS_TIMED_OUT);
            request_free(r);
        }
    }
}

bool rvmrpc_sock_client_sweep(RvmrpcSockClient *c, int64_t now)
{
    if (c->have && may_read(c) && now - c->frame_start > PATIENCE_NS) {
        complain(c, "the rest of a frame did not come");
    }
    if (!g_queue_is_empty(&c->frames) && now - c->progress > PATIENCE_NS) {
        trace_rvmrpc_sock_complain(c, "does not read");
        rvmrpc_sock_client_drop(c);
        return false;
    }
    c->throttled = false;
    expire_waiting(c, now);
    flush(c);
    return c->ioc && (c->have || !g_queue_is_empty(&c->frames) ||
                      !g_queue_is_empty(&c->waiting));
}

void rvmrpc_sock_client_new(QIOChannel *ioc)
{
    RvmrpcSockClient *c = g_atomic_rc_box_new0(RvmrpcSockClient);

    trace_rvmrpc_sock_client(c, true);
    c->ioc = QIO_CHANNEL(object_ref(ioc));
    g_queue_push_tail(&rvmrpc_socket.clients, c);
    update_watches(c);
}

static gboolean forget(void *opaque)
{
    return G_SOURCE_REMOVE;
}

/* Its memory stays for the callback that we may be in, and for its calls. */
void rvmrpc_sock_client_drop(RvmrpcSockClient *c)
{
    Request *r;

    trace_rvmrpc_sock_client(c, false);
    clear_watch(&c->in);
    clear_watch(&c->out);
    g_queue_remove(&rvmrpc_socket.clients, c);
    g_queue_remove(&rvmrpc_socket.ready, c);
    g_clear_pointer(&c->ioc, object_unref);
    while ((r = g_queue_pop_head(&c->waiting))) {
        request_free(r);
    }
    while ((r = g_queue_pop_head(&c->running))) {
        rvmrpc_call_cancel(r->call);
    }
    g_queue_clear_full(&c->frames, (GDestroyNotify)frame_free);
    rvmrpc_sock_post(forget, c, client_unref);
}
