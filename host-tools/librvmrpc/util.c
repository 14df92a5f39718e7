/*
 * librvmrpc: errors, waiting, text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib-unix.h>
#include "private.h"

G_DEFINE_QUARK(rvmrpc-error-quark, rvmrpc_error)

static const char *status_text(guint32 status)
{
    switch (status) {
    case RVMRPC_ERROR_MODULE_UNAVAILABLE:
        return "the guest has no such module ('rvmrpc info' lists them)";
    case RVMRPC_ERROR_VERSION_MISMATCH:
        return "the guest's module has another version, or the guest's modules "
               "change all the time; try again";
    case RVMRPC_ERROR_PROCEDURE_UNAVAILABLE:
        return "the module has no such procedure ('rvmrpc info' lists them)";
    case RVMRPC_ERROR_GARBAGE_ARGS:
        return "the procedure did not understand its argument";
    case RVMRPC_ERROR_TOO_BIG:
        return "argument or answer do not fit into a slot";
    case RVMRPC_ERROR_NOT_ALLOWED:
        return "the guest's allow-list does not have the procedure "
               "(parameter 'allow' of its driver)";
    case RVMRPC_ERROR_BUSY:
        return "too many calls are in flight; try again";
    case RVMRPC_ERROR_NOT_CONNECTED:
        return "no driver is registered; load rvmrpc in the guest";
    case RVMRPC_ERROR_STOPPED:
        return "the VM is paused; resume it";
    case RVMRPC_ERROR_TIMED_OUT:
        return "the guest did not answer in time";
    case RVMRPC_ERROR_CANCELLED:
        return "the call was cancelled";
    case RVMRPC_ERROR_RESET:
        return "the guest was reset, moved or registered again; try again";
    default:
        return "the call failed in the guest";
    }
}

GError *status_error(const RvmrpcVm *vm, guint32 status)
{
    if (status > RVMRPC_STATUS_MAX) {
        return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                           "%s: unknown status %u", vm->label, status);
    }
    return g_error_new(RVMRPC_ERROR, status, "%s: %s", vm->label,
                       status_text(status));
}

GError *malformed_error(const RvmrpcVm *vm)
{
    return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                       "%s: the guest's answer is malformed", vm->label);
}

/* ---- Waiting ---- */

guint until_left(const Until *until)
{
    gint64 us = until->end - g_get_monotonic_time();

    return us > 0 ? us / 1000 : 0;
}

static void set_late(GError **error)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                        "no answer in time");
}

gboolean until_over(const Until *until, GError **error)
{
    gboolean over = g_get_monotonic_time() >= until->end;

    if (over) {
        set_late(error);
    }
    return over;
}

gboolean until_ready(const Until *until, int fd, short events, GError **error)
{
    GPollFD cancel = { .fd = -1 };
    gboolean pollable = until->cancellable &&
        g_cancellable_make_pollfd(until->cancellable, &cancel);
    struct pollfd fds[2] = {
        { .fd = fd, .events = events },
        { .fd = pollable ? cancel.fd : -1, .events = POLLIN },
    };
    int ret;

    do {
        gint64 us = until->end - g_get_monotonic_time();

        ret = poll(fds, 2, us > 0 ? (us + 999) / 1000 : 0);
    } while (ret < 0 && errno == EINTR);
    if (pollable) {
        g_cancellable_release_fd(until->cancellable);
    }
    if (g_cancellable_set_error_if_cancelled(until->cancellable, error)) {
        return FALSE;
    }
    if (ret <= 0) {
        set_late(error);
        return FALSE;
    }
    return TRUE;
}

static gboolean set_errno(GError **error, int code)
{
    g_set_error_literal(error, G_IO_ERROR, g_io_error_from_errno(code),
                        g_strerror(code));
    return FALSE;
}

/* A listener whose backlog is full says EAGAIN, and poll() does not help. */
static gboolean connect_in_time(int fd, const struct sockaddr_un *addr,
                                const Until *until, GError **error)
{
    while (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
        Until tick = until_ms(MIN(until_left(until), 10), until->cancellable);
        g_autoptr(GError) err = NULL;

        if (errno != EAGAIN && errno != EINTR) {
            return set_errno(error, errno);
        }
        until_ready(&tick, -1, 0, &err);
        if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
            !until_left(until)) {
            g_propagate_error(error, g_steal_pointer(&err));
            return FALSE;
        }
    }
    return TRUE;
}

int unix_connect(const char *path, const Until *until, GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        set_errno(error, ENAMETOOLONG);
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        set_errno(error, errno);
        return -1;
    }
    if (!connect_in_time(fd, &addr, until, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

gboolean unix_peer(int fd, struct ucred *peer, GError **error)
{
    socklen_t size = sizeof(*peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0 ||
           set_errno(error, errno);
}

gboolean write_all(int fd, const void *data, gsize size, const Until *until,
                   GError **error)
{
    const char *at = data;

    while (size) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

        if (n > 0) {
            at += n;
            size -= n;
        } else if (n < 0 && errno == EAGAIN) {
            if (!until_ready(until, fd, POLLOUT, error)) {
                return FALSE;
            }
        } else if (n < 0 && errno != EINTR) {
            return set_errno(error, errno);
        }
    }
    return TRUE;
}

/* ---- Text ---- */

/* Characters that would change the order of what a terminal shows. */
static gboolean reorders(gunichar c)
{
    return c == 0x061c || (c >= 0x200e && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

char *rvmrpc_escape(const char *text, gboolean multiline)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (multiline && (c == '\n' || c == '\t')) {
            g_string_append_c(out, c);
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
            g_string_append_printf(out, "\\x%02x", c);
        } else if (reorders(c)) {
            g_string_append_printf(out, "\\u{%04x}", c);
        } else {
            g_string_append_unichar(out, c);
        }
    }
    return g_string_free(out, FALSE);
}
