/*
 * The rvmrpc command: what is done to a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include "../common/size.h"
#include "rvmrpc-cmd.h"

#define FREEZE_TIMEOUT_MS   10000
#define RECLAIM_TIMEOUT_MS  30000
/* Keys of SysRq that end the kernel, and with it the call. */
#define LAST_KEYS           "bco"

/* ---- clock ---- */

static char *date_text(gint64 ns)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(ns / 1000000000);
    g_autofree char *text = time ? g_date_time_format(time, "%F %T") : NULL;

    return g_strdup_printf("%s.%03u UTC", text ?: "?",
                           (guint)(ns / 1000000 % 1000));
}

static int print_clock(const RvmrpcClock *clock)
{
    g_autofree char *guest = date_text(clock->realtime_ns);
    g_autofree char *host = date_text(clock->host_ns);
    JsonBuilder *b;

    if (options.json) {
        b = begin_json();
        json_u64(b, "realtime-ns", clock->realtime_ns);
        json_u64(b, "boottime-ns", clock->boottime_ns);
        if (clock->has_monotonic) {
            json_u64(b, "monotonic-ns", clock->monotonic_ns);
        }
        json_u64(b, "host-ns", clock->host_ns);
        json_i64(b, "skew-ns", clock->skew_ns);
        json_i64(b, "error-ns", clock->error_ns);
        return end_json(b);
    }
    printf("guest:  %s, up %.3f s\nhost:   %s\n"
           "skew:   %+.6f s, within %.6f s\n", guest,
           clock->boottime_ns / 1e9, host, clock->skew_ns / 1e9,
           clock->error_ns / 1e9);
    return EXIT_OK;
}

int cmd_clock(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    guint timeout = timeout_or(TIMEOUT_MS);
    guint64 before, after;
    RvmrpcClock clock;
    GError *error = NULL;
    JsonBuilder *b;

    (void)argc;
    if (!conn) {
        return code;
    }
    if (!rvmrpc_get_clock(conn, &clock, timeout, options.cancellable,
                          &error)) {
        return fail(error);
    }
    if (!options.set) {
        return print_clock(&clock);
    }
    if (!rvmrpc_set_clock(conn, &clock, timeout, &before, &after,
                          options.cancellable, &error)) {
        return fail(error);
    }
    if (options.json) {
        b = begin_json();
        json_u64(b, "before-ns", before);
        json_u64(b, "after-ns", after);
        json_i64(b, "error-ns", clock.error_ns);
        return end_json(b);
    }
    printf("stepped by %+.6f s, right within %.6f s\n",
           ((double)after - before) / 1e9, clock.error_ns / 1e9);
    return EXIT_OK;
}

/* ---- reclaim ---- */

/* What the guest says that it can spare without swapping: not free, but soon. */
static gboolean spare_bytes(RvmrpcConn *conn, guint64 *bytes, int *code)
{
    g_autoptr(RvmrpcMeminfo) mem = NULL;
    guint64 available, free;
    GError *error = NULL;

    mem = rvmrpc_get_meminfo(conn, FALSE, timeout_or(TIMEOUT_MS),
                             options.cancellable, &error);
    if (!mem) {
        *code = fail(error);
        return FALSE;
    }
    if (!rvmrpc_meminfo_has(mem, RVMRPC_MEM_AVAILABLE) ||
        !rvmrpc_meminfo_has(mem, RVMRPC_MEM_FREE)) {
        *code = usage_error("the guest does not tell what it can spare: say "
                            "how much, by --bytes");
        return FALSE;
    }
    available = mem->value[RVMRPC_MEM_AVAILABLE];
    free = mem->value[RVMRPC_MEM_FREE];
    *bytes = available > free ? available - free : 0;
    return TRUE;
}

static const char *shrink_end_name(guint32 end)
{
    return end == RVMRPC_SHRINK_DONE ? "done" :
           end == RVMRPC_SHRINK_EXHAUSTED ? "exhausted" :
           end == RVMRPC_SHRINK_LATE ? "late" : "unknown";
}

static int print_shrunk(guint64 wanted, const RvmrpcShrunk *shrunk)
{
    g_autofree char *freed = size_words(shrunk->freed);
    g_autofree char *taken = size_words(shrunk->reclaimed);
    g_autofree char *of = size_words(wanted);
    JsonBuilder *b;

    if (options.json) {
        b = begin_json();
        json_u64(b, "wanted", wanted);
        json_u64(b, "freed", shrunk->freed);
        json_u64(b, "reclaimed", shrunk->reclaimed);
        json_string(b, "end", shrink_end_name(shrunk->end));
        return end_json(b);
    }
    printf("freed %s; the kernel took %s of %s that were wanted%s\n", freed,
           taken, of, shrunk->end == RVMRPC_SHRINK_EXHAUSTED ?
           ": it found no more" : shrunk->end == RVMRPC_SHRINK_LATE ?
           ": the time was over" : "");
    return EXIT_OK;
}

int cmd_reclaim(int argc, char **argv)
{
    guint64 bytes = 0;
    RvmrpcShrunk shrunk = { 0, 0, RVMRPC_SHRINK_EXHAUSTED };
    g_autoptr(RvmrpcConn) conn = NULL;
    GError *error = NULL;
    int code;

    (void)argc;
    if (options.bytes && (!size_parse(options.bytes, &bytes) || !bytes)) {
        return usage_error("--bytes must be a number above 0, as 200M, not "
                           "'%s'", options.bytes);
    }
    conn = open_vm(argv[0], &code);
    if (!conn || (!bytes && !spare_bytes(conn, &bytes, &code))) {
        return code;
    }
    if (bytes && !rvmrpc_shrink(conn, bytes, timeout_or(RECLAIM_TIMEOUT_MS),
                                &shrunk, options.cancellable, &error)) {
        return fail(error);
    }
    return print_shrunk(bytes, &shrunk);
}

/* ---- freeze, thaw ---- */

static const char *freeze_state_name(guint32 state)
{
    static const char *const names[] = {
        [RVMRPC_FREEZE_THAWED] = "thawed",
        [RVMRPC_FREEZE_FREEZING] = "freezing",
        [RVMRPC_FREEZE_FROZEN] = "frozen",
        [RVMRPC_FREEZE_EXPIRED] = "expired",
    };

    return state < G_N_ELEMENTS(names) ? names[state] : "unknown";
}

static void print_frozen(const RvmrpcFrozen *f)
{
    JsonBuilder *b;

    if (options.json) {
        b = begin_json();
        json_string(b, "state", freeze_state_name(f->state));
        json_u64(b, "count", f->count);
        json_u64(b, "skipped", f->skipped);
        json_u64(b, "lost", f->lost);
        json_u64(b, "left-ms", f->left_ms);
        end_json(b);
        return;
    }
    printf("%s: %u file systems, %u skipped, %u lost",
           freeze_state_name(f->state), f->count, f->skipped, f->lost);
    if (f->state == RVMRPC_FREEZE_FROZEN || f->state == RVMRPC_FREEZE_FREEZING) {
        printf("; the guest thaws by itself in %.1f s", f->left_ms / 1e3);
    }
    printf("\n");
}

int cmd_freeze(int argc, char **argv)
{
    g_autoptr(RvmrpcConn) conn = NULL;
    RvmrpcFrozen frozen;
    GError *error = NULL;
    gboolean done;
    int code;

    (void)argc;
    if (options.thaw_s < 1 || options.thaw_s > RVMRPC_FREEZE_MS_MAX / 1000) {
        return usage_error("--for must be from 1 to %d",
                           RVMRPC_FREEZE_MS_MAX / 1000);
    }
    conn = open_vm(argv[0], &code);
    if (!conn) {
        return code;
    }
    if (options.status) {
        done = rvmrpc_get_freeze(conn, timeout_or(TIMEOUT_MS), &frozen,
                                 options.cancellable, &error);
    } else {
        done = rvmrpc_freeze(conn, options.thaw_s * 1000,
                             timeout_or(FREEZE_TIMEOUT_MS), &frozen,
                             options.cancellable, &error);
    }
    if (!done) {
        code = fail(error);
        if (!options.status && (code == EXIT_NO_ANSWER ||
                                code == EXIT_INTERRUPTED)) {
            fprintf(stderr, "rvmrpc: it may be freezing all the same: "
                    "'rvmrpc thaw' ends that\n");
        }
        return code;
    }
    print_frozen(&frozen);
    return options.status || frozen.state == RVMRPC_FREEZE_FROZEN ? EXIT_OK :
           EXIT_OTHER;
}

int cmd_thaw(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    RvmrpcFrozen frozen;
    GError *error = NULL;

    (void)argc;
    if (!conn) {
        return code;
    }
    if (!rvmrpc_thaw(conn, timeout_or(FREEZE_TIMEOUT_MS), &frozen,
                     options.cancellable, &error)) {
        return fail(error);
    }
    print_frozen(&frozen);
    if (frozen.state == RVMRPC_FREEZE_THAWED && frozen.count && !frozen.lost) {
        return EXIT_OK;
    }
    fputs("rvmrpc: a copy that was made meanwhile is not to be trusted: not "
          "all was frozen until now\n", stderr);
    return EXIT_OTHER;
}

/* ---- sysrq, poweroff, reboot ---- */

static int sysrq_failed(char key, GError *error)
{
    const gboolean last = strchr(LAST_KEYS, key) != NULL;
    int code;

    if (last && error->domain == RVMRPC_ERROR &&
        (error->code == RVMRPC_ERROR_RESET ||
         error->code == RVMRPC_ERROR_NOT_CONNECTED)) {
        g_error_free(error);
        return options.json ? end_json(begin_json()) : EXIT_OK;
    }
    code = fail(error);
    if (last && code == EXIT_NO_ANSWER) {
        fprintf(stderr, "rvmrpc: a kernel that '%c' ends does not answer: it "
                "may have\n", key);
    }
    return code;
}

int cmd_sysrq(int argc, char **argv)
{
    const char *key = argv[1];
    g_autoptr(RvmrpcConn) conn = NULL;
    GError *error = NULL;
    guint32 enabled;
    JsonBuilder *b;
    int code;

    (void)argc;
    if (!g_ascii_isgraph(key[0]) || key[1]) {
        return usage_error("sysrq: a key is one character, such as m, not "
                           "'%s'", key);
    }
    conn = open_vm(argv[0], &code);
    if (!conn) {
        return code;
    }
    if (!rvmrpc_sysrq(conn, key[0], timeout_or(TIMEOUT_MS), &enabled,
                      options.cancellable, &error)) {
        return sysrq_failed(key[0], error);
    }
    if (options.json) {
        b = begin_json();
        json_u64(b, "enabled", enabled);
        return end_json(b);
    }
    printf("asked for '%c'%s\n", key[0], enabled == 1 ? "" :
           "; the guest's kernel.sysrq does not enable every key");
    return EXIT_OK;
}

static int power(char **argv, const char *what,
                 gboolean (*ask)(RvmrpcConn *conn, gboolean force,
                                 guint timeout_ms, GCancellable *cancellable,
                                 GError **error))
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    GError *error = NULL;

    if (!conn) {
        return code;
    }
    if (!ask(conn, options.force, timeout_or(TIMEOUT_MS), options.cancellable,
             &error)) {
        return fail(error);
    }
    if (options.json) {
        return end_json(begin_json());
    }
    printf("the guest was asked to %s\n", what);
    return EXIT_OK;
}

int cmd_poweroff(int argc, char **argv)
{
    (void)argc;
    return power(argv, "shut down", rvmrpc_poweroff);
}

int cmd_reboot(int argc, char **argv)
{
    (void)argc;
    return power(argv, "boot anew", rvmrpc_reboot);
}
