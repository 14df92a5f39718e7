/*
 * Reverse VMRPC: the socket of a VM, its server
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include "rv_server_internal.h"
#include "rvmrpc_socket.h"

#define SWEEP_MS        20
/* accept() fails for want of file descriptors: others have to go first. */
#define SPARE_MS        200
/* An idle client gives way to a new one after that. */
#define IDLE_NS         (60 * 1000000000ull)

/* ---- Sources ---- */

GSource *rv_watch(RvServer *server, int fd, GIOCondition condition, GUnixFDSourceFunc func, void *opaque)
{
    GSource *source = g_unix_fd_source_new(fd, condition);

    g_source_set_callback(source, G_SOURCE_FUNC(func), opaque, NULL);
    g_source_attach(source, server->context);
    return source;
}

GSource *rv_timer(RvServer *server, unsigned ms, GSourceFunc func, void *opaque)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, func, opaque, NULL);
    g_source_attach(source, server->context);
    return source;
}

void rv_soon(RvServer *server, GSourceFunc func, void *opaque, GDestroyNotify free)
{
    GSource *source = g_idle_source_new();

    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, func, opaque, free);
    g_source_attach(source, server->context);
    g_source_unref(source);
}

void rv_unwatch(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/* ---- Turns ---- */

void rv_server_ready(RvServer *server, RvClient *client)
{
    if (!g_queue_find(&server->ready, client)) {
        g_queue_push_tail(&server->ready, client);
    }
    rv_server_pump(server);
}

void rv_server_pump(RvServer *server)
{
    while (server->in_proxy < RV_CALLS_MAX) {
        RvClient *client = g_queue_pop_head(&server->ready);

        if (!client) {
            break;
        }
        if (rv_client_submit(client)) {
            g_queue_push_tail(&server->ready, client);
        }
    }
}

/* ---- Deadlines ---- */

static gboolean sweep(void *opaque)
{
    RvServer *server = opaque;
    uint64_t now = rv_now();
    bool again = false;
    GList *next;

    for (GList *l = server->clients.head; l; l = next) {
        next = l->next;
        again |= rv_client_sweep(l->data, now);
    }
    if (!again) {
        g_clear_pointer(&server->sweep, g_source_unref);
    }
    return again;
}

void rv_server_start_sweep(RvServer *server)
{
    if (!server->sweep) {
        server->sweep = rv_timer(server, SWEEP_MS, sweep, server);
    }
}

void rv_server_event(RvServer *server, const char *json)
{
    for (GList *l = server->clients.head, *next; l; l = next) {
        next = l->next;
        rv_client_event(l->data, json);
    }
}

/* ---- Connections ---- */

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
        { .iov_base = (void *)text, .iov_len = strlen(text) },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = G_N_ELEMENTS(iov) };

    /* A new socket's buffer takes it; who is refused is not waited for. */
    sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

/* Whoever has been idle for longest gives way. */
static bool make_room(RvServer *server)
{
    uint64_t now = rv_now(), longest = IDLE_NS;
    RvClient *idle = NULL;

    for (GList *l = server->clients.head; l; l = l->next) {
        uint64_t ns = rv_client_idle(l->data, now);

        if (ns > longest) {
            longest = ns;
            idle = l->data;
        }
    }
    if (idle) {
        rv_client_drop(idle);
    }
    return idle;
}

static unsigned clients_of(const RvServer *server, uid_t uid)
{
    unsigned n = 0;

    for (GList *l = server->clients.head; l; l = l->next) {
        n += rv_client_uid(l->data) == uid;
    }
    return n;
}

static gboolean acceptable(gint fd, GIOCondition condition, gpointer opaque);

static gboolean listen_again(void *opaque)
{
    RvServer *server = opaque;

    g_clear_pointer(&server->again, g_source_unref);
    server->listener = rv_watch(server, server->fd, G_IO_IN, acceptable, server);
    return G_SOURCE_REMOVE;
}

static gboolean acceptable(gint fd, GIOCondition condition, gpointer opaque)
{
    RvServer *server = opaque;
    struct ucred peer = { .uid = -1 };
    socklen_t length = sizeof(peer);
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)condition;
    if (sock < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            g_clear_pointer(&server->listener, g_source_unref);
            server->again = rv_timer(server, SPARE_MS, listen_again, server);
            return G_SOURCE_REMOVE;
        }
        return G_SOURCE_CONTINUE;
    }
    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &length);
    if (server->clients.length >= RV_CLIENTS_MAX && !make_room(server)) {
        refuse(sock, "too many clients");
    } else if (clients_of(server, peer.uid) >= RV_CLIENTS_OF_UID && !make_room(server)) {
        refuse(sock, "too many clients of one user");
    } else {
        rv_client_new(server, sock, peer.uid);
    }
    return G_SOURCE_CONTINUE;
}

/* ---- Listening ---- */

static bool fail(GError **error, const char *what, const char *path)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s '%s': %s", what, path, g_strerror(errno));
    return false;
}

/* Only what refuses connections is stale: anything else may be somebody's. */
static bool remove_stale(const struct sockaddr_un *addr, GError **error)
{
    struct stat st;
    int fd, err;

    if (lstat(addr->sun_path, &st) < 0) {
        return errno == ENOENT || fail(error, "cannot look at", addr->sun_path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS, "'%s' is there and is no socket", addr->sun_path);
        return false;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return fail(error, "cannot make a socket for", addr->sun_path);
    }
    err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? errno : 0;
    close(fd);
    if (err != ECONNREFUSED) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE, "'%s' is in use by another process%s%s",
                    addr->sun_path, err ? ": " : "", err ? g_strerror(err) : "");
        return false;
    }
    return unlink(addr->sun_path) == 0 || fail(error, "cannot remove", addr->sun_path);
}

int rv_listen(const char *path, mode_t mode, int backlog, RvMade *made, GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct stat st;
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG, "'%s' is longer than %zu bytes", path,
                    sizeof(addr.sun_path) - 1);
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path));
    if (!remove_stale(&addr, error)) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The file starts from the mode of the descriptor: nobody else can connect before its mode is set. */
    if (fd < 0 || fchmod(fd, mode & 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        fail(error, "cannot listen on", path);
        close(fd);
        return -1;
    }
    if (lstat(path, &st) == 0) {
        made->dev = st.st_dev;
        made->ino = st.st_ino;
    }
    if (chmod(path, mode) < 0 || listen(fd, backlog) < 0) {
        fail(error, "cannot listen on", path);
        rv_unlink_made(path, made);
        close(fd);
        return -1;
    }
    return fd;
}

void rv_unlink_made(const char *path, const RvMade *made)
{
    struct stat st;

    if (lstat(path, &st) == 0 && st.st_dev == made->dev && st.st_ino == made->ino) {
        unlink(path);
    }
}

/* ---- Life ---- */

RvServer *rv_server_new(const char *path, mode_t mode, GMainContext *context, const RvServerOps *ops, void *opaque,
                        GError **error)
{
    RvMade made = { 0 };
    int fd = rv_listen(path, mode, RV_CLIENTS_MAX, &made, error);
    RvServer *server;

    if (fd < 0) {
        return NULL;
    }
    server = g_new0(RvServer, 1);
    server->refs = 1;
    server->path = g_strdup(path);
    server->made = made;
    server->fd = fd;
    server->context = context;
    server->ops = ops;
    server->opaque = opaque;
    server->listener = rv_watch(server, fd, G_IO_IN, acceptable, server);
    return server;
}

void rv_server_unref(RvServer *server)
{
    if (--server->refs == 0) {
        g_free(server->path);
        g_free(server);
    }
}

void rv_server_free(RvServer *server)
{
    RvClient *client;

    rv_unwatch(&server->listener);
    rv_unwatch(&server->again);
    while ((client = g_queue_peek_head(&server->clients))) {
        rv_client_drop(client);
    }
    rv_unwatch(&server->sweep);
    close(server->fd);
    rv_unlink_made(server->path, &server->made);
    server->gone = true;
    rv_server_unref(server);
}
