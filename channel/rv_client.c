/*
 * Reverse VMRPC: the socket of a VM, one client
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a client can make the host keep is bounded: calls by a quota, answers that it does not read by not reading its
 * requests, events by leaving them out, half a frame by time.
 */
#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "rv_server_internal.h"
#include "rvmrpc_socket.h"

/* Calls in the proxy: half of the usual slots, so that none takes them all. */
#define IN_PROXY_MAX        2
/* Bytes of unread answers beyond which no request is read. */
#define UNREAD_MAX          (256 * 1024)
/* For the rest of a frame, and for the client to read something. */
#define PATIENCE_NS         (10 * 1000000000ull)
/* Requests read at a time, before other clients are looked at. */
#define READ_BATCH          8

typedef struct Frame {
    struct rvmrpc_sock_hdr hdr;
    void *payload;              /* owned */
    size_t sent;
} Frame;

typedef struct Request {
    RvClient *client;           /* referenced */
    RvCall *call;
    uint64_t cookie;
    uint64_t start;
} Request;

struct RvClient {
    unsigned refs;
    RvServer *server;           /* referenced */
    int fd;                     /* -1: gone, waits for its calls' end */
    uid_t uid;
    GSource *in, *out;
    struct rvmrpc_sock_hdr hdr; /* of the frame that is being read */
    uint8_t *payload;
    size_t have;                /* bytes of both */
    uint64_t frame_start;
    uint64_t active;            /* when it last sent a frame */
    GQueue frames;              /* to be written */
    size_t unread;              /* bytes of them */
    uint64_t progress;          /* when it last read something */
    GQueue waiting;             /* requests that are not in the proxy yet */
    GQueue running;             /* in the proxy */
    struct rvmrpc_client quota; /* the proxy's */
    bool throttled;             /* over its quota: not read until the sweep */
    bool subscribed;
    bool closing;               /* nothing is read, dropped when all is sent */
};

static void update_watches(RvClient *c);

static void client_unref(void *opaque)
{
    RvClient *c = opaque;

    if (--c->refs == 0) {
        g_free(c->payload);
        rv_server_unref(c->server);
        g_free(c);
    }
}

/* ---- Output ---- */

static void frame_free(void *opaque)
{
    Frame *f = opaque;

    g_free(f->payload);
    g_free(f);
}

/* Takes over @payload. */
static void send_frame(RvClient *c, const struct rvmrpc_sock_hdr *hdr, void *payload)
{
    Frame *f = g_new0(Frame, 1);

    f->hdr = *hdr;
    f->hdr.magic = RVMRPC_SOCK_MAGIC;
    f->hdr.version = RVMRPC_SOCK_VERSION;
    f->payload = payload;
    if (g_queue_is_empty(&c->frames)) {
        c->progress = rv_now();
    }
    g_queue_push_tail(&c->frames, f);
    c->unread += sizeof(f->hdr) + f->hdr.length;
}

/* Takes over @text. */
static void send_text(RvClient *c, uint16_t type, uint64_t cookie, char *text)
{
    struct rvmrpc_sock_hdr hdr = {
        .type = type,
        .cookie = cookie,
        .length = strlen(text),
    };

    send_frame(c, &hdr, text);
}

static void send_answer(RvClient *c, const Request *r, uint32_t status)
{
    RvCall *call = r->call;
    bool ok = status == RVMRPC_STATUS_OK;
    struct rvmrpc_sock_hdr hdr = {
        .type = RVMRPC_SOCK_ANSWER,
        .cookie = r->cookie,
        .status = status,
        .module = call->core.module,
        .procedure = call->core.procedure,
        .length = ok ? call->core.reslen : 0,
        .elapsed_ns = rv_now() - r->start,
    };

    send_frame(c, &hdr, ok ? g_steal_pointer(&call->res) : NULL);
}

/* The client broke the rules: says so and ends it. */
static void complain(RvClient *c, const char *text)
{
    send_text(c, RVMRPC_SOCK_ERROR, 0, g_strdup(text));
    c->closing = true;
}

/* False: the connection is gone. */
static bool write_frames(RvClient *c)
{
    Frame *f;

    while ((f = g_queue_peek_head(&c->frames))) {
        size_t head = sizeof(f->hdr), total = head + f->hdr.length, n = 0;
        struct iovec iov[2];
        struct msghdr msg = { .msg_iov = iov };
        ssize_t ret;

        if (f->sent < head) {
            iov[n++] = (struct iovec){ (char *)&f->hdr + f->sent, head - f->sent };
        }
        if (f->hdr.length) {
            size_t at = f->sent > head ? f->sent - head : 0;

            iov[n++] = (struct iovec){ (char *)f->payload + at, f->hdr.length - at };
        }
        msg.msg_iovlen = n;
        ret = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (ret < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (ret <= 0) {
            return false;
        }
        f->sent += ret;
        c->unread -= ret;
        c->progress = rv_now();
        if (f->sent == total) {
            frame_free(g_queue_pop_head(&c->frames));
        }
    }
    return !c->closing;
}

/* After anything was put into c->frames.  The client may be gone then. */
static void flush(RvClient *c)
{
    if (c->fd >= 0 && !write_frames(c)) {
        rv_client_drop(c);
    } else if (c->fd >= 0) {
        update_watches(c);
    }
}

/* ---- Requests ---- */

static void request_free(void *opaque)
{
    Request *r = opaque;

    rv_call_unref(r->call);
    client_unref(r->client);
    g_free(r);
}

static gboolean call_ended(void *opaque)
{
    Request *r = opaque;
    RvClient *c = r->client;
    RvServer *server = c->server;

    server->in_proxy--;
    if (c->fd >= 0) {
        g_queue_remove(&c->running, r);
        c->throttled = false;
        send_answer(c, r, r->call->core.status);
        flush(c);
    }
    if (c->fd >= 0 && !g_queue_is_empty(&c->waiting)) {
        rv_server_ready(server, c);
    }
    if (!server->gone) {
        rv_server_pump(server);
    }
    return G_SOURCE_REMOVE;
}

static void call_done(RvCall *call, void *opaque)
{
    (void)call;
    call_ended(opaque);
    request_free(opaque);
}

bool rv_client_submit(RvClient *c)
{
    RvServer *server = c->server;
    Request *r = g_queue_peek_head(&c->waiting);
    uint32_t status;

    if (!r || c->running.length >= IN_PROXY_MAX) {
        return false;
    }
    g_queue_pop_head(&c->waiting);
    g_queue_push_tail(&c->running, r);
    server->in_proxy++;
    status = server->ops->submit(server->opaque, r->call);
    if (status != RVMRPC_STATUS_OK) {
        /* Not at once: who asked for it may be in the midst of the client. */
        r->call->core.status = status;
        rv_soon(server, call_ended, r, request_free);
    }
    return !g_queue_is_empty(&c->waiting) && c->running.length < IN_PROXY_MAX;
}

static void submit(RvClient *c)
{
    const struct rvmrpc_sock_hdr *hdr = &c->hdr;
    RvServer *server = c->server;
    Request *r;
    uint32_t status = RVMRPC_STATUS_OK;

    if (hdr->timeout_ms > RVMRPC_TIMEOUT_MS_MAX) {
        complain(c, "timeout is longer than 60000 ms");
        return;
    }
    r = g_new0(Request, 1);
    r->client = c;
    c->refs++;
    r->cookie = hdr->cookie;
    r->start = rv_now();
    r->call = rv_call_new(&c->quota, hdr->module, hdr->procedure, g_steal_pointer(&c->payload), hdr->length,
                          hdr->timeout_ms, call_done, r);
    if (c->waiting.length + c->running.length >= RVMRPC_CLIENT_CALLS_MAX) {
        status = RVMRPC_STATUS_BUSY;
        c->throttled = true;
    } else if (hdr->length > server->ops->max_arg(server->opaque)) {
        status = RVMRPC_STATUS_TOO_BIG;
    }
    rv_server_start_sweep(server);
    if (status != RVMRPC_STATUS_OK) {
        send_answer(c, r, status);
        request_free(r);
        return;
    }
    g_queue_push_tail(&c->waiting, r);
    rv_server_ready(server, c);
}

static void cancel(RvClient *c, uint64_t cookie)
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
            c->server->ops->cancel(c->server->opaque, r->call);
            return;
        }
    }
}

static void query(RvClient *c, uint64_t cookie)
{
    send_text(c, RVMRPC_SOCK_INFO, cookie, c->server->ops->info(c->server->opaque));
}

/* One that does not read misses events: the next INFO tells it how things are. */
void rv_client_event(RvClient *c, const char *json)
{
    if (c->subscribed && !c->closing && c->unread < UNREAD_MAX) {
        send_text(c, RVMRPC_SOCK_EVENT, 0, g_strdup(json));
        flush(c);
    }
}

static void handle_frame(RvClient *c)
{
    c->active = rv_now();
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
static int read_some(RvClient *c)
{
    const size_t head = sizeof(c->hdr);
    const char *wrong;

    while (c->have < head || c->have < head + c->hdr.length) {
        char *to = c->have < head ? (char *)&c->hdr + c->have : (char *)c->payload + c->have - head;
        size_t want = c->have < head ? head - c->have : head + c->hdr.length - c->have;
        ssize_t ret = recv(c->fd, to, want, MSG_DONTWAIT);

        if (ret < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        if (ret <= 0) {
            return -1;
        }
        if (!c->have) {
            c->frame_start = rv_now();
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

static bool may_read(const RvClient *c)
{
    return !c->closing && !c->throttled && c->unread < UNREAD_MAX;
}

static gboolean readable(gint fd, GIOCondition condition, gpointer opaque)
{
    RvClient *c = opaque;
    int ret = 0;

    (void)fd;
    (void)condition;
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
        rv_client_drop(c);
        return G_SOURCE_REMOVE;
    }
    if (c->have) {
        rv_server_start_sweep(c->server);
    }
    flush(c);
    return G_SOURCE_CONTINUE;
}

static gboolean writable(gint fd, GIOCondition condition, gpointer opaque)
{
    (void)fd;
    (void)condition;
    flush(opaque);
    return G_SOURCE_CONTINUE;
}

/* ---- Life ---- */

static void update_watches(RvClient *c)
{
    if (!may_read(c)) {
        rv_unwatch(&c->in);
    } else if (!c->in) {
        c->in = rv_watch(c->server, c->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, readable, c);
    }
    if (g_queue_is_empty(&c->frames)) {
        rv_unwatch(&c->out);
    } else if (!c->out) {
        c->out = rv_watch(c->server, c->fd, G_IO_OUT, writable, c);
        rv_server_start_sweep(c->server);
    }
}

/* A waiting request may reach its deadline before its turn. */
static void expire_waiting(RvClient *c, uint64_t now)
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

bool rv_client_sweep(RvClient *c, uint64_t now)
{
    if (c->have && may_read(c) && now - c->frame_start > PATIENCE_NS) {
        complain(c, "the rest of a frame did not come");
    }
    if (!g_queue_is_empty(&c->frames) && now > c->progress && now - c->progress > PATIENCE_NS) {
        rv_client_drop(c);
        return false;
    }
    c->throttled = false;
    expire_waiting(c, now);
    c->refs++;
    flush(c);
    now = c->fd >= 0 && (c->have || !g_queue_is_empty(&c->frames) || !g_queue_is_empty(&c->waiting));
    client_unref(c);
    return now;
}

uid_t rv_client_uid(const RvClient *c)
{
    return c->uid;
}

uint64_t rv_client_idle(const RvClient *c, uint64_t now)
{
    return c->subscribed || c->waiting.length || c->running.length || now < c->active ? 0 : now - c->active;
}

void rv_client_new(RvServer *server, int fd, uid_t uid)
{
    RvClient *c = g_new0(RvClient, 1);

    c->refs = 1;
    c->server = server;
    server->refs++;
    c->fd = fd;
    c->uid = uid;
    c->active = rv_now();
    g_queue_push_tail(&server->clients, c);
    update_watches(c);
}

static gboolean forget(void *opaque)
{
    (void)opaque;
    return G_SOURCE_REMOVE;
}

/* Its memory stays for the callback that we may be in, and for its calls. */
void rv_client_drop(RvClient *c)
{
    RvServer *server = c->server;
    Request *r;

    rv_unwatch(&c->in);
    rv_unwatch(&c->out);
    g_queue_remove(&server->clients, c);
    g_queue_remove(&server->ready, c);
    close(c->fd);
    c->fd = -1;
    while ((r = g_queue_pop_head(&c->waiting))) {
        request_free(r);
    }
    while ((r = g_queue_pop_head(&c->running))) {
        server->ops->cancel(server->opaque, r->call);
    }
    g_queue_clear_full(&c->frames, frame_free);
    rv_soon(server, forget, c, client_unref);
}
