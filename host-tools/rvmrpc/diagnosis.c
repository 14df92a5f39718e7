/*
 * The rvmrpc command: doctor, the sentences that say what is wrong
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What could not be found out is said to be so, and never taken for "no".
 */
#include <math.h>
#include <string.h>
#include "doctor.h"

/* Limits from which on something is called wrong. */
#define MEMORY_LOW          0.05    /* available, of all */
#define MEMORY_TIGHT        0.20    /* the same, when all tasks wait for it */
#define HOLDER              0.20    /* of all: who has that much is named */
#define PRESSURE_HIGH       1000    /* hundredths of a percent of 10 s */
#define IO_PRESSURE_HIGH    2000
#define CPU_PRESSURE_HIGH   5000
#define FULL                0.01    /* left, of all */
#define NEARLY_FULL         0.05
#define BUSY                0.97    /* of all CPU time */
#define SPINS               0.75    /* of a CPU */
#define STOLEN              0.20
#define STANDS              0.10    /* of the time: a CPU that counts less */
#define MANY                200     /* processes of one name, and this share */
#define MOST                (1.0 / 3)
#define SLOW_NS             500000000
#define SKEW_NS             2000000000
/* Sentences of one kind, and names in one. */
#define SENTENCES           5
#define NAMES               4
#define LINE_CHARS          200

/* ---- Sentences ---- */

G_GNUC_PRINTF(3, 4)
static void say(Doctor *d, const char *code, const char *format, ...)
{
    Finding *finding = g_new0(Finding, 1);
    va_list ap;

    finding->code = code;
    va_start(ap, format);
    finding->text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_ptr_array_add(d->findings, finding);
}

G_GNUC_PRINTF(2, 3)
static void cannot_say(Doctor *d, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    say(d, "unknown", "cannot say %s", text);
    ((Finding *)d->findings->pdata[d->findings->len - 1])->unknown = TRUE;
}

/* "3.1 of 3.8 GiB" */
static char *part_of(guint64 part, guint64 all)
{
    g_autofree char *a = size_words(part), *b = size_words(all);
    const char *unit = strchr(b, ' ');

    if (unit && g_str_has_suffix(a, unit)) {
        a[strlen(a) - strlen(unit)] = '\0';
    }
    return g_strdup_printf("%s of %s", a, b);
}

static guint64 number(const RvmrpcRecord *r, guint key)
{
    guint64 value = 0;

    rvmrpc_record_get_u64(r, key, &value);
    return value;
}

/* Records of a list's first or second look; 0: there was none. */
static guint count_of(const Part *p, guint time)
{
    return p->records[time] ? rvmrpc_records_get_count(p->records[time]) : 0;
}

/* ---- The channel ---- */

static void diagnose_channel(Doctor *d)
{
    const RvmrpcChannel *ch = d->facts->channel;
    const char *state = facts_state(d->facts);
    g_autofree char *reason = NULL;

    if (strcmp(state, "absent") == 0) {
        say(d, "absent", "the VM has no such device");
    } else if (strcmp(state, "paused") == 0) {
        say(d, "paused", "the VM is paused; resume it");
    } else if (strcmp(state, "no-driver") == 0) {
        say(d, "no-driver", "no driver is registered: the guest has not "
            "booted, or has not loaded rvmrpc");
    } else if (d->null_error) {
        reason = reason_text(d, d->null_error);
        say(d, "no-answer", "its kernel does not answer a null call: %s; it "
            "was last seen %.1f s ago", reason, ch->last_seen_ms / 1e3);
    } else if (g_atomic_int_get(&d->deaf)) {
        say(d, "no-answer", "its kernel has ceased to answer while it was "
            "asked");
    } else if (d->null_ns > SLOW_NS) {
        say(d, "slow", "its kernel answers slowly: %.0f ms for a null call",
            d->null_ns / 1e6);
    }
}

/* ---- Memory ---- */

/* Sums of what the processes of one name have. */
typedef struct Group {
    char *name;                 /* escaped; the key, and the table's */
    guint64 bytes;
    guint count;
} Group;

static void group_free(void *data)
{
    Group *group = data;

    g_free(group->name);
    g_free(group);
}

static Group *group_get(GHashTable *groups, char *name)
{
    Group *group = g_hash_table_lookup(groups, name);

    if (group) {
        g_free(name);
        return group;
    }
    group = g_new0(Group, 1);
    group->name = name;
    g_hash_table_insert(groups, name, group);
    return group;
}

static GHashTable *groups_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, NULL, group_free);
}

static GHashTable *tasks_groups(const Part *tasks)
{
    GHashTable *groups = groups_new();

    for (guint i = 0; i < count_of(tasks, 0); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(tasks->records[0], i);
        Group *group;

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_TASK &&
            !number(r, RVMRPC_TASK_KERNEL)) {
            group = group_get(groups, task_name(r));
            group->count++;
            group->bytes += number(r, RVMRPC_TASK_RSS);
        }
    }
    return groups;
}

static const Group *group_max(GHashTable *groups, gboolean by_bytes)
{
    const Group *max = NULL;
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, groups);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Group *group = value;

        if (!max || (by_bytes ? group->bytes > max->bytes :
                     group->count > max->count)) {
            max = group;
        }
    }
    return max;
}

/* What of the kernel's own has most, beside processes. */
static const char *largest_use(const RvmrpcMeminfo *mem, guint64 *bytes)
{
    static const struct {
        guint key;
        const char *text;
    } uses[] = {
        { RVMRPC_MEM_SHARED, "files in memory (tmpfs, shared memory) have" },
        { RVMRPC_MEM_SLAB_UNRECLAIMABLE, "objects of the kernel (slab) have" },
        { RVMRPC_MEM_HUGETLB, "huge pages that were set aside have" },
        { RVMRPC_MEM_PAGE_TABLES, "page tables have" },
        { RVMRPC_MEM_KERNEL_STACK, "stacks of the kernel have" },
        { RVMRPC_MEM_PERCPU, "per-CPU data of the kernel has" },
        { RVMRPC_MEM_WIRED, "wired memory has" },
    };
    const char *text = NULL;

    *bytes = 0;
    for (guint i = 0; i < G_N_ELEMENTS(uses); i++) {
        if (rvmrpc_meminfo_has(mem, uses[i].key) &&
            mem->value[uses[i].key] > *bytes) {
            *bytes = mem->value[uses[i].key];
            text = uses[i].text;
        }
    }
    return text;
}

/* "java (PID 812) has 3.1 of 3.8 GiB" */
static char *holder_text(const Doctor *d, guint64 total)
{
    const Part *largest = &d->parts[PART_LARGEST];
    const RvmrpcRecord *top = count_of(largest, 0) ?
        rvmrpc_records_get(largest->records[0], 0) : NULL;
    g_autoptr(GHashTable) groups = tasks_groups(&d->parts[PART_TASKS]);
    const Group *group = group_max(groups, TRUE);
    guint64 bytes, rss = top ? number(top, RVMRPC_TASK_RSS) : 0;
    const char *use = largest_use(d->parts[PART_MEMORY].mem, &bytes);
    g_autofree char *of = NULL, *name = NULL;

    if (rss >= bytes && rss >= HOLDER * total) {
        of = part_of(rss, total);
        name = task_name(top);
        return g_strdup_printf("%s (PID %" G_GUINT64_FORMAT ") has %s", name,
                               number(top, RVMRPC_TASK_PID), of);
    }
    if (group && group->bytes >= bytes && group->bytes >= HOLDER * total) {
        of = part_of(MIN(group->bytes, total), total);
        return g_strdup_printf("%u processes called %s have %s", group->count,
                               group->name, of);
    }
    if (use && bytes >= HOLDER * total) {
        of = part_of(bytes, total);
        return g_strdup_printf("%s %s", use, of);
    }
    if (!top) {
        return g_strdup("cannot say who has it");
    }
    of = part_of(rss, total);
    name = task_name(top);
    return g_strdup_printf("no one has much of it; most has %s, %s", name, of);
}

/* Hundredths of a percent of the last 10 s; 0 when it is not known. */
static guint64 pressure_of(const Doctor *d, const char *resource, guint key)
{
    const Part *p = &d->parts[PART_PRESSURE];

    for (guint i = 0; i < count_of(p, 0); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i);
        g_autofree char *name = rvmrpc_record_get_string(r,
                                                         RVMRPC_PSI_RESOURCE);

        if (rvmrpc_record_get_kind(r) == RVMRPC_RECORD_PSI &&
            g_strcmp0(name, resource) == 0) {
            return number(r, key);
        }
    }
    return 0;
}

static void diagnose_swap(Doctor *d, const RvmrpcMeminfo *mem)
{
    const guint64 total = mem->value[RVMRPC_MEM_SWAP_TOTAL];
    const guint64 free = mem->value[RVMRPC_MEM_SWAP_FREE];
    g_autofree char *of = NULL;

    if (rvmrpc_meminfo_has(mem, RVMRPC_MEM_SWAP_FREE) && total &&
        free < MEMORY_LOW * total) {
        of = part_of(free, total);
        say(d, "swap-full", "swap is full: %s left", of);
    }
}

static void diagnose_memory(Doctor *d)
{
    const RvmrpcMeminfo *mem = d->parts[PART_MEMORY].mem;
    guint64 total, available, aside;
    g_autofree char *holder = NULL, *left = NULL;

    if (!mem) {
        return;
    }
    total = mem->value[RVMRPC_MEM_TOTAL];
    available = mem->value[RVMRPC_MEM_AVAILABLE];
    aside = MIN(mem->value[RVMRPC_MEM_HUGETLB], total);
    if (!rvmrpc_meminfo_has(mem, RVMRPC_MEM_AVAILABLE) || !total) {
        cannot_say(d, "how much memory it has left: it does not tell");
    } else if (available < MEMORY_LOW * (total - aside) ||
               (available < MEMORY_TIGHT * (total - aside) &&
                pressure_of(d, "memory", RVMRPC_PSI_FULL_AVG10) >=
                PRESSURE_HIGH)) {
        holder = holder_text(d, total);
        left = size_words(available);
        say(d, "out-of-memory", "out of memory: %s; %s available", holder,
            left);
    }
    diagnose_swap(d, mem);
}

static void diagnose_kills(Doctor *d)
{
    const Part *p = &d->parts[PART_VMSTAT];
    guint64 kills;

    if (count_of(p, 0) &&
        rvmrpc_record_get_u64(rvmrpc_records_get(p->records[0], 0),
                              RVMRPC_VMSTAT_OOM_KILLS, &kills) && kills) {
        say(d, "oom-kills", "for want of memory %" G_GUINT64_FORMAT
            " process%s killed since it booted", kills,
            kills == 1 ? " was" : "es were");
    }
}

/* ---- Waiting ---- */

static void diagnose_pressure(Doctor *d)
{
    static const struct {
        const char *resource, *code, *text;
        guint64 high;
    } resources[] = {
        { "memory", "memory-pressure", "memory", PRESSURE_HIGH },
        { "io", "io-pressure", "disks", IO_PRESSURE_HIGH },
        { "cpu", "cpu-pressure", "a CPU", CPU_PRESSURE_HIGH },
    };
    const Part *p = &d->parts[PART_PRESSURE];

    if (p->records[0] && !count_of(p, 0)) {
        cannot_say(d, "%s: " NO_PSI_TEXT, part_names[PART_PRESSURE].what);
        return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(resources); i++) {
        const char *resource = resources[i].resource;
        guint64 some = pressure_of(d, resource, RVMRPC_PSI_SOME_AVG10);
        guint64 full = pressure_of(d, resource, RVMRPC_PSI_FULL_AVG10);

        if (some >= resources[i].high) {
            say(d, resources[i].code, "tasks wait for %s: %.0f %% of the last "
                "10 s, all of them %.0f %%", resources[i].text, some / 100.0,
                full / 100.0);
        }
    }
}

/* What every thread that waits is in, and what tells nothing. */
static gboolean is_plain_wait(const char *function)
{
    static const char *const prefixes[] = {
        "__schedule", "schedule", "io_schedule", "preempt_schedule",
        "__wait_on_bit", "wait_on_bit", "out_of_line_wait", "bit_wait",
        "__wait_for_common", "wait_for_c", "folio_wait_bit", "__mutex_lock",
        "mutex_lock", "rwsem_", "down_", "__down", "percpu_rwsem_wait",
        "__percpu_down_read", "blk_io_schedule", "rt_mutex", "?", "_raw_",
        "__switch_to", "context_switch",
    };

    for (guint i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(function, prefixes[i])) {
            return TRUE;
        }
    }
    return strcmp(function, "down") == 0;
}

/* The function, or the word, that says what a thread waits for, escaped. */
static char *wait_text(const RvmrpcRecord *r)
{
    g_auto(GStrv) stack = rvmrpc_record_get_strings(r, RVMRPC_TASK_STACK);
    g_autofree char *wait = rvmrpc_record_get_string(r, RVMRPC_TASK_WAIT);
    const char *function = stack[0] ? stack[0] : wait;

    for (char **f = stack; *f; f++) {
        if (!is_plain_wait(*f)) {
            function = *f;
            break;
        }
    }
    return function ? clean(function) : g_strdup("the kernel, it does not tell "
                                                 "where");
}

/* Thread IDs of those that were blocked the first time. */
static GHashTable *blocked_before(const Part *p)
{
    GHashTable *threads = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                                g_free, NULL);

    for (guint i = 0; i < count_of(p, 0); i++) {
        guint64 thread = number(rvmrpc_records_get(p->records[0], i),
                                RVMRPC_TASK_THREAD);

        g_hash_table_add(threads, g_memdup2(&thread, sizeof(thread)));
    }
    return threads;
}

/* By what they wait for: Group, and in names who they are. */
static GHashTable *blocked_groups(const Part *p, GHashTable *names)
{
    g_autoptr(GHashTable) before = blocked_before(p);
    GHashTable *groups = groups_new();

    for (guint i = 0; i < count_of(p, 1); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[1], i);
        guint64 thread = number(r, RVMRPC_TASK_THREAD);
        g_autofree char *name = NULL;
        GString *who;
        Group *group;

        if (!g_hash_table_contains(before, &thread)) {
            continue;
        }
        name = task_name(r);
        group = group_get(groups, wait_text(r));
        who = g_hash_table_lookup(names, group);
        if (!who) {
            who = g_string_new(NULL);
            g_hash_table_insert(names, group, who);
        }
        if (++group->count <= NAMES) {
            g_string_append_printf(who, "%s%s", who->len ? ", " : "", name);
        } else if (group->count == NAMES + 1) {
            g_string_append(who, ", ...");
        }
    }
    return groups;
}

static void string_free(void *data)
{
    g_string_free(data, TRUE);
}

static void diagnose_blocked(Doctor *d)
{
    const Part *p = &d->parts[PART_BLOCKED];
    g_autoptr(GHashTable) names = NULL;
    g_autoptr(GHashTable) groups = NULL;
    const Group *group;

    if (p->records[0] && !p->records[1] && count_of(p, 0)) {
        cannot_say(d, "whether %u blocked tasks hang: " ONCE_TEXT,
                   count_of(p, 0));
        return;
    }
    names = g_hash_table_new_full(NULL, NULL, NULL, string_free);
    groups = blocked_groups(p, names);
    for (guint i = 0; i < SENTENCES; i++) {
        group = group_max(groups, FALSE);
        if (!group) {
            return;
        }
        say(d, "blocked", "%u task%s in %s: %s", group->count,
            group->count == 1 ? " waits" : "s wait", group->name,
            ((GString *)g_hash_table_lookup(names, group))->str);
        g_hash_table_remove(groups, group->name);
    }
    if (g_hash_table_size(groups)) {
        say(d, "blocked", "and tasks wait in %u other functions",
            g_hash_table_size(groups));
    }
}

/* ---- Disks and file systems ---- */

static guint64 finished(const RvmrpcRecord *r)
{
    return number(r, RVMRPC_DISK_READS) + number(r, RVMRPC_DISK_WRITES) +
           number(r, RVMRPC_DISK_DISCARDS) + number(r, RVMRPC_DISK_FLUSHES);
}

/* "vdb1" of "vdb", "nvme0n1p2" of "nvme0n1"; "dm-10" is none of "dm-1". */
static gboolean is_partition(const char *name, const char *disk)
{
    const gsize length = strlen(disk);

    if (!length || !g_str_has_prefix(name, disk)) {
        return FALSE;
    }
    name += length;
    if (g_ascii_isdigit(disk[length - 1]) && *name++ != 'p') {
        return FALSE;
    }
    return *name && !name[strspn(name, "0123456789")];
}

static void diagnose_disks(Doctor *d)
{
    const Part *p = &d->parts[PART_DISKS];
    g_autofree char *stuck = NULL;
    guint said = 0, waiting = 0;

    for (guint i = 0; i < count_of(p, 0); i++) {
        waiting += !!number(rvmrpc_records_get(p->records[0], i),
                            RVMRPC_DISK_IN_FLIGHT);
    }
    if (waiting && !p->records[1]) {
        cannot_say(d, "whether its disks hang, %u of which had requests in "
                   "flight: " ONCE_TEXT, waiting);
        return;
    }
    /* Disks stand in the same order, but for those that came or went. */
    for (guint i = 0; i < MIN(count_of(p, 0), count_of(p, 1)); i++) {
        const RvmrpcRecord *a = rvmrpc_records_get(p->records[0], i);
        const RvmrpcRecord *b = rvmrpc_records_get(p->records[1], i);
        g_autofree char *name = rvmrpc_record_get_string(a, RVMRPC_DISK_NAME);
        g_autofree char *text = clean(name);

        if (number(a, RVMRPC_DISK_DEVICE) != number(b, RVMRPC_DISK_DEVICE) ||
            !number(a, RVMRPC_DISK_IN_FLIGHT) ||
            !number(b, RVMRPC_DISK_IN_FLIGHT) || finished(a) != finished(b) ||
            /* A partition of the one before. */
            (stuck && is_partition(text, stuck)) || said == SENTENCES) {
            continue;
        }
        say(d, "disk-stuck", "%s has %" G_GUINT64_FORMAT " requests in flight "
            "and finished none in %.1f s", text,
            number(b, RVMRPC_DISK_IN_FLIGHT), p->between_s);
        said++;
        g_free(stuck);
        stuck = g_steal_pointer(&text);
    }
}

static gboolean is_full(const RvmrpcRecord *r, guint all_key, guint left_key,
                        double limit, guint64 *all, guint64 *left)
{
    return rvmrpc_record_get_u64(r, all_key, all) && *all &&
           rvmrpc_record_get_u64(r, left_key, left) && *left < limit * *all;
}

static gboolean is_failed(const RvmrpcRecord *r)
{
    return number(r, RVMRPC_FS_SKIPPED) == RVMRPC_FS_SKIPPED_FAILED;
}

/* TRUE: a sentence. */
static gboolean diagnose_filesystem(Doctor *d, const RvmrpcRecord *r)
{
    g_autofree char *raw = rvmrpc_record_get_string(r, RVMRPC_FS_TARGET);
    g_autofree char *target = clean(raw);
    g_autofree char *of = NULL;
    guint64 all, left;

    if (is_failed(r)) {
        cannot_say(d, "how full %s is: the guest asked it, and that failed",
                   target);
        return TRUE;
    }
    /* What was noted once may be long ago. */
    if (number(r, RVMRPC_FS_READ_ONLY) || number(r, RVMRPC_FS_CACHED)) {
        return FALSE;
    }
    if (is_full(r, RVMRPC_FS_SIZE, RVMRPC_FS_AVAILABLE, NEARLY_FULL, &all,
                &left)) {
        of = part_of(left, all);
        say(d, "filesystem-full", "%s is %sfull: %s left", target,
            left < FULL * all ? "" : "nearly ", of);
        return TRUE;
    }
    if (is_full(r, RVMRPC_FS_FILES, RVMRPC_FS_FILES_FREE, FULL, &all, &left)) {
        say(d, "inodes-full", "%s has no inodes: %" G_GUINT64_FORMAT " of %"
            G_GUINT64_FORMAT " left", target, left, all);
        return TRUE;
    }
    return FALSE;
}

static void diagnose_filesystems(Doctor *d)
{
    const Part *p = &d->parts[PART_FILESYSTEMS];
    g_autoptr(GHashTable) seen = NULL;
    guint said[2] = { 0 };      /* those that failed are counted apart */

    /* What is mounted more than once is full once. */
    seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    for (guint i = 0; i < count_of(p, 0); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i);
        guint *of_kind = &said[is_failed(r)];
        guint64 device;

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_FILESYSTEM ||
            *of_kind == SENTENCES ||
            (rvmrpc_record_get_u64(r, RVMRPC_FS_DEVICE, &device) &&
             g_hash_table_contains(seen, &device))) {
            continue;
        }
        if (diagnose_filesystem(d, r)) {
            ++*of_kind;
            if (rvmrpc_record_get_u64(r, RVMRPC_FS_DEVICE, &device)) {
                g_hash_table_add(seen, g_memdup2(&device, sizeof(device)));
            }
        }
    }
}

static void diagnose_freeze(Doctor *d)
{
    const Part *p = &d->parts[PART_FREEZE];

    if (!p->error && (p->frozen.state == RVMRPC_FREEZE_FROZEN ||
                      p->frozen.state == RVMRPC_FREEZE_FREEZING)) {
        say(d, "frozen", "%u file system%s frozen for a copy; it thaws by "
            "itself in %.0f s ('rvmrpc thaw')", p->frozen.count,
            p->frozen.count == 1 ? " is" : "s are", p->frozen.left_ms / 1e3);
    }
}

/* ---- CPUs and processes ---- */

static int compare_use(const void *a, const void *b)
{
    const Use *x = a, *y = b;

    return x->share < y->share ? 1 : x->share > y->share ? -1 : 0;
}

GArray *tasks_use(const Part *p)
{
    GArray *uses = g_array_new(FALSE, FALSE, sizeof(Use));
    g_autoptr(GHashTable) before = NULL;

    before = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    for (guint i = 0; i < count_of(p, 0); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i);
        guint64 pid = number(r, RVMRPC_TASK_PID);

        g_hash_table_insert(before, g_memdup2(&pid, sizeof(pid)), (void *)r);
    }
    for (guint i = 0; i < count_of(p, 1); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[1], i);
        guint64 pid = number(r, RVMRPC_TASK_PID);
        const RvmrpcRecord *old = g_hash_table_lookup(before, &pid);
        double ns = number(r, RVMRPC_TASK_CPU_NS);

        ns -= old ? number(old, RVMRPC_TASK_CPU_NS) : 0;
        if (old && ns > 0 && p->between_s > 0) {
            Use use = { r, ns / 1e9 / p->between_s };

            g_array_append_val(uses, use);
        }
    }
    g_array_sort(uses, compare_use);
    return uses;
}

typedef struct Spent {
    double user, system, idle, steal, all;      /* s */
} Spent;

static Spent spent(const RvmrpcCpuTimes *a, const RvmrpcCpuTimes *b)
{
    Spent s = {
        .user = ((double)b->user - a->user) / 1e9,
        .system = ((double)b->system - a->system) / 1e9,
        .idle = ((double)b->idle - a->idle) / 1e9 +
                ((double)b->iowait - a->iowait) / 1e9,
        .steal = ((double)b->steal - a->steal) / 1e9,
    };

    s.all = s.user + s.system + s.idle + s.steal;
    return s;
}

/* ": dd (PID 7) has 98 % of a CPU" */
static char *busiest_text(const Doctor *d)
{
    g_autoptr(GArray) uses = tasks_use(&d->parts[PART_TASKS]);
    g_autofree char *name = NULL;
    const Use *use;

    if (!uses->len) {
        return g_strdup("; cannot say by whom");
    }
    use = &g_array_index(uses, Use, 0);
    name = task_name(use->task);
    return g_strdup_printf("; most by %s (PID %" G_GUINT64_FORMAT "), %.0f %% "
                           "of a CPU", name,
                           number(use->task, RVMRPC_TASK_PID),
                           100 * use->share);
}

/* TRUE: a sentence. */
static gboolean diagnose_one_cpu(Doctor *d, guint32 index, const Spent *s)
{
    const double between = d->parts[PART_CPU].between_s;
    g_autofree char *by = NULL;

    if (s->all < STANDS * between) {
        say(d, "cpu-stands", "CPU %u counts no time: it is stuck with "
            "interrupts off, or its host does not run it", index);
        return TRUE;
    }
    if (s->system > BUSY * s->all) {
        by = busiest_text(d);
        say(d, "cpu-in-kernel", "CPU %u is in the kernel all the time%s",
            index, by);
        return TRUE;
    }
    return FALSE;
}

static void diagnose_cpus(Doctor *d)
{
    const RvmrpcCpustat *a = d->parts[PART_CPU].stat[0];
    const RvmrpcCpustat *b = d->parts[PART_CPU].stat[1];
    g_autofree char *by = NULL;
    guint said = 0;
    Spent s;

    if (!a || !b) {
        if (a) {
            cannot_say(d, "%s: " ONCE_TEXT, part_names[PART_CPU].what);
        }
        return;
    }
    for (guint i = 0; i < MIN(a->cpus->len, b->cpus->len) && said < SENTENCES;
         i++) {
        const RvmrpcCpuTimes *x = &g_array_index(a->cpus, RvmrpcCpuTimes, i);
        const RvmrpcCpuTimes *y = &g_array_index(b->cpus, RvmrpcCpuTimes, i);

        if (x->index == y->index) {
            s = spent(x, y);
            said += diagnose_one_cpu(d, x->index, &s);
        }
    }
    s = spent(&a->total, &b->total);
    if (s.all > 0 && s.idle < (1 - BUSY) * s.all) {
        by = busiest_text(d);
        say(d, "cpu-busy", "its CPUs are busy all the time, %.0f %% of it in "
            "the kernel%s", 100 * s.system / s.all, by);
    }
    if (s.all > 0 && s.steal > STOLEN * s.all) {
        say(d, "cpu-stolen", "its host gives it too little CPU time: %.0f %% "
            "were stolen", 100 * s.steal / s.all);
    }
}

static gboolean is_stopped(const RvmrpcRecord *r)
{
    g_autofree char *state = rvmrpc_record_get_string(r, RVMRPC_TASK_STATE);

    return number(r, RVMRPC_TASK_FROZEN) || g_strcmp0(state, "T") == 0;
}

/* One that is stopped is a job of a shell; many are user space, or containers. */
static void diagnose_stopped(Doctor *d)
{
    const Part *p = &d->parts[PART_TASKS];
    guint all = 0, stopped = 0, frozen = 0;
    gboolean init = FALSE;

    for (guint i = 0; i < count_of(p, 0); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i);

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_TASK ||
            number(r, RVMRPC_TASK_KERNEL)) {
            continue;
        }
        all++;
        if (is_stopped(r)) {
            stopped++;
            frozen += !!number(r, RVMRPC_TASK_FROZEN);
            init |= number(r, RVMRPC_TASK_PID) == 1;
        }
    }
    if (init || stopped > MOST * all) {
        say(d, "user-space-stands", "user space stands: %u of %u processes are "
            "stopped, %u of them by a frozen cgroup%s", stopped, all, frozen,
            init ? ", the first process too" : "");
    }
}

/*
 * The kernel's share of the CPU that is in it most; 1 when that is not known.
 * When the host does not run a CPU, its threads count time that they had not.
 */
static double most_in_kernel(const Doctor *d)
{
    const RvmrpcCpustat *a = d->parts[PART_CPU].stat[0];
    const RvmrpcCpustat *b = d->parts[PART_CPU].stat[1];
    double most = 0;

    if (!a || !b) {
        return 1;
    }
    for (guint i = 0; i < MIN(a->cpus->len, b->cpus->len); i++) {
        const RvmrpcCpuTimes *x = &g_array_index(a->cpus, RvmrpcCpuTimes, i);
        const RvmrpcCpuTimes *y = &g_array_index(b->cpus, RvmrpcCpuTimes, i);
        Spent s = spent(x, y);

        if (x->index == y->index && s.all > 0) {
            most = MAX(most, s.system / s.all);
        }
    }
    return most;
}

static void diagnose_tasks(Doctor *d)
{
    const Part *p = &d->parts[PART_TASKS];
    g_autoptr(GHashTable) groups = tasks_groups(p);
    g_autoptr(GArray) uses = tasks_use(p);
    const Group *group = group_max(groups, FALSE);
    const double in_kernel = most_in_kernel(d);
    guint said = 0;

    if (group && group->count >= MANY && group->count > MOST * count_of(p, 0)) {
        say(d, "many-processes", "%u of %u processes are called %s",
            group->count, count_of(p, 0), group->name);
    }
    if (p->records[0] && !p->records[1]) {
        cannot_say(d, "which processes use CPU time: " ONCE_TEXT);
    }
    for (guint i = 0; i < uses->len && said < SENTENCES; i++) {
        const Use *use = &g_array_index(uses, Use, i);

        if (number(use->task, RVMRPC_TASK_KERNEL) && use->share >= SPINS &&
            in_kernel >= SPINS) {
            g_autofree char *name = task_name(use->task);

            say(d, "kernel-spins", "the kernel's thread %s (PID %"
                G_GUINT64_FORMAT ") keeps a CPU: %.0f %%", name,
                number(use->task, RVMRPC_TASK_PID), 100 * use->share);
            said++;
        }
    }
}

/* ---- Clock and log ---- */

static void diagnose_clock(Doctor *d)
{
    const Part *p = &d->parts[PART_CLOCK];
    const RvmrpcClock *clock = &p->clock;

    if (!p->error && fabs((double)clock->skew_ns) > SKEW_NS + clock->error_ns) {
        say(d, "clock", "its clock is %.1f s %s ours ('rvmrpc clock --set')",
            fabs((double)clock->skew_ns) / 1e9,
            clock->skew_ns < 0 ? "behind" : "ahead of");
    }
}

static const char *const alarms[] = {
    "Kernel panic", "BUG:", "Oops", "general protection fault",
    "soft lockup", "hard LOCKUP", "rcu_sched self-detected", "detected stalls",
    "blocked for more than", "Out of memory", "Memory cgroup out of memory",
    "I/O error", "Remounting filesystem read-only", "Buffer I/O error",
    "EXT4-fs error", "XFS_WANT_CORRUPTED", "Corruption", "No space left",
    "page allocation failure", "fork rejected", "segfault at",
};

/* " 12 s ago", or "" when that cannot be said. */
static char *ago_text(const Doctor *d, const RvmrpcRecord *r)
{
    const Part *p = &d->parts[PART_CLOCK];
    guint64 ns;

    if (p->error || !rvmrpc_record_get_u64(r, RVMRPC_LOG_TIME_NS, &ns) ||
        ns > p->clock.boottime_ns) {
        return g_strdup("");
    }
    return g_strdup_printf(" %.0f s ago", (p->clock.boottime_ns - ns) / 1e9);
}

/* The last message of each kind. */
static void diagnose_log(Doctor *d)
{
    const Part *p = &d->parts[PART_LOG];
    guint64 said = 0;
    guint sentences = 0;

    G_STATIC_ASSERT(G_N_ELEMENTS(alarms) <= 64);
    for (guint i = count_of(p, 0); i > 0 && sentences < SENTENCES; i--) {
        const RvmrpcRecord *r = rvmrpc_records_get(p->records[0], i - 1);
        g_autofree char *text = rvmrpc_record_get_string(r, RVMRPC_LOG_TEXT);

        for (guint k = 0; text && k < G_N_ELEMENTS(alarms); k++) {
            if (!(said >> k & 1) && strstr(text, alarms[k])) {
                g_autofree char *line = clean(text);
                g_autofree char *ago = ago_text(d, r);

                if (g_utf8_strlen(line, -1) > LINE_CHARS) {
                    *g_utf8_offset_to_pointer(line, LINE_CHARS) = '\0';
                }
                say(d, "log", "its kernel said%s: %s", ago, line);
                said |= G_GUINT64_CONSTANT(1) << k;
                sentences++;
                break;
            }
        }
    }
}

/* ---- What could not be found out ---- */

/* What has the same reason as part @i, which is said then. */
static char *unknown_text(const Doctor *d, guint i, gboolean *said)
{
    GString *what = g_string_new(part_names[i].what);
    guint count = 1;

    for (guint k = i + 1; k < PARTS; k++) {
        if (d->parts[k].error && strcmp(d->parts[k].error->message,
                                        d->parts[i].error->message) == 0) {
            g_string_append_printf(what, ", %s", part_names[k].what);
            said[k] = TRUE;
            count++;
        }
    }
    if (count == PARTS) {
        g_string_assign(what, "anything of what its kernel knows");
    }
    return g_string_free(what, FALSE);
}

/* One sentence for all that has the same reason. */
static void diagnose_unknown(Doctor *d)
{
    gboolean said[PARTS] = { FALSE };

    for (guint i = 0; i < PARTS; i++) {
        g_autofree char *what = NULL, *reason = NULL;

        if (d->parts[i].error && !said[i]) {
            what = unknown_text(d, i, said);
            reason = reason_text(d, d->parts[i].error);
            cannot_say(d, "%s: %s", what, reason);
        }
    }
}

/* Why a list is not whole; NULL: it is, or there is none. */
static char *cut_text(const Doctor *d, guint part, const RvmrpcRecords *records)
{
    if (!records) {
        return NULL;
    }
    if (rvmrpc_records_get_cut(records)) {
        return reason_text(d, rvmrpc_records_get_cut(records));
    }
    if (rvmrpc_records_is_partial(records)) {
        return g_strdup("the guest could not look at everything in time");
    }
    return part == PART_TASKS && rvmrpc_records_has_more(records) ?
           g_strdup("there are too many of them") : NULL;
}

/* A list that is there, but not whole: what is not in it may be wrong. */
static void diagnose_cut(Doctor *d)
{
    for (guint i = 0; i < PARTS; i++) {
        const Part *p = &d->parts[i];
        g_autofree char *reason = cut_text(d, i, p->records[0]) ?:
                                  cut_text(d, i, p->records[1]);

        if (reason) {
            cannot_say(d, "all of %s: %s", part_names[i].what, reason);
        }
    }
}

void doctor_diagnose(Doctor *d)
{
    diagnose_channel(d);
    diagnose_memory(d);
    diagnose_kills(d);
    diagnose_blocked(d);
    diagnose_disks(d);
    diagnose_filesystems(d);
    diagnose_freeze(d);
    diagnose_stopped(d);
    diagnose_tasks(d);
    diagnose_cpus(d);
    diagnose_pressure(d);
    diagnose_log(d);
    diagnose_clock(d);
    if (!d->findings->len) {
        gboolean all = TRUE;

        for (guint i = 0; i < PARTS; i++) {
            all &= !d->parts[i].error;
        }
        say(d, "nothing-found", "nothing was found that is wrong%s",
            all ? "" : ", in what could be asked");
    }
    diagnose_unknown(d);
    diagnose_cut(d);
}
