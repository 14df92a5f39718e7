/*
 * Reverse VMRPC: the data path beside QMP, its server
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A thread of its own serves a UNIX socket: monitoring neither queues behind
 * the one QMP dispatcher nor runs in the main loop.  Clients take turns, so
 * that the others of one that floods wait little longer than without it.
 */
#include "qemu/osdep.h"
#include <sys/un.h>
#include "io/channel-socket.h"
#include "qapi/error.h"
#include "qemu/lockable.h"
#include "qemu/sockets.h"
#include "system/system.h"
#include "hw/rvmrpc/core/rvmrpc_socket.h"
#include "rvmrpc-internal.h"
#include "rvmrpc-socket.h"
#include "trace.h"

#define SWEEP_MS 20

RvmrpcSocket rvmrpc_socket;

/* ---- The thread ---- */

void rvmrpc_sock_post(GSourceFunc func, void *opaque, GDestroyNotify free)
{
    RvmrpcSocket *s = &rvmrpc_socket;
    GSource *source;

    qemu_mutex_lock(&s->lock);
    if (!s->context) {
        qemu_mutex_unlock(&s->lock);
        free(opaque);
        return;
    }
    source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, func, opaque, free);
    g_source_attach(source, s->context);
    g_source_unref(source);
    qemu_mutex_unlock(&s->lock);
}

GSource *rvmrpc_sock_watch(QIOChannel *ioc, GIOCondition condition,
                           QIOChannelFunc func, RvmrpcSockClient *client)
{
    return qio_channel_add_watch_source(ioc, condition, func, client, NULL,
                                        rvmrpc_socket.context);
}

/* ---- Turns ---- */

void rvmrpc_sock_ready(RvmrpcSockClient *client)
{
    if (!g_queue_find(&rvmrpc_socket.ready, client)) {
        g_queue_push_tail(&rvmrpc_socket.ready, client);
    }
    rvmrpc_sock_pump();
}

void rvmrpc_sock_pump(void)
{
    RvmrpcSocket *s = &rvmrpc_socket;

    while (s->in_proxy < RVMRPC_SOCK_WINDOW) {
        RvmrpcSockClient *client = g_queue_pop_head(&s->ready);

        if (!client) {
            break;
        }
        if (rvmrpc_sock_client_submit(client)) {
            g_queue_push_tail(&s->ready, client);
        }
    }
}

/* ---- Deadlines ---- */

static gboolean sweep(void *opaque)
{
    RvmrpcSocket *s = &rvmrpc_socket;
    int64_t now = rvmrpc_now();
    bool again = false;
    GList *next;

    for (GList *l = s->clients.head; l; l = next) {
        next = l->next;
        again |= rvmrpc_sock_client_sweep(l->data, now);
    }
    if (!again) {
        g_clear_pointer(&s->sweep, g_source_unref);
    }
    return again;
}

void rvmrpc_sock_start_sweep(void)
{
    RvmrpcSocket *s = &rvmrpc_socket;

    if (!s->sweep) {
        s->sweep = g_timeout_source_new(SWEEP_MS);
        g_source_set_callback(s->sweep, sweep, NULL, NULL);
        g_source_attach(s->sweep, s->context);
    }
}

/* ---- Events ---- */

static gboolean broadcast(void *json)
{
    for (GList *l = rvmrpc_socket.clients.head, *next; l; l = next) {
        next = l->next;
        rvmrpc_sock_client_event(l->data, json);
    }
    return G_SOURCE_REMOVE;
}

void rvmrpc_socket_event(const char *json)
{
    if (qatomic_read(&rvmrpc_socket.path)) {
        rvmrpc_sock_post(broadcast, g_strdup(json), g_free);
    }
}

/* ---- Listening ---- */

static void refuse(QIOChannel *ioc)
{
    static const char text[] = "too many clients";
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

    /* A new socket's buffer takes it; who is refused is not waited for. */
    qio_channel_writev(ioc, iov, ARRAY_SIZE(iov), NULL);
}

static void accepted(QIONetListener *listener, QIOChannelSocket *sioc,
                     void *opaque)
{
    QIOChannel *ioc = QIO_CHANNEL(sioc);

    if (qio_channel_set_blocking(ioc, false, NULL) < 0) {
        return;
    }
    if (rvmrpc_socket.clients.length >= RVMRPC_SOCK_CLIENTS_MAX) {
        trace_rvmrpc_sock_refuse();
        refuse(ioc);
        return;
    }
    rvmrpc_sock_client_new(ioc);
}

/* A socket that nobody serves is what an earlier QEMU left. */
static bool remove_stale(const struct sockaddr_un *addr, Error **errp)
{
    struct stat st;
    int fd, ret;

    if (lstat(addr->sun_path, &st) < 0) {
        return true;
    }
    if (!S_ISSOCK(st.st_mode)) {
        error_setg(errp, "'%s' is there and is no socket", addr->sun_path);
        return false;
    }
    fd = qemu_socket(PF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot make a socket");
        return false;
    }
    ret = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
    if (ret == 0 || errno == EAGAIN) {
        error_setg(errp, "'%s' is in use by another process", addr->sun_path);
        close(fd);
        return false;
    }
    close(fd);
    unlink(addr->sun_path);
    return true;
}

/*
 * The socket's inode starts from the mode of the file descriptor: nobody else
 * can connect before the mode is set.
 */
static int bind_path(const char *path, uint32_t mode, Error **errp)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        error_setg(errp, "'%s' is longer than %zu bytes", path,
                   sizeof(addr.sun_path) - 1);
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path));
    if (!remove_stale(&addr, errp)) {
        return -1;
    }
    fd = qemu_socket(PF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot make a socket");
        return -1;
    }
    if (fchmod(fd, mode & 0600) < 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        chmod(path, mode) < 0 || listen(fd, RVMRPC_SOCK_CLIENTS_MAX) < 0) {
        error_setg_errno(errp, errno, "cannot listen on '%s'", path);
        close(fd);
        return -1;
    }
    return fd;
}

/* QEMU ends without removing its devices. */
static void exiting(Notifier *n, void *data)
{
    unlink(rvmrpc_socket.path);
}

bool rvmrpc_socket_start(const char *path, uint32_t mode, Error **errp)
{
    static bool lock_is_there;      /* BQL */
    RvmrpcSocket *s = &rvmrpc_socket;
    QIOChannelSocket *sioc;
    int fd = bind_path(path, mode, errp);

    if (fd < 0) {
        return false;
    }
    sioc = qio_channel_socket_new_fd(fd, errp);
    if (!sioc) {
        close(fd);
        return false;
    }
    s->iothread = iothread_create("rvmrpc-socket", errp);
    if (!s->iothread) {
        object_unref(OBJECT(sioc));
        return false;
    }
    if (!lock_is_there) {
        /* Calls of an unplugged device may still end: it stays. */
        qemu_mutex_init(&s->lock);
        lock_is_there = true;
    }
    s->context = iothread_get_g_main_context(s->iothread);
    s->in_proxy = 0;
    qatomic_set(&s->path, g_strdup(path));
    s->exit_notifier.notify = exiting;
    qemu_add_exit_notifier(&s->exit_notifier);
    s->listener = qio_net_listener_new();
    qio_net_listener_set_name(s->listener, "rvmrpc");
    qio_net_listener_add(s->listener, sioc);
    qio_net_listener_set_client_func_full(s->listener, accepted, NULL, NULL,
                                          s->context);
    object_unref(OBJECT(sioc));
    return true;
}

/* The thread has ended when its data is taken apart. */
void rvmrpc_socket_stop(void)
{
    RvmrpcSocket *s = &rvmrpc_socket;
    RvmrpcSockClient *client;

    if (!s->path) {
        return;
    }
    iothread_stop(s->iothread);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        s->context = NULL;
    }
    qio_net_listener_disconnect(s->listener);
    g_clear_pointer(&s->listener, object_unref);
    while ((client = g_queue_peek_head(&s->clients))) {
        rvmrpc_sock_client_drop(client);
    }
    if (s->sweep) {
        g_source_destroy(s->sweep);
        g_clear_pointer(&s->sweep, g_source_unref);
    }
    iothread_destroy(s->iothread);
    s->iothread = NULL;
    qemu_remove_exit_notifier(&s->exit_notifier);
    unlink(s->path);
    g_clear_pointer(&s->path, g_free);
}
