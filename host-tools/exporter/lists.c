/*
 * rvmrpc-exporter: metrics of what the guests tell as lists
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Names end as node_exporter's do, so that a rule for those is soon one for
 * these.  How many records there are of a VM is bounded by who asked for them.
 */
#include <string.h>
#include "lists.h"
#include "rvmrpc_abi.h"

#define NS      1e-9

typedef struct Metric Metric;

/* FALSE: the guest does not tell it. */
typedef gboolean Getter(const RvmrpcRecord *r, const Metric *m, double *value);

struct Metric {
    const char *name, *type, *help;
    guint key;
    double unit;                /* of the guest's value */
    Getter *get;                /* NULL: the key's value */
};

/* Metrics with the same labels, of records of one kind. */
typedef struct Group {
    FactsList list;
    guint kind;
    /* NULL: it is not shown; without it there is one record, and no label. */
    char *(*labels)(const RvmrpcRecord *r);
    const Metric *metrics;
    gsize count;
} Group;

typedef struct Row {
    char *labels;
    const RvmrpcRecord *record;
} Row;

/* ---- Values ---- */

static gboolean get_number(const RvmrpcRecord *r, const Metric *m,
                           double *value)
{
    guint64 told;

    if (!rvmrpc_record_get_u64(r, m->key, &told)) {
        return FALSE;
    }
    *value = told * m->unit;
    return TRUE;
}

/* As node_exporter has it: what is "unknown", as a loopback is, is not up. */
static gboolean get_up(const RvmrpcRecord *r, const Metric *m, double *value)
{
    g_autofree char *state = rvmrpc_record_get_string(r, m->key);

    *value = state && strcmp(state, "up") == 0;
    return state != NULL;
}

/* Sizes of long ago are not told as today's. */
static gboolean is_cached(const RvmrpcRecord *r)
{
    guint64 cached = 0;

    return rvmrpc_record_get_u64(r, RVMRPC_FS_CACHED, &cached) && cached;
}

static gboolean get_size(const RvmrpcRecord *r, const Metric *m, double *value)
{
    return !is_cached(r) && get_number(r, m, value);
}

/* Of remote ones, which are not asked, there is nothing to tell. */
static gboolean get_failed(const RvmrpcRecord *r, const Metric *m,
                           double *value)
{
    guint64 why = 0, size;

    *value = rvmrpc_record_get_u64(r, m->key, &why) &&
             why == RVMRPC_FS_SKIPPED_FAILED;
    return *value ||
           (!is_cached(r) && rvmrpc_record_get_u64(r, RVMRPC_FS_SIZE, &size));
}

static gboolean get_one(const RvmrpcRecord *r, const Metric *m, double *value)
{
    (void)r;
    (void)m;
    *value = 1;
    return TRUE;
}

/* ---- Labels ---- */

/* ,NAME="VALUE": of a text of the guest's. */
static void add_label(GString *s, const char *name, const RvmrpcRecord *r,
                      guint key)
{
    g_autofree char *text = rvmrpc_record_get_string(r, key);
    g_autofree char *value = page_guest_label(text);

    g_string_append_printf(s, ",%s=\"%s\"", name, value);
}

/* Partitions, and disks that are none, are left out as node_exporter does. */
static gboolean is_no_disk(const RvmrpcRecord *r)
{
    g_autofree char *name = rvmrpc_record_get_string(r, RVMRPC_DISK_NAME);

    return !name || g_regex_match_simple(
        "^(z?ram|loop|fd|(h|s|v|xv)d[a-z]+|nvme\\d+n\\d+p|mmcblk\\d+p)\\d+$",
        name, 0, 0);
}

static char *disk_labels(const RvmrpcRecord *r)
{
    GString *s;

    if (is_no_disk(r)) {
        return NULL;
    }
    s = g_string_new(NULL);
    add_label(s, "device", r, RVMRPC_DISK_NAME);
    return g_string_free(s, FALSE);
}

static char *interface_labels(const RvmrpcRecord *r)
{
    GString *s = g_string_new(NULL);

    add_label(s, "device", r, RVMRPC_NET_NAME);
    return g_string_free(s, FALSE);
}

static char *interface_info_labels(const RvmrpcRecord *r)
{
    GString *s = g_string_new(NULL);
    g_autoptr(GBytes) mac = rvmrpc_record_get_bytes(r, RVMRPC_NET_MAC);
    const guint8 *byte = mac ? g_bytes_get_data(mac, NULL) : NULL;
    guint64 up;

    add_label(s, "device", r, RVMRPC_NET_NAME);
    g_string_append(s, ",address=\"");
    /* 20 bytes is the longest that there is, InfiniBand's. */
    for (gsize i = 0; mac && i < MIN(g_bytes_get_size(mac), 20); i++) {
        g_string_append_printf(s, "%s%02x", i ? ":" : "", byte[i]);
    }
    g_string_append_c(s, '"');
    add_label(s, "operstate", r, RVMRPC_NET_STATE);
    if (rvmrpc_record_get_u64(r, RVMRPC_NET_UP, &up)) {
        g_string_append_printf(s, ",adminstate=\"%s\"", up ? "up" : "down");
    }
    return g_string_free(s, FALSE);
}

static char *filesystem_labels(const RvmrpcRecord *r)
{
    GString *s = g_string_new(NULL);

    add_label(s, "device", r, RVMRPC_FS_SOURCE);
    add_label(s, "mountpoint", r, RVMRPC_FS_TARGET);
    add_label(s, "fstype", r, RVMRPC_FS_TYPE);
    return g_string_free(s, FALSE);
}

/* ---- Metrics ---- */

#define COUNTER(name, key, unit, help) \
    { "guest_" name "_total", "counter", help, RVMRPC_##key, unit, NULL }
#define GAUGE(name, key, unit, help) \
    { "guest_" name, "gauge", help, RVMRPC_##key, unit, NULL }
#define SIZE(name, key, help) \
    { "guest_" name, "gauge", help, RVMRPC_##key, 1, get_size }
/* As node_exporter has them: by the kernel's name, without a type. */
#define VMSTAT(name, key, help) \
    { "guest_vmstat_" name, "untyped", help, RVMRPC_VMSTAT_##key, 1, NULL }

static const Metric vmstat[] = {
    VMSTAT("pgfault", FAULTS, "Page faults."),
    VMSTAT("pgmajfault", MAJOR_FAULTS, "Page faults that waited for a disk."),
    VMSTAT("pgpgin", IN, "KiB read from disks for page cache and swap."),
    VMSTAT("pgpgout", OUT, "KiB written."),
    VMSTAT("pswpin", SWAP_IN, "Pages swapped in."),
    VMSTAT("pswpout", SWAP_OUT, "Pages swapped out."),
    VMSTAT("pgscan_kswapd", SCAN_BACKGROUND,
           "Pages looked at to free memory, in the background."),
    VMSTAT("pgscan_direct", SCAN_DIRECT, "The same, by who wanted memory."),
    VMSTAT("pgsteal_kswapd", STEAL_BACKGROUND,
           "Pages taken to free memory, in the background."),
    VMSTAT("pgsteal_direct", STEAL_DIRECT, "The same, by who wanted memory."),
    VMSTAT("workingset_refault_anon", REFAULT_ANON,
           "Anonymous pages wanted again soon after they were taken."),
    VMSTAT("workingset_refault_file", REFAULT_FILE,
           "Pages of files wanted again soon after they were taken."),
    VMSTAT("allocstall", STALLS, "Times that who wanted memory had to wait."),
    VMSTAT("oom_kill", OOM_KILLS, "Processes killed for want of memory."),
};

static const Metric disk[] = {
    COUNTER("disk_reads_completed", DISK_READS, 1, "Reads."),
    COUNTER("disk_reads_merged", DISK_READS_MERGED, 1,
            "Reads that became part of another."),
    COUNTER("disk_read_bytes", DISK_READ_BYTES, 1, "Bytes read."),
    COUNTER("disk_read_time_seconds", DISK_READ_NS, NS,
            "Time of all reads together."),
    COUNTER("disk_writes_completed", DISK_WRITES, 1, "Writes."),
    COUNTER("disk_writes_merged", DISK_WRITES_MERGED, 1,
            "Writes that became part of another."),
    COUNTER("disk_written_bytes", DISK_WRITE_BYTES, 1, "Bytes written."),
    COUNTER("disk_write_time_seconds", DISK_WRITE_NS, NS,
            "Time of all writes together."),
    GAUGE("disk_io_now", DISK_IN_FLIGHT, 1, "Requests in flight."),
    COUNTER("disk_io_time_seconds", DISK_BUSY_NS, NS,
            "Time with a request in flight."),
    COUNTER("disk_io_time_weighted_seconds", DISK_QUEUE_NS, NS,
            "The same, times the requests."),
    COUNTER("disk_discards_completed", DISK_DISCARDS, 1, "Discards."),
    COUNTER("disk_discarded_bytes", DISK_DISCARD_BYTES, 1, "Bytes discarded."),
    COUNTER("disk_discard_time_seconds", DISK_DISCARD_NS, NS,
            "Time of all discards together."),
    COUNTER("disk_flush_requests", DISK_FLUSHES, 1, "Flushes."),
    COUNTER("disk_flush_requests_time_seconds", DISK_FLUSH_NS, NS,
            "Time of all flushes together."),
};

static const Metric interface[] = {
    GAUGE("network_mtu_bytes", NET_MTU, 1, "Largest packet."),
    { "guest_network_up", "gauge", "1 if its state is up.", RVMRPC_NET_STATE,
      1, get_up },
    COUNTER("network_receive_bytes", NET_RX_BYTES, 1, "Bytes received."),
    COUNTER("network_receive_packets", NET_RX_PACKETS, 1, "Packets received."),
    COUNTER("network_receive_errs", NET_RX_ERRORS, 1,
            "Packets received with errors."),
    COUNTER("network_receive_drop", NET_RX_DROPPED, 1,
            "Packets received and dropped."),
    COUNTER("network_transmit_bytes", NET_TX_BYTES, 1, "Bytes sent."),
    COUNTER("network_transmit_packets", NET_TX_PACKETS, 1, "Packets sent."),
    COUNTER("network_transmit_errs", NET_TX_ERRORS, 1,
            "Packets not sent for errors."),
    COUNTER("network_transmit_drop", NET_TX_DROPPED, 1,
            "Packets to be sent, and dropped."),
};

static const Metric interface_info[] = {
    { "guest_network_info", "gauge", "Its hardware address and state.", 0, 1,
      get_one },
};

static const Metric filesystem[] = {
    SIZE("filesystem_size_bytes", FS_SIZE, "Size."),
    SIZE("filesystem_free_bytes", FS_FREE, "Free."),
    SIZE("filesystem_avail_bytes", FS_AVAILABLE, "Free to who is not root."),
    SIZE("filesystem_files", FS_FILES, "Inodes."),
    SIZE("filesystem_files_free", FS_FILES_FREE, "Free inodes."),
    GAUGE("filesystem_readonly", FS_READ_ONLY, 1, "1 if nobody may write."),
    { "guest_filesystem_device_error", "gauge",
      "1 if it was asked and failed.", RVMRPC_FS_SKIPPED, 1, get_failed },
};

#define GROUP(list, kind, labels, metrics) \
    { FACTS_LIST_##list, RVMRPC_RECORD_##kind, labels, metrics, \
      G_N_ELEMENTS(metrics) }

static const Group groups[] = {
    GROUP(VMSTAT, VMSTAT, NULL, vmstat),
    GROUP(DISKS, DISK, disk_labels, disk),
    GROUP(NET, INTERFACE, interface_labels, interface),
    GROUP(NET, INTERFACE, interface_info_labels, interface_info),
    GROUP(FS, FILESYSTEM, filesystem_labels, filesystem),
};

/* ---- Samples ---- */

static void row_clear(void *row)
{
    g_free(((Row *)row)->labels);
}

/* Of one VM.  A mount on another of the same labels shows the same. */
static GArray *rows_of(const Facts *f, const Group *g)
{
    const RvmrpcRecords *records = f->list[g->list];
    guint count = records ? rvmrpc_records_get_count(records) : 0;
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    GArray *rows = g_array_new(FALSE, FALSE, sizeof(Row));

    g_array_set_clear_func(rows, row_clear);
    for (guint i = 0; i < count; i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        char *labels = NULL;

        if (rvmrpc_record_get_kind(r) == g->kind) {
            labels = g->labels ? g->labels(r) : g_strdup("");
        }
        if (labels && !g_hash_table_contains(seen, labels)) {
            const Row row = { labels, r };

            g_hash_table_add(seen, labels);
            g_array_append_val(rows, row);
        } else {
            g_free(labels);
        }
    }
    return rows;
}

static void put_group(Page *p, const Group *g)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(
        (GDestroyNotify)g_array_unref);

    for (guint vm = 0; vm < p->all->len; vm++) {
        g_ptr_array_add(rows, rows_of(p->all->pdata[vm], g));
    }
    for (const Metric *m = g->metrics; m < g->metrics + g->count; m++) {
        page_head(p, m->name, m->type, m->help);
        for (guint vm = 0; vm < rows->len; vm++) {
            const GArray *of_vm = rows->pdata[vm];

            for (guint i = 0; i < of_vm->len; i++) {
                const Row *row = &g_array_index(of_vm, Row, i);
                double value;

                if ((m->get ?: get_number)(row->record, m, &value)) {
                    page_sample(p, vm, m->name, row->labels, value);
                }
            }
        }
    }
}

/* In a metric's name stands what elsewhere is a label. */
static void put_pressure(Page *p)
{
#define WAITING(resource) \
    { resource, { "guest_pressure_" resource "_waiting_seconds_total", \
      "counter", "Time in which some task waited.", RVMRPC_PSI_SOME_TOTAL, \
      NS, NULL } }
#define STALLED(resource) \
    { resource, { "guest_pressure_" resource "_stalled_seconds_total", \
      "counter", "Time in which all tasks waited.", RVMRPC_PSI_FULL_TOTAL, \
      NS, NULL } }
    static const struct {
        const char *resource;
        Metric metric;
    } all[] = {
        WAITING("cpu"), WAITING("io"), STALLED("io"), WAITING("memory"),
        STALLED("memory"), STALLED("irq"),
    };

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        const Metric *m = &all[i].metric;

        page_head(p, m->name, m->type, m->help);
        for (guint vm = 0; vm < p->all->len; vm++) {
            const RvmrpcRecord *r = facts_record(p->all->pdata[vm],
                                                 FACTS_LIST_PSI,
                                                 RVMRPC_RECORD_PSI,
                                                 all[i].resource);
            double value;

            if (r && get_number(r, m, &value)) {
                page_sample(p, vm, m->name, "", value);
            }
        }
    }
}

static void put_blocked(Page *p)
{
    const char *name = "guest_procs_blocked";

    page_head(p, name, "gauge", "Threads that wait and take no signal, most "
              "often for a disk; at most " G_STRINGIFY(FACTS_BLOCKED_MAX) ".");
    for (guint vm = 0; vm < p->all->len; vm++) {
        const Facts *f = p->all->pdata[vm];
        const RvmrpcRecords *records = f->list[FACTS_LIST_BLOCKED];
        guint count = records ? rvmrpc_records_get_count(records) : 0;

        /* Of a walk that was not ended nobody knows how many there are. */
        if (facts_whole(f, FACTS_LIST_BLOCKED) || count == FACTS_BLOCKED_MAX) {
            page_sample(p, vm, name, "", count);
        }
    }
}

void lists_put(Page *p)
{
    put_pressure(p);
    put_blocked(p);
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        put_group(p, &groups[i]);
    }
}
