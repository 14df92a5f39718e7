/*
 * Reverse VMRPC: one client of a VM's socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a client can make us keep is bounded: calls by a quota, answers that it
 * does not read by not reading its requests, events by dropping all but the
 * last, half a frame by time.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "rvmrpc_fdsource.h"
#include "rvmrpc_sockclient.h"
#include "rvmrpc_socket.h"

/* Calls in the channel: half of the usual slots, so that none takes all. */
#define IN_CHANNEL_MAX  2
/* Bytes of unread answers beyond which no request is read. */
#define UNREAD_MAX      (256 * 1024)
/* Bytes beyond which events are not added, but the last. */
#define EVENTS_MAX      (16 * 1024)
/* For the rest of a frame, and for the client to read something. */
#define PATIENCE_NS     10000000000ull
/* Requests handled at a time, before other clients are looked at. */
#define BATCH           8
#define BUFFER          4096

typedef struct Frame {
    struct rvmrpc_sock_hdr hdr;
    void *payload;              /* owned */
    size_t sent;
} Frame;

typedef struct Request {
    RvmrpcSockClient *client;   /* referenced */
    RvmrpcCall *call;
    uint64_t cookie;
    uint64_t start;
} Request;

/* In a g_rc_box. */
struct RvmrpcSockClient {
    const RvmrpcSockClientOps *ops;
    void *server;               /* referenced */
    int fd;                     /* -1: gone, waits for its calls' end */
    uid_t uid;
    GSource *source;
    uint8_t in[BUFFER];         /* read and not looked at: from in_at */
    size_t in_at, in_end;
    struct rvmrpc_sock_hdr hdr; /* of the frame that is being read */
    uint8_t *payload;           /* NULL: it is dropped */
    uint32_t refusal;           /* then: the answer's status */
    size_t have;                /* bytes of both */
    uint64_t frame_start;
    GQueue frames;              /* to be written */
    size_t unread;              /* bytes of them */
    uint64_t progress;          /* when it last read something */
    uint64_t used;              /* when it last asked or was answered */
    char *last_event;           /* for which there was no room */
    GQueue waiting;             /* requests that are not in the channel yet */
    GQueue running;             /* in the channel */
    struct rvmrpc_client quota; /* the channel's */
    bool throttled;             /* over its quota: not read until the sweep */
    bool subscribed;
    bool closing;               /* nothing is read, dropped when all is sent */
};

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
        c->progress = rvmrpc_clock();
    }
    g_queue_push_tail(&c->frames, f);
    c->unread += sizeof(f->hdr) + f->hdr.length;
}

/* Takes over @text. */
static void send_text(RvmrpcSockClient *c, uint16_t type, uint64_t cookie,
                      char *text)
{
    struct rvmrpc_sock_hdr hdr = {
        .type = type,
        .cookie = cookie,
        .length = strlen(text),
    };

    send_frame(c, &hdr, text);
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
        .elapsed_ns = rvmrpc_clock() - r->start,
    };

    send_frame(c, &hdr, ok ? g_steal_pointer(&call->res) : NULL);
}

/* Of the frame that was read, without a call. */
static void send_refusal(RvmrpcSockClient *c, uint32_t status)
{
    const struct rvmrpc_sock_hdr hdr = {
        .type = RVMRPC_SOCK_ANSWER,
        .cookie = c->hdr.cookie,
        .status = status,
        .module = c->hdr.module,
        .procedure = c->hdr.procedure,
        .elapsed_ns = rvmrpc_clock() - c->frame_start,
    };

    send_frame(c, &hdr, NULL);
}

/* The client broke the rules: says so and ends it. */
static void complain(RvmrpcSockClient *c, const char *text)
{
    send_text(c, RVMRPC_SOCK_ERROR, 0, g_strdup(text));
    c->closing = true;
}

static void send_last_event(RvmrpcSockClient *c)
{
    if (c->last_event && g_queue_is_empty(&c->frames) && !c->closing) {
        send_text(c, RVMRPC_SOCK_EVENT, 0, g_steal_pointer(&c->last_event));
    }
}

/* Bytes that the socket took; -1: none for now, 0: it is gone. */
static ssize_t write_frame(int fd, const Frame *f)
{
    size_t head = sizeof(f->hdr);
    size_t at = f->sent < head ? 0 : f->sent - head;
    struct iovec iov[] = {
        { (char *)&f->hdr + MIN(f->sent, head), head - MIN(f->sent, head) },
        { f->hdr.length ? (char *)f->payload + at : NULL, f->hdr.length - at },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = G_N_ELEMENTS(iov) };
    ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? -1 : 0;
}

/* False: the connection is gone, or all was said. */
static bool write_frames(RvmrpcSockClient *c)
{
    Frame *f;

    send_last_event(c);
    while ((f = g_queue_peek_head(&c->frames))) {
        ssize_t n = write_frame(c->fd, f);

        if (n <= 0) {
            return n < 0;
        }
        f->sent += n;
        c->unread -= n;
        c->progress = rvmrpc_clock();
        if (f->sent == sizeof(f->hdr) + f->hdr.length) {
            frame_free(g_queue_pop_head(&c->frames));
            send_last_event(c);
        }
    }
    return !c->closing;
}

static bool may_read(const RvmrpcSockClient *c)
{
    return !c->closing && !c->throttled && c->unread < UNREAD_MAX;
}

static void update_watch(RvmrpcSockClient *c)
{
    GIOCondition events = 0;

    if (may_read(c)) {
        events |= G_IO_IN;
        if (c->in_at < c->in_end) {
            /* No news of the socket will come for what was read already. */
            g_source_set_ready_time(c->source, 0);
        }
    }
    if (!g_queue_is_empty(&c->frames)) {
        events |= G_IO_OUT;
        c->ops->sweep(c->server);
    }
    rvmrpc_fd_source_set_events(c->source, events);
}

/*
 * After anything was put into c->frames.  False: the client is gone, and its
 * memory, unless the caller has a reference.
 */
static bool flush(RvmrpcSockClient *c)
{
    if (!write_frames(c)) {
        rvmrpc_sock_client_drop(c);
        return false;
    }
    update_watch(c);
    return true;
}

/* ---- Requests ---- */

static void client_free(void *opaque)
{
    RvmrpcSockClient *c = opaque;

    g_free(c->payload);
    g_rc_box_release(c->server);
}

static void request_free(Request *r)
{
    rvmrpc_call_unref(r->call);
    g_rc_box_release_full(r->client, client_free);
    g_free(r);
}

static void call_done(RvmrpcCall *call, void *opaque)
{
    Request *r = opaque;
    RvmrpcSockClient *c = r->client;

    if (c->fd >= 0) {
        g_queue_remove(&c->running, r);
        c->throttled = false;
        c->used = rvmrpc_clock();
        send_answer(c, r, call->core.status);
        if (flush(c) && !g_queue_is_empty(&c->waiting)) {
            c->ops->ready(c->server, c);
        }
    }
    c->ops->ended(c->server);
    request_free(r);
}

RvmrpcSockSubmit rvmrpc_sock_client_submit(RvmrpcSockClient *c)
{
    Request *r = g_queue_peek_head(&c->waiting);
    RvmrpcChannel *ch = c->ops->channel(c->server);
    uint32_t status = RVMRPC_STATUS_NOT_CONNECTED;

    if (!r || c->running.length >= IN_CHANNEL_MAX) {
        return RVMRPC_SOCK_NONE;
    }
    g_queue_pop_head(&c->waiting);
    if (ch) {
        status = rvmrpc_channel_submit(ch, r->call);
    }
    if (status == RVMRPC_STATUS_OK) {
        g_queue_push_tail(&c->running, r);
        return RVMRPC_SOCK_SUBMITTED;
    }
    /* Written by the main loop: who asks may be in the midst of the client. */
    send_answer(c, r, status);
    update_watch(c);
    request_free(r);
    return RVMRPC_SOCK_REFUSED;
}

static void submit(RvmrpcSockClient *c)
{
    const struct rvmrpc_sock_hdr *hdr = &c->hdr;
    Request *r;

    if (c->refusal != RVMRPC_STATUS_OK) {
        send_refusal(c, c->refusal);
        return;
    }
    if (c->waiting.length + c->running.length >= RVMRPC_CLIENT_CALLS_MAX) {
        send_refusal(c, RVMRPC_STATUS_BUSY);
        c->throttled = true;
        c->ops->sweep(c->server);
        return;
    }
    r = g_new0(Request, 1);
    r->client = g_rc_box_acquire(c);
    r->cookie = hdr->cookie;
    r->start = c->frame_start;
    r->call = rvmrpc_call_new(&c->quota, hdr->module, hdr->procedure,
                              g_steal_pointer(&c->payload), hdr->length,
                              hdr->timeout_ms, call_done, r);
    r->call->core.list = hdr->list;
    g_queue_push_tail(&c->waiting, r);
    c->ops->ready(c->server, c);
    if (!g_queue_is_empty(&c->waiting)) {
        c->ops->sweep(c->server);
    }
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
            rvmrpc_channel_cancel(r->call);
            return;
        }
    }
}

static void query(RvmrpcSockClient *c)
{
    send_text(c, RVMRPC_SOCK_INFO, c->hdr.cookie, c->ops->info(c->server));
}

void rvmrpc_sock_client_event(RvmrpcSockClient *c, const char *json)
{
    if (!c->subscribed || c->closing) {
        return;
    }
    if (c->last_event || c->unread >= EVENTS_MAX) {
        g_free(c->last_event);
        c->last_event = g_strdup(json);
        return;
    }
    send_text(c, RVMRPC_SOCK_EVENT, 0, g_strdup(json));
    flush(c);
}

static void handle_frame(RvmrpcSockClient *c)
{
    c->used = rvmrpc_clock();
    switch (c->hdr.type) {
    case RVMRPC_SOCK_SUBMIT:
        submit(c);
        break;
    case RVMRPC_SOCK_CANCEL:
        cancel(c, c->hdr.cookie);
        break;
    case RVMRPC_SOCK_SUBSCRIBE:
        c->subscribed = true;
        query(c);
        break;
    case RVMRPC_SOCK_QUERY:
        query(c);
        break;
    }
    g_clear_pointer(&c->payload, g_free);
    c->have = 0;
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
    if (hdr->timeout_ms > RVMRPC_TIMEOUT_MS_MAX) {
        return "timeout is longer than 60000 ms";
    }
    if (hdr->status || hdr->elapsed_ns) {
        return "a field that must be zero is not";
    }
    if (hdr->type != RVMRPC_SOCK_SUBMIT &&
        (hdr->length || hdr->module || hdr->procedure || hdr->timeout_ms ||
         hdr->list)) {
        return "a field that must be zero is not";
    }
    return NULL;
}

/* What can never be delivered is not kept. */
static void begin_payload(RvmrpcSockClient *c)
{
    RvmrpcChannel *ch = c->ops->channel(c->server);

    c->refusal = !ch || !rvmrpc_channel_epoch(ch) ?
        RVMRPC_STATUS_NOT_CONNECTED :
        c->hdr.length > rvmrpc_channel_max_arg(ch) ?
        RVMRPC_STATUS_TOO_BIG : RVMRPC_STATUS_OK;
    if (c->refusal == RVMRPC_STATUS_OK && c->hdr.length) {
        c->payload = g_malloc(c->hdr.length);
    }
}

/* Where the next bytes of the frame go, and how many; NULL: nowhere. */
static uint8_t *frame_room(RvmrpcSockClient *c, size_t *room)
{
    const size_t head = sizeof(c->hdr);

    if (c->have < head) {
        *room = head - c->have;
        return (uint8_t *)&c->hdr + c->have;
    }
    *room = head + c->hdr.length - c->have;
    return c->payload ? c->payload + c->have - head : NULL;
}

/* Moves bytes on from the buffer to the frame. */
static void take_bytes(RvmrpcSockClient *c)
{
    size_t room, n;
    uint8_t *to = frame_room(c, &room);

    n = MIN(room, c->in_end - c->in_at);
    if (n && !c->have) {
        c->frame_start = rvmrpc_clock();
    }
    if (n && to) {
        memcpy(to, c->in + c->in_at, n);
    }
    c->in_at += n;
    c->have += n;
}

static bool is_whole(const RvmrpcSockClient *c)
{
    return c->have >= sizeof(c->hdr) &&
           c->have == sizeof(c->hdr) + c->hdr.length;
}

/* 1: a frame is there, 0: not yet, or it was a wrong one. */
static int parse(RvmrpcSockClient *c)
{
    const char *wrong;

    if (c->have < sizeof(c->hdr)) {
        take_bytes(c);
        if (c->have < sizeof(c->hdr)) {
            return 0;
        }
        wrong = check_header(&c->hdr);
        if (wrong) {
            complain(c, wrong);
            return 0;
        }
        if (c->hdr.type == RVMRPC_SOCK_SUBMIT) {
            begin_payload(c);
        }
    }
    take_bytes(c);
    return is_whole(c);
}

/* Large payloads pass by the buffer.  1: more came, 0: not now, -1: gone. */
static int fill(RvmrpcSockClient *c)
{
    bool direct = c->payload && c->have >= sizeof(c->hdr);
    size_t room = BUFFER;
    uint8_t *to = direct ? frame_room(c, &room) : c->in;
    ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);

    if (n <= 0) {
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    }
    if (direct) {
        c->have += n;
    } else {
        c->in_at = 0;
        c->in_end = n;
    }
    return 1;
}

/* -1: the connection is gone. */
static int read_frames(RvmrpcSockClient *c)
{
    for (int i = 0; i < BATCH && may_read(c); i++) {
        while (!(is_whole(c) || parse(c))) {
            int ret = c->closing ? 0 : fill(c);

            if (ret <= 0) {
                return ret;
            }
        }
        handle_frame(c);
    }
    return 0;
}

static void ready(GIOCondition condition, void *opaque)
{
    RvmrpcSockClient *c = opaque;

    if (condition & (G_IO_HUP | G_IO_ERR) ||
        (may_read(c) && read_frames(c) < 0)) {
        rvmrpc_sock_client_drop(c);
        return;
    }
    if (c->have) {
        c->ops->sweep(c->server);
    }
    flush(c);
}

/* ---- Life ---- */

/* A waiting request may reach its deadline before its turn. */
static void expire_waiting(RvmrpcSockClient *c, uint64_t now)
{
    for (GList *l = c->waiting.head, *next; l; l = next) {
        Request *r = l->data;

        next = l->next;
        if (r->call->core.deadline <= now) {
            g_queue_delete_link(&c->waiting, l);
            send_answer(c, r, RVMRPC_STATUS_TIMED_OUT);
            request_free(r);
        }
    }
}

bool rvmrpc_sock_client_sweep(RvmrpcSockClient *c, uint64_t now)
{
    if (c->have && may_read(c) && now > c->frame_start + PATIENCE_NS) {
        complain(c, "the rest of a frame did not come");
    }
    if (!g_queue_is_empty(&c->frames) && now > c->progress + PATIENCE_NS) {
        rvmrpc_sock_client_drop(c);
        return false;
    }
    c->throttled = false;
    expire_waiting(c, now);
    return flush(c) && (c->have || !g_queue_is_empty(&c->frames) ||
                        !g_queue_is_empty(&c->waiting));
}

uint64_t rvmrpc_sock_client_idle_since(const RvmrpcSockClient *c)
{
    bool idle = !c->subscribed && !c->waiting.length && !c->running.length;

    return idle ? c->used : UINT64_MAX;
}

void rvmrpc_sock_client_evict(RvmrpcSockClient *c)
{
    complain(c, "idle, and another client needs the place");
    write_frames(c);
    rvmrpc_sock_client_drop(c);
}

uid_t rvmrpc_sock_client_uid(const RvmrpcSockClient *c)
{
    return c->uid;
}

RvmrpcSockClient *rvmrpc_sock_client_new(int fd, uid_t uid,
                                         const RvmrpcSockClientOps *ops,
                                         void *server)
{
    RvmrpcSockClient *c = g_rc_box_new0(RvmrpcSockClient);

    c->ops = ops;
    c->server = g_rc_box_acquire(server);
    c->fd = fd;
    c->uid = uid;
    c->used = rvmrpc_clock();
    c->source = rvmrpc_fd_source_new(fd, G_IO_IN, ops->context(server), ready,
                                     c);
    return c;
}

/* Its memory stays for the calls that have not ended. */
void rvmrpc_sock_client_drop(RvmrpcSockClient *c)
{
    Request *r;

    c->ops->gone(c->server, c);
    rvmrpc_fd_source_free(c->source);
    close(c->fd);
    c->fd = -1;
    while ((r = g_queue_pop_head(&c->waiting))) {
        request_free(r);
    }
    while ((r = g_queue_pop_head(&c->running))) {
        rvmrpc_channel_cancel(r->call);
    }
    g_queue_clear_full(&c->frames, (GDestroyNotify)frame_free);
    g_clear_pointer(&c->last_event, g_free);
    g_rc_box_release_full(c, client_free);
}
