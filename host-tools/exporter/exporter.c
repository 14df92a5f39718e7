/*
 * rvmrpc-exporter: facts of the guests' kernels, for Prometheus
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A scrape asks all VMs at the same time and answers within its deadline, with
 * what there is by then.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <glib-unix.h>
#include <microhttpd.h>
#include "collectors.h"
#include "connections.h"
#include "metrics.h"
#include "rvmrpc_listener.h"
#include "../common/stdio.h"

/* For a client to send its request and to read the answer, in all. */
#define CLIENT_MS       10000
#define SWEEP_S         1
#define BACKLOG         128
/* Of what Prometheus gives us, for all but asking the VMs. */
#define MARGIN_MS       200

static char *listen_on = NULL;
static int timeout_ms = 1000;
static GPtrArray *only;         /* names of VMs, or NULL */
static FactsKind kinds;

/* ---- Pages ---- */

static enum MHD_Result respond(struct MHD_Connection *connection, guint status,
                               const char *type, char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result ret;

    g_free(text);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    /* One that stays would have to be told from one that stalls. */
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    ret = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return ret;
}

/* Prometheus says how long it waits. */
static guint deadline_ms(struct MHD_Connection *connection)
{
    const char *header = MHD_lookup_connection_value(
        connection, MHD_HEADER_KIND, "X-Prometheus-Scrape-Timeout-Seconds");
    double ms = header ? g_ascii_strtod(header, NULL) * 1000 - MARGIN_MS : 0;

    return ms >= 1 ? MIN(ms, timeout_ms) : timeout_ms;
}

static gboolean is_wanted(const RvmrpcVm *vm)
{
    for (guint i = 0; i < only->len; i++) {
        if (rvmrpc_vm_is(vm, only->pdata[i])) {
            return TRUE;
        }
    }
    return !only->len;
}

static enum MHD_Result serve_metrics(struct MHD_Connection *connection)
{
    gint64 start = g_get_monotonic_time();
    g_autoptr(GPtrArray) vms = rvmrpc_list_vms();
    g_autoptr(GPtrArray) all = NULL;
    gint64 total = deadline_ms(connection), spent;

    for (guint i = vms->len; i > 0; i--) {
        if (!is_wanted(vms->pdata[i - 1])) {
            g_ptr_array_remove_index(vms, i - 1);
        }
    }
    /* Looking for them may have cost time too. */
    spent = (g_get_monotonic_time() - start) / 1000;
    all = facts_gather_all(vms, kinds, MAX(total - spent, total / 4), NULL);
    return respond(connection, MHD_HTTP_OK,
                   "text/plain; version=0.0.4; charset=utf-8",
                   metrics_text(all, kinds,
                                (g_get_monotonic_time() - start) / 1e6));
}

static enum MHD_Result handle(void *data, struct MHD_Connection *connection,
                              const char *url, const char *method,
                              const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static int seen;

    (void)data;
    (void)version;
    (void)upload;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        *upload_size = 0;
        return respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain",
                       g_strdup("GET only\n"));
    }
    if (!*state) {
        *state = &seen;         /* the headers; it is called once more */
        return MHD_YES;
    }
    if (strcmp(url, "/metrics") == 0) {
        enum MHD_Result ret;

        connections_answering(connection, TRUE);
        ret = serve_metrics(connection);
        connections_answering(connection, FALSE);
        return ret;
    }
    if (strcmp(url, "/") == 0) {
        return respond(connection, MHD_HTTP_OK, "text/html",
                       g_strdup("<!DOCTYPE html><title>rvmrpc-exporter"
                                "</title><a href=\"/metrics\">metrics</a>\n"));
    }
    return respond(connection, MHD_HTTP_NOT_FOUND, "text/plain",
                   g_strdup("not here; see /metrics\n"));
}

/* ---- Start ---- */

/* "ADDRESS:PORT", an IPv6 address in brackets. */
static GSocketAddress *parse_address(const char *text, GError **error)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *host = colon ? g_strndup(text, colon - text) : NULL;
    GSocketAddress *address = NULL;
    guint64 port;

    if (colon && g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port,
                                            NULL)) {
        gsize length = strlen(host);

        if (length > 1 && host[0] == '[' && host[length - 1] == ']') {
            host[length - 1] = '\0';
            memmove(host, host + 1, length - 1);
        }
        address = g_inet_socket_address_new_from_string(host, port);
    }
    if (!address) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "'%s' is not ADDRESS:PORT", text);
    }
    return address;
}

/* Of [::] IPv4's is part, as programs usually have it. */
static int listen_at(GSocketAddress *address, GError **error)
{
    GInetAddress *inet =
        g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address));
    GSocketFamily family = g_inet_address_get_family(inet);
    g_autoptr(GSocket) sock = NULL;

    sock = g_socket_new(family, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP,
                        error);
    if (sock) {
        g_socket_set_listen_backlog(sock, BACKLOG);
    }
    if (!sock ||
        (family == G_SOCKET_FAMILY_IPV6 &&
         !g_socket_set_option(sock, IPPROTO_IPV6, IPV6_V6ONLY,
                              !g_inet_address_get_is_any(inet), error)) ||
        !g_socket_bind(sock, address, TRUE, error) ||
        !g_socket_listen(sock, error)) {
        return -1;
    }
    return fcntl(g_socket_get_fd(sock), F_DUPFD_CLOEXEC, 3);
}

static void accepted(int fd, void *daemon)
{
    struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
    socklen_t size = sizeof(peer);

    connections_make_room();
    getpeername(fd, (struct sockaddr *)&peer, &size);
    /* It closes what it does not take. */
    MHD_add_connection(daemon, fd, (struct sockaddr *)&peer, size);
}

static gboolean sweep(void *data)
{
    (void)data;
    connections_sweep(timeout_ms + CLIENT_MS);
    return G_SOURCE_CONTINUE;
}

static gboolean quit(void *loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

/* MHD would spin at the limit of descriptors: it gets connections from us. */
static gboolean serve(int fd)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    RvmrpcListener *listener;
    struct MHD_Daemon *daemon;

    daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
        MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC, 0, NULL, NULL, handle, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, connections_notify, NULL,
        MHD_OPTION_CONNECTION_TIMEOUT, CLIENT_MS / 1000u, MHD_OPTION_END);
    if (!daemon) {
        close(fd);
        return FALSE;
    }
    listener = rvmrpc_listener_new_for_fd(fd, NULL, accepted, daemon);
    g_unix_signal_add(SIGINT, quit, loop);
    g_unix_signal_add(SIGTERM, quit, loop);
    g_timeout_add_seconds(SWEEP_S, sweep, NULL);
    g_main_loop_run(loop);
    rvmrpc_listener_free(listener);
    MHD_stop_daemon(daemon);
    return TRUE;
}

static gboolean parse_options(int *argc, char ***argv, GError **error)
{
    g_auto(GStrv) names = NULL, with = NULL, without = NULL;
    const GOptionEntry entries[] = {
        { "listen", 'l', 0, G_OPTION_ARG_STRING, &listen_on,
          "Where to listen (default: 127.0.0.1:9788)", "ADDRESS:PORT" },
        { "timeout", 't', 0, G_OPTION_ARG_INT, &timeout_ms,
          "Milliseconds to wait for the VMs (default: 1000)", "MS" },
        { "vm", 0, 0, G_OPTION_ARG_STRING_ARRAY, &names,
          "Only this VM, by name, UUID, process id or socket; may be repeated",
          "VM" },
        { "collector", 0, 0, G_OPTION_ARG_STRING_ARRAY, &with,
          "Ask only for this; may be repeated", "NAME" },
        { "no-collector", 0, 0, G_OPTION_ARG_STRING_ARRAY, &without,
          "Do not ask for this; may be repeated", "NAME" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_summary(context, "Serves facts of the guests' "
                                 "kernels to Prometheus, at /metrics.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error)) {
        return FALSE;
    }
    if (*argc > 1 || timeout_ms < 1 || timeout_ms > 60000) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s",
                    *argc > 1 ? "no arguments are taken" :
                    "--timeout must be from 1 to 60000");
        return FALSE;
    }
    kinds = collectors_choose(with, without, error);
    if (!kinds) {
        return FALSE;
    }
    only = g_ptr_array_new_with_free_func(g_free);
    for (char **name = names; name && *name; name++) {
        g_ptr_array_add(only, g_strdup(*name));
    }
    return TRUE;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketAddress) address = NULL;
    int fd;

    stdio_begin("rvmrpc-exporter");
    setlocale(LC_ALL, "");
    if (parse_options(&argc, &argv, &error)) {
        address = parse_address(listen_on ?: "127.0.0.1:9788", &error);
    }
    if (!address) {
        fprintf(stderr, "rvmrpc-exporter: %s\n", error->message);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    fd = listen_at(address, &error);
    if (fd < 0 || !serve(fd)) {
        fprintf(stderr, "rvmrpc-exporter: cannot listen on %s: %s\n",
                listen_on ?: "127.0.0.1:9788",
                error ? error->message : g_strerror(errno));
        return 1;
    }
    g_ptr_array_unref(only);
    g_free(listen_on);
    return 0;
}
