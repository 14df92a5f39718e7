/*
 * The rvmrpc command: doctor, the report
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "doctor.h"

#define INDENT      "  "
#define TASKS_SHOWN 10
#define BLOCKED_SHOWN 30
/* Of a CPU; who uses less does not use it. */
#define USE_SHOWN   0.005

static char *now_text(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();

    return g_date_time_format(now, "%FT%T%z");
}

char *doctor_findings_text(const Doctor *d)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < d->findings->len; i++) {
        const Finding *finding = d->findings->pdata[i];

        g_string_append_printf(s, "%s- %s\n", INDENT, finding->text);
    }
    return g_string_free(s, FALSE);
}

/* Heads a section.  FALSE: nothing is known, which it says, but @p's reason. */
static gboolean begin_section(const Doctor *d, GString *s, const char *title,
                              const Part *p)
{
    g_autofree char *reason = p->error ? reason_text(d, p->error) : NULL;

    g_string_append_printf(s, "\n%s\n", title);
    if (reason) {
        g_string_append_printf(s, INDENT "not known: %s\n", reason);
    }
    return !reason;
}

/* @all: how many there are of which it shows some. */
static void add_table(GString *s, Table *table, guint all)
{
    const guint rows = table_rows(table);
    g_autofree char *text = table_text(table, INDENT);

    g_string_append(s, rows ? text : INDENT "none\n");
    if (rows && rows < all) {
        g_string_append_printf(s, INDENT "and %u more\n", all - rows);
    }
    table_free(table);
}

static void add_channel(const Doctor *d, GString *s)
{
    const RvmrpcChannel *ch = d->facts->channel;
    g_autofree char *os = clean(ch->os), *release = clean(ch->release);
    g_autofree char *reason = d->null_error ? reason_text(d, d->null_error) :
                              NULL;

    g_string_append_printf(s, "\nChannel\n" INDENT "%s, by %s; %s %s, last "
                           "seen %" G_GUINT64_FORMAT " ms ago\n",
                           facts_state(d->facts), d->facts->way, os, release,
                           ch->last_seen_ms);
    if (reason) {
        g_string_append_printf(s, INDENT "null call: %s\n", reason);
    } else {
        g_string_append_printf(s, INDENT "null call: %.3f ms\n",
                               d->null_ns / 1e6);
    }
    g_string_append_printf(s, INDENT "calls: %" G_GUINT64_FORMAT " accepted, %"
                           G_GUINT64_FORMAT " answered, %" G_GUINT64_FORMAT
                           " failed, %" G_GUINT64_FORMAT " timed out, %"
                           G_GUINT64_FORMAT " in flight\n", ch->calls,
                           ch->completed, ch->failed, ch->timed_out,
                           ch->in_flight);
}

/* ---- Memory ---- */

/* What has it: parts that do not overlap, and come to the total. */
static const struct {
    guint key, less;            /* less: a part of it that stands elsewhere */
    const char *text;
} holders[] = {
    { RVMRPC_MEM_ANON, 0, "processes (anonymous)" },
    { RVMRPC_MEM_CACHED, RVMRPC_MEM_SHARED, "page cache" },
    { RVMRPC_MEM_SHARED, 0, "tmpfs, shared memory" },
    { RVMRPC_MEM_BUFFERS, 0, "buffers" },
    { RVMRPC_MEM_SLAB_RECLAIMABLE, 0, "slab, reclaimable" },
    { RVMRPC_MEM_SLAB_UNRECLAIMABLE, 0, "slab, unreclaimable" },
    { RVMRPC_MEM_KERNEL_STACK, 0, "kernel stacks" },
    { RVMRPC_MEM_PAGE_TABLES, 0, "page tables" },
    { RVMRPC_MEM_PERCPU, 0, "per-CPU data" },
    { RVMRPC_MEM_HUGETLB, 0, "huge pages set aside" },
    { RVMRPC_MEM_WIRED, 0, "wired" },
    { RVMRPC_MEM_FREE, 0, "free" },
};

static void add_holder(Table *t, const char *text, guint64 bytes, guint64 total)
{
    table_add(t, g_strdup(text));
    table_add(t, size_words(bytes));
    table_add(t, total ? g_strdup_printf("%.1f%%", 100.0 * bytes / total) :
              g_strdup("-"));
}

static void add_memory(const Doctor *d, GString *s)
{
    static const char *const heads[] = { "WHAT", ">BYTES", ">OF ALL", NULL };
    const Part *p = &d->parts[PART_MEMORY];
    const RvmrpcMeminfo *mem = p->mem;
    guint64 total, sum = 0;
    Table *t;

    if (!begin_section(d, s, "Memory, by what holds it", p)) {
        return;
    }
    t = table_new(heads);
    total = mem->value[RVMRPC_MEM_TOTAL];
    for (guint i = 0; i < G_N_ELEMENTS(holders); i++) {
        guint64 bytes = mem->value[holders[i].key];

        if (rvmrpc_meminfo_has(mem, holders[i].key)) {
            bytes -= MIN(mem->value[holders[i].less], bytes);
            add_holder(t, holders[i].text, bytes, total);
            sum += bytes;
        }
    }
    if (total > sum) {
        add_holder(t, "not accounted for", total - sum, total);
    }
    add_holder(t, "all", total, total);
    if (rvmrpc_meminfo_has(mem, RVMRPC_MEM_AVAILABLE)) {
        add_holder(t, "of it available", mem->value[RVMRPC_MEM_AVAILABLE],
                   total);
    }
    if (rvmrpc_meminfo_has(mem, RVMRPC_MEM_SWAP_TOTAL)) {
        add_holder(t, "swap", mem->value[RVMRPC_MEM_SWAP_TOTAL], 0);
        add_holder(t, "of it free", mem->value[RVMRPC_MEM_SWAP_FREE], 0);
    }
    add_table(s, t, 0);
}

/* ---- Lists ---- */

static void add_lists(const Doctor *d, GString *s)
{
    const Part *p = &d->parts[PART_PRESSURE];
    const RvmrpcRecords *blocked;

    if (begin_section(d, s, "Pressure: time in which tasks waited", p)) {
        if (rvmrpc_records_get_count(p->records[0])) {
            add_table(s, pressure_table(p->records[0]), 0);
        } else {
            g_string_append(s, INDENT "not known: " NO_PSI_TEXT "\n");
        }
    }
    p = &d->parts[PART_LARGEST];
    if (begin_section(d, s, "Processes that have most memory", p)) {
        add_table(s, tasks_table(p->records[0], FALSE, TASKS_SHOWN), 0);
    }
    p = &d->parts[PART_BLOCKED];
    if (begin_section(d, s, "Blocked tasks", p)) {
        blocked = p->records[1] ?: p->records[0];
        add_table(s, tasks_table(blocked, TRUE, BLOCKED_SHOWN),
                  rvmrpc_records_get_count(blocked));
    }
    p = &d->parts[PART_FILESYSTEMS];
    if (begin_section(d, s, "File systems", p)) {
        add_table(s, filesystems_table(p->records[0]), 0);
    }
}

static void add_use(const Doctor *d, GString *s)
{
    static const char *const heads[] = { ">PID", ">OF A CPU", "NAME", NULL };
    const Part *p = &d->parts[PART_TASKS];
    g_autoptr(GArray) uses = NULL;
    Table *t;

    if (!begin_section(d, s, "Processes that use most CPU time now", p)) {
        return;
    }
    if (!p->records[1]) {
        g_string_append(s, INDENT "not known: " ONCE_TEXT "\n");
        return;
    }
    uses = tasks_use(p);
    t = table_new(heads);
    for (guint i = 0; i < MIN(uses->len, TASKS_SHOWN); i++) {
        const Use *use = &g_array_index(uses, Use, i);
        guint64 pid = 0;

        if (use->share < USE_SHOWN) {
            break;
        }
        rvmrpc_record_get_u64(use->task, RVMRPC_TASK_PID, &pid);
        table_add(t, g_strdup_printf("%" G_GUINT64_FORMAT, pid));
        table_add(t, g_strdup_printf("%.0f%%", 100 * use->share));
        table_add(t, task_name(use->task));
    }
    add_table(s, t, 0);
    g_string_append_printf(s, INDENT "of %u processes, in %.1f s\n",
                           rvmrpc_records_get_count(p->records[0]),
                           p->between_s);
}

static void add_disks(const Doctor *d, GString *s)
{
    static const char *const heads[] = {
        "NAME", ">READ", ">WRITTEN", ">IN FLIGHT", NULL
    };
    const Part *p = &d->parts[PART_DISKS];
    Table *t;

    if (!begin_section(d, s, "Disks, since boot", p)) {
        return;
    }
    t = table_new(heads);
    for (guint i = 0; i < rvmrpc_records_get_count(p->records[0]); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i);

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_DISK) {
            table_add_text(t, r, RVMRPC_DISK_NAME);
            table_add_size(t, r, RVMRPC_DISK_READ_BYTES);
            table_add_size(t, r, RVMRPC_DISK_WRITE_BYTES);
            table_add_u64(t, r, RVMRPC_DISK_IN_FLIGHT);
        }
    }
    add_table(s, t, 0);
}

static void add_log(const Doctor *d, GString *s)
{
    const Part *p = &d->parts[PART_LOG];

    if (!begin_section(d, s, "The kernel's last messages", p)) {
        return;
    }
    for (guint i = 0; i < rvmrpc_records_get_count(p->records[0]); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i);
        g_autofree char *text = message_text(r);

        g_string_append_printf(s, INDENT "%s", text);
    }
}

char *doctor_text(const Doctor *d)
{
    g_autofree char *now = now_text();
    g_autofree char *findings = doctor_findings_text(d);
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "%s, %s\n\nWhat is wrong\n%s",
                           rvmrpc_vm_get_name(d->vm), now, findings);
    add_channel(d, s);
    add_memory(d, s);
    add_lists(d, s);
    add_use(d, s);
    add_disks(d, s);
    add_log(d, s);
    return g_string_free(s, FALSE);
}

/* ---- JSON ---- */

static void json_part_state(const Doctor *d, JsonBuilder *b, const Part *p)
{
    g_autofree char *reason = p->error ? reason_text(d, p->error) : NULL;

    json_bool(b, "known", !reason);
    json_string(b, "error", reason);
}

static const guint kinds[PARTS] = {
    [PART_PRESSURE] = RVMRPC_RECORD_PSI,
    [PART_VMSTAT] = RVMRPC_RECORD_VMSTAT,
    [PART_LARGEST] = RVMRPC_RECORD_TASK,
    [PART_BLOCKED] = RVMRPC_RECORD_TASK,
    [PART_FILESYSTEMS] = RVMRPC_RECORD_FILESYSTEM,
    [PART_DISKS] = RVMRPC_RECORD_DISK,
    [PART_LOG] = RVMRPC_RECORD_LOG,
};

static void json_uses(JsonBuilder *b, const Part *p)
{
    g_autoptr(GArray) uses = tasks_use(p);

    json_u64(b, "processes", rvmrpc_records_get_count(p->records[0]));
    if (!p->records[1]) {
        return;
    }
    json_builder_set_member_name(b, "busiest");
    json_builder_begin_array(b);
    for (guint i = 0; i < MIN(uses->len, TASKS_SHOWN); i++) {
        const Use *use = &g_array_index(uses, Use, i);

        json_builder_begin_object(b);
        json_record(b, use->task);
        json_double(b, "cpu-percent", 100 * use->share);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void json_part(const Doctor *d, JsonBuilder *b, PartKind kind)
{
    const Part *p = &d->parts[kind];
    const RvmrpcRecords *shown = p->records[1] ?: p->records[0];

    json_builder_set_member_name(b, part_names[kind].name);
    json_builder_begin_object(b);
    json_part_state(d, b, p);
    if (p->error) {
        json_builder_end_object(b);
        return;
    }
    if (kind == PART_MEMORY) {
        json_mem(b, p->mem);
    } else if (kind == PART_TASKS) {
        json_uses(b, p);
    } else if (kind == PART_CLOCK) {
        json_i64(b, "skew-ns", p->clock.skew_ns);
        json_i64(b, "error-ns", p->clock.error_ns);
    } else if (kind == PART_FREEZE) {
        json_bool(b, "frozen", p->frozen.state == RVMRPC_FREEZE_FROZEN ||
                  p->frozen.state == RVMRPC_FREEZE_FREEZING);
        json_u64(b, "count", p->frozen.count);
    } else if (kinds[kind]) {
        json_records(b, "records", shown, kinds[kind]);
        json_records_state(b, shown);
    }
    json_builder_end_object(b);
}

static void json_findings(const Doctor *d, JsonBuilder *b)
{
    json_builder_set_member_name(b, "findings");
    json_builder_begin_array(b);
    for (guint i = 0; i < d->findings->len; i++) {
        const Finding *finding = d->findings->pdata[i];

        json_builder_begin_object(b);
        json_string(b, "code", finding->code);
        json_bool(b, "known", !finding->unknown);
        json_string(b, "text", finding->text);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

char *doctor_json(const Doctor *d)
{
    g_autofree char *now = now_text(), *text = NULL;
    g_autofree char *reason = d->null_error ? reason_text(d, d->null_error) :
                              NULL;
    JsonBuilder *b = begin_json();
    g_autoptr(JsonNode) root = NULL;

    json_vm(b, d->vm);
    json_string(b, "time", now);
    json_string(b, "state", facts_state(d->facts));
    json_string(b, "way", d->facts->way);
    json_u64(b, "last-seen-ms", d->facts->channel->last_seen_ms);
    if (reason) {
        json_string(b, "null-error", reason);
    } else {
        json_u64(b, "null-ns", d->null_ns);
    }
    json_findings(d, b);
    json_builder_set_member_name(b, "parts");
    json_builder_begin_object(b);
    for (guint kind = 0; kind < PARTS; kind++) {
        json_part(d, b, kind);
    }
    json_builder_end_object(b);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    g_object_unref(b);
    text = json_to_string(root, TRUE);
    return g_strconcat(text, "\n", NULL);
}
