/*
 * Reverse VMRPC: the socket of a VM, its server
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Clients take turns, so that the others of one that floods wait little longer
 * than without it.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "rvmrpc_listener.h"
#include "rvmrpc_socket.h"
#include "rvmrpc_sockclient.h"
#include "rvmrpc_sockserver.h"

#define SWEEP_MS 20
/* For so long a client may be idle when its place is wanted. */
#define IDLE_NS  10000000000ull
#define ANYBODY  ((uid_t)-1)

/* In a g_rc_box: clients whose calls end after it have a reference. */
struct RvmrpcSockServer {
    RvmrpcSockConfig config;
    RvmrpcListener *listener;
    RvmrpcChannel *channel;
    GQueue clients;
    GQueue ready;               /* clients whose turn comes */
    uint32_t in_channel;        /* calls */
    GSource *sweep;             /* while some client has a deadline */
    bool sweep_again;
};

/* ---- Turns ---- */

static void pump(RvmrpcSockServer *s)
{
    while (s->in_channel < RVMRPC_SOCK_WINDOW) {
        RvmrpcSockClient *c = g_queue_pop_head(&s->ready);

        if (!c) {
            break;
        }
        switch (rvmrpc_sock_client_submit(c)) {
        case RVMRPC_SOCK_SUBMITTED:
            s->in_channel++;
            g_queue_push_tail(&s->ready, c);
            break;
        case RVMRPC_SOCK_REFUSED:
            g_queue_push_tail(&s->ready, c);
            break;
        case RVMRPC_SOCK_NONE:
            break;
        }
    }
}

static void client_ready(void *server, RvmrpcSockClient *c)
{
    RvmrpcSockServer *s = server;

    if (!g_queue_find(&s->ready, c)) {
        g_queue_push_tail(&s->ready, c);
    }
    pump(s);
}

static void client_ended(void *server)
{
    RvmrpcSockServer *s = server;

    s->in_channel--;
    pump(s);
}

/* ---- Deadlines ---- */

static gboolean sweep(void *opaque)
{
    RvmrpcSockServer *s = opaque;
    uint64_t now = rvmrpc_clock();

    s->sweep_again = false;
    for (GList *l = s->clients.head, *next; l; l = next) {
        next = l->next;
        s->sweep_again |= rvmrpc_sock_client_sweep(l->data, now);
    }
    if (!s->sweep_again) {
        g_clear_pointer(&s->sweep, g_source_unref);
    }
    return s->sweep_again;
}

static void client_sweep(void *server)
{
    RvmrpcSockServer *s = server;

    s->sweep_again = true;
    if (!s->sweep) {
        s->sweep = g_timeout_source_new(SWEEP_MS);
        g_source_set_callback(s->sweep, sweep, s, NULL);
        g_source_attach(s->sweep, s->config.context);
    }
}

/* ---- What clients ask for ---- */

static GMainContext *client_context(void *server)
{
    RvmrpcSockServer *s = server;

    return s->config.context;
}

static RvmrpcChannel *client_channel(void *server)
{
    RvmrpcSockServer *s = server;

    return s->channel;
}

static char *client_info(void *server)
{
    RvmrpcSockServer *s = server;

    return s->config.info(s->config.opaque);
}

static void client_gone(void *server, RvmrpcSockClient *c)
{
    RvmrpcSockServer *s = server;

    g_queue_remove(&s->clients, c);
    g_queue_remove(&s->ready, c);
}

static const RvmrpcSockClientOps client_ops = {
    .context = client_context,
    .channel = client_channel,
    .info = client_info,
    .ready = client_ready,
    .ended = client_ended,
    .sweep = client_sweep,
    .gone = client_gone,
};

/* ---- Listening ---- */

static void refuse(int fd, const char *text)
{
    struct rvmrpc_sock_hdr hdr = {
        .magic = RVMRPC_SOCK_MAGIC,
        .version = RVMRPC_SOCK_VERSION,
        .type = RVMRPC_SOCK_ERROR,
        .length = strlen(text),
    };
    struct iovec iov[] = {
        { .iov_base = &hdr, .iov_len = sizeof(hdr) },
        { .iov_base = (void *)text, .iov_len = hdr.length },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = G_N_ELEMENTS(iov) };

    /* A new socket's buffer takes it; who is refused is not waited for. */
    sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

/*
 * A user may have as many as are free when so many are taken: no one user
 * locks all others out.
 */
static bool has_share(const RvmrpcSockServer *s, uid_t uid, unsigned taken)
{
    unsigned own = 0;

    if (uid == 0 || uid == geteuid()) {
        return true;
    }
    for (GList *l = s->clients.head; l; l = l->next) {
        own += rvmrpc_sock_client_uid(l->data) == uid;
    }
    return own < RVMRPC_SOCK_CLIENTS_MAX - taken;
}

/* Ends the one that is idle for the longest, if that is long. */
static bool make_room(RvmrpcSockServer *s, uid_t uid)
{
    uint64_t least = rvmrpc_clock() - IDLE_NS;
    RvmrpcSockClient *idle = NULL;

    for (GList *l = s->clients.head; l; l = l->next) {
        uint64_t since = rvmrpc_sock_client_idle_since(l->data);

        if (since <= least &&
            (uid == ANYBODY || rvmrpc_sock_client_uid(l->data) == uid)) {
            least = since;
            idle = l->data;
        }
    }
    if (idle) {
        rvmrpc_sock_client_evict(idle);
    }
    return idle;
}

static void accepted(int fd, void *opaque)
{
    RvmrpcSockServer *s = opaque;
    bool full = s->clients.length >= RVMRPC_SOCK_CLIENTS_MAX;
    bool share;
    uid_t uid;
    pid_t pid;

    if (!rvmrpc_peer(fd, &uid, &pid)) {
        close(fd);
        return;
    }
    /* Who has too many takes no place of others'. */
    share = has_share(s, uid, s->clients.length - full);
    if ((full || !share) && !make_room(s, share ? ANYBODY : uid)) {
        refuse(fd, share ? "too many clients" : "too many clients of one user");
    } else {
        g_queue_push_tail(&s->clients,
                          rvmrpc_sock_client_new(fd, uid, &client_ops, s));
    }
}

RvmrpcSockServer *rvmrpc_sockserver_new(const RvmrpcSockConfig *config,
                                        GError **error)
{
    RvmrpcSockServer *s = g_rc_box_new0(RvmrpcSockServer);

    s->config = *config;
    s->config.path = NULL;      /* the caller's, not needed any more */
    s->listener = config->fd >= 0 ?
        rvmrpc_listener_new_for_fd(config->fd, config->context, accepted, s) :
        rvmrpc_listener_new(config->path, config->mode, config->gid,
                            config->context, accepted, s, error);
    if (!s->listener) {
        g_rc_box_release(s);
        return NULL;
    }
    return s;
}

void rvmrpc_sockserver_free(RvmrpcSockServer *s)
{
    RvmrpcSockClient *c;

    rvmrpc_listener_free(s->listener);
    while ((c = g_queue_peek_head(&s->clients))) {
        rvmrpc_sock_client_drop(c);
    }
    if (s->sweep) {
        g_source_destroy(s->sweep);
        g_source_unref(s->sweep);
    }
    g_rc_box_release(s);
}

void rvmrpc_sockserver_set_channel(RvmrpcSockServer *s, RvmrpcChannel *ch)
{
    s->channel = ch;
    pump(s);
}

void rvmrpc_sockserver_event(RvmrpcSockServer *s, const char *json)
{
    for (GList *l = s->clients.head, *next; l; l = next) {
        next = l->next;
        rvmrpc_sock_client_event(l->data, json);
    }
}
