/*
 * The rvmrpc command: commands that ask once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "rvmrpc-cmd.h"

#define DROP_TIMEOUT_MS 10000

/* ---- list ---- */

static void list_json(const GPtrArray *all)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_array(b);
    for (guint i = 0; i < all->len; i++) {
        const Facts *f = all->pdata[i];

        json_builder_begin_object(b);
        json_vm(b, f->vm);
        json_string(b, "state", facts_state(f));
        json_string(b, "way", f->way);
        if (f->channel) {
            json_string(b, "os", f->channel->os);
            json_string(b, "release", f->channel->release);
        }
        json_string(b, "error", f->error ? f->error->message : NULL);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    print_json(b, TRUE);
}

static void list_text(const GPtrArray *all)
{
    int width = strlen("NAME");

    for (guint i = 0; i < all->len; i++) {
        const Facts *f = all->pdata[i];

        width = MAX(width, (int)g_utf8_strlen(rvmrpc_vm_get_name(f->vm), -1));
    }
    printf("%-*s  %-36s  %8s  %-9s  %-7s  %s\n", width, "NAME", "UUID", "PID",
           "STATE", "WAY", "GUEST");
    for (guint i = 0; i < all->len; i++) {
        const Facts *f = all->pdata[i];
        const char *state = facts_state(f), *name = rvmrpc_vm_get_name(f->vm);
        g_autofree char *uuid = clean(rvmrpc_vm_get_uuid(f->vm));
        g_autofree char *os = clean(f->channel ? f->channel->os : NULL);
        g_autofree char *release = clean(f->channel ? f->channel->release :
                                         NULL);

        printf("%s%*s  %-36s  %8" G_GINT64_FORMAT "  %s%-9s%s  %-7s  %s%s%s\n",
               name, width - (int)g_utf8_strlen(name, -1), "",
               uuid, rvmrpc_vm_get_pid(f->vm),
               color_of(state), state, color_off(), f->way ?: "-", os,
               *release == '-' ? "" : " ", *release == '-' ? "" : release);
    }
}

int cmd_list(int argc, char **argv)
{
    gint64 start = g_get_monotonic_time(), spent, total = timeout_or(TIMEOUT_MS);
    g_autoptr(GPtrArray) vms = rvmrpc_list_vms();
    g_autoptr(GPtrArray) all = NULL;
    GError *error = NULL;

    (void)argc;
    (void)argv;
    spent = (g_get_monotonic_time() - start) / 1000;
    all = facts_gather_all(vms, FACTS_CHANNEL, MAX(total - spent, total / 4),
                           options.cancellable);
    /* Then nobody is down, but was not asked. */
    if (g_cancellable_set_error_if_cancelled(options.cancellable, &error)) {
        return fail(error);
    }
    if (options.json) {
        list_json(all);
    } else {
        list_text(all);
    }
    return EXIT_OK;
}

/* ---- info ---- */

static void info_modules_json(JsonBuilder *b, const GPtrArray *modules)
{
    json_builder_set_member_name(b, "modules");
    json_builder_begin_array(b);
    for (guint i = 0; i < modules->len; i++) {
        const RvmrpcModule *m = modules->pdata[i];

        json_builder_begin_object(b);
        json_u64(b, "number", m->number);
        json_string(b, "name", m->name);
        json_u64(b, "version", m->version);
        json_builder_set_member_name(b, "procedures");
        json_builder_begin_array(b);
        for (guint j = 0; j < m->procedures->len; j++) {
            const RvmrpcProcedure *p = m->procedures->pdata[j];

            json_builder_begin_object(b);
            json_u64(b, "number", p->number);
            json_string(b, "name", p->name);
            json_bool(b, "read-only", p->read_only);
            json_bool(b, "may-sleep", p->may_sleep);
            json_bool(b, "allowed", p->allowed);
            json_builder_end_object(b);
        }
        json_builder_end_array(b);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

/* @why: the guest did not list its modules; NULL and no @modules: it was not asked. */
static int info_json(const Facts *f, const GPtrArray *modules,
                     const GError *why)
{
    const RvmrpcChannel *ch = f->channel;
    JsonBuilder *b = begin_json();

    json_vm(b, f->vm);
    json_string(b, "state", facts_state(f));
    json_string(b, "way", f->way);
    json_bool(b, "running", ch->running);
    json_string(b, "os", ch->os);
    json_string(b, "release", ch->release);
    json_string(b, "proxy", ch->proxy);
    json_string(b, "gate", ch->gate);
    json_string(b, "wait", ch->wait);
    json_u64(b, "slots", ch->slots);
    json_u64(b, "last-seen-ms", ch->last_seen_ms);
    json_u64(b, "calls", ch->calls);
    json_u64(b, "completed", ch->completed);
    json_u64(b, "failed", ch->failed);
    json_u64(b, "refused", ch->refused);
    json_u64(b, "timed-out", ch->timed_out);
    json_u64(b, "late-replies", ch->late_replies);
    json_u64(b, "bad-replies", ch->bad_replies);
    json_u64(b, "in-flight", ch->in_flight);
    json_u64(b, "events", ch->events);
    json_u64(b, "events-lost", ch->events_lost);
    json_u64(b, "events-dropped", ch->events_dropped);
    if (modules) {
        info_modules_json(b, modules);
    }
    json_string(b, "error", why ? why->message : NULL);
    return end_json(b);
}

static void info_modules_text(const GPtrArray *modules)
{
    for (guint i = 0; i < modules->len; i++) {
        const RvmrpcModule *m = modules->pdata[i];
        g_autofree char *name = clean(m->name);

        printf("module %u %s, version %u:", m->number, name, m->version);
        for (guint j = 0; j < m->procedures->len; j++) {
            const RvmrpcProcedure *p = m->procedures->pdata[j];
            g_autofree char *proc = clean(p->name);

            printf(" %s%s", proc, p->allowed ? "" : "(not allowed)");
        }
        printf("\n");
    }
}

static int info_text(const Facts *f, const GPtrArray *modules,
                     const GError *why)
{
    const RvmrpcChannel *ch = f->channel;
    g_autofree char *uuid = clean(rvmrpc_vm_get_uuid(f->vm));
    g_autofree char *os = clean(ch->os), *release = clean(ch->release);
    g_autofree char *proxy = clean(ch->proxy), *gate = clean(ch->gate);
    g_autofree char *wait = clean(ch->wait);
    const char *state = facts_state(f);

    printf("name:     %s\n", rvmrpc_vm_get_name(f->vm));
    printf("uuid:     %s\n", uuid);
    printf("pid:      %" G_GINT64_FORMAT "\n", rvmrpc_vm_get_pid(f->vm));
    printf("state:    %s%s%s, by %s\n", color_of(state), state, color_off(),
           f->way);
    if (ch->release) {
        printf("guest:    %s %s, seen %" G_GUINT64_FORMAT " ms ago\n", os,
               release, ch->last_seen_ms);
    }
    printf("channel:  proxy %s, gate %s, wait %s, %" G_GUINT64_FORMAT
           " slots\n", proxy, gate, wait, ch->slots);
    printf("calls:    %" G_GUINT64_FORMAT " accepted, %" G_GUINT64_FORMAT
           " answered, %" G_GUINT64_FORMAT " failed, %" G_GUINT64_FORMAT
           " timed out, %" G_GUINT64_FORMAT " in flight\n", ch->calls,
           ch->completed, ch->failed, ch->timed_out, ch->in_flight);
    if (modules) {
        info_modules_text(modules);
    } else if (why) {
        g_autofree char *text = rvmrpc_escape(why->message, FALSE);

        fprintf(stderr, "rvmrpc: its modules are not known: %s\n", text);
    }
    return EXIT_OK;
}

int cmd_info(int argc, char **argv)
{
    guint timeout = timeout_or(TIMEOUT_MS);
    GError *error = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(RvmrpcVm) vm = NULL;
    g_autoptr(RvmrpcConn) conn = NULL;
    g_autoptr(Facts) f = NULL;
    g_autoptr(GPtrArray) modules = NULL;

    (void)argc;
    vm = rvmrpc_find_vm(argv[0], options.cancellable, &error);
    if (!vm) {
        return fail(error);
    }
    f = facts_gather(vm, FACTS_CHANNEL, &conn, timeout, options.cancellable);
    if (!f->channel) {
        return fail(g_steal_pointer(&f->error));
    }
    if (strcmp(facts_state(f), "connected") == 0) {
        modules = rvmrpc_list_modules(conn, timeout, options.cancellable,
                                      &why);
    }
    if (g_cancellable_set_error_if_cancelled(options.cancellable, &error)) {
        return fail(error);
    }
    return options.json ? info_json(f, modules, why) :
           info_text(f, modules, why);
}

/* ---- Facts ---- */

int cmd_meminfo(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    g_autoptr(RvmrpcMeminfo) mem = NULL;
    GError *error = NULL;
    JsonBuilder *b;

    (void)argc;
    if (!conn) {
        return code;
    }
    mem = rvmrpc_get_meminfo(conn, options.raw, timeout_or(TIMEOUT_MS),
                             options.cancellable, &error);
    if (!mem) {
        return fail(error);
    }
    if (options.json) {
        b = begin_json();
        json_mem(b, mem);
        return end_json(b);
    }
    if (options.raw) {
        g_autofree char *text = rvmrpc_escape(mem->raw ?: "", TRUE);

        fputs(text, stdout);
        return EXIT_OK;
    }
    for (guint key = 0; key < RVMRPC_MEM_KEYS; key++) {
        if (rvmrpc_meminfo_has(mem, key)) {
            g_autofree char *size = human_size(mem->value[key]);

            printf("%-18s %10s %20" G_GUINT64_FORMAT "\n",
                   rvmrpc_mem_key_name(key), size, mem->value[key]);
        }
    }
    return EXIT_OK;
}

int cmd_loadavg(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    g_autoptr(RvmrpcLoadavg) load = NULL;
    GError *error = NULL;
    JsonBuilder *b;

    (void)argc;
    if (!conn) {
        return code;
    }
    load = rvmrpc_get_loadavg(conn, timeout_or(TIMEOUT_MS),
                              options.cancellable, &error);
    if (!load) {
        return fail(error);
    }
    if (!options.json) {
        printf("%.2f %.2f %.2f %" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT "\n",
               load->load[0], load->load[1], load->load[2], load->runnable,
               load->threads);
        return EXIT_OK;
    }
    b = begin_json();
    json_double(b, "load1m", load->load[0]);
    json_double(b, "load5m", load->load[1]);
    json_double(b, "load15m", load->load[2]);
    json_u64(b, "runnable", load->runnable);
    json_u64(b, "threads", load->threads);
    return end_json(b);
}

static int cpuinfo_json(const RvmrpcCpuinfo *info)
{
    JsonBuilder *b = begin_json();

    json_u64(b, "online", info->online);
    json_u64(b, "present", info->present);
    json_builder_set_member_name(b, "cpus");
    json_builder_begin_array(b);
    for (guint i = 0; i < info->cpus->len; i++) {
        const RvmrpcCpu *cpu = info->cpus->pdata[i];

        json_builder_begin_object(b);
        json_u64(b, "index", cpu->index);
        json_string(b, "vendor", cpu->vendor);
        json_string(b, "model-name", cpu->model_name);
        json_u64(b, "family", cpu->family);
        json_u64(b, "model", cpu->model);
        json_u64(b, "stepping", cpu->stepping);
        json_u64(b, "hz", cpu->hz);
        json_u64(b, "package", cpu->package);
        json_u64(b, "core", cpu->core);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    return end_json(b);
}

int cmd_cpuinfo(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    g_autoptr(RvmrpcCpuinfo) info = NULL;
    GError *error = NULL;

    (void)argc;
    if (!conn) {
        return code;
    }
    info = rvmrpc_get_cpuinfo(conn, timeout_or(TIMEOUT_MS),
                              options.cancellable, &error);
    if (!info) {
        return fail(error);
    }
    if (options.json) {
        return cpuinfo_json(info);
    }
    printf("%" G_GUINT64_FORMAT " online of %" G_GUINT64_FORMAT "\n",
           info->online, info->present);
    for (guint i = 0; i < info->cpus->len; i++) {
        const RvmrpcCpu *cpu = info->cpus->pdata[i];
        g_autofree char *vendor = clean(cpu->vendor);
        g_autofree char *model = clean(cpu->model_name);

        printf("cpu %u: %s %s, family %" G_GUINT64_FORMAT " model %"
               G_GUINT64_FORMAT " stepping %" G_GUINT64_FORMAT
               ", %.0f MHz, package %" G_GUINT64_FORMAT " core %"
               G_GUINT64_FORMAT "\n", cpu->index, vendor, model, cpu->family,
               cpu->model, cpu->stepping, cpu->hz / 1e6, cpu->package,
               cpu->core);
    }
    return EXIT_OK;
}

static void times_json(JsonBuilder *b, const RvmrpcCpuTimes *t)
{
    if (t->index != RVMRPC_INDEX_ALL) {
        json_u64(b, "index", t->index);
    }
    json_u64(b, "user", t->user);
    json_u64(b, "system", t->system);
    json_u64(b, "idle", t->idle);
    json_u64(b, "iowait", t->iowait);
    json_u64(b, "steal", t->steal);
}

static int cpustat_json(const RvmrpcCpustat *stat)
{
    JsonBuilder *b = begin_json();

    json_builder_set_member_name(b, "total");
    json_builder_begin_object(b);
    times_json(b, &stat->total);
    json_builder_end_object(b);
    json_builder_set_member_name(b, "cpus");
    json_builder_begin_array(b);
    for (guint i = 0; i < stat->cpus->len; i++) {
        json_builder_begin_object(b);
        times_json(b, &g_array_index(stat->cpus, RvmrpcCpuTimes, i));
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    return end_json(b);
}

static void times_text(const char *name, const RvmrpcCpuTimes *t)
{
    printf("%-6s %12.2f %12.2f %12.2f %12.2f %12.2f\n", name, t->user / 1e9,
           t->system / 1e9, t->idle / 1e9, t->iowait / 1e9, t->steal / 1e9);
}

int cmd_cpustat(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    g_autoptr(RvmrpcCpustat) stat = NULL;
    GError *error = NULL;

    (void)argc;
    if (!conn) {
        return code;
    }
    stat = rvmrpc_get_cpustat(conn, timeout_or(TIMEOUT_MS),
                              options.cancellable, &error);
    if (!stat) {
        return fail(error);
    }
    if (options.json) {
        return cpustat_json(stat);
    }
    printf("%-6s %12s %12s %12s %12s %12s\n", "CPU", "user s", "system s",
           "idle s", "iowait s", "steal s");
    times_text("all", &stat->total);
    for (guint i = 0; i < stat->cpus->len; i++) {
        const RvmrpcCpuTimes *t = &g_array_index(stat->cpus, RvmrpcCpuTimes,
                                                 i);
        g_autofree char *name = g_strdup_printf("%u", t->index);

        times_text(name, t);
    }
    return EXIT_OK;
}

static int osinfo_json(const RvmrpcOsinfo *os)
{
    JsonBuilder *b = begin_json();

    json_string(b, "sysname", os->sysname);
    json_string(b, "release", os->release);
    json_string(b, "version", os->version);
    json_string(b, "machine", os->machine);
    json_string(b, "hostname", os->hostname);
    json_u64(b, "uptime-ns", os->uptime_ns);
    json_u64(b, "boot-time", os->boot_time);
    json_u64(b, "page-size", os->page_size);
    json_u64(b, "cpus", os->cpus);
    return end_json(b);
}

int cmd_osinfo(int argc, char **argv)
{
    int code;
    g_autoptr(RvmrpcConn) conn = open_vm(argv[0], &code);
    g_autoptr(RvmrpcOsinfo) os = NULL;
    GError *error = NULL;

    (void)argc;
    if (!conn) {
        return code;
    }
    os = rvmrpc_get_osinfo(conn, timeout_or(TIMEOUT_MS), options.cancellable,
                           &error);
    if (!os) {
        return fail(error);
    }
    if (!options.json) {
        g_autofree char *sysname = clean(os->sysname);
        g_autofree char *release = clean(os->release);
        g_autofree char *machine = clean(os->machine);
        g_autofree char *hostname = clean(os->hostname);

        printf("%s: %s %s %s, %" G_GUINT64_FORMAT " CPUs, up %.0f s\n",
               hostname, sysname, release, machine, os->cpus,
               os->uptime_ns / 1e9);
        return EXIT_OK;
    }
    return osinfo_json(os);
}

/* ---- drop-caches ---- */

int cmd_drop_caches(int argc, char **argv)
{
    static const char *const modes[] = { "pagecache", "slab", "all" };
    g_autoptr(RvmrpcConn) conn = NULL;
    g_autofree char *size = NULL;
    RvmrpcDropMode mode = 0;
    GError *error = NULL;
    guint64 freed;
    JsonBuilder *b;
    int code;

    (void)argc;
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(argv[1], modes[i]) == 0) {
            mode = RVMRPC_DROP_MODE_PAGECACHE + i;
        }
    }
    if (!mode) {
        return usage_error("drop-caches: pagecache, slab or all, not '%s'",
                           argv[1]);
    }
    conn = open_vm(argv[0], &code);
    if (!conn) {
        return code;
    }
    if (!rvmrpc_drop_caches(conn, mode, options.sync,
                            timeout_or(DROP_TIMEOUT_MS), &freed,
                            options.cancellable, &error)) {
        return fail(error);
    }
    if (options.json) {
        b = begin_json();
        json_u64(b, "freed", freed);
        return end_json(b);
    }
    size = human_size(freed);
    printf("freed %s (%" G_GUINT64_FORMAT " bytes)\n", size, freed);
    return EXIT_OK;
}

/* ---- call ---- */

static GBytes *hex_data(const char *hex)
{
    gsize length = strlen(hex);
    g_autoptr(GByteArray) out = g_byte_array_new();

    if (length % 2) {
        return NULL;
    }
    for (gsize i = 0; i < length; i += 2) {
        int high = g_ascii_xdigit_value(hex[i]);
        int low = g_ascii_xdigit_value(hex[i + 1]);
        guint8 byte;

        if (high < 0 || low < 0) {
            return NULL;
        }
        byte = high << 4 | low;
        g_byte_array_append(out, &byte, 1);
    }
    return g_bytes_new(out->data, out->len);
}

static GBytes *call_data(const char *data)
{
    const char *path = data[0] == '@' ? data + 1 :
                       strcmp(data, "-") == 0 ? "/dev/stdin" : NULL;
    g_autoptr(GError) error = NULL;
    GBytes *bytes;
    char *text;
    gsize length;

    if (path) {
        if (!g_file_get_contents(path, &text, &length, &error)) {
            usage_error("%s", error->message);
            return NULL;
        }
        return g_bytes_new_take(text, length);
    }
    if (!g_str_has_prefix(data, "hex:")) {
        return g_bytes_new(data, strlen(data));
    }
    bytes = hex_data(data + strlen("hex:"));
    if (!bytes) {
        usage_error("'%s' is not hexadecimal", data);
    }
    return bytes;
}

static int print_answer(GBytes *answer, guint64 elapsed_ns)
{
    gsize size;
    const void *data = g_bytes_get_data(answer, &size);
    g_autofree char *text = NULL;
    JsonBuilder *b;

    if (options.json) {
        text = g_base64_encode(data, size);
        b = begin_json();
        json_string(b, "status", "ok");
        json_string(b, "data", text);
        json_u64(b, "elapsed-ns", elapsed_ns);
        return end_json(b);
    }
    if (!isatty(STDOUT_FILENO)) {
        if (size) {
            fwrite(data, 1, size, stdout);
        }
        return EXIT_OK;
    }
    if (size) {
        /* A NUL is no end of it. */
        g_autofree char *valid = g_utf8_make_valid(data, size);

        text = rvmrpc_escape(valid, TRUE);
        puts(text);
    }
    return EXIT_OK;
}

int cmd_call(int argc, char **argv)
{
    g_autoptr(RvmrpcConn) conn = NULL;
    g_autoptr(GBytes) arg = NULL;
    g_autoptr(GBytes) answer = NULL;
    GError *error = NULL;
    guint64 elapsed;
    int code;

    if (argc > 3) {
        arg = call_data(argv[3]);
        if (!arg) {
            return EXIT_USAGE;
        }
    }
    conn = open_vm(argv[0], &code);
    if (!conn) {
        return code;
    }
    answer = rvmrpc_call_by_name(conn, argv[1], argv[2], arg,
                                 timeout_or(TIMEOUT_MS), &elapsed,
                                 options.cancellable, &error);
    return answer ? print_answer(answer, elapsed) : fail(error);
}
