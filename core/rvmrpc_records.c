/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: writer of records.
 */
#include "rvmrpc_records.h"

#define RECORD_MAX	(0xffffu & ~(RVMRPC_RECORD_ALIGN - 1u))	/* its length is a u16 */

static int records_wanted(const struct rvmrpc_request *req, uint32_t select_max, struct rvmrpc_records_req *wanted)
{
	memset(wanted, 0, sizeof(*wanted));
	if (req->arglen && req->arglen != sizeof(*wanted))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	memcpy(wanted, req->arg, req->arglen);
	return wanted->select > select_max ? RVMRPC_STATUS_GARBAGE_ARGS : RVMRPC_STATUS_OK;
}

int rvmrpc_records_begin(struct rvmrpc_record_writer *w, const struct rvmrpc_request *req, struct rvmrpc_response *res,
			 uint32_t select_max)
{
	int status;

	memset(w, 0, sizeof(*w));
	w->res = res;
	w->used = sizeof(w->head);
	status = records_wanted(req, select_max, &w->wanted);
	if (status == RVMRPC_STATUS_OK && res->resmax < sizeof(w->head))
		status = RVMRPC_STATUS_TOO_BIG;
	return status;
}

void rvmrpc_record_begin(struct rvmrpc_record_writer *w, uint16_t kind)
{
	w->kind = kind;
	w->overflow = w->res->resmax - w->used < sizeof(struct rvmrpc_record_hdr);
	w->at = w->used + sizeof(struct rvmrpc_record_hdr);
}

static void record_field(struct rvmrpc_record_writer *w, uint16_t key, uint16_t type, const void *value, size_t length)
{
	struct rvmrpc_field field = { .key = key, .type = type, .length = (uint32_t)length };
	uint32_t padded;
	char *to;

	if (w->overflow || length > RECORD_MAX) {
		w->overflow = true;
		return;
	}
	padded = ((uint32_t)length + RVMRPC_RECORD_ALIGN - 1) & ~(RVMRPC_RECORD_ALIGN - 1u);
	if (sizeof(field) + padded > w->res->resmax - w->at ||
	    w->at - w->used + sizeof(field) + padded > RECORD_MAX) {
		w->overflow = true;
		return;
	}
	to = (char *)w->res->res + w->at;
	memcpy(to, &field, sizeof(field));
	memcpy(to + sizeof(field), value, length);
	memset(to + sizeof(field) + length, 0, padded - length);
	w->at += sizeof(field) + padded;
}

void rvmrpc_record_u64(struct rvmrpc_record_writer *w, uint16_t key, uint64_t value)
{
	record_field(w, key, RVMRPC_FIELD_U64, &value, sizeof(value));
}

void rvmrpc_record_string(struct rvmrpc_record_writer *w, uint16_t key, const char *s, size_t length)
{
	record_field(w, key, RVMRPC_FIELD_STRING, s, length);
}

void rvmrpc_record_bytes(struct rvmrpc_record_writer *w, uint16_t key, const void *bytes, size_t length)
{
	record_field(w, key, RVMRPC_FIELD_BYTES, bytes, length);
}

bool rvmrpc_record_end(struct rvmrpc_record_writer *w, uint64_t cursor)
{
	struct rvmrpc_record_hdr record = { .kind = w->kind };

	if (w->overflow || (w->wanted.limit && w->head.count == w->wanted.limit)) {
		w->too_big = !w->head.count;
		rvmrpc_records_more(w, cursor);
		return false;
	}
	record.length = (uint16_t)(w->at - w->used);
	memcpy((char *)w->res->res + w->used, &record, sizeof(record));
	w->used = w->at;
	w->head.count++;
	return true;
}

int rvmrpc_records_end(struct rvmrpc_record_writer *w)
{
	if (w->too_big)
		return RVMRPC_STATUS_TOO_BIG;
	w->head.length = w->used - sizeof(w->head);
	memcpy(w->res->res, &w->head, sizeof(w->head));
	w->res->reslen = w->used;
	return RVMRPC_STATUS_OK;
}
