/*
 * Reverse VMRPC: what a guest has told
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "rvmrpc_event.h"
#include "rvmrpc_reader.h"
#include "rvmrpc_text.h"

static RvmrpcEventType event_type(uint32_t module, uint32_t kind)
{
    if (module != RVMRPC_MOD_CORE) {
        return RVMRPC_EVENT_OTHER;
    }
    switch (kind) {
    case RVMRPC_RECORD_OOM_KILL:
        return RVMRPC_EVENT_OOM_KILL;
    case RVMRPC_RECORD_STALL:
        return RVMRPC_EVENT_STALL;
    case RVMRPC_RECORD_PANIC:
        return RVMRPC_EVENT_PANIC;
    case RVMRPC_RECORD_OOPS:
        return RVMRPC_EVENT_OOPS;
    case RVMRPC_RECORD_NO_MEMORY:
        return RVMRPC_EVENT_NO_MEMORY;
    case RVMRPC_RECORD_LOW_MEMORY:
        return RVMRPC_EVENT_LOW_MEMORY;
    default:
        return RVMRPC_EVENT_OTHER;
    }
}

static void read_number(RvmrpcEvent *e, const struct rvmrpc_reader *r)
{
    switch (r->key) {
    case RVMRPC_EVENT_PID:
        e->has_pid = true;
        e->pid = r->u64;
        break;
    case RVMRPC_EVENT_RSS:
        e->has_rss = true;
        e->rss = r->u64;
        break;
    case RVMRPC_EVENT_SHARE:
        e->has_share = true;
        e->share = r->u64;
        break;
    case RVMRPC_EVENT_ENDED:
        e->has_ended = true;
        e->ended = r->u64;
        break;
    }
}

static void replace(char **text, char *by)
{
    g_free(*text);
    *text = by;
}

static void read_field(RvmrpcEvent *e, const struct rvmrpc_reader *r)
{
    if (r->type == RVMRPC_FIELD_U64) {
        read_number(e, r);
    } else if (r->type == RVMRPC_FIELD_STRING && r->key == RVMRPC_EVENT_TEXT) {
        replace(&e->text, rvmrpc_text((const char *)r->value, r->length));
    } else if (r->type == RVMRPC_FIELD_STRING &&
               r->key == RVMRPC_EVENT_PROCESS) {
        replace(&e->process, rvmrpc_text((const char *)r->value, r->length));
    } else if (r->type == RVMRPC_FIELD_BYTES && r->key == RVMRPC_EVENT_DATA) {
        replace(&e->data, g_base64_encode(r->value, r->length));
    }
}

void rvmrpc_event_read(RvmrpcEvent *e, const struct rvmrpc_told *told)
{
    const struct rvmrpc_event *from = &told->event;
    struct rvmrpc_reader r;

    memset(e, 0, sizeof(*e));
    e->module = from->module;
    e->kind = from->record.kind;
    e->type = event_type(e->module, e->kind);
    e->number = from->seq;
    e->time_ns = from->time_ns;
    e->missed = told->missed;
    if (rvmrpc_reader_open_one(&r, &from->record, from->record.length)) {
        while (rvmrpc_reader_field(&r)) {
            read_field(e, &r);
        }
    }
}

void rvmrpc_event_clear(RvmrpcEvent *e)
{
    g_free(e->text);
    g_free(e->process);
    g_free(e->data);
}
