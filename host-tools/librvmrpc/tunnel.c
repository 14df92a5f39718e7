/*
 * librvmrpc: TCP connections from within a guest, joined with files of ours
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two connections to the VM: by one, bytes go to and fro, by the other one call
 * at a time waits for the guest's connections to have news. That call holds a
 * worker of the guest, of which there are few: a guest that has none for it is
 * asked for news now and then instead.
 *
 * Both directions are streams with places, so a call whose answer was lost is
 * simply made again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "private.h"
#include "rvmrpc_fdsource.h"

#define CONNECT_MS      1000
#define CALL_MS         10000
#define WAIT_MS         5000    /* well below a guest's connect_lease */
#define AGAIN_MS        20      /* until a guest that was busy is asked again */
#define STOPPED_MS      500     /* one that is stopped, or silent */
#define CROWDED_US      1000000 /* until one whose workers waited for others is asked for one */
#define BUFFER_BYTES    (512 * 1024)
#define READ_BYTES      (64 * 1024)
#define SENDS           4       /* in flight, of one connection */
#define SEND_MAX        65536   /* bytes of a request, at first */
#define SEND_MIN        64
#define PIPE_BYTES      4096    /* that a pipe or terminal takes when it is ready */

/* Bytes that one side has given and the other has not taken. */
typedef struct Buffer {
    guint8 *bytes;              /* NULL: none yet */
    gsize from, to;
} Buffer;

typedef struct Link {
    RvmrpcTunnel *tunnel;
    RvmrpcEndpoint endpoint;
    guint32 number;
    gint refs;                  /* its own, and one of each call in flight */
    gboolean ended;             /* its owner was told */
    gboolean opening, open;
    GError *refused;            /* no call of it was ever made; NULL: it is no such link */
    int in, out;
    GSource *in_source, *out_source;
    RvmrpcTunnelEnded *done;
    gpointer data;

    /* To the guest: up holds what it has not taken, from up_at on. */
    Buffer up;
    guint64 up_at, up_next;     /* up_next: place of what is to be sent next */
    guint sends;                /* in flight */
    guint write_news;           /* times that it may take more */
    gboolean gap;               /* some was not taken: what follows waits */
    gboolean can_send, up_done;
    gboolean in_wanted, in_hung, in_ended;

    /* From the guest: down_at is the place of what comes next. */
    Buffer down;
    guint64 down_at;
    guint read_news;
    gboolean can_recv, receiving, down_ended, down_done;
} Link;

typedef struct Send {
    Link *link;                 /* a reference */
    guint64 at;
    gsize length;
    gboolean end;
    guint news;                 /* of the link, when it was made */
} Send;

struct RvmrpcTunnel {
    char *vm_name;
    RvmrpcVm *vm;               /* NULL: not found yet */
    GMainContext *context;
    RvmrpcCalls *data, *waits;  /* NULL: not connected */
    guint64 session;
    guint32 last_number;
    GHashTable *links;          /* number -> Link */
    gsize send_max;             /* bytes of a request that the guest takes */
    gboolean waiting;           /* a wait is in flight */
    gint64 wait_after;          /* us: no wait before that */
    gboolean ending;
    GSource *again;             /* until all are asked again, or NULL */
    guint closing;              /* closes in flight */
    GQueue closes;              /* of Close: those to be made again */
};

/* A connection of the guest's that is no link any more. */
typedef struct Close {
    RvmrpcTunnel *tunnel;
    GBytes *arg;
} Close;

static void open_link(Link *link);
static void pump(Link *link);
static void wait_for_news(RvmrpcTunnel *t);
static void ask_again(RvmrpcTunnel *t, gboolean soon);

/* ---- Endpoints ---- */

static gboolean parse_address(char *text, RvmrpcEndpoint *endpoint)
{
    const gsize length = strlen(text);
    char *scope, *end;
    guint64 index = 0;

    if (text[0] != '[') {
        memset(endpoint->address + 10, 0xff, 2);
        return inet_pton(AF_INET, strcmp(text, "localhost") ? text : "127.0.0.1",
                         endpoint->address + 12) == 1;
    }
    if (text[length - 1] != ']') {
        return FALSE;
    }
    text[length - 1] = '\0';
    scope = strchr(text, '%');
    if (scope) {
        *scope++ = '\0';
        index = g_ascii_strtoull(scope, &end, 10);
        if (!g_ascii_isdigit(*scope) || *end || !index || index > G_MAXUINT32) {
            return FALSE;
        }
    }
    endpoint->scope = index;
    return inet_pton(AF_INET6, text + 1, endpoint->address) == 1;
}

gboolean rvmrpc_parse_endpoint(const char *text, RvmrpcEndpoint *endpoint,
                               GError **error)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *address = g_strndup(text, colon ? colon - text : 0);
    guint64 port = 0;

    *endpoint = (RvmrpcEndpoint) { .port = 0 };
    if (colon && g_ascii_string_to_unsigned(colon + 1, 10, 1, G_MAXUINT16,
                                            &port, NULL) &&
        address[0] && parse_address(address, endpoint)) {
        endpoint->port = port;
        return TRUE;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "'%s' is no ADDRESS:PORT; the address is a number, IPv6 in "
                "brackets, or localhost", text);
    return FALSE;
}

char *rvmrpc_endpoint_text(const RvmrpcEndpoint *endpoint)
{
    char text[INET6_ADDRSTRLEN];

    if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)endpoint->address)) {
        inet_ntop(AF_INET, endpoint->address + 12, text, sizeof(text));
        return g_strdup_printf("%s:%u", text, endpoint->port);
    }
    inet_ntop(AF_INET6, endpoint->address, text, sizeof(text));
    return endpoint->scope ?
        g_strdup_printf("[%s%%%u]:%u", text, endpoint->scope, endpoint->port) :
        g_strdup_printf("[%s]:%u", text, endpoint->port);
}

/* ---- Errors ---- */

static GError *connect_error(const RvmrpcTunnel *t,
                             const RvmrpcEndpoint *endpoint, guint32 reason)
{
    static const struct {
        int code;
        const char *text;
    } reasons[] = {
        [RVMRPC_CONNECT_REFUSED] = { G_IO_ERROR_CONNECTION_REFUSED,
            "nobody listens there, as the guest sees it" },
        [RVMRPC_CONNECT_UNREACHABLE] = { G_IO_ERROR_HOST_UNREACHABLE,
            "the guest has no way to there; is that interface up?" },
        [RVMRPC_CONNECT_TIMED_OUT] = { G_IO_ERROR_TIMED_OUT,
            "nobody answers the guest there" },
        [RVMRPC_CONNECT_BROKEN] = { G_IO_ERROR_CONNECTION_CLOSED,
            "the other end broke the connection" },
        [RVMRPC_CONNECT_UNKNOWN] = { G_IO_ERROR_CONNECTION_CLOSED,
            "the guest ended the connection: its driver was registered anew, or "
            "had not heard of us for too long" },
        [RVMRPC_CONNECT_FULL] = { G_IO_ERROR_BUSY,
            "the guest has as many connections as its driver's parameter "
            "'connect_max' allows" },
        [RVMRPC_CONNECT_OTHER] = { G_IO_ERROR_FAILED,
            "the guest's kernel cannot do that" },
    };
    g_autofree char *text = rvmrpc_endpoint_text(endpoint);
    const guint i = reason && reason < G_N_ELEMENTS(reasons) ?
                    reason : RVMRPC_CONNECT_OTHER;

    return g_error_new(G_IO_ERROR, reasons[i].code, "%s: %s: %s", t->vm->label,
                       text, reasons[i].text);
}

/* A call's own, with what it means for connections. */
static GError *told_error(const RvmrpcTunnel *t, const RvmrpcEndpoint *endpoint,
                          const GError *error)
{
    g_autofree char *text = rvmrpc_endpoint_text(endpoint);

    if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED)) {
        return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED,
                           "%s: %s: not among what the parameter "
                           "'connect_allow' of the guest's driver names",
                           t->vm->label, text);
    }
    return g_error_copy(error);
}

static gboolean is_busy(const GError *error)
{
    return g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_BUSY);
}

/* Whether a call may be made again: the guest is there, or will be. */
static gboolean is_passing(const GError *error)
{
    return is_busy(error) ||
           g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT) ||
           g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_STOPPED) ||
           g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_CANCELLED);
}

/* ---- Buffers ---- */

static gsize buffer_used(const Buffer *b)
{
    return b->to - b->from;
}

/* Where the next bytes go, *room of them, at most BUFFER_BYTES less what is used. */
static guint8 *buffer_room(Buffer *b, gsize *room)
{
    if (!b->bytes) {
        b->bytes = g_malloc(BUFFER_BYTES);
    }
    /* Not for each few bytes. */
    if (b->from && BUFFER_BYTES - b->to < READ_BYTES) {
        memmove(b->bytes, b->bytes + b->from, buffer_used(b));
        b->to -= b->from;
        b->from = 0;
    }
    *room = BUFFER_BYTES - b->to;
    return b->bytes + b->to;
}

static void buffer_take(Buffer *b, gsize n)
{
    b->from += n;
    if (b->from == b->to) {
        b->from = b->to = 0;
    }
}

/* ---- Links ---- */

static void link_unref(Link *link)
{
    if (--link->refs) {
        return;
    }
    g_clear_error(&link->refused);
    g_free(link->up.bytes);
    g_free(link->down.bytes);
    g_free(link);
}

static void watch(Link *link, GSource **source, int fd, GIOCondition events,
                  RvmrpcFdReady *ready)
{
    if (!*source) {
        *source = rvmrpc_fd_source_new(fd, events, link->tunnel->context,
                                       ready, link);
    }
    rvmrpc_fd_source_set_events(*source, events);
}

/* Its other side shall know that it was no good end.  Of what is no socket it fails. */
static void set_reset(int fd)
{
    const struct linger hard = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

static void close_files(Link *link, gboolean reset)
{
    g_clear_pointer(&link->in_source, rvmrpc_fd_source_free);
    g_clear_pointer(&link->out_source, rvmrpc_fd_source_free);
    if (reset) {
        set_reset(link->out);
    }
    if (link->in != link->out) {
        close(link->in);
    }
    if (link->out >= 0) {
        close(link->out);
    }
}

static GBytes *request(const Link *link, guint64 at, guint32 flags,
                       guint32 length, gconstpointer bytes, gsize size)
{
    const struct rvmrpc_connect_req req = {
        .session = link->tunnel->session,
        .at = at,
        .connection = link->number,
        .flags = flags,
        .length = length,
    };
    guint8 *arg = g_malloc(sizeof(req) + size);

    memcpy(arg, &req, sizeof(req));
    if (size) {
        memcpy(arg + sizeof(req), bytes, size);
    }
    return g_bytes_new_take(arg, sizeof(req) + size);
}

static void submit(RvmrpcCalls *calls, guint32 procedure, GBytes *arg,
                   RvmrpcCallDone *done, gpointer data)
{
    rvmrpc_calls_submit(calls, RVMRPC_MOD_CONNECT, procedure, arg, CALL_MS,
                        done, data);
    g_bytes_unref(arg);
}

/* ---- Closing in the guest ---- */

static void close_free(void *data)
{
    Close *c = data;

    g_bytes_unref(c->arg);
    g_free(c);
}

/* To the guest it is one of a session that is heard of: its lease does not end. */
static void on_closed(GBytes *answer, const GError *error, gpointer data)
{
    Close *c = data;
    RvmrpcTunnel *t = c->tunnel;

    (void)answer;
    t->closing--;
    if (error && is_passing(error) && !t->ending) {
        g_queue_push_tail(&t->closes, c);
        ask_again(t, is_busy(error));
    } else {
        close_free(c);
    }
}

static void submit_close(Close *c)
{
    c->tunnel->closing++;
    submit(c->tunnel->data, RVMRPC_CONNECT_CLOSE, g_bytes_ref(c->arg),
           on_closed, c);
}

static void close_in_guest(const Link *link, gboolean reset)
{
    Close *c = g_new(Close, 1);

    c->tunnel = link->tunnel;
    c->arg = request(link, 0, reset ? RVMRPC_CONNECT_RESET : 0, 0, NULL, 0);
    submit_close(c);
}

/* ---- The end, and what is to be tried again ---- */

/* Takes @error: NULL when all went well. */
static void link_end(Link *link, GError *error)
{
    RvmrpcTunnel *t = link->tunnel;

    if (link->ended) {
        g_clear_error(&error);
        return;
    }
    link->ended = TRUE;
    close_files(link, error != NULL);
    g_hash_table_remove(t->links, GUINT_TO_POINTER(link->number));
    if (!link->refused) {
        close_in_guest(link, error != NULL);
    }
    link->done(error, link->data);
    g_clear_error(&error);
    link_unref(link);
}

static void link_failed(Link *link, guint32 reason)
{
    link_end(link, connect_error(link->tunnel, &link->endpoint, reason));
}

static void link_malformed(Link *link)
{
    link_end(link, malformed_error(link->tunnel->vm));
}

/* After each step: the end of both directions is the link's. */
static void check_end(Link *link)
{
    if (link->up_done && link->down_done) {
        link_end(link, NULL);
    }
}

/* It may have news of anything. */
static void rouse(Link *link)
{
    link->can_send = link->can_recv = TRUE;
    link->write_news++;
    link->read_news++;
}

static void rouse_all(RvmrpcTunnel *t)
{
    g_autoptr(GList) links = g_hash_table_get_values(t->links);

    for (GList *l = links; l; l = l->next) {
        ((Link *)l->data)->refs++;
    }
    for (GList *l = links; l; l = l->next) {
        rouse(l->data);
        pump(l->data);
        link_unref(l->data);
    }
}

static gboolean on_again(gpointer data)
{
    RvmrpcTunnel *t = data;
    Close *c;

    g_clear_pointer(&t->again, g_source_unref);
    while ((c = g_queue_pop_head(&t->closes))) {
        submit_close(c);
    }
    rouse_all(t);
    wait_for_news(t);
    return G_SOURCE_REMOVE;
}

/* All links are looked at when the time has come. */
static void ask_again(RvmrpcTunnel *t, gboolean soon)
{
    if (!t->again) {
        t->again = g_timeout_source_new(
            soon ? MAX(AGAIN_MS, g_hash_table_size(t->links)) : STOPPED_MS);
        g_source_set_callback(t->again, on_again, t, NULL);
        g_source_attach(t->again, t->context);
    }
}

/* A call of a link has failed. */
static void call_failed(Link *link, const GError *error)
{
    if (is_passing(error)) {
        ask_again(link->tunnel, is_busy(error));
    } else {
        link_end(link, told_error(link->tunnel, &link->endpoint, error));
    }
}

/* ---- To the guest ---- */

static void read_in(Link *link)
{
    gsize room;
    guint8 *to = buffer_room(&link->up, &room);
    ssize_t n = read(link->in, to, MIN(room, READ_BYTES));

    if (n > 0) {
        link->up.to += n;
    } else if (n == 0) {
        link->in_ended = TRUE;
    } else if (errno != EAGAIN && errno != EINTR) {
        link_end(link, g_error_new(G_IO_ERROR, g_io_error_from_errno(errno),
                                   "cannot read: %s", g_strerror(errno)));
    }
}

static void on_in_ready(GIOCondition condition, void *opaque)
{
    Link *link = opaque;

    link->refs++;
    if (link->in_wanted) {
        read_in(link);
    } else if (condition & G_IO_ERR) {
        link_end(link, g_error_new_literal(G_IO_ERROR,
                                           G_IO_ERROR_CONNECTION_CLOSED,
                                           "the client broke the connection"));
    } else {
        /* What it has written can be read later; this would come again and again. */
        link->in_hung = TRUE;
    }
    pump(link);
    link_unref(link);
}

/* FALSE: it is malformed, or the connection has failed. */
static gboolean parse_res(Link *link, GBytes *answer,
                          struct rvmrpc_connect_res *res)
{
    if (g_bytes_get_size(answer) < sizeof(*res)) {
        link_malformed(link);
        return FALSE;
    }
    memcpy(res, g_bytes_get_data(answer, NULL), sizeof(*res));
    if (res->failed) {
        link_failed(link, res->failed);
        return FALSE;
    }
    return TRUE;
}

/* The guest has taken what comes before that place; answers may overtake each other. */
static void sent(const Send *s, guint64 at)
{
    Link *link = s->link;

    if (at > link->up_at + buffer_used(&link->up)) {
        link_malformed(link);
        return;
    }
    if (at > link->up_at) {
        buffer_take(&link->up, at - link->up_at);
        link->up_at = at;
        /* A call that was given up may have done more, or a guest says so. */
        link->up_next = MAX(link->up_next, at);
    }
    if (link->up_at >= s->at + s->length) {
        link->up_done |= s->end;
        return;
    }
    link->gap = TRUE;
    if (at >= s->at && link->write_news == s->news) {
        /* The socket is full, and has said nothing since. */
        link->can_send = FALSE;
    }
}

static void on_sent(GBytes *answer, const GError *error, gpointer data)
{
    g_autofree Send *s = data;
    Link *link = s->link;
    RvmrpcTunnel *t = link->tunnel;
    struct rvmrpc_connect_res res;

    link->sends--;
    if (link->ended) {
        /* Nobody wants to know. */
    } else if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_TOO_BIG) &&
               t->send_max > SEND_MIN) {
        /* Others may have told so already. */
        while (t->send_max > SEND_MIN &&
               t->send_max >= s->length + sizeof(struct rvmrpc_connect_req)) {
            t->send_max /= 2;
        }
        link->gap = TRUE;
    } else if (error) {
        link->gap = TRUE;
        link->can_send = FALSE;
        call_failed(link, error);
    } else if (parse_res(link, answer, &res)) {
        sent(s, res.at);
    }
    /* What was not taken goes anew, when nothing else is on its way. */
    if (!link->sends && link->gap) {
        link->up_next = link->up_at;
        link->gap = FALSE;
    }
    pump(link);
    link_unref(link);
}

static void send_part(Link *link)
{
    const gsize have = link->up_at + buffer_used(&link->up) - link->up_next;
    const gsize length = MIN(have, link->tunnel->send_max -
                                   sizeof(struct rvmrpc_connect_req));
    const gboolean end = link->in_ended && length == have;
    Send *s = g_new(Send, 1);

    *s = (Send) { link, link->up_next, length, end, link->write_news };
    link->refs++;
    link->sends++;
    submit(link->tunnel->data, RVMRPC_CONNECT_SEND,
           request(link, s->at, end ? RVMRPC_CONNECT_END : 0, 0,
                   link->up.bytes + link->up.from + (s->at - link->up_at),
                   length), on_sent, s);
    link->up_next += length;
}

static void pump_up(Link *link)
{
    while (link->can_send && !link->gap && !link->up_done &&
           link->sends < SENDS) {
        const gsize have = link->up_at + buffer_used(&link->up) - link->up_next;

        /* The end alone, too, but once at a time. */
        if (!have && (!link->in_ended || link->sends)) {
            break;
        }
        send_part(link);
    }
    link->in_wanted = !link->in_ended &&
                      buffer_used(&link->up) <= BUFFER_BYTES / 2;
    if (link->in_wanted || (!link->in_ended && !link->in_hung)) {
        watch(link, &link->in_source, link->in, link->in_wanted ? G_IO_IN : 0,
              on_in_ready);
    } else {
        g_clear_pointer(&link->in_source, rvmrpc_fd_source_free);
    }
}

/* ---- From the guest ---- */

/* Bytes; -1: none now; -2: it takes no more, as errno says. */
static ssize_t write_some(int fd, const guint8 *bytes, gsize size)
{
    ssize_t n = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

        /* It waits if it is not ready, and shall not be made not to. */
        errno = EAGAIN;
        n = poll(&poll_fd, 1, 0) == 1 ?
            write(fd, bytes, MIN(size, PIPE_BYTES)) : -1;
    }
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? -1 : -2;
}

/* Bytes that were written; what is wrong ends the link. */
static gsize write_out(Link *link, const guint8 *bytes, gsize size)
{
    gsize done = 0;

    while (done < size) {
        ssize_t n = write_some(link->out, bytes + done, size - done);

        if (n == -2) {
            link_end(link, g_error_new(G_IO_ERROR, g_io_error_from_errno(errno),
                                       "cannot write: %s", g_strerror(errno)));
            break;
        }
        if (n < 0) {
            break;
        }
        done += n;
    }
    return done;
}

static void write_down(Link *link)
{
    const gsize size = buffer_used(&link->down);

    if (size) {
        buffer_take(&link->down, write_out(link, link->down.bytes +
                                           link->down.from, size));
    }
}

static void on_out_ready(GIOCondition condition, void *opaque)
{
    Link *link = opaque;

    (void)condition;
    link->refs++;
    write_down(link);
    pump(link);
    link_unref(link);
}

/* What came; what cannot be written now is kept. */
static void take_bytes(Link *link, const guint8 *bytes, gsize size)
{
    gsize done = buffer_used(&link->down) ? 0 : write_out(link, bytes, size);
    gsize room;
    guint8 *to;

    if (link->ended || done == size) {
        return;
    }
    to = buffer_room(&link->down, &room);
    memcpy(to, bytes + done, size - done);
    link->down.to += size - done;
}

typedef struct Recv {
    Link *link;                 /* a reference */
    gsize length;
    guint news;                 /* of the link, when it was made */
} Recv;

static void on_received(GBytes *answer, const GError *error, gpointer data)
{
    g_autofree Recv *r = data;
    Link *link = r->link;
    struct rvmrpc_connect_res res;
    gsize size;

    link->receiving = FALSE;
    if (link->ended) {
        /* Nobody wants to know. */
    } else if (error) {
        link->can_recv = FALSE;
        call_failed(link, error);
    } else if (parse_res(link, answer, &res)) {
        size = g_bytes_get_size(answer) - sizeof(res);
        if (res.at != link->down_at || size > r->length) {
            link_malformed(link);
        } else {
            link->down_at += size;
            link->down_ended = res.flags & RVMRPC_CONNECT_ENDED;
            /* What came is there until the next call says that it has arrived. */
            if (!size && link->read_news == r->news) {
                link->can_recv = FALSE;
            }
            take_bytes(link, (const guint8 *)g_bytes_get_data(answer, NULL) +
                       sizeof(res), size);
        }
    }
    pump(link);
    link_unref(link);
}

/* A pipe ends when it is closed. */
static void end_out(Link *link)
{
    if (shutdown(link->out, SHUT_WR) < 0 && link->in != link->out) {
        close(link->out);
        link->out = -1;
    }
}

static void pump_down(Link *link)
{
    if (link->can_recv && !link->receiving && !link->down_ended &&
        buffer_used(&link->down) <= BUFFER_BYTES / 2) {
        Recv *r = g_new(Recv, 1);
        gsize room;

        buffer_room(&link->down, &room);
        *r = (Recv) { link, room, link->read_news };
        link->refs++;
        link->receiving = TRUE;
        submit(link->tunnel->data, RVMRPC_CONNECT_RECV,
               request(link, link->down_at, 0, room, NULL, 0), on_received, r);
    }
    if (link->down_ended && !link->down_done && !buffer_used(&link->down)) {
        link->down_done = TRUE;
        end_out(link);
    }
    if (buffer_used(&link->down)) {
        watch(link, &link->out_source, link->out, G_IO_OUT, on_out_ready);
    } else {
        g_clear_pointer(&link->out_source, rvmrpc_fd_source_free);
    }
}

/* Goes on with whatever can. */
static void pump(Link *link)
{
    if (!link->open && !link->ended && !link->opening && !link->refused) {
        open_link(link);
    } else if (link->open && !link->ended) {
        pump_up(link);
        pump_down(link);
        check_end(link);
    }
}

/* ---- Lanes ---- */

static RvmrpcConn *new_conn(RvmrpcTunnel *t, GCancellable *cancellable,
                            GError **error)
{
    if (!t->vm) {
        t->vm = rvmrpc_find_vm(t->vm_name, cancellable, error);
    }
    return t->vm ? rvmrpc_connect(t->vm, CONNECT_MS, cancellable, error) : NULL;
}

static gboolean open_lane(RvmrpcTunnel *t, RvmrpcCalls **lane, GError **error)
{
    RvmrpcConn *conn;

    if (*lane) {
        return TRUE;
    }
    conn = new_conn(t, NULL, error);
    *lane = conn ? rvmrpc_calls_new(conn, t->context, error) : NULL;
    return *lane != NULL;
}

/* ---- News ---- */

static void on_news(GBytes *answer, const GError *error, gpointer data)
{
    RvmrpcTunnel *t = data;
    gsize size = 0, n;
    const struct rvmrpc_connect_ready *ready =
        answer ? g_bytes_get_data(answer, &size) : NULL;

    t->waiting = FALSE;
    if (t->ending) {
        return;
    }
    if (error) {
        /* A link's own calls say what is wrong, if it is. */
        if (is_busy(error)) {
            t->wait_after = g_get_monotonic_time() + CROWDED_US;
        }
        ask_again(t, is_busy(error));
        return;
    }
    n = size / sizeof(*ready);
    for (gsize i = 0; i < n; i++) {
        Link *link = g_hash_table_lookup(t->links,
                                         GUINT_TO_POINTER(ready[i].connection));

        if (!link) {
            continue;
        }
        if (ready[i].events & RVMRPC_CONNECT_READ) {
            link->can_recv = TRUE;
            link->read_news++;
        }
        if (ready[i].events & RVMRPC_CONNECT_WRITE) {
            link->can_send = TRUE;
            link->write_news++;
        }
        pump(link);
    }
    if (!n) {
        /* Of a want of memory nothing tells the end. */
        rouse_all(t);
    }
    wait_for_news(t);
}

static void wait_for_news(RvmrpcTunnel *t)
{
    const struct rvmrpc_connect_wait_req req = {
        .session = t->session, .timeout_ms = WAIT_MS,
    };

    if (t->waiting || t->again || !g_hash_table_size(t->links)) {
        return;
    }
    if (t->waits && rvmrpc_calls_is_broken(t->waits)) {
        g_clear_pointer(&t->waits, rvmrpc_calls_free);
    }
    if (!open_lane(t, &t->waits, NULL)) {
        ask_again(t, FALSE);
        return;
    }
    if (g_get_monotonic_time() < t->wait_after) {
        ask_again(t, TRUE);
        return;
    }
    t->waiting = TRUE;
    submit(t->waits, RVMRPC_CONNECT_WAIT, g_bytes_new(&req, sizeof(req)),
           on_news, t);
}

/* ---- Opening ---- */

static void on_opened(GBytes *answer, const GError *error, gpointer data)
{
    Link *link = data;
    struct rvmrpc_connect_res res;

    link->opening = FALSE;
    if (link->ended) {
        /* Its close may have come before. */
        if (!error) {
            close_in_guest(link, TRUE);
        }
    } else if (error) {
        call_failed(link, error);
    } else if (parse_res(link, answer, &res)) {
        link->open = TRUE;
        rouse(link);
        pump(link);
        wait_for_news(link->tunnel);
    }
    link_unref(link);
}

static void open_link(Link *link)
{
    struct rvmrpc_connect_open_req req = {
        .session = link->tunnel->session,
        .connection = link->number,
        .scope = link->endpoint.scope,
        .port = link->endpoint.port,
    };

    memcpy(req.address, link->endpoint.address, sizeof(req.address));
    link->refs++;
    link->opening = TRUE;
    submit(link->tunnel->data, RVMRPC_CONNECT_OPEN,
           g_bytes_new(&req, sizeof(req)), on_opened, link);
}

/* When they are broken, and nothing hangs on them any more. */
static void drop_lanes(RvmrpcTunnel *t)
{
    g_clear_pointer(&t->data, rvmrpc_calls_free);
    g_clear_pointer(&t->waits, rvmrpc_calls_free);
    /* The lease of what the guest still has is to end. */
    g_queue_clear_full(&t->closes, close_free);
    t->session = 0;
    /* The VM may be another process by now. */
    g_clear_pointer(&t->vm, rvmrpc_vm_unref);
}

static gboolean connect_tunnel(RvmrpcTunnel *t, GError **error)
{
    const gboolean broken =
        (t->data && rvmrpc_calls_is_broken(t->data)) ||
        (t->waits && rvmrpc_calls_is_broken(t->waits));

    if (broken && !g_hash_table_size(t->links)) {
        drop_lanes(t);
    }
    return open_lane(t, &t->data, error) && open_lane(t, &t->waits, error);
}

/* ---- Interface ---- */

RvmrpcTunnel *rvmrpc_tunnel_new(const char *vm, GMainContext *context)
{
    RvmrpcTunnel *t = g_new0(RvmrpcTunnel, 1);

    t->vm_name = g_strdup(vm);
    t->context = context ? g_main_context_ref(context) :
                 g_main_context_ref_thread_default();
    t->links = g_hash_table_new(NULL, NULL);
    t->send_max = SEND_MAX;
    return t;
}

gboolean rvmrpc_tunnel_check(RvmrpcTunnel *t, const RvmrpcEndpoint *to,
                             guint timeout_ms, GCancellable *cancellable,
                             GError **error)
{
    struct rvmrpc_connect_open_req req = {
        .session = 1, .connection = 1, .scope = to->scope, .port = to->port,
        .flags = RVMRPC_CONNECT_CHECK,
    };
    g_autoptr(GBytes) arg = NULL, answer = NULL;
    g_autoptr(RvmrpcConn) conn = NULL;
    g_autoptr(GError) err = NULL;

    memcpy(req.address, to->address, sizeof(req.address));
    arg = g_bytes_new(&req, sizeof(req));
    conn = new_conn(t, cancellable, error);
    if (!conn) {
        return FALSE;
    }
    answer = rvmrpc_call(conn, RVMRPC_MOD_CONNECT, RVMRPC_CONNECT_OPEN, arg,
                         timeout_ms, NULL, cancellable, &err);
    if (!answer) {
        g_propagate_error(error, told_error(t, to, err));
    }
    return answer != NULL;
}

static guint64 random_u64(void)
{
    guint64 value = 0;

    /* Nobody else's session, and not to be guessed. */
    if (getentropy(&value, sizeof(value)) < 0 || !value) {
        value = (guint64)g_random_int() << 32 | 1;
    }
    return value;
}

static gboolean on_refused(gpointer data)
{
    Link *link = data;

    link_end(link, g_error_copy(link->refused));
    return G_SOURCE_REMOVE;
}

/* Its owner is told from the loop, as of every other end. */
static void refuse_link(Link *link)
{
    GSource *source = g_idle_source_new();

    link->refs++;
    g_source_set_callback(source, on_refused, link, (GDestroyNotify)link_unref);
    g_source_attach(source, link->tunnel->context);
    g_source_unref(source);
}

void rvmrpc_tunnel_join(RvmrpcTunnel *t, const RvmrpcEndpoint *to, int in,
                        int out, RvmrpcTunnelEnded *ended, gpointer data)
{
    Link *link = g_new0(Link, 1);

    *link = (Link) {
        .tunnel = t,
        .endpoint = *to,
        .refs = 1,
        .in = in,
        .out = out,
        .done = ended,
        .data = data,
    };
    connect_tunnel(t, &link->refused);
    link->number = ++t->last_number;
    g_hash_table_insert(t->links, GUINT_TO_POINTER(link->number), link);
    if (link->refused) {
        refuse_link(link);
        return;
    }
    if (!t->session) {
        t->session = random_u64();
    }
    open_link(link);
}

/* In the guest: what no answer is waited for. */
static void close_session(RvmrpcTunnel *t, gboolean reset)
{
    const struct rvmrpc_connect_req req = {
        .session = t->session, .flags = reset ? RVMRPC_CONNECT_RESET : 0,
    };
    g_autoptr(RvmrpcConn) conn = rvmrpc_connect(t->vm, CONNECT_MS, NULL, NULL);
    g_autoptr(GBytes) arg = g_bytes_new(&req, sizeof(req)), answer = NULL;

    if (conn) {
        answer = rvmrpc_call(conn, RVMRPC_MOD_CONNECT, RVMRPC_CONNECT_CLOSE,
                             arg, CONNECT_MS, NULL, NULL, NULL);
    }
}

void rvmrpc_tunnel_free(RvmrpcTunnel *t)
{
    g_autoptr(GList) links = g_hash_table_get_values(t->links);

    t->ending = TRUE;
    if (t->again) {
        g_source_destroy(t->again);
        g_source_unref(t->again);
    }
    for (GList *l = links; l; l = l->next) {
        close_files(l->data, TRUE);
        ((Link *)l->data)->ended = TRUE;
        link_unref(l->data);
    }
    /* Of those that have come to their end bytes may be on their way. */
    if ((links || t->closing || t->closes.length) && t->vm && t->session) {
        close_session(t, links != NULL);
    }
    drop_lanes(t);
    g_hash_table_unref(t->links);
    g_main_context_unref(t->context);
    g_free(t->vm_name);
    g_free(t);
}
