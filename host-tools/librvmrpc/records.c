/*
 * librvmrpc: answers that are lists of records
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They are a guest's words: core's reader checks each answer as a whole, and
 * what a list makes us keep, and how often it makes us ask, is bounded.
 */
#include <string.h>
#include "private.h"
#include "rvmrpc_reader.h"

/* More answers, and more bytes in them, than a sane guest's longest list has. */
#define PAGES_MAX   4096
#define BYTES_MAX   (32 << 20)

struct RvmrpcRecord {
    guint16 kind;
    const guint8 *fields, *end; /* within one of the pages, checked */
};

struct RvmrpcRecords {
    GPtrArray *pages;           /* of GBytes */
    gsize bytes;                /* in them */
    GArray *records;            /* of RvmrpcRecord */
    guint64 next;
    gboolean partial, more;
    GError *cut;
};

/* ---- Parsing ---- */

static RvmrpcRecords *records_new(void)
{
    RvmrpcRecords *records = g_new0(RvmrpcRecords, 1);

    records->pages = g_ptr_array_new_with_free_func((GDestroyNotify)
                                                    g_bytes_unref);
    records->records = g_array_new(FALSE, FALSE, sizeof(RvmrpcRecord));
    return records;
}

void rvmrpc_records_free(RvmrpcRecords *records)
{
    g_clear_error(&records->cut);
    g_array_unref(records->records);
    g_ptr_array_unref(records->pages);
    g_free(records);
}

/* Adds what an answer holds; the GBytes is ours alone, and does not change. */
static gboolean add_page(RvmrpcRecords *records, GBytes *answer, GError **error)
{
    struct rvmrpc_reader r;
    gsize size;
    const void *data = g_bytes_get_data(answer, &size);

    if (!rvmrpc_reader_open(&r, data, size) ||
        size > BYTES_MAX - records->bytes) {
        g_set_error_literal(error, RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED,
                            "the guest's answer is malformed");
        return FALSE;
    }
    records->bytes += size;
    records->more = !!(r.head.flags & RVMRPC_RECORDS_MORE);
    records->partial |= !!(r.head.flags & RVMRPC_RECORDS_PARTIAL);
    records->next = r.head.next;
    while (rvmrpc_reader_record(&r)) {
        const RvmrpcRecord record = {
            .kind = r.kind,
            .fields = r.field_at,
            .end = r.field_end,
        };

        g_array_append_val(records->records, record);
    }
    g_ptr_array_add(records->pages, g_bytes_ref(answer));
    return TRUE;
}

RvmrpcRecords *rvmrpc_parse_records(GBytes *answer, GError **error)
{
    g_autoptr(RvmrpcRecords) records = records_new();

    return add_page(records, answer, error) ? g_steal_pointer(&records) : NULL;
}

/* ---- Asking ---- */

typedef struct Asking {
    RvmrpcConn *conn;
    RvmrpcRecords *records;
    const RvmrpcListing *what;
    const Until *until;
    GHashTable *told;           /* cursors there were */
} Asking;

/* Whether @cursor is a new one, which it is only once. */
static gboolean cursor_is_new(Asking *a, guint64 cursor)
{
    return g_hash_table_size(a->told) < PAGES_MAX &&
           g_hash_table_add(a->told, g_memdup2(&cursor, sizeof(cursor)));
}

/* One more answer.  The first is asked for even if the time is over. */
static gboolean ask(Asking *a, guint64 cursor, GError **error)
{
    const RvmrpcListing *what = a->what;
    const guint first = a->records->pages->len == 0;
    const struct rvmrpc_records_req req = {
        .cursor = cursor,
        /* What follows the first of the last messages is a list from there. */
        .select = what->module == RVMRPC_MOD_KLOG && !first ?
                  RVMRPC_KLOG_FROM : what->select,
        .limit = what->max ? what->max - a->records->records->len : 0,
    };
    g_autoptr(GByteArray) words = g_byte_array_new();
    g_autoptr(GBytes) arg = NULL, answer = NULL;

    if (!first && !until_more(a->until, a->conn->vm, error)) {
        return FALSE;
    }
    g_byte_array_append(words, (const guint8 *)&req, sizeof(req));
    if (what->path) {
        g_byte_array_append(words, (const guint8 *)what->path,
                            strlen(what->path));
    }
    arg = g_byte_array_free_to_bytes(g_steal_pointer(&words));
    answer = rvmrpc_call(a->conn, what->module, what->procedure, arg,
                         MAX(until_left(a->until), 1), NULL,
                         a->until->cancellable, error);
    if (!answer) {
        return FALSE;
    }
    if (!add_page(a->records, answer, error)) {
        g_prefix_error(error, "%s: ", a->conn->vm->label);
        return FALSE;
    }
    return TRUE;
}

static gboolean ask_all(Asking *a, GError **error)
{
    const RvmrpcRecords *records = a->records;
    guint64 cursor = a->what->cursor;

    do {
        if (!cursor_is_new(a, cursor)) {
            g_propagate_error(error, malformed_error(a->conn->vm));
            return FALSE;
        }
        if (!ask(a, cursor, error)) {
            return FALSE;
        }
        cursor = records->next;
    } while (records->more &&
             (!a->what->max || records->records->len < a->what->max) &&
             (!a->what->enough || records->bytes < a->what->enough));
    return TRUE;
}

RvmrpcRecords *rvmrpc_get_records(RvmrpcConn *conn, const RvmrpcListing *what,
                                  guint timeout_ms, GCancellable *cancellable,
                                  GError **error)
{
    Until until = until_ms(timeout_ms, cancellable);
    g_autoptr(RvmrpcRecords) records = records_new();
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_int64_hash,
                                                       g_int64_equal, g_free,
                                                       NULL);
    Asking asking = { conn, records, what, &until, told };
    GError *err = NULL;

    if (!ask_all(&asking, &err)) {
        /* Of what is malformed, or nobody waits for, no part is good. */
        if (!records->pages->len || err->domain != RVMRPC_ERROR ||
            err->code == RVMRPC_ERROR_MALFORMED) {
            g_propagate_error(error, err);
            return NULL;
        }
        records->cut = err;
    }
    /* A guest that sends more than it was asked for. */
    if (what->max && records->records->len > what->max) {
        g_array_set_size(records->records, what->max);
    }
    return g_steal_pointer(&records);
}

/* ---- What it holds ---- */

guint rvmrpc_records_get_count(const RvmrpcRecords *records)
{
    return records->records->len;
}

const RvmrpcRecord *rvmrpc_records_get(const RvmrpcRecords *records, guint i)
{
    g_return_val_if_fail(i < records->records->len, NULL);
    return &g_array_index(records->records, RvmrpcRecord, i);
}

gboolean rvmrpc_records_is_partial(const RvmrpcRecords *records)
{
    return records->partial;
}

gboolean rvmrpc_records_has_more(const RvmrpcRecords *records)
{
    return records->more;
}

const GError *rvmrpc_records_get_cut(const RvmrpcRecords *records)
{
    return records->cut;
}

guint64 rvmrpc_records_get_next(const RvmrpcRecords *records)
{
    return records->next;
}

guint rvmrpc_record_get_kind(const RvmrpcRecord *record)
{
    return record->kind;
}

/* Goes to the record's next field of that key and type. */
static gboolean find_field(struct rvmrpc_reader *r, guint key, guint type)
{
    while (rvmrpc_reader_field(r)) {
        if (r->key == key && r->type == type) {
            return TRUE;
        }
    }
    return FALSE;
}

static struct rvmrpc_reader fields_of(const RvmrpcRecord *record)
{
    return (struct rvmrpc_reader) {
        .field_at = record->fields,
        .field_end = record->end,
    };
}

gboolean rvmrpc_record_get_u64(const RvmrpcRecord *record, guint key,
                               guint64 *value)
{
    struct rvmrpc_reader r = fields_of(record);

    if (!find_field(&r, key, RVMRPC_FIELD_U64)) {
        return FALSE;
    }
    *value = r.u64;
    return TRUE;
}

/* A field's text: no NUL in it, and UTF-8. */
static char *field_text(const struct rvmrpc_reader *r)
{
    return g_utf8_make_valid((const char *)r->value, r->length);
}

char *rvmrpc_record_get_string(const RvmrpcRecord *record, guint key)
{
    struct rvmrpc_reader r = fields_of(record);

    return find_field(&r, key, RVMRPC_FIELD_STRING) ? field_text(&r) : NULL;
}

char **rvmrpc_record_get_strings(const RvmrpcRecord *record, guint key)
{
    struct rvmrpc_reader r = fields_of(record);
    GPtrArray *all = g_ptr_array_new();

    while (find_field(&r, key, RVMRPC_FIELD_STRING)) {
        g_ptr_array_add(all, field_text(&r));
    }
    g_ptr_array_add(all, NULL);
    return (char **)g_ptr_array_free(all, FALSE);
}

GBytes *rvmrpc_record_get_bytes(const RvmrpcRecord *record, guint key)
{
    struct rvmrpc_reader r = fields_of(record);

    return find_field(&r, key, RVMRPC_FIELD_BYTES) ?
           g_bytes_new(r.value, r.length) : NULL;
}
