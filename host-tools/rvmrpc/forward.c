/*
 * The rvmrpc command: forward and nc, services of a guest reached from here
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib-unix.h>
#include "rvmrpc-cmd.h"
#include "../common/stdio.h"

#define CHECK_MS        2000
#define BACKLOG         128
#define FULL_MS         100     /* until one is accepted again after files ran out */

typedef struct Forward {
    GMainLoop *loop;
    RvmrpcTunnel *tunnel;
    RvmrpcEndpoint to;
    int listener;
    int code;                   /* of nc, when it ended */
} Forward;

static gboolean on_cancelled(GCancellable *cancellable, gpointer data)
{
    (void)cancellable;
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

/* Until a signal, or somebody ends the loop. */
static void run_loop(Forward *f)
{
    GSource *source = g_cancellable_source_new(options.cancellable);

    g_source_set_callback(source, G_SOURCE_FUNC(on_cancelled), f->loop, NULL);
    g_source_attach(source, NULL);
    g_main_loop_run(f->loop);
    g_source_destroy(source);
    g_source_unref(source);
}

static gboolean begin(Forward *f, const char *vm, const char *to,
                      GError **error)
{
    if (!rvmrpc_parse_endpoint(to, &f->to, error)) {
        return FALSE;
    }
    f->tunnel = rvmrpc_tunnel_new(vm, NULL);
    f->loop = g_main_loop_new(NULL, FALSE);
    return rvmrpc_tunnel_check(f->tunnel, &f->to, timeout_or(CHECK_MS),
                               options.cancellable, error);
}

static void end(Forward *f)
{
    g_clear_pointer(&f->tunnel, rvmrpc_tunnel_free);
    g_clear_pointer(&f->loop, g_main_loop_unref);
}

/* ---- nc ---- */

static void on_nc_ended(const GError *error, gpointer data)
{
    Forward *f = data;

    f->code = error ? fail(g_error_copy(error)) : EXIT_OK;
    g_main_loop_quit(f->loop);
}

/* Whoever reads what we write shall see its end when the tunnel closes it. */
static int take_fd(int fd)
{
    int taken = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (nothing >= 0) {
        dup2(nothing, fd);
        close(nothing);
    }
    return taken;
}

int cmd_nc(int argc, char **argv)
{
    Forward f = { .code = EXIT_INTERRUPTED };
    GError *error = NULL;

    (void)argc;
    /* The guest shall be told when nobody reads. */
    signal(SIGPIPE, SIG_IGN);
    if (begin(&f, argv[0], argv[1], &error)) {
        rvmrpc_tunnel_join(f.tunnel, &f.to, take_fd(STDIN_FILENO),
                           take_fd(STDOUT_FILENO), on_nc_ended, &f);
        run_loop(&f);
    } else {
        f.code = fail(error);
    }
    end(&f);
    return f.code;
}

/* ---- forward ---- */

static void on_link_ended(const GError *error, gpointer data)
{
    (void)data;
    if (error) {
        fail(g_error_copy(error));
    }
}

static gboolean listen_again(gpointer data);

static gboolean on_client(gint listener, GIOCondition condition, gpointer data)
{
    Forward *f = data;
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)condition;
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        rvmrpc_tunnel_join(f->tunnel, &f->to, fd, fd, on_link_ended, f);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
               errno == ENOMEM) {
        g_timeout_add(FULL_MS, listen_again, f);
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static gboolean listen_again(gpointer data)
{
    Forward *f = data;

    g_unix_fd_add(f->listener, G_IO_IN, on_client, f);
    return G_SOURCE_REMOVE;
}

/* "[ADDRESS:]PORT"; 127.0.0.1 without an address, all for "*", any port for 0. */
static GSocketAddress *parse_listener(const char *text)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *address = colon ? g_strndup(text, colon - text) : NULL;
    guint64 port;
    gsize length;

    if (!g_ascii_string_to_unsigned(colon ? colon + 1 : text, 10, 0,
                                    G_MAXUINT16, &port, NULL)) {
        return NULL;
    }
    if (!address || strcmp(address, "localhost") == 0) {
        return g_inet_socket_address_new_from_string("127.0.0.1", port);
    }
    if (strcmp(address, "*") == 0) {
        return g_inet_socket_address_new_from_string("0.0.0.0", port);
    }
    length = strlen(address);
    if (address[0] == '[' && address[length - 1] == ']') {
        address[length - 1] = '\0';
        return g_inet_socket_address_new_from_string(address + 1, port);
    }
    return strchr(address, ':') ? NULL :
           g_inet_socket_address_new_from_string(address, port);
}

static GSocket *open_listener(GSocketAddress *address, GError **error)
{
    g_autoptr(GSocket) s = NULL;

    s = g_socket_new(g_socket_address_get_family(address), G_SOCKET_TYPE_STREAM,
                     G_SOCKET_PROTOCOL_TCP, error);
    if (!s || !g_socket_bind(s, address, TRUE, error)) {
        return NULL;
    }
    g_socket_set_listen_backlog(s, BACKLOG);
    g_socket_set_blocking(s, FALSE);
    return g_socket_listen(s, error) ? g_steal_pointer(&s) : NULL;
}

/* Where it listens, for who gave port 0. */
static void say_address(GSocket *listener, const Forward *f, const char *vm)
{
    g_autoptr(GSocketAddress) address = g_socket_get_local_address(listener,
                                                                   NULL);
    g_autofree char *own = g_socket_connectable_to_string(
        G_SOCKET_CONNECTABLE(address));
    g_autofree char *to = rvmrpc_endpoint_text(&f->to);
    g_autofree char *name = rvmrpc_escape(vm, FALSE);

    printf("%s is %s of %s\n", own, to, name);
    stdio_flush();
}

int cmd_forward(int argc, char **argv)
{
    g_autoptr(GSocketAddress) address = parse_listener(argv[0]);
    g_autoptr(GSocket) listener = NULL;
    Forward f = { .listener = -1 };
    GError *error = NULL;

    (void)argc;
    if (!address) {
        return usage_error("'%s' is no [ADDRESS:]PORT; the address is a number, "
                           "IPv6 in brackets", argv[0]);
    }
    if (begin(&f, argv[1], argv[2], &error)) {
        listener = open_listener(address, &error);
    }
    if (listener) {
        f.listener = g_socket_get_fd(listener);
        say_address(listener, &f, argv[1]);
        listen_again(&f);
        run_loop(&f);
    }
    end(&f);
    return error ? fail(error) : EXIT_OK;
}
