/*
 * The rvmrpc command: ping
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <math.h>
#include <stdio.h>
#include "rvmrpc-cmd.h"
#include "../common/stdio.h"

#define TIMEOUT_MS 1000

typedef struct Times {
    guint sent, received;
    double min, max, sum, sum2; /* us */
} Times;

static void add(Times *t, double us)
{
    t->min = t->received ? MIN(t->min, us) : us;
    t->max = MAX(t->max, us);
    t->sum += us;
    t->sum2 += us * us;
    t->received++;
}

/* TRUE: go on. */
static gboolean ping_once(RvmrpcConn *conn, Times *t, GError **error)
{
    gint64 start = g_get_monotonic_time();
    g_autoptr(GBytes) answer = NULL;
    guint64 host_ns;
    double us;

    t->sent++;
    answer = rvmrpc_call(conn, RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, NULL,
                         timeout_or(TIMEOUT_MS), &host_ns,
                         options.cancellable, error);
    if (!answer) {
        return FALSE;
    }
    us = g_get_monotonic_time() - start;
    add(t, us);
    if (!options.json) {
        printf("answer %u: time=%.0f us (%.0f us in the host)\n", t->sent, us,
               host_ns / 1e3);
    }
    return TRUE;
}

static void pause_for(double seconds)
{
    GPollFD fd;

    if (g_cancellable_make_pollfd(options.cancellable, &fd)) {
        g_poll(&fd, 1, seconds * 1000);
        g_cancellable_release_fd(options.cancellable);
    }
}

static void summary(const char *name, const Times *t)
{
    double mean = t->received ? t->sum / t->received : 0;
    double dev = t->received ?
                 sqrt(MAX(t->sum2 / t->received - mean * mean, 0)) : 0;
    JsonBuilder *b;

    if (options.json) {
        b = json_builder_new();
        json_builder_begin_object(b);
        json_string(b, "name", name);
        json_u64(b, "sent", t->sent);
        json_u64(b, "received", t->received);
        json_double(b, "min-us", t->min);
        json_double(b, "mean-us", mean);
        json_double(b, "max-us", t->max);
        json_double(b, "stddev-us", dev);
        json_builder_end_object(b);
        print_json(b, TRUE);
        return;
    }
    printf("--- %s ---\n%u calls, %u answered, %.0f%% loss\n", name, t->sent,
           t->received, t->sent ? 100.0 * (t->sent - t->received) / t->sent :
           0.0);
    if (t->received) {
        printf("min/mean/max/stddev = %.0f/%.0f/%.0f/%.0f us\n", t->min, mean,
               t->max, dev);
    }
}

int cmd_ping(int argc, char **argv)
{
    g_autoptr(RvmrpcVm) vm = NULL;
    g_autoptr(RvmrpcConn) conn = NULL;
    GError *error = NULL, *last = NULL;
    double interval = options.interval ?: 1;
    Times t = { 0 };

    (void)argc;
    vm = rvmrpc_find_vm(argv[0], options.cancellable, &error);
    if (vm) {
        conn = rvmrpc_connect(vm, timeout_or(TIMEOUT_MS), options.cancellable,
                              &error);
    }
    if (!conn) {
        return fail(error);
    }
    while (!g_cancellable_is_cancelled(options.cancellable)) {
        g_clear_error(&last);
        if (!ping_once(conn, &t, &last) &&
            g_error_matches(last, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
            g_clear_error(&last);
            t.sent--;
        } else if (last && !options.json) {
            g_autofree char *text = rvmrpc_escape(last->message, FALSE);

            fprintf(stderr, "answer %u: %s\n", t.sent, text);
        }
        if (!stdio_flush() ||
            (options.count && t.sent >= (guint)options.count)) {
            break;
        }
        pause_for(interval);
    }
    summary(rvmrpc_vm_get_name(vm), &t);
    /* A signal came before the first answer: nothing says that there is one. */
    if (!t.sent) {
        return EXIT_INTERRUPTED;
    }
    if (t.received || !last) {
        g_clear_error(&last);
        return t.received == t.sent ? EXIT_OK : EXIT_NO_ANSWER;
    }
    return fail(last);
}
