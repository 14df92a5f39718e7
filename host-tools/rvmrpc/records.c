/*
 * The rvmrpc command: records as JSON
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <arpa/inet.h>
#include <string.h>
#include "rvmrpc-cmd.h"

typedef enum Form {
    FORM_U64,
    FORM_BOOL,
    FORM_PERCENT,               /* hundredths of it */
    FORM_DEVICE,                /* major << 32 | minor */
    FORM_SKIPPED,
    FORM_TIME,                  /* signed */
    FORM_TEXT,
    FORM_TEXTS,
    FORM_MAC,
    FORM_ADDRESS,
    FORM_NAME,                  /* a file's: bytes */
} Form;

typedef struct Key {
    guint16 kind, key;
    Form form;
    const char *name;
} Key;

static const Key keys[] = {
#define KEY(kind, key, form, name) \
    { RVMRPC_RECORD_##kind, RVMRPC_##key, FORM_##form, name }
    KEY(PSI, PSI_RESOURCE, TEXT, "resource"),
    KEY(PSI, PSI_SOME_AVG10, PERCENT, "some-avg10"),
    KEY(PSI, PSI_SOME_AVG60, PERCENT, "some-avg60"),
    KEY(PSI, PSI_SOME_AVG300, PERCENT, "some-avg300"),
    KEY(PSI, PSI_SOME_TOTAL, U64, "some-total-ns"),
    KEY(PSI, PSI_FULL_AVG10, PERCENT, "full-avg10"),
    KEY(PSI, PSI_FULL_AVG60, PERCENT, "full-avg60"),
    KEY(PSI, PSI_FULL_AVG300, PERCENT, "full-avg300"),
    KEY(PSI, PSI_FULL_TOTAL, U64, "full-total-ns"),
    KEY(VMSTAT, VMSTAT_PAGE_SIZE, U64, "page-size"),
    KEY(VMSTAT, VMSTAT_FAULTS, U64, "faults"),
    KEY(VMSTAT, VMSTAT_MAJOR_FAULTS, U64, "major-faults"),
    KEY(VMSTAT, VMSTAT_IN, U64, "in-kib"),
    KEY(VMSTAT, VMSTAT_OUT, U64, "out-kib"),
    KEY(VMSTAT, VMSTAT_SWAP_IN, U64, "swap-in"),
    KEY(VMSTAT, VMSTAT_SWAP_OUT, U64, "swap-out"),
    KEY(VMSTAT, VMSTAT_SCAN_BACKGROUND, U64, "scan-background"),
    KEY(VMSTAT, VMSTAT_SCAN_DIRECT, U64, "scan-direct"),
    KEY(VMSTAT, VMSTAT_STEAL_BACKGROUND, U64, "steal-background"),
    KEY(VMSTAT, VMSTAT_STEAL_DIRECT, U64, "steal-direct"),
    KEY(VMSTAT, VMSTAT_REFAULT_ANON, U64, "refault-anonymous"),
    KEY(VMSTAT, VMSTAT_REFAULT_FILE, U64, "refault-file"),
    KEY(VMSTAT, VMSTAT_STALLS, U64, "stalls"),
    KEY(VMSTAT, VMSTAT_OOM_KILLS, U64, "oom-kills"),
    KEY(DISK, DISK_NAME, TEXT, "name"),
    KEY(DISK, DISK_DEVICE, DEVICE, "device"),
    KEY(DISK, DISK_READS, U64, "reads"),
    KEY(DISK, DISK_READ_BYTES, U64, "read-bytes"),
    KEY(DISK, DISK_READ_NS, U64, "read-ns"),
    KEY(DISK, DISK_WRITES, U64, "writes"),
    KEY(DISK, DISK_WRITE_BYTES, U64, "write-bytes"),
    KEY(DISK, DISK_WRITE_NS, U64, "write-ns"),
    KEY(DISK, DISK_IN_FLIGHT, U64, "in-flight"),
    KEY(DISK, DISK_BUSY_NS, U64, "busy-ns"),
    KEY(DISK, DISK_QUEUE_NS, U64, "queue-ns"),
    KEY(TASK, TASK_PID, U64, "pid"),
    KEY(TASK, TASK_THREAD, U64, "thread"),
    KEY(TASK, TASK_NAME, TEXT, "name"),
    KEY(TASK, TASK_STATE, TEXT, "state"),
    KEY(TASK, TASK_PARENT, U64, "parent"),
    KEY(TASK, TASK_UID, U64, "uid"),
    KEY(TASK, TASK_KERNEL, BOOL, "kernel"),
    KEY(TASK, TASK_FROZEN, BOOL, "frozen"),
    KEY(TASK, TASK_THREADS, U64, "threads"),
    KEY(TASK, TASK_RSS, U64, "rss"),
    KEY(TASK, TASK_CPU_NS, U64, "cpu-ns"),
    KEY(TASK, TASK_STARTED_NS, U64, "started-ns"),
    KEY(TASK, TASK_STACK, TEXTS, "stack"),
    KEY(TASK, TASK_WAIT, TEXT, "wait"),
    KEY(LOG, LOG_SEQ, U64, "seq"),
    KEY(LOG, LOG_LEVEL, U64, "level"),
    KEY(LOG, LOG_FACILITY, U64, "facility"),
    KEY(LOG, LOG_TIME_NS, U64, "time-ns"),
    KEY(LOG, LOG_TEXT, TEXT, "text"),
    KEY(VMCOREINFO, VMCOREINFO_ADDRESS, U64, "address"),
    KEY(VMCOREINFO, VMCOREINFO_SIZE, U64, "size"),
    KEY(VMCOREINFO, VMCOREINFO_TEXT, TEXT, "text"),
    KEY(FILESYSTEM, FS_TARGET, TEXT, "target"),
    KEY(FILESYSTEM, FS_SOURCE, TEXT, "source"),
    KEY(FILESYSTEM, FS_TYPE, TEXT, "type"),
    KEY(FILESYSTEM, FS_ROOT, TEXT, "root"),
    KEY(FILESYSTEM, FS_DEVICE, DEVICE, "device"),
    KEY(FILESYSTEM, FS_READ_ONLY, BOOL, "read-only"),
    KEY(FILESYSTEM, FS_SKIPPED, SKIPPED, "skipped"),
    KEY(FILESYSTEM, FS_SIZE, U64, "size"),
    KEY(FILESYSTEM, FS_FREE, U64, "free"),
    KEY(FILESYSTEM, FS_AVAILABLE, U64, "available"),
    KEY(FILESYSTEM, FS_FILES, U64, "inodes"),
    KEY(FILESYSTEM, FS_FILES_FREE, U64, "inodes-free"),
    KEY(FILESYSTEM, FS_CACHED, BOOL, "cached"),
    KEY(INTERFACE, NET_INDEX, U64, "index"),
    KEY(INTERFACE, NET_NAME, TEXT, "name"),
    KEY(INTERFACE, NET_MAC, MAC, "mac"),
    KEY(INTERFACE, NET_MTU, U64, "mtu"),
    KEY(INTERFACE, NET_UP, BOOL, "up"),
    KEY(INTERFACE, NET_STATE, TEXT, "state"),
    KEY(INTERFACE, NET_LOOPBACK, BOOL, "loopback"),
    KEY(INTERFACE, NET_RX_BYTES, U64, "rx-bytes"),
    KEY(INTERFACE, NET_RX_PACKETS, U64, "rx-packets"),
    KEY(INTERFACE, NET_RX_ERRORS, U64, "rx-errors"),
    KEY(INTERFACE, NET_RX_DROPPED, U64, "rx-dropped"),
    KEY(INTERFACE, NET_TX_BYTES, U64, "tx-bytes"),
    KEY(INTERFACE, NET_TX_PACKETS, U64, "tx-packets"),
    KEY(INTERFACE, NET_TX_ERRORS, U64, "tx-errors"),
    KEY(INTERFACE, NET_TX_DROPPED, U64, "tx-dropped"),
    KEY(ADDRESS, ADDRESS_BYTES, ADDRESS, "address"),
    KEY(ADDRESS, ADDRESS_PREFIX, U64, "prefix"),
    KEY(ADDRESS, ADDRESS_SCOPE, TEXT, "scope"),
    KEY(FILE, FILE_NAME, NAME, "name"),
    KEY(FILE, FILE_MODE, U64, "mode"),
    KEY(FILE, FILE_SIZE, U64, "size"),
    KEY(FILE, FILE_ALLOCATED, U64, "allocated"),
    KEY(FILE, FILE_INODE, U64, "inode"),
    KEY(FILE, FILE_LINKS, U64, "links"),
    KEY(FILE, FILE_UID, U64, "uid"),
    KEY(FILE, FILE_GID, U64, "gid"),
    KEY(FILE, FILE_DEVICE, DEVICE, "device"),
    KEY(FILE, FILE_ACCESSED_NS, TIME, "accessed-ns"),
    KEY(FILE, FILE_MODIFIED_NS, TIME, "modified-ns"),
    KEY(FILE, FILE_CHANGED_NS, TIME, "changed-ns"),
    KEY(FILE, FILE_LINK, NAME, "link"),
#undef KEY
};

const char *skipped_text(guint64 skipped)
{
    switch (skipped) {
    case RVMRPC_FS_SKIPPED_REMOTE:
        return "remote";
    case RVMRPC_FS_SKIPPED_BELOW:
        return "on-remote";
    case RVMRPC_FS_SKIPPED_FAILED:
        return "failed";
    default:
        return "unknown";
    }
}

char *mac_text(const RvmrpcRecord *r, guint key)
{
    g_autoptr(GBytes) bytes = rvmrpc_record_get_bytes(r, key);
    GString *s = g_string_new(NULL);
    const guint8 *data;
    gsize size;

    if (!bytes) {
        return g_string_free(s, TRUE);
    }
    data = g_bytes_get_data(bytes, &size);
    for (gsize i = 0; i < size; i++) {
        g_string_append_printf(s, "%s%02x", i ? ":" : "", data[i]);
    }
    return g_string_free(s, FALSE);
}

char *address_text(const RvmrpcRecord *r)
{
    g_autoptr(GBytes) bytes = rvmrpc_record_get_bytes(r, RVMRPC_ADDRESS_BYTES);
    char text[INET6_ADDRSTRLEN];
    const void *data;
    gsize size;

    if (!bytes) {
        return NULL;
    }
    data = g_bytes_get_data(bytes, &size);
    if (size != 4 && size != 16) {
        return mac_text(r, RVMRPC_ADDRESS_BYTES);
    }
    return g_strdup(inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text,
                              sizeof(text)));
}

char *record_bytes_text(const RvmrpcRecord *r, guint key)
{
    g_autoptr(GBytes) bytes = rvmrpc_record_get_bytes(r, key);
    gsize size = 0;
    const char *data = bytes ? g_bytes_get_data(bytes, &size) : NULL;

    return bytes ? g_utf8_make_valid(data ?: "", size) : NULL;
}

static void add_u64(JsonBuilder *b, const Key *key, guint64 value)
{
    g_autofree char *device = NULL;

    switch (key->form) {
    case FORM_BOOL:
        json_bool(b, key->name, value != 0);
        break;
    case FORM_PERCENT:
        json_double(b, key->name, value / 100.0);
        break;
    case FORM_DEVICE:
        device = g_strdup_printf("%u:%u", (guint32)(value >> 32),
                                 (guint32)value);
        json_string(b, key->name, device);
        break;
    case FORM_SKIPPED:
        json_string(b, key->name, skipped_text(value));
        break;
    case FORM_TIME:
        json_i64(b, key->name, (gint64)value);
        break;
    default:
        json_u64(b, key->name, value);
    }
}

static void add_texts(JsonBuilder *b, const RvmrpcRecord *r, const Key *key)
{
    g_auto(GStrv) texts = rvmrpc_record_get_strings(r, key->key);

    if (!texts[0]) {
        return;
    }
    json_builder_set_member_name(b, key->name);
    json_builder_begin_array(b);
    for (char **text = texts; *text; text++) {
        json_builder_add_string_value(b, *text);
    }
    json_builder_end_array(b);
}

static void add_key(JsonBuilder *b, const RvmrpcRecord *r, const Key *key)
{
    g_autofree char *text = NULL;
    guint64 value;

    switch (key->form) {
    case FORM_TEXT:
        text = rvmrpc_record_get_string(r, key->key);
        break;
    case FORM_MAC:
        text = mac_text(r, key->key);
        break;
    case FORM_ADDRESS:
        text = address_text(r);
        break;
    case FORM_NAME:
        text = record_bytes_text(r, key->key);
        break;
    case FORM_TEXTS:
        add_texts(b, r, key);
        break;
    default:
        if (rvmrpc_record_get_u64(r, key->key, &value)) {
            add_u64(b, key, value);
        }
    }
    json_string(b, key->name, text);
}

void json_record(JsonBuilder *b, const RvmrpcRecord *r)
{
    const guint kind = rvmrpc_record_get_kind(r);

    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (keys[i].kind == kind) {
            add_key(b, r, &keys[i]);
        }
    }
}

void json_records(JsonBuilder *b, const char *name,
                  const RvmrpcRecords *records, guint kind)
{
    json_builder_set_member_name(b, name);
    json_builder_begin_array(b);
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) == kind) {
            json_builder_begin_object(b);
            json_record(b, r);
            json_builder_end_object(b);
        }
    }
    json_builder_end_array(b);
}

/* Addresses follow their interface. */
void json_interfaces(JsonBuilder *b, const char *name,
                     const RvmrpcRecords *records)
{
    const guint count = rvmrpc_records_get_count(records);

    json_builder_set_member_name(b, name);
    json_builder_begin_array(b);
    for (guint i = 0; i < count; i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);

        if (rvmrpc_record_get_kind(r) != RVMRPC_RECORD_INTERFACE) {
            continue;
        }
        json_builder_begin_object(b);
        json_record(b, r);
        json_builder_set_member_name(b, "addresses");
        json_builder_begin_array(b);
        for (guint j = i + 1; j < count; j++) {
            const RvmrpcRecord *address = rvmrpc_records_get(records, j);

            if (!is_address_of(address, r)) {
                break;
            }
            json_builder_begin_object(b);
            json_record(b, address);
            json_builder_end_object(b);
        }
        json_builder_end_array(b);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

gboolean is_address_of(const RvmrpcRecord *address,
                       const RvmrpcRecord *interface)
{
    guint64 of, index;

    return rvmrpc_record_get_kind(address) == RVMRPC_RECORD_ADDRESS &&
           rvmrpc_record_get_u64(address, RVMRPC_ADDRESS_INTERFACE, &of) &&
           rvmrpc_record_get_u64(interface, RVMRPC_NET_INDEX, &index) &&
           of == index;
}
