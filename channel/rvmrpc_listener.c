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
    const char *name;           /* its last part */
    int folder;                 /* a path may lead elsewhere later, or nowhere */
    dev_t dev;                  /* what bind() made there */
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

/* It is bound as it shows to others, whose folder is another one. */
static char *absolute(const char *path)
{
    g_autofree char *cwd = g_get_current_dir();
    char *whole;

    if (g_path_is_absolute(path)) {
        return g_strdup(path);
    }
    whole = g_build_filename(cwd, path, NULL);
    if (strlen(whole) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        g_free(whole);
        whole = g_strdup(path);
    }
    return whole;
}

/* 0 or errno */
static int try_to_connect(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = 0;

    if (fd < 0 ||
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
        err = errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

/* Only a refused connection says that nobody serves it any more. */
static bool remove_stale(const RvmrpcListener *l,
                         const struct sockaddr_un *addr, GError **error)
{
    struct stat st;
    int err;

    if (fstatat(l->folder, l->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ||
               fail(error, "cannot look at '%s': %s", l->path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return refuse(error, "'%s' is there and is no socket", l->path);
    }
    err = try_to_connect(addr);
    if (err == 0 || err == EAGAIN) {
        return refuse(error, "'%s' is in use by another process", l->path);
    }
    errno = err;
    if (err != ECONNREFUSED && err != ENOENT) {
        return fail(error, "cannot tell whether '%s' is in use: %s", l->path);
    }
    return unlinkat(l->folder, l->name, 0) == 0 || errno == ENOENT ||
           fail(error, "cannot remove the old '%s': %s", l->path);
}

/* What bind() made is ours to remove from here on, whatever fails. */
static int open_bound(RvmrpcListener *l)
{
    int fd = openat(l->folder, l->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))) {
        close(fd);
        errno = ESTALE;
        return -1;
    }
    if (fd >= 0) {
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
    return fd;
}

/* By a descriptor of the file itself: another may have its name by now. */
static bool open_to_others(int fd, uint32_t mode, gid_t gid)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    bool ok;
    int err;

    ok = gid == (gid_t)-1 ||
         fchownat(fd, "", (uid_t)-1, gid, AT_EMPTY_PATH) == 0;
    ok = ok && chmod(link, mode) == 0;
    err = errno;
    close(fd);
    errno = err;
    return ok;
}

static bool find_folder(RvmrpcListener *l, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(l->path);
    const char *slash = strrchr(l->path, '/');

    l->name = slash ? slash + 1 : l->path;
    l->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return l->folder >= 0 ||
           fail(error, "cannot listen on '%s': %s", l->path);
}

/* The file begins with the mode of the descriptor: nobody else's. */
static bool bind_path(RvmrpcListener *l, uint32_t mode, gid_t gid,
                      GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int file = -1;

    if (strlen(l->path) >= sizeof(addr.sun_path)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NAMETOOLONG,
                    "'%s' is longer than %zu bytes", l->path,
                    sizeof(addr.sun_path) - 1);
        return false;
    }
    g_strlcpy(addr.sun_path, l->path, sizeof(addr.sun_path));
    if (!find_folder(l, error) || !remove_stale(l, &addr, error)) {
        return false;
    }
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || fchmod(l->fd, mode & 0600) < 0 ||
        bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        (file = open_bound(l)) < 0 || !open_to_others(file, mode, gid) ||
        listen(l->fd, BACKLOG) < 0) {
        return fail(error, "cannot listen on '%s': %s", l->path);
    }
    return true;
}

static void remove_path(const RvmrpcListener *l)
{
    struct stat st;

    if (l->ino &&
        fstatat(l->folder, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == l->dev && st.st_ino == l->ino) {
        unlinkat(l->folder, l->name, 0);
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

    l->fd = l->folder = -1;
    l->path = absolute(path);
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
    l->folder = -1;
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
    if (l->folder >= 0) {
        close(l->folder);
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
