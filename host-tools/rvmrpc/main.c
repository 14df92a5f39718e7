/*
 * rvmrpc: facts of the guests' kernels, for a shell
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <glib-unix.h>
#include "rvmrpc-cmd.h"
#include "../common/stdio.h"

/* Of an option that has no such value. */
#define NOT_GIVEN G_MININT

Options options = {
    .thaw_s = 60, .timeout_ms = NOT_GIVEN, .interval = NOT_GIVEN,
};

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    int min_args, max_args;     /* -1: any number */
    const char *args, *help;
} commands[] = {
    { "list", cmd_list, 0, 0, "", "the VMs of this host" },
    { "info", cmd_info, 1, 1, "VM", "state of the channel, modules, counters" },
    { "meminfo", cmd_meminfo, 1, 1, "VM [--raw]", "memory" },
    { "loadavg", cmd_loadavg, 1, 1, "VM", "load averages" },
    { "cpuinfo", cmd_cpuinfo, 1, 1, "VM", "CPUs" },
    { "cpustat", cmd_cpustat, 1, 1, "VM", "where CPU time went" },
    { "osinfo", cmd_osinfo, 1, 1, "VM", "kernel, host name, uptime" },
    { "drop-caches", cmd_drop_caches, 2, 2,
      "VM pagecache|slab|all [--sync]", "have the kernel drop its caches" },
    { "df", cmd_df, 1, 1, "VM", "file systems, and how full they are" },
    { "ip", cmd_ip, 1, 1, "VM", "network interfaces and addresses" },
    { "ps", cmd_ps, 1, 1, "VM [--by memory|cpu|blocked] [-n N]",
      "processes; blocked: threads that hang, with stacks" },
    { "psi", cmd_psi, 1, 1, "VM", "pressure: what tasks wait for" },
    { "dmesg", cmd_dmesg, 1, 1, "VM [-w] [-n N]", "the kernel's log" },
    { "ls", cmd_ls, 2, 2, "VM PATH", "files of a folder" },
    { "cat", cmd_cat, 2, 2, "VM PATH", "a file's bytes" },
    { "cp", cmd_cp, 2, 2, "VM:PATH LOCAL | LOCAL VM:PATH",
      "copy a file to this host, or to the guest" },
    { "mkdir", cmd_mkdir, 2, 2, "VM PATH", "make a folder there" },
    { "mv", cmd_mv, 3, 3, "VM PATH NEW", "rename a file or a folder" },
    { "rm", cmd_rm, 2, 2, "VM PATH", "remove a file or an empty folder" },
    { "mount", cmd_mount, 2, 2, "VM[:PATH] DIR [--rw]",
      "show its files below a folder of this host" },
    { "forward", cmd_forward, 3, 3, "[ADDR:]PORT VM HOST:PORT",
      "listen here for a service that the guest can reach" },
    { "nc", cmd_nc, 2, 2, "VM HOST:PORT",
      "standard input and output are a connection of the guest's" },
    { "vmcoreinfo", cmd_vmcoreinfo, 1, 1, "VM",
      "what the kernel tells those who read its memory's dump" },
    { "events", cmd_events, 1, 1, "VM [-n N]",
      "what the kernel tells by itself, as it happens" },
    { "doctor", cmd_doctor, 1, 1, "VM [--output FILE]",
      "a report of a guest that seems dead, and what is wrong" },
    { "clock", cmd_clock, 1, 1, "VM [--set]",
      "the clock, and how wrong it is; step it to ours" },
    { "reclaim", cmd_reclaim, 1, 1, "VM [--bytes N]",
      "have the kernel free memory that it can spare" },
    { "balance", cmd_balance, 0, -1,
      "[VM...] --target SIZE [--dry-run]",
      "keep this host's memory above that, by the guests' caches" },
    { "freeze", cmd_freeze, 1, 1, "VM [--for S] [--status]",
      "file systems stand still, for a copy" },
    { "thaw", cmd_thaw, 1, 1, "VM", "and go on" },
    { "sysrq", cmd_sysrq, 2, 2, "VM KEY", "a key of the kernel's magic SysRq" },
    { "poweroff", cmd_poweroff, 1, 1, "VM [--force]", "shut down" },
    { "reboot", cmd_reboot, 1, 1, "VM [--force]", "boot anew" },
    { "call", cmd_call, 3, 4, "VM MODULE PROCEDURE [DATA]",
      "call any procedure; DATA is text, hex:..., @FILE or - (stdin)" },
    { "top", cmd_top, 0, -1, "[VM...] [-n N]",
      "a live table; --json: a line per refresh" },
    { "watch", cmd_watch, 0, -1, "[VM...]",
      "a line per VM and interval, and events" },
    { "attach", cmd_attach, 1, 1, "VM [--dry-run] [--yes] [--device D]",
      "give a domain of libvirt the device" },
    { "detach", cmd_detach, 1, 1, "VM [--dry-run] [--yes]",
      "and take it away" },
    { "ping", cmd_ping, 1, 1, "VM [-c N]", "time of null calls" },
};

/* ---- Errors ---- */

static int exit_code(const GError *error)
{
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        return EXIT_INTERRUPTED;
    }
    if (error->domain != RVMRPC_ERROR) {
        return EXIT_OTHER;
    }
    switch (error->code) {
    case RVMRPC_ERROR_NO_VM:
        return EXIT_NO_VM;
    case RVMRPC_ERROR_NO_WAY:
    case RVMRPC_ERROR_UNSUPPORTED:
        return EXIT_UNREACHABLE;
    case RVMRPC_ERROR_PERMISSION:
        return EXIT_PERMISSION;
    case RVMRPC_ERROR_TIMED_OUT:
    case RVMRPC_ERROR_SILENT:
        return EXIT_NO_ANSWER;
    case RVMRPC_ERROR_BUSY:
    case RVMRPC_ERROR_NOT_CONNECTED:
    case RVMRPC_ERROR_STOPPED:
    case RVMRPC_ERROR_RESET:
    case RVMRPC_ERROR_CANCELLED:
        return EXIT_NOT_NOW;
    case RVMRPC_ERROR_SYSTEM_ERROR:
    case RVMRPC_ERROR_MALFORMED:
        return EXIT_MALFORMED;
    default:
        return EXIT_REFUSED;
    }
}

int fail(GError *error)
{
    g_autofree char *text = rvmrpc_escape(error->message, FALSE);
    int code = exit_code(error);

    if (code != EXIT_INTERRUPTED) {
        fprintf(stderr, "rvmrpc: %s\n", text);
    }
    g_error_free(error);
    return code;
}

GThread *try_thread(const char *name, GThreadFunc func, void *data,
                    GError **error)
{
    GThread *thread = g_thread_try_new(name, func, data, error);

    if (!thread && error) {
        g_autoptr(GError) bare = *error;

        *error = g_error_new(bare->domain, bare->code, "%s: raise ulimit -u or "
                             "the cgroup's pids.max", bare->message);
    }
    return thread;
}

int usage_error(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    fprintf(stderr, "rvmrpc: %s\nTry 'rvmrpc --help'.\n", text);
    return EXIT_USAGE;
}

guint timeout_or(guint default_ms)
{
    return options.timeout_ms ? (guint)options.timeout_ms : default_ms;
}

void leave_screen(void)
{
    void (*leave)(void) = g_atomic_pointer_get(&options.leave);

    if (leave && g_atomic_pointer_compare_and_exchange(&options.leave, leave,
                                                       NULL)) {
        leave();
    }
}

/* ---- Signals: whatever is waited for ends ---- */

static void *wait_for_signal(void *data)
{
    sigset_t *set = data;
    int sig;

    sigwait(set, &sig);
    g_cancellable_cancel(options.cancellable);
    /* The second one ends us whatever we do. */
    sigwait(set, &sig);
    leave_screen();
    _exit(EXIT_INTERRUPTED);
}

static void catch_signals(void)
{
    static sigset_t set;
    struct sigaction hangup;
    GThread *thread;

    options.cancellable = g_cancellable_new();
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    /* A terminal goes, or ssh ends its ProxyCommand; nohup(1) wants none of it. */
    sigaction(SIGHUP, NULL, &hangup);
    if (hangup.sa_handler != SIG_IGN) {
        sigaddset(&set, SIGHUP);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    thread = g_thread_try_new("signals", wait_for_signal, &set, NULL);
    if (thread) {
        g_thread_unref(thread);
    } else {
        /* This host lets nobody have more threads: then a signal ends us there and then. */
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    }
}

/* ---- Arguments ---- */

static char *summary(void)
{
    GString *s = g_string_new("Commands:\n");

    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *line = g_strdup_printf("%s %s", commands[i].name,
                                                commands[i].args);
        g_string_append_printf(s, "  %-36s %s\n", line, commands[i].help);
    }
    g_string_append(s, "\nA VM is named by its libvirt or QEMU name, UUID, "
                    "process id, or the path\nof its socket. Exit codes: "
                    "see rvmrpc(1).");
    return g_string_free(s, FALSE);
}

static gboolean print_version(const char *name, const char *value, void *data,
                              GError **error)
{
    (void)name;
    (void)value;
    (void)data;
    (void)error;
    puts("rvmrpc " RVMRPC_VERSION);
    exit(EXIT_OK);
}

static const GOptionEntry entries[] = {
    { "json", 'j', 0, G_OPTION_ARG_NONE, &options.json,
      "Print JSON", NULL },
    { "timeout", 't', 0, G_OPTION_ARG_INT, &options.timeout_ms,
      "Milliseconds to wait for a VM, at most 60000", "MS" },
    { "raw", 0, 0, G_OPTION_ARG_NONE, &options.raw,
      "meminfo: the guest's own text", NULL },
    { "sync", 0, 0, G_OPTION_ARG_NONE, &options.sync,
      "drop-caches: write dirty data first", NULL },
    { "count", 'c', 0, G_OPTION_ARG_INT, &options.count,
      "ping, watch, top, balance: end after N rounds; ps, dmesg, events: at "
      "most N", "N" },
    { "iterations", 'n', 0, G_OPTION_ARG_INT, &options.count,
      "The same as --count", "N" },
    { "interval", 'i', 0, G_OPTION_ARG_DOUBLE, &options.interval,
      "ping, watch, top, balance, dmesg -w: seconds between rounds", "S" },
    { "by", 0, 0, G_OPTION_ARG_STRING, &options.by,
      "ps: pid, memory, cpu or blocked", "WHAT" },
    { "follow", 'w', 0, G_OPTION_ARG_NONE, &options.follow,
      "dmesg: wait for more", NULL },
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &options.output,
      "doctor: write the report there", "FILE" },
    { "set", 0, 0, G_OPTION_ARG_NONE, &options.set,
      "clock: step it to the host's time", NULL },
    { "bytes", 0, 0, G_OPTION_ARG_STRING, &options.bytes,
      "reclaim: so much, as 200M", "N" },
    { "target", 0, 0, G_OPTION_ARG_STRING, &options.target,
      "balance: memory that this host shall have available", "SIZE" },
    { "floor", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options.floors,
      "balance: a guest keeps that much in use; may be repeated",
      "[VM=]SIZE" },
    { "config", 0, 0, G_OPTION_ARG_FILENAME, &options.config,
      "balance: read this file", "FILE" },
    { "dry-run", 0, 0, G_OPTION_ARG_NONE, &options.dry_run,
      "balance: ask nobody, and explain each decision; attach, detach: only "
      "show what would change", NULL },
    { "yes", 'y', 0, G_OPTION_ARG_NONE, &options.yes,
      "attach, detach: do not ask", NULL },
    { "device", 0, 0, G_OPTION_ARG_STRING, &options.device,
      "attach: ivshmem (stock QEMU and rvmrpcd) or rvmrpc (our QEMU's own); "
      "by default what the emulator has", "DEVICE" },
    { "once", 0, 0, G_OPTION_ARG_NONE, &options.once,
      "balance: one round", NULL },
    { "for", 0, 0, G_OPTION_ARG_INT, &options.thaw_s,
      "freeze: seconds until the guest thaws by itself", "S" },
    { "status", 0, 0, G_OPTION_ARG_NONE, &options.status,
      "freeze: only say whether it is frozen", NULL },
    { "force", 0, 0, G_OPTION_ARG_NONE, &options.force,
      "poweroff, reboot: by the kernel, if need be", NULL },
    { "rw", 0, 0, G_OPTION_ARG_NONE, &options.rw,
      "mount: for writing, too", NULL },
    { "version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK,
      print_version, "Print the version", NULL },
    { 0 },
};

static gboolean parse_options(int *argc, char ***argv, GError **error)
{
    g_autoptr(GOptionContext) context = NULL;
    g_autofree char *text = summary();

    context = g_option_context_new("COMMAND [ARGUMENTS]");
    g_option_context_set_summary(context, "Facts of the guests' kernels, by "
                                 "calls from the host.");
    g_option_context_set_description(context, text);
    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, argc, argv, error);
}

static int check_options(void)
{
    if (options.timeout_ms == NOT_GIVEN) {
        options.timeout_ms = 0;
    } else if (options.timeout_ms < 1 ||
               options.timeout_ms > RVMRPC_TIMEOUT_MS_MAX) {
        return usage_error("--timeout must be from 1 to %d",
                           RVMRPC_TIMEOUT_MS_MAX);
    }
    if (options.count < 0) {
        return usage_error("--count must not be negative");
    }
    if (options.interval == NOT_GIVEN) {
        options.interval = 0;
    } else if (!(options.interval >= 0.01 && options.interval <= 3600)) {
        return usage_error("--interval must be from 0.01 to 3600");
    }
    return EXIT_OK;
}

/* GOption leaves "--" where something after it looks like an option. */
static void drop_dashes(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            memmove(&argv[i], &argv[i + 1], (*argc - i) * sizeof(*argv));
            --*argc;
            break;
        }
    }
}

static int dispatch(int argc, char **argv)
{
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[0], commands[i].name) != 0) {
            continue;
        }
        if (argc - 1 < commands[i].min_args ||
            (commands[i].max_args >= 0 && argc - 1 > commands[i].max_args)) {
            return usage_error("usage: rvmrpc %s %s", commands[i].name,
                               commands[i].args);
        }
        return commands[i].run(argc - 1, argv + 1);
    }
    return usage_error("no command '%s'", argv[0]);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    stdio_begin("rvmrpc");
    setlocale(LC_ALL, "");
    if (!parse_options(&argc, &argv, &error)) {
        return usage_error("%s", error->message);
    }
    drop_dashes(&argc, argv);
    if (argc < 2) {
        return usage_error("which command?");
    }
    if (check_options()) {
        return EXIT_USAGE;
    }
    catch_signals();
    return dispatch(argc - 1, argv + 1);
}
