/*
 * Reverse VMRPC: lists of records, as QMP commands ask for them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They are a guest's words: core's reader checks each answer as a whole, and
 * how often a list makes us ask, and what it makes us keep, is bounded.
 */
#include "qemu/osdep.h"
#include "qemu/coroutine.h"
#include "qemu/sockets.h"
#include "qemu/units.h"
#include "hw/rvmrpc/core/rvmrpc_text.h"
#include "rvmrpc-records.h"

/*
 * More answers, and more bytes in them, than a sane guest's list has.  Text
 * that is none grows by four, and the main loop stands still while it is sent.
 */
#define PAGES_MAX   4096
#define BYTES_MAX   (2 * MiB)

/* Of a hardware address; InfiniBand's are the longest. */
#define MAC_MAX     32

/* ---- Asking ---- */

/* False: no part of it is good. */
static bool add_page(RvmrpcListing *l, struct rvmrpc_reader *r)
{
    l->pages++;
    l->more = r->head.flags & RVMRPC_RECORDS_MORE;
    l->partial |= r->head.flags & RVMRPC_RECORDS_PARTIAL;
    l->next = r->head.next;
    while (l->count < l->max && rvmrpc_reader_record(r)) {
        l->count++;
        if (!l->add(l->to, r)) {
            return false;
        }
    }
    return true;
}

/* One more answer.  The first is asked for even if the time is over. */
static uint32_t coroutine_fn fetch_page(RvmrpcListing *l, uint64_t cursor,
                                        const RvmrpcDeadline *d)
{
    const RvmrpcTarget target = {
        .module = l->module,
        .procedure = l->procedure,
    };
    const struct rvmrpc_records_req req = {
        .cursor = cursor,
        /* What follows the first of the last messages is a list from there. */
        .select = l->module == RVMRPC_MOD_KLOG && l->pages ?
                  RVMRPC_KLOG_FROM : l->select,
        .limit = l->max - l->count,
    };
    g_autoptr(RvmrpcCall) call = NULL;
    struct rvmrpc_reader r;
    uint32_t status;

    if (l->pages && !rvmrpc_deadline_left(d)) {
        return RVMRPC_STATUS_TIMED_OUT;
    }
    status = rvmrpc_ask(&target, &req, sizeof(req), d, &call);
    if (status != RVMRPC_STATUS_OK) {
        return status;
    }
    l->bytes += call->core.reslen;
    if (l->bytes > BYTES_MAX) {
        return RVMRPC_STATUS_TOO_BIG;
    }
    l->malformed = !rvmrpc_reader_open(&r, call->res, call->core.reslen) ||
                   !add_page(l, &r);
    return l->malformed ? RVMRPC_STATUS_SYSTEM_ERROR : RVMRPC_STATUS_OK;
}

uint32_t coroutine_fn rvmrpc_records_fetch(RvmrpcListing *l,
                                           const RvmrpcDeadline *d)
{
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_int64_hash,
                                                       g_int64_equal, g_free,
                                                       NULL);
    uint64_t cursor = l->cursor;
    uint32_t status;

    do {
        if (g_hash_table_size(told) == PAGES_MAX ||
            !g_hash_table_add(told, g_memdup2(&cursor, sizeof(cursor)))) {
            l->malformed = true;
            return RVMRPC_STATUS_SYSTEM_ERROR;
        }
        status = fetch_page(l, cursor, d);
        cursor = l->next;
    } while (status == RVMRPC_STATUS_OK && l->more && l->count < l->max);
    return status;
}

void rvmrpc_records_tell(const RvmrpcListing *l, uint32_t status,
                         GuestListInfo *info)
{
    info->partial |= l->partial;
    info->more |= l->more;
    if (status != RVMRPC_STATUS_OK && !info->has_cut) {
        info->has_cut = true;
        info->cut = status;
    }
}

bool coroutine_fn rvmrpc_records_get(RvmrpcListing *l, const RvmrpcDeadline *d,
                                     GuestListInfo *info, Error **errp)
{
    uint32_t status = rvmrpc_records_fetch(l, d);

    if (l->malformed) {
        rvmrpc_malformed_error(errp);
        return false;
    }
    if (status != RVMRPC_STATUS_OK && (!info || !l->pages)) {
        rvmrpc_status_error(status, errp);
        return false;
    }
    if (info) {
        rvmrpc_records_tell(l, status, info);
    }
    return true;
}

/* ---- Fields ---- */

static char *mac_text(const unsigned char *bytes, size_t length)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < length; i++) {
        g_string_append_printf(text, "%s%02x", i ? ":" : "", bytes[i]);
    }
    return g_strdup(text->str);
}

static char *address_text(const unsigned char *bytes, size_t length)
{
    char text[INET6_ADDRSTRLEN];

    return g_strdup(inet_ntop(length == 4 ? AF_INET : AF_INET6, bytes, text,
                              sizeof(text)));
}

static bool set_text(char **to, char *text)
{
    g_free(*to);
    *to = text;
    return true;
}

static bool set_u64(void *to, const RvmrpcMember *m, uint64_t n)
{
    void *value = to + m->value;

    switch (m->kind) {
    case RVMRPC_MEMBER_NUMBER:
        *(uint64_t *)value = n;
        return true;
    case RVMRPC_MEMBER_KIB:
        *(uint64_t *)value = MIN(n, UINT64_MAX / KiB) * KiB;
        return true;
    case RVMRPC_MEMBER_PERCENT:
        *(double *)value = n / 100.0;
        return true;
    case RVMRPC_MEMBER_BOOL:
        *(bool *)value = n;
        return true;
    case RVMRPC_MEMBER_DEVICE:
        *(uint32_t *)value = n >> 32;
        *(uint32_t *)(to + m->value2) = n;
        *(bool *)(to + m->has2) = true;
        return true;
    case RVMRPC_MEMBER_ENUM:
        if (n < m->base || n - m->base >= m->names->size) {
            return false;
        }
        *(int *)value = n - m->base;
        return true;
    default:
        return false;
    }
}

static bool set_string(void *value, const RvmrpcMember *m,
                       const struct rvmrpc_reader *r)
{
    g_autofree char *text = rvmrpc_text((const char *)r->value, r->length);
    int n;

    switch (m->kind) {
    case RVMRPC_MEMBER_TEXT:
        return set_text(value, g_steal_pointer(&text));
    case RVMRPC_MEMBER_NAMED:
        n = qapi_enum_parse(m->names, text, -1, NULL);
        if (n < 0) {
            return false;
        }
        *(int *)value = n;
        return true;
    default:
        return false;
    }
}

static bool set_bytes(void *value, const RvmrpcMember *m,
                      const struct rvmrpc_reader *r)
{
    switch (m->kind) {
    case RVMRPC_MEMBER_MAC:
        return r->length && r->length <= MAC_MAX &&
               set_text(value, mac_text(r->value, r->length));
    case RVMRPC_MEMBER_ADDRESS:
        return (r->length == 4 || r->length == 16) &&
               set_text(value, address_text(r->value, r->length));
    default:
        return false;
    }
}

bool rvmrpc_member_set(void *to, const RvmrpcMember *members, size_t n,
                       const struct rvmrpc_reader *r)
{
    const RvmrpcMember *m;
    bool set;

    if (r->key >= n) {
        return false;
    }
    m = &members[r->key];
    set = r->type == RVMRPC_FIELD_U64 ? set_u64(to, m, r->u64) :
          r->type == RVMRPC_FIELD_STRING ? set_string(to + m->value, m, r) :
          r->type == RVMRPC_FIELD_BYTES && set_bytes(to + m->value, m, r);
    if (set && m->has != RVMRPC_NO_HAS) {
        *(bool *)(to + m->has) = true;
    }
    return set;
}

uint32_t rvmrpc_members_set(void *to, const RvmrpcMember *members, size_t n,
                            struct rvmrpc_reader *r)
{
    uint32_t seen = 0;

    while (rvmrpc_reader_field(r)) {
        if (rvmrpc_member_set(to, members, n, r)) {
            seen |= BIT(r->key);
        }
    }
    return seen;
}
