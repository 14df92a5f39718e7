/*
 * Reverse VMRPC: a UNIX socket that is listened on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "rvmrpc_fdsource.h"
#include "rvmrpc_listener.h"

#define BACKLOG     64
/* Accepted at a time, before others get their turn. */
#define BATCH       16
/* Without a descriptor or memory for the next: wait so long, in us. */
#define PAUSE_US    100000

struct RvmrpcListener {
    int fd;
    GSource *source;
    RvmrpcAccepted *accepted;
    void *opaque;
    char *path;                 /* NULL: somebody else's */
    dev_t dev;                  /* what bind() made */
    ino_t ino;
};

static bool fail(GError **error, const char *text, const char *path)
{
    int err = errno;

    g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(err), text,
                path, g_strerror(err));
    return false;
}

static bool refuse(GError **error, const char *text, const char *path)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST, text, path);
    return false;
}

/* ---- The path ---- */

/* Only a refused connection says that nobody serves it any more. */
static bool remove_stale(const struct sockaddr_un *addr, GError **error)
{
    const char *path = addr->sun_path;
    struct stat st;
    int fd, err;

    if (lstat(path, &st) < 0) {
        return errno == ENOENT || fail(error, "cannot look at '%s': %s", path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return refuse(error, "'%s' is there and is no socket", path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return fail(error, "cannot make a socket for '%s': %s", path);
    }
    err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ?
        errno : 0;
    close(fd);
    if (err == 0 || err == EAGAIN) {
        return refuse(error, "'%s' is in use by another process", path);
    }
    errno = err;
    if (err != ECONNREFUSED && err != ENOENT) {
        return fail(error, "cannot tell whether '%s' is in use: %s", path);
    }
    return unlink(path) == 0 || errno == ENOENT ||
           fail(error, "cannot remove the old '%s': %s", path);
}

/* By a descriptor of the file itself: the path may lead elsewhere by now. */
static bool open_to_others(RvmrpcListener *l, uint32_t mode, gid_t gid)
{
    int fd = open(l->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    struct stat st;
    bool ok;
    int err;

    if (fd < 0) {
        return false;
    }
    ok = fstat(fd, &st) == 0;
    if (ok) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
    ok = ok && (gid == (gid_t)-1 ||
                fchownat(fd, "", (uid_t)-1, gid, AT_EMPTY_PATH) == 0);
    ok = ok && chmod(link, mode) == 0;
    err = errno;
    close(fd);
    errno = err;
    return ok;
}

/* The file begins with the mode of the descriptor: nobody else's. */
static bool bind_path(RvmrpcListener *l, uint32_t mode, gid_t gid,
                      GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    if (strlen(l->path) >= sizeof(addr.sun_path)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NAMETOOLONG,
                    "'%s' is longer than %zu bytes", l->path,
                    sizeof(addr.sun_path) - 1);
        return false;
    }
    g_strlcpy(addr.sun_path, l->path, sizeof(addr.sun_path));
    if (!remove_stale(&addr, error)) {
        return false;
    }
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || fchmod(l->fd, mode & 0600) < 0 ||
        bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(l->fd, BACKLOG) < 0 || !open_to_others(l, mode, gid)) {
        return fail(error, "cannot listen on '%s': %s", l->path);
    }
    return true;
}

static void remove_path(const RvmrpcListener *l)
{
    struct stat st;

    if (l->path && l->ino && lstat(l->path, &st) == 0 &&
        st.st_dev == l->dev && st.st_ino == l->ino) {
        unlink(l->path);
    }
}

/* ---- Connections ---- */

static void ready(GIOCondition condition, void *opaque)
{
    RvmrpcListener *l = opaque;
    int fd = -1;

    (void)condition;
    rvmrpc_fd_source_set_events(l->source, G_IO_IN);
    for (int i = 0; i < BATCH; i++) {
        fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->accepted(fd, l->opaque);
        } else if (errno != ECONNABORTED && errno != EINTR) {
            break;
        }
    }
    if (fd < 0 && errno != EAGAIN) {
        /* It stays readable: without a pause the thread would spin. */
        rvmrpc_fd_source_set_events(l->source, 0);
        g_source_set_ready_time(l->source,
                                g_get_monotonic_time() + PAUSE_US);
    }
}

static void start(RvmrpcListener *l, GMainContext *context,
                  RvmrpcAccepted *accepted, void *opaque)
{
    l->accepted = accepted;
    l->opaque = opaque;
    l->source = rvmrpc_fd_source_new(l->fd, G_IO_IN, context, ready, l);
}

RvmrpcListener *rvmrpc_listener_new(const char *path, uint32_t mode, gid_t gid,
                                    GMainContext *context,
                                    RvmrpcAccepted *accepted, void *opaque,
                                    GError **error)
{
    RvmrpcListener *l = g_new0(RvmrpcListener, 1);

    l->fd = -1;
    l->path = g_strdup(path);
    if (!bind_path(l, mode, gid, error)) {
        rvmrpc_listener_free(l);
        return NULL;
    }
    start(l, context, accepted, opaque);
    return l;
}

RvmrpcListener *rvmrpc_listener_new_for_fd(int fd, GMainContext *context,
                                           RvmrpcAccepted *accepted,
                                           void *opaque)
{
    RvmrpcListener *l = g_new0(RvmrpcListener, 1);

    l->fd = fd;
    /* accept() shall never wait. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    start(l, context, accepted, opaque);
    return l;
}

void rvmrpc_listener_free(RvmrpcListener *l)
{
    remove_path(l);
    g_clear_pointer(&l->source, rvmrpc_fd_source_free);
    if (l->fd >= 0) {
        close(l->fd);
    }
    g_free(l->path);
    g_free(l);
}

bool rvmrpc_peer(int fd, uid_t *uid, pid_t *pid)
{
    struct ucred cred;
    socklen_t size = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0) {
        return false;
    }
    *uid = cred.uid;
    *pid = cred.pid;
    return true;
}
